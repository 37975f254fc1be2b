"""The command dictionary and the table of messages, held against independent transcriptions of PS3.7."""

from __future__ import annotations

import pydicom.datadict
import pynetdicom.dimse_messages
import pytest

from dulcet.dimse.elements import COMMAND_ELEMENTS, COMMAND_TAGS, CommandElement
from dulcet.dimse.messages import MESSAGES, CommandField, DataSetRule, MessageDefinition, response_field
from dulcet.errors import LocalProtocolError

IN_EVERY_MESSAGE = {"CommandGroupLength", "CommandField", "CommandDataSetType"}
RELATED_TO_STATUS = {"OffendingElement", "ErrorComment", "ErrorID", "AttributeIdentifierList"}


def test_the_command_dictionary_is_the_one_of_pydicom() -> None:
    theirs = {
        tag: CommandElement(keyword, vr, vm, retired == "Retired")
        for tag, (vr, vm, _, retired, keyword) in pydicom.datadict.DicomDictionary.items()
        if tag >> 16 == 0
    }
    assert theirs == COMMAND_ELEMENTS


def test_keywords_lead_back_to_their_tags() -> None:
    assert len(COMMAND_TAGS) == len(COMMAND_ELEMENTS)
    assert all(COMMAND_ELEMENTS[tag].keyword == keyword for keyword, tag in COMMAND_TAGS.items())


def test_messages_and_command_fields_are_those_of_pynetdicom() -> None:
    theirs = {field: name for field, (name, _) in pynetdicom.dimse_messages._MESSAGE_TYPES.items()}
    assert {int(field): row.name for field, row in MESSAGES.items()} == theirs
    assert set(MESSAGES) == set(CommandField)
    assert all(field.name.replace("_", "-") == row.name for field, row in MESSAGES.items())


@pytest.mark.parametrize(("field", "row"), MESSAGES.items(), ids=lambda value: getattr(value, "name", ""))
def test_the_fields_of_a_message_are_those_of_pynetdicom(field: CommandField, row: MessageDefinition) -> None:
    theirs = set(pynetdicom.dimse_messages._COMMAND_SET_KEYWORDS[row.name]) - IN_EVERY_MESSAGE
    ours = {*row.required, *row.optional}
    assert len(ours) == len(row.required) + len(row.optional)
    assert theirs <= ours
    # pynetdicom lists the fields of 9.3 and 10.3; PS3.7 Annex C.4 and C.5 let a failure of any service name the
    # offending elements, an error id (C.5.21, processing failure) and unrecognized attributes (C.4.2) as well.
    assert ours - theirs <= (RELATED_TO_STATUS if row.is_response else set())


@pytest.mark.parametrize(("field", "row"), MESSAGES.items(), ids=lambda value: getattr(value, "name", ""))
def test_a_message_has_a_data_set_where_pynetdicom_has_one(field: CommandField, row: MessageDefinition) -> None:
    theirs = field.name in pynetdicom.dimse_messages._DATASET_KEYWORDS
    assert (row.data_set is not DataSetRule.NEVER) == theirs


@pytest.mark.parametrize(("field", "row"), MESSAGES.items(), ids=lambda value: getattr(value, "name", ""))
def test_every_message_is_a_request_with_an_id_or_answers_one(field: CommandField, row: MessageDefinition) -> None:
    assert row.is_response == bool(field & 0x8000) == row.name.endswith("-RSP") == ("Status" in row.required)
    answers = row.is_response or field is CommandField.C_CANCEL_RQ
    assert ("MessageIDBeingRespondedTo" in row.required) == answers
    assert ("MessageID" in row.required) == (not answers)


def test_keywords_are_in_the_order_of_their_tags() -> None:
    for row in MESSAGES.values():
        for keywords in (row.required, row.optional):
            assert sorted(keywords, key=COMMAND_TAGS.__getitem__) == list(keywords)


def test_mandatory_parameters_are_those_of_the_page() -> None:
    ids = {"MessageID"}
    affected = {"AffectedSOPClassUID", "AffectedSOPInstanceUID"}
    requested = {"RequestedSOPClassUID", "RequestedSOPInstanceUID"}
    assert {row.name: set(row.required) for row in MESSAGES.values() if not row.is_response} == {
        "C-STORE-RQ": {*ids, *affected, "Priority"},
        "C-FIND-RQ": {*ids, "AffectedSOPClassUID", "Priority"},
        "C-GET-RQ": {*ids, "AffectedSOPClassUID", "Priority"},
        "C-MOVE-RQ": {*ids, "AffectedSOPClassUID", "Priority", "MoveDestination"},
        "C-ECHO-RQ": {*ids, "AffectedSOPClassUID"},
        "C-CANCEL-RQ": {"MessageIDBeingRespondedTo"},
        "N-EVENT-REPORT-RQ": {*ids, *affected, "EventTypeID"},
        "N-GET-RQ": {*ids, *requested},
        "N-SET-RQ": {*ids, *requested},
        "N-ACTION-RQ": {*ids, *requested, "ActionTypeID"},
        "N-CREATE-RQ": {*ids, "AffectedSOPClassUID"},
        "N-DELETE-RQ": {*ids, *requested},
    }
    for row in MESSAGES.values():
        if row.is_response:
            assert row.required == ("MessageIDBeingRespondedTo", "Status")


def test_required_data_sets_are_those_of_the_page() -> None:
    required = {row.name for row in MESSAGES.values() if row.data_set is DataSetRule.REQUIRED}
    assert required == {"C-STORE-RQ", "C-FIND-RQ", "C-GET-RQ", "C-MOVE-RQ", "N-SET-RQ"}


def test_a_request_is_answered_by_its_field_with_the_high_bit() -> None:
    for field, row in MESSAGES.items():
        if row.is_response or field is CommandField.C_CANCEL_RQ:
            with pytest.raises(LocalProtocolError, match="no response answers"):
                response_field(field)
        else:
            assert response_field(field) is CommandField(field | 0x8000)


def test_an_unknown_request_has_no_response_field() -> None:
    with pytest.raises(LocalProtocolError, match="0x0ffe"):
        response_field(0x0FFE)
