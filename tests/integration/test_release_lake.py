"""What an earlier release has archived is taken over: claims, files, entries, dead letters, positions."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from bson import json_util
from confluent_kafka import KafkaError, KafkaException
from pymongo import MongoClient

from resubmit_api.auth.tokens import Tokens, digest_of
from tests._brokers import NatsSite, messages
from tests._replay import consumed
from tests.integration.harness import Archive, Persist
from tests.release import DATA, KAFKA, LAKE, NATS, Release
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.maintenance.expire import expire
from transforms.maintenance.rebuild import rebuild
from transforms.metadata import decode
from transforms.read_batches import _PositionsCoder
from transforms.reading.shard import Shard
from transforms.reading.source import Source

_MORE = 10
_LOADING = KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR
_PLACES = ("id", "checksum", "location", "position", "size", "topic", "partition", "offset", "publish_time")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    return Release(tmp_path / "release", monkeypatch)


def goes_on(release: Release, source: str, broker: str, ids: list[str], **more: str) -> None:
    """Archive what was published since; the lake then has every message once, in whole files."""
    archive = release.archive(release.sources[source])
    before = [path for path in archive.files() if path.startswith(f"{source}/")]
    mine = Only(archive, source)
    mine.check_not_overwritten()
    where = {"source": f"{broker}/{source}", "lake": LAKE, "index": release.index_url, **more}
    with Persist(release.place / "log", format=release.sources[source], **where) as job:
        archive.wait_for(ids, job)
        job.drain()
    mine.check_not_overwritten()
    assert len(mine.files()) > len(before)
    rows = mine.messages()["id"].to_pylist()
    assert sorted(rows) == sorted({*rows, *ids})
    assert len(rows) == release.expected["messages"] + len(ids)


class Only(Archive):
    """The files of one source."""

    def __init__(self, archive: Archive, source: str) -> None:
        super().__init__(archive.lake, archive.index_url, archive._format)
        self._source = source

    def files(self) -> list[str]:
        return [path for path in super().files() if path.startswith(f"{self._source}/")]


@pytest.mark.parametrize("source", ["release-avro", "release-jsonl"])
def test_nats_is_archived_on_behind_the_claims(release: Release, source: str) -> None:
    with release.nats() as nats:
        NatsSite(nats).publish(source, messages(*({"data": b"new %d" % n} for n in range(_MORE))))
        first = release.expected["messages"] + 1
        goes_on(release, source, NATS, [f"{source}_0_{n}" for n in range(first, first + _MORE)])


@pytest.mark.parametrize("forgotten", [False, True], ids=["with its offsets", "by the claims alone"])
def test_kafka_is_archived_on_behind_the_claims(release: Release, forgotten: bool) -> None:
    with release.kafka() as kafka:
        if forgotten:
            wait_until(lambda: forget(kafka, Source("", purpose=f"{LAKE}|").group), 30, "the coordinator")
        new = [{"partition": n % 2, "value": b"new %d" % n} for n in range(_MORE)]
        sent = kafka.produce("release", new)
        ids = [f"release_{m.partition()}_{m.offset()}" for m in sent]
        # Without the offsets what had become dead letters is read again.
        goes_on(release, "release", KAFKA, ids, dead_letter=f"{KAFKA}/dead")


def forget(kafka: Kafka, group: str) -> bool:
    try:
        kafka.delete_group(group)
    except KafkaException as error:
        if error.args[0].code() not in _LOADING:
            raise
        return False
    return True


def test_a_restriction_goes_on_where_it_was(release: Release) -> None:
    stored = (DATA / "restriction.json").read_bytes()
    positions = _PositionsCoder().decode(stored)
    assert (positions.next, positions.done) == ({"release~1/0": 15}, False)
    with release.kafka():
        shard = Shard(Source(f"{KAFKA}/release", lake=LAKE, purpose=f"{LAKE}|"))
        try:
            ready = shard.turn(5.0, positions.at, positions.next)
        finally:
            shard.close()
    assert next((one.start, one.next) for one in ready if one.key == "release~1/0") == (15, 22)


def test_an_index_is_made_again_from_the_files(release: Release, tmp_path: Path) -> None:
    again = f"sqlite://{tmp_path}/again.db"
    with closing(registry.index(again).open(again)) as index:
        report = rebuild(release.lake, index, datetime.now(timezone.utc))
    assert (report.failed, report.indexed) == ({}, 120)
    assert release.entries(again, _PLACES).equals(release.entries(columns=_PLACES))


def test_the_index_is_searched(release: Release) -> None:
    rows = release.rows().select(["id", "checksum"]).sort_by("id")
    assert release.entries().cast(rows.schema).equals(rows)
    with closing(registry.index(release.index_url).open(release.index_url)) as index:
        actions = [record["action"] for record in reversed(index.list_audit(99))]
    assert actions == ["plan", "plan", "run", "plan", "run", "plan", "run"]


def test_files_and_claims_expire(release: Release) -> None:
    with closing(registry.index(release.index_url).open(release.index_url)) as index:
        report = expire(release.lake, index, datetime.now(timezone.utc), young=timedelta(0))
    assert (report.files, report.messages, report.entries, report.kept) == (10, 120, 120, {})
    # Whatever was claimed was claimed before any of it was durable: reading may have to begin there.
    assert (report.problems, report.claims, release.archive("parquet").claims()) == ([], 0, 12)
    assert release.archive("parquet").files() == []


def test_a_stored_dead_letter_is_read(release: Release) -> None:
    [(path, _)] = release.lake.list("_persistor/dead")
    [letter] = registry.format_of("parquet").decode(release.lake.get(path)).to_pylist()
    assert (letter["id"], letter["data"]) == ("release_0_21", bytes(16_384))


def test_metadata_messages_are_indexed(release: Release) -> None:
    told = json.loads((DATA / "metadata.json").read_text())
    tables = [
        decode(
            base64.b64decode(one["data"]),
            [{"name": name, "value": value.encode()} for name, value in one["headers"].items()],
        )
        for one in told
    ]
    found = pa.concat_tables(tables).select(["id", "checksum"]).sort_by("id")
    mine = [id.startswith("release-avro") for id in release.entries()["id"].to_pylist()]
    assert found.equals(release.entries().filter(pa.array(mine)).cast(found.schema))


def test_documents_of_mongodb_are_searched_and_a_plan_among_them_is_sent(
    release: Release, mongodb: MongoDB
) -> None:
    url = mongodb.url.replace("/persistor", "/release")
    documents = json_util.loads((DATA / "documents.json").read_text())
    client: MongoClient[dict[str, object]] = MongoClient(url)
    with closing(client), release.kafka() as kafka:
        for name, kept in documents.items():
            if kept:
                client.get_default_database()[name].insert_many(kept)
        assert release.entries(url).equals(release.entries())
        plan = release.expected["mongodb_planned"]
        assert release.command("resubmit", "--plan", plan, index_url=url) == 0
        assert len(consumed(kafka, "copy", 2)) >= release.expected["messages"]
        client.drop_database("release")


def test_a_token_opens_what_it_opened(release: Release) -> None:
    caller = Tokens(str(DATA / "tokens.yaml")).find(digest_of(release.expected["token"]))
    assert caller is not None
    assert (caller.name, caller.role.name, caller.sources) == ("ci", "OPERATOR", ("release*",))
