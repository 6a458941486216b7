"""Plans: what they count, warn of and refuse, how they are cut into lanes, and their stored form."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._archive import archive
from tests._messages import row, table
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, PermanentError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.model import Trait
from transforms.reading.claims import Chain, Claim, Claims
from transforms.replay import check_retry, delete_plan, freeze_plan, freeze_retry, make_plan
from transforms.replay.failed_rows import FailedRows
from transforms.replay.ledger import Ledger
from transforms.replay.options import Options
from transforms.replay.plans import (
    LANES,
    WINDOW_SCHEMA,
    Plan,
    PlanStore,
    folder,
    load_plan,
    new_job_id,
    read_windows,
)
from transforms.replay.report import Tally
from transforms.replay.routing import lane_of
from transforms.replay.window_cutter import WINDOW_BYTES, WINDOW_ROWS, _cuts
from transforms.selection import Selection

EVERYTHING = Trait(sum(Trait))
TARGET = Destination("copy", EVERYTHING, partitions=3, original_time=True)
ALL = Selection(all=True)


def fill(lake: Lake, index: Index, *partitions: int, source: str = "orders", files: int = 10) -> None:
    for number, rows in enumerate(partitions):
        messages = [row(partition=number, offset=n, data=b"x" * n, publish_time=n) for n in range(rows)]
        archive(lake, index, table(*messages), rows_per_file=files, source=source)


def plan(lake: Lake, index: Index, selection: Selection = ALL, **more: object) -> Plan:
    settled = {"url": "kafka://h/copy", "destination": TARGET, "options": Options(), **more}
    return make_plan(index, [lake], selection, **settled)  # type: ignore[arg-type]


def rows_of(lake: Lake, frozen: Plan, done: int = 0) -> list[tuple[str, int, int]]:
    read = [w for lane in frozen.lanes for w in read_windows(lake, frozen, lane, done)]
    rows = [row for window in read for row in window.to_pylist()]
    return [(row["id"], row["position"], row["checksum"]) for row in rows]


def test_a_job_id_has_26_letters_and_digits_and_sorts_by_time() -> None:
    ids = [new_job_id() for _ in range(200)]
    assert all(len(id) == 26 and id.isalnum() for id in ids)
    assert [id[:10] for id in ids] == sorted(id[:10] for id in ids)
    assert len(set(ids)) == 200


@pytest.mark.parametrize(("claimed", "chosen"), [((0, 1, 2), "original"), ((0, 1, 2, 3), "key"), ((), "key")])
def test_claims_say_how_many_partitions_a_source_has_of_which_one_is_selected(
    lake: Lake, index: Index, claimed: tuple[int, ...], chosen: str
) -> None:
    fill(lake, index, 5)
    for number in claimed:
        Claims(lake).make(Chain("orders", 1, number), 0, Claim(5, 5, 0, "{topic}", "parquet"))
    assert plan(lake, index).options.partitions == chosen


def test_a_plan_counts_what_is_selected(lake: Lake, index: Index) -> None:
    fill(lake, index, 25, 5)
    made = plan(lake, index)
    assert (made.messages, made.files, made.requests, made.largest) == (30, 4, 4, 24)
    assert made.bytes == sum(range(25)) + sum(range(5))
    assert (made.oldest_us, made.newest_us) == (0, 24)
    assert made.lanes == {0: 30}
    report = made.report()
    assert report["oldest"] == "1970-01-01T00:00:00+00:00"
    assert report["sources"][0]["newest"] == "1970-01-01T00:00:00.000024+00:00"
    assert "lanes" not in report
    assert made.problems == ()


def test_a_plan_of_nothing_has_no_lanes_and_warns(lake: Lake, index: Index) -> None:
    made = plan(lake, index, Selection(sources=("absent",)))
    assert (made.messages, made.lanes, made.problems) == (0, {}, ())
    assert made.warnings[0] == "No message matches the selection."


def test_a_plan_survives_its_stored_form(lake: Lake, index: Index) -> None:
    fill(lake, index, 3)
    made = plan(lake, index, options=Options("now", "key", lossy=True))
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize("sample", [None, 1.0])
def test_limit_takes_the_oldest_of_all_partitions(lake: Lake, index: Index, sample: float | None) -> None:
    fill(lake, index, 12, 5)
    frozen = freeze(lake, index, Selection(all=True, limit=7, sample=sample))
    assert [r[0] for r in rows_of(lake, frozen)] == [
        f"orders_{n}" for n in ("0_0", "0_1", "0_2", "0_3", "1_0", "1_1", "1_2")
    ]
    assert len(rows_of(lake, freeze(lake, index, Selection(all=True, limit=99)))) == 17


def freeze(lake: Lake, index: Index, selection: Selection = ALL, job: str | None = None) -> Plan:
    return freeze_plan(
        index, [lake], selection, url="kafka://h/copy", destination=TARGET, options=Options(), job=job
    )


def test_a_frozen_plan_gives_its_rows_in_order_without_the_index(lake: Lake, index: Index) -> None:
    fill(lake, index, 30)
    frozen = freeze(lake, index)
    index.close()
    read = rows_of(lake, load_plan(lake, frozen.job))
    assert [(r[0], r[1]) for r in read] == [(f"orders_0_{n}", n % 10) for n in range(30)]
    assert all(r[2] is not None for r in read)


@pytest.mark.parametrize("done", [0, 1, 10, 29, 30])
def test_a_lane_goes_on_behind_what_is_done(lake: Lake, index: Index, done: int) -> None:
    fill(lake, index, 30)
    frozen = freeze(lake, index)
    assert rows_of(lake, frozen, done) == rows_of(lake, frozen)[done:]


def test_a_lane_goes_on_across_its_objects(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.replay.plans._OBJECT_BYTES", 1)
    store, window = PlanStore(lake, "job"), window_of(3)
    for _ in range(4):
        store.add(7, window)
    frozen = store.finish(some_plan("job", {7: 12}))
    assert len(list(lake.list(f"_persistor/plans/job/{frozen.attempt}"))) == 4
    for done in range(13):
        assert len(rows_of(lake, frozen, done)) == 12 - done


@pytest.mark.parametrize("lost", range(4))
def test_rows_behind_a_lost_object_are_not_given(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.setattr("transforms.replay.plans._OBJECT_BYTES", 1)
    store = PlanStore(lake, "job")
    for _ in range(4):
        store.add(7, window_of(3))
    frozen = store.finish(some_plan("job", {7: 12}))
    objects = sorted(path for path, _ in lake.list(f"_persistor/plans/job/{frozen.attempt}"))
    lake.delete(objects[lost])
    given: list[int] = []
    with pytest.raises(PermanentError, match="The plan of job job is damaged in the lake"):
        given.extend(len(window) for window in read_windows(lake, frozen, 7))
    assert sum(given) == 3 * lost
    lake.put_new(objects[lost], b"\xff\xff\xff\xff\x20\x02\0\0")
    with pytest.raises(PermanentError, match="The plan of job job is damaged in the lake"):
        list(read_windows(lake, frozen, 7))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"version": 2, "options": {"x": 1}}', b"\xff"]
)
def test_a_damaged_plan_is_said_to_be_damaged(lake: Lake, content: bytes) -> None:
    lake.put_new(f"{folder('job')}/plan.json", content)
    with pytest.raises(PermanentError, match=r"^The plan of job job \(.*plan.json\) is (empty|damaged): "):
        load_plan(lake, "job")


def window_of(rows: int) -> pa.RecordBatch:
    made = [
        {"id": str(n), "source": "s", "size": n, "location": f"file:///x/{n}", "position": n}
        for n in range(rows)
    ]
    return pa.RecordBatch.from_pylist(made, schema=WINDOW_SCHEMA)


def some_plan(job: str, lanes: dict[int, int]) -> Plan:
    return Plan(job, {}, "kafka://h/t", "t", Options(), lanes, sum(lanes.values()), 0, 1, 1, 0, None, None)


def test_the_first_of_two_plans_of_a_job_stays(lake: Lake, index: Index) -> None:
    fill(lake, index, 5)
    first = freeze(lake, index, job="01job")
    fill(lake, index, 7, source="late")
    assert freeze(lake, index, job="01job") == first
    racing = PlanStore(lake, "01job")
    racing.add(1, window_of(2))
    assert racing.finish(some_plan("01job", {1: 2})) == first
    assert len(list(lake.list("_persistor/plans/01job"))) == 2


class Answerless(Lake):
    """A store whose answer to each first write is lost: its client asks again, and meets its own object."""

    def put_new(self, path: str, data: Any) -> bool:
        super().put_new(path, data)
        return super().put_new(path, data)


def test_a_plan_whose_confirmation_was_lost_is_kept(lake: Lake, index: Index) -> None:
    fill(lake, index, 30)
    frozen = freeze(Answerless(lake.url), index)
    assert load_plan(lake, frozen.job) == frozen
    assert [row[0] for row in rows_of(lake, frozen)] == [f"orders_0_{n}" for n in range(30)]


def test_a_claim_whose_confirmation_was_lost_is_ours(lake: Lake) -> None:
    claims, chain = Claims(Answerless(lake.url)), Chain("orders", 1, 0)
    assert [claims.incarnation("orders", "broker", topic) for topic in ("a", "b", "a")] == [1, 2, 1]
    mine = Claim(10, 10, 0, "{topic}", "parquet", first=7, first_position=0, directories=["orders"])
    assert claims.make(chain, 0, mine) == mine
    assert claims.make(chain, 0, replace(mine, rows=9)) == mine


def test_a_ledger_whose_confirmations_were_lost_is_kept(lake: Lake) -> None:
    plan, tally = some_plan("job", {7: 12}), Tally(published=5, failed={"missing": 1})
    ledger = Ledger(Answerless(lake.url), plan, 7)
    assert ledger.start() == (Tally(), False)
    failed = pa.table(window_of(1).columns, WINDOW_SCHEMA).append_column("category", pa.array(["missing"]))
    ledger.write(tally, failed.append_column("reason", pa.array(["gone"])), 0)
    assert Ledger(lake, plan, 7).read() == (tally, True)
    ledger.leave()
    assert Ledger(lake, plan, 7).start() == (tally, False)
    assert [row["id"] for batch in FailedRows(lake, "job", 7).read() for row in batch.to_pylist()] == ["0"]


def test_a_refused_plan_leaves_nothing_behind(lake: Lake, index: Index) -> None:
    fill(lake, index, 5)
    away = Destination("copy", EVERYTHING, partitions=3, problems=["The topic is away."])
    with pytest.raises(ConfigurationError) as refused:
        freeze_plan(index, [lake], ALL, url="kafka://h/copy", destination=away, options=Options())
    assert refused.value.problems == ["The topic is away."]
    assert list(lake.list("_persistor")) == []


def test_an_unknown_job_is_named(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="no plan of job 'absent'"):
        load_plan(lake, "absent")


def test_unknown_options_are_all_refused_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Options("yesterday", "round")
    assert len(refused.value.problems) == 2


def test_lanes_are_the_same_in_every_process() -> None:
    assert [lane_of("orders", n) for n in range(4)] == [2, 4, 14, 8]
    assert lane_of("orders", None) < LANES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 1000, WINDOW_BYTES // 2, 2 * WINDOW_BYTES])),
        min_size=1,
        max_size=60,
    )
)
def test_windows_hold_every_row_once_within_their_bounds(rows: list[tuple[int, int]]) -> None:
    files, sizes = [f"f{file}" for file, _ in rows], np.array([size for _, size in rows])
    bounds = _cuts(pa.chunked_array([files]), sizes)
    assert (bounds[0], bounds[-1]) == (0, len(rows))
    for start, end in pairwise(bounds):
        assert start < end
        assert end - start == 1 or sizes[start:end].sum() <= WINDOW_BYTES


def test_windows_end_between_files_where_they_can() -> None:
    files = [*["a"] * 6_000, *["b"] * 6_000, *["c"] * 25_000]
    assert _cuts(pa.chunked_array([files]), np.ones(len(files), np.int64)) == [
        0, 6_000, 12_000, 12_000 + WINDOW_ROWS, 12_000 + 2 * WINDOW_ROWS, 37_000
    ]  # fmt: skip


def test_a_large_selection_is_cut_into_windows_in_order(lake: Lake, index: Index) -> None:
    count = 2 * WINDOW_ROWS + 5_000
    archive(lake, index, table(*[row(offset=n) for n in range(count)]), rows_per_file=4_000)
    frozen = freeze(lake, index)
    windows = list(read_windows(lake, frozen, 0))
    assert [len(w) for w in windows] == [8_000, 8_000, 9_000]
    assert frozen.requests == frozen.files == 7
    assert [r[0] for r in rows_of(lake, frozen)] == [f"orders_0_{n}" for n in range(count)]


def _check_retries(lake: Lake, job: Plan) -> None:
    """Of messages of 1 to 29 bytes, published at 1 to 29 µs."""
    limits: list[tuple[dict[str, Any], str | None]] = [
        ({"max_bytes": 29, "oldest_kept_us": 1, "newest_taken_us": 29}, None),
        ({"max_bytes": 28}, "The largest message has 29 bytes"),
        ({"oldest_kept_us": 2}, "The oldest message is of 1970-01-01"),
        ({"newest_taken_us": 28}, "The newest message is of 1970-01-01"),
        ({"problems": ["It is gone."]}, "It is gone."),
    ]
    for limit, problem in limits:
        like = Destination("replay", Trait(0), original_time=True, **limit)
        found = check_retry(lake, job.job, lambda _, like=like: like)
        assert [text[: len(problem or "")] for text in found] == ([] if problem is None else [problem])


def test_a_retry_is_a_plan_of_exactly_the_rows_that_failed(lake: Lake, index: Index) -> None:
    fill(lake, index, 30, 10)
    first = freeze(lake, index, job="01first")
    index.close()
    failed: dict[int, list[str]] = {}
    for lane in first.lanes:
        kept, done = FailedRows(lake, first.job, lane), 0
        for window in read_windows(lake, first, lane):
            rows = pa.Table.from_batches([window]).filter(pc.equal(pc.bit_wise_and(window["position"], 1), 1))
            more = {"category": "missing", "reason": "gone"}
            for name, text in more.items():
                rows = rows.append_column(name, pa.repeat(text, len(rows)))
            kept.keep(done, rows)
            done += len(window)
            failed.setdefault(lane, []).extend(rows["id"].to_pylist())
    second = freeze_retry(lake, first.job, "02second")
    assert (second.job, second.messages, second.files) == ("02second", 20, 4)
    assert second.lanes == {lane: len(ids) for lane, ids in failed.items()}
    assert [row[0] for row in rows_of(lake, second)] == [id for ids in failed.values() for id in ids]
    assert (second.oldest_us, second.newest_us) == (1, 29)
    assert second.bytes == sum(range(1, 30, 2)) + sum(range(1, 10, 2))
    assert freeze_retry(lake, first.job, "02second") == second
    _check_retries(lake, first)
    delete_plan(lake, first.job)
    assert {path.split("/")[2] for path, _ in lake.list("_persistor/plans")} == {"02second"}
    with pytest.raises(ConfigurationError, match="Job 02second has no failed messages"):
        freeze_retry(lake, second.job, "03third")
