"""S11: C-GET and C-MOVE of a study of 400 objects of 512 KiB, with the same requester for every archive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.corpus import UID_ROOT, make_instance
from tests.interop import peers
from tests.interop.peers import Server

from bench.archives import DCMQRSCP, DULCET, ORTHANC, Archive
from bench.contestants import RUN_DEADLINE, TUNED_RECEIVER
from bench.loads import arrived, load, server_cpu
from bench.measuring import Contestant, Metrics, RunFailed, Scenario, Target, output_folder

STUDY = f"{UID_ROOT}.001.100"  # the first sender of run 1; see load.py
KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}")
DESTINATION = "STORESCP"


def _getscu(server: Server, folder: Path) -> list[str]:
    options = ["-S", "-pdu", "131072", "-aet", "BENCH", "-aec", server.aet, "+B", "-od", str(folder)]
    return [peers.tool("getscu"), *options, *KEYS, server.host, str(server.port)]


def _dulcet_get(server: Server, folder: Path) -> list[str]:
    return [*peers.DULCET, "get", server.address, "-k", f"StudyInstanceUID={STUDY}", "--out", str(folder)]


def _movescu(server: Server, folder: Path) -> list[str]:
    del folder
    options = ["-S", "-aet", "BENCH", "-aec", server.aet, "-aem", DESTINATION]
    return [peers.tool("movescu"), *options, *KEYS, server.host, str(server.port)]


def _dulcet_move(server: Server, folder: Path) -> list[str]:
    del folder
    return [*peers.DULCET, "move", server.address, "-k", f"StudyInstanceUID={STUDY}", "--to", DESTINATION]


Requester = Callable[[Server, Path], list[str]]


def _run(archive: Archive, requester: Requester, expected: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, TUNED_RECEIVER.start(folder) as destination:
        with archive.start(archive.home(workspace), False, {DESTINATION: destination.port}) as server:
            before = server_cpu(server)
            finished = peers.run(requester(server, folder), peers.TUNED, RUN_DEADLINE).check()
            cpu = server_cpu(server) - before
        if (found := arrived(folder)) != expected:
            raise RunFailed(f"{expected} objects asked for, {found} arrived; {finished.output[-300:]}")
        return {
            "seconds": finished.seconds,
            "objects_per_second": expected / finished.seconds,
            "sender_cpu_seconds": cpu,
            "receiver_cpu_seconds": finished.cpu_seconds,
        }


class Retrieve(Scenario):
    """The requester is DCMTK's getscu or movescu, moves go to a tuned storescp; and ours with ours as users have it."""

    id = "S11"
    title = "C-GET and C-MOVE of a study of 400 x 512 KiB, tmpfs"
    metric = "objects_per_second"
    quick_rounds = 1
    targets = tuple(
        Target("objects_per_second", f"dulcet, {what}", f"{peer}, {what}", at_least=bound)
        for what in ("getscu", "movescu")
        for peer, bound in (("Orthanc tuned", 1.5), ("dcmqrscp tuned", 1.0))
    )
    limits = "C-GET: CPU of the requester, which writes; C-MOVE: CPU of the destination"

    def prepare(self, workspace: Path) -> None:
        self.count = self.size.pick(400, 100)
        file = make_instance(workspace / "large.dcm", 512 * 1024)
        for archive in (DULCET, ORTHANC, DCMQRSCP):
            (archive.home(workspace)).mkdir()
            with archive.start(archive.home(workspace), False, {}) as server:
                load("store", server, file=file, senders=1, count=self.count, run=1)

    def contestants(self) -> list[Contestant]:
        archives = (DULCET, ORTHANC, DCMQRSCP)
        pairs: list[tuple[str, Archive, Requester]] = [
            *((f"{archive.name}, getscu", archive, _getscu) for archive in archives),
            *((f"{archive.name}, movescu", archive, _movescu) for archive in archives),
            ("dulcet, dulcet get", DULCET, _dulcet_get),
            ("dulcet, dulcet move", DULCET, _dulcet_move),
        ]
        return [Contestant(name, partial(_run, archive, how, self.count)) for name, archive, how in pairs]
