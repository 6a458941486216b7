"""Disks and certificates that settings name, as Prometheus sees them."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from transforms.metrics.host import certificates, directories, expiry, space, watch

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc)


def certificate(days: int) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


def test_the_directories_of_local_lakes_and_indexes_are_known() -> None:
    urls = [
        "file:///var/lake",
        "sqlite:///var/index/a.db",
        "sqlite:////srv/b.db",
        "s3://bucket/x",
        "kafka://h:1/t",
    ]
    assert directories(urls) == ["/srv", "/var/index", "/var/lake"]


def test_space_is_that_of_the_nearest_directory_that_exists(tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    free, size = space(str(tmp_path / "not" / "yet"))
    assert size == usage.total
    assert free == pytest.approx(usage.free, rel=0.05)


def test_certificates_are_found_in_settings_and_urls_and_nothing_else_is(tmp_path: Path) -> None:
    ca, client, key = (tmp_path / name for name in ("ca.pem", "client.pem", "key.pem"))
    ca.write_bytes(certificate(30))
    client.write_bytes(certificate(10))
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    config = {
        "ssl.ca.location": str(ca),
        "ssl.key.location": str(key),
        "client.id": "ca.pem",
        "x": "/none/there",
    }
    assert certificates([f"mongodb://h/db?tlsCertificateKeyFile={client}"], [config]) == sorted(
        map(str, (ca, client))
    )


def test_the_first_of_several_certificates_counts_and_a_damaged_file_is_no_error(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate(30) + certificate(10))
    assert expiry(str(chain)) == NOW + dt.timedelta(days=10)
    chain.write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
    assert expiry(str(chain)) is None
    assert expiry(str(tmp_path / "gone")) is None


def test_prometheus_sees_a_renewed_certificate(tmp_path: Path) -> None:
    registry, file = CollectorRegistry(), tmp_path / "ca.pem"
    file.write_bytes(certificate(5))
    watch("persist", [f"file://{tmp_path}", None], [{"ssl.ca.location": str(file)}], registry)
    told = "persistor_certificate_expiry_timestamp_seconds", {"file": str(file)}
    assert registry.get_sample_value(*told) == (NOW + dt.timedelta(days=5)).timestamp()
    file.write_bytes(certificate(90))
    assert registry.get_sample_value(*told) == (NOW + dt.timedelta(days=90)).timestamp()
    assert registry.get_sample_value("persistor_disk_size_bytes", {"directory": str(tmp_path)})
