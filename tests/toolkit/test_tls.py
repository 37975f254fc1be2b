"""TLS an object: the handshake before the association, with a deadline; the association itself as without."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.corpus import element, make_instance
from tests.toolkit.recording import CLASSES, CT, INSTANCE, Recorded, accept_all, asking, running

from dulcet.config import AssociationConfig, Timers
from dulcet.errors import PeerUnreachable
from dulcet.toolkit import Delivery, Requester, StorageListener

# Made for these tests, of use for nothing else; for localhost and 127.0.0.1.
PEM = """
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/e0924o1EyZEhPeq
nFbFn2ZNrr0n2zeE46+gs4rK3QOhRANCAAST2fn4Zr+qZ1Iey6D7pAE8IYTmHnVV
IbR16ep5w1MIQihITn/hDcs/uGEWjamsXRuDUzHSPFuWRcbMKaKXU+CX
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnzCCAUWgAwIBAgIUahXQnsjno8/q9e+3wo9eLkkxxWowCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLZHVsY2V0IHRlc3QwIBcNMjYxMTIwMDk0NzA4WhgPMjEyNjEw
MjcwOTQ3MDhaMBYxFDASBgNVBAMMC2R1bGNldCB0ZXN0MFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEk9n5+Ga/qmdSHsug+6QBPCGE5h51VSG0denqecNTCEIoSE5/
4Q3LP7hhFo2prF0bg1Mx0jxblkXGzCmil1Pgl6NvMG0wHQYDVR0OBBYEFNDCVe77
Jcf0x+g0+9LOV7lTeZooMB8GA1UdIwQYMBaAFNDCVe77Jcf0x+g0+9LOV7lTeZoo
MA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAoG
CCqGSM49BAMCA0gAMEUCIAGBcpBHFMZaFaOz/G57LtAXzZ2Ksg8WvffF3REMdfkq
AiEAqe+ydRh2Kj7uv0kVDNheLqGMOtYmGE4FXaz4Zj2f53s=
-----END CERTIFICATE-----
"""
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: what the clock of a machine that tests says does not matter."""


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


@pytest.fixture
def server_side(tmp_path: Path) -> ssl.SSLContext:
    path = tmp_path / "test.pem"
    path.write_text(PEM.strip())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def user_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=PEM[PEM.index("-----BEGIN CERT") :])
    context.verify_flags |= NO_CHECK_TIME  # type: ignore[operator]
    return context


def test_the_link_is_secure_before_anything_of_the_association(
    server_side: ssl.SSLContext, user_side: ssl.SSLContext
) -> None:
    kept: list[bytes] = []
    client = Recorded(
        on_receive_associate_request=accept_all,
        on_receive_c_store_request=lambda net, cid, mid, *rest: (
            kept.append(bytes(rest[-1])),
            net.send_c_store_response(cid, mid, status=0),
        ),
    )
    server = Recorded(tls=server_side, on_accept=lambda net, error: net.accept(client))
    user = Recorded(tls=user_side, on_connect=lambda net, error: net.send_associate_request(asking()))
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    user.heard("on_receive_associate_accept")
    assert user.names()[:4] == ["on_connect", "on_secure_link_ready", "on_send", "on_receive"]
    assert client.names()[:2] == ["on_secure_link_ready", "on_receive"]
    data = element(0x7FE00010, b"OB", bytes(range(256)) * 20_000)
    user.send_c_store_request(3, None, CT, INSTANCE, data_set=data)
    user.heard("on_receive_c_store_response")
    assert kept == [data]
    user.send_c_echo_request(1, None, CLASSES[0])
    user.heard("on_receive_c_echo_response")
    user.send_release_request()
    user.heard("on_receive_release_response")
    assert server.heard("on_close") == (None, client)


def test_a_certificate_that_nobody_vouches_for_ends_it(server_side: ssl.SSLContext) -> None:
    server = Recorded(tls=server_side, on_accept=lambda net, error: net.accept(Recorded()))
    user = Recorded(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    error, _ = user.heard("on_close")
    assert isinstance(error, PeerUnreachable)
    assert "TLS handshake failed" in str(error)
    assert isinstance(server.heard("on_close")[0], PeerUnreachable)
    assert "on_secure_link_ready" not in user.names()


def test_a_peer_without_tls_ends_it(server_side: ssl.SSLContext) -> None:
    client = Recorded()
    server = Recorded(tls=server_side, on_accept=lambda net, error: net.accept(client))
    user = Recorded()
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    user.heard("on_connect")
    user.send_associate_request(asking())
    assert isinstance(server.heard("on_close")[0], PeerUnreachable)
    user.heard("on_close")
    assert client.names() == []


@pytest.mark.parametrize("silent", ["user", "server"])
def test_a_silent_peer_meets_a_deadline(silent: str, server_side: ssl.SSLContext, user_side: ssl.SSLContext) -> None:
    config = AssociationConfig(timers=Timers(tls=0.1))
    if silent == "user":
        server = Recorded(config=config, tls=server_side, on_accept=lambda net, error: net.accept(Recorded()))
        with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
            error, _ = server.heard("on_close")
            assert peer.recv(1) == b""
    else:
        user = Recorded(config=config, tls=user_side)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            user.connect(*listening.getsockname())
            error, _ = user.heard("on_close")
    assert "no TLS handshake in time" in str(error)


def test_closing_in_the_middle_of_a_handshake_is_quiet(user_side: ssl.SSLContext) -> None:
    user = Recorded(tls=user_side)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        user.connect(*listening.getsockname())
        user.heard("on_connect")
        user.close()
    assert not user.is_activated
    assert user.names() == ["on_connect"]


def test_the_last_shutdown_ends_a_handshake(user_side: ssl.SSLContext) -> None:
    from dulcet.toolkit import shutdown, startup

    user = Recorded(tls=user_side)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        user.connect(*listening.getsockname())
        user.heard("on_connect")
        shutdown()
        startup()
    user.heard("on_close")


def test_the_storage_listener_and_the_requester(
    server_side: ssl.SSLContext, user_side: ssl.SSLContext, tmp_path: Path
) -> None:
    with StorageListener("RECEIVER", tls=server_side, in_memory=True) as listener:
        requester = Requester(f"RECEIVER@127.0.0.1:{listener.port}", tls=user_side)
        sent: list[Delivery] = []
        path = make_instance(tmp_path / "one.dcm", 100_000, sop_class_uid=CT)
        thread = threading.Thread(target=lambda: sent.append(requester.send(path)))
        thread.start()
        assert listener.wait_for_connection(20)
        while listener.wait_for_command(20):
            pass
        thread.join(20)
        assert len(sent[0].succeeded) == 1
        assert listener.take_stored_object()
