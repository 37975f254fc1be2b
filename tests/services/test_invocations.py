"""What an application wants to say becomes a message, or an error before anything is on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset
from tests.pairs import EXPLICIT, IMPLICIT, Pair

import dulcet
from dulcet import uids
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.messages import CommandField
from dulcet.errors import InstanceError, NoPresentationContext
from dulcet.services import invocations
from dulcet.services.identifiers import build_identifier, decode_dataset
from dulcet.services.invocations import Invocation
from dulcet.upper_layer.negotiation import Offer, Proposal

PATIENT = {
    verb: getattr(uids, f"PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_{verb}") for verb in ("FIND", "MOVE", "GET")
}
STUDY = {verb: getattr(uids, f"STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_{verb}") for verb in ("FIND", "MOVE", "GET")}
ONLY_FIND = uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
WORKLIST = uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
PUSH, WATCH = uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_WATCH
COMMITMENT = uids.STORAGE_COMMITMENT_PUSH_MODEL


def core(*classes: str | Proposal) -> DimseAssociation:
    """An established association on which these were accepted, seen from the requestor."""
    proposals = [one if isinstance(one, Proposal) else Proposal(one, (EXPLICIT,)) for one in classes]
    pair = Pair(proposals=proposals).establish(Offer(syntaxes={}, any_class=()))
    return pair.requestor.core


def everything() -> DimseAssociation:
    return core(uids.VERIFICATION, *PATIENT.values(), *STUDY.values(), WORKLIST, ONLY_FIND)


def find(association: DimseAssociation, identifier: Dataset | None = None, **options: Any) -> Invocation:
    keys = {name: value for name, value in options.items() if name not in ("level", "model", "priority")}
    rest = {"level": None, "model": None, **{name: options[name] for name in options if name not in keys}}
    return invocations.find(association, identifier, keys, **rest)


def get(association: DimseAssociation, identifier: Dataset | None = None, **options: Any) -> Invocation:
    keys = {name: value for name, value in options.items() if name not in ("level", "model", "priority")}
    rest = {"level": None, "model": None, **{name: options[name] for name in options if name not in keys}}
    return invocations.get(association, identifier, keys, **rest)


def dataset(invocation: Invocation) -> Dataset:
    assert invocation.data is not None
    return decode_dataset(invocation.data, invocation.context.transfer_syntax)


def values(invocation: Invocation) -> dict[str, Any]:
    return {element.keyword: element.value for element in dataset(invocation)}


# --- C-services ------------------------------------------------------------------------------------------------------


def test_an_echo() -> None:
    invocation = invocations.echo(everything())
    assert invocation.command.field == CommandField.C_ECHO_RQ
    assert invocation.command.affected_sop_class_uid == uids.VERIFICATION
    assert invocation.data is None


@pytest.mark.parametrize(
    ("level", "classes", "chosen"),
    [
        ("STUDY", [*PATIENT.values(), *STUDY.values()], STUDY["FIND"]),
        ("IMAGE", [PATIENT["FIND"], STUDY["FIND"]], STUDY["FIND"]),
        ("patient", [PATIENT["FIND"], STUDY["FIND"]], PATIENT["FIND"]),
        ("PATIENT", [ONLY_FIND, STUDY["FIND"]], ONLY_FIND),
        ("STUDY", [PATIENT["FIND"]], PATIENT["FIND"]),
        (None, [PATIENT["FIND"], STUDY["FIND"]], STUDY["FIND"]),
    ],
)
def test_the_model_follows_from_the_level_and_from_what_was_accepted(
    level: str | None, classes: list[str], chosen: str
) -> None:
    invocation = find(core(*classes), PatientName="DOE*", level=level)
    assert invocation.context.abstract_syntax == invocation.command.affected_sop_class_uid == chosen


def test_a_model_is_named_or_is_a_class() -> None:
    association = everything()
    assert find(association, model="patient", level="STUDY").context.abstract_syntax == PATIENT["FIND"]
    assert find(association, model="worklist", Modality="").context.abstract_syntax == WORKLIST
    assert find(association, model=WORKLIST, Modality="").context.abstract_syntax == WORKLIST


def test_a_model_that_was_not_accepted_is_an_error_of_its_own() -> None:
    with pytest.raises(NoPresentationContext, match=STUDY["FIND"]):
        find(core(uids.VERIFICATION), level="STUDY")
    with pytest.raises(NoPresentationContext, match=WORKLIST):
        find(core(uids.VERIFICATION), model=WORKLIST)
    with pytest.raises(NoPresentationContext, match="'composite-instance' has no C-FIND"):
        find(everything(), model="composite-instance")
    with pytest.raises(ValueError, match="there are patient"):
        find(everything(), model="nobody")


def test_keys_level_and_priority_are_in_the_request() -> None:
    invocation = find(everything(), PatientName="DOE*", StudyDate=None, level="study", priority=1)
    assert values(invocation) == {"StudyDate": "", "QueryRetrieveLevel": "STUDY", "PatientName": "DOE*"}
    assert invocation.command.priority == 1
    assert invocation.command.has_data_set


@pytest.mark.parametrize("model", [None, "study", "patient", "patient-study-only", STUDY["FIND"]])
def test_a_query_without_a_level_is_one_for_studies(model: str | None) -> None:
    only = uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
    association = core(*STUDY.values(), *PATIENT.values(), only)
    assert dataset(find(association, model=model, PatientID="1")).QueryRetrieveLevel == "STUDY"
    identifier = build_identifier({"PatientID": "1"})
    assert dataset(find(association, identifier, model=model)).QueryRetrieveLevel == "STUDY"
    assert "QueryRetrieveLevel" not in identifier
    identifier.QueryRetrieveLevel = "SERIES"
    assert dataset(find(association, identifier, model=model)).QueryRetrieveLevel == "SERIES"


@pytest.mark.parametrize("model", ["worklist", WORKLIST])
def test_a_query_of_a_model_without_levels_has_none(model: str) -> None:
    assert "QueryRetrieveLevel" not in dataset(find(everything(), model=model, PatientID="1"))


def test_an_identifier_stands_alone_or_adds_to_the_keys() -> None:
    identifier = build_identifier({"PatientName": "A", "PatientID": "1"}, level="PATIENT")
    alone = find(everything(), identifier)
    assert dataset(alone) == identifier
    assert alone.context.abstract_syntax == PATIENT["FIND"]
    both = find(everything(), identifier, PatientName="B")
    assert values(both) == {"QueryRetrieveLevel": "PATIENT", "PatientName": "B", "PatientID": "1"}


def test_an_identifier_that_cannot_be_encoded_is_an_error_before_anything_is_sent() -> None:
    identifier = Dataset()
    identifier.add_new(0x00280010, "US", "many")
    with pytest.raises(InstanceError):
        find(everything(), identifier)


@pytest.mark.parametrize(
    ("keys", "level", "expected"),
    [
        ({"StudyInstanceUID": "1.2"}, None, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"}),
        (
            {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "Modality": "CT"},
            None,
            {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"},
        ),
        (
            {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": ["1.4", "1.5"]},
            "image",
            {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": "1.2",
                "SeriesInstanceUID": "1.3",
                "SOPInstanceUID": ["1.4", "1.5"],
            },
        ),
        ({"PatientID": "1", "PatientName": "X"}, None, {"QueryRetrieveLevel": "PATIENT", "PatientID": "1"}),
        (
            {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"},
            "STUDY",
            {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"},
        ),
        (
            {"StudyInstanceUID": "1.2", "Modality": "CT"},
            "FRAME",
            {"QueryRetrieveLevel": "FRAME", "StudyInstanceUID": "1.2"},
        ),
    ],
)
def test_a_retrieve_names_the_level_and_the_unique_keys_down_to_it(
    keys: dict[str, Any], level: str | None, expected: dict[str, Any]
) -> None:
    """Of an identifier, such as an answer to a query."""
    assert values(get(everything(), build_identifier(keys), level=level)) == expected


@pytest.mark.parametrize(
    ("keys", "level", "said"),
    [
        ({"StudyInstanceUID": "1.2", "Modality": "CT"}, None, "StudyInstanceUID alone, Modality would not count"),
        ({"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}, "study", "SeriesInstanceUID would not count"),
    ],
)
def test_a_key_that_a_retrieve_would_leave_out_is_refused(keys: dict[str, Any], level: str | None, said: str) -> None:
    """It would bring more than was asked for; what has no value asks for nothing."""
    with pytest.raises(dulcet.LocalProtocolError, match=said):
        get(everything(), level=level, **keys)
    with pytest.raises(dulcet.LocalProtocolError, match=said):
        invocations.retrieve_query(None, keys, level=level, model=None)
    assert values(get(everything(), StudyInstanceUID="1.2", PatientName="", StudyDate=None)) == {
        "QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2",
    }  # fmt: skip


def test_an_identifier_is_a_data_set() -> None:
    wrong: Any
    for wrong in ({"PatientName": "*"}, "PatientName"):
        for options in ({}, {"level": "STUDY"}):
            with pytest.raises(TypeError, match=r"is a Dataset, not a .*; keys are given by name: "):
                find(everything(), wrong, **options)


@pytest.mark.parametrize(
    ("keys", "level", "said"),
    [
        ({"PatientID": "1"}, "STUDY", "by StudyInstanceUID, which has no value: add one, or level='PATIENT'"),
        ({"StudyInstanceUID": "", "PatientName": "X"}, "study", "by StudyInstanceUID, which has no value: add one$"),
        ({}, None, "give a StudyInstanceUID"),
        ({"PatientName": "X"}, None, "give a StudyInstanceUID"),
    ],
)
def test_a_retrieve_of_nothing_in_particular_is_not_asked_for(
    keys: dict[str, Any], level: str | None, said: str
) -> None:
    """Some peers would send all that they have."""
    with pytest.raises(dulcet.LocalProtocolError, match=said):
        get(everything(), level=level, **keys)


def test_an_answer_of_a_find_can_be_retrieved_as_it_is() -> None:
    match = build_identifier(
        {"PatientName": "Müller", "StudyInstanceUID": "1.2", "StudyDate": "20200101"}, level="STUDY"
    )
    assert values(get(everything(), match)) == {
        "SpecificCharacterSet": "ISO_IR 192",
        "QueryRetrieveLevel": "STUDY",
        "StudyInstanceUID": "1.2",
    }


def test_a_model_without_levels_is_asked_with_the_keys_as_they_are() -> None:
    class_uid = uids.HANGING_PROTOCOL_INFORMATION_MODEL_GET
    invocation = get(core(class_uid), model="hanging-protocol", SOPInstanceUID="1.2", HangingProtocolName="X")
    assert values(invocation) == {"SOPInstanceUID": "1.2", "HangingProtocolName": "X"}


def test_a_move_names_its_destination() -> None:
    invocation = invocations.move(
        everything(), "DEST", None, {"StudyInstanceUID": "1.2"}, level=None, model=None, priority=2
    )
    assert invocation.command.field == CommandField.C_MOVE_RQ
    assert invocation.command.move_destination == "DEST"
    assert invocation.command.priority == 2
    assert invocation.context.abstract_syntax == STUDY["MOVE"]


# --- N-services ------------------------------------------------------------------------------------------------------


def normalized(
    field: CommandField, *arguments: Any, association: DimseAssociation | None = None, **options: Any
) -> Invocation:
    return invocations.normalized(association or core(MPPS), field, *arguments, **options)


@pytest.mark.parametrize(
    ("field", "role"),
    [
        (CommandField.N_CREATE_RQ, "affected"),
        (CommandField.N_EVENT_REPORT_RQ, "affected"),
        (CommandField.N_GET_RQ, "requested"),
        (CommandField.N_SET_RQ, "requested"),
        (CommandField.N_ACTION_RQ, "requested"),
        (CommandField.N_DELETE_RQ, "requested"),
    ],
)
def test_class_and_instance_are_affected_or_requested(field: CommandField, role: str) -> None:
    command = normalized(field, MPPS, "1.9").command
    assert getattr(command, f"{role}_sop_class_uid") == MPPS
    assert getattr(command, f"{role}_sop_instance_uid") == "1.9"
    other = "requested" if role == "affected" else "affected"
    assert getattr(command, f"{other}_sop_class_uid") is None


def test_an_instance_that_is_yet_to_be_named() -> None:
    assert normalized(CommandField.N_CREATE_RQ, MPPS, None).command.affected_sop_instance_uid is None


def test_types_attributes_and_data_sets() -> None:
    action = normalized(CommandField.N_ACTION_RQ, MPPS, "1.9", type_id=3)
    assert (action.command.action_type_id, action.command.event_type_id) == (3, None)
    event = normalized(CommandField.N_EVENT_REPORT_RQ, MPPS, "1.9", build_identifier({"PatientID": "1"}), type_id=2)
    assert (event.command.action_type_id, event.command.event_type_id) == (None, 2)
    assert values(event) == {"PatientID": "1"}
    assert event.command.has_data_set
    attributes = normalized(CommandField.N_GET_RQ, MPPS, "1.9", attributes=["PatientID", 0x00100010]).command
    assert attributes.attribute_identifier_list == (0x00100020, 0x00100010)
    assert normalized(CommandField.N_GET_RQ, MPPS, "1.9", attributes=()).command.attribute_identifier_list is None


def test_an_empty_data_set_is_none() -> None:
    invocation = normalized(CommandField.N_SET_RQ, MPPS, "1.9", Dataset())
    assert invocation.data is None
    assert not invocation.command.has_data_set


def test_a_class_may_travel_under_another_context() -> None:
    association = core(WATCH)
    invocation = normalized(CommandField.N_ACTION_RQ, PUSH, "1.9", association=association, context=WATCH)
    assert invocation.context.abstract_syntax == WATCH
    assert invocation.command.requested_sop_class_uid == PUSH
    with pytest.raises(NoPresentationContext):
        normalized(CommandField.N_ACTION_RQ, PUSH, "1.9", association=association)


def test_events_are_reported_where_we_are_the_provider_and_else_on_what_there_is() -> None:
    both = core(Proposal(COMMITMENT, (IMPLICIT,)), Proposal(COMMITMENT, (EXPLICIT,), provider=True))
    event = normalized(CommandField.N_EVENT_REPORT_RQ, COMMITMENT, "1.9", association=both)
    assert event.context.as_provider
    provider = core(Proposal(COMMITMENT, (EXPLICIT,), user=False, provider=True))
    assert normalized(CommandField.N_EVENT_REPORT_RQ, COMMITMENT, "1.9", association=provider).context.as_provider
    with pytest.raises(NoPresentationContext):
        normalized(CommandField.N_ACTION_RQ, COMMITMENT, "1.9", association=provider)
    user = core(uids.VERIFICATION, COMMITMENT)
    assert not normalized(CommandField.N_EVENT_REPORT_RQ, COMMITMENT, "1.9", association=user).context.as_provider
