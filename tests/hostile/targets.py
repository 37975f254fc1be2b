"""Both faces as providers of echo and storage, each beside the test, and what of them is left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.hostile.scripted import PATIENCE, until

import dulcet
import dulcet.aio
from dulcet import uids
from dulcet.blocking.receiver import Receiver
from dulcet.config import Timers
from dulcet.dimse.messages import CommandField
from dulcet.services.proposals import proposals

__all__ = ["FACES", "QUICK", "Target", "is_served", "nothing_left", "target"]

ADDRESS: Final = "PROVIDER@127.0.0.1:0"
FACES: Final = ("blocking", "asyncio")
QUICK: Final = Timers(artim=0.2, progress=0.3, idle=0.4, response=2.0)
ECHO: Final = proposals([uids.VERIFICATION])


@dataclass(slots=True)
class Target:
    """A provider under attack."""

    port: int
    folder: Path
    left: Callable[[], int]
    """How much of what came is still with it: guests, associations, tasks or threads."""

    @property
    def address(self) -> str:
        return f"PROVIDER@127.0.0.1:{self.port}"

    def partial_files(self) -> list[Path]:
        """Files that a data set was being written to."""
        return [found for found in self.folder.glob(".partial/*/*") if found.name != "lock"]

    def is_idle(self) -> None:
        """Everything of every peer is gone, soon."""
        until(lambda: not self.left(), f"{self.left()} guests, associations or tasks are gone")
        assert self.partial_files() == []


@contextlib.contextmanager
def target(face: str, folder: Path, **options: Any) -> Iterator[Target]:
    """`dulcet listen` or `dulcet.aio.serve`, which take images into a folder."""
    with dulcet.StoreDirectory(folder, durability="none") as directory:
        serve = on_threads if face == "blocking" else on_a_loop
        with serve(directory, options) as made:
            yield made


@contextlib.contextmanager
def on_threads(directory: dulcet.StoreDirectory, options: dict[str, Any]) -> Iterator[Target]:
    def handle(request: dulcet.IncomingRequest) -> None:
        if request.field == CommandField.C_STORE_RQ:
            request.save(directory)
        request.respond()

    receiver = Receiver(ADDRESS, handle, **options)
    try:
        listener = receiver.listener
        yield Target(
            receiver.address.port,
            directory.path,
            lambda: len(listener._acceptor._pending_connections) + len(receiver._alive) + listener.count,
        )
    finally:
        receiver.stop(0.0)


@contextlib.contextmanager
def on_a_loop(directory: dulcet.StoreDirectory, options: dict[str, Any]) -> Iterator[Target]:
    async def handle(request: Any) -> None:
        if request.field == CommandField.C_STORE_RQ:
            await request.save(directory)
        await request.respond()

    started, stop = threading.Event(), asyncio.Event()
    made: list[Any] = []
    complaints: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        async with dulcet.aio.serve(ADDRESS, handle, **options) as server:
            made.extend((server, loop))
            started.set()
            await stop.wait()
            await server.stop(0.0)
        gc.collect()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=PATIENCE)
        complaints.extend(task for task in others if not task.done())

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    server, loop = made
    try:
        yield Target(
            server.address.port,
            directory.path,
            lambda: len(server._pending_connections) + len(server._alive) + len(server._tasks) + server.count,
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"
    assert complaints == []


def is_served(address: str) -> None:
    """Somebody who means well gets an association, an answer and a release."""
    with dulcet.associate(address, contexts=ECHO, calling_ae_title="GOOD") as association:
        assert association.echo().status == 0


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads_at_work() -> int:
    """Threads but for those of the pools that asyncio's face keeps for the disk and for handlers."""
    return sum(not thread.name.startswith(("dulcet-disk", "dulcet-handler")) for thread in threading.enumerate())


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No descriptor and no thread is left of what is done in here."""
    before, threads = descriptors(), threads_at_work()
    yield
    until(lambda: threads_at_work() <= threads, f"threads are gone: {threading.enumerate()}")
    until(lambda: descriptors() <= before, "descriptors are closed")
