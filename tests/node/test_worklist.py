"""A worklist on a node, asked as a modality asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.node.raw import GARBAGE, ask
from tests.node.serving import FACES, served

import dulcet
from dulcet import uids
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.node.worklist import Worklist
from dulcet.services import invocations
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals
from dulcet.services.worklist import worklist_query

MWL = uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND


def item(name: str, modality: str, day: str, hour: str, station: str = "CT1"):
    step = {
        "Modality": modality,
        "ScheduledStationAETitle": station,
        "ScheduledProcedureStepStartDate": day,
        "ScheduledProcedureStepStartTime": hour,
        "ScheduledProcedureStepID": f"S-{name}",
    }
    return build_identifier({"PatientName": name, "PatientID": name[0], "ScheduledProcedureStepSequence": [step]})


ITEMS = [
    item("ABEL^ANNA", "CT", "20260705", "0900"),
    item("BÖHM^BEA", "MR", "20260705", "1200", "MR1"),
    item("COOK^CARL", "CT", "20260706", "0300"),
    item("DOE^DAN", "CT", "20260707", "1700"),
    item("EVANS^EVE", "CT", "20260707", "1900"),
]


@contextmanager
def department(items: object = ITEMS, *, face: str = "threads", **options: object) -> Iterator[dulcet.Association]:
    node = dulcet.Node("RIS")
    Worklist(node, items, **options)
    with served(node, face) as address, dulcet.associate(address, contexts=proposals([MWL])) as association:
        yield association


def names(association: dulcet.Association, step: dict[str, str] | None = None, **keys: str) -> list[str]:
    return [str(found.PatientName)[0] for found in association.find(worklist_query(step, **keys), model="worklist")]


WHEN = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("step", "keys", "expected"),
    [
        ({}, {}, "ABCDE"),
        ({"Modality": "MR"}, {}, "B"),
        ({"Modality": "CT", "ScheduledProcedureStepStartDate": "20260707"}, {}, "DE"),
        ({"ScheduledProcedureStepStartDate": "20260705-20260706"}, {}, "ABC"),
        ({"ScheduledProcedureStepStartDate": "20260706-"}, {}, "CDE"),
        # from the fifth at ten to the seventh at six
        (dict(zip(WHEN, ("20260705-20260707", "1000-1800"))), {}, "BCD"),
        ({"ScheduledStationAETitle": "CT*"}, {"PatientName": "*^D*"}, "D"),
        ({}, {"PatientName": "bohm*"}, "B"),
        ({}, {"PatientID": "?"}, "ABCDE"),
        ({"Modality": "US"}, {}, ""),
    ],
)  # fmt: skip
def test_queries(step, keys, expected, face):
    with department(face=face) as association:
        assert "".join(names(association, step, **keys)) == expected


def test_an_answer_has_every_key_of_the_query():
    with department() as association:
        query = worklist_query({"Modality": "MR"})
        (found,) = association.find(query, model="worklist")
        assert set(query.keys()) - set(found.keys()) == set()
        step = found.ScheduledProcedureStepSequence[0]
        assert (step.ScheduledProcedureStepID, step.ScheduledStationName) == ("S-BÖHM^BEA", "")
        assert str(found.PatientName) == "BÖHM^BEA"


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"PregnancyStatus": 0, "PatientWeight": ""}, Status.PENDING),  # an empty one, as dcmjs-dimse sends it
        ({"PregnancyStatus": 4}, Status.PENDING_WARNING),
        ({"PatientWeight": "70"}, Status.PENDING_WARNING),
        ({"MedicalAlerts": "none"}, Status.PENDING_WARNING),
        ({"AccessionNumber": "*"}, Status.PENDING),
    ],
)
def test_return_keys_are_answered_whatever_value_they_come_with(keys, status):
    scheduled = item("ABEL^ANNA", "CT", "20260705", "0900")
    scheduled.PregnancyStatus = 1
    with department([scheduled]) as association:
        query = worklist_query({"Modality": "CT"}, **keys)
        asked = invocations.find(association._core, query, {}, level=None, model="worklist")
        responses = list(association._converse(asked))
        assert [response.status for response in responses[:-1]] == [status]
        assert responses[0].dataset().PregnancyStatus == 1


@pytest.mark.parametrize("key", ["ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"])
def test_a_star_alone_asks_for_any_day_and_hour(key):
    with department() as association:
        query = worklist_query({"Modality": "CT"})
        query.ScheduledProcedureStepSequence[0].add_new(query.ScheduledProcedureStepSequence[0][key].tag, "LO", "*")
        query.ScheduledProcedureStepSequence[0][key].VR = key[-4:].replace("Date", "DA").replace("Time", "TM")
        assert "".join(str(found.PatientName)[0] for found in association.find(query, model="worklist")) == "ACDE"


def test_items_may_come_from_a_function_and_may_change():
    asked = []

    def items(request: object) -> list[object]:
        asked.append(request.requestor.calling_ae_title)
        return ITEMS[: len(asked)]

    with department(items) as association:
        assert names(association) == ["A"]
        assert names(association) == ["A", "B"]
    assert asked == ["DULCET", "DULCET"]
    changing = list(ITEMS[:1])
    with department(changing) as association:
        changing.append(ITEMS[1])
        assert names(association) == ["A", "B"]


def test_names_as_they_are_written():
    with department(fold_names=False) as association:
        assert names(association, PatientName="abel*") == []
        assert names(association, PatientName="ABEL*") == ["A"]


def test_many_answers_and_an_early_end():
    with department([ITEMS[0]] * 500) as association:
        matches = association.find(worklist_query(), model="worklist")
        next(matches)
        matches.close()  # C-CANCEL
        assert len(names(association)) == 500


def test_bad_keys_and_failing_items():
    def broken(request):
        yield ITEMS[0]
        raise RuntimeError("no database")

    with department() as association:
        query = worklist_query()
        query.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate = "tomorrow"
        with pytest.raises(StatusError) as caught:
            list(association.find(query, model="worklist"))
        assert caught.value.status == Status.DATA_SET_MISMATCH
        named = {"AffectedSOPClassUID": MWL, "Priority": 0}
        assert ask(association, CommandField.C_FIND_RQ, MWL, GARBAGE, **named).status == Status.CANNOT_UNDERSTAND
        assert len(names(association)) == 5
    with department(broken) as association, pytest.raises(StatusError) as caught:
        list(association.find(worklist_query(), model="worklist"))
    assert caught.value.status == Status.CANNOT_UNDERSTAND
