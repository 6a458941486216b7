"""Reduces messages to what a destination can carry, if a job is lossy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import Headers, column, headers, parts
from transforms.model import Trait

__all__ = ["adapt", "not_carried"]


def not_carried(traits: pa.Array, carries: int) -> npt.NDArray[np.bool_]:
    """Which messages need more than the destination can carry."""
    return (traits.to_numpy() & ~np.int32(carries)) != 0


def adapt(messages: pa.Table, carries: int) -> pa.Table:
    """Reduce messages (``MESSAGE_SCHEMA`` columns) to what a destination can carry.

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
        keep &= given.text
    if lacks & Trait.EMPTY_KEY:
        keep &= given.lengths > 0
    return pc.if_else(pa.array(keep), keys, pa.scalar(None, pa.binary()))


def _headers(head: Headers, lacks: Trait) -> pa.Array:
    keep = np.ones(len(head.values.array), np.bool_)
    if lacks & Trait.HEADERS:
        keep[:] = False
    if lacks & Trait.BINARY_HEADERS:
        keep &= head.values.text & head.names.text
    if lacks & Trait.REPEATED_HEADERS:
        keep[np.flatnonzero(keep)] = _last_of_name(head, keep)
    return head.only(keep, nulls=not lacks & Trait.NULL_HEADERS)


def _last_of_name(head: Headers, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    encoded = head.names.array.filter(pa.array(keep)).dictionary_encode()
    pairs = head.rows()[keep] * len(encoded.dictionary) + encoded.indices.to_numpy()
    last = np.zeros(len(pairs), np.bool_)
    # np.unique returns first positions; in reverse these are the last ones.
    last[len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]] = True
    return last
