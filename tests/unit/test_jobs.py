"""Jobs without a process: what may follow what, and who may work on them. On SQLite and a lake of files."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import wait_until
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index, sqlite
from transforms.job_row import Row
from transforms.jobs import states
from transforms.jobs.actions import act, create, retry_of
from transforms.jobs.keeper import Keeper
from transforms.jobs.leases import UnknownJobError, change, held_by, new_owner
from transforms.jobs.rows import at, finished, new_row, wish_of
from transforms.jobs.states import WrongStateError
from transforms.lake import Lake
from transforms.replay import Options, Report
from transforms.retry import retry
from transforms.selection import Selection

GONE = {"owner": f"{socket.gethostname()}:1:x", "until": "2026-01-01T00:00:00.000000Z"}
HELD = {**GONE, "until": "9999-01-01T00:00:00.000000Z"}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = sqlite.open(f"sqlite://{tmp_path}/index.db")
    yield opened
    opened.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


def job(**values: Any) -> Row:
    row = new_row(
        destination="main",
        topic="copy",
        selection=Selection(all=True),
        options=Options(),
        requested_by="ann",
    )
    return {**row, **values}


def progress(planned: int, published: int, failed: int) -> dict[str, Any]:
    counts = {"planned": planned, "published": published, "failed": failed}
    plan = {"problems": [], "sources": [], "messages": planned}
    return {"plan": plan, "progress": counts}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"state": "PLANNED"}, ["cancel"]),
        ({"state": "PLANNED", "plan": {"problems": []}}, ["run", "cancel"]),
        ({"state": "PLANNED", "plan": {"problems": ["no"]}}, ["cancel"]),
        ({"state": "RUNNING"}, ["pause", "cancel", "rate"]),
        ({"state": "RUNNING", "mode": "inline"}, []),
        ({"state": "PAUSED"}, ["resume", "cancel", "rate"]),
        ({"state": "PAUSED", "destination": "kafka://host"}, ["cancel", "rate"]),
        ({"state": "PLANNED", "plan": {"problems": []}, "destination": "kafka://host"}, ["cancel"]),
        ({"state": "FAILED", **progress(9, 5, 1), "destination": "kafka://host"}, []),
        ({"state": "FAILED", **progress(9, 8, 1), "destination": "kafka://host"}, ["retry"]),
        ({"state": "CANCELLING"}, []),
        ({"state": "CANCELLING", "destination": "kafka://host", "lease": GONE}, ["cancel"]),
        ({"state": "CANCELLING", "destination": "kafka://host", "lease": HELD}, []),
        ({"state": "CANCELLED", **progress(9, 5, 0)}, []),
        ({"state": "CANCELLED", **progress(9, 5, 1)}, ["retry"]),
        ({"state": "COMPLETED", **progress(9, 9, 0)}, []),
        ({"state": "FAILED"}, ["resume"]),
        ({"state": "FAILED", **progress(9, 8, 1)}, ["retry"]),
        ({"state": "FAILED", **progress(9, 5, 1)}, ["resume"]),
        ({"state": "FAILED", **progress(9, 8, 1), "retried_by": "x"}, []),
        ({"state": "FAILED", **progress(9, 8, 1), "cleared": "2026-01-01"}, []),
        ({"state": "FAILED", **progress(9, 8, 1), "mode": "inline", "errors": [{}]}, ["retry"]),
        ({"state": "FAILED", **progress(900, 0, 900), "mode": "inline", "errors": [{}] * 100}, []),
    ],
)
def test_a_state_says_what_is_possible(values: dict[str, Any], expected: list[str]) -> None:
    row = job(**values)
    assert states.possible(row) == expected
    acts = {"pause": states.pause, "resume": states.resume, "cancel": states.cancel}
    for name, ask in acts.items():
        if name in expected:
            assert ask(row)["state"] in {"PAUSED", "RUNNING", "CANCELLED", "CANCELLING"}
        else:
            with pytest.raises(WrongStateError) as refused:
                ask(row)
            assert refused.value.possible == expected


@pytest.mark.parametrize(
    ("values", "act", "how"),
    [
        ({"state": "PLANNED", "plan": {"problems": []}}, lambda row: states.run(row, "ann"), "`plan: j`"),
        ({"state": "PAUSED"}, states.resume, "`resume: j`"),
        ({"state": "FAILED", **progress(9, 5, 1)}, states.resume, "`resume: j`"),
    ],
)
def test_what_only_the_command_can_do_with_its_jobs_is_refused_with_the_command(
    values: dict[str, Any], act: Any, how: str
) -> None:
    with pytest.raises(WrongStateError) as refused:
        act(job(id="j", destination="kafka://host", **values))
    told = str(refused.value)
    assert told.startswith(f"The resubmission is the command's own: persistor resubmit {how} does that;")
    assert refused.value.exit_code == 2


def test_the_command_runs_plans_of_the_service_too_and_only_plans() -> None:
    ready = {"state": "PLANNED", "plan": {"problems": []}}
    for destination in ("main", "kafka://host"):
        assert states.begin(job(destination=destination, **ready), "bob")["requested_by"] == "bob"
    for values in ({"state": "PLANNED"}, {**ready, "plan": {"problems": ["no"]}}, {"state": "COMPLETED"}):
        with pytest.raises(WrongStateError):
            states.begin(job(**values), "bob")
    with pytest.raises(ConfigurationError, match="is a plan: run it with `plan: j`"):
        states.begin_again(job(id="j", **ready))


def test_nothing_can_be_asked_of_a_plan_that_could_not_be_made(index: Index, lake: Lake) -> None:
    for state, destination in (("PLANNED", "main"), ("PLANNED", "kafka://host"), ("CANCELLING", "main")):
        id = create(index, job(state=state, destination=destination), "plan")["id"]
        keeper = Keeper(index, lake, id, on_lost=lambda: None)
        keeper.take()
        with pytest.raises(ConfigurationError), keeper:
            raise ConfigurationError("no such topic")
        row = index.get_job(id) or {}
        assert (row["state"], row["reason"], states.possible(row)) == ("FAILED", "no such topic", [])
        assert states.command_for(row, "resume") is None
        with pytest.raises(ConfigurationError, match="has ended for good: start a new one"):
            states.begin_again(row)


def test_what_is_cleared_is_not_begun_again() -> None:
    old = job(id="j", state="COMPLETED", **progress(9, 9, 0), cleared="2026-01-01")
    with pytest.raises(ConfigurationError, match="Job j has ended for good"):
        states.begin_again(old)
    assert states.begin_again({**old, "cleared": None})["state"] == "RUNNING"


def test_a_retry_whose_asker_died_in_between_is_made_by_the_next_one(index: Index) -> None:
    id = create(index, job(state="FAILED", **progress(9, 8, 1)), "resubmit")["id"]
    first = retry_of(index, id, "ann")
    again = retry_of(index, id, "bob")
    assert (again["id"], again["retry_of"], again["state"]) == (first["id"], id, "RUNNING")
    create(index, again, "retry")
    assert [record["action"] for record in index.list_audit(9)] == ["retry", "resubmit"]
    with pytest.raises(WrongStateError):
        retry_of(index, id, "ann")


@pytest.mark.parametrize("told", [True, False])
def test_a_retry_that_was_cancelled_before_it_sent_anything_gives_way_to_another(
    index: Index, told: bool
) -> None:
    id = create(index, job(state="FAILED", **progress(9, 7, 2)), "resubmit")["id"]
    first = create(index, {**retry_of(index, id, "ann"), "state": "PAUSED"}, "retry")
    if told:
        act(index, first["id"], "cancel", states.cancel, "ann")
    else:  # who cancelled it died before the other job was told
        change(index, first["id"], states.cancel)
    assert states.possible(index.get_job(id) or {}) == (["retry"] if told else [])
    second = create(index, retry_of(index, id, "ann"), "retry")
    assert ((index.get_job(id) or {})["retried_by"], second["retry_of"]) == (second["id"], id)
    assert second["id"] != first["id"]
    act(index, second["id"], "cancel", states.cancel, "ann")
    with pytest.raises(WrongStateError):
        retry_of(index, id, "ann")  # it is not known yet what that one has sent


@pytest.mark.parametrize(("published", "possible"), [(0, ["retry"]), (1, [])])
def test_a_retry_whose_lanes_end_cancelled_gives_way_where_they_sent_nothing(
    index: Index, lake: Lake, published: int, possible: list[str]
) -> None:
    id = create(index, job(state="FAILED", **progress(9, 7, 2)), "resubmit")["id"]
    again = create(index, {**retry_of(index, id, "ann"), **progress(2, 0, 0)}, "retry")
    keeper = Keeper(index, lake, again["id"], on_lost=lambda: None)
    keeper.take()
    with keeper:
        change(index, again["id"], states.cancel)
        row = keeper.finish(Report(planned=2, published=published)) or {}
    assert (row["state"], states.possible(index.get_job(id) or {})) == ("CANCELLED", possible)


def test_a_retry_that_gave_way_is_not_tried_again_itself() -> None:
    values = {"state": "CANCELLED", "retry_of": "x"}
    assert states.possible(job(**values, **progress(9, 0, 1))) == []
    assert states.possible(job(**values, **progress(9, 1, 1))) == ["retry"]


def test_a_job_that_nobody_works_on_is_cancelled_at_once() -> None:
    assert states.cancel(job(state="PAUSED"))["state"] == "CANCELLED"
    assert states.cancel(job(state="PAUSED", lease=GONE))["state"] == "CANCELLED"
    assert states.cancel(held_by(job(state="PAUSED"), "a:1:x"))["state"] == "CANCELLING"
    assert states.cancel(job(state="RUNNING"))["state"] == "CANCELLING"


def test_a_job_of_the_command_whose_process_is_gone_is_cancelled_without_the_service(index: Index) -> None:
    id = create(index, job(destination="kafka://host", lease=HELD, **progress(9, 5, 0)), "resubmit")["id"]
    assert change(index, id, states.cancel)["state"] == "CANCELLING"
    change(index, id, lambda row: {**row, "lease": GONE})  # killed before it heard that
    row = change(index, id, states.cancel)
    assert (row["state"], row["reason"], states.possible(row)) == ("CANCELLED", "It was cancelled.", [])
    assert row["progress"] == {"planned": 9, "published": 5, "failed": 0, "rate": None, "seconds_left": None}
    at_once = states.cancel(job(destination="kafka://host", lease=GONE))
    assert (at_once["state"], wish_of(at_once).state) == ("CANCELLED", "cancel")


@pytest.mark.parametrize(
    ("state", "stopped", "expected"),
    [
        ("RUNNING", False, "RUNNING"),
        ("RUNNING", True, "RUNNING"),
        ("PAUSED", False, "PAUSED"),
        ("CANCELLING", True, "CANCELLED"),
    ],
)
def test_lanes_that_ended_early_leave_the_state_that_was_wished(
    state: str, stopped: bool, expected: str
) -> None:
    row = {**held_by(job(state=state), "a:1:x"), **progress(9, 0, 0)}
    after = finished(row, Report(planned=9, published=4, already_published=1), stopped=stopped)
    assert (after["state"], after["lease"], after["progress"]["published"]) == (expected, None, 5)


def test_all_that_is_dealt_with_ends_the_job_whatever_was_wished() -> None:
    row = {**job(state="CANCELLING"), **progress(9, 0, 0)}
    assert finished(row, Report(planned=9, published=9))["state"] == "COMPLETED"
    failed = finished(row, Report(planned=9, published=8, failed={"missing": 1}))
    assert (failed["state"], failed["reason"]) == ("FAILED", "1 of 9 messages were not published.")


def test_every_change_is_kept_when_many_make_them(index: Index) -> None:
    id = create(index, job(attempts=0), "resubmit")["id"]

    def work() -> None:
        for _ in range(20):
            change(index, id, lambda row: {**row, "attempts": row["attempts"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (index.get_job(id) or {})["attempts"] == 80
    with pytest.raises(UnknownJobError):
        change(index, "none", lambda row: row)


def test_a_keeper_renews_its_lease_until_another_takes_the_job(index: Index, lake: Lake) -> None:
    id, lost = create(index, job(), "resubmit")["id"], threading.Event()
    keeper = Keeper(index, lake, id, on_lost=lost.set)
    first = keeper.take()["lease"]["until"]
    with keeper:
        wait_until(lambda: (index.get_job(id) or {})["lease"]["until"] > first, 60, "a renewal")
        change(index, id, lambda row: held_by(row, "elsewhere:1:x"))
        assert lost.wait(60)
        assert keeper.finish(Report(planned=1, published=1)) is None
    assert (index.get_job(id) or {})["state"] == "RUNNING"


def test_a_job_that_waits_says_for_what(index: Index, lake: Lake) -> None:
    id, there = create(index, job(), "resubmit")["id"], threading.Event()

    def send() -> None:
        if not there.is_set():
            raise TransientError("the broker does not answer")

    keeper = Keeper(index, lake, id, on_lost=lambda: None)
    keeper.take()
    sender = threading.Thread(target=retry, args=(send, f"resubmit lane 1 of job {id}"))
    with keeper:
        sender.start()
        waits = f"Waiting to try again: cannot resubmit lane 1 of job {id}: the broker does not answer"
        wait_until(lambda: (index.get_job(id) or {})["reason"] == waits, 30, "the reason")
        there.set()
        wait_until(lambda: (index.get_job(id) or {})["reason"] is None, 60, "no reason any more")
        sender.join(30)


@pytest.mark.parametrize(
    ("error", "state"), [(ConfigurationError("wrong"), "FAILED"), (TransientError("away"), "RUNNING")]
)
def test_a_block_that_fails_ends_the_job_or_gives_it_back(
    index: Index, lake: Lake, error: Exception, state: str
) -> None:
    id = create(index, job(), "resubmit")["id"]
    keeper = Keeper(index, lake, id, on_lost=lambda: None)
    keeper.take()
    with pytest.raises(type(error)), keeper:
        raise error
    row = index.get_job(id) or {}
    assert (row["state"], row["lease"]) == (state, None)
    assert str(error) in row["reason"]


def test_a_job_of_the_command_fails_with_whatever_ends_it(index: Index, lake: Lake) -> None:
    id = create(index, job(destination="kafka://host"), "resubmit")["id"]
    keeper = Keeper(index, lake, id, on_lost=lambda: None, owner=new_owner())
    keeper.take()
    with pytest.raises(OSError, match="full"), keeper:
        raise OSError("full")
    row = index.get_job(id) or {}
    assert (row["state"], row["reason"], row["finished"] <= at()) == ("FAILED", "full", True)
