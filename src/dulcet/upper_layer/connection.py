"""One transport connection and its association (PS3.8): bytes, primitives in, events, bytes out; no I/O, no clock.

Rules: events are pulled, and nothing behind an owed answer is looked at before that answer is given; bytes out are
pulled whole PDU by whole PDU; the table decides, an action does; timers start with the `timer(now)` that follows their
cause.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.upper_layer.actions import ACTIONS, Actions, TimerName
from dulcet.upper_layer.events import (
    NEED_DATA,
    PAUSED,
    Fragment,
    Signal,
    TimedOut,
    UpperLayerEvent,
)
from dulcet.upper_layer.fragments import FileSpan, OutgoingMessage, Segment
from dulcet.upper_layer.framing import BufferPool, ControlPDU, Framer
from dulcet.upper_layer.negotiation import (
    PresentationContext,
    Window,
    check_context_ids,
    check_reject,
)
from dulcet.upper_layer.pdu import (
    PDU,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    decode_body,
)
from dulcet.upper_layer.state import Event, State, action
from dulcet.upper_layer.trace_events import ConnectionOpened, pdus_sent

__all__ = ["Connection"]

DATA_STATES: Final = frozenset((State.ESTABLISHED, State.AWAITING_RELEASE_RP))
ANSWER_OWED: Final = frozenset(
    (
        State.AWAITING_ASSOCIATE_RESPONSE,
        State.AWAITING_RELEASE_RESPONSE,
        State.COLLISION_REQUESTOR_RESPONSE,
        State.COLLISION_ACCEPTOR_RESPONSE,
    )
)
BEFORE_BYTES: Final = frozenset((State.IDLE, State.AWAITING_TRANSPORT))
"""No transport connection stands here: bytes that came early wait, those that came late are thrown away."""
FAULTS: Final = frozenset(("AA-1", "AA-7", "AA-8"))
"""The actions that answer what should not have come."""
RECEIVED: Final[dict[type[object], Event]] = {
    AssociateRQ: Event.ASSOCIATE_RQ_RECEIVED,
    AssociateAC: Event.ASSOCIATE_AC_RECEIVED,
    AssociateRJ: Event.ASSOCIATE_RJ_RECEIVED,
    ReleaseRQ: Event.RELEASE_RQ_RECEIVED,
    ReleaseRP: Event.RELEASE_RP_RECEIVED,
    Abort: Event.ABORT_RECEIVED,
}

default_pool: Final = BufferPool()
"""One pool a process unless a face brings its own."""


class Connection(Actions):
    """The upper layer service of one connection, in either role."""

    def __init__(
        self, *, requestor: bool, config: AssociationConfig | None = None, pool: BufferPool | None = None
    ) -> None:
        self.requestor = requestor
        self.config: AssociationConfig = config or AssociationConfig()
        self.state: State = State.IDLE
        self.request: AssociateRQ | None = None
        self.answer: AssociateAC | AssociateRJ | None = None
        self.contexts: dict[int, PresentationContext] = {}
        """The accepted presentation contexts by id; empty until the association stands."""
        self.window: Window = Window()
        self.wants_close = False
        """True when the transport connection is to be closed now, once what is queued has left."""
        self.departed: list[object] = []
        """The operations of messages whose last byte was asked for; the layer above empties it."""
        self._framer = Framer(
            pool or default_pool,
            associate_limit=self.config.limits.associate_pdu,
            announced=self.config.maximum_length,
            strict=self.config.strict,
        )
        self.journal: list[object] | None = [] if self.config.observers else None
        """What happened since the face last emptied it, in the layer above too; None when nobody watches."""
        self._framer.journal = self.journal
        self._fragment = 0
        self._events: deque[UpperLayerEvent] = deque()
        self._out: deque[bytes | OutgoingMessage] = deque()
        self._timers: dict[TimerName, float | None] = {}
        self._eof = False
        self._deaf = False  # framing is lost: what still comes is thrown away
        self._pdu: PDU | None = None  # the PDU or primitive that the running action is about
        self._fault: RemoteProtocolError | None = None
        self._encoded: bytes | None = None  # the bytes of our A-ASSOCIATE-RQ or -AC, until it is queued
        self._started = False

    # ------------------------------------------------------------------ bytes in

    def get_buffer(self) -> memoryview:
        """Where the transport puts its next bytes; invalidates every view handed out before."""
        return self._framer.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the last `get_buffer()`."""
        self._framer.buffer_updated(count)

    def eof_received(self) -> None:
        """The peer closed, or the transport failed; dealt with once every byte before it is."""
        self._eof = True

    @property
    def is_full(self) -> bool:
        """True while there is no room for more bytes: pull events, or answer what is owed."""
        return self._framer.is_full

    @property
    def has_unread(self) -> bool:
        """True while bytes are here that were not looked at."""
        return self._framer.has_unread

    @property
    def data_is_next(self) -> bool:
        """True when what was not looked at begins with a P-DATA-TF."""
        return self._framer.data_is_next

    @property
    def mid_pdu(self) -> bool:
        """True when a PDU has begun to arrive and is not whole."""
        return self._framer.mid_pdu

    @property
    def bytes_received(self) -> int:
        """All bytes that ever came."""
        return self._framer.bytes_received

    @property
    def oversized_pdus(self) -> int:
        """How many P-DATA-TF were longer than announced (tolerated unless strict)."""
        return self._framer.oversized

    # ------------------------------------------------------------------ events out

    def next_event(self) -> UpperLayerEvent | Signal:
        """The next indication or confirmation, NEED_DATA, or PAUSED while an answer is owed; never raises."""
        events, framer = self._events, self._framer
        while True:
            if events:
                return events.popleft()
            state = self.state
            if state is not State.ESTABLISHED:
                if state in ANSWER_OWED:
                    return PAUSED
                if self._deaf or state in BEFORE_BYTES:
                    return self._finish()
            try:
                got = framer.next()
                if type(got) is Fragment:
                    if state not in DATA_STATES:
                        continue  # AA-6: ignored
                    if got.context_id not in self.contexts:
                        raise RemoteProtocolError(
                            f"data on presentation context {got.context_id}, which was not accepted", source=2, reason=6
                        )
                    return got
                if got is NEED_DATA:
                    return self._finish()
                if type(got) is ControlPDU:
                    self._pdu = pdu = decode_body(got.pdu_type, got.body)
                    if self.config.strict and isinstance(pdu, AssociateRQ):
                        check_context_ids(pdu)
                    self._process(RECEIVED[type(pdu)], type(pdu).__name__)
                else:  # DataBegins
                    self._process(Event.DATA_RECEIVED, "P-DATA-TF")
            except RemoteProtocolError as fault:
                self._fault, self._pdu = fault, None
                self._deaf = True
                self._process(Event.INVALID_PDU_RECEIVED)

    def _finish(self) -> UpperLayerEvent | Signal:
        """Every byte is dealt with: give the buffer back, and let the end of the stream be an event."""
        if self._deaf or (self._started and self.state is State.IDLE):
            self._framer.discard()
        self._framer.release_buffer()
        if self._eof and self.state is not State.IDLE:
            self._process(Event.TRANSPORT_CLOSED)
            return self._events.popleft()
        return NEED_DATA

    # ------------------------------------------------------------------ bytes out

    def data_to_send(self, limit: int = 128 * 1024) -> list[Segment]:
        """Whole PDUs of about `limit` bytes, as segments to be sent in this order; empty when there is nothing."""
        segments: list[Segment] = []
        out, taken = self._out, 0
        while out and taken < limit:
            head = out[0]
            if isinstance(head, bytes):
                segments.append(head)
                taken += len(head)
            else:
                count, done = head.take(limit - taken, segments)
                taken += count
                if self._timers:  # what they wait for cannot come before these data have left
                    self._timers = dict.fromkeys(self._timers)
                if not done:
                    break
                if head.operation is not None:
                    self.departed.append(head.operation)
            out.popleft()
        if self.journal is not None and segments:
            self.journal.extend(pdus_sent(segments))
        return segments

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for `data_to_send`, PDU headers of data not counted."""
        return sum(len(head) if isinstance(head, bytes) else head.size for head in self._out)

    # ------------------------------------------------------------------ primitives

    @property
    def closed(self) -> bool:
        """True once the connection is over (Sta1 after having left it)."""
        return self._started and self.state is State.IDLE

    @property
    def is_established(self) -> bool:
        return self.state is State.ESTABLISHED

    @property
    def owes(self) -> Literal["associate", "release"] | None:
        """The indication that the application has not answered yet."""
        if self.state not in ANSWER_OWED:
            return None
        return "associate" if self.state is State.AWAITING_ASSOCIATE_RESPONSE else "release"

    def associate(self, request: AssociateRQ) -> None:
        """A-ASSOCIATE request: sent when the transport connection is made."""
        if not self.requestor:
            raise LocalProtocolError("an acceptor is asked for an association, it does not ask for one")
        self._encoded = request.encode()  # what cannot be encoded fails here, before anything starts
        self._local(Event.ASSOCIATE_REQUEST, request)

    def connection_made(self) -> None:
        """The transport connection stands: the requestor's asks, the acceptor's waits under ARTIM."""
        if self.journal is not None:
            self.journal.append(ConnectionOpened())
        self._local(Event.TRANSPORT_CONFIRMED if self.requestor else Event.TRANSPORT_INDICATED)

    def accept(self, answer: AssociateAC) -> None:
        """A-ASSOCIATE response, accepted."""
        self._encoded = answer.encode()
        self._local(Event.ACCEPT_RESPONSE, answer)

    def reject(self, result: int, source: int, reason: int) -> None:
        """A-ASSOCIATE response, rejected; LocalProtocolError for a triple that may not be sent."""
        check_reject(result, source, reason)
        self._local(Event.REJECT_RESPONSE, AssociateRJ(result, source, reason))

    def send_message(
        self, context_id: int, command: bytes, data: memoryview | FileSpan | None = None, operation: object = None
    ) -> None:
        """P-DATA request: a command set and, unless None, its data set, queued behind what is queued."""
        if not command:
            raise LocalProtocolError("a message begins with its command set; this one is empty")
        if self.state is not State.ESTABLISHED:
            action(Event.DATA_REQUEST, self.state)  # DT-1 or AR-7: both only send
        if context_id not in self.contexts:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")
        self._out.append(OutgoingMessage(context_id, command, data, self._fragment, operation))

    def release(self) -> None:
        """A-RELEASE request."""
        self._local(Event.RELEASE_REQUEST)

    def release_response(self) -> None:
        """A-RELEASE response."""
        self._local(Event.RELEASE_RESPONSE)

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT request; what was queued and not yet asked for is dropped.  Nothing to do when it is over already."""
        Abort(source, reason).encode()
        if self.state in (State.IDLE, State.AWAITING_CLOSE):
            return
        if self.state is State.AWAITING_ASSOCIATE_RQ:
            # Table 9-10 has no cell for it, yet an acceptor that shuts down has no more to say: AA-2, close.
            self.state = self._aa2()
            return
        self._local(Event.ABORT_REQUEST, Abort(source, reason if source == 2 else 0))

    # ------------------------------------------------------------------ time

    def timer(self, now: float) -> float | None:
        """When `handle_timer` wants to be called, on the same monotonic clock.

        Timers armed since the last call start now; release and ARTIM start anew while data queued before them leave.
        """
        if not self._timers:
            return None
        durations = self.config.timers
        soonest: float | None = None
        for name, deadline in self._timers.items():
            if deadline is None:
                deadline = self._timers[name] = now + float(getattr(durations, name))
            soonest = deadline if soonest is None else min(soonest, deadline)
        return soonest

    def handle_timer(self, now: float) -> None:
        """Let the timers that ran out by `now` act."""
        for name, deadline in list(self._timers.items()):
            if deadline is None or deadline > now or name not in self._timers:
                continue
            del self._timers[name]
            if name == "artim":
                if self.state is State.AWAITING_ASSOCIATE_RQ:
                    self._events.append(TimedOut("artim"))
                self._process(Event.ARTIM_EXPIRED)
            else:
                self._events.append(TimedOut(name))
                self.abort()

    def announce(self, event: UpperLayerEvent) -> None:
        """Let the layer above put what its own timers found into the one stream of events."""
        self._events.append(event)

    # ------------------------------------------------------------------ the machine

    def _local(self, event: Event, pdu: PDU | None = None) -> None:
        if self.closed:
            raise LocalProtocolError("the connection is over: a new association needs a new one")
        name = action(event, self.state)  # an absent cell is the application's mistake: raised before anything changes
        self._pdu = pdu
        self._act(name)

    def _process(self, event: Event, came: str = "") -> None:
        """Act as the table says; `came` is the PDU that may not have been expected."""
        name = action(event, self.state)
        if came:
            self._fault = None
            if name in FAULTS:
                what = self.state.name.lower().replace("_", " ")
                self._fault = RemoteProtocolError(f"{came} while {what}", source=2, reason=2)
        self._act(name)

    def _act(self, name: str) -> None:
        self._started = True
        self.state = ACTIONS[name](self)
        self._framer.announce_data = self.state not in DATA_STATES
