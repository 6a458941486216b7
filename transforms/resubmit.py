"""ResubmitLanes: the lanes of a stored plan, published at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms import registry
from transforms.brokers import Publisher
from transforms.lake import Lake
from transforms.metrics.beam import counter
from transforms.replay.plans import Plan, lane_url, load_plan
from transforms.replay.report import Report
from transforms.replay.turns import replay_lanes
from transforms.stop import noting_failures, stopping

__all__ = ["ResubmitLanes"]


@dataclass
class ResubmitLanes(beam.PTransform):
    """Publish every lane of a stored plan; outputs one report per lane that was begun, as JSON types.

    Delivery: a lane retried by a runner continues where it stopped, see ``Plan.deduplication``.

    Attributes:
        plan: the stored plan. Only its job and lanes are serialized; workers load the rest from the lake.
        lakes: URLs of the lakes, the plan's first.
        lake_config: settings of their clients; values may be secret references.
        destination_config: settings of the destination's client; values may be secret references.
        workers: None where a runner's bundles run at the same time: a worker then publishes all lanes of its
            bundle at once, with its share of the rate. Where a runner divides bundles as it sees that they
            take long, the number of lanes that it works on at a time; each is then published by itself.
    """

    plan: Plan
    lakes: tuple[str, ...]
    lake_config: Mapping[str, str]
    destination_config: Mapping[str, str]
    workers: int | None = None

    def expand(self, pipeline: beam.Pipeline) -> Any:
        """One element per lane."""
        replay = _ReplayLanes(
            self.plan.job, self.lakes, dict(self.lake_config), dict(self.destination_config), self.workers
        )
        return (
            pipeline
            | "Lanes" >> beam.Create(sorted(self.plan.lanes), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Publish" >> beam.ParDo(replay)
        )


class _ReplayLanes(beam.DoFn):
    def __init__(
        self,
        job: str,
        lakes: tuple[str, ...],
        lake_config: dict[str, str],
        destination_config: dict[str, str],
        workers: int | None,
    ) -> None:
        self._job, self._lakes, self._workers = job, lakes, workers
        self._lake_config, self._destination_config = lake_config, destination_config

    def start_bundle(self) -> None:
        self._given: list[int] = []

    def process(self, lane: int) -> Iterator[dict[str, Any]]:
        if self._workers is None:
            self._given.append(lane)
        else:
            yield from self._reports([lane])

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._given:
            yield from map(GlobalWindows.windowed_value, self._reports(self._given))

    def _reports(self, lanes: Sequence[int]) -> Iterator[dict[str, Any]]:
        for report in noting_failures(self._publish)(lanes):
            counter("resubmitted").inc(report.published)
            counter("failed").inc(sum(report.failed.values()))
            yield report.to_dict()

    def _publish(self, lanes: Sequence[int]) -> list[Report]:
        lakes = [Lake(url, self._lake_config) for url in self._lakes]
        plan = load_plan(lakes[0], self._job)

        def open_publisher(lane: int) -> Publisher:
            url, name = lane_url(plan, lane), f"{plan.job}-{lane}"
            return registry.broker(url).open_publisher(url, self._destination_config, name=name)

        return replay_lanes(plan, lanes, lakes, open_publisher, stopped=stopping, workers=self._workers)
