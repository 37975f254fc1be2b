"""Whoever receives gives the verdict of the archive: each face, to a folder and to memory, and the user of a C-GET."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import CT_IMAGE, EXPLICIT
from tests.io.arriving import UID, data_set, files_below, unseen
from tests.node.serving import served
from tests.toolkit.recording import CT, associated, running

import dulcet
from dulcet import uids
from dulcet.blocking.receiver import Receiver
from dulcet.services.proposals import retrieval_proposals
from dulcet.services.results import Sent
from dulcet.toolkit import StorageListener
from dulcet.upper_layer.negotiation import Proposal

GOOD = data_set(bulk=200_000)
DAMAGED = {
    "cut at once": (data_set(bulk=1000)[:-10], "lacks 10 bytes", 0x7FE00010),
    "cut later": (GOOD[:-10], "lacks 10 bytes", 0x7FE00010),
    "an item where none can be": (data_set(bulk=1000) + b"\xfe\xff\x00\xe0\0\0\0\0", "outside of", 0xFFFEE000),
}


@contextmanager
def blocking(folder: Path) -> Iterator[str]:
    directory = dulcet.StoreDirectory(folder, durability="none")

    def handle(request: Any) -> None:
        request.save(directory)
        request.respond(0)

    with Receiver("ANY@127.0.0.1:0", handle) as receiver:
        yield str(receiver.address)


@contextmanager
def in_a_loop(folder: Path) -> Iterator[str]:
    directory = dulcet.StoreDirectory(folder, durability="none")
    ready, address = threading.Event(), []

    async def handle(request: Any) -> None:
        await request.save(directory)
        await request.respond(0)

    async def serve() -> None:
        async with dulcet.aio.serve("ANY@127.0.0.1:0", handle) as server:
            loop, end = asyncio.get_running_loop(), asyncio.Event()
            address.extend((str(server.address), lambda: loop.call_soon_threadsafe(end.set)))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield address[0]
    finally:
        address[1]()
        thread.join(20)


def node(kind: str, place: bool) -> Callable[[Path], Any]:
    @contextmanager
    def serving(folder: Path) -> Iterator[str]:
        options = {"store_to": dulcet.StoreDirectory(folder, durability="none")} if place else {}
        made = dulcet.Node("ANY", **options)  # type: ignore[arg-type]
        seen: list[Any] = []
        made.on_store(lambda request: seen.append(request.data))
        with served(made, kind) as address:
            yield address
        assert place or seen == [GOOD]

    return serving


def listener(**options: Any) -> Callable[[Path], Any]:
    @contextmanager
    def serving(folder: Path) -> Iterator[str]:
        place = {} if options else {"store_directory": folder}
        with StorageListener("ANY", **place, **options) as made:
            ending = threading.Event()

            def serve() -> None:
                while not ending.is_set():
                    if made.wait_for_connection(0.2):
                        while made.wait_for_command(20):
                            pass

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield f"ANY@127.0.0.1:{made.port}"
            finally:
                ending.set()
                thread.join(20)

    return serving


PLACES: dict[str, Callable[[Path], Any]] = {
    "receiver": blocking,
    "aio": in_a_loop,
    "node, folder": node("threads", True),
    "node, memory": node("threads", False),
    "node in a loop, folder": node("loop", True),
    "node in a loop, memory": node("loop", False),
    "listener, folder": listener(),
    "listener, memory": listener(in_memory=True),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_verdict_is_the_same_everywhere(place: str, tmp_path: Path) -> None:
    with PLACES[place](tmp_path) as address:
        contexts = [Proposal(CT_IMAGE, (EXPLICIT,))]
        with dulcet.associate(address, contexts=contexts) as association:
            for data, reason, tag in DAMAGED.values():
                sent: Sent = association.store(unseen(data))
                assert sent.status == 0xC000
                assert reason in sent.error_comment
                assert sent.offending_elements == (tag,)
                assert files_below(tmp_path) == []
            association.store(unseen(GOOD)).check()
    assert len(files_below(tmp_path)) == ("memory" not in place)


@pytest.mark.parametrize("to_file", [True, False])
def test_the_net_of_the_toolkit_too(to_file: bool, tmp_path: Path) -> None:
    kept: list[int] = []
    scripts = {
        "on_store_setup": lambda net, *_: str(tmp_path / "kept.dcm") if to_file else None,
        "on_receive_c_store_request": lambda net, cid, mid, *rest: (
            kept.append(mid), net.send_c_store_response(cid, mid, status=0),
        ),
    }  # fmt: skip
    with running():
        parties = associated(**scripts)
        for number, data in enumerate((*(damaged[0] for damaged in DAMAGED.values()), GOOD), 1):
            parties.user.send_c_store_request(3, number, CT, UID, data_set=data)
            answer = parties.user.heard("on_receive_c_store_response", number)
            assert (0xC000 in answer) == (number < 4)
        parties.user.send_release_request()
        parties.user.heard("on_receive_release_response")
    assert kept == [4]
    assert len(files_below(tmp_path)) == to_file


@pytest.mark.parametrize("kind", ["threads", "loop"])
def test_the_user_of_a_c_get_keeps_nothing_damaged(kind: str, tmp_path: Path) -> None:
    provider = dulcet.Node("ANY")
    provider.on_get(lambda request: [unseen(damaged[0]) for damaged in DAMAGED.values()] + [unseen(GOOD)])
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
    with served(provider, kind) as address:
        contexts = [Proposal(CT_IMAGE, (EXPLICIT,), provider=True)]
        contexts += [one for one in retrieval_proposals() if one.abstract_syntax == model]
        with dulcet.associate(address, contexts=contexts) as association:
            got = association.get(level="STUDY", StudyInstanceUID="1.2", to=tmp_path)
    assert (got.completed, got.failed, len(got.received)) == (1, 3, 1)
    assert len(files_below(tmp_path)) == 1
