"""What certificates say, and which AE titles they may use."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.tls.authority import Authority, Credentials

from dulcet.io.certificates import CertificateTable, PeerCertificate, public_key_pin, validity

SOON = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
PIN = "0123456789abcdef" * 4


def certificate(*names: str, pin: str = "f" * 64) -> PeerCertificate:
    return PeerCertificate("CN=somebody", names, pin, SOON)


def der(credentials: Credentials) -> bytes:
    return ssl.PEM_cert_to_DER_cert(credentials.certificate.read_text())


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_pin_and_validity_are_those_of_the_certificate(tmp_path: Path, kind: str) -> None:
    issued = Authority(tmp_path).issue(kind=kind, days=10)
    first, last = validity(der(issued))
    assert public_key_pin(der(issued)) == issued.pin
    assert abs(last - datetime.now(UTC) - timedelta(days=10)) < timedelta(minutes=5)
    assert last - first == timedelta(days=11)


def test_years_from_2050_on_have_four_digits(tmp_path: Path) -> None:
    _, last = validity(der(Authority(tmp_path).issue(days=365 * 40)))
    assert last.year == (datetime.now(UTC) + timedelta(days=365 * 40)).year >= 2050


def test_the_subject_and_the_names_are_read_from_what_python_tells(tmp_path: Path) -> None:
    fields = {
        "subject": ((("commonName", "ct1"),), (("organizationName", "Hospital"),), (("title", "x"),)),
        "subjectAltName": (("DNS", "CT1.example.org"), ("IP Address", "0:0:0:0:0:0:0:1"), ("DirName", "x")),
    }
    found = PeerCertificate.read(der(Authority(tmp_path).issue()), fields)
    assert found.subject == "CN=ct1,O=Hospital,title=x"
    assert found.names == ("DNS:ct1.example.org", "IP:::1")


TABLE = CertificateTable(
    {
        "DNS:ct1.example.org": "CT1",
        "Mr1.Example.org": ["MR1", "MR1_NEW"],
        "URI:urn:hospital:gateway": "*",
        "ip:2001:DB8::1": "V6",
        "email:tech@example.org": "TECH",
        f"sha256:{PIN.upper()}": "PINNED",
    }
)

ALLOWED = {
    "a DNS name": (certificate("DNS:ct1.example.org"), "CT1"),
    "a DNS name without its kind, in other letters": (certificate("DNS:mr1.example.org"), "MR1_NEW"),
    "any title": (certificate("URI:urn:hospital:gateway"), "WHATEVER"),
    "an IP address in one spelling": (certificate("IP:2001:db8::1"), "V6"),
    "an address of somebody": (certificate("email:tech@example.org"), "TECH"),
    "a pin": (certificate(pin=PIN), "PINNED"),
    "one of several names": (certificate("DNS:other.example.org", "DNS:ct1.example.org"), "CT1"),
    "what either key allows": (certificate("DNS:ct1.example.org", pin=PIN), "PINNED"),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_title_is_allowed_by(case: str) -> None:
    assert TABLE.objection(*ALLOWED[case]) is None


REFUSED = {
    "a title of somebody else": (certificate("DNS:ct1.example.org"), "MR1", "may not use"),
    "a title in other letters": (certificate("DNS:ct1.example.org"), "ct1", "may not use"),
    "a certificate that is not listed": (certificate("DNS:x.example.org"), "CT1", "not in the table"),
    "a common name": (PeerCertificate("CN=ct1.example.org", (), "f" * 64, SOON), "CT1", "not in the table"),
    "a name of another kind": (certificate("URI:ct1.example.org"), "CT1", "not in the table"),
    "no certificate": (None, "CT1", "no certificate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_title_is_refused_for(case: str) -> None:
    found, title, why = REFUSED[case]
    assert why in (TABLE.objection(found, title) or "")


def test_titles_that_no_entry_names_may_be_left_to_anybody_trusted() -> None:
    table = CertificateTable({"ct1.example.org": "CT1"}, unlisted=True)
    assert table.objection(certificate("DNS:x.example.org"), "WS") is None
    assert table.objection(None, "WS") is None
    assert "not in the table" in (table.objection(certificate("DNS:x.example.org"), "CT1") or "")
    assert table.objection(certificate("DNS:ct1.example.org"), "CT1") is None


@pytest.mark.parametrize("key", ["sha256:12ab", f"sha256:{'x' * 64}", "CN:ct1", "IP:somewhere"])
def test_what_is_no_key_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        CertificateTable({key: "CT1"})


def test_control_characters_of_a_name_never_reach_a_log() -> None:
    told = TABLE.objection(PeerCertificate("CN=\x1b[31m", ("DNS:a\nb",), "f" * 64, SOON), "CT1")
    assert told is not None
    assert told.isprintable()
