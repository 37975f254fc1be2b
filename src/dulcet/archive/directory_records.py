"""Which directory record says what of an object (PS3.3 Annex F): the tables, as data.

Rule: a table of the standard reads here as it does there; what is not in it is the DICOMDIR writer's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dulcet import uids

__all__ = ["KEYS", "SINGLE_LEVEL", "RecordKey", "record_type"]


@dataclass(frozen=True, slots=True)
class RecordKey:
    """One attribute of a directory record."""

    keyword: str
    must: bool
    """True for type 1: it has a value."""
    empty: bool
    """True for type 2: it is there, with or without a value; False for type 1C and 3, left out without one."""


# PS3.3 sections F.5.1 to F.5.46: `!` has a value (type 1), `-` may be empty (type 2), `?` only where the object has it.
_KEYS: Final = """
PATIENT            -PatientName !PatientID ?IssuerOfPatientID
STUDY              !StudyDate !StudyTime -StudyDescription !StudyInstanceUID !StudyID -AccessionNumber
SERIES             !Modality !SeriesInstanceUID !SeriesNumber ?SeriesDescription
IMAGE              !InstanceNumber ?ImageType ?NumberOfFrames ?Rows ?Columns
RT DOSE            !InstanceNumber !DoseSummationType
RT STRUCTURE SET   !InstanceNumber !StructureSetLabel -StructureSetDate -StructureSetTime
RT PLAN            !InstanceNumber !RTPlanLabel -RTPlanDate -RTPlanTime
RT TREAT RECORD    !InstanceNumber -TreatmentDate -TreatmentTime
PRESENTATION       !PresentationCreationDate !PresentationCreationTime !InstanceNumber !ContentLabel -ContentDescription
                   -ContentCreatorName ?ReferencedSeriesSequence ?BlendingSequence
WAVEFORM           !InstanceNumber !ContentDate !ContentTime
SR DOCUMENT        !InstanceNumber !CompletionFlag !VerificationFlag !ContentDate !ContentTime ?VerificationDateTime
                   !ConceptNameCodeSequence ?ContentSequence
KEY OBJECT DOC     !InstanceNumber !ContentDate !ContentTime !ConceptNameCodeSequence ?ContentSequence
SPECTROSCOPY       !ImageType !ContentDate !ContentTime !InstanceNumber ?ReferencedImageEvidenceSequence
                   !NumberOfFrames !Rows !Columns !DataPointRows !DataPointColumns
RAW DATA           !InstanceNumber !ContentDate !ContentTime
REGISTRATION       !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
FIDUCIAL           !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
VALUE MAP          !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
MEASUREMENT        !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
SURFACE            !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
TRACT              !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
ANNOTATION         !InstanceNumber !ContentDate !ContentTime !ContentLabel -ContentDescription -ContentCreatorName
ENCAP DOC          -ContentDate -ContentTime !InstanceNumber -DocumentTitle ?HL7InstanceIdentifier
                   -ConceptNameCodeSequence !MIMETypeOfEncapsulatedDocument
STEREOMETRIC
PLAN
SURFACE SCAN       !ContentDate !ContentTime
ASSESSMENT         !InstanceNumber !InstanceCreationDate -InstanceCreationTime
RADIOTHERAPY       !InstanceNumber ?UserContentLabel ?UserContentLongLabel -ContentDescription -ContentCreatorName
PRIVATE            ?InstanceNumber
HANGING PROTOCOL   !HangingProtocolName !HangingProtocolDescription !HangingProtocolLevel !HangingProtocolCreator
                   !HangingProtocolCreationDateTime !HangingProtocolDefinitionSequence !NumberOfPriorsReferenced
                   -HangingProtocolUserIdentificationCodeSequence
PALETTE            !ContentLabel -ContentDescription
IMPLANT            !Manufacturer !ImplantName ?ImplantSize !ImplantPartNumber
IMPLANT ASSY       !ImplantAssemblyTemplateName !Manufacturer !ProcedureTypeCodeSequence
IMPLANT GROUP      !ImplantTemplateGroupName !ImplantTemplateGroupIssuer
"""

SINGLE_LEVEL: Final[dict[str, str]] = {
    uids.HANGING_PROTOCOL_STORAGE: "HANGING PROTOCOL",
    uids.COLOR_PALETTE_STORAGE: "PALETTE",
    uids.GENERIC_IMPLANT_TEMPLATE_STORAGE: "IMPLANT",
    uids.IMPLANT_ASSEMBLY_TEMPLATE_STORAGE: "IMPLANT ASSY",
    uids.IMPLANT_TEMPLATE_GROUP_STORAGE: "IMPLANT GROUP",
}
"""Records that stand at the top, for objects of no patient (PS3.3 Table F.4-1)."""

# By SOP Class UID, or the root that classes have in common; the longest that fits counts, and the rest are images.
_CLASS_ROOTS: Final = """
1.2.840.10008.5.1.4.1.1.4.2       SPECTROSCOPY
1.2.840.10008.5.1.4.1.1.9         WAVEFORM
1.2.840.10008.5.1.4.1.1.9.100     PRESENTATION
1.2.840.10008.5.1.4.1.1.11        PRESENTATION
1.2.840.10008.5.1.4.1.1.66        RAW DATA
1.2.840.10008.5.1.4.1.1.66.1      REGISTRATION
1.2.840.10008.5.1.4.1.1.66.2      FIDUCIAL
1.2.840.10008.5.1.4.1.1.66.3      REGISTRATION
1.2.840.10008.5.1.4.1.1.66.4      IMAGE
1.2.840.10008.5.1.4.1.1.66.5      SURFACE
1.2.840.10008.5.1.4.1.1.66.6      TRACT
1.2.840.10008.5.1.4.1.1.66.7      IMAGE
1.2.840.10008.5.1.4.1.1.66.8      IMAGE
1.2.840.10008.5.1.4.1.1.67        VALUE MAP
1.2.840.10008.5.1.4.1.1.68        SURFACE SCAN
1.2.840.10008.5.1.4.1.1.77.1.5.3  STEREOMETRIC
1.2.840.10008.5.1.4.1.1.78        MEASUREMENT
1.2.840.10008.5.1.4.1.1.78.6      SR DOCUMENT
1.2.840.10008.5.1.4.1.1.79.1      SR DOCUMENT
1.2.840.10008.5.1.4.1.1.80.1      MEASUREMENT
1.2.840.10008.5.1.4.1.1.88        SR DOCUMENT
1.2.840.10008.5.1.4.1.1.88.59     KEY OBJECT DOC
1.2.840.10008.5.1.4.1.1.90.1      ASSESSMENT
1.2.840.10008.5.1.4.1.1.91.1      ANNOTATION
1.2.840.10008.5.1.4.1.1.104       ENCAP DOC
1.2.840.10008.5.1.4.1.1.131       PRESENTATION
1.2.840.10008.5.1.4.1.1.200       PLAN
1.2.840.10008.5.1.4.1.1.481.2     RT DOSE
1.2.840.10008.5.1.4.1.1.481.3     RT STRUCTURE SET
1.2.840.10008.5.1.4.1.1.481.4     RT TREAT RECORD
1.2.840.10008.5.1.4.1.1.481.5     RT PLAN
1.2.840.10008.5.1.4.1.1.481.6     RT TREAT RECORD
1.2.840.10008.5.1.4.1.1.481.7     RT TREAT RECORD
1.2.840.10008.5.1.4.1.1.481.8     RT PLAN
1.2.840.10008.5.1.4.1.1.481.9     RT TREAT RECORD
1.2.840.10008.5.1.4.1.1.481.10    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.11    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.12    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.13    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.14    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.15    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.16    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.17    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.18    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.19    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.20    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.21    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.22    RADIOTHERAPY
1.2.840.10008.5.1.4.1.1.481.25    RADIOTHERAPY
1.2.840.10008.5.1.4.34            PLAN
"""


def _keys() -> dict[str, tuple[RecordKey, ...]]:
    table: dict[str, tuple[RecordKey, ...]] = {}
    name = ""
    for line in _KEYS.strip().splitlines():
        name = line[:19].strip() or name
        keys = (RecordKey(word[1:], word[0] == "!", word[0] == "-") for word in line[19:].split())
        table[name] = table.get(name, ()) + tuple(keys)
    return table


KEYS: Final = _keys()
"""What each type of record says, besides what points to other records and to the file."""

_TYPES: Final[dict[str, str]] = {
    root: name for root, _, name in (line.partition(" ") for line in _CLASS_ROOTS.strip().splitlines())
}


def record_type(sop_class_uid: str) -> str:
    """The Directory Record Type (0004,1430) of an object; PRIVATE for a class that the standard does not know."""
    if sop_class_uid in SINGLE_LEVEL:
        return SINGLE_LEVEL[sop_class_uid]
    if sop_class_uid not in uids.STORAGE_CLASSES:
        return "PRIVATE"
    root = sop_class_uid
    while root:
        if root in _TYPES:
            return _TYPES[root].strip()
        root = root.rpartition(".")[0]
    return "IMAGE"
