"""The settings of search, show and completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipelines.settings.selecting import SelectionSettings
from transforms.settings import flag, optional, required
from transforms.settings.kinds import TEXT, URL, Kind
from transforms.settings.shared import INDEX_URL, ArchiveSettings, JsonSettings

__all__ = ["CompletionSettings", "SearchSettings", "ShowSettings"]

_CHOICE = Kind("CHOICE", str)


@dataclass(frozen=True, kw_only=True)
class SearchSettings(SelectionSettings, JsonSettings):
    """Settings of ``persistor search``.

    Attributes:
        follow: show what arrives, until the command is stopped.
    """

    command: ClassVar[str] = "search"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")
    follow: bool = flag("running", "then keep showing messages as they are indexed, until Ctrl-C")


@dataclass(frozen=True, kw_only=True)
class ShowSettings(ArchiveSettings, JsonSettings):
    """Settings of ``persistor show``.

    Attributes:
        id: of the message.
        view: how the payload is shown; None chooses.
        payload: print nothing but the payload, byte for byte.
    """

    command: ClassVar[str] = "show"
    id: str = required(TEXT, "selection", "id of the message; `persistor show ID` means the same")
    view: str | None = optional(
        _CHOICE,
        "running",
        "show the payload in this form; default: the first that fits",
        choices=("json", "text", "hex"),
    )
    payload: bool = flag("running", "print only the payload, byte for byte, as for a file or a pipe")


@dataclass(frozen=True, kw_only=True)
class CompletionSettings:
    """Settings of ``persistor completion``."""

    command: ClassVar[str] = "completion"
    shell: str = required(
        _CHOICE,
        "running",
        "the shell; `persistor completion bash` means the same",
        choices=("bash", "zsh", "fish"),
    )
