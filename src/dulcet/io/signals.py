"""Waiting for SIGTERM, Ctrl-C or SIGHUP without losing one.

A thread that waits on a lock misses a signal that comes just before it begins to wait: Python runs handlers only when
the main thread runs.  So the handler in C writes to a socket, and waiting is reading from it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Signals", "named", "stopping"]

HANG_UP: Final[int] = getattr(signal, "SIGHUP", 0)  # Windows has none


def stopping() -> tuple[int, ...]:
    """The signals that end what serves: SIGTERM, Ctrl-C, and SIGHUP where it is not ignored, as under nohup.

    SIGHUP comes when the terminal goes away; untreated it would end the process in the middle of what it takes in.
    """
    hang_up = HANG_UP and signal.getsignal(HANG_UP) != signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *((HANG_UP,) if hang_up else ()))


def named(number: int) -> str:
    """`SIGTERM` for 15; for 0 that we ourselves said so."""
    return signal.Signals(number).name if number else "asked to"


class Signals:
    """From its making on, signals go here; `wait` gives them one by one.  A context manager that gives them back.

    In another thread than the main one, where Python takes no signals, `wait` gives what `wake` says alone.
    """

    def __init__(self, *numbers: int) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {}
        self._wakeup: int | None = None
        self._heard = False
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in numbers:
                self._before[number] = signal.signal(number, lambda *_: None)

    def wait(self) -> int:
        """The number of the next signal, or what `wake` was given.

        SIGHUP counts as the first one alone: shell and system both send it, and neither is in a hurry.
        """
        while True:
            number = self._reader.recv(1)[0]
            if number == HANG_UP and self._heard:
                continue
            # The socket hears of every signal that has a handler, of others' as well.
            if number in self._before or number >= WOKEN:
                self._heard = self._heard or number in self._before
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
