"""The index as a file: migrations, damage, doubtful commits, stable series and studies, copies."""

from __future__ import annotations

import resource
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from tests.archive.making import CT, data_set, parts, send

from dulcet.archive import writing
from dulcet.archive.attributes import COLUMNS
from dulcet.archive.index import INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE, Event, IndexDamaged, IndexTrouble, Watch
from dulcet.archive.records import comparable
from dulcet.archive.sqlite import SqliteIndex
from dulcet.archive.statements import TABLES, sounds_like
from dulcet.services.names import fold_groups

ALL = Watch(frozenset((INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE)), series_quiet=10.0, study_quiet=20.0)


def test_every_attribute_has_its_column(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    for level, table in enumerate(TABLES):
        present = {row[1] for row in index._rows(f"PRAGMA table_info({table})", [])}
        assert {attribute.keyword for attribute in COLUMNS[level]} <= present
    assert index._rows("PRAGMA user_version", []) == [(2,)]
    assert index._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert index._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    index.close()


def test_an_index_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    SqliteIndex(tmp_path / "index.sqlite").close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(IndexTrouble, match="newer dulcet"):
        SqliteIndex(tmp_path / "index.sqlite")


@pytest.mark.parametrize("where", [0, 20000])
def test_a_damaged_index_is_told_with_the_cure(tmp_path: Path, where: int) -> None:
    with parts(tmp_path) as archive:
        for number in range(50):
            send(archive.ingest, data_set(number, series=f"1.2.1.{number}"))
    path = tmp_path / "index.sqlite"
    data = bytearray(path.read_bytes())
    data[where : where + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(IndexDamaged, match="dulcet index rebuild"):
        SqliteIndex(path)


def test_a_backup_that_fails_leaves_nothing_and_names_the_place(tmp_path: Path) -> None:
    """The limit of a file's size stands for a disk that is full."""
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1))
        with pytest.raises(OSError, match=r"nowhere/copy"):
            archive.index.backup(str(tmp_path / "nowhere" / "copy.sqlite"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, before[1]))
        try:
            with pytest.raises(IndexTrouble, match=r"cannot copy the index to .*copy.sqlite: "):
                archive.index.backup(str(tmp_path / "copy.sqlite"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.glob("copy*")) == []
        archive.index.backup(str(tmp_path / "copy.sqlite"))
        (tmp_path / "a folder").mkdir()
        with pytest.raises(OSError, match="a folder"):
            archive.index.backup(str(tmp_path / "a folder"))
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.sqlite"]
    assert list(tmp_path.glob("*.partial*")) == []


def test_an_index_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexTrouble):
        SqliteIndex(tmp_path / "nowhere" / "index.sqlite")


def test_a_check_that_finds_something_is_damage(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")

    class Answer:
        def execute(self, sql: str) -> Any:
            return self

        def fetchone(self) -> tuple[str]:
            return ("row 1 missing from index",)

    connection, index._connection = index._connection, Answer()  # type: ignore[assignment]
    with pytest.raises(IndexDamaged):
        index._check()
    index._connection = connection
    index.close()


@pytest.mark.parametrize(("code", "doubtful"), [(sqlite3.SQLITE_IOERR | 4 << 8, True), (sqlite3.SQLITE_FULL, False)])
def test_an_error_of_the_storage_at_the_commit_is_doubtful(tmp_path: Path, code: int, doubtful: bool) -> None:
    with parts(tmp_path) as archive:
        connection = archive.index._connection

        class Failing:
            in_transaction = True

            def execute(self, sql: str, *values: Any) -> Any:
                if sql == "COMMIT":
                    error = sqlite3.OperationalError("disk I/O error")
                    error.sqlite_errorcode = code
                    raise error
                return connection.execute(sql, *values)

        archive.index._connection = Failing()  # type: ignore[assignment]
        with pytest.raises(IndexTrouble) as caught:
            send(archive.ingest, data_set(1))
        assert caught.value.doubtful is doubtful
        archive.index._connection = connection
        assert len(archive.files()) == doubtful
        assert archive.index.counts().instances == 0
        assert send(archive.ingest, data_set(1)).new
        counts = archive.index.counts()
        assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 1, 1, 1)


def test_studies_that_are_no_longer_remembered_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "REMEMBERED", 1)
    with parts(tmp_path) as archive:
        for number in range(12):
            study = number % 3
            modality = "CT" if number < 6 else "MR"
            send(archive.ingest, data_set(
                number, study=f"1.{study}", series=f"1.{study}.{modality == 'CT':d}", Modality=modality,
            ))  # fmt: skip
        rows = archive.index._rows("SELECT ModalitiesInStudy, series, instances FROM study", [])
        assert rows == [("CT\\MR", 2, 4)] * 3
        assert archive.index._rows("SELECT studies, series, instances FROM patient", []) == [(3, 6, 12)]


def test_odd_values_do_no_harm(tmp_path: Path) -> None:
    odd = data_set(1, PatientID="A\0B", ImageComments="x" * 10240, Rows=7, Modality=None)
    item = Dataset()
    item.ScheduledProcedureStepID = "S\0" * 4
    odd.RequestAttributesSequence = [item]
    with parts(tmp_path) as archive:
        send(archive.ingest, odd)
        assert archive.index._rows("SELECT PatientID, Rows FROM study, instance", []) == [("A B", "7")]
        bad = b"".join((  # a request attributes sequence in implicit VR whose item runs over its end
            b"\x08\x00\x16\x00\x1a\x00\x00\x001.2.840.10008.5.1.4.1.1.2\0",
            b"\x08\x00\x18\x00\x08\x00\x00\x001.2.9.7\0", b"\x20\x00\x0d\x00\x06\x00\x00\x001.2.1\0",
            b"\x20\x00\x0e\x00\x08\x00\x00\x001.2.1.1\0",
            b"\x40\x00\x75\x02\x0c\x00\x00\x00\xfe\xff\x00\xe0\x99\x00\x00\x00\x01\x02\x03\x04",
        ))  # fmt: skip
        assert send(archive.ingest, bad, "1.2.840.10008.1.2", sop_class_uid=CT, sop_instance_uid="1.2.9.7").new


def test_comparing_and_folding() -> None:
    assert comparable("DA", "") is None
    assert comparable("DA", "unknown") is None
    assert comparable("DA", "-20200101") is None
    assert comparable("TM", "0001\\0002") == 60_000_000
    assert fold_groups("^=  ^\\É^B") == [(0, "e^b", ["e", "b", "", "", ""])]
    assert fold_groups("a^b^c^d^e^f")[0][2] == ["a", "b", "c", "d", "e"]
    assert sounds_like("robert^rupert", "rubin") is False
    assert sounds_like("robert^x", "rupert") is True
    assert sounds_like("ashcraft", "ashcroft") is True
    assert sounds_like("1a", "1b") is False


# ---------------------------------------------------------------------- events


def test_events_are_of_the_transaction_and_stay_until_acknowledged(tmp_path: Path) -> None:
    now = 1000.0
    with parts(tmp_path, watch=ALL, clock=lambda: now) as archive:
        index = archive.index
        send(archive.ingest, data_set(1))
        send(archive.ingest, data_set(1))
        (event,) = index.due(now, 10)
        assert (event.kind, event.attempts) == (INSTANCE_STORED, 0)
        assert event.body["object"] == "1.2.1/1.2.1.1/1.2.9.1.dcm"
        assert event.body["source"] == "SENDER"
        assert index.counts().events == 1
        assert index.counts().oldest_event == 1000.0
        index.postpone(event, 1005.0)
        assert index.due(now, 10) == []
    with parts(tmp_path, watch=ALL) as archive:
        (again,) = archive.index.due(1005.0, 10)
        assert again == Event(event.id, event.kind, event.body, 1)
        archive.index.acknowledge(again)
        assert archive.index.due(2000.0, 10) == []


def test_series_and_studies_become_stable_and_open_again(tmp_path: Path) -> None:
    now = [1000.0]
    with parts(tmp_path, watch=ALL, clock=lambda: now[0]) as archive:
        index = archive.index

        def told() -> list[tuple[str, int]]:
            found = []
            for event in index.due(now[0], 10):
                if event.kind != INSTANCE_STORED:
                    found.append((event.kind, event.body["instances"]))
                index.acknowledge(event)
            return found

        assert index.settle(now[0]) is None
        send(archive.ingest, data_set(1))
        assert index.settle(now[0]) == 1010.0
        now[0] = 1011.0
        assert index.settle(now[0]) == 1020.0
        assert told() == [(SERIES_STABLE, 1)]
        send(archive.ingest, data_set(2))
        now[0] = 1021.0
        assert index.settle(now[0]) == 1031.0
        assert told() == [(SERIES_STABLE, 2)]
        now[0] = 1031.0
        assert index.settle(now[0]) is None
        assert told() == [(STUDY_STABLE, 2)]
        assert index.settle(now[0]) is None
        assert told() == []


def test_what_nobody_watches_makes_no_events(tmp_path: Path) -> None:
    with parts(tmp_path, watch=Watch(series_quiet=0.0, study_quiet=0.0), clock=lambda: 1000.0) as archive:
        send(archive.ingest, data_set(1))
        assert archive.index.settle(1001.0) is None
        assert archive.index.due(2000.0, 10) == []
        assert archive.index._rows("SELECT study.stable, series.stable FROM study, series", []) == [(1, 1)]


def test_a_copy_is_whole_while_others_write(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1))
        archive.index._connection.execute("BEGIN IMMEDIATE")
        archive.index._connection.execute("DELETE FROM instance")
        archive.index.backup(str(tmp_path / "copy.sqlite"))
        archive.index._connection.execute("ROLLBACK")
        send(archive.ingest, data_set(2))
        copy = SqliteIndex(tmp_path / "copy.sqlite")
        assert copy.counts().instances == 1
        copy.close()
        assert not (tmp_path / "copy.sqlite.partial").exists()


def test_read_connections_are_kept_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dulcet.archive.sqlite.SPARE_READERS", 1)
    index = SqliteIndex(tmp_path / "index.sqlite")
    with index._reading() as one, index._reading() as two:
        assert one is not two
    assert len(index._spare) == 1
    index.close()
