"""Folding claims into segments: nothing is lost or doubled, whatever ends it and whatever runs beside it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests._requests import count_requests
from tests.unit.test_expire import BEFORE, DAY, everything, files
from tests.unit.test_expire_claims import archived, backdate
from transforms.catalogue import Entry, segments
from transforms.errors import PermanentError, TransientError
from transforms.indexes import Index
from transforms.lake import INTERNAL, Lake
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.due import Dates, walk
from transforms.maintenance.expire import expire
from transforms.maintenance.figures import figures
from transforms.maintenance.maintain import maintain
from transforms.reading.claims import Chain, Claim, Claims, note
from transforms.reading.newest import resume, resume_own

AT_ONCE = timedelta(0)


def claim_randomly(lake: Lake, seed: int, most: int = 60) -> None:
    """Chains of several incarnations and partitions, with holes, of any lengths and days."""
    chance, claims = random.Random(seed), Claims(lake)
    for incarnation in (1, 2):
        lake.put_new(f"{INTERNAL}sources/a%2Fb/{incarnation:06d}.json", b"{}")
        for partition in range(3):
            start, when = 0, chance.randrange(DAY)
            for _ in range(chance.randint(1, most)):
                rows, when = chance.randint(0, 9), when + chance.randrange(DAY // 4)
                claim = Claim(
                    start + rows + 1, rows, max(0, start - chance.randint(0, 40)), "{topic}", "avro"
                )
                claim = replace(claim, bytes=rows, newest_us=when, archived_us=when, directories=["a", "b"])
                claims.make(Chain("a/b", incarnation, partition), start, claim)
                start = claim.next


def single(lake: Lake) -> list[Entry]:
    found = []
    for incarnation in (1, 2):
        for partition in range(3):
            chain = Chain("a/b", incarnation, partition)
            found += [Entry(chain, start, claim) for start, claim in Claims(lake).ahead(chain, 0).items()]
    return found


def folded(lake: Lake, source: str = "a/b") -> list[Entry]:
    return [entry for segment in segments(lake, source) for entry in segment.entries()]


def whole(lake: Lake) -> list[Entry]:
    return sorted([*folded(lake), *single(lake)], key=lambda entry: entry.place)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_folded_is_what_was_claimed(lake: Lake, seed: int) -> None:
    claim_randomly(lake, seed)
    before = whole(lake)
    begins = {entry.chain: resume(Claims(lake), entry.chain, None) for entry in before}
    report = maintain(lake, AT_ONCE)
    assert whole(lake) == before
    assert (report.claims, report.segments) == (len(folded(lake)), len(segments(lake, "a/b")))
    assert {chain: resume(Claims(lake), chain, None) for chain in begins} == begins
    for chain, begin in begins.items():
        left = [entry for entry in single(lake) if entry.chain == chain]
        assert (left and begin and left[0].claim.next > begin.position) or len(left) == 1
    days = [segment.summary()["oldest_archived_us"] // DAY for segment in segments(lake, "a/b")]
    assert days == sorted(set(days))


def test_what_is_young_stays_single_and_a_second_run_costs_next_to_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_randomly(lake, 7)
    young = datetime.now(timezone.utc) - datetime(1970, 1, 4, tzinfo=timezone.utc)
    maintain(lake, young)
    assert folded(lake)
    assert all((entry.claim.archived_us or 0) < 3 * DAY for entry in folded(lake))
    requests = count_requests(monkeypatch)
    again = maintain(lake, young)
    assert (again.claims, again.segments) == (0, 0)
    assert sum(requests.values()) < 60  # of six chains


@pytest.mark.parametrize("several", [False, True])
def test_what_another_index_still_lacks_stays_single(lake: Lake, several: bool) -> None:
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    for sinks in ["mine", "theirs"][: 1 + several]:
        lake.put_new(f"{INTERNAL}sinks/group/{sinks}.json", b"{}")
    chain, claims = Chain("orders", 1, 0), Claims(lake)
    for start in range(0, 1500, 10):
        theirs = several and start == 1000
        claim = Claim(start + 10, 10, 200 if theirs else start, "{topic}", "avro", archived_us=start)
        claims.make(chain, start, replace(claim, sinks="theirs" if theirs else "mine"))
    assert maintain(lake, AT_ONCE).claims == (20 if several else 149)
    own = resume_own(claims, chain, "theirs", 0) if several else None
    assert own is None or (own.position, min(own.ahead)) == (200, 200)


def test_claims_that_do_not_say_when_they_were_made_count_from_their_writing(lake: Lake) -> None:
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    chain, claims = Chain("orders", 1, 0), Claims(lake)
    for start in range(0, 50, 10):
        claims.make(chain, start, Claim(start + 10, 10, start, "{topic}", "avro"))
    assert maintain(lake, timedelta(days=1)).claims == 0
    assert maintain(lake, AT_ONCE).claims == 4
    now = datetime.now(timezone.utc).timestamp() * 1e6
    assert all(abs((entry.claim.archived_us or 0) - now) < 60e6 for entry in folded(lake, "orders"))


def test_retention_does_the_same_with_segments_as_without(lake: Lake, index: Index) -> None:
    archived(lake, index, 30)
    maintain(lake, AT_ONCE)
    backdate(lake)
    report = expire(lake, index, BEFORE, young=AT_ONCE)
    assert (report.files, report.messages, report.entries, report.kept) == (24, 240, 240, {"newer": 1})
    assert (len(files(lake)), len(everything(index))) == (6, 60)
    assert min((entry.claim.newest_us or 0) // DAY for entry in folded(lake, "orders")) in {9, 10}
    assert expire(lake, index, BEFORE, young=AT_ONCE).files == 0
    last = expire(lake, index, BEFORE + timedelta(days=30), young=AT_ONCE)
    assert (last.files, files(lake), len(segments(lake, "orders"))) == (6, [], 1)
    assert [entry.start for entry in folded(lake, "orders")] == [280]


def test_expiring_one_day_of_many_reads_little(
    lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(lake, index, 300)
    maintain(lake, AT_ONCE)
    backdate(lake)
    requests = count_requests(monkeypatch)
    assert expire(lake, None, datetime(1970, 1, 2, tzinfo=timezone.utc), young=AT_ONCE).files == 2
    assert requests["get"] + requests["get_ranges"] <= 4
    assert sum(requests.values()) <= 20


def test_a_lake_of_the_first_release_is_taken_over(tmp_path: Path) -> None:
    """None of its claims says that something was durable, so all stay; its files expire by what they hold."""
    shutil.copytree(Path(__file__).parents[1] / "data" / "release-0.1.0" / "lake", tmp_path / "lake")
    lake = Lake(f"file://{tmp_path}/lake")
    assert maintain(lake, AT_ONCE).claims == 0
    report = expire(lake, None, datetime.now(timezone.utc), young=AT_ONCE)
    assert (report.files, report.messages, report.kept, report.problems) == (10, 120, {}, [])


_MAINTAINED = """
import json, os, signal, sys
from datetime import timedelta
from transforms.lake import Lake
from transforms.maintenance import fold
from transforms.maintenance.maintain import maintain

lake, config, step = sys.argv[1:]
left = int(step)

def die(frame, event, argument):
    global left
    if event == "return" and frame.f_code.co_name in {"put_new", "delete_all"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

fold._CLAIMS_AT_ONCE, fold._MOST_ENTRIES = 7, 20
if left:
    import threading
    sys.setprofile(die)
    threading.setprofile(die)
maintain(Lake(lake, json.loads(config)), timedelta(0))
"""


def start_maintaining(lake: Lake, step: int) -> subprocess.Popen[bytes]:
    _, (url, config) = lake.__reduce__()
    return subprocess.Popen([sys.executable, "-c", _MAINTAINED, url, json.dumps(config), str(step)])


def check_kills_of_maintain(lake: Lake) -> None:
    """After any kill all claims are there, those of the newest segment perhaps twice; in the end once."""
    claim_randomly(lake, 3, most=12)
    before = whole(lake)
    for step in count(1):
        code = start_maintaining(lake, step).wait()
        assert sorted({entry.place: entry for entry in whole(lake)}.items()) == [(e.place, e) for e in before]
        places = [entry.place for entry in folded(lake)]
        assert len(places) == len(set(places))
        if code == 0:
            break
        assert code == -9
    assert step > 3
    assert whole(lake) == before


def test_a_kill_between_any_two_steps_loses_and_doubles_nothing(lake: Lake) -> None:
    check_kills_of_maintain(lake)


def test_runs_at_the_same_time_lose_and_double_nothing(lake: Lake) -> None:
    claim_randomly(lake, 5, most=100)
    before = whole(lake)
    assert [run.wait() for run in [start_maintaining(lake, 0) for _ in range(3)]] == [0, 0, 0]
    assert whole(lake) == before


class Folding(ThreadPoolExecutor):
    """Has a lake maintained before it reads any claim that it is given."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(2)
        self._lake = lake

    def map(self, *given: Any, **more: Any) -> Iterator[Any]:
        maintain(self._lake, AT_ONCE)
        return super().map(*given, **more)


def test_what_is_folded_while_expire_looks_at_it_is_left_to_the_next_run(lake: Lake) -> None:
    claim_randomly(lake, 3)
    chain, now = Chain("a/b", 1, 0), datetime.now(timezone.utc)
    assert Claims(lake).starts(chain, -1)[2:]
    with Folding(lake) as readers:
        found = walk(DeletingLake.of(lake), chain, Dates.of(now, now), readers)
    assert (found.claims, found.stopped) == ([], set())
    assert expire(lake, None, now, plan_only=True).exit_code == 0


@pytest.mark.parametrize("command", ["expire", "cost"])
def test_segments_that_expire_deletes_after_they_were_listed_are_passed_over(
    command: str, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(lake, index, 30)
    maintain(lake, AT_ONCE)
    listed, read = len(segments(lake, "orders")), Lake.get_ranges

    def after_another_run(self: Lake, *given: Any) -> Any:
        monkeypatch.setattr(Lake, "get_ranges", read)
        assert expire(lake, index, BEFORE, young=AT_ONCE).files == 24
        return read(self, *given)

    monkeypatch.setattr(Lake, "get_ranges", after_another_run)
    if command == "cost":
        assert figures(lake).chains == 1
    else:
        assert expire(lake, index, BEFORE, young=AT_ONCE).exit_code == 0
    assert len(segments(lake, "orders")) < listed


class FoldedMeanwhile(Claims):
    """Claims of a lake that is maintained between a list and what is read of it."""

    def last_starts(self, chain: Chain) -> list[int]:
        found = super().last_starts(chain)
        maintain(self.lake, AT_ONCE)
        return found


def test_a_start_whose_claim_is_folded_while_it_reads_asks_again(lake: Lake) -> None:
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    chain, claims = Chain("orders", 1, 0), FoldedMeanwhile(lake)
    for start in (0, 10, 20):
        claims.make(chain, start, Claim(start + 10, 10, start, "{topic}", "avro", archived_us=1))
    with pytest.raises(TransientError, match="was removed while claims were read"):
        resume(claims, chain, (10, note(1, 0)))
    resumed = resume(claims, chain, (10, note(1, 0)))
    assert resumed is not None
    assert (resumed.position, list(resumed.ahead)) == (20, [20])


def test_what_kills_left_on_a_disk_goes_once_it_is_old(lake: Lake) -> None:
    root = Path(lake.url.removeprefix("file://"))
    names = [f".{'a' * 32}#0", f".{'b' * 32}#0", ".keep#0", "c#0"]
    for name in names:
        (root / "orders").mkdir(exist_ok=True)
        (root / "orders" / name).write_bytes(b"half")
        if name != names[1]:
            os.utime(root / "orders" / name, (0, 0))
    assert maintain(lake, AT_ONCE).temporary == 1
    assert sorted(one.name for one in (root / "orders").iterdir()) == sorted(names[1:])


def test_a_segment_of_a_newer_release_or_a_damaged_one_is_refused_by_name(lake: Lake) -> None:
    path = Path(lake.url.removeprefix("file://")) / f"{INTERNAL}segments/orders/0000000001.parquet"
    lake.put_new(f"{INTERNAL}segments/orders/0000000001.parquet", b"damaged")
    for _ in range(2):
        [segment] = segments(lake, "orders")
        with pytest.raises(PermanentError, match=rf"{path.name} (is damaged|was written by a newer)"):
            segment.summary()
        path.unlink()
        newer = (Path(__file__).parents[1] / "data" / "segment-of-version-9.parquet").read_bytes()
        lake.put_new(f"{INTERNAL}segments/orders/0000000001.parquet", newer)
