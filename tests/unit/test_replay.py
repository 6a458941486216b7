"""Plans for destinations that cannot carry everything, and how a plan is sent."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from tests._archive import archive
from tests._messages import file_tables, row, table
from transforms.brokers import Destination, digest, is_noted
from transforms.entries import traits
from transforms.indexes import sqlite
from transforms.lake import Lake
from transforms.model import Trait
from transforms.replay import preflight
from transforms.replay.figures import Figures, SourcePlan
from transforms.replay.ledger import Ledger, total
from transforms.replay.options import Options
from transforms.replay.planning import Survey, TopicSurvey
from transforms.replay.plans import WINDOW_SCHEMA, Plan
from transforms.replay.reduction import adapt, not_carried
from transforms.replay.report import ERRORS_KEPT, Failure, Report, Tally
from transforms.replay.window_reader import Checked, read_window
from transforms.selection import Selection

EVERYTHING = Trait(sum(Trait))
OLD, NEW = 1_000_000, 2_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


def plan_for(survey: Survey, options: Options | None = None, **destination: Any) -> Plan:
    given = {"topic": "copy", "carries": EVERYTHING, "partitions": 3, "original_time": True, **destination}
    return preflight.make(
        survey,
        {"copy": Destination(**given)},
        options or Options(),
        topic="copy",
        job="j",
        selection=Selection(all=True),
        url="k://h/copy",
    )


def survey(traits: Mapping[int, int] | None = None, highest: int = 2, largest: int = 10) -> Survey:
    figures = Figures(10, largest, {"s": SourcePlan("s", 10, 100, OLD, NEW)})
    return Survey(
        figures, 1, {0: 10}, {"copy": TopicSurvey(dict(traits or {0: 10}), largest, highest, OLD, NEW)}
    )


def test_messages_that_would_soon_be_deleted_refuse_the_job_unless_they_get_new_times() -> None:
    assert plan_for(survey(), oldest_kept_us=OLD).problems == ()
    [problem] = plan_for(survey(), oldest_kept_us=OLD + 1).problems
    assert problem == (
        "The oldest message is of 1970-01-01T00:00:01+00:00, but copy refuses or soon deletes what is older "
        "than 1970-01-01T00:00:01.000001+00:00: use `timestamp: now`."
    )
    assert plan_for(survey(), Options(timestamp="now"), oldest_kept_us=NEW).problems == ()
    assert plan_for(survey(), oldest_kept_us=NEW, original_time=False).problems == ()


def test_messages_from_the_future_refuse_the_job_where_the_topic_would_refuse_them() -> None:
    assert plan_for(survey(), newest_taken_us=NEW, original_time=True).problems == ()
    [problem] = plan_for(survey(), newest_taken_us=NEW - 1, original_time=True).problems
    assert "copy refuses what is newer than" in problem
    assert plan_for(survey(), Options(timestamp="now"), newest_taken_us=OLD).problems == ()


def test_a_message_over_the_limit_refuses_the_job_unless_it_is_lossy() -> None:
    assert plan_for(survey(largest=50), max_bytes=50).problems == ()
    [problem] = plan_for(survey(largest=51), max_bytes=50).problems
    assert problem.startswith("The largest message has 51 bytes, but copy takes 50")
    assert plan_for(survey(largest=51), Options(lossy=True), max_bytes=50).problems == ()


def test_what_cannot_be_carried_is_counted_and_refused_unless_the_job_is_lossy() -> None:
    found = survey({int(Trait.KEY): 4, int(Trait.KEY | Trait.NULL_DATA): 2, 0: 4})
    poor = {"carries": EVERYTHING & ~(Trait.KEY | Trait.NULL_DATA)}
    refused = plan_for(found, **poor)
    assert list(refused.cannot_carry.values()) == [2, 6]
    [problem] = refused.problems
    assert problem.startswith(
        "copy cannot carry 2 null payloads (sent as empty ones if lossy), 6 keys (dropped"
    )
    allowed = plan_for(found, Options(lossy=True), **poor)
    assert allowed.problems == ()
    assert allowed.warnings[0].startswith("copy cannot carry 2 null payloads")


@pytest.mark.parametrize(
    ("highest", "partitions", "chosen"),
    [(2, 3, "original"), (2, 4, "key"), (2, 2, "key"), (-1, None, "key"), (0, None, "key")],
)
def test_partitions_are_kept_where_both_topics_have_as_many(
    highest: int, partitions: int | None, chosen: str
) -> None:
    assert plan_for(survey(highest=highest), partitions=partitions).options.partitions == chosen


@pytest.mark.parametrize(
    ("had", "partitions", "chosen"), [(3, 3, "original"), (12, 3, "key"), (3, 12, "key")]
)
def test_what_a_selection_misses_of_its_source_counts(had: int, partitions: int, chosen: str) -> None:
    found = survey(highest=0)
    found.topics["copy"].source_partitions = had
    assert plan_for(found, partitions=partitions).options.partitions == chosen


def test_original_partitions_that_the_destination_lacks_refuse_the_job() -> None:
    wanted = Options(partitions="original")
    assert plan_for(survey(highest=2), wanted, partitions=4).problems == ()
    [problem] = plan_for(survey(highest=2), wanted, partitions=2).problems
    assert problem.startswith("Messages are of partitions up to 2, but copy has only 2")


def test_files_outside_the_lakes_are_a_warning_and_a_problem_if_they_are_all() -> None:
    found = survey()
    found.outside, found.outside_example = 4, "s3://elsewhere/x.parquet"
    assert plan_for(found).problems == ()
    assert plan_for(found).warnings[0].startswith("4 messages lie outside the configured lakes")
    found.outside = 10
    assert plan_for(found).problems[0].startswith("All files lie outside the configured lakes")


def test_a_destination_without_original_times_is_said() -> None:
    assert "messages get the current time" in plan_for(survey(), original_time=False).warnings[0]


POOR = [
    Trait(0),
    EVERYTHING & ~Trait.KEY,
    Trait.KEY | Trait.HEADERS,
    Trait.KEY | Trait.HEADERS | Trait.BINARY_HEADERS | Trait.BINARY_KEY,
    Trait.HEADERS | Trait.REPEATED_HEADERS | Trait.BINARY_HEADERS,
    EVERYTHING & ~Trait.REPEATED_HEADERS,
]


@pytest.mark.parametrize("carries", POOR)
@settings(max_examples=25, deadline=None)
@given(messages=file_tables())
def test_adapted_messages_can_be_carried_and_the_others_stay(carries: Trait, messages: pa.Table) -> None:
    lacking = not_carried(traits(messages), int(carries))
    adapted = adapt(messages, int(carries))
    assert not not_carried(traits(adapted), int(carries)).any()
    same = pa.array(~lacking)
    assert adapted.filter(same).to_pylist() == messages.filter(same).to_pylist()
    assert adapted.schema == messages.schema


def test_what_is_lost_is_what_was_promised() -> None:
    headers = [("a", b"1"), ("b", b"\xff"), ("a", b"2"), ("c", None)]
    messages = table(row(key=b"\xff", headers=[{"name": n, "value": v} for n, v in headers], data=None))
    [adapted] = adapt(messages, int(Trait.KEY | Trait.HEADERS)).to_pylist()
    assert (adapted["data"], adapted["key"]) == (b"", None)
    assert adapted["headers"] == [{"name": "a", "value": b"2"}, {"name": "c", "value": b""}]


@pytest.fixture
def archived(lake: Lake, tmp_path: Path) -> list[dict[str, Any]]:
    """Twelve messages in three files; their index entries."""
    index = sqlite.open(f"sqlite://{tmp_path}/index.db")
    messages = [row(offset=n, data=b"%d" % n, key=b"k" if n == 5 else None) for n in range(12)]
    archive(lake, index, table(*messages), rows_per_file=4)
    entries = [r for t in index.select(Selection(all=True), WINDOW_SCHEMA.names) for r in t.to_pylist()]
    index.close()
    return entries


def read(lake: Lake, entries: list[dict[str, Any]], plan: Plan | None = None) -> Checked:
    rows = pa.RecordBatch.from_pylist(entries, schema=WINDOW_SCHEMA)
    return read_window(rows, plan or plan_for(survey()), [lake])


def test_a_window_is_read_in_its_own_order(lake: Lake, archived: list[dict[str, Any]]) -> None:
    wanted = [archived[n] for n in (9, 0, 4, 1, 11, 5, 3, 3)]
    checked = read(lake, wanted)
    assert checked.messages["data"].to_pylist() == [b"9", b"0", b"4", b"1", b"11", b"5", b"3", b"3"]
    sent = {"orders": {"published": 8, "failed": 0}}
    assert checked.tally() == Tally(8, 8, last_publish_time_us=0, sources=sent)


def test_a_wrong_entry_is_reported_and_the_rest_goes_on(lake: Lake, archived: list[dict[str, Any]]) -> None:
    archived[1] |= {"checksum": archived[1]["checksum"] + 1}
    archived[2] |= {"position": 3}
    archived[6] |= {"position": 4}
    archived[7] |= {"position": -1}
    archived[8] |= {"location": lake.location("orders/gone.parquet")}
    archived[9] |= {"location": "s3://elsewhere/a.parquet"}
    archived[10] |= {"location": lake.location("orders/../../../etc/passwd")}
    checked = read(lake, archived)
    assert checked.messages["data"].to_pylist() == [b"0", b"3", b"4", b"5", b"11"]
    tally = checked.tally()
    assert tally.published == 5
    assert tally.failed == {"mismatch": 2, "position": 2, "missing": 1, "outside": 2}
    assert tally.sources == {"orders": {"published": 5, "failed": 7}}
    assert tally.done == len(checked.window) == 12
    assert {f.id: f.category for f in tally.errors} == {
        "orders_0_1": "mismatch",
        "orders_0_2": "mismatch",
        "orders_0_6": "position",
        "orders_0_7": "position",
        "orders_0_8": "missing",
        "orders_0_9": "outside",
        "orders_0_10": "outside",
    }


@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_file_is_damaged_and_the_others_are_read(
    lake: Lake, archived: list[dict[str, Any]], keep: int
) -> None:
    path = Path(archived[4]["location"].removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:keep])
    checked = read(lake, archived)
    assert checked.messages["data"].to_pylist() == [b"0", b"1", b"2", b"3", b"8", b"9", b"10", b"11"]
    assert checked.tally().failed == {"damaged": 4}


def test_a_file_that_says_another_content_than_was_indexed_is_a_mismatch(
    lake: Lake, archived: list[dict[str, Any]]
) -> None:
    one, other = (Path(archived[n]["location"].removeprefix("file://")) for n in (0, 4))
    one.write_bytes(other.read_bytes())
    assert read(lake, archived).tally().failed == {"mismatch": 4}


def test_what_the_file_shows_beyond_the_index_is_an_error_unless_the_job_is_lossy(
    lake: Lake, archived: list[dict[str, Any]]
) -> None:
    poor = {"carries": EVERYTHING & ~Trait.KEY}
    strict = read(lake, archived, plan_for(survey(), **poor))
    assert strict.tally().failed == {"cannot_carry": 1}
    assert strict.tally().errors[0].id == "orders_0_5"
    lossy = read(lake, archived, plan_for(survey(), Options(lossy=True), **poor))
    assert (lossy.tally().published, lossy.tally().reduced) == (12, 1)
    assert lossy.messages["key"].null_count == 12


def test_undelivered_messages_are_taken_back(lake: Lake, archived: list[dict[str, Any]]) -> None:
    checked = read(lake, archived)
    checked.lose({"orders_0_3": "too large", "other": "x"})
    tally = checked.tally()
    assert tally.published == tally.verified_by_checksum == 11
    assert tally.errors == [Failure("orders_0_3", archived[3]["location"], "undelivered", "too large")]


@pytest.mark.parametrize("sizes", [[1] * 9, [4, 5], [8, 1], [9], [20]])
def test_a_window_in_parts_is_the_same_window(
    lake: Lake, archived: list[dict[str, Any]], sizes: list[int]
) -> None:
    for number, position in ((0, 99), (5, 99), (11, -1)):
        archived[number] |= {"position": position}
    rest: Checked | None = read(lake, archived)
    assert rest is not None
    whole, parts = rest, []
    for size in sizes:
        assert rest is not None
        part, rest = rest.split(size)
        parts.append(part)
    assert rest is None
    assert pa.concat_tables([part.messages for part in parts]) == whole.messages
    ids = [id for part in parts for id in part.window.column("id").to_pylist()]
    assert ids == whole.window.column("id").to_pylist()
    added = Tally()
    for part in parts:
        added.add(part.tally())
    assert sorted(added.errors, key=str) == sorted(whole.tally().errors, key=str)
    assert added.failed == whole.tally().failed == {"position": 3}
    assert added.sources == whole.tally().sources == {"orders": {"published": 9, "failed": 3}}
    failed = [row for part in parts if (table := part.failed()) for row in table.to_pylist()]
    assert failed == (whole.failed() or pa.table({})).to_pylist()
    assert [row["id"] for row in failed] == ["orders_0_0", "orders_0_5", "orders_0_11"]


def test_a_tally_keeps_the_first_errors_and_counts_all() -> None:
    tally = Tally(published=3)
    tally.fail("missing", "gone", [(f"m{n}", "f") for n in range(ERRORS_KEPT + 5)])
    both = Tally(published=1, failed={"damaged": 2})
    both.add(tally)
    assert (both.published, both.failed, len(both.errors)) == (4, {"damaged": 2, "missing": 105}, 100)
    assert both.done == 111
    assert Tally.from_json(both.to_json()) == both


def test_a_report_distinguishes_this_run_from_earlier_ones() -> None:
    report = Report(job="j", destination="t", planned=10)
    report.settle(Tally(published=8, failed={"missing": 1}), Tally(published=5), 2.0)
    assert (report.published, report.already_published, report.exit_code) == (3, 5, 1)
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["rate"], told["exit_code"]) == (1.5, 1)
    assert told["notes"] == ["1 messages were not handled: continue with `resume: j`."]


def test_a_ledger_keeps_what_is_confirmed(lake: Lake) -> None:
    plan = Plan("j", {}, "k://h/t", "t", Options(), {3: 9, 4: 1}, 10, 0, 1, 1, 0, None, None)
    ledger = Ledger(lake, plan, 3)
    assert ledger.start() == (Tally(), False)
    assert Ledger(lake, plan, 3).start() == (Tally(), True)
    ledger.leave()
    assert Ledger(lake, plan, 3).read() == (Tally(), True)
    ledger = Ledger(lake, plan, 3)
    assert ledger.start() == (Tally(), False)
    assert Ledger(lake, plan, 3).start() == (Tally(), True)
    ledger.write(Tally(published=4))
    ledger.write(Tally(published=4, failed={"missing": 5}))
    assert Ledger(lake, plan, 3).start() == (Tally(published=4, failed={"missing": 5}), True)
    Ledger(lake, plan, 4).start()
    assert total(lake, plan) == Tally(published=4, failed={"missing": 5})
    assert len(list(lake.list("_persistor/plans/j/done/03"))) == 1


def test_messages_whose_short_sums_are_equal_are_distinguished() -> None:
    one, other = "orders_58_5890294", "payments_29_6540062"
    assert zlib.crc32(one.encode()) == zlib.crc32(other.encode())
    assert (is_noted(one, {digest(one)}), is_noted(other, {digest(one)})) == (True, False)


def test_what_an_earlier_release_noted_of_a_message_is_known() -> None:
    assert is_noted("orders_0_3", {f"{zlib.crc32(b'orders_0_3'):08x}"})
