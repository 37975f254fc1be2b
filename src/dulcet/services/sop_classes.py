"""Which service a SOP class belongs to and which DIMSE operations it allows (PS3.4).

Rule: one table for every service; a SOP class is a row here, not a Python class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from dulcet import uids

__all__ = [
    "NOT_NEGOTIATED",
    "SOP_CLASS_SERVICES",
    "Service",
    "classes_with",
    "listed",
    "operations_of",
    "register_private",
    "service_of",
    "storage_classes",
]


def listed(given: str | Iterable[str]) -> tuple[str, ...]:
    """UIDs or names that were given; a lone one is a list of one, not of its characters."""
    return (given,) if isinstance(given, str) else tuple(given)


class Service(Enum):
    """What a SOP class is for; the value is the name of the service in PS3.4 (its annex beside it)."""

    VERIFICATION = "Verification"  # A
    STORAGE = "Storage"  # B, and GG for objects that are of no patient
    QUERY = "Query"  # C and its kin (U, X, BB, HH, II, JJ)
    RETRIEVE_MOVE = "Retrieve (C-MOVE)"  # C, Y and kin
    RETRIEVE_GET = "Retrieve (C-GET)"  # C, Y, Z and kin
    STUDY_CONTENT_NOTIFICATION = "Study Content Notification"  # D, retired
    RETIRED_MANAGEMENT = "Patient, Study and Results Management"  # E and G, retired; general purpose worklist
    MPPS = "Modality Performed Procedure Step"  # F
    PRINT = "Print Management"  # H
    STORAGE_COMMITMENT = "Storage Commitment"  # J
    WORKLIST = "Basic Worklist Management"  # K
    EVENT_LOGGING = "Application Event Logging"  # P
    RELEVANT_PATIENT_QUERY = "Relevant Patient Information Query"  # Q
    INSTANCE_AVAILABILITY = "Instance Availability Notification"  # R
    MEDIA_CREATION = "Media Creation Management"  # S
    SUBSTANCE_QUERY = "Substance Administration Query"  # V
    UPS_PUSH = "Unified Procedure Step, Push"  # CC
    UPS_WATCH = "Unified Procedure Step, Watch"  # CC
    UPS_PULL = "Unified Procedure Step, Pull"  # CC
    UPS_EVENT = "Unified Procedure Step, Event"  # CC
    UPS_QUERY = "Unified Procedure Step, Query"  # CC
    RT_MACHINE_VERIFICATION = "RT Machine Verification"  # DD
    DISPLAY_SYSTEM = "Display System Management"  # EE
    STORAGE_MANAGEMENT = "Storage Management"  # KK


_ALL_NORMALIZED: Final = "N-EVENT-REPORT N-GET N-SET N-ACTION N-CREATE N-DELETE"

# (service, DIMSE operations, SOP classes).  Storage is not listed: it is uids.STORAGE_CLASSES.  Normalized SOP classes
# whose clause is gone from the current edition get every normalized operation.
_ROWS: Final[tuple[tuple[Service, str, tuple[str, ...]], ...]] = (
    (Service.VERIFICATION, "C-ECHO", (uids.VERIFICATION,)),
    (
        Service.QUERY,
        "C-FIND",
        (
            uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids.HANGING_PROTOCOL_INFORMATION_MODEL_FIND,
            uids.COLOR_PALETTE_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids.GENERIC_IMPLANT_TEMPLATE_INFORMATION_MODEL_FIND,
            uids.IMPLANT_ASSEMBLY_TEMPLATE_INFORMATION_MODEL_FIND,
            uids.IMPLANT_TEMPLATE_GROUP_INFORMATION_MODEL_FIND,
            uids.DEFINED_PROCEDURE_PROTOCOL_INFORMATION_MODEL_FIND,
            uids.PROTOCOL_APPROVAL_INFORMATION_MODEL_FIND,
            uids.INVENTORY_FIND,
            uids.REPOSITORY_QUERY,
        ),
    ),
    (
        Service.RETRIEVE_MOVE,
        "C-MOVE",
        (
            uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            uids.COMPOSITE_INSTANCE_ROOT_RETRIEVE_MOVE,
            uids.HANGING_PROTOCOL_INFORMATION_MODEL_MOVE,
            uids.COLOR_PALETTE_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            uids.GENERIC_IMPLANT_TEMPLATE_INFORMATION_MODEL_MOVE,
            uids.IMPLANT_ASSEMBLY_TEMPLATE_INFORMATION_MODEL_MOVE,
            uids.IMPLANT_TEMPLATE_GROUP_INFORMATION_MODEL_MOVE,
            uids.DEFINED_PROCEDURE_PROTOCOL_INFORMATION_MODEL_MOVE,
            uids.PROTOCOL_APPROVAL_INFORMATION_MODEL_MOVE,
            uids.INVENTORY_MOVE,
        ),
    ),
    (
        Service.RETRIEVE_GET,
        "C-GET",  # its C-STORE sub-operations run in presentation contexts of their own (PS3.4 C.4.3)
        (
            uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            uids.PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            uids.COMPOSITE_INSTANCE_ROOT_RETRIEVE_GET,
            uids.COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET,
            uids.HANGING_PROTOCOL_INFORMATION_MODEL_GET,
            uids.COLOR_PALETTE_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            uids.GENERIC_IMPLANT_TEMPLATE_INFORMATION_MODEL_GET,
            uids.IMPLANT_ASSEMBLY_TEMPLATE_INFORMATION_MODEL_GET,
            uids.IMPLANT_TEMPLATE_GROUP_INFORMATION_MODEL_GET,
            uids.DEFINED_PROCEDURE_PROTOCOL_INFORMATION_MODEL_GET,
            uids.PROTOCOL_APPROVAL_INFORMATION_MODEL_GET,
            uids.INVENTORY_GET,
        ),
    ),
    (
        Service.WORKLIST,
        "C-FIND",
        (uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND, uids.GENERAL_PURPOSE_WORKLIST_INFORMATION_MODEL_FIND),
    ),
    (
        Service.RELEVANT_PATIENT_QUERY,
        "C-FIND",
        (
            uids.GENERAL_RELEVANT_PATIENT_INFORMATION_QUERY,
            uids.BREAST_IMAGING_RELEVANT_PATIENT_INFORMATION_QUERY,
            uids.CARDIAC_RELEVANT_PATIENT_INFORMATION_QUERY,
        ),
    ),
    (Service.SUBSTANCE_QUERY, "C-FIND", (uids.PRODUCT_CHARACTERISTICS_QUERY, uids.SUBSTANCE_APPROVAL_QUERY)),
    (Service.MPPS, "N-CREATE N-SET", (uids.MODALITY_PERFORMED_PROCEDURE_STEP,)),
    (Service.MPPS, "N-GET", (uids.MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,)),
    (Service.MPPS, "N-EVENT-REPORT", (uids.MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION,)),
    (
        Service.STORAGE_COMMITMENT,
        "N-ACTION N-EVENT-REPORT",
        (uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PULL_MODEL),
    ),
    (Service.STORAGE_MANAGEMENT, "N-ACTION N-EVENT-REPORT", (uids.INVENTORY_CREATION,)),
    (Service.EVENT_LOGGING, "N-ACTION", (uids.PROCEDURAL_EVENT_LOGGING, uids.SUBSTANCE_ADMINISTRATION_LOGGING)),
    (Service.INSTANCE_AVAILABILITY, "N-CREATE", (uids.INSTANCE_AVAILABILITY_NOTIFICATION,)),
    (Service.MEDIA_CREATION, "N-CREATE N-ACTION N-GET", (uids.MEDIA_CREATION_MANAGEMENT,)),
    (Service.DISPLAY_SYSTEM, "N-GET", (uids.DISPLAY_SYSTEM,)),
    (
        Service.RT_MACHINE_VERIFICATION,
        _ALL_NORMALIZED,
        (
            uids.RT_CONVENTIONAL_MACHINE_VERIFICATION,
            uids.RT_ION_MACHINE_VERIFICATION,
            uids.RT_CONVENTIONAL_MACHINE_VERIFICATION_TRIAL,
            uids.RT_ION_MACHINE_VERIFICATION_TRIAL,
        ),
    ),
    # PS3.4 CC.2: whatever context they travel in, their SOP class UID in the command set is that of UPS Push.
    (
        Service.UPS_PUSH,
        "N-CREATE N-ACTION N-GET",
        (uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PUSH_TRIAL),
    ),
    (
        Service.UPS_WATCH,
        "N-ACTION N-GET C-FIND",
        (uids.UNIFIED_PROCEDURE_STEP_WATCH, uids.UNIFIED_PROCEDURE_STEP_WATCH_TRIAL),
    ),
    (
        Service.UPS_PULL,
        "C-FIND N-GET N-SET N-ACTION",
        (uids.UNIFIED_PROCEDURE_STEP_PULL, uids.UNIFIED_PROCEDURE_STEP_PULL_TRIAL),
    ),
    (
        Service.UPS_EVENT,
        "N-EVENT-REPORT",
        (uids.UNIFIED_PROCEDURE_STEP_EVENT, uids.UNIFIED_PROCEDURE_STEP_EVENT_TRIAL),
    ),
    (Service.UPS_QUERY, "C-FIND", (uids.UNIFIED_PROCEDURE_STEP_QUERY,)),
    (Service.PRINT, "N-CREATE N-SET N-DELETE N-ACTION", (uids.BASIC_FILM_SESSION, uids.BASIC_FILM_BOX)),
    (
        Service.PRINT,
        "N-SET",
        (uids.BASIC_GRAYSCALE_IMAGE_BOX, uids.BASIC_COLOR_IMAGE_BOX, uids.BASIC_ANNOTATION_BOX),
    ),
    (Service.PRINT, "N-EVENT-REPORT N-GET", (uids.PRINT_JOB, uids.PRINTER)),
    (Service.PRINT, "N-GET", (uids.PRINTER_CONFIGURATION_RETRIEVAL,)),
    (Service.PRINT, "N-CREATE N-DELETE", (uids.PRESENTATION_LUT,)),
    (
        Service.PRINT,
        _ALL_NORMALIZED,  # the meta SOP classes carry what their members do: together that is every one
        (
            uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META,
            uids.BASIC_COLOR_PRINT_MANAGEMENT_META,
            uids.REFERENCED_GRAYSCALE_PRINT_MANAGEMENT_META,
            uids.REFERENCED_COLOR_PRINT_MANAGEMENT_META,
            uids.PULL_STORED_PRINT_MANAGEMENT_META,
            uids.VOILUT_BOX,
            uids.REFERENCED_IMAGE_BOX,
            uids.IMAGE_OVERLAY_BOX,
            uids.BASIC_PRINT_IMAGE_OVERLAY_BOX,
            uids.PRINT_QUEUE_MANAGEMENT,
            uids.PULL_PRINT_REQUEST,
        ),
    ),
    (Service.STUDY_CONTENT_NOTIFICATION, "C-STORE", (uids.BASIC_STUDY_CONTENT_NOTIFICATION,)),
    (
        Service.RETIRED_MANAGEMENT,
        _ALL_NORMALIZED,
        (
            uids.DETACHED_PATIENT_MANAGEMENT,
            uids.DETACHED_PATIENT_MANAGEMENT_META,
            uids.DETACHED_VISIT_MANAGEMENT,
            uids.DETACHED_STUDY_MANAGEMENT,
            uids.DETACHED_STUDY_MANAGEMENT_META,
            uids.DETACHED_RESULTS_MANAGEMENT,
            uids.DETACHED_RESULTS_MANAGEMENT_META,
            uids.DETACHED_INTERPRETATION_MANAGEMENT,
            uids.STUDY_COMPONENT_MANAGEMENT,
            uids.GENERAL_PURPOSE_SCHEDULED_PROCEDURE_STEP,
            uids.GENERAL_PURPOSE_PERFORMED_PROCEDURE_STEP,
        ),
    ),
    (
        Service.RETIRED_MANAGEMENT,
        f"C-FIND {_ALL_NORMALIZED}",
        (uids.GENERAL_PURPOSE_WORKLIST_MANAGEMENT_META,),
    ),
)

NOT_NEGOTIATED: Final[frozenset[str]] = frozenset(
    {
        uids.MEDIA_STORAGE_DIRECTORY_STORAGE,
        uids.VIDEO_ENDOSCOPIC_IMAGE_REAL_TIME_COMMUNICATION,
        uids.VIDEO_PHOTOGRAPHIC_IMAGE_REAL_TIME_COMMUNICATION,
        uids.AUDIO_WAVEFORM_REAL_TIME_COMMUNICATION,
        uids.RENDITION_SELECTION_DOCUMENT_REAL_TIME_COMMUNICATION,
    }
)
"""SOP classes that no association carries: the DICOMDIR lives on media, real-time communication runs over RTP."""


def _table() -> dict[str, tuple[Service, frozenset[str]]]:
    stored = (Service.STORAGE, frozenset({"C-STORE"}))
    table = dict.fromkeys(uids.STORAGE_CLASSES, stored)
    for service, operations, sop_classes in _ROWS:
        table.update(dict.fromkeys(sop_classes, (service, frozenset(operations.split()))))
    return table


SOP_CLASS_SERVICES: Final[dict[str, tuple[Service, frozenset[str]]]] = _table()
"""SOP class UID to its service and the DIMSE operations that it allows, spelled as in PS3.7: `"C-STORE"`, `"N-SET"`."""

_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_private: Final[dict[str, tuple[Service, frozenset[str]]]] = {}


def service_of(sop_class_uid: str) -> Service | None:
    """Give the service of a SOP class, private ones that were registered included; None when it is not known."""
    row = SOP_CLASS_SERVICES.get(sop_class_uid) or _private.get(sop_class_uid)
    return row[0] if row else None


def operations_of(sop_class_uid: str) -> frozenset[str]:
    """Give the DIMSE operations that a SOP class allows; empty when it is not known."""
    row = SOP_CLASS_SERVICES.get(sop_class_uid) or _private.get(sop_class_uid)
    return row[1] if row else frozenset()


def classes_with(operation: str) -> frozenset[str]:
    """Every SOP class that allows an operation such as `"N-CREATE"`, those of `register_private` included."""
    return frozenset(uid for uid, (_, allowed) in {**SOP_CLASS_SERVICES, **_private}.items() if operation in allowed)


def storage_classes() -> frozenset[str]:
    """Every storage SOP class: those of the standard, retired ones included, and those of `register_private`."""
    registered = {uid for uid, (service, _) in _private.items() if service is Service.STORAGE}
    return uids.STORAGE_CLASSES | registered


def register_private(sop_class_uid: str, service: Service) -> None:
    """Make a private SOP class, or one newer than the table, known to this process as one of `service`.

    It allows every operation of that service.  Registering it again as the same is harmless.

    Raises ValueError when it is not a UID (PS3.5 section 9.1) or is known already as another service's.
    """
    if len(sop_class_uid) > 64 or not _UID.fullmatch(sop_class_uid):
        raise ValueError(f"{sop_class_uid!r} is not a UID: digits and dots, no leading zeros, at most 64 characters")
    known = service_of(sop_class_uid)
    if known is not None and known is not service:
        raise ValueError(f"{uids.name_of(sop_class_uid)} is a SOP class of {known.value} already")
    if known is None:
        allowed = (operations for of, operations in SOP_CLASS_SERVICES.values() if of is service)
        _private[sop_class_uid] = (service, frozenset().union(*allowed))
