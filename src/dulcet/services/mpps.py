"""Modality performed procedure step (PS3.4 Annex F): what a step must hold, and how it may change.

Rules: a step begins IN PROGRESS and ends COMPLETED or DISCONTINUED; what has ended stays as it is; a step is a data
set, and each change makes a new one.  Reads no clock: `now` is YYYYMMDDHHMMSS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.dimse.status import Status
from dulcet.services.attributes import check, forbid, is_empty, merge, read_rules
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "COMPLETED",
    "DISCONTINUED",
    "IN_PROGRESS",
    "MPPS_PROPOSALS",
    "begin_from_worklist",
    "change",
    "check_creation",
    "ending",
    "event_type",
    "performed_series",
    "status_of",
]

SOP_CLASS: Final = uids.MODALITY_PERFORMED_PROCEDURE_STEP
RETRIEVE: Final = uids.MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
NOTIFICATION: Final = uids.MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION

MPPS_PROPOSALS: Final = tuple(proposals((SOP_CLASS, RETRIEVE, NOTIFICATION)))
"""What to propose for `perform_procedure_step` and `get_procedure_step`."""

IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"
FINAL: Final = frozenset((COMPLETED, DISCONTINUED))

# PS3.4 Table F.7.2-1, N-CREATE, as a provider checks it.
CREATION: Final = read_rules("""
    ScheduledStepAttributesSequence                  1
    >StudyInstanceUID                                1
    >ReferencedStudySequence                         2
    >AccessionNumber                                 2
    >RequestedProcedureID                            2
    >RequestedProcedureDescription                   2
    >ScheduledProcedureStepID                        2
    >ScheduledProcedureStepDescription               2
    >ScheduledProtocolCodeSequence                   2
    PatientName                                      2
    PatientID                                        2
    PatientBirthDate                                 2
    PatientSex                                       2
    ReferencedPatientSequence                        2
    PerformedProcedureStepID                         1
    PerformedStationAETitle                          1
    PerformedStationName                             2
    PerformedLocation                                2
    PerformedProcedureStepStartDate                  1
    PerformedProcedureStepStartTime                  1
    PerformedProcedureStepStatus                     1  IN PROGRESS
    PerformedProcedureStepDescription                2
    PerformedProcedureTypeDescription                2
    ProcedureCodeSequence                            2
    PerformedProcedureStepEndDate                    2
    PerformedProcedureStepEndTime                    2
    PerformedProcedureStepDiscontinuationReasonCodeSequence 3
    Modality                                         1
    StudyID                                          2
    PerformedProtocolCodeSequence                    2
    PerformedSeriesSequence                          2
""")

# The same table, N-SET: what may be set again has no line here, the status must be one of these.
MODIFICATION: Final = read_rules("""
    PerformedProcedureStepStatus                     1  IN PROGRESS | COMPLETED | DISCONTINUED
""")

# The same table, "Requirement Type Final State": what a step needs to end.
FINAL_STATE: Final = read_rules("""
    PerformedProcedureStepEndDate                    1
    PerformedProcedureStepEndTime                    1
    PerformedSeriesSequence                          1
    >PerformingPhysicianName                         2
    >ProtocolName                                    1
    >OperatorsName                                   2
    >SeriesInstanceUID                               1
    >SeriesDescription                               2
    >RetrieveAETitle                                 2
    >ReferencedImageSequence                         2
    >ReferencedNonImageCompositeSOPInstanceSequence  2
""")

# The same table, "Not allowed" in N-SET: who the patient is and how it began does not change.
FIXED: Final = (
    "ScheduledStepAttributesSequence PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence "
    "PatientBirthDate PatientSex ReferencedPatientSequence AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID "
    "IssuerOfServiceEpisodeIDSequence ServiceEpisodeDescription PerformedProcedureStepID PerformedStationAETitle "
    "PerformedStationName PerformedLocation PerformedProcedureStepStartDate PerformedProcedureStepStartTime Modality "
    "StudyID"
).split()

NO_LONGER: Final = "Performed Procedure Step Object may no longer be updated"
NO_LONGER_ID: Final = 0xA710
"""Error Comment and Error ID of PS3.4 Table F.7.2-2."""

NO_PROTOCOL: Final = "UNKNOWN"
"""Protocol Name (0018,1030) of a series that was given up before it had one."""

EVENT_TYPES: Final = {IN_PROGRESS: 1, COMPLETED: 2, DISCONTINUED: 3}
"""Event Type IDs of PS3.4 Table F.9.2-1, by the status that a step has reached."""
UPDATED: Final = 4
DELETED: Final = 5

# What every step says, if only that it does not know (PS3.4 Table F.7.2-1, type 2).
UNKNOWN: Final = (
    "PatientName PatientID PatientBirthDate PatientSex ReferencedPatientSequence PerformedStationName "
    "PerformedLocation PerformedProcedureStepDescription PerformedProcedureTypeDescription ProcedureCodeSequence "
    "PerformedProcedureStepEndDate PerformedProcedureStepEndTime "
    "PerformedProcedureStepDiscontinuationReasonCodeSequence StudyID PerformedProtocolCodeSequence "
    "PerformedSeriesSequence"
).split()
UNKNOWN_OF_STEP: Final = (
    "ReferencedStudySequence AccessionNumber RequestedProcedureID RequestedProcedureDescription "
    "ScheduledProcedureStepID ScheduledProcedureStepDescription ScheduledProtocolCodeSequence"
).split()
UNKNOWN_OF_SERIES: Final = (
    "PerformingPhysicianName OperatorsName SeriesDescription RetrieveAETitle ReferencedImageSequence "
    "ReferencedNonImageCompositeSOPInstanceSequence"
).split()


def check_creation(dataset: Dataset, *, strict: bool = False) -> None:
    """Refused unless a step may begin like this: 0120H, 0121H, and 0106H when it is not IN PROGRESS (F.7.2.1.3).

    `strict` asks for the type 2 attributes as well, which many a modality leaves out.
    """
    check(dataset, CREATION, strict=strict)


def change(step: Dataset, changes: Dataset, *, strict: bool = True) -> Dataset:
    """The step after an N-SET; Refused when it may not change like this.

    0110H with Error ID A710H when it has ended (F.7.2.2.3), 0105H for an attribute that is fixed since N-CREATE, 0106H
    for another status, 0121H when it is to end without what Table F.7.2-1 asks for then; without `strict` it may.
    """
    if status_of(step) != IN_PROGRESS:
        raise Refused(Status.PROCESSING_FAILURE, NO_LONGER, ErrorID=NO_LONGER_ID)
    forbid(changes, FIXED)
    if "PerformedProcedureStepStatus" in changes:
        check(changes, MODIFICATION)
    after = merge(step, changes)
    if strict and status_of(after) in FINAL:
        check(after, FINAL_STATE, absent=Status.MISSING_ATTRIBUTE_VALUE)
    return after


def status_of(step: Dataset) -> str:
    """Performed Procedure Step Status (0040,0252)."""
    return str(step.get("PerformedProcedureStepStatus") or "").strip()


def event_type(before: Dataset | None, after: Dataset) -> int:
    """The event that tells of a change (Table F.9.2-1): a new status, else "updated"."""
    if before is not None and status_of(before) == status_of(after):
        return UPDATED
    return EVENT_TYPES[status_of(after)]


def begin_from_worklist(item: Dataset, now: str, keys: Mapping[str, Any]) -> Dataset:
    """The N-CREATE data set of a step that performs an item of a worklist; `keys` add to it and replace."""
    scheduled = (item.get("ScheduledProcedureStepSequence") or [item])[0]
    of_step = {keyword: item.get(keyword, scheduled.get(keyword)) for keyword in ("StudyInstanceUID", *UNKNOWN_OF_STEP)}
    of_patient = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
    values = {
        **dict.fromkeys(UNKNOWN),
        **{keyword: item.get(keyword) for keyword in of_patient},
        "ScheduledStepAttributesSequence": [of_step],
        "PerformedProcedureStepID": scheduled.get("ScheduledProcedureStepID") or "1",
        "PerformedStationAETitle": scheduled.get("ScheduledStationAETitle"),
        "PerformedStationName": scheduled.get("ScheduledStationName"),
        "PerformedLocation": scheduled.get("ScheduledProcedureStepLocation"),
        "PerformedProcedureStepDescription": scheduled.get("ScheduledProcedureStepDescription"),
        "PerformedProtocolCodeSequence": scheduled.get("ScheduledProtocolCodeSequence"),
        "ProcedureCodeSequence": item.get("RequestedProcedureCodeSequence"),
        "PerformedProcedureStepStartDate": now[:8],
        "PerformedProcedureStepStartTime": now[8:],
        "PerformedProcedureStepStatus": IN_PROGRESS,
        "Modality": scheduled.get("Modality"),
        **keys,
    }
    if "SpecificCharacterSet" in item:
        values.setdefault("SpecificCharacterSet", item.SpecificCharacterSet)
    return build_identifier(values)


def performed_series(series: Dataset | None, keys: Mapping[str, Any]) -> Dataset:
    """An item of Performed Series Sequence (0040,0340): what is not known of it is there, and empty."""
    item = build_identifier({**dict.fromkeys(UNKNOWN_OF_SERIES), **keys})
    if series is not None:
        item.update(series)
    return item


def ending(status: str, now: str, series: Sequence[Dataset], keys: Mapping[str, Any], *, uid: str) -> dict[str, Any]:
    """What is set when a step ends, by keyword; `keys` add to it and replace.

    Every final state needs a series with its UID and protocol (Table F.7.2-1, type 1), also of a step that was given up
    before its first: that one has the series `uid`, of which there are no instances.
    """
    if status == DISCONTINUED:
        series = [_whole(one, uid) for one in series or [performed_series(None, {})]]
    return {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": now[:8],
        "PerformedProcedureStepEndTime": now[8:],
        "PerformedSeriesSequence": series,
        **keys,
    }


def _whole(series: Dataset, uid: str) -> Dataset:
    """A series of a step that was given up, with what was not yet known of it."""
    lacking = {"SeriesInstanceUID": uid, "ProtocolName": NO_PROTOCOL}
    added = {keyword: value for keyword, value in lacking.items() if is_empty(series.get(keyword))}
    return performed_series(series, {}) if not added else merge(performed_series(series, {}), build_identifier(added))
