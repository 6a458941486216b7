"""Resubmissions as durable rows of the index store, changed only by compare-and-set.

A row is a JSON object. Whoever works on a job holds its lease and renews it; a lease that has run
out says that its holder is gone, and anybody may take the job up. The API and the command share this.
"""

from __future__ import annotations

from transforms.jobs.changing import HeldError, UnknownJobError, change
from transforms.jobs.keeper import Keeper
from transforms.jobs.rows import Row, new_row, record
from transforms.jobs.states import WrongStateError, begin_again, possible

__all__ = [
    "HeldError",
    "Keeper",
    "Row",
    "UnknownJobError",
    "WrongStateError",
    "begin_again",
    "change",
    "new_row",
    "possible",
    "record",
]
