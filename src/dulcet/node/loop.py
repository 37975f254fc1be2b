"""A node on the asyncio face: each request is a task that runs its script.

Rules: an async handler is awaited; a plain one runs in a thread, and what it yields is fetched from there in small
lots, so that a hop serves many answers; nothing that may wait runs in the loop's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from dulcet.aio.sending import Sending, StoreMany
from dulcet.aio.server import Server, serve
from dulcet.aio.serving import report_in_turn
from dulcet.aio.threads import handlers
from dulcet.io.memory import InMemory
from dulcet.io.signals import stopping
from dulcet.node.actions import (
    END,
    Action,
    Call,
    Close,
    Forward,
    Next,
    Receive,
    ReportHere,
    Respond,
    SendHere,
)
from dulcet.node.requests import Request, Requestor
from dulcet.node.scripts import answer

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.aio.requests import IncomingRequest
    from dulcet.io.tls import TLSConfig
    from dulcet.node.application import Node
    from dulcet.upper_layer.address import Address

__all__ = ["NodeServer", "run"]

log: Final = logging.getLogger("dulcet.node")

LOT: Final = 64
"""Items fetched from a plain generator by one hop to its thread."""

LOT_SECONDS: Final = 0.005
"""A slow generator gives what it has after this time, so that the first answer is not held up."""


class NodeServer(AbstractAsyncContextManager["NodeServer"]):
    """A node that serves in the running event loop."""

    def __init__(
        self,
        node: Node,
        address: Address,
        *,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
    ) -> None:
        self.node = node

        async def handler(incoming: IncomingRequest) -> None:
            await run(node, incoming)

        self._server: Server = serve(
            address,
            handler,
            policy=node.policy(),
            config=node.config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
        )
        node._serving.add(self)

    @property
    def address(self) -> Address:
        """Where it listens, the port that was taken included."""
        return self._server.address

    def __await__(self) -> Generator[Any, None, NodeServer]:
        return self.start().__await__()

    async def start(self) -> NodeServer:
        """Listen; OSError when that is not possible."""
        await self._server
        for companion in self.node.companions:
            await asyncio.to_thread(companion.start)  # it may have to read a store
        return self

    async def stop(self, seconds: float = 2.0) -> bool:
        """No new associations; those that stand may end for `seconds`, then they are aborted; True when none had to."""
        clean = await self._server.stop(seconds)
        for sending in list(_sendings.get(self.node, ())):
            await sending.end()
        self.node._serving.discard(self)
        for companion in self.node.companions:
            await asyncio.to_thread(companion.stop, seconds)
        return clean

    async def __aenter__(self) -> NodeServer:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def run(node: Node, incoming: IncomingRequest) -> None:
    """Answer one request."""
    association = incoming.association
    core = incoming._request
    request = Request(
        Requestor(
            association.calling_ae_title,
            association.called_ae_title,
            association.peer,
            association.identity,
            association.extended,
        ),
        core.context,
        core.command,
        core,
    )
    script = answer(node, request)
    action = next(script, None)
    while action is not None:
        try:
            try:
                result = await _perform(node, incoming, action)
            except Exception as error:
                action = script.throw(error)
            else:
                action = script.send(result)
        except StopIteration:
            return


async def _perform(node: Node, incoming: IncomingRequest, action: Action) -> Any:
    association = incoming.association
    match action:
        case Respond(status, data, elements):
            await incoming.respond(status, data, **elements)
        case Call(function, argument):
            return await _call(function, argument)
        case Next(iterator):
            return await _next(iterator)
        case Close(iterator):
            await _close(iterator)
        case Receive(directory, limit):
            return await incoming.save(directory if directory is not None else InMemory(limit))
        case ReportHere(sop_class_uid, sop_instance_uid, event_type, dataset, context):
            return await report_in_turn(
                association, sop_class_uid, sop_instance_uid, event_type, dataset, context=context
            )
        case SendHere(items, priority):
            job = StoreMany(
                None, calling_ae_title=node.ae_title, config=node.config, priority=priority, given=association
            )
            return _cancellable(node, incoming, job.run(items))
        case Forward(address, items, priority, originator, associations):
            job = StoreMany(
                address,
                calling_ae_title=node.ae_title,
                config=node.config,
                associations=associations,
                priority=priority,
                originator=originator,
            )
            return _cancellable(node, incoming, job.run(items))
    return None


_sendings: Final[WeakKeyDictionary[Node, WeakSet[Sending]]] = WeakKeyDictionary()
"""The sub-operations of retrieves that are under way; after a cancel they may be for some seconds."""


def _cancellable(node: Node, incoming: IncomingRequest, sending: Sending) -> Sending:
    """Sub-operations that end soon after a cancel, one that came already included."""
    _sendings.setdefault(node, WeakSet()).add(sending)
    incoming._on_cancel = sending.cancel
    if incoming._request.cancelled:
        sending.cancel()
    return sending


async def _call(function: Callable[..., Any], argument: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(argument)
    if inspect.isasyncgenfunction(function) or getattr(function, "immediate", False):
        return function(argument)
    result = await _in_thread(function, argument)
    if inspect.isawaitable(result):
        return await result
    return _Lots(result) if inspect.isgenerator(result) else result


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(handlers, function, *arguments)


class _Lots(AsyncIterator[Any]):
    """A plain generator, fetched in lots from a thread."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._fetched: deque[Any] = deque()
        self._over = False
        self._failure: BaseException | None = None

    async def __anext__(self) -> Any:
        if not self._fetched and not self._over:
            await _in_thread(self._fetch)
        if self._fetched:
            return self._fetched.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Have the generator clean up, in its thread."""
        self._over = True
        self._fetched.clear()
        await _in_thread(self._items.close)  # type: ignore[attr-defined]

    def _fetch(self) -> None:
        until = time.monotonic() + LOT_SECONDS
        try:
            for item in self._items:
                self._fetched.append(item)
                if len(self._fetched) >= LOT or time.monotonic() >= until:
                    return
        except Exception as error:  # it is raised when what came before it was taken
            self._failure = error
        self._over = True


async def _next(iterator: Any) -> Any:
    if hasattr(iterator, "__anext__"):
        return await anext(iterator, END)
    if inspect.isgenerator(iterator):
        return await _in_thread(next, iterator, END)
    return next(iterator, END)  # a list or the like


async def _close(iterator: Any) -> None:
    if hasattr(iterator, "aclose"):
        await iterator.aclose()
    elif inspect.isgenerator(iterator):
        await _in_thread(iterator.close)


def serve_loop(node: Node, host: str, port: int, drain: float, tls: TLSConfig | SSLContext | None) -> bool:
    """`Node.serve` in an event loop."""

    async def serve_until_signal() -> bool:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; a thread that is not the main one
            for number in stopping():
                loop.add_signal_handler(number, stop.set)
        server = await node.start(host, port, tls=tls)
        try:
            await stop.wait()
        finally:
            clean = await server.stop(drain)
        return clean

    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve_until_signal())
    return bool(uvloop.run(serve_until_signal()))
