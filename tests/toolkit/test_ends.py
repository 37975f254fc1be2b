"""Every connection has one end, and it is told: early resets, values that nobody foresaw, TLS that does not fit."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tls.authority import Authority
from tests.toolkit.recording import (
    CT,
    DATA_SET,
    DEADLINE,
    INSTANCE,
    Parties,
    Recorded,
    accept_all,
    asking,
    associated,
    connected,
    running,
)

from dulcet import TLSConfig
from dulcet.config import AssociationConfig
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted, AssociationClosed, PeerUnreachable, TLSConfigError, TLSError
from dulcet.io.certificates import CertificateTable
from dulcet.toolkit import Net
from dulcet.toolkit.io_thread import current
from dulcet.upper_layer.pdu import Abort, decode

RESET = bytes((1, 0, 0, 0, 0, 0, 0, 0))


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class Held:
    """The I/O thread does nothing until `release`."""

    def __init__(self) -> None:
        self._released = threading.Event()
        current().post(lambda: self._released.wait(DEADLINE))

    def release(self) -> None:
        self._released.set()


def test_peers_that_reset_before_they_are_accepted_are_told_and_gone() -> None:
    server = Recorded(on_accept=lambda net, error: net.accept(Recorded()))
    port = server.listen("127.0.0.1")
    held = Held()
    peers = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(5)]
    names = {peer.getsockname() for peer in peers}
    for peer in peers:
        reset(peer)
    held.release()
    server.heard("on_close", 5)
    closed = [arguments for name, arguments in server.calls if name == "on_close"]
    assert len(closed) == 5
    assert {client.peer_info for _, client in closed} == names
    assert server.clients == []


def test_a_peer_that_resets_before_on_connect_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held = Held()
        users = [Recorded() for _ in range(5)]
        for user in users:
            user.connect(*listening.getsockname())
            peer, _ = listening.accept()
            reset(peer)
        held.release()
        for user in users:
            # Either it was gone before anything could be said, or it went right after that.
            if user.heard("on_connect") == (None,):
                assert isinstance(user.heard("on_close")[0], AssociationClosed)
                assert user.peer_info == listening.getsockname()
            user.close()
            assert not user.is_activated
            assert user.names().count("on_close") <= 1


@pytest.mark.parametrize("given", [True, 5, [], "a\0b"])
def test_a_store_setup_that_gives_no_path_is_a_failure_and_the_association_lives(given: Any) -> None:
    parties = associated(on_store_setup=lambda *_: given)
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    assert parties.user.heard("on_receive_c_store_response")[4] == Status.PROCESSING_FAILURE
    assert parties.user.is_associated
    assert "on_receive_c_store_request" not in parties.client.names()


def test_an_empty_path_is_memory_and_bytes_are_a_path(tmp_path: Path) -> None:
    path = tmp_path / "as-bytes.dcm"
    given: list[Any] = ["", os.fsencode(path)]
    parties = associated(
        on_store_setup=lambda *_: given.pop(0),
        on_receive_c_store_request=lambda net, cid, mid, *_: net.send_c_store_response(cid, mid, status=0),
    )
    for times in (1, 2):
        parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
        assert parties.user.heard("on_receive_c_store_response", times)[4] == 0
    received = [arguments[-1] for name, arguments in parties.client.calls if name == "on_receive_c_store_request"]
    assert [(one.data, one.path) for one in received] == [(DATA_SET, None), (None, path)]


class Broken(Recorded):
    """Something goes wrong outside of every callback."""

    def _handle(self, event: Any) -> None:
        raise RuntimeError("planned")


def test_what_nobody_foresaw_aborts_as_provider_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    client = Broken()
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        peer.sendall(asking().to_pdu().encode())
        assert decode(peer.recv(10)) == Abort(2, 0)
    error, _ = server.heard("on_close")
    assert isinstance(error, AssociationAborted)
    assert (error.source, error.by_us) == (2, True)
    assert "RuntimeError here: planned" in str(error)
    assert server.clients == []
    assert server.names().count("on_close") == 1
    assert "planned" in caplog.text


def test_a_posted_call_that_raises_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a `send_…` of another thread leads to one."""
    parties = associated()
    assert parties.client._connection is not None
    monkeypatch.setattr(parties.client._connection, "_flush", lambda: 1 / 0)
    parties.client.send_abort()
    error, _ = parties.server.heard("on_close")
    assert "ZeroDivisionError" in str(error)
    parties.user.heard("on_close")
    assert parties.server.clients == []


def test_what_cannot_be_let_go_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    parties = associated()

    class Stuck:
        def discard(self) -> None:
            raise OSError("planned")

    monkeypatch.setattr(parties.client, "_storing", Stuck())
    parties.user.close()
    assert parties.server.heard("on_close")[1] is parties.client


def test_an_abort_of_what_is_over_is_nothing() -> None:
    parties = associated()
    parties.user.close()
    parties.user.send_abort()
    assert "on_close" not in parties.user.names()


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_a_server_with_a_context_for_clients_keeps_nobody_waiting() -> None:
    server = Recorded(tls=ssl.create_default_context(), on_accept=lambda net, error: net.accept(Recorded()))
    port = server.listen("127.0.0.1")
    peers = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(5)]
    server.heard("on_close", 5)
    for peer in peers:
        with peer:
            assert select.select([peer], [], [], DEADLINE)[0]
    errors = [arguments[0] for name, arguments in server.calls if name == "on_close"]
    assert all(isinstance(error, TLSError) for error in errors)
    assert "made for a client" in str(errors[0])
    assert server.clients == []


def test_a_user_with_a_context_for_servers_is_told() -> None:
    server = Recorded(on_accept=lambda net, error: net.accept(Recorded()))
    user = Recorded(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    error, _ = user.heard("on_close")
    assert isinstance(error, TLSError)
    assert "made for a server" in str(error)
    user.close()
    assert not user.is_activated
    assert user.names() == ["on_connect", "on_close"]


def test_what_becomes_no_tls_later_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It was looked at when listening began, and is another one since."""
    server = Recorded(on_accept=lambda net, error: net.accept(Recorded()))
    port = server.listen("127.0.0.1")
    server.tls = "secret"  # type: ignore[assignment]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        assert peer.recv(1) == b""
    error, _ = server.heard("on_close")
    assert isinstance(error, AssociationAborted)
    assert "TypeError here" in str(error)
    assert "TLSConfig" in caplog.text
    assert server.clients == []


def test_a_name_that_no_certificate_can_have_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        user = Recorded(tls=TLSConfig(expected_name=".pacs"))
        user.connect(*listening.getsockname())
        error, _ = user.heard("on_close")
    assert isinstance(error, TLSError)
    assert "cannot be used as client" in str(error)


def test_what_is_no_tls_at_all_is_said_before_anybody_is_called() -> None:
    net = Net(tls="secret")  # type: ignore[arg-type]
    for call in (net.listen, lambda: net.connect("127.0.0.1", 1)):
        with pytest.raises(TypeError, match="TLSConfig"):
            call()
    with pytest.raises(TLSConfigError, match="certificate"):
        Net(tls=TLSConfig()).listen()
    assert not net.is_activated


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_tls_config_secures_both_sides_and_its_table_counts(authority: Authority) -> None:
    theirs = authority.issue("ct1", "DNS:ct1.example.org").files
    table = CertificateTable({"ct1.example.org": ["USER"]})
    server_tls = TLSConfig(ca_file=authority.file, table=table, **authority.issue().files)
    client_tls = TLSConfig(ca_file=authority.file, **theirs)
    client = Recorded(on_receive_associate_request=accept_all)
    parties: Parties = connected(Recorded(tls=client_tls), Recorded(tls=server_tls), client)
    parties.user.heard("on_secure_link_ready")
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")

    parties.server.scripts["on_accept"] = lambda net, error: net.accept(
        Recorded(on_receive_associate_request=accept_all)
    )
    other = Recorded(tls=client_tls)
    assert parties.server.host_info is not None
    other.connect(*parties.server.host_info)
    other.heard("on_connect")
    request = asking()
    request.calling = "SOMEBODY"
    other.send_associate_request(request)
    assert other.heard("on_receive_associate_reject") == (1, 1, 3)


def test_an_expected_name_is_what_the_certificate_must_have(authority: Authority) -> None:
    server_tls = TLSConfig(client_certificates="none", **authority.issue("pacs", "DNS:pacs.example.org").files)
    server = Recorded(tls=server_tls, on_accept=lambda net, error: net.accept(Recorded()))
    port = server.listen("127.0.0.1")
    good = Recorded(tls=TLSConfig(ca_file=authority.file, expected_name="pacs.example.org"))
    good.connect("127.0.0.1", port)
    good.heard("on_secure_link_ready")
    bad = Recorded(config=AssociationConfig(), tls=TLSConfig(ca_file=authority.file))
    bad.connect("127.0.0.1", port)
    assert "TLS handshake failed" in str(bad.heard("on_close")[0])


def test_settings_that_cannot_be_used_are_told() -> None:
    """What nobody checks before it is needed: a connection that cannot begin is none that begins for ever."""

    def accept(net: Net, error: object) -> None:
        with pytest.raises(AttributeError):
            net.accept(client)

    server, client, user = Recorded(on_accept=accept), Recorded(), Recorded()
    port = server.listen("127.0.0.1")
    for net in (client, user):
        net.config = replace(AssociationConfig(), limits=None)  # type: ignore[arg-type]
    user.connect("127.0.0.1", port)
    assert isinstance(user.heard("on_connect")[0], PeerUnreachable)
    assert not user.is_activated
    server.heard("on_accept")
    assert not client.is_activated
    assert server.clients == []
