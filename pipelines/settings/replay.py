"""The settings of plan, resubmit and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pipelines.settings.selecting import SelectionSettings
from transforms.replay.options import Options, Rate
from transforms.settings import flag, optional, pairs, part, required, setting, several
from transforms.settings.kinds import COUNT, TEXT, URL, Kind, past
from transforms.settings.shared import BROKER_CLIENT, INDEX_URL, ArchiveSettings, JsonSettings

__all__ = ["JobsSettings", "PlanSettings", "ResubmitSettings"]

_JOB = Kind("JOB", str)
_CHOICE = Kind("CHOICE", str)
_PAST = Kind("TIME", past)


@dataclass(frozen=True, kw_only=True)
class PlanSettings(SelectionSettings, ArchiveSettings, JsonSettings):
    """Settings of ``persistor plan``."""

    command: ClassVar[str] = "plan"
    destination: str | None = optional(
        URL,
        "broker",
        "broker and topic to send to, such as kafka://HOST:9092/orders-replay; the topic may contain "
        "each message's {topic} or {source}, as in kafka://HOST:9092/{topic}-replay",
    )
    destination_config: Mapping[str, str] = pairs("broker", BROKER_CLIENT)
    options: Options = part(Options)
    note: str | None = optional(TEXT, "running", "why, such as a ticket; shown with the job and its records")


@dataclass(frozen=True, kw_only=True)
class ResubmitSettings(PlanSettings):
    """Settings of ``persistor resubmit``.

    Attributes:
        plan: id of the plan to run; destination, selection and options are then unset.
        resume: id of the job to continue; destination, selection and options are then unset.
        follow: wait while the job is paused until it is resumed or ended.
    """

    command: ClassVar[str] = "resubmit"
    plan: str | None = optional(
        _JOB, "running", "plan to run; exactly its messages are sent, whatever matches now"
    )
    resume: str | None = optional(
        _JOB, "running", "interrupted job to continue after its last confirmed message"
    )
    rate: Rate = part(Rate)
    follow: bool = flag(
        "running",
        "keep running while the job is paused, until it is resumed by `persistor jobs` or in the web "
        "pages; without it the command ends at a pause",
    )


@dataclass(frozen=True, kw_only=True)
class JobsSettings(JsonSettings):
    """Settings of ``persistor jobs``.

    Attributes:
        job: id of the job to show; None lists jobs.
        action: None only shows it.
        states: states to list; empty for all except ``PLANNED``.
        limit: maximum jobs in a list.
        follow: watch the job until it ends.
        rate: for the action ``rate``.
    """

    command: ClassVar[str] = "jobs"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")
    job: str | None = optional(_JOB, "running", "job to show; default: list the latest jobs")
    action: str | None = optional(
        _CHOICE,
        "running",
        "pause, resume or cancel the job, retry its failed messages, change its rate, or approve its plan",
        choices=("pause", "resume", "cancel", "retry", "rate", "approve"),
    )
    rate: Rate = part(Rate)
    follow: bool = flag("running", "show the job's progress until it ends; Ctrl-C stops only this command")
    states: tuple[str, ...] = several(
        Kind("STATE", str),
        "running",
        "list only jobs in this state; default: all except plans",
        name="state",
        choices=("PLANNED", "QUEUED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"),
    )
    requested_by: str | None = optional(TEXT, "running", "list only jobs that this person asked for")
    destination: str | None = optional(
        TEXT, "running", "list only jobs to this destination: its name in the API, or kafka://HOST:9092"
    )
    created_from: datetime | None = optional(
        _PAST,
        "running",
        "list only jobs asked for from then on: a date, a time with its zone, or an age such as 7d",
    )
    created_to: datetime | None = optional(_PAST, "running", "list only jobs asked for before then")
    limit: int = setting(COUNT, "running", "list at most this many", default="20")
