"""What a table cannot show: throughput against object size and senders, latencies, memory over time (`--pictures`)."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from tests.corpus import make_folder, make_instance
from tests.interop import peers

from bench import chart
from bench.contestants import (
    DULCET_RECEIVER,
    DULCET_SENDER,
    STOCK_RECEIVER,
    TUNED_RECEIVER,
    TUNED_SENDER,
    Receiver,
    Sender,
    transfer,
)
from bench.loads import dulcet_server, held, load
from bench.measuring import memory_workspace, output_folder
from bench.scenarios.echo import ECHO_CLIENT
from bench.scenarios.many_senders import FORKING

Series = dict[str, list[tuple[float, float]]]
INTERVAL = 0.02  # seconds between two looks at memory


def write_all(folder: Path, quick: bool) -> list[Path]:
    """Every picture that can be made; one that cannot is said and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in PICTURES.items():
        try:
            with memory_workspace() as workspace:
                text = draw(workspace, quick)
        except Exception as failure:
            print(f"{name}: FAILED: {failure}", file=sys.stderr)
            continue
        path = folder / f"{name}.svg"
        path.write_text(text)
        written.append(path)
        print(f"{path.name} is drawn", file=sys.stderr)
    return written


def _by_size(workspace: Path, quick: bool) -> str:
    sizes = [2_000, 16_384, 131_072, 1 << 20, 16 << 20, *([] if quick else [256 << 20])]
    pairs: tuple[tuple[str, Sender, Receiver], ...] = (
        ("dulcet", DULCET_SENDER, DULCET_RECEIVER),
        ("DCMTK tuned", TUNED_SENDER, TUNED_RECEIVER),
    )
    series: Series = {name: [] for name, _, _ in pairs}
    for size in sizes:
        files = workspace / f"files-{size}"
        if size > 1 << 20:
            files.mkdir()
            for number in range(max(1, (64 << 20) // size)):
                make_instance(files / f"{number}.dcm", size, number)
        else:
            make_folder(files, max(20, min(2000, (128 << 20) // size)), size)
        for name, sender, receiver in pairs:
            best = max(transfer(sender, receiver, files, workspace)["bytes_per_second"] for _ in range(2))
            series[name].append((size, best / 1e6))
    return chart.svg("throughput, whole processes", chart.Axis("bytes of an object"), chart.Axis("MB/s"), series)


def _by_senders(workspace: Path, quick: bool) -> str:
    file = make_instance(workspace / "object.dcm", 1 << 16)
    receivers = {
        "dulcet, threads": lambda folder: dulcet_server("threads", folder),
        "dulcet, asyncio": lambda folder: dulcet_server("asyncio", folder),
        "storescp --fork tuned": FORKING.start,
    }
    series: Series = {name: [] for name in receivers}
    for senders in (1, 4, 16, 64) if quick else (1, 2, 4, 8, 16, 32, 64, 128):
        for name, start in receivers.items():
            with output_folder(workspace) as folder, start(folder) as server:
                figures = load("store", server, file=file, senders=senders, count=max(4, 1024 // senders))
            series[name].append((senders, figures["objects_per_second"]))
    return chart.svg("objects of 64 KiB", chart.Axis("senders at once"), chart.Axis("objects/s"), series)


def _latencies(workspace: Path, quick: bool) -> str:
    """How many of the echoes took at most so long."""
    series: Series = {}
    bare = Receiver("bare", lambda _: peers.announced([sys.executable, ECHO_CLIENT, "--serve"], None))
    rows = (
        ("dulcet", DULCET_RECEIVER, ()),
        ("dulcet to DCMTK tuned", TUNED_RECEIVER, ()),
        ("dulcet to DCMTK stock", STOCK_RECEIVER, ()),
        ("bare exchange", bare, ("--bare",)),
    )
    for name, receiver, options in rows:
        with output_folder(workspace) as folder, receiver.start(folder) as server:
            address = f"{server.host}:{server.port}" if options else server.address
            command = [sys.executable, ECHO_CLIENT, *options, address, "1000" if quick else "10000"]
            times = peers.run(command, timeout=120).check().json_lines()[-1]["echo_seconds"]
        assert isinstance(times, list)
        ordered = sorted(times)
        series[name] = [(1e3 * ordered[len(ordered) * part // 200], part / 2) for part in range(1, 200)]
    across = chart.Axis("ms, C-ECHO on an open association")
    return chart.svg("latency distribution", across, chart.Axis("% of the echoes", logarithmic=False), series)


def _resident(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1e3 if found else 0.0


@contextmanager
def _watched(pids: dict[str, int]) -> Iterator[Series]:
    """Resident memory of processes over time, MB, for as long as the block runs."""
    series: Series = {name: [] for name in pids}
    over, began = Event(), time.monotonic()

    def look() -> None:
        while not over.wait(INTERVAL):
            for name, pid in pids.items():
                if megabytes := _resident(pid):
                    series[name].append((time.monotonic() - began, megabytes))

    thread = Thread(target=look)
    thread.start()
    try:
        yield series
    finally:
        over.set()
        thread.join()


def _memory_of_a_large_object(workspace: Path, quick: bool) -> str:
    files = workspace / "files"
    files.mkdir()
    make_instance(files / "0.dcm", (256 if quick else 2000) << 20)
    series: Series = {}
    pairs = (("dulcet", DULCET_SENDER, DULCET_RECEIVER), ("DCMTK tuned", TUNED_SENDER, TUNED_RECEIVER))
    for name, sender, receiver in pairs:
        with (
            output_folder(workspace) as folder,
            receiver.start(folder) as server,
            peers.process(sender.command(server, files), sender.environment) as running,
            _watched({f"{name}, sender": running.pid, f"{name}, receiver": server.process.pid}) as seen,
        ):
            running.wait(120).check()
        series |= seen
    seconds, size = chart.Axis("s", logarithmic=False), chart.Axis("MB resident", logarithmic=False)
    return chart.svg(f"memory while one object of {256 if quick else 2000} MiB is sent", seconds, size, series)


def _memory_of_idle_associations(workspace: Path, quick: bool) -> str:
    count = 500 if quick else 2000
    series: Series = {}
    for face in ("threads", "asyncio"):
        with output_folder(workspace) as folder, dulcet_server(face, folder) as server:
            with _watched({f"dulcet, {face}": server.process.pid}) as seen:
                for _ in range(2):  # a second time: what was given back is used again
                    with held(server, count, 60.0) as holder:
                        time.sleep(0.5)
                        holder.stop().check()
                    time.sleep(0.5)
            series |= seen
    seconds, size = chart.Axis("s", logarithmic=False), chart.Axis("MB resident", logarithmic=False)
    return chart.svg(f"memory while {count} idle associations come and go, twice", seconds, size, series)


PICTURES: dict[str, Callable[[Path, bool], str]] = {
    "throughput-by-size": _by_size,
    "throughput-by-senders": _by_senders,
    "latencies-S4": _latencies,
    "memory-S3": _memory_of_a_large_object,
    "memory-S7": _memory_of_idle_associations,
}
