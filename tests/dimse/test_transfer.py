"""Messages over two ends (PS3.7 section 6.3): whole and in pieces, empty or too large, and what is tolerated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from itertools import cycle, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pairs import (
    CT,
    EXPLICIT,
    FIND,
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
    message,
    pending,
    request,
    response,
    store,
)

from dulcet.config import AssociationConfig, Limits
from dulcet.dimse.command import Command
from dulcet.dimse.events import RequestReceived, RequestRefused, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.dimse.source import FileSpan
from dulcet.dimse.status import Status
from dulcet.upper_layer.events import Aborted

DATA = bytes(range(256)) * 300
BOTH = pytest.mark.parametrize("user", [0, 1], ids=["requestor", "acceptor"])


@pytest.fixture
def pair() -> Pair:
    """Two ends whose association stands."""
    return Pair().establish()


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
    pair = Pair(cuts=CUTS[cut]()).establish()
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
    pair = Pair(cuts=CUTS[cut](), config=config).establish()
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
    lengths=st.lists(st.integers(0, 20_000), min_size=1, max_size=6),
    maximum=st.sampled_from([8, 100, 16_384, 0]),
)
@settings(max_examples=60)
def test_messages_do_not_depend_on_the_reads(sizes: list[int], lengths: list[int], maximum: int) -> None:
    if maximum == 8:  # two bytes a PDU
        lengths = [length % 500 for length in lengths]
    config = AssociationConfig(maximum_length=maximum, window_invoked=0, window_performed=0)
    pair = Pair(cuts=cycle(sizes), config=config).establish()
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
    pair = Pair(config=AssociationConfig(maximum_length=1000)).establish()
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


# --- data sets that are missing, empty, too large ------------------------------------------------------------------


def test_a_store_without_a_data_set_is_answered_c000h(pair: Pair) -> None:
    pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8)))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestRefused)
    assert (event.request.message_id, event.status) == (8, 0xC000)
    assert [each.command.status for each in answers(pair)] == [0xC000]
    assert pair.acceptor.core.is_established


@pytest.mark.parametrize("uid", [None, "", " "], ids=["absent", "empty", "a space"])
def test_a_store_without_an_instance_uid_is_answered_0117h_and_its_data_set_passed_over(
    pair: Pair, uid: str | None
) -> None:
    command = request(CommandField.C_STORE_RQ, CT, 8, data_set=True).replace(
        validate=False, AffectedSOPInstanceUID=uid
    )
    pair.acceptor.receive(message(3, command, DATA))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestRefused)
    assert (event.request.message_id, event.status) == (8, 0x0117)
    (answer,) = answers(pair)
    assert (answer.command.status, answer.command.error_comment) == (
        0x0117, "a C-STORE without an Affected SOP Instance UID",
    )  # fmt: skip
    assert pair.acceptor.core.is_established


@pytest.mark.parametrize("empty", [b"", None], ids=["an empty fragment", "0101H"])
def test_an_empty_data_set_is_no_data_set(pair: Pair, empty: bytes | None) -> None:
    pair.acceptor.receive(message(7, request(CommandField.C_FIND_RQ, FIND, 1, data_set=empty is not None), empty))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    assert event.request.data is None


def test_an_empty_data_set_of_a_response_is_no_data_set(pair: Pair) -> None:
    operation = find(pair.requestor)
    pair.run()
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
    pair = Pair(config=AssociationConfig(limits=Limits(identifier=1000))).establish()
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
    pair = Pair(config=AssociationConfig(limits=Limits(identifier=1000))).establish()
    operation = find(pair.requestor)
    pair.run()
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
