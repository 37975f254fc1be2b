"""S8: peers as they are installed, on small objects: whose side cures the stall of 40 ms per message."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.corpus import make_folder

from bench.contestants import (
    DULCET_RECEIVER,
    DULCET_SENDER,
    STOCK_RECEIVER,
    STOCK_SENDER,
    pair_name,
    transfer,
)
from bench.measuring import Contestant, Scenario, Target


class StockPeers(Scenario):
    """Stock DCMTK to us, us to stock DCMTK, and stock DCMTK to itself with fewer objects."""

    id = "S8"
    title = "stock peers, 2 KB objects"
    metric = "objects_per_second"
    targets = (
        Target("objects_per_second", "DCMTK stock to dulcet", "DCMTK stock", at_least=30),
        Target("objects_per_second", "dulcet to DCMTK stock", "DCMTK stock", at_least=30),
    )
    limits = "CPU of our side, as in S2: no stall is left"

    def prepare(self, workspace: Path) -> None:
        self.many, self.few = workspace / "many", workspace / "few"
        make_folder(self.many, self.size.pick(2000, 1000), 2000)
        make_folder(self.few, self.size.pick(100, 20), 2000)

    def contestants(self) -> list[Contestant]:
        return [
            Contestant(pair_name(sender, receiver), partial(transfer, sender, receiver, files))
            for sender, receiver, files in (
                (STOCK_SENDER, DULCET_RECEIVER, self.many),
                (DULCET_SENDER, STOCK_RECEIVER, self.many),
                (STOCK_SENDER, STOCK_RECEIVER, self.few),
            )
        ]
