"""What a frozen plan is recognised by."""

from __future__ import annotations

import hashlib

from transforms.lake import Lake
from transforms.replay.plans import folder

__all__ = ["fingerprint"]


def fingerprint(lake: Lake, job: str) -> str:
    """SHA-256 of a job's plan in the lake, in hexadecimal digits.

    Raises:
        PermanentError: the lake has no such plan.
        TransientError: the lake does not answer.
    """
    return hashlib.sha256(bytes(lake.get(f"{folder(job)}/plan.json"))).hexdigest()
