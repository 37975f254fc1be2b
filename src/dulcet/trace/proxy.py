"""A proxy between two applications: passes bytes on, lets them be watched, and does to them what a fault says."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

from dulcet.io.sockets import connect, listening_sockets
from dulcet.trace.decoding import Direction

__all__ = ["Fault", "Proxy"]

Watcher = Callable[[int, Direction, bytes], object]
"""Called with the number of the connection, the direction and the bytes, before they are passed on; b"" at its end."""

CHUNK: Final = 64 * 1024
NUMBER: Final = r"(?P<value>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|k|M)?"
FAULT: Final = re.compile(rf"(?:(?P<way>[<>]):)?(?P<kind>delay|jitter|cut|reset|stop|throttle)={NUMBER}")
UNITS: Final[dict[str | None, float]] = {None: 1.0, "s": 1.0, "ms": 0.001, "k": 1000.0, "M": 1_000_000.0}
RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, in one direction or, with None, in both.

    delay: every piece leaves that many seconds later; jitter: each up to that many seconds later, by chance; cut: the
    connection is closed in order after so many bytes; reset: the same with a reset; stop: after so many bytes nothing
    is passed on any more, and nothing closed; throttle: at most so many bytes a second.
    """

    kind: Literal["delay", "jitter", "cut", "reset", "stop", "throttle"]
    value: float
    direction: Direction | None = None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`delay=50ms`, `jitter=20ms`, `>:cut=10000`, `<:throttle=100k`, `reset=4096`, `stop=1M`.

        ValueError says what is expected.
        """
        match = FAULT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"fault {text!r}: delay=50ms, jitter=20ms, cut=BYTES, reset=BYTES, stop=BYTES or throttle=BYTES, "
                "with k or M for bytes, and >: or <: in front for one direction"
            )
        return cls(match["kind"], float(match["value"]) * UNITS[match["unit"]], match["way"])  # type: ignore[arg-type]


class Proxy:
    """Listens, and passes each connection on to the peer; a thread a direction."""

    def __init__(
        self,
        peer: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Sequence[Fault] = (),
        watch: Watcher | None = None,
    ) -> None:
        """Serve from now on until `close()`; OSError when it cannot listen."""
        self._peer = peer
        self._faults = tuple(faults)
        self._watch = watch
        self._sockets = listening_sockets(host, port)
        self.port: int = self._sockets[0].getsockname()[1]
        """Where it listens."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wake_read, self._wake_write = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="dulcet-proxy", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop listening and cut what is connected."""
        self._closing.set()
        self._wake_write.send(b"\0")
        self._acceptor.join()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (*self._sockets, self._wake_read, self._wake_write):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (*self._sockets, self._wake_read):
                selector.register(sock, selectors.EVENT_READ)
            while not self._closing.is_set():
                for key, _ in selector.select():
                    if key.fileobj is self._wake_read:
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    with contextlib.suppress(OSError):
                        client, _ = key.fileobj.accept()
                        self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = connect(*self._peer, time.monotonic() + 10)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(True)
        pair = {client, server}
        with self._lock:
            self._open |= pair
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        number = next(self._numbers)
        ends = threading.Barrier(2)
        ways: tuple[tuple[Direction, socket.socket, socket.socket], ...]
        ways = ((">", client, server), ("<", server, client))
        for direction, source, target in ways:
            thread = threading.Thread(
                target=self._pass_on, args=(number, direction, source, target, ends, pair), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _pass_on(
        self,
        number: int,
        direction: Direction,
        source: socket.socket,
        target: socket.socket,
        ends: threading.Barrier,
        pair: set[socket.socket],
    ) -> None:
        passed = _Passage([fault for fault in self._faults if fault.direction in (None, direction)], self._closing)
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if self._watch is not None:
                    self._watch(number, direction, data)
                if not passed.on(data, target, pair):
                    break
        if self._watch is not None:
            self._watch(number, direction, b"")
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with contextlib.suppress(threading.BrokenBarrierError):
            if ends.wait() == 0:  # both directions are over: the last one to come closes
                with self._lock:
                    self._open -= pair
                for sock in pair:
                    sock.close()


class _Passage:
    """One direction of one connection, with its faults."""

    def __init__(self, faults: Sequence[Fault], closing: threading.Event) -> None:
        self._faults = {fault.kind: fault.value for fault in faults}
        self._closing = closing
        self._count = 0
        self._started = time.monotonic()

    def on(self, data: bytes, target: socket.socket, pair: set[socket.socket]) -> bool:
        """Pass it on; False when the direction is to end."""
        delay = self._faults.get("delay", 0.0) + self._faults.get("jitter", 0.0) * random.random()
        if delay and self._closing.wait(delay):
            return False
        for kind in ("cut", "reset", "stop"):
            limit = self._faults.get(kind)
            if limit is None or self._count + len(data) < limit:
                continue
            target.sendall(data[: int(limit) - self._count])
            if kind == "stop":
                self._closing.wait()
                return False
            for sock in pair:
                if kind == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            return False
        rate = self._faults.get("throttle")
        for start in range(0, len(data), CHUNK if rate is None else 1024):
            piece = data[start : start + (CHUNK if rate is None else 1024)]
            target.sendall(piece)
            self._count += len(piece)
            if rate is not None:
                ahead = self._count / rate - (time.monotonic() - self._started)
                if ahead > 0 and self._closing.wait(ahead):
                    return False
        return True
