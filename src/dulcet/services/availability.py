"""Instance availability notification (PS3.4 Annex R): who can get which instances where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.services.attributes import check, is_empty, read_rules
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["AVAILABILITY_PROPOSALS", "AvailableInstance", "notifications", "read_notification"]

SOP_CLASS: Final = uids.INSTANCE_AVAILABILITY_NOTIFICATION

AVAILABILITY_PROPOSALS: Final = tuple(proposals((SOP_CLASS,)))
"""What to propose for `notify_availability`."""

# PS3.4 Table R.3.2-1.
RULES: Final = read_rules("""
    ReferencedPerformedProcedureStepSequence  2
    >ReferencedSOPClassUID                    1
    >ReferencedSOPInstanceUID                 1
    >PerformedWorkitemCodeSequence            2
    StudyInstanceUID                          1
    ReferencedSeriesSequence                  1
    >SeriesInstanceUID                        1
    >ReferencedSOPSequence                    1
    >>ReferencedSOPClassUID                   1
    >>ReferencedSOPInstanceUID                1
    >>InstanceAvailability                    1  ONLINE | NEARLINE | OFFLINE | UNAVAILABLE
    >>RetrieveAETitle                         1
""")


@dataclass(frozen=True, slots=True)
class AvailableInstance:
    """One instance and where it is (PS3.4 Table R.3.2-1).

    `study_instance_uid` and `series_instance_uid` say what it belongs to, `sop_class_uid` and `sop_instance_uid` what
    it is.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    retrieve_ae_title: str
    """Retrieve AE Title (0008,0054): who gives it."""
    availability: str = "ONLINE"
    """ONLINE, NEARLINE, OFFLINE or UNAVAILABLE (PS3.3 section C.4.23.1.1)."""


def notifications(
    instances: Iterable[AvailableInstance], *, procedure_step: tuple[str, str] | None = None
) -> Iterator[Dataset]:
    """The N-CREATE data sets that say so, one for each study; `procedure_step` is class and instance UID of the step
    that the instances belong to.
    """
    studies: dict[str, dict[str, list[AvailableInstance]]] = {}
    for instance in instances:
        series = studies.setdefault(instance.study_instance_uid, {})
        series.setdefault(instance.series_instance_uid, []).append(instance)
    step: list[dict[str, Any]] = []
    if procedure_step is not None:
        of_class, of_instance = procedure_step
        step.append(
            {
                "ReferencedSOPClassUID": of_class,
                "ReferencedSOPInstanceUID": of_instance,
                "PerformedWorkitemCodeSequence": [],
            }
        )
    for study, series in studies.items():
        yield build_identifier(
            {
                "ReferencedPerformedProcedureStepSequence": step,
                "StudyInstanceUID": study,
                "ReferencedSeriesSequence": [
                    {"SeriesInstanceUID": uid, "ReferencedSOPSequence": [_item(instance) for instance in found]}
                    for uid, found in series.items()
                ],
            }
        )


def read_notification(dataset: Dataset, *, strict: bool = False) -> list[AvailableInstance]:
    """The instances of a notification; Refused (0120H, 0121H, 0106H) when it does not say what it must."""
    check(dataset, RULES, strict=strict)
    return [
        AvailableInstance(
            _text(dataset, "StudyInstanceUID"),
            _text(series, "SeriesInstanceUID"),
            _text(item, "ReferencedSOPClassUID"),
            _text(item, "ReferencedSOPInstanceUID"),
            _text(item, "RetrieveAETitle"),
            _text(item, "InstanceAvailability"),
        )
        for series in dataset.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def _item(instance: AvailableInstance) -> dict[str, str]:
    return {
        "ReferencedSOPClassUID": instance.sop_class_uid,
        "ReferencedSOPInstanceUID": instance.sop_instance_uid,
        "InstanceAvailability": instance.availability,
        "RetrieveAETitle": instance.retrieve_ae_title,
    }


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if is_empty(value) else str(value).strip(" \0")
