"""What 0000H means when everything goes wrong: kills, a full disk, a folder that cannot be written, a locked index."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archive.crashing import CT, data_set, part10, run
from tests.interop import peers

import dulcet
from dulcet.archive.application import Archive

SYNTAX = "1.2.840.10008.1.2.1"
CONTEXTS = [dulcet.Proposal(CT, (SYNTAX,))]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    result = run(tmp_path / "data", 25, seed=7, longest=0.15)
    assert result.problems == []
    assert result.cycles == 25
    assert len(result.acknowledged) >= 25
    assert result.swept + result.adopted > 0  # or the kills came at moments when nothing was under way


def store(address: str, first: int, count: int, size: int = 200_000) -> list[int]:
    """The status of each."""
    with dulcet.associate(address, contexts=CONTEXTS) as association:
        return [
            int(association.store(part10(uid, data_set(uid, 0, size))).status or 0)
            for uid in (f"1.2.9.0.{number}" for number in range(first, first + count))
        ]


def assert_consistent(folder: Path, expected: int) -> None:
    """As many objects as rows, as many as were acknowledged, and nothing half there."""
    with sqlite3.connect(f"file:{folder / 'index.sqlite'}?mode=ro", uri=True) as connection:
        rows = {key for (key,) in connection.execute("SELECT object FROM instance")}
    connection.close()
    objects = {str(path.relative_to(folder / "objects")) for path in (folder / "objects").rglob("*.dcm")}
    assert rows == objects
    assert len(rows) == expected
    assert list((folder / "partial").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_a700_until_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with peers.announced(
        [*peers.DULCET, "serve", "--port", "0", "--data", small_disk / "data", "--allow-any"], small_disk
    ) as server:
        filler.write_bytes(bytes(1_500_000))
        statuses = store(server.address, 0, 20)
        stored = statuses.count(0)
        assert set(statuses) == {0, 0xA700}
        assert 0 < stored < 20
        assert_consistent(small_disk / "data", stored)
        # Small ones, so that it is the index that finds no room at some time.
        small = store(server.address, 1000, 200, 100)
        assert set(small) <= {0, 0xA700}
        stored += small.count(0)
        assert_consistent(small_disk / "data", stored)
        filler.unlink()
        assert store(server.address, 5000, 2) == [0, 0]
        assert_consistent(small_disk / "data", stored + 2)
        ended = server.stop()
    assert ended.returncode == 0
    assert "free some space" in ended.errors


def test_a_disk_that_becomes_read_only_is_a700(small_disk: Path) -> None:
    with peers.announced(
        [*peers.DULCET, "serve", "--port", "0", "--data", small_disk / "data", "--allow-any"], small_disk
    ) as server:
        assert store(server.address, 0, 2, 1000) == [0, 0]
        # Nobody has a file open for writing but SQLite: to move the folder away is what can be done to it by force.
        for name in ("partial", "objects"):
            os.rename(small_disk / "data" / name, small_disk / f"{name}.away")
            (small_disk / "data" / name).write_text("in the way")
        assert store(server.address, 10, 2, 1000) == [0xA700, 0xA700]
        for name in ("partial", "objects"):
            (small_disk / "data" / name).unlink()
            os.rename(small_disk / f"{name}.away", small_disk / "data" / name)
        assert store(server.address, 20, 2, 1000) == [0, 0]
        assert_consistent(small_disk / "data", 4)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        ended = peers.dulcet("serve", "--port", "0", "--data", tmp_path / "data")
        assert (ended.returncode, "name a folder that can be written to" in ended.errors) == (2, True)
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_disk_is_told_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ended = peers.dulcet("serve", "--port", "0", "--data", small_disk / "data")
    assert (ended.returncode, "name a folder that can be written to" in ended.errors) == (2, True)


def test_a_locked_index_is_a700_and_over_with_the_lock(tmp_path: Path) -> None:
    with Archive(tmp_path, durable=False, allow_any=True) as archive:
        archive.index._connection.execute("PRAGMA busy_timeout = 50")
        with archive.node("ARCHIVE").threads() as running:
            address = str(running.address)
            other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            assert store(address, 0, 3, 1000) == [0xA700] * 3
            other.execute("ROLLBACK")
            other.close()
            assert store(address, 10, 3, 1000) == [0, 0, 0]
    assert_consistent(tmp_path, 3)
