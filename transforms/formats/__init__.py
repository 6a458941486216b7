"""File formats of the lake, one module each, found by name.

A format's module is its name, which is also the extension of its files. It offers

``encode(table) -> bytes | memoryview | pa.Buffer``
    ``table`` has ``FILE_SCHEMA``. Equal rows give equal bytes: no clock, no host, no random.
``decode(data) -> pa.Table``
    The inverse, exactly: null stays null, empty stays empty, every byte and every repeat stays.
    ``data`` is bytes-like. Raises ``PermanentError`` on data that is not a whole file of this format.
``read_rows(file, rows) -> pa.Table``
    Rows of a ``transforms.lake.LakeFile`` by position from 0 (a strictly ascending numpy int64
    array), in that order, fetching no more than it must. Raises ``PermanentError`` for a
    position behind the last row, ``ObjectMissingError`` and ``TransientError`` from the lake.
``bounds(file) -> transforms.formats._common.Bounds``
    How many messages the file holds, and between which bounds; raises as ``read_rows``.
"""
