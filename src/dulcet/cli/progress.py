"""How far something has come, in the last line of a terminal; nothing in a pipe, no colour where NO_COLOR is set."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dulcet.cli.output import show_below

__all__ = ["Bar", "can_show"]

WIDTH: Final = 40
"""Characters of the bar; with numbers and time it fits 80 columns up to a million of each."""
INTERVAL: Final = 0.1
"""Seconds between two looks: no more than ten lines a second are written, however fast it goes."""


def can_show() -> bool:
    """Whether standard error is a terminal that can write over a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Bar:
    """Done of total, drawn at most every INTERVAL; `shown` may be False, and it does nothing."""

    def __init__(self, total: int = 0, *, shown: bool = True) -> None:
        self._total = total
        self._done = 0
        self._shown = shown
        self._start = time.monotonic()
        self._next = 0.0
        encoding = (getattr(sys.stderr, "encoding", None) or "ascii").lower()
        self._full, self._empty = ("━", "─") if encoding.startswith("utf") else ("#", "-")
        self._colour, self._plain = ("", "") if os.environ.get("NO_COLOR") else ("\x1b[32m", "\x1b[0m")

    @contextmanager
    def drawn(self) -> Iterator[Bar]:
        """While this lasts; what it says at the end stays."""
        try:
            yield self
        finally:
            if self._shown and self._next:
                show_below(f"{self._line(time.monotonic())}\n")

    def advance(self) -> None:
        """One more is done."""
        self.at(self._done + 1, self._total)

    def at(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._done, self._total = done, total
        if self._shown and ((now := time.monotonic()) >= self._next or done == total):
            self._next = now + INTERVAL
            show_below(self._line(now))

    def _line(self, now: float) -> str:
        done, total = self._done, max(self._total, 1)
        full = WIDTH * min(done, total) // total
        left = int((now - self._start) * (total - done) / done) if done else 0
        time_left = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        bar = f"{self._colour}{self._full * full}{self._plain}{self._empty * (WIDTH - full)}"
        return f"{bar} {100 * done // total:3}% {done}/{total} {time_left}"
