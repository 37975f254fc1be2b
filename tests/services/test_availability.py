"""PS3.4 Annex R: notifications as they are made and read."""

from __future__ import annotations

import pytest

from dulcet.services.availability import RULES, AvailableInstance, notifications, read_notification
from dulcet.services.identifiers import build_identifier
from dulcet.services.refusals import Refused

CT = "1.2.840.10008.5.1.4.1.1.2"
INSTANCES = [
    AvailableInstance("1.1", "1.1.1", CT, "1.1.1.1", "ARCHIVE"),
    AvailableInstance("1.1", "1.1.2", CT, "1.1.2.1", "ARCHIVE", "NEARLINE"),
    AvailableInstance("1.2", "1.2.1", CT, "1.2.1.1", "OTHER", "OFFLINE"),
    AvailableInstance("1.1", "1.1.1", CT, "1.1.1.2", "ARCHIVE"),
]


def test_one_notification_for_each_study():
    made = list(notifications(INSTANCES, procedure_step=("1.2.3", "4.5.6")))
    assert [dataset.StudyInstanceUID for dataset in made] == ["1.1", "1.2"]
    assert made[0].ReferencedPerformedProcedureStepSequence[0].ReferencedSOPInstanceUID == "4.5.6"
    read = [instance for dataset in made for instance in read_notification(dataset, strict=True)]
    assert sorted(read, key=str) == sorted(INSTANCES, key=str)
    assert list(notifications([])) == []


def _drop(dataset, rules, keyword, empty):
    for rule in rules:
        if rule.keyword == keyword:
            if empty:
                dataset[keyword].value = [] if keyword.endswith("Sequence") else ""
            else:
                del dataset[keyword]
            return True
        if (
            rule.items
            and dataset.get(rule.keyword)
            and _drop(dataset[rule.keyword].value[0], rule.items, keyword, empty)
        ):
            return True
    return False


@pytest.mark.parametrize(
    "keyword",
    (
        "StudyInstanceUID ReferencedSeriesSequence SeriesInstanceUID ReferencedSOPSequence InstanceAvailability "
        "RetrieveAETitle"
    ).split(),
)
@pytest.mark.parametrize(("empty", "status"), [(False, 0x0120), (True, 0x0121)])
def test_what_must_be_said(keyword, empty, status):
    (dataset,) = notifications(INSTANCES[:1])
    assert _drop(dataset, RULES, keyword, empty)
    with pytest.raises(Refused) as caught:
        read_notification(dataset)
    assert caught.value.status == status


def test_an_availability_that_does_not_exist():
    (dataset,) = notifications([AvailableInstance("1", "2", CT, "3", "A", "SOMEWHERE")])
    with pytest.raises(Refused) as caught:
        read_notification(dataset)
    assert caught.value.status == 0x0106
    assert caught.value.dataset == build_identifier({"InstanceAvailability": "SOMEWHERE"})
