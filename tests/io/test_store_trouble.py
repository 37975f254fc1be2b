"""When the disk is full, the folder read-only, the process killed: nothing half-written stays, and it goes on after."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.io.arriving import UID, data_set, files_below, keep

from dulcet.errors import ReceiveError
from dulcet.io import store_directory
from dulcet.io.store_directory import StoreDirectory

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def keeping(folder: Path, *commands: object) -> Iterator[subprocess.Popen[str]]:
    """The process of `tests.io.keeping`; killed on leaving."""
    command = [sys.executable, "-m", "tests.io.keeping", str(folder), *map(str, commands)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]).returncode:
        pytest.skip("this process may not mount file systems; the limit of file sizes is tested in any case")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_a700_with_nothing_left_and_recovers_once_there_is_space(small_disk: Path) -> None:
    with StoreDirectory(small_disk) as directory:
        first = keep(directory, data_set(uid="1.2.1", bulk=100_000), uid="1.2.1")
        for size in (300_000, 200_000):
            with pytest.raises(ReceiveError) as caught:
                keep(directory, data_set(uid="1.2.2", bulk=size), uid="1.2.2")
            assert caught.value.status == 0xA700
            assert "No space left on device; free some space" in str(caught.value)
            assert files_below(small_disk) == [first]
        first.unlink()
        keep(directory, data_set(uid="1.2.2", bulk=200_000), uid="1.2.2")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user for whom permissions count, and this process as that user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def test_a_read_only_folder_is_a700_and_recovers_when_it_can_be_written_to(unprivileged: Path) -> None:
    layout = "{StudyInstanceUID}/{SOPInstanceUID}.dcm"
    with StoreDirectory(unprivileged, layout=layout) as directory:
        for place in (directory._session, unprivileged):
            place.chmod(0o555)
            with pytest.raises(ReceiveError, match="Permission denied; check the folder") as caught:
                keep(directory, data_set())
            assert caught.value.status == 0xA700
            assert files_below(unprivileged) == []
            place.chmod(0o755)
        keep(directory, data_set())
    unprivileged.chmod(0o555)
    with pytest.raises(PermissionError):
        StoreDirectory(unprivileged)


def test_a_limit_of_file_sizes_is_a700_too(tmp_path: Path) -> None:
    commands = ("fsize", 20_000, "keep", "1.2.1", 100_000, "keep", "1.2.2", 1000, "fsize", -1, "keep", "1.2.1", 100_000)
    with keeping(tmp_path, *commands) as process:
        swept, refused, *kept = lines(process, 4)
        process.wait(20)
    assert swept == "swept 0"
    assert refused.startswith("A700 cannot write in")
    assert "free some space" in refused
    assert kept == ["1.2.2.dcm", "1.2.1.dcm"]
    assert [path.name for path in files_below(tmp_path)] == ["1.2.1.dcm", "1.2.2.dcm"]


def test_a_file_in_the_way_of_a_folder_is_a700(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path, layout="{StudyInstanceUID}/{SOPInstanceUID}.dcm") as directory:
        (tmp_path / "unknown").touch()
        with pytest.raises(ReceiveError, match=f"cannot write in {tmp_path}") as caught:
            keep(directory, data_set())
        assert caught.value.status == 0xA700
        assert files_below(tmp_path) == [tmp_path / "unknown"]
        (tmp_path / "unknown").unlink()
        keep(directory, data_set())


def test_a_folder_that_cannot_be_made_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        StoreDirectory(tmp_path / "file" / "folder")
    with pytest.raises(FileExistsError):
        StoreDirectory(tmp_path / "file")


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with keeping(tmp_path, "begin", "begin", "wait") as dead, keeping(tmp_path, "begin", "wait") as alive:
        assert lines(dead, 3) == ["swept 0", "begun", "begun"]
        assert lines(alive, 2) == ["swept 0", "begun"]
        os.kill(dead.pid, signal.SIGKILL)
        dead.wait(20)
        assert len(files_below(tmp_path)) == 3
        with StoreDirectory(tmp_path) as directory:
            assert directory.swept == 2
            assert len(files_below(tmp_path)) == 1
        assert [record.getMessage() for record in caplog.records] == [
            "removed 2 partial files that a crash left behind"
        ]
        alive.communicate("", timeout=20)
    assert list(tmp_path.iterdir()) == []


def test_two_folders_of_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path) as one:
        incoming = one.begin("1.2", "3.4", "1.2.3")
        incoming.write(memoryview(b"half"))
        with StoreDirectory(tmp_path) as other:
            assert other.swept == 0
            keep(other, data_set())
        assert incoming.commit() == tmp_path / "3.4.dcm"


def test_processes_that_start_and_end_together_lose_nothing(tmp_path: Path) -> None:
    uids = [f"1.2.{number}" for number in range(1, 6)]
    commands = [word for uid in uids for word in ("keep", uid, "500")]
    with (
        keeping(tmp_path, *commands) as one,
        keeping(tmp_path, *commands) as two,
        keeping(tmp_path, *commands) as three,
    ):
        for process in (one, two, three):
            assert process.stdout is not None
            assert process.communicate(timeout=30)[0].splitlines() == ["swept 0", *(f"{uid}.dcm" for uid in uids)]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{uid}.dcm" for uid in uids]


def test_only_folders_of_sessions_are_swept(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    partial = tmp_path / "kept" / ".partial"
    partial.mkdir(parents=True)
    (partial / "stray").touch()
    (partial / "link").symlink_to(elsewhere)
    with StoreDirectory(tmp_path / "kept") as directory:
        assert directory.swept == 0
    assert (elsewhere / "precious").exists()


def test_folders_emptied_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_directory, "_fcntl", None)
    with StoreDirectory(tmp_path / "kept") as directory:
        shutil.rmtree(tmp_path / "kept")
        assert keep(directory, data_set()).name == f"{UID}.dcm"


def test_windows_has_no_fcntl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("store_directory_without_fcntl", store_directory.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._fcntl is None


def test_a_session_without_its_lock_is_dead(tmp_path: Path) -> None:
    session = tmp_path / ".partial" / "abc"
    session.mkdir(parents=True)
    (session / "0").touch()
    with StoreDirectory(tmp_path) as directory:
        assert directory.swept == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_can_be_closed(tmp_path: Path) -> None:
    with StoreDirectory(tmp_path / "kept"):
        shutil.rmtree(tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []
