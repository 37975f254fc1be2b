"""Disk calls of one loop, in threads: handed over one by one, handed back in lots.

Rules: the loop never waits for a disk; what is handed over by one association is one job at a time, so its order is
kept; a thread that has nothing to do for a moment goes back to the pool.  One thread does as long as it gets on, for
each hand-over costs as much as a small write; more help where a job takes long, and where jobs wait for fsync.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final
from weakref import WeakKeyDictionary

from dulcet.aio.threads import DISK_THREADS, disk

__all__ = ["Disk"]

LINGER: Final = 0.05
"""Seconds that a thread waits for the next job: what comes one after the other does not wake the pool each time."""
LATE: Final = 0.01
"""Seconds in which no job ended: then the next ones are not to wait for the slow one."""

Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class Disk:
    """The jobs of one loop; everything but `_work` belongs to the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any] | None, Any, BaseException | None]] = deque()
        self._threads = 0
        self._open = 0  # jobs that have not ended
        self._ended = 0  # how many have, ever
        self._told = False
        self._look: asyncio.TimerHandle | None = None
        self._seen = 0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Disk:
        """The one of this loop."""
        found = _disks.get(loop)
        if found is None:
            found = _disks[loop] = cls(loop)
        return found

    def do(self, function: Callable[..., Any], *arguments: Any, waits: bool = False) -> asyncio.Future[Any]:
        """Call it in a thread, to its end whatever becomes of the future; `waits`: it is for the disk, not for us."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open += 1
        self._jobs.put((future, function, arguments))
        if not self._threads or (waits and self._threads < min(self._open, DISK_THREADS)):
            self._start()
        elif self._look is None and self._open > self._threads:
            self._look_later()
        return future

    def _start(self) -> None:
        self._threads += 1
        disk.submit(self._work)

    def _look_later(self) -> None:
        self._seen = self._ended
        self._look = self._loop.call_later(LATE, self._help)

    def _help(self) -> None:
        """Where nothing ended for a while, another thread takes what waits."""
        self._look = None
        if self._jobs.empty():
            return
        if self._seen == self._ended and self._threads < DISK_THREADS:
            self._start()
        self._look_later()

    def _work(self) -> None:
        jobs, done = self._jobs, self._done
        while True:
            try:
                future, function, arguments = jobs.get(timeout=LINGER)
            except Empty:
                break
            try:
                done.append((future, function(*arguments), None))
            except BaseException as error:
                done.append((future, None, error))
            del future, function, arguments  # what was written is not kept until the next job
            self._tell()
        done.append((None, None, None))
        self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._hand_back)

    def _hand_back(self) -> None:
        self._told = False
        done = self._done
        while done:
            future, result, error = done.popleft()
            if future is None:
                self._threads -= 1
                if not self._threads and not self._jobs.empty():
                    self._start()  # it came while the thread was leaving
                continue
            self._open -= 1
            self._ended += 1
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


_disks: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Disk]] = WeakKeyDictionary()
