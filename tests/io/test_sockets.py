"""Connecting and listening: every address is tried, every failure told; one port for all; wrong set-ups explained."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from dulcet.errors import PeerUnreachable
from dulcet.io import sockets
from dulcet.io.sockets import connect, format_address, listening_sockets, prepare, quick_ack

SOON = 5.0


def soon() -> float:
    return time.monotonic() + SOON


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0, **options: object) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = listening_sockets(host, port, **options)  # type: ignore[arg-type]
        for sock in made:
            stack.enter_context(closing(sock))
        yield made


def closed_port() -> int:
    """A port on which nobody listens: bound, so that nobody else takes it, for as long as the process lives."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    held.append(sock)
    return int(sock.getsockname()[1])


held: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    while held:
        held.pop().close()


@contextmanager
def answers(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> Iterator[None]:
    """Have the name `peer` mean these addresses."""
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: int, **options: int) -> list[object]:
        if host != "peer":
            return list(real(host, port, *rest, **options))
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        found: list[object] = []
        for address, number in addresses:
            found += real(address, number, type=socket.SOCK_STREAM)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


def test_a_connected_socket_is_non_blocking_and_says_small_things_at_once() -> None:
    with listening() as [server], closing(connect("127.0.0.1", server.getsockname()[1], soon())) as sock:
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        quick_ack(sock)


def test_preparing_what_is_no_tcp_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        prepare(one)
        quick_ack(one)
        monkeypatch.setattr(sockets, "TCP_QUICKACK", None)
        quick_ack(one)
        assert one.gettimeout() == 0


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 104), "127.0.0.1:104"),
        (("::1", 104, 0, 0), "[::1]:104"),
        ("/tmp/socket", "/tmp/socket"),
    ],
)
def test_addresses_read_as_they_are_typed(address: object, text: str) -> None:
    assert format_address(address) == text


def test_ipv6() -> None:
    with listening("::1") as [server], closing(connect("::1", server.getsockname()[1], soon())) as sock:
        assert sock.family == socket.AF_INET6


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as [server]:
        port = server.getsockname()[1]
        with (
            answers(monkeypatch, ("::1", closed_port()), ("127.0.0.1", port)),
            closing(connect("peer", port, soon())) as sock,
        ):
            assert sock.getpeername() == ("127.0.0.1", port)


def test_localhost_reaches_a_listener_of_either_protocol() -> None:
    for host in ("127.0.0.1", "::1"):
        with listening(host) as [server]:
            port = server.getsockname()[1]
            known = {found[4][0] for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
            if host in known:
                with closing(connect("localhost", port, soon())) as sock:
                    assert sock.getpeername()[0] == host


def test_each_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = closed_port(), closed_port()
    with (
        answers(monkeypatch, ("127.0.0.1", first), ("127.0.0.1", second)),
        pytest.raises(PeerUnreachable) as caught,
    ):
        connect("peer", first, soon())
    assert str(caught.value) == (
        f"cannot connect to peer:{first}: 127.0.0.1:{first}: refused, nothing listens on that port; "
        f"127.0.0.1:{second}: refused, nothing listens on that port"
    )


def test_an_address_that_was_given_is_not_said_twice() -> None:
    port = closed_port()
    with pytest.raises(PeerUnreachable) as caught:
        connect("127.0.0.1", port, soon())
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: refused, nothing listens on that port"


def test_a_protocol_that_this_machine_lacks_is_one_failure_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    class NoIPv6(real):  # type: ignore[misc,valid-type]
        def __init__(self, family: int = -1, *rest: int, **options: object) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *rest, **options)

    with listening() as [server]:
        port = server.getsockname()[1]
        monkeypatch.setattr(socket, "socket", NoIPv6)
        with answers(monkeypatch, ("::1", port), ("127.0.0.1", port)), closing(connect("peer", port, soon())):
            pass
        with pytest.raises(PeerUnreachable, match="not supported"):
            connect("::1", port, soon())
        with listening("*") as everywhere:
            assert [sock.family for sock in everywhere] == [socket.AF_INET]
        with pytest.raises(OSError, match="cannot listen on"):
            listening_sockets("::1", 0)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no-such-host.invalid", "host 'no-such-host.invalid' is not known"),
        ("a" * 70 + ".org", "is not known"),
        ("nul\0host", "is not known"),
    ],
)
def test_a_name_that_nobody_knows(host: str, words: str) -> None:
    with pytest.raises(PeerUnreachable, match=words) as caught:
        connect(host, 104, soon())
    assert "check the name" in str(caught.value)


def test_a_name_server_that_does_not_answer_costs_no_more_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def silent(host: str, *rest: object, **options: int) -> list[object]:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        over.wait(SOON)
        return list(real("127.0.0.1", 1))

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    start = time.monotonic()
    try:
        with pytest.raises(PeerUnreachable, match="name server did not answer in time"):
            connect("peer", 104, start + 0.1)
        assert time.monotonic() - start < 2
    finally:
        over.set()


def test_a_peer_that_swallows_everything_leaves_time_for_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    # A listener whose queue is full: the kernel lets further connections hang.
    with listening(backlog=0) as [full], listening() as [server], ExitStack() as stack:
        hole = full.getsockname()[1]
        for _ in range(3):
            pending_requests = stack.enter_context(socket.socket())
            pending_requests.setblocking(False)
            pending_requests.connect_ex(("127.0.0.1", hole))
        port = server.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(PeerUnreachable, match=r"no answer within 0\.[34] s"):
            connect("127.0.0.1", hole, start + 0.4)
        assert time.monotonic() - start < 3
        with (
            answers(monkeypatch, ("127.0.0.1", hole), ("127.0.0.1", port)),
            closing(connect("peer", port, time.monotonic() + 0.8)) as sock,
        ):
            assert sock.getpeername()[1] == port


def test_a_deadline_that_is_over_is_still_a_try() -> None:
    with listening() as [server], closing(connect("127.0.0.1", server.getsockname()[1], time.monotonic() - 1)):
        pass


def test_a_port_that_meets_itself_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP's simultaneous open lets a socket connect to the very port that the kernel gave it."""
    port = closed_port()
    held.pop().close()
    real = socket.socket

    class Unlucky(real):  # type: ignore[misc,valid-type]
        def connect(self, address: object) -> None:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(("127.0.0.1", port))
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Unlucky)
    with pytest.raises(PeerUnreachable, match="nothing listens"):
        connect("127.0.0.1", port, soon())


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def test_ctrl_c_while_connecting_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket
    made: list[socket.socket] = []

    class Stopped(real):  # type: ignore[misc,valid-type]
        def connect(self, address: object) -> None:
            made.append(self)
            raise Interrupted

    monkeypatch.setattr(socket, "socket", Stopped)
    with pytest.raises(Interrupted):
        connect("127.0.0.1", 104, soon())
    assert made[0].fileno() == -1


@pytest.mark.parametrize("host", ["", "*"])
def test_everywhere_is_one_port_of_both_protocols(host: str) -> None:
    with listening(host) as made:
        ports = {sock.getsockname()[1] for sock in made}
        assert len(ports) == 1
        assert 0 not in ports
        for sock in made:
            there = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
            connect(there, ports.copy().pop(), soon()).close()


def test_a_port_that_is_taken_on_the_second_address_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    real = sockets._listen

    def contended(family: int, kind: int, protocol: int, address: tuple[str, int], *rest: object) -> socket.socket:
        if family == socket.AF_INET6 and len(taken) < 2:
            taken.append(address[1])
            raise OSError(errno.EADDRINUSE, "taken")
        return real(family, kind, protocol, address, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sockets, "_listen", contended)
    with listening("*") as made:
        assert len(made) == 2
        assert made[0].getsockname()[1] not in taken
    taken.clear()
    monkeypatch.setattr(sockets, "PORT_TRIES", 2)
    with pytest.raises(OSError, match="taken"):
        listening_sockets("*", 0)


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with listening() as [server]:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}.*choose another port") as caught:
            listening_sockets("127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE


def test_several_may_share_a_port_when_they_say_so() -> None:
    with listening(shared=True) as [one], listening(port=one.getsockname()[1], shared=True) as [other]:
        assert one.getsockname() == other.getsockname()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70 + ".org"])
def test_an_address_of_another_machine_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(OSError, match="name an address of this machine"):
        listening_sockets(host, 0)


def test_a_low_port_needs_a_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    class Unprivileged(real):  # type: ignore[misc,valid-type]
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with pytest.raises(OSError, match="ports below 1024 need a privilege"):
        listening_sockets("127.0.0.1", 104)


def test_windows_gets_no_reused_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    with listening() as [sock]:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0


def test_nothing_stays_open_after_a_failure() -> None:
    with listening("127.0.0.1") as [server]:
        before = len(os.listdir("/proc/self/fd"))
        for host, port in (("*", server.getsockname()[1]), ("192.0.2.1", 0)):
            with pytest.raises(OSError):
                listening_sockets(host, port)
        assert len(os.listdir("/proc/self/fd")) <= before
