"""What every lake says of a store that refuses or is away, and of settings that cannot be right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests._stores import new_bucket
from tests._traits import StoreTrait
from tests.servers import free_port
from tests.servers.gcs import GCS
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.lake import AccessDeniedError, Lake, ObjectMissingError, find_lake


def never_made(store: Any) -> Lake:
    """A lake in a bucket that nobody made."""
    scheme = new_bucket(store).partition("://")[0]
    return Lake(f"{scheme}://nobody-made-this", store.config)


class TestRefusals:
    @pytest.mark.needs(StoreTrait.BUCKETS)
    def test_a_bucket_that_does_not_exist_is_named_by_a_write(self, store: Any) -> None:
        missing = never_made(store)
        with pytest.raises(TransientError, match=f"{missing.url} does not exist; create"):
            missing.put_new("a", b"x")

    @pytest.mark.needs(StoreTrait.BUCKETS, StoreTrait.LISTED)
    def test_a_bucket_that_does_not_exist_is_missing_in_a_list(self, store: Any) -> None:
        with pytest.raises(ObjectMissingError):
            list(never_made(store).list())

    @pytest.mark.needs(StoreTrait.CREDENTIALS)
    def test_wrong_credentials_are_called_so_without_naming_them(self, store: Any) -> None:
        secret = next(name for name in store.config if name.endswith(("secret_access_key", "account_key")))
        guarded = Lake(new_bucket(store), {**store.config, secret: "d3Jvbmc="})
        for use in (
            lambda: guarded.put_new("a", b"x"),
            lambda: guarded.get("a"),
            lambda: list(guarded.list()),
        ):
            with pytest.raises(AccessDeniedError, match=f"{guarded.url} denies access") as raised:
                use()
            assert "d3Jvbmc=" not in str(raised.value)

    @pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
    def test_a_store_that_is_away_is_a_transient_error_within_seconds(self, scheme: str) -> None:
        away = f"http://127.0.0.1:{free_port()}"
        lake = Lake(f"{scheme}://bucket", _config_of(scheme, away))
        for use in (lambda: lake.put_new("a", b"x"), lambda: lake.get("a"), lambda: list(lake.list())):
            started = time.monotonic()
            with pytest.raises(TransientError):
                use()
            assert time.monotonic() - started < 12


def _config_of(scheme: str, endpoint: str) -> dict[str, str]:
    if scheme == "s3":
        return {"endpoint": endpoint, "region": "x", "skip_signature": "true"}
    if scheme == "az":
        account = {"azure_storage_account_name": "account", "azure_skip_signature": "true"}
        return {"azure_storage_endpoint": endpoint, **account}
    server = GCS(port=int(endpoint.rpartition(":")[2]))
    try:
        return server.config
    finally:
        server.close()


class TestSettings:
    @pytest.mark.parametrize("url", ["ftp://host/a", "lake", "/tmp/lake", "s3:/bucket", "s3://"])
    def test_a_url_that_is_no_lake_is_a_configuration_error(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="`lake`"):
            Lake(url)

    def test_a_secret_that_is_not_there_is_named_with_its_setting(self) -> None:
        advice = "does not exist; set the variable or mount the file on this machine."
        with pytest.raises(ConfigurationError) as refused:
            Lake("s3://bucket", {"secret_access_key": "${env:NOT_THERE}"})
        assert str(refused.value) == f"secret_access_key: ${{env:NOT_THERE}} {advice}"
        with pytest.raises(ConfigurationError) as refused:
            Lake("s3://${file:/not/there}")
        assert str(refused.value) == f"`lake`: ${{file:/not/there}} {advice}"

    @pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket", "az://container"])
    def test_an_unknown_setting_is_a_configuration_error(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="endpiont"):
            Lake(url, {"endpiont": "x"})

    @pytest.mark.parametrize(
        ("url", "name"),
        [("s3://bucket", "allow_http"), ("s3://bucket", "AWS_ALLOW_HTTP"), ("gs://bucket", "google_timeout")],
    )
    def test_settings_of_the_http_client_are_settings_too(self, url: str, name: str) -> None:
        Lake(url, {name: "5s" if name.endswith("timeout") else "true"})

    def test_locations_outside_the_configured_lakes_are_refused(self, tmp_path: Path) -> None:
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
