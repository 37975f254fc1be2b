"""What DIMSE tells its user (PS3.7): pulled with `DimseAssociation.next_event()`, beside the upper layer's own."""

from __future__ import annotations

from dataclasses import dataclass

from dulcet.dimse.command import Command
from dulcet.dimse.operations import Operation, Request
from dulcet.upper_layer.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)
from dulcet.upper_layer.negotiation import PresentationContext

__all__ = [
    "AnsweredElsewhere",
    "AssociationEvent",
    "CancelReceived",
    "DataReceived",
    "RequestReceived",
    "RequestRefused",
    "ResponseReceived",
    "StrayResponse",
]


@dataclass(slots=True, eq=False)
class RequestReceived:
    """A request of the peer is here, whole but for the data set of a C-STORE-RQ: that follows as DataReceived."""

    request: Request


@dataclass(slots=True, eq=False)
class RequestRefused:
    """A request that DIMSE itself answered with this failure, whoever provides the service (PS3.7 Annex C)."""

    request: Request
    status: int
    comment: str
    """What the peer was told of it."""


@dataclass(slots=True, eq=False)
class DataReceived:
    """A piece of the data set of a C-STORE-RQ; `data` is borrowed until the next `next_event()` or `get_buffer()`."""

    request: Request
    data: memoryview
    is_last: bool


@dataclass(slots=True, eq=False)
class ResponseReceived:
    """A response to a request of ours; `is_final` when no more will come for it."""

    operation: Operation
    command: Command
    data: bytes | None
    is_final: bool
    transfer_syntax: str
    """That of the context on which it came."""


@dataclass(slots=True, eq=False)
class AnsweredElsewhere:
    """The peer answers on another accepted context of the class; its answers are taken.  Told once."""

    asked: PresentationContext
    answered: PresentationContext


@dataclass(slots=True, eq=False)
class CancelReceived:
    """C-CANCEL-RQ: `request.cancelled` is set, its final answer is still owed; None when no such one is under way."""

    message_id: int
    request: Request | None
    context_id: int
    command: Command


@dataclass(slots=True, eq=False)
class StrayResponse:
    """A response that answers no request of ours: reported, and given to nobody."""

    command: Command
    context_id: int
    data: bytes | None
    late: bool = False
    """True where it answers one that we cancelled or no longer wait for: nothing is wrong with it."""


AssociationEvent = (
    AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | RequestReceived
    | RequestRefused
    | DataReceived
    | ResponseReceived
    | CancelReceived
    | AnsweredElsewhere
    | StrayResponse
    | ReleaseRequested
    | ReleaseConfirmed
    | Aborted
    | Closed
    | TimedOut
)
