"""The actions of the upper layer state machine (PS3.8 Tables 9-6 to 9-9), named as the standard names them.

Rule: an action is tiny, does what its row says and gives the next state; what to do when is the table's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from dulcet.config import AssociationConfig
from dulcet.errors import RemoteProtocolError
from dulcet.upper_layer.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    UpperLayerEvent,
)
from dulcet.upper_layer.fragments import OutgoingMessage, fragment_length
from dulcet.upper_layer.framing import Framer
from dulcet.upper_layer.negotiation import PresentationContext, Window, outcome, reject_reason, window
from dulcet.upper_layer.pdu import PDU, Abort, AssociateAC, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ
from dulcet.upper_layer.state import State
from dulcet.upper_layer.trace_events import AssociationReleased, ConnectionClosed, indicated, pdu_queued

__all__ = ["ACTIONS", "Actions", "TimerName"]

TimerName = Literal["artim", "associate", "release"]


class Actions:
    """What a connection is made of, as far as its actions touch it."""

    requestor: bool
    config: AssociationConfig
    state: State
    request: AssociateRQ | None
    answer: AssociateAC | AssociateRJ | None
    contexts: dict[int, PresentationContext]
    window: Window
    wants_close: bool
    journal: list[object] | None
    _framer: Framer
    _fragment: int
    _events: deque[UpperLayerEvent]
    _out: deque[bytes | OutgoingMessage]
    _timers: dict[TimerName, float | None]
    _pdu: PDU | None  # the PDU or primitive that the running action is about
    _fault: RemoteProtocolError | None  # what is wrong with what came, should the action answer that
    _encoded: bytes | None  # the bytes of our A-ASSOCIATE-RQ or -AC, until it is queued

    def _send(self, pdu: PDU) -> None:
        self._out.append(pdu.encode())
        self._sent(pdu)

    def _send_encoded(self, pdu: AssociateRQ | AssociateAC) -> None:
        """The same for what was encoded when it was asked for, for it may be long."""
        assert self._encoded is not None
        self._out.append(self._encoded)
        self._encoded = None
        self._sent(pdu)

    def _sent(self, pdu: PDU) -> None:
        if self.journal is not None and (trace_event := pdu_queued(pdu, self._fault)) is not None:
            self.journal.append(trace_event)

    def _indicate(self, event: UpperLayerEvent) -> None:
        self._events.append(event)
        if self.journal is not None and (trace_event := indicated(event)) is not None:
            self.journal.append(trace_event)

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
        self._send_encoded(self.request)
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
        self._send_encoded(self._pdu)
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
            self.journal.append(AssociationReleased())
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
            self.journal.append(ConnectionClosed(expected=True))
        self._timers.clear()
        self.wants_close = True
        return State.IDLE

    def _over(self) -> State:
        """The transport connection is gone, which was indicated."""
        self._out.clear()
        self._timers.clear()
        self.wants_close = True
        return State.IDLE


ACTIONS: Final[dict[str, Callable[[Actions], State]]] = {
    "AE-1": Actions._ae1,
    "AE-2": Actions._ae2,
    "AE-3": Actions._ae3,
    "AE-4": Actions._ae4,
    "AE-5": Actions._ae5,
    "AE-6": Actions._ae6,
    "AE-7": Actions._ae7,
    "AE-8": Actions._ae8,
    "AR-1": Actions._ar1,
    "AR-2": Actions._ar2,
    "AR-3": Actions._ar3,
    "AR-4": Actions._ar4,
    "AR-5": Actions._ar5,
    "AR-8": Actions._ar8,
    "AR-9": Actions._ar9,
    "AR-10": Actions._ar10,
    "AA-1": Actions._aa1,
    "AA-2": Actions._aa2,
    "AA-3": Actions._aa3,
    "AA-4": Actions._aa4,
    "AA-5": Actions._aa5,
    "AA-6": Actions._aa6,
    "AA-7": Actions._aa7,
    "AA-8": Actions._aa8,
}
