"""Removes what the lanes of a job that ended early have left at its destination."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from transforms import registry
from transforms.lake import Lake
from transforms.replay.ledger import Ledger
from transforms.replay.plans import Plan, lane_url

__all__ = ["forget_lanes"]


def forget_lanes(plan: Plan, lake: Lake, config: Mapping[str, str]) -> None:
    """Delete the progress that lanes keep at the destination, such as consumer groups of Kafka.

    Call it only where no worker can continue the job.

    Args:
        plan: the job's stored plan.
        lake: holds the plan and the ledgers.
        config: of the destination's client.

    Raises:
        PersistorError: the destination or the lake does not answer or refuses; what was not deleted stays.
    """
    if not plan.exactly_once:
        return
    for lane, rows in plan.lanes.items():
        if 0 < Ledger(lake, plan, lane).read()[0].done < rows:
            url = lane_url(plan, lane)
            opened = registry.broker(url).open_publisher(url, config, name=f"{plan.job}-{lane}")
            with closing(opened) as publisher:
                publisher.finish()
