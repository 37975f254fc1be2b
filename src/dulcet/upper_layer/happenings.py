"""What happens on an association, for those who only watch: logs, metrics, traces.

Rules: values, written to a journal that a face hands on to observers; without observers there is no journal and nothing is
made; nothing here can change what the core does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

if TYPE_CHECKING:
    from dulcet.dimse.command import Command

__all__ = [
    "AssociationAborted",
    "AssociationAccepted",
    "AssociationRefused",
    "AssociationReleased",
    "AssociationRequested",
    "ConnectionClosed",
    "ConnectionOpened",
    "Happening",
    "MessageReceived",
    "MessageSent",
    "OperationFinished",
    "PDUReceived",
    "PDUSent",
]


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """The transport connection stands."""


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The transport connection is over; `expected` when the association was over before."""

    expected: bool


@dataclass(frozen=True, slots=True)
class PDUReceived:
    """A PDU came, or the header of a P-DATA-TF did; `length` is its length field."""

    pdu_type: int
    length: int


@dataclass(frozen=True, slots=True)
class PDUSent:
    """A PDU was handed to the transport; `length` is its length field."""

    pdu_type: int
    length: int


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """A-ASSOCIATE-RQ went out or came in."""

    request: AssociateRQ
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationAccepted:
    """A-ASSOCIATE-AC came in or went out."""

    accept: AssociateAC
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationRefused:
    """A-ASSOCIATE-RJ came in or went out."""

    result: int
    source: int
    reason: int
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationReleased:
    """The association was released in order."""


@dataclass(frozen=True, slots=True)
class AssociationAborted:
    """A-ABORT came in or went out; `message` is the fault that we found, if one."""

    source: int
    reason: int
    by_us: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A command set came whole; its data set, if any, follows."""

    context_id: int
    command: Command


@dataclass(frozen=True, slots=True)
class MessageSent:
    """A message was queued; `size` is the length of its data set in bytes."""

    context_id: int
    command: Command
    size: int


@dataclass(frozen=True, slots=True)
class OperationFinished:
    """The final response to an operation was queued or came in.

    `size` counts the bytes of its data sets in both directions; `seconds` is the time from its request, where the face
    measured it.
    """

    name: str
    """`C-STORE` and the like."""
    message_id: int
    status: int
    by_us: bool
    """True when we performed it, False when we invoked it."""
    size: int
    seconds: float | None = None


Happening = (
    ConnectionOpened
    | ConnectionClosed
    | PDUReceived
    | PDUSent
    | AssociationRequested
    | AssociationAccepted
    | AssociationRefused
    | AssociationReleased
    | AssociationAborted
    | MessageReceived
    | MessageSent
    | OperationFinished
)
