"""Reports the end of each resubmission to an address of the operator: signed, and until it is accepted."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from resubmit_api.settings import ApiSettings
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.leases import UnknownJobError, change
from transforms.jobs.rows import ENDED, at
from transforms.replay.plans import new_job_id
from transforms.secrets import resolve

__all__ = ["SIGNATURE", "Webhook", "open_webhook", "signature"]

SIGNATURE = "Persistor-Signature"
_TIMEOUTS = (5.0, 10.0)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 600.0
_GIVE_UP_AFTER = 86_400.0
_LOOKED_FOR_EVERY = 3600.0
_OLDEST = 30 * 86_400.0
_PAGE = 200
_SHORTEST_SECRET = 32
_FIELDS = (
    "id", "state", "reason", "mode", "requested_by", "note", "created", "started", "finished",
    "destination", "topic", "retry_of",
)  # fmt: skip
_COUNTS = ("planned", "published", "failed")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Due:
    when: float
    pause: float


class Webhook:
    """Sends a request for each ended job that is marked as due; thread-safe.

    Delivery: at least once. The mark is in the job's row, so what a process that died has not reported is
    found by a replica when it starts, or within an hour. A failed request is repeated with growing pauses
    for a day.
    """

    def __init__(self, url: str, secret: str, index: Callable[[], Index]) -> None:
        self._url, self._secret, self._index = url, secret.encode(), index
        self._due: dict[str, _Due] = {}
        self._lock = threading.Lock()
        self._looked = float("-inf")

    def put(self, row: Row) -> None:
        """Report the end of a job soon."""
        if row["state"] in ENDED and row.get("notify") == "due":
            with self._lock:
                self._due.setdefault(row["id"], _Due(time.monotonic(), _FIRST_PAUSE))

    def run(self) -> None:
        """Send what is due. Raises ``TransientError`` if the index does not answer."""
        now = time.monotonic()
        if now - self._looked >= _LOOKED_FOR_EVERY:
            self._find_left()
            self._looked = now
        for id, due in list(self._due.items()):
            if due.when <= now:
                self._report(id, due)

    def _find_left(self) -> None:
        before, oldest = None, new_job_id(_OLDEST)
        while rows := self._index().list_jobs(_PAGE, before, sorted(ENDED)):
            for row in rows:
                self.put(row)
            before = rows[-1]["id"]
            if before < oldest:
                return

    def _report(self, id: str, due: _Due) -> None:
        row = self._index().get_job(id)
        if row is None or row["state"] not in ENDED or row.get("notify") != "due":
            self._forget(id)  # another replica has reported it, or it was resumed
            return
        trouble = self._send(row)
        if trouble is None or (row["finished"] or "") < at(-_GIVE_UP_AFTER):
            self._settle(row, trouble)
            return
        _log.warning("The webhook of job %s is repeated in %.0f s: %s", id, due.pause, trouble)
        with self._lock:
            pause = min(due.pause * 2, _LONGEST_PAUSE)
            self._due[id] = _Due(time.monotonic() + due.pause, pause)

    def _send(self, row: Row) -> str | None:
        """Why the request was not accepted, or None."""
        body = json.dumps(_content(row)).encode()
        headers = {
            "Content-Type": "application/json",
            "Persistor-Delivery": f"{row['id']}-{row['version']}",
            SIGNATURE: signature(self._secret, int(time.time()), body),
        }
        try:
            with requests.post(
                self._url, body, headers=headers, timeout=_TIMEOUTS, allow_redirects=False, stream=True
            ) as answer:
                return None if answer.status_code // 100 == 2 else f"it answers {answer.status_code}"
        except requests.RequestException as error:
            return f"it does not answer ({type(error).__name__})"

    def _settle(self, row: Row, trouble: str | None) -> None:
        if trouble is not None:
            _log.error("The webhook of job %s is given up: %s", row["id"], trouble)

        outcome: Any = "sent" if trouble is None else "failed"

        def settled(found: Row) -> Row:
            # A job that was resumed meanwhile will end again.
            return {**found, "notify": outcome} if found["state"] in ENDED else found

        with contextlib.suppress(UnknownJobError):  # the index was created anew
            change(self._index(), row["id"], settled)
        self._forget(row["id"])

    def _forget(self, id: str) -> None:
        with self._lock:
            self._due.pop(id, None)


def open_webhook(settings: ApiSettings, index: Callable[[], Index]) -> Webhook | None:
    """The webhook of the settings, or None.

    Raises:
        ConfigurationError: the address or the secret cannot be used.
    """
    if settings.webhook is None:
        return None
    url = resolve(settings.webhook, "`webhook`")
    secret = resolve(settings.webhook_secret or "", "`webhook_secret`")
    problems = []
    if not url.startswith(("https://", "http://")):
        problems.append("`webhook`: write an address that begins with https:// or http://.")
    if len(secret) < _SHORTEST_SECRET:
        problems.append(
            f"`webhook_secret`: give {_SHORTEST_SECRET} characters or more: ${{file:PATH}} or ${{env:NAME}}."
        )
    if problems:
        raise ConfigurationError(problems)
    return Webhook(url, secret, index)


def signature(secret: bytes, time: int, body: bytes) -> str:
    """The header that proves who sent a body, and when: HMAC-SHA256 of ``TIME.BODY``."""
    digest = hmac.new(secret, b"%d.%b" % (time, body), hashlib.sha256).hexdigest()
    return f"t={time},v1={digest}"


def _content(row: Row) -> Mapping[str, object]:
    counts = {name: row["progress"][name] for name in _COUNTS}  # type: ignore[literal-required]
    return {name: row.get(name) for name in _FIELDS} | counts
