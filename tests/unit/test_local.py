"""The parent of several processes waits for them as long as they are there, and no longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from pipelines import local


class _Ending:
    """A process that ends right after it was seen to run."""

    def __init__(self, sentinel: int) -> None:
        self.sentinel = sentinel
        self._asked = 0

    @property
    def exitcode(self) -> int | None:
        self._asked += 1
        return None if self._asked == 1 else 0


@pytest.fixture
def ended() -> Iterator[int]:
    """The sentinel of a process that has ended."""
    reading, writing = os.pipe()
    os.close(writing)
    yield reading
    os.close(reading)


def test_a_process_that_ends_while_it_is_asked_for_is_not_waited_for(ended: int) -> None:
    waiting = threading.Thread(target=local._wait, args=([_Ending(ended)],), daemon=True)
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
