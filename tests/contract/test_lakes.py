"""What every lake must do, on real stores: a disk, S3 twice, Azure and Google Cloud Storage."""

from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import running
from tests.servers import free_port
from tests.servers.azurite import Azurite
from tests.servers.gcs import GCS
from tests.servers.minio import MinIO
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.lake import AccessDeniedError, Lake, ObjectMissingError, find_lake
from transforms.maintenance.expire import _MessagesLake
from transforms.retry import retry

_STORES = ("file", "moto", "minio", "azurite", "gcs")


@pytest.fixture(params=_STORES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake under a prefix of its own."""
    if request.param == "file":
        return Lake(f"file://{tmp_path}/lake")
    server = request.getfixturevalue(request.param)
    bucket = server.create_bucket(f"lake-{uuid.uuid4().hex[:12]}")
    return Lake(f"{bucket}/some/prefix", server.config)


def test_an_object_comes_back_as_it_was_written(lake: Lake) -> None:
    data = bytes(range(256)) * 10
    assert lake.put_new("a/b.parquet", data) is True
    assert bytes(lake.get("a/b.parquet")) == data


@pytest.mark.parametrize("view", [memoryview, pa.py_buffer])
def test_buffers_are_written_as_bytes_are(lake: Lake, view: Any) -> None:
    assert lake.put_new("a", view(b"content")) is True
    assert bytes(lake.get("a")) == b"content"


def test_an_empty_object_is_an_object(lake: Lake) -> None:
    assert lake.put_new("empty", b"") is True
    assert bytes(lake.get("empty")) == b""
    assert lake.open("empty").size == 0
    assert lake.put_new("empty", b"no longer") is False


def test_a_second_write_is_refused_and_changes_nothing(lake: Lake) -> None:
    assert lake.put_new("a", b"first") is True
    assert lake.put_new("a", b"second, and longer") is False
    assert lake.put_new("a", b"first") is False
    assert bytes(lake.get("a")) == b"first"


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_writers_at_once_exactly_one_wins(lake: Lake, attempt: int) -> None:
    contents = [bytes([number]) * 20_000 for number in range(20)]

    def write(content: bytes) -> bool:
        return retry(lambda: lake.put_new("contested", content), "write", give_up_after=20)

    with ThreadPoolExecutor(20) as writers:
        won = list(writers.map(write, contents))
    assert won.count(True) == 1
    assert bytes(lake.get("contested")) == contents[won.index(True)]


def test_20_megabytes_are_one_object(lake: Lake) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(5 * 2**20))
    assert lake.put_new("large", data) is True
    assert lake.put_new("large", data) is False
    assert lake.open("large").size == len(data)
    assert bytes(lake.get("large")) == data


def test_ranges_come_in_the_order_asked_for(lake: Lake) -> None:
    lake.put_new("a", bytes(range(200)))
    file = lake.open("a")
    assert file.size == 200
    ranges = [(190, 200), (0, 1), (5, 10), (7, 12)]
    assert [bytes(one) for one in file.ranges(ranges)] == [bytes(range(*one)) for one in ranges]
    assert bytes(file.read()) == bytes(range(200))


def test_a_range_behind_the_end_is_an_error_and_no_short_read(lake: Lake) -> None:
    lake.put_new("a", bytes(100))
    try:
        [one] = lake.get_ranges("a", [90], [110])
    except (TransientError, PermanentError):
        return
    assert len(one) == 10  # the caller sees that it is shorter than what was asked for


def test_a_missing_object_is_named(lake: Lake) -> None:
    lake.put_new("a/b", b"")
    for read in (lake.get, lake.open, lambda path: lake.get_ranges(path, [0], [1])):
        for path in ("missing", "a/missing", "a"):
            with pytest.raises(ObjectMissingError):
                read(path)


def test_expiry_finds_what_is_written_and_deletes_many_at_once(lake: Lake) -> None:
    expiring = _MessagesLake(*lake.__reduce__()[1])
    paths = [f"orders/hour=1/{number:04d}.parquet" for number in range(30)]
    for number, path in enumerate([*paths, "_persistor/claims/orders/0/0"]):
        assert expiring.put_new(path, bytes(number))
    found = {path: (size, written) for path, size, written in expiring.written_files()}
    assert {path: size for path, (size, _) in found.items()} == {path: n for n, path in enumerate(paths)}
    ages = [datetime.now(timezone.utc) - written for _, written in found.values()]
    assert all(timedelta(minutes=-1) < age < timedelta(minutes=1) for age in ages)
    expiring.delete_all([*paths[:25], "orders/never"])
    expiring.delete_all(paths[20:27])
    assert sorted(path for path, _ in lake.list("orders")) == paths[27:]


def test_a_list_has_every_object_with_its_size(lake: Lake) -> None:
    for number in range(5):
        lake.put_new(f"claims/orders/0/{number:020d}", bytes(number))
    lake.put_new("claims/orders/00/x", b"another folder")
    lake.put_new("claims/orders/1", b"")
    everything = dict(lake.list())
    assert len(everything) == 7
    below = {f"claims/orders/0/{number:020d}": number for number in range(5)}
    assert dict(lake.list("claims/orders/0")) == below
    assert dict(lake.list("claims/nobody")) == {}
    assert sorted(lake.folders("claims/orders")) == ["0", "00"]
    assert list(lake.folders("claims/nobody")) == []


def test_a_list_after_a_path_has_only_what_sorts_behind_it(lake: Lake) -> None:
    names = [f"claims/{number:020d}" for number in (0, 7, 10, 99, 1000)]
    for name in names:
        lake.put_new(name, b"x")
    lake.put_new("later", b"x")
    assert sorted(path for path, _ in lake.list("claims", after=names[1])) == names[2:]
    assert sorted(path for path, _ in lake.list("claims", after=f"claims/{8:020d}")) == names[2:]
    assert list(lake.list("claims", after=names[-1])) == []


def test_a_long_list_comes_in_pages(lake: Lake) -> None:
    names = [f"claims/{number:020d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as writers:
        assert all(writers.map(lambda name: lake.put_new(name, b""), names))
    assert sorted(path for path, _ in lake.list("claims")) == names
    assert sorted(path for path, _ in lake.list("claims", after=names[50])) == names[51:]


@pytest.mark.parametrize(
    "name",
    [
        "topic=a/date=2026-11-01/hour=07/orders-0-00000000000000000000.parquet",
        "with space/and+plus&amp",
        "per%cent/%2F/100%25",
        "ümlaut/日本/😀",
        "~2_0_7.x",
        "quote'and\"double",
        "(brackets)[]{}!,;@$",
        "a" * 200,
        "/".join(["deep"] * 30),
    ],
)
def test_names_are_taken_literally(lake: Lake, name: str) -> None:
    assert lake.put_new(name, b"x") is True
    assert lake.put_new(name, b"y") is False
    assert bytes(lake.get(name)) == b"x"
    assert list(lake.list()) == [(name, 1)]
    assert lake.path(lake.location(name)) == name


def test_a_file_and_all_that_leads_to_it_is_synced_by_everyone_who_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noting(opened: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{opened}").readlink()))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", noting)
    lake = Lake(f"file://{tmp_path}/lake")
    way = [
        f"{tmp_path}{part}"
        for part in ("/lake/per%cent/b/file", "/lake/per%cent/b", "/lake/per%cent", "/lake", "")
    ]
    assert lake.put_new("per%cent/b/file", b"x") is True
    assert lake.put_new("per%cent/b/file", b"y") is False
    assert synced == way * 2


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "a//b", "./a"])
def test_names_that_leave_the_lake_are_refused(lake: Lake, name: str) -> None:
    with pytest.raises(PermanentError):
        lake.put_new(name, b"x")
    assert list(lake.list()) == []


@pytest.mark.parametrize(("store", "name"), [("file", "a" * 300), ("minio", "/".join(["a" * 200] * 6))])
def test_a_name_that_is_too_long_for_the_store_is_refused_for_good(
    store: str, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if store == "file":
        lake = Lake(f"file://{tmp_path}/lake")
    else:
        server = request.getfixturevalue(store)
        lake = Lake(server.create_bucket(f"lake-{uuid.uuid4().hex[:12]}"), server.config)
    with pytest.raises(PermanentError, match="takes no names that long"):
        lake.put_new(f"{name}/file", b"x")


def test_only_internal_objects_can_be_deleted(lake: Lake) -> None:
    lake.put_new("orders.parquet", b"messages")
    lake.put_new("_persistor/plans/1", b"plan")
    with pytest.raises(PermanentError, match="is a file of messages"):
        lake.delete("orders.parquet")
    lake.delete("_persistor/plans/1")
    lake.delete("_persistor/plans/1")
    assert [path for path, _ in lake.list()] == ["orders.parquet"]


def test_a_lake_travels_to_a_worker(lake: Lake) -> None:
    lake.put_new("a", b"x")
    assert bytes(pickle.loads(pickle.dumps(lake)).get("a")) == b"x"


def test_locations_outside_the_configured_lakes_are_refused(tmp_path: Path) -> None:
    lakes = [Lake(f"file://{tmp_path}/lake"), Lake(f"file://{tmp_path}/other/")]
    assert find_lake(lakes, f"file://{tmp_path}/other/a/b") == (lakes[1], "a/b")
    for outside in (
        f"file://{tmp_path}/lakes/a",
        f"file://{tmp_path}/lake",
        f"file://{tmp_path}/lake/../secret",
        f"file://{tmp_path}/lake/a/../../secret",
        "s3://lake/a",
        "/etc/passwd",
        "",
    ):
        with pytest.raises(PermanentError, match="outside the configured lakes"):
            find_lake(lakes, outside)


@pytest.mark.parametrize("url", ["ftp://host/a", "lake", "/tmp/lake", "s3:/bucket", "s3://"])
def test_a_url_that_is_no_lake_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--lake"):
        Lake(url)


def test_what_cannot_be_a_directory_is_refused_with_advice(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    cannot = "cannot be created; name a directory that can be written."
    for place, told in (
        (file, "that is a file; name a directory."),
        (file / "lake", cannot),
        (Path("/proc/lake"), cannot),
    ):
        with pytest.raises(ConfigurationError) as refused:
            Lake(f"file://{place}")
        assert str(refused.value) == f"--lake file://{place}: {told}"


def test_a_secret_that_is_not_there_is_named_with_its_setting() -> None:
    advice = "is not there; set the variable or mount the file on this machine."
    with pytest.raises(ConfigurationError) as refused:
        Lake("s3://bucket", {"secret_access_key": "${env:NOT_THERE}"})
    assert str(refused.value) == f"secret_access_key: ${{env:NOT_THERE}} {advice}"
    with pytest.raises(ConfigurationError) as refused:
        Lake("s3://${file:/not/there}")
    assert str(refused.value) == f"--lake: ${{file:/not/there}} {advice}"


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket", "az://container"])
def test_an_unknown_setting_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="endpiont"):
        Lake(url, {"endpiont": "x"})


@pytest.mark.parametrize(
    ("url", "name"),
    [("s3://bucket", "allow_http"), ("s3://bucket", "AWS_ALLOW_HTTP"), ("gs://bucket", "google_timeout")],
)
def test_settings_of_the_http_client_are_settings_too(url: str, name: str) -> None:
    Lake(url, {name: "5s" if name.endswith("timeout") else "true"})


@pytest.fixture(params=["minio", "azurite"])
def guarded(request: pytest.FixtureRequest) -> Lake:
    """A lake with the wrong secret."""
    server: MinIO | Azurite = request.getfixturevalue(request.param)
    bucket = server.create_bucket(f"lake-{uuid.uuid4().hex[:12]}")
    secret = next(name for name in server.config if name.endswith(("secret_access_key", "account_key")))
    return Lake(bucket, {**server.config, secret: "d3Jvbmc="})


def test_wrong_credentials_are_called_so_without_naming_them(guarded: Lake) -> None:
    for use in (lambda: guarded.put_new("a", b"x"), lambda: guarded.get("a"), lambda: list(guarded.list())):
        with pytest.raises(AccessDeniedError, match=f"{guarded.url} denies access") as raised:
            use()
        assert "d3Jvbmc=" not in str(raised.value)


@pytest.mark.parametrize("store", _STORES[1:])
def test_a_bucket_that_does_not_exist_is_named(store: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(store)
    scheme = server.create_bucket(f"lake-{uuid.uuid4().hex[:12]}").partition("://")[0]
    missing = Lake(f"{scheme}://nobody-made-this", server.config)
    with pytest.raises(TransientError, match=f"{scheme}://nobody-made-this does not exist; create"):
        missing.put_new("a", b"x")
    if store != "gcs":  # the fake answers a list of such a bucket with an internal error
        with pytest.raises(ObjectMissingError):
            list(missing.list())


@pytest.mark.parametrize("store", ["s3", "az", "gs"])
def test_a_store_that_is_away_is_a_transient_error_within_seconds(store: str) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    lake = Lake(f"{store}://bucket", _config_of(store, away))
    for use in (lambda: lake.put_new("a", b"x"), lambda: lake.get("a"), lambda: list(lake.list())):
        started = time.monotonic()
        with pytest.raises(TransientError):
            use()
        assert time.monotonic() - started < 12


def _config_of(store: str, endpoint: str) -> dict[str, str]:
    if store == "s3":
        return {"endpoint": endpoint, "region": "x", "skip_signature": "true"}
    if store == "az":
        account = {"azure_storage_account_name": "account", "azure_skip_signature": "true"}
        return {"azure_storage_endpoint": endpoint, **account}
    server = GCS(port=int(endpoint.rpartition(":")[2]))
    try:
        return server.config
    finally:
        server.close()


@pytest.fixture
def own_minio() -> Iterator[MinIO]:
    yield from running(MinIO)


def test_what_was_confirmed_is_there_after_the_store_was_killed(own_minio: MinIO) -> None:
    lake = Lake(own_minio.create_bucket("lake"), own_minio.config)
    assert lake.put_new("a", b"x" * 1000) is True
    own_minio.kill()
    with pytest.raises(TransientError):
        lake.get("a")
    own_minio.start()
    assert lake.put_new("a", b"y") is False
    assert bytes(lake.get("a")) == b"x" * 1000
