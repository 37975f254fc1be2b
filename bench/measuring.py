"""What a scenario is made of, and how its contestants are measured.

Laws: one sample is one run of one contestant; a run that failed is a sample with a reason, never a missing row; a
ratio says how many times as good as the peer we are, whether more or less of the metric is better.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import ClassVar

MEMORY_DISK = Path("/dev/shm")
CORES = len(os.sched_getaffinity(0))
CALM = 0.15  # of the machine's processor time may go to programs that are not ours
SLOW = 6.0  # seconds; what takes longer waits rather than works, and is not repeated

Metrics = Mapping[str, float]

# metric: (unit, factor from SI units, whether more is better)
METRICS: dict[str, tuple[str, float, bool]] = {
    "objects_per_second": ("objects/s", 1.0, True),
    "bytes_per_second": ("MB/s", 1e-6, True),
    "seconds": ("s", 1.0, False),
    "p50_seconds": ("ms (p50)", 1e3, False),
    "p99_seconds": ("ms (p99)", 1e3, False),
    "import_seconds": ("ms", 1e3, False),
    "sender_peak_bytes": ("MB", 1e-6, False),
    "receiver_peak_bytes": ("MB", 1e-6, False),
    "sender_cpu_seconds": ("s CPU", 1.0, False),
    "receiver_cpu_seconds": ("s CPU", 1.0, False),
    "others_share": ("of the machine", 1.0, False),
    "associations_per_second": ("associations/s", 1.0, True),
    "answers_per_second": ("answers/s", 1.0, True),
    "first_seconds": ("ms (first answer)", 1e3, False),
    "fairness": ("max/min", 1.0, False),
    "association_bytes": ("kB each", 1e-3, False),
    "idle_cpu": ("% of a core", 100.0, False),
    "p99_growth": ("x p99 of alone", 1.0, False),
}


class RunFailed(Exception):
    """A contestant did not do its work; the message is what the table shows."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much work: the full suite or its quick version."""

    quick: bool

    @property
    def rounds(self) -> int:
        """Of the full suite; a scenario says itself how many its quick version has."""
        return 5

    @property
    def attempts(self) -> int:
        """How often a run is tried on a machine that others keep busy."""
        return 1 if self.quick else 2

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row: `run(workspace)` does the work once and gives its metrics."""

    name: str
    run: Callable[[Path], Metrics]


@dataclass(frozen=True, slots=True)
class Target:
    """What to reach, as the specification words it: a ratio to a peer, or a value of our own."""

    metric: str
    ours: str
    peer: str | None = None
    at_least: float | None = None  # times as good as the peer; without a peer an absolute bound, in SI units
    at_most: float | None = None  # an absolute bound, in SI units


@dataclass(slots=True)
class Row:
    """All samples of one contestant."""

    name: str
    samples: list[dict[str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, metric: str) -> list[float]:
        return [sample[metric] for sample in self.samples if metric in sample]

    def median(self, metric: str) -> float | None:
        values = self.values(metric)
        return median(values) if values else None


class Scenario(ABC):
    """A table row of the specification: contestants that do the same work, and targets to reach."""

    id: ClassVar[str]
    title: ClassVar[str]
    metric: ClassVar[str]  # the one that the table of contestants shows
    limits: ClassVar[str]  # what limits us, from a profile
    targets: ClassVar[tuple[Target, ...]]
    quick_rounds: ClassVar[int] = 2

    def __init__(self, size: Size) -> None:
        self.size = size

    def prepare(self, workspace: Path) -> None:  # noqa: B027 - most scenarios need input, some do not
        """Make the input, outside of what is timed."""

    @abstractmethod
    def contestants(self) -> list[Contestant]:
        """Those that compete, in the order in which they alternate."""


@contextmanager
def memory_workspace() -> Iterator[Path]:
    """A folder in memory that is gone afterwards; the ordinary temporary folder where there is no /dev/shm."""
    parent = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="dulcet-bench-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def output_folder(workspace: Path) -> Iterator[Path]:
    """A fresh folder for what one run receives, emptied at once so that memory holds one run at a time."""
    path = Path(tempfile.mkdtemp(prefix="out-", dir=workspace))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def measure(scenario: Scenario, say: Callable[[str], None]) -> dict[str, Row]:
    """Run all contestants of a scenario in turn, round by round."""
    with memory_workspace() as workspace:
        try:
            scenario.prepare(workspace)
        except Exception as failure:  # nor must one scenario's failure cost the others theirs
            say(f"{scenario.id}: could not be prepared: {failure}")
            return {"everybody": Row("everybody", failures=[f"could not be prepared: {failure}"])}
        contestants = scenario.contestants()
        rows = {contestant.name: Row(contestant.name) for contestant in contestants}
        for number in range(scenario.quick_rounds if scenario.size.quick else scenario.size.rounds):
            for contestant in contestants:
                _sample(scenario, contestant, workspace, number, rows[contestant.name], say)
    return rows


def _sample(
    scenario: Scenario, contestant: Contestant, workspace: Path, number: int, row: Row, say: Callable[[str], None]
) -> None:
    """One more sample of a contestant; twice failed is no accident, and not tried in every round."""
    if len(row.failures) > 1:
        return
    try:
        sample = undisturbed(contestant, workspace, scenario.size.attempts)
    except Exception as failure:  # one contestant's failure must not cost the others their figures
        row.failures.append(f"{type(failure).__name__}: {failure}")
        say(f"{scenario.id} round {number + 1}: {contestant.name} FAILED: {str(failure)[:2000]}")
        return
    row.samples.append(sample)
    say(f"{scenario.id} round {number + 1}: {contestant.name}: {shown(scenario.metric, sample)}")


def undisturbed(contestant: Contestant, workspace: Path, attempts: int) -> dict[str, float]:
    """One sample; a run during which other programs took much of the machine is repeated, the calmest one counts."""
    samples: list[dict[str, float]] = []
    for _ in range(attempts):
        began, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
        sample = dict(contestant.run(workspace))
        capacity = (time.monotonic() - began) * CORES
        others = (_busy_seconds() - busy) - (_own_seconds() - own)
        sample["others_share"] = max(0.0, others / capacity)
        samples.append(sample)
        if sample["others_share"] <= CALM or time.monotonic() - began > SLOW:
            break
    return min(samples, key=lambda sample: sample["others_share"])


def _busy_seconds() -> float:
    """Processor time that all programs of the machine have used, over all cores."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split(None, 9)[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor time of this process and of everything it started and reaped."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def shown(metric: str, sample: Mapping[str, float]) -> str:
    """One metric of a sample with its unit."""
    return with_unit(metric, sample[metric]) if metric in sample else "no figure"


def with_unit(metric: str, value: float) -> str:
    """A value in the unit that people read: three significant digits."""
    unit, factor, _ = METRICS[metric]
    scaled = value * factor
    digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2 if scaled >= 1 else 3
    return f"{scaled:,.{digits}f} {unit}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what came of it."""

    target: Target
    ours: float | None
    peer: float | None
    ratio: float | None
    met: bool | None  # None: there is no figure to judge


def admission_hook(target: Target, rows: Mapping[str, Row]) -> Verdict:
    """Compare medians; without figures of both sides there is no verdict."""
    ours = rows[target.ours].median(target.metric) if target.ours in rows else None
    peer = rows[target.peer].median(target.metric) if target.peer and target.peer in rows else None
    if target.at_most is not None:
        return Verdict(target, ours, None, None, None if ours is None else ours <= target.at_most)
    if target.peer is None and target.at_least is not None:
        return Verdict(target, ours, None, None, None if ours is None else ours >= target.at_least)
    if ours is None or peer is None or not ours or not peer:
        return Verdict(target, ours, peer, None, None)
    more_is_better = METRICS[target.metric][2]
    ratio = ours / peer if more_is_better else peer / ours
    return Verdict(target, ours, peer, ratio, target.at_least is None or ratio >= target.at_least)
