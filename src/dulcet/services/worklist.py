"""Modality worklist (PS3.4 Annex K): which keys are matched together, and what a query for it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dulcet.services.identifiers import build_identifier
from dulcet.services.matching import Matcher

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["worklist_matcher", "worklist_query"]

COMBINED: Final = (("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),)
"""PS3.4 Table K.6-1: a range of start dates and one of start times are one, from date and time to date and time."""

# PS3.4 Table K.6-1, return keys of type 1 and 2; what a modality needs to begin.
STEP_KEYS: Final = (
    "ScheduledStationAETitle ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime Modality "
    "ScheduledPerformingPhysicianName ScheduledProcedureStepDescription ScheduledStationName "
    "ScheduledProcedureStepLocation ScheduledProtocolCodeSequence PreMedication ScheduledProcedureStepID "
    "RequestedContrastAgent ScheduledProcedureStepStatus"
).split()
KEYS: Final = (
    "RequestedProcedureID RequestedProcedureDescription RequestedProcedureCodeSequence StudyInstanceUID "
    "ReferencedStudySequence RequestedProcedurePriority PatientTransportArrangements AccessionNumber "
    "RequestingPhysician ReferringPhysicianName AdmissionID CurrentPatientLocation ReferencedPatientSequence "
    "PatientName PatientID PatientBirthDate PatientSex PatientWeight ConfidentialityConstraintOnPatientDataDescription "
    "PatientState PregnancyStatus MedicalAlerts Allergies SpecialNeeds"
).split()


REQUIRED: Final = (
    "ScheduledProcedureStepSequence ScheduledStationAETitle ScheduledProcedureStepStartDate "
    "ScheduledProcedureStepStartTime Modality ScheduledPerformingPhysicianName PatientName PatientID"
).split()
"""Those of matching key type R."""
OPTIONAL: Final = (
    "ScheduledProcedureStepID ScheduledStationName ScheduledProcedureStepLocation ScheduledProcedureStepDescription "
    "ScheduledProcedureStepStatus RequestedProcedureID RequestedProcedureDescription RequestedProcedurePriority "
    "StudyInstanceUID AccessionNumber RequestingPhysician ReferringPhysicianName AdmissionID CurrentPatientLocation "
    "IssuerOfPatientID OtherPatientIDs PatientBirthDate PatientSex"
).split()
"""Of type O, those by which a step, a request, a visit or a patient is told from others."""
MATCHED: Final = frozenset((*REQUIRED, *OPTIONAL))
"""The matching keys of PS3.4 Table K.6-1; all others, what is medical about a patient above all, are return keys."""


def worklist_matcher(identifier: Dataset, *, fold_names: bool = True) -> Matcher:
    """The matcher for a worklist identifier; return keys of Table K.6-1 are answered, and matched with nothing.

    `identifier` is that of the C-FIND; `fold_names` is as for `Matcher`.  Raises Refused (A900H) for a date or time
    that reads as none.
    """
    return Matcher(identifier, fold_names=fold_names, combined=COMBINED, matched=MATCHED)


def worklist_query(step: Mapping[str, Any] | None = None, **keys: Any) -> Dataset:
    """An identifier with all return keys of Table K.6-1; `step` are keys of the Scheduled Procedure Step Sequence.

    `keys` are those of the request and the patient.  Values are as for `Association.find`: None asks for what is there,
    a tuple of dates is a range.  ValueError for what is no keyword, and for a range that ends before it begins.

    association.find(worklist_query({"Modality": "CT"}, PatientName="DOE*"), model="worklist")
    """
    item = {**dict.fromkeys(STEP_KEYS), **(step or {})}
    return build_identifier({**dict.fromkeys(KEYS), "ScheduledProcedureStepSequence": [item], **keys})
