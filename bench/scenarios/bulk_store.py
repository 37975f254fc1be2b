"""S1 and S2: many objects over one association, from memory to memory, durability none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from tests.corpus import make_folder

from bench.contestants import (
    DULCET_RECEIVER,
    DULCET_SENDER,
    PYNETDICOM_RECEIVER,
    PYNETDICOM_SENDER,
    PYNETDICOM_TUNED_RECEIVER,
    PYNETDICOM_TUNED_SENDER,
    STOCK_RECEIVER,
    STOCK_SENDER,
    TUNED_RECEIVER,
    TUNED_SENDER,
    Receiver,
    Sender,
    pair_name,
    transfer,
)
from bench.measuring import Contestant, Scenario, Target


class BulkStore(Scenario):
    """Senders and receivers in pairs; those that stall on every message get fewer objects, and rates are compared."""

    object_bytes: ClassVar[int]
    counts: ClassVar[dict[str, tuple[int, int]]]  # work for: full, quick
    metric = "objects_per_second"

    def prepare(self, workspace: Path) -> None:
        self.folders = {name: workspace / name.replace(" ", "-") for name in self.counts}
        for name, folder in self.folders.items():
            make_folder(folder, self.size.pick(*self.counts[name]), self.object_bytes)

    def contestants(self) -> list[Contestant]:
        pairs: list[tuple[Sender, Receiver, str]] = [
            (DULCET_SENDER, DULCET_RECEIVER, "fast"),
            (TUNED_SENDER, TUNED_RECEIVER, "fast"),
            (DULCET_SENDER, TUNED_RECEIVER, "fast"),
            (TUNED_SENDER, DULCET_RECEIVER, "fast"),
            (PYNETDICOM_SENDER, PYNETDICOM_RECEIVER, "pynetdicom"),
            (PYNETDICOM_TUNED_SENDER, PYNETDICOM_TUNED_RECEIVER, "pynetdicom"),
            (STOCK_SENDER, STOCK_RECEIVER, "DCMTK stock"),
        ]
        return [
            Contestant(pair_name(sender, receiver), partial(transfer, sender, receiver, self.folders[work]))
            for sender, receiver, work in pairs
        ]


class ManyLargeObjects(BulkStore):
    id = "S1"
    title = "2,000 x 512 KiB, one association, tmpfs, durability none"
    object_bytes = 512 * 1024
    counts = {"fast": (2000, 400), "pynetdicom": (100, 20), "DCMTK stock": (100, 20)}
    targets = (
        Target("objects_per_second", "dulcet", "DCMTK tuned", at_least=1.5),
        Target("objects_per_second", "dulcet", "pynetdicom", at_least=20),
    )
    limits = (
        "CPU of the receiver: most of it copies in the kernel (recv, then write) and new pages, the rest the "
        "interpreter; our start-up of 0.1 s"
    )


class ManySmallObjects(BulkStore):
    id = "S2"
    title = "5,000 x 2 KB, one association, tmpfs, durability none"
    object_bytes = 2000
    counts = {"fast": (5000, 2000), "pynetdicom": (200, 40), "DCMTK stock": (100, 20)}
    targets = (
        Target("objects_per_second", "dulcet", "DCMTK tuned", at_least=1.5),
        Target("objects_per_second", "dulcet", "pynetdicom", at_least=50),
    )
    limits = "CPU of the sender: finding, opening and looking at each file before it is sent, then start-up (0.1 s)"
