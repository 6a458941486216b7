"""Checking a plan's destination again: between plan and run, and while a job runs, it may have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import Destination
from transforms.lake import Lake
from transforms.replay import preflight
from transforms.replay.archived import with_archives
from transforms.replay.ledger import Ledger
from transforms.replay.planning import TopicSurvey
from transforms.replay.plans import Plan, lane_topic, read_windows

__all__ = ["check_rest"]


def check_rest(plan: Plan, lakes: Sequence[Lake], look_up: Callable[[str], Destination]) -> list[str]:
    """What speaks by now against sending what is left of a stored plan.

    What a destination can carry, and the partitions, are as the plan found them.

    Args:
        plan: stored in the first lake.
        lakes: the configured lakes.
        look_up: what a topic of the plan's destination is like.

    Returns:
        Sentences, as a plan's ``problems``.

    Raises:
        ConfigurationError: a topic is refused.
        PermanentError: the plan is damaged.
        TransientError: lake or destination is away.
    """
    destinations = {topic: with_archives(look_up(topic), lakes) for topic in plan.topics}
    whole = _whole(plan)
    if not preflight.check_again(plan, dict.fromkeys(plan.topics, whole), destinations):
        return []
    # To look at each row takes a while: only where the whole of it would not do.
    left = _left(plan, lakes[0])
    return preflight.check_again(plan, left, {topic: destinations[topic] for topic in left})


def _whole(plan: Plan) -> TopicSurvey:
    return TopicSurvey(
        largest=plan.largest,
        oldest_us=plan.oldest_us,
        newest_us=plan.newest_us,
        sources={(source.source, 1) for source in plan.sources},
        messages=plan.messages,
        bytes=plan.bytes,
    )


def _left(plan: Plan, lake: Lake) -> dict[str, TopicSurvey]:
    """What is not confirmed yet, by topic."""
    found: dict[str, TopicSurvey] = {}
    for lane in plan.lanes:
        done = Ledger(lake, plan, lane).read()[0].done
        for window in read_windows(lake, plan, lane, done):
            survey = found.setdefault(lane_topic(plan, lane), TopicSurvey())
            survey.add_extent(pa.Table.from_batches([window]))
            survey.sources |= {(source, 1) for source in pc.unique(window["source"]).to_pylist()}
    return found
