"""The senders and receivers that compete, as whole processes, and one timed transfer between any two of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.interop import peers
from tests.interop.peers import Finished, Server

from bench.measuring import Metrics, RunFailed, output_folder

RUN_DEADLINE = 240.0  # seconds for one sender; the slowest honest run takes a tenth of it

TUNED_OPTIONS = ("-pdu", "131072", "-dhl")


@dataclass(frozen=True, slots=True)
class Receiver:
    """How to start something that stores what it is sent into a folder."""

    name: str
    start: Callable[[Path], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Sender:
    """How to send all files of a folder, as a user would start it; `own_clock` tells that it prints its own seconds."""

    name: str
    command: Callable[[Server, Path], list[str]]
    environment: Mapping[str, str]
    own_clock: bool = False


def _dulcet_listen(folder: Path) -> AbstractContextManager[Server]:
    return peers.dulcet_listen(folder, "--durability", "none")


def _storescp_tuned(folder: Path) -> AbstractContextManager[Server]:
    return peers.storescp(folder, *TUNED_OPTIONS, environment=peers.TUNED)


def _storescp_stock(folder: Path) -> AbstractContextManager[Server]:
    return peers.storescp(folder)


def _pynetdicom_scp(*options: str) -> Callable[[Path], AbstractContextManager[Server]]:
    return lambda folder: peers.pynetdicom_scp(folder, *options)


def _dulcet_store(server: Server, folder: Path) -> list[str]:
    return [*peers.DULCET, "store", server.address, str(folder)]


def _storescu_tuned(server: Server, folder: Path) -> list[str]:
    # Without -R, which reads every file twice: 3 to 10 % faster.
    options = ["-pdu", "131072", "--max-send-pdu", "131072", "-aec", server.aet]
    return [peers.tool("storescu"), *options, "+sd", server.host, str(server.port), str(folder)]


def _storescu_stock(server: Server, folder: Path) -> list[str]:
    return [peers.tool("storescu"), "-aec", server.aet, "+sd", server.host, str(server.port), str(folder)]


def _pynetdicom_scu(*options: str) -> Callable[[Server, Path], list[str]]:
    script = str(peers.HERE / "pynetdicom_scu.py")

    def command(server: Server, folder: Path) -> list[str]:
        return [sys.executable, script, *options, "--aec", server.aet, "--port", str(server.port), str(folder)]

    return command


DULCET_RECEIVER = Receiver("dulcet", _dulcet_listen)
TUNED_RECEIVER = Receiver("DCMTK tuned", _storescp_tuned)
STOCK_RECEIVER = Receiver("DCMTK stock", _storescp_stock)
PYNETDICOM_RECEIVER = Receiver("pynetdicom", _pynetdicom_scp())
PYNETDICOM_TUNED_RECEIVER = Receiver("pynetdicom tuned", _pynetdicom_scp("--max-pdu", "131072"))

DULCET_SENDER = Sender("dulcet", _dulcet_store, peers.STOCK)
TUNED_SENDER = Sender("DCMTK tuned", _storescu_tuned, peers.TUNED)
STOCK_SENDER = Sender("DCMTK stock", _storescu_stock, peers.STOCK)
# pynetdicom's slow start is not what is compared here: the script times itself from request to release.
# Its default reads and encodes each file; tuned, it sends the file's own bytes in PDUs of 128 KiB.
PYNETDICOM_SENDER = Sender("pynetdicom", _pynetdicom_scu("--parse"), peers.STOCK, own_clock=True)
PYNETDICOM_TUNED_SENDER = Sender(
    "pynetdicom tuned", _pynetdicom_scu("--max-pdu", "131072"), peers.STOCK, own_clock=True
)


def pair_name(sender: Sender, receiver: Receiver) -> str:
    """`dulcet`, or `dulcet to DCMTK tuned` where the sides differ."""
    return sender.name if sender.name == receiver.name else f"{sender.name} to {receiver.name}"


def transfer(sender: Sender, receiver: Receiver, files: Path, workspace: Path, sample_memory: bool = False) -> Metrics:
    """Send a folder once; raises RunFailed unless every file arrived with at least its own size."""
    with output_folder(workspace) as folder, receiver.start(folder) as server:
        touch_memory(workspace, sum(entry.stat().st_size for entry in os.scandir(files)))
        before = peers.cpu_seconds(server.process.pid)
        command = sender.command(server, files)
        finished = peers.run(command, sender.environment, RUN_DEADLINE, sample_memory).check()
        receiver_cpu = peers.cpu_seconds(server.process.pid) - before
        receiver_peak = peers.peak_memory(server.process.pid)
        count, size = verify(files, folder)
        seconds = own_seconds(finished) if sender.own_clock else finished.seconds
        return {
            "seconds": seconds,
            "objects_per_second": count / seconds,
            "bytes_per_second": size / seconds,
            "sender_cpu_seconds": finished.cpu_seconds,
            "receiver_cpu_seconds": receiver_cpu,
            "receiver_peak_bytes": receiver_peak,
            **({"sender_peak_bytes": finished.peak_bytes} if sample_memory else {}),
        }


def touch_memory(workspace: Path, size: int) -> None:
    """Use as much memory as a run will, and free it at once.

    In a virtual machine the first use of a page may wait for the host to find one: that doubles the cost of a write,
    for whoever happens to come first.  Pages just freed are at hand for every contestant alike.
    """
    scratch = workspace / "scratch"
    block = bytes(1 << 20)
    with scratch.open("wb", buffering=0) as file:
        for _ in range(0, size + size // 8, len(block)):
            file.write(block)
    scratch.unlink()


def own_seconds(finished: Finished) -> float:
    """What the script of a pynetdicom sender measured itself."""
    seconds = finished.json_lines()[-1]["seconds"]
    if not isinstance(seconds, float):
        raise RunFailed(f"no seconds in {finished.output!r}")
    return seconds


HEADER_ALLOWANCE = 1024  # two receivers write file metas of different lengths


def verify(sent: Path, received: Path) -> tuple[int, int]:
    """Number and bytes of the files sent, once as many of their sizes are found below `received`."""
    sizes = sorted(entry.stat().st_size for entry in os.scandir(sent))
    names = (path for path in received.rglob("*") if ".partial" not in path.parts)  # dulcet's unfinished files
    got = sorted(path.stat().st_size for path in names if path.is_file())
    if len(got) != len(sizes):
        raise RunFailed(f"{len(sizes)} files sent, {len(got)} arrived")
    for size_sent, size_got in zip(sizes, got):
        if abs(size_sent - size_got) > HEADER_ALLOWANCE:
            raise RunFailed(f"a file of {size_sent} bytes arrived with {size_got}")
    return len(sizes), sum(sizes)
