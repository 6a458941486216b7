"""Messages that a resubmission marks: consumers see by which job, and an archive may leave them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import main
from tests._archive import archive
from tests._brokers import Site, contents, fetch, installed, numbered, reading, together
from tests._messages import row, table
from tests._replay import header
from tests.integration.harness import Archive, Persist, metric
from tests.servers import free_port, wait_until
from transforms.indexes import Index
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)


def resubmit(site: Site, topic: str, tmp_path: Path, index: Index, *more: str) -> str:
    words = ["resubmit", "--index", f"sqlite://{tmp_path}/index.db", "--lake", f"file://{tmp_path}/lake"]
    words += ["--destination", site.url(topic), "--source", "orders", "--timestamp", "now"]
    assert main([*words, *more]) == 0
    return str(index.list_jobs(1)[0]["id"])


@pytest.mark.parametrize("broker", ["kafka", "nats", "pubsub"])
def test_marked_messages_name_their_job_once_and_are_left_out_of_an_archive_that_skips_them(
    broker: str, lake: Lake, index: Index, tmp_path: Path
) -> None:
    plain, old = header("a", b"1"), header("persistor-replay", b"an earlier job")
    sent = [[plain], [old, plain], []]
    archive(lake, index, table(*(row(offset=n, data=b"%d" % n, headers=h) for n, h in enumerate(sent))))
    with installed(broker) as site:
        topic = site.topic()
        job = resubmit(site, topic, tmp_path, index, "--mark", "--lossy")
        with reading(site.reader(topic, "check")) as reader:
            arrived = together(fetch(reader, 3))
        mark = header("persistor-replay", job.encode())
        wanted = table(
            *(row(data=b"%d" % n, headers=h) for n, h in enumerate([[plain, mark], [plain, mark], [mark]]))
        )
        assert sorted(contents(arrived)) == sorted(contents(wanted))
        check_left_out(site, topic, tmp_path)


def check_left_out(site: Site, topic: str, tmp_path: Path) -> None:
    archived, port = Archive(Lake(f"file://{tmp_path}/second"), f"sqlite://{tmp_path}/second.db"), free_port()
    job = Persist(
        tmp_path / "log",
        source=site.url(topic),
        lake=archived.lake.url,
        index=archived.index_url,
        skip_replayed=True,
        metrics_port=str(port),
    )

    def skipped() -> bool:
        return bool(job.pid) and (metric(port, "persistor_replayed_skipped_total", source=topic) or 0) == 3

    with job:
        wait_until(skipped, 60, "the marked messages to be left out")
        # The range without a message to keep is behind it, and what follows is archived.
        site.publish(topic, numbered(5))
        wait_until(lambda: archived.indexed() == 5, 60, "the others")
        job.drain()
    assert sorted(archived.messages()["data"].to_pylist()) == [b"%d" % n for n in range(5)]
    with job:
        site.publish(topic, numbered(1, 5))
        wait_until(lambda: bool(job.pid) and archived.indexed() == 6, 60, "what follows")
        job.drain()
    assert sorted(archived.messages()["data"].to_pylist()) == [b"%d" % n for n in range(6)]


def test_without_the_option_a_message_is_sent_as_it_was_archived(
    lake: Lake, index: Index, tmp_path: Path
) -> None:
    old = header("persistor-replay", b"an earlier job")
    archive(lake, index, table(row(data=b"0", headers=[old])))
    with installed("nats") as site:
        topic = site.topic()
        resubmit(site, topic, tmp_path, index)
        with reading(site.reader(topic, "check")) as reader:
            assert contents(together(fetch(reader, 1))) == contents(table(row(data=b"0", headers=[old])))
