"""Operations over two ends (PS3.7 sections 6 to 9): messages in pieces, matching, empty data sets, the end."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable
from itertools import cycle, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pairs import (
    CT,
    EVERYTHING,
    EXPLICIT,
    FIND,
    GET,
    IMPLICIT,
    VERIFICATION,
    WHOLE,
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
from dulcet.dimse.association import Association
from dulcet.dimse.command import Command
from dulcet.dimse.events import DataReceived, RequestReceived, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.source import FileSpan
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError, NoPresentationContext
from dulcet.upper_layer.events import (
    NEED_DATA,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dulcet.upper_layer.negotiation import Offer, Proposal, Window

DATA = bytes(range(256)) * 300
BOTH = pytest.mark.parametrize("user", [0, 1], ids=["requestor", "acceptor"])
FIND_RSP = CommandField.C_FIND_RSP


def established(**options: object) -> Pair:
    return Pair(**options).establish()  # type: ignore[arg-type]


@pytest.fixture
def pair() -> Pair:
    """Two ends whose association stands."""
    return established()


def answers(pair: Pair, user: int = 0) -> list[ResponseReceived | StrayResponse]:
    """The responses that an end was told of since it was last asked."""
    return [event for event in pair.ends[user].told() if isinstance(event, ResponseReceived | StrayResponse)]


# --- messages travel -----------------------------------------------------------------------------------------------

CUTS: dict[str, Callable[[], Iterable[int]]] = {
    "whole": lambda: repeat(WHOLE),
    "byte by byte": lambda: repeat(1),
    "odd pieces": lambda: cycle((7, 1, 4096, 5, 11, 70_000)),
}


@BOTH
@pytest.mark.parametrize("cut", CUTS)
def test_echo_in_both_roles(cut: str, user: int) -> None:
    pair = established(cuts=CUTS[cut]())
    provider = pair.ends[1 - user].application = Provider()
    operation = echo(pair.ends[user])
    pair.run()
    (answer,) = answers(pair, user)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation
    assert answer.command.status == Status.SUCCESS
    assert answer.command.affected_sop_class_uid == VERIFICATION
    assert answer.is_final
    assert answer.data is None
    assert [each.command.name for each in provider.requests] == ["C-ECHO-RQ"]
    assert not pair.ends[user].core.outstanding
    assert not pair.ends[1 - user].core.performing


@BOTH
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [1, 2, 16_377, 16_378, 16_379, 76_800])
def test_store_in_both_roles(cut: str, user: int, size: int) -> None:
    config = AssociationConfig(maximum_length=16_384)
    pair = established(cuts=CUTS[cut](), config=config)
    provider = pair.ends[1 - user].application = Provider()
    operation = store(pair.ends[user], DATA[:size], "1.2.840.1")
    pair.run()
    assert provider.stored == [("1.2.840.1", DATA[:size])]
    (answer,) = answers(pair, user)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation
    assert answer.command.affected_sop_instance_uid == "1.2.840.1"
    assert operation.departed


@given(
    sizes=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 70_000)), min_size=1, max_size=30),
    lengths=st.lists(st.integers(0, 70_000), min_size=1, max_size=6),
    maximum=st.sampled_from([8, 100, 16_384, 0]),
    kinds=st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_messages_do_not_depend_on_the_reads(sizes: list[int], lengths: list[int], maximum: int, kinds: object) -> None:
    if maximum == 8:  # two bytes a PDU
        lengths = [length % 500 for length in lengths]
    config = AssociationConfig(maximum_length=maximum, window_invoked=0, window_performed=0)
    pair = established(cuts=cycle(sizes), config=config)
    provider = pair.acceptor.application = Provider()
    expected = []
    for number, length in enumerate(lengths):
        if number % 3 == 2:
            echo(pair.requestor)
        store(pair.requestor, DATA[:length], f"1.{number}", IMPLICIT if number % 2 else EXPLICIT)
        expected.append((f"1.{number}", DATA[:length]))
    pair.run()
    assert provider.stored == expected
    assert len(answers(pair)) == len(provider.requests) == len(lengths) + len(lengths) // 3


def test_command_and_data_in_one_pdu_are_one_message(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    command = Command.make(
        CommandField.C_STORE_RQ, data_set=True, AffectedSOPClassUID=CT, MessageID=9, Priority=0,
        AffectedSOPInstanceUID="1.2",
    )  # fmt: skip
    pair.acceptor.receive(message(3, command, DATA, together=True, fragment=1000))
    pair.run()
    assert provider.stored == [("1.2", DATA)]


def test_several_messages_in_one_read_come_one_by_one(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    wire = b"".join(message(1, echo_rq(number), fragment=30) for number in range(1, 40))
    pair.acceptor.receive(wire)
    pair.run()
    assert [each.message_id for each in provider.requests] == list(range(1, 40))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_in_memory_leave_as_they_are(pair: Pair, kind: Callable[[bytes], bytes]) -> None:
    provider = pair.acceptor.application = Provider()
    store(pair.requestor, kind(DATA))
    pair.run()
    assert provider.stored == [("1.2.3", DATA)]


def test_a_view_of_words_leaves_as_its_bytes(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    store(pair.requestor, memoryview(DATA).cast("H"))
    pair.run()
    assert provider.stored == [("1.2.3", DATA)]


@BOTH
def test_a_span_of_a_file_is_read_by_the_face(user: int) -> None:
    pair = established(config=AssociationConfig(maximum_length=1000))
    provider = pair.ends[1 - user].application = Provider()
    with tempfile.TemporaryFile() as file:
        file.write(b"preamble" + DATA + b"behind")
        file.flush()
        operation = store(pair.ends[user], FileSpan(file.fileno(), 8, len(DATA)))
        pair.run()
    assert provider.stored == [("1.2.3", DATA)]
    assert operation.departed


def test_a_store_names_who_asked_for_the_move(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    core = pair.requestor.core
    core.store(context(core, CT), CT, "1.2", DATA, priority=1, originator=("MOVER", 77))
    pair.run()
    command = provider.requests[0].command
    assert (command.move_originator_ae_title, command.move_originator_message_id) == ("MOVER", 77)
    assert command.priority == 1


def test_a_request_with_its_own_data_set_rule_is_made_to_fit(pair: Pair) -> None:
    seen = pair.acceptor
    core = pair.requestor.core
    core.invoke(context(core, FIND), request(CommandField.C_FIND_RQ, FIND, 5), b"identifier")
    core.connection.send_message(1, echo_rq(6).encode())
    pair.run()
    first = seen.told()[0]
    assert isinstance(first, RequestReceived)
    assert (first.request.message_id, first.request.data) == (5, b"identifier")


def test_responses_with_data_are_whole(pair: Pair) -> None:
    asked = find(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    core = pair.acceptor.core
    pending(core, event.request, data=DATA)
    # the flag in the command set follows the data
    core.respond(event.request, response(CommandField.C_FIND_RQ, asked.message_id, 0xFF00), memoryview(b"more"))
    core.respond_status(event.request, Status.SUCCESS)
    pair.run()
    got = answers(pair)
    assert [(each.data, each.is_final) for each in got if isinstance(each, ResponseReceived)] == [
        (DATA, False), (b"more", False), (None, True),
    ]  # fmt: skip
    assert asked.responses == 3


# --- matching ------------------------------------------------------------------------------------------------------


def outstanding(pair: Pair) -> Operation:
    """A C-FIND that waits for its answer."""
    operation = find(pair.requestor)
    pair.run()
    return operation


def unharmed(pair: Pair, operation: Operation) -> None:
    """The operation still gets its own answer."""
    assert pair.requestor.core.outstanding == {operation.message_id: operation}
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
    "another command field": (7, response(CommandField.C_ECHO_RQ, 1)),
    "another command field of the same kind": (7, response(CommandField.C_GET_RQ, 1)),
    "another context": (1, response(CommandField.C_FIND_RQ, 1)),
    "an unknown service": (7, response(0x0333, 1)),
}


@pytest.mark.parametrize("case", STRAYS)
def test_a_response_is_matched_on_context_message_id_and_command(pair: Pair, case: str) -> None:
    operation = outstanding(pair)
    context_id, stray = STRAYS[case]
    pair.requestor.receive(message(context_id, stray))
    pair.run()
    (event,) = answers(pair)
    assert isinstance(event, StrayResponse)
    assert event.command.field == stray.field
    unharmed(pair, operation)


def test_a_stray_response_with_data_is_reported_whole_and_given_to_nobody(pair: Pair) -> None:
    operation = outstanding(pair)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, 12, 0xFF00, data_set=True), DATA))
    pair.run()
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    unharmed(pair, operation)


def test_a_message_id_of_zero_is_not_what_a_response_without_one_answers(pair: Pair) -> None:
    operation = echo(pair.requestor, 0)
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, None)))
    pair.run()
    assert [type(event) for event in answers(pair)] == [StrayResponse]
    pair.requestor.receive(message(1, response(CommandField.C_ECHO_RQ, 0)))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.operation is operation


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
    pair = established(config=AssociationConfig(window_invoked=0, window_performed=0))
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
    pair = established(config=AssociationConfig(window_invoked=0, window_performed=0))
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
    assert pair.acceptor.told() == []
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


# --- data sets that are missing, empty, too large ------------------------------------------------------------------


def test_a_store_without_a_data_set_is_answered_c000h(pair: Pair) -> None:
    pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8)))
    pair.run()
    assert pair.acceptor.told() == []
    assert [each.command.status for each in answers(pair)] == [0xC000]
    assert pair.acceptor.core.is_established


@pytest.mark.parametrize("empty", [b"", None], ids=["an empty fragment", "0101H"])
def test_an_empty_data_set_is_no_data_set(pair: Pair, empty: bytes | None) -> None:
    pair.acceptor.receive(message(7, request(CommandField.C_FIND_RQ, FIND, 1, data_set=empty is not None), empty))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    assert event.request.data is None


def test_an_empty_data_set_of_a_response_is_no_data_set(pair: Pair) -> None:
    operation = outstanding(pair)
    pair.requestor.receive(message(7, response(CommandField.C_FIND_RQ, operation.message_id, data_set=True), b""))
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert answer.data is None


def test_an_empty_data_set_of_a_store_ends_at_once(pair: Pair) -> None:
    store(pair.requestor, b"")
    pair.run()
    begun, piece = pair.acceptor.told()
    assert isinstance(begun, RequestReceived)
    assert begun.request.streams
    assert isinstance(piece, Piece)
    assert (piece.data, piece.is_last) == (b"", True)


def test_empty_fragments_in_the_middle_say_nothing(pair: Pair) -> None:
    wire = message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True))
    for data, last in ((b"", 0), (b"one", 0), (b"", 0), (b"two", 0), (b"", 2)):
        wire += (
            b"\4\0" + (len(data) + 6).to_bytes(4, "big") + (len(data) + 2).to_bytes(4, "big") + bytes((3, last)) + data
        )
    pair.acceptor.receive(wire)
    pair.run()
    pieces = [(event.data, event.is_last) for event in pair.acceptor.told() if isinstance(event, Piece)]
    assert pieces == [(b"one", False), (b"two", False), (b"", True)]


@pytest.mark.parametrize("size", [1001, 5000])
def test_an_identifier_over_the_limit_is_answered_0213h_and_the_association_lives_on(size: int) -> None:
    pair = established(config=AssociationConfig(limits=Limits(identifier=1000)))
    provider = pair.acceptor.application = Provider()
    operation = find(pair.requestor, DATA[:size])
    pair.run()
    (answer,) = answers(pair)
    assert isinstance(answer, ResponseReceived)
    assert (answer.operation, answer.command.status) == (operation, 0x0213)
    assert provider.requests == []
    find(pair.requestor, DATA[:1000])
    pair.run()
    assert [each.command.status for each in answers(pair)] == [0]
    assert provider.requests[0].data == DATA[:1000]


def test_a_response_over_the_limit_is_an_abort() -> None:
    pair = established(config=AssociationConfig(limits=Limits(identifier=1000)))
    operation = outstanding(pair)
    pair.requestor.receive(
        message(7, response(CommandField.C_FIND_RQ, operation.message_id, 0xFF00, data_set=True), DATA)
    )
    pair.run()
    (aborted, *_) = pair.requestor.told()
    assert isinstance(aborted, Aborted)
    assert aborted.by_us
    assert "more than 1000 bytes" in aborted.message
    assert pair.acceptor.told()[-1] == Aborted(0, 0)


# --- what is tolerated ---------------------------------------------------------------------------------------------


def test_an_unknown_command_field_is_delivered_as_a_request(pair: Pair) -> None:
    pair.acceptor.receive(message(1, request(0x0042, VERIFICATION, 3, data_set=True), b"what"))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    assert (event.request.field, event.request.data) == (0x0042, b"what")
    pair.acceptor.core.respond_status(event.request, Status.UNRECOGNIZED_OPERATION)
    pair.run()
    (answer,) = answers(pair)
    assert (answer.command.field, answer.command.status) == (0x8042, 0x0211)


def test_a_request_without_a_message_id_is_delivered_as_0(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    pair.acceptor.receive(message(1, echo_rq()))
    pair.run()
    assert [each.message_id for each in provider.requests] == [0]
    assert [each.command.message_id_being_responded_to for each in answers(pair)] == [0]


def element(tag: int, value: bytes) -> bytes:
    return bytes(2) + tag.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


def test_of_several_values_of_a_command_element_the_first_counts(pair: Pair) -> None:
    wire = element(0x0100, b"\x30\0\x31\0") + element(0x0110, b"\5\0\6\0") + element(0x0800, b"\1\1\0\0")
    wire += element(0x0002, b"1.2.840.10008.1.1\\1.2.3")
    pair.acceptor.receive(message(1, wire))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    assert (event.request.field, event.request.message_id) == (0x30, 5)
    assert event.request.command.sop_class_uid == VERIFICATION


def test_command_sets_with_duplicate_elements_or_a_wrong_group_length_decode(pair: Pair) -> None:
    provider = pair.acceptor.application = Provider()
    body = element(0x0100, b"\x30\0") + element(0x0110, b"\7\0") + element(0x0110, b"\x08\0") + element(0x0800, b"\1\1")
    for length in (0, 7, len(body), 0xFFFFFFFF):
        pair.acceptor.receive(message(1, element(0x0000, length.to_bytes(4, "little")) + body))
        pair.run()
    assert [each.message_id for each in provider.requests] == [7] * 4


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
    def refuse(core: Association, event: object) -> None:
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


# --- contexts ------------------------------------------------------------------------------------------------------


def test_the_first_context_of_a_class_or_of_a_class_and_a_syntax_is_found(pair: Pair) -> None:
    core = pair.requestor.core
    assert [found.context_id for found in core.contexts_for(CT)] == [3, 5]
    assert core.need_context(CT).context_id == 3
    assert core.need_context(CT, IMPLICIT).context_id == 5
    assert core.context_for("1.2.3") is None
    with pytest.raises(NoPresentationContext, match=r"accept 1\.2\.3; it accepted no context of that class"):
        core.need_context("1.2.3")
    with pytest.raises(NoPresentationContext, match=rf"in 1\.2; it accepted {EXPLICIT}, {IMPLICIT}"):
        core.need_context(CT, "1.2")


def test_contexts_are_found_by_role() -> None:
    pair = established(proposals=[Proposal(CT, (IMPLICIT,)), Proposal(GET, (IMPLICIT,), provider=True)])
    assert pair.requestor.core.context_for(CT) is not None
    assert pair.acceptor.core.context_for(CT) is None
    assert pair.acceptor.core.context_for(GET) is not None


def test_asking_for_a_context_too_early_is_not_remembered() -> None:
    pair = Pair()
    assert pair.requestor.core.context_for(CT) is None
    assert pair.requestor.core.contexts_for(CT) == []
    pair.establish()
    assert pair.requestor.core.context_for(CT) is not None


# --- association control -------------------------------------------------------------------------------------------


def test_an_association_is_made_and_released(pair: Pair) -> None:
    fresh = Pair()
    fresh.connect()
    (asked,) = fresh.acceptor.told()
    assert isinstance(asked, AssociateRequested)
    assert fresh.acceptor.core.request == fresh.requestor.core.request == asked.request
    fresh.acceptor.core.accept(Offer(syntaxes={}, any_class=(), window=Window(4, 3)))
    fresh.run()
    (accepted,) = fresh.requestor.told()
    assert isinstance(accepted, AssociateAccepted)
    assert fresh.requestor.core.answer == fresh.acceptor.core.answer == accepted.accept
    assert set(fresh.requestor.core.contexts) == {1, 3, 5, 7, 9, 11}
    assert fresh.requestor.core.window == Window(1, 1)
    assert not fresh.requestor.core.wants_close

    pair.requestor.core.release()
    pair.run()
    assert pair.acceptor.told() == [ReleaseRequested()]
    pair.acceptor.core.release_response()
    pair.run()
    assert pair.requestor.told() == [ReleaseConfirmed()]
    assert pair.requestor.core.closed
    assert pair.acceptor.told() == [Closed(expected=True)]
    assert pair.acceptor.core.closed


def test_an_association_is_rejected() -> None:
    pair = Pair()
    pair.connect()
    pair.acceptor.core.reject(1, 1, 3)
    pair.run()
    (event,) = pair.requestor.told()
    assert isinstance(event, AssociateRejected)
    assert not pair.requestor.core.contexts
    assert not pair.requestor.core.can_invoke()


def test_an_offer_answers_a_request_that_came() -> None:
    with pytest.raises(LocalProtocolError, match="before a request came"):
        Association(requestor=False).accept(EVERYTHING)


def test_a_whole_answer_is_taken_as_it_is() -> None:
    first, second = Pair(), Pair()
    first.establish()
    second.connect()
    answer = first.acceptor.core.answer
    assert answer is not None
    second.acceptor.core.accept(answer)  # type: ignore[arg-type]
    second.run()
    assert second.requestor.core.is_established


def test_release_with_outstanding_operations_is_a_local_protocol_error(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    with pytest.raises(LocalProtocolError, match="release with 1 unanswered"):
        pair.requestor.core.release()
    assert not pair.requestor.core.has_output
    assert pair.requestor.core.is_established


def test_an_answer_is_still_given_while_the_peer_waits_for_its_release(pair: Pair) -> None:
    echo(pair.acceptor)
    pair.run()
    (event,) = pair.requestor.told()
    assert isinstance(event, RequestReceived)
    pair.acceptor.core.outstanding.clear()  # the acceptor forgets and releases
    pair.acceptor.core.release()
    pair.run()
    assert pair.requestor.told() == [ReleaseRequested()]
    pair.requestor.core.respond_status(event.request, 0)
    pair.requestor.core.release_response()
    pair.run()
    assert [type(each) for each in pair.acceptor.told()] == [StrayResponse, ReleaseConfirmed]


def test_data_that_come_after_our_release_request_are_still_delivered(pair: Pair) -> None:
    core = pair.requestor.core
    core.release()
    requests = b"".join(message(1, echo_rq(number)) for number in (1, 2, 3))
    # None of these can be answered any more (PS3.8 Table 9-10, event 9 in Sta7): neither pause for it, nor try to.
    twice = message(1, echo_rq(1)) + message(3, request(CommandField.C_STORE_RQ, CT, 8))
    pair.requestor.receive(requests + twice)
    pair.run()
    assert [type(event) for event in pair.requestor.told()] == [RequestReceived] * 3
    pair.acceptor.core.release_response()
    pair.run()
    assert pair.requestor.told() == [ReleaseConfirmed()]


def test_abort_overtakes_queued_data(pair: Pair) -> None:
    store(pair.requestor, DATA * 100)
    first = pair.requestor.core.data_to_send(20_000)
    assert pair.requestor.core.has_output
    pair.acceptor.receive(b"".join(bytes(part) for part in first if not isinstance(part, FileSpan)))
    pair.requestor.core.abort()
    pair.run()
    *_, last = told = pair.acceptor.told()
    assert last == Aborted(0, 0)
    assert sum(len(event.data) for event in told if isinstance(event, Piece)) < 140_000
    assert pair.requestor.told() == [Closed(expected=True)]


@pytest.mark.parametrize("by_peer", [True, False])
def test_abort_while_half_a_message_is_in(pair: Pair, by_peer: bool) -> None:
    pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[:5000])
    pair.run()
    assert pair.acceptor.core.mid_message
    told = pair.acceptor.told()
    assert isinstance(told[0], RequestReceived)
    if by_peer:
        # a PDU is whole or the stream is lost, so the rest of it comes first
        pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[5000:50_000])
        pair.acceptor.eof = True
        pair.run()
        assert pair.acceptor.told()[-1] == Closed(expected=False)
    else:
        pair.acceptor.core.abort(2, 6)
        pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[5000:])
        pair.run()
        assert pair.requestor.told() == [Aborted(2, 6)]
        assert pair.acceptor.told() == [Closed(expected=True)]
    assert pair.acceptor.core.closed


def test_an_end_is_told_once_and_nothing_after_it(pair: Pair) -> None:
    pair.requestor.core.abort()
    pair.run()
    assert pair.acceptor.told() == [Aborted(0, 0)]
    core = pair.acceptor.core
    buffer = core.get_buffer()
    wire = message(1, echo_rq(1))
    buffer[: len(wire)] = wire
    core.buffer_updated(len(wire))
    core.eof_received()
    core.eof_received()
    assert [core.next_event() for _ in range(5)] == [NEED_DATA] * 5
    assert core.closed
    assert core.wants_close
    assert core.timer(0.0) is None
    core.handle_timer(1e9)
    assert core.next_event() is NEED_DATA


def test_a_transport_that_goes_away_is_told_once(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    pair.requestor.eof = True
    pair.run()
    assert pair.requestor.told() == [Closed(expected=False)]
    assert [pair.requestor.core.next_event() for _ in range(3)] == [NEED_DATA] * 3


def test_nothing_can_be_asked_for_after_the_end(pair: Pair) -> None:
    core = pair.requestor.core
    where = context(core, VERIFICATION)
    waiting = echo(pair.requestor)
    core.abort()
    calls: list[Callable[[], object]] = [
        lambda: core.invoke(where, echo_rq(70)),
        lambda: core.store(where, CT, "1.2", b"data"),
        core.release,
        lambda: core.cancel(waiting),
    ]
    core.outstanding.pop(waiting.message_id)
    for call in calls[:3]:
        with pytest.raises(LocalProtocolError):
            call()
    core.outstanding[waiting.message_id] = waiting
    with pytest.raises(LocalProtocolError):
        core.cancel(waiting)
    assert not waiting.cancelled
    assert not core.can_invoke()


def test_what_is_wrong_with_a_request_leaves_no_trace(pair: Pair) -> None:
    core = pair.requestor.core
    where = context(core, CT)
    with pytest.raises(LocalProtocolError):
        core.store(where, CT, "not a UID \n", b"data")
    with pytest.raises(LocalProtocolError):
        core.invoke(where, Command({0x0100: 1, 0x0700: 70_000}), b"data")
    assert not core.outstanding
    assert not core.has_output
    assert store(pair.requestor, b"data").message_id == 1


# --- borrowed views ------------------------------------------------------------------------------------------------


def test_a_piece_is_valid_until_the_next_call(pair: Pair) -> None:
    core = pair.acceptor.core
    wire = message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA, fragment=100)[:3000]
    buffer = core.get_buffer()
    buffer[: len(wire)] = wire
    core.buffer_updated(len(wire))
    assert isinstance(core.next_event(), RequestReceived)
    event = core.next_event()
    assert isinstance(event, DataReceived)
    assert isinstance(event.data, memoryview)
    assert bytes(event.data) == DATA[:100]
    assert event.data.obj is buffer.obj  # not copied
    following = core.next_event()
    assert isinstance(following, DataReceived)
    assert bytes(following.data) == DATA[100:200]


def test_next_event_after_next_event_is_the_order_of_the_wire(pair: Pair) -> None:
    names = itertools.count(1)
    wire = b"".join(
        message(3, request(CommandField.C_STORE_RQ, CT, next(names), data_set=True), DATA[:10])
        + message(1, echo_rq(next(names)))
        for _ in range(5)
    )
    provider = pair.acceptor.application = Provider()
    pair.acceptor.receive(wire)
    pair.run()
    assert [each.message_id for each in provider.requests] == list(range(1, 11))
    assert [each.command.message_id_being_responded_to for each in answers(pair)] == list(range(1, 11))
