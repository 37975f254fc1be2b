"""No disk call runs on the event loop: what is received goes to its destination in threads, and in order."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.corpus import data_set_bytes, make_instance
from tests.faces import PATIENCE

import dulcet
import dulcet.aio
from dulcet.aio import saving
from dulcet.aio.disk import Disk
from dulcet.aio.threads import DISK_THREADS
from dulcet.io.instances import Instance, examine
from dulcet.services.proposals import retrieval_proposals
from dulcet.uids import CT_IMAGE_STORAGE

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
ADDRESS = "PROVIDER@127.0.0.1:0"
SIZES = [2, 3_000, saving.ALONE, saving.TOGETHER - 400, saving.TOGETHER, 5_000_000]
CALLS = ("open", "write", "writev", "pwrite", "fsync", "link", "rename", "replace", "unlink", "rmdir", "mkdir")


def off_the_loop() -> None:
    assert asyncio._get_running_loop() is None, "called in the loop's thread"


class Destination:
    """Keeps in memory, refuses where it is told to, and may be made to wait."""

    def __init__(self, *, durable: bool = True, refuses: str = "") -> None:
        self.durable = durable
        self.refuses = refuses
        self.may_write = threading.Event()
        self.may_write.set()
        self.kept: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.taken = 0

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> Any:
        self.note("begin")
        return Incoming(self, sop_instance_uid)

    def note(self, call: str) -> None:
        off_the_loop()
        self.calls.append(call)
        if call == self.refuses:
            raise dulcet.ReceiveError(f"no {call}", 0xA700)


class Incoming:
    def __init__(self, destination: Destination, uid: str) -> None:
        self.destination = destination
        self.uid = uid
        self.data = bytearray()
        self.inside = threading.Lock()

    def write(self, data: memoryview) -> None:
        assert self.inside.acquire(blocking=False), "two calls at once"
        try:
            self.destination.note("write")
            assert self.destination.may_write.wait(PATIENCE)
            self.data += data
            self.destination.taken += len(data)
        finally:
            self.inside.release()

    def commit(self) -> str:
        assert self.inside.acquire(blocking=False), "two calls at once"
        self.destination.note("commit")
        self.destination.kept[self.uid] = bytes(self.data)
        return self.uid

    def discard(self) -> None:
        off_the_loop()
        self.destination.calls.append("discard")


def run(new_loop: Any, test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(bounded())


def instances(folder: Path) -> list[Path]:
    """One of each size."""
    return [
        make_instance(folder / f"{size}.dcm", size, number, sop_class_uid=CT_IMAGE_STORAGE)
        for number, size in enumerate(SIZES)
    ]


def serving(destination: Any, how: str) -> Any:
    async def kept(request: Any) -> None:
        if request.field == dulcet.CommandField.C_STORE_RQ:
            await request.save(destination)
        await request.respond()

    def plainly(request: Any) -> None:
        if request.field == dulcet.CommandField.C_STORE_RQ:
            request.save(destination)
        request.respond()

    return dulcet.aio.serve(ADDRESS, kept if how == "async" else plainly)


async def send(address: object, *files: Path, windows: int = 1, associations: int = 1) -> list[Any]:
    def all_of_them() -> list[Any]:
        config = dulcet.AssociationConfig(window_invoked=windows)
        with dulcet.associate(str(address), config=config) as association:
            return list(association.store_many(files, associations=associations, window=windows))

    return await asyncio.to_thread(all_of_them)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("how", ["async", "plain"])
@LOOPS
def test_every_method_of_a_destination_is_called_in_a_thread(
    tmp_path: Path, new_loop: Any, how: str, durable: bool
) -> None:
    files = instances(tmp_path)
    destination = Destination(durable=durable)

    async def test() -> None:
        async with serving(destination, how) as server:
            assert all(sent.ok for sent in await send(server.address, *files, windows=4, associations=2))

    run(new_loop, test())
    digests = {hashlib.sha256(data_set_bytes(file)).digest() for file in files}
    assert {hashlib.sha256(data).digest() for data in destination.kept.values()} == digests


@pytest.mark.parametrize("size", [3_000, 3_000_000])
@pytest.mark.parametrize("refuses", ["begin", "write", "commit"])
@LOOPS
def test_what_a_destination_refuses_is_answered_and_discarded(
    tmp_path: Path, new_loop: Any, refuses: str, size: int
) -> None:
    file = make_instance(tmp_path / "one.dcm", size, sop_class_uid=CT_IMAGE_STORAGE)
    destination = Destination(refuses=refuses)

    async def test() -> None:
        async with serving(destination, "async") as server:
            [sent] = await send(server.address, file)
            assert sent.status == 0xA700
            destination.refuses = ""
            assert all(sent.ok for sent in await send(server.address, file))

    run(new_loop, test())
    begun = destination.calls.count("begin") - (refuses == "begin")
    assert destination.calls.count("discard") == begun


@LOOPS
def test_a_slow_destination_holds_up_its_sender_and_nobody_else(tmp_path: Path, new_loop: Any) -> None:
    file = make_instance(tmp_path / "large.dcm", 60_000_000, sop_class_uid=CT_IMAGE_STORAGE)
    destination = Destination()
    destination.may_write.clear()

    async def test() -> None:
        async with serving(destination, "async") as server:
            sending = asyncio.create_task(send(server.address, file))
            while "write" not in destination.calls:
                await asyncio.sleep(0.01)
            async with dulcet.aio.associate(str(server.address)) as other:
                for _ in range(20):
                    assert (await other.echo()).status == 0
            [wire] = [association._wire for association in server._alive if association._wire.held]
            while not wire._read_paused:  # the sender fills what we have room for, and no more
                await asyncio.sleep(0.01)
            assert not sending.done()
            destination.may_write.set()
            [sent] = await sending
            assert sent.ok

    run(new_loop, test())
    [data] = destination.kept.values()
    assert data == data_set_bytes(file)
    assert len(saving._spare) <= saving.SPARE


@pytest.mark.parametrize("size", [200_000, 3_000_000])
@LOOPS
def test_what_did_not_come_whole_is_discarded(tmp_path: Path, new_loop: Any, size: int) -> None:
    """The sender is gone after so many bytes of a data set that is longer."""
    destination = Destination()
    ended = threading.Event()

    async def test() -> None:
        async def kept(request: Any) -> None:
            try:
                await request.save(destination)
            finally:
                ended.set()

        async with dulcet.aio.serve(ADDRESS, kept) as server:
            whole = make_instance(tmp_path / "one.dcm", size * 2, sop_class_uid=CT_IMAGE_STORAGE).read_bytes()

            def begin() -> None:
                association = dulcet.associate(str(server.address))
                association._start_store(examine(whole))
                out = bytearray()
                while len(out) < size:
                    out += b"".join(bytes(segment) for segment in association._core.data_to_send())
                with association._transport._sock as sock:
                    sock.setblocking(True)
                    sock.sendall(out[:size])

            await asyncio.to_thread(begin)
            await asyncio.to_thread(ended.wait, PATIENCE)

    run(new_loop, test())
    assert destination.kept == {}
    assert destination.calls.count("discard") == destination.calls.count("begin")


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called on a loop of what may wait for a disk."""
    caught: list[str] = []

    def guarded_call(name: str, call: Any) -> Any:
        def guard(*arguments: Any, **options: Any) -> Any:
            if asyncio._get_running_loop() is not None:
                caught.append(name)
            return call(*arguments, **options)

        return guard

    for name in CALLS:
        monkeypatch.setattr(os, name, guarded_call(name, getattr(os, name)))
    return caught


@pytest.mark.parametrize("durability", ["fsync", "none"])
@LOOPS
def test_a_folder_is_written_to_off_the_loop(
    tmp_path: Path, new_loop: Any, durability: Any, guarded: list[str]
) -> None:
    files = instances(tmp_path)
    directory = dulcet.StoreDirectory(tmp_path / "kept", durability=durability)

    async def test() -> None:
        async with serving(directory, "async") as server:
            assert all(sent.ok for sent in await send(server.address, *files))

    run(new_loop, test())
    directory.close()
    assert guarded == []
    assert len(list((tmp_path / "kept").glob("*.dcm"))) == len(files)


@LOOPS
def test_what_a_get_brings_is_written_off_the_loop(tmp_path: Path, new_loop: Any, guarded: list[str]) -> None:
    files = instances(tmp_path)
    node = dulcet.Node("ARCHIVE")
    node.on_get(lambda request: files)

    async def test() -> None:
        async with dulcet.aio.associate(str(threads.address), contexts=retrieval_proposals(())) as association:
            result = await association.get(to=tmp_path / "got", StudyInstanceUID="1.2.3")
            assert len(result.received) == len(files)

    with node.threads() as threads:
        run(new_loop, test())
    assert guarded == []


@pytest.mark.parametrize("how", ["store", "store_many"])
@LOOPS
def test_files_are_opened_off_the_loop(tmp_path: Path, new_loop: Any, how: str, guarded: list[str]) -> None:
    """Large ones are read on it, piece by piece, as the peer takes them."""
    files = instances(tmp_path)
    destination = Destination()

    async def test() -> None:
        async with serving(destination, "async") as server, dulcet.aio.associate(str(server.address)) as association:
            if how == "store":
                assert all([(await association.store(file)).ok for file in files])
            else:
                assert all([sent.ok async for sent in association.store_many(files)])

    run(new_loop, test())
    assert guarded == []
    assert len(destination.kept) == len(files)


@LOOPS
def test_a_store_that_is_left_while_its_file_is_opened_leaves_none_open(
    tmp_path: Path, new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_instance(tmp_path / "large.dcm", 5_000_000, sop_class_uid=CT_IMAGE_STORAGE)
    opening, may_open, opened = threading.Event(), threading.Event(), []
    really = Instance.open

    def slow(instance: Instance) -> Any:
        opening.set()
        assert may_open.wait(PATIENCE)
        opened.append(instance)
        return really(instance)

    monkeypatch.setattr(Instance, "open", slow)

    async def test() -> None:
        async with serving(Destination(), "async") as server, dulcet.aio.associate(str(server.address)) as association:
            storing = asyncio.create_task(association.store(file))
            await asyncio.to_thread(opening.wait, PATIENCE)
            storing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await storing
            may_open.set()
            while not opened or opened[0].file is not None or Disk.of(asyncio.get_running_loop())._open:
                await asyncio.sleep(0.01)
            assert (await association.echo()).status == 0

    run(new_loop, test())


@LOOPS
def test_what_waits_behind_a_slow_job_is_done_meanwhile(new_loop: Any) -> None:
    slow = threading.Event()

    async def test() -> None:
        disk = Disk.of(asyncio.get_running_loop())
        first = disk.do(slow.wait, PATIENCE)
        others = [disk.do(lambda number=number: number) for number in range(100)]
        assert await asyncio.gather(*others) == list(range(100))
        assert not first.done()
        slow.set()
        assert await first

        started = threading.Barrier(DISK_THREADS)
        waiting = [disk.do(started.wait, PATIENCE, waits=True) for _ in range(DISK_THREADS)]
        await asyncio.gather(*waiting)

        def fail() -> None:
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            await disk.do(fail)
        left = disk.do(slow.wait)
        left.cancel()
        assert await disk.do(int, "7") == 7

    run(new_loop, test())
