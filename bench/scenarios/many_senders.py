"""S6: 64 senders at once, all of them one raw client, so that only the receivers are compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.corpus import make_instance
from tests.interop import peers

from bench.contestants import DULCET_RECEIVER, TUNED_OPTIONS, Receiver, touch_memory
from bench.loads import arrived, dulcet_server, load
from bench.measuring import Contestant, Metrics, RunFailed, Scenario, Target, output_folder

SENDERS = 64
FORKING = Receiver(
    "storescp --fork tuned",
    lambda folder: peers.storescp(folder, "--fork", *TUNED_OPTIONS, environment=peers.TUNED),
)
WORKERS = Receiver(
    "dulcet --workers 2", lambda folder: peers.dulcet_listen(folder, "--durability", "none", "--workers", "2")
)
LOOP = Receiver("dulcet asyncio", lambda folder: dulcet_server("asyncio", folder))


def _run(receiver: Receiver, file: Path, count: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, receiver.start(folder) as server:
        touch_memory(workspace, SENDERS * count * file.stat().st_size)
        figures = load("store", server, file=file, senders=SENDERS, count=count)
        if (found := arrived(folder)) != SENDERS * count:
            raise RunFailed(f"{SENDERS * count} objects acknowledged, {found} arrived")
        return figures


class ManySenders(Scenario):
    """`fairness`: objects of the quickest sender over those of the slowest, when the first one is done."""

    id = "S6"
    title = "64 concurrent senders, tmpfs, durability none"
    metric = "objects_per_second"
    targets = (
        Target("objects_per_second", "dulcet", "storescp --fork tuned", at_least=1.5),
        Target("fairness", "dulcet", at_most=2.0),
        Target("objects_per_second", "dulcet, 2 KB", "storescp --fork tuned, 2 KB", at_least=1.5),
        Target("fairness", "dulcet, 2 KB", at_most=2.0),
        Target("objects_per_second", "dulcet --workers 2", "storescp --fork tuned", at_least=1.5),
        Target("fairness", "dulcet --workers 2", at_most=2.0),
        Target("objects_per_second", "dulcet --workers 2, 2 KB", "storescp --fork tuned, 2 KB", at_least=1.5),
        Target("fairness", "dulcet --workers 2, 2 KB", at_most=2.0),
    )
    limits = (
        "CPU of the receiver: one interpreter is one core, two workers share both with the 64 senders, as "
        "storescp --fork does"
    )

    def prepare(self, workspace: Path) -> None:
        self.large = make_instance(workspace / "large.dcm", 512 * 1024)
        self.small = make_instance(workspace / "small.dcm", 2000)

    def contestants(self) -> list[Contestant]:
        return [
            Contestant(receiver.name + suffix, partial(_run, receiver, file, count))
            for file, suffix, count in (
                (self.large, "", self.size.pick(24, 8)),
                (self.small, ", 2 KB", self.size.pick(150, 40)),
            )
            for receiver in (DULCET_RECEIVER, WORKERS, FORKING, LOOP)
        ]
