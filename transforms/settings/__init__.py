"""Settings, each declared once: as a field of the class that holds its value.

A class of settings is a frozen dataclass whose fields are made by the functions below. Everything that
reads, explains, documents or checks a setting is made from that one line: the command line and its help, the
YAML file, the tables of the reference, the Helm chart's schema and Dataflow's templates. For the options of
a resubmission, so are the schema of the API and the form of the pages::

    @dataclass(frozen=True, kw_only=True)
    class PersistSettings:
        batch_age: float = setting(AGE, "batches", "when its first message is this old", default="30s")

Nothing here depends on how a setting is written: with ``--``, as a YAML name or as a JSON name.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from transforms.settings.kinds import FLAG, PAIRS, Kind

__all__ = [
    "Group",
    "Setting",
    "flag",
    "made",
    "optional",
    "pairs",
    "part",
    "required",
    "setting",
    "settings_in",
    "several",
]

Group = Literal["selection", "broker", "lake", "index", "batches", "failures", "running", "access"]
_T = TypeVar("_T")
_SETTING, _PART = "setting", "part"


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: the setting's name; default: the name of the field.
        group: its group in the help.
        help: its meaning, without a full stop.
        default: as typed by a user; None if there is none.
        repeatable: may be given more than once; the value is a tuple (a dict for ``PAIRS``).
        choices: the allowed values; empty allows any.
    """

    name: str
    group: Group
    kind: Kind[Any]
    help: str
    default: str | None = None
    required: bool = False
    repeatable: bool = False
    choices: Sequence[str] = ()


def setting(kind: Kind[_T], group: Group, help: str, *, default: str, choices: Sequence[str] = ()) -> _T:
    """A field with a default."""
    declared = Setting("", group, kind, help, default, choices=choices)
    return cast("_T", _field(declared, default=kind.convert(default)))


def required(kind: Kind[_T], group: Group, help: str, *, choices: Sequence[str] = ()) -> _T:
    """A field that must be given."""
    return cast("_T", _field(Setting("", group, kind, help, required=True, choices=choices)))


def optional(
    kind: Kind[_T], group: Group, help: str, *, name: str = "", choices: Sequence[str] = ()
) -> _T | None:
    """A field that is None by default; ``name`` is the setting's if Python reserves it."""
    return cast("_T | None", _field(Setting(name, group, kind, help, choices=choices), default=None))


def several(
    kind: Kind[_T],
    group: Group,
    help: str,
    *,
    name: str = "",
    required: bool = False,
    choices: Sequence[str] = (),
) -> tuple[_T, ...]:
    """A field with any number of values; ``name`` is the singular name of one value."""
    declared = Setting(name, group, kind, help, None, required, repeatable=True, choices=choices)
    return cast("tuple[_T, ...]", _field(declared, **({} if required else {"default": ()})))


def pairs(group: Group, help: str) -> Mapping[str, str]:
    """A field of names and values."""
    declared = Setting("", group, PAIRS, help, repeatable=True)
    return cast("Mapping[str, str]", _field(declared, default_factory=dict))


def flag(group: Group, help: str) -> bool:
    """A field that is False by default."""
    return cast("bool", _field(Setting("", group, FLAG, help), default=False))


def part(kind: type[_T]) -> _T:
    """A field with settings that another class declares."""
    return dataclasses.field(default_factory=kind, metadata={_PART: kind})


def settings_in(kind: type) -> list[Setting]:
    """The settings of a class: its own first, then those of its base classes."""
    return list(_settings_in(kind))


@functools.cache
def _settings_in(kind: type) -> list[Setting]:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return [one for name in _ordered(kind) if name in fields for one in _settings(fields[name])]


def made(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """An instance with the values, by name of the setting."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", kind)):
        if _PART in field.metadata:
            given[field.name] = made(field.metadata[_PART], values)
        for one in _settings(field) if _SETTING in field.metadata else ():
            given[field.name] = values[one.name]
    return kind(**given)


def _field(declared: Setting, **default: Any) -> object:
    return dataclasses.field(**default, metadata={_SETTING: declared})


def _settings(field: dataclasses.Field[Any]) -> Iterator[Setting]:
    if _PART in field.metadata:
        yield from settings_in(field.metadata[_PART])
    if declared := field.metadata.get(_SETTING):
        yield dataclasses.replace(declared, name=declared.name or field.name)


def _ordered(kind: type) -> Iterator[str]:
    """The fields' names, each in the position of its first declaration."""
    line = [inspect.get_annotations(part) for part in kind.__mro__]
    for number, names in enumerate(line):
        yield from (name for name in names if not any(name in later for later in line[number + 1 :]))
