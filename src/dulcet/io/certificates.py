"""What a certificate says about who holds it, and which AE titles it may use (X.509, PS3.15 Annex B).

Rules: a certificate is read only after OpenSSL accepted it; names count as the certificate has them, a common name
never does; who is not in the table may use no AE title of it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["CertificateTable", "PeerCertificate", "public_key_pin", "validity"]

ANY: Final = "*"
"""Stands for every AE title in a table."""

PIN: Final = "sha256:"
PREFIXES: Final = {"dns": "DNS", "uri": "URI", "ip": "IP", "ip address": "IP", "email": "email"}

# Tags of X.690 that stand in a certificate before its public key (RFC 5280 section 4.1).
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The certificate that a peer proved to hold."""

    subject: str
    """Its distinguished name, `CN=ct1,O=Hospital`; for people, not for decisions."""
    names: tuple[str, ...]
    """The subject alternative names, as `DNS:ct1.example.org`, `URI:…`, `IP:192.0.2.1`, `email:…`."""
    pin: str
    """SHA-256 of its public key (SubjectPublicKeyInfo), in lower-case hexadecimal digits."""
    expires: datetime

    @classmethod
    def read(cls, der: bytes, fields: Mapping[str, Any]) -> PeerCertificate:
        """From what `getpeercert` gives in both forms; `fields` are empty where nothing was verified."""
        subject = ",".join(
            f"{SHORT.get(key, key)}={value}" for part in fields.get("subject", ()) for key, value in part
        )
        names = tuple(
            _name(f"{kind}:{value}") for kind, value in fields.get("subjectAltName", ()) if kind.lower() in PREFIXES
        )
        return cls(subject, names, public_key_pin(der), validity(der)[1])

    def __str__(self) -> str:
        names = ", ".join(map(ascii, (self.subject, *self.names)))
        return f"{names} ({PIN}{self.pin[:16]}…)"


SHORT: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
}


class CertificateTable:
    """Which calling AE titles a client certificate may use.

        CertificateTable({"DNS:ct1.example.org": "CT1", "sha256:3f5a…": ["WS1", "WS2"], "URI:urn:x:gateway": "*"})

    A key is a subject alternative name with its kind (`DNS:` may be left out), or the SHA-256 of the public key; a
    certificate may use what any of its keys allows.
    """

    def __init__(self, entries: Mapping[str, str | Iterable[str]], *, unlisted: bool = False) -> None:
        """`entries` gives for each key the AE title that it may use, several of them, or `*` for every one.

        `unlisted` lets any peer, also one without a certificate, use the AE titles that no entry names.
        Raises ValueError for a key that is neither.
        """
        self._unlisted = unlisted
        self._allowed: dict[str, frozenset[str]] = {}
        for key, titles in entries.items():
            found = frozenset((titles,) if isinstance(titles, str) else titles)
            name = _key(key)
            self._allowed[name] = self._allowed.get(name, frozenset()) | found
        self._titles = frozenset().union(*self._allowed.values())

    def objection(self, certificate: PeerCertificate | None, calling: str) -> str | None:
        """Why a peer with this `certificate`, None where it gave none, may not use the AE title `calling`.

        None where it may.  Case counts.
        """
        if self._unlisted and calling not in self._titles:
            return None
        if certificate is None:
            return "it gave no certificate, and the table knows peers by theirs"
        keys = [PIN + certificate.pin, *certificate.names]
        known = [self._allowed[key] for key in keys if key in self._allowed]
        if not known:
            return f"its certificate is not in the table: {certificate}"
        if any(calling in titles or ANY in titles for titles in known):
            return None
        return f"its certificate may not use this AE title: {certificate}"


def _key(text: str) -> str:
    """A key of the table as it is compared."""
    kind, colon, value = text.partition(":")
    if kind.lower() + colon == PIN:
        digits = value.replace(":", "").lower()
        if len(digits) != 64 or not set(digits) <= set(string.hexdigits):
            raise ValueError(f"{text!r} is no pin: sha256: and the 64 hexadecimal digits of the public key's digest")
        return PIN + digits
    if not colon:
        return _name(f"DNS:{text}")
    if kind.lower() not in PREFIXES:
        raise ValueError(f"{text!r} is no subject alternative name: DNS:, URI:, IP: or email: and the name, or sha256:")
    return _name(text)


def _name(text: str) -> str:
    """A subject alternative name in one spelling."""
    kind, _, value = text.partition(":")
    kind, value = PREFIXES[kind.lower()], value.strip()
    if kind == "DNS":
        value = value.lower()
    elif kind == "IP":
        try:
            value = str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f"{value!r} is no IP address") from None
    return f"{kind}:{value}"


# ---------------------------------------------------------------------- what OpenSSL read, and Python does not tell


def public_key_pin(der: bytes) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, in hexadecimal digits."""
    _, start, end = _fields(der)[5]
    return hashlib.sha256(der[start:end]).hexdigest()


def validity(der: bytes) -> tuple[datetime, datetime]:
    """From when until when a certificate is valid."""
    _, start, end = _fields(der)[3]
    _, inside, _ = _element(der, start)
    first, last = _elements(der, inside, end)
    return _time(der, *first), _time(der, *last)


def _fields(der: bytes) -> list[tuple[int, int, int]]:
    """The fields of TBSCertificate from the serial number on, each as tag, start and end."""
    _, certificate, _ = _element(der, 0)
    _, inside, end = _element(der, certificate)
    fields = _elements(der, inside, end)
    return fields[1:] if fields[0][0] == VERSION else fields


def _elements(der: bytes, position: int, end: int) -> list[tuple[int, int, int]]:
    found = []
    while position < end:
        tag, _, after = _element(der, position)
        found.append((tag, position, after))
        position = after
    return found


def _element(der: bytes, position: int) -> tuple[int, int, int]:
    """Tag, where the value begins, where the element ends (X.690 section 8.1, definite lengths)."""
    tag, length = der[position], der[position + 1]
    start = position + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    return tag, start, start + length


def _time(der: bytes, tag: int, position: int, end: int) -> datetime:
    _, start, _ = _element(der, position)
    text = der[start:end].decode("ascii")
    if tag == UTC_TIME:  # RFC 5280 section 4.1.2.5.1: two digits, 1950 to 2049
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
