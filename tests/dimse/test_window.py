"""The operations window (PS3.7 D.3.3.3): what is bounded, what waits, and answers in any order."""

from __future__ import annotations

import random

import pytest
from tests.pairs import (
    CT,
    FIND,
    GET,
    VERIFICATION,
    End,
    Pair,
    Piece,
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

from dulcet.config import AssociationConfig, Limits
from dulcet.dimse.association import UNSENT_ANSWERS
from dulcet.dimse.events import CancelReceived, RequestReceived, ResponseReceived
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.events import NEED_DATA, PAUSED, Aborted
from dulcet.upper_layer.negotiation import Window


def made(invoked: int = 1, performed: int = 1, *, unanswered: int = 32) -> Pair:
    """A pair whose requestor may invoke and perform so many at once."""
    limits = Limits(unanswered=unanswered)
    config = AssociationConfig(window_invoked=invoked, window_performed=performed, limits=limits)
    theirs = AssociationConfig(window_invoked=performed, window_performed=invoked, limits=limits)
    pair = Pair(config=config, acceptor_config=theirs).establish()
    assert pair.requestor.core.window == Window(invoked, performed)
    assert pair.acceptor.core.window == Window(performed, invoked)
    return pair


def requests(end: End) -> list[Request]:
    """The requests that an end was told of since it was last asked."""
    return [event.request for event in end.told() if isinstance(event, RequestReceived)]


def answered(end: End) -> list[int]:
    """The message ids of the responses that came."""
    return [event.operation.message_id for event in end.told() if isinstance(event, ResponseReceived)]


@pytest.mark.parametrize("window", [1, 2, 8])
def test_more_operations_than_agreed_on_are_a_local_protocol_error_and_nothing_is_sent(window: int) -> None:
    pair = made(invoked=window)
    core = pair.requestor.core
    for left in range(window, 0, -1):
        assert core.invocable == left
        assert core.can_invoke()
        echo(pair.requestor)
    pair.run()
    assert core.invocable == 0
    assert not core.can_invoke()
    for ask in (lambda end: echo(end), lambda end: store(end, b"data")):
        with pytest.raises(LocalProtocolError, match=f"{window} operations are outstanding, as many as were agreed on"):
            ask(pair.requestor)
    assert not core.has_output
    assert len(core.outstanding) == window


def test_within_a_find_the_refusal_says_how_a_loop_is_written() -> None:
    end = made(invoked=2).requestor
    echo(end)
    find(end)
    with pytest.raises(LocalProtocolError, match=r"^2 operations .* under way: .* list\(association.find\(...\)\)"):
        get(end)
    other = made(invoked=1).requestor
    get(other)
    with pytest.raises(LocalProtocolError, match=r"await a response first$"):
        get(other)


def test_a_window_of_0_is_unlimited_so_we_bound_it_ourselves() -> None:
    pair = made(invoked=0, performed=0, unanswered=5)
    for end, other in ((pair.requestor, pair.acceptor), (pair.acceptor, pair.requestor)):
        for _ in range(5):
            echo(end)
        with pytest.raises(LocalProtocolError, match="5 operations are outstanding"):
            echo(end)
        pair.run()
        assert len(requests(other)) == 5
        # a peer that bounds itself otherwise: only so many come through, nothing is refused
        other.receive(b"".join(message(1, echo_rq(number)) for number in range(100, 110)))
        end.core.outstanding.clear()
        other.core.outstanding.clear()
        pair.run()
        assert other.signal is PAUSED
        assert requests(other) == []
        for performed in list(other.core.performing.values()):
            other.core.respond_status(performed, 0)
        pair.run()
        assert [each.message_id for each in requests(other)] == [100, 101, 102, 103, 104]
        for _ in range(2):
            for performed in list(other.core.performing.values()):
                other.core.respond_status(performed, 0)
            pair.run()
        assert not other.core.performing
        assert other.signal is NEED_DATA


@pytest.mark.parametrize("window", [1, 3])
def test_a_peer_that_exceeds_the_window_waits_until_an_answer_is_given(window: int) -> None:
    pair = made(invoked=window)
    end = pair.acceptor
    end.receive(b"".join(message(1, echo_rq(number)) for number in range(1, window + 3)))
    pair.run()
    first = requests(end)
    assert [each.message_id for each in first] == list(range(1, window + 1))
    assert end.core.next_event() is PAUSED
    assert end.core.next_event() is PAUSED
    end.core.respond_status(first[0], 0)
    pair.run()
    assert [each.message_id for each in requests(end)] == [window + 1]
    assert end.core.next_event() is PAUSED


def test_a_store_beyond_the_window_waits_with_its_data() -> None:
    pair = made()
    end = pair.acceptor
    end.receive(message(1, echo_rq(1)) + message(3, request(CommandField.C_STORE_RQ, CT, 2, data_set=True), b"data"))
    pair.run()
    (first,) = requests(end)
    end.core.respond_status(first, 0)
    pair.run()
    begun, piece = end.told()
    assert isinstance(begun, RequestReceived)
    assert isinstance(piece, Piece)
    assert (piece.request, piece.data, piece.is_last) == (begun.request, b"data", True)


def test_memory_does_not_follow_a_peer_that_is_paused() -> None:
    pair = made()
    end = pair.acceptor
    end.receive(b"".join(message(1, echo_rq(number)) for number in range(1, 60_000)))
    pair.run()
    assert end.signal is PAUSED
    assert end.core.is_full
    assert len(end.inbox) > 3_000_000  # stays on the wire
    end.application = Provider()
    assert len(requests(end)) == 1
    end.core.respond_status(end.core.performing[1], 0)
    pair.requestor.inbox.clear()
    pair.run()
    assert end.signal is NEED_DATA
    assert not end.inbox


def test_never_paused_while_the_peer_owes_us_an_answer() -> None:
    pair = made()
    operation = get(pair.requestor)
    pair.run()
    end = pair.requestor
    # It sends its sub-operations without waiting for our answers, and then the last response.
    end.receive(
        b"".join(
            message(3, request(CommandField.C_STORE_RQ, CT, number, data_set=True), b"data") for number in range(1, 9)
        )
        + message(9, response(CommandField.C_GET_RQ, operation.message_id))
    )
    pair.run()
    assert end.signal is NEED_DATA
    told = end.told()
    assert sum(isinstance(event, RequestReceived) for event in told) == 8
    assert isinstance(told[-1], ResponseReceived)
    # From here on the window counts again.
    end.receive(message(1, echo_rq(100)))
    pair.run()
    assert end.signal is PAUSED


def test_even_then_there_is_an_end_to_what_waits_for_our_answers() -> None:
    pair = made(unanswered=10)
    operation = get(pair.requestor)
    pair.run()
    end = pair.requestor
    end.receive(b"".join(message(1, echo_rq(number)) for number in range(1, 13)))
    end.receive(message(9, response(CommandField.C_GET_RQ, operation.message_id)))
    pair.run()
    first = requests(end)
    assert len(first) == 10
    assert end.signal is PAUSED
    for each in first:
        end.core.respond_status(each, 0)
    pair.run()
    assert end.signal is NEED_DATA
    assert not end.core.outstanding


@pytest.mark.parametrize("user", [0, 1], ids=["requestor", "acceptor"])
def test_answers_find_their_operations_in_any_order(user: int) -> None:
    pair = made(invoked=8, performed=8)
    asking, answering = pair.ends[user], pair.ends[1 - user]
    shuffle = random.Random(7).shuffle
    for _ in range(20):
        operations = [echo(asking) for _ in range(8)]
        pair.run()
        waiting = requests(answering)
        shuffle(waiting)
        for each in waiting:
            answering.core.respond_status(each, each.message_id % 7)
        pair.run()
        got = [event for event in asking.told() if isinstance(event, ResponseReceived)]
        assert [event.operation.message_id for event in got] == [each.message_id for each in waiting]
        assert {id(event.operation) for event in got} == {id(each) for each in operations}
        assert all(event.command.status == event.operation.message_id % 7 for event in got)


def test_stores_are_pipelined_with_their_data() -> None:
    pair = made(invoked=4)
    kept: dict[int, bytearray] = {}
    order: list[int] = []

    def keep(core: object, event: object) -> None:
        if isinstance(event, RequestReceived):
            kept[event.request.message_id] = bytearray()
            order.append(event.request.message_id)

    pair.acceptor.application = keep
    for number in range(4):
        store(pair.requestor, bytes([number]) * 300_000, f"1.{number}")
    pair.run()
    for event in pair.acceptor.told():
        if isinstance(event, Piece):
            kept[event.request.message_id] += event.data
    assert order == [1, 2, 3, 4]
    assert kept == {number + 1: bytes([number]) * 300_000 for number in range(4)}
    for message_id in (3, 1, 4, 2):
        pair.acceptor.core.respond_status(pair.acceptor.core.performing[message_id], 0)
    pair.run()
    assert answered(pair.requestor) == [3, 1, 4, 2]
    assert pair.requestor.core.invocable == 4


def test_both_ends_invoke_at_once() -> None:
    pair = made(invoked=8, performed=8)
    providers = [Provider(), Provider()]
    for end, provider in zip(pair.ends, providers, strict=True):
        end.application = provider
    for number in range(8):
        for end in pair.ends:
            store(end, bytes([number]) * 50_000, f"1.{number}")
    pair.run()
    expected = [(f"1.{number}", bytes([number]) * 50_000) for number in range(8)]
    assert [provider.stored for provider in providers] == [expected, expected]
    assert [answered(end) for end in pair.ends] == [list(range(1, 9))] * 2


def test_pending_responses_do_not_free_the_window() -> None:
    pair = made()
    find(pair.requestor)
    pair.run()
    (asked,) = requests(pair.acceptor)
    pending(pair.acceptor.core, asked)
    pair.run()
    assert pair.requestor.core.invocable == 0
    assert pair.acceptor.core.performing
    pair.acceptor.core.respond_status(asked, 0)
    pair.run()
    assert pair.requestor.core.invocable == 1


def test_an_acceptor_that_does_not_answer_the_window_leaves_one() -> None:
    config = AssociationConfig(window_invoked=8, window_performed=8)
    pair = Pair(config=config, acceptor_config=AssociationConfig()).establish()
    assert pair.requestor.core.window == Window(1, 1)
    assert pair.requestor.core.invocable == 1


def test_a_peer_that_goes_on_asking_and_takes_no_answers_is_cut_off() -> None:
    pair = made()
    end = pair.acceptor
    end.application = Provider()
    end.sends = False
    count = UNSENT_ANSWERS + 10
    end.receive(b"".join(message(1, echo_rq(number)) for number in range(1, count)))
    pair.run()
    aborted = end.told()[-1]
    assert isinstance(aborted, Aborted)
    assert aborted.by_us
    assert "only asks" in aborted.message
    end.sends = True
    pair.run()
    assert pair.requestor.told() == [Aborted(0, 0)]


def test_refusals_that_nobody_takes_are_bounded_too() -> None:
    pair = made()
    end = pair.acceptor
    end.sends = False
    end.receive(message(3, request(CommandField.C_STORE_RQ, CT, 1)) * (UNSENT_ANSWERS + 10))
    pair.run()
    assert isinstance(end.told()[-1], Aborted)


def test_answers_that_are_taken_are_not_counted_on() -> None:
    pair = made()
    pair.acceptor.application = Provider()
    for start in range(0, UNSENT_ANSWERS + 2000, 2000):
        pair.acceptor.receive(b"".join(message(1, echo_rq(start + number)) for number in range(2000)))
        pair.run()
    assert pair.acceptor.core.is_established


def test_an_operation_is_bound_to_its_context() -> None:
    pair = made(invoked=2)
    core = pair.requestor.core
    first = core.invoke(context(core, VERIFICATION), echo_rq())
    assert first.context.abstract_syntax == VERIFICATION
    assert get(pair.requestor).context.abstract_syntax == GET


# --- beyond the window --------------------------------------------------------------------------------------------


def ask(end: End, number: int, field: int = CommandField.C_STORE_RQ, data: bytes = b"data") -> Operation:
    """A request that waits for its turn."""
    sop_class = {CommandField.C_STORE_RQ: CT, CommandField.C_FIND_RQ: FIND}[CommandField(field)]
    command = request(field, sop_class, number, data_set=True)
    return end.core.invoke(context(end.core, sop_class), command, data, owner=number, wait=True)


def test_requests_beyond_the_window_leave_in_their_order_as_answers_come() -> None:
    pair = made(invoked=2)
    core = pair.requestor.core
    operations = [ask(pair.requestor, number) for number in range(1, 8)]
    assert list(core.outstanding) == [1, 2]
    assert list(core.waiting) == [3, 4, 5, 6, 7]
    pair.run()
    assert [one.message_id for one in requests(pair.acceptor)] == [1, 2]
    assert not operations[2].departed
    pair.acceptor.core.respond_status(pair.acceptor.core.performing[2], 0)
    pair.run()
    assert answered(pair.requestor) == [2]
    assert [one.message_id for one in requests(pair.acceptor)] == [3]
    pair.acceptor.application = Provider()
    for message_id in (1, 3):
        pair.acceptor.core.respond_status(pair.acceptor.core.performing[message_id], 0)
    pair.run()
    assert answered(pair.requestor) == [1, 3, 4, 5, 6, 7]
    assert not core.outstanding
    assert not core.waiting
    core.release()


def test_a_message_id_is_taken_while_its_request_waits() -> None:
    pair = made()
    core = pair.requestor.core
    ask(pair.requestor, 1)
    ask(pair.requestor, 2)
    with pytest.raises(LocalProtocolError, match="message id 2 is outstanding already"):
        ask(pair.requestor, 2)
    assert core.next_message_id() == 3
    core._last_id = 1
    assert core.next_message_id() == 3


def test_a_release_with_requests_that_wait_is_refused_and_sends_nothing() -> None:
    pair = made()
    core = pair.requestor.core
    for number in (1, 2, 3):
        ask(pair.requestor, number)
    pair.run()
    with pytest.raises(LocalProtocolError, match="release with 3 unanswered operations"):
        core.release()
    assert not core.has_output


def test_no_release_comes_between_an_answer_and_the_next_request() -> None:
    pair = made()
    ask(pair.requestor, 1)
    ask(pair.requestor, 2)
    pair.run()
    pair.acceptor.core.respond_status(pair.acceptor.core.performing[1], 0)
    pair.run()
    assert answered(pair.requestor) == [1]
    with pytest.raises(LocalProtocolError, match="release with 1 unanswered"):
        pair.requestor.core.release()


@pytest.mark.parametrize("by_command", [False, True])
def test_a_cancel_of_what_waits_leaves_right_behind_its_request(by_command: bool) -> None:
    pair = made()
    core = pair.requestor.core
    ask(pair.requestor, 1)
    operation = ask(pair.requestor, 2, CommandField.C_FIND_RQ)
    for _ in range(2):
        if by_command:
            core.send(7, request(CommandField.C_CANCEL_RQ, FIND).replace(validate=False, MessageIDBeingRespondedTo=2))
        else:
            core.cancel(operation)
    assert operation.cancelled
    pair.run()
    assert [one.message_id for one in requests(pair.acceptor)] == [1]
    pair.acceptor.core.respond_status(pair.acceptor.core.performing[1], 0)
    pair.run()
    told = pair.acceptor.told()
    assert [type(event) for event in told] == [RequestReceived, CancelReceived]
    assert isinstance(told[1], CancelReceived)
    assert told[1].request is not None
    assert told[1].request.message_id == 2


def test_what_waits_is_counted_and_goes_with_the_association() -> None:
    for end_it in (lambda pair: pair.requestor.core.abort(), lambda pair: pair.acceptor.core.abort()):
        pair = made()
        core = pair.requestor.core
        ask(pair.requestor, 1)
        pair.run()
        assert core.queued_bytes == 0
        ask(pair.requestor, 2, data=bytes(5000))
        core.waiting[3] = core.waiting[2]._replace(source=None)
        assert 5000 < core.queued_bytes < 5600
        end_it(pair)
        pair.run()
        assert core.closed
        pair.requestor.told()
        assert not core.waiting
        assert core.queued_bytes == 0


def test_nothing_waits_where_no_association_stands() -> None:
    pair = made()
    ask(pair.requestor, 1)
    pair.requestor.core.abort()
    with pytest.raises(LocalProtocolError, match="no association stands"):
        ask(pair.requestor, 2)


def test_without_being_asked_nothing_waits() -> None:
    pair = made()
    ask(pair.requestor, 1)
    with pytest.raises(LocalProtocolError, match="as many as were agreed on"):
        echo(pair.requestor)
