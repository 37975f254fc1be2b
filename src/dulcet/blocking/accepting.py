"""The thread that greets: from a connection to an association that is handed out.

Rules: it accepts connections, takes the steps of their TLS handshakes, waits for their A-ASSOCIATE-RQ under ARTIM and
answers it; a peer that is slow, silent or hostile costs an entry in a table and never keeps another one waiting, nor
does a admission hook or verifier, who has threads for that; what is handed out is established.  Where it is wished, an
association stays here until its first message: one that is silent, or released again, then costs neither a thread nor
the way to it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from dulcet.blocking.association import Association
from dulcet.blocking.channel import aborted_by_us
from dulcet.blocking.pending_connection import PendingConnection
from dulcet.blocking.transport import Transport
from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.errors import DulcetError, TLSError
from dulcet.io.deciding import Deciders
from dulcet.io.sockets import HELD_BACK, format_address
from dulcet.log_codes import coded
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.admission import CROWDED, UNDECIDED, Admission, log_event, log_parting
from dulcet.services.observing import Reporter
from dulcet.services.termination import ending
from dulcet.upper_layer.events import NEED_DATA, PAUSED, AssociateRequested, ReleaseRequested
from dulcet.upper_layer.negotiation import Offer
from dulcet.upper_layer.pdu import AssociateRQ
from dulcet.upper_layer.trace_events import HandshakeFailed

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.blocking.secure import SecureTransport
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig

__all__ = ["Acceptor", "Answer", "Parted"]

log: Final = logging.getLogger("dulcet.listener")

GREETED_AT_ONCE: Final = 2048
"""Connections that may be waiting for their association at once; beyond it the oldest one without a word goes."""

ACCEPTED_AT_ONCE: Final = 64
"""Connections taken before those that are here already are looked at again."""

CONGESTED: Final = (2, 3, 1)
"""Transient, temporary congestion (PS3.8 Table 9-21): a decision did not come in time."""

PARTING: Final = 1.0
"""Seconds for a peer to take the alert that ended its TLS handshake, and close."""

Answer = Offer | tuple[int, int, int]

Parted = Callable[[str, DimseAssociation, str, DulcetError, float], object]
"""Told of an association that ended before anything was said on it: peer, core, a word and the error for how it ended,
seconds that it stood."""

RESERVE: Final = 0.5
"""Seconds between two tries when the process is out of descriptors."""


class Acceptor:
    """Runs from `start` to `stop`; `take` gets each association, in this thread."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        admission: Admission,
        take: Callable[[Association], None],
        *,
        tls: TLSConfig | SSLContext | None,
        shared: SharedPort | None,
        parted: Parted | None,
    ) -> None:
        """With `parted`, associations are handed out with their first message; it is told of those that had none."""
        self.handshake_failed: Callable[[], None] | None = None
        """Called for a TLS handshake that failed or took too long, unless the peer never said anything."""
        self._sockets = sockets
        self._admission = admission
        self._policy: AcceptancePolicy = admission.policy
        self._config: AssociationConfig = admission.config
        self._tls = tls
        self._take = take
        self._decided: queue.SimpleQueue[tuple[PendingConnection, Answer]] = queue.SimpleQueue()
        self._shared = shared
        self._held_until = 0.0  # a connection was left to those who have less in hand; then it is ours
        self._pending_connections: dict[socket.socket, PendingConnection] = {}
        self._silent: dict[socket.socket, PendingConnection] = {}  # established, and nothing was said since
        # Observers may take their time over what they are told, and TLS reads ahead: those go to a thread at once.
        self._parted = None if self._config.observers or tls is not None else parted
        self._aborting = False
        self._burst = 1  # connections to take at once
        self._soonest = math.inf  # nobody's deadline is before
        self._lock = threading.Lock()
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        for sock in (*self._sockets, self._wake_read):
            self._selector.register(sock, selectors.EVENT_READ)
        self._retry_accept: float | None = None
        port = sockets[0].getsockname()[1]
        self._deciders = Deciders(f"dulcet-decider-{port}")
        self._thread = threading.Thread(target=self._greet, name=f"dulcet-listener-{port}", daemon=True)

    def start(self) -> None:
        self._tell_load()
        self._thread.start()

    def stop(self) -> bool:
        """Greet nobody any more: associations are handed out, all others go.  False where that was said before."""
        with self._lock:
            if self._closing:
                return False
            self._closing = True
        self._wake()
        self._thread.join()
        return True

    def abort_silent(self) -> None:
        """Have the associations on which nothing was said so far aborted; callable from any thread."""
        self._aborting = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    def _greet(self) -> None:
        try:
            while not self._closing:
                for key, events in self._selector.select(self._wait()):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._wake_read:
                        with contextlib.suppress(OSError):
                            sock.recv(4096)
                        self._take_decisions()
                        self._abort_silent()
                    elif (pending := self._pending_connections.get(sock) or self._silent.get(sock)) is not None:
                        self._guard(pending, self._hear, pending, events)
                    elif sock in self._sockets and self._retry_accept is None:
                        self._accept(sock)
                self._check_time()
        finally:
            for pending in [found for found in self._silent.values() if found.core.is_established]:
                self._hand_out(pending)
            for pending in [*self._pending_connections.values(), *self._silent.values()]:
                pending.core.abort(2, 0)
                with contextlib.suppress(Exception):
                    pending.speak()
                self._dismiss(pending)
            for sock in (*self._sockets, self._wake_read, self._wake_write):
                sock.close()
            self._selector.close()
            self._deciders.close()

    def _wait(self) -> float | None:
        return None if self._soonest == math.inf else max(self._soonest - time.monotonic(), 0.0)

    def _remind(self, deadline: float | None) -> None:
        """See to it that the time is looked at by then."""
        if deadline is not None and deadline < self._soonest:
            self._soonest = deadline

    def _check_time(self) -> None:
        now = time.monotonic()
        if now < self._soonest:
            return
        self._soonest = math.inf
        if self._retry_accept is not None and self._retry_accept <= now:
            self._retry_accept = None
            for sock in self._sockets:
                self._selector.register(sock, selectors.EVENT_READ)
        self._remind(self._retry_accept)
        for pending in [*self._pending_connections.values(), *self._silent.values()]:
            if pending.deadline is not None and pending.deadline <= now:
                self._out_of_time(pending, now)
        for pending in (*self._pending_connections.values(), *self._silent.values()):
            self._remind(pending.deadline)

    def _out_of_time(self, pending: PendingConnection, now: float) -> None:
        if pending.handshake is not None:
            seconds = self._config.timers.tls
            error = TLSError(f"{pending.peer}: no TLS handshake within {seconds:g} s")
            self._guard(pending, self._expel, pending, error)
        elif pending.limit is not None and pending.limit <= now:
            log.warning(
                "%s: no whole A-ASSOCIATE-RQ within %g s", pending.peer, self._config.timers.tls, extra=coded("DUL102")
            )
            self._dismiss(pending)
        elif pending.watched:
            pending.core.handle_timer(now)
            self._guard(pending, self._attend, pending)
        else:
            log.warning("%s: refused, nobody decided about it in time", pending.peer, extra=coded("DUL111"))
            self._guard(pending, self._conclude, pending, CONGESTED)

    def _guard(self, pending: PendingConnection, step: Callable[..., None], *arguments: object) -> None:
        """Whatever goes wrong with one connection, the others are served."""
        try:
            step(*arguments)
        except Exception:
            log.exception("%s: unexpected", pending.peer, extra=coded("DUL901"))
            if self._is_here(pending):
                self._dismiss(pending)

    def _is_here(self, pending: PendingConnection) -> bool:
        return pending.sock in self._pending_connections or pending.sock in self._silent

    def _accept(self, listening: socket.socket) -> None:
        accepted = room_made = False
        if self._shared is not None and self._leaves_it_to_others(self._shared):
            return
        # After one that came alone the next one probably does as well: no need to hear from the kernel that it did.
        at_once = self._burst if self._shared is None else 1
        self._burst = 1
        for _ in range(at_once):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if accepted:
                    return  # out of descriptors, with which the kernel does not even look whether anybody is there
                if self._pending_connections and not room_made:  # who came first and has asked for nothing yet, goes
                    self._dismiss(next(iter(self._pending_connections.values())))
                    room_made = True
                    continue
                log.error(
                    "cannot accept a connection: %s; raise the limit of open files", error.strerror,
                    extra=coded("DUL110"),
                )  # fmt: skip
                self._pause_accepting(RESERVE)
                return
            if len(self._pending_connections) >= GREETED_AT_ONCE:
                self._dismiss(next(iter(self._pending_connections.values())))
            pending = self._pending_connections[sock] = self._welcome(sock, format_address(address), str(address[0]))
            self._selector.register(sock, selectors.EVENT_READ)
            self._remind(pending.deadline)
            self._tell_load()
            accepted = True
            # The request follows the connection closely: by now it is here.
            self._guard(pending, self._hear, pending, selectors.EVENT_READ)
        self._burst = min(2 * at_once, ACCEPTED_AT_ONCE)

    def _leaves_it_to_others(self, shared: SharedPort) -> bool:
        """To those who have less in hand, for a while."""
        now = time.monotonic()
        if not shared.is_ahead() or self._held_until <= now < self._held_until + HELD_BACK:
            self._held_until = 0.0
            return False
        self._held_until = now + HELD_BACK
        self._pause_accepting(HELD_BACK)
        return True

    def _pause_accepting(self, seconds: float) -> None:
        for sock in self._sockets:
            self._selector.unregister(sock)
        self._retry_accept = time.monotonic() + seconds
        self._remind(self._retry_accept)

    def _tell_load(self) -> None:
        """Those who accept from the same port take the next connection according to this."""
        if self._shared is not None and not self._closing:
            self._shared.set_load(len(self._pending_connections) + self._admission.count)

    def _welcome(self, sock: socket.socket, peer: str, host: str) -> PendingConnection:
        core = DimseAssociation(requestor=False, config=self._config)
        tls, now = self._tls, time.monotonic()
        if tls is None:
            pending = PendingConnection(core, Transport(sock), sock, peer, host)
            core.connection_made()
            pending.deadline = core.timer(now)
        else:
            from dulcet.blocking.secure import SecureTransport
            from dulcet.io.secure_stream import pick_up

            secure = SecureTransport(sock, lambda: pick_up(tls, peer))
            limit = now + self._config.timers.tls
            pending = PendingConnection(core, secure, sock, peer, host, deadline=limit, limit=limit, handshake=secure)
        if self._config.observers:
            pending.reporter = Reporter(self._config.observers)
        return pending

    def _hear(self, pending: PendingConnection, events: int) -> None:
        if pending.handshake is not None and not self._shake_hands(pending, pending.handshake):
            return
        core, transport = pending.core, pending.transport
        if events & selectors.EVENT_READ:
            pending.read()
        self._attend(pending)
        # TLS may have received more than it gave; no selector tells of that.
        while transport.has_buffered and not core.is_full and pending.watched and self._is_here(pending):
            pending.read()
            self._attend(pending)

    def _shake_hands(self, pending: PendingConnection, transport: SecureTransport) -> bool:
        """A step of the TLS handshake; True when it is done."""
        if pending.failed:
            if transport.discard():
                self._dismiss(pending)
            else:
                self._part(pending, transport)
            return False
        try:
            done = transport.shake_hands()
        except TLSError as error:
            self._expel(pending, error)
            return False
        if not done:
            self._watch(pending, write=transport.has_unsent)
            return False
        pending.handshake = None
        pending.core.connection_made()
        return True

    def _expel(self, pending: PendingConnection, error: TLSError) -> None:
        """No handshake: tell the log, and the peer if it listens; one that never said anything is not worth a line."""
        transport = pending.handshake
        assert transport is not None
        if pending.failed or not transport.received:
            self._dismiss(pending)
            return
        log.warning("%s", error, extra=coded("DUL151"))
        if self.handshake_failed is not None:
            self.handshake_failed()
        if pending.reporter is not None and pending.core.journal is not None:
            pending.core.journal.append(HandshakeFailed(str(error)))
            pending.reporter.report(pending.core, pending, time.monotonic())
        pending.failed = True
        pending.deadline = time.monotonic() + PARTING
        self._remind(pending.deadline)
        self._part(pending, transport)

    def _part(self, pending: PendingConnection, transport: SecureTransport) -> None:
        """Let the alert leave; an immediate close would reset the connection under it."""
        sent = transport.flush()
        if sent:
            transport.end_writing()
        self._watch(pending, write=not sent)

    def _attend(self, pending: PendingConnection) -> None:
        """Let the core act on what came, and carry out what it wants."""
        core, end = pending.core, None
        if pending.established is None:
            # Once it is established, whatever comes is for whoever takes the association.
            while not core.is_established and (event := core.next_event()) is not NEED_DATA and event is not PAUSED:
                if isinstance(event, AssociateRequested):
                    self._answer(pending, event)
                else:
                    log_event(event, core, pending.peer)
        elif core.is_established and core.message_is_next:
            self._hand_out(pending)
            return
        else:
            end = self._overhear(pending)
        sent = pending.speak()
        if end is not None:
            self._tell_end(pending, *ending(end, pending.peer, core))
        if pending.reporter is not None and not core.is_established:
            pending.reporter.report(core, pending, time.monotonic())
        if not pending.watched:
            return
        if core.is_established and sent and pending.established is None:
            if self._parted is None:
                self._hand_out(pending)
                return
            self._keep(pending)
            self._attend(pending)  # deal with what came behind its request; then it holds no buffer
            return
        if (core.closed or core.wants_close) and (sent or pending.transport.broken):
            self._dismiss(pending)
            return
        self._watch(pending, write=not sent)
        pending.deadline = core.timer(time.monotonic())
        if pending.limit is not None and pending.deadline is not None:
            pending.deadline = min(pending.deadline, pending.limit)
        self._remind(pending.deadline)

    def _watch(self, pending: PendingConnection, *, write: bool) -> None:
        if write != pending.writes:
            self._selector.modify(pending.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0))
            pending.writes = write

    def _keep(self, pending: PendingConnection) -> None:
        """It is an association: it stays here until its first message."""
        pending.established = time.monotonic()
        del self._pending_connections[pending.sock]
        self._silent[pending.sock] = pending

    def _overhear(self, pending: PendingConnection) -> object:
        """What ended an association on which nothing was said, if that is what came; a release is answered."""
        core, end = pending.core, None
        while (event := core.next_event()) is not NEED_DATA and event is not PAUSED:
            if isinstance(event, ReleaseRequested):
                core.release_response()
            end = end or event
        return end

    def _tell_end(self, pending: PendingConnection, word: str, error: DulcetError) -> None:
        """Once: what comes after the end of an association is that of its connection."""
        if self._parted is not None and not pending.ended:
            assert pending.established is not None
            pending.ended = True
            self._parted(pending.peer, pending.core, word, error, time.monotonic() - pending.established)

    def _abort_silent(self) -> None:
        if self._aborting:
            self._aborting = False
            for pending in [found for found in self._silent.values() if not found.ended]:
                pending.core.abort()
                self._tell_end(pending, "aborted", aborted_by_us(pending.peer))
                self._guard(pending, self._attend, pending)

    def _answer(self, pending: PendingConnection, event: AssociateRequested) -> None:
        """Decide at once, or have those decide who may need a while."""
        pending.limit = None
        if self._policy.admission_hook is None and self._policy.verifier is None:
            self._say(pending, self._decide(pending, event.request))
            return
        self._selector.unregister(pending.sock)
        pending.watched = False
        pending.deadline = time.monotonic() + self._config.timers.associate
        self._remind(pending.deadline)

        def decide() -> None:
            self._decided.put((pending, self._decide(pending, event.request)))
            self._wake()

        self._deciders.submit(decide)

    def _decide(self, pending: PendingConnection, request: AssociateRQ) -> Answer:
        return self._admission.decide(request, pending.peer, pending.host, pending.transport.objection)

    def _take_decisions(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                pending, answer = self._decided.get_nowait()
                if pending.sock in self._pending_connections and not pending.watched:
                    self._guard(pending, self._conclude, pending, answer)

    def _conclude(self, pending: PendingConnection, answer: Answer) -> None:
        """It was decided: go on where it was left."""
        pending.watched = True
        self._selector.register(pending.sock, selectors.EVENT_READ)
        pending.writes = False
        self._say(pending, answer)
        self._attend(pending)

    def _say(self, pending: PendingConnection, answer: Answer) -> None:
        if isinstance(answer, tuple):
            pending.core.reject(*answer)
            return
        calling = pending.core.request.calling if pending.core.request is not None else ""
        with self._lock:
            admitted = self._admission.admit(pending.host, calling)
        if not admitted:  # others came while it was being decided about
            pending.core.reject(*CROWDED)
            return
        pending.counted = True
        try:
            pending.core.accept(answer)
        except DulcetError as error:
            log.error(
                "%s: the association cannot be accepted as it was decided: %s", pending.peer, error,
                extra=coded("DUL114"),
            )  # fmt: skip
            pending.core.reject(*UNDECIDED)

    def _hand_out(self, pending: PendingConnection) -> None:
        self._forget(pending)
        association = _Accepted(pending.core, pending.transport, peer=pending.peer)
        association._acceptor = self
        association._host = pending.host
        self._take(association)

    def _forget(self, pending: PendingConnection) -> None:
        if pending.watched:
            self._selector.unregister(pending.sock)
        del (self._pending_connections if pending.established is None else self._silent)[pending.sock]

    def _dismiss(self, pending: PendingConnection) -> None:
        self._forget(pending)
        pending.transport.close()
        log_parting(pending.core, pending.peer)
        if pending.counted:
            self._gone(pending.host, pending.core)
        self._tell_load()

    def _gone(self, host: str, core: DimseAssociation) -> None:
        with self._lock:
            self._admission.gone(host, core.request.calling if core.request is not None else "")
        self._tell_load()


class _Accepted(Association):
    """An association that is counted until it is over."""

    _acceptor: Acceptor | None = None
    _host = ""

    def _finish(self, deadline: float | None = None) -> None:
        super()._finish(deadline)
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor._gone(self._host, self._core)
            log_parting(self._core, self.peer)
