"""The one thread on which every callback runs, and the counted calls that start and end it.

Rule: whoever is not on it posts; it never waits for another thread.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from dulcet.errors import LocalProtocolError
from dulcet.log_codes import coded

__all__ = ["READ", "WRITE", "Attended", "IOThread", "current", "shutdown", "startup"]

log: Final = logging.getLogger("dulcet.toolkit")

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
LAST_WORD: Final = 2.0
"""Seconds for peers to take our last A-ABORT and close, when the thread ends."""


class Attended(Protocol):
    """What the thread looks after."""

    deadline: float | None

    def ready(self, sock: socket.socket, mask: int) -> None:
        """A socket can be read or written."""

    def expire(self, now: float) -> None:
        """The deadline has passed."""

    def stop(self) -> None:
        """The thread is about to end: say the last word."""

    def drop(self) -> None:
        """The thread ends: nothing more can be said."""

    def fail(self, error: Exception) -> None:
        """One of these, or a call posted for it, raised what nobody foresaw."""


class IOThread:
    """A selector, those it looks after, and calls that other threads posted."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._bell = socket.socketpair()
        self._wake.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._wake, READ)
        self._calls: deque[tuple[Callable[[], object], Attended | None]] = deque()
        self.attended: set[Attended] = set()
        self._stop_at: float | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="dulcet-toolkit", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """True on the thread itself."""
        return threading.current_thread() is self._thread

    def post(self, call: Callable[[], object], whose: Attended | None = None) -> bool:
        """Have the thread call it soon, behind what was posted before; False once the thread has ended.

        What is raised there is told to `whose`.
        """
        with self._lock:
            if self._ended:
                return False
            self._calls.append((call, whose))
            if not self.is_here:
                with contextlib.suppress(BlockingIOError):  # it has been woken often enough
                    self._bell.send(b"\0")  # under the lock: once the thread has ended, the bell is gone
        return True

    def watch(self, sock: socket.socket, mask: int, whose: Attended) -> None:
        """Look after a socket, or stop doing so where `mask` is 0; on the thread alone."""
        if sock.fileno() < 0:
            return  # its descriptor went to a TLS socket that could not be made
        key = self._selector.get_map().get(sock)
        if key is None:
            if mask:
                self._selector.register(sock, mask, whose)
        elif not mask:
            self._selector.unregister(sock)
        elif key.events != mask:
            self._selector.modify(sock, mask, whose)

    def end(self) -> None:
        """Abort what is alive and end the thread; wait for that, unless this is the thread."""
        self.post(self._begin_to_end)
        if not self.is_here:
            self._thread.join()

    def _begin_to_end(self) -> None:
        self._stop_at = time.monotonic() + LAST_WORD
        for one in list(self.attended):
            self._guard(one, one.stop)

    def _run(self) -> None:
        while self._stop_at is None or (self.attended and time.monotonic() < self._stop_at):
            deadlines = [one.deadline for one in self.attended if one.deadline is not None]
            deadlines += [] if self._stop_at is None else [self._stop_at]
            wait = max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None
            for key, mask in self._selector.select(0.0 if self._calls else wait):
                if key.data is None:
                    self._wake.recv(4096)
                elif key.data in self.attended:
                    self._guard(key.data, key.data.ready, key.fileobj, mask)
            for _ in range(len(self._calls)):
                call, whose = self._calls.popleft()
                self._guard(whose, call)
            now = time.monotonic()
            for one in [one for one in self.attended if one.deadline is not None and one.deadline <= now]:
                self._guard(one, one.expire, now)
        with self._lock:
            self._ended = True
        for one in list(self.attended):
            self._guard(one, one.drop)
        while self._calls:  # whoever still posted is answered
            call, whose = self._calls.popleft()
            self._guard(whose, call)
        self._selector.close()
        self._wake.close()
        self._bell.close()

    def _guard(self, whose: Attended | None, call: Callable[..., object], *arguments: Any) -> None:
        """Whatever goes wrong with one, it is ended, and the others are looked after."""
        try:
            call(*arguments)
        except Exception as error:
            log.exception("unexpected", extra=coded("DUL901"))
            if whose is not None:
                self._guard(None, whose.fail, error)


_lock: Final = threading.Lock()
_started: list[IOThread] = []
"""The thread, once for each `startup()` that was not yet taken back."""


def startup() -> None:
    """Start the thread on which connections live, unless it runs; each call wants its `shutdown()`."""
    with _lock:
        _started.append(_started[0] if _started else IOThread())


def shutdown() -> None:
    """Take one `startup()` back; the last one aborts (2,0) what is alive, ends the thread and waits for its end.

    Within a callback it does not wait.  Raises LocalProtocolError where no `startup()` is left to take back.
    """
    with _lock:
        if not _started:
            raise LocalProtocolError("shutdown() without its startup()")
        thread = _started.pop()
        last = not _started
    if last:
        thread.end()


def current() -> IOThread:
    """The thread; LocalProtocolError before `startup()`."""
    with _lock:
        if not _started:
            raise LocalProtocolError("call dulcet.toolkit.startup() first")
        return _started[0]
