"""The properties of the client that reads."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RESERVED", "defaults"]

RESERVED = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
}
_DEFAULTS = {
    # librdkafka pauses this long when its queue is full; the default of 1000 ms costs two thirds of the rate.
    "fetch.queue.backoff.ms": 20,
    # Nobody joins the group: how long a commit may wait for a coordinator that is away.
    "session.timeout.ms": 6_000,
    # What a zstd batch may decompress to as well: the default of 100 MB is reached by batches of a few kB.
    "receive.message.max.bytes": 1_000_000_000,
    # Off by default: a batch damaged on a broker's disk would be archived as if it were intact.
    "check.crcs": True,
}
# What the client needs for a message besides its content.
_MESSAGE_BYTES = 500
_LEAST_FETCH = 2**20


def defaults(memory: int) -> Mapping[str, int | bool]:
    """Properties that the user's override.

    Args:
        memory: bytes that may be fetched ahead, of all partitions together.
    """
    return {
        **_DEFAULTS,
        "queued.max.messages.kbytes": max(memory >> 10, 1),
        "queued.min.messages": max(memory // _MESSAGE_BYTES, 1),
        # A full queue grows by one answer of each broker, by what its batches decompress to: 40 times as
        # much is not rare. A broker exceeds this for the first batch of an answer only.
        "fetch.max.bytes": max(memory // 64, _LEAST_FETCH),
    }
