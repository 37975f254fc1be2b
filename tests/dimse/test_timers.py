"""Timers of an association, by a clock that the test moves: response, idle, progress, and a peer that takes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.pairs import (
    CT,
    FIND,
    End,
    Pair,
    Provider,
    context,
    echo,
    echo_rq,
    find,
    get,
    message,
    pending,
    request,
    response,
    store,
)

from dulcet.config import AssociationConfig, Limits, Timers
from dulcet.dimse.events import DataReceived, RequestReceived, ResponseReceived
from dulcet.dimse.messages import CommandField
from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.events import NEED_DATA, PAUSED, Aborted, Closed, TimedOut

TIMERS = Timers(response=100.0, idle=1000.0, progress=30.0, artim=7.0)
"""So far apart that a deadline tells which timer it is."""
DATA = bytes(400_000)
STORE_RQ = request(CommandField.C_STORE_RQ, CT, 1, data_set=True)


def made(timers: Timers = TIMERS, *, limits: Limits | None = None, window: int = 1) -> Pair:
    config = AssociationConfig(timers=timers, limits=limits or Limits(), window_invoked=window, window_performed=window)
    return Pair(config=config).establish()


@pytest.fixture
def pair() -> Pair:
    return made()


def left(pair: Pair, end: End) -> float | None:
    """Seconds until this end's next timer."""
    deadline = end.core.timer(pair.now)
    return None if deadline is None else round(deadline - pair.now, 6)


def timed_out(end: End) -> list[str]:
    return [event.timer for event in end.told() if isinstance(event, TimedOut)]


# --- response --------------------------------------------------------------------------------------------------------


def test_the_response_clock_starts_when_the_last_byte_has_left(pair: Pair) -> None:
    core = pair.requestor.core
    operation = store(pair.requestor, DATA)
    for _ in range(3):  # what leaves is a sign of life, however slowly it does
        assert left(pair, pair.requestor) == 100.0
        pair.now += 99.0
        core.handle_timer(pair.now)
        pair.acceptor.receive(b"".join(bytes(part) for part in core.data_to_send(1)))  # type: ignore[arg-type]
    assert not operation.departed
    assert operation.deadline is None
    pair.run()
    assert operation.departed
    assert left(pair, pair.requestor) == 100.0
    pair.now += 99.0
    assert left(pair, pair.requestor) == 1.0
    core.handle_timer(pair.now + 0.5)
    assert core.is_established
    core.handle_timer(pair.now + 1.0)
    assert core.next_event() == TimedOut("response")


def test_a_late_response_ends_the_association(pair: Pair) -> None:
    operation = echo(pair.requestor)
    pair.advance(99.9)
    assert pair.requestor.told() == []
    pair.advance(0.2)
    assert pair.requestor.told() == [TimedOut("response"), Closed(expected=True)]
    assert pair.acceptor.told()[-1] == Aborted(0, 0)
    assert operation.message_id in pair.requestor.core.outstanding


def test_an_association_is_not_used_again_after_a_timeout_in_mid_message(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, 1))[:20])
    pair.advance(35.0)
    assert timed_out(pair.requestor) == ["progress"]
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, 1))[20:])
    pair.run()
    assert pair.requestor.told() == []
    with pytest.raises(LocalProtocolError):
        echo(pair.requestor, 7)
    with pytest.raises(LocalProtocolError):
        pair.requestor.core.release()
    assert pair.requestor.core.closed


@pytest.mark.parametrize("status", [0xFF00, 0xFF01])
def test_each_pending_response_starts_the_clock_anew(pair: Pair, status: int) -> None:
    find(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    for _ in range(5):
        pair.advance(90.0)
        pending(pair.acceptor.core, event.request, status)
    pair.run()
    assert left(pair, pair.requestor) == 100.0
    assert len(pair.requestor.told()) == 5
    pair.advance(101.0)
    assert timed_out(pair.requestor) == ["response"]


def test_a_pending_response_to_one_operation_is_no_sign_of_life_for_another() -> None:
    pair = made(window=2)
    find(pair.requestor)
    echo(pair.requestor)
    pair.run()
    finding = pair.acceptor.told()[0]
    assert isinstance(finding, RequestReceived)
    pair.advance(90.0)
    pending(pair.acceptor.core, finding.request)
    pair.advance(11.0)
    assert timed_out(pair.requestor) == ["response"]


def test_each_sub_operation_of_a_get_starts_the_clock_anew(pair: Pair) -> None:
    pair.requestor.application = Provider()
    get(pair.requestor)
    pair.run()
    for _ in range(5):
        pair.advance(90.0)
        store(pair.acceptor, b"data")
        pair.run()
    assert pair.requestor.core.is_established
    assert left(pair, pair.requestor) == 100.0
    pair.advance(101.0)
    assert timed_out(pair.requestor) == ["response"]


def test_a_sub_operation_is_no_sign_of_life_for_an_echo() -> None:
    pair = made(window=2)
    pair.requestor.application = Provider()
    echo(pair.requestor)
    pair.run()
    pair.advance(90.0)
    store(pair.acceptor, b"data")
    pair.run()
    assert left(pair, pair.requestor) == 10.0


def test_the_clock_of_a_get_stands_while_a_sub_operation_comes_in(pair: Pair) -> None:
    get(pair.requestor)
    pair.run()
    wire = message(3, STORE_RQ, DATA)
    piece = len(wire) // 5 + 1
    for start in range(0, len(wire), piece):
        pair.requestor.receive(wire[start : start + piece])
        pair.advance(29.0)
    assert pair.requestor.core.is_established
    events = pair.requestor.told()
    # it is whole, but not yet answered: the peer waits for us
    pair.advance(250.0)
    assert pair.requestor.core.is_established
    stored = events[0]
    assert isinstance(stored, RequestReceived)
    pair.requestor.core.respond_status(stored.request, 0)
    pair.run()
    assert left(pair, pair.requestor) == 100.0  # and from here on we wait for the peer
    pair.advance(101.0)
    assert timed_out(pair.requestor) == ["response"]


def test_a_response_that_is_coming_in_is_not_late() -> None:
    pair = made(Timers(response=20.0, progress=30.0))
    operation = find(pair.requestor)
    pair.run()
    wire = message(7, response(CommandField.C_FIND_RQ, operation.message_id, 0xFF00, data_set=True), DATA)
    pair.requestor.receive(wire[:200_000])
    pair.advance(25.0)
    pair.requestor.receive(wire[200_000:])
    pair.run()
    (event,) = pair.requestor.told()
    assert isinstance(event, ResponseReceived)


def test_without_a_progress_timer_the_response_clock_goes_on() -> None:
    pair = made(Timers(response=20.0, progress=None))
    operation = find(pair.requestor)
    pair.run()
    wire = message(7, response(CommandField.C_FIND_RQ, operation.message_id, 0xFF00, data_set=True), DATA)
    pair.requestor.receive(wire[:200_000])
    pair.advance(21.0)
    assert timed_out(pair.requestor) == ["response"]


def test_a_response_that_we_have_not_looked_at_is_not_late(pair: Pair) -> None:
    operation = echo(pair.requestor)
    pair.run()
    core = pair.requestor.core
    assert left(pair, pair.requestor) == 100.0
    wire = message(1, response(CommandField.C_ECHO_RQ, operation.message_id))
    buffer = core.get_buffer()
    buffer[: len(wire)] = wire
    core.buffer_updated(len(wire))
    pair.now += 100.0
    core.handle_timer(pair.now)  # the application was busy: read, but not pulled
    assert left(pair, pair.requestor) == 30.0
    assert isinstance(core.next_event(), ResponseReceived)
    assert left(pair, pair.requestor) is None


def test_a_peer_that_takes_nothing_is_not_waited_for_without_end(pair: Pair) -> None:
    operation = store(pair.requestor, DATA)
    pair.requestor.sends = False
    pair.advance(99.0)
    assert pair.requestor.told() == []
    assert not operation.departed
    pair.advance(2.0)
    assert timed_out(pair.requestor) == ["response"]


def test_a_peer_that_takes_no_answers_is_not_waited_for_either() -> None:
    patient = AssociationConfig(timers=Timers(response=None))
    pair = Pair(config=patient, acceptor_config=AssociationConfig(timers=TIMERS)).establish()
    find(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    pair.acceptor.sends = False
    pending(pair.acceptor.core, event.request)
    pair.advance(50.0)
    pair.acceptor.receive(message(1, echo_rq(5)))  # it says something, so it lives
    pair.advance(99.0)
    assert pair.acceptor.core.is_established
    pair.advance(2.0)
    assert timed_out(pair.acceptor) == ["response"]


# --- idle ------------------------------------------------------------------------------------------------------------


def test_an_acceptor_gives_an_idle_association_up_and_a_requestor_does_not(pair: Pair) -> None:
    assert left(pair, pair.requestor) is None
    assert left(pair, pair.acceptor) == 1000.0
    pair.advance(999.0)
    assert pair.acceptor.told() == []
    pair.advance(2.0)
    assert pair.acceptor.told()[0] == TimedOut("idle")
    assert pair.requestor.told() == [Aborted(0, 0)]


def test_idle_starts_anew_with_everything_that_comes(pair: Pair) -> None:
    pair.acceptor.application = Provider()
    for _ in range(5):
        pair.advance(900.0)
        echo(pair.requestor)
        pair.run()
    assert left(pair, pair.acceptor) == 1000.0


def test_idle_does_not_run_while_an_answer_is_owed(pair: Pair) -> None:
    pair.advance(900.0)
    pair.acceptor.receive(message(1, echo_rq(5)))
    pair.run()
    assert left(pair, pair.acceptor) is None
    pair.advance(5000.0)
    event = pair.acceptor.told()[0]
    assert isinstance(event, RequestReceived)
    pair.acceptor.core.respond_status(event.request, 0)
    pair.run()
    assert left(pair, pair.acceptor) == 1000.0


def test_idle_does_not_run_while_the_peer_owes_an_answer(pair: Pair) -> None:
    store(pair.acceptor, b"data")
    pair.run()
    assert left(pair, pair.acceptor) == 100.0


def test_a_request_that_we_have_not_looked_at_is_no_idleness(pair: Pair) -> None:
    assert left(pair, pair.acceptor) == 1000.0
    pair.acceptor.receive(message(1, echo_rq(5)))
    pair.acceptor.read()
    pair.now += 1000.0
    pair.acceptor.core.handle_timer(pair.now)
    assert pair.acceptor.core.is_established
    assert isinstance(pair.acceptor.core.next_event(), RequestReceived)


# --- progress --------------------------------------------------------------------------------------------------------


def unending(rate: int) -> Callable[[int], bytes]:
    """P-DATA-TF of a data set whose last fragment never comes."""

    def piece(seconds: int) -> bytes:
        count = rate * seconds - 12
        return b"\4\0" + (count + 6).to_bytes(4, "big") + (count + 2).to_bytes(4, "big") + b"\3\0" + bytes(count)

    return piece


@pytest.mark.parametrize(("rate", "lives"), [(100, False), (990, False), (1100, True), (20_000, True)])
def test_a_slow_dribble_in_mid_data_set_is_aborted_and_a_steady_peer_is_not(pair: Pair, rate: int, lives: bool) -> None:
    pair.acceptor.receive(message(3, STORE_RQ))
    piece = unending(rate)
    for _ in range(60):
        pair.acceptor.receive(piece(2))
        pair.advance(2.0)
    assert pair.acceptor.core.is_established is lives
    assert timed_out(pair.acceptor) == ([] if lives else ["progress"])


def test_a_data_set_that_stands_still_is_aborted(pair: Pair) -> None:
    pair.acceptor.receive(message(3, STORE_RQ, DATA)[:300_000])
    pair.advance(29.0)
    assert pair.acceptor.core.is_established
    pair.advance(2.0)
    told = pair.acceptor.told()
    assert TimedOut("progress") in told
    assert pair.requestor.told() == [Aborted(0, 0)]


@pytest.mark.parametrize("size", [1, 5, 7, 11, 13, 40])
def test_half_a_pdu_is_not_waited_for_without_end(pair: Pair, size: int) -> None:
    pair.acceptor.receive(message(1, echo_rq(1))[:size])
    pair.advance(29.0)
    assert pair.acceptor.core.is_established
    pair.advance(2.0)
    assert timed_out(pair.acceptor) == ["progress"]


def test_one_byte_at_a_time_is_a_dribble(pair: Pair) -> None:
    wire = message(1, echo_rq(1))
    for number in range(40):
        pair.acceptor.receive(wire[number : number + 1])
        pair.advance(1.0)
    assert timed_out(pair.acceptor) == ["progress"]


def test_a_requestor_watches_the_progress_of_answers(pair: Pair) -> None:
    find(pair.requestor)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, 1, 0xFF00, data_set=True), DATA)[:300])
    pair.advance(31.0)
    assert timed_out(pair.requestor) == ["progress"]


def test_progress_starts_anew_with_each_message(pair: Pair) -> None:
    pair.acceptor.application = Provider()
    wire = message(3, STORE_RQ, b"some data")
    for _ in range(5):  # each takes 20 s, and between them nothing
        pair.acceptor.receive(wire[:60])
        pair.advance(20.0)
        pair.acceptor.receive(wire[60:])
        pair.advance(50.0)
    assert pair.acceptor.core.is_established


def test_our_own_slowness_is_not_blamed_when_data_are_waiting(pair: Pair) -> None:
    end = pair.acceptor
    core = end.core
    end.receive(message(3, STORE_RQ, DATA))
    end.read()
    assert isinstance(core.next_event(), RequestReceived)
    assert isinstance(core.next_event(), DataReceived)
    for _ in range(10):  # the application is at it: a disk that stands, a debugger
        assert left(pair, end) is not None
        pair.now += 60.0
        core.handle_timer(pair.now)
    assert core.is_established
    pair.run()
    assert core.is_established
    assert not core.mid_message


def test_an_answer_that_we_owe_is_not_the_peers_slowness(pair: Pair) -> None:
    end = pair.acceptor
    end.receive(message(1, echo_rq(1)) + message(1, echo_rq(2)) + message(1, echo_rq(3))[:30])
    pair.run()
    assert end.signal == PAUSED
    pair.advance(500.0)
    assert end.core.is_established
    event = end.told()[0]
    assert isinstance(event, RequestReceived)
    end.core.respond_status(event.request, 0)
    pair.run()
    event = end.told()[0]
    assert isinstance(event, RequestReceived)
    end.core.respond_status(event.request, 0)
    pair.run()
    assert end.signal is NEED_DATA
    pair.advance(31.0)  # and now it is
    assert timed_out(end) == ["progress"]


# --- switched off, and the end ---------------------------------------------------------------------------------------


def test_none_switches_a_timer_off() -> None:
    pair = made(Timers(response=None, idle=None, progress=None))
    assert pair.timer() is None
    pair.acceptor.receive(message(3, STORE_RQ, DATA)[:3000])
    pair.run()
    assert pair.timer() is None
    echo(pair.requestor)
    pair.requestor.sends = False
    assert pair.timer() is None
    pair.advance(1e6)
    assert all(end.core.is_established for end in pair.ends)


def test_an_idle_timer_does_without_a_progress_timer() -> None:
    pair = made(Timers(idle=1000.0, progress=None))
    pair.acceptor.receive(message(3, STORE_RQ, DATA)[:3000])
    pair.run()
    assert left(pair, pair.acceptor) is None
    other = made(Timers(idle=None, progress=30.0))
    assert left(other, other.acceptor) is None
    other.acceptor.receive(message(1, echo_rq(1))[:7])
    other.run()
    assert left(other, other.acceptor) == 30.0


def test_a_timer_that_has_not_run_out_does_nothing(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    for end in pair.ends:
        end.core.timer(pair.now)
        end.core.handle_timer(pair.now + 99.0)
        assert end.core.is_established


def test_timers_before_and_after_the_association_are_the_upper_layers() -> None:
    pair = Pair(config=AssociationConfig(timers=Timers(artim=7.0, associate=20.0, release=9.0)))
    pair.acceptor.core.connection_made()
    assert left(pair, pair.acceptor) == 7.0
    pair.acceptor.core.handle_timer(pair.now + 7.0)
    assert pair.acceptor.core.next_event() == TimedOut("artim")
    pair = made(Timers(release=9.0, artim=7.0))
    pair.requestor.core.release()
    pair.acceptor.reads = False
    pair.run()
    assert left(pair, pair.requestor) == 9.0
    pair.advance(10.0)
    assert timed_out(pair.requestor) == ["release"]


def test_a_request_that_is_held_is_dropped_when_the_association_times_out(pair: Pair) -> None:
    end = pair.acceptor
    end.receive(message(1, echo_rq(1)) + message(1, echo_rq(2)))
    pair.run()
    assert end.signal is PAUSED
    assert len(end.told()) == 1
    end.core.abort()
    pair.run()
    assert end.told() == [Closed(expected=True)]
    assert end.core.closed


def test_time_runs_for_each_of_many_operations() -> None:
    pair = made(window=8)
    core = pair.requestor.core
    where = context(core, FIND)
    operations = []
    for _ in range(8):
        operations.append(core.invoke(where, request(CommandField.C_FIND_RQ, FIND, data_set=True), b"id"))
        pair.advance(5.0)
    assert left(pair, pair.requestor) == 60.0
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, operations[0].message_id)))
    pair.run()
    assert left(pair, pair.requestor) == 65.0
    pair.advance(66.0)
    assert timed_out(pair.requestor) == ["response"]
