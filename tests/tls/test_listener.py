"""A listener with TLS among peers good and bad, through real sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.blocking.providing import Provider, provider
from tests.corpus import CT_IMAGE, make_folder, make_instance, read_instance
from tests.tls.conftest import Party

import dulcet
from dulcet import AssociationConfig, CertificateTable, Node, Timers, TLSConfig, uids
from dulcet.blocking.secure import SecureTransport
from dulcet.dimse.trace_events import HandshakeFailed
from dulcet.errors import AssociationAborted, AssociationRefused, CertificateRefused, PeerNotTrusted, TLSError
from dulcet.io.secure_stream import SecureStream
from dulcet.upper_layer.negotiation import Proposal

PATIENCE = 20.0
QUICK = AssociationConfig(timers=Timers(tls=0.4))
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@contextlib.contextmanager
def secure(tls: TLSConfig, handler: Any = None, **options: Any) -> Iterator[Provider]:
    """A provider with TLS that keeps what it is sent."""
    with provider(handler, tls=tls, **options) as found:
        yield found


def raw(found: Provider) -> socket.socket:
    """A connection of somebody with plans of his own."""
    sock = socket.create_connection(("127.0.0.1", found.listener.address.port))
    sock.settimeout(PATIENCE)
    return sock


def to_the_end(sock: socket.socket) -> bytes:
    """What comes until the orderly end; a reset is an error."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def echo(found: Provider, tls: Any, **options: Any) -> Any:
    with dulcet.associate(found.address, tls=tls, **options) as association:
        association.echo().check()
        return association.tls


# ---------------------------------------------------------------------- work


@pytest.mark.parametrize("version", [V12, V13])
def test_large_objects_travel_both_ways_byte_for_byte(party: Party, tmp_path: Path, version: ssl.TLSVersion) -> None:
    files = [make_instance(tmp_path / f"{n}.dcm", 6 << 20, n, CT_IMAGE) for n in (1, 2)]
    node = Node("PROVIDER", store_to=tmp_path / "kept")
    node.on_store(lambda request: None)
    node.on_get(lambda request: files)
    context = party.client.client_context()
    context.minimum_version = context.maximum_version = version
    contexts = [
        Proposal(uids.KEYWORDS["StudyRootQueryRetrieveInformationModelGet"], (uids.IMPLICIT_VR_LITTLE_ENDIAN,)),
        Proposal(CT_IMAGE, (uids.EXPLICIT_VR_LITTLE_ENDIAN,), provider=True),
    ]
    with (
        node.threads(tls=party.server) as server,
        dulcet.associate(server.address, contexts=contexts, tls=context) as association,
    ):
        assert association.tls is not None
        assert association.tls.version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
        assert all(sent.ok for sent in association.store_many(files))
        result = association.get(to=tmp_path / "got", level="STUDY", StudyInstanceUID="1.2.3")
        assert result.status.is_success
    sent = {read_instance(file).sop_instance_uid: read_instance(file).data_set() for file in files}
    for folder in ("kept", "got"):
        arrived = [read_instance(path) for path in (tmp_path / folder).rglob("*.dcm")]
        assert {one.sop_instance_uid: one.data_set() for one in arrived} == sent


def test_a_window_parallel_associations_and_a_pool(party: Party, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 40, 20_000)
    with secure(party.server) as found:
        with dulcet.associate(found.address, tls=party.client) as association:
            assert all(sent.ok for sent in association.store_many(files, associations=3, window=4))
        with dulcet.Pool() as pool:
            for _ in range(3):
                with pool.associate(dulcet.Address.parse(found.address, party.client)) as association:
                    assert association.tls is not None
                    association.echo().check()
        found.join()
        stored = {uid: len(data) for uid, data in found.stored.items() if uid}
        assert stored == {read_instance(file).sop_instance_uid: 1 for file in files}
        assert set(found.endings) == {"released"}
        assert found.errors == []


def test_a_slow_reader_slows_the_sender_down_and_gets_everything(party: Party, tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 12 << 20, 3, CT_IMAGE)
    pause = threading.Event()

    def slowly(found: Provider, request: Any) -> None:
        data = bytearray()
        for piece in request.chunks():
            data += piece
            pause.wait(0.001)
        found.stored[request.sop_instance_uid] = [bytes(data)]
        request.respond(0)

    with secure(party.server, slowly) as found:
        with dulcet.associate(found.address, tls=party.client) as association:
            assert association.store(file).ok
        instance = read_instance(file)
        assert found.stored[instance.sop_instance_uid] == [instance.data_set()]


def test_an_abort_crosses_as_an_abort(party: Party) -> None:
    with secure(party.server) as found:
        association = dulcet.associate(found.address, tls=party.client)
        association.echo().check()
        association.abort()
        found.join()
        assert found.endings == ["aborted"]
        assert isinstance(found.errors[0], AssociationAborted)
        waiting = dulcet.associate(found.address, tls=party.client)
        threading.Timer(0.1, waiting.interrupt).start()
        with pytest.raises(AssociationAborted):
            next(waiting.requests())
        found.join()
        assert found.endings == ["aborted", "aborted"]


def test_a_node_moves_to_a_peer_with_tls(party: Party, tmp_path: Path) -> None:
    file = make_instance(tmp_path / "a.dcm", 100_000, 1, CT_IMAGE)
    with secure(party.server) as destination:
        address = dulcet.Address.parse(destination.address, party.client)
        node = Node("ARCHIVE", peers={"DESTINATION": address})
        node.on_move(lambda request: [file])
        with (
            node.threads(tls=party.server) as server,
            dulcet.associate(server.address, tls=party.client) as association,
        ):
            result = association.move(destination="DESTINATION", level="STUDY", StudyInstanceUID="1.2.3")
            assert result.status.is_success
        destination.join()
        assert destination.associations[0].tls is not None
        assert len(destination.stored) == 1


def test_what_a_user_listens_for_may_come_with_tls(party: Party, tmp_path: Path) -> None:
    file = make_instance(tmp_path / "a.dcm", 1000, 1, CT_IMAGE)
    node = Node("ARCHIVE")
    node.on_move(lambda request: [file])
    receive = dulcet.Address("ME", "127.0.0.1", _free_port(), party.server)
    node.peers["ME"] = replace(receive, tls=party.client)
    with node.threads() as server, dulcet.associate(server.address) as association:
        result = association.move(
            destination="ME", receive=receive, to=tmp_path / "got", level="STUDY", StudyInstanceUID="1.2.3"
        )
    assert result.status.is_success
    assert len(result.received) == 1


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_ipv6_by_its_address(party: Party) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with secure(party.server, host="::1") as found:
        assert echo(found, party.client).certificate.subject == "CN=localhost"


# ---------------------------------------------------------------------- who does not get in


FOREIGN = {
    "an association request": (b"\x01\x00\x00\x00\x00\xd0\x00\x01", "speaks DICOM without TLS to a port with TLS"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP or other text"),
    "noise": (b"\xfe\xdc\xba\x98" * 5000, "does not speak TLS"),
    "a record of nonsense": (b"\x16\x03\x01\x00\x05hello", "TLS handshake"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_tls_is_logged_and_counted(party: Party, case: str, caplog: pytest.LogCaptureFixture) -> None:
    said, why = FOREIGN[case]
    with secure(party.server) as found:
        with raw(found) as sock:
            sock.sendall(said)
            answer = to_the_end(sock)  # an alert at most, then an orderly end
            assert answer[:1] in (b"", b"\x15")
        until(lambda: found.listener.handshake_failures == 1)
        until(lambda: why in caplog.text)
        echo(found, party.client)


def test_a_plain_user_is_told_what_the_port_wants(party: Party) -> None:
    with secure(party.server) as found, pytest.raises(AssociationAborted, match="that port wants TLS"):
        dulcet.associate(found.address)


def test_a_secure_user_is_told_that_the_port_has_none(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    with provider() as found:
        with pytest.raises(TLSError, match="speaks DICOM without TLS; call it without"):
            echo(found, party.client)
        assert "the peer speaks TLS to a port without TLS" in caplog.text


@pytest.mark.parametrize("version", [V12, V13])
def test_a_certificate_that_is_not_accepted(
    party: Party, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    context = replace(party.client, **party.unknown.files).client_context()
    context.minimum_version = context.maximum_version = version
    with secure(party.server) as found:
        with pytest.raises(CertificateRefused, match="does not know the CA"):
            echo(found, context)
        until(lambda: found.listener.handshake_failures == 1)
        assert "nobody here knows its CA" in caplog.text
        with pytest.raises(PeerNotTrusted, match="Hostname mismatch"):
            echo(found, replace(party.client, expected_name="archive.example.org"))
        until(lambda: found.listener.handshake_failures == 2)
        assert "refused our certificate" in caplog.text


def test_revoked_while_the_listener_runs(party: Party, folder: Path) -> None:
    crl = folder / "crl.pem"
    shutil.copy(party.authority.revocation_list(), crl)
    with secure(replace(party.server, crl_file=crl)) as found:
        echo(found, party.client)
        shutil.copy(party.authority.revocation_list(party.theirs), crl)
        with pytest.raises(CertificateRefused, match="was revoked"):
            echo(found, party.client)


def test_a_probe_that_says_nothing_is_worth_no_line(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    with secure(party.server, config=QUICK) as found:
        raw(found).close()
        with raw(found) as sock:
            assert to_the_end(sock) == b""
        echo(found, party.client)
        assert found.listener.handshake_failures == 0
    assert caplog.text == ""


def test_half_a_hello_costs_the_peer_its_connection(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    with secure(party.server, config=QUICK) as found, raw(found) as sock:
        start = time.monotonic()
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert to_the_end(sock) == b""
        assert 0.3 < time.monotonic() - start < 5
        until(lambda: found.listener.handshake_failures == 1)
    assert "no TLS handshake within 0.4 s" in caplog.text


def test_neither_drops_of_a_handshake_nor_drops_of_a_request_renew_the_deadline(
    party: Party, caplog: pytest.LogCaptureFixture
) -> None:
    with secure(party.server, config=QUICK) as found, raw(found) as sock:
        context = party.client.client_context()
        start = time.monotonic()
        with context.wrap_socket(sock, server_hostname="localhost") as tls, pytest.raises(OSError):
            _drip(tls, b"\x01\x00\x00\x00\x00\xd0" + bytes(500))
        assert time.monotonic() - start < 5
    assert "no whole A-ASSOCIATE-RQ within 0.4 s" in caplog.text


def _drip(sock: socket.socket, data: bytes) -> None:
    for byte in data:
        sock.send(bytes([byte]))
        time.sleep(0.02)


def test_silent_peers_hold_nobody_up_and_leave_nothing_behind(party: Party) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    threads = threading.active_count()
    with secure(party.server, config=AssociationConfig(timers=Timers(tls=1.5))) as found:
        silent = [raw(found) for _ in range(150)]
        for number, sock in enumerate(silent):
            sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
        start = time.monotonic()
        for _ in range(5):
            echo(found, party.client)
        assert time.monotonic() - start < 3
        for sock in silent:
            assert to_the_end(sock) == b""
            sock.close()
        found.join()
    until(lambda: threading.active_count() <= threads)
    if before:
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_an_observer_is_told_of_handshakes_that_failed(party: Party) -> None:
    seen: list[tuple[str, str]] = []

    def observe(trace_event: object, association: Any) -> None:
        if isinstance(trace_event, HandshakeFailed):
            seen.append((association.peer, trace_event.message))

    metrics = dulcet.Metrics()
    config = AssociationConfig(observers=(observe, metrics))
    with secure(party.server, config=config) as found, raw(found) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        to_the_end(sock)
        assert metrics.counts["HandshakeFailed"] == 1
        host, port = sock.getsockname()
        assert seen == [(f"{host}:{port}", f"{host}:{port} speaks HTTP or other text to a port with TLS")]


def test_a_listener_says_what_it_lacks_before_it_listens(party: Party) -> None:
    with pytest.raises(dulcet.TLSConfigError, match="needs a certificate"):
        dulcet.listen("PROVIDER@127.0.0.1:0", tls=TLSConfig(ca_file=party.authority.file))


# ---------------------------------------------------------------------- table, reload


def test_a_certificate_may_use_its_own_titles_alone(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    table = CertificateTable({"ct1.example.org": ["CT1", "CT2"]})
    with secure(replace(party.server, table=table)) as found:
        echo(found, party.client, calling_ae_title="CT2")
        for tls, title, why in (
            (party.client, "MR1", "may not use this AE title: 'CN=ct1', 'DNS:ct1.example.org' (sha256:"),
            (replace(party.client, **party.authority.issue("mr").files), "CT1", "its certificate is not in the table"),
        ):
            with pytest.raises(AssociationRefused) as caught:
                echo(found, tls, calling_ae_title=title)
            assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)
            assert f"refused '{title}', its certificate" in caplog.text
            assert why in caplog.text


def test_new_certificates_are_for_new_connections_and_old_associations_go_on(party: Party, folder: Path) -> None:
    files = {"certificate": folder / "our.pem", "key": folder / "our.key"}
    renewed = party.authority.issue()

    def put(credentials: Any) -> None:
        shutil.copy(credentials.certificate, files["certificate"])
        shutil.copy(credentials.key, files["key"])

    put(party.ours)
    with secure(TLSConfig(ca_file=party.authority.file, **files)) as found:
        with dulcet.associate(found.address, tls=party.client) as standing:
            standing.echo().check()
            put(renewed)
            assert echo(found, party.client).certificate.pin == renewed.pin
            standing.echo().check()
            assert standing.tls is not None
            assert standing.tls.certificate is not None
            assert standing.tls.certificate.pin == party.ours.pin
        files["key"].write_text("broken")
        assert echo(found, party.client).certificate.pin == renewed.pin


# ---------------------------------------------------------------------- the transport


def transports(party: Party) -> tuple[SecureTransport, SecureTransport]:
    """A client's and a server's, behind their handshake."""
    left, right = socket.socketpair()
    one = SecureTransport(left, lambda: SecureStream(party.client.client_context(), peer="them", host="localhost"))
    two = SecureTransport(right, lambda: SecureStream(party.server.server_context(), peer="us"))
    done = [False, False]
    while not all(done):
        done = [one.shake_hands(), two.shake_hands()]
    return one, two


def test_waiting_never_hangs_on_what_was_received_already(party: Party) -> None:
    one, two = transports(party)
    one.write([b"x" * 5000])
    small = memoryview(bytearray(1000))
    total = 0
    while total < 5000:
        readable, _, _ = two.wait(read=True, deadline=time.monotonic() + PATIENCE)
        assert readable
        total += two.read_into(small) or 0
    assert two.read_into(small) is None
    assert two.wait(read=True, deadline=time.monotonic() + 0.05) == (False, False, False)
    one.close()
    two.close()


def test_ctrl_c_in_the_middle_of_a_record_resets(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = transports(party)
    assert one.session is not None

    def interrupted(stream: SecureStream, plain: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(SecureStream, "encrypt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.write([b"a PDU"])
    assert one.broken
    one.close()
    assert two.read_into(memoryview(bytearray(10))) in (0, None)
    two.close()


def test_a_peer_that_ends_in_order_is_told_the_same(party: Party) -> None:
    one, two = transports(party)
    one.close()
    buffer = memoryview(bytearray(10))
    found = None
    while found is None:
        assert two.wait(read=True, deadline=time.monotonic() + PATIENCE)[0]
        found = two.read_into(buffer)
    assert found == 0
    assert two.verdict is None
    two.close()
