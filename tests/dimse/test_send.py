"""`send`: any message by its command set, and what strays tell."""

from __future__ import annotations

import pytest
from tests.pairs import CT, End, Pair, Provider, echo_rq, find, message, request, response

from dulcet.dimse.command import Command
from dulcet.dimse.events import CancelReceived, RequestReceived, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.events import Aborted

UNKNOWN = 0x0ABC


@pytest.fixture
def pair() -> Pair:
    return Pair().establish()


def only(end: End) -> object:
    (event,) = end.told()
    return event


def test_a_request_becomes_an_operation_and_a_response_answers_it(pair: Pair) -> None:
    asking, answering = pair.requestor.core, pair.acceptor.core
    asking.send(1, echo_rq(77), owner="mine")
    pair.run()
    received = only(pair.acceptor)
    assert isinstance(received, RequestReceived)
    answering.send(1, response(CommandField.C_ECHO_RQ, 77))
    assert received.request.answered
    assert not answering.performing
    pair.run()
    answered = only(pair.requestor)
    assert isinstance(answered, ResponseReceived)
    assert answered.operation.owner == "mine"


def test_a_response_to_nobody_leaves_and_strays(pair: Pair) -> None:
    pair.acceptor.core.send(1, response(CommandField.C_ECHO_RQ, 5), b"data")
    pair.run()
    stray = only(pair.requestor)
    assert isinstance(stray, StrayResponse)
    assert (stray.context_id, stray.data, stray.command.message_id_being_responded_to) == (1, b"data", 5)


def test_a_response_of_another_kind_does_not_answer(pair: Pair) -> None:
    pair.requestor.core.send(1, echo_rq(3))
    pair.run()
    pair.acceptor.core.send(1, response(CommandField.C_FIND_RQ, 3))
    assert 3 in pair.acceptor.core.performing


def test_a_cancel_tells_its_context_and_command_and_marks_the_operation(pair: Pair) -> None:
    operation = find(pair.requestor)
    pair.run()
    pair.acceptor.told()
    cancel = Command.make(CommandField.C_CANCEL_RQ, MessageIDBeingRespondedTo=operation.message_id)
    pair.requestor.core.send(7, cancel)
    assert operation.cancelled
    pair.run()
    told = only(pair.acceptor)
    assert isinstance(told, CancelReceived)
    assert told.request is not None
    assert (told.context_id, told.command.field, told.request.cancelled) == (7, CommandField.C_CANCEL_RQ, True)
    pair.requestor.core.send(7, Command.make(CommandField.C_CANCEL_RQ, MessageIDBeingRespondedTo=999))
    pair.run()
    assert isinstance(only(pair.acceptor), CancelReceived)


def test_a_command_that_nobody_knows_is_a_request_like_others(pair: Pair) -> None:
    pair.requestor.core.send(3, request(UNKNOWN, CT, 9), b"data")
    pair.run()
    received = only(pair.acceptor)
    assert isinstance(received, RequestReceived)
    assert received.request.command.definition is None
    assert received.request.data == b"data"


def test_a_context_that_was_not_accepted_puts_nothing_on_the_wire(pair: Pair) -> None:
    with pytest.raises(LocalProtocolError, match="99 was not accepted"):
        pair.requestor.core.send(99, echo_rq())
    assert not pair.requestor.core.has_output


def test_what_is_owed_is_told(pair: Pair) -> None:
    fresh = Pair()
    assert fresh.acceptor.core.owes is None
    fresh.connect()
    assert fresh.acceptor.core.owes == "associate"
    pair.acceptor.application = Provider()
    pair.requestor.core.release()
    pair.run()
    assert pair.acceptor.core.owes == "release"
    assert pair.requestor.core.owes is None


def test_a_peers_longer_pdu_is_held_against_what_our_own_pdu_announced() -> None:
    pair = Pair()
    pair.connect()
    from dulcet.upper_layer.negotiation import Offer

    pair.acceptor.core.accept(Offer(syntaxes={}, any_class=(), maximum_length=0))
    pair.run()
    big = message(1, echo_rq(1), None) + message(
        3, request(CommandField.C_STORE_RQ, CT, 2, data_set=True), bytes(200000), fragment=200000
    )
    pair.acceptor.receive(big)
    pair.run()
    assert pair.acceptor.core.connection.oversized_pdus == 0


def test_an_answer_fits_a_request_that_waits_or_is_refused(pair: Pair) -> None:
    """A second answer, an unknown message id, another context, another kind: each is said, and nothing is sent."""
    pair.requestor.core.send(1, echo_rq(3))
    pair.run()
    core = pair.acceptor.core
    for context_id, answer, why in (
        (1, response(CommandField.C_ECHO_RQ, 99), "message id 99: no request of the peer waits"),
        (1, response(CommandField.C_ECHO_RQ, None), "message id None: no request"),
        (3, response(CommandField.C_ECHO_RQ, 3), "message id 3 came on presentation context 1, not 3"),
        (1, response(CommandField.C_FIND_RQ, 3), "message id 3 is a C-ECHO-RQ, which a C-FIND-RSP does not answer"),
        (99, response(CommandField.C_ECHO_RQ, 3), "presentation context 99 was not accepted"),
    ):
        with pytest.raises(LocalProtocolError, match=why):
            core.respond_to(context_id, answer)
    assert not core.has_output
    assert core.owed(1, response(CommandField.C_ECHO_RQ, 3)) is core.performing[3]
    core.respond_to(1, response(CommandField.C_ECHO_RQ, 3))
    with pytest.raises(LocalProtocolError, match="or it was answered already; nothing was sent"):
        core.respond_to(1, response(CommandField.C_ECHO_RQ, 3))
    pair.run()
    assert isinstance(only(pair.requestor), ResponseReceived)


def test_a_response_on_another_context_than_its_request_leaves_there_and_answers_nothing(pair: Pair) -> None:
    pair.requestor.core.send(1, echo_rq(3))
    pair.run()
    pair.acceptor.core.send(3, response(CommandField.C_ECHO_RQ, 3))
    assert 3 in pair.acceptor.core.performing
    pair.run()
    ended = pair.requestor.told()[0]
    assert isinstance(ended, Aborted)  # one is unanswered, and what came for it fits nothing: no other can come
    assert "message 3 on context 3; expected C-ECHO-RSP to message 3 on context 1" in ended.message
