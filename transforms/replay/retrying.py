"""Trying again what a job could not publish, and removing what a lake keeps of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from transforms.brokers import Destination
from transforms.errors import ConfigurationError, TransientError
from transforms.lake import Lake
from transforms.replay import preflight
from transforms.replay.failed_rows import FailedRows
from transforms.replay.figures import Figures
from transforms.replay.planning import TopicSurvey
from transforms.replay.plans import WINDOW_SCHEMA, Plan, PlanStore, folder, lane_topic, load_plan
from transforms.replay.window_cutter import Cutter

__all__ = ["check_retry", "delete_plan", "freeze_retry"]

_PLAIN = pa.schema(
    [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in WINDOW_SCHEMA]
)


def freeze_retry(lake: Lake, job: str, new_job: str) -> Plan:
    """Store a plan of exactly the rows that a job has failed to publish so far, in their order.

    Destination and options are the job's own. A new job that has a stored plan already gets that one.

    Args:
        lake: the one that holds the job's plan; the new plan lies there too.
        job: the job that has failed rows.
        new_job: id of the job that tries them again.

    Raises:
        ConfigurationError: the lake has no plan of that job, or nothing of it has failed.
        TransientError: the lake is away.
    """
    old, store, figures = load_plan(lake, job), PlanStore(lake, new_job), Figures()
    try:
        requests, lanes = 0, {}
        for lane in old.lanes:
            if rows := _add_lane(FailedRows(lake, job, lane), lane, store, figures):
                lanes[lane], opened = rows
                requests += opened
    except TransientError:
        store.abandon()
        raise
    if not lanes:
        raise ConfigurationError(f"Nothing of job {job} has failed: there is nothing to retry.")
    plan = replace(old, job=new_job, lanes=lanes, requests=requests, warnings=(), cannot_carry={})
    return store.finish(replace(plan, **figures.counted()))


def check_retry(lake: Lake, job: str, look_up: Callable[[str], Destination]) -> list[str]:
    """What speaks against trying again what a job could not publish, as its destination is by now.

    Sizes and publish times of just those messages are compared; what a destination can carry and the
    partitions are as the job's plan found them.

    Args:
        lake: the one that holds the job's plan.
        job: the job that has failed rows.
        look_up: what a topic of its destination is like.

    Returns:
        Sentences, as a plan's ``problems``.

    Raises:
        ConfigurationError: the lake has no plan of that job, or a topic is refused.
        PermanentError: the plan is damaged.
        TransientError: lake or destination is away.
    """
    plan, found = load_plan(lake, job), dict[str, TopicSurvey]()
    for lane in plan.lanes:
        for batch in FailedRows(lake, job, lane).read():
            found.setdefault(lane_topic(plan, lane), TopicSurvey()).add_extent(pa.Table.from_batches([batch]))
    return preflight.check_again(plan, found, {topic: look_up(topic) for topic in found})


def _add_lane(failed: FailedRows, lane: int, store: PlanStore, figures: Figures) -> tuple[int, int] | None:
    """Rows and requests of a lane; None where nothing of it has failed."""
    cutter, rows, requests = Cutter(), 0, 0
    for batch in failed.read():
        table = pa.Table.from_batches([batch]).select(WINDOW_SCHEMA.names).cast(_PLAIN)
        figures.add(table)
        rows += len(table)
        requests += sum(store.add(lane, window) for window in cutter.add(table))
    requests += sum(store.add(lane, window) for window in cutter.rest())
    return (rows, requests) if rows else None


def delete_plan(lake: Lake, job: str) -> None:
    """Remove everything that the lake keeps of a job, its plan first; a job without any is no error.

    Raises:
        TransientError: the lake is away; call again.
    """
    lake.delete(f"{folder(job)}/plan.json")
    for path, _ in list(lake.list(folder(job))):
        lake.delete(path)
