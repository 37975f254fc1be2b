"""Every limit of `AssociationConfig` and of the faces, from outside, with bare sockets; memory with processes."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tests.corpus import CT_IMAGE, make_instance
from tests.hostile.scripted import PATIENCE, Peer, until
from tests.hostile.targets import FACES, QUICK, is_served, nothing_left, target
from tests.hostile.words import QUERY, QUERY_RQ, RQ, STORE, STORE_RQ, pdu, pdv, say
from tests.pairs import message, p_data

import dulcet
from dulcet.config import Limits, Timers
from dulcet.upper_layer.pdu import PDV, encode

pytestmark = pytest.mark.parametrize("face", FACES)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def limited(timers: Timers = QUICK, limits: Limits | None = None, **options: Any) -> dict[str, Any]:
    """A provider's options."""
    config = dulcet.AssociationConfig(timers=timers, limits=limits or Limits())
    return {"config": config, "policy": dulcet.AcceptancePolicy.storage("PROVIDER", promiscuous=True), **options}


@contextlib.contextmanager
def pending(port: int, source: str = "127.0.0.1") -> Iterator[Peer]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as sock:
        yield Peer(sock)


def ask(port: int, words: bytes) -> str:
    """What comes first of it."""
    with pending(port) as peer:
        peer.sock.sendall(words)
        peer.read()
        return peer.got[0]


def slowly(peer: Peer, data: bytes, size: int, pause: float) -> float:
    """Send a piece now and then until something comes back; the seconds that took."""
    start = time.monotonic()
    peer.sock.settimeout(pause)
    for position in range(0, len(data), size):
        try:
            peer.sock.sendall(data[position : position + size])
            peer.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        break
    peer.sock.settimeout(PATIENCE)
    return time.monotonic() - start


# ---------------------------------------------------------------------- time


def test_the_time_for_a_request_is_absolute(face: str, tmp_path: Path) -> None:
    with target(face, tmp_path, **limited(Timers(artim=0.6))) as made, pending(made.port) as peer:
        seconds = slowly(peer, say("RQ of 1000 contexts"), 10, 0.02)
        peer.read()
        assert peer.got == ["close"]
        assert 0.5 < seconds < 2.0
        is_served(made.address)


@pytest.mark.parametrize(("rate", "lives"), [(600, False), (3000, True)])
def test_a_data_set_that_comes_too_slowly_is_given_up(face: str, rate: int, lives: bool, tmp_path: Path) -> None:
    timers = Timers(artim=0.2, progress=0.3)
    with target(face, tmp_path, **limited(timers, Limits(progress=1500))) as made, pending(made.port) as peer:
        peer.sock.sendall(say("RQ"))
        peer.read()
        slowly(peer, message(STORE, STORE_RQ) + p_data(PDV(STORE, False, False, bytes(3000))), rate // 20, 0.05)
        peer.sock.sendall(say("RELEASE-RQ"))
        peer.read()
        assert peer.got[1] == ("A-RELEASE-RP" if lives else "A-ABORT (0,0)")


def test_an_idle_association_is_given_up_and_a_busy_one_is_not(face: str, tmp_path: Path) -> None:
    with (
        target(face, tmp_path, **limited(Timers(artim=0.2, idle=0.5))) as made,
        pending(made.port) as idle,
        pending(made.port) as busy,
    ):
        for peer in (idle, busy):
            peer.sock.sendall(say("RQ"))
            peer.read()
        for _ in range(4):
            busy.sock.sendall(say("echo"))
            busy.read()
            assert slowly(busy, b"", 1, 0.2) < 0.1
            time.sleep(0.2)
        idle.read()
        assert idle.got[1:] == ["A-ABORT (0,0)"]
        busy.sock.sendall(say("RELEASE-RQ"))
        busy.read()
        assert busy.got[1:] == ["C-ECHO-RSP 0000H"] * 4 + ["A-RELEASE-RP"]


def test_who_does_not_close_after_our_last_word_is_closed_upon(face: str, tmp_path: Path) -> None:
    with target(face, tmp_path, **limited(Timers(artim=0.3))) as made, pending(made.port) as peer:
        peer.sock.sendall(say("HTTP"))
        start = time.monotonic()
        peer.read()
        peer.read()
        assert peer.got == ["A-ABORT (2,1)", "close"]
        assert 0.2 < time.monotonic() - start < 2.0


# ---------------------------------------------------------------------- sizes


def test_the_size_of_a_request(face: str, tmp_path: Path) -> None:
    size = len(say("RQ")) - 6
    for limit, answer in ((size, "A-ASSOCIATE-AC"), (size - 1, "A-ABORT (2,6)")):
        with target(face, tmp_path, **limited(limits=Limits(associate_pdu=limit))) as made:
            assert ask(made.port, say("RQ")) == answer


def test_the_size_of_a_command_set(face: str, tmp_path: Path) -> None:
    size = len(QUERY_RQ)
    for limit, answer in ((size, "C-FIND-RSP 0000H"), (size - 1, "A-ABORT (0,0)")):
        with target(face, tmp_path, **limited(limits=Limits(command_set=limit))) as made, pending(made.port) as peer:
            peer.sock.sendall(say("RQ"))
            peer.read()
            peer.sock.sendall(message(QUERY, QUERY_RQ, b"identifier"))
            peer.read()
            assert peer.got[1] == answer


def test_the_size_of_an_identifier(face: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with target(face, tmp_path, **limited(limits=Limits(identifier=1000))) as made, pending(made.port) as peer:
        peer.sock.sendall(say("RQ"))
        peer.read()
        for size in (1000, 1001, 500_000, 1000):
            peer.sock.sendall(message(QUERY, QUERY_RQ, bytes(size)))
            peer.read()
        assert peer.got[1:] == ["C-FIND-RSP 0000H", "C-FIND-RSP 0213H", "C-FIND-RSP 0213H", "C-FIND-RSP 0000H"]
        told = [record.getMessage().partition(": ")[2] for record in caplog.records if record.levelno >= 30]
        assert told == [
            "refused C-FIND-RQ, message 7: 0213H resource limitation (the data set has more than 1000 bytes)"
        ] * 2


# ---------------------------------------------------------------------- numbers

CROWDED = "A-ASSOCIATE-RJ (2,3,2)"
ELSEWHERE = {
    "maximum_associations": CROWDED,
    "maximum_per_host": "A-ASSOCIATE-AC",
    "maximum_per_ae": CROWDED,
}
"""What a peer of another address gets, who calls itself the same."""
OTHERWISE = {
    "maximum_associations": CROWDED,
    "maximum_per_host": CROWDED,
    "maximum_per_ae": "A-ASSOCIATE-AC",
}
"""What a peer of the same address gets, who calls itself something else."""


@pytest.mark.parametrize("limit", ELSEWHERE)
def test_the_number_of_associations(face: str, limit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = encode(replace(RQ, calling_ae_title="OTHER"))
    with target(face, tmp_path, **limited(Timers(), **{limit: 2})) as made, contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(pending(made.port)) for _ in range(2))
        for peer in (first, second):
            peer.sock.sendall(say("RQ"))
            peer.read()
            assert peer.got == ["A-ASSOCIATE-AC"]
        assert ask(made.port, say("RQ")) == CROWDED
        assert "refused 'HOSTILE', too many associations" in caplog.text
        with pending(made.port, "127.0.0.2") as peer:
            peer.sock.sendall(say("RQ"))
            peer.read()
            assert peer.got == [ELSEWHERE[limit]]
        assert ask(made.port, other) == OTHERWISE[limit]
        first.sock.sendall(say("RELEASE-RQ"))
        first.read()
        first.sock.close()
        until(lambda: ask(made.port, say("RQ")) == "A-ASSOCIATE-AC", "there is room again")
        second.reset()
        made.is_idle()


# ---------------------------------------------------------------------- memory

PEERS = 64
SERVERS = {
    "blocking": "import dulcet.cli; dulcet.cli.main()",
    "asyncio": """
import asyncio, sys, dulcet, dulcet.aio
async def main():
    async with dulcet.aio.serve("RECEIVER@127.0.0.1:0", store) as server:
        print("listening on", server.address.host + ":" + str(server.address.port), flush=True)
        await asyncio.Event().wait()
async def store(request):
    if request.field == 1:
        await request.save(folder)
    await request.respond()
folder = dulcet.StoreDirectory(sys.argv[3], durability="none")
asyncio.run(main())
""",
}
LIES = {
    "a request of 4 GiB": lambda: pdu(1, bytes(10_000), 0xFFFFFFFF),
    "a request of 1 MiB, which never comes": lambda: pdu(1, bytes(10_000), 1 << 20),
    "a P-DATA-TF of 4 GiB": lambda: called() + pdu(4, pdv(1, 1, bytes(10_000), 0xFFFFFFF0), 0xFFFFFFFF),
    "a data set of 4 GiB": lambda: (
        called() + say("half a data set")[:300] + pdu(4, pdv(3, 0, bytes(10_000), 0xFFFFFFF0), 0xFFFFFFFF)
    ),
    "an identifier of 4 GiB": lambda: (
        called() + message(1, QUERY_RQ) + pdu(4, pdv(1, 0, bytes(10_000), 0xFFFFFFF0), 0xFFFFFFFF)
    ),
}


def called() -> bytes:
    return encode(replace(RQ, called_ae_title="RECEIVER"))


@contextlib.contextmanager
def process(face: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A provider in a process of its own: its id and its port."""
    options = ["listen", "--dir", str(folder), "--port", "0", "--durability", "none"]
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVERS[face], *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert serving.stdout is not None
        while not (found := re.search(r"listening on \S+:(\d+)", line := serving.stdout.readline())):
            assert line, "it ended before it listened"
        yield serving.pid, int(found[1])
    finally:
        serving.kill()
        serving.communicate()


def test_memory_follows_what_came_and_not_what_was_declared(face: str, tmp_path: Path) -> None:
    with process(face, tmp_path / "kept") as (pid, port):
        is_served(f"RECEIVER@127.0.0.1:{port}")
        before = peak(pid)
        for lie in LIES.values():
            with contextlib.ExitStack() as stack:
                words = lie()
                for _ in range(PEERS):
                    peer = stack.enter_context(pending(port))
                    with contextlib.suppress(ConnectionError):
                        peer.sock.sendall(words)
                is_served(f"RECEIVER@127.0.0.1:{port}")
        grown = peak(pid) - before
        assert grown < 64 << 20, f"{grown >> 20} MiB for {PEERS} peers at once"


def test_a_good_sender_beside_holders_keeps_its_rate(face: str, tmp_path: Path) -> None:
    """In turns with a server that nobody holds, so that what the machine does is the same for both; it is about all of
    it, and half is what a busy machine lets us insist on."""
    files = [make_instance(tmp_path / f"{n}.dcm", 20_000, seed=n, sop_class_uid=CT_IMAGE) for n in range(100)]
    with (
        process(face, tmp_path / "alone") as (_, free),
        process(face, tmp_path / "beside") as (_, held),
        contextlib.ExitStack() as stack,
    ):
        for words in [b"", say("half RQ"), say("RQ")[:7]] * 300:
            stack.enter_context(pending(held)).sock.sendall(words)
        turns = [(seconds(free, files), seconds(held, files)) for _ in range(8)][1:]  # the first one loads code
        alone, beside = zip(*turns, strict=True)
        share = median(alone) / median(beside)
        print(f"{face}: {share:.0%} of its rate beside 900 holders")
        assert share > 0.5


def seconds(port: int, files: list[Path]) -> float:
    """What sending them takes."""
    with dulcet.associate(f"RECEIVER@127.0.0.1:{port}") as association:
        start = time.perf_counter()
        assert all(sent.ok for sent in association.store_many(files))
        return time.perf_counter() - start


def peak(pid: int) -> int:
    """The most memory that a process ever had, bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
