"""ResubmitLanes: the lanes of a stored plan, each published by one worker."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms import registry
from transforms.lake import Lake
from transforms.metrics.beam import counter
from transforms.replay.lane import replay_lane
from transforms.replay.pacing import pacer_of
from transforms.replay.plans import Plan, lane_url, load_plan
from transforms.replay.report import Report
from transforms.stop import noting_failures, stopping

__all__ = ["ResubmitLanes"]


@dataclass
class ResubmitLanes(beam.PTransform):
    """Publish every lane of a stored plan; outputs one report per lane, as JSON types.

    Delivery: a lane retried by a runner continues where it stopped, see ``Plan.deduplication``.

    Attributes:
        plan: the stored plan. Only its job and lanes are serialized; workers load the rest from the lake.
        lakes: URLs of the lakes, the plan's first.
        lake_config: settings of their clients; values may be secret references.
        destination_config: settings of the destination's client; values may be secret references.
        workers: number of processes that run lanes; each keeps its share of the rate limit.
    """

    plan: Plan
    lakes: tuple[str, ...]
    lake_config: Mapping[str, str]
    destination_config: Mapping[str, str]
    workers: int = 1

    def expand(self, pipeline: beam.Pipeline) -> Any:
        """One element per lane."""
        replay = _ReplayLane(
            self.plan.job, self.lakes, dict(self.lake_config), dict(self.destination_config), self.workers
        )
        return (
            pipeline
            | "Lanes" >> beam.Create(sorted(self.plan.lanes), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Publish" >> beam.ParDo(replay)
        )


class _ReplayLane(beam.DoFn):
    def __init__(
        self,
        job: str,
        lakes: tuple[str, ...],
        lake_config: dict[str, str],
        destination_config: dict[str, str],
        workers: int,
    ) -> None:
        self._job, self._lakes, self._workers = job, lakes, workers
        self._lake_config, self._destination_config = lake_config, destination_config

    def process(self, lane: int) -> Iterator[dict[str, Any]]:
        report = noting_failures(self._publish)(lane)
        counter("resubmitted").inc(report.published)
        counter("failed").inc(sum(report.failed.values()))
        yield report.to_dict()

    def _publish(self, lane: int) -> Report:
        lakes = [Lake(url, self._lake_config) for url in self._lakes]
        plan = load_plan(lakes[0], self._job)
        url, name = lane_url(plan, lane), f"{plan.job}-{lane}"
        publisher = registry.broker(url).open_publisher(url, self._destination_config, name=name)
        try:
            pacer = pacer_of(lakes[0], plan.job, self._workers)
            return replay_lane(plan, lane, lakes, publisher, stopped=stopping, pacer=pacer)
        finally:
            publisher.close()
            # A client refers to itself through its callbacks: only this releases its threads and buffers.
            del publisher
            gc.collect()
            pa.default_memory_pool().release_unused()
