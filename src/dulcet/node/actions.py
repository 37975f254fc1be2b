"""What a script asks of the face that runs it.

Rule: values; a script `yield`s one and is sent its result, or has the exception thrown into it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from dulcet.io.receiving import Destination
from dulcet.upper_layer.address import Address

__all__ = ["END", "Action", "Call", "Close", "Forward", "Next", "Receive", "ReportHere", "Respond", "SendHere"]


class _End:
    """No more items."""


END: Final = _End()


@dataclass(slots=True)
class Call:
    """Call a handler; its result, awaited where it is awaitable."""

    function: Callable[..., Any]
    argument: Any
    here: bool = False
    """What follows needs the association itself (`ReportHere`): a driver with threads stays in that one's thread."""


@dataclass(slots=True)
class Next:
    """The next item of an iterator of either kind, or END."""

    iterator: Iterator[Any] | AsyncIterator[Any]


@dataclass(slots=True)
class Close:
    """Close an iterator that was left early."""

    iterator: Iterator[Any] | AsyncIterator[Any]


@dataclass(slots=True)
class Receive:
    """The data set of the C-STORE-RQ: where the destination put it, or its bytes without one."""

    directory: Destination | None
    limit: int
    """Bytes of a data set that is kept in memory."""


@dataclass(slots=True)
class Respond:
    """Give a response: `data` is an encoded data set, `elements` are command elements by keyword."""

    status: int
    data: bytes | None = None
    elements: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class SendHere:
    """C-STORE these on the association that the request came on (C-GET); an iterator of `Sent`."""

    items: Iterable[Any] | AsyncIterator[Any]
    priority: int


@dataclass(slots=True)
class Forward:
    """C-STORE these to a third party (C-MOVE); an iterator of `Sent`."""

    address: Address
    items: Iterable[Any] | AsyncIterator[Any]
    priority: int
    originator: tuple[str, int]
    associations: int


@dataclass(slots=True)
class ReportHere:
    """N-EVENT-REPORT on the association that the request came on, after its response; the peer's `Response`."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    dataset: Any
    context: str | None = None
    """The abstract syntax it travels under where that is not its SOP class."""


Action = Call | Next | Close | Receive | Respond | SendHere | Forward | ReportHere
