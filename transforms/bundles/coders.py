"""Coders of what passes between our transforms, which know its size without making its bytes.

Beam asks for the size of the first ten elements of a bundle (``apache_beam.runners.worker.opcounters``),
which are about all that there are where an element is a batch. A coder that pickles them to find out
costs a tenth of the rate.
"""

from __future__ import annotations

import pickle
from typing import Any, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import Coder

from transforms.model import Batch, DeadLetter, WrittenFile

__all__ = ["Carrier", "CarrierCoder", "carrying"]

Carrier: TypeAlias = Batch | WrittenFile | DeadLetter | pa.Table
"""What holds one table, which is about all of its size."""


def carrying(transform: beam.ParDo, kind: type[Any], **tagged: type[Any]) -> beam.ParDo:
    """A transform with the types of its outputs, the main one first, each coded by :class:`CarrierCoder`."""
    for one in (kind, *tagged.values()):
        beam.coders.registry.register_coder(one, CarrierCoder)
    return transform.with_output_types(kind, **tagged)


class CarrierCoder(Coder):
    """Pickles a :data:`Carrier`, for runners that hand it to another process."""

    def encode(self, value: Carrier) -> bytes:
        """The pickled value."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Carrier:
        """What was encoded, by a worker of the same job."""
        value: Carrier = pickle.loads(encoded)  # noqa: S301 - from one of our own processes to another
        return value

    def estimate_size(self, value: Carrier) -> int:
        """Bytes of the table."""
        return int(_table(value).nbytes)

    def is_deterministic(self) -> bool:
        """False: nothing is grouped by these."""
        return False


def _table(value: Carrier) -> pa.Table:
    if isinstance(value, Batch | DeadLetter):
        return value.messages
    return value.entries if isinstance(value, WrittenFile) else value
