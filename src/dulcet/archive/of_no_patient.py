"""Objects of no patient, found and retrieved by models without levels (PS3.4 annexes U, X, BB, HH, II, JJ).

Rule: they are few, and any attribute of theirs may be asked for: their files are read when somebody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from dulcet.archive.index import Index, Selection
from dulcet.archive.objects import Objects
from dulcet.dimse.status import Status
from dulcet.log_codes import coded
from dulcet.services.attributes import is_empty
from dulcet.services.matching import Matcher, single_values
from dulcet.services.models import MODELS, InformationModel
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["NAMES", "find_objects", "select_objects"]

log: Final = logging.getLogger("dulcet.archive")

NAMES: Final = tuple(name for name, model in MODELS.items() if model.objects)
"""The models that are served."""
OURS: Final = {0x00080054: "RetrieveAETitle", 0x00080056: "InstanceAvailability"}
"""What no data set says and a query may ask for (PS3.4 section C.4.1.1.3)."""
SOP_INSTANCE: Final = 0x00080018


def find_objects(
    identifier: Dataset, model: InformationModel, index: Index, objects: Objects, retrieve_ae_title: str
) -> Iterator[Dataset]:
    """The answers to a C-FIND, one for each object of the model that all keys match.

    Refused: A900H, before any answer, for a key that no value of its VR reads as; C000H, after the answers, when some
    objects could not be read.
    """
    from pydicom.dataset import Dataset

    matcher = Matcher(Dataset({element.tag: element for element in identifier if int(element.tag) not in OURS}))
    selection = index.of_no_patient(model.objects, _named(identifier))
    return _answers(identifier, matcher, selection, objects, retrieve_ae_title)


def _answers(
    identifier: Dataset, matcher: Matcher, selection: Selection, objects: Objects, retrieve_ae_title: str
) -> Iterator[Dataset]:
    from pydicom import dcmread

    tags: list[Any] = [element.tag for element in identifier]
    unreadable = 0
    for kept in selection:
        try:
            dataset = dcmread(objects.path(kept.object), specific_tags=tags)
            # What was checked when it came: a file says no more of itself than its row does.
            dataset.SOPClassUID, dataset.SOPInstanceUID = kept.sop_class_uid, kept.sop_instance_uid
            answer = matcher.answer(dataset) if matcher.matches(dataset) else None
        except Exception as error:  # pydicom raises many kinds for values that do not read
            log.error(
                "%s cannot be held against a query: %s", kept.sop_instance_uid, type(error).__name__,
                extra=coded("DUL414"),
            )  # fmt: skip
            unreadable += 1
            continue
        if answer is not None:
            answer.SOPClassUID, answer.SOPInstanceUID = kept.sop_class_uid, kept.sop_instance_uid
            values = {"RetrieveAETitle": retrieve_ae_title, "InstanceAvailability": "ONLINE"}
            for tag, keyword in OURS.items():
                if tag in identifier:
                    setattr(answer, keyword, values[keyword])
            yield answer
    if unreadable:
        raise Refused(Status.CANNOT_UNDERSTAND, f"{unreadable} objects could not be read; the others were answered")


def select_objects(identifier: Dataset, model: InformationModel, index: Index) -> Selection:
    """What a C-GET or C-MOVE selects: objects of the model by SOP Instance UID; Refused (A900H) without one."""
    uids = _named(identifier)
    if uids is None:
        raise Refused(Status.DATA_SET_MISMATCH, "SOPInstanceUID has no value", OffendingElement=(SOP_INSTANCE,))
    return index.of_no_patient(model.objects, uids)


def _named(identifier: Dataset) -> list[str] | None:
    """The SOP Instance UIDs that are asked for; None for any."""
    value = identifier.get("SOPInstanceUID")
    if is_empty(value):
        return None
    uids = [str(uid).strip(" \0") for uid in single_values(value)]
    return None if any(not uid.strip("*") for uid in uids) else uids
