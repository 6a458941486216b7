"""Leases of jobs: who may take one, and when its holder counts as gone."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import wait_until
from tests.unit.test_jobs import GONE, job
from transforms.indexes import Index, sqlite
from transforms.jobs.actions import create
from transforms.jobs.leases import HeldError, change, held_by, take
from transforms.jobs.rows import at


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = sqlite.open(f"sqlite://{tmp_path}/index.db")
    yield opened
    opened.close()


def test_a_lease_is_taken_when_it_is_free_or_run_out_or_meant_for_this_process(index: Index) -> None:
    id = create(index, job(), "resubmit")["id"]
    assert take(index, id, "a:1:x")["lease"]["owner"] == "a:1:x"
    assert take(index, id, "a:1:x", lambda row: {**row, "reason": "its own"})["reason"] == "its own"
    change(index, id, lambda row: {**row, "reason": None})
    with pytest.raises(HeldError, match=r"Process a:1 is working on job .*: pause it first"):
        take(index, id, "b:1:x")
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    change(index, id, lambda row: held_by({**row, "run": here}, "a:1:x", launching=True))
    assert take(index, id, "b:1:x", lambda row: {**row, "reason": "not for us"})["reason"] is None
    change(index, id, lambda row: {**row, "lease": GONE})
    assert take(index, id, "c:1:x", lambda row: {**row, "reason": "begun again"})["reason"] == "begun again"


def test_a_lease_of_a_host_whose_clock_is_behind_is_not_taken_while_it_is_renewed(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.jobs.leases.LEASE_SECONDS", 1.5)
    id, ended = create(index, job(), "resubmit")["id"], threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(0.1):
            beat += 1
            lease = {"owner": "elsewhere:1:x", "until": at(beat - 36_000)}
            change(index, id, lambda row: {**row, "lease": lease})  # noqa: B023

    holder = threading.Thread(target=renew)
    holder.start()
    wait_until(lambda: (index.get_job(id) or {})["lease"], 60, "it to be held")
    with pytest.raises(HeldError):
        take(index, id, "b:1:x", patience=4.0)
    ended.set()
    holder.join()
    assert take(index, id, "b:1:x", patience=60.0)["lease"]["owner"] == "b:1:x"
