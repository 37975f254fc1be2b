"""What a request of the peer can tell about itself in either face, and the command set that answers it."""

from __future__ import annotations

import logging
from typing import Any, Final

from dulcet.dimse.command import Command
from dulcet.dimse.events import AnsweredElsewhere, RequestRefused, StrayResponse
from dulcet.dimse.messages import RESPONSE
from dulcet.dimse.operations import Request
from dulcet.dimse.status import Status
from dulcet.log_codes import coded

__all__ = ["Incoming", "log_elsewhere", "log_refusal", "log_stray", "response_to"]

log: Final = logging.getLogger("dulcet.association")


def log_refusal(refused: RequestRefused, peer: str) -> None:
    """A line about a request that was answered before any handler saw it."""
    name, status = refused.request.command.name, Status(refused.status)
    log.warning(
        "%s: refused %s, message %d: %s (%s)", peer, name, refused.request.message_id, status, refused.comment,
        extra=coded("DUL215"),
    )  # fmt: skip


def log_stray(stray: StrayResponse, peer: str) -> None:
    """A line about a response that fits nothing; one that comes after a cancel is no fault of the peer's."""
    if stray.late:
        log.debug("%s: %s for an operation that was left", peer, stray.command.name)
    else:
        log.warning("%s: %s answers no request of ours", peer, stray.command.name, extra=coded("DUL204"))


def response_to(request: Request, status: int, elements: dict[str, Any], *, has_data: bool = False) -> Command:
    """The command set that answers a request, its UIDs repeated; `elements` by keyword go before those."""
    command = request.command
    values: dict[str, Any] = {
        "MessageIDBeingRespondedTo": request.message_id,
        "Status": int(status),
        "AffectedSOPClassUID": command.sop_class_uid,
        "AffectedSOPInstanceUID": command.sop_instance_uid,
        **elements,
    }
    return Command.make(request.field | RESPONSE, validate=False, data_set=has_data, **values)


def log_elsewhere(event: AnsweredElsewhere, peer: str) -> None:
    """A line, once, about a peer that answers on another context than it was asked on."""
    asked, answered = event.asked, event.answered
    log.warning(
        "%s: asked on context %d, it answers on context %d, which is of the same class; the answers are taken",
        peer, asked.context_id, answered.context_id, extra=coded("DUL216"),
    )  # fmt: skip


class Incoming:
    """The facts of a request, read from what the core has of it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._unread = request.streams
        self._deferred = False

    @property
    def command(self) -> Command:
        """The command set as it came."""
        return self._request.command

    @property
    def field(self) -> int:
        """Command Field (0000,0100), a `CommandField` where the standard knows it."""
        return self._request.field

    @property
    def name(self) -> str:
        """`C-STORE-RQ` and the like."""
        return self._request.command.name

    @property
    def message_id(self) -> int:
        return self._request.message_id

    @property
    def sop_class_uid(self) -> str:
        """The affected or requested SOP class, else the abstract syntax of the presentation context."""
        return self._request.command.sop_class_uid or self._request.context.abstract_syntax

    @property
    def sop_instance_uid(self) -> str:
        return self._request.command.sop_instance_uid or ""

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax of the presentation context, in which the data set comes."""
        return self._request.context.transfer_syntax

    @property
    def answered(self) -> bool:
        """True once the final response was given."""
        return self._request.answered

    @property
    def cancelled(self) -> bool:
        """True once the peer cancelled it; the final response is still owed."""
        return self._request.cancelled

    @property
    def streams(self) -> bool:
        """True when its data set comes in pieces, and not all of it was read."""
        return self._unread

    @property
    def deferred(self) -> bool:
        """True once `defer()` was called."""
        return self._deferred

    def _response(self, status: int, has_data: bool, elements: dict[str, Any]) -> Command:
        return response_to(self._request, status, elements, has_data=has_data)
