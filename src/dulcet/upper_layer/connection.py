"""One transport connection and its association (PS3.8): bytes, primitives in, events, bytes out; no I/O, no clock.

Rules: events are pulled, and nothing behind an owed answer is looked at before that answer is given; bytes out are
pulled whole PDU by whole PDU; the table decides, an action does; timers start with the `timer(now)` that follows their
cause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.upper_layer import happenings
from dulcet.upper_layer.events import (
    NEED_DATA,
    PAUSED,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    Fragment,
    ReleaseConfirmed,
    ReleaseRequested,
    Signal,
    TimedOut,
    UpperLayerEvent,
)
from dulcet.upper_layer.fragments import FileSpan, OutgoingMessage, Segment, fragment_length
from dulcet.upper_layer.framing import BufferPool, ControlPDU, Framer
from dulcet.upper_layer.happenings import Happening
from dulcet.upper_layer.negotiation import (
    PresentationContext,
    Window,
    check_context_ids,
    check_reject,
    outcome,
    reject_reason,
    window,
)
from dulcet.upper_layer.pdu import (
    PDU,
    PDU_HEADER,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    decode_body,
)
from dulcet.upper_layer.state import Event, State, action

__all__ = ["Connection"]

TimerName = Literal["artim", "associate", "release"]

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


class Connection:
    """The upper layer service of one connection, in either role."""

    def __init__(
        self, *, requestor: bool, config: AssociationConfig | None = None, pool: BufferPool | None = None
    ) -> None:
        self.requestor = requestor
        self.config = config or AssociationConfig()
        self.state = State.IDLE
        self.request: AssociateRQ | None = None
        self.answer: AssociateAC | AssociateRJ | None = None
        self.contexts: dict[int, PresentationContext] = {}
        """The accepted presentation contexts by id; empty until the association stands."""
        self.window = Window()
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
        self.journal: list[Happening] | None = [] if self.config.observers else None
        """What happened since the face last emptied it; None when nobody watches."""
        self._framer.journal = self.journal
        self._fragment = 0
        self._events: deque[UpperLayerEvent] = deque()
        self._out: deque[bytes | OutgoingMessage] = deque()
        self._timers: dict[TimerName, float | None] = {}
        self._eof = False
        self._deaf = False  # framing is lost: what still comes is thrown away
        self._pdu: PDU | None = None  # the PDU or primitive that the running action is about
        self._fault: RemoteProtocolError | None = None
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
                    self._fault = RemoteProtocolError(
                        f"{type(pdu).__name__} while {state.name.lower().replace('_', ' ')}", source=2, reason=2
                    )
                    self._process(RECEIVED[type(pdu)])
                else:  # DataBegins
                    self._fault = RemoteProtocolError(
                        f"P-DATA-TF while {state.name.lower().replace('_', ' ')}", source=2, reason=2
                    )
                    self._process(Event.DATA_RECEIVED)
            except RemoteProtocolError as fault:
                self._fault, self._pdu = fault, None
                self._deaf = True
                self._process(Event.INVALID_PDU_RECEIVED)

    def _finish(self) -> UpperLayerEvent | Signal:
        """Every byte is dealt with: give the buffer back, and let the end of the stream be an event."""
        if self._deaf or self.closed:
            self._framer.discard()
        self._framer.release_buffer()
        if self._eof and self.state is not State.IDLE:
            self._process(Event.TRANSPORT_CLOSED)
            return self._events.popleft()
        return NEED_DATA

    # ------------------------------------------------------------------ bytes out

    def data_to_send(self, limit: int = 256 * 1024) -> list[Segment]:
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
            self._note_sent(segments)
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
        request.encode()  # what cannot be encoded fails here, before anything starts
        self._local(Event.ASSOCIATE_REQUEST, request)

    def connection_made(self) -> None:
        """The transport connection stands: the requestor's asks, the acceptor's waits under ARTIM."""
        if self.journal is not None:
            self.journal.append(happenings.ConnectionOpened())
        self._local(Event.TRANSPORT_CONFIRMED if self.requestor else Event.TRANSPORT_INDICATED)

    def accept(self, answer: AssociateAC) -> None:
        """A-ASSOCIATE response, accepted."""
        answer.encode()
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
        for name, deadline in self._timers.items():
            if deadline is None:
                self._timers[name] = now + float(getattr(durations, name))
        return min(deadline for deadline in self._timers.values() if deadline is not None)

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
        action(event, self.state)  # an absent cell is the application's mistake: raised before anything changes
        self._pdu = pdu
        self._process(event)

    def _process(self, event: Event) -> None:
        name = action(event, self.state)
        self._started = True
        self.state = ACTIONS[name](self)
        self._framer.announce_data = self.state not in DATA_STATES

    def _send(self, pdu: PDU) -> None:
        self._out.append(pdu.encode())
        if self.journal is not None:
            match pdu:
                case AssociateRQ():
                    self.journal.append(happenings.AssociationRequested(pdu, by_us=True))
                case AssociateAC():
                    self.journal.append(happenings.AssociationAccepted(pdu, by_us=True))
                case AssociateRJ(result, source, reason):
                    self.journal.append(happenings.AssociationRefused(result, source, reason, by_us=True))
                case Abort(source, reason):
                    message = "" if self._fault is None else str(self._fault)
                    self.journal.append(happenings.AssociationAborted(source, reason, by_us=True, message=message))

    def _indicate(self, event: UpperLayerEvent) -> None:
        self._events.append(event)
        if self.journal is not None:
            match event:
                case AssociateRequested(request):
                    self.journal.append(happenings.AssociationRequested(request, by_us=False))
                case AssociateAccepted(accept):
                    self.journal.append(happenings.AssociationAccepted(accept, by_us=False))
                case AssociateRejected(reject):
                    refused = happenings.AssociationRefused(reject.result, reject.source, reject.reason, by_us=False)
                    self.journal.append(refused)
                case Aborted(source, reason, by_us) if not by_us:
                    self.journal.append(happenings.AssociationAborted(source, reason, by_us=False))
                case Closed(expected):
                    self.journal.append(happenings.ConnectionClosed(expected))
                case ReleaseConfirmed():
                    self.journal.append(happenings.AssociationReleased())

    def _note_sent(self, segments: list[Segment]) -> None:
        """Note the PDUs in what was handed out: headers stand at the start of segments of bytes, back to back or not."""
        assert self.journal is not None
        for segment in segments:
            position = 0
            while isinstance(segment, bytes) and position + 6 <= len(segment):
                pdu_type, length = PDU_HEADER.unpack_from(segment, position)
                self.journal.append(happenings.PDUSent(pdu_type, length))
                position += 6 + length

    def _start(self, timer: TimerName) -> None:
        self._timers[timer] = None

    def _stop(self, *timers: TimerName) -> None:
        for timer in timers:
            self._timers.pop(timer, None)

    def _establish(self, request: AssociateRQ, answer: AssociateAC) -> State:
        self.answer = answer
        self.contexts = outcome(request, answer, requestor=self.requestor)
        self.window = window(request, answer, requestor=self.requestor)
        own, peer = (request, answer) if self.requestor else (answer, request)
        # An application that makes its own PDU may have announced more than the configuration says, or no limit.
        self._framer.announced = own.maximum_length and max(own.maximum_length, self.config.maximum_length)
        self._fragment = fragment_length(peer.maximum_length, self.config.send_maximum)
        return State.ESTABLISHED

    # Table 9-6: association establishment

    def _ae1(self) -> State:
        """Issue the transport connect request: the face is doing so."""
        assert isinstance(self._pdu, AssociateRQ)
        self.request = self._pdu
        return State.AWAITING_TRANSPORT

    def _ae2(self) -> State:
        """Send A-ASSOCIATE-RQ."""
        assert self.request is not None
        self._send(self.request)
        self._start("associate")
        return State.AWAITING_ASSOCIATE_ANSWER

    def _ae3(self) -> State:
        """Confirm: accepted."""
        assert isinstance(self._pdu, AssociateAC)
        assert self.request is not None
        self._stop("associate")
        self._indicate(AssociateAccepted(self._pdu))
        return self._establish(self.request, self._pdu)

    def _ae4(self) -> State:
        """Confirm: rejected, and close."""
        assert isinstance(self._pdu, AssociateRJ)
        self._stop("associate")
        self.answer = self._pdu
        self._indicate(AssociateRejected(self._pdu))
        return self._close()

    def _ae5(self) -> State:
        """Take the transport connection and start ARTIM."""
        self._start("artim")
        return State.AWAITING_ASSOCIATE_RQ

    def _ae6(self) -> State:
        """Stop ARTIM; indicate the request, or reject what the protocol itself rejects."""
        assert isinstance(self._pdu, AssociateRQ)
        self._stop("artim")
        self.request = self._pdu
        reject = reject_reason(self._pdu)
        if reject is None:
            self._indicate(AssociateRequested(self._pdu))
            return State.AWAITING_ASSOCIATE_RESPONSE
        self.answer = reject
        self._send(reject)
        self._start("artim")
        return State.AWAITING_CLOSE

    def _ae7(self) -> State:
        """Send A-ASSOCIATE-AC."""
        assert isinstance(self._pdu, AssociateAC)
        assert self.request is not None
        self._send(self._pdu)
        return self._establish(self.request, self._pdu)

    def _ae8(self) -> State:
        """Send A-ASSOCIATE-RJ and start ARTIM."""
        assert isinstance(self._pdu, AssociateRJ)
        self.answer = self._pdu
        self._send(self._pdu)
        self._start("artim")
        return State.AWAITING_CLOSE

    # Table 9-7, data transfer, and AR-6 and AR-7: send_message sends, next_event indicates, and the state stays.

    # Table 9-8: release

    def _ar1(self) -> State:
        """Send A-RELEASE-RQ."""
        self._send(ReleaseRQ())
        self._start("release")
        return State.AWAITING_RELEASE_RP

    def _ar2(self) -> State:
        """Indicate the release."""
        self._indicate(ReleaseRequested())
        return State.AWAITING_RELEASE_RESPONSE

    def _ar3(self) -> State:
        """Confirm the release and close."""
        self._indicate(ReleaseConfirmed())
        return self._close()

    def _ar4(self) -> State:
        """Send A-RELEASE-RP and start ARTIM."""
        self._send(ReleaseRP())
        if self.journal is not None:
            self.journal.append(happenings.AssociationReleased())
        self._stop("release")
        self._start("artim")
        return State.AWAITING_CLOSE

    def _ar5(self) -> State:
        """Stop ARTIM: the peer closed as it should."""
        self._indicate(Closed(expected=True))
        return self._over()

    def _ar8(self) -> State:
        """Release collision: the requestor answers first, the acceptor waits for that answer."""
        self._indicate(ReleaseRequested(collision=True))
        return State.COLLISION_REQUESTOR_RESPONSE if self.requestor else State.COLLISION_ACCEPTOR_RP

    def _ar9(self) -> State:
        """Send A-RELEASE-RP (collision, requestor)."""
        self._send(ReleaseRP())
        return State.COLLISION_REQUESTOR_RP

    def _ar10(self) -> State:
        """Confirm the release (collision, acceptor); our own answer is owed now."""
        self._stop("release")
        self._indicate(ReleaseConfirmed())
        return State.COLLISION_ACCEPTOR_RESPONSE

    # Table 9-9: abort

    def _aa1(self) -> State:
        """Send A-ABORT and start ARTIM.

        The table says source "service-user" for bytes that are wrong before an association as well; those we answer as
        the provider that we are, with its reason, for only then can the peer's log say what was wrong.
        """
        if isinstance(self._pdu, Abort):
            abort = self._pdu
        else:
            assert self._fault is not None
            abort = Abort(self._fault.source, self._fault.reason)
            self._indicate(Aborted(abort.source, abort.reason, by_us=True, message=str(self._fault)))
        self._drop_output()
        self._send(abort)
        self._stop("associate", "release")
        self._start("artim")
        return State.AWAITING_CLOSE

    def _aa2(self) -> State:
        """Stop ARTIM and close; a last word that could not leave by now never will."""
        return self._over()

    def _aa3(self) -> State:
        """The peer aborted: indicate it and close."""
        assert isinstance(self._pdu, Abort)
        self._indicate(Aborted(self._pdu.source, self._pdu.reason))
        self._drop_output()
        return self._close()

    def _aa4(self) -> State:
        """The transport is gone in the middle of it (A-P-ABORT)."""
        self._indicate(Closed(expected=False))
        return self._over()

    def _aa5(self) -> State:
        """Stop ARTIM: a connection came and went without a word."""
        self._indicate(Closed(expected=not self._framer.mid_pdu))
        return self._over()

    def _aa6(self) -> State:
        """Ignore the PDU."""
        return State.AWAITING_CLOSE

    def _aa7(self) -> State:
        """Send A-ABORT once more, unless a last word has not left yet: a flood is not answered with one."""
        assert self._fault is not None
        if not self._out:
            self._send(Abort(2, self._fault.reason))
        return State.AWAITING_CLOSE

    def _aa8(self) -> State:
        """Send A-ABORT as provider, indicate it, start ARTIM."""
        assert self._fault is not None
        self._drop_output()
        self._send(Abort(2, self._fault.reason))
        self._indicate(Aborted(2, self._fault.reason, by_us=True, message=str(self._fault)))
        self._stop("associate", "release")
        self._start("artim")
        return State.AWAITING_CLOSE

    def _drop_output(self) -> None:
        """An abort overtakes what is queued; what was asked for before is whole PDUs, so the stream stays sound."""
        self._out.clear()

    def _close(self) -> State:
        """The transport connection is to be closed, by us."""
        if self.journal is not None:
            self.journal.append(happenings.ConnectionClosed(expected=True))
        self._timers.clear()
        self.wants_close = True
        return State.IDLE

    def _over(self) -> State:
        """The transport connection is gone, which was indicated."""
        self._out.clear()
        self._timers.clear()
        self.wants_close = True
        return State.IDLE


ACTIONS: Final[dict[str, Callable[[Connection], State]]] = {
    "AE-1": Connection._ae1,
    "AE-2": Connection._ae2,
    "AE-3": Connection._ae3,
    "AE-4": Connection._ae4,
    "AE-5": Connection._ae5,
    "AE-6": Connection._ae6,
    "AE-7": Connection._ae7,
    "AE-8": Connection._ae8,
    "AR-1": Connection._ar1,
    "AR-2": Connection._ar2,
    "AR-3": Connection._ar3,
    "AR-4": Connection._ar4,
    "AR-5": Connection._ar5,
    "AR-8": Connection._ar8,
    "AR-9": Connection._ar9,
    "AR-10": Connection._ar10,
    "AA-1": Connection._aa1,
    "AA-2": Connection._aa2,
    "AA-3": Connection._aa3,
    "AA-4": Connection._aa4,
    "AA-5": Connection._aa5,
    "AA-6": Connection._aa6,
    "AA-7": Connection._aa7,
    "AA-8": Connection._aa8,
}
