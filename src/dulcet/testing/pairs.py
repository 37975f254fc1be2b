"""Two ends of an association without sockets: a wire that cuts where a test says, a clock that a test moves.

Rules: only the public face of the core is used; bytes go in through `get_buffer()` as a transport puts them and come
out as whole PDUs; what lies in a file is read where a face would read it; events are kept with their bytes copied, for
views are borrowed; a core that neither moves nor waits for something is a failure, never a hang.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.events import AssociationEvent, DataReceived, RequestReceived
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.upper_layer.events import NEED_DATA, Signal
from dulcet.upper_layer.fragments import FileSpan, Segment
from dulcet.upper_layer.framing import BufferPool
from dulcet.upper_layer.negotiation import Offer, PresentationContext, Proposal, Window, associate_request
from dulcet.upper_layer.pdu import PDV, PDataTF, encode

__all__ = [
    "CT",
    "EVERYTHING",
    "EXPLICIT",
    "FIND",
    "GET",
    "IMPLICIT",
    "MOVE",
    "PROPOSALS",
    "VERIFICATION",
    "WHOLE",
    "Application",
    "End",
    "Pair",
    "Piece",
    "Provider",
    "Seen",
    "Wire",
    "context",
    "echo",
    "echo_rq",
    "find",
    "flat",
    "get",
    "kept",
    "message",
    "p_data",
    "pending",
    "request",
    "response",
    "store",
]

VERIFICATION: Final = uids.VERIFICATION
CT: Final = uids.CT_IMAGE_STORAGE
FIND: Final = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
GET: Final = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
MOVE: Final = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
IMPLICIT: Final = uids.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT: Final = uids.EXPLICIT_VR_LITTLE_ENDIAN

PROPOSALS: Final = (
    Proposal(VERIFICATION, (IMPLICIT,), provider=True),
    Proposal(CT, (EXPLICIT,), provider=True),
    Proposal(CT, (IMPLICIT,), provider=True),
    Proposal(FIND, (IMPLICIT,)),
    Proposal(GET, (IMPLICIT,)),
    Proposal(MOVE, (IMPLICIT,)),
)
"""Context ids 1, 3, 5, 7, 9, 11; echo and store in both roles."""
EVERYTHING: Final = Offer(syntaxes={}, any_class=())

WHOLE: Final = 1 << 30
"""A read that takes all there is."""

Wire = Callable[[bytes, "End"], bytes]
"""What becomes of bytes on their way to an end."""
Application = Callable[[DimseAssociation, AssociationEvent], object]


@dataclass(frozen=True)
class Piece:
    """A DataReceived whose bytes are ours."""

    request: Request
    data: bytes
    is_last: bool


Seen = AssociationEvent | Piece


class End:
    """One core, the bytes on their way to it, what it was told, and what its application does about it."""

    def __init__(self, core: DimseAssociation, cuts: Iterator[int]) -> None:
        self.core = core
        self.application: Application | None = None
        self.seen: list[Seen] = []
        self.signal: Signal = NEED_DATA
        """What `next_event()` said last instead of an event."""
        self.inbox: bytearray = bytearray()
        self.sends = True
        """False: its transport takes no bytes, as when the peer does not read."""
        self.reads = True
        """False: nobody looks at the transport nor pulls events, as when the application is busy."""
        self.eof = False
        self._cuts = cuts

    def told(self) -> list[Seen]:
        """What it was told since it was last asked."""
        seen, self.seen = self.seen, []
        return seen

    def receive(self, data: bytes) -> None:
        """Put bytes on the wire to this end."""
        self.inbox += data

    def read(self) -> bool:
        """One read of the transport; False when there was nothing to read or no room."""
        core = self.core
        if not self.inbox or core.is_full:
            return False
        buffer = core.get_buffer()
        count = min(next(self._cuts), len(self.inbox), len(buffer))
        buffer[:count] = self.inbox[:count]
        del self.inbox[:count]
        core.buffer_updated(count)
        return True

    def pull(self) -> bool:
        """Every event that there is; False when there was none."""
        told = False
        while not isinstance(event := self.core.next_event(), Signal):
            told = True
            self.seen.append(kept(event))
            if self.application is not None:
                self.application(self.core, event)
        self.signal = event
        return told

    def drain(self, limit: int = 256 * 1024) -> bytes:
        """What it has to send; nothing while its transport is stuck."""
        parts = []
        while self.sends and (segments := self.core.data_to_send(limit)):
            parts.append(flat(segments))
        return b"".join(parts)


class Pair:
    """A requestor and an acceptor under one clock."""

    def __init__(
        self,
        *,
        config: AssociationConfig | None = None,
        acceptor_config: AssociationConfig | None = None,
        proposals: Sequence[Proposal] = PROPOSALS,
        cuts: Iterable[int] | None = None,
        wire: Wire | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        """`cuts` are the sizes of the reads at both ends, without end; by default a read takes what there is."""
        self.config: AssociationConfig = config or AssociationConfig()
        self.proposals = proposals
        sizes = iter(repeat(WHOLE) if cuts is None else cuts)
        self.requestor: End = End(DimseAssociation(requestor=True, config=self.config, pool=pool), sizes)
        answering = DimseAssociation(requestor=False, config=acceptor_config or self.config, pool=pool)
        self.acceptor: End = End(answering, sizes)
        self.ends: tuple[End, End] = (self.requestor, self.acceptor)
        self.wire = wire
        self.now: float = 1000.0

    def other(self, end: End) -> End:
        return self.acceptor if end is self.requestor else self.requestor

    def connect(self) -> None:
        """The transport connection stands and the requestor asks."""
        config = self.config
        self.requestor.core.associate(
            associate_request(
                self.proposals,
                called="ACCEPTOR",
                calling="REQUESTOR",
                maximum_length=config.maximum_length,
                implementation_class_uid=config.implementation_class_uid,
                implementation_version_name=config.implementation_version_name,
                window=Window(config.window_invoked, config.window_performed),
            )
        )
        self.requestor.core.connection_made()
        self.acceptor.core.connection_made()
        self.run()

    def establish(self, offer: Offer | None = None) -> Pair:
        """Associate, and forget how it came about."""
        self.connect()
        config = self.acceptor.core.config
        if offer is None:
            window = Window(config.window_invoked, config.window_performed)
            offer = Offer(syntaxes={}, any_class=(), maximum_length=config.maximum_length, window=window)
        self.acceptor.core.accept(offer)
        self.run()
        for end in self.ends:
            assert end.core.is_established
            end.told()
        return self

    def step(self) -> bool:
        """What each end has to send goes to the other, each reads once and pulls; False when nothing moved."""
        moved = False
        for end in self.ends:
            other = self.other(end)
            data = end.drain()
            moved |= bool(data)
            if data and self.wire is not None:
                data = self.wire(data, other)
            if not other.core.closed:
                other.inbox += data
            if end.core.wants_close and not end.core.has_output and not other.eof:
                other.eof = moved = True
        for end in self.ends:
            if not end.reads:
                continue
            moved |= end.read()
            if end.eof and not end.inbox and not end.core.closed:
                end.core.eof_received()
            moved |= end.pull()
        return moved

    def run(self, steps: int = 2_000_000) -> None:
        """Until nothing moves any more, time standing still."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError(f"still moving after {steps} steps")

    def timer(self) -> float | None:
        """Seconds until the next timer of either end."""
        deadlines = [deadline for end in self.ends if (deadline := end.core.timer(self.now)) is not None]
        return min(deadlines) - self.now if deadlines else None

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer, everything that can move moving in between."""
        until = self.now + seconds
        for _ in range(10_000):
            self.run()
            left = self.timer()
            if left is None or self.now + left > until:
                self.now = until
                return
            self.now += max(left, 0.0)
            for end in self.ends:
                end.core.handle_timer(self.now)
        raise AssertionError("timers run out without end")


class Provider:
    """An application that answers at once: C-STORE when its data set is whole, any other request when it comes."""

    def __init__(self, status: int = Status.SUCCESS) -> None:
        self.status = status
        self.requests: list[Request] = []
        self.stored: list[tuple[str | None, bytes]] = []
        """SOP instance UID and data set of each C-STORE, in the order in which they became whole."""
        self._parts: list[bytes] = []

    def __call__(self, core: DimseAssociation, event: AssociationEvent) -> None:
        if isinstance(event, RequestReceived):
            self.requests.append(event.request)
            if not event.request.streams:
                core.respond_status(event.request, self.status)
        elif isinstance(event, DataReceived):
            self._parts.append(bytes(event.data))
            if event.is_last:
                self.stored.append((event.request.command.sop_instance_uid, b"".join(self._parts)))
                self._parts.clear()
                core.respond_status(event.request, self.status)


def kept(event: AssociationEvent) -> Seen:
    """The event with its bytes copied."""
    if isinstance(event, DataReceived):
        return Piece(event.request, bytes(event.data), event.is_last)
    return event


def flat(segments: Iterable[Segment]) -> bytes:
    """The bytes of segments, files read; fails when a file is shorter than said."""
    parts = []
    for segment in segments:
        if isinstance(segment, FileSpan):
            data = os.pread(segment.file, segment.length, segment.offset)
            assert len(data) == segment.length, f"the file ends {segment.length - len(data)} bytes early"
            parts.append(data)
        else:
            parts.append(bytes(segment))
    return b"".join(parts)


# --- requests, as an application makes them -----------------------------------------------------------------------


def context(core: DimseAssociation, sop_class_uid: str, transfer_syntax: str | None = None) -> PresentationContext:
    """The accepted context to invoke on."""
    return core.need_context(sop_class_uid, transfer_syntax)


def echo(end: End, message_id: int | None = None) -> Operation:
    """C-ECHO."""
    return end.core.invoke(context(end.core, VERIFICATION), echo_rq(message_id))


def store(end: End, data: Source, instance: str = "1.2.3", transfer_syntax: str | None = None) -> Operation:
    """C-STORE of a CT image."""
    return end.core.store(context(end.core, CT, transfer_syntax), CT, instance, data)


def find(end: End, identifier: bytes = b"identifier") -> Operation:
    """C-FIND."""
    return end.core.invoke(context(end.core, FIND), request(CommandField.C_FIND_RQ, FIND, data_set=True), identifier)


def get(end: End, identifier: bytes = b"identifier") -> Operation:
    """C-GET."""
    return end.core.invoke(context(end.core, GET), request(CommandField.C_GET_RQ, GET, data_set=True), identifier)


def pending(
    core: DimseAssociation, request: Request, status: int = Status.PENDING, data: bytes | None = b"match"
) -> None:
    """A pending response."""
    core.respond(request, response(request.field, request.message_id, status, data_set=data is not None), data)


def echo_rq(message_id: int | None = None) -> Command:
    """C-ECHO-RQ; without a message id the core gives one."""
    return request(CommandField.C_ECHO_RQ, VERIFICATION, message_id)


def request(field: int, sop_class_uid: str, message_id: int | None = None, *, data_set: bool = False) -> Command:
    """Any request, unchecked; a C-STORE names the instance 1.2.3."""
    return Command.make(
        field,
        data_set=data_set,
        validate=False,
        AffectedSOPClassUID=sop_class_uid,
        MessageID=message_id,
        AffectedSOPInstanceUID="1.2.3" if field == CommandField.C_STORE_RQ else None,
    )


def response(field: int, message_id: int | None, status: int | None = 0, *, data_set: bool = False) -> Command:
    """Any response, unchecked; `field` is that of the request."""
    return Command.make(
        field | 0x8000, data_set=data_set, validate=False, MessageIDBeingRespondedTo=message_id, Status=status
    )


# --- messages, as a peer that keeps no rule writes them ------------------------------------------------------------


def message(
    context_id: int,
    command: Command | bytes,
    data: bytes | None = None,
    *,
    fragment: int = 16378,
    together: bool = False,
) -> bytes:
    """A message in P-DATA-TF PDUs, one PDV each, or `together` all in one PDU."""
    encoded = command if isinstance(command, bytes) else command.encode()
    pdvs = [
        PDV(context_id, is_command, start + fragment >= len(part), part[start : start + fragment])
        for is_command, part in ((True, encoded), (False, data))
        if part is not None
        for start in range(0, max(len(part), 1), fragment)
    ]
    return p_data(*pdvs) if together else b"".join(p_data(pdv) for pdv in pdvs)


def p_data(*pdvs: PDV) -> bytes:
    """One P-DATA-TF."""
    return encode(PDataTF(pdvs))
