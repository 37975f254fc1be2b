"""`--deadline`: the time of a whole command, name resolution and a peer that goes on and on included."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from dulcet.cli.command import option

__all__ = ["DEADLINE", "TimeIsUp", "deadline"]

DEADLINE: Final = option(
    "--deadline", "seconds", type=click.FloatRange(0.1, 31_536_000), metavar="SECONDS",
    help="For all of it; what came by then is kept, the rest is cancelled, and the exit code is 1.",
)  # fmt: skip


class TimeIsUp(BaseException):
    """The deadline has come.  As KeyboardInterrupt no Exception, so that no handler of those takes it for its own."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[list[Callable[[], object]]]:
    """Raises TimeIsUp in the main thread once so much time has gone; never where `seconds` is None.

    What is put into the list is called first: `interrupt` of an association that is not to be waited for any more.
    """
    first: list[Callable[[], object]] = []
    if seconds is None:
        yield first
        return

    def up(*_: object) -> None:
        for call in first:
            call()
        raise TimeIsUp(f"the {seconds:g} s of --deadline are over")

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield first
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
