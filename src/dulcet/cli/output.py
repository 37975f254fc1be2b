"""How commands speak: text for people, one JSON object a line for programs, errors and logs on standard error.

Rule: what a peer or a file name says never reaches a terminal with its control characters.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from io import TextIOWrapper
from types import TracebackType
from typing import Any, Final, TextIO

from dulcet.cli.waiting import in_our_words

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "NO_ASSOCIATION",
    "SIGNALED",
    "USAGE",
    "complain",
    "printable",
    "say",
    "say_json",
    "say_raw",
    "show_below",
    "show_traceback",
    "start_logging",
]

FAILED: Final = 1
USAGE: Final = 2
NO_ASSOCIATION: Final = 3
INTERRUPTED: Final = 130
SIGNALED: Final = 128

OVER: Final = "\r\x1b[K"
"""Back to the start of a line, and the line away."""

_lines: Final = threading.Lock()
_below = ""


def printable(text: str) -> str:
    """The text with `?` for what a terminal would obey or cannot show: control, direction, half a surrogate pair."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or _is_space(character) else "?" for character in text)


def _is_space(character: str) -> bool:
    """Spaces of other widths, as Japanese names have them, and the joiners that Persian and Indian words need."""
    from unicodedata import category

    return category(character) == "Zs" or character in "\u200c\u200d"


def say(sentence: str) -> None:
    """A line on standard output, at once."""
    _write(f"{printable(sentence)}\n", sys.stdout)


def say_raw(line: str) -> None:
    """A line on standard output with its end, as it is; whoever calls has looked for control characters."""
    _write(line, sys.stdout)


def say_json(**values: Any) -> None:
    """One JSON object on a line of its own; ASCII, for a file name need not be text in any encoding."""
    from json import dumps

    _write(f"{dumps(values, allow_nan=False)}\n", sys.stdout)


def complain(sentence: str) -> None:
    """An error, on standard error."""
    _write(f"dulcet: {printable(in_our_words(sentence))}\n", sys.stderr)


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python shows one, on standard error, without control characters: the error may quote a peer."""
    from traceback import format_exception

    _write(_clean("".join(format_exception(kind, error, trace))), sys.stderr)


def _clean(lines: str) -> str:
    return "\n".join(map(printable, lines.split("\n")))


def show_below(line: str) -> None:
    """The last line of a terminal, on standard error, until the next one; what is said meanwhile stands above it."""
    global _below
    with _lines:
        sys.stderr.write(f"{OVER}{line}")
        sys.stderr.flush()
        _below = "" if line.endswith("\n") else line


def _write(line: str, stream: TextIO) -> None:
    with _lines:  # one line after the other, whichever thread speaks
        if _below:
            sys.stderr.write(OVER)
            sys.stderr.flush()
        try:
            stream.write(line)
            stream.flush()
        except OSError as error:  # its errno says what it is: nobody reads on, or a full disk
            raise OSError(error.errno, error.strerror, "standard output") from error
        if _below:
            sys.stderr.write(_below)
            sys.stderr.flush()


def start_logging(level: int, *, times: bool = False) -> None:
    """Log to standard error; `times` is for what runs for long."""
    if isinstance(sys.stdout, TextIOWrapper):  # as standard error has it: a name that its encoding lacks is no crash
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _ToStandardError()
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s" if times else "%(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # pydicom's complaints quote the value that they are about, and that may be somebody's name; when it is loaded, it
    # sets the level of its logger anew.
    warnings.filterwarnings("ignore", module="pydicom")
    handler.addFilter(lambda record: not record.name.startswith("pydicom"))
    if times and level > logging.DEBUG:
        import atexit

        from dulcet.cli.repeats import Repeats

        repeats = Repeats(handler.emit)
        handler.addFilter(repeats)
        atexit.register(repeats.tell)


class _ToStandardError(logging.Handler):
    """Lines among the others that are said."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _write(f"{self.format(record)}\n", sys.stderr)
        except Exception:
            self.handleError(record)


class _Printable(logging.Formatter):
    """Times with date and offset, messages without control characters, the code of the line at its end."""

    default_time_format = "%Y-%m-%dT%H:%M:%S%z"
    default_msec_format = ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(in_our_words(record.message))
        code = getattr(record, "code", None)
        return super().formatMessage(record) + (f" [{code}]" if code else "")

    def formatException(self, ei: Any) -> str:
        return _clean(super().formatException(ei))
