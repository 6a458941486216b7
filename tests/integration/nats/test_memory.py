"""What NATS has sent and nobody has taken yet stays within the memory of a reader."""

from __future__ import annotations

import time

from tests._brokers import NatsSite, fetch, messages, reading
from tests.integration.nats._streams import add_stream
from transforms.brokers import Partition
from transforms.brokers.nats.filter_reader import Lane
from transforms.brokers.nats.reader import NatsReader

_SUBJECTS = 30
_SIZE = 100_000
_EACH = 20
_MEMORY = 6 * 2**20


def test_many_subjects_with_a_backlog_take_turns(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    subjects = [f"{stem}.{number}" for number in range(_SUBJECTS)]
    for subject in subjects:
        nats.publish(subject, messages(*[{"data": bytes(_SIZE)}] * _EACH))
    with reading(nats.reader(",".join(subjects), memory=_MEMORY)) as reader:
        assert isinstance(reader, NatsReader)
        reader.assign({Partition(subject, 0): 1 for subject in subjects})
        reader.poll(0)
        assert _settled(list(reader._lanes.values())) < _MEMORY
        # Each has its turn, and all come to their end.
        read = fetch(reader, _SUBJECTS * _EACH)
        assert {one.partition.topic for one in read} == set(subjects)


def _settled(lanes: list[Lane]) -> int:
    """Bytes that have arrived, once no more come."""
    before, now = -1, 0
    while now > before:
        time.sleep(1)
        before, now = now, sum(len(raw[3]) for lane in lanes for raw in lane._received)
    return now
