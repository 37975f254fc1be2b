"""An association as DIMSE sees it (PS3.7): messages both ways over one upper layer connection; no I/O, no clock.

Here: bytes and time, association control and what comes in; what we say is in `speaking`, the timers are in `clocks`.

Rules: a response is matched on (context, message id answered, command | 8000H) and never given to another request; an
accepted context of the same class will do, for there are peers that answer on that; an answer that fits nothing, where
no other can come, ends the association, for to wait would not help; the response clock starts when the last byte has
left and anew with each sign of life; small data sets are gathered and capped, that of a C-STORE-RQ surfaces in pieces;
nothing is looked at past the requests that we may owe at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from dulcet.config import AssociationConfig
from dulcet.dimse.clocks import Watch
from dulcet.dimse.command import Command
from dulcet.dimse.events import (
    AnsweredElsewhere,
    AssociationEvent,
    CancelReceived,
    DataReceived,
    RequestReceived,
    RequestRefused,
    ResponseReceived,
    StrayResponse,
)
from dulcet.dimse.explaining import unfit
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.speaking import CANCEL_RQ, MAY_PEND, PENDING, RESPONSE, STORE_RQ, Speaking, Waiting
from dulcet.dimse.status import Status
from dulcet.dimse.trace_events import MessageReceived, TraceEvent
from dulcet.errors import LocalProtocolError, RemoteProtocolError, as_comment
from dulcet.upper_layer.connection import DATA_STATES, Connection
from dulcet.upper_layer.events import NEED_DATA, PAUSED, Aborted, Fragment, Signal
from dulcet.upper_layer.fragments import Segment
from dulcet.upper_layer.framing import BufferPool
from dulcet.upper_layer.negotiation import Offer, PresentationContext, Window, accept
from dulcet.upper_layer.pdu import AssociateAC, AssociateRJ, AssociateRQ

__all__ = ["MAY_PEND", "PENDING", "DimseAssociation"]

UNSENT_ANSWERS: Final = 4096
"""A peer that goes on asking and takes no answers is cut off here, at about 2 MB: what queues for it is our memory."""

LEFT: Final = 64
"""Message ids of operations that were cancelled or left: what still comes for one of them is no stray."""


class DimseAssociation(Speaking):
    """Both roles of one association; a face feeds it bytes and time and pulls events and bytes."""

    def __init__(
        self, *, requestor: bool, config: AssociationConfig | None = None, pool: BufferPool | None = None
    ) -> None:
        self.connection: Connection = Connection(requestor=requestor, config=config, pool=pool)
        self.config: AssociationConfig = self.connection.config
        self.requestor = requestor
        self.outstanding: dict[int, Operation] = {}
        """Our requests that await responses, by message id."""
        self.identity: Any = None
        """Who the requestor is, as the offer told that accepted it."""
        self.waiting: dict[int, Waiting] = {}
        """Our requests beyond the window, by message id in their order; each leaves when an answer makes room."""
        self.performing: dict[int, Request] = {}
        """The peer's requests that await our final response, by message id."""
        self._by_class: dict[str, list[PresentationContext]] = {}
        self._last_id = 0
        self._left: deque[int] = deque(maxlen=LEFT)
        self._held: RequestReceived | None = None
        self._following: ResponseReceived | None = None  # comes next, without another look at the wire
        self._knows_elsewhere = False  # that the peer answers on other contexts was told
        self._unfit = 0  # answers that fit no request
        # the message that is coming in
        self._context_id = 0
        self._command_part: bytearray | None = None
        self._incoming: Request | Command | None = None  # its command set is here, its data set is not
        self._store: Request | None = None  # it is a C-STORE-RQ: the hot case
        self._data: bytearray | None = None  # gathered data set; None while it streams or is thrown away
        self._refuse: tuple[int, str] | None = None  # what answers a request whose data set is thrown away, and why
        # timers
        self._drained = True  # every byte that came was dealt with: what is missing, the peer has not sent
        self._watch: Watch | None = None
        self._watch_deadline = 0.0
        self._watch_bytes = 0
        self._unsent_answers = 0
        self._taken = 0  # how often bytes were asked for and given
        self._stall_deadline: float | None = None
        self._stall_mark = 0

    # ------------------------------------------------------------------ bytes and time

    def get_buffer(self) -> memoryview:
        """Where the transport puts its next bytes; invalidates every view handed out before."""
        return self.connection.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the last `get_buffer()`."""
        self.connection.buffer_updated(count)
        self._drained = False

    def eof_received(self) -> None:
        """The peer closed, or the transport failed."""
        self.connection.eof_received()

    def data_to_send(self, limit: int = 128 * 1024) -> list[Segment]:
        """Whole PDUs of about `limit` bytes, as segments to be sent in this order; empty when there is nothing."""
        connection = self.connection
        segments = connection.data_to_send(limit)
        if segments:
            self._taken += 1
        if connection.departed:
            for left in connection.departed:
                if isinstance(left, Operation):
                    left.departed = True
                else:
                    self._unsent_answers -= 1
            connection.departed.clear()
        return segments

    @property
    def has_output(self) -> bool:
        return self.connection.has_output

    @property
    def journal(self) -> list[TraceEvent] | None:
        """What happened since the face last emptied it; None when nobody watches (`AssociationConfig.observers`)."""
        return cast("list[TraceEvent] | None", self.connection.journal)  # which notes no more than these

    @property
    def is_full(self) -> bool:
        """True while there is no room for more bytes: pull events, or answer what is owed."""
        return self.connection.is_full

    @property
    def wants_close(self) -> bool:
        """True when the transport connection is to be closed once what is queued has left."""
        return self.connection.wants_close

    @property
    def owes(self) -> Literal["associate", "release"] | None:
        """The indication that the application has not answered yet."""
        return self.connection.owes

    @property
    def closed(self) -> bool:
        """True once the association and its connection are over."""
        return self.connection.closed

    @property
    def is_established(self) -> bool:
        return self.connection.is_established

    @property
    def has_unread(self) -> bool:
        """True while bytes are here that were not looked at: the next event may come without waiting."""
        return self.connection.has_unread

    @property
    def message_is_next(self) -> bool:
        """True when what was not looked at begins with a message: nothing ends the association before it."""
        return self.connection.data_is_next

    @property
    def unsent_answers(self) -> int:
        """Final responses that nobody asked for yet with `data_to_send`."""
        return self._unsent_answers

    # ------------------------------------------------------------------ association control

    @property
    def request(self) -> AssociateRQ | None:
        """The A-ASSOCIATE-RQ sent or received."""
        return self.connection.request

    @property
    def answer(self) -> AssociateAC | AssociateRJ | None:
        """The A-ASSOCIATE-AC or -RJ received or sent."""
        return self.connection.answer

    @property
    def contexts(self) -> Mapping[int, PresentationContext]:
        """The accepted presentation contexts by id."""
        return self.connection.contexts

    @property
    def window(self) -> Window:
        """The operations window agreed on (PS3.7 D.3.3.3)."""
        return self.connection.window

    def associate(self, request: AssociateRQ) -> None:
        """A-ASSOCIATE request; it leaves with `connection_made()`."""
        self.connection.associate(request)

    def connection_made(self) -> None:
        """The transport connection stands."""
        self.connection.connection_made()

    def accept(self, answer: AssociateAC | Offer) -> None:
        """A-ASSOCIATE response, accepted: the answer itself, or the offer from which it is made."""
        if isinstance(answer, Offer):
            if self.request is None:
                raise LocalProtocolError("accept is not allowed before a request came")
            self.identity = answer.identity
            answer = accept(self.request, answer)
        self.connection.accept(answer)

    def reject(self, result: int, source: int, reason: int) -> None:
        """A-ASSOCIATE response, rejected (PS3.8 Table 9-21)."""
        self.connection.reject(result, source, reason)

    def release(self) -> None:
        """A-RELEASE request; LocalProtocolError while operations are outstanding or wait, as PS3.7 has it."""
        unanswered = len(self.outstanding) + len(self.waiting)
        if unanswered:
            raise LocalProtocolError(f"release with {unanswered} unanswered operations; await or abort them")
        self.connection.release()

    def release_response(self) -> None:
        """A-RELEASE response."""
        self.connection.release_response()

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT request; overtakes what is queued."""
        self.connection.abort(source, reason)
        self.waiting.clear()

    # ------------------------------------------------------------------ events

    @property
    def performable(self) -> int:
        """Requests of the peer that may await our answer at once."""
        return self.window.performed or self.config.limits.unanswered

    def next_event(self) -> AssociationEvent | Signal:
        """The next event, NEED_DATA, or PAUSED while an answer is owed; never raises.

        PAUSED also while the peer has more requests under way than were agreed on; while it owes us an answer too, only
        at `Limits.unanswered`.
        """
        connection = self.connection
        while True:
            if self._held is not None:
                if connection.is_established and self._must_wait():
                    return PAUSED
                held, self._held = self._held, None
                if connection.state not in DATA_STATES:
                    continue  # the association is over: nobody can answer it
                self.performing[held.request.message_id] = held.request
                return held
            if self._following is not None:
                following, self._following = self._following, None
                return following
            event = connection.next_event()
            if type(event) is not Fragment:
                if event is NEED_DATA:
                    self._drained = True
                elif self.waiting and connection.closed:
                    self.waiting.clear()  # their turn will not come
                return event  # type: ignore[return-value]
            try:
                store = self._store
                if store is not None and not event.is_command and event.context_id == self._context_id:
                    # The hot branch: the data set of a C-STORE-RQ, piece by piece.
                    if event.is_last:
                        self._store = self._incoming = None
                    store.size += len(event.data)
                    return DataReceived(store, event.data, event.is_last)
                got = self._fragment(event)
            except RemoteProtocolError as fault:
                connection.abort(0, 0)
                return Aborted(0, 0, by_us=True, message=str(fault))
            if got is not None:
                return got

    def _must_wait(self) -> bool:
        """True while the request that is held exceeds what the peer may have under way."""
        bound = self.performable
        if self.outstanding:
            # The answer that we wait for may lie behind it, so go on: but memory is not without end.
            bound = max(bound, self.config.limits.unanswered)
        return len(self.performing) >= bound

    def _fragment(self, fragment: Fragment) -> AssociationEvent | None:
        if fragment.is_command:
            if self._incoming is not None:
                raise RemoteProtocolError("a command set began before the data set before it had ended")
            part = self._command_part
            if part is None:
                self._context_id = fragment.context_id
            elif fragment.context_id != self._context_id:
                raise RemoteProtocolError("a command set changed its presentation context half-way")
            if len(part or b"") + len(fragment.data) > self.config.limits.command_set:
                raise RemoteProtocolError(f"a command set of more than {self.config.limits.command_set} bytes")
            if part is None:
                if fragment.is_last:
                    return self._command(Command.decode(fragment.data))
                part = self._command_part = bytearray()
            part += fragment.data
            if not fragment.is_last:
                return None
            self._command_part = None
            return self._command(Command.decode(part))
        if self._incoming is None:
            raise RemoteProtocolError("a data set came without a command set that announces it")
        if fragment.context_id != self._context_id:
            raise RemoteProtocolError("a data set came on another presentation context than its command set")
        return self._gather(fragment)

    def _command(self, command: Command) -> AssociationEvent | None:
        """A command set is whole."""
        if self.connection.journal is not None:
            self.connection.journal.append(MessageReceived(self._context_id, command))
        field, has_data_set = command.field, command.has_data_set
        if field == CANCEL_RQ:
            return self._cancel_received(command)
        if field & RESPONSE:
            if has_data_set:
                self._incoming, self._data, self._refuse = command, bytearray(), None
                return None
            return self._response(command, None)
        request = Request(self.contexts[self._context_id], command)
        self._refuse = self._refusal(request, has_data_set)
        if not has_data_set:
            return self._request(request)
        self._incoming = request
        if self._refuse is None and field == STORE_RQ:
            self._store = request
            request.streams = True
            return self._request(request)
        self._data = bytearray() if self._refuse is None else None
        return None

    def _refusal(self, request: Request, has_data_set: bool) -> tuple[int, str] | None:
        """Status and reason for a request that DIMSE itself refuses, whoever provides the service (PS3.7 Annex C)."""
        if request.message_id in self.performing:
            return (
                Status.DUPLICATE_INVOCATION,
                f"message id {request.message_id} still awaits its answer",
            )
        if request.field == STORE_RQ:
            if not has_data_set:
                return Status.CANNOT_UNDERSTAND, "a C-STORE without a data set"
            if not request.command.sop_instance_uid:  # mandatory (PS3.7 Table 9.1-1): there is nothing to keep it by
                return Status.INVALID_INSTANCE, "a C-STORE without an Affected SOP Instance UID"
        return None

    def _gather(self, fragment: Fragment) -> AssociationEvent | None:
        """A data set that is kept in memory for its meaning, or thrown away."""
        if self._data is not None:
            self._data += fragment.data
            if len(self._data) > self.config.limits.identifier:
                if not isinstance(self._incoming, Request):
                    raise RemoteProtocolError(
                        f"a response with more than {self.config.limits.identifier} bytes of data"
                    )
                why = f"the data set has more than {self.config.limits.identifier} bytes"
                self._data, self._refuse = None, (Status.RESOURCE_LIMITATION, why)
        if not fragment.is_last:
            return None
        incoming, self._incoming = self._incoming, None
        # An empty data set is "no data set".
        data = bytes(self._data) if self._data else None
        self._data = None
        if isinstance(incoming, Command):
            return self._response(incoming, data)
        assert incoming is not None
        incoming.data = data
        incoming.size = len(data or b"")
        return self._request(incoming)

    def _request(self, request: Request) -> AssociationEvent | None:
        if self._refuse is not None:
            (status, why), self._refuse = self._refuse, None
            told = self.is_established  # not while we await A-RELEASE-RP: nothing may be sent then
            if told:
                self.respond_status(request, status, ErrorComment=as_comment(why))
            self._check_unsent()
            return RequestRefused(request, status, why) if told else None
        if request.streams and self.outstanding:
            self._sign_of_life()
        self._check_unsent()
        self._held = RequestReceived(request)
        return None

    def _check_unsent(self) -> None:
        if self._unsent_answers > UNSENT_ANSWERS:
            raise RemoteProtocolError(f"{self._unsent_answers} answers wait for a peer that only asks")

    def _response(self, command: Command, data: bytes | None) -> AssociationEvent:
        answered = command.message_id_being_responded_to
        operation = None if answered is None else self.outstanding.get(answered)
        if operation is None and answered in self._left:
            return StrayResponse(command, self._context_id, data, late=True)
        if operation is None or command.field != operation.field | RESPONSE:
            return self._stray(command, data)
        context = operation.context
        elsewhere = None
        if context.context_id != self._context_id:
            elsewhere = self._elsewhere(operation, command)
            if elsewhere is None:
                return self._stray(command, data)
            context = elsewhere
        is_final = not (command.status in PENDING and operation.field in MAY_PEND)
        operation.responses += 1
        operation.deadline = None
        operation.size += len(data or b"")
        if is_final:
            del self.outstanding[operation.message_id]
            if operation.cancelled:
                self._left.append(operation.message_id)
            self._finished(command, operation.message_id, command.status or 0, False, operation.size)
            if self.waiting:
                self._next_in_line()
        response = ResponseReceived(operation, command, data, is_final, context.transfer_syntax)
        if elsewhere is None or self._knows_elsewhere:
            return response
        self._knows_elsewhere, self._following = True, response
        return AnsweredElsewhere(operation.context, elsewhere)

    def _elsewhere(self, operation: Operation, command: Command) -> PresentationContext | None:
        """The context of an answer that came on another one of its class; None where it is of another class."""
        context = self.contexts[self._context_id]
        # The class is optional in a response (PS3.7 Table 9.1-1); where it is there, it is that of the request.
        if context.abstract_syntax != operation.context.abstract_syntax or command.sop_class_uid not in (
            None,
            operation.sop_class_uid,
        ):
            return None
        return context

    def _stray(self, command: Command, data: bytes | None) -> StrayResponse:
        """A response that fits no request; RemoteProtocolError where as many came as requests are unanswered.

        One that names a message of before may be a second answer to that: what is awaited can still come.
        """
        answered = command.message_id_being_responded_to
        if self.outstanding and (not answered or answered > self._last_id or answered in self.outstanding):
            self._unfit += 1
            if self._unfit >= len(self.outstanding):
                raise RemoteProtocolError(unfit(command, self._context_id, self.outstanding.values()))
        return StrayResponse(command, self._context_id, data)

    def forget(self, operation: Operation) -> None:
        """Nobody waits for it any more; a response that still comes is a late one, and its place is free."""
        if self.outstanding.pop(operation.message_id, None) is not None:
            self._left.append(operation.message_id)

    def _cancel_received(self, command: Command) -> AssociationEvent:
        message_id = command.message_id_being_responded_to or 0
        request = self.performing.get(message_id)
        if request is not None:
            request.cancelled = True
        return CancelReceived(message_id, request, self._context_id, command)
