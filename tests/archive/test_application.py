"""The archive as a node, over loopback: who may do what; what was stored is found and comes back bit for bit."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_description, tag_for_keyword
from tests.archive.making import CT, EXPLICIT, MR, data_set, send
from tests.blocking.scripted import Message, Wire

import dulcet
from dulcet import uids
from dulcet.archive.application import RUNNING, Archive, FolderInUse, Peer, rebuild
from dulcet.archive.export import study
from dulcet.archive.index import Counts, IndexDamaged, IndexTrouble
from dulcet.blocking.commitment import request_commitment
from dulcet.part10.location import locate_path
from dulcet.services.commitment import COMMITMENT_PROPOSALS, Reference
from dulcet.services.extended import QueryOptions, RetrieveOptions
from dulcet.services.identifiers import encode_dataset
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.negotiation import associate_request
from dulcet.upper_layer.pdu import PDV, AssociateAC, PDataTF

STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
STUDY_GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "data", durable=False, allow_any=True) as made:
        yield made


@pytest.fixture
def address(archive: Archive) -> Iterator[str]:
    with archive.node("ARCHIVE").threads() as running:
        yield str(running.address)


def test_what_is_stored_is_found_and_comes_back_bit_for_bit(archive: Archive, address: str, tmp_path: Path) -> None:
    with dulcet.associate(address) as association:
        association.echo().check()
        for sent in association.store_many([data_set(number) for number in range(1, 6)]):
            sent.check()
        found = list(association.find(level="STUDY", PatientName="doe*", NumberOfStudyRelatedInstances=""))
        assert [int(answer.NumberOfStudyRelatedInstances) for answer in found] == [5]
        got = association.get(level="STUDY", StudyInstanceUID="1.2.1", to=tmp_path / "got").check()
        assert got.completed == 5
    for path in got.received:
        stored = archive.objects.path(archive.index.known(path.stem)[0].object)
        assert path.read_bytes()[locate_path(path).offset :] == stored.read_bytes()[locate_path(stored).offset :]


def test_unsupported_keys_are_pending_with_a_warning(address: str) -> None:
    with dulcet.associate(address) as association:
        association.store(data_set(1)).check()
        core = association._core
        statuses = []
        find = association._converse
        association._converse = lambda invocation: _noted(find(invocation), statuses)  # type: ignore[method-assign]
        assert len(list(association.find(level="STUDY", BurnedInAnnotation="YES"))) == 1
        assert core is association._core
    assert statuses == [0xFF01, 0x0000]


def _noted(responses: Any, statuses: list[int]) -> Iterator[Any]:
    for response in responses:
        statuses.append(int(response.status))
        yield response


def test_a_query_that_is_not_of_its_model_is_a900_with_a_comment(address: str) -> None:
    with dulcet.associate(address) as association:
        with pytest.raises(dulcet.StatusError) as caught:
            list(association.find(level="PATIENT", model="study"))
        assert caught.value.status == 0xA900
        assert "Query/Retrieve Level is unknown" in str(caught.value)


RELATIONAL = {STUDY_FIND: QueryOptions(relational=True), STUDY_GET: RetrieveOptions(relational=True)}


@pytest.mark.parametrize(
    ("strict", "extended", "answered"),
    [(False, {}, True), (False, RELATIONAL, True), (True, RELATIONAL, True), (True, {}, False)],
)
def test_queries_and_retrieves_without_the_keys_above_are_answered_unless_strict(
    archive: Archive, address: str, tmp_path: Path, strict: bool, extended: dict[str, Any], answered: bool
) -> None:
    archive.strict_queries = strict
    with dulcet.associate(address, extended=extended) as association:
        association.store(data_set(1)).check()
        queries = [
            association.find(level="IMAGE", PatientID="P1", model="study"),
            association.find(level="SERIES", model="study"),
        ]
        if answered:
            assert [len(list(query)) for query in queries] == [1, 1]
        for query in [] if answered else queries:
            with pytest.raises(dulcet.StatusError, match="StudyInstanceUID has no value") as caught:
                list(query)
            assert caught.value.status == 0xA900
        got = association.get(level="IMAGE", model="study", SOPInstanceUID="1.2.9.1", to=tmp_path / "got")
        assert (got.status, got.completed) == ((0, 1) if answered else (0xA900, 0))


def test_a_query_without_a_level_is_one_for_studies_and_a_pair_of_dates_a_range(address: str) -> None:
    with dulcet.associate(address) as association:
        association.store(data_set(1)).check()
        for span, count in (((date(2020, 1, 1), None), 1), ((None, date(2020, 1, 30)), 0), (date(2020, 1, 31), 1)):
            assert len(list(association.find(StudyDate=span))) == count
        (patient,) = association.find(model="patient", PatientName="doe*")
        assert (patient.QueryRetrieveLevel, patient.StudyInstanceUID) == ("STUDY", "1.2.1")


def test_a_query_is_cancelled_between_answers(address: str) -> None:
    with dulcet.associate(address) as association:
        for number in range(30):
            association.store(data_set(number, study=f"1.{number}", series=f"1.{number}.1")).check()
        answers = association.find(level="STUDY")
        next(iter(answers))
        answers.close()  # type: ignore[attr-defined]
        association.echo().check()


def test_what_was_stored_is_moved_to_a_known_peer(archive: Archive, tmp_path: Path) -> None:
    got = dulcet.StoreDirectory(tmp_path / "got", durability="none")
    receiver = dulcet.Node("WORKSTATION", store_to=got)
    receiver.on_store(lambda request: None)
    with receiver.threads() as workstation:
        archive.peers["WORKSTATION"] = Peer(workstation.address)
        with (
            archive.node("ARCHIVE", move_associations=2).threads() as running,
            dulcet.associate(running.address, calling_ae_title="WORKSTATION") as association,
        ):
            for number in range(8):
                association.store(data_set(number)).check()
            moved = association.move(level="STUDY", StudyInstanceUID="1.2.1", destination="WORKSTATION").check()
            assert moved.completed == 8
            unknown = association.move(level="STUDY", StudyInstanceUID="1.2.1", destination="NOBODY")
            assert unknown.status == 0xA801
    assert len(list((tmp_path / "got").glob("*.dcm"))) == 8


# ---------------------------------------------------------------------- who may do what


@pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_who_sends_a_data_set_without_a_uid_is_told_which(archive: Archive, address: str, missing: str) -> None:
    body = encode_dataset(data_set(1, **{missing: None}), EXPLICIT)[0]
    command = dulcet.Command.make(
        dulcet.CommandField.C_STORE_RQ, MessageID=1, AffectedSOPClassUID=CT, AffectedSOPInstanceUID="1.2.9.1",
        Priority=0, data_set=True,
    )  # fmt: skip
    where = dulcet.Address.parse(address)
    with socket.create_connection((where.host, where.port), timeout=20) as sock:
        wire = Wire(sock)
        wire.send(
            associate_request(
                [dulcet.Proposal(CT, (EXPLICIT,))], called="ARCHIVE", calling="SCRIPT", maximum_length=16384,
                implementation_class_uid="1.2.3", implementation_version_name="TEST",
            )
        )  # fmt: skip
        assert isinstance(wire.pdu(), AssociateAC)
        wire.send_command(1, command.encode())
        wire.send(PDataTF((PDV(1, False, True, body),)))
        answer = wire.message()
    assert isinstance(answer, Message)
    tag = tag_for_keyword(missing)
    assert (answer.command.status, answer.command.offending_element) == (0xC000, (tag,))
    assert answer.command.error_comment == f"{dictionary_description(tag)}: the data set has none"
    assert archive.counts() == Counts()
    assert list((archive.folder / "objects").rglob("*")) == []


@pytest.mark.parametrize("odd", ["1.2.826.0.1." + "3" * 60, "1.2.840.CT-7.x", "1.02.003"])
def test_odd_uids_of_study_and_series_are_found_fetched_and_moved(
    archive: Archive, address: str, tmp_path: Path, odd: str
) -> None:
    series = f"{odd}.1"
    with dulcet.associate(address) as association:
        association.store(data_set(1, study=odd, series=series)).check()
        association.store(data_set(2)).check()
        (found,) = association.find(level="STUDY", StudyInstanceUID=odd)
        assert found.StudyInstanceUID == odd
        (found,) = association.find(level="IMAGE", StudyInstanceUID=odd, SeriesInstanceUID=series)
        assert found.SOPInstanceUID == "1.2.9.1"
        got = association.get(level="SERIES", StudyInstanceUID=odd, SeriesInstanceUID=series, to=tmp_path / "got")
        assert got.check().completed == 1
    assert dcmread(got.received[0]).StudyInstanceUID == odd
    assert len(list(study(archive.index, odd))) == 1


PRIVATE = "1.3.46.670589.11.0.0.12.1"


def test_private_storage_classes_are_kept_found_and_fetched_where_they_are_allowed(tmp_path: Path) -> None:
    with Archive(tmp_path / "data", durable=False, allow_any=True, private=True) as archive:
        with archive.node("ARCHIVE").threads() as running, dulcet.associate(running.address) as association:
            for sent in association.store_many([data_set(1, SOPClassUID=PRIVATE), data_set(2)]):
                sent.check()
            above = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
            found = list(association.find(level="IMAGE", SOPClassUID="", **above))
            assert sorted(answer.SOPClassUID for answer in found) == [CT, PRIVATE]
        storing = [dulcet.Proposal(uid, (EXPLICIT,), user=False, provider=True) for uid in (CT, PRIVATE)]
        getting = dulcet.Proposal(STUDY_GET, (EXPLICIT,))
        with (
            archive.node("ARCHIVE").threads() as running,
            dulcet.associate(running.address, contexts=[getting, *storing]) as association,
        ):
            got = association.get(level="STUDY", StudyInstanceUID="1.2.1", to=tmp_path / "got").check()
            assert got.completed == 2
        # What a table knows as another service's is not taken for a storage class.
        film = dulcet.Proposal(uids.BASIC_FILM_SESSION, (EXPLICIT,))
        with (
            archive.node("ARCHIVE").threads() as running,
            dulcet.associate(running.address, contexts=[film]) as association,
        ):
            assert not association.contexts


def test_private_storage_classes_are_not_negotiated_unless_they_are_allowed(archive: Archive, address: str) -> None:
    with dulcet.associate(address, contexts=[dulcet.Proposal(PRIVATE, (EXPLICIT,))]) as association:
        assert not association.contexts


def test_a_private_object_that_was_imported_is_fetched_all_the_same_and_none_is_stored(
    archive: Archive, address: str, tmp_path: Path
) -> None:
    send(archive.ingest, data_set(1, SOPClassUID=PRIVATE))
    proposed = [dulcet.Proposal(STUDY_GET, (EXPLICIT,)), dulcet.Proposal(PRIVATE, (EXPLICIT,), provider=True)]
    with dulcet.associate(address, contexts=proposed) as association:
        assert association.get(level="STUDY", StudyInstanceUID="1.2.1", to=tmp_path / "got").check().completed == 1
        assert association.store(data_set(2, SOPClassUID=PRIVATE)).status == 0x0122
    assert archive.counts().instances == 1


def test_unknown_callers_are_refused_unless_allowed(tmp_path: Path) -> None:
    with (
        Archive(tmp_path, durable=False, peers={"KNOWN": Peer()}) as archive,
        archive.node("ARCHIVE").threads() as running,
    ):
        with pytest.raises(dulcet.AssociationRefused) as caught:
            dulcet.associate(running.address, calling_ae_title="UNKNOWN")
        assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)
        with dulcet.associate(running.address, calling_ae_title="KNOWN") as association:
            association.store(data_set(1)).check()


@pytest.mark.parametrize("allowed", ["store", "find", "get", "move", "commit"])
def test_a_peer_does_what_its_table_allows_and_nothing_else(tmp_path: Path, allowed: str) -> None:
    peer = Peer(Address("PEER", "127.0.0.1", 1), frozenset((allowed,)))
    with (
        Archive(tmp_path, durable=False, peers={"PEER": peer}) as archive,
        archive.node("ARCHIVE").threads() as running,
        dulcet.associate(running.address, calling_ae_title="PEER") as association,
    ):
        association.echo().check()
        refused = {
            "store": association.store(data_set(1)).status,
            "get": association.get(level="STUDY", StudyInstanceUID="1.2", to=tmp_path / "got").status,
            "move": association.move(level="STUDY", StudyInstanceUID="1.2", destination="PEER").status,
        }
        try:
            list(association.find(level="STUDY"))
            refused["find"] = dulcet.Status.SUCCESS
        except dulcet.StatusError as error:
            refused["find"] = dulcet.Status(error.status)
        assert {name for name, status in refused.items() if status == 0x0124} == set(refused) - {allowed}


def test_commitment_is_for_those_who_may(archive: Archive, address: str) -> None:
    archive.peers["NOT"] = Peer(operations=frozenset(("find",)))
    with dulcet.associate(address) as association:
        association.store(data_set(1)).check()
    with dulcet.associate(address, calling_ae_title="NOT", contexts=COMMITMENT_PROPOSALS) as association:
        with pytest.raises(dulcet.StatusError) as caught:
            request_commitment(association, [Reference(CT, "1.2.9.1")])
        assert caught.value.status == 0x0124
    with dulcet.associate(address, contexts=COMMITMENT_PROPOSALS) as association:
        result = request_commitment(association, [Reference(CT, "1.2.9.1"), Reference(CT, "1.2.9.2")]).wait(20)
    assert result is not None
    assert result.committed == (Reference(CT, "1.2.9.1"),)
    assert result.failed == ((Reference(CT, "1.2.9.2"), 0x0112),)


# ---------------------------------------------------------------------- commitment


def test_what_is_committed_is_there_and_whole(archive: Archive, address: str) -> None:
    with dulcet.associate(address) as association:
        association.store(data_set(1)).check()
    assert archive.committed(Reference(CT, "1.2.9.1")) is True
    assert archive.committed(Reference(MR, "1.2.9.1")) == 0x0119
    assert archive.committed(Reference(CT, "1.2.9.2")) is False
    path = archive.objects.path(archive.index.known("1.2.9.1")[0].object)
    path.write_bytes(path.read_bytes()[:-1])
    assert archive.committed(Reference(CT, "1.2.9.1")) is False
    path.unlink()
    assert archive.committed(Reference(CT, "1.2.9.1")) is False


# ---------------------------------------------------------------------- the folder


def test_a_folder_is_one_process_s_at_a_time(archive: Archive) -> None:
    with pytest.raises(FolderInUse, match="in use"):
        Archive(archive.folder)
    with pytest.raises(FolderInUse, match="in use"):
        rebuild(archive.folder)
    archive.close()
    archive.close()
    Archive(archive.folder).close()


def test_an_index_is_checked_after_a_crash_alone(tmp_path: Path) -> None:
    with Archive(tmp_path) as archive:
        archive.ingest.index.counts()
        assert (tmp_path / "lock").read_bytes() == RUNNING
    assert (tmp_path / "lock").read_bytes() == b""
    data = bytearray((tmp_path / "index.sqlite").read_bytes())
    data[8192:16384] = b"\xff" * 8192
    (tmp_path / "index.sqlite").write_bytes(data)
    (tmp_path / "lock").write_bytes(RUNNING)
    with pytest.raises(IndexDamaged):
        Archive(tmp_path)
    assert (tmp_path / "lock").read_bytes() == RUNNING  # it is still not put right
    in_the_way = tmp_path / "index.sqlite.new" / "something"
    in_the_way.mkdir(parents=True)
    with pytest.raises(OSError, match=r"sqlite\.new"):
        rebuild(tmp_path)
    assert (tmp_path / "lock").read_bytes() == RUNNING  # neither is it after a rebuild that failed
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    assert rebuild(tmp_path).adopted == 0
    Archive(tmp_path).close()


def test_an_index_is_rebuilt_and_a_lost_one_is_made_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Archive(tmp_path, durable=False, allow_any=True) as archive,
        archive.node("ARCHIVE").threads() as running,
        dulcet.associate(running.address) as association,
    ):
        for number in range(5):
            association.store(data_set(number)).check()
    told: list[int] = []
    for suffix in ("", "-wal", "-shm"):  # of an earlier try, which was killed
        (tmp_path / f"index.sqlite.new{suffix}").write_bytes(b"a part")
    Archive(tmp_path).close()
    assert list(tmp_path.glob("*.new*")) == []
    (tmp_path / "index.sqlite.new-wal").write_bytes(b"of an earlier try")
    assert rebuild(tmp_path, told.append).adopted == 5
    with Archive(tmp_path) as archive:
        assert archive.counts().instances == 5
    (tmp_path / "index.sqlite").unlink()
    with Archive(tmp_path) as archive:
        assert archive.counts().instances == 5
        assert archive.swept.adopted == 5
    assert "5 objects were indexed" in caplog.text


def test_an_index_that_was_not_finished_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start without an index that breaks off leaves none: a part of one would pass for all that there is.

    A limit on the size of files stands for a full disk, from one that takes no table to one that takes everything.
    """
    with Archive(tmp_path, durable=False, allow_any=True) as archive:
        for number in range(20):
            send(archive.ingest, data_set(number, series=f"1.2.1.{number}"))
    (tmp_path / "index.sqlite").unlink()
    monkeypatch.setattr("dulcet.archive.sweep.AT_ONCE", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    failed = 0
    for kilobytes in range(40, 2000, 40):
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
        try:
            with Archive(tmp_path, durable=False) as archive:
                assert (archive.swept.adopted, archive.counts().instances) == (20, 20)
                break
        except IndexTrouble:
            failed += 1
            assert not (tmp_path / "index.sqlite").exists()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    else:
        pytest.fail("no limit let it through")
    assert failed > 5


def test_nothing_is_acknowledged_into_an_index_that_was_removed(tmp_path: Path) -> None:
    """Its rows would go with the process: what is in the folder is not what it works with any more."""
    with Archive(tmp_path, durable=False, allow_any=True) as archive:
        send(archive.ingest, data_set(1))
        (tmp_path / "index.sqlite").rename(tmp_path / "elsewhere")
        with pytest.raises(IndexTrouble, match="removed or replaced"):
            send(archive.ingest, data_set(2))
        shutil.copy(tmp_path / "elsewhere", tmp_path / "index.sqlite")  # a backup that somebody put back
        with pytest.raises(IndexTrouble, match="removed or replaced"):
            send(archive.ingest, data_set(2))
        assert [path.name for path in (tmp_path / "objects").rglob("*.dcm")] == ["1.2.9.1.dcm"]
        (tmp_path / "elsewhere").rename(tmp_path / "index.sqlite")
        send(archive.ingest, data_set(2))


def test_python_handlers_are_told(tmp_path: Path) -> None:
    told = threading.Event()
    with (
        Archive(tmp_path, durable=False, allow_any=True, handlers=[lambda event: told.set()]) as archive,
        archive.node("ARCHIVE").threads() as running,
        dulcet.associate(running.address) as association,
    ):
        association.store(data_set(1)).check()
        assert told.wait(10)


def test_nothing_of_the_patient_is_logged(address: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    with dulcet.associate(address) as association:
        association.store(data_set(1, PatientName="Planted^A", PatientID="PLANTED")).check()
        association.store(data_set(1, PatientName="Planted^B", PatientID="PLANTED")).check()
        association.store(data_set(2, PatientName="Planted^B", StudyInstanceUID=None))
        list(association.find(level="STUDY", PatientName="PLANTED*", PatientID="PLANTED"))
        with pytest.raises(dulcet.StatusError):
            list(association.find(level="SERIES", model="study", PatientName="PLANTED*", StudyDate="PLANTED"))
        association.get(level="STUDY", StudyInstanceUID="1.2.1", to=tmp_path / "got").check()
    # What pydicom says of odd values is for the commands to switch off, which know that a server logs it.
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("dulcet")]
    assert "planted" not in "\n".join(ours).casefold()
    assert "C-FIND at STUDY" in caplog.text


def test_the_asyncio_face_runs_it_as_well(archive: Archive, tmp_path: Path) -> None:
    async def main() -> None:
        async with archive.node("ARCHIVE").start() as server:
            address = str(server.address)
            async with dulcet.aio.associate(address) as association:
                (await association.echo()).check()
                for number in range(1, 6):
                    (await association.store(data_set(number))).check()
                found = [answer async for answer in association.find(level="STUDY", PatientName="doe*")]
                assert [str(answer.StudyInstanceUID) for answer in found] == ["1.2.1"]
                got = await association.get(level="STUDY", StudyInstanceUID="1.2.1", to=tmp_path / "got")
                assert got.check().completed == 5

    asyncio.run(main())
    assert archive.counts().instances == 5


def test_compressed_instances_go_decompressed_to_who_takes_nothing_else(archive: Archive, tmp_path: Path) -> None:
    file = get_testdata_file("MR_small_RLE.dcm")
    plain = dulcet.Node("PLAIN", store_to=tmp_path / "moved", durability="none")
    plain.on_store(lambda request: None)
    plain.extra_syntaxes[MR] = (uids.EXPLICIT_VR_LITTLE_ENDIAN,)
    with plain.threads() as workstation:
        archive.peers["PLAIN"] = Peer(workstation.address)
        with archive.node("ARCHIVE").threads() as running:
            with dulcet.associate(running.address) as association:
                (sent,) = association.store_many([file])
                assert sent.transfer_syntax == uids.RLE_LOSSLESS
                study = {"StudyInstanceUID": str(dcmread(file).StudyInstanceUID)}
                assert association.move(level="STUDY", destination="PLAIN", **study).check().completed == 1
            contexts = [
                dulcet.Proposal(STUDY_GET, (uids.EXPLICIT_VR_LITTLE_ENDIAN,)),
                dulcet.Proposal(MR, (uids.IMPLICIT_VR_LITTLE_ENDIAN,), provider=True),
            ]
            with dulcet.associate(running.address, contexts=contexts) as association:
                got = association.get(level="STUDY", to=tmp_path / "got", **study).check()
                assert got.completed == 1
    for folder in ("moved", "got"):
        (path,) = (tmp_path / folder).glob("*.dcm")
        assert (dcmread(path).pixel_array == dcmread(get_testdata_file("MR_small.dcm")).pixel_array).all()


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o750, 0o640), (0o077, 0o700, 0o600)])
def test_others_of_the_machine_see_nothing_of_what_is_kept(tmp_path: Path, umask: int, folder: int, file: int) -> None:
    before = os.umask(umask)
    try:
        with Archive(tmp_path / "data", durable=False, allow_any=True) as archive:
            send(archive.ingest, data_set(1))
            archive.node("ARCHIVE")
            archive.index.backup(str(tmp_path / "data" / "copy.sqlite"))
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").rglob("*")}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == folder
    assert {path.name: oct(mode) for path, mode in found.items() if path.is_file() and mode & ~file} == {}
    assert {path.name: oct(mode) for path, mode in found.items() if path.is_dir() and mode & 0o007} == {}
