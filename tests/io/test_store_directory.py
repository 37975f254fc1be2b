"""What a folder keeps: whole data sets, bit for bit, under names made here; and in which order it becomes durable."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import CT_IMAGE, DEFLATED, EXPLICIT, data_set_bytes, file_meta, read_instance, survey
from tests.io.arriving import UID, data_set, files_below, keep

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io import store_directory
from dulcet.io.store_directory import StoreDirectory

PATIENT_NAME, STUDY = 0x00100010, 0x0020000D
PLANTED = b"Planted^Name"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StoreDirectory]:
    with StoreDirectory(tmp_path / "kept") as made:
        yield made


def refused(directory: StoreDirectory, *arguments: Any, **options: Any) -> ReceiveError:
    """How an instance was refused; and nothing of it is left."""
    before = files_below(directory.path)
    with pytest.raises(ReceiveError) as caught:
        keep(directory, *arguments, **options)
    assert files_below(directory.path) == before
    return caught.value


# ---------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_a_data_set_is_kept_bit_for_bit_behind_our_own_file_meta(directory: StoreDirectory, piece: int) -> None:
    data = data_set(bulk=3000)
    path = keep(directory, data, piece=piece)
    assert path == directory.path / f"{UID}.dcm"
    assert data_set_bytes(path) == data
    raw = path.read_bytes()
    assert raw[:132] == bytes(128) + b"DICM"
    meta = {tag: element.text(raw) for tag, element in file_meta(raw)[0].items() if tag not in (0x00020000, 0x00020001)}
    assert meta[0x00020002] == CT_IMAGE
    assert meta[0x00020003] == UID
    assert meta[0x00020010] == EXPLICIT
    assert meta[0x00020016] == "SENDER"
    assert pydicom.dcmread(path).SOPInstanceUID == UID


def test_every_file_of_the_corpus_is_kept_bit_for_bit(directory: StoreDirectory) -> None:
    kept = 0
    for instance in survey()[0]:
        if not instance.consistent or instance.truncated:
            continue
        data = instance.data_set()
        place = {"sop_class": instance.sop_class_uid, "uid": instance.sop_instance_uid}
        path = keep(directory, data, syntax=instance.transfer_syntax, piece=1 << 16, **place)
        found = read_instance(path)
        assert data_set_bytes(path) == data
        assert found.transfer_syntax == instance.transfer_syntax
        kept += 1
    assert kept > 100


def test_a_transfer_syntax_that_nobody_knows_is_kept_unread(directory: StoreDirectory) -> None:
    path = keep(directory, b"no data set at all", syntax="1.2.3.4.5")
    assert data_set_bytes(path) == b"no data set at all"


def test_names_come_from_the_header(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path, layout="{StudyInstanceUID}/{PatientName}/{SOPInstanceUID}.dcm") as directory:
        path = keep(directory, data_set(values={STUDY: (b"UI", b"1.2.3"), PATIENT_NAME: (b"PN", b"Doe^Jane")}))
        assert path == tmp_path / "1.2.3" / "Doe_Jane" / f"{UID}.dcm"


@pytest.mark.parametrize("uid", ["..", "../..", "/etc/passwd", "a\0b", ".", "lock", "\x1b[2J"])
def test_hostile_uids_stay_in_the_folder(tmp_path: Path, uid: str) -> None:
    with StoreDirectory(tmp_path / "kept") as directory:
        path = keep(directory, data_set(uid=uid), uid=uid)
        assert path.parent == tmp_path / "kept"
        assert path.name.startswith("uid-")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "kept", path]


def test_what_was_never_begun_in_earnest_leaves_nothing(directory: StoreDirectory) -> None:
    incoming = directory.begin(CT_IMAGE, UID, EXPLICIT)
    incoming.write(memoryview(data_set()))
    incoming.discard()
    incoming.discard()
    assert files_below(directory.path) == []


# ---------------------------------------------------------------------------------------------- what is refused


def test_another_instance_than_announced_is_refused(directory: StoreDirectory) -> None:
    error = refused(directory, data_set(uid="1.2.3"))
    assert error.status == Status.DATA_SET_MISMATCH == 0xA900
    assert "1.2.3" in str(error)
    assert refused(directory, data_set(sop_class="1.2.3")).status == 0xA900


@pytest.mark.parametrize(
    ("uid", "sop_class", "comment", "tag"),
    [
        ("", CT_IMAGE, "SOP Instance UID: the data set has none", 0x00080018),
        (UID, "", "SOP Class UID: the data set has none", 0x00080016),
        ("", "", "SOP Class UID: the data set has none", 0x00080016),
        ("1" * 65, CT_IMAGE, "SOP Instance UID: more than 64 characters", 0x00080018),
    ],
)
def test_a_data_set_that_could_not_be_sent_again_is_refused(
    directory: StoreDirectory, uid: str, sop_class: str, comment: str, tag: int
) -> None:
    """No archive takes what does not say which instance it is, and no command set a UID of more than 64 characters."""
    incoming = directory.begin(sop_class or CT_IMAGE, uid or UID, EXPLICIT)
    incoming.write(memoryview(data_set(uid=uid, sop_class=sop_class)))
    with pytest.raises(ReceiveError) as caught:
        incoming.commit()
    error = caught.value
    assert (error.status, error.comment, error.offending) == (0xC000, comment, (tag,))
    assert files_below(directory.path) == []


def test_an_instance_that_is_announced_without_a_uid_is_refused(directory: StoreDirectory) -> None:
    incoming = directory.begin(CT_IMAGE, "", EXPLICIT)
    incoming.write(memoryview(data_set()))
    with pytest.raises(ReceiveError) as caught:
        incoming.commit()
    assert caught.value.status == 0xA900
    assert files_below(directory.path) == []


@pytest.mark.parametrize("garbage", [b"\x08\x00\x16\x00UI\xff\xff1.2", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64])
def test_what_does_not_read_as_a_data_set_is_refused(directory: StoreDirectory, garbage: bytes) -> None:
    error = refused(directory, garbage)
    assert error.status == Status.CANNOT_UNDERSTAND == 0xC000
    assert "does not read as DICOM" in str(error)
    assert refused(directory, garbage, syntax=DEFLATED).status == 0xC000


def test_an_empty_data_set_is_refused(directory: StoreDirectory) -> None:
    error = refused(directory, b"")
    assert (error.status, str(error)) == (0xC000, "the data set is empty")


def test_whoever_checks_may_refuse_too(directory: StoreDirectory) -> None:
    def check(header: object) -> None:
        raise ReceiveError("not wanted here", 0xA800)

    incoming = directory.begin(CT_IMAGE, UID, EXPLICIT)
    incoming.write(memoryview(data_set()))
    with pytest.raises(ReceiveError, match="not wanted"):
        incoming.commit(check)
    assert files_below(directory.path) == []
    incoming = directory.begin(CT_IMAGE, UID, EXPLICIT)
    incoming.write(memoryview(data_set()))
    incoming.commit(lambda header: None)


# ---------------------------------------------------------------------------------------------- the same again


@pytest.mark.parametrize("durability", ["fsync", "none"])
def test_the_same_instance_again_is_kept_once(tmp_path: Path, durability: Any) -> None:
    with StoreDirectory(tmp_path, durability=durability) as directory:
        first = keep(directory, data_set())
        before = first.stat()
        assert keep(directory, data_set(), piece=10) == first
        assert first.stat().st_mtime_ns == before.st_mtime_ns
        assert files_below(tmp_path) == [first]


def test_another_content_of_the_same_uid_is_kept_beside_and_logged(
    directory: StoreDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    name = {PATIENT_NAME: (b"PN", PLANTED)}
    contents = [data_set(), data_set(bulk=66), data_set(bulk=64, values=name), data_set(bulk=80)[:-4] + b"abcd"]
    paths = [keep(directory, content) for content in contents]
    assert [path.name for path in paths] == [f"{UID}.dcm", f"{UID}~1.dcm", f"{UID}~2.dcm", f"{UID}~3.dcm"]
    assert [data_set_bytes(path) for path in paths] == contents
    assert [keep(directory, content) for content in contents] == paths
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 3
    assert all(UID in message and "kept beside" in message for message in messages)
    assert not any(PLANTED.decode() in message for message in messages)


def test_the_same_bytes_in_another_transfer_syntax_are_another_content(directory: StoreDirectory) -> None:
    keep(directory, b"encoded somehow.", syntax="1.2.3.4.5")
    assert keep(directory, b"encoded somehow.", syntax="1.2.3.4.6").name == f"{UID}~1.dcm"


def test_long_data_sets_are_compared_to_the_end(directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_directory, "COMPARED", 100)
    data = data_set(bulk=1000)
    other = data[:-1] + b"x"
    assert keep(directory, data) == keep(directory, data)
    assert keep(directory, other).name == f"{UID}~1.dcm"


def test_a_name_without_suffix_is_put_beside_as_a_whole(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path, layout="{SOPInstanceUID}") as directory:
        assert keep(directory, data_set()).name == UID
        assert keep(directory, data_set(bulk=66)).name == f"{UID}~1"


@pytest.mark.parametrize("occupant", [Path.mkdir, Path.touch], ids=["a folder", "an empty file"])
def test_what_else_has_the_name_is_left_alone(directory: StoreDirectory, occupant: Callable[[Path], None]) -> None:
    occupant(directory.path / f"{UID}.dcm")
    assert keep(directory, data_set()).name == f"{UID}~1.dcm"


def test_there_is_an_end_to_what_is_kept_beside(directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_directory, "MAX_BESIDE", 2)
    for bulk in (64, 66):
        keep(directory, data_set(bulk=bulk))
    error = refused(directory, data_set(bulk=68))
    assert error.status == 0xC000
    assert "2 different instances" in str(error)


# ---------------------------------------------------------------------------------------------- durability


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls that decide what a power failure leaves, in their order; each is made for real."""
    made: list[tuple[str, str]] = []

    def record(name: str, subject: Callable[..., str]) -> None:
        real = getattr(os, name)

        def recorded(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            made.append((name, subject(*arguments)))
            return result

        monkeypatch.setattr(os, name, recorded)

    def opened(file: int) -> str:
        return os.readlink(f"/proc/self/fd/{file}")

    record("writev", lambda file, _: opened(file))
    record("write", lambda file, _: opened(file))
    record("fsync", opened)
    record("link", lambda source, target: str(target))
    record("rename", lambda source, target: str(target))
    record("unlink", str)
    return made


def test_whole_and_on_disk_before_it_has_its_name(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    with StoreDirectory(tmp_path / "kept") as directory:
        calls.clear()
        final = keep(directory, data_set(bulk=100_000))
    names = [name for name, _ in calls]
    partial = calls[0][1]
    assert Path(partial).parent.parent == directory.path / ".partial"
    assert set(names[: names.index("fsync")]) == {"writev"}
    assert calls[names.index("fsync") :][:4] == [
        ("fsync", partial),
        ("link", str(final)),
        ("fsync", str(final.parent)),
        ("unlink", partial),
    ]


def test_new_folders_are_durable_before_what_lies_in_them(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    root = tmp_path / "new" / "kept"
    layout = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
    with StoreDirectory(root, layout=layout) as directory:
        assert [path for name, path in calls if name == "fsync"] == [str(tmp_path / "new"), str(tmp_path)]
        calls.clear()
        first = keep(directory, data_set(values={STUDY: (b"UI", b"1.2")}))
        synced = [path for name, path in calls if name == "fsync"]
        assert synced[1:] == [str(root / "1.2"), str(root), str(first.parent)]
        assert [name for name, _ in calls].index("link") > 3
        calls.clear()
        keep(directory, data_set(values={STUDY: (b"UI", b"1.2")}, uid="1.2.3"), uid="1.2.3")
        assert [path for name, path in calls if name == "fsync"][1:] == [str(first.parent)]


def test_a_copy_that_was_there_is_made_durable_before_it_is_acknowledged(
    directory: StoreDirectory, calls: list[tuple[str, str]]
) -> None:
    final = keep(directory, data_set())
    calls.clear()
    keep(directory, data_set())
    assert calls[-2:] == [("fsync", str(final.parent)), ("unlink", calls[0][1])]


def test_without_durability_nothing_is_synced(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    layout = "{StudyInstanceUID}/{SOPInstanceUID}"
    with StoreDirectory(tmp_path / "kept", durability="none", layout=layout) as directory:
        keep(directory, data_set())
        keep(directory, data_set())
        assert not directory.durable
    assert "fsync" not in [name for name, _ in calls]


def test_a_failed_fsync_is_not_tried_again(directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        error = refused(directory, data_set())
    assert error.status == Status.OUT_OF_RESOURCES == 0xA700
    keep(directory, data_set())


def test_windows_has_no_folders_to_sync(
    tmp_path: Path, calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with StoreDirectory(tmp_path / "kept") as directory:
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", "nt")
            store_directory.sync_folder(directory.path)
        assert calls == []


# ---------------------------------------------------------------------------------------------- poorer systems


def test_a_file_system_without_links_moves(directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", none)
    paths = [keep(directory, data_set()), keep(directory, data_set(bulk=66)), keep(directory, data_set())]
    assert [path.name for path in paths] == [f"{UID}.dcm", f"{UID}~1.dcm", f"{UID}.dcm"]
    assert data_set_bytes(paths[1]) == data_set(bulk=66)
    assert len(files_below(directory.path)) == 2


def test_a_link_that_fails_otherwise_is_out_of_resources(
    directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "link", fails)
    error = refused(directory, data_set())
    assert error.status == 0xA700
    assert "Read-only file system; check the folder" in str(error)


def test_systems_without_writev_write(directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "writev")
    assert data_set_bytes(keep(directory, data_set(), piece=100)) == data_set()


@pytest.mark.parametrize("first", [1, 100, 400, 5000])
def test_writes_that_are_cut_short_are_continued(
    directory: StoreDirectory, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    real = os.write
    monkeypatch.setattr(os, "writev", lambda file, parts: real(file, b"".join(parts)[:first]))
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:1000]))
    data = data_set(bulk=20_000)
    assert data_set_bytes(keep(directory, data, piece=4096)) == data


def test_without_file_locks_everything_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_directory, "_fcntl", None)
    dead = tmp_path / ".partial" / "dead"
    dead.mkdir(parents=True)
    (dead / "0").touch()
    with StoreDirectory(tmp_path) as directory:
        assert directory.swept == 1
        keep(directory, data_set())
    assert [path.name for path in files_below(tmp_path)] == [f"{UID}.dcm"]


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Locks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(file: int, _: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(store_directory, "_fcntl", Locks)
    with StoreDirectory(tmp_path) as directory:
        keep(directory, data_set())
    assert files_below(tmp_path) == [tmp_path / f"{UID}.dcm"]


# ---------------------------------------------------------------------------------------------- many at once


def test_many_threads_keep_the_same_and_different_instances(directory: StoreDirectory) -> None:
    paths: list[Path] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait(10)
        paths.append(keep(directory, data_set()))
        paths.append(keep(directory, data_set(bulk=100 + number * 2)))
        paths.append(keep(directory, data_set(uid=f"1.2.{number}"), uid=f"1.2.{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(paths) == 24
    assert sorted(set(paths)) == files_below(directory.path)
    assert len(set(paths)) == 8 + 1 + 8


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path / "kept", layout="{StudyInstanceUID}/{SOPInstanceUID}.dcm") as directory:
        keep(directory, data_set())
        shutil.rmtree(directory.path / "unknown")
        assert data_set_bytes(keep(directory, data_set())) == data_set()


def test_everything_may_be_removed_meanwhile(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path / "kept") as directory:
        keep(directory, data_set())
        shutil.rmtree(directory.path)
        assert data_set_bytes(keep(directory, data_set())) == data_set()
        assert len(list(tmp_path.rglob("lock"))) == 1
        directory._resume_session()  # another thread came to the same conclusion a moment later
        assert len(list(tmp_path.rglob("lock"))) == 1
    assert files_below(tmp_path) == [tmp_path / "kept" / f"{UID}.dcm"]


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path / "kept")
    directory.close()
    directory.close()
    assert list((tmp_path / "kept").iterdir()) == []
