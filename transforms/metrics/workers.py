"""Serves the Prometheus metrics of a cluster's workers; on one machine the command itself does."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from transforms import metrics
from transforms.metrics import host

__all__ = ["PORTS", "Exposition"]

PORTS = 10
"""Number of ports, from the first one on, that the workers of one machine may use."""

_RETRY_SECONDS = 5.0
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_serving: list[Exposition] = []


@dataclass(frozen=True)
class Exposition:
    """Where the workers of a job serve their metrics, and which hosts and files they watch.

    Attributes:
        command: the job's command, such as ``persist``.
        host: address to listen on.
        port: the first of ``PORTS`` ports; 0 serves nothing.
        urls: URLs the job connects to, see :func:`transforms.metrics.host.watch`.
        configs: settings of its clients.
    """

    command: str
    host: str
    port: int
    urls: Sequence[str] = ()
    configs: Sequence[Mapping[str, str]] = ()

    def begin(self) -> None:
        """Start serving from this process, once per process. It neither waits nor raises.

        The process takes the first free port, and moves to a lower one once that is free. The workers of a
        machine therefore use its first ports, whichever was killed or restarted.
        """
        with _lock:
            if self.port == 0 or _serving:
                return
            _serving.append(self)
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def _serve(self) -> None:
        host.watch(self.command, self.urls, self.configs)
        wanted = range(self.port, min(self.port + PORTS, 2**16))
        held = self._first(wanted)
        if held is None:
            _log.warning(
                "No metrics yet: none of the ports %d to %d is free.", self.port, self.port + PORTS - 1
            )
        while held is None or held.server_port != self.port:
            time.sleep(_RETRY_SECONDS)
            better = self._first(wanted if held is None else range(self.port, held.server_port))
            if better is not None and held is not None:
                held.shutdown()
                held.server_close()
            held = better or held

    def _first(self, ports: Iterable[int]) -> WSGIServer | None:
        for port in ports:
            with contextlib.suppress(OSError):
                return metrics.listen(port, self.host)
        return None
