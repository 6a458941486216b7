"""The places of a replica."""

from __future__ import annotations

from typing import Any

from resubmit_api.jobs.places import Places
from transforms.job_row import Row
from transforms.jobs.rows import UNLIMITED, new_row
from transforms.replay.options import Options
from transforms.selection import Selection

LIMITED = {"messages_per_second": 10.0, "bytes_per_second": None}


def a_job(destination: str, rate: Any = UNLIMITED, **values: Any) -> Row:
    given: dict[str, Any] = {"selection": Selection(all=True), "options": Options(), "requested_by": None}
    return new_row(destination=destination, topic="t", rate=rate, **given, **values)


def test_each_destination_has_places_of_its_own() -> None:
    places = Places(2, 16)
    first = a_job("a")
    assert [places.take(job) for job in (first, a_job("a"))] == [None, None]
    assert places.take(a_job("a")) == "Destination a has no free place (jobs at a time: 2)."
    assert places.take(a_job("b")) is None
    places.leave(first["id"])
    assert places.take(a_job("a")) is None


def test_what_has_a_rate_limit_or_waits_for_a_server_takes_no_place_of_its_destination() -> None:
    places = Places(1, 16)
    job = a_job("a")
    assert [places.take(one) for one in (a_job("a", LIMITED), job, a_job("a", LIMITED))] == [None] * 3
    assert places.take(a_job("a")) is not None
    places.mark({**job, "reason": "Waiting to try again: it does not answer"})
    assert places.take(a_job("a")) is None


def test_processes_are_bounded_and_a_destination_without_any_may_always_begin_one() -> None:
    places = Places(4, 3)
    assert [places.take(a_job("a", LIMITED)) for _ in range(3)] == [None] * 3
    assert places.take(a_job("a", LIMITED)) == "The service has no free place (jobs at a time: 3)."
    assert places.take(a_job("b")) is None
    assert places.take(a_job("b")) == "The service has no free place (jobs at a time: 3)."
