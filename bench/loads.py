"""Running `load.py` against a server, and what the server spent on it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import peers
from tests.interop.peers import Process, Server

from bench.measuring import Metrics, RunFailed

LOAD = str(Path(__file__).resolve().parent / "load.py")
SERVERS = str(Path(__file__).resolve().parent / "servers.py")
LOAD_DEADLINE = 300.0


def dulcet_server(face: str, folder: Path, window: int = 1) -> peers.ServerContext:
    """`threads` or `asyncio` with limits far away."""
    command = [sys.executable, SERVERS, face, "--dir", str(folder), "--window", str(window)]
    return peers.announced(command, folder)


def _command(mode: str, server: Server, options: dict[str, object]) -> list[str]:
    words = [sys.executable, LOAD, mode, server.host, str(server.port), server.aet]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def load(mode: str, server: Server, **options: object) -> Metrics:
    """Run one load to its end; its figures, and the processor time that the server took."""
    before = server_cpu(server)
    finished = peers.run(_command(mode, server, options), timeout=LOAD_DEADLINE).check()
    figures = {name: value for name, value in finished.json_lines()[-1].items() if isinstance(value, int | float)}
    return {**figures, "receiver_cpu_seconds": server_cpu(server) - before}


@contextmanager
def held(server: Server, count: int, seconds: float) -> Iterator[Process]:
    """`count` idle associations for the length of the block; RunFailed when they cannot be had."""
    with peers.process(_command("hold", server, {"count": count, "seconds": seconds})) as running:
        peers.wait_until(lambda: running.ended() or "holding" in running.output(), 120.0, f"{count} idle associations")
        if running.ended():
            raise RunFailed(running.errors()[-500:])
        yield running


def server_cpu(server: Server) -> float:
    """Of the server and all it started, those included that have ended."""
    return sum(map(peers.cpu_seconds, peers.descendants(server.process.pid)))


def resident(server: Server) -> int:
    """Bytes that the server and its children have in memory now; what they share counts once (PSS)."""
    total = 0
    for pid in peers.descendants(server.process.pid):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def arrived(folder: Path) -> int:
    """Files below a folder, dulcet's unfinished ones left out."""
    return sum(len(names) for path, _, names in os.walk(folder) if ".partial" not in path)
