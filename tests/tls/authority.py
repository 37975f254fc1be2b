"""A certification authority for tests: certificates good and bad, as PEM files in a folder."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Credentials:
    """A certificate and its key."""

    certificate: Path
    key: Path
    serial: int
    pin: str

    @property
    def files(self) -> dict[str, Path]:
        """As `TLSConfig` takes them."""
        return {"certificate": self.certificate, "key": self.key}


class Authority:
    """One CA; what it issues is for the loopback unless it is said otherwise."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir(parents=True)
        self._numbers = itertools.count()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(self._name, self._key, days=365).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = self.folder / "ca.pem"
        self.file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        name: str = "localhost",
        *alternatives: str,
        days: float = 30,
        since: float = -1,
        kind: str = "ec",
        password: bytes | None = None,
    ) -> Credentials:
        """A certificate for `name` and its alternative names (`DNS:…`, `IP:…`, `URI:…`), valid between two days."""
        key: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ec"
            else rsa.generate_private_key(65537, {"rsa": 2048, "weak": 1024}[kind])
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = alternatives or ("DNS:localhost", "IP:127.0.0.1", "IP:::1")
        builder = self._build(subject, key, days=days, since=since).add_extension(
            x509.SubjectAlternativeName([_alternative(text) for text in names]), critical=False
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        number = next(self._numbers)
        files = self.folder / f"{number}.pem", self.folder / f"{number}.key"
        files[0].write_bytes(_pem(certificate))
        files[1].write_bytes(_private(key, password))
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Credentials(*files, certificate.serial_number, hashlib.sha256(public).hexdigest())

    def revocation_list(self, *revoked: Credentials, days: float = 7) -> Path:
        """A list with these on it."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - DAY)
            .next_update(now + days * DAY)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(now - DAY / 2).build()
            builder = builder.add_revoked_certificate(entry)
        file = self.folder / f"crl-{next(self._numbers)}.pem"
        file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        return file

    def _build(self, subject: x509.Name, key: Any, *, days: float, since: float = -1) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since * DAY)
            .not_valid_after(now + days * DAY)
        )


def _pem(signed: Any) -> bytes:
    return bytes(signed.public_bytes(serialization.Encoding.PEM))


def _private(key: Any, password: bytes | None) -> bytes:
    encryption: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def _alternative(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    return {"DNS": x509.DNSName, "URI": x509.UniformResourceIdentifier, "email": x509.RFC822Name}[kind](value)
