"""What happens on an association, for those who only watch: that of the upper layer, and messages and operations."""

from __future__ import annotations

from dataclasses import dataclass

from dulcet.dimse.command import Command
from dulcet.upper_layer.trace_events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRefused,
    AssociationReleased,
    AssociationRequested,
    ConnectionClosed,
    ConnectionOpened,
    HandshakeFailed,
    PDUReceived,
    PDUSent,
    UpperLayerTraceEvent,
)

__all__ = [
    "AssociationAborted",
    "AssociationAccepted",
    "AssociationRefused",
    "AssociationReleased",
    "AssociationRequested",
    "ConnectionClosed",
    "ConnectionOpened",
    "HandshakeFailed",
    "MessageReceived",
    "MessageSent",
    "OperationFinished",
    "PDUReceived",
    "PDUSent",
    "TraceEvent",
]


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


TraceEvent = UpperLayerTraceEvent | MessageReceived | MessageSent | OperationFinished
