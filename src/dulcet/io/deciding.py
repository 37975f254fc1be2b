"""Threads in which an application's own code decides about an association: it may ask a directory server, and wait.

Rule: they are daemons, and there are few: a decision that never comes costs a thread, not the end of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Deciders"]

AT_ONCE: Final = 16
"""Decisions that are looked for at once; others wait for their turn."""


class Deciders:
    """Does jobs, started as they are needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def submit(self, job: Callable[[], object]) -> None:
        """Have it done; what it raises is its own business.  For one thread to call."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and len(self._threads) < AT_ONCE:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Let the threads end after what they are at; nobody waits for them."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._idle.release()
