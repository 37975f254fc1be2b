"""Waiting for associations on an event loop: `async for association in server`, or a handler for all their requests.

Rules: a connection costs an entry in a table until its A-ASSOCIATE-RQ came, under ARTIM, and no task; a peer that is
slow, silent or hostile never keeps another one waiting; what is handed out is established.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet.aio.association import Association
from dulcet.aio.pending_connection import PendingConnection
from dulcet.config import AssociationConfig
from dulcet.io.deciding import Deciders
from dulcet.io.sockets import HELD_BACK, listening_sockets
from dulcet.log_codes import coded
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.admission import Admission, log_parting
from dulcet.services.termination import without
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig

__all__ = ["Server", "serve"]

log: Final = logging.getLogger("dulcet.listener")
served: Final = logging.getLogger("dulcet.receiver")

GREETED_AT_ONCE: Final = 2048
"""Connections that may be waiting for their association at once; beyond it the oldest one without a word goes."""

ACCEPTED_AT_ONCE: Final = 64
"""Connections taken before those that are here already are looked at again."""

RESERVE: Final = 0.5
"""Seconds between two tries when the process is out of descriptors."""

GRACE: Final = 2.0
"""Seconds for a peer to release after its last request, when `stop` is called without a time."""


def serve(
    address: str | Address,
    handler: Callable[[Any], object] | None = None,
    *,
    policy: AcceptancePolicy | None = None,
    config: AssociationConfig | None = None,
    maximum_associations: int = 500,
    maximum_per_host: int = 100,
    maximum_per_ae: int | None = None,
    tls: TLSConfig | SSLContext | None = None,
    shared: SharedPort | None = None,
) -> Server:
    """A server on `AET@host:port`; port 0 takes a free one, host `*` all addresses.  Await it, or enter it.

    `address` is that text or an `Address`; its AE title is ours.
    `handler` answers every request, each in a task of its own, a plain function in a thread; without one, take the
    associations with `accept()` or `async for`.
    `policy` says which SOP classes, transfer syntaxes and AE titles are accepted; by default verification and every
    storage class, from anybody who calls us by our AE title.
    `config` holds limits and timers of the associations; by default those of `AssociationConfig()`.
    `maximum_associations` may stand at once, `maximum_per_host` of them from one IP address; more are rejected as
    transient (A-ASSOCIATE-RJ 2, 3, 2).  `maximum_per_ae` bounds those of one calling AE title, which anybody may claim:
    it keeps a peer that leaks them from taking all; None is no bound.
    `tls` secures the connections; the address may bring it along.
    `shared` is a port, used instead of the address' own, from which other processes accept as well; limits are then for
    all together.
    Raises AddressError, TLSConfigError, OSError when it cannot listen, and ValueError for more `maximum_associations`
    than the shared port counts.
    OSError and TLSConfigError come when it is awaited or entered.
    """
    return Server(
        Address.parse(address, tls),
        handler,
        policy=policy,
        config=config,
        maximum_associations=maximum_associations,
        maximum_per_host=maximum_per_host,
        maximum_per_ae=maximum_per_ae,
        shared=shared,
    )


class Server:
    """Listening sockets, and the associations that came from them; made by `serve()`, which explains the parameters."""

    def __init__(
        self,
        address: Address,
        handler: Callable[[Any], object] | None = None,
        *,
        policy: AcceptancePolicy | None = None,
        config: AssociationConfig | None = None,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        shared: SharedPort | None = None,
    ) -> None:
        """`address` is an `Address`, its `tls` included; `handler`, `policy`, `config`, `maximum_associations`,
        `maximum_per_host`, `maximum_per_ae` and `shared` are those of `serve`.  Raises ValueError as `serve` does; it
        listens once it is awaited or entered.
        """
        self.config: AssociationConfig = config or AssociationConfig()
        self.policy: AcceptancePolicy = policy or AcceptancePolicy.storage(address.ae_title)
        self.ae_title: str = address.ae_title
        self.handler = handler
        self.tls: TLSConfig | SSLContext | None = address.tls
        self.handshake_failures = 0
        """TLS handshakes that failed or took too long, those of peers that never said anything left out."""
        self.address: Address = address
        """Where it listens, the port that was taken included."""
        self._admission = Admission(
            self.policy,
            self.config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
            together=shared,
        )
        self._shared = shared
        self._held_until = 0.0  # a connection was left to those who have less in hand; then it is ours
        self._sockets: list[socket.socket] = []
        self._closing = False
        self._pending_connections: dict[PendingConnection, None] = {}  # in the order of their coming
        self._alive: set[Association] = set()
        self._untaken: set[Association] = set()
        self._established: asyncio.Queue[Association | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deciders = Deciders(f"dulcet-decider-{address.port}")
        self._retry: asyncio.TimerHandle | None = None
        self._acceptors: list[asyncio.Task[None]] = []

    @property
    def maximum_associations(self) -> int:
        """Associations that may stand at once; more are rejected as transient."""
        return self._admission.maximum_associations

    @property
    def maximum_per_host(self) -> int:
        """The same from one host."""
        return self._admission.maximum_per_host

    @property
    def maximum_per_ae(self) -> int | None:
        """The same of one calling AE title; None for any number."""
        return self._admission.maximum_per_ae

    @property
    def count(self) -> int:
        """Associations that stand."""
        return self._admission.count

    # ------------------------------------------------------------------ for those who serve

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.handler is None:
            await self.close()
        else:
            await self.stop(GRACE if kind is None else 0.0)

    async def accept(self, timeout: float | None = None) -> Association | None:
        """The next established association; None after `timeout` seconds or when the server was closed."""
        try:
            async with asyncio.timeout(timeout):
                association = await self._established.get()
        except TimeoutError:
            return None
        if association is None:
            self._established.put_nowait(None)  # for the next one who asks
        else:
            self._untaken.discard(association)
        return association

    async def __aiter__(self) -> AsyncIterator[Association]:
        """Established associations, until the server is closed."""
        while (association := await self.accept()) is not None:
            yield association

    async def close(self) -> None:
        """Accept nothing more; associations that were handed out go on, those that nobody took are aborted."""
        self._shut()
        untaken = list(self._untaken)
        self._untaken.clear()
        while not self._established.empty():
            self._established.get_nowait()
        self._established.put_nowait(None)
        await _abort_all(untaken)

    async def stop(self, seconds: float = GRACE) -> bool:
        """No new associations; those that stand may end by themselves for `seconds`, then they are aborted.

        True when none had to be.
        """
        await self.close()
        try:
            async with asyncio.timeout(seconds):
                for association in list(self._alive):
                    await association._finished_by_itself()
                while others := self._tasks - {asyncio.current_task()}:
                    await asyncio.wait(others)
        except TimeoutError:
            pass
        left = list(self._alive)
        await _abort_all(left)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        return not left

    def interrupt(self) -> None:
        """Abort the associations that stand; callable from any thread."""
        for association in list(self._alive):
            association.interrupt()

    # ------------------------------------------------------------------ greeting

    async def _start(self) -> Self:
        if self._sockets or self._closing:
            return self
        self._loop = asyncio.get_running_loop()
        if self.tls is not None:
            from dulcet.io.tls import server_context

            server_context(self.tls)  # what cannot be used shows now
        shared, address = self._shared, self.address
        self._sockets = listening_sockets(address.host, address.port) if shared is None else shared.sockets
        self.address = replace(address, port=self._sockets[0].getsockname()[1])
        self._tell_load()
        self._listen()
        return self

    def _listen(self) -> None:
        self._retry = None
        for sock in self._sockets:
            try:
                self._loop.add_reader(sock, self._accept, sock)
            except NotImplementedError:  # a loop that waits for what was done, not for what can be
                self._acceptors.append(self._loop.create_task(self._accept_one_by_one(sock)))

    def _shut(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._deciders.close()
        if self._retry is not None:
            self._retry.cancel()
        for acceptor in self._acceptors:
            acceptor.cancel()
        for sock in self._sockets:
            if not self._acceptors:
                self._loop.remove_reader(sock)
            sock.close()
        for pending in list(self._pending_connections):
            pending.wire.core.abort(2, 0)
            pending.wire.pump()
            pending.wire.finish()

    def _accept(self, listening: socket.socket) -> None:
        accepted = False
        if self._shared is not None and self._leaves_it_to_others(self._shared):
            return
        for _ in range(ACCEPTED_AT_ONCE if self._shared is None else 1):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if accepted:
                    return  # out of descriptors, with which the kernel does not even look whether anybody is there
                if self._pending_connections:  # who came first and has not said yet what it wants, goes
                    self._dismiss_oldest()
                    return
                log.error(
                    "cannot accept a connection: %s; raise the limit of open files", error.strerror,
                    extra=coded("DUL110"),
                )  # fmt: skip
                self._pause_accepting(RESERVE)
                return
            self._greet(sock)
            accepted = True

    def _leaves_it_to_others(self, shared: SharedPort) -> bool:
        """To those who have less in hand, for a while."""
        now = self._loop.time()
        if not shared.is_ahead() or self._held_until <= now < self._held_until + HELD_BACK:
            self._held_until = 0.0
            return False
        self._held_until = now + HELD_BACK
        self._pause_accepting(HELD_BACK)
        return True

    def _pause_accepting(self, seconds: float) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        self._retry = self._loop.call_later(seconds, self._listen)

    def _tell_load(self) -> None:
        """Those who accept from the same port take the next connection according to this."""
        if self._shared is not None and not self._closing:
            self._shared.set_load(len(self._pending_connections) + self._admission.count)

    async def _accept_one_by_one(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(listening)
            except OSError as error:
                log.error(
                    "cannot accept a connection: %s; raise the limit of open files", error.strerror,
                    extra=coded("DUL110"),
                )  # fmt: skip
                await asyncio.sleep(RESERVE)
            else:
                self._greet(sock)

    def _greet(self, sock: socket.socket) -> None:
        if len(self._pending_connections) >= GREETED_AT_ONCE:
            self._dismiss_oldest()
        sock.setblocking(False)
        try:
            pending = PendingConnection(self, sock)
        except OSError:  # gone already
            sock.close()
            return
        self._pending_connections[pending] = None
        self._tell_load()
        self._run(pending.connect(sock))

    def _dismiss_oldest(self) -> None:
        pending = next(iter(self._pending_connections))
        del self._pending_connections[pending]
        pending.wire.sever()

    def _run(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hand_out(self, pending: PendingConnection) -> None:
        self._pending_connections.pop(pending, None)
        association = Association(pending.wire.core, pending.wire, peer=pending.peer)
        association._tasks = self._tasks
        start = self._loop.time()
        association._on_lost = lambda: self._gone(association, pending, self._loop.time() - start)
        self._alive.add(association)
        if self.handler is not None:
            association.handler = self.handler
        else:
            self._untaken.add(association)
            self._established.put_nowait(association)

    def _gone(self, association: Association, pending: PendingConnection, seconds: float) -> None:
        self._alive.discard(association)
        self._admission.gone(pending.host, pending.calling)
        self._tell_load()
        log_parting(pending.wire.core, pending.peer)
        if self.handler is not None:
            who = f"{association.peer} {association.calling_ae_title!a}"
            if association.ending != "released":
                served.warning("%s: %s", who, without(association.peer, association._error), extra=coded("DUL115"))
            count = association._count
            served.info(
                "%s: %s after %d requests, %.1f s", who, association.ending, count, seconds, extra=coded("DUL116")
            )


async def _abort_all(associations: list[Association]) -> None:
    """A-ABORT on each; their peers have the same moment to close, all together."""
    if associations:
        await asyncio.gather(*(association.abort() for association in associations))
