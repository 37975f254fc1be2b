"""Waiting for SIGTERM or Ctrl-C without losing one.

A thread that waits on a lock misses a signal that comes just before it begins to wait: Python runs handlers only when
the main thread runs.  So the handler in C writes to a socket, and waiting is reading from it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from types import TracebackType
from typing import Any, Self

__all__ = ["Signals"]


class Signals:
    """From its making on, signals go here; `wait` gives them one by one.  A context manager that gives them back.

    In another thread than the main one, where Python takes no signals, `wait` gives what `wake` says alone.
    """

    def __init__(self, *numbers: int) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {}
        self._wakeup: int | None = None
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in numbers:
                self._before[number] = signal.signal(number, lambda *_: None)

    def wait(self) -> int:
        """The number of the next signal, or what `wake` was given."""
        while True:
            number = self._reader.recv(1)[0]
            # The socket hears of every signal that has a handler, of others' as well.
            if number in self._before or number >= WOKEN:
                return number if number < WOKEN else number - WOKEN

    def wake(self, number: int = 0) -> None:
        """End a `wait` as a signal does, from any thread; 0 is no signal's number."""
        with contextlib.suppress(OSError):
            self._writer.send(bytes((WOKEN + number,)))

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup)
            self._wakeup = None
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


WOKEN = 128
"""Numbers from here on come from `wake`: signals have 1 to 64."""
