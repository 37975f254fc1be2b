"""An association on an event loop, as requestor or acceptor, service user and provider."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.channel import Channel
from dulcet.aio.connecting import connect
from dulcet.aio.conversation import Conversation, Keeper, Matches
from dulcet.aio.mailbox import Mailbox
from dulcet.aio.protocol import FULL, LENT, UNCLAIMED, Wire
from dulcet.aio.requests import IncomingRequest
from dulcet.aio.threads import RequestInThread, disk, handlers
from dulcet.config import AssociationConfig
from dulcet.dimse.association import Association as Core
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.events import CancelReceived, DataReceived, RequestReceived, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.source import FileSpan
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted, DimseTimeout, DulcetError, ReceiveError, TLSError
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.store_directory import StoreDirectory
from dulcet.services import invocations
from dulcet.services.endings import ENDINGS
from dulcet.services.extended import Extended
from dulcet.services.identity import check_confirmed
from dulcet.services.invocations import Invocation
from dulcet.services.proposals import association_request
from dulcet.services.results import Response, Retrieved, Sent
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import AssociateAccepted
from dulcet.upper_layer.items import CommonExtendedNegotiation, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import PresentationContext, Proposal

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from pydicom.dataset import Dataset

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
    handler: Callable[[Any], object] | None = None,
    tls: TLSConfig | SSLContext | None = None,
) -> _Associating:
    """An established association with the peer at `AET@host:port`; use it as a context manager.

    `contexts` is what to propose; by default verification, query/retrieve, worklist and the storage classes.
    `identity` says who asks (`UserIdentity`), `extended` and `common_extended` negotiate by SOP class, `user_items` are
    further sub-items of user information, as they are.
    `handler` answers requests that the peer makes on it, such as N-EVENT-REPORT.
    `tls` secures the connection; the address may bring it along.
    Raises AddressError, PeerUnreachable, TLSError, TLSConfigError, AssociationRefused, AssociationAborted,
    AssociationClosed, DimseTimeout, IdentityUnconfirmed.
    """
    address = Address.parse(address, tls)
    config = config or AssociationConfig()
    core = Core(requestor=True, config=config)
    core.associate(
        association_request(
            address,
            calling_ae_title=calling_ae_title,
            contexts=contexts,
            config=config,
            identity=identity,
            extended=extended,
            common_extended=common_extended,
            user_items=user_items,
        )
    )
    return _Associating(core, address, handler)


class _Associating:
    """An association to be: await it, or enter it."""

    def __init__(self, core: Core, address: Address, handler: Callable[[Any], object] | None) -> None:
        self._core = core
        self._address = address
        self._handler = handler
        self._association: Association | None = None

    def __await__(self) -> Generator[Any, None, Association]:
        return self._associate().__await__()

    async def __aenter__(self) -> Association:
        self._association = await self._associate()
        return self._association

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._association is not None
        await self._association.__aexit__(kind, error, trace)

    async def _associate(self) -> Association:
        core, address = self._core, self._address
        loop = asyncio.get_running_loop()
        wire = self._wire(loop)
        association = Association(core, wire, peer=str(address), address=address)
        association.handler = self._handler
        sock = await connect(loop, address.host, address.port, core.config.timers.connect)
        try:
            await loop.create_connection(lambda: wire, sock=sock)
        except BaseException:
            sock.close()
            raise
        try:
            while not association._accepted:
                association._check_usable()
                await association._wait()
            check_confirmed(association.request, association.accept)
        except BaseException:
            await association.abort()
            raise
        return association

    def _wire(self, loop: asyncio.AbstractEventLoop) -> Wire:
        core, address = self._core, self._address
        if address.tls is None:
            return Wire(core, loop)
        from dulcet.aio.secure import SecureWire
        from dulcet.io.secure_stream import dial

        stream = dial(address.tls, address.host, str(address))
        seconds = core.config.timers.tls
        late = TLSError(f"{address}: no TLS handshake within {seconds:g} s; does it speak TLS?")
        return SecureWire(core, loop, lambda: stream, (seconds, late))


class Association(Channel):
    """One association; made by `associate()` or by a server, for the tasks of one loop, except for `interrupt()`."""

    def __init__(self, core: Core, wire: Wire, *, peer: str, address: Address | None = None) -> None:
        super().__init__(core, wire, peer=peer, address=address)
        self.handler: Callable[[Any], object] | None = None
        """Answers requests of the peer, each in a task of its own; a plain function is called in a thread.

        Without one a requestor answers 0122H, and an acceptor hands them to `requests()`.
        """
        self._accepted = False
        self._count = 0  # requests that came
        self._requests: deque[IncomingRequest] = deque()
        self._callers: deque[asyncio.Future[Any]] = deque()  # those who wait in requests()
        self._iterators = 0
        self._slots: deque[asyncio.Future[Any]] = deque()  # those who wait for a place in the operations window
        self._promised = 0  # places given to those who wait, not yet taken
        self._watchers: list[asyncio.Future[Any]] = []  # those who wait for any operation to end
        self._drains: dict[Operation, asyncio.TimerHandle] = {}  # those that were left early
        self._full: Mailbox | None = None
        self._lingering: list[tuple[Operation, Instance]] = []  # answered before they had left
        self._retrieving = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_lost: Callable[[], object] | None = None

    # ------------------------------------------------------------------ as user

    async def echo(self) -> Response:
        """C-ECHO (PS3.7 section 9.1.5)."""
        return await self._ask(invocations.echo(self._core))

    async def store(
        self, what: InstanceSource, *, priority: int = MEDIUM, originator: tuple[str, int] | None = None
    ) -> Sent:
        """C-STORE of a path, open file, bytes or Dataset (PS3.7 section 9.1.1), converted if need be and possible.

        Raises InstanceError for what cannot be sent, NoPresentationContext when the peer did not accept its class.
        """
        instance = await self._loop.run_in_executor(disk, examine, what)
        mailbox = Mailbox(self)
        operation = None
        try:
            self._check_usable()
            context, data, syntax = await self._prepare(instance)
            await self._place()
            operation = self._core.store(
                context,
                instance.sop_class_uid,
                instance.sop_instance_uid,
                data,
                priority=priority,
                originator=originator,
                owner=mailbox,
            )
            self._wire.pump()
            event = await mailbox.get()
        except BaseException:
            if operation is not None:
                self._leave(operation, mailbox)
            raise
        finally:
            self._let_go(operation, instance)
        uids = (instance.sop_class_uid, instance.sop_instance_uid)
        return Sent(what, _status(event), None, *uids, syntax, len(data))

    def store_many(
        self, what: Iterable[InstanceSource], *, associations: int = 1, window: int = 8, priority: int = MEDIUM
    ) -> AsyncIterator[Sent]:
        """C-STORE of many: contexts are taken from the files, and more associations are made where this one lacks some.

        Yields one `Sent` for each, in the order of their answers; what cannot be sent fails for itself alone.
        `associations` send in parallel; `window` operations are proposed to be outstanding on each.  An acceptor sends
        on this association alone.
        """
        from dulcet.aio.sending import StoreMany

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
        **keys: Any,
    ) -> AsyncIterator[Dataset]:
        """C-FIND (PS3.4 C.4.1): the matches, one by one as they come; leaving early cancels.

        `keys` are keywords with values to match, None or "" to be returned; `identifier` adds to them or stands alone.
        `level` is PATIENT, STUDY, SERIES or IMAGE; `model` a name of `dulcet.services.models.MODELS`.
        Raises StatusError when it ends with anything but success.
        """

        def invocation() -> Invocation:
            return invocations.find(self._core, identifier, keys, level=level, model=model, priority=priority)

        return Matches(Conversation(self, invocation))

    async def get(
        self,
        identifier: Dataset | None = None,
        *,
        to: str | PathLike[str] | StoreDirectory | Callable[[Any], object],
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-GET (PS3.4 C.4.3): the instances come back on this association, into the folder `to` or a handler.

        An answer of `find` can be given as it is.  `progress` is called after each pending response.
        """
        invocation = invocations.get(self._core, identifier, keys, level=level, model=model, priority=priority)
        async with self._retrieving:  # what comes does not say which of several asked for it
            return await self._retrieve(invocation, await self._keeper(to), progress)

    async def move(
        self,
        identifier: Dataset | None = None,
        *,
        destination: str,
        receive: str | Address | None = None,
        to: str | PathLike[str] | StoreDirectory | Callable[[Any], object] | None = None,
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-MOVE (PS3.4 C.4.2): the peer sends the instances to the AE title `destination`.

        `receive` is where this side listens for them, as `AET@host:port`, from before it asks until all came; `to` is
        the folder or handler that takes them.
        """
        invocation = invocations.move(
            self._core, destination, identifier, keys, level=level, model=model, priority=priority
        )
        if receive is None:
            return await self._retrieve(invocation, None, progress)
        if to is None:
            raise ValueError("move(receive=…) needs `to`, a folder or a handler for what comes")
        from dulcet.aio.server import serve

        keeper = await self._keeper(to)
        try:
            async with serve(receive, keeper):
                result = await self._retrieve(invocation, None, progress)
        finally:
            keeper.close()
        result.received = keeper.received
        return result

    async def n_event_report(
        self, sop_class_uid: str, sop_instance_uid: str, event_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-EVENT-REPORT (PS3.7 section 10.1.1)."""
        return await self._normalized(
            CommandField.N_EVENT_REPORT_RQ,
            sop_class_uid,
            sop_instance_uid,
            dataset,
            context=context,
            type_id=event_type,
        )

    async def n_get(
        self, sop_class_uid: str, sop_instance_uid: str, attributes: Sequence[str | int] = (), *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-GET (PS3.7 section 10.1.2); no `attributes` asks for all."""
        return await self._normalized(
            CommandField.N_GET_RQ, sop_class_uid, sop_instance_uid, context=context, attributes=attributes
        )

    async def n_set(
        self, sop_class_uid: str, sop_instance_uid: str, dataset: Dataset, *, context: str | None = None
    ) -> Response:
        """N-SET (PS3.7 section 10.1.3)."""
        return await self._normalized(
            CommandField.N_SET_RQ, sop_class_uid, sop_instance_uid, dataset, context=context
        )

    async def n_action(
        self, sop_class_uid: str, sop_instance_uid: str, action_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-ACTION (PS3.7 section 10.1.4)."""
        return await self._normalized(
            CommandField.N_ACTION_RQ, sop_class_uid, sop_instance_uid, dataset, context=context, type_id=action_type
        )

    async def n_create(
        self, sop_class_uid: str, sop_instance_uid: str | None = None, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-CREATE (PS3.7 section 10.1.5); without an instance UID the peer makes one and its response names it."""
        return await self._normalized(
            CommandField.N_CREATE_RQ, sop_class_uid, sop_instance_uid, dataset, context=context
        )

    async def n_delete(self, sop_class_uid: str, sop_instance_uid: str, *, context: str | None = None) -> Response:
        """N-DELETE (PS3.7 section 10.1.6)."""
        return await self._normalized(CommandField.N_DELETE_RQ, sop_class_uid, sop_instance_uid, context=context)

    async def _normalized(self, field: CommandField, *arguments: Any, **options: Any) -> Response:
        return await self._ask(invocations.normalized(self._core, field, *arguments, **options))

    async def _keeper(self, to: Any) -> Keeper:
        return await self._loop.run_in_executor(disk, Keeper.of, to)

    async def _retrieve(
        self, invocation: Invocation, keeper: Keeper | None, progress: Callable[[Retrieved], object] | None
    ) -> Retrieved:
        result = Retrieved(Status.PENDING)
        handler = self.handler
        if keeper is not None:
            self.handler = keeper
        conversation = Conversation(self, lambda: invocation)
        try:
            async for response in conversation:
                result.update(response)
                if response.status.is_pending and progress is not None:
                    progress(result)
        finally:
            self.handler = handler
            conversation.leave()
            if keeper is not None:
                keeper.close()
                result.received = keeper.received
        return result

    # ------------------------------------------------------------------ operations

    async def _ask(self, invocation: Invocation) -> Response:
        """The one response of an operation that has no pending ones."""
        mailbox = Mailbox(self)
        operation = await self._invoke(invocation, mailbox)
        try:
            event = await mailbox.get()
        except BaseException:
            self._leave(operation, mailbox)
            raise
        return self._response(operation, event)

    async def _invoke(self, invocation: Invocation, mailbox: Mailbox) -> Operation:
        await self._place()
        operation = self._core.invoke(invocation.context, invocation.command, invocation.data, owner=mailbox)
        self._wire.pump()
        return operation

    async def _prepare(self, instance: Instance) -> tuple[PresentationContext, memoryview | FileSpan, str]:
        """The context for an instance, its data set as it is or converted, and the transfer syntax of that."""
        core = self._core
        class_uid, syntax = instance.sop_class_uid, instance.transfer_syntax
        context = core.context_for(class_uid, syntax)
        if context is not None:
            return context, instance.open(), syntax
        accepted = [found.transfer_syntax for found in core.contexts_for(class_uid)]
        if not accepted:
            core.need_context(class_uid, syntax)
        data, syntax = await self._loop.run_in_executor(disk, instance.converted, accepted)
        return core.need_context(class_uid, syntax), data, syntax

    def _response(self, operation: Operation, event: ResponseReceived) -> Response:
        return Response(_status(event), event.command, event.data, operation.context.transfer_syntax)

    def _has_place(self) -> bool:
        """True when one more operation may be outstanding, and nobody came first."""
        return not self._slots and self._core.invocable > self._promised

    async def _place(self) -> None:
        """Wait until one more operation may be outstanding; first come, first served."""
        self._check_usable()
        if self._has_place():
            return
        future = self._loop.create_future()
        self._slots.append(future)
        self._reconsider()
        try:
            await self._suspend(future)
        except BaseException:
            if future in self._slots:
                self._slots.remove(future)
            elif future.done() and not future.cancelled() and future.result():
                self._promised -= 1
                self._grant()
            raise
        if future.result():
            self._promised -= 1
        self._check_usable()

    def _grant(self) -> None:
        """Promise the free places to those who wait for one."""
        while self._slots and self._core.invocable > self._promised:
            future = self._slots.popleft()
            if not future.done():
                self._promised += 1
                future.set_result(True)

    def _leave(self, operation: Operation, mailbox: Mailbox, *, cancel: bool = False) -> None:
        """Nobody waits for an operation any more; a peer that goes on and on with it is aborted."""
        mailbox.abandon()
        if self._core.outstanding.get(operation.message_id) is not operation or not self.is_established:
            return
        if cancel:
            self._core.cancel(operation)
            self._wire.pump()
        if operation not in self._drains:
            self._drains[operation] = self._loop.call_later(DRAIN, self._give_up, operation)

    def _give_up(self, operation: Operation) -> None:
        if self._core.outstanding.get(operation.message_id) is operation:
            message = f"{self.peer}: aborted, the peer did not end an operation that was left"
            self._end_here(AssociationAborted(0, 0, message, by_us=True))

    async def _settled(self) -> None:
        while self.ending is None and self._drains:
            future = self._loop.create_future()
            self._watchers.append(future)
            await self._suspend(future)

    def _let_go(self, operation: Operation | None, instance: Instance) -> None:
        """Close an instance's file, as soon as every byte of it has left."""
        dropped = self._wire.lost or self.ending in ("aborted", "timeout", "closed")
        if operation is None or operation.departed or dropped:
            instance.close()
        else:
            self._lingering.append((operation, instance))

    def _sent(self) -> None:
        """Something has left."""
        if self._lingering:
            still = [(operation, instance) for operation, instance in self._lingering if not operation.departed]
            for operation, instance in self._lingering:
                if operation.departed:
                    instance.close()
            self._lingering = still

    def _lost(self) -> None:
        for drain in self._drains.values():
            drain.cancel()
        for _, instance in self._lingering:
            instance.close()
        self._lingering.clear()
        super()._lost()
        if self._on_lost is not None:
            self._on_lost()

    # ------------------------------------------------------------------ back-pressure

    def _somebody_waits(self) -> bool:
        """True while an operation waits for its turn or its response."""
        return bool(self._slots) or any(operation.owner.is_awaited for operation in self._core.outstanding.values())

    def _hold_for(self, mailbox: Mailbox) -> None:
        self._full = mailbox
        self._wire.hold(FULL)

    def _emptied(self, mailbox: Mailbox) -> None:
        if self._full is mailbox:
            self._full = None
            self._wire.go_on(FULL)

    def _reconsider(self) -> None:
        """Somebody began to wait: what holds us up may give way."""
        if self._full is not None and not self._full.is_full:
            self._emptied(self._full)

    def _stalled(self) -> None:
        """Nothing was looked at for as long as a response may take."""
        if self._somebody_waits():
            self._end_here(DimseTimeout(f"{self.peer}: nobody takes what came before the response that is waited for"))

    # ------------------------------------------------------------------ as provider

    async def requests(self) -> AsyncIterator[IncomingRequest]:
        """The peer's requests, until it releases; one that is neither answered nor deferred by then gets 0110H.

        Ends on release; raises AssociationAborted, AssociationClosed or DimseTimeout on any other end.
        """
        self._iterators += 1
        try:
            while True:
                while not self._requests or self.ending is not None:
                    if self.ending == "released":
                        return
                    self._check_usable()
                    future = self._loop.create_future()
                    self._callers.append(future)
                    try:
                        await self._suspend(future)
                    finally:
                        if future in self._callers:
                            self._callers.remove(future)
                request = self._requests.popleft()
                yield request
                request._settle()
        finally:
            self._iterators -= 1

    def _request_received(self, request: Request) -> None:
        incoming = request.owner = IncomingRequest(self, request)
        self._count += 1
        if self._leaving:
            return
        if self._callers or (self.handler is None and (self._iterators or not self._core.requestor)):
            self._requests.append(incoming)
            while self._callers:
                future = self._callers.popleft()
                if not future.done():
                    future.set_result(None)
                    break
        elif self.handler is not None:
            self._start(self.handler, incoming)
        else:
            log.warning("%s: refused %s, nobody provides it here", self.peer, incoming.name)
            incoming.respond(Status.SOP_CLASS_NOT_SUPPORTED)
        self._await_claim(incoming)

    def _await_claim(self, incoming: IncomingRequest) -> None:
        """Look at nothing behind a data set that nobody takes yet."""
        if incoming.streams and incoming._sink is None and not self._leaving:
            self._wire.hold(UNCLAIMED)
        if self._wire.held & LENT:
            self._wire.go_on(LENT)

    def _start(self, handler: Callable[[Any], object], incoming: IncomingRequest) -> None:
        task = self._loop.create_task(self._serve(handler, incoming))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, handler: Callable[[Any], object], request: IncomingRequest) -> None:
        """Have a handler answer a request; what it leaves unanswered failed."""
        try:
            await self._call(handler, request)
        except ReceiveError as error:
            log.error("%s: refused %s with %04XH: %s", self.peer, request.name, error.status, error)
            if not request.answered and self.ending is None:
                request.respond(error.status)
        except DulcetError as error:
            if self.ending is None:
                log.exception("%s: the handler of %s failed", self.peer, request.name)
            else:
                log.debug("%s: %s was not answered: %s", self.peer, request.name, error)
        except Exception:
            log.exception("%s: the handler of %s failed", self.peer, request.name)
        request._settle()

    async def _call(self, handler: Callable[[Any], object], request: IncomingRequest) -> None:
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            result: Any = handler(request)
        else:
            result = await self._loop.run_in_executor(handlers, handler, RequestInThread(request))
        if inspect.isawaitable(result):
            await result

    # ------------------------------------------------------------------ events

    def _dispatch(self, event: Any) -> None:
        """One event of the core, to whom it concerns."""
        kind = type(event)
        if kind is DataReceived:
            event.request.owner._take(event)
        elif kind is ResponseReceived:
            event.operation.owner.put(event)
            if event.is_final:
                if self._drains and (drain := self._drains.pop(event.operation, None)) is not None:
                    drain.cancel()
                self._grant()
                _wake(self._watchers)
                self._watchers.clear()
        elif kind is RequestReceived:
            self._request_received(event.request)
        elif kind in ENDINGS:
            self._ended(event)
        elif kind is AssociateAccepted:
            self._accepted = True
            _wake(self._waiting)
        elif kind is StrayResponse:
            log.warning("%s: %s answers no request of ours", self.peer, event.command.name)
        elif kind is CancelReceived:
            log.debug("%s: C-CANCEL for message %d", self.peer, event.message_id)


def _wake(futures: Iterable[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _status(event: ResponseReceived) -> Status:
    status = event.command.status
    return Status(Status.PROCESSING_FAILURE if status is None else status)
