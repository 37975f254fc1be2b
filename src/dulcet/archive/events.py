"""Telling others what happened: a program with JSON on its standard input, and functions of Python.

Rules: an event is in the index from the transaction that it is about until everybody has taken it, so it is told again
after a crash, at least once in all; a program is an argument list, never a line for a shell; one that fails is tried
again later and holds up nobody else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Final

from dulcet.archive.index import Event, Index, IndexTrouble
from dulcet.errors import DulcetError
from dulcet.log_codes import coded
from dulcet.services.retrying import Backoff

__all__ = ["IDLE", "Events", "Handler", "Hook", "HookFailed"]

log: Final = logging.getLogger("dulcet.events")

Handler = Callable[[Event], object]
"""Told of each event; what it raises means that it is to be told again."""

AT_ONCE: Final = 100
PAUSE: Final = Backoff(first=1.0, longest=600.0)
IDLE: Final = 5.0
"""Seconds after which the index is looked at, though nobody said that there is something."""
HOOK_SECONDS: Final = 60.0
LAST_WORDS: Final = 2048
"""Bytes of a program's standard error that are kept: enough for the end of a traceback."""
LAST_LINES: Final = 3
"""Of them stand in the log, on one line."""
HANGING_ON: Final = 1.0
"""Seconds for standard error to end after the program; a child of its own may hold it open for ever."""


class HookFailed(DulcetError):
    """A program that was to be told of an event could not be run, did not end in time, or ended with a failure."""


class Hook:
    """A handler that runs a program, with the event as JSON on its standard input; it has to end with 0."""

    def __init__(self, arguments: Sequence[str], *, seconds: float = HOOK_SECONDS) -> None:
        """`seconds` is what it has for one event."""
        if not arguments or isinstance(arguments, str):
            raise ValueError("a hook is a list of a program and its arguments; there is no shell")
        self.arguments: list[str] = list(arguments)
        self.seconds = seconds

    def check(self) -> None:
        """HookFailed when its program cannot be run as things are."""
        name = self.arguments[0]
        if shutil.which(name) is not None:
            return
        if os.path.isfile(name):
            raise HookFailed(f"the hook {name!a} cannot be executed; give it the permission (chmod +x)")
        where = "does not exist" if os.path.dirname(name) else "is in none of the folders of PATH"
        raise HookFailed(f"the hook {name!a} {where}; give the path of a program")

    def __call__(self, event: Event) -> None:
        """HookFailed unless the program ended with 0: how it ended, and what it said last."""
        name, text = self.arguments[0], json.dumps({"id": event.id, "event": event.kind, **event.body})
        with tempfile.TemporaryFile() as given:  # a pipe would wait for a program that does not read
            given.write(text.encode())
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self.arguments, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=True,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise HookFailed(f"the hook {name!a} cannot be run: {error.strerror or error}") from error
        assert process.stderr is not None
        words = _LastWords(process.stderr)
        try:
            how = _ending(process.wait(self.seconds))
        except subprocess.TimeoutExpired:
            how = f"had not ended after {self.seconds:g} s, and was killed"
            _kill_with_children(process)
        finally:
            process.kill()
            process.wait()
        if how:
            raise HookFailed(f"the hook {name!a} {how}{words.said()}")


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """A script hangs in what it called: that would stay, one more each time that the event is told again."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _ending(code: int) -> str:
    """How a program ended; empty for well."""
    if code >= 0:
        return f"ended with exit code {code}" if code else ""
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class _LastWords:
    """The end of what a program says on its standard error, read as it comes: the program shall not wait for us."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._end = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), name="dulcet-hook", daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while piece := os.read(stream.fileno(), 65536):
                self._end = (self._end + piece)[-LAST_WORDS:]

    def said(self) -> str:
        """The last lines, to follow how it ended: printable, on one line."""
        self._thread.join(HANGING_ON)
        lines = [line.strip() for line in self._end.decode("utf-8", "replace").splitlines() if line.strip()]
        text = " | ".join(lines[-LAST_LINES:])
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
        return f"; it said: {text}" if text else ", and said nothing on standard error"


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
                "event %d (%s) could not be told, attempt %d: %s; it is told again in %.0f s",
                event.id, event.kind, event.attempts + 1, _why(error), max(until - self._clock(), 0.0),
                extra=coded("DUL410"),
            )  # fmt: skip
            self._index.postpone(event, until)
        else:
            self._index.acknowledge(event)


def _why(error: Exception) -> str:
    """A hook's own words; of a function the kind and the place, for what it says may name somebody."""
    if isinstance(error, HookFailed):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {where[0].filename}, line {where[0].lineno}" if where else ""
    return f"{type(error).__name__}{place}"
