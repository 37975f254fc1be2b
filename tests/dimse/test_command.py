"""The command set codec: round trips, pydicom's bytes, the decoder's tolerances, and fast paths that change nothing."""

from __future__ import annotations

import io
import struct
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from dulcet.dimse import command as module
from dulcet.dimse.command import HIGH, LOW, MEDIUM, Command, encode_c_echo_rq, encode_c_store_rq, encode_response
from dulcet.dimse.elements import COMMAND_ELEMENTS, COMMAND_TAGS, decode_text
from dulcet.dimse.messages import MESSAGES, CommandField, DataSetRule
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError, RemoteProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
INSTANCE = "1.2.826.0.1.3680043.8.498.1234567890"

shorts = st.integers(0, 0xFFFF)
uids = st.from_regex(r"[012](\.(0|[1-9][0-9]{0,10})){1,5}", fullmatch=True) | st.sampled_from(["1." + "2" * 62, "2.25"])
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=64)
tags = st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=6).map(tuple)


def values_of(keyword: str) -> st.SearchStrategy[Any]:
    """Values that the keyword may have, as they come back from the wire."""
    if keyword == "Priority":
        return st.sampled_from([MEDIUM, HIGH, LOW])
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "US": shorts,
        "UI": uids,
        "AT": tags,
        "AE": texts.map(lambda text: text[:16].strip()).filter(bool),
        "LO": texts.map(str.strip).filter(bool),
    }
    return kinds[COMMAND_ELEMENTS[COMMAND_TAGS[keyword]].vr]


@st.composite
def messages(draw: st.DrawFn) -> tuple[CommandField, bool, dict[str, Any]]:
    """A Command Field, whether there is a data set, and keywords that make a valid message of them."""
    field = draw(st.sampled_from(list(CommandField)))
    row = MESSAGES[field]
    optional = draw(st.sets(st.sampled_from(row.optional))) if row.optional else set()
    keywords = {keyword: draw(values_of(keyword)) for keyword in (*row.required, *optional)}
    data_set = row.data_set is DataSetRule.REQUIRED or (row.data_set is DataSetRule.OPTIONAL and draw(st.booleans()))
    return field, data_set, keywords


def element(tag: int, value: bytes, *, group: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", group, tag, len(value) if length is None else length) + value


def us(tag: int, number: int) -> bytes:
    return element(tag, struct.pack("<H", number))


ECHO_RSP = us(0x0100, 0x8030)


# --- what we send ----------------------------------------------------------------------------------------------------


@given(messages())
def test_every_message_comes_back_as_it_was_made(message: tuple[CommandField, bool, dict[str, Any]]) -> None:
    field, data_set, keywords = message
    command = Command.make(field, data_set=data_set, **keywords)
    again = Command.decode(command.encode())
    assert again == command
    assert again.encode() == command.encode()
    assert again.field == field
    assert again.has_data_set == data_set
    assert {keyword: again.elements[COMMAND_TAGS[keyword]] for keyword in keywords} == keywords
    assert len(again.elements) == len(keywords) + 2
    assert again.replace() == command


@given(messages())
def test_the_bytes_are_those_of_pydicom(message: tuple[CommandField, bool, dict[str, Any]]) -> None:
    field, data_set, keywords = message
    dataset = pydicom.Dataset()
    dataset.CommandField = int(field)
    dataset.CommandDataSetType = 0x0001 if data_set else 0x0101
    for keyword, value in keywords.items():
        setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian = buffer.is_implicit_VR = True
    write_dataset(buffer, dataset)
    body = buffer.getvalue()
    expected = element(0x0000, struct.pack("<I", len(body))) + body
    assert Command.make(field, data_set=data_set, **keywords).encode() == expected


def test_pydicom_reads_what_we_write() -> None:
    data = encode_c_store_rq(7, CT, INSTANCE, HIGH, ("MOVER", 3))
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    assert dataset.CommandGroupLength == len(data) - 12
    assert (dataset.CommandField, dataset.MessageID, dataset.Priority) == (1, 7, 1)
    assert (dataset.AffectedSOPClassUID, dataset.AffectedSOPInstanceUID) == (CT, INSTANCE)
    assert (dataset.MoveOriginatorApplicationEntityTitle, dataset.MoveOriginatorMessageID) == ("MOVER", 3)


def test_values_are_padded_to_even_length_uid_with_nul_and_text_with_space() -> None:
    command = Command.make(
        CommandField.C_MOVE_RQ,
        data_set=True,
        MessageID=1,
        Priority=LOW,
        AffectedSOPClassUID="1.2",
        MoveDestination="PACS1",
    )
    assert element(0x0002, b"1.2\0") in command.encode()
    assert element(0x0600, b"PACS1 ") in command.encode()


def test_none_stands_for_an_absent_keyword() -> None:
    given_none = Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=1, Status=0, ErrorComment=None)
    assert given_none == Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=1, Status=0)


def test_values_are_taken_as_plain_python() -> None:
    command = Command.make(
        CommandField.C_STORE_RSP,
        MessageIDBeingRespondedTo=True,
        Status=Status.OUT_OF_RESOURCES,
        AffectedSOPClassUID=UID(CT),
        OffendingElement=[0x0010_0010],
        ErrorComment=" full ",
    )
    assert command.status == 0xA700
    assert type(command.status) is int
    assert command.offending_element == (0x0010_0010,)
    assert command.error_comment == "full"
    assert Command.decode(command.encode()) == command


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("MessageID", 0x10000, "C-MOVE-RQ: MessageID is 65536; expected an integer from 0 to 65535"),
        ("MessageID", -1, "MessageID is -1; expected an integer"),
        ("MessageID", "1", "MessageID is '1'; expected an integer"),
        ("MessageID", 1.0, "MessageID is 1.0; expected an integer"),
        ("Priority", 3, "Priority is 3; expected 0 .medium., 1 .high. or 2 .low."),
        ("AffectedSOPClassUID", "1" * 65, "AffectedSOPClassUID is '1+'; expected a UID of 1 to 64 ASCII characters"),
        ("AffectedSOPClassUID", "", "expected a UID"),
        ("AffectedSOPClassUID", "1.2\\1.3", "expected a UID"),
        ("AffectedSOPClassUID", "1.2\n", "expected a UID"),
        ("AffectedSOPClassUID", b"1.2", "expected a UID"),
        ("MoveDestination", "M" * 17, "expected an AE title of 1 to 16 ASCII characters"),
        ("MoveDestination", "  ", "expected an AE title"),
        ("MoveDestination", "A\\B", "expected an AE title"),
        ("MoveDestination", "MÜNCHEN", "expected an AE title"),
        ("MessageID", None, "C-MOVE-RQ needs MessageID"),
        ("Status", 0, "C-MOVE-RQ has no Status; expected of AffectedSOPClassUID, MessageID, MoveDestination, Priority"),
        ("CommandGroupLength", 0, "C-MOVE-RQ has no CommandGroupLength"),
        ("CommandDataSetType", 0, "C-MOVE-RQ has no CommandDataSetType"),
        ("PatientName", "x", "C-MOVE-RQ has no PatientName"),
    ],
)
def test_what_does_not_fit_the_message_is_refused_by_name(keyword: str, value: Any, expected: str) -> None:
    keywords = {"MessageID": 1, "Priority": 0, "AffectedSOPClassUID": CT, "MoveDestination": "ME", keyword: value}
    with pytest.raises(LocalProtocolError, match=expected):
        Command.make(CommandField.C_MOVE_RQ, data_set=True, **keywords)


@pytest.mark.parametrize("value", [(), [-1], [0x1_0000_0000], ["PatientName"], 5])
def test_a_list_of_tags_has_tags(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"OffendingElement is .*; expected one or more tags"):
        Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=1, Status=0, OffendingElement=value)


@pytest.mark.parametrize("value", ["x" * 65, "back\\slash", "ünicode", "new\nline", ""])
def test_a_bad_comment_is_refused_without_being_quoted(value: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"ErrorComment is {len(value)} characters of text; expected 1 to 64"):
        Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=1, Status=0, ErrorComment=value)


def test_a_comment_that_is_no_text_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="ErrorComment is 5; expected"):
        Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=1, Status=0, ErrorComment=5)


def test_a_data_set_is_there_exactly_when_the_message_has_one() -> None:
    with pytest.raises(LocalProtocolError, match="C-ECHO-RQ has no data set"):
        Command.make(CommandField.C_ECHO_RQ, data_set=True, MessageID=1, AffectedSOPClassUID=VERIFICATION)
    with pytest.raises(LocalProtocolError, match="C-FIND-RQ needs a data set"):
        Command.make(CommandField.C_FIND_RQ, MessageID=1, Priority=0, AffectedSOPClassUID=CT)
    for data_set in (True, False):
        response = Command.make(CommandField.C_FIND_RSP, data_set=data_set, MessageIDBeingRespondedTo=1, Status=0)
        assert response.has_data_set is data_set
        assert response.command_data_set_type == (0x0001 if data_set else 0x0101)


def test_an_unknown_message_is_made_by_hand_alone() -> None:
    with pytest.raises(LocalProtocolError, match="0x1234 is not the Command Field of a message"):
        Command.make(0x1234, MessageID=1)
    command = Command.make(0x1234, validate=False, MessageID=1, CommandDataSetType=5, Initiator=b"ME")
    assert Command.decode(command.encode()) == command
    assert command.has_data_set
    with pytest.raises(LocalProtocolError, match="0x1234: PatientName is not a keyword of the command dictionary"):
        Command.make(0x1234, validate=False, PatientName="x")


def test_a_message_without_parameters_of_that_kind_lists_what_it_has() -> None:
    with pytest.raises(LocalProtocolError, match=r"has no MessageID; expected of MessageIDBeingRespondedTo$"):
        Command.make(CommandField.C_CANCEL_RQ, MessageID=1)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("MessageID", 0x10000),
        ("MessageID", "1"),
        ("AffectedSOPClassUID", 5),
        ("MoveDestination", b"ME"),
        ("MoveDestination", "日本"),
        ("OffendingElement", (1 << 40,)),
        ("OffendingElement", 5),
        ("Initiator", "text"),
    ],
)
def test_a_hand_made_value_that_has_no_encoding_is_refused(keyword: str, value: Any) -> None:
    command = Command.make(CommandField.C_ECHO_RQ, validate=False, **{keyword: value})
    with pytest.raises(LocalProtocolError, match=f"C-ECHO-RQ: {keyword} cannot be encoded"):
        command.encode()


def test_a_tag_outside_of_the_group_cannot_be_encoded() -> None:
    with pytest.raises(LocalProtocolError, match=r"0x0000: \(0010,0010\) cannot be encoded"):
        Command({0x0010_0010: b"x"}).encode()


def test_the_group_length_is_made_and_never_taken() -> None:
    request = Command.make(CommandField.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
    assert request.replace(validate=False, CommandGroupLength=5).encode() == request.encode()


def test_replace_changes_a_copy_and_checks_it() -> None:
    request = Command.make(CommandField.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
    other = request.replace(MessageID=2)
    assert (request.message_id, other.message_id) == (1, 2)
    assert other.affected_sop_class_uid == VERIFICATION
    with pytest.raises(LocalProtocolError, match="needs MessageID"):
        request.replace(MessageID=None)
    with pytest.raises(LocalProtocolError, match="has no data set"):
        request.replace(data_set=True)
    assert request.replace(data_set=True, validate=False).has_data_set
    assert request.replace(MessageID=None, validate=False).message_id is None
    assert request.message_id == 1


def test_a_copy_is_equal_and_changes_alone() -> None:
    request = Command.make(CommandField.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
    copy = request.copy()
    assert copy == request
    copy.elements[0x0110] = 2
    assert copy != request
    assert request != "C-ECHO-RQ"
    with pytest.raises(TypeError, match="unhashable"):
        hash(request)


# --- what a command set says -----------------------------------------------------------------------------------------


def test_every_live_element_is_an_attribute() -> None:
    odd_names = {"move_originator_application_entity_title": "move_originator_ae_title"}
    for tag, row in COMMAND_ELEMENTS.items():
        if row.retired or row.keyword == "CommandGroupLength":
            continue
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in row.keyword.replace("UID", "Uid"))
        for long, short in (("_i_d", "_id"), ("_s_o_p", "_sop")):
            snake = snake.replace(long, short)
        name = odd_names.get(snake.lstrip("_"), snake.lstrip("_"))
        if row.keyword == "CommandField":
            name = "field"
        assert getattr(Command({tag: 5}), name) == 5
        assert not getattr(Command({}), name)
        assert row.keyword in (getattr(Command, name).__doc__ or "") or name == "field"


def test_a_command_set_knows_what_it_is() -> None:
    cancel = Command.make(CommandField.C_CANCEL_RQ, MessageIDBeingRespondedTo=1)
    assert (cancel.name, cancel.is_request, cancel.is_response) == ("C-CANCEL-RQ", True, False)
    response = Command.make(CommandField.N_SET_RSP, MessageIDBeingRespondedTo=1, Status=0)
    assert (response.name, response.is_request, response.is_response) == ("N-SET-RSP", False, True)
    assert response.definition is MESSAGES[CommandField.N_SET_RSP]
    unknown = Command({0x0100: 0x9234})
    assert (unknown.name, unknown.definition, unknown.is_response) == ("0x9234", None, True)
    assert Command({}).name == "0x0000"


def test_without_a_data_set_type_the_message_says_whether_one_follows() -> None:
    assert Command({0x0100: CommandField.C_STORE_RQ}).has_data_set
    assert not Command({0x0100: CommandField.C_ECHO_RQ}).has_data_set
    assert not Command({0x0100: 0x1234}).has_data_set
    assert not Command({0x0100: CommandField.C_STORE_RQ, 0x0800: 0x0101}).has_data_set
    assert Command({0x0100: CommandField.C_ECHO_RQ, 0x0800: 0x0000}).has_data_set


def test_the_sop_class_and_instance_are_the_affected_or_the_requested_ones() -> None:
    both = {0x0002: "1.1", 0x0003: "1.2", 0x1000: "2.1", 0x1001: "2.2"}
    assert (Command(both).sop_class_uid, Command(both).sop_instance_uid) == ("1.1", "2.1")
    requested = {0x0003: "1.2", 0x1001: "2.2"}
    assert (Command(requested).sop_class_uid, Command(requested).sop_instance_uid) == ("1.2", "2.2")
    assert (Command({}).sop_class_uid, Command({}).sop_instance_uid) == (None, None)


def test_repr_shows_elements_but_no_comment() -> None:
    command = Command.make(
        CommandField.C_STORE_RSP,
        MessageIDBeingRespondedTo=7,
        Status=0xA900,
        OffendingElement=[0x0010_0010, 0x0008_0018],
        ErrorComment="DOE^JOHN is wrong",
    )
    command.elements[0x1234] = b"DOE^JANE"
    assert repr(command) == (
        "<C-STORE-RSP MessageIDBeingRespondedTo=7 Status=0xa900 OffendingElement=[(0010,0010) (0008,0018)]"
        " ErrorComment=<17 characters> (0000,1234)=<8 bytes> without data set>"
    )
    assert repr(Command({0x0100: 0x0001, 0x0902: None, 0x0900: None, 0x0002: "1\x1b[2J"})) == (
        "<C-STORE-RQ ErrorComment=None Status=None AffectedSOPClassUID='1\\x1b[2J' with data set>"
    )


# --- what we receive -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        command = Command.decode(data)
    except RemoteProtocolError:
        return
    repr(command)
    assert Command.decode(command.encode()).field == command.field


def test_a_refusal_is_answered_by_an_abort_of_the_user() -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        Command.decode(b"GET / HTTP/1.1\r\n\r\n")
    assert (refused.value.source, refused.value.reason) == (0, 0)


_raw_elements = st.builds(
    element,
    st.sampled_from([*COMMAND_ELEMENTS, 0x1234]),
    st.binary(max_size=12) | st.sampled_from([b"\x01\x00", b"\x01\x80", b"1.2\\1.3\0"]),
    group=st.sampled_from([0, 0, 0, 0, 8]),
    length=st.none() | st.none() | st.none() | st.sampled_from([0, 3, 0xFFFFFFFF]),
)


@given(st.lists(_raw_elements, max_size=10).map(b"".join))
def test_bytes_that_look_like_elements_decode_or_are_refused(data: bytes) -> None:
    try:
        command = Command.decode(data)
    except RemoteProtocolError:
        return
    again = Command.decode(command.encode())
    for tag, value in command.elements.items():
        expected = value
        if isinstance(value, bytes) and len(value) % 2:  # what is not understood is padded, not cut
            expected = value + b"\0"
        assert again.elements[tag] == expected


@given(messages(), st.data())
def test_a_strict_prefix_is_refused_or_lacks_whole_elements(
    message: tuple[CommandField, bool, dict[str, Any]], data: st.DataObject
) -> None:
    field, data_set, keywords = message
    command = Command.make(field, data_set=data_set, **keywords)
    encoded = command.encode()
    for end in range(len(encoded)):
        try:
            part = Command.decode(encoded[:end])
        except RemoteProtocolError:
            continue
        assert part.elements.items() < command.elements.items()
        assert encoded.startswith(part.encode()[12:], 12)
        assert end == len(part.encode())


@pytest.mark.parametrize("cut", [1, 7, 8, 9])
def test_a_cut_element_is_refused_with_the_numbers(cut: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"of 8 bytes|\(0000,0900\) of 2 bytes exceeds the [01] left"):
        Command.decode(ECHO_RSP + us(0x0900, 0)[:cut])


@pytest.mark.parametrize("length", [3, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_impossible_length_is_refused_without_memory(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {length} bytes exceeds the 2 left"):
        Command.decode(ECHO_RSP + element(0x0900, b"\0\0", length=length))


@pytest.mark.parametrize("data", [b"", us(0x0900, 0), element(0x0100, b""), element(0x0100, b"\x30\x80", group=8)])
def test_a_command_set_without_command_field_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"no Command Field \(0000,0100\)"):
        Command.decode(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded_and_not_kept(kind: Any) -> None:
    store = bytearray(encode_c_store_rq(1, CT, INSTANCE) + element(0x1234, b"kept"))
    command = Command.decode(memoryview(store) if kind is memoryview else kind(store))
    store[:] = bytes(len(store))
    assert command.affected_sop_instance_uid == INSTANCE
    assert command.elements[0x1234] == b"kept"


def test_the_first_of_duplicate_elements_counts() -> None:
    assert Command.decode(ECHO_RSP + us(0x0900, 1) + us(0x0900, 2)).status == 1


@pytest.mark.parametrize("group_length", [b"", element(0x0000, b"\xff\xff\xff\xff"), element(0x0000, b""), us(0, 3)])
def test_a_wrong_or_missing_group_length_is_tolerated(group_length: bytes) -> None:
    assert Command.decode(group_length + ECHO_RSP) == Command({0x0100: 0x8030})


def test_a_wrong_group_length_is_tolerated_on_the_fast_path_too() -> None:
    data = bytearray(encode_c_store_rq(1, CT, INSTANCE))
    data[8:12] = b"\x07\0\0\0"
    assert Command.decode(data) == Command.decode(encode_c_store_rq(1, CT, INSTANCE))


def test_elements_may_come_in_any_order() -> None:
    command = Command.decode(us(0x0900, 0) + us(0x0120, 7) + ECHO_RSP)
    assert (command.field, command.message_id_being_responded_to, command.status) == (0x8030, 7, 0)
    assert list(command.elements) == [0x0900, 0x0120, 0x0100]


@pytest.mark.parametrize(
    ("value", "number"), [(b"\x07", 7), (b"\x07\0\0\0", 7), (b"\x07\0\x08\0", 7), (b"\x07\1" * 4, 0x107)]
)
def test_a_number_of_another_width_gives_its_first_two_bytes(value: bytes, number: int) -> None:
    assert Command.decode(ECHO_RSP + element(0x0900, value)).status == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"1.2\0", "1.2"),
        (b"1.2 ", "1.2"),
        (b"1.2\0\0\0", "1.2"),
        (b" 1.2", "1.2"),
        (b"1.2", "1.2"),
        (b"1.2\\1.3\0", "1.2"),
        (b"1.2 \\1.3", "1.2"),
        (b"", None),
        (b"\0\0", None),
        (b"  ", None),
        (b"\\1.3", None),
        (b"1" * 65, "1" * 65),
        (b"M\xfcller", "Müller"),
    ],
)
@pytest.mark.parametrize("tag", [0x0002, 0x0600, 0x0902])
def test_text_is_trimmed_and_the_first_of_several_is_taken(tag: int, value: bytes, text: str | None) -> None:
    assert Command.decode(ECHO_RSP + element(tag, value)).elements[tag] == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x10\0\x20\0", (0x0010_0020,)),
        (b"\x10\0\x20\0\x08\0\x18\0", (0x0010_0020, 0x0008_0018)),
        (b"\x10\0\x20\0\x08\0", (0x0010_0020,)),
        (b"\x10\0", None),
        (b"", None),
    ],
)
def test_a_list_of_tags_gives_its_whole_tags(value: bytes, expected: tuple[int, ...] | None) -> None:
    assert Command.decode(ECHO_RSP + element(0x0901, value)).offending_element == expected


def test_empty_values_are_none_and_stay_empty() -> None:
    empty = b"".join(element(tag, b"") for tag in (0x0002, 0x0600, 0x0900, 0x0901, 0x1234))
    command = Command.decode(ECHO_RSP + empty)
    assert set(command.elements.values()) == {0x8030, None}
    assert Command.decode(command.encode()) == command


def test_unknown_and_retired_elements_are_kept_as_bytes() -> None:
    command = Command.decode(ECHO_RSP + element(0x1234, b"odd") + element(0x0850, b"\x05\0"))
    assert command.elements[0x1234] == b"odd"
    assert command.elements[0x0850] == b"\x05\0"
    assert command.encode().endswith(element(0x0850, b"\x05\0") + element(0x1234, b"odd\0"))


def test_elements_of_other_groups_are_skipped() -> None:
    assert Command.decode(element(0x0900, b"\x09\0", group=8) + ECHO_RSP + element(0, b"", group=2)) == Command(
        {0x0100: 0x8030}
    )


def test_explicit_vr_is_understood() -> None:
    def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
        return struct.pack("<HH2sH", 0, tag, vr, len(value)) + value

    data = b"".join(
        [
            explicit(0x0000, b"UL", b"\0\0\0\0"),
            explicit(0x0002, b"UI", b"1.2.840.10008.1.1\0"),
            explicit(0x0100, b"US", b"\x30\x80"),
            explicit(0x0120, b"US", b"\x07\0"),
            explicit(0x0800, b"US", b"\x01\x01"),
            explicit(0x0900, b"US", b"\0\0"),
        ]
    )
    assert Command.decode(data) == Command.decode(encode_response(0x0030, 7, VERIFICATION, None, 0))
    with pytest.raises(RemoteProtocolError, match=r"\(0000,0900\) of 2 bytes exceeds the 1 left"):
        Command.decode(data[:-1])


# --- fast paths ------------------------------------------------------------------------------------------------------

# UIDs good, bad and padded; the general path refuses the bad ones in a request and echoes them in a response
_any_uids = uids | st.sampled_from(["", "1.2 ", " 1.2", "1\\2", "ü", "日", "1" * 65, "1\n", "not a uid"])
_any_numbers = shorts | st.sampled_from([-1, 0x10000, Status.SUCCESS, True, 1.0, "1", None])


def _result(make: Any, *arguments: Any, **keywords: Any) -> bytes | str:
    try:
        return make(*arguments, **keywords)  # type: ignore[no-any-return]
    except LocalProtocolError as error:
        return str(error)


@given(
    _any_numbers,
    _any_uids | st.none(),
    _any_uids | st.none() | st.just(5),
    _any_numbers | st.sampled_from([0, 1, 2]),
    st.none() | st.just(("MOVER", 3)),
)
def test_the_fast_store_request_is_the_general_one(
    message_id: Any, class_uid: Any, instance_uid: Any, priority: Any, originator: Any
) -> None:
    title, originator_id = originator or (None, None)
    general = _result(
        lambda **keywords: Command.make(CommandField.C_STORE_RQ, data_set=True, **keywords).encode(),
        AffectedSOPClassUID=class_uid,
        MessageID=message_id,
        Priority=priority,
        AffectedSOPInstanceUID=instance_uid,
        MoveOriginatorApplicationEntityTitle=title,
        MoveOriginatorMessageID=originator_id,
    )
    for _ in range(2):  # the second time with the template made
        assert _result(encode_c_store_rq, message_id, class_uid, instance_uid, priority, originator) == general


@given(
    st.sampled_from([*(field for field in CommandField if not field & 0x8000), 0x1234, 0x8001]),
    shorts,
    _any_uids | st.none(),
    _any_uids | st.none(),
    shorts,
)
def test_the_fast_response_is_the_general_one(
    request: int, message_id: int, class_uid: str | None, instance_uid: str | None, status: int
) -> None:
    general = _result(
        lambda **keywords: Command.make(request | 0x8000, validate=False, **keywords).encode(),
        AffectedSOPClassUID=class_uid,
        MessageIDBeingRespondedTo=message_id,
        Status=status,
        AffectedSOPInstanceUID=instance_uid,
    )
    for _ in range(2):
        made = _result(encode_response, request, message_id, class_uid, instance_uid, status)
        assert made == general


@given(
    st.sampled_from([CommandField.C_STORE_RQ, CommandField.C_ECHO_RQ]),
    _any_numbers.filter(lambda number: number is not None),
    uids,
    uids | st.none(),
    _any_numbers.filter(lambda number: number is not None),
)
def test_a_valid_response_is_the_one_that_make_gives(
    request: CommandField, message_id: Any, class_uid: str, instance_uid: str | None, status: Any
) -> None:
    if request is CommandField.C_ECHO_RQ:
        instance_uid = None
    instance = {} if instance_uid is None else {"AffectedSOPInstanceUID": instance_uid}
    general = _result(
        lambda **keywords: Command.make(request | 0x8000, **keywords).encode(),
        AffectedSOPClassUID=class_uid,
        MessageIDBeingRespondedTo=message_id,
        Status=status,
        **instance,
    )
    assert _result(encode_response, request, message_id, class_uid, instance_uid, status) == general


@pytest.mark.parametrize("class_uid", [CT, None])
def test_a_response_needs_a_message_id_and_a_status(class_uid: str | None) -> None:
    with pytest.raises(LocalProtocolError, match="C-STORE-RSP: MessageIDBeingRespondedTo is None; expected an integer"):
        encode_response(0x0001, None, class_uid, None, 0)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="C-STORE-RSP: Status is None; expected an integer"):
        encode_response(0x0001, 1, class_uid, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message_id", "class_uid", "instance_uid", "priority", "expected"),
    [
        (0x10000, CT, INSTANCE, 0, "MessageID is 65536"),
        (1, None, INSTANCE, 0, "needs AffectedSOPClassUID"),
        (1, "1" * 65, INSTANCE, 0, "expected a UID"),
        (1, CT, None, 0, "needs AffectedSOPInstanceUID"),
        (1, CT, "1\\2", 0, "expected a UID"),
        (1, CT, INSTANCE, 3, "Priority is 3"),
    ],
)
def test_the_fast_store_request_leaves_refusals_to_the_general_path(
    message_id: Any, class_uid: Any, instance_uid: Any, priority: Any, expected: str
) -> None:
    with pytest.raises(LocalProtocolError, match=f"C-STORE-RQ.*{expected}"):
        encode_c_store_rq(message_id, class_uid, instance_uid, priority)


@given(shorts, uids)
def test_the_fast_echo_request_is_the_general_one(message_id: int, class_uid: str) -> None:
    general = Command.make(CommandField.C_ECHO_RQ, MessageID=message_id, AffectedSOPClassUID=class_uid)
    assert encode_c_echo_rq(message_id, class_uid) == general.encode()
    assert Command.decode(general.encode()) == general


@pytest.mark.parametrize(("message_id", "class_uid"), [(0x10000, CT), (None, CT), (1, "1" * 65), (1, None)])
def test_the_fast_echo_request_leaves_refusals_to_the_general_path(message_id: Any, class_uid: Any) -> None:
    with pytest.raises(LocalProtocolError, match="C-ECHO-RQ"):
        encode_c_echo_rq(message_id, class_uid)


@pytest.mark.parametrize("value", ["1.2", "1.2\\3.4", " 1.2 ", "1" * 3000, " "])
def test_class_uids_that_come_again_mean_the_same(value: str) -> None:
    data = encode_c_echo_rq(7)
    uid = value.encode() + b"\0" * (len(value) % 2)
    start = struct.pack("<HHII", 0, 0, 4, 0) + struct.pack("<HHI", 0, 2, len(uid)) + uid
    for _ in range(2):
        again = Command.decode(start + data[data.index(struct.pack("<HH", 0, 0x0100)) :])
        assert again.affected_sop_class_uid == decode_text(uid)
        assert again.message_id == 7


def test_a_response_echoes_uids_that_no_request_of_ours_would_carry() -> None:
    bad = "1" * 65
    response = Command.decode(encode_response(0x0001, 7, bad, bad, 0xA900))
    assert (response.affected_sop_class_uid, response.affected_sop_instance_uid) == (bad, bad)
    assert Command.decode(encode_response(0x0001, 7, None, None, 0)).elements == {
        0x0100: 0x8001,
        0x0120: 7,
        0x0800: 0x0101,
        0x0900: 0,
    }


def test_templates_are_bounded_and_never_made_of_bad_uids() -> None:
    module._template.cache_clear()
    encode_response(0x0001, 7, "1" * 65, None, 0)
    encode_response(0x0001, 7, "x" * 60_000, None, 0)
    assert module._template.cache_info().currsize == 0
    encode_response(0x0001, 7, CT, None, 0)
    assert module._template.cache_info().currsize == 1
    assert module._template.cache_info().maxsize == 512


def _both_ways(data: bytes) -> None:
    """The straight decoder gives what the general one gives, in the same order, or steps aside."""
    straight = module._decode_store(data)
    if straight is not None:
        general = module._decode_elements(data)
        assert straight == general
        assert list(straight) == list(general)


_common = st.one_of(
    st.builds(encode_c_store_rq, shorts, uids, uids, st.sampled_from([0, 1, 2]), st.none() | st.just(("MOVER", 3))),
    st.builds(encode_response, st.sampled_from([1, 0x30]), shorts, uids, uids | st.none(), shorts),
    st.builds(encode_c_echo_rq, shorts, uids),
)


@given(_common)
def test_the_straight_decoder_takes_the_common_messages(data: bytes) -> None:
    has_originator = b"MOVER" in data
    assert (module._decode_store(data) is None) == has_originator
    _both_ways(data)


@given(_common, st.data())
def test_the_straight_decoder_steps_aside_where_a_byte_is_changed(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[at] = draw.draw(st.sampled_from([0, 1, 2, 0x20, 0x5C, 0xFF]) | st.integers(0, 255))
    _both_ways(bytes(changed))
    _both_ways(data[:at])
    _both_ways(data + data[at:])


@given(uids, uids, shorts)
def test_the_straight_decoder_wants_the_instance_to_be_the_end(class_uid: str, instance_uid: str, number: int) -> None:
    data = encode_response(0x0001, 7, class_uid, instance_uid, number)
    assert module._decode_store(data) is not None
    assert module._decode_store(data + us(0x1031, 5)) is None
    assert module._decode_store(encode_response(0x0001, 7, class_uid, None, number) + us(0x1031, 5)) is None
    assert module._decode_store(encode_response(0x0001, 7, class_uid, None, number) + b"\0" * 7) is None
    assert Command.decode(data + us(0x1031, 5)).move_originator_message_id == 5


def test_the_straight_decoder_knows_what_it_does_not_know() -> None:
    find = Command.make(CommandField.C_FIND_RQ, data_set=True, MessageID=1, Priority=0, AffectedSOPClassUID=CT)
    assert module._decode_store(find.encode()) is not None  # the layout decides, not the Command Field
    get = Command.make(CommandField.N_GET_RQ, MessageID=1, RequestedSOPClassUID=CT, RequestedSOPInstanceUID=INSTANCE)
    assert module._decode_store(get.encode()) is None
    move = find.replace(validate=False, MoveDestination="ME", CommandField=0x0021)
    assert module._decode_store(move.encode()) is None
    assert Command.decode(move.encode()) == move
