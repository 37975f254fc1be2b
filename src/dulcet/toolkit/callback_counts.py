"""How often each callback was called, so that somebody can wait for it in another thread.

Rule: one thread counts, the I/O thread, and takes no lock as long as nobody waits.
"""

from __future__ import annotations

import threading
from collections import Counter

__all__ = ["CallbackCounts"]


class CallbackCounts:
    """Calls of one connection, and how many of them somebody has waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._called: dict[str, int] = {}
        self._waited: Counter[str] = Counter()
        self._over = False
        self._waiting = 0

    def begin(self) -> None:
        """A connection begins: what was called before counts no more."""
        with self._changed:
            self._called.clear()
            self._waited.clear()
            self._over = False

    def note(self, name: str) -> None:
        """A callback was called and has returned."""
        self._called[name] = self._called.get(name, 0) + 1
        if self._waiting:  # who comes to wait after this looks at the count first
            with self._changed:
                self._changed.notify_all()

    def end(self) -> None:
        """The connection is over: nothing more is called."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait(self, name: str, timeout: float | None) -> bool:
        """True once a callback was called once more than was waited for; False after the time, or when it is over."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._came(name) or self._over, timeout)
            finally:
                self._waiting -= 1
            came = self._came(name)
            self._waited[name] += came
            return came

    def _came(self, name: str) -> bool:
        return self._called.get(name, 0) > self._waited[name]
