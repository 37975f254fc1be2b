"""S10: image-level C-FIND of one series in an archive that holds many."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from tests.corpus import UID_ROOT, make_instance

from bench.archives import DCMQRSCP, DULCET, ORTHANC, Archive
from bench.loads import load
from bench.measuring import Contestant, Metrics, RunFailed, Scenario, Target, output_folder
from bench.synthetic import fill, uid

REPEATS = 5  # queries in one sample, the middle one counts


def _find(archive: Archive, data: Path, study: str, expected: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder:
        copy = folder / "data"
        shutil.copytree(data, copy)
        with archive.start(copy, False, {}) as server:
            load("find", server, study=study, series=f"{study}.1", repeat=1)  # code and pages are loaded
            figures = load("find", server, study=study, series=f"{study}.1", repeat=REPEATS)
        if figures["answers"] != expected:
            raise RunFailed(f"{figures['answers']} answers, {expected} expected")
        return figures


class ImageQuery(Scenario):
    """dulcet searches the whole number, its peers as many as they can load in time; the answer has one size."""

    id = "S10"
    title = "image-level C-FIND: one series of 100,000 instances"
    metric = "answers_per_second"
    quick_rounds = 2
    targets = (
        Target("answers_per_second", "dulcet", "Orthanc tuned", at_least=2.0),
        Target("answers_per_second", "dulcet", "dcmqrscp tuned", at_least=1.0),
        Target("first_seconds", "dulcet", at_most=0.050),
    )
    limits = "CPU of the archive: a row becomes an identifier and a message"

    def prepare(self, workspace: Path) -> None:
        self.rows, self.series = self.size.pick(100_000, 10_000), self.size.pick(2000, 400)
        fill(workspace / "dulcet", self.rows, self.series)
        file = make_instance(workspace / "small.dcm", 2000)
        # The number of its sender and its run make the study of the load generator; see load.py.
        self.loaded = f"{UID_ROOT}.001.100"
        for archive in (ORTHANC, DCMQRSCP):
            with archive.start(archive.home(workspace), False, {}) as server:
                load("store", server, file=file, senders=1, count=self.series, run=1)

    def contestants(self) -> list[Contestant]:
        return [
            Contestant("dulcet", partial(self._run, DULCET, uid(self.rows // self.series // 2))),
            Contestant(ORTHANC.name, partial(self._run, ORTHANC, self.loaded)),
            Contestant(DCMQRSCP.name, partial(self._run, DCMQRSCP, self.loaded)),
        ]

    def _run(self, archive: Archive, study: str, workspace: Path) -> Metrics:
        return _find(archive, archive.home(workspace), study, self.series, workspace)
