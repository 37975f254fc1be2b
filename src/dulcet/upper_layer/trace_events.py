"""What happens on an association below its messages, for those who only watch: logs, metrics, traces.

`dulcet.dimse.trace_events` has these and those of messages.

Rules: values, written to a journal that a face hands on to observers; without observers there is no journal and
nothing is made; nothing here can change what the core does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dulcet.upper_layer import events
from dulcet.upper_layer.fragments import Segment
from dulcet.upper_layer.pdu import PDU, PDU_HEADER, Abort, AssociateAC, AssociateRJ, AssociateRQ

__all__ = [
    "AssociationAborted",
    "AssociationAccepted",
    "AssociationRefused",
    "AssociationReleased",
    "AssociationRequested",
    "ConnectionClosed",
    "ConnectionOpened",
    "HandshakeFailed",
    "PDUReceived",
    "PDUSent",
    "UpperLayerTraceEvent",
    "indicated",
    "pdu_queued",
    "pdus_sent",
]


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """The transport connection stands."""


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """No TLS connection came about; `message` says why."""

    message: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The transport connection is over; `expected` when the association was over before."""

    expected: bool


@dataclass(frozen=True, slots=True)
class PDUReceived:
    """A PDU came, or the header of a P-DATA-TF did; `length` is its length field."""

    pdu_type: int
    length: int


@dataclass(frozen=True, slots=True)
class PDUSent:
    """A PDU was handed to the transport; `length` is its length field."""

    pdu_type: int
    length: int


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """A-ASSOCIATE-RQ went out or came in."""

    request: AssociateRQ
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationAccepted:
    """A-ASSOCIATE-AC came in or went out."""

    accept: AssociateAC
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationRefused:
    """A-ASSOCIATE-RJ came in or went out."""

    result: int
    source: int
    reason: int
    by_us: bool


@dataclass(frozen=True, slots=True)
class AssociationReleased:
    """The association was released in order."""


@dataclass(frozen=True, slots=True)
class AssociationAborted:
    """A-ABORT came in or went out; `message` is the fault that we found, if one."""

    source: int
    reason: int
    by_us: bool
    message: str = ""


UpperLayerTraceEvent = (
    ConnectionOpened
    | ConnectionClosed
    | HandshakeFailed
    | PDUReceived
    | PDUSent
    | AssociationRequested
    | AssociationAccepted
    | AssociationRefused
    | AssociationReleased
    | AssociationAborted
)


def pdu_queued(pdu: PDU, fault: Exception | None) -> UpperLayerTraceEvent | None:
    """What a PDU of ours means for the association; `fault` is what we found wrong before, if anything."""
    match pdu:
        case AssociateRQ():
            return AssociationRequested(pdu, by_us=True)
        case AssociateAC():
            return AssociationAccepted(pdu, by_us=True)
        case AssociateRJ(result, source, reason):
            return AssociationRefused(result, source, reason, by_us=True)
        case Abort(source, reason):
            return AssociationAborted(source, reason, by_us=True, message="" if fault is None else str(fault))
    return None


def indicated(event: events.UpperLayerEvent) -> UpperLayerTraceEvent | None:
    """What an indication or confirmation means for the association."""
    match event:
        case events.AssociateRequested(request):
            return AssociationRequested(request, by_us=False)
        case events.AssociateAccepted(accept):
            return AssociationAccepted(accept, by_us=False)
        case events.AssociateRejected(reject):
            return AssociationRefused(reject.result, reject.source, reject.reason, by_us=False)
        case events.Aborted(source, reason, by_us) if not by_us:
            return AssociationAborted(source, reason, by_us=False)
        case events.Closed(expected):
            return ConnectionClosed(expected)
        case events.ReleaseConfirmed():
            return AssociationReleased()
    return None


def pdus_sent(segments: Iterable[Segment]) -> Iterator[PDUSent]:
    """The PDUs in what was handed out: headers stand at the start of segments of bytes, back to back or not."""
    for segment in segments:
        position = 0
        while isinstance(segment, bytes) and position + 6 <= len(segment):
            pdu_type, length = PDU_HEADER.unpack_from(segment, position)
            yield PDUSent(pdu_type, length)
            position += 6 + length
