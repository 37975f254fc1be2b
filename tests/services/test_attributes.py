"""Requirement tables, selection and modification of attribute lists; refusals carry what PS3.7 Annex C asks for."""

from __future__ import annotations

import pytest

from dulcet.dimse.status import Status
from dulcet.services.attributes import check, forbid, merge, read_rules, select, tag_of
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.refusals import Refused

RULES = read_rules("""
    PatientName                     2
    PatientID                       1
    ScheduledStepAttributesSequence 1
    >StudyInstanceUID               1
    >ReferencedStudySequence        2
    >>ReferencedSOPInstanceUID      1
    >AccessionNumber                2
    PerformedProcedureStepStatus    1  IN PROGRESS | COMPLETED
""")
GOOD = {
    "PatientName": "DOE",
    "PatientID": "1",
    "ScheduledStepAttributesSequence": [
        {"StudyInstanceUID": "1.2", "AccessionNumber": "", "ReferencedStudySequence": []}
    ],
    "PerformedProcedureStepStatus": "IN PROGRESS",
}


def refusal(changes: dict[str, object], *, strict: bool = False, absent: int | None = None) -> Refused:
    dataset = build_identifier({key: value for key, value in {**GOOD, **changes}.items() if value != "absent"})
    with pytest.raises(Refused) as caught:
        check(dataset, RULES, strict=strict, absent=absent)
    return caught.value


def test_the_table_is_read_with_its_levels():
    assert [rule.keyword for rule in RULES] == [
        "PatientName",
        "PatientID",
        "ScheduledStepAttributesSequence",
        "PerformedProcedureStepStatus",
    ]
    assert [rule.keyword for rule in RULES[2].items] == [
        "StudyInstanceUID",
        "ReferencedStudySequence",
        "AccessionNumber",
    ]
    assert RULES[2].items[1].items[0].keyword == "ReferencedSOPInstanceUID"
    assert RULES[3].values == ("IN PROGRESS", "COMPLETED")


def test_what_keeps_the_rules_passes():
    check(build_identifier(GOOD), RULES, strict=True)


def test_missing_attributes_are_listed():
    refused = refusal({"PatientID": "absent", "ScheduledStepAttributesSequence": [{"AccessionNumber": "1"}]})
    assert refused.status == Status.MISSING_ATTRIBUTE
    assert refused.elements["AttributeIdentifierList"] == (0x00100020, 0x0020000D)
    assert refused.elements["ErrorComment"] == "missing: PatientID, StudyInstanceUID"
    assert refusal({"PatientID": "absent"}, absent=Status.INVALID_ARGUMENT_VALUE).status == 0x0115


def test_type_2_counts_when_strict_alone():
    check(build_identifier({key: value for key, value in GOOD.items() if key != "PatientName"}), RULES)
    assert refusal({"PatientName": "absent"}, strict=True).status == Status.MISSING_ATTRIBUTE


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_values_are_listed(empty):
    refused = refusal({"PatientID": empty})
    assert refused.status == Status.MISSING_ATTRIBUTE_VALUE
    assert refused.dataset == build_identifier({"PatientID": ""})


def test_an_empty_sequence_has_no_value():
    assert refusal({"ScheduledStepAttributesSequence": []}).status == Status.MISSING_ATTRIBUTE_VALUE


def test_wrong_values_are_listed_but_not_commented():
    refused = refusal({"PerformedProcedureStepStatus": "SLEEPING"})
    assert refused.status == Status.INVALID_ATTRIBUTE_VALUE
    assert refused.dataset == build_identifier({"PerformedProcedureStepStatus": "SLEEPING"})
    assert "SLEEPING" not in str(refused)


def test_comments_fit_an_error_comment():
    refused = Refused(Status.PROCESSING_FAILURE, "a\\b" + "x" * 100)
    assert len(refused.elements["ErrorComment"]) == 64
    assert "\\" not in refused.elements["ErrorComment"]
    assert "ErrorComment" not in Refused(Status.PROCESSING_FAILURE).elements


def test_what_may_not_be_set_is_refused_with_its_tags():
    forbid(build_identifier({"Modality": "CT"}), ["PatientID", "PatientName"])
    with pytest.raises(Refused) as caught:
        forbid(build_identifier({"PatientID": ""}), ["PatientID", "PatientName"])
    assert caught.value.status == Status.NO_SUCH_ATTRIBUTE
    assert caught.value.elements["AttributeIdentifierList"] == (0x00100020,)


STORED = {"PatientName": "DOE", "PatientID": "1", "TransactionUID": "1.2", "ScheduledStepAttributesSequence": [{}]}


def test_selecting_all_and_some():
    dataset = build_identifier(STORED)
    assert select(dataset, ()) == (Status.SUCCESS, dataset)
    status, some = select(dataset, (tag_of("PatientID"),))
    assert (status, some) == (Status.SUCCESS, build_identifier({"PatientID": "1"}))
    status, some = select(dataset, (tag_of("PatientID"), tag_of("Modality")))
    assert (status, some) == (0x0001, build_identifier({"PatientID": "1"}))
    status, some = select(dataset, (tag_of("Modality"),))
    assert (status, len(some)) == (0x0001, 0)


def test_what_is_hidden_is_not_selected():
    assert "TransactionUID" not in select(build_identifier(STORED), (), hidden=["TransactionUID"])[1]
    assert select(build_identifier(STORED), (0x00081195,), hidden=["TransactionUID"])[0] == 0x0001


def test_the_character_set_goes_with_the_text():
    dataset = build_identifier({"PatientName": "Müller"})
    assert select(dataset, (tag_of("PatientName"),))[1].SpecificCharacterSet == "ISO_IR 192"


def test_merging_replaces_whole_sequences_and_leaves_the_original():
    before = build_identifier({"PatientID": "1", "PerformedSeriesSequence": [{"SeriesInstanceUID": "1"}, {}]})
    after = merge(before, build_identifier({"PerformedSeriesSequence": [{"SeriesInstanceUID": "2"}], "Modality": "CT"}))
    assert after == build_identifier(
        {"PatientID": "1", "PerformedSeriesSequence": [{"SeriesInstanceUID": "2"}], "Modality": "CT"}
    )
    assert len(before.PerformedSeriesSequence) == 2
    assert "TransactionUID" not in merge(before, build_identifier({"TransactionUID": "1"}), without=["TransactionUID"])


def test_merging_text_of_two_character_sets_keeps_both_readable():
    datasets = []
    for keyword, value, characters in (
        ("PatientName", "Müller", "ISO_IR 100"),
        ("StudyDescription", "голова", "ISO_IR 144"),
    ):
        dataset = build_identifier({keyword: value})
        dataset.SpecificCharacterSet = characters
        datasets.append(decode_dataset(encode_dataset(dataset, "1.2.840.10008.1.2")[0], "1.2.840.10008.1.2"))
    merged = merge(*datasets)
    again = decode_dataset(encode_dataset(merged, "1.2.840.10008.1.2")[0], "1.2.840.10008.1.2")
    assert (str(again.PatientName), again.StudyDescription) == ("Müller", "голова")
