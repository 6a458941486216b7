"""Whether the plan that is about to run is the one that was approved."""

from __future__ import annotations

from transforms.errors import ConfigurationError
from transforms.job_row import Row
from transforms.lake import Lake
from transforms.replay.fingerprint import fingerprint

__all__ = ["check_fingerprint"]


def check_fingerprint(lake: Lake, row: Row) -> None:
    """Refuse a plan that is not the approved one.

    Raises:
        ConfigurationError: it is another one.
        TransientError: the lake does not answer.
    """
    approval = row.get("approval")
    if approval is not None and approval["plan"] != fingerprint(lake, row["id"]):
        raise ConfigurationError(
            f"The plan of job {row['id']} is not the one that was approved: make a new plan."
        )
