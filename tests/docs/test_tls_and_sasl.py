"""The how-to page of TLS and SASL, against a Kafka and a NATS that ask for both."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import nats as client
import pytest

from tests.docs._blocks import Session, indexed
from tests.docs.conftest import orders
from tests.servers import Unavailable
from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka
from tests.servers.nats import PASSWORD, USER, Nats

_KAFKA = """
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={}
"""
_NATS = """
tls {{ cert_file: "{0}", key_file: "{0}" }}
authorization {{ user: {1}, password: {2} }}
"""


def test_messages_are_archived_over_tls_with_a_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    try:
        Kafka.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    kafka, nats = Kafka(), Nats(settings=_NATS.format(authority.server, USER, PASSWORD))
    kafka.settings = _KAFKA.format(authority.server)
    with kafka, nats:
        kafka.produce(kafka.create_topic("orders"), orders(50))
        asyncio.run(_create_stream(nats, str(authority.ca)))
        places = {
            "broker:9093": kafka.sasl_bootstrap,
            "nats:4222": f"127.0.0.1:{nats.port}",
            "/etc/persistor/ca.pem": str(authority.ca),
            "/var/lib/persistor": str(tmp_path),
        }
        session = Session(tmp_path, places)
        index = f"sqlite://{tmp_path}/index.db"
        session.run("docs/how-to/tls-and-sasl.md", __file__, ready=lambda: indexed(index) == 50)


async def _create_stream(server: Nats, ca: str) -> None:
    trusting = ssl.create_default_context(cafile=ca)
    connection = await client.connect(server.url, tls=trusting, user=USER, password=PASSWORD)
    try:
        await connection.jetstream().add_stream(name="orders", subjects=["orders"])
    finally:
        await connection.close()
