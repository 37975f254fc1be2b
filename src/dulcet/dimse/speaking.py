"""What an association says (PS3.7): its requests as user of a service, its responses as provider.

Rules: no two outstanding requests have one message id; none is made past the window agreed on, or past our own bound
where there is none, but it may wait in line for its turn; a cancel never overtakes its request; `respond` gives each
request one final response; what cannot be sent leaves no trace here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from dulcet.dimse.clocks import WITH_SUBOPERATIONS, Clocks
from dulcet.dimse.command import Command, encode_c_echo_rq, encode_c_store_rq, encode_response
from dulcet.dimse.explaining import not_accepted, too_many
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.reasons import comment_of, fails
from dulcet.dimse.source import Source, as_source
from dulcet.dimse.trace_events import MessageSent, OperationFinished
from dulcet.errors import LocalProtocolError, NoPresentationContext
from dulcet.upper_layer.fragments import FileSpan
from dulcet.upper_layer.negotiation import PresentationContext

__all__ = ["ANSWER", "CANCEL_RQ", "MAY_PEND", "PENDING", "RESPONSE", "STORE_RQ", "Speaking", "Waiting"]

RESPONSE: Final = 0x8000
STORE_RQ: Final = int(CommandField.C_STORE_RQ)
ECHO_RQ: Final = int(CommandField.C_ECHO_RQ)
CANCEL_RQ: Final = int(CommandField.C_CANCEL_RQ)
PENDING: Final = frozenset((0xFF00, 0xFF01))
MAY_PEND: Final = frozenset(
    int(field) for field in (CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ)
)

ANSWER: Final = object()
"""Marks a final response on its way out."""


class Waiting(NamedTuple):
    """A request beyond the window: what is sent when its turn has come."""

    operation: Operation
    command: bytes
    source: memoryview | FileSpan | None


class Speaking(Clocks):
    """The part of an association that makes requests and responses."""

    _by_class: dict[str, list[PresentationContext]]  # the accepted contexts on which we are the user
    _last_id: int
    _unsent_answers: int
    waiting: dict[int, Waiting]  # our requests beyond the window, by message id, in their order

    # ------------------------------------------------------------------ as user: requests

    def context_for(self, sop_class_uid: str, transfer_syntax: str | None = None) -> PresentationContext | None:
        """The first accepted context on which we may invoke operations of a class, in one syntax or in any."""
        if not self._by_class:
            for context in self.connection.contexts.values():
                if context.as_user:
                    self._by_class.setdefault(context.abstract_syntax, []).append(context)
        for context in self._by_class.get(sop_class_uid, ()):
            if transfer_syntax is None or context.transfer_syntax == transfer_syntax:
                return context
        return None

    def contexts_for(self, sop_class_uid: str) -> list[PresentationContext]:
        """All accepted contexts on which we may invoke operations of a class."""
        self.context_for(sop_class_uid)
        return self._by_class.get(sop_class_uid, [])

    def need_context(self, sop_class_uid: str, transfer_syntax: str | None = None) -> PresentationContext:
        """`context_for`, or NoPresentationContext with what the peer did accept."""
        context = self.context_for(sop_class_uid, transfer_syntax)
        if context is None:
            accepted = [found.transfer_syntax for found in self.contexts_for(sop_class_uid)]
            why = not_accepted(self.connection.request, self.requestor, sop_class_uid, transfer_syntax, accepted)
            raise NoPresentationContext(why)
        return context

    @property
    def invocable(self) -> int:
        """How many more operations may be outstanding at once, by our own bound where the peer takes any number."""
        return (self.connection.window.invoked or self.config.limits.unanswered) - len(self.outstanding)

    def can_invoke(self) -> bool:
        """True when another request may be sent now."""
        return self.invocable > 0 and self.connection.is_established

    def store(
        self,
        context: PresentationContext,
        sop_class_uid: str,
        sop_instance_uid: str,
        data: Source,
        *,
        priority: int = 0,
        originator: tuple[str, int] | None = None,
        owner: Any = None,
    ) -> Operation:
        """C-STORE request (PS3.7 section 9.1.1); `originator` is AE title and message id of the C-MOVE behind it."""
        operation = self._operation(context, STORE_RQ, None, sop_class_uid, sop_instance_uid, owner)
        command = encode_c_store_rq(operation.message_id, sop_class_uid, sop_instance_uid, priority, originator)
        self._send(operation, command, data)
        return operation

    def echo(self, context: PresentationContext, *, owner: Any = None) -> Operation:
        """C-ECHO request (PS3.7 section 9.1.5) of the context's own SOP class."""
        operation = self._operation(context, ECHO_RQ, None, context.abstract_syntax, None, owner)
        self._send(operation, encode_c_echo_rq(operation.message_id, context.abstract_syntax), None)
        return operation

    def invoke(
        self,
        context: PresentationContext,
        command: Command,
        data: Source | None = None,
        *,
        owner: Any = None,
        wait: bool = False,
    ) -> Operation:
        """Any request but C-CANCEL; a command set without a message id gets the next one.

        With `wait` it stands in line where the window is full, and leaves by itself when its turn has come.
        """
        if command.is_response or command.field == CANCEL_RQ:
            raise LocalProtocolError(f"{command.name} is not a request that is answered")
        waits = wait and self.invocable <= 0
        operation = self._operation(
            context, command.field, command.message_id, command.sop_class_uid, command.sop_instance_uid, owner, waits
        )
        if command.message_id is None:
            command = command.replace(MessageID=operation.message_id, validate=False)
        if command.has_data_set != (data is not None):
            command = command.replace(data_set=data is not None, validate=False)
        if waits:
            self._line_up(operation, command.encode(), data)
        else:
            self._send(operation, command.encode(), data)
        return operation

    def cancel(self, operation: Operation) -> None:
        """C-CANCEL request for an operation; nothing happens when it is answered or cancelled already.

        For one that waits beyond the window it leaves right behind its request.
        """
        if operation.cancelled:
            return
        if self.outstanding.get(operation.message_id) is operation:
            self._queue_cancel(operation)
        elif self._in_line(operation.message_id) is operation:
            operation.cancelled = True

    def send(self, context_id: int, command: Command, data: Source | None = None, *, owner: Any = None) -> None:
        """Any message by its command set, one that the standard does not know included.

        A request is invoked, in its turn where the window is full; a response answers the request that it names and a
        C-CANCEL-RQ cancels one.  A response or cancel that fits nothing leaves as it is: `respond_to` refuses it.
        LocalProtocolError on a context that was not accepted.
        """
        context = self._accepted(context_id)
        answered = command.message_id_being_responded_to or 0
        waiting = self._in_line(answered)
        if command.is_request and command.field != CANCEL_RQ:
            self.invoke(context, command, data, owner=owner, wait=True)
        elif command.is_response and self._why_not(context_id, command) is None:
            self.respond(self.performing[answered], command, data)
        elif command.field == CANCEL_RQ and waiting is not None:
            self.cancel(waiting)
        else:
            if command.has_data_set != (data is not None):
                command = command.replace(data_set=data is not None, validate=False)
            self._queue(context, command.encode(), None if data is None else as_source(data), None)
            operation = self.outstanding.get(answered)
            if command.field == CANCEL_RQ and operation is not None:
                operation.cancelled = True

    @property
    def queued_bytes(self) -> int:
        """Bytes that nobody asked for yet with `data_to_send`, requests beyond the window and their data included."""
        size = self.connection.queued_bytes
        for one in self.waiting.values():
            size += len(one.command) + (0 if one.source is None else len(one.source))
        return size

    def next_message_id(self) -> int:
        """1 to 65535, wrapping, none that is outstanding."""
        message_id = self._last_id
        while True:
            message_id = message_id % 0xFFFF + 1
            if message_id not in self.outstanding and message_id not in self.waiting:
                return message_id

    def _operation(
        self,
        context: PresentationContext,
        field: int,
        message_id: int | None,
        sop_class_uid: str | None,
        sop_instance_uid: str | None,
        owner: Any,
        waits: bool = False,
    ) -> Operation:
        if self.invocable <= 0 and not waits:
            raise LocalProtocolError(too_many(self.outstanding.values()))
        if message_id is None:
            message_id = self.next_message_id()
        elif message_id in self.outstanding or message_id in self.waiting:
            raise LocalProtocolError(f"message id {message_id} is outstanding already")
        return Operation(context, field, message_id, sop_class_uid, sop_instance_uid, owner)

    def _send(self, operation: Operation, command: bytes, data: Source | None) -> None:
        source = None if data is None else as_source(data)
        operation.size = 0 if source is None else len(source)
        self._queue(operation.context, command, source, operation)
        self._last_id = operation.message_id
        self.outstanding[operation.message_id] = operation

    def _line_up(self, operation: Operation, command: bytes, data: Source | None) -> None:
        if not self.connection.is_established:
            raise LocalProtocolError("no association stands on which the request could wait for its turn")
        source = None if data is None else as_source(data)
        operation.size = 0 if source is None else len(source)
        self._last_id = operation.message_id
        self.waiting[operation.message_id] = Waiting(operation, command, source)

    def _next_in_line(self) -> None:
        """An answer made room: those whose turn it is leave, each with the cancel that was asked for meanwhile."""
        while self.waiting and self.can_invoke():
            operation, command, source = self.waiting.pop(next(iter(self.waiting)))
            self._queue(operation.context, command, source, operation)
            self.outstanding[operation.message_id] = operation
            if operation.cancelled:
                self._queue_cancel(operation)

    def _in_line(self, message_id: int) -> Operation | None:
        waiting = self.waiting.get(message_id)
        return None if waiting is None else waiting.operation

    def _queue_cancel(self, operation: Operation) -> None:
        command = Command.make(CommandField.C_CANCEL_RQ, MessageIDBeingRespondedTo=operation.message_id)
        self._queue(operation.context, command.encode(), None, None)
        operation.cancelled = True

    # ------------------------------------------------------------------ as provider: responses

    def respond_to(self, context_id: int, command: Command, data: Source | None = None) -> None:
        """`respond` to the request that a response names by its message id; LocalProtocolError where it fits none."""
        self.respond(self.owed(context_id, command), command, data)

    def owed(self, context_id: int, command: Command) -> Request:
        """The request of the peer that a response answers.

        LocalProtocolError where there is none: it never came, was answered already, came on another context, or is of
        another kind.
        """
        self._accepted(context_id)
        why = self._why_not(context_id, command)
        if why is not None:
            raise LocalProtocolError(f"{why}; nothing was sent")
        return self.performing[command.message_id_being_responded_to or 0]

    def _why_not(self, context_id: int, command: Command) -> str | None:
        """Why a response answers nothing; None where it does."""
        message_id = command.message_id_being_responded_to
        request = None if message_id is None else self.performing.get(message_id)
        if request is None:
            return f"message id {message_id}: no request of the peer waits for an answer, or it was answered already"
        if request.context.context_id != context_id:
            return (
                f"message id {message_id} came on presentation context {request.context.context_id}, not {context_id}"
            )
        if request.field | RESPONSE != command.field:
            return f"message id {message_id} is a {request.command.name}, which a {command.name} does not answer"
        return None

    def _accepted(self, context_id: int) -> PresentationContext:
        context = self.connection.contexts.get(context_id)
        if context is None:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted; nothing was sent")
        return context

    def respond(self, request: Request, command: Command, data: Source | None = None) -> None:
        """A response to `request`, pending or final; LocalProtocolError once the final one was given.

        A failure that says no reason is given the one of its status.
        """
        self._check_owed(request)
        status = command.status or 0
        if status and command.error_comment is None and fails(status):
            command = command.replace(validate=False, ErrorComment=comment_of(request.field, status))
        if command.has_data_set != (data is not None):
            command = command.replace(data_set=data is not None, validate=False)
        source = None if data is None else as_source(data)
        is_final = not (command.status in PENDING and request.field in MAY_PEND)
        request.size += 0 if source is None else len(source)
        self._queue(request.context, command.encode(), source, ANSWER if is_final else None)
        if is_final:
            self._answered(request, command.status or 0)

    def respond_status(self, request: Request, status: int, **why: Any) -> None:
        """The final response that is a status and no more, the UIDs of the request repeated.

        `why` are the elements that explain a failure, by keyword; without them it has the status in words.
        """
        command = request.command
        uids = command.sop_class_uid, command.sop_instance_uid
        if why or (status and fails(status)):
            self.respond(request, _explained(request, uids, status, why))
            return
        self._check_owed(request)
        self._queue(request.context, encode_response(request.field, request.message_id, *uids, status), None, ANSWER)
        self._answered(request, status)

    def _check_owed(self, request: Request) -> None:
        if request.answered:
            raise LocalProtocolError(f"{request.command.name} {request.message_id} was answered already")

    def _queue(
        self, context: PresentationContext, command: bytes, source: memoryview | FileSpan | None, operation: object
    ) -> None:
        self.connection.send_message(context.context_id, command, source, operation)
        if self.connection.journal is not None:
            size = 0 if source is None else len(source)
            sent = MessageSent(context.context_id, Command.decode(command), size)
            self.connection.journal.append(sent)

    def _finished(self, command: Command, message_id: int, status: int, by_us: bool, size: int) -> None:
        if self.connection.journal is not None:
            name = command.name.removesuffix("-RQ").removesuffix("-RSP")
            finished = OperationFinished(name, message_id, status, by_us, size)
            self.connection.journal.append(finished)

    def _answered(self, request: Request, status: int) -> None:
        request.answered = True
        self._finished(request.command, request.message_id, status, True, request.size)
        self._unsent_answers += 1
        if self.performing.get(request.message_id) is request:
            del self.performing[request.message_id]
        if self.outstanding and request.field == STORE_RQ:
            self._sign_of_life()

    def _sign_of_life(self) -> None:
        """A sub-operation came: the clocks of the C-GET and C-MOVE that asked for it start anew."""
        for operation in self.outstanding.values():
            if operation.field in WITH_SUBOPERATIONS:
                operation.deadline = None


def _explained(request: Request, uids: tuple[str | None, str | None], status: int, why: dict[str, Any]) -> Command:
    """A response without a data set, unchecked as the UIDs of the request are."""
    return Command.make(
        request.field | RESPONSE,
        validate=False,
        AffectedSOPClassUID=uids[0],
        MessageIDBeingRespondedTo=request.message_id,
        Status=int(status),
        AffectedSOPInstanceUID=uids[1],
        **why,
    )
