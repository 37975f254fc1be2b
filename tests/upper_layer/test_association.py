"""Both ends of an association at once: release and its collisions, aborts, timers, the end of the stream, pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.upper_layer.wire import (
    ANSWER,
    CONFIG,
    EXPLICIT,
    REQUEST,
    TIMERS,
    End,
    Pair,
    Piece,
    drained,
    paused,
    pull,
    quiet,
    receive,
    running,
    sent,
)

from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import (
    NEED_DATA,
    PAUSED,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)
from dulcet.upper_layer.items import ContextResult, MaximumLength
from dulcet.upper_layer.negotiation import Window
from dulcet.upper_layer.pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    encode,
)
from dulcet.upper_layer.state import State


@pytest.fixture
def pair() -> Pair:
    """Two ends over a wire, not yet associated."""
    return Pair()


@pytest.fixture
def established() -> Pair:
    """Two ends whose association stands."""
    pair = Pair()
    pair.establish()
    return pair


def told(end: End) -> list[object]:
    """What an end was told since it was last asked."""
    seen, end.seen = end.seen, []
    return list(seen)


def states(pair: Pair) -> tuple[State, State]:
    """The states of requestor and acceptor."""
    return pair.requestor.connection.state, pair.acceptor.connection.state


def ends(pair: Pair, requestor: bool) -> tuple[End, End]:
    return (pair.requestor, pair.acceptor) if requestor else (pair.acceptor, pair.requestor)


both_roles = pytest.mark.parametrize("requestor", [True, False], ids=["requestor", "acceptor"])

# ---------------------------------------------------------------------------------------- establishment


def test_associate_accept(pair: Pair) -> None:
    pair.connect()
    pair.run()
    assert told(pair.acceptor) == [AssociateRequested(REQUEST)]
    pair.acceptor.connection.accept(ANSWER)
    pair.run()
    assert told(pair.requestor) == [AssociateAccepted(ANSWER)]
    for end in (pair.requestor, pair.acceptor):
        assert end.connection.is_established
        assert (end.connection.request, end.connection.answer) == (REQUEST, ANSWER)
        assert end.connection.window == Window(1, 1)
        assert running(end.connection) is None
    assert pair.requestor.connection.contexts[3].as_user
    assert pair.acceptor.connection.contexts[3].as_provider


def test_associate_reject(pair: Pair) -> None:
    pair.connect()
    pair.run()
    pair.acceptor.connection.reject(2, 3, 1)
    pair.run()
    assert told(pair.requestor) == [AssociateRejected(AssociateRJ(2, 3, 1))]
    assert pair.requestor.connection.answer == pair.acceptor.connection.answer == AssociateRJ(2, 3, 1)
    assert told(pair.acceptor)[1:] == [Closed(expected=True)]
    assert pair.requestor.connection.closed
    assert pair.acceptor.connection.closed


def test_what_comes_behind_a_request_is_dealt_with_after_it_is_accepted() -> None:
    connection = Connection(requestor=False, config=CONFIG)
    connection.connection_made()
    message = PDataTF((PDV(1, True, True, b"command"),))
    stream = encode(REQUEST) + encode(message) + encode(ReleaseRQ())
    assert receive(connection, stream) == [AssociateRequested(REQUEST)]
    assert connection.next_event() is PAUSED
    assert connection.next_event() is PAUSED
    connection.accept(ANSWER)
    assert pull(connection) == [Piece(1, True, True, b"command"), ReleaseRequested()]
    connection.release_response()
    assert sent(connection) == [ANSWER, ReleaseRP()]


def test_what_comes_behind_a_request_is_ignored_after_it_is_rejected() -> None:
    connection = Connection(requestor=False, config=CONFIG)
    connection.connection_made()
    receive(connection, encode(REQUEST) + encode(PDataTF((PDV(1, True, True, b"command"),))))
    connection.reject(1, 1, 1)
    assert pull(connection) == []
    assert sent(connection) == [AssociateRJ(1, 1, 1)]


def test_what_comes_behind_an_answer_in_the_same_segment() -> None:
    connection = Connection(requestor=True, config=CONFIG)
    connection.associate(REQUEST)
    connection.connection_made()
    seen = receive(connection, encode(ANSWER) + encode(PDataTF((PDV(3, False, True, b"d"),))) + encode(Abort(2, 0)))
    assert seen == [AssociateAccepted(ANSWER), Piece(3, False, True, b"d"), Aborted(2, 0)]


def test_a_request_that_cannot_be_encoded_starts_nothing() -> None:
    connection = Connection(requestor=True)
    with pytest.raises(LocalProtocolError):
        connection.associate(replace(REQUEST, called_ae_title="SEVENTEEN LETTERS"))
    connection.associate(REQUEST)
    connection.connection_made()
    assert sent(connection) == [REQUEST]
    assert not connection.is_established


def test_an_answer_that_cannot_be_encoded_leaves_the_question_open() -> None:
    connection = Connection(requestor=False)
    connection.connection_made()
    receive(connection, encode(REQUEST))
    with pytest.raises(LocalProtocolError):
        connection.accept(replace(ANSWER, presentation_contexts=(ContextResult(999, 0),)))
    assert not connection.has_output
    connection.accept(ANSWER)
    assert sent(connection) == [ANSWER]


def test_an_association_without_a_single_context_stands_and_carries_nothing() -> None:
    pair = Pair()
    pair.establish(replace(ANSWER, presentation_contexts=(ContextResult(1, 3),)))
    assert pair.requestor.connection.contexts == {}
    with pytest.raises(LocalProtocolError):
        pair.requestor.connection.send_message(1, b"command")


def test_connections_made_with_the_defaults_share_a_pool() -> None:
    first, second = Connection(requestor=False), Connection(requestor=False)
    first.connection_made()
    assert receive(first, encode(REQUEST)[:40]) == []
    second.connection_made()
    assert receive(second, encode(REQUEST)) == [AssociateRequested(REQUEST)]
    assert first.config == second.config == AssociationConfig()


# ---------------------------------------------------------------------------------------- release


@both_roles
def test_release(established: Pair, requestor: bool) -> None:
    one, other = ends(established, requestor)
    one.connection.release()
    established.run()
    assert told(other) == [ReleaseRequested()]
    assert one.connection.state is State.AWAITING_RELEASE_RP
    other.connection.release_response()
    assert not other.connection.wants_close, "an immediate close could lose the answer"
    established.run()
    assert told(one) == [ReleaseConfirmed()]
    assert told(other) == [Closed(expected=True)]
    assert one.connection.closed
    assert other.connection.closed


def test_release_collision_requestor_answers_first(established: Pair) -> None:
    requestor, acceptor = established.requestor, established.acceptor
    requestor.connection.release()
    acceptor.connection.release()
    established.run()
    assert told(requestor) == [ReleaseRequested(collision=True)]
    assert told(acceptor) == [ReleaseRequested(collision=True)]
    assert states(established) == (State.COLLISION_REQUESTOR_RESPONSE, State.COLLISION_ACCEPTOR_RP)
    with pytest.raises(LocalProtocolError):
        acceptor.connection.release_response()
    requestor.connection.release_response()
    established.run()
    assert told(acceptor) == [ReleaseConfirmed()]
    assert states(established) == (State.COLLISION_REQUESTOR_RP, State.COLLISION_ACCEPTOR_RESPONSE)
    acceptor.connection.release_response()
    established.run()
    assert told(requestor) == [ReleaseConfirmed()]
    assert told(acceptor) == [Closed(expected=True)]
    assert requestor.connection.closed
    assert acceptor.connection.closed


@both_roles
def test_data_that_cross_a_release_request_are_still_delivered(established: Pair, requestor: bool) -> None:
    one, other = ends(established, requestor)
    one.connection.release()
    other.connection.send_message(1, b"command", memoryview(b"data"))
    established.run()
    assert told(one) == [Piece(1, True, True, b"command"), Piece(1, False, True, b"data")]
    assert told(other) == [ReleaseRequested()]
    other.connection.send_message(1, b"last words")
    other.connection.release_response()
    established.run()
    assert told(one) == [Piece(1, True, True, b"last words"), ReleaseConfirmed()]


@both_roles
def test_a_release_leaves_behind_the_messages_that_are_queued(established: Pair, requestor: bool) -> None:
    one, other = ends(established, requestor)
    one.connection.send_message(1, b"command", memoryview(bytes(100_000)))
    one.connection.release()
    with pytest.raises(LocalProtocolError):
        one.connection.send_message(1, b"too late")
    established.run()
    *pieces, last = told(other)
    assert sum(len(piece.data) for piece in pieces if isinstance(piece, Piece)) == 100_007
    assert last == ReleaseRequested()


def test_data_after_the_release_request_is_out_of_place(established: Pair) -> None:
    acceptor = established.acceptor.connection
    receive(acceptor, encode(ReleaseRQ()) + encode(PDataTF((PDV(1, True, True, b"command"),))))
    acceptor.release_response()
    assert pull(acceptor) == []
    assert sent(acceptor) == [ReleaseRP()]


# ---------------------------------------------------------------------------------------- aborts


@both_roles
def test_an_abort_of_the_user_is_of_source_0(established: Pair, requestor: bool) -> None:
    one, other = ends(established, requestor)
    one.connection.abort()
    established.run()
    assert told(other) == [Aborted(0, 0)]
    assert told(one) == [Closed(expected=True)]
    assert one.connection.closed
    assert other.connection.closed


@pytest.mark.parametrize(("source", "reason"), [(0, 0), (0, 3), (1, 0), (2, 0), (2, 1), (2, 6), (2, 255), (255, 255)])
def test_a_peers_abort_is_told_as_it_came(established: Pair, source: int, reason: int) -> None:
    connection = established.requestor.connection
    assert receive(connection, encode(Abort(source, reason))) == [Aborted(source, reason)]
    assert sent(connection) == [], "no abort answers an abort"


@pytest.mark.parametrize(("data", "reason"), [
    (b"\x99", 1),
    (encode(REQUEST), 2),
    (encode(ANSWER), 2),
    (encode(AssociateRJ(1, 1, 1)), 2),
    (encode(ReleaseRP()), 2),
    (b"\5\0\0\0\0\0", 6),
    (encode(PDataTF((PDV(99, True, True, b"command"),))), 6),
])  # fmt: skip
@both_roles
def test_the_provider_aborts_with_the_reason(established: Pair, requestor: bool, data: bytes, reason: int) -> None:
    one, other = ends(established, requestor)
    (event,) = receive(one.connection, data)
    assert isinstance(event, Aborted)
    assert (event.source, event.reason, event.by_us) == (2, reason, True)
    established.run()
    assert told(other) == [Aborted(2, reason)]
    assert told(one) == [Closed(expected=True)]


def test_an_abort_in_the_middle_of_a_received_pdu(established: Pair) -> None:
    connection = established.acceptor.connection
    data = encode(PDataTF((PDV(1, False, True, b"data" * 10),)))
    receive(connection, data[:20])
    connection.abort()
    assert receive(connection, data[20:]) == [], "what still comes of it is ignored"
    assert receive(connection, data) == []
    assert receive(connection, encode(Abort(0, 0))) == []
    assert connection.closed
    assert drained(connection) == b"", "a last word that could not leave before the peer's is not sent after it"


def test_the_last_word_is_said_again_but_not_piled_up(established: Pair) -> None:
    connection = established.acceptor.connection
    connection.abort()
    receive(connection, encode(REQUEST) * 3)
    assert sent(connection) == [Abort(0, 0)]
    receive(connection, encode(REQUEST) * 3)
    assert sent(connection) == [Abort(2, 2)], "AA-7"


def test_an_abort_before_the_transport_stands_only_closes() -> None:
    connection = Connection(requestor=True)
    connection.associate(REQUEST)
    connection.abort()
    assert connection.closed
    assert connection.wants_close
    assert drained(connection) == b""
    assert quiet(connection)


def test_an_abort_while_the_answer_is_awaited(pair: Pair) -> None:
    pair.connect()
    pair.run()
    pair.requestor.connection.abort()
    pair.run()
    assert told(pair.acceptor) == [AssociateRequested(REQUEST)]
    assert paused(pair.acceptor.connection), "the abort is behind the answer that is owed"
    pair.acceptor.connection.accept(ANSWER)
    pair.run()
    assert told(pair.acceptor) == [Aborted(0, 0)]
    assert told(pair.requestor) == [Closed(expected=True)]


# ---------------------------------------------------------------------------------------- the end of the stream


def test_the_end_of_the_stream_comes_after_every_byte_before_it(established: Pair) -> None:
    connection = established.acceptor.connection
    connection.get_buffer()[:13] = encode(PDataTF((PDV(1, True, True, b"c"),)))
    connection.buffer_updated(13)
    connection.eof_received()
    assert pull(connection) == [Piece(1, True, True, b"c"), Closed(expected=False)]
    assert connection.next_event() is NEED_DATA
    assert connection.closed


def test_the_end_of_the_stream_in_the_middle_of_a_pdu(established: Pair) -> None:
    connection = established.acceptor.connection
    receive(connection, encode(ReleaseRQ())[:5])
    connection.eof_received()
    assert pull(connection) == [Closed(expected=False)]


@pytest.mark.parametrize(("data", "expected"), [(b"", True), (b"\1", False), (encode(REQUEST)[:70], False)])
def test_a_bare_connect_is_nothing_to_speak_of(data: bytes, expected: bool) -> None:
    connection = Connection(requestor=False)
    connection.connection_made()
    receive(connection, data)
    connection.eof_received()
    assert pull(connection) == [Closed(expected=expected)]


def test_the_end_of_the_stream_waits_for_the_answer_that_is_owed() -> None:
    connection = Connection(requestor=False)
    connection.connection_made()
    receive(connection, encode(REQUEST))
    connection.eof_received()
    assert paused(connection)
    connection.accept(ANSWER)
    assert pull(connection) == [Closed(expected=False)]
    assert drained(connection) == b""


def test_what_is_queued_is_dropped_when_the_transport_is_gone(established: Pair) -> None:
    connection = established.requestor.connection
    connection.send_message(1, b"command")
    connection.eof_received()
    assert pull(connection) == [Closed(expected=False)]
    assert not connection.has_output
    assert running(connection) is None


# ---------------------------------------------------------------------------------------- timers


def test_artim_bounds_the_wait_for_a_request() -> None:
    connection = Connection(requestor=False, config=CONFIG)
    assert connection.timer(50.0) is None
    connection.connection_made()
    assert connection.timer(100.0) == 100.0 + TIMERS.artim
    assert connection.timer(103.0) == 100.0 + TIMERS.artim, "it runs from its first sight"
    receive(connection, encode(REQUEST)[:-1])
    connection.handle_timer(100.0 + TIMERS.artim - 0.001)
    assert connection.state is State.AWAITING_ASSOCIATE_RQ
    connection.handle_timer(100.0 + TIMERS.artim)
    assert pull(connection) == [TimedOut("artim")]
    assert connection.wants_close
    assert drained(connection) == b""
    assert connection.timer(200.0) is None


@both_roles
def test_artim_bounds_the_wait_for_the_close(established: Pair, requestor: bool) -> None:
    one, _ = ends(established, requestor)
    one.connection.abort()
    assert running(one.connection, 10.0) == TIMERS.artim
    one.connection.handle_timer(10.0 + TIMERS.artim)
    assert one.connection.wants_close
    assert one.connection.closed
    assert drained(one.connection) == b"", "an abort that could not leave in that time never will"
    assert pull(one.connection) == []


def test_a_timer_that_was_not_started_yet_does_not_run_out() -> None:
    connection = Connection(requestor=False, config=CONFIG)
    connection.connection_made()
    connection.handle_timer(1e9)
    assert connection.state is State.AWAITING_ASSOCIATE_RQ


def test_the_associate_timer_aborts() -> None:
    connection = Connection(requestor=True, config=CONFIG)
    connection.associate(REQUEST)
    assert running(connection) is None
    connection.connection_made()
    drained(connection)
    assert connection.timer(1.0) == 1.0 + TIMERS.associate
    connection.handle_timer(1.0 + TIMERS.associate)
    assert pull(connection) == [TimedOut("associate")]
    assert sent(connection) == [Abort(0, 0)]
    assert running(connection) == TIMERS.artim


@both_roles
def test_the_release_timer_aborts(established: Pair, requestor: bool) -> None:
    one, other = ends(established, requestor)
    one.connection.release()
    drained(one.connection)
    assert one.connection.timer(1.0) == 1.0 + TIMERS.release
    one.connection.handle_timer(1.0 + TIMERS.release)
    assert pull(one.connection) == [TimedOut("release")]
    established.run()
    assert told(other) == [Aborted(0, 0)]


def test_the_release_timer_runs_on_through_a_collision(established: Pair) -> None:
    for end in (established.requestor, established.acceptor):
        end.connection.release()
    established.run()
    for end in (established.requestor, established.acceptor):
        assert running(end.connection) == TIMERS.release
    established.requestor.connection.release_response()
    established.run()
    assert running(established.requestor.connection) == TIMERS.release
    assert running(established.acceptor.connection) is None


def test_release_and_artim_start_anew_while_data_before_them_leave(established: Pair) -> None:
    connection = established.requestor.connection
    connection.send_message(1, b"command", memoryview(bytes(100_000)))
    connection.release()
    assert connection.timer(0.0) == TIMERS.release
    now = 0.0
    while connection.has_output:
        connection.data_to_send(30_000)
        now += TIMERS.release - 1
        assert connection.timer(now) == now + TIMERS.release
        connection.handle_timer(now)
    assert connection.state is State.AWAITING_RELEASE_RP
    assert connection.timer(now + 5) == now + TIMERS.release


def test_artim_does_not_start_anew_when_the_last_word_is_said_again(established: Pair) -> None:
    connection = established.requestor.connection
    connection.abort()
    drained(connection)
    assert connection.timer(0.0) == TIMERS.artim
    receive(connection, encode(REQUEST))
    assert sent(connection) == [Abort(2, 2)]
    assert connection.timer(5.0) == TIMERS.artim


@pytest.mark.parametrize("late", [False, True])
def test_two_timers_that_ran_out_act_once(late: bool) -> None:
    config = replace(CONFIG, timers=replace(TIMERS, artim=1.0))
    connection = Connection(requestor=True, config=config)
    connection.associate(REQUEST)
    connection.connection_made()
    connection.timer(0.0)
    connection.handle_timer(1e6)
    assert running(connection) == 1.0
    connection.handle_timer(2e6 if late else 0.5)
    assert connection.closed == late
    assert pull(connection) == [TimedOut("associate")]


def test_the_layer_above_announces_what_its_own_timers_found(established: Pair) -> None:
    connection = established.requestor.connection
    connection.announce(TimedOut("response"))
    assert pull(connection) == [TimedOut("response")]


# ---------------------------------------------------------------------------------------- what is agreed on counts


def test_each_side_cuts_to_the_others_maximum(pair: Pair) -> None:
    pair.connect(replace(REQUEST, user_information=(MaximumLength(10),)))
    pair.run()
    answer = AssociateAC(
        called_ae_title="CALLED",
        calling_ae_title="CALLING",
        presentation_contexts=(ContextResult(3, 0, EXPLICIT),),
        user_information=(MaximumLength(20),),
    )
    pair.acceptor.connection.accept(answer)
    pair.run()
    for end, longest in ((pair.requestor, 20), (pair.acceptor, 10)):
        end.connection.send_message(3, b"x" * 40)
        assert max(len(encode(pdu)) - 6 for pdu in sent(end.connection)) == longest


def test_a_request_is_a_value(pair: Pair) -> None:
    pair.connect()
    pair.run()
    request = pair.acceptor.connection.request
    assert isinstance(request, AssociateRQ)
    assert hash(request) == hash(REQUEST)
    assert (request.called, request.calling) == ("CALLED", "CALLING")
