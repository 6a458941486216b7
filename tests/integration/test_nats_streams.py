"""What is particular to NATS: retention, wildcards, its own headers, repeats, lost connections."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo

from tests import _reading
from tests._brokers import NatsSite, fetch, installed, jetstream, messages, numbered, reading, together
from tests.servers import run, wait_until
from tests.servers.nats import Nats
from transforms import registry
from transforms.brokers import Acknowledgement, OffsetGapError, Partition, PublishOptions
from transforms.brokers.nats import open_publisher, open_reader
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.reading.buffers import Limits
from transforms.reading.source import Source


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsSite]:
    with installed("nats") as site:
        assert isinstance(site, NatsSite)
        yield site


@pytest.fixture
def stem() -> str:
    return f"s{uuid.uuid4().hex[:10]}"


def add_stream(nats: NatsSite, name: str, **config: Any) -> None:
    nats.do(lambda js: js.add_stream(name=name, **{"subjects": [f"{name}.>"], **config}))


def stream(nats: NatsSite, name: str) -> StreamInfo:
    return nats.do(lambda js: js.stream_info(name))


def durables(nats: NatsSite, name: str) -> list[ConsumerInfo]:
    return [one for one in nats.do(lambda js: js.consumers_info(name)) if one.config.durable_name]


def drop_readers(nats: NatsSite, name: str) -> None:
    async def drop(js: JetStreamContext) -> None:
        for one in await js.consumers_info(name):
            if not one.config.durable_name:
                await js.delete_consumer(name, one.name)

    nats.do(drop)


def data(fetched: list[Any]) -> list[bytes]:
    return list(together(fetched)["data"].to_pylist())


def test_the_durable_consumer_shows_operators_the_progress(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(100))
    with reading(nats.reader(f"{stem}.>", group="archive")) as reader:
        fetch(reader, 100)
        reader.acknowledge([Acknowledgement(Partition(f"{stem}.>", 0), 61)])
        (durable,) = durables(nats, stem)
        assert durable.name.startswith(f"archive-{stem}")
        assert (durable.ack_floor.stream_seq, durable.num_pending) == (60, 40)
        reader.acknowledge([Acknowledgement(Partition(f"{stem}.>", 0), 31)])
        (durable,) = durables(nats, stem)
        assert durable.ack_floor.stream_seq == 60, "progress never goes back"


def test_closing_leaves_the_durable_and_nothing_else(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        reader.poll(0.2)
        assert stream(nats, stem).state.consumer_count == 2
    assert stream(nats, stem).state.consumer_count == 1


def test_an_interest_stream_keeps_messages_until_they_are_acknowledged(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="interest")
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic)) as reader:
        reader.poll(0.2)
        nats.publish(f"{stem}.a", numbered(100))
        fetch(reader, 100)
        assert stream(nats, stem).state.messages == 100
        reader.acknowledge([Acknowledgement(partition, 41)])
        assert stream(nats, stem).state.messages == 60
    nats.publish(f"{stem}.a", numbered(10, 100))
    nats.server.kill()
    nats.server.start()
    assert stream(nats, stem).state.messages == 70
    reader = nats.reader(partition.topic)
    reader.discover()
    assert reader.committed(partition) == (41, "")
    with reading(reader, {partition: 41}):
        assert data(fetch(reader, 70)) == [b"%d" % number for number in range(40, 110)]


def test_an_interest_stream_that_gave_nothing_yet_is_read_from_its_start(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="interest")
    with reading(nats.reader(f"{stem}.>"), {Partition(f"{stem}.>", 0): 0}) as reader:
        reader.poll(0)
        nats.publish(f"{stem}.a", numbered(3))
        assert data(fetch(reader, 3)) == [b"0", b"1", b"2"]


def test_a_work_queue_loses_only_what_is_acknowledged(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="workqueue")
    partition = Partition(f"{stem}.>", 0)
    nats.publish(f"{stem}.a", numbered(100))
    with reading(nats.reader(partition.topic)) as reader:
        assert data(fetch(reader, 100)) == [b"%d" % number for number in range(100)]
        assert stream(nats, stem).state.messages == 100
        reader.acknowledge([Acknowledgement(partition, 41)])
        assert (stream(nats, stem).state.messages, stream(nats, stem).state.first_seq) == (60, 41)
    nats.server.kill()
    nats.server.start()
    with reading(nats.reader(partition.topic), {partition: 41}) as reader:
        assert data(fetch(reader, 60)) == [b"%d" % number for number in range(40, 100)]
        nats.publish(f"{stem}.a", numbered(5, 100))
        assert data(fetch(reader, 5)) == [b"%d" % number for number in range(100, 105)]
        reader.acknowledge([Acknowledgement(partition, 106)])
        assert stream(nats, stem).state.messages == 0


def test_a_work_queue_that_another_program_reads_is_refused(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="workqueue")
    nats.do(lambda js: js.pull_subscribe(f"{stem}.>", durable="other", stream=stem))
    with reading(nats.reader(f"{stem}.>")) as reader, pytest.raises(ConfigurationError, match=stem):
        reader.poll(1.0)


def test_two_readers_of_one_source_each_get_everything(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as one, reading(nats.reader(f"{stem}.>")) as other:
        one.poll(0.1)
        other.poll(0.1)
        nats.publish(f"{stem}.a", numbered(1000))
        expected = [b"%d" % number for number in range(1000)]
        assert data(fetch(one, 1000)) == expected
        assert data(fetch(other, 1000)) == expected


def test_a_consumer_that_is_taken_away_is_made_again_without_loss_or_repeat(
    nats: NatsSite, stem: str
) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        fetched = list[Any]()
        for start in range(0, 500, 100):
            nats.publish(f"{stem}.a", numbered(100, start))
            fetched += fetch(reader, 100)
            drop_readers(nats, stem)
    assert data(fetched) == [b"%d" % number for number in range(500)]


def test_offsets_are_stream_sequences_with_holes_where_others_were(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    for number in range(3):
        nats.publish(f"{stem}.a", numbered(1, number))
        nats.publish(f"{stem}.b", numbered(2))
    nats.do(lambda js: js.delete_msg(stem, 4))
    with reading(nats.reader(f"{stem}.a")) as reader:
        (fetched,) = fetch(reader, 2)
        assert fetched.messages["offset"].to_pylist() == [1, 7]
        assert fetched.messages["topic"].to_pylist() == [f"{stem}.a"] * 2
        assert fetched.position == 8


def test_retention_that_overtakes_an_idle_reader_is_a_gap(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(10))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic)) as reader:
        fetch(reader, 10)
        drop_readers(nats, stem)
        nats.publish(f"{stem}.a", numbered(20, 10))
        nats.do(lambda js: js.purge_stream(stem, seq=21))
        with pytest.raises(OffsetGapError) as gap:
            wait_until(lambda: reader.poll(0.5), 60, "a gap")
        assert gap.value.gaps == {partition: 21}
        reader.assign({partition: 21})
        assert data(fetch(reader, 10)) == [b"%d" % number for number in range(20, 30)]


def test_retention_that_removes_what_comes_next_is_a_gap_behind_what_is_there(
    nats: NatsSite, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.brokers.nats.reader._MEMORY", 0)
    add_stream(nats, stem)
    large = bytes(400_000)
    nats.publish(f"{stem}.a", messages(*[{"data": large}] * 6))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic)) as reader:
        # One request takes two of these; the next request is made by the next call.
        reader.poll(0)
        wait_until(lambda: delivered(nats, stem) == 2, 60, "two messages to be on their way")
        nats.do(lambda js: js.purge_stream(stem, seq=6))
        assert together(fetch(reader, 2))["offset"].to_pylist() == [1, 2]
        with pytest.raises(OffsetGapError) as gap:
            wait_until(lambda: reader.poll(0.5), 60, "a gap")
        assert gap.value.gaps == {partition: 6}
        reader.assign({partition: 6})
        assert together(fetch(reader, 1))["offset"].to_pylist() == [6]


def test_a_stream_that_ends_before_the_position_is_told_unless_it_soon_ends_behind_it(
    nats: NatsSite, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(5))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic), {partition: 11}) as reader:
        assert reader.poll(0) == []
        nats.publish(f"{stem}.a", numbered(6, 5))
        assert together(fetch(reader, 1))["offset"].to_pylist() == [11]
    monkeypatch.setattr("transforms.brokers.nats.filter_reader._SETTLES", 0.0)
    with reading(nats.reader(partition.topic), {partition: 13}) as reader:
        with pytest.raises(OffsetGapError) as gap:
            reader.poll(0)
        assert gap.value.gaps == {partition: 12}


def test_a_stream_that_lost_what_it_confirmed_is_no_longer_archived(
    nats: NatsSite, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.brokers.nats.filter_reader._SETTLES", 0.1)
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(10))
    with _reading.reading(source(nats, f"{stem}.a", tmp_path)) as opened:
        opened.until(10)
        nats.server.kill()
        [stored] = nats.server.data.rglob(f"{stem}/msgs")
        shutil.rmtree(stored)
        nats.server.start()
        nats.publish(f"{stem}.a", numbered(5))
        with pytest.raises(PermanentError, match=r"before position 11.*has lost messages"):
            wait_until(opened.turn, 60, "an end")


def source(nats: NatsSite, subject: str, lake: Path) -> Source:
    return Source(nats.url(subject), lake=f"file://{lake}", limits=Limits(age=0.1))


def test_a_named_stream_that_is_deleted_is_waited_for(
    nats: NatsSite, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.reading.assignment._DISCOVER_EVERY", 0.0)
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(2))
    with _reading.reading(source(nats, f"{stem}.a", tmp_path)) as opened:
        opened.until(2)
        nats.delete(stem)
        assert opened.turn() == []
        add_stream(nats, stem)
        nats.publish(f"{stem}.a", numbered(2))
        opened.until(4)
    assert opened.ids == [f"{stem}.a_0_1", f"{stem}.a_0_2", f"{stem}.a~2_0_1", f"{stem}.a~2_0_2"]


def test_a_stream_that_is_deleted_while_it_is_read_is_no_end(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    partition = Partition(f"{stem}.a", 0)
    with reading(nats.reader(partition.topic)) as reader:
        reader.poll(0)
        for subject in ("a", "b", "a"):
            nats.publish(f"{stem}.{subject}", numbered(1))
        wait_until(lambda: reader.lag() == {partition: 2}, 60, "two messages around a hole")
        nats.delete(stem)
        with pytest.raises(TransientError, match="is gone"):
            reader.poll(0)
        assert reader.poll(0) == []


def delivered(nats: NatsSite, name: str) -> int:
    (reader,) = [one for one in nats.do(lambda js: js.consumers_info(name)) if not one.config.durable_name]
    return reader.delivered.stream_seq if reader.delivered else 0


def test_a_wide_filter_reads_every_stream_and_new_ones(nats: NatsSite, stem: str) -> None:
    add_stream(nats, f"{stem}-1", subjects=[f"{stem}.orders.*", f"{stem}.a.*.x"])
    reader = nats.reader(f"{stem}.*.*,{stem}.a.b.>", exclude=[f"{stem}.dead.*"])
    assert {p.topic for p in reader.discover()} == {f"{stem}.orders.*", f"{stem}.a.b.x"}
    add_stream(nats, f"{stem}-2", subjects=[f"{stem}.dead.x", f"{stem}.new.>"])
    found = {p.topic for p in reader.discover()}
    assert found == {f"{stem}.orders.*", f"{stem}.a.b.x", f"{stem}.new.*"}
    reader.close()


def test_excluded_subjects_inside_a_filter_are_left_out(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    for subject in ("a", "dead", "b"):
        nats.publish(f"{stem}.{subject}", numbered(1))
    with reading(nats.reader(f"{stem}.>", exclude=[f"{stem}.dead"])) as reader:
        assert together(fetch(reader, 2))["topic"].to_pylist() == [f"{stem}.a", f"{stem}.b"]


def test_key_value_buckets_are_read_only_when_they_are_named(nats: NatsSite, stem: str) -> None:
    nats.do(lambda js: js.create_key_value(bucket=stem))
    assert not [p for p in discovered(nats, ">") if p.topic.startswith("$")]
    assert discovered(nats, f"$KV.{stem}.>") == [Partition(f"$KV.{stem}.>", 0)]


def discovered(nats: NatsSite, subject: str) -> list[Partition]:
    reader = nats.reader(subject, group="g")
    try:
        return list(reader.discover())
    finally:
        reader.close()


def test_overlapping_filters_are_refused(nats: NatsSite) -> None:
    with pytest.raises(ConfigurationError, match="archived twice"):
        nats.reader("orders.*,orders.new")


@pytest.mark.parametrize(
    "url", ["nats://", "nats://h", "nats://h:x/a", "nats://h/a b", "nats://h/a..b", "nats://h/>.a"]
)
def test_a_url_that_cannot_be_right_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_reader(url, {}, group="g")


def test_a_destination_is_one_subject_without_wildcards(nats: NatsSite) -> None:
    for path in ("a,b", "a.*"):
        with pytest.raises(ConfigurationError, match="one subject"):
            open_publisher(f"{nats.server.url}/{path}", {})


def test_what_a_native_producer_sent_is_archived_as_it_was(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    headers = {"Nats-Msg-Id": "order-7", "version": "2"}
    nats.do(lambda js: js.publish(f"{stem}.a", b"\x00\xff", headers=headers))
    nats.do(lambda js: js.publish(f"{stem}.a", b""))
    with reading(nats.reader(f"{stem}.a")) as reader:
        read = together(fetch(reader, 2))
    assert read["data"].to_pylist() == [b"\x00\xff", b""]
    assert read["headers"].to_pylist() == [
        [{"name": "Nats-Msg-Id", "value": b"order-7"}, {"name": "version", "value": b"2"}],
        [],
    ]


def test_an_archived_order_to_the_server_is_not_obeyed_again(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, allow_rollup_hdrs=True)
    nats.publish(f"{stem}.a", numbered(5))
    orders = [{"name": "Nats-Rollup", "value": b"all"}, {"name": "Nats-Expected-Stream", "value": b"other"}]
    nats.publish(f"{stem}.a", messages({"data": b"last", "headers": orders}))
    assert stream(nats, stem).state.messages == 6
    stored = nats.do(lambda js: js.get_msg(stem, 6)).headers or {}
    assert stored["Persistor-Nats-Rollup"] == "all"
    with reading(nats.reader(f"{stem}.a")) as reader:
        assert together(fetch(reader, 6))["headers"].to_pylist()[5] == orders


def test_the_same_lane_repeats_nothing_and_another_job_sends_again(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    sent = numbered(100)
    for name in ("job-1-0", "job-1-0", "job-2-0", None, None):
        publisher = nats.publisher(f"{stem}.a", name)
        publisher.begin()
        publisher.send(sent, PublishOptions())
        assert publisher.commit(100) == []
        publisher.close()
    assert stream(nats, stem).state.messages == 400


def test_limits_of_the_stream_name_the_messages_that_it_refuses(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, max_msg_size=1000)
    publisher = nats.publisher(f"{stem}.a")
    assert publisher.destination().max_bytes == 1000
    publisher.begin()
    sent = messages({"data": b"a"}, {"data": bytes(1001)}, {"headers": [{"name": "h", "value": b"\n"}]})
    publisher.send(sent, PublishOptions())
    assert {one.id for one in publisher.commit(0)} == set(sent["id"].to_pylist()[1:])
    publisher.close()
    assert stream(nats, stem).state.messages == 1


def test_a_lost_connection_makes_the_commit_unknown(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    publisher = nats.publisher(f"{stem}.a", "lane")
    publisher.begin()
    nats.server.pause()
    publisher.send(numbered(10), PublishOptions())
    nats.server.kill()
    with pytest.raises(TransientError):
        publisher.commit(1)
    with pytest.raises(TransientError):
        publisher.begin()
    nats.server.start()
    assert publisher.begin() is None
    publisher.send(numbered(3), PublishOptions())
    assert publisher.commit(1) == []
    publisher.close()


def test_a_subject_that_lost_its_stream_is_trouble_and_no_success(nats: NatsSite, stem: str) -> None:
    publisher = nats.publisher(f"{stem}.nobody")
    publisher.begin()
    publisher.send(numbered(1), PublishOptions())
    with pytest.raises(TransientError, match="no stream"):
        publisher.commit(0)
    publisher.close()


def test_several_servers_are_tried_in_turn(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    host = f"127.0.0.1:{nats.server.port}"
    url = f"nats://127.0.0.1:1,{host}/{stem}.>"
    reader = registry.broker(url).open_reader(url, {}, group="g")
    assert list(reader.discover()) == [Partition(f"{stem}.>", 0)]
    reader.close()


def test_a_reader_says_while_the_server_is_away_and_goes_on_after(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        reader.poll(0.1)
        nats.server.kill()
        with pytest.raises(TransientError, match="cannot be reached"):
            wait_until(lambda: reader.poll(0.5), 60, "trouble")
        nats.server.start()
        nats.publish(f"{stem}.a", numbered(10))
        assert data(fetch(reader, 10)) == [b"%d" % number for number in range(10)]


def test_a_late_acknowledgement_never_meets_the_stream_s_successor(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    partition = Partition(f"{stem}.>", 0)
    nats.publish(f"{stem}.a", numbered(50))
    with reading(nats.reader(partition.topic)) as late:
        fetch(late, 50)
        nats.delete(stem)
        add_stream(nats, stem)
        nats.publish(f"{stem}.a", numbered(100))
        with reading(nats.reader(partition.topic)) as reader:
            reader.poll(0.5)
            late.acknowledge([Acknowledgement(partition, 51)])
            assert reader.committed(partition) is None
        assert late.poll(0.5) == [], "positions of the old stream mean nothing in the new one"


def test_credentials_may_stand_in_the_url_and_are_looked_up_there(
    stem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p/@:w$\n")
    monkeypatch.setenv("NATS_USER", "me")
    with Nats(settings='authorization { user: me, password: "p/@:w$" }') as server:
        host = f"127.0.0.1:{server.port}"
        for login in (f"${{env:NATS_USER}}:${{file:{secret}}}", "me:p%2F%40%3Aw$"):
            reader = open_reader(f"nats://{login}@{host}/{stem}.>", {}, group="g")
            assert reader.discover() == {}
            reader.close()
        reader = open_reader(f"nats://me:wrong-password@{host}/{stem}", {}, group="g")
        with pytest.raises(ConfigurationError, match="refuses the credentials") as problem:
            reader.discover()
        assert "wrong-password" not in str(problem.value)
        reader.close()


def test_a_connection_is_made_with_tls_and_a_key(stem: str, tmp_path: Path) -> None:
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    (tmp_path / "user.nk").write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path,
    )  # fmt: skip
    tls = f'tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}'
    with Nats(settings=f"{tls}\nauthorization {{ users: [{{ nkey: {public} }}] }}") as server:
        url = f"{server.url}/{stem}.>"
        config = {"tls_ca": f"{tmp_path}/cert.pem", "nkey_seed": f"{tmp_path}/user.nk"}
        reader = open_reader(url, config, group="g")
        assert reader.discover() == {}
        reader.close()
        unknown = open_reader(url, {"nkey_seed": f"{tmp_path}/user.nk"}, group="g")
        with pytest.raises(TransientError, match=r"(?i)certificate"):
            unknown.discover()
        unknown.close()
        missing = open_reader(url, {**config, "nkey_seed": f"{tmp_path}/no.nk"}, group="g")
        with pytest.raises(ConfigurationError, match=r"no\.nk"):
            missing.discover()
        missing.close()


def test_a_subject_that_the_credentials_may_not_use_is_said_at_once(stem: str) -> None:
    permissions = f'{{ publish: {{ deny: "{stem}.a" }}, subscribe: ">" }}'
    user = f"{{ user: me, password: pw, permissions: {permissions} }}"
    with Nats(settings=f"authorization {{ users: [{user}] }}") as server:
        jetstream(
            f"nats://me:pw@127.0.0.1:{server.port}",
            lambda js: js.add_stream(name=stem, subjects=[f"{stem}.>"]),
        )
        publisher = open_publisher(f"{server.url}/{stem}.a", {"user": "me", "password": "pw"})
        publisher.begin()
        publisher.send(numbered(1), PublishOptions())
        with pytest.raises(ConfigurationError, match=f"{stem}.a"):
            publisher.commit(0)
        publisher.close()
