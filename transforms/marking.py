"""The marker of messages that were sent again: a header that consumers and the archive recognise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import Headers, headers

__all__ = ["MARKER", "is_marked", "unmarked"]

MARKER = "persistor-replay"
"""Name of the header; its value is the id of the job that sent the message."""

Bools = npt.NDArray[np.bool_]


def is_marked(messages: pa.Table) -> Bools:
    """Which messages (with the column ``headers``) carry the marker."""
    head = headers(messages)
    return head.any(_markers(head))


def unmarked(messages: pa.Table) -> pa.Table:
    """The messages without any marker of an earlier job; all else stays as it is."""
    head = headers(messages)
    markers = _markers(head)
    if not markers.any():
        return messages
    place = messages.schema.get_field_index("headers")
    return messages.set_column(place, messages.schema.field(place), head.only(~markers))


def _markers(head: Headers) -> Bools:
    found: Bools = pc.equal(head.names.array, MARKER.encode()).to_numpy(zero_copy_only=False)
    return found
