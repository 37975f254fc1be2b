"""The information models that can be queried and retrieved from (PS3.4 annex C and its kin).

Rule: one table; a model is a row, not a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dulcet import uids

__all__ = [
    "MODELS",
    "OBJECT_CLASSES",
    "InformationModel",
    "find_model",
    "model_of",
    "model_of_object",
    "retrieve_levels",
]

Verb = Literal["find", "move", "get"]


@dataclass(frozen=True, slots=True)
class InformationModel:
    """A model: the SOP class of each service on it, its levels, and the attribute that is unique at each."""

    name: str
    find: str | None
    move: str | None
    get: str | None
    levels: tuple[tuple[str, str], ...] = ()
    """(Query/Retrieve Level, keyword of the unique key), top first; empty for models without levels."""
    objects: tuple[str, ...] = ()
    """Storage classes of its objects, where these are of no patient (PS3.4 annex GG); their key is SOP Instance UID."""

    def sop_class(self, verb: Verb) -> str | None:
        """The SOP class for C-FIND, C-MOVE or C-GET."""
        uid: str | None = getattr(self, verb)
        return uid


_PATIENT: Final = ("PATIENT", "PatientID")
_STUDY: Final = ("STUDY", "StudyInstanceUID")
_SERIES: Final = ("SERIES", "SeriesInstanceUID")
_IMAGE: Final = ("IMAGE", "SOPInstanceUID")


def _model(name: str, stem: str, *levels: tuple[str, str], objects: tuple[str, ...] = ()) -> InformationModel:
    """A row from the stem that the keywords of its SOP classes share."""
    found = {verb: uids.KEYWORDS.get(stem + verb.capitalize()) for verb in ("find", "move", "get")}
    return InformationModel(name, found["find"], found["move"], found["get"], levels, objects)


_QR: Final = "QueryRetrieveInformationModel"

_ROWS: Final = (
    _model("patient", f"PatientRoot{_QR}", _PATIENT, _STUDY, _SERIES, _IMAGE),
    _model("study", f"StudyRoot{_QR}", _STUDY, _SERIES, _IMAGE),
    _model("patient-study-only", f"PatientStudyOnly{_QR}", _PATIENT, _STUDY),
    _model("composite-instance", "CompositeInstanceRootRetrieve", _STUDY, _SERIES, _IMAGE, ("FRAME", "SOPInstanceUID")),
    _model("without-bulk-data", "CompositeInstanceRetrieveWithoutBulkData", _IMAGE),
    InformationModel("worklist", uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND, None, None),
    InformationModel("general-purpose-worklist", uids.GENERAL_PURPOSE_WORKLIST_INFORMATION_MODEL_FIND, None, None),
    InformationModel("ups", uids.UNIFIED_PROCEDURE_STEP_PULL, None, None),
    InformationModel("ups-watch", uids.UNIFIED_PROCEDURE_STEP_WATCH, None, None),
    InformationModel("ups-query", uids.UNIFIED_PROCEDURE_STEP_QUERY, None, None),
    InformationModel("relevant-patient", uids.GENERAL_RELEVANT_PATIENT_INFORMATION_QUERY, None, None),
    InformationModel("relevant-patient-breast", uids.BREAST_IMAGING_RELEVANT_PATIENT_INFORMATION_QUERY, None, None),
    InformationModel("relevant-patient-cardiac", uids.CARDIAC_RELEVANT_PATIENT_INFORMATION_QUERY, None, None),
    InformationModel("product-characteristics", uids.PRODUCT_CHARACTERISTICS_QUERY, None, None),
    InformationModel("substance-approval", uids.SUBSTANCE_APPROVAL_QUERY, None, None),
    _model("hanging-protocol", "HangingProtocolInformationModel", objects=(uids.HANGING_PROTOCOL_STORAGE,)),
    _model("color-palette", f"ColorPalette{_QR}", objects=(uids.COLOR_PALETTE_STORAGE,)),
    _model(
        "generic-implant", "GenericImplantTemplateInformationModel", objects=(uids.GENERIC_IMPLANT_TEMPLATE_STORAGE,)
    ),
    _model(
        "implant-assembly", "ImplantAssemblyTemplateInformationModel", objects=(uids.IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,)
    ),
    _model("implant-group", "ImplantTemplateGroupInformationModel", objects=(uids.IMPLANT_TEMPLATE_GROUP_STORAGE,)),
    _model(
        "defined-procedure",
        "DefinedProcedureProtocolInformationModel",
        objects=(uids.CT_DEFINED_PROCEDURE_PROTOCOL_STORAGE, uids.XA_DEFINED_PROCEDURE_PROTOCOL_STORAGE),
    ),
    _model("protocol-approval", "ProtocolApprovalInformationModel", objects=(uids.PROTOCOL_APPROVAL_STORAGE,)),
    _model("inventory", "Inventory", objects=(uids.INVENTORY_STORAGE,)),
    InformationModel("repository", uids.REPOSITORY_QUERY, None, None),
)

MODELS: Final[dict[str, InformationModel]] = {row.name: row for row in _ROWS}
"""By the short name that `find(model=…)` takes."""

_BY_CLASS: Final[dict[str, tuple[InformationModel, str]]] = {
    _uid: (row, verb) for row in _ROWS for verb in ("find", "move", "get") if (_uid := getattr(row, verb)) is not None
}

_BY_OBJECT: Final = {uid: row for row in _ROWS for uid in row.objects}
OBJECT_CLASSES: Final = tuple(_BY_OBJECT)
"""Storage classes of objects that are of no patient."""


def model_of_object(sop_class_uid: str) -> InformationModel | None:
    """The model that objects of a storage class belong to; None for those of patients and for classes not known."""
    return _BY_OBJECT.get(sop_class_uid)


def model_of(sop_class_uid: str) -> InformationModel | None:
    """The model that a SOP class of C-FIND, C-MOVE or C-GET works on."""
    found = _BY_CLASS.get(sop_class_uid)
    return found[0] if found else None


def find_model(name: str) -> InformationModel:
    """The model of a name; ValueError lists the names."""
    try:
        return MODELS[name]
    except KeyError:
        raise ValueError(f"information model {name!r} does not exist; there are {', '.join(MODELS)}") from None


def retrieve_levels(level: str | None) -> tuple[str, ...]:
    """The models to try, in this order, for a query at a level: study root first unless patients are asked for."""
    if level is None:
        return ("study", "patient")
    return ("patient", "patient-study-only") if level.upper() == "PATIENT" else ("study", "patient")
