"""A certificate authority of the tests, and the certificate of servers on 127.0.0.1 that it signed."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]

_NOW = dt.datetime.now(dt.timezone.utc)


class Authority:
    """Signs one certificate for ``localhost`` and 127.0.0.1, of a week.

    Attributes:
        ca: PEM file that clients trust.
        server: PEM file with the server's key and certificate.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca, self.server = directory / "ca.pem", directory / "server.pem"
        authority = rsa.generate_private_key(65537, 2048)
        own = rsa.generate_private_key(65537, 2048)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        # Some clients tell the two apart by name alone.
        signer = f"authority {directory}"[-60:]
        root = _certificate(signer, signer, authority, authority, x509.BasicConstraints(True, None))
        leaf = _certificate("localhost", signer, own, authority, x509.SubjectAlternativeName(names))
        key = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.ca.write_bytes(root)
        self.server.write_bytes(key + leaf)


def _certificate(
    subject: str,
    issuer: str,
    key: rsa.RSAPrivateKey,
    signer: rsa.RSAPrivateKey,
    extension: x509.ExtensionType,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - dt.timedelta(days=1))
        .not_valid_after(_NOW + dt.timedelta(days=7))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
