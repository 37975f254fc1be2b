"""How cost grows with object size, senders, contexts, idle associations and the index: `python -m bench --growth`.

Laws: a step is the median of three runs; a series ends where its time is up; the slope is that of a straight line
through the logarithms of (size, cost): 1 is linear, 0 is independent of size.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from tests.corpus import make_folder, make_instance

from bench import chart, machine
from bench.archives import DULCET
from bench.contestants import DULCET_RECEIVER, DULCET_SENDER, touch_memory, transfer
from bench.loads import dulcet_server, held, load, resident, server_cpu
from bench.measuring import Metrics, RunFailed, memory_workspace, output_folder
from bench.synthetic import fill, uid

RUNS = 3
SERIES_SECONDS = 100.0  # for one series; its remaining steps are left out, and said to be
IN_SERIES = 100  # instances in each series of the synthetic index


@dataclass(slots=True)
class Growth:
    """One series: what grows, what it costs, and what was measured."""

    name: str
    x: str
    y: str
    steps: Sequence[int]
    cost: Callable[[int, Path], Metrics]  # has "cost", and what else is worth keeping
    from_step: int = 0  # the slope is fitted from here: below, something constant hides it
    points: list[tuple[int, float]] = field(default_factory=list)
    samples: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)

    def measure(self, quick: bool, say: Callable[[str], None]) -> None:
        """Step by step until the time is up."""
        deadline = time.monotonic() + (SERIES_SECONDS / 5 if quick else SERIES_SECONDS)
        with memory_workspace() as workspace:
            for step in self.steps:
                if time.monotonic() > deadline:
                    self.left_out.append(step)
                    continue
                runs = [dict(self.cost(step, workspace)) for _ in range(1 if quick else RUNS)]
                self.samples[step] = runs
                self.points.append((step, median(run["cost"] for run in runs)))
                say(f"{self.name}: {self.x} {step}: {self.points[-1][1]:.3g} {self.y}")

    def slope(self) -> float | None:
        """Of log cost over log size; None with fewer than two points."""
        points = [(log(x), log(y)) for x, y in self.points if x >= self.from_step and x > 0 and y > 0]
        if len(points) < 2:
            return None
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        above = sum((x - mean_x) * (y - mean_y) for x, y in points)
        return above / sum((x - mean_x) * (x - mean_x) for x, _ in points)


# ---------------------------------------------------------------------------------------------- what is measured


def _object_size(size: int, workspace: Path) -> Metrics:
    """Seconds for one object, start-up taken off by sending several of the small ones."""
    count = max(1, min(400, (64 << 20) // size))
    files = workspace / f"files-{size}"
    if not files.is_dir():
        make_folder(files, count, size) if count > 1 else _one(files, size)
    figures = transfer(DULCET_SENDER, DULCET_RECEIVER, files, workspace)
    cpu = figures["sender_cpu_seconds"] + figures["receiver_cpu_seconds"]
    return {**figures, "cost": figures["seconds"] / count, "cpu": cpu / count, "objects": count}


def _one(folder: Path, size: int) -> None:
    folder.mkdir()
    make_instance(folder / "0.dcm", size)


def _senders(senders: int, workspace: Path) -> Metrics:
    """Seconds for one object of 64 KiB while so many send."""
    file = workspace / "object.dcm"
    if not file.is_file():
        make_instance(file, 1 << 16)
    count = max(4, 512 // senders)
    with output_folder(workspace) as folder, dulcet_server("threads", folder) as server:
        touch_memory(workspace, senders * count << 16)
        figures = load("store", server, file=file, senders=senders, count=count)
    return {**figures, "cost": 1 / figures["objects_per_second"]}


def _contexts(contexts: int, workspace: Path) -> Metrics:
    with output_folder(workspace) as folder, dulcet_server("threads", folder) as server:
        load("associate", server, contexts=contexts, seconds=0.2)
        figures = load("associate", server, contexts=contexts, seconds=1.0)
    return {**figures, "cost": 1 / figures["associations_per_second"]}


def _idle(face: str) -> Callable[[int, Path], Metrics]:
    def cost(count: int, workspace: Path) -> Metrics:
        with output_folder(workspace) as folder, dulcet_server(face, folder) as server:
            load("associate", server, contexts=1, seconds=0.2)
            before = resident(server)
            with held(server, count, 100.0) as holder:
                memory, cpu, began = resident(server) - before, server_cpu(server), time.monotonic()
                time.sleep(1.0)
                share = (server_cpu(server) - cpu) / (time.monotonic() - began)
                figures = load("associate", server, contexts=1, seconds=0.5)
                holder.stop().check()
        return {**figures, "cost": memory, "idle_cpu": share}

    return cost


def _index(instances: int, workspace: Path) -> Metrics:
    """Seconds of a C-FIND for one instance by its UID; a query for its series besides."""
    data = workspace / f"index-{instances}"
    if not data.is_dir():
        began = time.perf_counter()
        fill(data, instances, IN_SERIES)
        (data / "filled").write_text(str(time.perf_counter() - began))
    number = instances // 2
    study, place = uid(number // IN_SERIES + 1), number % IN_SERIES
    keys = {"study": study, "series": f"{study}.1"}
    with DULCET.start(data, False, {}) as server:
        load("find", server, **keys, repeat=3)
        one = load("find", server, **keys, instance=uid(number // IN_SERIES + 1, place), repeat=101)
        series = load("find", server, **keys, repeat=21)
    if (one["answers"], series["answers"]) != (1, IN_SERIES):
        raise RunFailed(f"{one['answers']} and {series['answers']} answers, 1 and {IN_SERIES} expected")
    return {
        "cost": one["find_seconds"],
        "series_seconds": series["find_seconds"],
        "row_seconds": float((data / "filled").read_text()) / instances,
        "bytes_of_each": sum(path.stat().st_size for path in data.glob("index.sqlite*")) / instances,
    }


def all_growth() -> list[Growth]:
    sizes = (2_000, 32_768, 524_288, 8 << 20, 128 << 20, 2000 << 20)
    idle_steps = (100, 500, 2000, 5000)
    return [
        Growth("object size", "bytes", "s an object", sizes, _object_size, from_step=8 << 20),
        Growth("senders", "senders", "s an object", (1, 4, 16, 64, 256), _senders),
        Growth("contexts", "presentation contexts", "s an association", (1, 8, 32, 128), _contexts),
        Growth("idle associations, threads", "idle associations", "bytes", idle_steps, _idle("threads"), from_step=500),
        Growth("idle associations, asyncio", "idle associations", "bytes", idle_steps, _idle("asyncio"), from_step=500),
        Growth("index", "instances", "s a query by key", (1_000, 10_000, 100_000, 1_000_000), _index),
    ]


# ---------------------------------------------------------------------------------------------- results


def run(quick: bool, only: Sequence[str] = ()) -> list[Growth]:
    """Measure all, or those whose names begin with one of `only`."""
    chosen = [growth for growth in all_growth() if not only or growth.name.startswith(tuple(only))]
    for growth in chosen:
        try:
            growth.measure(quick, lambda line: print(line, file=sys.stderr, flush=True))
        except Exception as failure:  # one series' failure must not cost the others theirs
            print(f"{growth.name}: FAILED: {failure}", file=sys.stderr)
    return chosen


def markdown(chosen: Sequence[Growth]) -> str:
    lines = ["| what grows | from | to | cost at both ends | slope | |", "|---" * 6 + "|"]
    for growth in chosen:
        if not growth.points:
            lines.append(f"| {growth.name} | | | no figure | | |")
            continue
        (first, low), (last, high) = growth.points[0], growth.points[-1]
        slope = growth.slope()
        fitted = "-" if slope is None else f"{slope:.2f}"
        since = f"fitted from {growth.from_step:,} on" if growth.from_step else ""
        missing = f"left out: {', '.join(map(str, growth.left_out))}" if growth.left_out else ""
        ends = f"{low:.3g} / {high:.3g} {growth.y}"
        lines.append(f"| {growth.name} | {first:,} | {last:,} | {ends} | {fitted} | {since}{missing} |")
    return "\n".join(lines)


def write(chosen: Sequence[Growth], folder: Path, known: dict[str, object]) -> list[Path]:
    """JSON with all samples, and a picture for each series."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = machine.result_path(known).stem
    written = [folder / f"{stem}-growth.json"]
    written[0].write_text(
        json.dumps({"machine": known, "growth": [_as_json(growth) for growth in chosen]}, indent=1) + "\n"
    )
    for growth in chosen:
        path = folder / f"growth-{growth.name.replace(', ', '-').replace(' ', '-')}.svg"
        slope = growth.slope()
        label = growth.name if slope is None else f"{growth.name}: slope {slope:.2f}"
        path.write_text(
            chart.svg(f"cost against {growth.x}", chart.Axis(growth.x), chart.Axis(growth.y), {label: growth.points})
        )
        written.append(path)
    return written


def _as_json(growth: Growth) -> dict[str, Any]:
    return {
        "name": growth.name,
        "x": growth.x,
        "y": growth.y,
        "points": growth.points,
        "slope": growth.slope(),
        "fitted_from": growth.from_step,
        "left_out": growth.left_out,
        "samples": {str(step): runs for step, runs in growth.samples.items()},
    }
