"""Whose turn it is to read, first come first served.

Threads that all want the interpreter get it in no order: of 64 senders the quickest was done before the slowest had
begun.  A turn is held from the moment when bytes are there until a handler is called or they are used up, never while
anybody waits for a peer, a disk or an application.
"""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["FairLock"]


class FairLock:
    """A lock that is handed on in the order in which it was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def take(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()

    def give(self) -> None:
        """Whoever waits longest is next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
