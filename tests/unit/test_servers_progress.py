"""What fetching the tests' servers shows meanwhile."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from tests.servers import SERVERS, Unavailable
from tests.servers import __main__ as fetching


@dataclass(frozen=True)
class _Toy:
    name: str
    ready: threading.Event = field(default_factory=threading.Event)

    def install(self) -> None:
        if self.name == "rare":
            raise Unavailable("rare is not on this machine", "sudo apt-get install rare")
        assert self.ready.wait(30)


def test_what_takes_long_what_is_missing_and_how_far_it_is_are_shown() -> None:
    there, slow, rare = _Toy("there"), _Toy("slow"), _Toy("rare")
    there.ready.set()
    lines = fetching.Fetching({slow: 50, there: 10, rare: 5}, still=0.2).lines()
    assert next(lines) == (
        f"The tests need 3 servers and programs in {SERVERS}; what is missing is fetched now."
    )
    assert next(lines) == "2 of 3: rare cannot be had"
    assert re.fullmatch(r"2 of 3: fetching or building slow for \d+ s \(usually 50 s\)", next(lines))
    slow.ready.set()
    missing = "rare is not on this machine; install it with: sudo apt-get install rare"
    assert list(lines)[-2:] == [f"rare is missing, its tests will be skipped: {missing}", "2 of 3 are ready."]


def test_each_of_the_two_lists_names_a_server_once() -> None:
    for servers in (fetching.TESTS, fetching.DEPLOY):
        names = [server.name for server in servers]
        assert len(names) == len(set(names))
