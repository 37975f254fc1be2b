"""Which response answers which request (PS3.7 section 9): context, message id, command; and given just once."""

from __future__ import annotations

import pytest
from tests.pairs import (
    CT,
    FIND,
    VERIFICATION,
    Pair,
    Piece,
    Provider,
    context,
    echo,
    echo_rq,
    find,
    get,
    message,
    request,
    response,
    store,
)

from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.events import AnsweredElsewhere, RequestReceived, RequestRefused, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.source import FileSpan
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.events import (
    NEED_DATA,
    Aborted,
    Closed,
)

DATA = bytes(range(256)) * 300


@pytest.fixture
def pair() -> Pair:
    """Two ends whose association stands; two operations may be under way."""
    return Pair(config=AssociationConfig(window_invoked=2, window_performed=2)).establish()


def answers(pair: Pair, user: int = 0) -> list[ResponseReceived | StrayResponse]:
    """The responses that an end was told of since it was last asked."""
    return [event for event in pair.ends[user].told() if isinstance(event, ResponseReceived | StrayResponse)]


# --- matching ------------------------------------------------------------------------------------------------------


def outstanding(pair: Pair) -> Operation:
    """A C-FIND that waits for its answer."""
    operation = find(pair.requestor)
    pair.run()
    return operation


def unharmed(pair: Pair, operation: Operation) -> None:
    """The operation still gets its own answer."""
    assert pair.requestor.core.outstanding[operation.message_id] is operation
    assert operation.responses == 0
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, operation.message_id)))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation
    assert answer.is_final


STRAYS: dict[str, tuple[int, Command]] = {
    "another message id": (7, response(CommandField.C_FIND_RQ, 999)),
    "no message id": (7, response(CommandField.C_FIND_RQ, None)),
    "message id 0": (7, response(CommandField.C_FIND_RQ, 0)),
    "another command field": (7, response(CommandField.C_ECHO_RQ, 1)),
    "another command field of the same kind": (7, response(CommandField.C_GET_RQ, 1)),
    "a context of another class": (1, response(CommandField.C_FIND_RQ, 1)),
    "an unknown service": (7, response(0x0333, 1)),
}


@pytest.mark.parametrize("case", STRAYS)
def test_a_response_is_matched_on_context_message_id_and_command(pair: Pair, case: str) -> None:
    operation = outstanding(pair)
    echo(pair.requestor)  # so that the answer to one of the two can still come
    context_id, stray = STRAYS[case]
    pair.requestor.receive(message(context_id, stray))
    pair.run()
    (event,) = answers(pair)
    assert isinstance(event, StrayResponse)
    assert event.command.field == stray.field
    unharmed(pair, operation)


def test_a_stray_response_with_data_is_reported_whole_and_given_to_nobody(pair: Pair) -> None:
    operation = outstanding(pair)
    echo(pair.requestor)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, 12, 0xFF00, data_set=True), DATA))
    pair.run()
    (event,) = answers(pair)
    assert isinstance(event, StrayResponse)
    assert event.data == DATA
    unharmed(pair, operation)


def test_a_message_id_of_zero_is_not_what_a_response_without_one_answers(pair: Pair) -> None:
    operation = echo(pair.requestor, 0)
    find(pair.requestor)
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, None)))
    pair.run()
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, 0)))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation


# --- answers that fit nothing: to wait for another would not help ----------------------------------------------------


def ended(pair: Pair) -> Aborted:
    """How the requestor's association ended, which nothing else happened on."""
    aborted, *rest = pair.requestor.told()
    assert isinstance(aborted, Aborted)
    assert aborted.by_us
    assert [type(event) for event in rest] == [Closed]
    return aborted


@pytest.mark.parametrize("case", STRAYS)
def test_an_answer_that_fits_nothing_ends_the_wait_for_the_only_one(pair: Pair, case: str) -> None:
    outstanding(pair)
    context_id, stray = STRAYS[case]
    pair.requestor.receive(message(context_id, stray))
    pair.run()
    message_id = stray.message_id_being_responded_to
    to = "no message" if message_id is None else f"message {message_id}"
    assert ended(pair).message == (
        f"the peer answered with {stray.name} to {to} on context {context_id}; "
        "expected C-FIND-RSP to message 1 on context 7"
    )


def test_as_many_answers_that_fit_nothing_as_requests_end_the_wait_for_all(pair: Pair) -> None:
    outstanding(pair)
    echo(pair.requestor)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, 999)))
    pair.run()
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, 998)))
    pair.run()
    assert (ended(pair).message or "").endswith(
        "expected C-FIND-RSP to message 1 on context 7, C-ECHO-RSP to message 2 on context 1"
    )


def test_an_answer_that_fits_nothing_to_who_asked_nothing_ends_nothing(pair: Pair) -> None:
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, 999)) * 3)
    pair.run()
    assert [type(event) for event in pair.requestor.told()] == [StrayResponse] * 3
    assert pair.requestor.core.is_established


# --- answers on another context of the class: there are peers that look for the class alone --------------------------


def test_an_answer_on_another_accepted_context_of_the_class_is_taken_and_told_of_once(pair: Pair) -> None:
    user = pair.requestor
    for message_id in (1, 2):
        operation = store(user, b"data")
        pair.run()
        assert operation.context.context_id == 3
        user.receive(message(5, response(CommandField.C_STORE_RQ, message_id)))
        pair.run()
        told = user.told()
        if message_id == 1:
            elsewhere = told.pop(0)
            assert isinstance(elsewhere, AnsweredElsewhere)
            assert (elsewhere.asked.context_id, elsewhere.answered.context_id) == (3, 5)
        (answer,) = told
        assert isinstance(answer, ResponseReceived)
        assert answer.operation is operation
        assert answer.is_final
        assert answer.transfer_syntax == user.core.contexts[5].transfer_syntax
        assert answer.transfer_syntax != operation.context.transfer_syntax
        assert not user.core.outstanding


@pytest.mark.parametrize(("named", "taken"), [(CT, True), (None, True), (FIND, False)])
def test_an_answer_on_another_context_names_the_class_of_the_request_or_none(
    pair: Pair, named: str | None, taken: bool
) -> None:
    operation = store(pair.requestor, b"data")
    pair.run()
    command = response(CommandField.C_STORE_RQ, 1).replace(validate=False, AffectedSOPClassUID=named)
    pair.requestor.receive(message(5, command))
    pair.run()
    assert (operation.responses == 1) is taken
    assert pair.requestor.core.is_established is taken


def test_an_answer_to_another_message_on_another_context_of_the_class_is_not_taken(pair: Pair) -> None:
    store(pair.requestor, b"data")
    pair.run()
    pair.requestor.receive(message(5, response(CommandField.C_STORE_RQ, 2)))
    pair.run()
    ended(pair)


def test_a_second_response_answers_nothing(pair: Pair) -> None:
    operation = echo(pair.requestor)
    pair.run()
    once = message(1, response(CommandField.C_ECHO_RQ, operation.message_id))
    pair.requestor.receive(once + once)
    pair.run()
    assert [type(event) for event in answers(pair)] == [ResponseReceived, StrayResponse]
    assert operation.responses == 1


def test_a_response_for_a_finished_operation_does_not_reach_the_next(pair: Pair) -> None:
    pair.acceptor.application = Provider()
    first = echo(pair.requestor)
    pair.run()
    answers(pair)
    pair.acceptor.application = None
    operation = outstanding(pair)
    assert operation.message_id != first.message_id
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, first.message_id)))
    pair.run()
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    unharmed(pair, operation)


def test_an_unsolicited_response_to_an_acceptor_is_a_stray(pair: Pair) -> None:
    pair.acceptor.receive(message(3, response(CommandField.C_STORE_RQ, 1)))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, StrayResponse)


def test_an_answer_may_come_before_the_data_have_left(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    operation = store(pair.requestor, DATA * 20)
    core = pair.requestor.core
    first = core.data_to_send(1000)  # command and one PDU
    assert not operation.departed
    pair.requestor.receive(message(3, response(CommandField.C_STORE_RQ, operation.message_id, 0xA700)))
    pair.requestor.read()
    pair.requestor.pull()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation
    assert not core.outstanding
    # The rest leaves all the same, for half a message is no message.
    pair.acceptor.receive(b"".join(bytes(part) for part in first if not isinstance(part, FileSpan)))
    pair.run()
    assert provider.stored == [("1.2.3", DATA * 20)]
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    assert operation.departed


@pytest.mark.parametrize(
    ("status", "final"),
    [(0xFF00, False), (0xFF01, False), (0, True), (0xA701, True), (0xA900, True), (0xC123, True), (0xFE00, True),
     (0xB000, True), (None, True)],
)  # fmt: skip
def test_ff01_is_pending_too_and_everything_else_is_final(pair: Pair, status: int | None, final: bool) -> None:
    operation = outstanding(pair)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, operation.message_id, status)))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.is_final is final
    assert bool(pair.requestor.core.outstanding) is not final


def test_a7xx_a9xx_and_cxxx_are_ranges() -> None:
    failures = [*range(0xA700, 0xA800), *range(0xA900, 0xAA00), *range(0xC000, 0xD000)]
    assert all(Status(code).is_failure for code in failures)


def test_an_operation_without_pending_responses_ends_with_the_first(pair: Pair) -> None:
    operation = echo(pair.requestor)
    pair.run()
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, operation.message_id, 0xFF00)))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.is_final


def test_more_than_65535_matches_are_counted_on(pair: Pair) -> None:
    operation = outstanding(pair)
    one = message(7, response(CommandField.C_FIND_RQ, operation.message_id, 0xFF00, data_set=True), b"match")
    core, told = pair.requestor.core, 0
    for _ in range(66):
        wire = memoryview(one * 1000)
        while wire:
            buffer = core.get_buffer()
            count = min(len(buffer), len(wire))
            buffer[:count] = wire[:count]
            core.buffer_updated(count)
            wire = wire[count:]
            while core.next_event() is not NEED_DATA:
                told += 1
    assert told == operation.responses == 66_000
    assert core.outstanding


def test_remaining_in_a_final_response_does_no_harm(pair: Pair) -> None:
    operation = get(pair.requestor)
    pair.run()
    answer = response(CommandField.C_GET_RQ, operation.message_id).replace(
        validate=False, NumberOfRemainingSuboperations=3, NumberOfCompletedSuboperations=2
    )
    pair.requestor.receive(message(9, answer))
    pair.run()
    (event,) = answers(pair)
    assert isinstance(event, ResponseReceived)
    assert event.is_final
    assert event.command.number_of_remaining_suboperations == 3


# --- message ids ---------------------------------------------------------------------------------------------------


def test_message_ids_wrap_at_65535_and_skip_what_is_outstanding() -> None:
    pair = Pair(config=AssociationConfig(window_invoked=0, window_performed=0)).establish()
    first, second = echo(pair.requestor), echo(pair.requestor)
    assert (first.message_id, second.message_id) == (1, 2)
    assert echo(pair.requestor, 65_534).message_id == 65_534
    assert [echo(pair.requestor).message_id for _ in range(2)] == [65_535, 3]


def test_answers_find_their_operations_when_the_message_ids_go_round(pair: Pair) -> None:
    pair.acceptor.application = Provider()
    asked = []
    for _ in range(3):
        asked.append(echo(pair.requestor, 65_534))
        pair.run()
        for _ in range(3):
            asked.append(echo(pair.requestor))
            pair.run()
    assert [each.message_id for each in asked] == [65_534, 65_535, 1, 2] * 3
    told = answers(pair)
    assert [each.operation for each in told if isinstance(each, ResponseReceived)] == asked


def test_a_message_id_in_use_is_refused_to_the_caller() -> None:
    pair = Pair(config=AssociationConfig(window_invoked=0, window_performed=0)).establish()
    echo(pair.requestor, 17)
    pair.requestor.core.data_to_send()
    with pytest.raises(LocalProtocolError, match="17 is outstanding"):
        echo(pair.requestor, 17)
    assert not pair.requestor.core.has_output


def test_a_message_id_that_is_under_way_already_is_answered_0210h(pair: Pair) -> None:
    pair.acceptor.receive(message(1, echo_rq(4)))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    pair.acceptor.receive(message(1, echo_rq(4)))
    pair.acceptor.receive(message(7, request(CommandField.C_FIND_RQ, FIND, 4, data_set=True), DATA))
    pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 4, data_set=True), DATA))
    pair.run()
    told = pair.acceptor.told()
    assert [(type(each), each.request.command.name, each.status) for each in told] == [  # type: ignore[union-attr]
        (RequestRefused, "C-ECHO-RQ", 0x0210),
        (RequestRefused, "C-FIND-RQ", 0x0210),
        (RequestRefused, "C-STORE-RQ", 0x0210),
    ]
    strays = answers(pair)
    assert [(each.command.name, each.command.status) for each in strays] == [
        ("C-ECHO-RSP", 0x0210), ("C-FIND-RSP", 0x0210), ("C-STORE-RSP", 0x0210),
    ]  # fmt: skip
    # the first one is still to be answered, and can be
    assert pair.acceptor.core.performing == {4: event.request}
    pair.acceptor.core.respond_status(event.request, 0)
    assert not pair.acceptor.core.performing


def test_a_message_id_may_be_used_again_once_answered(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    for _ in range(3):
        pair.acceptor.receive(message(1, echo_rq(4)))
        pair.run()
    assert len(provider.requests) == 3
    assert [each.command.status for each in answers(pair)] == [0, 0, 0]


# --- answers that may not be given ---------------------------------------------------------------------------------


def test_a_final_answer_is_given_once(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    core = pair.acceptor.core
    core.respond_status(event.request, 0)
    core.data_to_send()
    with pytest.raises(LocalProtocolError, match="C-ECHO-RQ 1 was answered already"):
        core.respond_status(event.request, 0)
    with pytest.raises(LocalProtocolError, match="answered already"):
        core.respond(event.request, response(CommandField.C_ECHO_RQ, 1))
    assert not core.has_output


@pytest.mark.parametrize("status", [0xFF00, 0xFF01])
def test_a_pending_answer_of_what_has_none_is_final(pair: Pair, status: int) -> None:
    echo(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    pair.acceptor.core.respond(event.request, response(CommandField.C_ECHO_RQ, 1, status))
    assert event.request.answered
    assert not pair.acceptor.core.performing


def test_a_store_may_be_answered_while_its_data_still_come(pair: Pair) -> None:
    def refuse(core: DimseAssociation, event: object) -> None:
        if isinstance(event, RequestReceived):
            core.respond_status(event.request, 0xA700)

    pair.acceptor.application = refuse
    store(pair.requestor, DATA)
    pair.run()
    pieces = [event for event in pair.acceptor.told() if isinstance(event, Piece)]
    assert b"".join(each.data for each in pieces) == DATA
    assert [each.command.status for each in answers(pair)] == [0xA700]
    assert not pair.acceptor.core.mid_message


def test_only_requests_that_are_answered_can_be_invoked(pair: Pair) -> None:
    core = pair.requestor.core
    where = context(core, VERIFICATION)
    for field in (CommandField.C_CANCEL_RQ, CommandField.C_ECHO_RSP):
        with pytest.raises(LocalProtocolError, match="not a request that is answered"):
            core.invoke(where, request(field, VERIFICATION))
    assert not core.outstanding
    assert not core.has_output
