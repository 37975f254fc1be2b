"""Listening sockets on the I/O thread, and the connection that waits to be accepted."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from dulcet.toolkit.io_thread import READ, IOThread

if TYPE_CHECKING:
    from dulcet.toolkit.net import Net

__all__ = ["Door"]

RESERVE: Final = 0.5
"""Seconds between two tries to accept when the process is out of descriptors."""


class Door:
    """Listening sockets, and the connection that waits to be accepted."""

    def __init__(self, owner: Net, io: IOThread, sockets: list[socket.socket]) -> None:
        self.deadline: float | None = None
        self.waiting: socket.socket | None = None
        self.address: tuple[str, int] = sockets[0].getsockname()[:2]
        self._owner, self._io, self._sockets = owner, io, sockets

    def open(self) -> None:
        self._io.attended.add(self)
        self._watch(READ)

    def ready(self, sock: socket.socket, mask: int) -> None:
        try:
            self.waiting, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._watch(0)  # out of descriptors: let those who have one finish
            self.deadline = time.monotonic() + RESERVE
            self._owner._call("on_accept", error)
            return
        self._owner._call("on_accept", None)
        if self.waiting is not None:
            self.waiting.close()
            self.waiting = None

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
            self._owner._io = self._owner._door = None

    def _watch(self, mask: int) -> None:
        for sock in self._sockets:
            self._io.watch(sock, mask, self)
