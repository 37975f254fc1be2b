"""A node in an event loop: plain and async handlers, generators of both kinds, failures, early ends, `serve`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from tests.corpus import data_set_bytes, make_folder
from tests.node.serving import served

import dulcet
from dulcet.node.loop import LOT

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("COV")}


def answer(number: int) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = f"1.2.{number}"
    return dataset


def numbers(association: dulcet.Association, **keys: Any) -> list[str]:
    return [match.StudyInstanceUID for match in association.find(level="STUDY", **keys)]


@pytest.mark.parametrize("kind", ["generator", "async generator", "list", "coroutine", "one", "nothing"])
def test_answers_come_from_whatever_a_handler_is(kind: str) -> None:
    node = dulcet.Node("NODE")
    count = {"one": 1, "nothing": 0}.get(kind, 3 * LOT + 1)
    answers = [answer(number) for number in range(count)]

    def generator(request: Any) -> Iterator[Dataset]:
        assert threading.current_thread() is not threading.main_thread()
        yield from answers

    async def async_generator(request: Any) -> AsyncIterator[Dataset]:
        for one in answers:
            await asyncio.sleep(0)
            yield one

    async def coroutine(request: Any) -> list[Dataset]:
        return answers

    handlers: dict[str, Any] = {
        "generator": generator,
        "async generator": async_generator,
        "list": lambda request: answers,
        "coroutine": coroutine,
        "one": lambda request: answers[0],
        "nothing": lambda request: None,
    }
    node.on_find(handlers[kind])
    with served(node, "loop") as address, dulcet.associate(address) as association:
        assert numbers(association) == [f"1.2.{number}" for number in range(count)]


def test_a_generator_that_fails_midway_gives_what_came_before_and_a_failure() -> None:
    node = dulcet.Node("NODE")

    @node.on_find
    def find(request: Any) -> Iterator[Dataset]:
        yield answer(1)
        raise RuntimeError("planted")

    with served(node, "loop") as address, dulcet.associate(address) as association:
        matches = association.find(level="STUDY", PatientID="1")
        assert next(matches).StudyInstanceUID == "1.2.1"
        with pytest.raises(dulcet.StatusError, match="C000H"):
            next(matches)
        association.echo().check()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_leaving_early_closes_the_handlers_generator(kind: str) -> None:
    node = dulcet.Node("NODE")
    closed = threading.Event()

    def plain(request: Any) -> Iterator[Dataset]:
        try:
            for number in range(1_000_000):
                yield answer(number)
        finally:
            closed.set()

    async def asynchronous(request: Any) -> AsyncIterator[Dataset]:
        try:
            for number in range(1_000_000):
                yield answer(number)
        finally:
            closed.set()

    node.on_find(plain if kind == "plain" else asynchronous)
    with served(node, "loop") as address, dulcet.associate(address) as association:
        for _ in association.find(level="STUDY", PatientID="1"):
            break
        assert closed.wait(10.0)
        association.echo().check()


def test_instances_are_kept_and_handed_on(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 3, 20_000)
    node = dulcet.Node("NODE", store_to=tmp_path / "kept", durability="none")
    kept: list[Path] = []

    @node.on_store
    async def keep(request: Any) -> None:
        kept.append(request.path)

    @node.on_get
    def get(request: Any) -> list[Path]:
        return kept

    @node.on_move
    async def move(request: Any) -> AsyncIterator[Path]:
        for path in kept:
            yield path

    there = dulcet.Node("THERE", store_to=tmp_path / "there", durability="none")
    originators: list[tuple[str | None, int | None]] = []

    @there.on_store
    def take(request: Any) -> None:
        originators.append((request.command.move_originator_ae_title, request.command.move_originator_message_id))

    expected = sorted(data_set_bytes(path) for path in files)
    with served(there, "loop") as destination, served(node, "loop") as address:
        node.peers["THERE"] = destination
        with dulcet.associate(address, calling_ae_title="ASKER") as association:
            assert all(sent.ok for sent in association.store_many(files))
            got = association.get(level="STUDY", StudyInstanceUID="1", to=tmp_path / "got")
            assert (got.status, got.completed) == (0, 3)
            moved = association.move(level="STUDY", StudyInstanceUID="1", destination="THERE")
            assert (moved.status, moved.completed) == (0, 3)
            assert association.move(level="STUDY", StudyInstanceUID="1", destination="NOBODY").status == 0xA801
    for folder in ("kept", "got", "there"):
        assert sorted(data_set_bytes(path) for path in (tmp_path / folder).glob("*.dcm")) == expected
    assert {title for title, _ in originators} == {"ASKER"}
    assert len({number for _, number in originators}) == 1


def test_a_data_set_without_a_place_is_kept_in_memory_up_to_a_limit(tmp_path: Path) -> None:
    small, large = (make_folder(tmp_path / str(size), 1, size)[0] for size in (2_000, 200_000))
    node = dulcet.Node("NODE", memory_limit=100_000)
    seen: list[int] = []

    @node.on_store
    async def keep(request: Any) -> None:
        seen.append(len(request.data))

    with served(node, "loop") as address, dulcet.associate(address) as association:
        assert association.store(small).ok
        assert association.store(large).status == 0xA700
        assert association.store(small).ok
    assert seen == [len(data_set_bytes(small))] * 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_serve_ends_with_a_signal(tmp_path: Path, asynchronous: bool) -> None:
    program = tmp_path / "node.py"
    program.write_text(
        "import dulcet, socket\n"
        "node = dulcet.Node('NODE')\n"
        f"@node.on_echo\n{'async ' if asynchronous else ''}def echo(request): print('echo', flush=True)\n"
        "with socket.create_server(('127.0.0.1', 0)) as free: port = free.getsockname()[1]\n"
        "print(port, flush=True)\n"
        "print(node.serve('127.0.0.1', port, drain=5.0), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        config = dulcet.AssociationConfig()
        for _ in range(200):  # until it listens
            try:
                association = dulcet.associate(f"NODE@127.0.0.1:{port}", config=config)
                break
            except dulcet.PeerUnreachable:
                threading.Event().wait(0.05)
        with association:
            association.echo().check()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out.split()) == (0, ["echo", "True"])
