"""Records of refused requests, written to the audit trail by a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from transforms.errors import PersistorError
from transforms.indexes import Index
from transforms.retry import retry

__all__ = ["Refusals"]

_MOST = 1000
_CLOSED_WITHIN = 5.0
"""Seconds to wait at the end for an index that does not answer."""
_log = logging.getLogger(__name__)


class Refusals:
    """A bounded queue before the audit trail; thread-safe.

    A refused request has changed nothing, so its response does not wait for the index. What comes while the
    queue is full is counted and not recorded; what is in it when the process is killed is lost.
    """

    def __init__(self, index: Callable[[], Index], dropped: Callable[[], None]) -> None:
        """Write to the audit trail of ``index``; ``dropped`` is called for each record that is lost."""
        self._index, self._dropped = index, dropped
        self._records: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MOST)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="refusals", daemon=True)
        self._thread.start()

    def put(self, record: Mapping[str, Any]) -> None:
        """Have a record written soon; never waits."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped()

    def close(self) -> None:
        """Write what is left, while the index answers."""
        self._closing.set()
        try:
            self._records.put_nowait(None)
        except queue.Full:
            return  # the thread ends with the process
        self._thread.join(_CLOSED_WITHIN)

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                self._append(record)
            except PersistorError as error:
                _log.warning("A refused request is not in the audit trail: %s", error)
                self._dropped()

    def _append(self, record: Mapping[str, Any]) -> None:
        what = "write a refused request to the audit trail"
        retry(lambda: self._index().append_audit(record), what, stopped=self._closing.is_set)
