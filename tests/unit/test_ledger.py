"""How far all lanes of a job are: what it costs to follow them, and what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from transforms.lake import Lake
from transforms.replay.ledger import Ledger, Progress, Totals, progress, total
from transforms.replay.options import Options
from transforms.replay.others import Others
from transforms.replay.plans import Plan, folder
from transforms.replay.report import Tally

LANES = 200


class Counted(Lake):
    """Counts what is asked of it."""

    lists = gets = 0

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[str, int]]:
        self.lists += 1
        return super().list(prefix, after)

    def get(self, path: str) -> memoryview:
        self.gets += 1
        return super().get(path)

    def asked(self) -> tuple[int, int]:
        found = self.lists, self.gets
        self.lists = self.gets = 0
        return found


@pytest.fixture
def lake(tmp_path: Path) -> Counted:
    return Counted(f"file://{tmp_path}/lake")


def plan(lanes: int = LANES, each: int = 10) -> Plan:
    planned = dict.fromkeys(range(lanes), each)
    return Plan("j", {}, "k://h/t", "t", Options(), planned, lanes * each, 0, 1, 1, 0, 5, 99)


def begun(lake: Lake, made: Plan) -> list[Ledger]:
    ledgers = [Ledger(lake, made, lane) for lane in made.lanes]
    for ledger in ledgers:
        ledger.start()
    return ledgers


def test_to_follow_a_job_costs_one_list_and_a_read_of_what_has_moved(lake: Counted) -> None:
    made = plan()
    ledgers, totals = begun(lake, made), Totals(lake, made)
    totals.read()
    lake.asked()
    assert (totals.read().done, lake.asked()) == (0, (1, 0))
    ledgers[7].write(Tally(published=4, last_publish_time_us=70), next_us=80)
    ledgers[9].write(Tally(published=3, last_publish_time_us=60), next_us=61)
    assert (totals.read().done, lake.asked()) == (7, (1, 2))
    assert (totals.read().done, lake.asked()) == (7, (1, 0))


def test_to_look_how_far_other_workers_are_costs_one_list(lake: Counted) -> None:
    made = plan()
    ledgers = begun(lake, made)
    for lane, ledger in enumerate(ledgers[1:], 1):
        ledger.write(Tally(published=1), next_us=1_000 + lane)
    ledgers[1].leave()
    ledgers[2].write(Tally(published=10), next_us=3)
    others = Others(lake, made, [0])
    lake.asked()
    others._look()
    assert (others.lowest(), lake.asked()) == (1_003, (1, 0))


def test_a_worker_has_the_share_of_its_lanes_that_are_not_done(lake: Counted) -> None:
    made = plan(4)
    others, ledgers = Others(lake, made, [0, 1]), begun(lake, made)
    assert others.share() == 0.5
    ledgers[3].write(Tally(published=10))
    others._look()
    assert others.share() == pytest.approx(2 / 3)
    assert Others(lake, made, [0], workers=2).share() == 0.5


def test_a_lane_that_stands_still_is_not_waited_for(lake: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(2)
    begun(lake, made)[1].write(Tally(published=1), next_us=7)
    others = Others(lake, made, [0])
    others._look()
    others._look()
    assert others.lowest() == 7
    monkeypatch.setattr("transforms.replay.others._STANDS_STILL", 0.0)
    assert others.lowest() is None


def test_what_is_sent_is_what_all_lanes_have_sent(lake: Counted) -> None:
    made = plan(3)
    ledgers = begun(lake, made)
    assert total(lake, made).last_publish_time_us is None
    for ledger, time in zip(ledgers, (70, 60, 90), strict=True):
        ledger.write(Tally(published=4, last_publish_time_us=time))
    assert total(lake, made).last_publish_time_us == 60
    ledgers[1].write(Tally(published=10, last_publish_time_us=61))
    assert total(lake, made).last_publish_time_us == 70
    for ledger in ledgers[::2]:
        ledger.write(Tally(published=10, last_publish_time_us=99))
    assert total(lake, made).last_publish_time_us == 99


def test_a_lane_that_was_not_begun_holds_back_what_is_shown(lake: Counted) -> None:
    made = plan(2)
    Ledger(lake, made, 1).write(Tally(published=4, last_publish_time_us=70))
    assert total(lake, made).last_publish_time_us == made.oldest_us == 5


def test_names_of_an_older_release_are_read(lake: Counted) -> None:
    for name, tally in (("000000000004", Tally(published=4)), ("000000000003", Tally(published=3))):
        lake.put_new(f"{folder('j')}/done/00/{name}.json", tally.to_json().encode())
    newest = f"{folder('j')}/done/00/000000000004.json"
    assert progress(lake, "j")[0] == Progress(newest, 4, None, left=False)
    ledger = Ledger(lake, plan(1), 0)
    assert ledger.read() == (Tally(published=4), True)
    ledger.write(Tally(published=5), next_us=123)
    ledger.leave()
    found = progress(lake, "j")[0]
    assert (found.done, found.next_us, found.left) == (5, 123, True)
