"""The requester against a node: every call, every event, and instances that come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import CT_IMAGE, make_folder
from tests.interop.peers import free_port
from tests.node.printer import Printer

import dulcet
from dulcet import uids
from dulcet.dimse.command import Command
from dulcet.dimse.status import Status
from dulcet.errors import DimseTimeout, PeerUnreachable
from dulcet.services.print_management import grayscale_image
from dulcet.toolkit import Requester, StorageListener

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP


class Asking(Requester):
    """Writes down its events."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.events: list[tuple[Any, ...]] = []

    def on_file_sent(self, sent: dulcet.Sent) -> None:
        self.events.append(("sent", sent.path, sent.ok))

    def on_query_response(self, match: pydicom.Dataset) -> None:
        self.events.append(("match", match.PatientID))

    def on_move_response(self, status: Status, *counters: int) -> None:
        self.events.append(("move", int(status), *counters))

    def on_get_response(self, status: Status, *counters: int) -> None:
        self.events.append(("get", int(status), *counters))

    def on_store_done(self, path: Any, stored: bool) -> bool | int | None:
        self.events.append(("done", path, stored))
        return None

    def told(self, name: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == name]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "images", 3, 20_000, CT_IMAGE)


@pytest.fixture
def node(images: list[Path], tmp_path: Path) -> Iterator[Any]:
    """An archive of three images, and all the rest that may be asked for."""
    made = dulcet.Node("ARCHIVE", store_to=tmp_path / "archive")

    @made.on_find
    def find(request: Any) -> Iterator[pydicom.Dataset]:
        for number in range(3):
            match = pydicom.Dataset()
            match.PatientID = f"{request.identifier.PatientID}{number}"
            yield match

    made.on_get(lambda request: images)
    made.on_move(lambda request: images)
    made.on_store(lambda request: None)
    made.on_n_create(lambda request: None, classes=(MPPS,))
    made.on_n_set(lambda request: None, classes=(MPPS,))
    made.extra_syntaxes[MPPS] = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    with made.threads() as serving:
        made.address = serving.address
        yield made


@pytest.fixture
def requester(node: Any, tmp_path: Path) -> Iterator[Asking]:
    made = Asking(node.address, "ME", store_directory=tmp_path / "back")
    yield made
    made.close()


def test_echo(requester: Asking) -> None:
    assert requester.echo() == Status.SUCCESS


def test_files_are_sent_and_told_one_by_one(requester: Asking, images: list[Path], tmp_path: Path) -> None:
    none = tmp_path / "none.txt"
    none.write_text("no image")
    delivery = requester.send([*images, none])
    assert sorted(sent.path for sent in delivery.succeeded) == images
    assert [sent.path for sent in delivery.failed] == [none]
    assert sorted(requester.told("sent")) == sorted([*((path, True) for path in images), (none, False)])
    assert len(requester.send(images[0]).succeeded) == 1
    assert len(requester.send(pydicom.dcmread(images[0])).succeeded) == 1


def test_matches_come_one_by_one(requester: Asking) -> None:
    matches = requester.query(level="STUDY", PatientID="P")
    assert [match.PatientID for match in matches] == ["P0", "P1", "P2"]
    assert requester.told("match") == [("P0",), ("P1",), ("P2",)]


def test_get_brings_instances_back(requester: Asking, images: list[Path], tmp_path: Path) -> None:
    result = requester.get(level="STUDY", StudyInstanceUID="1.2")
    assert (result.status, result.completed, result.failed) == (0, 3, 0)
    assert [stored for _, stored in requester.told("done")] == [True] * 3
    assert all(path.is_relative_to(tmp_path / "back") for path, _ in requester.told("done"))
    assert requester.told("get")[-1] == (0, 0, 3, 0, 0)
    assert requester.told("get")[0] == (0xFF00, 2, 1, 0, 0)


def test_get_into_memory(node: Any, images: list[Path]) -> None:
    requester = Asking(node.address, "ME", in_memory=True)
    requester.get(level="STUDY", StudyInstanceUID="1.2")
    taken = [requester.take_stored_object() for _ in range(4)]
    assert taken.pop() is None
    assert all(image.read_bytes().endswith(one.data) for image, one in zip(images, taken))  # type: ignore


def test_what_the_caller_refuses_is_a_failed_sub_operation(requester: Asking) -> None:
    requester.on_store_done = lambda path, stored: False  # type: ignore[method-assign]
    result = requester.get(level="STUDY", StudyInstanceUID="1.2")
    assert (result.status, result.completed, result.failed) == (Status.CANNOT_PERFORM_SUBOPERATIONS, 0, 3)


def test_move_to_a_third_party(node: Any, requester: Asking, images: list[Path], tmp_path: Path) -> None:
    with StorageListener("THIRD", store_directory=tmp_path / "third") as third:
        node.peers["THIRD"] = dulcet.Address("THIRD", "127.0.0.1", third.port)
        asking = threading.Thread(
            target=requester.move, args=("THIRD",), kwargs={"level": "STUDY", "StudyInstanceUID": "1.2"}
        )
        asking.start()
        assert third.wait_for_connection(20)
        while third.wait_for_command(20):
            pass
        asking.join(20)
    assert requester.told("move")[-1] == (0, 0, 3, 0, 0)
    assert len([path for path in (tmp_path / "third").iterdir() if path.suffix == ".dcm"]) == 3


def test_move_and_store_in_one_thread(node: Any, requester: Asking) -> None:
    here = dulcet.Address("ME", "127.0.0.1", free_port())
    node.peers["ME"] = here
    result = requester.move_and_store(here, level="STUDY", StudyInstanceUID="1.2")
    assert (result.status, result.completed) == (0, 3)
    assert [stored for _, stored in requester.told("done")] == [True] * 3
    assert requester.told("move")[-1] == (0, 0, 3, 0, 0)


def test_move_to_nobody_is_a_status(requester: Asking) -> None:
    assert requester.move("NOBODY", level="STUDY", StudyInstanceUID="1.2").status == Status.MOVE_DESTINATION_UNKNOWN


def test_procedure_steps(requester: Asking) -> None:
    step = pydicom.Dataset()
    step.PatientID = "P"
    assert requester.mpps_create(step, "1.2.3").check().status == 0
    assert requester.mpps_set("1.2.3", step).check().status == 0
    assert requester.n_create(MPPS, "1.2.4", step).status == 0


def test_commitment_on_the_same_association_and_later(images: list[Path], caplog: Any) -> None:
    """A provider that reports at once, and one that does not."""

    class Provider(StorageListener):
        reports = True

        def on_storage_commit_request(self, request: Any, transaction_uid: str, references: Any) -> None:
            request.respond(Status.SUCCESS)
            if self.reports:
                report = pydicom.Dataset()
                report.TransactionUID = transaction_uid
                report.ReferencedSOPSequence = []
                for reference in references:
                    item = pydicom.Dataset()
                    item.ReferencedSOPClassUID = reference.sop_class_uid
                    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
                    report.ReferencedSOPSequence.append(item)
                request.association.n_event_report(
                    uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, 1, report
                )

    with Provider("ARCHIVE") as provider:
        requester = Requester(f"ARCHIVE@127.0.0.1:{provider.port}")
        results: list[Any] = []

        def ask(seconds: float) -> None:
            results.append(requester.commit(images, seconds))

        for provider.reports, seconds in ((True, 20.0), (False, 0.05)):
            asking = threading.Thread(target=ask, args=(seconds,))
            asking.start()
            assert provider.wait_for_connection(20)
            while provider.wait_for_command(20):
                pass
            asking.join(20)
    assert results[0].ok
    assert results[1] is None
    assert "failed" not in caplog.text


def test_the_two_timeouts_are_apart(node: Any) -> None:
    @node.on_echo
    def slow(request: Any) -> None:
        release.wait(20)

    release = threading.Event()
    try:
        with pytest.raises(DimseTimeout):
            Requester(node.address, association_timeout=20, command_timeout=0.1).echo()
    finally:
        release.set()
    with pytest.raises(PeerUnreachable):
        Requester(f"NOBODY@127.0.0.1:{free_port()}", association_timeout=5).echo()
    timers = Requester(node.address, association_timeout=7, command_timeout=8).config.timers
    assert (timers.connect, timers.associate, timers.release, timers.response) == (7, 7, 7, 8)


def test_other_requests_in_the_meantime_are_answered(requester: Asking) -> None:
    class Request:
        field = dulcet.CommandField.N_GET_RQ
        command = Command.make(dulcet.CommandField.N_GET_RQ, validate=False, RequestedSOPClassUID="1.2")

        def respond(self, status: int, **why: str) -> None:
            answers.append((status, why))

    answers: list[tuple[int, dict[str, str]]] = []
    requester._take(Request())  # type: ignore[arg-type]
    Request.field = dulcet.CommandField.C_ECHO_RQ
    requester._take(Request())  # type: ignore[arg-type]
    comment = "N-GET-RQ of 1.2 is not provided here"
    assert answers == [(Status.SOP_CLASS_NOT_SUPPORTED, {"ErrorComment": comment}), (Status.SUCCESS, {})]


def test_normalized_services() -> None:
    """N-GET, N-SET, N-ACTION and N-DELETE, each on an association of its own."""
    asked: list[tuple[Any, ...]] = []
    node = dulcet.Node("MODALITY")
    step = pydicom.Dataset()
    step.PatientID = "P"

    @node.on_n_get(classes=(MPPS,))
    def get(request: Any) -> pydicom.Dataset:
        asked.append((request.sop_instance_uid, request.command.attribute_identifier_list))
        return step

    node.on_n_set(lambda request: None, classes=(MPPS,))
    node.on_n_action(lambda request: asked.append((request.command.action_type_id,)), classes=(MPPS,))
    node.on_n_delete(lambda request: asked.append((request.sop_instance_uid,)), classes=(MPPS,))
    node.extra_syntaxes[MPPS] = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    with node.threads() as serving:
        requester = Requester(serving.address)
        assert requester.n_get(MPPS, "1.2.3", ["PatientID"]).check().dataset() == step
        assert requester.n_set(MPPS, "1.2.3", step).check().status == 0
        assert requester.n_action(MPPS, "1.2.3", 7, step).check().status == 0
        assert requester.n_delete(MPPS, "1.2.4").check().status == 0
    assert asked == [("1.2.3", (0x00100020,)), (7,), ("1.2.4",)]


def test_print() -> None:
    printer = Printer()
    images = [grayscale_image(bytes([level]) * 64, rows=8, columns=8) for level in (10, 20, 30)]
    with printer.node.threads() as serving:
        requester = Requester(serving.address)
        assert requester.printer_status().status == "NORMAL"
        events = requester.print(images, medium="BLUE FILM", film={"orientation": "PORTRAIT"}, timeout=20)
        requester.print(images[:1], "STANDARD\\1,1")
    assert [event.ends_job for event in events][-1]
    assert [[image.PixelData[0] for image in sheet] for sheet in printer.sheets] == [[10, 20, 30], [10]]  # type: ignore
    assert len(printer.deleted) == 2


class Parting(StorageListener):
    """Answers everything, and takes a release badly."""

    def on_echo(self) -> None:
        """Well."""

    def on_find(self, request: Any, identifier: pydicom.Dataset) -> list[pydicom.Dataset]:
        return [identifier, identifier]


@pytest.mark.parametrize("call", ["echo", "query"])
def test_what_was_answered_counts_however_the_release_goes(call: str, caplog: Any) -> None:
    with Parting("ARCHIVE") as provider:
        requester = Requester(f"ARCHIVE@127.0.0.1:{provider.port}", association_timeout=0.3)
        results: list[Any] = []

        def ask() -> None:
            results.append(requester.echo() if call == "echo" else requester.query(level="STUDY", PatientID="P"))

        asking = threading.Thread(target=ask)
        asking.start()
        assert provider.wait_for_connection(20)
        assert provider.wait_for_command(20)
        asking.join(20)  # its release is not answered: nobody waits for a command
        assert not asking.is_alive()
    assert results == [0] if call == "echo" else len(results[0]) == 2
    assert "all was answered, but: " in caplog.text


def test_an_exception_of_a_callback_aborts_and_is_the_callers(requester: Asking) -> None:
    def fail(match: pydicom.Dataset) -> None:
        raise RuntimeError("planned")

    requester.on_query_response = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="planned"):
        requester.query(level="STUDY", PatientID="P")
