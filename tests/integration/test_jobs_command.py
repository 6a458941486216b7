"""``persistor plan`` and ``persistor jobs`` with real jobs: on SQLite, a lake of files and NATS JetStream."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipelines import plan, resubmit
from pipelines.cli import main
from pipelines.settings.replay import ResubmitSettings
from tests._archive import archive
from tests._brokers import NatsSite, fetch, reading, together
from tests._messages import row, table
from tests._processes import spawned
from tests._replay import command, freeze
from tests._replay import settings as of
from tests.servers import wait_until
from transforms import registry
from transforms.brokers import Partition
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.states import WrongStateError, possible
from transforms.lake import Lake
from transforms.replay.control import Wish, write_control
from transforms.replay.options import Rate


def numbered(first: int, end: int, partition: int = 0) -> Any:
    return table(*[row(partition=partition, offset=n, data=b"%d" % n) for n in range(first, end)])


def arrived(nats_site: NatsSite, subject: str, count: int) -> list[bytes]:
    with reading(nats_site.reader(subject), {Partition(subject, 0): 1}) as reader:
        return list(together(fetch(reader, count))["data"].to_pylist())


def data(first: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, end)]


def look(index: Index, id: str) -> Row:
    return index.get_job(id) or {}


def asked(index: Index) -> list[tuple[str, str]]:
    """What the audit trail says, the first first."""
    return [(record["action"], record["job"]) for record in reversed(index.list_audit(99))]


def jobs(made: ResubmitSettings, *words: str) -> int:
    return main(["jobs", "--index", made.index, *words])


def test_a_plan_sends_what_it_showed_also_when_more_matches_later(
    nats_site: NatsSite,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    subject: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive(lake, index, numbered(0, 30))
    made = of(tmp_path, f"{nats_site.server.url}/{subject}")
    words = ["--index", made.index, "--lake", lake.url, "--json"]
    to = ["--destination", made.destination or "", "--selection", made.selection or ""]
    assert main(["plan", *words, *to]) == 0
    shown = json.loads(capsys.readouterr().out)["plan"]
    assert (shown["messages"], len(shown["samples"]), sum(shown["histogram"]["messages"])) == (30, 10, 30)
    planned = look(index, shown["job"])
    assert (planned["state"], planned["lease"], planned["started"]) == ("PLANNED", None, None)
    archive(lake, index, numbered(30, 50, partition=1))
    report = resubmit.run(
        of(tmp_path, None, selection=None, plan=shown["job"], rate=Rate(messages_per_second=10_000))
    )
    assert (report.job, report.planned, report.published) == (shown["job"], 30, 30)
    done = look(index, shown["job"])
    assert (done["state"], done["rate"]["messages_per_second"]) == ("COMPLETED", 10_000)
    assert asked(index) == [("plan", shown["job"]), ("run", shown["job"])]
    with pytest.raises(WrongStateError, match=r"^It was sent already \(COMPLETED\); make"):
        resubmit.run(of(tmp_path, None, selection=None, plan=shown["job"]))
    stream = nats_site.do(lambda js: js.stream_info(subject.partition(".")[0]))
    assert (stream.state.messages, arrived(nats_site, subject, 30)) == (30, data(0, 30))


def test_a_plan_that_cannot_run_is_kept_as_such(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    archive(lake, index, table(row(data=b"x", key=b"k")))
    made = plan.run(of(tmp_path, f"{nats_site.server.url}/{subject}"))
    assert len(made.problems) == 1
    assert look(index, made.job)["plan"]["problems"] == list(made.problems)
    for wrong in ({"plan": made.job}, {"plan": "none"}, {"resume": made.job}):
        with pytest.raises((WrongStateError, ConfigurationError)):
            resubmit.run(of(tmp_path, None, selection=None, **wrong))
    assert look(index, made.job)["state"] == "PLANNED"
    assert jobs(of(tmp_path, None), "--job", made.job, "--action", "cancel") == 0
    assert look(index, made.job)["state"] == "CANCELLED"


def test_a_plan_that_is_cancelled_while_it_is_made_ends_cancelled(
    nats_site: NatsSite,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    subject: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(lake, index, numbered(0, 3))
    make = plan.make_plan

    def cancelled_meanwhile(*args: Any, job: str, **others: Any) -> Any:
        assert jobs(of(tmp_path, None), "--job", job, "--action", "cancel") == 0
        assert look(index, job)["state"] == "CANCELLING"
        return make(*args, job=job, **others)

    monkeypatch.setattr(plan, "make_plan", cancelled_meanwhile)
    made = plan.run(of(tmp_path, f"{nats_site.server.url}/{subject}"))
    done = look(index, made.job)
    assert (done["state"], done["reason"], done["lease"]) == ("CANCELLED", "It was cancelled.", None)
    with pytest.raises(WrongStateError):
        resubmit.run(of(tmp_path, None, selection=None, plan=made.job))


def test_a_plan_is_not_led_to_another_destination_and_stays_a_plan(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    archive(lake, index, numbered(0, 3))
    url = f"{nats_site.server.url}/{subject}"
    made = plan.run(of(tmp_path, url))
    to = f"plan {made.job} sends to {url}"
    for given, told in (
        (f"{url}x", f"--destination {url}x: {to}; "),
        (url.replace("//", "//me:hush@"), f"--destination {url}: {to} with another login; "),
    ):
        with pytest.raises(ConfigurationError) as refused:
            resubmit.run(of(tmp_path, given, selection=None, plan=made.job))
        assert str(refused.value) == f"{told}remove --destination, or make a new plan."
    assert look(index, made.job)["state"] == "PLANNED"
    assert resubmit.run(of(tmp_path, url, selection=None, plan=made.job)).published == 3


def test_a_plan_whose_lake_is_not_named_stays_a_plan(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    archive(lake, index, numbered(0, 3))
    made = plan.run(of(tmp_path, f"{nats_site.server.url}/{subject}"))
    elsewhere = of(tmp_path, None, selection=None, plan=made.job, lakes=(f"file://{tmp_path}/other",))
    with pytest.raises(ConfigurationError, match="has no plan of job"):
        resubmit.run(elsewhere)
    assert look(index, made.job)["state"] == "PLANNED"


def test_a_job_of_another_process_is_watched_slowed_down_paused_and_gone_on_with(
    nats_site: NatsSite,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    subject: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive(lake, index, numbered(0, 9000))
    made = of(tmp_path, f"{nats_site.server.url}/{subject}")
    words = command(made, "--selection", made.selection or "", "--messages_per_second", "100")

    def sending() -> Row | None:
        found = index.list_jobs(1, states=("RUNNING",))
        return found[0] if found and found[0]["progress"]["published"] else None

    with spawned(words, stdout=subprocess.DEVNULL) as sender:
        id = wait_until(sending, 240, "a job that sends")["id"]
        assert jobs(made, "--state", "RUNNING") == 0
        assert capsys.readouterr().out.startswith(f"{id}\tRUNNING\t")
        assert jobs(made, "--job", id, "--action", "retry") == 2
        assert (
            "is RUNNING, which does not allow retry; possible: pause, cancel, rate" in capsys.readouterr().err
        )
        rate = ["--action", "rate", "--messages_per_second", "200", "--bytes_per_second", "1MB"]
        assert jobs(made, "--job", id, *rate) == 0
        assert look(index, id)["rate"] == {"messages_per_second": 200, "bytes_per_second": 1_000_000}
        assert jobs(made, "--job", id, "--action", "pause") == 0
        assert sender.wait(60) == 1
    paused = look(index, id)
    assert (paused["state"], paused["lease"]) == ("PAUSED", None)
    assert 0 < paused["progress"]["published"] < 9000
    assert jobs(made, "--job", id, "--action", "resume") == 2
    assert f"persistor resubmit --resume {id} does that" in capsys.readouterr().err
    assert jobs(made, "--job", id, "--action", "rate") == 0
    with spawned(command(made, "--resume", id), stdout=subprocess.DEVNULL) as again:
        capsys.readouterr()
        assert jobs(made, "--job", id, "--follow", "--json") == 0
        followed = json.loads(capsys.readouterr().out)
        assert (followed["state"], followed["progress"]["published"]) == ("COMPLETED", 9000)
        assert again.wait(60) == 0
    assert arrived(nats_site, subject, 9000) == data(0, 9000)
    assert [action for action, _ in asked(index)] == ["resubmit", "rate", "pause", "rate", "resume"]


@pytest.mark.parametrize(
    ("end", "code", "state"), [("resume", 0, "COMPLETED"), ("cancel", 1, "CANCELLED"), (None, 1, "PAUSED")]
)
def test_a_followed_job_is_held_while_it_is_paused(
    nats_site: NatsSite,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    subject: str,
    end: str | None,
    code: int,
    state: str,
) -> None:
    archive(lake, index, numbered(0, 900))
    made = of(tmp_path, f"{nats_site.server.url}/{subject}")
    words = ["--follow", "--json", "--selection", made.selection or "", "--messages_per_second", "30"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with spawned(command(made, *words), **pipes) as sender:
        assert sender.stdout
        assert sender.stderr
        sending = partial(index.list_jobs, 1, states=("RUNNING",))
        wait_until(lambda: (found := sending()) and found[0]["progress"]["published"], 60, "a job that sends")
        id = index.list_jobs(1)[0]["id"]
        assert jobs(made, "--job", id, "--action", "pause") == 0
        advice = f"Paused. Resume it in the web pages, or with `persistor jobs --job {id} "
        assert any(advice in line for line in sender.stderr)
        assert possible(look(index, id)) == ["resume", "cancel", "rate"]
        assert jobs(made, "--job", id, "--action", "rate") == 0
        if end is None:
            sender.send_signal(signal.SIGINT)
        else:
            assert jobs(made, "--job", id, "--action", end) == 0
        assert sender.wait(60) == code
        report = json.loads(sender.stdout.read())["report"]
    row = look(index, id)
    assert (row["state"], row["lease"]) == (state, None)
    sent = row["progress"]["published"]
    assert (report["published"], sent == 900) == (sent, end == "resume")
    assert arrived(nats_site, subject, sent) == data(0, sent)
    if end is None:
        assert possible(row) == ["cancel", "rate"]
        assert f"because the job was paused: continue with `resume: {id}`" in report["notes"][0]


def test_wishes_of_before_the_index_was_lost_do_not_overrule_the_job(
    nats_site: NatsSite, lake: Lake, tmp_path: Path, subject: str
) -> None:
    made = of(tmp_path, f"{nats_site.server.url}/{subject}", index=f"sqlite://{tmp_path}/first.db")
    first, again = (registry.index(url).open(url) for url in (made.index, f"sqlite://{tmp_path}/again.db"))
    with closing(first), closing(again):
        archive(lake, first, numbered(0, 30))
        frozen = freeze(lake, first, made.destination or "")
        write_control(lake, frozen.job, Wish("pause", 1.0), 3)
        write_control(lake, frozen.job, Wish("pause", 2.0), 41)
        resumed = of(tmp_path, None, selection=None, resume=frozen.job, index=f"sqlite://{tmp_path}/again.db")
        report = resubmit.run(resumed)
        assert (report.published, report.halted, look(again, frozen.job)["state"]) == (30, None, "COMPLETED")
    assert arrived(nats_site, subject, 30) == data(0, 30)


def test_ctrl_c_ends_the_watching_and_not_the_job(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    archive(lake, index, numbered(0, 5000))
    made = of(
        tmp_path, f"{nats_site.server.url}/{subject}", rate=Rate(messages_per_second=100)
    )  # until it is let go
    sender = threading.Thread(target=resubmit.run, args=(made,))
    sender.start()
    id = wait_until(lambda: index.list_jobs(1), 60, "the job")[0]["id"]
    follow = [*command(made)[:2], "pipelines", "jobs", "--index", made.index, "--job", id, "--follow"]
    with spawned(follow, stderr=subprocess.PIPE, text=True) as watcher:
        assert watcher.stderr
        assert watcher.stderr.readline().startswith("RUNNING, ")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(90) == 130
        assert watcher.stderr.read().endswith("The job continues; this command no longer follows it.\n")
    assert jobs(made, "--job", id, "--action", "rate") == 0
    sender.join(60)
    assert look(index, id)["state"] == "COMPLETED"


def test_what_a_job_could_not_publish_is_tried_again_alone(
    nats_site: NatsSite,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    subject: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, second, _ = archive(lake, index, numbered(0, 60), rows_per_file=20)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    made = of(tmp_path, f"{nats_site.server.url}/{subject}")
    first = resubmit.run(made)
    assert (first.published, first.failed) == (40, {"missing": 20})
    assert jobs(made, "--job", first.job, "--follow") == 1  # it has ended, and did not send all
    hidden.with_suffix(".hidden").rename(hidden)
    capsys.readouterr()
    assert jobs(made, "--job", first.job, "--action", "retry", "--json") == 0
    waiting = json.loads(capsys.readouterr().out)
    assert (waiting["state"], waiting["retry_of"]) == ("PAUSED", first.job)
    assert waiting["reason"] == f"Run the command to start it: persistor resubmit `resume: {waiting['id']}`"
    assert jobs(made, "--job", first.job, "--action", "retry") == 2
    again = resubmit.run(of(tmp_path, None, selection=None, resume=waiting["id"]))
    assert (again.planned, again.published) == (20, 20)
    assert look(index, first.job)["retried_by"] == waiting["id"]
    assert arrived(nats_site, subject, 60) == data(0, 20) + data(40, 60) + data(20, 40)


def test_what_is_tried_again_is_not_led_to_another_destination(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    _, second, _ = archive(lake, index, numbered(0, 60), rows_per_file=20)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    first = resubmit.run(of(tmp_path, f"{nats_site.server.url}/{subject}"))
    hidden.with_suffix(".hidden").rename(hidden)
    assert jobs(of(tmp_path, None), "--job", first.job, "--action", "retry") == 0
    again = look(index, first.job)["retried_by"]
    elsewhere = of(tmp_path, f"{nats_site.server.url}/{subject}.x", selection=None, resume=again)
    with pytest.raises(ConfigurationError, match="remove --destination, or start a new job"):
        resubmit.run(elsewhere)
    assert arrived(nats_site, subject, 40) == data(0, 20) + data(40, 60)
