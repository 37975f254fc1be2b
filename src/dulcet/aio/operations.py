"""What user and provider of an association have in common on an event loop: places in the window, responses to whoever
awaits them, requests to whoever provides, and what is done about those who do not come for theirs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from dulcet.aio.channel import Channel
from dulcet.aio.disk import Disk
from dulcet.aio.protocol import FULL, LENT, UNCLAIMED, Wire
from dulcet.aio.requests import IncomingRequest
from dulcet.aio.response_queue import ResponseQueue
from dulcet.aio.threads import RequestInThread, disk, handlers
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import (
    AnsweredElsewhere,
    CancelReceived,
    DataReceived,
    RequestReceived,
    RequestRefused,
    ResponseReceived,
    StrayResponse,
)
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.reasons import FAILED, UNANSWERED, not_provided
from dulcet.dimse.source import FileSpan
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted, DimseTimeout, DulcetError, ReceiveError
from dulcet.io.instances import Instance
from dulcet.log_codes import coded
from dulcet.services.incoming import log_elsewhere, log_refusal, log_stray
from dulcet.services.invocations import Invocation
from dulcet.services.results import Response, response_of
from dulcet.services.termination import ENDINGS
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import AssociateAccepted
from dulcet.upper_layer.negotiation import PresentationContext

if TYPE_CHECKING:
    from dulcet.aio.association import Association

__all__ = ["Operations"]

log: Final = logging.getLogger("dulcet.association")

DRAIN: Final = 5.0
"""Seconds for a peer to end an operation that was cancelled; after that the association is aborted."""


class Operations(Channel):
    """Operations of both sides under way on one association."""

    def __init__(self, core: DimseAssociation, wire: Wire, *, peer: str, address: Address | None = None) -> None:
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
        self._full: ResponseQueue | None = None
        self._lingering: list[tuple[Operation, Instance]] = []  # answered before they had left
        self._retrieving = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_lost: Callable[[], object] | None = None

    # ------------------------------------------------------------------ operations

    async def _ask(self, invocation: Invocation) -> Response:
        """The one response of an operation that has no pending ones."""
        response_queue = ResponseQueue(self)
        operation = await self._invoke(invocation, response_queue)
        try:
            event = await response_queue.get()
        except BaseException:
            self._leave(operation, response_queue)
            raise
        return response_of(event)

    async def _invoke(self, invocation: Invocation, response_queue: ResponseQueue) -> Operation:
        await self._place()
        operation = self._core.invoke(invocation.context, invocation.command, invocation.data, owner=response_queue)
        self._wire.pump()
        return operation

    async def _prepare(self, instance: Instance) -> tuple[PresentationContext, memoryview | FileSpan, str]:
        """The context for an instance, its data set as it is or converted, and the transfer syntax of that."""
        core = self._core
        class_uid, syntax = instance.sop_class_uid, instance.transfer_syntax
        context = core.context_for(class_uid, syntax)
        if context is not None:
            return context, instance.data if instance.data is not None else await self._opened(instance), syntax
        accepted = [found.transfer_syntax for found in core.contexts_for(class_uid)]
        if not accepted:
            core.need_context(class_uid, syntax)
        data, syntax = await self._loop.run_in_executor(disk, instance.converted, accepted)
        return core.need_context(class_uid, syntax), data, syntax

    async def _opened(self, instance: Instance) -> memoryview | FileSpan:
        """The data set of a file, read or to be read from there; a disk may be slow to find it."""
        opening = Disk.of(self._loop).do(instance.open)
        try:
            return cast("memoryview | FileSpan", await asyncio.shield(opening))
        except asyncio.CancelledError:

            def close(opened: asyncio.Future[Any]) -> None:
                if opened.exception() is None:
                    instance.close()

            opening.add_done_callback(close)
            raise

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

    def _leave(self, operation: Operation, response_queue: ResponseQueue, *, cancel: bool = False) -> None:
        """Nobody waits for an operation any more; a peer that goes on and on with it is aborted."""
        response_queue.abandon()
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

    def _hold_for(self, response_queue: ResponseQueue) -> None:
        self._full = response_queue
        self._wire.hold(FULL)

    def _emptied(self, response_queue: ResponseQueue) -> None:
        if self._full is response_queue:
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
        incoming = request.owner = IncomingRequest(cast("Association", self), request)
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
            log.warning("%s: refused %s, nobody provides it here", self.peer, incoming.name, extra=coded("DUL201"))
            incoming.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(incoming.command))
        self._await_claim(incoming)

    def _await_claim(self, incoming: IncomingRequest) -> None:
        """Look at nothing behind a data set that nobody takes yet."""
        if incoming.streams and incoming._sink is None and not self._leaving:
            self._wire.hold(UNCLAIMED)
        if self._wire.held & LENT:
            self._wire.go_on(LENT)

    def _start(self, handler: Callable[[Any], object], incoming: IncomingRequest) -> None:
        task = _begun(self._loop, self._serve(handler, incoming))
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, handler: Callable[[Any], object], request: IncomingRequest) -> None:
        """Have a handler answer a request; what it leaves unanswered failed."""
        why = UNANSWERED
        try:
            await self._call(handler, request)
        except ReceiveError as error:
            log.error(
                "%s: refused %s with %04XH: %s", self.peer, request.name, error.status, error, extra=coded("DUL202")
            )
            if not request.answered and self.ending is None:
                request.respond(error.status, **error.elements)
        except DulcetError as error:
            if self.ending is None:
                log.exception("%s: the handler of %s failed", self.peer, request.name, extra=coded("DUL203"))
                why = FAILED
            else:
                log.debug("%s: %s was not answered: %s", self.peer, request.name, error)
        except Exception:
            log.exception("%s: the handler of %s failed", self.peer, request.name, extra=coded("DUL203"))
            why = FAILED
        request._settle(why)

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
            log_stray(event, self.peer)
        elif kind is RequestRefused:
            log_refusal(event, self.peer)
        elif kind is AnsweredElsewhere:
            log_elsewhere(event, self.peer)
        elif kind is CancelReceived:
            log.debug("%s: C-CANCEL for message %d", self.peer, event.message_id)
            if event.request is not None and event.request.owner._on_cancel is not None:
                event.request.owner._on_cancel()


def _begun(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that has begun already where that is possible: one that never waits costs no turn of the loop."""
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


def _wake(futures: Iterable[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
