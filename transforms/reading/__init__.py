"""Reading a source, from a broker to claimed batches, without Beam: :mod:`transforms.reading.shard`."""
