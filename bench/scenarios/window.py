"""S13: what the asynchronous operations window brings, ours to ours, on the loopback and with a delay."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.corpus import make_folder
from tests.interop import peers

from bench.contestants import RUN_DEADLINE, own_seconds, verify
from bench.loads import dulcet_server, server_cpu
from bench.measuring import Contestant, Metrics, Scenario, Target, output_folder
from dulcet.trace.proxy import Fault, Proxy

CLIENT = str(Path(__file__).resolve().parent.parent / "window_client.py")
DELAY = 0.005  # seconds, each way


def _run(files: Path, window: int, delay: float, workspace: Path) -> Metrics:
    with ExitStack() as stack:
        folder = stack.enter_context(output_folder(workspace))
        server = stack.enter_context(dulcet_server("threads", folder, window))
        port = server.port
        if delay:
            port = stack.enter_context(Proxy((server.host, port), faults=[Fault("delay", delay)])).port
        before = server_cpu(server)
        address = f"{server.aet}@{server.host}:{port}"
        finished = peers.run([sys.executable, CLIENT, address, str(window), str(files)], timeout=RUN_DEADLINE).check()
        seconds = own_seconds(finished)
        count, size = verify(files, folder)
        return {
            "seconds": seconds,
            "objects_per_second": count / seconds,
            "bytes_per_second": size / seconds,
            "sender_cpu_seconds": finished.cpu_seconds,
            "receiver_cpu_seconds": server_cpu(server) - before,
        }


class Window(Scenario):
    """The delay is that of our own tracing proxy, which lets every piece it reads wait for 5 ms, each way."""

    id = "S13"
    title = "window 8/8 against 1/1, ours to ours, 2 KB objects"
    metric = "objects_per_second"
    targets = (
        Target("objects_per_second", "8/8", "1/1", at_least=1.3),
        Target("objects_per_second", "8/8, 5 ms", "1/1, 5 ms", at_least=5.0),
    )
    limits = "without delay CPU of both sides, which work at the same time; with it the delay alone"

    def prepare(self, workspace: Path) -> None:
        self.many, self.few = workspace / "many", workspace / "few"
        make_folder(self.many, self.size.pick(4000, 1000), 2000)
        make_folder(self.few, self.size.pick(300, 100), 2000)

    def contestants(self) -> list[Contestant]:
        return [
            Contestant("8/8", partial(_run, self.many, 8, 0.0)),
            Contestant("1/1", partial(_run, self.many, 1, 0.0)),
            Contestant("8/8, 5 ms", partial(_run, self.few, 8, DELAY)),
            Contestant("1/1, 5 ms", partial(_run, self.few, 1, DELAY)),
        ]
