"""NATS JetStream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transforms.brokers import Publisher, Reader
from transforms.brokers._nats_publisher import NatsPublisher
from transforms.brokers._nats_reader import NatsReader

__all__ = ["open_publisher", "open_reader"]


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),
    group: str,
    exclude: Sequence[str] = (),
) -> Reader:
    """See :mod:`transforms.brokers`."""
    return NatsReader(url, config, shard, group, exclude)


def open_publisher(url: str, config: Mapping[str, str], *, name: str) -> Publisher:
    """See :mod:`transforms.brokers`."""
    return NatsPublisher(url, config, name)
