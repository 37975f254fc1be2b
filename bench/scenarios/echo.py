"""S4: C-ECHO on an open association, message by message."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from tests.interop import peers
from tests.interop.peers import Finished, Server

from bench.contestants import (
    DULCET_RECEIVER,
    PYNETDICOM_RECEIVER,
    RUN_DEADLINE,
    STOCK_RECEIVER,
    TUNED_RECEIVER,
    Receiver,
)
from bench.measuring import Contestant, Metrics, RunFailed, Scenario, Target, output_folder

ECHO_CLIENT = str(Path(__file__).resolve().parent.parent / "echo_client.py")


def echo_times(finished: Finished) -> Metrics:
    """Percentiles of the times that a client printed, one for each echo; the first hundredth is warming up."""
    times = finished.json_lines()[-1]["echo_seconds"]
    if not isinstance(times, list):
        raise RunFailed(f"no times in {finished.output[:200]!r}")
    settled = times[len(times) // 100 :]
    return {"p50_seconds": median(settled), "p99_seconds": quantiles(settled, n=100)[98]}


def _dulcet(server: Server, count: int) -> Metrics:
    return echo_times(
        peers.run([sys.executable, ECHO_CLIENT, server.address, str(count)], timeout=RUN_DEADLINE).check()
    )


def _bare(server: Server, count: int) -> Metrics:
    address = f"{server.host}:{server.port}"
    return echo_times(peers.run([sys.executable, ECHO_CLIENT, "--bare", address, str(count)]).check())


def _pynetdicom(server: Server, count: int) -> Metrics:
    finished = peers.pynetdicom_scu(server.port, [], "--echoes", str(count), aet=server.aet, timeout=RUN_DEADLINE)
    return echo_times(finished.check())


def _echoscu(environment: dict[str, str], server: Server, count: int) -> Metrics:
    """echoscu prints no times: the mean over `count` echoes, its own start and association taken off."""
    options = ("-pdu", "131072") if environment else ()
    one, many = (
        peers.echoscu(
            server.port,
            *options,
            "--repeat",
            str(number),
            aet=server.aet,
            environment=environment,
            timeout=RUN_DEADLINE,
        ).check()
        for number in (1, count + 1)
    )
    if many.seconds <= one.seconds:
        raise RunFailed(f"{count} echoes took no longer than one: the machine is too busy to tell")
    return {"p50_seconds": (many.seconds - one.seconds) / count}


class EchoOnOpenAssociation(Scenario):
    """Percentiles where the client can tell them; echoscu's figure is a mean."""

    id = "S4"
    title = "C-ECHO on an open association"
    metric = "p50_seconds"
    quick_rounds = 1
    targets = (
        Target("p50_seconds", "dulcet", "DCMTK tuned", at_least=1.0),
        Target("p50_seconds", "dulcet", "pynetdicom", at_least=30),
    )
    limits = "CPU of both sides: the interpreter, 0.04 ms a message and side above the bare exchange"

    def contestants(self) -> list[Contestant]:
        fast, slow = self.size.pick(10_000, 3_000), self.size.pick(200, 60)
        bare = Receiver("bare ping-pong", lambda _: peers.announced([sys.executable, ECHO_CLIENT, "--serve"], None))
        rows: tuple[tuple[str, Receiver, Callable[[Server, int], Metrics], int], ...] = (
            ("dulcet", DULCET_RECEIVER, _dulcet, fast),
            ("DCMTK tuned", TUNED_RECEIVER, partial(_echoscu, peers.TUNED), fast),
            ("bare ping-pong", bare, _bare, fast),
            ("dulcet to DCMTK tuned", TUNED_RECEIVER, _dulcet, fast),
            ("DCMTK tuned to dulcet", DULCET_RECEIVER, partial(_echoscu, peers.TUNED), fast),
            ("dulcet to DCMTK stock", STOCK_RECEIVER, _dulcet, fast),
            ("DCMTK stock to dulcet", DULCET_RECEIVER, partial(_echoscu, peers.STOCK), slow),
            ("DCMTK stock", STOCK_RECEIVER, partial(_echoscu, peers.STOCK), slow),
            ("pynetdicom", PYNETDICOM_RECEIVER, _pynetdicom, slow),
        )
        return [Contestant(name, partial(_run, receiver, client, count)) for name, receiver, client, count in rows]


def _run(receiver: Receiver, client: Callable[[Server, int], Metrics], count: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, receiver.start(folder) as server:
        return client(server, count)
