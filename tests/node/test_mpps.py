"""Procedure steps between a modality and a node on loopback, and what others hear of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.node.raw import GARBAGE, ask
from tests.node.serving import FACES, served
from tests.services.test_mpps import BEGIN, END, SERIES

import dulcet
from dulcet.blocking.mpps import get_procedure_step, perform_procedure_step, step_from_worklist
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.node.datasets import Datasets
from dulcet.node.mpps import MPPS
from dulcet.services.identifiers import build_identifier
from dulcet.services.mpps import MPPS_PROPOSALS, NOTIFICATION, SOP_CLASS
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff

WAIT = 20.0


@contextmanager
def department(
    peers: dict[str, str] | None = None, *, face: str = "threads", **options: object
) -> Iterator[tuple[dulcet.Association, MPPS]]:
    node = dulcet.Node("RIS", peers=peers)
    mpps = MPPS(node, backoff=Backoff(first=0.02, longest=0.05, attempts=100), **options)
    with served(node, face) as address, dulcet.associate(address, contexts=MPPS_PROPOSALS) as association:
        yield association, mpps


@pytest.mark.parametrize("face", FACES)
def test_a_step_is_performed(face):
    with department(face=face) as (association, mpps):
        with perform_procedure_step(association, BEGIN) as step:
            assert get_procedure_step(association, step.sop_instance_uid).PatientName == "DOE^JOHN"
            step.update(PerformedProcedureStepDescription="head, plain")
            step.add_series(**SERIES)
        kept = mpps.store[step.sop_instance_uid]
        assert kept.PerformedProcedureStepStatus == step.status == "COMPLETED"
        assert kept.PerformedProcedureStepDescription == "head, plain"
        assert kept.PerformedSeriesSequence[0].ProtocolName == "HEAD"
        assert kept.PerformedProcedureStepEndDate


def test_a_step_left_by_an_exception_is_discontinued():
    with department() as (association, mpps):
        step = perform_procedure_step(association, BEGIN)
        step.add_series(**SERIES)
        with pytest.raises(RuntimeError, match="the tube is hot"), step:
            raise RuntimeError("the tube is hot")
        assert mpps.store[step.sop_instance_uid].PerformedProcedureStepStatus == "DISCONTINUED"


def test_a_step_that_may_not_be_discontinued_does_not_hide_what_happened():
    with department() as (association, mpps):
        step = perform_procedure_step(association, BEGIN)
        del mpps.store[step.sop_instance_uid]  # the peer knows no such step any more: it refuses the end
        with pytest.raises(RuntimeError, match="the tube is hot"), step:
            raise RuntimeError("the tube is hot")
        assert step.status == "IN PROGRESS"


def test_discontinued_for_a_reason():
    reason = {
        "CodeValue": "110513",
        "CodingSchemeDesignator": "DCM",
        "CodeMeaning": "Discontinued for unspecified reason",
    }
    with department(strict_end=False) as (association, mpps):
        with perform_procedure_step(association, BEGIN) as step:
            step.discontinue(reason=reason)
        kept = mpps.store[step.sop_instance_uid]
        assert kept.PerformedProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


@pytest.mark.parametrize("face", FACES)
def test_final_is_final(face):
    with department(face=face) as (association, _), perform_procedure_step(association, BEGIN) as step:
        step.add_series(**SERIES)
        step.complete()
        response = association.n_set(SOP_CLASS, step.sop_instance_uid, build_identifier(END))
        assert response.status == Status.PROCESSING_FAILURE
        assert response.command.error_id == 0xA710
        assert response.command.error_comment == "Performed Procedure Step Object may no longer be updated"


def test_a_step_has_one_beginning():
    with department() as (association, _):
        perform_procedure_step(association, BEGIN, sop_instance_uid="1.2.3")
        with pytest.raises(StatusError) as caught:
            perform_procedure_step(association, BEGIN, sop_instance_uid="1.2.3")
        assert caught.value.status == Status.DUPLICATE_INSTANCE


def test_the_provider_makes_a_uid_where_none_is_given():
    with department() as (association, mpps):
        response = association.n_create(SOP_CLASS, None, build_identifier(BEGIN)).check()
        assert list(mpps.store) == [response.command.affected_sop_instance_uid]


def test_refusals_name_the_attributes():
    with department() as (association, _):
        response = association.n_create(SOP_CLASS, "1.2.3", build_identifier({**BEGIN, "Modality": ""}))
        assert response.status == Status.MISSING_ATTRIBUTE_VALUE
        assert response.dataset() == build_identifier({"Modality": ""})
        response = association.n_create(SOP_CLASS, "1.2.3", build_identifier({"Modality": "CT"}))
        assert response.status == Status.MISSING_ATTRIBUTE
        assert 0x00400253 in response.command.attribute_identifier_list
        perform_procedure_step(association, BEGIN, sop_instance_uid="1.2.3")
        response = association.n_set(SOP_CLASS, "1.2.3", build_identifier({"PatientID": "2"}))
        assert response.status == Status.NO_SUCH_ATTRIBUTE
        assert tuple(response.command.attribute_identifier_list) == (0x00100020,)


def test_unknown_instances_and_undecodable_data_sets():
    with department() as (association, _):
        assert association.n_set(SOP_CLASS, "1.2.9", build_identifier(END)).status == Status.NO_SUCH_INSTANCE
        with pytest.raises(StatusError) as caught:
            get_procedure_step(association, "1.2.9")
        assert caught.value.status == Status.NO_SUCH_INSTANCE
        named = {"AffectedSOPClassUID": SOP_CLASS, "AffectedSOPInstanceUID": "1.2.3"}
        response = ask(association, CommandField.N_CREATE_RQ, SOP_CLASS, GARBAGE, **named)
        assert response.status == Status.PROCESSING_FAILURE
        assert association.n_delete(SOP_CLASS, "1.2.3").status == Status.SOP_CLASS_NOT_SUPPORTED


def test_attributes_asked_for():
    with department() as (association, _):
        step = perform_procedure_step(association, BEGIN)
        assert get_procedure_step(association, step.sop_instance_uid, ("Modality",)) == build_identifier(
            {"Modality": "CT"}
        )
        response = association.n_get(SOP_CLASS, step.sop_instance_uid, ["Modality", "PatientComments"])
        assert response.status == Status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED
        assert response.dataset() == build_identifier({"Modality": "CT"})


def test_the_application_hears_and_may_refuse():
    heard = []

    def on_begin(uid, step):
        heard.append(("begin", uid))
        if step.PatientName == "NOBODY":
            raise Refused(Status.NOT_AUTHORIZED)
        if step.PatientName == "BROKEN":
            raise RuntimeError("no database")

    options = {
        "on_begin": on_begin,
        "on_change": lambda uid, step: heard.append(("change", uid)),
        "on_end": lambda uid, step: heard.append((step.PerformedProcedureStepStatus, uid)),
    }
    with department(**options) as (association, mpps):
        with perform_procedure_step(association, BEGIN, sop_instance_uid="1.1") as step:
            step.update(PerformedProcedureStepDescription="x")
            step.add_series(**SERIES)
        assert heard == [("begin", "1.1"), ("change", "1.1"), ("COMPLETED", "1.1")]
        for name, status in (("NOBODY", 0x0124), ("BROKEN", 0x0110)):
            with pytest.raises(StatusError) as caught:
                perform_procedure_step(association, {**BEGIN, "PatientName": name})
            assert caught.value.status == status
        assert list(mpps.store) == ["1.1"]


@pytest.mark.parametrize("face", FACES)
def test_others_are_notified_in_order(face):
    events = []
    node = dulcet.Node("VIEWER")

    @node.on_n_event_report(classes=[NOTIFICATION])
    def hear(request):
        events.append((request.sop_instance_uid, request.event_type, len(request.dataset)))

    with (
        node.threads() as viewer,
        department({"VIEWER": str(viewer.address)}, notify=["VIEWER"], face=face) as (association, mpps),
    ):
        with perform_procedure_step(association, BEGIN, sop_instance_uid="1.1") as step:
            step.update(PerformedProcedureStepDescription="x")
            step.add_series(**SERIES)
        mpps.delete("1.1")
        assert mpps.event_report_sender.wait(WAIT)
    assert events == [("1.1", event, 0) for event in (1, 4, 2, 5)]


def test_steps_survive_in_a_file(tmp_path):
    store = Datasets(tmp_path / "steps.db")
    with department(store=store) as (association, _):
        perform_procedure_step(association, {**BEGIN, "PatientName": "Müller"}, sop_instance_uid="1.1")
    store.disconnect()
    store = Datasets(tmp_path / "steps.db")
    with department(store=store) as (association, _):
        assert get_procedure_step(association, "1.1").PatientName == "Müller"
        association.n_set(
            SOP_CLASS, "1.1", build_identifier({**END, "PerformedProcedureStepStatus": "COMPLETED"})
        ).check()
    assert store["1.1"].PerformedProcedureStepStatus == "COMPLETED"
    store.disconnect()


def test_a_mapping_of_data_sets(tmp_path):
    datasets = Datasets(tmp_path / "a.db")
    for uid in ("9", "1", "5"):
        datasets[uid] = build_identifier({"PatientID": uid})
    datasets["1"] = build_identifier({"PatientID": "changed"})
    assert list(datasets) == ["9", "1", "5"]
    assert (len(datasets), datasets["1"].PatientID, "5" in datasets, "6" in datasets) == (3, "changed", True, False)
    del datasets["5"]
    for missing in (lambda: datasets["5"], lambda: datasets.__delitem__("5")):
        with pytest.raises(KeyError):
            missing()
    with pytest.raises(ValueError, match="no name"):
        Datasets(tmp_path / "a.db", table="a; drop table b")
    datasets.disconnect()


def test_a_step_from_a_worklist_item():
    item = build_identifier(
        {
            "PatientName": "Müller",
            "PatientID": "1",
            "StudyInstanceUID": "1.2.3",
            "AccessionNumber": "A1",
            "ScheduledProcedureStepSequence": [
                {"Modality": "MR", "ScheduledStationAETitle": "MR1", "ScheduledProcedureStepID": "S7"}
            ],
        }
    )
    begin = step_from_worklist(item, PerformedLocation="cellar")
    assert begin.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"
    assert (begin.PerformedProcedureStepID, begin.PerformedStationAETitle, begin.Modality) == ("S7", "MR1", "MR")
    assert begin.PerformedLocation == "cellar"
    with department(strict=True) as (association, mpps):  # every attribute of type 2 is there
        step = perform_procedure_step(association, begin)
        assert mpps.store[step.sop_instance_uid].PatientName == "Müller"


@pytest.mark.parametrize("series", [None, {"SeriesInstanceUID": "1.2.3.4"}], ids=["before a series", "in a series"])
def test_a_step_left_before_all_is_known_of_its_series_is_discontinued_all_the_same(series):
    """At a provider that asks for all that a final state needs (PS3.4 Table F.7.2-1)."""
    with department(strict_end=True) as (association, mpps):
        step = perform_procedure_step(association, BEGIN)
        if series:
            step.add_series(**series)
        with pytest.raises(RuntimeError, match="the tube is hot"), step:
            raise RuntimeError("the tube is hot")
        kept = mpps.store[step.sop_instance_uid]
    assert kept.PerformedProcedureStepStatus == step.status == "DISCONTINUED"
    (item,) = kept.PerformedSeriesSequence
    assert item.SeriesInstanceUID == (series or {}).get("SeriesInstanceUID", item.SeriesInstanceUID) != ""
    assert item.ProtocolName == "UNKNOWN"
    assert not item.ReferencedImageSequence
