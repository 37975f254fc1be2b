"""Peers that break PS3.7 and PS3.8 section 9.3.5: messages that are none, and thousands of spoilt sessions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.pairs import (
    CT,
    EVERYTHING,
    FIND,
    End,
    Pair,
    echo,
    echo_rq,
    find,
    get,
    message,
    p_data,
    pending,
    request,
    response,
    store,
)

from dulcet.config import AssociationConfig, Limits, Timers
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import AssociationEvent, DataReceived, RequestReceived, RequestRefused, ResponseReceived
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.errors import NoPresentationContext, ProtocolError
from dulcet.upper_layer.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)
from dulcet.upper_layer.pdu import PDV

ECHO = echo_rq(1).encode()
STORE = request(CommandField.C_STORE_RQ, CT, 2, data_set=True).encode()
FIND_RQ = request(CommandField.C_FIND_RQ, FIND, 3, data_set=True).encode()
ANSWER = response(CommandField.C_FIND_RQ, 3, 0xFF00, data_set=True).encode()

HUGE = message(1, ECHO[:12] + bytes(70_000), fragment=60_000)
HUGE_AT_ONCE = message(1, bytes(65_537), fragment=100_000)

BROKEN: dict[str, tuple[bytes, str]] = {
    "a command fragment in the middle of a data set": (
        message(3, STORE) + message(3, ECHO),
        "a command set began before the data set before it had ended",
    ),
    "a command fragment in the middle of an identifier": (
        message(7, FIND_RQ) + p_data(PDV(7, False, False, b"id"), PDV(7, True, True, ECHO)),
        "a command set began before the data set before it had ended",
    ),
    "a command fragment in the middle of a response": (
        message(7, ANSWER) + message(7, ANSWER),
        "a command set began before the data set before it had ended",
    ),
    "a command on another context in the middle of a data set": (
        message(3, STORE) + message(1, ECHO),
        "a command set began before the data set before it had ended",
    ),
    "data without a command": (p_data(PDV(3, False, True, b"data")), "a data set came without a command set"),
    "data behind a command that announces none": (
        message(1, ECHO, b"data"),
        "a data set came without a command set",
    ),
    "data behind half a command": (
        p_data(PDV(3, True, False, STORE[:40]), PDV(3, False, True, b"data")),
        "a data set came without a command set",
    ),
    "a context change within a command set": (
        p_data(PDV(1, True, False, ECHO[:30]), PDV(3, True, True, ECHO[30:])),
        "a command set changed its presentation context half-way",
    ),
    "a context change between command and data": (
        message(7, FIND_RQ) + p_data(PDV(1, False, True, b"id")),
        "a data set came on another presentation context than its command set",
    ),
    "a context change between the command and the data of a store": (
        message(3, STORE) + p_data(PDV(5, False, True, b"data")),
        "a data set came on another presentation context than its command set",
    ),
    "a context change within the data of a store": (
        message(3, STORE) + p_data(PDV(3, False, False, b"da"), PDV(5, False, True, b"ta")),
        "a data set came on another presentation context than its command set",
    ),
    "a context that was not accepted": (message(33, ECHO), "presentation context 33, which was not accepted"),
    "an empty command set": (p_data(PDV(1, True, True, b"")), "no Command Field"),
    "a command set without a command field": (message(1, ECHO[-10:]), "no Command Field"),
    "a command set that is cut short": (message(1, ECHO[:-1]), "exceeds"),
    "a command set of noise": (message(1, b"\xff" * 100), "exceeds"),
    "a command set over 64 KiB in pieces": (HUGE, "a command set of more than 65536 bytes"),
    "a command set over 64 KiB in one PDV": (HUGE_AT_ONCE, "a command set of more than 65536 bytes"),
}


def closed_by_us(pair: Pair, complaint: str) -> list[object]:
    """Our end aborted with this complaint and nothing came after it; what was told before."""
    told: list[object] = list(pair.acceptor.told())
    closed, aborted = told.pop(), told.pop()
    assert closed == Closed(expected=True)
    assert isinstance(aborted, Aborted)
    assert aborted.by_us
    assert complaint in aborted.message
    assert pair.requestor.told() == [Aborted(aborted.source, aborted.reason)]
    assert pair.acceptor.core.closed
    return told


@pytest.mark.parametrize("pieces", [1, 1000, 1 << 30], ids=["byte by byte", "pieces", "whole"])
@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_message_is_an_abort_that_says_why(case: str, pieces: int) -> None:
    wire, complaint = BROKEN[case]
    pair = Pair(cuts=iter(lambda: pieces, 0)).establish()
    pair.acceptor.receive(wire + message(1, echo_rq(70)))
    pair.run()
    told = closed_by_us(pair, complaint)
    assert all(not isinstance(event, RequestReceived) or event.request.message_id != 70 for event in told)


@pytest.mark.parametrize("pieces", [1000, 1 << 30], ids=["pieces", "whole"])
def test_a_command_set_of_exactly_64_kib_is_taken(pieces: int) -> None:
    pair = Pair(cuts=iter(lambda: pieces, 0)).establish()
    filler = 65_536 - len(ECHO) - 8
    wire = ECHO + b"\0\0\x99\x99" + filler.to_bytes(4, "little") + bytes(filler)
    for fragment in (1000, 100_000):
        pair.acceptor.receive(message(1, wire, fragment=fragment))
        pair.run()
        (event,) = pair.acceptor.told()
        assert isinstance(event, RequestReceived)
        pair.acceptor.core.respond_status(event.request, 0)
    pair.run()


def test_two_commands_in_a_row_are_two_messages() -> None:
    config = AssociationConfig(window_invoked=0, window_performed=0)
    pair = Pair(config=config).establish()
    pair.acceptor.receive(p_data(PDV(1, True, True, ECHO), PDV(1, True, True, echo_rq(2).encode())))
    pair.run()
    assert [type(event) for event in pair.acceptor.told()] == [RequestReceived, RequestReceived]


def test_a_request_before_the_fault_is_told_and_cannot_be_answered() -> None:
    pair = Pair().establish()
    pair.acceptor.receive(message(1, ECHO) + p_data(PDV(3, False, True, b"data")))
    pair.run()
    told = closed_by_us(pair, "without a command set")
    (event,) = told
    assert isinstance(event, RequestReceived)
    with pytest.raises(ProtocolError):
        pair.acceptor.core.respond_status(event.request, 0)


def test_uids_that_are_none_are_answered_all_the_same() -> None:
    pair = Pair().establish()
    strange = request(CommandField.C_STORE_RQ, "1.2").encode()
    strange = strange.replace(b"1.2\0", b"\xff\xfe\\z") + b"\0\0\0\x10\4\0\0\0\xe9\n\n\xe9"
    pair.acceptor.receive(message(3, strange) * 3)
    pair.run()
    assert [type(event) for event in pair.acceptor.told()] == [RequestRefused] * 3
    assert len(pair.requestor.told()) == 3
    assert pair.acceptor.core.is_established


# --- spoilt sessions -------------------------------------------------------------------------------------------------

SESSIONS = 4000
ENDINGS = (Aborted, AssociateRejected, Closed, ReleaseConfirmed, TimedOut)
CONFIG = AssociationConfig(
    window_invoked=3,
    window_performed=3,
    maximum_length=600,
    limits=Limits(identifier=2000, unanswered=5),
    timers=Timers(response=50.0, idle=100.0, progress=20.0),
)


@dataclass
class Someone:
    """An application that does something at each event, wise or not, and calls nothing but what an end may call."""

    random: random.Random
    operations: list[Operation] = field(default_factory=list)
    owed: list[Request] = field(default_factory=list)
    tidy: bool = False
    """Answer all that is owed from now on."""
    ended: int = 0

    def __call__(self, core: DimseAssociation, event: AssociationEvent) -> None:
        assert not (self.ended and isinstance(event, RequestReceived | DataReceived | ResponseReceived)), event
        if isinstance(event, AssociateRequested):
            core.accept(EVERYTHING)
        elif isinstance(event, ReleaseRequested):
            core.release_response()
        elif isinstance(event, RequestReceived):
            self.owed.append(event.request)
        elif isinstance(event, ENDINGS):
            assert not self.ended or isinstance(event, Closed), event
            self.ended += 1
        self.answer(core)

    def answer(self, core: DimseAssociation) -> None:
        """Answer some of what is owed."""
        for owed in list(self.owed):
            choice = 1.0 if self.tidy else self.random.random()
            if choice < 0.3:
                continue
            try:
                if choice < 0.5:
                    pending(core, owed, self.random.choice((0xFF00, 0xFF01)))
                else:
                    core.respond_status(owed, self.random.choice((0, 0xB000, 0xA700)))
            except ProtocolError:
                self.owed.remove(owed)
            else:
                if owed.answered:
                    self.owed.remove(owed)

    def ask(self, end: End) -> None:
        """Ask for something."""
        draw = self.random
        core = end.core
        try:
            match draw.randrange(9):
                case 0 | 1:
                    self.operations.append(echo(end))
                case 2 | 3 | 4:
                    self.operations.append(store(end, draw.randbytes(draw.choice((0, 1, 500, 3000)))))
                case 5:
                    self.operations.append(find(end, bytes(draw.choice((0, 10, 1500, 5000)))))
                case 6:
                    self.operations.append(get(end))
                case 7 if self.operations:
                    core.cancel(draw.choice(self.operations))
                case 8 if draw.random() < 0.1:
                    draw.choice((core.release, core.abort))()
        except (ProtocolError, NoPresentationContext):
            pass


def spoil(draw: random.Random, data: bytes) -> bytes:
    """Bytes that something happened to."""
    spoilt = bytearray(data)
    where = draw.randrange(len(spoilt))
    match draw.randrange(8):
        case 0:
            spoilt[where] ^= 1 << draw.randrange(8)
        case 1:
            spoilt[where] = draw.randrange(256)
        case 2:
            del spoilt[where : where + draw.randrange(1, 40)]
        case 3:
            spoilt[where:where] = draw.randbytes(draw.randrange(1, 40))
        case 4:
            spoilt += spoilt[where:]
        case 5:
            del spoilt[where:]
        case 6:  # the headers are what matters most
            where %= min(len(spoilt), 14)
            spoilt[where] = draw.choice((0, 1, 2, 3, 4, 5, 7, 9, 11, 0x7F, 0xFF))
        case 7:
            spoilt[where : where + 2] = b"\xff\xff"
    return bytes(spoilt)


def sizes(draw: random.Random) -> Iterator[int]:
    while True:
        yield draw.choice((1, 6, 12, 100, 1000, 1 << 20))


def session(seed: int) -> Pair:
    """One session from A-ASSOCIATE to the last timer; everything that may not happen fails in here."""
    draw = random.Random(seed)
    rate = 0.0

    def wire(data: bytes, towards: End) -> bytes:
        return spoil(draw, data) if draw.random() < rate else data

    pair = Pair(config=CONFIG, wire=wire, cuts=sizes(draw))
    people = [Someone(draw), Someone(draw)]
    for end, someone in zip(pair.ends, people, strict=True):
        end.application = someone
    if seed % 8 == 0:
        rate = 0.4
    pair.connect()
    rate = 0.15
    for _ in range(draw.randrange(2, 8)):
        for end, someone in zip(pair.ends, people, strict=True):
            someone.ask(end)
            someone.answer(end.core)
        if draw.random() < 0.3:
            pair.advance(draw.choice((0.1, 5.0, 21.0)))
        else:
            for _ in range(draw.randrange(1, 12)):
                pair.step()
    rate = 0.0
    for _ in range(40):  # and now everybody does what is owed, until nothing is
        for end, someone in zip(pair.ends, people, strict=True):
            someone.tidy = True
            someone.answer(end.core)
        pair.advance(30.0)
    for end in pair.ends:
        assert end.core.closed, f"session {seed}: an end still stands"
        assert end.core.timer(pair.now) is None
    return pair


@pytest.mark.parametrize("block", range(8))
def test_spoilt_sessions_raise_nothing_but_protocol_errors_and_come_to_an_end(block: int) -> None:
    for seed in range(block, SESSIONS, 8):
        try:
            session(seed)
        except AssertionError as failure:
            raise AssertionError(f"session {seed}: {failure}") from failure


def test_the_sessions_carry_something() -> None:
    """They are worth nothing if no message gets through."""
    told = [type(event) for seed in range(1, 60) for end in session(seed).ends for event in end.seen]
    assert told.count(ResponseReceived) > 60
    assert {AssociateAccepted, RequestReceived, Aborted, TimedOut, Closed} <= set(told)
