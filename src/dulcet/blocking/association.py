"""An association in the caller's own thread, as requestor or acceptor.

Rules: no protocol decision here, the core makes them; every wait has a deadline; whatever leaves a `with` block by an
exception aborts, everything else releases; after a timeout or an abort nothing is sent any more.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from dulcet import uids
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.transport import Transport
from dulcet.config import AssociationConfig
from dulcet.dimse.association import Association as Core
from dulcet.dimse.command import MEDIUM, Command
from dulcet.dimse.events import (
    AssociationEvent,
    CancelReceived,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StrayResponse,
)
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import (
    AssociationAborted,
    AssociationClosed,
    AssociationError,
    AssociationRefused,
    DimseTimeout,
    DulcetError,
    InstanceError,
)
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.sockets import connect
from dulcet.services.proposals import DEFAULT_PROPOSALS
from dulcet.services.results import Response, Sent
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import (
    NEED_DATA,
    PAUSED,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)
from dulcet.upper_layer.items import UserItem
from dulcet.upper_layer.negotiation import PresentationContext, Proposal, Window, associate_request
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

__all__ = ["Association", "associate"]

log: Final = logging.getLogger("dulcet.association")

LAST_WORD: Final = 2.0
"""Seconds for a peer to take our A-ABORT and close; after that the connection is closed under it."""


def associate(
    address: str | Address,
    *,
    calling_ae_title: str = "DULCET",
    contexts: Iterable[Proposal] | None = None,
    config: AssociationConfig | None = None,
    user_items: Iterable[UserItem] = (),
) -> Association:
    """An established association with the peer at `AET@host:port`; use it as a context manager.

    `contexts` is what to propose; by default verification, query/retrieve, worklist and the storage classes.
    Raises AddressError, PeerUnreachable, AssociationRefused, AssociationAborted, AssociationClosed, DimseTimeout.
    """
    address = Address.parse(address)
    config = config or AssociationConfig()
    request = associate_request(
        DEFAULT_PROPOSALS if contexts is None else contexts,
        called=address.ae_title,
        calling=calling_ae_title,
        maximum_length=config.maximum_length,
        implementation_class_uid=config.implementation_class_uid,
        implementation_version_name=config.implementation_version_name,
        window=Window(config.window_invoked, config.window_performed),
        user_items=user_items,
    )
    core = Core(requestor=True, config=config)
    core.associate(request)
    transport = Transport(connect(address.host, address.port, time.monotonic() + config.timers.connect))
    association = Association(core, transport, peer=str(address), address=address)
    try:
        core.connection_made()
        association._await_answer()
    except BaseException:
        association.abort()
        raise
    return association


class Association:
    """One association; made by `associate()` or by a listener, for one thread at a time, except for `interrupt()`."""

    def __init__(self, core: Core, transport: Transport, *, peer: str, address: Address | None = None) -> None:
        self.peer = peer
        """Who is at the other end: its address as it was called, or host and port as they were seen."""
        self.address = address
        self.ending: str | None = None
        """How it ended: "released", "aborted", "closed" or "timeout"; None while it stands."""
        self._core = core
        self._transport = transport
        self._error: AssociationError | DimseTimeout | None = None
        self._interrupted = False

    # ------------------------------------------------------------------ what was agreed on

    @property
    def request(self) -> AssociateRQ:
        """The A-ASSOCIATE-RQ."""
        assert self._core.request is not None
        return self._core.request

    @property
    def accept(self) -> AssociateAC:
        """The A-ASSOCIATE-AC."""
        assert isinstance(self._core.answer, AssociateAC)
        return self._core.answer

    @property
    def contexts(self) -> Sequence[PresentationContext]:
        """The accepted presentation contexts."""
        return list(self._core.contexts.values())

    @property
    def window(self) -> Window:
        """Operations that may be outstanding, as agreed on (PS3.7 D.3.3.3)."""
        return self._core.window

    @property
    def called_ae_title(self) -> str:
        return self.request.called

    @property
    def calling_ae_title(self) -> str:
        return self.request.calling

    @property
    def is_established(self) -> bool:
        """True while operations are possible."""
        return self._core.is_established and self.ending is None

    # ------------------------------------------------------------------ as user

    def echo(self) -> Response:
        """C-ECHO (PS3.7 section 9.1.5)."""
        context = self._core.need_context(uids.VERIFICATION)
        command = Command.make(CommandField.C_ECHO_RQ, validate=False, AffectedSOPClassUID=uids.VERIFICATION)
        return self._ask(self._core.invoke(context, command))

    def store(self, what: InstanceSource, *, priority: int = MEDIUM, originator: tuple[str, int] | None = None) -> Sent:
        """C-STORE of a path, open file, bytes or Dataset (PS3.7 section 9.1.1), converted if need be and possible.

        Raises InstanceError for what cannot be sent, NoPresentationContext when the peer did not accept its class.
        """
        instance = examine(what)
        self._check_usable()
        try:
            operation, syntax, size = self._start_store(instance, priority=priority, originator=originator)
            response = self._ask(operation)
            self._flush_all()
        finally:
            instance.close()
        return Sent(
            what,
            response.status,
            None,
            instance.sop_class_uid,
            instance.sop_instance_uid,
            syntax,
            size,
        )

    def store_many(
        self, what: Iterable[InstanceSource], *, associations: int = 1, window: int = 8, priority: int = MEDIUM
    ) -> Iterator[Sent]:
        """C-STORE of many: contexts are taken from the files, and more associations are made where this one lacks some.

        Yields one `Sent` for each, in the order of their answers; what cannot be sent fails for itself alone.
        `associations` send in parallel; `window` operations are proposed to be outstanding on each.
        """
        from dulcet.blocking.sending import StoreMany

        assert self.address is not None, "the requestor knows where the peer is"
        job = StoreMany(
            self.address,
            calling_ae_title=self.calling_ae_title,
            config=self._core.config,
            associations=associations,
            window=window,
            priority=priority,
            given=self,
        )
        return job.run(what)

    def _start_store(
        self,
        instance: Instance,
        *,
        priority: int = MEDIUM,
        originator: tuple[str, int] | None = None,
        owner: Any = None,
    ) -> tuple[Operation, str, int]:
        """Queue a C-STORE-RQ in the instance's own transfer syntax, or converted; with the syntax and size it travels in."""
        core = self._core
        class_uid, syntax = instance.sop_class_uid, instance.transfer_syntax
        context = core.context_for(class_uid, syntax)
        data: Source
        if context is not None:
            data = instance.open()
        else:
            accepted = [found.transfer_syntax for found in core.contexts_for(class_uid)]
            if not accepted:
                core.need_context(class_uid, syntax)
            data, syntax = instance.converted(accepted)
            context = core.need_context(class_uid, syntax)
        operation = core.store(
            context,
            class_uid,
            instance.sop_instance_uid,
            data,
            priority=priority,
            originator=originator,
            owner=owner,
        )
        return operation, syntax, len(data)

    def _ask(self, operation: Operation) -> Response:
        """The final response of the one operation under way."""
        while True:
            event = self._next_event()
            if type(event) is ResponseReceived and event.operation is operation and event.is_final:
                status = event.command.status
                return Response(
                    Status(Status.PROCESSING_FAILURE if status is None else status),
                    event.command,
                    event.data,
                    operation.context.transfer_syntax,
                )
            self._set_aside(event)

    # ------------------------------------------------------------------ as provider

    def requests(self) -> Iterator[IncomingRequest]:
        """The peer's requests, until it releases; a request left unanswered when the next is asked for gets 0110H.

        Ends on release; raises AssociationAborted, AssociationClosed or DimseTimeout on any other end.
        """
        while True:
            event = self._next_event_or_release()
            if event is None:
                return
            if type(event) is not RequestReceived:
                self._set_aside(event)
                continue
            request = IncomingRequest(self, event.request)
            yield request
            if not request.answered and self.ending is None:
                request.respond(Status.PROCESSING_FAILURE)

    def _next_event_or_release(self) -> AssociationEvent | None:
        try:
            return self._next_event()
        except AssociationClosed:
            if self.ending == "released":
                return None
            raise

    def _next_piece(self) -> DataReceived:
        """The next piece of the data set that is coming in."""
        while True:
            event = self._next_event()
            if type(event) is DataReceived:
                return event
            self._set_aside(event)

    def _set_aside(self, event: AssociationEvent) -> None:
        """What came while something else was awaited."""
        if type(event) is RequestReceived:
            # Nobody here provides that: say so, and let the data set that follows run out.
            self._core.respond_status(event.request, Status.SOP_CLASS_NOT_SUPPORTED)
            log.warning("%s: refused %s, nobody provides it here", self.peer, event.request.command.name)
        elif isinstance(event, StrayResponse):
            log.warning("%s: %s answers no request of ours", self.peer, event.command.name)
        elif isinstance(event, CancelReceived):
            log.debug("%s: C-CANCEL for message %d", self.peer, event.message_id)

    # ------------------------------------------------------------------ the end

    def release(self) -> None:
        """A-RELEASE, orderly (PS3.8 section 7.2); nothing to do once it has ended."""
        if self.ending is not None:
            return
        try:
            self._core.release()
            while self.ending is None:
                self._set_aside(self._next_event())
        except AssociationClosed:
            pass
        finally:
            self._finish()

    def abort(self) -> None:
        """A-ABORT: what is unanswered is not done."""
        if self.ending is None:
            self.ending = "aborted"
            self._error = AssociationAborted(0, 0, "the association was aborted by this side", by_us=True)
        self._core.abort()
        self._finish()

    def interrupt(self) -> None:
        """Have whoever waits on it stop with AssociationAborted, and the peer told; callable from another thread."""
        self._interrupted = True
        self._transport.interrupt()

    def close(self) -> None:
        """Release it if it stands, and close."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _finish(self) -> None:
        """Let our last word leave, wait for the peer's close for a moment, close."""
        core, transport = self._core, self._transport
        if not transport.is_open:
            return
        deadline = time.monotonic() + LAST_WORD
        with contextlib.suppress(DulcetError):
            while not transport.broken and not core.closed and time.monotonic() < deadline:
                if core.next_event() in (NEED_DATA, PAUSED) and not self._exchange(deadline):
                    break
            if core.wants_close and not transport.broken:
                self._flush()
        transport.close()

    # ------------------------------------------------------------------ moving bytes

    def _check_usable(self) -> None:
        if self.ending is not None:
            assert self._error is not None
            raise self._error

    def _await_answer(self) -> None:
        while not isinstance(event := self._next_event(), AssociateAccepted):
            self._set_aside(event)

    def _next_event(self) -> AssociationEvent:
        """The next event that does not end the association; waits as long as the core's timers let it."""
        core = self._core
        while True:
            event = core.next_event()
            if event is NEED_DATA or event is PAUSED:
                self._check_usable()
                if core.closed:
                    self._ended(Closed(expected=True))
                if self._interrupted:
                    self.abort()
                    self._check_usable()
                self._exchange(None)
            elif type(event) in ENDINGS:
                self._ended(event)
            else:
                return event

    def _exchange(self, deadline: float | None) -> bool:
        """Send what there is, then wait for bytes, room or a timer; False when `deadline` has passed."""
        core, transport = self._core, self._transport
        self._flush()
        if core.wants_close and not transport.has_unsent:
            core.eof_received()
            return True
        if transport.broken and core.is_full:
            core.eof_received()
            return True
        timer = core.timer(time.monotonic())
        until = timer if deadline is None else deadline if timer is None else min(timer, deadline)
        readable, writable = transport.wait(read=not core.is_full, deadline=until)
        if writable:
            self._flush()
        if readable:
            count = transport.read_into(core.get_buffer())
            if count:
                core.buffer_updated(count)
            elif count == 0:
                core.eof_received()
        elif not writable:
            now = time.monotonic()
            core.handle_timer(now)
            return deadline is None or now < deadline
        return True

    def _flush(self) -> None:
        """Send as much as the kernel takes now.  A file that ends early breaks the message: then we abort."""
        transport, core = self._transport, self._core
        if transport.has_unsent and not transport.flush():
            return
        while core.has_output:
            segments = core.data_to_send()
            try:
                if not transport.write(segments):
                    return
            except InstanceError as error:
                # The message it belongs to can no longer be made whole.
                self.abort()
                self._error = AssociationAborted(0, 0, f"{error}; the association was aborted", by_us=True)
                raise self._error from error

    def _flush_all(self) -> None:
        """Send everything: for the rare peer that answers before it has read to the end."""
        while (self._transport.has_unsent or self._core.has_output) and not self._transport.broken:
            self._exchange(None)
            if self._core.closed:
                return

    def _ended(self, event: object) -> None:
        """The association is over: remember how, close, and raise it."""
        ending, error = _ending(event, self.peer, self._core.answer)
        self.ending = ending
        self._error = error
        if isinstance(event, ReleaseRequested):
            self._core.release_response()
            if event.collision:
                self.ending = self._error = None  # our own release goes on
                return
        self._finish()
        raise error


ENDINGS: Final = frozenset((Aborted, AssociateRejected, Closed, ReleaseConfirmed, ReleaseRequested, TimedOut))

TIMEOUTS: Final = {
    "artim": "no A-ASSOCIATE-RQ came in time",
    "associate": "no answer to the association request in time; is it a DICOM port?",
    "release": "no answer to the release request in time",
    "idle": "nothing came for so long that the association was given up",
    "progress": "the peer stopped in the middle of a message",
    "response": "no response in time; raise Timers.response if the peer needs longer",
}


def _ending(event: object, peer: str, answer: object) -> tuple[str, AssociationError | DimseTimeout]:
    """How an association ended, and the exception for whoever still waits."""
    if isinstance(event, ReleaseConfirmed):
        return "released", AssociationClosed(f"{peer}: the association was released")
    if isinstance(event, ReleaseRequested):
        return "released", AssociationClosed(f"{peer}: the peer released the association")
    if isinstance(event, AssociateRejected):
        reject = event.reject
        return "refused", AssociationRefused(reject.result, reject.source, reject.reason, peer)
    if isinstance(event, TimedOut):
        return "timeout", DimseTimeout(f"{peer}: {TIMEOUTS[event.timer]}")
    if isinstance(event, Aborted):
        if event.by_us:
            message = f"{peer} broke the protocol, the association was aborted: {event.message}"
            return "aborted", AssociationAborted(event.source, event.reason, message, by_us=True)
        error = AssociationAborted(event.source, event.reason)
        return "aborted", AssociationAborted(event.source, event.reason, f"{peer}: {error}")
    if answer is None:
        return "closed", AssociationClosed(
            f"{peer} closed the connection without answering the association request; "
            "is it a DICOM port, and does it want TLS?"
        )
    return "closed", AssociationClosed(f"{peer} closed the connection in the middle of the association")
