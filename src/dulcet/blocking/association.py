"""An association in the caller's own thread, as requestor or acceptor, service user and provider."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from dulcet.blocking.channel import Channel
from dulcet.blocking.keeping import Keeper
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.transport import Transport
from dulcet.config import AssociationConfig, Timers
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import MEDIUM
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
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.reasons import FAILED, UNANSWERED, not_provided
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import AssociationClosed, DimseTimeout, DulcetError, ReceiveError
from dulcet.io.answers import Answers
from dulcet.io.sockets import connect
from dulcet.log_codes import coded
from dulcet.services import invocations
from dulcet.services.extended import Extended
from dulcet.services.identity import check_confirmed
from dulcet.services.incoming import log_elsewhere, log_refusal, log_stray
from dulcet.services.invocations import KEPT_BYTES, RESPONSE_COST, Invocation
from dulcet.services.origin import Origin, receiving_policy
from dulcet.services.proposals import association_request
from dulcet.services.results import Response, Retrieved, Sent, response_of
from dulcet.services.termination import ENDINGS
from dulcet.uids import VERIFICATION
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import NEED_DATA, PAUSED, AssociateAccepted
from dulcet.upper_layer.items import CommonExtendedNegotiation, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import Proposal

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.io.instances import Instance, InstanceSource
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig

__all__ = ["Association", "associate"]

log: Final = logging.getLogger("dulcet.association")

DRAIN: Final = 5.0
"""Seconds for a peer to end an operation that was cancelled; after that the association is aborted."""


def associate(
    address: str | Address,
    *,
    calling_ae_title: str = "DULCET",
    contexts: Iterable[Proposal] | None = None,
    config: AssociationConfig | None = None,
    identity: UserIdentityRQ | None = None,
    extended: Mapping[str, Extended] | None = None,
    common_extended: Iterable[CommonExtendedNegotiation] = (),
    user_items: Iterable[UserItem] = (),
    handler: Callable[[IncomingRequest], object] | None = None,
    tls: TLSConfig | SSLContext | None = None,
) -> Association:
    """An established association with the peer at `AET@host:port`; use it as a context manager.

    `address` is that text or an `Address`; the AE title in it is the one that is called.  `calling_ae_title` is ours, 1
    to 16 characters.
    `contexts` is what to propose, 128 at most; by default verification, query/retrieve, worklist and the storage
    classes.
    `config` holds limits, timers and the operations window; by default those of `AssociationConfig()`.
    `identity` says who asks (`UserIdentity`), `extended` and `common_extended` negotiate by SOP class, `user_items` are
    further sub-items of user information, as they are.
    `handler` answers requests that the peer makes on it, such as N-EVENT-REPORT; without one they get 0122H.
    `tls` secures the connection; the address may bring it along.
    Raises AddressError, LocalProtocolError for what cannot be proposed, PeerUnreachable, TLSError, TLSConfigError,
    AssociationRefused, AssociationAborted, AssociationClosed, DimseTimeout, IdentityUnconfirmed (PS3.8 section 7.1).
    """
    address = Address.parse(address, tls)
    config = config or AssociationConfig()
    request = association_request(
        address,
        calling_ae_title=calling_ae_title,
        contexts=contexts,
        config=config,
        identity=identity,
        extended=extended,
        common_extended=common_extended,
        user_items=user_items,
    )
    core = DimseAssociation(requestor=True, config=config)
    core.associate(request)
    transport = _connected(address, config.timers)
    association = Association(core, transport, peer=str(address), address=address)
    association.handler = handler
    try:
        core.connection_made()
        association._await_answer()
        check_confirmed(request, association.accept)
    except BaseException:
        association.abort()
        raise
    return association


def _connected(address: Address, timers: Timers) -> Transport:
    if address.tls is None:
        return Transport(connect(address.host, address.port, time.monotonic() + timers.connect))
    from dulcet.blocking.secure import connect_securely

    return connect_securely(address, timers)


class Association(Channel):
    """One association; made by `associate()` or by a listener, for one thread at a time, except for `interrupt()`.

    Every operation can raise, besides what it says itself: NoPresentationContext where the peer accepted no context for
    it, LocalProtocolError for a value that may not be sent and for more operations than were agreed on (another one
    inside a loop over `find`, for example), both before anything is sent; DimseTimeout where no response comes within
    `Timers.response` seconds; AssociationAborted or AssociationClosed when the association ends or has ended.
    A status is no error: it is in the result, whose `check()` raises StatusError.
    """

    def __init__(
        self, core: DimseAssociation, transport: Transport, *, peer: str, address: Address | None = None
    ) -> None:
        """For listeners and `associate()`: `core` and `transport` of it; `peer` is what messages call the other side,
        `address` where a requestor reaches it (`store_many` makes further associations there), None for an acceptor.
        """
        super().__init__(core, transport, peer=peer, address=address)
        self.handler: Callable[[IncomingRequest], object] | None = None
        """Answers requests that come while something else is awaited; without one they get 0122H."""
        self.look_again: float = 0.0
        """Monotonic time before which whoever gives many answers need not look for what came."""
        self._inbox: dict[Operation, deque[ResponseReceived]] = {}
        self._kept = 0  # bytes of them
        self._requests: deque[IncomingRequest] = deque()
        self._arriving: IncomingRequest | None = None  # whose data set came last, or is coming

    # ------------------------------------------------------------------ as user

    def echo(self) -> Response:
        """C-ECHO (PS3.7 section 9.1.5): does the peer answer?  The context is that of verification."""
        context = self._core.need_context(VERIFICATION)
        self._check_usable()
        with self._lock:
            operation = self._core.echo(context)
            self._flush()
        return response_of(self._response_to(operation))

    def store(self, what: InstanceSource, *, priority: int = MEDIUM, originator: tuple[str, int] | None = None) -> Sent:
        """C-STORE of a path, open file, bytes or Dataset (PS3.7 section 9.1.1), converted if need be and possible.

        `what` is one instance: a file or its bytes with or without preamble, or a Dataset with its SOP class and
        instance UID.
        `priority` is 0 medium, 1 high, 2 low; many peers ignore it.  `originator` is AE title and message ID of the
        C-MOVE-RQ that this is a sub-operation of.
        Raises InstanceError for what cannot be sent, NotDicom and CannotConvert among them, and NoPresentationContext
        when the peer did not accept its class.  A file that changes while it is sent ends the association.
        """
        from dulcet.io.instances import examine

        instance = examine(what)
        self._check_usable()
        operation = None
        try:
            operation, syntax, size = self._start_store(instance, priority=priority, originator=originator)
            response = self._response_to(operation)
            self._flush_all()
        finally:
            if operation is not None and not operation.departed:
                self.abort()  # half the message is out, and its file is about to be closed
            instance.close()
        uids = (instance.sop_class_uid, instance.sop_instance_uid)
        return Sent.answered(what, response.command, *uids, syntax, size)

    def store_many(
        self,
        what: InstanceSource | Iterable[InstanceSource],
        *,
        associations: int = 1,
        window: int = 8,
        priority: int = MEDIUM,
    ) -> Iterator[Sent]:
        """C-STORE of many: contexts are taken from the files, and more associations are made where this one lacks some.

        `what` is a path, a folder with all that is below it, bytes, an open file, a Dataset, or an iterable of these.
        Yields one `Sent` for each, in the order of their answers; what cannot be sent fails for itself alone.  Nothing
        is sent before it is iterated over: a RuntimeWarning says so where it never was.
        `associations` send in parallel; `window` operations, 0 for any number, are proposed to be outstanding on each
        that is made; `priority` is that of `store`.  An acceptor sends on this association alone.
        Raises, when it is called, ValueError for numbers that do not fit and TypeError for what is neither path nor
        instance; later on what ended this association where it had ended before.
        """
        from dulcet.blocking.sending import StoreMany

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

    def find(
        self,
        identifier: Dataset | None = None,
        *,
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        limit: int | None = None,
        **keys: Any,
    ) -> Iterator[Dataset]:
        """C-FIND (PS3.4 C.4.1): the matches, one by one as they come; leaving early cancels.

        `keys` are keywords with values to match, None or "" to be returned; `identifier` adds to them or stands alone.
        Dates and times may be objects of `datetime`, a pair of them is a range: `StudyDate=(date(2026, 1, 1), None)`.
        `level` is PATIENT, STUDY, SERIES or IMAGE, STUDY where nothing says it; `model` a name of
        `dulcet.services.models.MODELS` or the UID of a SOP class, else the first that fits the level, study root before
        patient root; `priority` is that of `store`; `limit` is how many are taken before the rest is cancelled.
        Raises StatusError when it ends with anything but success, ValueError for what is no keyword or model, and
        ReceiveError at the end, behind all others, when there were matches that do not decode.
        """
        invocation = invocations.find(self._core, identifier, keys, level=level, model=model, priority=priority)
        answers = Answers(self.peer, limit)
        with closing(self._converse(invocation)) as responses:
            for response in responses:
                if (match := answers.take(response)) is not None:
                    yield match
                if answers.enough:
                    break
        answers.check()

    def get(
        self,
        identifier: Dataset | None = None,
        *,
        to: str | PathLike[str] | StoreDirectory | Callable[[IncomingRequest], object],
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-GET (PS3.4 C.4.3): the instances come back on this association, into the folder `to` or a handler.

        `identifier` and `keys` name what is wanted by its unique keys, such as `StudyInstanceUID="1.2.3"`; an answer of
        `find` can be given as it is.  `to` is a path, a `StoreDirectory`, or a function that answers each C-STORE-RQ.
        `level` is that of the lowest unique key with a value where nothing says it; `model` and `priority` are as in
        `find`.  `progress` is called with what was `Retrieved` so far after each pending response.
        The contexts of what comes must have been accepted with the requestor as provider, as the default ones are
        proposed; `dulcet.retrieve` sees to that.
        Raises LocalProtocolError, with nothing sent, for keys that name nothing; ValueError for what is no keyword or
        model; OSError when the folder cannot be written to; ReceiveError when the final response does not decode.
        """
        invocation = invocations.get(self._core, identifier, keys, level=level, model=model, priority=priority)
        return self._retrieve(invocation, Keeper.of(to), progress)

    def move(
        self,
        identifier: Dataset | None = None,
        *,
        destination: str,
        receive: str | Address | None = None,
        to: str | PathLike[str] | StoreDirectory | Callable[[IncomingRequest], object] | None = None,
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-MOVE (PS3.4 C.4.2): the peer sends the instances to the AE title `destination`.

        The peer must know host and port of `destination`, 1 to 16 characters.  `receive` is where this side listens for
        them, as `AET@host:port`, from before it asks until all came; `to` is the folder or handler that takes them.
        `identifier`, `keys`, `level`, `model`, `priority` and `progress` are as in `get`.
        Raises ValueError for `receive` without `to`, AddressError and OSError when it cannot listen there, and what
        `get` does.
        """
        invocation = invocations.move(
            self._core, destination, identifier, keys, level=level, model=model, priority=priority
        )
        if receive is None and to is not None:
            raise ValueError("move(to=…) needs `receive`, an address to listen on: `destination` is who gets it")
        if receive is None:
            return self._retrieve(invocation, None, progress)
        if to is None:
            raise ValueError("move(receive=…) needs `to`, a folder or a handler for what comes")
        from dulcet.blocking.receiver import Receiver

        keeper = Keeper.of(to)
        keeper.origin = Origin(self.calling_ae_title, self.called_ae_title, self._transport.peer().rpartition(":")[0])
        try:
            with Receiver(receive, keeper, policy=receiving_policy()):
                result = self._retrieve(invocation, None, progress, keeper.origin)
        finally:
            keeper.close()
        keeper.told(result)
        return result

    def n_event_report(
        self, sop_class_uid: str, sop_instance_uid: str, event_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-EVENT-REPORT (PS3.7 section 10.1.1): tell the user of an instance what happened to it.

        `sop_class_uid` and `sop_instance_uid` name the instance, `event_type` is a number that its SOP class gives a
        meaning, `dataset` the event information, None for none.  `context` is the SOP class negotiated for it where
        that is another one.
        A context where this side is the provider is taken first.  Raises InstanceError for what cannot be encoded.
        """
        return self._normalized(
            CommandField.N_EVENT_REPORT_RQ,
            sop_class_uid,
            sop_instance_uid,
            dataset,
            context=context,
            type_id=event_type,
        )

    def n_get(
        self, sop_class_uid: str, sop_instance_uid: str, attributes: Sequence[str | int] = (), *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-GET (PS3.7 section 10.1.2): attributes of an instance; they are in the response's data set.

        `sop_class_uid` and `sop_instance_uid` name the instance, `attributes` are keywords or tags; none asks for all.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises ValueError for what is no keyword.
        """
        return self._normalized(
            CommandField.N_GET_RQ, sop_class_uid, sop_instance_uid, context=context, attributes=attributes
        )

    def n_set(
        self, sop_class_uid: str, sop_instance_uid: str, dataset: Dataset, *, context: str | None = None
    ) -> Response:
        """N-SET (PS3.7 section 10.1.3): change attributes of an instance.

        `sop_class_uid` and `sop_instance_uid` name the instance, `dataset` holds the new values.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return self._normalized(CommandField.N_SET_RQ, sop_class_uid, sop_instance_uid, dataset, context=context)

    def n_action(
        self, sop_class_uid: str, sop_instance_uid: str, action_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-ACTION (PS3.7 section 10.1.4): have something done with an instance.

        `sop_class_uid` and `sop_instance_uid` name the instance, `action_type` is a number that its SOP class gives a
        meaning, `dataset` the action information, None for none.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return self._normalized(
            CommandField.N_ACTION_RQ, sop_class_uid, sop_instance_uid, dataset, context=context, type_id=action_type
        )

    def n_create(
        self, sop_class_uid: str, sop_instance_uid: str | None = None, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-CREATE (PS3.7 section 10.1.5): make an instance.

        `sop_class_uid` is its class; without a `sop_instance_uid` the peer makes one and its response names it.
        `dataset` holds its attributes, None for none.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return self._normalized(CommandField.N_CREATE_RQ, sop_class_uid, sop_instance_uid, dataset, context=context)

    def n_delete(self, sop_class_uid: str, sop_instance_uid: str, *, context: str | None = None) -> Response:
        """N-DELETE (PS3.7 section 10.1.6): delete an instance, named by `sop_class_uid` and `sop_instance_uid`.

        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        """
        return self._normalized(CommandField.N_DELETE_RQ, sop_class_uid, sop_instance_uid, context=context)

    def _normalized(self, field: CommandField, *arguments: Any, **options: Any) -> Response:
        return self._ask(invocations.normalized(self._core, field, *arguments, **options))

    # ------------------------------------------------------------------ operations

    def _invoke(self, invocation: Invocation, origin: Origin | None = None) -> Operation:
        self._check_usable()
        with self._lock:
            operation = self._core.invoke(invocation.context, invocation.command, invocation.data)
            if origin is not None:  # before it leaves, for its sub-operations come to another thread
                origin.message_id = operation.message_id
            self._flush()
        return operation

    def _ask(self, invocation: Invocation) -> Response:
        """The one response of an operation that has no pending ones."""
        operation = self._invoke(invocation)
        return response_of(self._response_to(operation))

    def _converse(self, invocation: Invocation, origin: Origin | None = None) -> Generator[Response, None, None]:
        """All responses of an operation; leaving early cancels it and waits for its end."""
        operation = self._invoke(invocation, origin)
        try:
            while True:
                event = self._response_to(operation)
                yield response_of(event)
                if event.is_final:
                    return
        finally:
            self._abandon(operation)

    def _retrieve(
        self,
        invocation: Invocation,
        keeper: Keeper | None,
        progress: Callable[[Retrieved], object] | None,
        origin: Origin | None = None,
    ) -> Retrieved:
        result = Retrieved(Status.PENDING)
        handler = self.handler
        if keeper is not None:
            self.handler = keeper
        try:
            for response in self._converse(invocation, origin):
                result.update(response)
                if response.status.is_pending and progress is not None:
                    progress(result)
        finally:
            self.handler = handler
            if keeper is not None:
                keeper.close()
                keeper.told(result)
        return result

    def _response_to(self, operation: Operation) -> ResponseReceived:
        """The next response to one operation; those to others are kept for whoever asks for them."""
        while True:
            # Looked at anew each time: a request served in between may have put it there.
            if self._inbox and (kept := self._take_kept(lambda one: one is operation)) is not None:
                return kept
            event = self._next_event()
            if type(event) is ResponseReceived:
                if event.operation is operation:
                    return event
                self._keep(event)
            else:
                self._set_aside(event)

    def _take_kept(self, wanted: Callable[[Operation], bool]) -> ResponseReceived | None:
        """The first response to such an operation that came while another one was awaited; None without one."""
        operation = next(filter(wanted, self._inbox), None)
        if operation is None:
            return None
        response = self._inbox[operation].popleft()
        if not self._inbox[operation]:
            del self._inbox[operation]
        self._kept -= _cost(response)
        return response

    def _keep(self, event: ResponseReceived) -> None:
        """A response that whoever asked takes later; so many of them and no more."""
        self._inbox.setdefault(event.operation, deque()).append(event)
        self._kept += _cost(event)
        if self._kept > KEPT_BYTES:
            self._end_here(DimseTimeout(f"{self.peer}: nobody takes what came before the response that is waited for"))
            self._finish()
            self._check_usable()

    def _abandon(self, operation: Operation) -> None:
        """Cancel what was left early, and wait for its end; a peer that goes on and on is aborted."""
        core = self._core
        self._kept -= sum(map(_cost, self._inbox.pop(operation, ())))
        if core.outstanding.get(operation.message_id) is not operation or not self.is_established:
            return
        deadline = time.monotonic() + DRAIN
        core.cancel(operation)
        try:
            while core.outstanding.get(operation.message_id) is operation:
                if time.monotonic() > deadline:
                    self.abort()
                    return
                event = self._next_event()
                if type(event) is not ResponseReceived:
                    self._set_aside(event)
                elif event.operation is not operation:
                    self._keep(event)
        except DulcetError:
            log.debug("%s: the association ended while an operation was being cancelled", self.peer)

    def _start_store(
        self,
        instance: Instance,
        *,
        priority: int = MEDIUM,
        originator: tuple[str, int] | None = None,
        owner: Any = None,
    ) -> tuple[Operation, str, int]:
        """Queue a C-STORE-RQ in the instance's own transfer syntax, or converted; the syntax and size it travels in."""
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
        with self._lock:
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

    # ------------------------------------------------------------------ as provider

    def requests(self) -> Iterator[IncomingRequest]:
        """The peer's requests, until it releases; one that is neither answered nor deferred by then gets 0110H.

        Ends on release; raises AssociationAborted, AssociationClosed or DimseTimeout on any other end.
        """
        while True:
            if self._requests:
                request = self._requests.popleft()
            else:
                try:
                    event = self._next_event()
                except AssociationClosed:
                    if self.ending == "released":
                        return
                    raise
                if type(event) is not RequestReceived:
                    self._set_aside(event)
                    continue
                request = IncomingRequest(self, event.request)
            yield request
            if self.ending is None:
                request._settle()

    def _look(self) -> None:
        """Take notice of what came in the meantime without waiting: of a cancel above all."""
        if self._requests and self._requests[-1].streams:
            return  # its data set is next on the wire: whoever takes the request reads it
        self._exchange(time.monotonic())
        while True:
            with self._lock:
                event = self._core.next_event()
            if event is NEED_DATA or event is PAUSED:
                return
            if type(event) in ENDINGS:
                self._ended(event)
            elif type(event) is RequestReceived:
                self._requests.append(IncomingRequest(self, event.request))
                if event.request.streams:
                    return
            else:
                self._set_aside(event)

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
            self._serve(IncomingRequest(self, event.request))
        elif type(event) is DataReceived:
            if self._arriving is not None:
                self._arriving._lose(event.is_last)
        elif type(event) is ResponseReceived:
            self._keep(event)
        elif isinstance(event, StrayResponse):
            log_stray(event, self.peer)
        elif isinstance(event, RequestRefused):
            log_refusal(event, self.peer)
        elif isinstance(event, AnsweredElsewhere):
            log_elsewhere(event, self.peer)
        elif isinstance(event, CancelReceived):
            log.debug("%s: C-CANCEL for message %d", self.peer, event.message_id)
            if event.request is not None and event.request.owner is not None:
                event.request.owner()

    def _serve(self, request: IncomingRequest) -> None:
        """A request in the middle of our own operation: to the handler, to `requests()` later, or refused."""
        if self.handler is None:
            if not self._core.requestor and not request.streams:
                self._requests.append(request)  # this side is in its `requests()`: the next turn is this one's
                return
            log.warning("%s: refused %s, nobody provides it here", self.peer, request.name, extra=coded("DUL201"))
            request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))
            return
        why = UNANSWERED
        try:
            self.handler(request)
        except ReceiveError as error:
            log.error(
                "%s: refused %s with %04XH: %s", self.peer, request.name, error.status, error, extra=coded("DUL202")
            )
            if not request.answered and self.ending is None:
                request.respond(error.status, **error.elements)
        except DulcetError:
            raise
        except Exception:
            log.exception("%s: the handler of %s failed", self.peer, request.name, extra=coded("DUL203"))
            why = FAILED
        if self.ending is None:
            request._settle(why)

    def _await_answer(self) -> None:
        while not isinstance(event := self._next_event(), AssociateAccepted):
            self._set_aside(event)


def _cost(event: ResponseReceived) -> int:
    """Bytes of memory, about."""
    return RESPONSE_COST + len(event.data or b"")
