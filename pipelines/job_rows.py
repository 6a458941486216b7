"""Turns the settings of plan and resubmit into a job's row."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import psutil

from pipelines.connections import patiently
from pipelines.settings.replay import PlanSettings
from pipelines.settings.selecting import selected
from transforms.indexes import Index
from transforms.job_row import Row, State
from transforms.jobs.actions import create
from transforms.jobs.rows import new_row
from transforms.replay import Plan
from transforms.selection import parse_selection

__all__ = [
    "new_job",
    "row_from_plan",
    "store",
    "user",
]

_T = TypeVar("_T")


def new_job(settings: PlanSettings, state: State, rate: Mapping[str, float | None]) -> Row:
    """A new row for the settings."""
    destination, topic = _shown(settings.destination or "")
    return new_row(
        destination=destination,
        topic=topic,
        selection=selected(settings),
        options=settings.options,
        requested_by=user(),
        state=state,
        rate=rate,
        note=settings.note,
    )


def row_from_plan(stored: Plan) -> Row:
    """A row for a job with only a plan, because the index was created anew since."""
    destination, _ = _shown(stored.destination)
    selection = parse_selection(json.dumps(stored.selection))
    return new_row(
        id=stored.job,
        destination=destination,
        topic=stored.topic,
        selection=selection,
        options=stored.options,
        requested_by=user(),
    )


def store(index: Index, row: Row, action: str) -> Row:
    """Store a new job, already held, with its audit record.

    Raises:
        TransientError: the index did not answer for a minute.
    """
    return patiently(lambda: create(index, row, action), "store the job")


def user() -> str:
    """The user and host of this process."""
    return f"{psutil.Process().username()}@{socket.gethostname()}"


def _shown(url: str) -> tuple[str, str]:
    """A destination's address without a possible password, and its topic."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/")
