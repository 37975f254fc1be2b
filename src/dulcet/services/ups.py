"""Unified procedure steps (PS3.4 Annex CC): the state table, what a step must hold, what others are told of changes.

Rules: a step is a data set with its lock, the Transaction UID, inside; each request gives a new one, a status and the
events to report, or is refused; the lock is never shown.  Reads no clock: `now` is a DT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.dimse.status import Status
from dulcet.services.attributes import check, forbid, is_empty, merge, read_rules
from dulcet.services.identifiers import build_identifier
from dulcet.services.matching import Matcher
from dulcet.services.proposals import proposals
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "CANCELED",
    "COMPLETED",
    "IN_PROGRESS",
    "SCHEDULED",
    "TABLE",
    "UPS_PROPOSALS",
    "Transition",
    "change_state",
    "create",
    "modify",
    "request_cancel",
    "scheduled_step",
    "state_of",
    "state_report",
    "step_matcher",
]

PUSH: Final = uids.UNIFIED_PROCEDURE_STEP_PUSH
WATCH: Final = uids.UNIFIED_PROCEDURE_STEP_WATCH
PULL: Final = uids.UNIFIED_PROCEDURE_STEP_PULL
EVENT: Final = uids.UNIFIED_PROCEDURE_STEP_EVENT
QUERY: Final = uids.UNIFIED_PROCEDURE_STEP_QUERY
GLOBAL: Final = uids.UPS_GLOBAL_SUBSCRIPTION_INSTANCE
FILTERED: Final = uids.UPS_FILTERED_GLOBAL_SUBSCRIPTION_INSTANCE

UPS_PROPOSALS: Final = tuple(proposals((PUSH, PULL, WATCH, QUERY)))
"""What to propose to make, perform and watch steps."""

SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
CANCELED: Final = "CANCELED"
FINAL: Final = frozenset((COMPLETED, CANCELED))

CHANGE_STATE: Final = 1
REQUEST_CANCEL: Final = 2
SUBSCRIBE: Final = 3
UNSUBSCRIBE: Final = 4
SUSPEND: Final = 5
"""Action Type IDs of PS3.4 Tables CC.2.1-1, CC.2.2-1 and CC.2.3-1."""

STATE_REPORT: Final = 1
CANCEL_REQUESTED: Final = 2
PROGRESS_REPORT: Final = 3
PROVIDER_STATUS: Final = 4
ASSIGNED: Final = 5
"""Event Type IDs of PS3.4 Table CC.2.4-1."""


def _read_table(table: str) -> dict[tuple[str, str], str]:
    """Cells by (event, state); the state of a step that does not exist is ""."""
    head, *lines = (line for line in table.strip("\n").splitlines() if line.strip())
    states = ["", *head.replace("IN PROGRESS", "IN_PROGRESS").split()[1:]]
    cells: dict[tuple[str, str], str] = {}
    for line in lines:
        event, *row = line.rsplit(maxsplit=len(states))
        cells.update({(event.strip(), state.replace("_", " ")): cell for state, cell in zip(states, row)})
    return cells


TABLE: Final = _read_table("""
                        none   SCHEDULED   IN PROGRESS   COMPLETED   CANCELED
create                  go     0111        0111          0111        0111
begin                   C307   go          C302          C300        C300
begin, wrong lock       C307   C301        C301          C301        C301
schedule                C307   C303        C303          C303        C303
complete                C307   C310        final         B306        C300
complete, wrong lock    C307   C301        C301          C301        C301
request cancel          C307   twice       ask           C311        B304
cancel                  C307   C310        final         C300        B304
cancel, wrong lock      C307   C301        C301          C301        C301
set                     C307   go          go            C300        C300
set, wrong lock         C307   C310        C301          C300        C300
""")
"""PS3.4 Table CC.1.1-2, and section CC.2.6.2 for N-SET: `go` ahead; `final` if the final state requirements are met;
`twice`, to IN PROGRESS and on to CANCELED; `ask` the performer; else the status.

The right lock of a SCHEDULED step is any one to begin or end it, and none to set its attributes.
"""

WORDS: Final = frozenset(("go", "final", "twice", "ask"))

REQUESTS: Final = {SCHEDULED: "schedule", IN_PROGRESS: "begin", COMPLETED: "complete", CANCELED: "cancel"}

# PS3.4 Table CC.2.5-3, N-CREATE.
CREATION: Final = read_rules("""
    ScheduledProcedureStepPriority               1  HIGH | MEDIUM | LOW
    ProcedureStepLabel                           1
    WorklistLabel                                2
    ScheduledProcessingParametersSequence        2
    ScheduledStationNameCodeSequence             2
    ScheduledStationClassCodeSequence            2
    ScheduledStationGeographicLocationCodeSequence 2
    ScheduledProcedureStepStartDateTime          1
    ScheduledWorkitemCodeSequence                2
    CommentsOnTheScheduledProcedureStep          2
    InputReadinessState                          1  READY | UNAVAILABLE | INCOMPLETE
    InputInformationSequence                     2
    PatientName                                  2
    PatientID                                    2
    PatientBirthDate                             2
    PatientSex                                   2
    AdmissionID                                  2
    IssuerOfAdmissionIDSequence                  2
    AdmittingDiagnosesDescription                2
    AdmittingDiagnosesCodeSequence               2
    ReferencedRequestSequence                    2
    ProcedureStepState                           1
    ProcedureStepProgressInformationSequence     2
    UnifiedProcedureStepPerformedProcedureSequence 2
""")

# The same table, final state "P": what a step needs to be COMPLETED.
COMPLETION: Final = read_rules("""
    UnifiedProcedureStepPerformedProcedureSequence 1
    >PerformedStationNameCodeSequence            1
    >PerformedProcedureStepStartDateTime         1
    >PerformedWorkitemCodeSequence               1
    >PerformedProcedureStepEndDateTime           1
    >OutputInformationSequence                   2
""")

# The same table, N-SET "Not allowed".
FIXED: Final = (
    "ProcedureStepState PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex AdmissionID "
    "IssuerOfAdmissionIDSequence ReferencedRequestSequence StudyInstanceUID"
).split()
OWN: Final = ("TransactionUID", "SOPClassUID", "SOPInstanceUID", "ScheduledProcedureStepModificationDateTime")
"""What a request does not change: the lock, the identity and what the provider itself says."""
EMPTY_AT_FIRST: Final = ("ProcedureStepProgressInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence")

UNSPECIFIED: Final[Mapping[str, Any]] = {
    "CodeValue": "110513",
    "CodingSchemeDesignator": "DCM",
    "CodeMeaning": "Discontinued for unspecified reason",
}

Event = tuple[int, "Dataset"]


@dataclass(frozen=True, slots=True)
class Transition:
    """What a request came to: the status to answer, the step as it is now, and the events to report."""

    status: Status
    step: Dataset
    events: tuple[Event, ...] = ()


def create(dataset: Dataset, existing: Dataset | None, uid: str, *, now: str, strict: bool = False) -> Transition:
    """N-CREATE (section CC.2.5): a step that is SCHEDULED; B300H when something of it had to be left out.

    Refused with 0111H, 0120H, 0121H, 0106H, and C309H when it is not SCHEDULED.
    """
    _go("create", existing)
    check(dataset, CREATION, strict=strict)
    if state_of(dataset) != SCHEDULED:
        raise Refused(Status.UPS_NOT_SCHEDULED, "ProcedureStepState must be SCHEDULED in an N-CREATE")
    step = merge(build_identifier({}), dataset)
    left_out = [keyword for keyword in EMPTY_AT_FIRST if not is_empty(step.get(keyword))]
    own = {**dict.fromkeys(EMPTY_AT_FIRST), "SOPClassUID": PUSH, "SOPInstanceUID": uid, "TransactionUID": None}
    step.update(build_identifier({**own, "ScheduledProcedureStepModificationDateTime": now}))
    if is_empty(step.get("WorklistLabel")):
        step.WorklistLabel = "DEFAULT"
    status = Status.UPS_MODIFIED if left_out else Status.SUCCESS
    return Transition(status, step, (state_report(step), *_assigned(build_identifier({}), step)))


def change_state(step: Dataset | None, information: Dataset, *, now: str) -> Transition:
    """N-ACTION 1 (section CC.2.1): take a step, complete it or cancel it.

    Refused with what TABLE says, C304H when the final state requirements are not met, 0115H for an unknown state.
    """
    state, lock = state_of(information), _text(information, "TransactionUID")
    if state not in REQUESTS:
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "ProcedureStepState is missing or unknown")
    request = REQUESTS[state]
    if state != SCHEDULED and (not lock or (step is not None and _text(step, "TransactionUID") not in ("", lock))):
        request += ", wrong lock"
    verdict = _go(request, step)
    assert step is not None
    if isinstance(verdict, Status):
        return Transition(verdict, step)
    changes: dict[str, Any] = {"ProcedureStepState": state}
    if state == IN_PROGRESS:
        changes["TransactionUID"] = lock
    elif state == COMPLETED:
        try:
            check(step, COMPLETION, strict=True)
        except Refused as refusal:
            raise Refused(Status.UPS_FINAL_STATE_NOT_MET, refusal.elements["ErrorComment"]) from refusal
    else:
        changes.update(_cancellation(step, information, now))
    after = merge(step, build_identifier(changes))
    return Transition(Status.SUCCESS, after, (state_report(after),))


def request_cancel(step: Dataset | None, information: Dataset, *, requestor: str, now: str) -> Transition:
    """N-ACTION 2 (section CC.2.2): a SCHEDULED step is canceled, the performer of one IN PROGRESS is asked (event 2).

    Refused with what TABLE says.
    """
    verdict = _go("request cancel", step)
    assert step is not None
    if isinstance(verdict, Status):
        return Transition(verdict, step)
    if verdict == "ask":
        asked: dict[str, Any] = {"RequestingAE": requestor}
        event = build_identifier(asked)
        for keyword in (
            "ReasonForCancellation",
            "ProcedureStepDiscontinuationReasonCodeSequence",
            "ContactURI",
            "ContactDisplayName",
        ):
            if keyword in information:
                event.add(information[keyword])
        return Transition(Status.SUCCESS, step, ((CANCEL_REQUESTED, event),))
    begun = merge(step, build_identifier({"ProcedureStepState": IN_PROGRESS}))
    ending = {"ProcedureStepState": CANCELED, **_cancellation(step, information, now)}
    after = merge(begun, build_identifier(ending))
    return Transition(Status.SUCCESS, after, (state_report(begun), state_report(after)))


def modify(step: Dataset | None, changes: Dataset, *, now: str) -> Transition:
    """N-SET (section CC.2.6): of a SCHEDULED step without a lock, of one IN PROGRESS with the right one.

    Refused with what TABLE says, and 0105H for attributes that N-SET may not change.
    """
    lock = _text(changes, "TransactionUID")
    wrong = step is not None and lock != _text(step, "TransactionUID")
    _go("set, wrong lock" if wrong else "set", step)
    assert step is not None
    forbid(changes, FIXED)
    after = merge(step, changes, without=OWN)
    after.ScheduledProcedureStepModificationDateTime = now
    return Transition(Status.SUCCESS, after, _told(step, after, changes))


def state_of(dataset: Dataset) -> str:
    """Procedure Step State (0074,1000)."""
    return _text(dataset, "ProcedureStepState")


def state_report(step: Dataset) -> Event:
    """The event that tells a step's state (Table CC.2.4-1, event 1); also sent to who begins to watch."""
    report = build_identifier(
        {"ProcedureStepState": state_of(step), "InputReadinessState": _text(step, "InputReadinessState")}
    )
    if state_of(step) == CANCELED:
        for progress in step.get("ProcedureStepProgressInformationSequence") or ():
            for keyword in ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence"):
                if not is_empty(progress.get(keyword)):
                    report.add(progress[keyword])
    return STATE_REPORT, report


def step_matcher(identifier: Dataset) -> Matcher:
    """The matcher for a C-FIND of steps (section CC.2.8); the lock is not to be found out by asking."""
    if "TransactionUID" in identifier:
        identifier = merge(identifier, build_identifier({}))
        del identifier.TransactionUID
    return Matcher(identifier)


def scheduled_step(**keys: Any) -> Dataset:
    """The N-CREATE data set of a step, every attribute of type 2 there; at least ProcedureStepLabel and
    ScheduledProcedureStepStartDateTime are to be given.
    """
    empty = {rule.keyword: None for rule in CREATION if rule.type == "2"}
    return build_identifier(
        {
            **empty,
            "ScheduledProcedureStepPriority": "MEDIUM",
            "InputReadinessState": "READY",
            "ProcedureStepState": SCHEDULED,
            "TransactionUID": None,
            **keys,
        }
    )


def _go(request: str, step: Dataset | None) -> str | Status:
    """A word of the table, or a warning status; a failure status is raised."""
    cell = TABLE[request, "" if step is None else state_of(step)]
    if cell in WORDS:
        return cell
    status = Status(int(cell, 16))
    if status.is_warning:
        return status
    raise Refused(status, status.meaning("ups"))


def _cancellation(step: Dataset, information: Dataset, now: str) -> dict[str, Any]:
    """The progress information of a canceled step: when and why, as given before, with the request, or nowhere."""
    before = step.get("ProcedureStepProgressInformationSequence") or ()
    progress = merge(before[0] if before else build_identifier({}), build_identifier({}))
    for keyword in ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence"):
        if keyword in information:
            progress.add(information[keyword])
    if is_empty(progress.get("ProcedureStepCancellationDateTime")):
        progress.ProcedureStepCancellationDateTime = now
    if is_empty(progress.get("ProcedureStepDiscontinuationReasonCodeSequence")):
        progress.update(build_identifier({"ProcedureStepDiscontinuationReasonCodeSequence": [UNSPECIFIED]}))
    return {"ProcedureStepProgressInformationSequence": [progress]}


def _told(before: Dataset, after: Dataset, changes: Dataset) -> tuple[Event, ...]:
    """The events that tell of an N-SET (section CC.2.4.3)."""
    events: list[Event] = []
    if _text(before, "InputReadinessState") != _text(after, "InputReadinessState"):
        events.append(state_report(after))
    events += _assigned(before, after)
    if "ProcedureStepProgressInformationSequence" in changes:
        report = build_identifier({})
        report.add(after["ProcedureStepProgressInformationSequence"])
        if "SpecificCharacterSet" in after:
            report.SpecificCharacterSet = after.SpecificCharacterSet
        events.append((PROGRESS_REPORT, report))
    return tuple(events)


def _assigned(before: Dataset, after: Dataset) -> list[Event]:
    """Event 5 where the station or the performers are new."""
    keywords = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")
    if all(is_empty(after.get(keyword)) or after.get(keyword) == before.get(keyword) for keyword in keywords):
        return []
    report = build_identifier({})
    for keyword in keywords:
        if not is_empty(after.get(keyword)):
            report.add(after[keyword])
    if "SpecificCharacterSet" in after:
        report.SpecificCharacterSet = after.SpecificCharacterSet
    return [(ASSIGNED, report)]


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if is_empty(value) else str(value).strip(" \0")
