"""Tables of messages for tests: a few by hand, and any that a broker could give."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from transforms.entries import checksums
from transforms.model import FILE_SCHEMA

__all__ = ["file_tables", "row", "table"]

_INT64 = st.integers(-(2**63), 2**63 - 1)
_BYTES = st.one_of(st.none(), st.binary(max_size=12), st.text(max_size=6).map(str.encode))
_NAMES = st.one_of(st.sampled_from(["a", "b", "type", ""]), st.text(max_size=5))
_HEADERS = st.lists(st.fixed_dictionaries({"name": _NAMES, "value": _BYTES}), max_size=4)
_ROWS = st.fixed_dictionaries(
    {
        "id": st.one_of(st.none(), st.text(max_size=12)),
        "topic": st.text(max_size=5),
        "partition": st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        "offset": st.one_of(st.none(), _INT64),
        # Within what both Arrow and Python's datetime can say.
        "publish_time": st.one_of(st.none(), st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)),
        "key": _BYTES,
        "data": _BYTES,
        "headers": _HEADERS,
        "checksum": st.one_of(st.none(), _INT64),
    }
)


def row(**values: Any) -> dict[str, Any]:
    """One message; what is not given is as plain as can be."""
    plain = {"id": "t_0_0", "topic": "t", "partition": 0, "offset": 0, "publish_time": 0}
    return {**plain, "key": None, "data": b"", "headers": [], "checksum": None, **values}


def table(*rows: dict[str, Any], sums: bool = False) -> pa.Table:
    """A ``FILE_SCHEMA`` table; ``sums`` fills the column ``checksum``."""
    made = pa.Table.from_pylist(list(rows), schema=FILE_SCHEMA)
    return with_checksums(made) if sums else made


def with_checksums(messages: pa.Table) -> pa.Table:
    return messages.set_column(FILE_SCHEMA.get_field_index("checksum"), "checksum", checksums(messages))


@st.composite
def file_tables(draw: st.DrawFn, max_size: int = 8) -> pa.Table:
    """Any ``FILE_SCHEMA`` table, sliced and in several chunks as tables come along."""
    rows = draw(st.lists(_ROWS, max_size=max_size))
    whole = pa.Table.from_pylist(rows, schema=FILE_SCHEMA)
    start = draw(st.integers(0, len(rows)))
    cut = draw(st.integers(start, len(rows)))
    return pa.concat_tables([whole.slice(start, cut - start), whole.slice(cut)])
