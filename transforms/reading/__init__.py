"""Reads a source, from a broker to claimed batches, without Beam; see :mod:`transforms.reading.shard`."""
