"""What passes between the transforms of the streaming jobs tells its size without being pickled."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.pvalue import PCollection

from pipelines import index, persist
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import IndexSettings, PersistSettings
from tests._messages import row, table
from transforms.bundles.coders import Carrier, CarrierCoder
from transforms.model import Batch, DeadLetter, Layout, WrittenFile

ROWS = table(*[row(offset=n, data=bytes(1000)) for n in range(100)], sums=True)
BATCH = Batch("orders", 1, 0, ROWS, "orders-0-0", Layout(), "count")
FILE = WrittenFile("file:///lake/a.parquet", "orders", 1, 100, 1, ROWS)


@pytest.mark.parametrize("value", [BATCH, FILE, DeadLetter("orders", "write", "permanent", "", ROWS), ROWS])
def test_a_table_comes_back_whole_and_its_size_is_that_of_its_columns(value: Carrier) -> None:
    coder = CarrierCoder()
    assert coder.decode(coder.encode(value)) == value
    assert coder.estimate_size(value) == ROWS.nbytes > 100_000


def collections(pipeline: beam.Pipeline) -> Iterator[PCollection]:
    waiting = [pipeline._root_transform()]
    while waiting:
        part = waiting.pop()
        waiting += part.parts
        yield from part.outputs.values()


def test_every_batch_file_and_dead_letter_of_the_jobs_has_that_coder() -> None:
    places = ["--dead_letter=kafka://broker:9092/dead", "--metadata=kafka://broker:9092/meta"]
    archiving, _ = parse(PersistSettings, ["--source=kafka://broker:9092/a", "--lake=file:///l", *places])
    indexing, _ = parse(IndexSettings, ["--index=mongodb://mongo/persistor", *places])
    found = []
    for build, settings in ((persist.build, archiving), (index.build, indexing)):
        pipeline = beam.Pipeline()
        build(pipeline, settings, [0], 1)
        for collection in collections(pipeline):
            kind = collection.element_type
            if kind in {Batch, WrittenFile, DeadLetter, pa.Table}:
                assert isinstance(beam.coders.registry.get_coder(kind), CarrierCoder)
                found.append(kind)
    assert set(found) == {Batch, WrittenFile, DeadLetter, pa.Table}
