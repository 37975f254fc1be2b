"""Sockets as every face wants them, and the way to a connected or listening one.

Rules: TCP_NODELAY is on; TCP_QUICKACK is armed again before each wait, which cures the 40 ms stall of peers that leave
Nagle's algorithm on; every address that a name has is tried, and each failure is told.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from dulcet.errors import PeerUnreachable

AddressInfo = list[tuple[Any, Any, int, str, Any]]

__all__ = [
    "HELD_BACK",
    "connect",
    "failure",
    "format_address",
    "listening_sockets",
    "prepare",
    "quick_ack",
    "unknown_host",
    "unreachable",
]

TCP_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)

BACKLOG: Final = 1024
"""Connections that the kernel keeps until we accept; a short queue costs the refused ones a second each."""

PORT_TRIES: Final = 8
"""A port that is free on the first address may be taken on the next one."""

HELD_BACK: Final = 0.1
"""Seconds that a process leaves a new connection to those who have less in hand and share its port."""

CURES: Final = {
    errno.EADDRINUSE: "choose another port, or stop what listens there",
    errno.EACCES: "ports below 1024 need a privilege: choose one above",
}


def prepare(sock: socket.socket) -> None:
    """What every association's socket gets."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # not TCP, or gone already: the first read will say so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def quick_ack(sock: socket.socket) -> None:
    """Have the kernel acknowledge at once what comes next; it forgets this by itself."""
    if TCP_QUICKACK is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 1)


def format_address(address: object) -> str:
    """`host:port`, `[host]:port` for IPv6."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return f"{host}:{address[1]}"
    return str(address)


def connect(
    host: str, port: int, deadline: float, *, own: tuple[str, int] | None = None, family: int = 0
) -> socket.socket:
    """A connected non-blocking socket, trying every address that `host` has until `deadline`.

    `own` is the address and port to call from, `family` the one protocol to use; 0 for any.
    Raises PeerUnreachable, which names each address tried and what happened there.
    """
    addresses = [found for found in _resolve(host, port, deadline) if family in (0, found[0])]
    failures: list[str] = [] if addresses else ["it has no address of that protocol"]
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline - time.monotonic()
        # Each address gets its share of the time, so that one that swallows packets leaves some for the next.
        share = left / (len(addresses) - index)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failures.append(failure(address, error, share))
            continue
        try:
            sock.settimeout(max(share, 0.001))
            if own is not None:
                _bind(sock, own)
            sock.connect(address)
            if sock.getsockname() == sock.getpeername():  # TCP lets a port that was picked for us meet itself
                raise ConnectionRefusedError
        except OSError as error:
            sock.close()
            failures.append(failure(address, error, share))
        except BaseException:
            sock.close()
            raise
        else:
            prepare(sock)
            return sock
    raise unreachable(host, port, failures)


def _bind(sock: socket.socket, own: tuple[str, int]) -> None:
    """Call from an address of ours; the error says that it was ours which could not be used."""
    try:
        if own[1] and os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(own)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot call from {format_address(own)}: {reason}") from error


def _resolve(host: str, port: int, deadline: float) -> AddressInfo:
    """The addresses of `host`; numeric ones at once, others in a thread, for the system's resolver has no deadline."""
    name = host.encode("ascii") if host.isascii() else host  # text would be put through IDNA, which is slow to load
    try:
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        pass
    answers: queue.SimpleQueue[AddressInfo | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="dulcet-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
    except queue.Empty:
        raise unknown_host(host, TimeoutError("the name server did not answer in time")) from None
    if isinstance(answer, Exception):
        raise unknown_host(host, answer) from answer
    return answer


def unknown_host(host: str, error: Exception) -> PeerUnreachable:
    """No address has that name."""
    reason = getattr(error, "strerror", None) or str(error)
    return PeerUnreachable(f"host {host!r} is not known ({reason}); check the name before the colon")


def failure(address: object, error: OSError, seconds: float) -> str:
    """What happened at one address, which was given so much time."""
    if isinstance(error, TimeoutError):
        reason = f"no answer within {seconds:.1f} s (a firewall, or the host is off)"
    elif isinstance(error, ConnectionRefusedError):
        reason = "refused, nothing listens on that port"
    else:
        reason = error.strerror or str(error)
    return f"{format_address(address)}: {reason}"


def unreachable(host: str, port: int, failures: Sequence[str]) -> PeerUnreachable:
    """No address answered."""
    asked = format_address((host, port))
    told = [failures[0].removeprefix(f"{asked}: ")] if len(failures) == 1 else failures
    return PeerUnreachable(f"cannot connect to {asked}: {'; '.join(told)}")


def listening_sockets(host: str, port: int, *, backlog: int = BACKLOG, shared: bool = False) -> list[socket.socket]:
    """Non-blocking sockets that listen on every address of `host`; "" and "*" are all, IPv4 and IPv6.

    Port 0 takes one free port for all of them.  `shared` lets several processes listen on one port (SO_REUSEPORT).
    Raises OSError that names the address and what to change.
    """
    name = None if host in ("", "*") else host
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"cannot listen on {host!r}: {reason}; name an address of this machine, or 0.0.0.0 for all",
        ) from error
    addresses = list(dict.fromkeys(found))
    for _ in range(0 if port else PORT_TRIES - 1):
        try:
            return _listen_on_all(addresses, port, backlog, shared)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _listen_on_all(addresses, port, backlog, shared)


def _listen_on_all(addresses: AddressInfo, port: int, backlog: int, shared: bool) -> list[socket.socket]:
    """One socket for each address, all with one port; a protocol that this machine lacks is left out."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in addresses:
            where = (address[0], sockets[0].getsockname()[1], *address[2:]) if sockets and not port else address
            try:
                sockets.append(_listen(family, kind, protocol, where, backlog, shared))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if not sockets:
            assert missing is not None
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: int, kind: int, protocol: int, address: Any, backlog: int, shared: bool) -> socket.socket:
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        cure = CURES.get(error.errno or 0, "name an address of this machine, or 0.0.0.0 for all")
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {format_address(address)}: {reason}; {cure}") from error
    return sock
