"""The settings classes of all commands; :mod:`transforms.settings` explains how to declare one."""

from __future__ import annotations

from typing import Any

from pipelines.settings.maintenance import CostSettings, ExpireSettings, MaintainSettings, RebuildSettings
from pipelines.settings.replay import JobsSettings, PlanSettings, ResubmitSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings
from pipelines.settings.terminal import CompletionSettings, SearchSettings, ShowSettings
from resubmit_api.settings import ApiSettings, TokenSettings
from transforms.settings import Setting, settings_in

__all__ = ["CLASSES", "commands_with", "every_setting", "settings_of"]

_ALL: tuple[type[Any], ...] = (
    PersistSettings,
    IndexSettings,
    PlanSettings,
    ResubmitSettings,
    JobsSettings,
    SearchSettings,
    ShowSettings,
    RebuildSettings,
    ExpireSettings,
    MaintainSettings,
    CostSettings,
    ApiSettings,
    TokenSettings,
    CompletionSettings,
)
CLASSES = {kind.command: kind for kind in _ALL}
"""The class of each command's settings."""


def settings_of(command: str) -> list[Setting]:
    """The settings of a command in the order of the help."""
    return settings_in(CLASSES[command])


def every_setting() -> dict[Setting, tuple[str, ...]]:
    """Each distinct setting, with the commands that have it."""
    commands: dict[Setting, tuple[str, ...]] = {}
    for command in CLASSES:
        for setting in settings_of(command):
            commands[setting] = (*commands.get(setting, ()), command)
    return commands


def commands_with(name: str) -> list[str]:
    """The commands with a setting of this name."""
    return [command for command in CLASSES if name in {one.name for one in settings_of(command)}]
