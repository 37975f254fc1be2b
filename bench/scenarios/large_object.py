"""S3: one object of 2 GB, against DCMTK and against a loop that does nothing but receive and write."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from tests.corpus import make_instance
from tests.interop import peers

from bench.contestants import (
    DULCET_RECEIVER,
    DULCET_SENDER,
    PYNETDICOM_TUNED_RECEIVER,
    PYNETDICOM_TUNED_SENDER,
    TUNED_RECEIVER,
    TUNED_SENDER,
    Receiver,
    Sender,
    pair_name,
    transfer,
)
from bench.measuring import Contestant, Scenario, Target

BARE_LOOP = str(Path(__file__).resolve().parent.parent / "bare_loop.py")


def _bare_receiver(folder: Path) -> peers.ServerContext:
    return peers.announced([sys.executable, BARE_LOOP, "receive", str(folder)], folder)


def _bare_sender(server: peers.Server, files: Path) -> list[str]:
    return [sys.executable, BARE_LOOP, "send", str(server.port), str(files)]


class OneLargeObject(Scenario):
    id = "S3"
    title = "one 2 GB multi-frame object, tmpfs, durability none"
    metric = "bytes_per_second"
    targets = (
        Target("bytes_per_second", "dulcet", "DCMTK tuned", at_least=1.0),
        Target("bytes_per_second", "dulcet", "bare loop", at_least=0.8),
        Target("sender_peak_bytes", "dulcet", at_most=80e6),
        Target("receiver_peak_bytes", "dulcet", at_most=80e6),
    )
    limits = "CPU of the receiver: recv and write copy each byte once; the bare loop is the floor in Python"

    def prepare(self, workspace: Path) -> None:
        self.large, self.smaller = workspace / "large", workspace / "smaller"
        self.large.mkdir()
        self.smaller.mkdir()
        make_instance(self.large / "0.dcm", self.size.pick(2000, 256) << 20)
        make_instance(self.smaller / "0.dcm", self.size.pick(256, 64) << 20)

    def contestants(self) -> list[Contestant]:
        bare = Sender("bare loop", _bare_sender, peers.STOCK), Receiver("bare loop", _bare_receiver)
        pairs = (
            (DULCET_SENDER, DULCET_RECEIVER, self.large),
            (TUNED_SENDER, TUNED_RECEIVER, self.large),
            (*bare, self.large),
            (DULCET_SENDER, TUNED_RECEIVER, self.large),
            (TUNED_SENDER, DULCET_RECEIVER, self.large),
            (PYNETDICOM_TUNED_SENDER, PYNETDICOM_TUNED_RECEIVER, self.smaller),
        )
        return [
            Contestant(pair_name(sender, receiver), partial(transfer, sender, receiver, files, sample_memory=True))
            for sender, receiver, files in pairs
        ]
