"""The attributes that the archive indexes, by the level of the information model they belong to (PS3.4 section C.6).

Rule: one table; the columns of the index are named by these keywords, queries and answers are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "ATTRIBUTES",
    "BY_TAG",
    "COLUMNS",
    "COUNTERS",
    "IMAGE",
    "LEVELS",
    "PATIENT",
    "REQUEST_KEYS",
    "SERIES",
    "STUDY",
    "UNIQUE",
    "WANTED",
    "Attribute",
]

PATIENT, STUDY, SERIES, IMAGE = range(4)
LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UNIQUE: Final = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
"""The unique key of each level."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; `multiple` values are kept as they come, between backslashes."""

    keyword: str
    tag: int
    vr: str
    level: int
    multiple: bool = False
    computed: bool = False
    """Made by the index from what is below; a header does not tell it."""

    @property
    def temporal(self) -> bool:
        """True where a second column `…_at` holds the value as a whole number, for comparing."""
        return self.vr in ("DA", "TM", "DT")


# Level, tag, VR, keyword; `*` marks several values, `=` what the index makes itself.
_TABLE: Final = """
P 00100010 PN PatientName
P 00100020 LO PatientID
P 00100021 LO IssuerOfPatientID
P 00100030 DA PatientBirthDate
P 00100032 TM PatientBirthTime
P 00100040 CS PatientSex
P 00101000 LO OtherPatientIDs *
P 00102160 SH EthnicGroup
P 00104000 LT PatientComments
P 00201200 IS NumberOfPatientRelatedStudies =
P 00201202 IS NumberOfPatientRelatedSeries =
P 00201204 IS NumberOfPatientRelatedInstances =
S 00080020 DA StudyDate
S 00080030 TM StudyTime
S 00080050 SH AccessionNumber
S 00080061 CS ModalitiesInStudy *=
S 00080062 UI SOPClassesInStudy *=
S 00080090 PN ReferringPhysicianName
S 00080201 SH TimezoneOffsetFromUTC
S 00081030 LO StudyDescription
S 00081060 PN NameOfPhysiciansReadingStudy *
S 00081080 LO AdmittingDiagnosesDescription *
S 00101010 AS PatientAge
S 00101020 DS PatientSize
S 00101030 DS PatientWeight
S 00102180 SH Occupation
S 001021B0 LT AdditionalPatientHistory
S 0020000D UI StudyInstanceUID
S 00200010 SH StudyID
S 00201206 IS NumberOfStudyRelatedSeries =
S 00201208 IS NumberOfStudyRelatedInstances =
E 00080021 DA SeriesDate
E 00080031 TM SeriesTime
E 00080060 CS Modality
E 00080070 LO Manufacturer
E 00080080 LO InstitutionName
E 00081010 SH StationName
E 0008103E LO SeriesDescription
E 00081040 LO InstitutionalDepartmentName
E 00081050 PN PerformingPhysicianName *
E 00081070 PN OperatorsName *
E 00081090 LO ManufacturerModelName
E 00180015 CS BodyPartExamined
E 00181030 LO ProtocolName
E 00185100 CS PatientPosition
E 0020000E UI SeriesInstanceUID
E 00200011 IS SeriesNumber
E 00200052 UI FrameOfReferenceUID
E 00200060 CS Laterality
E 00201209 IS NumberOfSeriesRelatedInstances =
E 00400244 DA PerformedProcedureStepStartDate
E 00400245 TM PerformedProcedureStepStartTime
E 00400253 SH PerformedProcedureStepID
E 00400254 LO PerformedProcedureStepDescription
E 00400275 SQ RequestAttributesSequence
I 00080008 CS ImageType *
I 00080012 DA InstanceCreationDate
I 00080013 TM InstanceCreationTime
I 00080016 UI SOPClassUID
I 00080018 UI SOPInstanceUID
I 00080022 DA AcquisitionDate
I 00080023 DA ContentDate
I 0008002A DT AcquisitionDateTime
I 00080032 TM AcquisitionTime
I 00080033 TM ContentTime
I 00083002 UI AvailableTransferSyntaxUID =
I 00200012 IS AcquisitionNumber
I 00200013 IS InstanceNumber
I 00204000 LT ImageComments
I 00280008 IS NumberOfFrames
I 00280010 US Rows
I 00280011 US Columns
I 00280100 US BitsAllocated
I 0040A491 CS CompletionFlag
I 0040A493 CS VerificationFlag
I 00700080 CS ContentLabel
"""

ATTRIBUTES: Final[dict[str, Attribute]] = {
    keyword: Attribute(keyword, int(tag, 16), vr, "PSEI".index(level), "*" in "".join(marks), "=" in "".join(marks))
    for level, tag, vr, keyword, *marks in map(str.split, _TABLE.strip().splitlines())
}
"""By keyword."""
BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES.values()}

REQUEST_KEYS: Final[dict[str, int]] = {
    "AccessionNumber": 0x00080050,
    "StudyInstanceUID": 0x0020000D,
    "RequestedProcedureDescription": 0x00321060,
    "ScheduledProcedureStepDescription": 0x00400007,
    "ScheduledProcedureStepID": 0x00400009,
    "RequestedProcedureID": 0x00401001,
}
"""What is kept of each item of Request Attributes Sequence (PS3.4 Table C.6-3), in the order of the tags."""

COUNTERS: Final = {
    "NumberOfPatientRelatedStudies": "studies",
    "NumberOfPatientRelatedSeries": "series",
    "NumberOfPatientRelatedInstances": "instances",
    "NumberOfStudyRelatedSeries": "series",
    "NumberOfStudyRelatedInstances": "instances",
    "NumberOfSeriesRelatedInstances": "instances",
    "AvailableTransferSyntaxUID": "transfer_syntax",
}
"""Computed attributes whose columns have another name."""

WANTED: Final = frozenset(attribute.tag for attribute in ATTRIBUTES.values() if not attribute.computed)
"""What is to be scanned of a header; the highest of these tags is where the scan may stop."""


def _columns(level: int) -> tuple[Attribute, ...]:
    """The attributes that a row of this level keeps: a study those of its patient as well."""
    levels = (PATIENT, STUDY) if level == STUDY else (level,)
    return tuple(found for found in ATTRIBUTES.values() if found.level in levels and not found.computed)


COLUMNS: Final = tuple(_columns(level) for level in range(4))
