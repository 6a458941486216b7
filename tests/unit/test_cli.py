"""The command line: help at once, mistakes in plain words with exit code 2 and never a stack trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipelines.cli import main
from pipelines.settings.help import EPILOGS, SUMMARIES
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import IndexSettings, PersistSettings
from pipelines.terminal import text
from pipelines.terminal.progress import View
from transforms.quantities import human_bytes
from transforms.replay.figures import SourcePlan
from transforms.replay.options import Options
from transforms.replay.plans import Plan
from transforms.replay.report import Failure, Report


def persistor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for command, summary in SUMMARIES.items():
        assert command in shown
        assert summary in shown
    assert "persistor --version" in shown


def test_the_overview_loads_nothing_heavy() -> None:
    script = (
        "import sys; from pipelines.cli import main; main(['--help'])\n"
        "assert not {'apache_beam', 'pyarrow', 'pydantic', 'rich', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("words", ["--help", "completion fish"])
def test_who_reads_the_output_may_stop_early(words: str) -> None:
    piped = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m pipelines {words} | true"]
    done = subprocess.run(piped, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", sorted(SUMMARIES))
def test_each_command_explains_itself(command: str) -> None:
    done = persistor(command, "--help")
    assert done.returncode == 0
    assert f"usage: persistor {command}" in done.stdout
    assert "example" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["persist", "rebuild"])
def test_a_module_is_the_same_as_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = [sys.executable, "-m", "pipelines", command, "--unknown"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore::FutureWarning"}  # Google's libraries on an old Python
    done = subprocess.run(module, capture_output=True, text=True, timeout=60, check=False, env=quiet)
    assert done.returncode == main([command, "--unknown"]) == 2
    assert done.stderr == capsys.readouterr().err
    assert f"persistor {command} cannot start" in done.stderr


def test_the_api_never_loads_beam() -> None:
    script = (
        "import sys, pipelines.settings.parsing, resubmit_api.serve; assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "loaded"),
    [([], False), (["--runner=DirectRunner"], False), (["--runner", "FlinkRunner"], True)],
)
def test_beam_loads_its_clients_of_clouds_only_for_runners_that_may_use_them(
    words: list[str], loaded: bool
) -> None:
    script = f"""if True:
        import sys
        from pipelines.settings import beam_options
        words = ["--project=p", "--s3_region_name=r", "--temp_location=gs://b", *{words}]
        runner, problems = beam_options.check("resubmit", words)
        assert not problems, problems
        from pipelines import index, persist, resubmit
        from transforms.brokers import pubsub  # has a client of its own
        clouds = {{"boto3", "google.cloud.bigquery", "google.cloud.storage", "google.cloud.dataflow_v1beta3"}}
        assert clouds & set(sys.modules) == (clouds if {loaded} else set()), clouds & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_misspelt_command_gets_a_suggestion() -> None:
    done = persistor("presist")
    assert done.returncode == 2
    assert "'presist' is not a command; did you mean persist?" in done.stderr


def test_all_problems_come_at_once_without_a_stack_trace() -> None:
    done = persistor("rebuild", "--lake", "/tmp/lake", "--indx=sqlite:///i.db")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "persistor rebuild cannot start, 3 problems:\n"
        "  - --indx is unknown; did you mean --index?\n"
        "  - --index is missing: the index: mongodb://HOST/DATABASE, or sqlite:///FILE on one machine.\n"
        "  - --lake '/tmp/lake': write file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.\n"
        "persistor rebuild --help explains every setting.\n"
    )


def test_who_archives_or_indexes_says_what_without_a_login() -> None:
    words = ["--source=nats://me:hush@h:4222/a.>", "--lake=s3://b/p", "--index=mongodb://u:hush@m/d?x=hush"]
    persist, _ = parse(PersistSettings, words)
    assert text.begun(persist) == "Archiving nats://h:4222/a.> to s3://b/p; metrics on :2112"
    assert text.ended(persist, {}) == "Stopped. Every message that was read is archived."
    disk, _ = parse(PersistSettings, [words[0], "--lake=file:///data/a@b/lake", words[2]])
    assert text.begun(disk) == "Archiving nats://h:4222/a.> to file:///data/a@b/lake; metrics on :2112"
    more = ["--metadata=kafka://h:9092/meta", "--dead_letter=kafka://h:9092/dead", "--metrics_port=0"]
    index, _ = parse(IndexSettings, [words[2], *more])
    assert text.begun(index) == "Indexing kafka://h:9092/meta in mongodb://m/d?…"
    assert text.ended(index, {}) == "Stopped. Every message that was read is indexed or a dead letter."
    left = {f"topic-{n}": n for n in range(1, 8)}
    assert text.ended(persist, left) == (
        "Stopped. Every message that was read is archived; 28 messages wait at the broker "
        "(topic-7 7, topic-6 6, topic-5 5, topic-4 4, topic-3 3 and 2 other sources)."
    )


def test_every_command_says_its_exit_codes() -> None:
    assert [name for name, told in EPILOGS.items() if "\nExit code: 0 " not in told] == [
        "token",
        "completion",
    ]


@pytest.mark.parametrize(
    ("words", "told", "explained"),
    [
        ([], "Name the command to check: persistor doctor persist|index|", "doctor"),
        (["presist"], "'presist' is not a command that can be checked; did you mean persist?", "doctor"),
        (["foo"], "'foo' is not a command that can be checked; write one of persist, index, plan,", "doctor"),
        (["plan", "--indx=x"], "--indx is unknown; did you mean --index?", "plan"),
    ],
)
def test_what_doctor_cannot_try_is_named(
    words: list[str], told: str, explained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("persistor doctor cannot start, ")
    assert lines[1].startswith(f"  - {told}")
    assert lines[-1] == f"persistor {explained} --help explains every setting."


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "persistor 0.1.0\n"


PLAN = Plan(
    job="j1",
    selection={"all": True},
    destination="kafka://h:9092/t",
    topic="t",
    options=Options(partitions="key"),
    lanes={0: 3},
    messages=3,
    bytes=4_200,
    files=2,
    requests=2,
    largest=2_000,
    oldest_us=0,
    newest_us=1_000_000,
    sources=(SourcePlan("orders[x]", 3, 4_200, 0, 1_000_000),),
    cannot_carry={"null payloads": 1},
    problems=("It is full.",),
    warnings=("It is old.",),
    deduplication="none",
)
REPORT = Report(
    job="j1",
    destination="copy",
    planned=3,
    published=2,
    failed={"missing": 1},
    errors=[Failure("orders_0_1", "file:///lake/a.parquet", "missing", "the file is gone")],
    seconds=2.0,
)


def test_plan_and_report_are_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with View(as_json=False) as view:
        assert view.plan(PLAN) == 2
        assert view.report(REPORT) == 1
    assert capsys.readouterr().out.splitlines() == [
        "job:                    j1",
        "destination:            kafka://h:9092/t",
        'selection:              {"all": true}',
        "messages:               3 (4.2 kB, largest 2.0 kB)",
        "read from:              2 files in 2 reads",
        "published:              1970-01-01T00:00:00+00:00 to 1970-01-01T00:00:01+00:00",
        "estimated time:         0 s",
        "sent with:              original timestamps, partitions by key, order by partition",
        "repeats after a crash:  none",
        "source orders[x]:       3 (4.2 kB)",
        "cannot carry:           null payloads: 1 messages",
        "warning:                It is old.",
        "problem:                It is full.",
        "job:                    j1",
        "topic:                  copy",
        "planned:                3",
        "published:              2",
        "failed (missing):       1",
        "not sent:               orders_0_1 in file:///lake/a.parquet: the file is gone",
        "took:                   2.0 s",
        "rate:                   1 message per second",
    ]


def test_as_json_plan_and_report_are_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    with View(as_json=True) as view:
        view.plan(PLAN)
        view.progress(1, 0, 3)
        view.report(REPORT)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads(
        json.dumps({"plan": PLAN.report(), "report": REPORT.to_dict()})
    )
    assert shown.err == ""


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (4 * 10**15, "4.0 PB")],
)
def test_sizes_are_written_for_people(count: int, shown: str) -> None:
    assert human_bytes(count) == shown
