"""Listening sockets on the I/O thread, and the connection that waits to be accepted."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Final

from dulcet.io.sockets import listening_sockets
from dulcet.toolkit.io_thread import READ, IOThread

if TYPE_CHECKING:
    from dulcet.toolkit.net import Net

__all__ = ["ListeningSocket", "listening"]

RESERVE: Final = 0.5
"""Seconds between two tries to accept when the process is out of descriptors."""


ADDRESSES: Final = {"v4": ("127.0.0.1", "0.0.0.0", socket.AF_INET), "v6": ("::1", "::", socket.AF_INET6)}
"""This machine alone, every address, of each protocol."""
LACKING: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
PORT_TRIES: Final = 8
"""A port that is free in one protocol may be taken in the other."""


def listening(host: str, port: int, backlog: int, ip: str) -> list[socket.socket]:
    """Listening sockets of one port in the protocols that `ip` names, as far as the machine and the host have them."""
    for tries_left in reversed(range(1 if port else PORT_TRIES)):
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for local, every, family in ADDRESSES.values() if ip == "both" else (ADDRESSES[ip],):
                try:
                    name = {"": local, "*": every}.get(host) or str(socket.getaddrinfo(host, port, family)[0][4][0])
                    taken = sockets[0].getsockname()[1] if sockets else port
                    sockets += listening_sockets(name, taken, backlog=backlog)
                except OSError as error:
                    if not isinstance(error, socket.gaierror) and error.errno not in LACKING:
                        raise
                    missing = missing or error
        except OSError as error:
            for sock in sockets:
                sock.close()
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise
            continue
        if missing is not None and not sockets:
            raise missing
        return sockets
    raise AssertionError("unreachable")


class ListeningSocket:
    """Listening sockets, and the connection that waits to be accepted."""

    def __init__(self, owner: Net, io: IOThread, sockets: list[socket.socket]) -> None:
        self.deadline: float | None = None
        self.waiting: socket.socket | None = None
        self.peer: tuple[str, int] = ("", 0)
        """Who waits: a peer that resets has no name any more once it is accepted."""
        self.address: tuple[str, int] = sockets[0].getsockname()[:2]
        self._owner, self._io, self._sockets = owner, io, sockets

    def open(self) -> None:
        self._io.attended.add(self)
        self._watch(READ)

    def ready(self, sock: socket.socket, mask: int) -> None:
        try:
            self.waiting, peer = sock.accept()
            self.peer = peer[:2]
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._watch(0)  # out of descriptors: let those who have one finish
            self.deadline = time.monotonic() + RESERVE
            self._owner._call("on_accept", error)
            return
        self._owner._call("on_accept", None)
        self._send_away()

    def expire(self, now: float) -> None:
        self.deadline = None
        self._watch(READ)

    def stop(self) -> None:
        self.drop()

    def drop(self) -> None:
        if self._sockets:
            self._watch(0)
            self._io.attended.discard(self)
            for sock in self._sockets:
                sock.close()
            self._sockets = []
            self._owner._io = self._owner._listening_socket = None
            self._owner._callback_counts.end()

    def fail(self, error: Exception) -> None:
        self._send_away()

    def _send_away(self) -> None:
        """Close what nobody accepted."""
        if self.waiting is not None:
            self.waiting.close()
            self.waiting = None

    def _watch(self, mask: int) -> None:
        for sock in self._sockets:
            self._io.watch(sock, mask, self)
