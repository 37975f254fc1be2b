"""A node on the blocking face: a thread for each association, which runs the scripts itself.

Rules: with a window of 1 the association's own thread calls the handler, so a lone small object costs no hop; a C-MOVE
and requests that may run at once go to threads of their association's own, so that no peer takes those of another, and
their answers back through the association's lock; whatever happens, a request is answered while its association stands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from dulcet.blocking.receiver import Receiver
from dulcet.blocking.sending import StoreMany
from dulcet.blocking.serving import report_in_turn
from dulcet.dimse.messages import CommandField
from dulcet.errors import DulcetError
from dulcet.io.memory import InMemory
from dulcet.io.signals import Signals, stopping
from dulcet.log_codes import coded
from dulcet.node.actions import END, Action, Call, Close, Forward, Next, Receive, ReportHere, Respond, SendHere
from dulcet.node.forwarding import Forwarding
from dulcet.node.requests import Request, Requestor
from dulcet.node.scripts import Script, answer
from dulcet.services.suboperations import GRACE

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.blocking.association import Association
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig
    from dulcet.node.application import Node
    from dulcet.upper_layer.address import Address

__all__ = ["NodeThreads", "run"]

log: Final = logging.getLogger("dulcet.node")

LOOKS: Final = 0.002
"""Seconds between two looks for a cancel while answers are given: a look costs as much as an answer."""

POOL: Final = 16
"""Threads for requests that run at once within one association's window, started as they are needed; more wait."""


class NodeThreads:
    """A node that serves in the background; a context manager."""

    def __init__(
        self,
        node: Node,
        address: Address,
        *,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        shared: SharedPort | None = None,
    ) -> None:
        if node.has_async_handlers:
            raise TypeError("this node has async handlers: start it in an event loop with `await node.start(…)`")
        self.node = node
        self._pools: WeakKeyDictionary[Association, ThreadPoolExecutor] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._receiver = Receiver(
            address,
            self._run,
            policy=node.policy(),
            config=node.config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
            shared=shared,
        )
        node._serving.add(self)
        self.address: Address = self._receiver.address
        """Where it listens, the port that was taken included."""
        for companion in node.companions:
            companion.start()

    def stop(self, seconds: float = 2.0) -> bool:
        """No new associations; those that stand may end for `seconds`, then they are aborted; True when none had to."""
        clean = self._receiver.stop(seconds)
        self.node._serving.discard(self)
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for forwarding in list(_forwardings.get(self.node, ())):
            forwarding.end()
        for companion in self.node.companions:
            companion.stop(seconds)
        return clean

    def interrupt(self) -> None:
        """Abort the associations that stand; callable from any thread."""
        self._receiver.interrupt()

    def __enter__(self) -> NodeThreads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, incoming: IncomingRequest) -> None:
        association = incoming.association
        # A C-MOVE never runs here: while it waits for its destination, this thread hears a cancel.
        if association.window.performed == 1 and incoming.field != CommandField.C_MOVE_RQ:
            run(self.node, incoming)
            return
        with self._lock:
            pool = self._pools.get(association)
            if pool is None:
                for ended in [one for one in self._pools if one.ending is not None]:
                    self._pools.pop(ended).shutdown(wait=False)
                pool = self._pools[association] = ThreadPoolExecutor(POOL, thread_name_prefix="dulcet-node")
        run(self.node, incoming, pool)


def run(node: Node, incoming: IncomingRequest, pool: ThreadPoolExecutor | None = None) -> None:
    """Answer one request: in this thread, or from its handler on in the pool where several may run at once."""
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
    if incoming.field == CommandField.C_GET_RQ:
        pool = None  # it sends on this very association, so it stays with the thread that drives it
    while action is not None:
        if pool is not None and isinstance(action, Call) and not action.here:
            incoming.defer()
            pool.submit(_continue, node, incoming, script, action)
            return
        action = _step(node, incoming, script, action)


def _continue(node: Node, incoming: IncomingRequest, script: Script, action: Action | None) -> None:
    """The rest of a script, in a thread of the pool, which nobody looks at."""
    association = incoming.association
    try:
        while action is not None:
            action = _step(node, incoming, script, action)
    except DulcetError as error:
        if association.ending is None:  # otherwise its own thread tells why it ended
            log.warning("%s: %s: %s", association.peer, incoming.name, error, extra=coded("DUL205"))
            association.interrupt()
    except BaseException:  # SystemExit too: the peer would wait for its answer for ever
        log.exception("%s: %s: unexpected", association.peer, incoming.name, extra=coded("DUL901"))
        association.interrupt()


def _step(node: Node, incoming: IncomingRequest, script: Script, action: Action) -> Action | None:
    """Perform one action; the next one, None at the end of the script."""
    try:
        result = _perform(node, incoming, action)
    except Exception as error:
        try:
            return script.throw(error)
        except StopIteration:
            return None
    try:
        return script.send(result)
    except StopIteration:
        return None


def _perform(node: Node, incoming: IncomingRequest, action: Action) -> Any:
    association = incoming.association
    match action:
        case Respond(status, data, elements):
            association._check_usable()
            incoming.respond(status, data, **elements)
            if not incoming.answered and not incoming.deferred and time.monotonic() >= association.look_again:
                association._look()
                association.look_again = time.monotonic() + LOOKS
        case Call(function, argument):
            return function(argument)
        case ReportHere(sop_class_uid, sop_instance_uid, event_type, dataset, context):
            return report_in_turn(association, sop_class_uid, sop_instance_uid, event_type, dataset, context=context)
        case Next(iterator):
            return next(iterator, END)  # type: ignore[arg-type]
        case Close(iterator):
            _close(iterator)
        case Receive(directory, limit):
            return incoming.save(directory if directory is not None else InMemory(limit))
        case SendHere(items, priority):
            return _sent_here(node, incoming, _sync(items), priority)
        case Forward(address, items, priority, originator, associations):
            job = StoreMany(
                address,
                calling_ae_title=node.ae_title,
                config=node.config,
                associations=associations,
                priority=priority,
                originator=originator,
            )
            forwarding = Forwarding(job, _sync(items))
            _forwardings.setdefault(node, WeakSet()).add(forwarding)
            incoming._request.owner = forwarding.cancel
            if incoming._request.cancelled:  # before anybody was there to hear of it
                forwarding.cancel()
            return forwarding
    return None


_forwardings: Final[WeakKeyDictionary[Node, WeakSet[Forwarding]]] = WeakKeyDictionary()
"""The sub-operations of C-MOVEs that are under way; after a cancel they may be for some seconds."""


def _sent_here(node: Node, incoming: IncomingRequest, items: Iterable[Any], priority: int) -> Iterator[Any]:
    """The sub-operations of a C-GET, on its own association, which this thread drives."""
    deadline: list[float] = []

    def cancel() -> None:
        job.stop()
        deadline.append(time.monotonic() + GRACE)

    job = StoreMany(
        None,
        calling_ae_title=node.ae_title,
        config=node.config,
        priority=priority,
        given=incoming.association,
        until=lambda: deadline[0] if deadline else None,
    )
    incoming._request.owner = cancel
    if incoming._request.cancelled:
        cancel()
    return job.run(items)


def _close(iterator: object) -> None:
    """Let the application clean up; a fault in that does not change the answer."""
    close = getattr(iterator, "close", None)
    if callable(close):
        try:
            close()
        except Exception:
            log.exception("an iterator of a handler cannot be closed", extra=coded("DUL214"))


def _sync(items: Any) -> Iterable[Any] | Iterator[Any]:
    if hasattr(items, "__anext__"):
        raise TypeError("an async handler on the blocking face")
    found: Iterable[Any] = items
    return found


def serve_threads(node: Node, host: str, port: int, drain: float, tls: TLSConfig | SSLContext | None) -> bool:
    """`Node.serve` with threads."""
    with Signals(*stopping()) as signals:
        server = node.threads(host, port, tls=tls)
        signals.wait()
        return server.stop(drain)
