"""Answers on their way out: a table for people, comma-separated values, JSON; each as it comes.

Rule: what a peer says never reaches a terminal with its control characters, nor a spreadsheet as a formula, and no
answer is kept once it has been shown.
"""

from __future__ import annotations

import csv
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from dulcet.cli.answers import Troubles, as_json, cells
from dulcet.cli.keys import headings
from dulcet.cli.output import printable, say, say_json, say_raw

__all__ = ["Writer", "writer_of"]

WIDEST: Final = 64
"""Characters of a column; what is longer ends in an ellipsis, and --csv and --json have all of it."""
SAMPLE: Final = 20
"""Rows from which the widths of the columns are taken; wider cells that come later push the others to the right."""
SETTLED: Final = 0.5
"""Seconds after which the rows that are there have to do for that."""

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a cell (OWASP, CSV injection)."""
NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
LINES: Final = re.compile(r"[\n\t]")


class Writer(Protocol):
    """Takes one answer after the other."""

    def begin(self) -> None:
        """The association stands."""

    def add(self, answer: Any, troubles: Troubles) -> None:
        """One more; what does not fit its VR is added to `troubles`."""

    def close(self, *, answered: bool) -> None:
        """There are no more: because the peer said so, or because something went wrong."""


def writer_of(keys: Mapping[str, Any], *, as_csv: bool, json: bool) -> Writer:
    """The one that the options ask for."""
    return _Json() if json else _Csv(keys) if as_csv else _Table(keys)


class _Json:
    """One object a line: the DICOM JSON model."""

    def begin(self) -> None:
        pass

    def add(self, answer: Any, troubles: Troubles) -> None:
        say_json(**as_json(answer, troubles))

    def close(self, *, answered: bool) -> None:
        pass


class _Csv:
    """Comma-separated values (RFC 4180)."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = keys
        self._line = ""
        self._writer = csv.writer(self, lineterminator="\r\n")
        self._plain = sys.stdout.isatty()

    def write(self, line: str) -> None:
        self._line = line

    def begin(self) -> None:
        self._row(headings(self._keys))

    def add(self, answer: Any, troubles: Troubles) -> None:
        self._row([self._guarded(cell) for cell in cells(answer, self._keys, troubles)])

    def close(self, *, answered: bool) -> None:
        pass

    def _row(self, row: list[str]) -> None:
        self._writer.writerow(row)
        say_raw(self._line)

    def _guarded(self, cell: str) -> str:
        """Without control characters, and no formula; breaks and tabs within a text stay where no terminal reads it."""
        if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell):
            cell = f"'{cell}"
        if self._plain or cell.isprintable():
            return printable(cell)
        cell = cell.replace("\r\n", "\n").replace("\r", "\n")
        kept = LINES.findall(cell)
        return "".join(
            part + end for part, end in zip(map(printable, LINES.split(cell)), [*kept, ""], strict=True)
        )  # fmt: skip


class _Table:
    """Aligned columns: as wide as the first rows need, which wait for one another for a moment."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = keys
        self._waiting: list[list[str]] = []
        self._widths: list[int] | None = None
        self._count = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        pass

    def add(self, answer: Any, troubles: Troubles) -> None:
        row = [_short(printable(cell)) for cell in cells(answer, self._keys, troubles)]
        with self._lock:
            self._count += 1
            if self._widths is not None:
                self._say(row)
                return
            self._waiting.append(row)
            if len(self._waiting) >= SAMPLE:
                self._settle()
            elif self._timer is None:
                self._timer = threading.Timer(SETTLED, self._late)
                self._timer.daemon = True
                self._timer.start()

    def close(self, *, answered: bool) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._settle()
            if not answered and not self._count:
                return  # "0 answers" is an answer, and nobody gave it
            say(f"{self._count} {'answer' if self._count == 1 else 'answers'}")

    def _late(self) -> None:
        """No more came for a moment."""
        with self._lock, suppress(OSError):  # whoever reads our output has gone: the next line ends the command
            self._settle()

    def _settle(self) -> None:
        if self._widths is None and self._waiting:
            names = headings(self._keys)
            self._widths = [max(map(len, column)) for column in zip(names, *self._waiting, strict=True)]
            self._say(names)
            for row in self._waiting:
                self._say(row)
            self._waiting.clear()

    def _say(self, row: list[str]) -> None:
        assert self._widths is not None
        say("  ".join(cell.ljust(width) for cell, width in zip(row, self._widths, strict=True)).rstrip())


def _short(cell: str) -> str:
    return cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…"
