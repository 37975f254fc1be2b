"""How far something has come, in the last line of a terminal; nothing in a pipe, no colour where NO_COLOR is set."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

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
    """Done of total, drawn at most every INTERVAL; `shown` may be False, and it does nothing.

    click says what a bar looks like and when it will be full; what others say meanwhile stands above it.
    """

    def __init__(self, total: int = 0, *, shown: bool = True) -> None:
        self._shown = shown
        self._next = 0.0
        if not shown:
            return
        encoding = (getattr(sys.stderr, "encoding", None) or "ascii").lower()
        full, empty = ("━", "─") if encoding.startswith("utf") else ("#", "-")
        if not os.environ.get("NO_COLOR"):
            full = click.style(full, fg="green")
        self._bar = click.progressbar(
            length=total, width=WIDTH, fill_char=full, empty_char=empty, bar_template="%(bar)s %(info)s",
            show_pos=True, show_percent=True, file=sys.stderr,
        )  # fmt: skip

    @contextmanager
    def drawn(self) -> Iterator[Bar]:
        """While this lasts; what it says at the end stays."""
        try:
            yield self
        finally:
            if self._next:
                show_below(f"{self._bar.format_progress_line()}\n")

    def advance(self) -> None:
        """One more is done."""
        if self._shown:
            self.at(self._bar.pos + 1, self._bar.length or 0)

    def at(self, done: int, total: int) -> None:
        """So many of so many are done."""
        if not self._shown:
            return
        bar = self._bar
        bar.length = total
        bar.make_step(done - bar.pos)
        if (now := time.monotonic()) >= self._next or done == total:
            self._next = now + INTERVAL
            show_below(bar.format_progress_line())
