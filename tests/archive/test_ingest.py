"""What is acknowledged is there, bit for bit; what cannot be kept leaves nothing and says why."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom import datadict, dcmread
from tests.archive.making import CT, EXPLICIT, MR, data_set, parts, send

from dulcet import uids
from dulcet.archive.attributes import WANTED
from dulcet.archive.identity import Kept, identify
from dulcet.archive.index import IndexTrouble
from dulcet.archive.ingest import HELD, Stored
from dulcet.archive.objects import FileObjects
from dulcet.archive.records import Record
from dulcet.archive.sweep import adopt_all, sweep
from dulcet.archive.upkeep import Checked, check
from dulcet.errors import ReceiveError
from dulcet.part10.location import locate_path
from dulcet.part10.scanner import scan
from dulcet.services.identifiers import encode_dataset

FIRST = "objects/1.2.1/1.2.1.1/1.2.9.1.dcm"


def with_pixels(number: int, length: int) -> Any:
    made = data_set(number)
    made.add_new(0x7FE00010, "OW", os.urandom(length))
    return made


@pytest.mark.parametrize("length", [0, HELD - 600, HELD, 5 * HELD])
@pytest.mark.parametrize("piece", [1000, HELD + 1, 10 * HELD])
def test_an_object_is_kept_bit_for_bit_whatever_its_size_and_pieces(tmp_path: Path, length: int, piece: int) -> None:
    data = encode_dataset(with_pixels(1, length), EXPLICIT)[0]
    with parts(tmp_path) as archive:
        stored = send(archive.ingest, data, piece=piece, sop_class_uid=CT, sop_instance_uid="1.2.9.1")
        assert archive.files() == [FIRST]
        location = locate_path(stored)
        assert stored.path.read_bytes()[location.offset :] == data
        assert stored.kept.digest == hashlib.sha256(data).digest()
        assert stored.kept.offset == location.offset
        assert stored.new
        assert archive.index.known("1.2.9.1") == [stored.kept]
        assert dcmread(stored).PatientID == "P1"


@pytest.mark.parametrize("syntax", sorted(uids.UNCOMPRESSED))
def test_every_uncompressed_syntax_is_indexed(tmp_path: Path, syntax: str) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, with_pixels(1, 3 * HELD), syntax)
        assert archive.index.counts().patients == 1
        assert archive.index._rows("SELECT PatientName, Modality FROM study, series", []) == [("Doe^John", "CT")]


def test_a_long_header_is_read_from_the_file(tmp_path: Path) -> None:
    long = data_set(1, ImageComments="x" * 10000)
    long.add_new(0x00091001, "OB", b"x" * 2 * HELD)
    with parts(tmp_path) as archive:
        send(archive.ingest, long)
        assert archive.index._rows("SELECT InstanceNumber, length(ImageComments) FROM instance", []) == [("1", 10000)]


def test_a_header_that_is_held_up_to_the_end_of_an_element_is_read_on_in_the_file(tmp_path: Path) -> None:
    probe = data_set(1)
    probe.add_new(0x00091001, "OB", b"")
    head = encode_dataset(_up_to(probe, 0x00091001), EXPLICIT)[0]
    probe[0x00091001].value = b"x" * (HELD - len(head))
    assert len(encode_dataset(_up_to(probe, 0x00091001), EXPLICIT)[0]) == HELD
    with parts(tmp_path) as archive:
        send(archive.ingest, probe)
        assert archive.index._rows("SELECT PatientID FROM study", []) == [("P1",)]


def _up_to(dataset: Any, last: int) -> Any:
    from pydicom.dataset import Dataset

    return Dataset({tag: element for tag, element in dataset.items() if int(tag) <= last})


def test_the_same_again_is_success_without_a_rewrite(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, data_set(1))
        written = first.path.stat()
        again = send(archive.ingest, data_set(1))
        assert (again.new, again.kept) == (False, first.kept)
        assert first.path.stat().st_mtime_ns == written.st_mtime_ns
        assert first.path.stat().st_nlink == 1
        assert archive.ingest.counts == {"stored": 1, "again": 1}


def test_other_content_of_a_uid_is_kept_beside_and_the_first_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, data_set(1))
        other = send(archive.ingest, data_set(1, PatientName="Roe^Jane"))
        again = send(archive.ingest, data_set(1, PatientName="Roe^Jane"))
        assert other.path.name == f"1.2.9.1~{other.kept.digest.hex()[:16]}.dcm"
        assert (other.new, again.new) == (True, False)
        assert archive.index.known("1.2.9.1") == [first.kept, other.kept]
        assert archive.index.counts().beside == 1
        assert archive.index.counts().instances == 1
    assert "kept beside the first" in caplog.text
    assert "Roe" not in caplog.text


@pytest.mark.parametrize(
    ("announced", "values", "status", "reason"),
    [
        ({"sop_class_uid": MR}, {}, 0xA900, "SOP Class UID"),
        ({"sop_instance_uid": "1.2.3"}, {}, 0xA900, "SOP Instance UID"),
        ({}, {"StudyInstanceUID": None}, 0xC000, "Study Instance UID: the data set has none"),
        ({}, {"SeriesInstanceUID": ""}, 0xC000, "Series Instance UID: the data set has none"),
        ({}, {"SeriesInstanceUID": ["1.2.3", "1.2.4"]}, 0xC000, "Series Instance UID: several values"),
        ({}, {"StudyInstanceUID": "1.2.*"}, 0xC000, "Study Instance UID: characters that no UID has"),
        ({}, {"StudyInstanceUID": "1." * 600}, 0xC000, "Study Instance UID: more than 1024 characters"),
        ({}, {"SOPInstanceUID": "../../etc"}, 0xC000, "SOP Instance UID: characters that no UID has"),
        ({}, {"SOPInstanceUID": ".."}, 0xC000, "SOP Instance UID: characters that no UID has"),
        ({}, {"SOPInstanceUID": "1" * 65}, 0xC000, "SOP Instance UID: more than 64 characters"),
        ({}, {"SOPInstanceUID": None}, 0xC000, "SOP Instance UID: the data set has none"),
        ({}, {"SOPClassUID": None}, 0xC000, "SOP Class UID: the data set has none"),
        ({"sop_class_uid": ""}, {"SOPClassUID": ""}, 0xC000, "SOP Class UID: the data set has none"),
        ({}, {"SOPClassUID": "1.2.x"}, 0xC000, "SOP Class UID: not a UID (PS3.5 9.1)"),
    ],
)
def test_an_identity_that_is_not_sound_is_refused_with_the_reason(
    tmp_path: Path, announced: dict[str, str], values: dict[str, Any], status: int, reason: str
) -> None:
    with parts(tmp_path) as archive:
        with pytest.raises(ReceiveError) as caught:
            send(archive.ingest, data_set(1, **values), **announced)
        assert caught.value.status == status
        assert reason in str(caught.value)
        attribute = reason.partition(":")[0]
        assert caught.value.comment.startswith(attribute)
        assert len(caught.value.comment) <= 64
        assert [datadict.dictionary_description(tag) for tag in caught.value.offending] == [attribute]
        assert archive.files() == []
        assert archive.folders() == []
        assert archive.ingest.counts == {"refused": 1}


ODD = {
    "over-long": "1.2.826.0.1." + "3" * 60,
    "letters": "1.2.840.CT-7.x",
    "leading zeros": "1.02.003",
    "blank inside": "1.2. 3",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_study_and_series_uids_that_are_none_are_taken_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: str
) -> None:
    with parts(tmp_path) as archive:
        for number in (1, 2):
            send(archive.ingest, data_set(number, study=odd, series=f"{odd}.1"))
        rows = archive.index._rows("SELECT StudyInstanceUID, SeriesInstanceUID FROM study, series", [])
        assert rows == [(odd, f"{odd}.1")]
        kept = [archive.index.known(f"1.2.9.{number}")[0] for number in (1, 2)]
        (tmp_path / "index.sqlite").unlink()
    told = [record.getMessage() for record in caplog.records if getattr(record, "code", "") == "DUL413"]
    assert len(told) == 1
    assert "Study Instance UID, Series Instance UID" in told[0]
    with parts(tmp_path) as archive:  # the index is made anew
        assert adopt_all(archive.objects, archive.index).adopted == 2
        assert [archive.index.known(f"1.2.9.{number}")[0] for number in (1, 2)] == kept
        assert archive.index._rows("SELECT StudyInstanceUID, SeriesInstanceUID FROM study, series", []) == rows


def test_a_sop_instance_uid_with_letters_is_taken_and_one_beside_it_is_known_to_a_check(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1, SOPInstanceUID="1.2.x"))
        send(archive.ingest, data_set(1, SOPInstanceUID="1.2.x", PatientName="Roe^Jane"))
        assert [kept.sop_instance_uid for kept in archive.index.known("1.2.x")] == ["1.2.x", "1.2.x"]
        assert check(tmp_path, archive.index) == Checked(objects=2)
        sweep(archive.objects, archive.index)
        archive.index._connection.executescript("DELETE FROM beside; DELETE FROM instance")
        assert check(tmp_path, archive.index) == Checked(objects=2, without_row=2)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_strict_archive_refuses_uids_that_are_none(tmp_path: Path, keyword: str, odd: str) -> None:
    with parts(tmp_path, strict=True) as archive:
        with pytest.raises(ReceiveError, match=r"not a UID \(PS3.5 9.1\)|more than 64 characters") as caught:
            send(archive.ingest, data_set(1, **{keyword: odd}))
        assert caught.value.status == 0xC000
        assert [datadict.keyword_for_tag(tag) for tag in caught.value.offending] == [keyword]
        assert archive.folders() == []
        assert send(archive.ingest, data_set(1)).new


def test_an_identity_is_what_the_row_says_whatever_else_the_header_could_be_read_as(tmp_path: Path) -> None:
    padded = encode_dataset(data_set(1), EXPLICIT)[0].replace(b"1.2.9.1\0", b" 1.2.9.1")
    with parts(tmp_path) as archive:
        send(archive.ingest, padded, sop_class_uid=CT, sop_instance_uid="1.2.9.1")
        assert archive.index._rows("SELECT SOPInstanceUID FROM instance", []) == [("1.2.9.1",)]


@pytest.mark.parametrize(
    ("data", "syntax", "reason"),
    [
        (b"", EXPLICIT, "empty"),
        (b"\x08\x00\x16\x00UI\xff\x0f1.2", EXPLICIT, "does not read as DICOM"),
        (b"anything", "1.2.3.4", "transfer syntax"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, data: bytes, syntax: str, reason: str) -> None:
    with parts(tmp_path) as archive:
        with pytest.raises(ReceiveError, match=reason) as caught:
            send(archive.ingest, data, syntax, sop_class_uid=CT, sop_instance_uid="1.2.9.1")
        assert caught.value.status == 0xC000
        assert archive.files() == []


def test_who_may_not_store_is_told(tmp_path: Path) -> None:
    with parts(tmp_path, allows=lambda title: title != "SENDER") as archive:
        with pytest.raises(ReceiveError) as caught:
            send(archive.ingest, data_set(1))
        assert caught.value.status == 0x0124


def test_many_senders_of_one_instance_keep_it_once(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        found: list[Stored] = []
        threads = [threading.Thread(target=lambda: found.append(send(archive.ingest, data_set(1)))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(stored.new for stored in found) == [False] * 7 + [True]
        assert archive.index.counts().instances == 1
        assert archive.ingest._busy == {}


def test_those_who_wait_are_committed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    with parts(tmp_path) as archive:
        add = archive.index.add
        held = threading.Event()

        def slow(records: Any) -> None:
            sizes.append(len(records))
            assert held.wait(10)
            add(records)

        monkeypatch.setattr(archive.index, "add", slow)
        threads = [threading.Thread(target=send, args=(archive.ingest, data_set(number))) for number in range(9)]
        threads[0].start()
        while not sizes:
            threads[0].join(0.001)
        for thread in threads[1:]:
            thread.start()
        while archive.ingest._queue.qsize() < 8:
            threads[0].join(0.001)
        held.set()
        for thread in threads:
            thread.join()
        assert sizes == [1, 8]
        assert archive.index.counts().instances == 9


# ---------------------------------------------------------------------- trouble


def test_a_failed_fsync_discards_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:
        archive.objects.durable = True

        def fail(file: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(ReceiveError, match="Input/output error") as caught:
                send(archive.ingest, data_set(1))
        assert caught.value.status == 0xA700
        assert archive.files() == []
        assert send(archive.ingest, data_set(1)).new


@pytest.mark.parametrize("piece", [100, 1000])
def test_a_full_disk_is_a700_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    with parts(tmp_path) as archive:

        def full(file: int, *_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", full)
            with pytest.raises(ReceiveError, match="free some space") as caught:
                send(archive.ingest, with_pixels(1, 2 * HELD), piece=piece)
        assert caught.value.status == 0xA700
        assert archive.files() == []


def test_a_write_that_takes_only_some_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writev = os.writev
    with parts(tmp_path) as archive:
        monkeypatch.setattr(os, "writev", lambda file, pieces: writev(file, [bytes(pieces[0])[:100]]))
        stored = send(archive.ingest, with_pixels(1, HELD * 2))
        assert len(stored.path.read_bytes()) == stored.kept.offset + stored.kept.length


def test_a_folder_that_cannot_be_settled_is_a700(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:
        archive.objects.durable = True
        with monkeypatch.context() as patch:
            patch.setattr("dulcet.archive.objects.sync_folder", _fail)
            with pytest.raises(ReceiveError) as caught:
                send(archive.ingest, data_set(1))
        assert caught.value.status == 0xA700
        assert archive.files() == []
        assert send(archive.ingest, data_set(1)).new


def test_a_folder_that_failed_has_failed_for_all_that_was_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names in one folder, one of them waits while the other's sync fails: it is not tried again for the second."""
    with parts(tmp_path) as archive:
        objects, synced = archive.objects, list[str]()
        objects.durable = True
        first, second, third = (_placed(objects, name) for name in ("1.1", "1.2", "1.3"))
        with monkeypatch.context() as patch:
            patch.setattr("dulcet.archive.objects.sync_folder", _fail)
            with pytest.raises(ReceiveError):
                objects.settle([first])
        with pytest.raises(ReceiveError):
            objects.settle([second])
        objects.remove(third)
        with monkeypatch.context() as patch:
            patch.setattr("dulcet.archive.objects.sync_folder", synced.append)
            objects.settle([_placed(objects, "1.4"), _placed(objects, "1.5")])  # one sync covers both
        assert [path.removeprefix(f"{tmp_path}/") for path in synced] == ["objects/1/2", "objects/1", "objects"]


def test_folders_are_forgotten_once_they_are_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dulcet.archive.objects.REMEMBERED", 4)
    with parts(tmp_path) as archive:
        objects, synced = archive.objects, list[str]()
        objects.durable = True
        monkeypatch.setattr("dulcet.archive.objects.sync_folder", synced.append)
        waiting = _placed(objects, "9.9", series="8")
        for number in range(10):
            objects.settle([_placed(objects, "1.1", series=f"{number}.1")])
        assert len(objects._folders) <= 5
        synced.clear()
        objects.settle([waiting])  # it was not forgotten
        assert [path.removeprefix(f"{tmp_path}/") for path in synced] == ["objects/1/8"]


def _placed(objects: FileObjects, name: str, series: str = "2") -> str:
    unfinished = objects.begin()
    key = f"1/{series}/{name}.dcm"
    assert objects.place(unfinished, key)
    unfinished.discard()
    return key


def _fail(folder: Path) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_locked_index_is_a700_and_is_over_with_the_lock(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        other = sqlite3.connect(archive.index.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexTrouble, match="locked") as caught:
            send(archive.ingest, data_set(1))
        assert caught.value.status == 0xA700
        assert archive.files() == []
        other.execute("ROLLBACK")
        other.close()
        assert send(archive.ingest, data_set(1)).new


def test_a_doubtful_commit_leaves_its_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:

        def add(records: Any) -> None:
            raise IndexTrouble("disk I/O error", doubtful=True)

        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "add", add)
            with pytest.raises(IndexTrouble):
                send(archive.ingest, data_set(1))
        assert archive.files() == [FIRST]
        # It may come again, whatever became of the row.
        assert send(archive.ingest, data_set(1)).new


REFUSING = """
CREATE TRIGGER refusing BEFORE INSERT ON instance WHEN NEW.SOPInstanceUID = '1.2.9.2'
BEGIN SELECT RAISE(ABORT, 'not this one'); END
"""


@pytest.mark.parametrize("kind", ["of the data base", "of ours"])
def test_one_that_cannot_be_indexed_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with parts(tmp_path) as archive:
        if kind == "of ours":
            new = archive.index._writer._new_instance

            def picky(record: Any, series: int) -> None:
                if record.kept.sop_instance_uid == "1.2.9.2":
                    raise ValueError("no")
                new(record, series)

            monkeypatch.setattr(archive.index._writer, "_new_instance", picky)
        else:
            archive.index._connection.execute(REFUSING)
        archive.ingest._queue.put(None)  # hold the thread back, so that they are one group
        archive.ingest._thread.join()
        failures: list[int] = []

        def work(number: int) -> None:
            try:
                send(archive.ingest, data_set(number, study=f"1.{number}", series=f"1.{number}.1"))
            except ReceiveError as error:
                failures.append(error.status)

        threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        while archive.ingest._queue.qsize() < 3:
            threads[0].join(0.001)
        archive.ingest._thread = threading.Thread(target=archive.ingest._commit_groups)
        archive.ingest._thread.start()
        for thread in threads:
            thread.join()
        assert failures == [0xA700]
        counts = archive.index.counts()
        assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 2, 2, 2)
        assert archive.index._rows("SELECT studies, series, instances FROM patient", []) == [(2, 2, 2)]
        assert archive.files() == ["objects/1.1/1.1.1/1.2.9.1.dcm", "objects/1.3/1.3.1/1.2.9.3.dcm"]
        assert archive.folders() == ["objects/1.1", "objects/1.1/1.1.1", "objects/1.3", "objects/1.3/1.3.1"]


def test_a_disk_that_is_full_is_so_for_all_of_a_group(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        archive.index._connection.execute(f"PRAGMA max_page_count = {_pages(archive.index)}")
        long = [data_set(number, study=f"1.{number}", StudyDescription="x" * 10000) for number in range(3)]
        statuses = []
        for made in long:
            with pytest.raises(IndexTrouble, match="full") as caught:
                send(archive.ingest, made)
            statuses.append(caught.value.status)
        assert statuses == [0xA700] * 3
        assert archive.folders() == []
        with pytest.raises(IndexTrouble, match="full"):
            archive.index.add_each([_record(made) for made in long])
        assert archive.index.counts().studies == 0


def _pages(index: Any) -> int:
    return int(index._connection.execute("PRAGMA page_count").fetchone()[0])


def _record(made: Any) -> Record:
    header = scan(encode_dataset(made, EXPLICIT)[0], EXPLICIT, wanted=WANTED)
    identity = identify(header, CT, made.SOPInstanceUID)
    return Record(identity, Kept(CT, made.SOPInstanceUID, EXPLICIT, "x", 0, 0, b""), header, 0.0)


def test_folders_are_removed_while_others_place_objects_in_them(tmp_path: Path) -> None:
    """Who removes the last object of a folder never takes the place of one that is just coming in."""
    with parts(tmp_path) as archive:
        objects = archive.objects
        failed: list[BaseException] = []

        def churn(number: int) -> None:
            try:
                for turn in range(150):
                    key = _placed(objects, f"1.{number}.{turn}")
                    objects.settle([key])
                    assert objects.path(key).exists()
                    objects.remove(key)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert archive.folders() == []


def test_a_folder_that_was_made_again_is_on_stable_storage_for_all_who_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is removed and made again by others between a look at it and the link: its name has to be settled."""
    with parts(tmp_path) as archive:
        objects, synced, link = archive.objects, list[str](), os.link
        objects.durable = True
        first = _placed(objects, "1.1")
        objects.settle([first])

        def meddle(path: str, target: str) -> None:
            monkeypatch.setattr(os, "link", link)
            objects.remove(first)
            os.makedirs(os.path.dirname(target))  # by another thread, which has not come to note it
            link(path, target)

        monkeypatch.setattr(os, "link", meddle)
        second = _placed(objects, "1.2")
        monkeypatch.setattr("dulcet.archive.objects.sync_folder", synced.append)
        objects.settle([second])
        assert [path.removeprefix(f"{tmp_path}/") for path in synced] == ["objects/1/2", "objects/1", "objects"]


def test_of_several_processes_none_removes_a_folder_that_another_one_may_remember(tmp_path: Path) -> None:
    objects = FileObjects(tmp_path, durable=False, number=0)
    objects.remove(_placed(objects, "1.1"))
    kept = _placed(objects, "1.1", series="3")
    assert (tmp_path / "objects" / "1" / "2").is_dir()
    FileObjects(tmp_path, durable=False).tidy_all()  # as a rebuild does, which has the folder for itself
    assert [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "objects").rglob("*"))] == [
        "objects/1", "objects/1/3", f"objects/{kept}",
    ]  # fmt: skip


def test_what_an_earlier_failure_left_in_both_places_is_replaced(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, data_set(1))
        other = send(archive.ingest, data_set(1, PatientName="Roe"))
        for table in ("beside", "instance"):
            archive.index._connection.execute(f"DELETE FROM {table}")
        again = send(archive.ingest, data_set(1, PatientName="Roe"))
        assert again.new
        assert again.path == other.path
        assert archive.index.known("1.2.9.1") == [again.kept]
        assert len(archive.files()) == 2
        assert first.path.exists()


def test_what_is_in_the_way_and_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:
        monkeypatch.setattr(archive.objects, "place", lambda *_: False)
        with pytest.raises(ReceiveError, match="in the way") as caught:
            send(archive.ingest, data_set(1))
        assert caught.value.status == 0xA700
        assert archive.files() == []


def test_who_waits_too_long_is_told_and_the_object_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:
        add = archive.index.add
        held = threading.Event()
        done = threading.Event()

        def slow(records: Any) -> None:
            assert held.wait(10)
            add(records)
            done.set()

        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "add", slow)
            patch.setattr("dulcet.archive.ingest.PATIENCE", 0.01)
            with pytest.raises(IndexTrouble, match="did not commit within"):
                send(archive.ingest, data_set(1))
            held.set()
            assert done.wait(10)
        assert archive.files() == [FIRST]
        assert not send(archive.ingest, data_set(1)).new


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        archive.ingest._queue.put(None)  # hold the thread back
        archive.ingest._thread.join()
        sender = threading.Thread(target=send, args=(archive.ingest, data_set(1)))
        sender.start()
        while not archive.ingest._queue.qsize():
            sender.join(0.001)
        archive.ingest._thread = threading.Thread(target=archive.ingest._commit_groups)
        archive.ingest._queue.put(None)
        archive.ingest._thread.start()
        sender.join()
        assert archive.index.counts().instances == 1


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        archive.ingest.close()
        with pytest.raises(IndexTrouble, match="closing"):
            send(archive.ingest, data_set(1))
        assert archive.files() == []


def test_an_object_that_somebody_removed_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, data_set(1))
        first.path.unlink()
        assert send(archive.ingest, data_set(1)).kept == first.kept
        assert first.path.exists()
        assert archive.index.counts().instances == 1
    assert "was put back" in caplog.text


def test_an_object_that_is_in_the_way_of_one_that_comes_back_is_told(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1))
        other = send(archive.ingest, data_set(1, PatientName="Roe"))
        other.path.unlink()
        archive.index._connection.execute("UPDATE instance SET object = 'elsewhere.dcm'")
        with pytest.raises(ReceiveError, match="rebuild the index"):
            send(archive.ingest, data_set(1))
        assert archive.files() == [FIRST]


def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, data_set(1))
        first.path.unlink()
        first.path.parent.rmdir()
        first.path.parent.parent.rmdir()
        (tmp_path / "partial").rmdir()
        assert send(archive.ingest, data_set(2)).new


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_without_hard_links_the_name_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with parts(tmp_path) as archive:
        assert not archive.objects.traceable
        send(archive.ingest, data_set(1))
        other = send(archive.ingest, data_set(1, PatientName="Roe"))
        assert archive.files() == [FIRST, str(other.path.relative_to(tmp_path))]
        archive.index._connection.execute("DELETE FROM beside")
        archive.index._connection.execute("DELETE FROM instance")
        assert sweep(archive.objects, archive.index).adopted == 2


def test_a_folder_that_cannot_be_written_is_a700(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        for name in ("open", "link"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, refuse)
                with pytest.raises(ReceiveError, match="check the folder") as caught:
                    send(archive.ingest, data_set(1))
            assert caught.value.status == 0xA700
            assert archive.files() == []


# ---------------------------------------------------------------------- sweeps


def crash_after(archive: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Send an instance, and stop dead in the middle as a crash would, the unfinished name left."""
    with monkeypatch.context() as patch:
        patch.setattr("dulcet.io.durable_file.DurableFile.discard", lambda self: None)
        patch.setattr("dulcet.archive.objects.FileObjects.remove", lambda self, key: None)

        def crash(*_: Any) -> None:
            raise ReceiveError("crash")

        if method == "commit":
            patch.setattr(archive.index, "add", crash)
        elif method == "place":
            patch.setattr("dulcet.archive.objects.give_name", crash)
        if method == "discard":
            send(archive.ingest, data_set(1))
        else:
            with pytest.raises(ReceiveError):
                send(archive.ingest, data_set(1))


@pytest.mark.parametrize(
    ("method", "removed", "adopted", "finished"), [("place", 1, 0, 0), ("commit", 0, 1, 0), ("discard", 0, 0, 1)]
)
def test_what_a_crash_interrupted_is_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, removed: int, adopted: int, finished: int
) -> None:
    with parts(tmp_path) as archive:
        crash_after(archive, monkeypatch, method)
        objects = FileObjects(tmp_path, durable=True)  # as the next process has it
        swept = sweep(objects, archive.index)
        assert (swept.removed, swept.adopted, swept.finished, swept.unreadable) == (removed, adopted, finished, 0)
        assert archive.files() == ([] if removed else [FIRST])
        assert bool(archive.folders()) is not bool(removed)
        assert archive.index.counts().instances == 1 - removed
        assert sweep(objects, archive.index) == type(swept)()


def test_an_unfinished_name_whose_object_does_not_read_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with parts(tmp_path) as archive:
        (tmp_path / "partial" / "old").write_bytes(b"nothing")
        os.link(tmp_path / "partial" / "old", tmp_path / "elsewhere")
        assert sweep(archive.objects, archive.index).unreadable == 1
    assert "does not read" in caplog.text


def test_an_index_is_made_from_the_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with parts(tmp_path) as archive:
        for number in range(1, 6):
            send(archive.ingest, with_pixels(number, 100))
        beside = send(archive.ingest, data_set(1))
        before = {uid: archive.index.known(uid) for uid in ("1.2.9.1", "1.2.9.5")}
    (tmp_path / "index.sqlite").unlink()
    bad = data_set(9, StudyInstanceUID="*")
    bad.save_as(tmp_path / "objects" / "bad.dcm", implicit_vr=False, little_endian=True)
    (tmp_path / "objects" / "README").write_text("not an object")
    monkeypatch.setattr("dulcet.archive.sweep.AT_ONCE", 2)
    told: list[int] = []
    with parts(tmp_path) as archive:
        swept = adopt_all(archive.objects, archive.index, told=told.append)
        assert told == [2, 4, 6]
        assert (swept.adopted, swept.unreadable) == (6, 2)
        assert {uid: archive.index.known(uid) for uid in before} == before
        assert archive.index.known("1.2.9.1")[1] == beside.kept
        assert adopt_all(archive.objects, archive.index).adopted == 0


def test_nothing_of_the_patient_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1, PatientName="Planted^Name", PatientID="PLANTED"))
        send(archive.ingest, data_set(1, PatientName="Planted^Other", PatientID="PLANTED"))
    assert "lanted" not in caplog.text.casefold()
