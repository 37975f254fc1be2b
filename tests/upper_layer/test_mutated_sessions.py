"""3,000 sessions over a wire that flips, cuts, inserts, doubles, drops and swaps: nothing but protocol errors, ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import pytest
from tests.upper_layer.pdus import RICH_REQUEST
from tests.upper_layer.wire import (
    CONFIG,
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    End,
    Pair,
    Piece,
    Seen,
    WatchedPool,
    cut,
)

from dulcet.config import AssociationConfig
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import (
    PAUSED,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dulcet.upper_layer.negotiation import Offer, accept

BATCH: Final = 300
OFFER: Final = Offer(syntaxes={VERIFICATION: (IMPLICIT,), CT: (EXPLICIT,)}, maximum_length=64)
DATA: Final = bytes(range(200))


@dataclass
class Application:
    """What a user of the upper layer does: associates, sends, answers, releases; at times it takes its time."""

    random: Random
    end: End
    owed: Callable[[], None] | None = None
    answers: int = 0

    def __call__(self, connection: Connection, event: Seen) -> None:
        assert self.owed is None, "an event came behind an unanswered pause"
        if isinstance(event, AssociateRequested):
            request = event.request
            if self.random.random() < 0.05:
                self.owe(lambda: connection.reject(1, 1, 7))
            else:
                self.owe(lambda: connection.accept(accept(request, OFFER)))
        elif isinstance(event, AssociateAccepted):
            for context_id in sorted(connection.contexts)[:2]:
                connection.send_message(context_id, b"command", memoryview(DATA))
        elif isinstance(event, Piece):
            self.received(connection, event)
        elif isinstance(event, ReleaseRequested):
            if not (event.collision and not connection.requestor):
                self.owe(connection.release_response)
        elif isinstance(event, ReleaseConfirmed) and not connection.closed:
            self.owe(connection.release_response)

    def received(self, connection: Connection, piece: Piece) -> None:
        if not piece.is_last or not connection.is_established:
            return
        if connection.requestor:
            self.answers += 1
            if self.answers == 2:
                connection.release()
        elif not piece.is_command:
            connection.send_message(piece.context_id, b"response")
            self.answers += 1
            if self.answers == 2 and self.random.random() < 0.2:
                connection.release()

    def owe(self, answer: Callable[[], None]) -> None:
        self.owed = answer
        if self.random.random() < 0.7:
            self.pay()

    def pay(self) -> bool:
        """Give the answer that is owed; nothing was told meanwhile, however much came."""
        if self.owed is None:
            return False
        answer, self.owed = self.owed, None
        for _ in range(2):
            assert self.end.connection.next_event() is PAUSED
        answer()
        return True


@dataclass
class Vandal:
    """A wire that spoils what passes, from the n-th delivery in one direction on."""

    random: Random
    recorded: list[bytes]
    direction: bool = True
    skip: int = 0
    log: list[str] = field(default_factory=list)

    def __call__(self, data: bytes, from_requestor: bool) -> bytes:
        if from_requestor is self.direction or (self.log and self.random.random() < 0.3):
            if self.skip:
                self.skip -= 1
            elif not self.log or self.random.random() < 0.3:
                return self.spoil(data)
        return data

    def spoil(self, data: bytes) -> bytes:
        way = self.random.choice(WAYS)
        self.log.append(way.__name__)
        return way(self, data)

    def place(self, data: bytes) -> int:
        return self.random.randrange(len(data))

    def flip(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(self.random.choice((1, 1, 2, 8))):
            spoiled[self.place(data)] ^= 1 << self.random.randrange(8)
        return bytes(spoiled)

    def shorten(self, data: bytes) -> bytes:
        return data[: self.place(data)]

    def take_out(self, data: bytes) -> bytes:
        start, end = sorted((self.place(data), self.place(data)))
        return data[:start] + data[end:]

    def insert(self, data: bytes) -> bytes:
        place = self.place(data)
        return data[:place] + self.random.randbytes(self.random.choice((1, 2, 6, 40))) + data[place:]

    def overwrite(self, data: bytes) -> bytes:
        place, filler = self.place(data), self.random.choice((b"\0", b"\xff", b"\7"))
        count = min(self.random.choice((1, 2, 4, 16)), len(data) - place)
        return data[:place] + filler * count + data[place + count :]

    def double(self, data: bytes) -> bytes:
        pdus = cut(data)
        pdus.insert(self.random.randrange(len(pdus) + 1), self.random.choice(pdus))
        return b"".join(pdus)

    def drop(self, data: bytes) -> bytes:
        pdus = cut(data)
        del pdus[self.random.randrange(len(pdus))]
        return b"".join(pdus)

    def swap(self, data: bytes) -> bytes:
        pdus = cut(data)
        self.random.shuffle(pdus)
        return b"".join(pdus)

    def smuggle(self, data: bytes) -> bytes:
        pdus = cut(data)
        pdus.insert(self.random.randrange(len(pdus) + 1), self.random.choice(self.recorded))
        return b"".join(pdus)

    def lie(self, data: bytes) -> bytes:
        pdus = cut(data)
        index = self.random.randrange(len(pdus))
        length = self.random.choice((0, 1, 5, 6, 7, 67, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, len(pdus[index]) - 5))
        pdus[index] = pdus[index][:2] + length.to_bytes(4, "big") + pdus[index][6:]
        return b"".join(pdus)


WAYS: Final[list[Callable[[Vandal, bytes], bytes]]] = [
    Vandal.flip,
    Vandal.shorten,
    Vandal.take_out,
    Vandal.insert,
    Vandal.overwrite,
    Vandal.double,
    Vandal.drop,
    Vandal.swap,
    Vandal.smuggle,
    Vandal.lie,
]


def session(random: Random, pool: WatchedPool, wire: Callable[[bytes, bool], bytes], config: AssociationConfig) -> Pair:
    """One session from connect to close over this wire."""
    pair = Pair(config=config, wire=wire, pool=pool)
    ends = pair.requestor, pair.acceptor
    applications = []
    for end in ends:
        end.read_size = lambda: random.choice((1, 3, 10, 100, 1000, 5000))
        end.application = application = Application(random, end)
        applications.append(application)
    pair.connect(RICH_REQUEST)
    while True:
        pair.run()
        if not sum(application.pay() for application in applications):
            break
    pair.finish()
    while sum(application.pay() for application in applications):
        pair.finish()
    return pair


def check(pair: Pair, pool: WatchedPool) -> None:
    """Fail unless both ends are over, told so in order, and hold nothing."""
    for end in (pair.requestor, pair.acceptor):
        connection = end.connection
        assert connection.closed
        assert connection.wants_close
        assert not connection.has_output
        assert connection.timer(0.0) is None
        assert not connection.mid_pdu
        over = [
            index
            for index, event in enumerate(end.seen)
            if isinstance(event, Closed | AssociateRejected) or (isinstance(event, Aborted) and not event.by_us)
        ]
        assert not over or over == [len(end.seen) - 1], "nothing is told after the end"
        faults = [event for event in end.seen if isinstance(event, Aborted) and event.by_us]
        assert len(faults) <= 1
        assert all(fault.source == 2 and fault.reason in (1, 2, 6) and fault.message for fault in faults)
    assert pool.out == 0, "no buffer is held"


def recording() -> list[bytes]:
    """Every PDU of a session that nothing spoils."""
    stream: list[bytes] = []

    def wire(data: bytes, from_requestor: bool) -> bytes:
        stream.extend(cut(data))
        return data

    pool = WatchedPool(4096)
    random = Random(1)
    pair = session(random, pool, wire, CONFIG)
    check(pair, pool)
    assert isinstance(pair.requestor.seen[-1], ReleaseConfirmed)
    assert [type(event) for event in pair.requestor.seen if not isinstance(event, Piece)] == [
        AssociateAccepted,
        ReleaseConfirmed,
    ]
    assert b"".join(event.data for event in pair.acceptor.seen if isinstance(event, Piece)) == (b"command" + DATA) * 2
    return stream


def test_a_session_that_nothing_spoils() -> None:
    assert {pdu[0] for pdu in recording()} == {1, 2, 4, 5, 6}


@pytest.mark.parametrize("batch", range(10))
def test_mutated_sessions(batch: int) -> None:
    recorded = [*recording(), bytes.fromhex("03000000000400010101"), bytes.fromhex("07000000000400000200")]
    pool = WatchedPool(4096)
    outcomes: set[str] = set()
    seed, spoiled = batch * 1000, 0
    while spoiled < BATCH:
        random, seed = Random(seed), seed + 1
        vandal = Vandal(random, recorded, random.random() < 0.5, random.choice((0, 0, 1, 1, 2, 3)))
        config = replace(CONFIG, strict=random.random() < 0.2, maximum_length=random.choice((0, 64, 4096)))
        try:
            pair = session(random, pool, vandal, config)
            check(pair, pool)
        except BaseException as failure:
            failure.add_note(f"seed {seed - 1}, spoiled by {vandal.log}")
            raise
        spoiled += bool(vandal.log)
        outcomes.update(type(event).__name__ for event in pair.requestor.seen + pair.acceptor.seen)
    expected = {"Aborted", "AssociateAccepted", "AssociateRequested", "Closed", "Piece", "ReleaseConfirmed", "TimedOut"}
    assert outcomes >= expected, "the sessions get far enough to meet every way to end"
