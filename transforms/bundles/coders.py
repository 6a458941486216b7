"""Coders of the elements between our transforms, which know an element's size without encoding it.

Beam asks for the size of the first ten elements of a bundle (``apache_beam.runners.worker.opcounters``),
which is nearly all of them if an element is a batch. A coder that pickles them to find out costs a tenth
of the rate.
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
"""An element with one table, which makes up nearly all of its size."""


def carrying(transform: beam.ParDo, kind: type[Any], **tagged: type[Any]) -> beam.ParDo:
    """A transform with the types of its outputs (main first), each coded by :class:`CarrierCoder`."""
    for one in (kind, *tagged.values()):
        beam.coders.registry.register_coder(one, CarrierCoder)
    return transform.with_output_types(kind, **tagged)


class CarrierCoder(Coder):
    """Pickles a :data:`Carrier`, for runners that pass it to another process."""

    def encode(self, value: Carrier) -> bytes:
        """The pickled value."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Carrier:
        """The decoded value, encoded by a worker of the same job."""
        value: Carrier = pickle.loads(encoded)  # noqa: S301 - from one of our own processes
        return value

    def estimate_size(self, value: Carrier) -> int:
        """Bytes of the table."""
        return int(_table(value).nbytes)

    def is_deterministic(self) -> bool:
        """False: these are never grouping keys."""
        return False


def _table(value: Carrier) -> pa.Table:
    if isinstance(value, Batch | DeadLetter):
        return value.messages
    return value.entries if isinstance(value, WrittenFile) else value
