"""NATS JetStream: read streams by sequence, publish with every message confirmed.

URL: ``nats://HOST:4222[,HOST…]/SUBJECT[,SUBJECT…]``. A source's subjects may hold ``*`` and ``>``,
a destination is one subject. Settings: see ``connection.SETTINGS``.

**Partition**: a subject filter on the one stream that holds it; ``number`` is 0, the offset is the
stream's sequence. A filter wider than a stream gives one partition for each of the stream's own
subjects, so that ``>`` reads every stream, and new ones when they appear, under names that stay.
Subjects that begin with ``$`` are read only where the filter begins so.

**Reading** goes through an ephemeral consumer without acknowledgements from the position on, checked
for holes by its own count of deliveries. It leaves nothing to share, so two readers of one source see
all messages each. **Progress** is the ack floor of a durable consumer ``<group>-<subject>-<checksum>``:

* limits and interest retention: ``acknowledge`` resets it to the position (nats-server 2.14 and newer;
  before, it is created anew, and interest retention is refused). On an interest stream it is what
  keeps messages until they are archived, so it is never deleted.
* work queues allow one consumer only: messages are read through the durable itself and each one below
  the position is acknowledged, which removes it. Opening begins again with all that is left, in order;
  a second reader of the same queue is noticed by the count of deliveries, and both begin again.

**Gaps**: where limits have removed sequences below the position, ``OffsetGapError`` is raised. Streams
do not say whose messages those were: with other subjects in the stream it may be a false alarm.

**Not carried**: key, null data, null header values, line breaks in headers, the publish time.
**Identity** is JetStream's domain and the account: all else may change while the data stays. Plain
servers without either look alike; there the creation time identifies a re-created or other stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transforms.brokers import AHEAD, Publisher, Reader
from transforms.brokers.nats.publisher import NatsPublisher
from transforms.brokers.nats.reader import NatsReader

__all__ = ["open_publisher", "open_reader"]


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),
    group: str,
    exclude: Sequence[str] = (),
    memory: int = AHEAD,
) -> Reader:
    """See :mod:`transforms.brokers`."""
    return NatsReader(url, config, shard, group, exclude, memory=memory)


def open_publisher(url: str, config: Mapping[str, str], *, name: str | None = None) -> Publisher:
    """See :mod:`transforms.brokers`. Without a name, repeats are known only to this publisher."""
    return NatsPublisher(url, config, name)
