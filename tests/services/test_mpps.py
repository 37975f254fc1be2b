"""PS3.4 Annex F cell by cell: how a step may begin, change and end."""

from __future__ import annotations

import pytest

from dulcet.dimse.status import Status
from dulcet.services.attributes import tag_of
from dulcet.services.identifiers import build_identifier
from dulcet.services.mpps import FIXED, change, check_creation, event_type, status_of
from dulcet.services.refusals import Refused

SERIES = {"SeriesInstanceUID": "1.2.3.4", "ProtocolName": "HEAD"}
BEGIN = {
    "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.3"}],
    "PatientName": "DOE^JOHN",
    "PerformedProcedureStepID": "P1",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260705",
    "PerformedProcedureStepStartTime": "1015",
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "Modality": "CT",
}
END = {
    "PerformedProcedureStepEndDate": "20260705",
    "PerformedProcedureStepEndTime": "1030",
    "PerformedSeriesSequence": [SERIES],
}
STATES = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")


def refusal_of(function, *arguments, **options) -> Refused:
    with pytest.raises(Refused) as caught:
        function(*arguments, **options)
    return caught.value


def step(status: str) -> object:
    begun = build_identifier(BEGIN)
    if status == "IN PROGRESS":
        return begun
    return change(begun, build_identifier({**END, "PerformedProcedureStepStatus": status}))


@pytest.mark.parametrize("keyword", [keyword for keyword in BEGIN if keyword != "PatientName"])
@pytest.mark.parametrize(("absent", "status"), [(True, 0x0120), (False, 0x0121)])
def test_what_a_step_needs_to_begin(keyword, absent, status):
    keys = {key: value for key, value in BEGIN.items() if key != keyword}
    if not absent:
        keys[keyword] = [] if keyword.endswith("Sequence") else ""
    refused = refusal_of(check_creation, build_identifier(keys))
    assert refused.status == status
    if absent:
        assert refused.elements["AttributeIdentifierList"] == (tag_of(keyword),)
    else:
        assert [element.keyword for element in refused.dataset] == [keyword]


def test_each_scheduled_step_belongs_to_a_study():
    sequence = [{"StudyInstanceUID": "1.2.3"}, {"AccessionNumber": "1"}]
    refused = refusal_of(check_creation, build_identifier({**BEGIN, "ScheduledStepAttributesSequence": sequence}))
    assert refused.elements["AttributeIdentifierList"] == (0x0020000D,)


def test_a_step_begins():
    check_creation(build_identifier(BEGIN))
    assert refusal_of(check_creation, build_identifier(BEGIN), strict=True).status == Status.MISSING_ATTRIBUTE


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "SCHEDULED", "in progress"])
def test_a_step_begins_in_progress_only(status):
    refused = refusal_of(check_creation, build_identifier({**BEGIN, "PerformedProcedureStepStatus": status}))
    assert refused.status == Status.INVALID_ATTRIBUTE_VALUE
    assert refused.dataset.PerformedProcedureStepStatus == status


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", [*STATES, "SCHEDULED", None])
def test_state_changes(before, after):
    keys = dict(END)
    if after is not None:
        keys["PerformedProcedureStepStatus"] = after
    if before != "IN PROGRESS":
        refused = refusal_of(change, step(before), build_identifier(keys))
        assert refused.status == 0x0110
        assert refused.elements["ErrorID"] == 0xA710
        assert refused.elements["ErrorComment"] == "Performed Procedure Step Object may no longer be updated"
    elif after == "SCHEDULED":
        assert refusal_of(change, step(before), build_identifier(keys)).status == 0x0106
    else:
        assert status_of(change(step(before), build_identifier(keys))) == (after or before)


@pytest.mark.parametrize("keyword", FIXED)
def test_what_is_fixed_since_the_beginning(keyword):
    value = [{}] if keyword.endswith("Sequence") else "20260101" if keyword.endswith("Date") else "1"
    refused = refusal_of(change, step("IN PROGRESS"), build_identifier({keyword: value}))
    assert refused.status == Status.NO_SUCH_ATTRIBUTE
    assert refused.elements["AttributeIdentifierList"] == (tag_of(keyword),)


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
@pytest.mark.parametrize("lacking", [*END, "ProtocolName", "SeriesInstanceUID"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_a_step_needs_to_end(status, lacking, empty):
    series = dict(SERIES)
    keys = {**END, "PerformedProcedureStepStatus": status, "PerformedSeriesSequence": [series]}
    where = series if lacking in series else keys
    if empty:
        where[lacking] = [] if lacking.endswith("Sequence") else ""
    else:
        del where[lacking]
    refused = refusal_of(change, step("IN PROGRESS"), build_identifier(keys))
    assert refused.status == Status.MISSING_ATTRIBUTE_VALUE
    assert status_of(change(step("IN PROGRESS"), build_identifier(keys), strict=False)) == status


def test_what_was_set_before_counts_at_the_end():
    half = change(step("IN PROGRESS"), build_identifier(END))
    assert status_of(half) == "IN PROGRESS"
    assert status_of(change(half, build_identifier({"PerformedProcedureStepStatus": "COMPLETED"}))) == "COMPLETED"


def test_a_change_leaves_the_step_it_was_made_from():
    before = step("IN PROGRESS")
    change(before, build_identifier({**END, "PerformedProcedureStepStatus": "COMPLETED"}))
    assert status_of(before) == "IN PROGRESS"


def test_events():
    steps = {status: step(status) for status in STATES}
    assert event_type(None, steps["IN PROGRESS"]) == 1
    assert event_type(steps["IN PROGRESS"], steps["IN PROGRESS"]) == 4
    assert event_type(steps["IN PROGRESS"], steps["COMPLETED"]) == 2
    assert event_type(steps["IN PROGRESS"], steps["DISCONTINUED"]) == 3
