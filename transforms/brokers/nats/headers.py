"""Converts NATS headers between wire bytes and Arrow lists, keeping order, repeats and raw bytes.

nats-py's own header dictionary merges repeats, strips blanks and replaces bytes that are not
UTF-8, so headers are taken from the wire and put on it here.

Headers that begin with ``Nats-`` are orders to the server. An archived one is published as
``Persistor-Nats-…`` so that it orders nothing (``Nats-Rollup: all`` would purge the destination),
beside our own ``Nats-Msg-Id: persistor:<publisher>:<id>``. Reading undoes both: a message that was
sent again, however often, has the headers it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.model import HEADERS

__all__ = ["decode_headers", "encode_headers", "text"]

_VERSION = b"NATS/1.0"
_ID = "Nats-Msg-Id"
_OURS = "persistor:"
_ORDER = r"(?i)^((?:Persistor-)*Nats-)"
_HIDDEN_ORDER = r"(?i)^Persistor-((?:Persistor-)*Nats-)"


def text(values: pa.Array) -> pa.Array:
    """Binary as string; bytes that are not UTF-8, which NATS allows, are written in hex."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "backslashreplace") for value in values.to_pylist()])


def decode_headers(blocks: Sequence[bytes]) -> pa.Array:
    """The ``headers`` column from header blocks as they came; an empty block has no headers."""
    lines = pc.split_pattern(pa.array(blocks, pa.binary()), "\r\n")
    flat, offsets = lines.values, lines.offsets.to_numpy()
    wanted = pc.binary_length(flat).to_numpy() > 0
    wanted[offsets[:-1]] = False
    rows = np.repeat(np.arange(len(blocks)), np.diff(offsets))[wanted]
    names, values = _split(flat.filter(pa.array(wanted)))
    return _lists(*_without_ours(rows, names, values), len(blocks))


def encode_headers(
    ids: pa.Array, headers: pa.Array, extra: Sequence[tuple[str, bytes]], publisher: str
) -> tuple[list[bytes], np.ndarray[Any, Any]]:
    """Header blocks of messages, and which rows NATS cannot carry (a line break, a bad name).

    A row with neither id nor headers has an empty block. A null value is sent as an empty one.
    """
    counts = pc.list_value_length(headers).to_numpy()
    rows, flat = np.repeat(np.arange(len(headers)), counts), headers.flatten()
    names = pc.replace_substring_regex(flat.field("name"), _ORDER, r"Persistor-\1").cast(pa.binary())
    values = flat.field("value").fill_null(b"")
    refused = np.zeros(len(headers), dtype=bool)
    refused[rows[_unfit(names, values)]] = True
    lines = pc.binary_join_element_wise(names, values, pa.scalar(b": ", pa.binary()))
    lists = pa.ListArray.from_arrays(_offsets(rows, len(headers)), lines)
    own = pc.binary_join(lists, pa.scalar(b"\r\n", pa.binary())).to_pylist()
    tail = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in extra)
    stems = [
        f"{_ID}: {_OURS}{publisher}:{id}\r\n".encode() if id is not None else b"" for id in ids.to_pylist()
    ]
    return [_block(stem, lines, tail) for stem, lines in zip(stems, own, strict=True)], refused


def _block(stem: bytes, lines: bytes, tail: bytes) -> bytes:
    body = b"%s%s%s%s" % (stem, lines, b"\r\n" if lines else b"", tail)
    return b"%s\r\n%s\r\n" % (_VERSION, body) if body else b""


def _unfit(names: pa.Array, values: pa.Array) -> np.ndarray[Any, Any]:
    """Header lines that would not be read back unchanged."""
    bad_name = pc.or_(pc.equal(pc.binary_length(names), 0), pc.match_substring_regex(names, r"[:\r\n]"))
    return pc.or_(bad_name, pc.match_substring_regex(values, r"[\r\n]")).to_numpy(zero_copy_only=False)


def _split(lines: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Names and values of ``Name: value`` lines; one blank after the colon is not part of the value."""
    pairs = pc.split_pattern(lines, ": ", max_splits=1)
    parts = pairs.flatten()
    if pc.min(pc.list_value_length(pairs)).as_py() == 2:
        names, values = parts.take(_every_other(lines, 0)), parts.take(_every_other(lines, 1))
        if not pc.any(pc.match_substring(names, ":")).as_py():
            return text(names), values
    split = [line.partition(b":") for line in lines.to_pylist()]
    return (
        text(pa.array([name for name, _, _ in split], pa.binary())),
        pa.array([value.removeprefix(b" ") for _, _, value in split], pa.binary()),
    )


def _every_other(lines: pa.Array, first: int) -> pa.Array:
    return pa.array(np.arange(first, 2 * len(lines), 2))


def _without_ours(
    rows: np.ndarray[Any, Any], names: pa.Array, values: pa.Array
) -> tuple[np.ndarray[Any, Any], pa.Array, pa.Array]:
    """Remove our message id, and restore the names of renamed headers."""
    ours = pc.and_(pc.equal(names, _ID), pc.starts_with(values, _OURS)).to_numpy(zero_copy_only=False)
    if not ours.any():
        return rows, names, values
    disguised = pa.array(np.isin(rows, rows[ours]))
    names = pc.if_else(disguised, pc.replace_substring_regex(names, _HIDDEN_ORDER, r"\1"), names)
    kept = pa.array(~ours)
    return rows[~ours], names.filter(kept), values.filter(kept)


def _lists(rows: np.ndarray[Any, Any], names: pa.Array, values: pa.Array, count: int) -> pa.Array:
    headers = pa.StructArray.from_arrays([names, values], fields=list(HEADERS.value_type))
    return pa.ListArray.from_arrays(_offsets(rows, count), headers, type=HEADERS)


def _offsets(rows: np.ndarray[Any, Any], count: int) -> pa.Array:
    ends = np.cumsum(np.bincount(rows, minlength=count))
    return pa.array(np.concatenate(([0], ends)), pa.int32())
