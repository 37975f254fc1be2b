"""S12: what a user waits for before anything happens: the import, and one echo as a whole process."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from tests.interop import peers

from bench.contestants import TUNED_RECEIVER
from bench.measuring import Contestant, Metrics, Scenario, Target, output_folder

TIMED_IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def _import(module: str, workspace: Path) -> Metrics:
    del workspace
    finished = peers.run([sys.executable, "-c", TIMED_IMPORT.format(module)]).check()
    return {"import_seconds": float(finished.output), "seconds": finished.seconds}


def _whole_echo(program: str, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, TUNED_RECEIVER.start(folder) as server:
        target = (server.host, str(server.port))
        commands: dict[str, tuple[str, ...]] = {
            "dulcet": (*peers.DULCET, "echo", server.address),
            "echoscu": (peers.tool("echoscu"), *target),
            "pynetdicom": (sys.executable, "-m", "pynetdicom", "echoscu", *target),
        }
        return {"seconds": peers.run(commands[program], peers.TUNED).check().seconds}


class StartUp(Scenario):
    id = "S12"
    title = "start: `import dulcet`; whole process `dulcet echo`"
    metric = "seconds"
    targets = (
        Target("import_seconds", "import dulcet", at_most=0.060),
        Target("seconds", "dulcet echo", at_most=0.25),
    )
    limits = "imports: the interpreter 12 ms, the command line library 30 ms, our own modules 50 ms"

    def contestants(self) -> list[Contestant]:
        return [
            Contestant("import dulcet", partial(_import, "dulcet")),
            Contestant("import pynetdicom", partial(_import, "pynetdicom")),
            Contestant("dulcet echo", partial(_whole_echo, "dulcet")),
            Contestant("DCMTK echoscu", partial(_whole_echo, "echoscu")),
            Contestant("pynetdicom echoscu", partial(_whole_echo, "pynetdicom")),
        ]
