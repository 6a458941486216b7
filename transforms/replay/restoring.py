"""Restores dead letters: reads the headers that describe the original message, and removes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms import registry
from transforms._columns import column, headers
from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import INTERNAL, Lake, ObjectMissingError, find_lake
from transforms.model import MESSAGE_SCHEMA, Trait

__all__ = ["described", "origin_topic", "restore"]

_NAMES = [
    *(f"persistor-error-{name}" for name in ("stage", "category", "reason", "source", "position", "time")),
    "persistor-stored",
]
_SOURCE, _POSITION, _STORED = "persistor-error-source", "persistor-error-position", "persistor-stored"
_CATEGORY = "persistor-error-category"
_STORED_BELOW = f"{INTERNAL}dead/"
_WITH_PARTITION = r"_(?P<partition>[0-9]{1,9})_-?[0-9]+$"
Bools = npt.NDArray[np.bool_]


def described(entries: pa.Table) -> pa.Table:
    """Turn index entries of dead letters into those of the original messages.

    Args:
        entries: with ``attributes``, ``partition`` and ``traits``.

    Returns:
        The same without ``attributes``; ``origin`` is the source, null if it is not a dead letter;
        ``partition`` and ``traits`` are those of the original message, as far as known.
    """
    attributes = column(entries, "attributes")
    source, position, stored = (
        pc.map_lookup(attributes, pa.scalar(name, pa.string()), "last")
        for name in (_SOURCE, _POSITION, _STORED)
    )
    whole = pc.bit_wise_and(column(entries, "traits"), pa.scalar(~int(Trait.NULL_DATA), pa.int32()))
    made = {
        "partition": _partitions(position),
        "traits": pc.if_else(pc.is_valid(stored), whole, column(entries, "traits")),
        "origin": source,
    }
    kept = {name: entries[name] for name in entries.column_names if name != "attributes"}
    return pa.table(kept | made)


def origin_topic(source: str, prefix: str) -> str:
    """The topic of a source that was archived with a source prefix."""
    return source.removeprefix(prefix).replace("%7E", "~").replace("%25", "%")


def restore(messages: pa.Table, lakes: Sequence[Lake]) -> tuple[pa.Table, dict[int, str]]:
    """Remove the headers added to dead letters and put back payloads stored separately.

    Only the last header of each of our names is removed, so that a dead letter of a dead letter becomes the
    first dead letter again. Partitions become those of the message's id.

    Args:
        messages: ``MESSAGE_SCHEMA``.
        lakes: may hold a payload, below ``_persistor/dead/``; other paths are not read.

    Returns:
        The messages, and by row why it could not be restored (such a row is unchanged).

    Raises:
        TransientError: a lake does not answer.
    """
    head = headers(messages)
    ours = _ours(messages)
    values = {name: _header_text(messages, ours, name) for name in (_SOURCE, _POSITION, _STORED, _CATEGORY)}
    lost = np.flatnonzero(
        pc.fill_null(pc.equal(values[_CATEGORY], "lost"), False).to_numpy(zero_copy_only=False)
    ).tolist()
    data, problems = column(messages, "data"), dict.fromkeys(lost, "it stands for messages that are lost")
    for row in np.flatnonzero(values[_STORED].is_valid().to_numpy(zero_copy_only=False)).tolist():
        try:
            source, position, stored = (values[name][row].as_py() for name in (_SOURCE, _POSITION, _STORED))
            payload = _payload(lakes, stored, source or "", position or "")
            data = _replaced(data, row, payload)
        except (PermanentError, ConfigurationError) as error:
            problems[row] = str(error)
    partitions = pc.coalesce(_partitions(values[_POSITION]), column(messages, "partition"))
    made = {"data": data, "headers": head.only(~ours), "partition": partitions}
    columns = [made.get(name, messages[name]) for name in MESSAGE_SCHEMA.names]
    return pa.table(columns, schema=MESSAGE_SCHEMA), problems


def _ours(messages: pa.Table) -> Bools:
    """Which headers were added last: the last one of each of our names, per row."""
    head = headers(messages)
    codes = pc.index_in(head.names.array, pa.array([name.encode() for name in _NAMES], pa.binary()))
    numbers = pc.fill_null(codes, -1).to_numpy()
    found = np.flatnonzero(numbers >= 0)
    pairs = head.rows()[found] * len(_NAMES) + numbers[found]
    ours = np.zeros(len(numbers), np.bool_)
    # np.unique returns first positions; in reverse these are the last ones.
    ours[found[len(found) - 1 - np.unique(pairs[::-1], return_index=True)[1]]] = True
    return ours


def _header_text(messages: pa.Table, ours: Bools, name: str) -> pa.Array:
    """The value of our header of this name in each row, as text; null if there is none."""
    head = headers(messages)
    places = np.flatnonzero(ours & pc.equal(head.names.array, name.encode()).to_numpy(zero_copy_only=False))
    texts = [value.decode("utf-8", "replace") for value in head.values.array.take(places).to_pylist()]
    rows = dict(zip(head.rows()[places].tolist(), texts, strict=True))
    return pa.array([rows.get(row) for row in range(len(messages))], pa.string())


def _partitions(positions: pa.Array) -> pa.Array:
    [found] = pc.extract_regex(positions, _WITH_PARTITION).flatten()
    return found.cast(pa.int32())


def _payload(lakes: Sequence[Lake], location: str, source: str, position: str) -> bytes | None:
    """The stored payload of the message at ``position`` of ``source``.

    Producers choose headers freely, so the one that names the file must not bring in another source's
    message: the stored one has to be the message that the dead letter says it is.
    """
    lake, path = find_lake(lakes, location)
    if not path.startswith(_STORED_BELOW):
        raise PermanentError("the header persistor-stored does not name a stored dead letter")
    try:
        table = registry.format_of(path).decode(lake.get(path))
    except ObjectMissingError as error:
        raise PermanentError("its stored payload is not in the lake") from error
    if len(table) != 1:
        raise PermanentError("its stored payload is not one message")
    of_source = re.match(rf"{re.escape(source)}(~[0-9]+)?_", position)
    if not of_source or table["id"][0].as_py() != position:
        raise PermanentError("its stored payload is that of another message")
    payload: bytes | None = table["data"][0].as_py()
    return payload


def _replaced(data: pa.Array, row: int, payload: bytes | None) -> pa.Array:
    parts = [data.slice(0, row), pa.array([payload], pa.binary()), data.slice(row + 1)]
    return pa.concat_arrays(parts)
