"""S7: many idle associations and a busy one beside them."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

from tests.interop import peers
from tests.interop.peers import Server

from bench.contestants import PYNETDICOM_RECEIVER, Receiver
from bench.loads import dulcet_server, held, resident, server_cpu
from bench.measuring import Contestant, Metrics, Scenario, Target, output_folder
from bench.scenarios.echo import ECHO_CLIENT, echo_times

THREADS = Receiver("dulcet threads", lambda folder: dulcet_server("threads", folder))
LOOP = Receiver("dulcet asyncio", lambda folder: dulcet_server("asyncio", folder))
FORKING = Receiver("storescp --fork", lambda folder: peers.storescp(folder, "--fork", environment=peers.TUNED))
IDLE_SECONDS = 2.0


def _echoes(server: Server, count: int) -> Metrics:
    return echo_times(peers.run([sys.executable, ECHO_CLIENT, server.address, str(count)], timeout=120).check())


def _run(receiver: Receiver, idle: int, echoes: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, receiver.start(folder) as server:
        alone = _echoes(server, echoes)
        before = resident(server)
        with held(server, idle, 100.0) as holder:
            memory = resident(server) - before
            cpu, began = server_cpu(server), time.monotonic()
            time.sleep(IDLE_SECONDS)
            share = (server_cpu(server) - cpu) / (time.monotonic() - began)
            busy = _echoes(server, echoes)
            setup = holder.stop().check().json_lines()[-1]
        return {
            "association_bytes": memory / idle,
            "idle_cpu": share,
            "p99_seconds": busy["p99_seconds"],
            "p50_seconds": busy["p50_seconds"],
            "alone_p99_seconds": alone["p99_seconds"],
            "p99_growth": busy["p99_seconds"] / alone["p99_seconds"],
            **{name: value for name, value in setup.items() if isinstance(value, float)},
        }


class IdleAssociations(Scenario):
    """Those of `dulcet listen` (threads) and of `dulcet.aio.serve`; the peers get as many as they bear."""

    id = "S7"
    title = "2,000 idle associations and a busy one"
    metric = "association_bytes"
    quick_rounds = 1
    targets = tuple(
        Target(metric, ours, at_most=bound)
        for ours in ("dulcet asyncio", "dulcet threads")
        for metric, bound in (("association_bytes", 25e3), ("idle_cpu", 0.01), ("p99_growth", 2.0))
    )
    limits = "memory: the core's objects and a socket"

    def contestants(self) -> list[Contestant]:
        many, few = self.size.pick(2000, 500), self.size.pick(200, 50)
        echoes = self.size.pick(3000, 500)
        return [
            Contestant("dulcet asyncio", partial(_run, LOOP, many, echoes)),
            Contestant("dulcet threads", partial(_run, THREADS, many, echoes)),
            Contestant(f"storescp --fork, {few}", partial(_run, FORKING, few, echoes)),
            Contestant(f"pynetdicom, {min(few, 80)}", partial(_run, PYNETDICOM_RECEIVER, min(few, 80), 100)),
        ]
