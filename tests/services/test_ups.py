"""PS3.4 Annex CC cell by cell: states, locks, final state requirements, events; and who hears of them."""

from __future__ import annotations

import pytest

from dulcet.dimse.status import Status
from dulcet.services.attributes import tag_of
from dulcet.services.identifiers import build_identifier
from dulcet.services.refusals import Refused
from dulcet.services.subscriptions import Subscriptions
from dulcet.services.ups import (
    COMPLETION,
    CREATION,
    FIXED,
    change_state,
    create,
    modify,
    request_cancel,
    scheduled_step,
    state_of,
    step_matcher,
)

NOW = "20260705103000+0000"
LOCK = "1.2.3.4"
CODE = {"CodeValue": "1", "CodingSchemeDesignator": "99X", "CodeMeaning": "x"}
DONE = {
    "PerformedStationNameCodeSequence": [CODE],
    "PerformedProcedureStepStartDateTime": "20260705",
    "PerformedWorkitemCodeSequence": [CODE],
    "PerformedProcedureStepEndDateTime": "20260705",
    "OutputInformationSequence": [],
}
PERFORMED = {"UnifiedProcedureStepPerformedProcedureSequence": [DONE]}
STATES = ("", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")


def new_step(**keys: object):
    keys = {"ProcedureStepLabel": "plan", "ScheduledProcedureStepStartDateTime": "20260705", **keys}
    return scheduled_step(**keys)


def information(state: str | None, lock: str | None = LOCK):
    return build_identifier(
        {key: value for key, value in {"ProcedureStepState": state, "TransactionUID": lock}.items() if value}
    )


def locked(**keys: object):
    return build_identifier({"TransactionUID": LOCK, **keys})


def in_state(state: str, *, performed: bool = True):
    """A step with the lock LOCK, that has been brought into a state."""
    if not state:
        return None
    step = create(new_step(), None, "1.1", now=NOW).step
    if state == "SCHEDULED":
        return step
    step = change_state(step, information("IN PROGRESS"), now=NOW).step
    if performed:
        step = modify(step, locked(**PERFORMED), now=NOW).step
    return step if state == "IN PROGRESS" else change_state(step, information(state), now=NOW).step


def outcome(function, *arguments, **options):
    """(status, state afterwards): the state is None where it was refused."""
    try:
        transition = function(*arguments, **options)
    except Refused as refusal:
        return int(refusal.status), None
    return int(transition.status), state_of(transition.step)


# A second transcription of Table CC.1.1-2, by rows: what happens in each of STATES.
RIGHT = {
    "SCHEDULED": (0xC307, 0xC303, 0xC303, 0xC303, 0xC303),
    "IN PROGRESS": (0xC307, "IN PROGRESS", 0xC302, 0xC300, 0xC300),
    "COMPLETED": (0xC307, 0xC310, "COMPLETED", 0xB306, 0xC300),
    "CANCELED": (0xC307, 0xC310, "CANCELED", 0xC300, 0xB304),
}
WRONG = {
    "SCHEDULED": RIGHT["SCHEDULED"],
    "IN PROGRESS": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
    "COMPLETED": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
    "CANCELED": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
}


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("wanted", RIGHT)
def test_state_changes_with_the_right_lock(wanted, column):
    expected = RIGHT[wanted][column]
    got = outcome(change_state, in_state(STATES[column]), information(wanted), now=NOW)
    if isinstance(expected, str):
        assert got == (0, expected)
    elif expected >> 12 == 0xB:
        assert got == (expected, STATES[column])
    else:
        assert got == (expected, None)


# A SCHEDULED step has no lock: whatever is given is the right one.
CASES = [
    (column, lock) for column in range(5) for lock in ("9.9", None) if (STATES[column], lock) != ("SCHEDULED", "9.9")
]


@pytest.mark.parametrize(("column", "lock"), CASES)
@pytest.mark.parametrize("wanted", WRONG)
def test_state_changes_with_a_wrong_lock_or_none(wanted, column, lock):
    assert outcome(change_state, in_state(STATES[column]), information(wanted, lock), now=NOW) == (
        WRONG[wanted][column],
        None,
    )


@pytest.mark.parametrize(("column", "expected"), list(enumerate((0, 0x0111, 0x0111, 0x0111, 0x0111))))
def test_creation_in_each_state(column, expected):
    got = outcome(create, new_step(), in_state(STATES[column]), "1.1", now=NOW)
    assert got == ((0, "SCHEDULED") if not expected else (expected, None))


@pytest.mark.parametrize(
    ("column", "expected"),
    list(enumerate(((0xC307, None), (0, "CANCELED"), (0, "IN PROGRESS"), (0xC311, None), (0xB304, "CANCELED")))),
)
def test_requests_to_cancel_in_each_state(column, expected):
    assert outcome(request_cancel, in_state(STATES[column]), build_identifier({}), requestor="A", now=NOW) == expected


@pytest.mark.parametrize(("column", "expected"), list(enumerate((0xC307, 0xC310, 0, 0xC300, 0xC300))))
def test_setting_with_the_lock_in_each_state(column, expected):
    got = outcome(modify, in_state(STATES[column]), locked(ProcedureStepLabel="x"), now=NOW)
    assert got == ((0, STATES[column]) if not expected else (expected, None))


@pytest.mark.parametrize(("column", "expected"), list(enumerate((0xC307, 0, 0xC301, 0xC300, 0xC300))))
def test_setting_without_a_lock_in_each_state(column, expected):
    got = outcome(modify, in_state(STATES[column]), build_identifier({"ProcedureStepLabel": "x"}), now=NOW)
    assert got == ((0, STATES[column]) if not expected else (expected, None))


def test_setting_with_a_wrong_lock():
    wrong = build_identifier({"TransactionUID": "9.9", "ProcedureStepLabel": "x"})
    assert outcome(modify, in_state("IN PROGRESS"), wrong, now=NOW) == (0xC301, None)


@pytest.mark.parametrize("state", ["RUNNING", "", None, "scheduled"])
def test_an_unknown_state_is_an_invalid_argument(state):
    assert outcome(change_state, in_state("SCHEDULED"), information(state), now=NOW) == (0x0115, None)


# ------------------------------------------------------------------------------ creation


@pytest.mark.parametrize("rule", [rule for rule in CREATION if rule.type == "1"], ids=lambda rule: rule.keyword)
@pytest.mark.parametrize(("absent", "status"), [(True, 0x0120), (False, 0x0121)])
def test_what_a_step_needs(rule, absent, status):
    step = new_step()
    if absent:
        del step[rule.keyword]
    else:
        step[rule.keyword].value = ""
    assert outcome(create, step, None, "1.1", now=NOW) == (status, None)


def test_type_2_counts_when_strict():
    step = new_step()
    assert outcome(create, step, None, "1.1", now=NOW, strict=True) == (0, "SCHEDULED")
    del step.PatientID
    assert outcome(create, step, None, "1.1", now=NOW) == (0, "SCHEDULED")
    assert outcome(create, step, None, "1.1", now=NOW, strict=True) == (0x0120, None)


@pytest.mark.parametrize("state", ["IN PROGRESS", "COMPLETED", "CANCELED", "X"])
def test_a_step_begins_scheduled(state):
    assert outcome(create, new_step(ProcedureStepState=state), None, "1.1", now=NOW) == (0xC309, None)


@pytest.mark.parametrize("keyword", ["ScheduledProcedureStepPriority", "InputReadinessState"])
def test_values_that_are_not_allowed(keyword):
    assert outcome(create, new_step(**{keyword: "WHATEVER"}), None, "1.1", now=NOW) == (0x0106, None)


def test_the_provider_supplies_what_is_its_own():
    step = create(new_step(TransactionUID="5.5"), None, "1.1", now=NOW).step
    assert (step.SOPInstanceUID, step.SOPClassUID) == ("1.1", "1.2.840.10008.5.1.4.34.6.1")
    assert step.WorklistLabel == "DEFAULT"
    assert step.ScheduledProcedureStepModificationDateTime == NOW
    assert not step.TransactionUID  # nobody has the lock yet
    assert create(new_step(WorklistLabel="mine"), None, "1.1", now=NOW).step.WorklistLabel == "mine"


def test_what_must_be_empty_at_first_is_left_out_with_a_warning():
    transition = create(new_step(**PERFORMED), None, "1.1", now=NOW)
    assert transition.status == Status.UPS_MODIFIED
    assert not transition.step.UnifiedProcedureStepPerformedProcedureSequence


# ------------------------------------------------------------------------------ final state


@pytest.mark.parametrize("keyword", [rule.keyword for rule in COMPLETION[0].items])
def test_what_a_step_needs_to_be_completed(keyword):
    item = {key: value for key, value in DONE.items() if key != keyword}
    step = modify(
        in_state("IN PROGRESS", performed=False), locked(UnifiedProcedureStepPerformedProcedureSequence=[item]), now=NOW
    ).step
    assert outcome(change_state, step, information("COMPLETED"), now=NOW) == (0xC304, None)
    assert outcome(change_state, in_state("IN PROGRESS", performed=False), information("COMPLETED"), now=NOW) == (
        0xC304,
        None,
    )


def progress_of(step):
    return step.ProcedureStepProgressInformationSequence[0]


def test_a_canceled_step_says_when_and_why():
    step = change_state(in_state("IN PROGRESS", performed=False), information("CANCELED"), now=NOW).step
    assert progress_of(step).ProcedureStepCancellationDateTime == NOW
    assert progress_of(step).ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_what_the_performer_said_of_the_cancellation_stays():
    said = {
        "ProcedureStepCancellationDateTime": "20260101",
        "ProcedureStepDiscontinuationReasonCodeSequence": [CODE],
        "ProcedureStepProgress": "40",
    }
    step = modify(in_state("IN PROGRESS"), locked(ProcedureStepProgressInformationSequence=[said]), now=NOW).step
    step = change_state(step, information("CANCELED"), now=NOW).step
    assert progress_of(step) == build_identifier(said)


# ------------------------------------------------------------------------------ N-SET


@pytest.mark.parametrize("keyword", FIXED)
def test_what_may_not_be_set(keyword):
    value = [{}] if keyword.endswith("Sequence") else "20260101" if keyword.endswith("Date") else "1"
    with pytest.raises(Refused) as caught:
        modify(in_state("IN PROGRESS"), locked(**{keyword: value}), now=NOW)
    assert caught.value.status == Status.NO_SUCH_ATTRIBUTE
    assert caught.value.elements["AttributeIdentifierList"] == (tag_of(keyword),)


def test_setting_changes_neither_lock_nor_identity():
    step = modify(in_state("IN PROGRESS"), locked(SOPInstanceUID="6.6", ProcedureStepLabel="new"), now="2027").step
    assert (step.SOPInstanceUID, step.TransactionUID, step.ProcedureStepLabel) == ("1.1", LOCK, "new")
    assert step.ScheduledProcedureStepModificationDateTime == "2027"


# ------------------------------------------------------------------------------ events


def kinds(transition):
    return [event for event, _ in transition.events]


def test_a_new_step_is_reported():
    (event, report), *rest = create(new_step(), None, "1.1", now=NOW).events
    assert (event, rest) == (1, [])
    assert report == build_identifier({"ProcedureStepState": "SCHEDULED", "InputReadinessState": "READY"})


def test_a_new_step_for_somebody_is_assigned():
    transition = create(new_step(ScheduledStationNameCodeSequence=[CODE]), None, "1.1", now=NOW)
    assert kinds(transition) == [1, 5]
    assert transition.events[1][1] == build_identifier({"ScheduledStationNameCodeSequence": [CODE]})


def test_state_changes_are_reported():
    for state in ("IN PROGRESS", "COMPLETED", "CANCELED"):
        before = in_state("SCHEDULED" if state == "IN PROGRESS" else "IN PROGRESS")
        (event, report), *rest = change_state(before, information(state), now=NOW).events
        assert (event, report.ProcedureStepState, rest) == (1, state, [])
    assert report.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    assert kinds(change_state(in_state("COMPLETED"), information("COMPLETED"), now=NOW)) == []  # a warning


def test_the_performer_is_asked_to_cancel():
    asked = build_identifier({"ReasonForCancellation": "patient left", "ContactDisplayName": "Müller"})
    transition = request_cancel(in_state("IN PROGRESS"), asked, requestor="RIS", now=NOW)
    assert kinds(transition) == [2]
    report = transition.events[0][1]
    assert (report.RequestingAE, report.ReasonForCancellation, report.ContactDisplayName) == (
        "RIS",
        "patient left",
        "Müller",
    )


def test_a_scheduled_step_is_canceled_in_two_steps():
    asked = build_identifier({"ReasonForCancellation": "patient left"})
    transition = request_cancel(in_state("SCHEDULED"), asked, requestor="RIS", now=NOW)
    assert [report.ProcedureStepState for _, report in transition.events] == ["IN PROGRESS", "CANCELED"]
    assert transition.events[1][1].ReasonForCancellation == "patient left"


def test_changes_are_reported():
    step = in_state("IN PROGRESS")
    progress = {"ProcedureStepProgress": "50"}
    assert kinds(modify(step, locked(ProcedureStepLabel="x"), now=NOW)) == []
    transition = modify(step, locked(ProcedureStepProgressInformationSequence=[progress]), now=NOW)
    assert kinds(transition) == [3]
    assert progress_of(transition.events[0][1]).ProcedureStepProgress == "50"
    assert kinds(modify(step, locked(InputReadinessState="UNAVAILABLE"), now=NOW)) == [1]
    assert kinds(modify(step, locked(InputReadinessState="READY"), now=NOW)) == []
    assert kinds(modify(step, locked(ScheduledHumanPerformersSequence=[{}]), now=NOW)) == [5]


def test_reports_say_how_their_text_is_encoded():
    described = {"ProcedureStepProgressDescription": "hälfte"}
    transition = modify(in_state("IN PROGRESS"), locked(ProcedureStepProgressInformationSequence=[described]), now=NOW)
    assert transition.events[0][1].SpecificCharacterSet == "ISO_IR 192"
    station = {**CODE, "CodeMeaning": "Gerät"}
    transition = create(new_step(ScheduledStationNameCodeSequence=[station]), None, "1.1", now=NOW)
    assert transition.events[1][1].SpecificCharacterSet == "ISO_IR 192"


def test_the_lock_cannot_be_found_out_by_asking():
    matcher = step_matcher(build_identifier({"TransactionUID": LOCK, "ProcedureStepState": None}))
    assert matcher.is_universal
    assert "TransactionUID" not in matcher.answer(in_state("IN PROGRESS"))


# ------------------------------------------------------------------------------ subscriptions, Table CC.2.3-2


STEPS = {"1": build_identifier({"ProcedureStepLabel": "a"}), "2": build_identifier({"ProcedureStepLabel": "b"})}


def said(*words: str) -> tuple[Subscriptions, list[str]]:
    """Subscriptions of AE X to step 1 after these instructions; and what X is told at the last one."""
    subscriptions, told = Subscriptions(), []
    for word in words:
        lock = word.endswith("+")
        match word.rstrip("+"):
            case "one":
                subscriptions.subscribe("1", "X", lock=lock)
                told = ["1"]
            case "not one":
                subscriptions.unsubscribe("1", "X")
                told = []
            case "all":
                told = subscriptions.subscribe_globally("X", {"1": STEPS["1"]}, lock=lock)
            case "none":
                subscriptions.unsubscribe_globally("X")
                told = []
            case "suspend":
                subscriptions.suspend("X")
                told = []
    return subscriptions, told


@pytest.mark.parametrize(
    ("words", "state", "told"),
    [
        ((), "not", []),
        (("one",), "free", ["1"]),
        (("one+",), "locked", ["1"]),
        (("one", "one+"), "locked", ["1"]),
        (("one+", "one"), "free", ["1"]),
        (("one+", "not one"), "not", []),
        (("all",), "free", []),
        (("all+",), "locked", ["1"]),
        (("all", "all+"), "locked", ["1"]),
        (("all+", "all"), "free", []),
        (("all+", "one"), "free", ["1"]),
        (("one", "all+"), "free", ["1"]),  # what was said of the step itself counts
        (("one+", "all"), "locked", []),
        (("all+", "not one"), "not", []),
        (("all+", "none"), "not", []),
        (("one+", "none"), "not", []),
        (("all+", "suspend"), "locked", []),
        (("one", "suspend"), "free", []),
        (("none",), "not", []),
        (("not one",), "not", []),
    ],
)
def test_subscription_states(words, state, told):
    subscriptions, heard = said(*words)
    assert heard == told
    assert ("X" in subscriptions.receivers("1")) is (state != "not")
    assert subscriptions.is_locked("1") is (state == "locked")


@pytest.mark.parametrize(
    ("words", "hears", "locked_then"),
    [
        (("all",), True, False),
        (("all+",), True, True),
        (("all", "suspend"), False, False),
        (("all", "none"), False, False),
        (("one+",), False, False),
        (("all", "not one"), True, False),
    ],
)
def test_steps_to_come(words, hears, locked_then):
    subscriptions, _ = said(*words)
    subscriptions.created("2", STEPS["2"])
    assert ("X" in subscriptions.receivers("2")) is hears
    assert subscriptions.is_locked("2") is locked_then


def test_a_filtered_subscription():
    subscriptions = Subscriptions()
    only = step_matcher(build_identifier({"ProcedureStepLabel": "b"}))
    assert subscriptions.subscribe_globally("X", STEPS, lock=True, only=only) == ["2"]
    assert (subscriptions.receivers("1"), subscriptions.receivers("2")) == ([], ["X"])
    for uid, label in (("3", "a"), ("4", "b")):
        subscriptions.created(uid, build_identifier({"ProcedureStepLabel": label}))
    assert (subscriptions.receivers("3"), subscriptions.receivers("4")) == ([], ["X"])
    assert subscriptions.global_receivers() == ["X"]
    subscriptions.deleted("2")
    assert subscriptions.receivers("2") == []
