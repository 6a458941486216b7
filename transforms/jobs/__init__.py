"""Resubmissions as durable rows of the index store, changed only by compare-and-set.

A row is a JSON object. Whoever works on a job holds its lease and renews it; a lease that has run
out says that its holder is gone, and anybody may take the job up. The API and the command share this.
"""

from __future__ import annotations

from transforms.jobs.actions import act, create, retry_of
from transforms.jobs.keeper import Keeper
from transforms.jobs.leases import HeldError, UnknownJobError, change
from transforms.jobs.rows import Row, new_row, record
from transforms.jobs.states import LISTED, WrongStateError, begin, begin_again, possible

__all__ = [
    "LISTED",
    "HeldError",
    "Keeper",
    "Row",
    "UnknownJobError",
    "WrongStateError",
    "act",
    "begin",
    "begin_again",
    "change",
    "create",
    "new_row",
    "possible",
    "record",
    "retry_of",
]
