"""Plans the retry of a job's failed messages, and removes the stored objects of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from transforms.brokers import Destination
from transforms.errors import ConfigurationError, TransientError
from transforms.lake import Lake
from transforms.replay import preflight
from transforms.replay.archived import with_archives
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
    """Store a plan of exactly the rows that a job failed to publish so far, in order.

    Destination and options are those of the job. If the new job already has a plan, that one is returned.

    Args:
        lake: holds the job's plan; the new plan is stored there too.
        job: the job that has failed rows.
        new_job: id of the job that retries them.

    Raises:
        ConfigurationError: the lake has no plan of this job, or it has no failed messages.
        TransientError: the lake does not answer.
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
        raise ConfigurationError(f"Job {job} has no failed messages to retry.")
    plan = replace(old, job=new_job, lanes=lanes, requests=requests, warnings=(), cannot_carry={})
    return store.finish(replace(plan, **figures.counted()))


def check_retry(lake: Lake, job: str, look_up: Callable[[str], Destination]) -> list[str]:
    """The present problems of retrying a job's failed messages at its destination.

    Sizes and publish times of exactly these messages are checked; traits and partitions are taken from the
    job's plan.

    Args:
        lake: holds the job's plan.
        job: the job that has failed rows.
        look_up: looks up a topic of its destination.

    Returns:
        Sentences, like a plan's ``problems``.

    Raises:
        ConfigurationError: the lake has no plan of this job, or a topic is refused.
        PermanentError: the plan is damaged.
        TransientError: lake or destination does not answer.
    """
    plan, found = load_plan(lake, job), dict[str, TopicSurvey]()
    for lane in plan.lanes:
        for batch in FailedRows(lake, job, lane).read():
            found.setdefault(lane_topic(plan, lane), TopicSurvey()).add_extent(pa.Table.from_batches([batch]))
    return preflight.check_again(
        plan, found, {topic: with_archives(look_up(topic), [lake]) for topic in found}
    )


def _add_lane(failed: FailedRows, lane: int, store: PlanStore, figures: Figures) -> tuple[int, int] | None:
    """Rows and requests of a lane; None if it has no failed rows."""
    cutter, rows, requests = Cutter(), 0, 0
    for batch in failed.read():
        table = pa.Table.from_batches([batch]).select(WINDOW_SCHEMA.names).cast(_PLAIN)
        figures.add(table)
        rows += len(table)
        requests += sum(store.add(lane, window) for window in cutter.add(table))
    requests += sum(store.add(lane, window) for window in cutter.rest())
    return (rows, requests) if rows else None


def delete_plan(lake: Lake, job: str) -> None:
    """Remove all objects of a job from the lake, its plan first; no objects are no error.

    Raises:
        TransientError: the lake does not answer; call again.
    """
    lake.delete(f"{folder(job)}/plan.json")
    for path, _ in list(lake.list(folder(job))):
        lake.delete(path)
