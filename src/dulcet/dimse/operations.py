"""Operations under way (PS3.7 sections 6.2 and 7): those that we invoked, and the peer's that we owe an answer.

Rule: plain records; `association` moves them on.
"""

from __future__ import annotations

from typing import Any

from dulcet.dimse.command import Command
from dulcet.upper_layer.negotiation import PresentationContext

__all__ = ["Operation", "Request"]


class Operation:
    """A request of ours that awaits its response."""

    __slots__ = (
        "cancelled",
        "context",
        "deadline",
        "departed",
        "field",
        "message_id",
        "owner",
        "responses",
        "size",
        "sop_class_uid",
        "sop_instance_uid",
    )

    def __init__(
        self,
        context: PresentationContext,
        field: int,
        message_id: int,
        sop_class_uid: str | None,
        sop_instance_uid: str | None,
        owner: Any,
    ) -> None:
        self.context: PresentationContext = context
        self.field: int = field
        self.message_id: int = message_id
        self.sop_class_uid: str | None = sop_class_uid
        self.sop_instance_uid: str | None = sop_instance_uid
        self.owner: Any = owner
        """Whatever the face keeps with it; the core does not look."""
        self.departed: bool = False
        """True once its last byte was asked for: only then does the response clock run."""
        self.deadline: float | None = None
        self.responses: int = 0
        self.size: int = 0
        """Bytes of data sets, sent and received."""
        self.cancelled: bool = False


class Request:
    """A request of the peer; `data` is its whole data set, or None where there is none or it comes in pieces."""

    __slots__ = (
        "answered",
        "cancelled",
        "command",
        "context",
        "data",
        "field",
        "message_id",
        "owner",
        "size",
        "streams",
    )

    def __init__(self, context: PresentationContext, command: Command) -> None:
        self.context: PresentationContext = context
        self.command: Command = command
        self.field: int = command.field
        self.message_id: int = command.message_id or 0
        self.data: bytes | None = None
        self.size: int = 0
        """Bytes of data sets, received and sent."""
        self.streams: bool = False
        """True for a C-STORE-RQ: its data set follows as DataReceived."""
        self.cancelled: bool = False
        """True once C-CANCEL-RQ came for it (PS3.7 section 9.3.2.3)."""
        self.answered: bool = False
        """True once its final response was given."""
        self.owner: Any = None
        """Whatever the face keeps with it; the core does not look."""
