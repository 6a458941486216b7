"""What the command shows of plans and jobs, to the letter: on a terminal and where there is none."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from pipelines.terminal.jobs import JobsView, _table, job_facts
from pipelines.terminal.plans import plan_facts, show_plan
from pipelines.terminal.text import bars, show_facts, visible, without_login
from tests.unit.test_cli import PLAN as SMALL
from transforms.job_row import Row
from transforms.jobs.leases import held_by
from transforms.jobs.rows import new_row, planned
from transforms.quantities import span
from transforms.replay import Failure, Options
from transforms.replay.figures import Histogram, Sample, SourcePlan
from transforms.selection import Selection

MINUTE = 60_000_000
ID, ASKED = "01m84q2eeethp3vfm85k3ee4sj", "2026-11-23 17:25:12"
PLAN = replace(
    SMALL,
    destination="kafka://h:9092/copy",
    topic="copy",
    topics=("copy",),
    messages=9,
    newest_us=5 * MINUTE,
    sources=(SourcePlan("orders[x]", 9, 4_200, 0, 5 * MINUTE),),
    cannot_carry={},
    histogram=Histogram(0, MINUTE, (1, 0, 8)),
    samples=(
        Sample("orders_0_1", "orders", 0, 20, "k\x1b[2J"),
        Sample("b", "orders", None, 5, {"base64": "/w=="}),
    ),
)


def job(**values: Any) -> Row:
    row = new_row(
        id=ID,
        destination="kafka://h:9092",
        topic="copy",
        selection=Selection(all=True),
        options=Options(),
        requested_by="ann@host",
    )
    return {**row, "created": "2026-11-23T17:25:12.000000Z", **values}


def running(**values: Any) -> Row:
    progress = {
        "planned": 18_000, "published": 4_070, "failed": 5, "rate": 451.2, "seconds_left": 31.0,
        "last_publish_time": "2026-11-23T10:00:00.000000Z",
        "sources": {"orders": {"planned": 18_000, "published": 4_070, "failed": 5}},
    }  # fmt: skip
    rate = {"messages_per_second": 500, "bytes_per_second": None}
    return held_by(job(progress=progress, rate=rate, **values), "host:1:x")


def on_terminal(show: Any, width: int = 80) -> list[str]:
    out = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, highlight=False)
    show(out)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_plan_on_a_terminal_has_a_histogram_and_some_of_the_messages() -> None:
    assert on_terminal(lambda out: show_plan(out, PLAN.report(), whole=True), 90) == [
        "job                    j1",
        "destination            kafka://h:9092/copy",
        'selection              {"all": true}',
        "messages               9 (4.2 kB, largest 2.0 kB)",
        "read from              2 files in 2 reads",
        "published              1970-01-01T00:00:00+00:00 to 1970-01-01T00:05:00+00:00",
        "estimated time         0 s",
        "sent with              original timestamps, partitions by key, order by partition",
        "repeats after a crash  none",
        "",
        "source     messages   bytes  oldest                   newest",
        "orders[x]         9  4.2 kB  1970-01-01 00:00:00.000  1970-01-01 00:05:00.000",
        "",
        "over time",
        "                ████████",
        "                ████████",
        "                ████████",
        "                ████████",
        "▅▅▅▅▅▅▅▅        ████████",
        "from 1970-01-01 00:00:00.000; 1 min per bar, highest 8 messages",
        "",
        "samples     published                bytes  key",
        "orders_0_1  1970-01-01 00:00:00.000   20 B  k\ufffd[2J",
        "b           -                          5 B  base64 /w==",
        "",
        "warning  It is old.",
        "problem  It is full.",
    ]


@pytest.mark.parametrize(
    ("width_us", "told"), [(MINUTE, "1 min"), (999_960, "1000 ms"), (20_000, "20 ms"), (500, "0.5 ms")]
)
def test_bars_of_less_than_a_second_are_distinguished(width_us: int, told: str) -> None:
    facts = dict(plan_facts(replace(PLAN, histogram=Histogram(0, width_us, (1, 2))).report(), whole=True))
    assert facts["over time"] == f"1 2 (every {told} from 1970-01-01T00:00:00+00:00)"


def test_a_plan_elsewhere_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(Console(), PLAN.report(), whole=True)
    shown = capsys.readouterr().out.splitlines()
    assert shown[9:] == [
        "source orders[x]:       9 (4.2 kB)",
        "over time:              1 0 8 (every 1 min from 1970-01-01T00:00:00+00:00)",
        "sample:                 orders_0_1, 1970-01-01T00:00:00+00:00, 20 B, key k\ufffd[2J",
        "sample:                 b, None, 5 B, key base64 /w==",
        "warning:                It is old.",
        "problem:                It is full.",
    ]


def test_a_list_has_the_columns_that_there_is_room_for() -> None:
    rows = [running(), job(state="COMPLETED", requested_by=None)]
    assert on_terminal(lambda out: out.print(_table(rows, wide=False)), 92) == [
        "job                         state                         done   rate  left  topic",
        f"{ID}  RUNNING    4,075/18,000 (5 failed)  451/s  31 s  copy",
        f"{ID}  COMPLETED                      0/0      -     -  copy",
    ]
    ended = [job(state="COMPLETED", topic="orders-replay-of-november"), job(state="PAUSED")]
    assert on_terminal(lambda out: out.print(_table(ended, wide=False)), 80) == [
        "job                         state      done  topic",
        f"{ID}  COMPLETED   0/0  orders-replay-of-november",
        f"{ID}  PAUSED      0/0  copy",
    ]
    wide = on_terminal(lambda out: out.print(_table(rows, wide=True)), 140)
    assert wide[0].endswith("to                   asked for            by")
    assert wide[1].endswith("kafka://h:9092/copy  2026-11-23 17:25:12  ann@host")


def test_a_list_elsewhere_has_tabs_between_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    JobsView(as_json=False).rows([running(), job(state="PAUSED", topic="c\x1b\n")])
    assert capsys.readouterr().out.splitlines() == [
        f"{ID}\tRUNNING\t4,075/18,000 (5 failed)\t451/s\t31 s\tkafka://h:9092/copy\t{ASKED}\tann@host",
        f"{ID}\tPAUSED\t0/0\t-\t-\tkafka://h:9092/c\ufffd\ufffd\t{ASKED}\tann@host",
    ]


def test_a_job_shows_how_it_stands_and_what_may_be_asked_of_it() -> None:
    errors = [vars(Failure(f"orders_0_{n}", "file:///f", "missing", "the file is gone")) for n in range(12)]
    assert list(job_facts(planned(running(started="2026-11-23T17:26:00.5Z", errors=errors), PLAN)))[:4] == [
        ("job", ID),
        ("state", "RUNNING"),
        ("asked for", "2026-11-23 17:25:12 by ann@host"),
        ("started", "2026-11-23 17:26:00"),
    ]
    facts = list(job_facts(running(errors=errors)))
    assert facts[3:12] == [
        ("to", "kafka://h:9092/copy"),
        ("selection", '{"all": true}'),
        ("done", "4,070 of 18,000 published, 5 failed"),
        ("rate", "451 messages per second"),
        ("time left", "31 s"),
        ("sent up to", "2026-11-23T10:00:00.000000Z (publish time)"),
        ("at most", "500 messages per second"),
        ("possible", "pause, cancel, rate"),
        ("source orders", "4,070 of 18,000 published, 5 failed"),
    ]
    assert facts[12] == ("not sent", "orders_0_0: the file is gone")
    assert facts[-1] == ("not sent", "and others; --json lists 12 of them")


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ({"state": "RUNNING"}, ("state", "RUNNING (waits)")),
        ({"state": "PAUSED"}, ("resume it by", f"persistor resubmit --resume {ID}")),
        (
            {"state": "PLANNED", "plan": {"problems": []}},
            ("run it by", f"persistor resubmit --plan {ID}"),
        ),
        ({"state": "COMPLETED"}, ("possible", "none")),
        ({"retry_of": "j0"}, ("retry of", "j0")),
    ],
)
def test_what_is_particular_to_a_job_is_said(values: dict[str, Any], fact: tuple[str, str]) -> None:
    assert fact in list(job_facts(job(**values)))


def test_what_the_command_alone_can_do_is_not_called_impossible() -> None:
    facts = dict(job_facts(job(state="FAILED")))
    assert facts["resume it by"] == f"persistor resubmit --resume {ID}"
    assert "possible" not in facts


def test_json_is_what_the_api_answers(capsys: pytest.CaptureFixture[str]) -> None:
    JobsView(as_json=True).row(running())
    told = json.loads(capsys.readouterr().out)
    assert told["possible"] == ["pause", "cancel", "rate"]
    assert told["progress"]["seconds_left"] == 31.0
    assert not {"lease", "version", "request", "run"} & set(told)


def test_progress_elsewhere_is_a_line_when_the_state_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with JobsView(as_json=False) as view:
        for row in (running(), running(), running(state="PAUSED")):
            view.progress(row)
    assert capsys.readouterr().err.splitlines() == [
        "RUNNING, 4,070 of 18,000 published, 5 failed, 451/s, 31 s left",
        "PAUSED, 4,070 of 18,000 published, 5 failed, 451/s, 31 s left",
    ]


def test_facts_are_aligned_and_their_foreign_text_is_harmless() -> None:
    facts = [("job", "j1"), ("not sent", "a\x1b]0;x\x07 [red]b\u202e")]
    assert on_terminal(lambda out: show_facts(out, facts)) == [
        "job       j1",
        "not sent  a\ufffd]0;x\ufffd [red]b\ufffd",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.01, "10 ms"),
        (0.5, "0.5 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (7200, "2 h"),
        (90_061, "1 d 1 h"),
    ],
)
def test_durations_are_written_in_two_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_bars_show_the_least_and_the_most() -> None:
    assert list(bars([0, 1, 500, 1000], 2)) == ["   █", " ▁██"]
    assert list(bars([0, 0], 1)) == ["  "]
    assert visible("ü\tb") == "ü\ufffdb"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("kafka://h:9092/ord?rs,a-??", "kafka://h:9092/ord?rs,a-??"),
        ("mongodb://user:secret@h/db?password=secret", "mongodb://h/db?…"),
    ],
)
def test_a_url_is_shown_without_secrets_but_with_its_pattern(url: str, shown: str) -> None:
    assert without_login(url) == shown
