"""What the two faces do differently, under one name: the service users that are generated for both are written with it.

Rule: `dulcet.aio.twin` has the same names; there they are awaited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

from dulcet.blocking.association import Association
from dulcet.errors import DulcetError

__all__ = [
    "Background",
    "BegunOnEntry",
    "Changed",
    "Latch",
    "begins",
    "call",
    "event_handler",
    "on_disk",
    "saw_nothing",
    "share",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


def begins(function: Function) -> Function:
    """The function itself: it has begun when it returns."""
    return function


class BegunOnEntry:
    """A context manager that asks the peer when it is made."""

    def _start(self) -> None:
        """The last line of `__init__`."""
        self._begin()

    def _begin(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self


class Changed(threading.Condition):
    """A condition whose waits end."""

    def wait_for_change(self, seconds: float | None) -> bool:
        """Wait for a notification, the condition being held; False when `seconds` have passed without one."""
        return (seconds is None or seconds > 0) and self.wait(seconds)


class Latch(threading.Event):
    """An event whose waits end."""

    def wait_at_most(self, seconds: float) -> bool:
        """True once it is set; False after `seconds`."""
        return self.wait(max(seconds, 0.0))


class Background:
    """Work beside that of the caller."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()


def call(function: Callable[[Any], object], argument: Any) -> None:
    """Call a function of the application."""
    function(argument)


def event_handler(hear: Callable[[Any], object], read: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A node's handler that gives what `read` makes of each request to `hear`."""

    def handle(request: Any) -> None:
        hear(read(request))

    return handle


def on_disk(function: Callable[[Any], Result], argument: Any) -> Result:
    """Call what may wait for the disk."""
    return function(argument)


def saw_nothing(association: Association) -> bool:
    """True while nothing unexpected came on an idle association; looks at what has come since."""
    try:
        association._look()
    except DulcetError:
        return False
    return association.is_established


def share(association: Association) -> None:
    """Have a wait on this association end when another thread has what is waited for."""
    association._transport.share()
