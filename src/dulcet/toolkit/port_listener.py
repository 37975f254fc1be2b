"""One port for several storage listeners: who asks waits in a hall for the listener whose AE title was called.

Rules: a call goes to a listener that answers to its title, whichever of those waits; one for a title that nobody has
goes to any, who refuses it; listeners that share a port share its TLS.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from dulcet.blocking.accepting import Acceptor, Answer, Parted
from dulcet.blocking.association import Association
from dulcet.blocking.listener import Listener
from dulcet.blocking.pending_connection import PendingConnection
from dulcet.config import AssociationConfig
from dulcet.errors import TLSConfigError
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.pdu import AssociateRQ

if TYPE_CHECKING:
    import socket

    from dulcet.io.shared_port import SharedPort

__all__ = ["PendingRequest", "PortListener", "Titles"]

UNANSWERED: Final = (2, 3, 1)
"""Transient, temporary congestion: nobody waited for a connection in time."""

Titles = frozenset[str] | None
"""The AE titles that a listener answers to; None for any."""


class PendingRequest:
    """Somebody who wants an association, and waits to hear whether it gets one."""

    def __init__(self, request: AssociateRQ, host: str, seconds: float) -> None:
        self.request = request
        self.host = host
        self.answer: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.association: queue.SimpleQueue[Association | None] = queue.SimpleQueue()
        self._seconds = seconds

    def say(self, answer: Answer) -> Association | None:
        """Accept or reject; the association, None where there is none."""
        self.answer.put(answer)
        with contextlib.suppress(queue.Empty):
            return self.association.get(timeout=self._seconds)
        return None

    def asks_for(self, titles: Titles) -> bool:
        """True where it called one of these AE titles."""
        return titles is None or self.request.called in titles


class Hall:
    """Those who asked, and the listeners that one of them may go to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: list[PendingRequest] = []
        self._listeners: list[Titles] = []

    def join(self, titles: Titles) -> None:
        """One listener more."""
        with self._changed:
            self._listeners.append(titles)

    def leave(self, titles: Titles) -> bool:
        """One listener less; True when it was the last one."""
        with self._changed:
            self._listeners.remove(titles)
            self._changed.notify_all()  # who called it alone is now anybody's, to be refused
            return not self._listeners

    def put(self, pending: PendingRequest) -> None:
        with self._changed:
            self._pending.append(pending)
            self._changed.notify_all()

    def wake(self) -> None:
        """Have all who wait look whether they still want to."""
        with self._changed:
            self._changed.notify_all()

    def empty(self) -> bool:
        with self._changed:
            return not self._pending

    def get(self, titles: Titles, timeout: float | None, given_up: Callable[[], bool]) -> PendingRequest | None:
        """The first who may go to a listener; None after `timeout` seconds or once that has given up."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or self._first(titles) is not None, timeout)
            pending = None if given_up() else self._first(titles)
            if pending is not None:
                self._pending.remove(pending)
            return pending

    def _first(self, titles: Titles) -> PendingRequest | None:
        for pending in self._pending:
            if pending.asks_for(titles) or not any(pending.asks_for(others) for others in self._listeners):
                return pending
        return None


class PortListener(Listener):
    """Listens on a port for all storage listeners there, and has whoever waits first decide about who comes."""

    _all: Final[dict[tuple[str, int], PortListener]] = {}
    _one_at_a_time: Final = threading.Lock()

    def __init__(self, address: Address, config: AssociationConfig) -> None:
        self.hall = Hall()
        self.pending_requests: dict[PendingConnection, PendingRequest] = {}
        super().__init__(address, policy=AcceptancePolicy(admission_hook=lambda request: None), config=config)

    @classmethod
    def at(cls, address: Address, config: AssociationConfig, titles: Titles) -> PortListener:
        """The one who listens there, if need be from now on.  TLSConfigError where it does so with other TLS."""
        with cls._one_at_a_time:
            cls._check(address)
            found = cls._all.get((address.host, address.port)) or cls(address, config)
            cls._all[address.host, found.address.port] = found
            found.hall.join(titles)
            return found

    @classmethod
    def check(cls, address: Address) -> None:
        """TLSConfigError where somebody listens there with other TLS, or with none."""
        with cls._one_at_a_time:
            cls._check(address)

    @classmethod
    def _check(cls, address: Address) -> None:
        found = cls._all.get((address.host, address.port)) if address.port else None
        if found is not None and found.tls != address.tls:
            how = "without TLS" if found.tls is None else "with TLS of its own"
            raise TLSConfigError(
                f"another storage listener has {address.host}:{address.port} {how}; "
                "those that share a port share its TLS: give all the same, or take another port"
            )

    def leave(self, titles: Titles) -> None:
        """One listener less; the last one ends it."""
        with self._one_at_a_time:
            if not self.hall.leave(titles):
                return
            del self._all[self.address.host, self.address.port]
        for pending in list(self.pending_requests.values()):
            pending.answer.put(UNANSWERED)
        self.close()

    def leave_soon(self, titles: Titles) -> None:
        """`leave` in a thread of its own: for a listener that was dropped, in whichever thread that was noticed."""
        with contextlib.suppress(RuntimeError):  # the process ends, and with it everything
            threading.Thread(target=self.leave, args=(titles,), name="dulcet-leave", daemon=True).start()

    def _greeter_for(
        self, sockets: Sequence[socket.socket], shared: SharedPort | None, parted: Parted | None
    ) -> Acceptor:
        acceptor = DeferredAcceptor(
            sockets, self._admission, self._established.put, tls=self.tls, shared=shared, parted=parted
        )
        acceptor.listening_socket = self
        return acceptor


class DeferredAcceptor(Acceptor):
    """The thread that greets where somebody else decides about each association, and gets it."""

    listening_socket: PortListener

    def _decide(self, connection: PendingConnection, request: AssociateRQ) -> Answer:
        seconds = self._config.timers.associate
        pending = self.listening_socket.pending_requests[connection] = PendingRequest(request, connection.host, seconds)
        self.listening_socket.hall.put(pending)
        with contextlib.suppress(queue.Empty):
            return pending.answer.get(timeout=seconds)
        return UNANSWERED

    def _say(self, connection: PendingConnection, answer: Answer) -> None:
        super()._say(connection, answer)
        if not connection.counted:
            self.listening_socket.pending_requests.pop(connection).association.put(None)

    def _hand_out(self, connection: PendingConnection) -> None:
        super()._hand_out(connection)
        self.listening_socket.pending_requests.pop(connection).association.put(self.listening_socket._established.get_nowait())

    def _dismiss(self, connection: PendingConnection) -> None:
        super()._dismiss(connection)
        pending = self.listening_socket.pending_requests.pop(connection, None)
        if pending is not None:
            pending.association.put(None)
