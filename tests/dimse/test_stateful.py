"""Two ends in any order of doing: requests, answers, cancels, bytes in pieces, time, releases, aborts, closes.

A model beside them knows what was asked and answered; after every step the two ends agree with it and with each other.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.pairs import EVERYTHING, Pair, echo, find, get, kept, pending, store

from dulcet.config import AssociationConfig, Limits, Timers
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import DataReceived, RequestReceived, ResponseReceived, StrayResponse
from dulcet.dimse.operations import Operation, Request
from dulcet.errors import NoPresentationContext, ProtocolError
from dulcet.upper_layer.events import (
    Aborted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    Signal,
    TimedOut,
)

ENDS = st.sampled_from([0, 1])
SIZES = st.sampled_from([1, 2, 5, 6, 11, 12, 100, 1000, 1 << 20])
OVER = (Aborted, AssociateRejected, Closed, ReleaseConfirmed, TimedOut)


class Sessions(RuleBasedStateMachine):
    """A requestor, an acceptor, the bytes between them, and a clock."""

    @initialize(window=st.sampled_from([0, 1, 3]), length=st.sampled_from([0, 64, 4096]), stands=st.integers(0, 4))
    def connect(self, window: int, length: int, stands: int) -> None:
        config = AssociationConfig(
            window_invoked=window,
            window_performed=window,
            maximum_length=length,
            limits=Limits(identifier=2000, unanswered=4),
            timers=Timers(artim=5.0, associate=7.0, release=6.0, response=30.0, idle=50.0, progress=12.0),
        )
        self.pair = Pair(config=config)
        self.asked: list[list[Operation]] = [[], []]
        self.owed: list[list[Request]] = [[], []]
        self.answers: list[dict[int, int]] = [{}, {}]  # the responses to each operation, final ones
        self.over = [False, False]
        self.associate_owed = False
        pair = self.pair
        pair.connect()  # the requestor's A-ASSOCIATE-RQ arrives
        for number in (0, 1):
            self.heard(number)
        if stands:
            self.the_association_is_answered(1)
            self.everything_arrives()

    # ------------------------------------------------------------------ what an end is told

    def heard(self, number: int) -> None:
        """Deal with the events that `Pair.run` pulled, and with those that wait."""
        end = self.pair.ends[number]
        for event in end.told():
            self.event(number, event)
        for _ in range(10_000):
            event = end.core.next_event()
            if isinstance(event, Signal):
                return
            self.event(number, kept(event) if not isinstance(event, DataReceived) else event)
        raise AssertionError("events without end")

    def event(self, number: int, event: Any) -> None:
        assert not (self.over[number] and isinstance(event, RequestReceived | ResponseReceived)), event
        if isinstance(event, AssociateRequested):
            self.associate_owed = True
        elif isinstance(event, ReleaseConfirmed) and self.pair.ends[number].core.owes:
            pass  # a collision: our own answer is still owed
        elif isinstance(event, RequestReceived):
            self.owed[number].append(event.request)
        elif isinstance(event, ResponseReceived):
            assert event.operation in self.asked[number], "it answers what was asked here"
            if event.is_final:
                counts = self.answers[number]
                counts[id(event.operation)] = counts.get(id(event.operation), 0) + 1
                assert counts[id(event.operation)] == 1, "one final response to each operation"
        elif isinstance(event, OVER):
            assert not self.over[number] or isinstance(event, Closed), event
            self.over[number] = True
        else:
            assert not isinstance(event, StrayResponse), "both ends keep the rules"

    # ------------------------------------------------------------------ bytes and time

    @rule(towards=ENDS, size=SIZES)
    def bytes_arrive(self, towards: int, size: int) -> None:
        """The other end sends what it has, and some of it is read here."""
        pair = self.pair
        end, other = pair.ends[towards], pair.ends[1 - towards]
        if not end.core.closed:
            end.inbox += other.drain()
        core = end.core
        if end.inbox and not core.is_full and not core.closed:
            buffer = core.get_buffer()
            count = min(size, len(end.inbox), len(buffer))
            buffer[:count] = end.inbox[:count]
            del end.inbox[:count]
            core.buffer_updated(count)
        if not end.inbox and other.core.closed and not other.core.has_output and not core.closed:
            core.eof_received()
        self.heard(towards)

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(200):
            for number in (0, 1):
                self.bytes_arrive(number, 1 << 20)
            if not any(end.inbox or end.core.has_output for end in self.pair.ends):
                return

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 13.0]))
    def time_passes(self, seconds: float) -> None:
        pair = self.pair
        for end in pair.ends:
            end.core.timer(pair.now)
        pair.now += seconds
        for number, end in enumerate(pair.ends):
            if not end.core.closed:
                end.core.handle_timer(pair.now)
            self.heard(number)

    # ------------------------------------------------------------------ what applications do

    @precondition(lambda self: self.associate_owed)
    @rule(accepts=st.integers(0, 9))
    def the_association_is_answered(self, accepts: int) -> None:
        self.associate_owed = False
        core = self.pair.acceptor.core
        with contextlib.suppress(ProtocolError):
            if accepts:
                core.accept(EVERYTHING)
            else:
                core.reject(2, 3, 1)
        self.heard(1)

    @rule(number=ENDS, what=st.sampled_from(["echo", "store", "find", "get"]), size=st.sampled_from([0, 1, 700, 5000]))
    def a_request(self, number: int, what: str, size: int) -> None:
        end = self.pair.ends[number]
        was = end.core.has_output
        try:
            match what:
                case "echo":
                    operation = echo(end)
                case "store":
                    operation = store(end, bytes(size))
                case "find":
                    operation = find(end, bytes(size))
                case _:
                    operation = get(end)
        except (ProtocolError, NoPresentationContext):
            assert end.core.has_output == was, "what is refused leaves nothing behind"
            return
        assert end.core.is_established or end.core.owes == "release", "data may be sent in Sta6 and Sta8"
        self.asked[number].append(operation)

    @precondition(lambda self: any(self.owed))
    @rule(number=ENDS, final=st.integers(0, 3), status=st.sampled_from([0, 0xB000, 0xA700, 0xC000]))
    def an_answer(self, number: int, final: int, status: int) -> None:
        owed = self.owed[number]
        if not owed:
            return
        core, request = self.pair.ends[number].core, owed[0]
        try:
            if final:
                core.respond_status(request, status)
            else:
                pending(core, request)
        except ProtocolError:
            assert not core.is_established or request.answered
            owed.pop(0)
            return
        if request.answered:
            owed.pop(0)
        self.heard(number)

    @rule(number=ENDS, what=st.sampled_from(["echo", "store", "find", "get"]), size=st.sampled_from([1, 700, 5000]))
    def a_request_and_its_answer(self, number: int, what: str, size: int) -> None:
        self.a_request(number, what, size)
        self.everything_arrives()
        self.an_answer(1 - number, size % 2, 0)
        self.an_answer(1 - number, 1, 0)
        self.everything_arrives()

    @precondition(lambda self: any(self.asked))
    @rule(number=ENDS, which=st.integers(0, 100))
    def a_cancel(self, number: int, which: int) -> None:
        asked = self.asked[number]
        if asked:
            with contextlib.suppress(ProtocolError):
                self.pair.ends[number].core.cancel(asked[which % len(asked)])

    @rule(number=ENDS, often=st.integers(0, 10))
    def a_release(self, number: int, often: int) -> None:
        if often:
            return
        core = self.pair.ends[number].core
        outstanding = len(core.outstanding)
        try:
            core.release()
        except ProtocolError:
            return
        assert not outstanding

    @precondition(lambda self: any(end.core.owes == "release" for end in self.pair.ends))
    @rule(number=ENDS)
    def a_release_is_answered(self, number: int) -> None:
        core = self.pair.ends[number].core
        if core.owes == "release":
            core.release_response()
            self.heard(number)

    @rule(number=ENDS, often=st.integers(0, 40))
    def an_abort(self, number: int, often: int) -> None:
        if not often:
            self.pair.ends[number].core.abort()
            self.heard(number)

    # ------------------------------------------------------------------ what is always so

    @invariant()
    def the_ends_are_sound(self) -> None:
        if not hasattr(self, "pair"):
            return
        for number, end in enumerate(self.pair.ends):
            core: DimseAssociation = end.core
            window = core.window
            if core.is_established:
                assert len(core.outstanding) <= (window.invoked or 4)
            finals = self.answers[number]
            for operation in core.outstanding.values():
                assert id(operation) not in finals, "an operation that was answered is not outstanding"
            assert core.connection.queued_bytes < 1 << 20

    def teardown(self) -> None:
        """Everybody does what is owed, and then it comes to its end by itself."""
        if not hasattr(self, "pair"):
            return
        for _ in range(200):
            for number in (0, 1):
                if self.associate_owed and number:
                    self.the_association_is_answered(1)
                while self.owed[number]:
                    self.an_answer(number, 1, 0)
                self.a_release_is_answered(number)
                self.bytes_arrive(number, 1 << 20)
                self.heard(number)
            if all(end.core.closed for end in self.pair.ends):
                break
            if not any(end.inbox or end.core.has_output for end in self.pair.ends):
                self.time_passes(40.0)
        for end in self.pair.ends:
            assert end.core.closed, end.core.connection.state
            assert end.core.timer(self.pair.now) is None


Sessions.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSessions = Sessions.TestCase
