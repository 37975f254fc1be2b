"""A connection at a server that is not yet an association, the owner of its wire until it is one.

Rules: its A-ASSOCIATE-RQ has to come in time, a TLS handshake included; who takes a while to decide about it has a
thread for that; what goes wrong with it is told to the log and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.protocol import Wire
from dulcet.dimse.association import DimseAssociation
from dulcet.errors import DulcetError, InstanceError, TLSError
from dulcet.io.sockets import format_address
from dulcet.log_codes import coded
from dulcet.services.admission import CROWDED, UNDECIDED, log_event, log_parting
from dulcet.upper_layer.events import AssociateRequested
from dulcet.upper_layer.pdu import AssociateRQ
from dulcet.upper_layer.trace_events import HandshakeFailed

if TYPE_CHECKING:
    from dulcet.aio.server import Server

__all__ = ["PendingConnection"]

log: Final = logging.getLogger("dulcet.listener")

CONGESTED: Final = (2, 3, 1)
"""Transient, temporary congestion (PS3.8 Table 9-21): a decision did not come in time."""


class PendingConnection:
    """A connection that is not yet an association."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        address = sock.getpeername()
        self.server = server
        self.peer = format_address(address)
        self.host = str(address[0])
        self.wire = self._wire(DimseAssociation(requestor=False, config=server.config))
        self.wire.owner = self
        self._timer: asyncio.TimerHandle | None = None  # while it is being decided about

    @property
    def calling(self) -> str:
        """The AE title that it says is its own; empty before it said one."""
        request = self.wire.core.request
        return "" if request is None else request.calling

    async def connect(self, sock: socket.socket) -> None:
        """Hand the socket to the loop."""
        try:
            await self.server._loop.connect_accepted_socket(lambda: self.wire, sock)
        except OSError:
            sock.close()
            self.server._pending_connections.pop(self, None)

    def _wire(self, core: DimseAssociation) -> Wire:
        server, tls, peer = self.server, self.server.tls, self.peer
        self._limit: asyncio.TimerHandle | None = None
        if tls is None:
            return Wire(core, server._loop)
        from dulcet.aio.secure import SecureWire
        from dulcet.io.secure_stream import pick_up

        # When its A-ASSOCIATE-RQ has to be here, the TLS handshake included.
        self._limit = server._loop.call_later(server.config.timers.tls, self._too_late)
        return SecureWire(core, server._loop, lambda: pick_up(tls, peer))

    def _dispatch(self, event: Any) -> None:
        if isinstance(event, AssociateRequested):
            self._unlimit()
            policy = self.server.policy
            if policy.verifier is None and policy.admission_hook is None:
                self._answer(self._decide(event.request))
            else:
                self._ask(event.request)
        else:
            log_event(event, self.wire.core, self.peer)

    def _decide(self, request: AssociateRQ) -> Any:
        return self.server._admission.decide(request, self.peer, self.host, self.wire.objection)

    def _ask(self, request: AssociateRQ) -> None:
        """Somebody else's code decides, in a thread; it may ask a directory server, but not for ever."""
        loop = self.server._loop
        self._timer = loop.call_later(self.server.config.timers.associate, self._give_up)

        def decide() -> None:
            answer = self._decide(request)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._conclude, answer)

        self.server._deciders.submit(decide)

    def _give_up(self) -> None:
        log.warning("%s: refused, nobody decided about it in time", self.peer, extra=coded("DUL111"))
        self._conclude(CONGESTED)

    def _conclude(self, answer: Any) -> None:
        """It was decided: go on where it was left."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._answer(answer)
            self.wire.pump()

    def _answer(self, answer: Any) -> None:
        core, server = self.wire.core, self.server
        if isinstance(answer, tuple):
            core.reject(*answer)
        elif not server._admission.admit(self.host, self.calling):  # others came while it was being decided about
            core.reject(*CROWDED)
        else:
            try:
                core.accept(answer)
            except DulcetError as error:
                log.error(
                    "%s: the association cannot be accepted as it was decided: %s", self.peer, error,
                    extra=coded("DUL114"),
                )  # fmt: skip
                core.reject(*UNDECIDED)
                server._admission.gone(self.host, self.calling)
            else:
                server._hand_out(self)

    def _sent(self) -> None:
        """Nothing is waited for."""

    def _spoiled(self, error: InstanceError) -> None:
        """Nothing is sent from files."""

    def _stalled(self) -> None:
        """Nothing is held."""

    def _insecure(self, error: TLSError) -> None:
        """No handshake: tell the log; one that never said anything is not worth a line."""
        wire = self.wire
        if not wire.received:
            wire.sever()
            return
        log.warning("%s", error, extra=coded("DUL151"))
        self.server.handshake_failures += 1
        if wire.core.journal is not None:
            wire.core.journal.append(HandshakeFailed(str(error)))
            wire.settle()

    def _too_late(self) -> None:
        wire, seconds = self.wire, self.server.config.timers.tls
        if wire.begun:
            log.warning("%s: no whole A-ASSOCIATE-RQ within %g s", self.peer, seconds, extra=coded("DUL102"))
            wire.sever()
        else:
            wire.fail(TLSError(f"{self.peer}: no TLS handshake within {seconds:g} s"))

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _lost(self) -> None:
        self._unlimit()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.server._pending_connections.pop(self, None)
        self.server._tell_load()
        log_parting(self.wire.core, self.peer)
