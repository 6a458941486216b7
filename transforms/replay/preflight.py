"""What a destination makes of a plan: what it refuses, what it cannot carry and what then is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import Headers, column, headers, is_utf8, parts
from transforms.brokers import Destination
from transforms.model import HEADERS, Trait
from transforms.replay.planning import Survey
from transforms.replay.plans import Options, Plan, iso_time
from transforms.selection import Selection

__all__ = ["adapt", "make", "not_carried"]

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
    destination: Destination,
    options: Options,
    *,
    job: str,
    selection: Selection,
    url: str,
) -> Plan:
    """The plan of what a survey found, with everything that speaks against it."""
    options = replace(options, partitions=_partitions(survey, destination, options))
    sources = tuple(survey.sources.values())
    plan = Plan(
        job=job,
        selection=json.loads(selection.to_json()),
        destination=url,
        topic=destination.topic,
        options=options,
        lanes=survey.lanes,
        messages=survey.messages,
        bytes=sum(source.bytes for source in sources),
        files=survey.files(),
        requests=survey.requests,
        largest=survey.largest,
        oldest_us=min((s.oldest_us for s in sources if s.oldest_us is not None), default=None),
        newest_us=max((s.newest_us for s in sources if s.newest_us is not None), default=None),
        sources=sources,
        cannot_carry=_cannot_carry(survey.traits, destination.carries),
        deduplication=destination.deduplication,
        carries=_bits(destination.carries),
        exactly_once=destination.exactly_once,
    )
    problems, warnings = (
        tuple(_problems(plan, survey, destination)),
        tuple(_warnings(plan, survey, destination)),
    )
    return replace(plan, problems=problems, warnings=warnings)


def _partitions(survey: Survey, destination: Destination, options: Options) -> str:
    if options.partitions is not None:
        return options.partitions
    # The selection may miss the last partitions of the source; then the key decides, as it did there.
    return "original" if survey.highest_partition + 1 == destination.partitions else "key"


def _cannot_carry(traits: Mapping[int, int], carries: Trait) -> dict[str, int]:
    counts = {
        words: sum(messages for value, messages in traits.items() if value & trait)
        for trait, words in _WORDS.items()
        if not carries & trait
    }
    return {words: count for words, count in counts.items() if count}


def _problems(plan: Plan, survey: Survey, destination: Destination) -> Iterable[str]:
    yield from destination.problems
    if survey.outside and survey.outside == survey.messages:
        yield f"All files lie outside the configured lakes, such as {survey.outside_example}: add --lake."
    if plan.cannot_carry and not plan.options.lossy:
        yield f"{plan.topic} cannot carry {_listed(plan)}: choose another or allow it with --lossy."
    if _too_old(plan, destination):
        yield (
            f"The oldest message is of {iso_time(plan.oldest_us)}, but {plan.topic} refuses or soon deletes "
            f"what is older than {iso_time(destination.oldest_kept_us)}: use --timestamp now."
        )
    if destination.max_bytes is not None and plan.largest > destination.max_bytes and not plan.options.lossy:
        yield (
            f"The largest message has {plan.largest} bytes, but {plan.topic} takes {destination.max_bytes}: "
            "raise its limit, or go on without such messages with --lossy."
        )
    if plan.options.partitions == "original" and _beyond(survey, destination):
        yield (
            f"Messages are of partitions up to {survey.highest_partition}, but {plan.topic} has only "
            f"{destination.partitions}: let the key choose the partition, or add partitions."
        )


def _warnings(plan: Plan, survey: Survey, destination: Destination) -> Iterable[str]:
    yield from destination.warnings
    if not plan.messages:
        yield "No message matches the selection."
    if 0 < survey.outside < survey.messages:
        yield (
            f"{survey.outside} messages lie outside the configured lakes, such as {survey.outside_example}, "
            "and will not be published: add --lake."
        )
    if plan.cannot_carry and plan.options.lossy:
        yield f"{plan.topic} cannot carry {_listed(plan)}."
    if plan.options.timestamp == "original" and not destination.original_time:
        yield f"{plan.topic} does not keep original publish times: messages get the current time."
    if plan.options.partitions == "key" and destination.partitions and survey.highest_partition >= 0:
        yield (
            f"The key chooses the partition: messages are of partitions up to {survey.highest_partition}, "
            f"{plan.topic} has {destination.partitions}."
        )


def _too_old(plan: Plan, destination: Destination) -> bool:
    times = plan.oldest_us, destination.oldest_kept_us
    keeps = plan.options.timestamp == "original" and destination.original_time
    return keeps and None not in times and times[0] < times[1]  # type: ignore[operator]


def _beyond(survey: Survey, destination: Destination) -> bool:
    return destination.partitions is not None and survey.highest_partition >= destination.partitions


def _listed(plan: Plan) -> str:
    return ", ".join(f"{count} {words}" for words, count in plan.cannot_carry.items())


def _bits(carries: Trait) -> int:
    # From Python 3.11 on ~Trait(0) is 255, before it is -1.
    return sum(int(trait) for trait in Trait if carries & trait)


def not_carried(traits: pa.Array, carries: int) -> npt.NDArray[np.bool_]:
    """Which messages need more of the destination than it carries."""
    return (traits.to_numpy() & ~np.int32(carries)) != 0


def adapt(messages: pa.Table, carries: int) -> pa.Table:
    """Reduce messages (``MESSAGE_SCHEMA`` columns) to what a destination carries.

    A null payload becomes empty, a key or header that cannot be carried is dropped, a null header
    value becomes empty, and of headers of one name the last is kept.

    Args:
        messages: as read from the lake.
        carries: the destination's ``Trait`` bits.
    """
    lacks = ~Trait(carries)
    if lacks & Trait.NULL_DATA:
        messages = _with(messages, "data", pc.fill_null(column(messages, "data"), b""))
    if lacks & (Trait.KEY | Trait.BINARY_KEY | Trait.EMPTY_KEY):
        messages = _with(messages, "key", _key(column(messages, "key"), lacks))
    if lacks & (Trait.HEADERS | Trait.REPEATED_HEADERS | Trait.BINARY_HEADERS | Trait.NULL_HEADERS):
        messages = _with(messages, "headers", _headers(headers(messages), lacks))
    return messages


def _with(messages: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = messages.schema.get_field_index(name)
    return messages.set_column(place, messages.schema.field(name), values)


def _key(keys: pa.Array, lacks: Trait) -> pa.Array:
    given = parts(keys)
    keep = given.valid.copy()
    if lacks & Trait.KEY:
        keep[:] = False
    if lacks & Trait.BINARY_KEY:
        keep &= is_utf8(given)
    if lacks & Trait.EMPTY_KEY:
        keep &= given.lengths > 0
    return pc.if_else(pa.array(keep), keys, pa.scalar(None, pa.binary()))


def _headers(head: Headers, lacks: Trait) -> pa.Array:
    keep = np.ones(len(head.values.array), np.bool_)
    if lacks & Trait.HEADERS:
        keep[:] = False
    if lacks & Trait.BINARY_HEADERS:
        keep &= is_utf8(head.values) & is_utf8(head.names)
    if lacks & Trait.REPEATED_HEADERS:
        keep[np.flatnonzero(keep)] = _last_of_name(head, keep)
    names, values = head.names.array.filter(pa.array(keep)), head.values.array.filter(pa.array(keep))
    if lacks & Trait.NULL_HEADERS:
        values = pc.fill_null(values, b"")
    offsets = np.concatenate([[0], np.cumsum(keep)])[head.bounds]
    items = pa.StructArray.from_arrays([names.cast(pa.string()), values], fields=list(HEADERS.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=HEADERS)


def _last_of_name(head: Headers, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    encoded = head.names.array.filter(pa.array(keep)).dictionary_encode()
    pairs = head.rows()[keep] * len(encoded.dictionary) + encoded.indices.to_numpy()
    last = np.zeros(len(pairs), np.bool_)
    # np.unique gives first places; in reverse these are the last ones.
    last[len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]] = True
    return last
