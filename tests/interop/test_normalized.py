"""The N-services and the worklist with other implementations: pynetdicom in both roles, DCMTK where it has a tool."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from tests.interop import peers
from tests.interop.normalized_peers import (
    AE_TITLE,
    SCHEDULE,
    UPS_CLASSES,
    Recorder,
    dcmprscp,
    pynetdicom_provider,
    pynetdicom_user,
    wlmscpfs,
    worklist_items,
)
from tests.node.printer import Printer
from tests.node.serving import FACES, served
from tests.services.test_mpps import BEGIN, END
from tests.services.test_ups import CODE, DONE

import dulcet
from dulcet import uids
from dulcet.blocking.availability import notify_availability
from dulcet.blocking.commitment import Commitments, request_commitment
from dulcet.blocking.mpps import get_procedure_step, perform_procedure_step
from dulcet.blocking.printing import FilmSession, printer_status
from dulcet.blocking.ups import create_step, get_step, perform_step, request_step_cancel, subscribe
from dulcet.errors import StatusError
from dulcet.node.availability import InstanceAvailability
from dulcet.node.commitment import StorageCommitment
from dulcet.node.mpps import MPPS
from dulcet.node.ups import UnifiedProcedureSteps
from dulcet.node.worklist import Worklist
from dulcet.services.availability import AVAILABILITY_PROPOSALS, AvailableInstance, notifications
from dulcet.services.commitment import (
    COMMITMENT_PROPOSALS,
    Reference,
    Transaction,
    action_information,
    decide,
    event_information,
)
from dulcet.services.commitment import SOP_CLASS as COMMITMENT
from dulcet.services.commitment import SOP_INSTANCE as COMMITMENT_INSTANCE
from dulcet.services.identifiers import build_identifier
from dulcet.services.mpps import MPPS_PROPOSALS, NOTIFICATION, RETRIEVE
from dulcet.services.mpps import SOP_CLASS as MPPS_CLASS
from dulcet.services.print_management import (
    FILM,
    IMAGE,
    META,
    PRINT_PROPOSALS,
    PRINTER,
    PRINTER_INSTANCE,
    SESSION,
    film_box,
    film_session,
    grayscale_image,
    image_box,
    image_boxes_of,
)
from dulcet.services.retrying import Backoff
from dulcet.services.ups import EVENT, PULL, PUSH, UPS_PROPOSALS, WATCH, scheduled_step
from dulcet.services.worklist import worklist_query

CT = "1.2.840.10008.5.1.4.1.1.2"
SAFE, LOST = Reference(CT, "1.2.1"), Reference(CT, "1.2.2")
QUICK = Backoff(first=0.05, longest=0.1, attempts=100)
WAIT = 20.0
MWL = uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND
PLAN = {"ProcedureStepLabel": "plan", "ScheduledProcedureStepStartDateTime": "20260705"}


# ------------------------------------------------------------------------------ worklist

QUERIES = [
    ({}, {}, "ABCDE"),
    ({"Modality": "CT"}, {}, "ACD"),
    ({"ScheduledProcedureStepStartDate": "20260705"}, {}, "AB"),
    ({"ScheduledProcedureStepStartDate": "20260706-"}, {}, "CDE"),
    ({"ScheduledProcedureStepStartDate": "20260705-20260706"}, {}, "ABC"),
    ({"ScheduledStationAETitle": "MR1"}, {}, "B"),
    ({}, {"PatientName": "DOE*"}, "D"),
    ({}, {"PatientName": "EVANS^EVE"}, "E"),
    ({"Modality": "XA"}, {}, ""),
]


@pytest.fixture(scope="module")
def worklist_server(tmp_path_factory):
    with wlmscpfs(tmp_path_factory.mktemp("worklist")) as server:
        yield server


@pytest.mark.parametrize(("step", "keys", "expected"), QUERIES)
def test_our_queries_against_wlmscpfs(worklist_server, step, keys, expected):
    with dulcet.associate(worklist_server.address) as association:
        found = list(association.find(worklist_query(step, **keys), model="worklist"))
    assert "".join(sorted(str(item.PatientName)[0] for item in found)) == expected
    for item in found:
        _, modality, day, hour = SCHEDULE[int(item.PatientID) - 1]
        scheduled = item.ScheduledProcedureStepSequence[0]
        assert (scheduled.Modality, scheduled.ScheduledProcedureStepStartDate) == (modality, day)
        assert scheduled.ScheduledProcedureStepStartTime == hour
        assert item.AccessionNumber == f"A-{item.PatientID}"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("step", "keys", "expected"), QUERIES)
def test_findscu_against_our_worklist(step, keys, expected, face, tmp_path):
    node = dulcet.Node("RIS")
    Worklist(node, worklist_items())
    arguments = []
    for keyword in ("Modality", "ScheduledProcedureStepStartDate", "ScheduledStationAETitle"):
        arguments += ["-k", f"ScheduledProcedureStepSequence[0].{keyword}={step.get(keyword, '')}"]
    for keyword in ("PatientName", "PatientID", "AccessionNumber"):
        arguments += ["-k", f"{keyword}={keys.get(keyword, '')}"]
    with served(node, face) as address:
        peers.run(
            [
                peers.tool("findscu"),
                "-W",
                "-X",
                "-od",
                tmp_path,
                "-aec",
                "RIS",
                *arguments,
                address.host,
                str(address.port),
            ]
        ).check()
    found = [dcmread(path, force=True) for path in sorted(tmp_path.glob("*.dcm"))]
    assert "".join(str(item.PatientName)[0] for item in found) == expected
    for item in found:
        assert item.AccessionNumber == f"A-{item.PatientID}"
        assert item.ScheduledProcedureStepSequence[0].Modality == SCHEDULE[int(item.PatientID) - 1][1]


def test_findscu_cancels():
    node = dulcet.Node("RIS")
    Worklist(node, worklist_items() * 200)
    with node.threads() as serving:
        done = peers.run(
            [
                peers.tool("findscu"), "-W", "-v", "--cancel", "3", "-aec", "RIS", "-k", "PatientName",
                "-k", "ScheduledProcedureStepSequence[0].Modality=", serving.address.host, str(serving.address.port),
            ]
        ).check()  # fmt: skip
    assert "Cancel" in done.output + done.errors


def test_pynetdicom_asks_our_worklist():
    node = dulcet.Node("RIS")
    Worklist(node, worklist_items())
    with node.threads() as serving, pynetdicom_user(serving.address, [MWL]) as association:
        query = worklist_query({"ScheduledProcedureStepStartDate": "20260706-"})
        answers = [(status.Status, item) for status, item in association.send_c_find(query, MWL)]
    assert [status for status, _ in answers] == [0xFF00, 0xFF00, 0xFF00, 0x0000]
    assert [str(item.PatientName)[0] for _, item in answers[:-1]] == ["C", "D", "E"]


@pytest.mark.parametrize("face", FACES)
def test_termscu_does_no_harm(face):
    """It proposes a private SOP class to have a server stop; nobody but DCMTK's own servers provides it."""
    node = dulcet.Node("RIS")
    with served(node, face) as address:
        peers.run([peers.tool("termscu"), "-aec", "RIS", address.host, str(address.port)])
        with dulcet.associate(address) as association:
            association.echo().check()


# ------------------------------------------------------------------------------ storage commitment


def test_we_ask_pynetdicom_for_commitment_and_it_reports_on_its_own_association():
    node = dulcet.Node("MODALITY")
    commitments = Commitments(node)
    recorder = Recorder()
    with (
        node.threads() as listening,
        pynetdicom_provider(recorder, [COMMITMENT]) as address,
        dulcet.associate(address, contexts=COMMITMENT_PROPOSALS) as association,
    ):
        pending = request_commitment(association, [SAFE, LOST], results=commitments)
        ((_, (action, information)),) = recorder.asked
        assert action == 1
        transaction = Transaction(uid=str(information.TransactionUID), requestor="MODALITY", references=(SAFE, LOST))
        event, report = event_information(decide(transaction, lambda reference: reference == SAFE))
        with pynetdicom_user(listening.address, [COMMITMENT]) as reporting:
            status, _ = reporting.send_n_event_report(report, event, COMMITMENT, COMMITMENT_INSTANCE)
            assert status.Status == 0x0000
            status, _ = reporting.send_n_event_report(report, event, COMMITMENT, COMMITMENT_INSTANCE)
            assert status.Status == 0x0115  # that transaction is done with
        result = pending.wait(WAIT)
    assert (result.committed, result.failed) == ((SAFE,), ((LOST, 0x0112),))


@pytest.mark.parametrize("face", FACES)
def test_pynetdicom_asks_us_and_hears_on_the_same_association(face):
    node = dulcet.Node("ARCHIVE")
    StorageCommitment(node, lambda reference: reference == SAFE, backoff=QUICK)
    recorder = Recorder()
    with served(node, face) as address, pynetdicom_user(address, [COMMITMENT], recorder) as association:
        status, _ = association.send_n_action(
            action_information("9.9", [SAFE, LOST]), 1, COMMITMENT, COMMITMENT_INSTANCE
        )
        assert status.Status == 0x0000
        assert recorder.wait(1)
        status, _ = association.send_n_action(action_information("9.9", [SAFE]), 1, COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0x0131
    ((kind, (event, report)),) = recorder.asked
    assert (kind, event, report.TransactionUID) == ("event", 2, "9.9")
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == ["1.2.1"]
    assert [item.FailureReason for item in report.FailedSOPSequence] == [0x0112]


@pytest.mark.parametrize("reversed_roles", [True, False])
def test_pynetdicom_asks_us_and_hears_on_another_association(reversed_roles):
    """Whether it answers role selection or does not know of it."""
    recorder = Recorder()
    with pynetdicom_provider(recorder, [COMMITMENT], reversed_roles=reversed_roles) as listening:
        node = dulcet.Node("ARCHIVE", peers={AE_TITLE: listening})
        commitment = StorageCommitment(node, lambda reference: True, backoff=QUICK)
        with node.threads() as serving:
            with pynetdicom_user(serving.address, [COMMITMENT]) as association:
                status, _ = association.send_n_action(
                    action_information("9.9", [SAFE]), 1, COMMITMENT, COMMITMENT_INSTANCE
                )
                assert status.Status == 0x0000
            assert commitment.event_report_sender.wait(WAIT)
    ((kind, (event, report)),) = recorder.asked
    assert (kind, event, report.TransactionUID) == ("event", 1, "9.9")


# ------------------------------------------------------------------------------ procedure steps


def test_our_procedure_step_at_pynetdicom():
    recorder = Recorder({"get": (0x0000, build_identifier({"Modality": "CT"}))})
    with (
        pynetdicom_provider(recorder, [MPPS_CLASS, RETRIEVE]) as address,
        dulcet.associate(address, contexts=MPPS_PROPOSALS) as association,
        perform_procedure_step(association, BEGIN, sop_instance_uid="1.1") as step,
    ):
        step.update(PerformedProcedureStepDescription="x")
        assert get_procedure_step(association, "1.1", ("Modality",)).Modality == "CT"
    kinds = [kind for kind, _ in recorder.asked]
    assert kinds == ["create", "set", "get", "set"]
    assert recorder.asked[0][1][1].PatientName == "DOE^JOHN"
    assert recorder.asked[2][1] == ("1.1", [0x00080060])
    assert recorder.asked[3][1][1].PerformedProcedureStepStatus == "COMPLETED"


def test_pynetdicom_refuses_our_procedure_step():
    recorder = Recorder({"create": (0x0106, None)})
    with (
        pynetdicom_provider(recorder, [MPPS_CLASS]) as address,
        dulcet.associate(address, contexts=MPPS_PROPOSALS) as association,
        pytest.raises(StatusError) as caught,
    ):
        perform_procedure_step(association, BEGIN)
    assert caught.value.status == 0x0106


@pytest.mark.parametrize("face", FACES)
def test_pynetdicoms_procedure_step_at_ours(face):
    recorder = Recorder()
    with pynetdicom_provider(recorder, [NOTIFICATION], reversed_roles=True) as listening:
        node = dulcet.Node("RIS", peers={AE_TITLE: listening})
        mpps = MPPS(node, notify=[AE_TITLE], backoff=QUICK)
        with served(node, face) as address:
            with pynetdicom_user(address, [MPPS_CLASS, RETRIEVE]) as association:
                status, _ = association.send_n_create(build_identifier({"Modality": "CT"}), MPPS_CLASS, "1.1")
                assert status.Status == 0x0120
                status, _ = association.send_n_create(build_identifier(BEGIN), MPPS_CLASS, "1.1")
                assert status.Status == 0x0000
                status, seen = association.send_n_get([0x00080060], RETRIEVE, "1.1")
                assert (status.Status, seen.Modality) == (0x0000, "CT")
                end = build_identifier({**END, "PerformedProcedureStepStatus": "COMPLETED"})
                status, _ = association.send_n_set(end, MPPS_CLASS, "1.1")
                assert status.Status == 0x0000
                status, _ = association.send_n_set(end, MPPS_CLASS, "1.1")
                assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
            assert mpps.event_report_sender.wait(WAIT)
    assert [event for _, (event, _) in recorder.asked] == [1, 2]


# ------------------------------------------------------------------------------ unified procedure steps


@pytest.mark.parametrize("face", FACES)
def test_pynetdicoms_unified_procedure_step_at_ours(face):
    recorder = Recorder()
    with pynetdicom_provider(recorder, [EVENT], reversed_roles=True) as listening:
        node = dulcet.Node("MANAGER", peers={AE_TITLE: listening})
        steps = UnifiedProcedureSteps(node, backoff=QUICK)
        with served(node, face) as address:
            with pynetdicom_user(address, UPS_CLASSES) as association:
                receiving = build_identifier({"ReceivingAE": AE_TITLE, "DeletionLock": "FALSE"})
                act = association.send_n_action
                assert act(receiving, 3, PUSH, uids.UPS_GLOBAL_SUBSCRIPTION_INSTANCE, meta_uid=WATCH)[0].Status == 0
                status, _ = association.send_n_create(scheduled_step(**PLAN), PUSH, "1.1")
                assert status.Status == 0x0000
                query = build_identifier({"ProcedureStepState": "SCHEDULED", "ProcedureStepLabel": None})
                answers = [item for _, item in association.send_c_find(query, PULL) if item is not None]
                assert [item.ProcedureStepLabel for item in answers] == ["plan"]
                begin = build_identifier({"ProcedureStepState": "IN PROGRESS", "TransactionUID": "5.5"})
                assert act(begin, 1, PUSH, "1.1", meta_uid=PULL)[0].Status == 0x0000
                assert act(begin, 1, PUSH, "1.1", meta_uid=PULL)[0].Status == 0xC302
                complete = build_identifier({"ProcedureStepState": "COMPLETED", "TransactionUID": "5.5"})
                assert act(complete, 1, PUSH, "1.1", meta_uid=PULL)[0].Status == 0xC304
                performed = build_identifier(
                    {"UnifiedProcedureStepPerformedProcedureSequence": [DONE], "TransactionUID": "5.5"}
                )
                assert association.send_n_set(performed, PUSH, "1.1", meta_uid=PULL)[0].Status == 0x0000
                assert act(complete, 1, PUSH, "1.1", meta_uid=PULL)[0].Status == 0x0000
                status, seen = association.send_n_get([0x00741000], PUSH, "1.1", meta_uid=PULL)
                assert (status.Status, seen.ProcedureStepState) == (0x0000, "COMPLETED")
                assert act(None, 2, PUSH, "1.1", meta_uid=WATCH)[0].Status == 0xC311
            assert steps.event_report_sender.wait(WAIT)
    states = [report.ProcedureStepState for _, (event, report) in recorder.asked if event == 1]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_our_unified_procedure_step_at_pynetdicom():
    recorder = Recorder({"get": (0x0000, build_identifier({"ProcedureStepState": "SCHEDULED"}))})
    with (
        pynetdicom_provider(recorder, UPS_CLASSES) as address,
        dulcet.associate(address, contexts=UPS_PROPOSALS) as association,
    ):
        uid = create_step(association, **PLAN)
        subscribe(association, "DULCET", uid)
        assert get_step(association, uid, ["ProcedureStepState"]).ProcedureStepState == "SCHEDULED"
        with perform_step(association, uid) as step:
            step.progress(50)
            step.performed(PerformedStationNameCodeSequence=[CODE], PerformedWorkitemCodeSequence=[CODE])
        request_step_cancel(association, uid, reason="x")
    kinds = [(kind, what[0] if kind == "action" else None) for kind, what in recorder.asked]
    assert kinds == [
        ("create", None),
        ("action", 3),
        ("get", None),
        ("action", 1),
        ("set", None),
        ("set", None),
        ("action", 1),
        ("action", 2),
    ]


# ------------------------------------------------------------------------------ print


IMAGE_8 = grayscale_image(bytes(range(256)) * 16, rows=64, columns=64)


def test_we_print_on_dcmprscp(tmp_path):
    with dcmprscp(tmp_path) as server, dulcet.associate(server.address, contexts=PRINT_PROPOSALS) as association:
        assert printer_status(association).status == "NORMAL"
        with FilmSession(association, medium="BLUE FILM", destination="PROCESSOR", copies=1) as session:
            film = session.film("STANDARD\\1,2", orientation="PORTRAIT", size="8INX10IN")
            assert len(film.image_boxes) == 2
            film.place(1, IMAGE_8)
            film.place(2, grayscale_image(bytes(64 * 64 * 2), rows=64, columns=64, bits=12))
            film.print()
            with pytest.raises(StatusError):
                film.place(1, build_identifier({"Rows": 1}))
    stored = [dcmread(path) for path in (tmp_path / "database").glob("HG_*.dcm")]
    assert sorted(image.BitsStored for image in stored) == [8, 12]
    assert any(bytes(image.PixelData) == bytes(range(256)) * 16 for image in stored)


def test_we_print_on_pynetdicom():
    boxes = build_identifier(
        {"ReferencedImageBoxSequence": [{"ReferencedSOPClassUID": IMAGE, "ReferencedSOPInstanceUID": "7.7"}]}
    )
    recorder = Recorder({"create": (0x0000, boxes), "get": (0x0000, build_identifier({"PrinterStatus": "WARNING"}))})
    with (
        pynetdicom_provider(recorder, [META]) as address,
        dulcet.associate(address, contexts=PRINT_PROPOSALS) as association,
    ):
        assert printer_status(association).status == "WARNING"
        with FilmSession(association) as session:
            film = session.film()
            film.place(1, IMAGE_8)
            film.print()
            film.delete()
    assert [kind for kind, _ in recorder.asked] == ["get", "create", "create", "set", "action", "delete", "delete"]
    assert recorder.asked[3][1][0] == "7.7"
    assert recorder.asked[3][1][1].BasicGrayscaleImageSequence[0].PixelData == bytes(range(256)) * 16


@pytest.mark.parametrize("face", FACES)
def test_pynetdicom_prints_on_a_node(face):
    printer, recorder = Printer(), Recorder()
    with (
        served(printer.node, face) as address,
        pynetdicom_user(address, [META, uids.PRINT_JOB], recorder) as association,
    ):
        status, seen = association.send_n_get([0x21100010], PRINTER, PRINTER_INSTANCE, meta_uid=META)
        assert (status.Status, seen.PrinterStatus) == (0x0000, "NORMAL")
        assert association.send_n_create(film_session(), SESSION, "1.1", meta_uid=META)[0].Status == 0x0000
        status, film = association.send_n_create(film_box("1.1"), FILM, "1.2", meta_uid=META)
        (box,) = image_boxes_of(film)
        status, _ = association.send_n_set(image_box(1, IMAGE_8), IMAGE, box, meta_uid=META)
        assert status.Status == 0x0000
        status, _ = association.send_n_action(None, 1, FILM, "1.2", meta_uid=META)
        assert status.Status == 0x0000
        assert recorder.wait(3)
        assert association.send_n_delete(SESSION, "1.1", meta_uid=META).Status == 0x0000
    assert [event for _, (event, _) in recorder.asked] == [2, 2, 3]
    assert printer.sheets[0][0].PixelData == bytes(range(256)) * 16


# ------------------------------------------------------------------------------ availability


def test_availability_both_ways():
    instance = AvailableInstance("1.1", "1.1.1", CT, "1.1.1.1", "ARCHIVE")
    recorder, heard = Recorder(), []
    sop_class = uids.INSTANCE_AVAILABILITY_NOTIFICATION
    with (
        pynetdicom_provider(recorder, [sop_class]) as address,
        dulcet.associate(address, contexts=AVAILABILITY_PROPOSALS) as association,
    ):
        notify_availability(association, [instance])
    assert recorder.asked[0][1][1].StudyInstanceUID == "1.1"
    node = dulcet.Node("RIS")
    InstanceAvailability(node, heard.extend)
    with node.threads() as serving, pynetdicom_user(serving.address, [sop_class]) as association:
        status, _ = association.send_n_create(next(notifications([instance])), sop_class, "2.2")
        assert status.Status == 0x0000
    assert heard == [instance]
