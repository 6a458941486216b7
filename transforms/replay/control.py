"""The control object of a job in the lake: passes the wish to its lanes, which need no index."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Literal

from transforms.errors import PermanentError, TransientError
from transforms.lake import Lake, ObjectMissingError
from transforms.replay.plans import folder
from transforms.stored import dump, load_as

__all__ = ["LOOK_EVERY", "Control", "Wish", "last_version", "write_control"]

LOOK_EVERY = 1.0
"""Seconds after which a new wish takes effect."""
_FIRST_LOOK = 5.0
"""Seconds that a lake may take to say what is wished at first; then the job runs as it was wished last."""
_LEFT_AFTER = 10.0
"""Seconds without a question after which a job is not followed any more."""


@dataclass(frozen=True)
class Wish:
    """The desired state of a job's lanes.

    Attributes:
        state: ``run``, or ``pause`` or ``cancel`` to end early; a lane treats both alike.
        messages_per_second: limit for the whole job; None is unlimited.
        bytes_per_second: limit for the whole job, in bytes of ``size`` in the index.
    """

    state: Literal["run", "pause", "cancel"] = "run"
    messages_per_second: float | None = None
    bytes_per_second: float | None = None


def write_control(lake: Lake, job: str, wish: Wish, version: int) -> None:
    """Write a wish for a job's lanes; they follow it within about a second.

    Args:
        lake: holds the job's plan.
        job: its id.
        wish: replaces every wish of a lower version.
        version: increases with each wish; the first wish of a version stays.

    Raises:
        TransientError: the lake does not answer.
    """
    prefix = f"{folder(job)}/control"
    path = f"{prefix}/{version:012d}.json"
    lake.put_new(path, dump(asdict(wish)).encode())
    for older, _ in lake.list(prefix):
        if older < path:
            lake.delete(older)


def last_version(lake: Lake, job: str) -> int:
    """The version of the latest control object written for a job; 0 if there is none.

    Raises:
        TransientError: the lake does not answer.
    """
    paths = (path for path, _ in lake.list(f"{folder(job)}/control"))
    return max((int(path.rpartition("/")[2].removesuffix(".json")) for path in paths), default=0)


class Control:
    """The wish of the highest version. Thread-safe; a thread of its own asks the lake once a second.

    Who asks may hold a transaction open, which must not wait for a lake that hangs.
    """

    def __init__(self, lake: Lake, job: str) -> None:
        """Follow a job whose plan lies in the lake, for as long as anybody asks."""
        self._lake, self._job = lake, job
        self._lock = threading.Lock()
        self._path, self._wish = "", Wish()
        self._refused: PermanentError | None = None
        self._asked = 0.0
        self._looked: threading.Event | None = None

    def wish(self) -> Wish:
        """What is wished now, or was wished last where the lake is away; waits only the first time.

        Raises:
            PermanentError: what is wished is damaged, or of a newer release.
        """
        with self._lock:
            self._asked = time.monotonic()
            if self._looked is None:
                self._looked = threading.Event()
                name = f"control-{self._job}"
                threading.Thread(target=self._follow, args=(self._looked,), name=name, daemon=True).start()
            looked = self._looked
        looked.wait(_FIRST_LOOK)
        if self._refused is not None:
            raise self._refused
        return self._wish

    def _follow(self, looked: threading.Event) -> None:
        while not self._is_left():
            self._look()
            looked.set()
            time.sleep(LOOK_EVERY)

    def _is_left(self) -> bool:
        """Whether nobody has asked for a while; the next who does begins to follow anew."""
        with self._lock:
            left = time.monotonic() - self._asked > _LEFT_AFTER
            if left:
                self._looked = None
            return left

    def _look(self) -> None:
        try:
            newest = max((path for path, _ in self._lake.list(f"{folder(self._job)}/control")), default="")
            if newest > self._path:
                self._wish = load_as(Wish, self._lake.get(newest), self._lake.location(newest))
                self._path = newest
        except (TransientError, ObjectMissingError):
            return  # a newer one replaced it after it was listed, or the next read finds out
        except PermanentError as error:
            self._refused = error
