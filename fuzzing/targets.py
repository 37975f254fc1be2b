"""What is fuzzed: bytes in, a value or a protocol error out; any other exception is a find.

Rules: a target is total, deterministic and leaves nothing behind; it runs without atheris too, so that tests can play
seeds and finds again (tests/hostile/test_fuzzing.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from dulcet import uids
from dulcet.config import AssociationConfig, Limits, Timers
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.events import DataReceived, RequestReceived
from dulcet.dimse.messages import CommandField
from dulcet.errors import DulcetError, LocalProtocolError, NoPresentationContext, ProtocolError, RemoteProtocolError
from dulcet.part10.scanner import ScanLimits, scan
from dulcet.part10.sources import ScanError
from dulcet.upper_layer.events import NEED_DATA, PAUSED, AssociateRequested, ReleaseRequested
from dulcet.upper_layer.framing import BufferPool
from dulcet.upper_layer.negotiation import Offer, Proposal, Window, accept, associate_request, outcome
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ, PDataTF, decode, encode

__all__ = ["TARGETS", "seeds"]

CT: Final = uids.CT_IMAGE_STORAGE
FIND: Final = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
IMPLICIT: Final = uids.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT: Final = uids.EXPLICIT_VR_LITTLE_ENDIAN
EVERYTHING: Final = Offer(syntaxes={}, any_class=(), window=Window(4, 4))
PROPOSALS: Final = (
    Proposal(uids.VERIFICATION, (IMPLICIT,), provider=True),
    Proposal(CT, (EXPLICIT, IMPLICIT), provider=True),
    Proposal(FIND, (IMPLICIT,)),
)
POOL: Final = BufferPool(4096)
CONFIG: Final = AssociationConfig(
    maximum_length=4096,
    window_invoked=4,
    window_performed=4,
    limits=Limits(identifier=4096, command_set=4096, associate_pdu=16384, unanswered=4),
    timers=Timers(artim=5.0, idle=20.0, progress=10.0, response=15.0),
)


def pdu(data: bytes) -> None:
    """One PDU: what decodes encodes to the same value, and can be negotiated about."""
    try:
        made = decode(data)
    except RemoteProtocolError:
        return
    again = encode(made)
    assert decode(again) == made, made
    if isinstance(made, AssociateRQ):
        repr(made)
        with contextlib.suppress(LocalProtocolError):
            answer = accept(made, EVERYTHING)
            answer.encode()
            outcome(made, answer, requestor=False)
    elif isinstance(made, AssociateAC):
        outcome(request(), made, requestor=True)


def command(data: bytes) -> None:
    """One command set: what decodes says what it is, and can be encoded."""
    try:
        made = Command.decode(data)
    except RemoteProtocolError:
        return
    repr(made)
    _ = made.name, made.field, made.is_response, made.has_data_set, made.sop_class_uid, made.sop_instance_uid
    _ = made.message_id, made.message_id_being_responded_to, made.status
    with contextlib.suppress(LocalProtocolError):
        Command.decode(made.encode())


def header(data: bytes) -> None:
    """A data set's header; the first byte says in which transfer syntax."""
    if not data:
        return
    syntaxes = (IMPLICIT, EXPLICIT, uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    try:
        found = scan(data[1:], syntaxes[data[0] & 3], limits=LIMITS)
        for tag in found:
            found.text(tag), found.texts(tag), found.uid(tag), found.int(tag)
            with contextlib.suppress(ScanError):
                found.items(tag)
    except ScanError:
        return


LIMITS: Final = ScanLimits(inflated=1 << 20, elements=20_000)


def session(data: bytes) -> None:
    """A whole session: the bytes are what the peer sends, cut as they say, and what our application does meanwhile."""
    if len(data) < 2:
        return
    acceptor, established = bool(data[0] & 1), bool(data[0] & 2)
    play = Session(acceptor, established)
    position = 2
    while position < len(data):
        step = data[position]
        size = step & 0x7F if step < 0xE0 else 0
        play.receive(data[position + 1 : position + 1 + size])
        if step >= 0xE0:
            play.act(step & 0x1F)
        position += 1 + size
    play.end(bool(data[1] & 1))


class Session:
    """One end of an association, its application, and a clock."""

    def __init__(self, acceptor: bool, established: bool) -> None:
        self.now = 0.0
        self.core = DimseAssociation(requestor=not acceptor, config=CONFIG, pool=POOL)
        self.owed: list[RequestReceived] = []
        if not acceptor:
            self.core.associate(request())
        self.core.connection_made()
        self.drain()
        if established:
            self.feed(encode(request()) if acceptor else encode(accept(request(), EVERYTHING)))
            assert self.core.is_established

    def receive(self, data: bytes) -> None:
        self.feed(data)
        self.drain()

    def feed(self, data: bytes) -> None:
        core = self.core
        while data and not core.closed:
            if core.is_full:
                return
            buffer = core.get_buffer()
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            core.buffer_updated(count)
            data = data[count:]
            self.pull()

    def pull(self) -> None:
        core = self.core
        for _ in range(100_000):
            event = core.next_event()
            if event is NEED_DATA or event is PAUSED:
                return
            if isinstance(event, AssociateRequested):
                core.accept(EVERYTHING)
            elif isinstance(event, ReleaseRequested):
                core.release_response()
            elif isinstance(event, RequestReceived):
                self.owed.append(event)
            elif isinstance(event, DataReceived):
                bytes(event.data)
        raise AssertionError("events without end")

    def drain(self) -> None:
        for _ in range(10_000):
            if not self.core.data_to_send():
                return
        raise AssertionError("output without end")

    def act(self, choice: int) -> None:
        """Something that an application may do at any time; the core may refuse it, in its own words."""
        core = self.core
        with contextlib.suppress(ProtocolError, NoPresentationContext):
            match choice & 7:
                case 0:
                    self.time(float(1 << (choice >> 3)))
                case 1 if self.owed:
                    core.respond_status(self.owed.pop(0).request, 0)
                case 2 if self.owed:
                    core.respond_status(self.owed.pop().request, 0xA700)
                case 3:
                    core.invoke(core.need_context(uids.VERIFICATION), ECHO)
                case 4:
                    core.store(core.need_context(CT), CT, "1.2.3", bytes(300))
                case 5:
                    core.invoke(core.need_context(FIND), QUERY, b"identifier")
                case 6 if core.outstanding:
                    core.cancel(next(iter(core.outstanding.values())))
                case 7:
                    (core.release, core.abort)[choice >> 3 & 1]()
        self.pull()
        self.drain()

    def time(self, seconds: float) -> None:
        core = self.core
        core.timer(self.now)
        self.now += seconds
        core.handle_timer(self.now)
        self.pull()

    def end(self, closes: bool) -> None:
        """However it was: it comes to its end, by the peer's close or by the clock."""
        core = self.core
        if closes:
            core.eof_received()
            self.pull()
        for _ in range(40):
            for owed in self.owed:
                with contextlib.suppress(ProtocolError):
                    core.respond_status(owed.request, 0)
            self.owed.clear()
            self.pull()
            self.drain()
            if core.closed or core.timer(self.now) is None:
                break
            self.time(60.0)
        if not core.closed:
            with contextlib.suppress(DulcetError):
                core.abort()
            core.eof_received()
            self.pull()
        assert core.closed, core.connection.state


def request() -> AssociateRQ:
    return associate_request(
        PROPOSALS,
        called="CALLED",
        calling="CALLING",
        maximum_length=4096,
        implementation_class_uid="1.2.3",
        implementation_version_name="FUZZ",
        window=Window(4, 4),
    )


ECHO: Final = Command.make(CommandField.C_ECHO_RQ, validate=False, AffectedSOPClassUID=uids.VERIFICATION)
QUERY: Final = Command.make(CommandField.C_FIND_RQ, data_set=True, validate=False, AffectedSOPClassUID=FIND)

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "pdu": pdu,
    "command": command,
    "header": header,
    "session": session,
}


def seeds(target: str) -> Iterator[bytes]:
    """Good input to start from."""
    from dulcet.upper_layer.pdu import PDV, Abort, AssociateRJ, ReleaseRP, ReleaseRQ

    echo = ECHO.replace(MessageID=1).encode()
    store = Command.make(
        CommandField.C_STORE_RQ,
        data_set=True,
        AffectedSOPClassUID=CT,
        AffectedSOPInstanceUID="1.2.3",
        MessageID=2,
        Priority=0,
    ).encode()
    answer = Command.make(
        CommandField.C_ECHO_RSP, AffectedSOPClassUID=uids.VERIFICATION, MessageIDBeingRespondedTo=1, Status=0
    ).encode()
    messages = [
        PDataTF((PDV(1, True, True, echo),)),
        PDataTF((PDV(3, True, True, store), PDV(3, False, True, bytes(50)))),
        PDataTF((PDV(1, True, True, answer),)),
    ]
    pdus = [request(), accept(request(), EVERYTHING), AssociateRJ(1, 1, 1), *messages]
    pdus += [ReleaseRQ(), ReleaseRP(), Abort(2, 1)]
    if target == "pdu":
        yield from map(encode, pdus)
    elif target == "command":
        yield from (echo, store, answer, QUERY.replace(MessageID=3, validate=False).encode())
    elif target == "header":
        yield from headers()
    else:
        for head in (b"\3\0", b"\3\1", b"\2\0", b"\1\0", b"\0\1"):
            whole = [encode(pdu) for pdu in (pdus[0] if head[0] & 1 else pdus[1], *messages, *pdus[-3:-2])]
            words = whole[1:] if head[0] & 2 else whole
            yield head + b"".join(pieces(word) + b"\xe1\xe3" for word in words)


def pieces(data: bytes) -> bytes:
    """Bytes as `session` takes them."""
    return b"".join(bytes((len(data[at : at + 127]),)) + data[at : at + 127] for at in range(0, len(data), 127))


def headers() -> Iterator[bytes]:
    """Data sets of every transfer syntax that is told apart."""
    import zlib

    uid = b"1.2.840.10008.5.1.4.1.1.2\0"
    explicit = b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x16\0UI\x1a\0" + uid + b"\x10\0\x10\0PN\x04\0A^B "
    nested = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + explicit
    nested += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    implicit = b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0\x1a\0\0\0" + uid
    big = b"\0\x08\0\x05CS\0\x0aISO_IR 100\0\x08\0\x16UI\0\x1a" + uid
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    yield b"\1" + explicit
    yield b"\1" + explicit + nested
    yield b"\1" + explicit + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0"
    yield b"\0" + implicit
    yield b"\2" + big
    yield b"\3" + deflate.compress(explicit + nested) + deflate.flush()
