"""TLS without sockets: a client's and a server's stream, each fed with what the other one says."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.tls.conftest import Party

from dulcet.errors import CertificateRefused, PeerNotTrusted, TLSError
from dulcet.io.secure_stream import SecureStream, dial, pick_up
from dulcet.io.tls import TLSConfig

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
TEXT = bytes(range(256)) * 4096  # 1 MiB


def carry(sender: SecureStream, receiver: SecureStream, piece: int = 1 << 30) -> None:
    """What one has to send, to the other, in pieces of some size."""
    data = memoryview(sender.output())
    for start in range(0, len(data), piece):
        receiver.receive(data[start : start + piece])


def shake(client: SecureStream, server: SecureStream, piece: int = 1 << 30) -> None:
    """The handshake until both are done; raises what the first one finds that fails."""
    for _ in range(6):
        if client.handshake() and server.established:
            carry(client, server, piece)
            return
        carry(client, server, piece)
        if server.received:
            server.handshake()
        carry(server, client, piece)
    raise AssertionError("it does not come to an end")


def read(stream: SecureStream, room: int = 100_000) -> bytes:
    """Everything that is there."""
    buffer, found = memoryview(bytearray(room)), b""
    while stream.has_unread:
        count = stream.decrypt_into(buffer)
        if not count:
            break
        found += buffer[:count]
    return found


def client_of(tls: TLSConfig | ssl.SSLContext, host: str = "localhost") -> SecureStream:
    return dial(tls, host, "THEM@host:2762")


def server_of(tls: TLSConfig | ssl.SSLContext) -> SecureStream:
    return pick_up(tls, "10.0.0.1:5000")


def limited(config: TLSConfig, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The client's context that offers one version alone."""
    context = config.client_context()
    context.minimum_version = context.maximum_version = version
    return context


def pair(party: Party, version: ssl.TLSVersion = V13) -> tuple[SecureStream, SecureStream]:
    client, server = client_of(limited(party.client, version)), server_of(party.server)
    shake(client, server)
    return client, server


# ---------------------------------------------------------------------- bytes


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("piece", [1 << 30, 1000])
def test_bytes_arrive_as_they_left_in_both_directions(party: Party, version: ssl.TLSVersion, piece: int) -> None:
    client, server = pair(party, version)
    for sender, receiver in ((client, server), (server, client), (client, server)):
        cipher = memoryview(sender.encrypt(TEXT))
        assert bytes(TEXT[:64]) not in bytes(cipher)
        found = b""
        for start in range(0, len(cipher), piece):
            receiver.receive(cipher[start : start + piece])
            found += read(receiver)
        assert found == TEXT
        assert not receiver.has_unread


def test_many_pdus_are_one_piece_of_ciphertext(party: Party) -> None:
    client, server = pair(party)
    cipher = client.encrypt(memoryview(TEXT))
    assert len(TEXT) < len(cipher) < len(TEXT) * 1.01
    server.receive(memoryview(cipher))
    assert read(server) == TEXT


def test_what_does_not_fit_is_kept_and_said_to_be_there(party: Party) -> None:
    client, server = pair(party)
    server.receive(memoryview(client.encrypt(TEXT[:50_000])))
    buffer, found = memoryview(bytearray(700)), b""
    while server.has_unread:
        count = server.decrypt_into(buffer)
        assert count is None or 0 < count <= 700
        found += bytes(buffer[: count or 0])
    assert found == TEXT[:50_000]


def test_a_handshake_that_comes_byte_by_byte(party: Party) -> None:
    client, server = client_of(party.client), server_of(party.server)
    shake(client, server, piece=1)
    assert client.established
    assert server.established


def test_both_sides_know_what_was_agreed_on(party: Party) -> None:
    client, server = pair(party)
    assert client.session is not None
    assert server.session is not None
    assert client.session.version == server.session.version == "TLSv1.3"
    assert client.session.cipher.startswith("TLS_")
    assert server.session.certificate is not None
    assert server.session.certificate.names == ("DNS:ct1.example.org",)
    assert server.session.certificate.pin == party.theirs.pin
    assert client.session.certificate is not None
    assert client.session.certificate.subject == "CN=localhost"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("profile", ["b12", "b13"])
def test_each_profile_with_each_kind_of_key(party: Party, kind: str, profile: str) -> None:
    config = TLSConfig(ca_file=party.authority.file, profile=profile, **party.authority.issue(kind=kind).files)  # type: ignore[arg-type]
    client, server = client_of(limited(config, V12)), server_of(config)
    shake(client, server)
    assert client.session is not None
    assert client.session.cipher in {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"}


def test_an_orderly_end_and_a_cut_are_both_the_end(party: Party) -> None:
    for cut in (False, True):
        client, server = pair(party)
        server.receive(memoryview(client.encrypt(b"last words")))
        if cut:
            server.receive_eof()
        else:
            server.receive(memoryview(client.close_notify()))
        buffer = memoryview(bytearray(100))
        assert server.decrypt_into(buffer) == 10
        assert server.has_unread
        assert [server.decrypt_into(buffer), server.decrypt_into(buffer)] == [0, 0]
        assert server.failure is None


def test_a_record_that_was_tampered_with_ends_it(party: Party) -> None:
    client, server = pair(party)
    cipher = bytearray(client.encrypt(b"x" * 100))
    cipher[50] ^= 1
    server.receive(memoryview(cipher))
    assert server.decrypt_into(memoryview(bytearray(200))) == 0
    assert server.failure is not None
    assert "the TLS connection broke" in str(server.failure)
    assert server.verdict() is server.failure
    client.receive(memoryview(server.output()))
    assert client.decrypt_into(memoryview(bytearray(200))) == 0
    with pytest.raises(OSError):
        client.encrypt(b"more")


# ---------------------------------------------------------------------- who cannot be trusted


def fails(client: SecureStream, server: SecureStream, kind: type[TLSError], match: str) -> TLSError:
    """The handshake fails at one side, in these words."""
    with pytest.raises(kind, match=match) as caught:
        shake(client, server)
    return caught.value


@pytest.mark.parametrize("version", [V12, V13])
def test_a_server_of_an_unknown_ca(party: Party, version: ssl.TLSVersion) -> None:
    client = client_of(limited(replace(party.client, ca_file=party.stranger.file), version))
    server = server_of(party.server)
    fails(client, server, PeerNotTrusted, "nobody here knows its CA")
    carry(client, server)
    with pytest.raises(CertificateRefused, match="refused our certificate"):
        server.handshake()


@pytest.mark.parametrize("version", [V12, V13])
def test_a_client_of_an_unknown_ca(party: Party, version: ssl.TLSVersion) -> None:
    client = client_of(limited(replace(party.client, **party.unknown.files), version))
    server = server_of(party.server)
    fails(client, server, PeerNotTrusted, "10.0.0.1:5000: its certificate is not accepted.*nobody here knows its CA")
    told_afterwards(client, server, "refused our certificate: it does not know the CA")


def told_afterwards(client: SecureStream, server: SecureStream, match: str) -> None:
    """The client learns it from the alert: in its handshake under TLS 1.2, behind it under TLS 1.3."""
    carry(server, client)
    try:
        assert client.handshake()
        assert client.decrypt_into(memoryview(bytearray(100))) == 0
        told = client.verdict()
    except TLSError as error:
        told = error
    assert re.search(match, str(told))


@pytest.mark.parametrize(
    ("version", "why"), [(V12, "refused the TLS handshake: .*it wants a certificate"), (V13, "it wants a certificate")]
)
def test_a_client_without_a_certificate(party: Party, version: ssl.TLSVersion, why: str) -> None:
    client = client_of(limited(TLSConfig(ca_file=party.authority.file), version))
    server = server_of(party.server)
    fails(client, server, PeerNotTrusted, "gave no certificate, and one is required here")
    told_afterwards(client, server, why)


@pytest.mark.parametrize("told", [True, False])
def test_a_certificate_where_none_is_required(party: Party, told: bool) -> None:
    client = client_of(party.client if told else TLSConfig(ca_file=party.authority.file))
    server = server_of(replace(party.server, client_certificates="optional"))
    shake(client, server)
    assert server.session is not None
    assert (server.session.certificate is not None) is told


@pytest.mark.parametrize("times", [{"days": -1, "since": -3}, {"days": 9, "since": 3}])
def test_certificates_out_of_their_time(party: Party, times: dict[str, float]) -> None:
    stale = party.authority.issue(**times)  # type: ignore[arg-type]
    match = "it has expired" if times["days"] < 0 else "its time has not come"
    context = party.server.server_context()
    context.load_cert_chain(stale.certificate, stale.key)
    fails(client_of(party.client), server_of(context), PeerNotTrusted, match)
    ours = party.client.client_context()
    ours.load_cert_chain(stale.certificate, stale.key)
    fails(client_of(ours), server_of(party.server), PeerNotTrusted, match)


HOSTS = {
    "localhost": None,
    "127.0.0.1": None,
    "::1": None,
    "::1%lo": None,
    "archive.example.org": "Hostname mismatch.*call it by a name of its certificate",
    "127.0.0.2": "IP address mismatch.*call it by a name of its certificate",
    "::2": "IP address mismatch",
}


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_that_was_called_is_in_the_certificate(party: Party, host: str) -> None:
    client, server = client_of(party.client, host), server_of(party.server)
    match = HOSTS[host]
    if match is None:
        shake(client, server)
        assert client.established
    else:
        fails(client, server, PeerNotTrusted, match)


def test_a_session_that_is_resumed_does_not_outlive_the_certificate(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = limited(party.client, V12), party.server.server_context()

    def again(session: ssl.SSLSession | None) -> tuple[SecureStream, SecureStream]:
        client, server = client_of(ours), server_of(theirs)
        if session is not None:
            client._object.session = session
        shake(client, server)
        return client, server

    first = again(None)
    client, server = again(first[0]._object.session)
    assert server._object.session_reused
    assert server.session == first[1].session
    later = datetime.now(UTC) + timedelta(days=31)
    monkeypatch.setattr("dulcet.io.secure_stream._now", lambda: later)
    with pytest.raises(PeerNotTrusted, match="it has expired"):
        again(first[0]._object.session)
    again(None)
    assert client.established


def test_another_name_may_be_expected_or_none(party: Party) -> None:
    shake(client_of(replace(party.client, expected_name="localhost"), "10.9.9.9"), server_of(party.server))
    shake(client_of(replace(party.client, verify_host_name=False), "10.9.9.9"), server_of(party.server))
    named = replace(party.client, expected_name="other.example.org")
    fails(client_of(named), server_of(party.server), PeerNotTrusted, "not valid for 'other.example.org'")


def test_a_host_that_no_certificate_can_name(party: Party) -> None:
    with pytest.raises(TLSError, match="cannot be looked for in a certificate"):
        client_of(party.client, "." + "x" * 70)


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_revoked_certificate(party: Party, side: str) -> None:
    crl = party.authority.revocation_list(party.ours if side == "server" else party.theirs)
    client = client_of(replace(party.client, crl_file=crl) if side == "server" else party.client)
    server = server_of(replace(party.server, crl_file=crl) if side == "client" else party.server)
    fails(client, server, PeerNotTrusted, "certificate revoked; it must not be used any more")


def test_a_list_on_which_it_is_not_an_old_one_and_one_of_somebody_else(party: Party) -> None:
    lists: list[tuple[Path, str]] = [
        (party.authority.revocation_list(days=-0.1), "get a new revocation list"),
        (party.stranger.revocation_list(), "no revocation list of its issuer"),
    ]
    for crl, match in lists:
        fails(client_of(replace(party.client, crl_file=crl)), server_of(party.server), PeerNotTrusted, match)
    good = party.authority.revocation_list(party.theirs)
    shake(client_of(replace(party.client, crl_file=good)), server_of(party.server))


def test_insecure_talks_to_anybody_and_says_so_each_time(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        insecure = TLSConfig(insecure=True, **party.theirs.files)
        client, server = client_of(insecure, "whoever"), server_of(replace(party.server, **party.unknown.files))
        shake(client, server)
        assert client.session is not None
        assert client.session.certificate is None
        assert caplog.text.count("anybody can be at the other end") == number


# ---------------------------------------------------------------------- what is no good TLS, or none


def old(config: Callable[[], ssl.SSLContext], version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    """A context as no profile makes it."""
    context = config()
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused_by_either_side(party: Party, version: ssl.TLSVersion) -> None:
    ciphers = "ALL:@SECLEVEL=0"
    client = client_of(old(party.client.client_context, version, ciphers))
    server = server_of(party.server)
    fails(client, server, TLSError, "the peer offers no TLS version of ours, 1.2 or 1.3")
    carry(server, client)
    with pytest.raises(TLSError, match=r"no TLS version in common; ours are 1\.2 and 1\.3"):
        client.handshake()
    server = server_of(old(party.server.server_context, version, ciphers))
    fails(client_of(party.client), server, TLSError, "the peer offers no TLS version of ours|unsupported protocol")


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"])
def test_suites_outside_the_profile_are_refused(party: Party, suite: str) -> None:
    client = client_of(old(party.client.client_context, V12, suite))
    server = server_of(party.server)
    fails(client, server, TLSError, "none of the cipher suites of our profile")
    carry(server, client)
    with pytest.raises(TLSError, match="no cipher suite in common"):
        client.handshake()


FOREIGN = {
    "an association request": (b"\x01\x00\x00\x00\x00\xd0\x00\x01", "speaks DICOM without TLS to a port with TLS"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP or other text"),
    "zeros": (bytes(100), "does not speak TLS; it began with 00 00 00 00"),
    "noise": (b"\xfe\xdc\xba\x98", "does not speak TLS; it began with fe dc ba 98"),
    "an old hello": (b"\x80\x2e\x01\x00\x02", "does not speak TLS"),
    "a record of nonsense": (b"\x16\x03\x01\x00\x05hello", "no TLS handshake|refused the TLS handshake"),
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", "no TLS handshake: unexpected message"),
    "a record that is too long": (b"\x16\x03\x01\xff\xff" + bytes(100), "no TLS handshake"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_server_hears(party: Party, case: str) -> None:
    said, match = FOREIGN[case]
    server = server_of(party.server)
    server.receive(memoryview(said))
    with pytest.raises(TLSError, match=match):
        server.handshake()


def test_who_speaks_plain_dicom_gets_an_alert_that_dulcet_understands(party: Party) -> None:
    server = server_of(party.server)
    server.receive(memoryview(b"\x01\x00\x00\x00\x00\xd0\x00\x01"))
    with pytest.raises(TLSError):
        server.handshake()
    assert server.output()[0] == 0x15


ANSWERS = {
    "an abort": (b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x01", "speaks DICOM without TLS; call it without"),
    "HTTP": (b"HTTP/1.1 400 Bad Request", "speaks HTTP or other text to us"),
    "noise": (b"\xfe\xdc\xba\x98", "does not speak TLS"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_client_hears(party: Party, case: str) -> None:
    said, match = ANSWERS[case]
    client = client_of(party.client)
    assert not client.handshake()
    client.receive(memoryview(said))
    with pytest.raises(TLSError, match=match):
        client.handshake()


def test_a_close_in_the_handshake_says_how_far_it_was(party: Party) -> None:
    client = client_of(party.client)
    assert not client.handshake()
    client.receive_eof()
    with pytest.raises(TLSError, match="closed the connection in the middle of the TLS handshake; does it speak TLS"):
        client.handshake()
    client, server = client_of(party.client), server_of(party.server)
    assert not client.handshake()
    carry(client, server)
    assert not server.handshake()
    client.receive(memoryview(server.output())[:100])
    client.receive_eof()
    with pytest.raises(TLSError, match=r"in the middle of the TLS handshake$"):
        client.handshake()


def test_a_close_right_behind_the_handshake_is_probably_a_refusal(party: Party) -> None:
    for config, who in ((party.client, "our certificate"), (TLSConfig(ca_file=party.authority.file), "us, for we")):
        client, server = client_of(config), server_of(replace(party.server, client_certificates="optional"))
        shake(client, server)
        client.receive_eof()
        assert client.decrypt_into(memoryview(bytearray(100))) == 0
        verdict = client.verdict()
        assert isinstance(verdict, CertificateRefused)
        assert f"right after the TLS handshake; it probably refused {who}" in str(verdict)
        assert server.verdict() is None


@pytest.mark.parametrize("version", [V12, V13])
def test_no_refusal_is_guessed_where_the_server_spoke_or_would_have_said_so(
    party: Party, version: ssl.TLSVersion
) -> None:
    client, server = pair(party, version)
    if version == V13:
        client.receive(memoryview(server.encrypt(b"hello")))
        assert read(client) == b"hello"
    client.receive_eof()
    assert client.decrypt_into(memoryview(bytearray(100))) == 0
    assert client.verdict() is None
