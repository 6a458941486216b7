"""Index entries, ids, checksums and verification of messages, by operations on whole columns."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import Headers, Parts, UInts, column, headers, overridden, parts
from transforms.errors import PermanentError
from transforms.model import ENTRY_SCHEMA, Trait

__all__ = [
    "Verification",
    "attributes",
    "checksums",
    "entries",
    "message_ids",
    "origin",
    "sizes",
    "total_size",
    "traits",
    "verify",
]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)

# An index or a metadata topic accepts entries up to some size, which hostile messages must not exceed.
_SEARCHABLE = 64 * 1024

_PREFIX = r"^(?P<source>[^~]*?)(?:~(?P<incarnation>[0-9]+))?"
_WITH_OFFSET = _PREFIX + r"_-?[0-9]+_-?[0-9]+$"
_WITHOUT_OFFSET = _PREFIX + r"_[^_]*$"


class Verification(NamedTuple):
    """The outcome of :func:`verify`, one value per row.

    Attributes:
        ok: the row is the message in the index.
        by_checksum: it was compared by id and checksum; False if only by id, because the file was not
            written by Persistor.
    """

    ok: npt.NDArray[np.bool_]
    by_checksum: npt.NDArray[np.bool_]


def checksums(messages: pa.Table) -> pa.Array:
    """The checksum of each message: publish time, key, data and headers, as int64.

    A message's position (id, topic, partition, offset) is not included. Every file and index depends on
    the definition, so it never changes. All arithmetic is modulo 2**64::

        mix(x):        x ^= x >> 30;  x *= 0xBF58476D1CE4E5B9
                       x ^= x >> 27;  x *= 0x94D049BB133111EB
                       x ^= x >> 31
        absorb(s, w) = mix((s ^ w) + 0x9E3779B97F4A7C15)
        word(v)      = 0 where v is null, else 1 + crc32(v) + len(v) * 2**32
        header(j)    = absorb(absorb(j, word(name)), word(value)), j from 1 in the message's order
        checksum     = 0, then absorbing in turn
                       2 * number of headers + (1 where the publish time is not null)
                       publish time in microseconds since 1970 (0 where null)
                       word(key), word(data), the sum of header(j)

    ``crc32`` is that of zlib; the result is interpreted as a signed integer.

    Args:
        messages: any table with the columns of ``MESSAGE_SCHEMA``.
    """
    head = headers(messages)
    times = column(messages, "publish_time")
    state = np.zeros(len(messages), np.uint64)
    for word in (
        head.counts * np.uint64(2) + pc.is_valid(times).to_numpy(zero_copy_only=False),
        pc.fill_null(times.cast(pa.int64()), 0).to_numpy().view(np.uint64),
        _words(parts(column(messages, "key"))),
        _words(parts(column(messages, "data"))),
        head.sums(_header_words(head)),
    ):
        state = _absorb(state, word)
    return pa.array(state.view(np.int64))


def sizes(messages: pa.Table) -> pa.Array:
    """Bytes of key, data, header names and header values of each message, as int64."""
    return _sizes(messages, headers(messages))


def _sizes(messages: pa.Table, head: Headers) -> pa.Array:
    total = parts(column(messages, "key")).lengths + parts(column(messages, "data")).lengths
    return pa.array((total + head.sums(head.names.lengths + head.values.lengths)).view(np.int64))


def total_size(messages: pa.Table) -> int:
    """The sum of :func:`sizes`, computed faster."""
    names, values = column(messages, "headers").flatten().flatten()
    binaries = (names, values, column(messages, "key"), column(messages, "data"))
    return sum(pc.sum(pc.binary_length(one)).as_py() or 0 for one in binaries)


def traits(messages: pa.Table) -> pa.Array:
    """The traits each message needs from a destination: a set of ``Trait`` bits, as int32."""
    return _traits(messages, headers(messages))


def _traits(messages: pa.Table, head: Headers) -> pa.Array:
    key = parts(column(messages, "key"))
    text = head.values.text & head.names.text
    result = np.zeros(len(messages), np.int32)
    for trait, mask in (
        (Trait.NULL_DATA, pc.is_null(column(messages, "data")).to_numpy(zero_copy_only=False)),
        (Trait.KEY, key.valid),
        (Trait.HEADERS, head.counts > 0),
        (Trait.REPEATED_HEADERS, head.any(head.overridden)),
        (Trait.BINARY_HEADERS, head.any(~text)),
        (Trait.NULL_HEADERS, head.any(~head.values.valid)),
        (Trait.BINARY_KEY, ~key.text),
        (Trait.EMPTY_KEY, key.valid & (key.lengths == 0)),
    ):
        result[mask] |= int(trait)
    return pa.array(result)


def attributes(messages: pa.Table, most_bytes: int | None = None) -> pa.Array:
    """The searchable headers, as map<string, string>.

    Their name and value are valid UTF-8 and not null; the last value of a name counts.

    Args:
        most_bytes: a message with more header bytes in total has no attributes.
    """
    return _attributes(headers(messages), most_bytes)


def _attributes(head: Headers, most_bytes: int | None) -> pa.Array:
    keep = head.names.text & head.values.text & head.values.valid
    if most_bytes is not None:
        keep &= (head.sums(head.names.lengths + head.values.lengths) <= most_bytes)[head.rows()]
    names, values, bounds = head.names.array, head.values.array, head.bounds
    if not keep.all() or head.overridden.any():
        keep[keep] = ~overridden(names.filter(pa.array(keep)), head.rows()[keep])
        names, values = names.filter(pa.array(keep)), values.filter(pa.array(keep))
        bounds = np.concatenate([[0], np.cumsum(head.sums(keep.astype(np.uint64)))])
    offsets = pa.array(bounds, pa.int32())
    return pa.MapArray.from_arrays(offsets, names.cast(pa.string()), values.cast(pa.string()))


def entries(
    messages: pa.Table,
    location: str,
    ingestion_time: datetime,
    positions: npt.NDArray[np.int64] | None = None,
) -> pa.Table:
    """The index entries of messages in one file.

    A key of more than 64 KiB is left out, and so are headers of more than 64 KiB in total; such a message
    is found by its other fields.

    Args:
        messages: ``FILE_SCHEMA``, its ids made by :func:`message_ids`.
        location: the file's URL.
        ingestion_time: with time zone.
        positions: the row of each message in the file, from 0; None if these are all rows.

    Returns:
        ``ENTRY_SCHEMA``, in the order of the messages.

    Raises:
        PermanentError: an id contains no source, as in files of other products.
    """
    source, incarnation = _sources(column(messages, "id"), column(messages, "offset"))
    count, head = len(messages), headers(messages)
    made = {
        "source": source,
        "incarnation": incarnation,
        "ingestion_time": pa.repeat(pa.scalar(ingestion_time, pa.timestamp("us", tz="UTC")), count),
        "key": _short_keys(column(messages, "key")),
        "attributes": _attributes(head, _SEARCHABLE),
        "size": _sizes(messages, head),
        "traits": _traits(messages, head),
        "location": pa.repeat(pa.scalar(location), count),
        "position": pa.array(np.arange(count) if positions is None else positions, pa.int64()),
    }
    columns = [made[name] if name in made else column(messages, name) for name in ENTRY_SCHEMA.names]
    return pa.table(columns, schema=ENTRY_SCHEMA)


def _short_keys(keys: pa.Array) -> pa.Array:
    long = pc.fill_null(pc.greater(pc.binary_length(keys), _SEARCHABLE), False)
    # Copied, because a null that replaces a value may keep its bytes in the array.
    return keys.take(pa.array(np.arange(len(keys)), mask=_numpy(long))) if pc.any(long).as_py() else keys


def message_ids(source: str, incarnation: int, partition: int | None, messages: pa.Table) -> pa.Array:
    """The ids of messages of one partition; see ``MESSAGE_SCHEMA``.

    Args:
        source: its name, without ``~``.
        incarnation: from 1.
        partition: None only if no message has an offset.
        messages: ``MESSAGE_SCHEMA``; if ``offset`` is null, ``id`` is the broker's message id.
    """
    prefix = source if incarnation == 1 else f"{source}~{incarnation}"
    offset, given = column(messages, "offset"), column(messages, "id")
    if offset.null_count == len(offset):
        return pc.binary_join_element_wise(prefix, given, "_")
    ids = pc.binary_join_element_wise(f"{prefix}_{partition}", offset.cast(pa.string()), "_")
    if offset.null_count:
        ids = pc.coalesce(ids, pc.binary_join_element_wise(prefix, given, "_"))
    return ids


def verify(messages: pa.Table, ids: pa.Array, expected: pa.Array) -> Verification:
    """Compare rows of a lake file with their index entries.

    A row with a checksum must have the id and the checksum of the index (if that has one), and its
    content must have that checksum too. A row without one is from a file that Persistor did not write:
    the id in the index must equal the row's, or end in ``_`` and the row's, and the index must have no
    checksum either.

    Args:
        messages: ``FILE_SCHEMA``, as read from the lake.
        ids: of the index, one per row.
        expected: checksums of the index, one per row, int64.
    """
    stored, found = column(messages, "checksum"), column(messages, "id")
    by_checksum = pc.is_valid(stored)
    ok = pc.fill_null(pc.equal(found, ids), False)
    if stored.null_count:
        ok = pc.if_else(by_checksum, ok, _same_foreign_ids(found, ids))
        ok = pc.and_(ok, pc.or_(by_checksum, pc.is_null(expected)))
    if stored.null_count < len(stored):
        actual = checksums(messages)
        for other in (stored, expected):
            ok = pc.and_(ok, pc.fill_null(pc.equal(actual, other), True))
    return Verification(_numpy(ok), _numpy(by_checksum))


def _words(values: Parts) -> UInts:
    words = (values.lengths << np.uint64(32)) + values.crcs() + np.uint64(1)
    return words if values.valid.all() else words * values.valid


def _header_words(head: Headers) -> UInts:
    first = np.repeat(head.bounds[:-1], head.counts.astype(np.int64))
    number = (np.arange(1, len(first) + 1) - first).astype(np.uint64)
    return _absorb(_absorb(number, _words(head.names)), _words(head.values))


def _absorb(state: UInts, word: UInts) -> UInts:
    x = (state ^ word) + _GOLDEN
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        x ^= x >> shift
        x *= multiplier
    x ^= x >> _SHIFTS[-1]
    return x


def origin(id: str, offset: int | None) -> tuple[str, int] | None:
    """Source and incarnation in an id, or None if it contains none.

    Args:
        offset: of the same message; None if its broker has no offsets.
    """
    match = re.match(_WITHOUT_OFFSET if offset is None else _WITH_OFFSET, id, re.DOTALL)
    return match and (match["source"], int(match["incarnation"] or 1))


def _sources(ids: pa.Array, offsets: pa.Array) -> tuple[pa.Array, pa.Array]:
    if not len(ids):
        return pa.array([], pa.string()), pa.array([], pa.int32())
    match = re.match(
        _WITH_OFFSET if offsets[0].is_valid else _WITHOUT_OFFSET, ids[0].as_py() or "", re.DOTALL
    )
    if match and _all_of_prefix(ids, offsets, ids[0].as_py()[: match.end(match.lastgroup or "source")]):
        incarnation = pa.scalar(int(match["incarnation"] or 1), pa.int32())
        return pa.repeat(pa.scalar(match["source"]), len(ids)), pa.repeat(incarnation, len(ids))
    return _sources_by_row(ids, offsets)


def _all_of_prefix(ids: pa.Array, offsets: pa.Array, prefix: str) -> bool:
    # The part after a prefix contains no further "_", so counting them distinguishes a_1 in a_1_5 from a.
    separators = prefix.count("_") + 1 + _numpy(pc.is_valid(offsets))
    same = pc.starts_with(ids, prefix + "_")
    return bool(_numpy(pc.fill_null(same, False)).all()) and bool(
        (pc.count_substring(ids, "_").to_numpy() == separators).all()
    )


def _sources_by_row(ids: pa.Array, offsets: pa.Array) -> tuple[pa.Array, pa.Array]:
    with_offset, without = (pc.extract_regex(ids, "(?s)" + p) for p in (_WITH_OFFSET, _WITHOUT_OFFSET))
    found = pc.if_else(pc.is_valid(offsets), with_offset, without)
    if found.null_count:
        raise PermanentError(
            f"{found.null_count} of {len(ids)} ids contain no source: the file was not written by Persistor"
        )
    source, incarnation = found.flatten()
    return source, pc.if_else(pc.equal(incarnation, ""), "1", incarnation).cast(pa.int32())


def _same_foreign_ids(found: pa.Array, ids: pa.Array) -> pa.Array:
    pairs = zip(found.to_pylist(), ids.to_pylist(), strict=True)
    return pa.array(
        [bool(own and id and (id == own or id.endswith("_" + own))) for own, id in pairs], pa.bool_()
    )


def _numpy(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return mask.to_numpy(zero_copy_only=False)
