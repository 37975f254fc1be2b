"""C-FIND, C-GET and C-MOVE with DCMTK and pynetdicom, in both roles, cancels included."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, build_role, evt
from tests.interop import peers
from tests.node.hosting import (
    CT,
    EXPLICIT,
    FILES,
    IMPLICIT,
    INSTANCES,
    MR,
    PATIENCE,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    calling,
    instance,
    match,
    serving,
    wait_until,
)

import dulcet
from dulcet import Node, Status, uids
from dulcet.node.requests import FindRequest, RetrieveRequest, StoreRequest
from dulcet.node.threads import NodeThreads
from dulcet.services.results import Retrieved
from dulcet.upper_layer.negotiation import Proposal

HOST = peers.HOST
UNCOMPRESSED = FILES[:2]
"""What every tool takes without being asked to."""
STORAGE = [Proposal(CT, (EXPLICIT, IMPLICIT), provider=True), Proposal(MR, (EXPLICIT, IMPLICIT), provider=True)]
MANY = 20_000


class Archive:
    """A node that answers queries and retrieves, and notes what it was asked."""

    def __init__(self, items: Sequence[Any] = UNCOMPRESSED) -> None:
        self.items = items
        self.asked: list[Any] = []
        self.given = 0
        self.closed = threading.Event()
        self.node = Node("ARCHIVE")
        self.node.on_find(self.find, models=["patient", "study", "patient-study-only", "worklist"])
        self.node.on_get(self.retrieve)
        self.node.on_move(self.retrieve)

    def find(self, request: FindRequest) -> Iterator[Dataset]:
        self.asked.append(request)
        return self._give(match(number) for number in range(len(self.items)))

    def retrieve(self, request: RetrieveRequest) -> Any:
        self.asked.append(request)
        return self.items if isinstance(self.items, list) else self._give(iter(self.items))

    def _give(self, items: Iterator[Any]) -> Iterator[Any]:
        try:
            for item in items:
                self.given += 1
                yield item
        finally:
            self.closed.set()


class Endless(Sequence[Any]):
    """More instances than anybody waits for."""

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        if index >= MANY:
            raise IndexError
        return instance(f"1.2.3.{index + 1}")


def keys(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("-k", pair)]


def scu(tool: str, server: NodeThreads, *options: str | Path) -> peers.Finished:
    """One of DCMTK's users of query and retrieve; to its end, with its log."""
    arguments = ["-v", "-aet", "DCMTK", "-aec", "ARCHIVE", *options, HOST, str(server.address.port)]
    return peers.run([peers.tool(tool), *arguments], timeout=PATIENCE)


def uids_in(folder: Path) -> list[str]:
    """The instances of a folder, whatever their files are called."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in found)


# --- DCMTK asks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "model", "level"),
    [
        ("-P", "patient", "PATIENT"),
        ("-S", "study", "STUDY"),
        ("-O", "patient-study-only", "STUDY"),
        ("-W", "worklist", ""),
    ],
)
def test_findscu_finds(switch: str, model: str, level: str, tmp_path: Path) -> None:
    archive = Archive()
    with serving(archive.node) as server:
        wanted = keys("StudyInstanceUID", "PatientName=DOE*", *([f"QueryRetrieveLevel={level}"] if level else []))
        scu("findscu", server, switch, *wanted, "-X", "-od", tmp_path).check()
    (request,) = archive.asked
    assert (request.model.name, request.level) == (model, level)
    assert str(request.identifier.PatientName) == "DOE*"
    answers = [dcmread(path, force=True) for path in sorted(tmp_path.glob("rsp*.dcm"))]
    assert [answer.StudyInstanceUID for answer in answers] == ["1.2.0", "1.2.1"]


def test_findscu_cancels() -> None:
    archive = Archive(Endless())
    with serving(archive.node) as server:
        finished = scu("findscu", server, "-S", *keys("QueryRetrieveLevel=STUDY"), "--cancel", "2")
        assert archive.closed.wait(PATIENCE)
    assert finished.returncode == 0
    assert "cancel" in (finished.output + finished.errors).lower()
    assert archive.given < MANY


def test_getscu_gets(tmp_path: Path) -> None:
    archive = Archive(FILES)
    with serving(archive.node) as server:
        scu("getscu", server, "-S", *keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2"), "-od", tmp_path)
    assert uids_in(tmp_path) == sorted(INSTANCES[:2]), "the compressed one has no context, and fails for itself alone"


def test_getscu_takes_what_it_prefers(tmp_path: Path) -> None:
    with serving(Archive(FILES[2:]).node) as server:
        query = keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2")
        scu("getscu", server, "-S", "+xw", *query, "-od", tmp_path).check()
    assert uids_in(tmp_path) == INSTANCES[2:]


def test_movescu_moves_to_its_own_port(tmp_path: Path) -> None:
    archive, port = Archive(), peers.free_port()
    archive.node.with_peers({"DCMTK": f"DCMTK@{HOST}:{port}"})
    query = keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2")
    with serving(archive.node) as server:
        # Not with +B: it writes into the working directory then, whatever -od says.
        scu("movescu", server, "-S", *query, "-aem", "DCMTK", "+P", str(port), "-od", tmp_path).check()
    assert uids_in(tmp_path) == sorted(INSTANCES[:2])
    assert archive.asked[0].destination == "DCMTK"


def test_movescu_moves_to_a_third_party() -> None:
    archive, received = Archive(), []
    destination = Node("DEST")

    @destination.on_store
    def keep(request: StoreRequest) -> None:
        received.append((request.sop_instance_uid, request.command.move_originator_ae_title))

    query = keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2")
    with serving(destination) as third, serving(archive.node) as server:
        archive.node.with_peers({"DEST": third.address})
        scu("movescu", server, "-S", *query, "-aem", "DEST").check()
        refused = scu("movescu", server, "-S", *query, "-aem", "NOBODY")
    assert received == [(uid, "DCMTK") for uid in INSTANCES[:2]]
    assert refused.returncode != 0
    assert "MoveDestinationUnknown" in refused.output + refused.errors


def test_movescu_cancels() -> None:
    archive, received = Archive(Endless()), []
    destination = Node("DEST")
    destination.on_store(lambda request: received.append(request.sop_instance_uid))
    query = keys("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2")
    with serving(destination) as third, serving(archive.node) as server:
        archive.node.with_peers({"DEST": third.address})
        finished = scu("movescu", server, "-S", *query, "-aem", "DEST", "--cancel", "2")
        assert archive.closed.wait(PATIENCE)
    assert "cancel" in (finished.output + finished.errors).lower()
    assert 2 <= len(received) < MANY


# --- we ask dcmqrscp -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dcmqrscp(folder: Path, destinations: dict[str, int]) -> Iterator[peers.Server]:
    """DCMTK's archive, which knows where to move to."""
    area = folder / "area"
    area.mkdir()
    configuration = folder / "dcmqrscp.cfg"
    hosts = "".join(f"{title.lower()} = ({title}, {HOST}, {port})\n" for title, port in destinations.items())

    def command(port: int) -> Sequence[str | Path]:
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nQRSCP {area} RW (500, 1024mb) ANY\nAETable END\n"
        )
        return [peers.tool("dcmqrscp"), "-c", configuration, "+B"]

    with peers._serve_on_free_port(command, "QRSCP", area, peers.TUNED) as server:
        yield server


QUERIES = (STUDY_FIND, STUDY_GET, STUDY_MOVE, uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)


def studies() -> dict[str, str]:
    """Study UID -> instance UID of what is stored."""
    headers = [dcmread(path, stop_before_pixels=True) for path in UNCOMPRESSED]
    return {str(header.StudyInstanceUID): str(header.SOPInstanceUID) for header in headers}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[peers.Server, int]]:
    """A dcmqrscp that holds two studies, and a port that it knows as ME."""
    port = peers.free_port()
    with dcmqrscp(tmp_path_factory.mktemp("dcmqrscp"), {"ME": port}) as server:
        with dulcet.associate(server.address, calling_ae_title="ME", contexts=STORAGE) as association:
            for path in UNCOMPRESSED:
                association.store(path).check()
        yield server, port


@contextlib.contextmanager
def asking(server: peers.Server, window: int = 1) -> Iterator[dulcet.Association]:
    contexts = [Proposal(uid, (EXPLICIT, IMPLICIT)) for uid in QUERIES] + STORAGE
    config = dulcet.AssociationConfig(window_invoked=window)
    with dulcet.associate(server.address, calling_ae_title="ME", contexts=contexts, config=config) as association:
        yield association


@pytest.mark.parametrize("window", [1, 8])
def test_we_find_in_dcmqrscp_and_may_leave_early(stocked: tuple[peers.Server, int], window: int) -> None:
    with asking(stocked[0], window) as association:
        found = list(association.find(level="STUDY", StudyInstanceUID="", PatientName="", PatientID=""))
        assert {match.StudyInstanceUID for match in found} == set(studies())
        matches = association.find(level="STUDY", StudyInstanceUID="")
        next(matches)
        matches.close()  # type: ignore[attr-defined]
        (one,) = association.find(level="PATIENT", PatientID=found[0].PatientID, PatientName="*")
        assert one.PatientName == found[0].PatientName
        assert list(association.find(level="STUDY", StudyInstanceUID="9.9.9")) == []


def test_we_get_from_dcmqrscp_what_a_find_gave(stocked: tuple[peers.Server, int], tmp_path: Path) -> None:
    with asking(stocked[0]) as association:
        for study in association.find(level="STUDY", StudyInstanceUID=""):
            with asking(stocked[0]) as another:
                result = another.get(study, to=tmp_path).check()
                assert (result.completed, len(result.received)) == (1, 1)
    assert uids_in(tmp_path) == sorted(studies().values())


def test_we_move_from_dcmqrscp_to_ourselves_in_one_thread(stocked: tuple[peers.Server, int], tmp_path: Path) -> None:
    server, port = stocked
    with asking(server) as association:
        study = {"level": "STUDY", "StudyInstanceUID": list(studies())}
        result = association.move(**study, destination="ME", receive=f"ME@{HOST}:{port}", to=tmp_path)
        assert (result.status, result.completed) == (Status.SUCCESS, 2)
        assert uids_in(tmp_path) == sorted(studies().values())
        unknown = association.move(**study, destination="NOBODY")
        assert unknown.status == Status.MOVE_DESTINATION_UNKNOWN
        assert len(list(association.find(level="STUDY", StudyInstanceUID=""))) == 2


# --- pynetdicom asks -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_user(server: NodeThreads, *classes: str, **options: Any) -> Iterator[Any]:
    """An association of pynetdicom's with a node of ours."""
    application = AE(ae_title="PYNETDICOM")
    for uid in classes:
        application.add_requested_context(uid, [EXPLICIT, IMPLICIT])
    association = application.associate(HOST, server.address.port, ae_title=server.address.ae_title, **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def identifier() -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel, dataset.StudyInstanceUID = "STUDY", "1.2"
    return dataset


def test_pynetdicom_finds_gets_and_moves() -> None:
    archive, received, stored = Archive(), [], []
    destination = Node("DEST")
    destination.on_store(lambda request: received.append(request.sop_instance_uid))

    def keep(event: Any) -> int:
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    options = {
        "ext_neg": [build_role(CT, scp_role=True), build_role(MR, scp_role=True)],
        "evt_handlers": [(evt.EVT_C_STORE, keep)],
    }
    with serving(destination) as third, serving(archive.node) as server:
        archive.node.with_peers({"DEST": third.address})
        with pynetdicom_user(server, STUDY_FIND, STUDY_GET, STUDY_MOVE, CT, MR, **options) as association:
            found = [(status.Status, answer) for status, answer in association.send_c_find(identifier(), STUDY_FIND)]
            got = [(status.Status, answer) for status, answer in association.send_c_get(identifier(), STUDY_GET)]
            moved = [status.Status for status, _ in association.send_c_move(identifier(), "DEST", STUDY_MOVE)]
            lost = [status.Status for status, _ in association.send_c_move(identifier(), "NOBODY", STUDY_MOVE)]
    assert [status for status, _ in found] == [0xFF00, 0xFF00, 0x0000]
    assert [answer.StudyInstanceUID for _, answer in found[:2]] == ["1.2.0", "1.2.1"]
    assert [status for status, _ in got] == [0xFF00, 0x0000]
    assert stored == received == INSTANCES[:2]
    assert moved == [0xFF00, 0x0000]
    assert lost == [0xA801]


def test_pynetdicom_is_told_of_failed_instances() -> None:
    with serving(Archive().node) as server:
        options = {"ext_neg": [build_role(CT, scp_role=True)], "evt_handlers": [(evt.EVT_C_STORE, lambda event: 0)]}
        with pynetdicom_user(server, STUDY_GET, CT, **options) as association:
            *_, (status, answer) = association.send_c_get(identifier(), STUDY_GET)
    assert status.Status == 0xB000
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (1, 1)
    assert answer.FailedSOPInstanceUIDList == INSTANCES[1]


def test_pynetdicom_cancels_a_find() -> None:
    archive = Archive(Endless())
    with serving(archive.node) as server, pynetdicom_user(server, STUDY_FIND) as association:
        statuses = []
        for status, _ in association.send_c_find(identifier(), STUDY_FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 3:
                association.send_c_cancel(7, query_model=STUDY_FIND)
        assert archive.closed.wait(PATIENCE)
    assert statuses[-1] == 0xFE00
    assert archive.given < MANY


# --- we ask pynetdicom -----------------------------------------------------------------------------------------------


class PynetdicomArchive:
    """pynetdicom as provider of query and retrieve, in threads of its own."""

    def __init__(self, destination: tuple[str, int] | None = None, matches: int = 3) -> None:
        self.destination = destination
        self.matches = matches
        self.cancelled = threading.Event()
        application = AE(ae_title="PYNETDICOM")
        for uid in (STUDY_FIND, STUDY_GET, STUDY_MOVE):
            application.add_supported_context(uid)
        for uid in (CT, MR):
            application.add_supported_context(uid, scu_role=True, scp_role=True)
            application.add_requested_context(uid, [EXPLICIT, IMPLICIT])
        handlers: Any = [
            (evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get), (evt.EVT_C_MOVE, self._move),
        ]  # fmt: skip
        self.server: Any = application.start_server((HOST, 0), block=False, evt_handlers=handlers)
        self.address = f"PYNETDICOM@{HOST}:{self.server.socket.getsockname()[1]}"

    def _find(self, event: Any) -> Iterator[Any]:
        for number in range(self.matches):
            if event.is_cancelled:
                self.cancelled.set()
                yield 0xFE00, None
                return
            self.cancelled.wait(0.001)  # its thread that reads is of this process too, and has to come to it
            yield 0xFF00, match(number)

    def _get(self, event: Any) -> Iterator[Any]:
        yield len(UNCOMPRESSED)
        for path in UNCOMPRESSED:
            yield 0xFF00, dcmread(path)

    def _move(self, event: Any) -> Iterator[Any]:
        yield self.destination or (None, None)
        if self.destination is not None:
            yield from self._get(event)

    def __enter__(self) -> PynetdicomArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()


def test_we_find_get_and_move_with_pynetdicom(tmp_path: Path) -> None:
    port = peers.free_port()
    with PynetdicomArchive((HOST, port)) as archive:
        contexts = [Proposal(uid, (EXPLICIT, IMPLICIT)) for uid in (STUDY_FIND, STUDY_GET, STUDY_MOVE)] + STORAGE
        with dulcet.associate(archive.address, contexts=contexts) as association:
            found = [found.StudyInstanceUID for found in association.find(level="STUDY", StudyInstanceUID="")]
            assert found == ["1.2.0", "1.2.1", "1.2.2"]
            study = {"level": "STUDY", "StudyInstanceUID": "1.2"}
            assert association.get(**study, to=tmp_path / "got").check().completed == 2
            here = {"destination": "ME", "receive": f"ME@{HOST}:{port}", "to": tmp_path / "moved"}
            moved: Retrieved = association.move(**study, **here)
            assert (moved.status, moved.completed) == (0, 2)
    assert uids_in(tmp_path / "got") == uids_in(tmp_path / "moved") == sorted(INSTANCES[:2])


def test_pynetdicom_knows_no_destination_and_is_left_early() -> None:
    with PynetdicomArchive(matches=MANY) as archive:
        contexts = [Proposal(uid, (EXPLICIT, IMPLICIT)) for uid in (STUDY_FIND, STUDY_MOVE)]
        with dulcet.associate(archive.address, contexts=contexts) as association:
            result = association.move(level="STUDY", StudyInstanceUID="1.2", destination="NOBODY")
            assert result.status == Status.MOVE_DESTINATION_UNKNOWN
            matches = association.find(level="STUDY", StudyInstanceUID="")
            next(matches)
            matches.close()  # type: ignore[attr-defined]
            wait_until(archive.cancelled.is_set, "pynetdicom saw the cancel")
            assert association.is_established


def test_a_node_of_ours_and_one_of_pynetdicoms_name_themselves() -> None:
    """The calling title of a C-MOVE's sub-operations is ours, also where the destination is pynetdicom."""
    seen: list[tuple[str, Any]] = []

    def keep(event: Any) -> int:
        seen.append((event.assoc.requestor.ae_title, event.request.MoveOriginatorApplicationEntityTitle))
        return 0x0000

    application = AE(ae_title="DEST")
    for uid in (CT, MR):
        application.add_supported_context(uid, [EXPLICIT, IMPLICIT])
    server: Any = application.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    archive = Archive()
    try:
        archive.node.with_peers({"DEST": f"DEST@{HOST}:{server.socket.getsockname()[1]}"})
        with serving(archive.node) as ours, calling(ours, STUDY_MOVE) as association:
            association.move(level="STUDY", StudyInstanceUID="1.2", destination="DEST").check()
    finally:
        server.shutdown()
    assert seen == [("ARCHIVE", "TESTER")] * 2
