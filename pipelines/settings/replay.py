"""The settings of plan, resubmit and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from transforms.replay.options import Options, Rate
from transforms.settings import flag, optional, pairs, part, required, setting, several
from transforms.settings.kinds import COUNT, URL, Kind, text_or_file
from transforms.settings.shared import BROKER_CLIENT, INDEX_URL, ArchiveSettings, JsonSettings

__all__ = ["JobsSettings", "PlanSettings", "ResubmitSettings"]

_JOB = Kind("JOB", str)
_CHOICE = Kind("CHOICE", str)


@dataclass(frozen=True, kw_only=True)
class PlanSettings(ArchiveSettings, JsonSettings):
    """What ``persistor plan`` plans.

    Attributes:
        selection: the JSON of a ``transforms.selection.Selection``.
    """

    command: ClassVar[str] = "plan"
    destination: str | None = optional(
        URL,
        "broker",
        "where to send: a broker and a topic, kafka://HOST:9092/orders-replay, or a pattern of "
        "{topic} and {source} of each message such as kafka://HOST:9092/{topic}-replay",
    )
    destination_config: Mapping[str, str] = pairs("broker", BROKER_CLIENT)
    selection: str | None = optional(
        Kind("JSON", text_or_file),
        "broker",
        'what to send, as JSON or @FILE: {"sources": ["orders"], "published_from": '
        '"2026-11-01T00:00:00Z", "where": [{"attributes.version": "2"}]}; times may be now or before '
        "it, such as -1h",
    )
    options: Options = part(Options)


@dataclass(frozen=True, kw_only=True)
class ResubmitSettings(PlanSettings):
    """What ``persistor resubmit`` does.

    Attributes:
        plan: id of the plan to run; then destination, selection and options are None or the default.
        resume: id of the job to go on with; likewise.
        follow: stay with a job that is paused until it is resumed or ended.
    """

    command: ClassVar[str] = "resubmit"
    plan: str | None = optional(_JOB, "running", "send just what that plan holds, whatever matches by now")
    resume: str | None = optional(
        _JOB, "running", "go on with an interrupted job behind the last message that was confirmed"
    )
    rate: Rate = part(Rate)
    follow: bool = flag(
        "running",
        "stay with the job until it ends: one that is paused is held until somebody resumes it, here, by "
        "`persistor jobs` or in the pages; without it the command ends then",
    )


@dataclass(frozen=True, kw_only=True)
class JobsSettings(JsonSettings):
    """What ``persistor jobs`` lists, shows or does.

    Attributes:
        job: id of the one that is looked at; None lists them.
        action: None only looks.
        states: those that a list shows; all but ``PLANNED`` where it is empty.
        limit: jobs of a list.
        follow: watch the job until it ends.
        rate: of the action ``rate``.
    """

    command: ClassVar[str] = "jobs"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")
    job: str | None = optional(_JOB, "running", "show this one; unless given, the latest are listed")
    action: str | None = optional(
        _CHOICE,
        "running",
        "pause, resume or cancel the job, retry what it could not publish, or change its rate",
        choices=("pause", "resume", "cancel", "retry", "rate"),
    )
    rate: Rate = part(Rate)
    follow: bool = flag("running", "show the job's progress until it ends; Ctrl-C ends the watching only")
    states: tuple[str, ...] = several(
        Kind("STATE", str),
        "running",
        "list those in this state; unless given, all but plans",
        name="state",
        choices=("PLANNED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"),
    )
    limit: int = setting(COUNT, "running", "list so many at most", default="20")
