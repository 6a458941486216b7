"""How NATS is reached: credentials, TLS, and what they may do."""

from __future__ import annotations

from pathlib import Path

import nkeys
import pytest

from tests._brokers import jetstream, numbered
from tests.servers import run
from tests.servers.nats import Nats
from transforms.brokers import PublishOptions
from transforms.brokers.nats import open_publisher, open_reader
from transforms.errors import ConfigurationError, TransientError


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
