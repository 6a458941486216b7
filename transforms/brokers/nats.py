"""NATS JetStream."""

from __future__ import annotations

from collections.abc import Mapping

from transforms.brokers import Publisher
from transforms.brokers._nats_publisher import NatsPublisher

__all__ = ["open_publisher"]


def open_publisher(url: str, config: Mapping[str, str], *, name: str) -> Publisher:
    """See :mod:`transforms.brokers`."""
    return NatsPublisher(url, config, name)
