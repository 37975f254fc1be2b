"""S9: what is acknowledged is on the disk: archives that fsync, against each other and against the disk itself."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

from tests.corpus import make_instance
from tests.interop import peers

from bench.archives import DULCET, ORTHANC, WORKERS, Archive
from bench.loads import arrived, load
from bench.measuring import Contestant, Metrics, RunFailed, Scenario, Target

DISK_RATE = str(Path(__file__).resolve().parent.parent / "disk_rate.py")
SIZES = {"512 KiB": 512 * 1024, "2 KB": 2000}
SENDERS = (1, 8, 32)
WARM_UP = 4  # objects that are not counted: code is loaded, the first folders and index pages are made
runs = count(1)


def _ingest(archive: Archive, file: Path, senders: int, objects: int, workspace: Path) -> Metrics:
    del workspace  # that one is in memory
    with tempfile.TemporaryDirectory(prefix="dulcet-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with archive.start(data, True, {}) as server:
            load("store", server, file=file, senders=1, count=WARM_UP, run=0)
            before = arrived(data)
            figures = load("store", server, file=file, senders=senders, count=objects // senders, run=next(runs) % 900)
            if (found := arrived(data) - before) < objects // senders * senders:
                raise RunFailed(f"{objects // senders * senders} objects acknowledged, {found} files more than before")
            return figures


def _disk(size: int, threads: int, files: int, workspace: Path) -> Metrics:
    del workspace
    with tempfile.TemporaryDirectory(prefix="dulcet-bench-") as folder:
        command = [sys.executable, DISK_RATE, folder, str(size), str(threads), str(files // threads)]
        finished = peers.run(command, timeout=120).check()
        return {name: float(str(value)) for name, value in finished.json_lines()[-1].items()}


def _label(name: str, senders: int, size: str) -> str:
    return f"{name}, {senders} x {size}"


class DurableIngest(Scenario):
    """On the disk that holds the temporary folder, at the same concurrency for all; Orthanc with SyncStorageArea."""

    id = "S9"
    title = "durable ingest into the archive, senders x size"
    metric = "objects_per_second"
    quick_rounds = 1
    targets = tuple(
        Target("objects_per_second", _label("dulcet", senders, size), _label(peer, senders, size), at_least=bound)
        for size in SIZES
        for senders in SENDERS
        for peer, bound in (("Orthanc tuned", 5.0), ("disk", 0.8))
    )
    limits = (
        "the disk, for which an object waits thrice (its file, its folder, the commit), then 1.5 ms of CPU an object"
    )

    def prepare(self, workspace: Path) -> None:
        self.files = {name: make_instance(workspace / f"{size}.dcm", size) for name, size in SIZES.items()}

    def contestants(self) -> list[Contestant]:
        found = []
        for name, size in SIZES.items():
            for senders in (8,) if self.size.quick else SENDERS:
                objects = self.size.pick(160 if senders == 1 else 480, 64)
                arguments = (self.files[name], senders, objects)
                found += [
                    Contestant(_label("dulcet", senders, name), partial(_ingest, DULCET, *arguments)),
                    Contestant(_label("Orthanc tuned", senders, name), partial(_ingest, ORTHANC, *arguments)),
                    Contestant(_label("disk", senders, name), partial(_disk, size, senders, objects)),
                ]
                if senders == max(SENDERS):  # a few senders leave nothing to do for another process
                    found.append(Contestant(_label(WORKERS.name, senders, name), partial(_ingest, WORKERS, *arguments)))
        return found
