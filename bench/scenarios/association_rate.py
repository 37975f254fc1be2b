"""S5: associations made and released, one after the other, by the same raw client for every server."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.interop import peers

from bench.contestants import DULCET_RECEIVER, PYNETDICOM_RECEIVER, TUNED_RECEIVER, Receiver
from bench.loads import dulcet_server, load
from bench.measuring import Contestant, Metrics, Scenario, Target, output_folder

FORKING = Receiver("storescp --fork", lambda folder: peers.storescp(folder, "--fork", environment=peers.TUNED))
LOOP = Receiver("dulcet asyncio", lambda folder: dulcet_server("asyncio", folder))


def _run(receiver: Receiver, contexts: int, seconds: float, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, receiver.start(folder) as server:
        load("associate", server, contexts=contexts, seconds=0.2)  # the first ones load code
        return load("associate", server, contexts=contexts, seconds=seconds)


class AssociationRate(Scenario):
    """The client is a raw one, so that only the acceptor is compared; `storescp` serves one association at a time."""

    id = "S5"
    title = "associate + release, one at a time"
    metric = "associations_per_second"
    quick_rounds = 1
    targets = (
        Target("associations_per_second", "dulcet", at_least=3000),
        Target("associations_per_second", "dulcet", "storescp --fork", at_least=10),
        Target("associations_per_second", "dulcet", "storescp", at_least=1.0),
        Target("associations_per_second", "dulcet, 128 contexts", "storescp, 128 contexts", at_least=1.0),
        Target("associations_per_second", "dulcet", "pynetdicom", at_least=10),
    )
    limits = "CPU of the acceptor: 0.15 ms of interpreter and system calls an association, on one core"

    def contestants(self) -> list[Contestant]:
        fast, slow = self.size.pick(2, 1), self.size.pick(3, 1)
        receivers = (
            (DULCET_RECEIVER, "dulcet", fast),
            (LOOP, "dulcet asyncio", fast),
            (TUNED_RECEIVER, "storescp", fast),
            (FORKING, "storescp --fork", fast),
            (PYNETDICOM_RECEIVER, "pynetdicom", slow),
        )
        return [
            Contestant(name + suffix, partial(_run, receiver, contexts, seconds))
            for contexts, suffix in ((1, ""), (128, ", 128 contexts"))
            for receiver, name, seconds in receivers
        ]
