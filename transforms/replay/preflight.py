"""Checks a plan against its destination: what it refuses and what it cannot carry."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from transforms.brokers import Destination
from transforms.model import Trait
from transforms.replay.options import Options
from transforms.replay.planning import Survey, TopicSurvey
from transforms.replay.plans import Plan
from transforms.selection import Selection
from transforms.times import iso_time

__all__ = ["check_again", "make"]

_LOST_TIMES = "times of the first milliseconds of 1970 (sent as the current time if lossy)"
_BEYOND = "times behind the year 294247, which the lake has as its latest (sent as that if lossy)"
_NO_KEY = "messages without a key, which a compacted topic refuses (not sent if lossy)"
_ALL = Trait(sum(Trait))
_WORDS = {
    Trait.NULL_DATA: "null payloads (sent as empty ones if lossy)",
    Trait.KEY: "keys (dropped if lossy)",
    Trait.HEADERS: "headers (dropped if lossy)",
    Trait.REPEATED_HEADERS: "repeated header names (the last one is sent if lossy)",
    Trait.BINARY_HEADERS: "headers that are not UTF-8 (dropped if lossy)",
    Trait.NULL_HEADERS: "null header values (sent as empty ones if lossy)",
    Trait.BINARY_KEY: "keys that are not UTF-8 (dropped if lossy)",
    Trait.EMPTY_KEY: "empty keys (dropped if lossy)",
}


def make(
    survey: Survey,
    destinations: Mapping[str, Destination],
    options: Options,
    *,
    topic: str,
    job: str,
    selection: Selection,
    url: str,
) -> Plan:
    """Make the plan of a survey, with all its problems.

    Args:
        survey: the selected messages.
        destinations: the properties of each topic of the survey; at least one if ``topic`` is not a pattern.
        options: as requested.
        topic: the destination's topic or pattern.
        job: the job's id.
        selection: which messages.
        url: the destination's URL, for the record.
    """
    found = {name: survey.topics.get(name, TopicSurvey()) for name in destinations}
    chosen = {name: _partitions(found[name], destinations[name], options) for name in found}
    carries = functools.reduce(
        lambda one, other: one & other, (d.carries for d in destinations.values()), _ALL
    )
    plan = Plan(
        job=job,
        selection=json.loads(selection.to_json()),
        destination=url,
        topic=topic,
        options=replace(options, partitions=_common(chosen.values(), options.partitions)),
        lanes=survey.lanes,
        requests=survey.requests,
        cannot_carry=_cannot_carry(found.values(), carries) | _cannot_keep(found, destinations, options),
        deduplication=next((d.deduplication for d in destinations.values()), ""),
        carries=_bits(carries),
        exactly_once=all(destination.exactly_once for destination in destinations.values()),
        topics=tuple(destinations),
        keyed=tuple(name for name, partitions in chosen.items() if partitions == "key"),
        **survey.figures.counted(),
    )
    problems = [*_problems(plan, survey), *_of_topics(_topic_problems, plan, found, destinations)]
    warnings = [*_warnings(plan, survey), *_of_topics(_topic_warnings, plan, found, destinations)]
    return replace(plan, problems=tuple(problems), warnings=tuple(dict.fromkeys(warnings)))


def check_again(
    plan: Plan, found: Mapping[str, TopicSurvey], destinations: Mapping[str, Destination]
) -> list[str]:
    """The present problems of sending the messages in ``found``, by topic."""
    return list(_of_topics(_topic_problems, plan, found, destinations))


def _partitions(survey: TopicSurvey, destination: Destination, options: Options) -> str:
    if options.partitions is not None:
        return options.partitions
    if options.restore:  # it returns to its original partition
        return "original" if 0 <= survey.highest_partition < (destination.partitions or 0) else "key"
    # The selection may lack the last partitions of its source, so its claims are read.
    had = max(survey.source_partitions, survey.highest_partition + 1)
    return "original" if had == destination.partitions else "key"


def _common(chosen: Iterable[str], default: str | None) -> str | None:
    values = set(chosen)
    return values.pop() if len(values) == 1 else default


def _cannot_carry(topics: Iterable[TopicSurvey], carries: Trait) -> dict[str, int]:
    counted = [pair for topic in topics for pair in topic.traits.items()]
    counts = {
        words: sum(messages for value, messages in counted if value & trait)
        for trait, words in _WORDS.items()
        if not carries & trait
    }
    return {words: count for words, count in counts.items() if count}


def _cannot_keep(
    found: Mapping[str, TopicSurvey], destinations: Mapping[str, Destination], options: Options
) -> dict[str, int]:
    """What a topic takes from others but not from these: publish times that it changes, and no key."""
    counts = {_LOST_TIMES: 0, _BEYOND: 0, _NO_KEY: 0}
    for name, topic in found.items():
        if destinations[name].compacted:
            keyed = sum(count for value, count in topic.traits.items() if value & Trait.KEY)
            counts[_NO_KEY] += topic.messages - keyed
        if options.timestamp == "original" and destinations[name].original_time:
            lost = range(*(destinations[name].lost_times_us or (0, 0)))
            counts[_LOST_TIMES] += sum(count for time, count in topic.around_1970.items() if time in lost)
            counts[_BEYOND] += topic.beyond
    return {words: count for words, count in counts.items() if count}


def _of_topics(
    check: Callable[[Plan, TopicSurvey, Destination], Iterable[str]],
    plan: Plan,
    found: Mapping[str, TopicSurvey],
    destinations: Mapping[str, Destination],
) -> Iterable[str]:
    return (text for name in found for text in check(plan, found[name], destinations[name]))


def _problems(plan: Plan, survey: Survey) -> Iterable[str]:
    if survey.outside and survey.outside == plan.messages:
        yield f"All files lie outside the configured lakes, such as {survey.outside_example}: add `lake`."
    if survey.no_dead_letters:
        yield (
            f"{survey.no_dead_letters} messages are no dead letters (they have no header "
            "persistor-error-source): select dead letters only, or send them without restore."
        )
    if plan.options.mark and not plan.carries & Trait.HEADERS:
        yield f"{plan.topic} cannot carry headers, so that its messages cannot be marked: send without mark."
    if plan.cannot_carry and not plan.options.lossy:
        yield f"{plan.topic} cannot carry {_listed(plan)}: choose another or allow it with `lossy`."


def _topic_problems(plan: Plan, survey: TopicSurvey, destination: Destination) -> Iterable[str]:
    yield from destination.problems
    topic = destination.topic
    if _too_old(plan, survey, destination):
        yield (
            f"The oldest message is of {iso_time(survey.oldest_us)}, but {topic} refuses or soon deletes "
            f"what is older than {iso_time(destination.oldest_kept_us)}: use `timestamp: now`."
        )
    if _too_new(plan, survey, destination):
        yield (
            f"The newest message is of {iso_time(survey.newest_us)}, but {topic} refuses what is "
            f"newer than {iso_time(destination.newest_taken_us)}: use `timestamp: now`."
        )
    if (
        destination.max_bytes is not None
        and survey.largest > destination.max_bytes
        and not plan.options.lossy
    ):
        yield (
            f"The largest message has {survey.largest} bytes, but {topic} takes {destination.max_bytes}: "
            "raise its limit, or go on without such messages with `lossy`."
        )
    yield from _of_room(plan, survey, destination)
    if (own := _own(survey, destination)) and not plan.options.into_its_source:
        yield (
            f"{topic} is the topic that {_sources(own)} was archived from: what is sent there is read twice "
            "by its consumers and archived again. Send to another topic, or allow it with into_its_source."
        )
    if plan.options.partitions == "original" and _beyond(survey, destination):
        yield (
            f"Messages are of partitions up to {survey.highest_partition}, but {topic} has only "
            f"{destination.partitions}: let the key choose the partition, or add partitions."
        )


def _warnings(plan: Plan, survey: Survey) -> Iterable[str]:
    if not plan.messages:
        yield "No message matches the selection."
    if 0 < survey.outside < plan.messages:
        yield (
            f"{survey.outside} messages lie outside the configured lakes, such as {survey.outside_example}, "
            "and will not be published: add `lake`."
        )
    if plan.cannot_carry and plan.options.lossy:
        yield f"{plan.topic} cannot carry {_listed(plan)}."


def _topic_warnings(plan: Plan, survey: TopicSurvey, destination: Destination) -> Iterable[str]:
    yield from destination.warnings
    yield from destination.for_jobs
    topic = destination.topic
    if plan.options.lossy:
        yield from _lost(survey, destination)
    if not destination.refuses_when_full and not _beyond_room(survey, destination, alone=True):
        yield from (
            f"With these messages {topic} exceeds the {limit} that it keeps: its oldest ones are deleted."
            for limit in _beyond_room(survey, destination, alone=False)
        )
    if destination.archived_as and not plan.options.restore:
        yield (
            f"{topic} is archived as {_sources(destination.archived_as)}: "
            "what is sent there is archived again"
            + (", unless persist runs with skip_replayed." if plan.options.mark else ".")
        )
    if destination.compacted:
        yield f"{topic} is compacted: of the messages with one key it will keep the last one only."
    if plan.options.timestamp == "original" and not destination.original_time:
        yield f"{topic} does not keep original publish times: messages get the current time."
    if _keyed(plan, topic) and destination.partitions and survey.highest_partition >= 0:
        yield (
            f"The key chooses the partition: messages are of partitions up to {survey.highest_partition}, "
            f"{topic} has {destination.partitions}."
        )


def _of_room(plan: Plan, survey: TopicSurvey, destination: Destination) -> Iterable[str]:
    if destination.refuses_when_full:
        for limit in _beyond_room(survey, destination, alone=False):
            yield (
                f"The messages are {_amount(survey)}, but {destination.topic} takes {limit} in all, and "
                "refuses what is beyond that: raise its limit, make room, or select fewer."
            )
    elif not plan.options.lossy:
        yield from (
            f"{text} Raise its limit, select fewer, or allow it with lossy."
            for text in _lost(survey, destination)
        )


def _lost(survey: TopicSurvey, destination: Destination) -> Iterable[str]:
    if not destination.refuses_when_full:
        for limit in _beyond_room(survey, destination, alone=True):
            yield (
                f"The messages are {_amount(survey)}, but {destination.topic} keeps {limit} and deletes the "
                "oldest ones: the first of them would soon be gone."
            )


def _beyond_room(survey: TopicSurvey, destination: Destination, *, alone: bool) -> list[str]:
    """The limits that the messages exceed, ``alone`` or with what is there already."""
    held_bytes, held_messages = (0, 0) if alone else (destination.held_bytes, destination.held_messages)
    limits = (
        (survey.bytes + held_bytes, destination.keeps_bytes, "bytes"),
        (survey.messages + held_messages, destination.keeps_messages, "messages"),
    )
    return [f"{most:,} {unit}" for count, most, unit in limits if most is not None and count > most]


def _amount(survey: TopicSurvey) -> str:
    return f"{survey.messages:,} with {survey.bytes:,} bytes"


def _own(survey: TopicSurvey, destination: Destination) -> list[str]:
    """The sources of messages that would go back into their own topic."""
    return sorted({source for source, _ in survey.sources} & set(destination.archived_as or ()))


def _sources(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"source {names[0]!r}{more}"


def _keyed(plan: Plan, topic: str) -> bool:
    return topic in plan.keyed or plan.options.partitions == "key"


def _too_old(plan: Plan, survey: TopicSurvey, destination: Destination) -> bool:
    times = survey.oldest_us, destination.oldest_kept_us
    return _keeps_times(plan, destination) and None not in times and times[0] < times[1]  # type: ignore[operator]


def _too_new(plan: Plan, survey: TopicSurvey, destination: Destination) -> bool:
    times = survey.newest_us, destination.newest_taken_us
    return _keeps_times(plan, destination) and None not in times and times[0] > times[1]  # type: ignore[operator]


def _keeps_times(plan: Plan, destination: Destination) -> bool:
    return plan.options.timestamp == "original" and destination.original_time


def _beyond(survey: TopicSurvey, destination: Destination) -> bool:
    return destination.partitions is not None and survey.highest_partition >= destination.partitions


def _listed(plan: Plan) -> str:
    return ", ".join(f"{count} {words}" for words, count in plan.cannot_carry.items())


def _bits(carries: Trait) -> int:
    # From Python 3.11 on ~Trait(0) is 255, before it is -1.
    return sum(int(trait) for trait in Trait if carries & trait)
