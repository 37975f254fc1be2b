"""Lines about connections that say the same again and again: one of them, and how often it came.

A scanner that holds six hundred connections half open is one thing to know, not six hundred.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["OFTEN", "Repeats"]

OFTEN: Final = re.compile(r"DUL1(0[1-9]|11|51)")
"""Codes of lines that whoever reaches the port can cause."""
WINDOW: Final = 60.0
"""Seconds from a line to the count of those that followed it."""
MOST: Final = 10_000
"""Addresses that are counted apart; of more, each line stands."""


class Repeats(logging.Filter):
    """Lets the first line of a code and address pass, and tells within a minute how many more there were."""

    def __init__(self, handle: Callable[[logging.LogRecord], object], *, window: float = WINDOW) -> None:
        """`handle` takes the line with the count."""
        super().__init__()
        self._handle = handle
        self._window = window
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        code = str(getattr(record, "code", ""))
        if not OFTEN.fullmatch(code) or not isinstance(record.args, tuple) or not record.args:
            return True
        key = code, str(record.args[0]).rpartition(":")[0], record.levelno
        with self._lock:
            if key in self._counts:
                self._counts[key] += 1
                return False
            if len(self._counts) >= MOST:
                return True
            first = not self._counts
            self._counts[key] = 0
        if first:  # one clock for all of them
            timer = threading.Timer(self._window, self.tell)
            timer.daemon = True
            timer.start()
        return True

    def tell(self) -> None:
        """Tell what was counted, and begin anew."""
        with self._lock:
            counts, self._counts = self._counts, {}
        for (code, host, level), count in counts.items():
            if count:
                what = "%s: the last line of this code and address came %d times more"
                line = logging.LogRecord("dulcet.repeats", level, __file__, 0, what, (host, count), None)
                line.code = code
                self._handle(line)
