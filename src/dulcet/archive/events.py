"""Telling others what happened: a program with JSON on its standard input, and functions of Python.

Rules: an event is in the index from the transaction that it is about until everybody has taken it, so it is told again
after a crash, at least once in all; a program is an argument list, never a line for a shell; one that fails is tried
again later and holds up nobody else.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dulcet.archive.index import Event, Index, IndexTrouble
from dulcet.log_codes import coded
from dulcet.services.retrying import Backoff

__all__ = ["IDLE", "Events", "Handler", "Hook"]

log: Final = logging.getLogger("dulcet.events")

Handler = Callable[[Event], object]
"""Told of each event; what it raises means that it is to be told again."""

AT_ONCE: Final = 100
PAUSE: Final = Backoff(first=1.0, longest=600.0)
IDLE: Final = 5.0
"""Seconds after which the index is looked at, though nobody said that there is something."""
HOOK_SECONDS: Final = 60.0


class Hook:
    """A handler that runs a program, with the event as JSON on its standard input; it has to end with 0."""

    def __init__(self, arguments: Sequence[str], *, seconds: float = HOOK_SECONDS) -> None:
        """`seconds` is what it has for one event."""
        if not arguments or isinstance(arguments, str):
            raise ValueError("a hook is a list of a program and its arguments; there is no shell")
        self.arguments: list[str] = list(arguments)
        self.seconds = seconds

    def __call__(self, event: Event) -> None:
        text = json.dumps({"id": event.id, "event": event.kind, **event.body})
        done = subprocess.run(
            self.arguments, input=text.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=self.seconds, check=False, close_fds=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.arguments[0]} ended with {done.returncode}")


class Events:
    """A thread that notes what has become stable, and tells."""

    def __init__(
        self,
        index: Index,
        handlers: Iterable[Handler],
        *,
        clock: Callable[[], float] = time.time,
        idle: float = IDLE,
    ) -> None:
        self._idle = idle
        self._index = index
        self._handlers = list(handlers)
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to tell; nothing to do the second time."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="dulcet-events", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Something may have happened."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Tell no more; what was not told is told after the next start."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            self._wake.set()
            thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause = self.work()
            except IndexTrouble as error:
                log.error("events are held up: %s", error, extra=coded("DUL409"))
                pause = IDLE
            self._wake.wait(pause)
            self._wake.clear()

    def work(self) -> float:
        """Do what is due; seconds until there may be more."""
        now = self._clock()
        stable = self._index.settle(now)
        pause = self._idle if stable is None else min(max(stable - now, 0.0), self._idle)
        if not self._handlers:
            return pause
        events = self._index.due(now, AT_ONCE)
        for event in events:
            if self._stopping.is_set():
                break
            self._tell(event)
        return 0.0 if len(events) == AT_ONCE else pause

    def _tell(self, event: Event) -> None:
        try:
            for handler in self._handlers:
                handler(event)
        except Exception as error:
            until = self._clock() + (PAUSE.pause(event.attempts + 1) or 0.0)
            log.warning(
                "event %d (%s) could not be told: %s", event.id, event.kind, type(error).__name__, extra=coded("DUL410")
            )
            self._index.postpone(event, until)
        else:
            self._index.acknowledge(event)
