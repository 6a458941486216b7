"""What index stores say and keep when something goes wrong: bad URLs, refusals, kills."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pytest
from pymongo import MongoClient

from tests._entries import entry, stream, table
from tests.conftest import running
from tests.servers import free_port, wait_until
from tests.servers.mongodb import MongoDB
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.indexes import mongodb, sqlite
from transforms.selection import Selection

EVERYTHING = Selection(all=True)


def insert_until_killed(url: str, done: Connection) -> None:
    index = sqlite.open(url)
    for number in range(10_000):
        index.insert(stream(number * 100, 100))
        done.send(number + 1)


class TestSqlite:
    def test_four_slashes_name_the_same_file(self, tmp_path: Path) -> None:
        for url in (f"sqlite://{tmp_path}/index.db", f"sqlite:///{tmp_path}/index.db"):
            sqlite.open(url).close()
        assert [path.name for path in tmp_path.glob("*.db")] == ["index.db"]

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://index.db", "sqlite:index.db"])
    def test_another_form_of_url_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="write sqlite:///PATH"):
            sqlite.open(url)

    def test_a_missing_directory_is_made(self, tmp_path: Path) -> None:
        sqlite.open(f"sqlite://{tmp_path}/a/b%20?c#d/index.db").close()
        assert stat.S_ISREG((tmp_path / "a/b%20?c#d/index.db").stat().st_mode)

    def test_what_is_no_index_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        text, other = tmp_path / "notes.txt", tmp_path / "other.db"
        text.write_bytes(b"not a database, but long enough to be looked at" * 50)
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE entries (id)")
        taken, unwritable = "; name another file", "; name a file that can be written"
        for path, advice in ((text, taken), (other, taken), (tmp_path, unwritable)):
            before = path.read_bytes() if path.is_file() else b""
            with pytest.raises(ConfigurationError, match=rf"{advice}\.$"):
                sqlite.open(f"sqlite://{path}")
            assert before == (path.read_bytes() if path.is_file() else b"")

    def test_a_place_that_cannot_be_written_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="/proc"):
            sqlite.open("sqlite:///proc/persistor/index.db")

    def test_a_file_that_is_gone_is_not_silently_made_anew(self, tmp_path: Path) -> None:
        index = sqlite.open(f"sqlite://{tmp_path}/index.db")
        (tmp_path / "index.db").rename(tmp_path / "moved.db")
        with pytest.raises(TransientError, match="unable to open"):
            index.insert(stream(0, 1))
        (tmp_path / "moved.db").rename(tmp_path / "index.db")
        assert index.insert(stream(0, 1)) == 1

    def test_a_process_does_not_remember_every_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_NAMES_KEPT", 5)
        index = sqlite.open(f"sqlite://{tmp_path}/index.db")
        files = [f"file:///lake/{number:02d}.parquet" for number in range(30)]
        for number, location in enumerate(files):
            index.insert(table(entry(f"orders_0_{number}", offset=number, location=location)))
        assert [*index._numbers] == ["orders"]
        [found] = index.select(EVERYTHING, ["location"])
        assert found["location"].to_pylist() == files
        assert len(index._names) <= 5

    def test_many_who_open_a_new_file_at_once_all_have_it(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(6) as openers:
            urls = [f"sqlite://{tmp_path}/{n}.db" for n in range(60) for _ in range(6)]
            for opened in openers.map(sqlite.open, urls):
                opened.close()

    def test_another_writer_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index = sqlite.open(f"sqlite://{tmp_path}/index.db")
        monkeypatch.setattr("transforms.indexes.sqlite.file.BUSY_SECONDS", 0.1)
        with sqlite3.connect(tmp_path / "index.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TransientError, match="locked"):
                index.insert(stream(0, 5))
            assert index.sources() == []
            other.execute("COMMIT")
        assert index.insert(stream(0, 5)) == 5

    def test_what_was_confirmed_survives_a_kill(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        url = f"sqlite://{tmp_path}/index.db"
        writer = context.Process(target=insert_until_killed, args=(url, sender))
        writer.start()
        confirmed = [
            wait_until(lambda: receiver.poll(1) and receiver.recv(), 60, "an insert") for _ in range(5)
        ]
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        while receiver.poll():
            confirmed.append(receiver.recv())
        index = sqlite.open(url)
        stored = index.summarize(EVERYTHING)[0].messages
        assert stored % 100 == 0
        assert stored in (confirmed[-1] * 100, confirmed[-1] * 100 + 100)
        assert index.insert(stream(0, stored + 50)) == 50


@pytest.fixture
def server() -> Iterator[MongoDB]:
    yield from running(MongoDB)


class TestMongodb:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mongodb://127.0.0.1", "name the database"),
            ("mongodb://127.0.0.1/?w=1", "name the database"),
            ("mongodb://", "empty|host"),
            ("mongodb://127.0.0.1:port/x", "[Pp]ort"),
            ("mongodb://127.0.0.1/x?tls=maybe", "tls"),
            ("mongodb://us:er:secret@127.0.0.1/x", "escaped"),
        ],
    )
    def test_a_bad_url_is_refused_without_showing_the_password(self, url: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words) as raised:
            mongodb.open(url)
        assert "secret" not in str(raised.value)

    def test_wrong_credentials_are_refused(self, server: MongoDB) -> None:
        with pytest.raises(ConfigurationError, match="check user, password and roles") as raised:
            mongodb.open(f"mongodb://somebody:secret@127.0.0.1:{server.port}/persistor?authSource=admin")
        assert "secret" not in str(raised.value)

    def test_a_server_that_wants_credentials_is_named(self) -> None:
        with MongoDB(arguments=["--auth"]) as server, MongoClient("127.0.0.1", server.port) as client:
            client.admin.command("createUser", "admin", pwd="p", roles=["root"])
            with pytest.raises(ConfigurationError, match="check user, password and roles"):
                mongodb.open(server.url)

    def test_a_server_that_is_away_is_transient(self) -> None:
        with pytest.raises(TransientError, match="does not answer"):
            mongodb.open(f"mongodb://127.0.0.1:{free_port()}/persistor")

    def test_what_was_confirmed_survives_a_kill(self, server: MongoDB) -> None:
        index = mongodb.open(server.url)
        assert index.insert(stream(0, 5_000)) == 5_000
        server.kill()
        calls: list[Callable[[], object]] = [
            lambda: index.insert(stream(5_000, 10)),
            lambda: index.get("orders_0_0"),
            lambda: list(index.select(EVERYTHING, ["id"])),
            lambda: index.create_job({"id": "1", "version": 0}, {"id": "1"}),
            index.ping,
        ]
        with ThreadPoolExecutor(len(calls)) as pool:
            failures = [attempt.exception() for attempt in [pool.submit(call) for call in calls]]
        assert [type(failure) for failure in failures] == [TransientError] * len(calls)
        server.start()
        assert index.summarize(EVERYTHING)[0].messages == 5_000
        assert index.insert(stream(4_000, 1_010)) == 10
        index.close()

    def test_an_entry_over_the_limit_of_a_document_is_permanent(self, server: MongoDB) -> None:
        index = mongodb.open(server.url)
        huge = table(entry("huge", attributes=[("a", "x" * (17 << 20))]))
        with pytest.raises(PermanentError) as raised:
            index.insert(huge)
        assert "xxx" not in str(raised.value)
        assert index.insert(pa.concat_tables([stream(0, 3)])) == 3
        index.close()
