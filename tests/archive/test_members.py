"""One data folder, lent to several members: what one alone promises, all of them promise together."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archive.making import CT, MR, data_set, send
from tests.archive.test_crash import assert_consistent

from dulcet.archive.application import Archive, ArchiveWorker, FolderInUse
from dulcet.archive.index import IndexTrouble

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="members take turns on Linux alone")


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "data", durable=False, allow_any=True) as archive:
        yield archive


@pytest.fixture
def members(parent: Archive) -> Iterator[list[Archive]]:
    """Two; each with descriptors of its own, as in processes of their own."""
    lock = parent.lend()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(worker(parent.folder, number, os.dup(lock))) for number in range(2)]


def worker(folder: Path, number: int, lock: int) -> Archive:
    return Archive(folder, durable=False, allow_any=True, worker=ArchiveWorker(number, lock))


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'index.sqlite'}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_the_same_instance_at_both_at_once_is_kept_once(members: list[Archive]) -> None:
    start = threading.Barrier(8)
    trouble: list[BaseException] = []

    def work(archive: Archive) -> None:
        try:
            for number in range(30):
                start.wait(30)
                send(archive.ingest, data_set(number))
        except BaseException as error:
            trouble.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(members[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert trouble == []
    counts = members[0].ingest.counts + members[1].ingest.counts
    assert (counts["stored"], counts["again"], counts["beside"]) == (30, 210, 0)
    assert_consistent(members[0].folder, 30)
    assert rows(members[0].folder, "SELECT instances FROM study") == [(30,)]


def test_what_one_remembers_of_a_study_is_not_old(members: list[Archive]) -> None:
    """Each adds a modality and a class to a study that both have in memory."""
    one, other = members
    steps = [(one, "CT", CT), (other, "CT", CT), (other, "MR", MR), (one, "PT", CT), (one, "MR", MR), (other, "PT", CT)]
    for number, (archive, modality, sop_class) in enumerate(steps):
        send(archive.ingest, data_set(number, series=f"1.2.1.{number}", Modality=modality, SOPClassUID=sop_class))
        [(modalities, classes)] = rows(one.folder, "SELECT ModalitiesInStudy, SOPClassesInStudy FROM study")
        assert modalities == "\\".join(sorted({step[1] for step in steps[: number + 1]}))
        assert classes == "\\".join(sorted({step[2] for step in steps[: number + 1]}))
    assert rows(one.folder, "SELECT series, instances FROM study") == [(6, 6)]
    assert rows(one.folder, "SELECT studies, series, instances FROM patient") == [(1, 6, 6)]


def test_a_new_member_sweeps_what_the_one_before_it_left_and_no_living_one_s(parent: Archive) -> None:
    lock = parent.lend()
    dead, living = worker(parent.folder, 0, os.dup(lock)), worker(parent.folder, 1, os.dup(lock))
    try:
        begun = [archive.objects.begin() for archive in (dead, living)]
        for unfinished in begun:
            unfinished.write(b"half")
        # One that has its name and no row, as a kill between the two leaves it.
        send(dead.ingest, data_set(1))
        [path] = parent.folder.joinpath("objects").rglob("*.dcm")
        os.link(path, parent.folder / "partial" / f"{dead.objects._prefix}-99")
        with contextlib.closing(sqlite3.connect(parent.folder / "index.sqlite")) as connection, connection:
            connection.execute("DELETE FROM instance")
        with worker(parent.folder, 0, os.dup(lock)) as again:
            assert (again.swept.removed, again.swept.adopted) == (1, 1)
            assert [Path(name).name for name in os.listdir(parent.folder / "partial")] == [Path(begun[1].path).name]
            assert len(again.index.known("1.2.9.1")) == 1
            assert living.index.known("1.2.9.1") == again.index.known("1.2.9.1")
        begun[1].discard()
    finally:
        living.close()
        dead.close()


def test_nobody_else_gets_in_while_a_member_lives(parent: Archive) -> None:
    lock = parent.lend()
    orphan = worker(parent.folder, 0, os.dup(lock))
    parent.close()  # as if it were killed: its descriptor is gone
    with pytest.raises(FolderInUse):
        Archive(parent.folder)
    orphan.close()
    with Archive(parent.folder) as again:
        assert again.swept.removed == 0


def test_who_waits_too_long_for_an_instance_is_told_a700(
    members: list[Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dulcet.archive.instance_locks.PATIENCE", 0.05)
    one, other = members
    assert one._instance_locks is not None
    with one._instance_locks.instance("1.2.9.1"):
        with pytest.raises(IndexTrouble, match="another worker") as refused:
            send(other.ingest, data_set(1))
        assert refused.value.status == 0xA700
        send(other.ingest, data_set(2))
    send(other.ingest, data_set(1))
    assert_consistent(one.folder, 2)


def test_a_member_reads_what_another_one_wrote(members: list[Archive]) -> None:
    one, other = members
    send(one.ingest, data_set(1))
    assert [kept.sop_instance_uid for kept in other.index.known("1.2.9.1")] == ["1.2.9.1"]
    shutil.rmtree(one.folder / "objects")
    send(other.ingest, data_set(1))  # its row is there, its object is not: put back
    assert_consistent(one.folder, 1)


def test_a_file_system_without_links_is_refused(parent: Archive) -> None:
    parent.objects.traceable = False
    with pytest.raises(OSError, match="it takes Linux and a file system with links"):
        parent.lend()
    send(parent.ingest, data_set(1))  # it still serves alone
