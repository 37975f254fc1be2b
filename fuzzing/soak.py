"""`python -m fuzzing.soak MINUTES`: associations of every kind against both faces in one process; nothing may grow.

Good ones, refused, aborted, half, hostile, reset, with TLS and with TLS that fails.  Once a second memory, descriptors,
threads, and what the faces still hold (guests, associations, tasks) are counted; a line is fitted through the last
three quarters.  Before each look the allocator gives back what is free, so that only what is held counts: its heaps in
many threads grow for minutes otherwise.  `.fuzzing/soak.svg` shows them; the exit code is 1 when one of the lines
rises, or something failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import logging
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.scripted import perform
from tests.hostile.targets import ECHO, FACES, Target, target
from tests.tls.authority import Authority

import dulcet
from dulcet.io.tls import TLSConfig

WORKERS = 4
PICTURE = Path(".fuzzing/soak.svg")
PAGE = os.sysconf("SC_PAGESIZE")

SCRIPTS = {
    "good": "RQ; read; echo; read; store; read; RELEASE-RQ",
    "good, in one piece": "RQ; read; echo; read; RELEASE-RQ",
    "refused": "RQ to OTHER",
    "aborted": "RQ; read; echo; read; ABORT",
    "aborted in a data set": "RQ; read; half a data set; ABORT",
    "reset in a data set": "RQ; read; half a data set; reset",
    "reset": "RQ; reset",
    "closed without a release": "RQ; read; echo; read; close",
    "a probe": "close",
    "half a request": "half RQ; close",
    "HTTP": "HTTP",
    "zeros": "zeros",
    "TLS to a plain port": "TLS hello",
    "a broken message": "RQ; read; command set of noise",
    "a PDV that overruns": "RQ; read; PDV overrun",
}
TLS_SCRIPTS = {
    "plain to a TLS port": "RQ; close",
    "HTTP to a TLS port": "HTTP; close",
    "a probe of a TLS port": "close",
}


@dataclass(frozen=True)
class Sample:
    """One look at the process."""

    seconds: float
    values: tuple[float, ...]


MEASURES = ("memory, KiB", "descriptors", "threads", "guests, associations, tasks")
TOLERANCES = (4096.0, 3.0, 3.0, 3.0)
"""How much the fitted line may rise over the whole of its time: an allocator's noise, and what is just under way."""


def look(targets: list[Target], start: float) -> Sample:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1024
    values = (
        resident,
        float(len(os.listdir("/proc/self/fd"))),
        float(threading.active_count()),
        float(sum(one.left() for one in targets)),
    )
    return Sample(time.monotonic() - start, values)


def tidy() -> None:
    """Collect what is garbage, and give free memory back (glibc)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def slope(samples: list[Sample], which: int) -> float:
    """By least squares, in units a second."""
    times = [sample.seconds for sample in samples]
    values = [sample.values[which] for sample in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    return sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True)) / spread


def picture(samples: list[Sample]) -> str:
    """Each measure over time, from 0 to its own most."""
    height, width, left = 110, 760, 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 2 * left}" '
        f'height="{len(MEASURES) * height + 10}" font-family="sans-serif" font-size="12">'
    ]
    end = samples[-1].seconds
    for which, name in enumerate(MEASURES):
        top = which * height + 20
        most = max(sample.values[which] for sample in samples) or 1.0
        points = " ".join(
            f"{left + width * sample.seconds / end:.1f},{top + 80 - 75 * sample.values[which] / most:.1f}"
            for sample in samples
        )
        parts.append(f'<text x="{left}" y="{top - 4}">{name}: at most {most:,.0f}, over {end:.0f} s</text>')
        parts.append(f'<path d="M{left} {top + 80}h{width}" stroke="#d0d0d0"/>')
        parts.append(f'<polyline points="{points}" fill="none" stroke="#2a7f62"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def works(plain: list[Target], secured: list[Target], client: TLSConfig) -> list[tuple[str, Callable[[], object]]]:
    """Everything that a worker chooses from."""
    chosen: list[tuple[str, Callable[[], object]]] = []

    def through(made: Target, **options: object) -> None:
        with dulcet.associate(made.address, contexts=ECHO, **options) as association:  # type: ignore[arg-type]
            assert association.echo().status == 0

    for made in plain:
        chosen += [
            (name, lambda made=made, script=script: perform(made.port, script)) for name, script in SCRIPTS.items()
        ]
        chosen.append(("good, our own", lambda made=made: through(made)))
    for made in secured:
        chosen += [
            (name, lambda made=made, script=script: perform(made.port, script)) for name, script in TLS_SCRIPTS.items()
        ]
        chosen.append(("good, with TLS", lambda made=made: through(made, tls=client)))
    return chosen


def soak(minutes: float) -> int:
    logging.getLogger("dulcet").addHandler(logging.NullHandler())
    logging.getLogger("dulcet").propagate = False
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    samples: list[Sample] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        authority = Authority(Path(folder))
        server = TLSConfig(ca_file=authority.file, **authority.issue().files)
        client = TLSConfig(ca_file=authority.file, **authority.issue("ct1").files)
        options = {
            "config": dulcet.AssociationConfig(timers=dulcet.Timers(artim=2.0)),
            "policy": dulcet.AcceptancePolicy.storage("PROVIDER", promiscuous=True),
        }
        plain = [stack.enter_context(target(face, Path(folder, face), **options)) for face in FACES]
        secured = [
            stack.enter_context(target(face, Path(folder, f"{face}-tls"), tls=server, **options)) for face in FACES
        ]
        kinds = works(plain, secured, client)
        numbers = itertools.count()

        def work() -> None:
            chance = random.Random(next(numbers))
            while not stop.is_set():
                name, one = chance.choice(kinds)
                try:
                    one()
                except Exception as error:
                    failures.append(f"{name}: {error!r}")
                counts[name] += 1

        threads = [threading.Thread(target=work, daemon=True) for _ in range(WORKERS)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() - start < 60 * minutes:
            stop.wait(1.0)
            tidy()
            samples.append(look([*plain, *secured], start))
        stop.set()
        for thread in threads:
            thread.join()
        for made in (*plain, *secured):
            made.is_idle()
    return report(counts, failures, samples)


def report(counts: Counter[str], failures: list[str], samples: list[Sample]) -> int:
    """Say what was done and how it went; the exit code."""
    for name, count in counts.most_common():
        print(f"{count:8,}  {name}")
    print(f"{counts.total():8,}  connections in {samples[-1].seconds:.0f} s")
    settled = samples[len(samples) // 4 :]
    span = settled[-1].seconds - settled[0].seconds
    bad = 0
    for which, (name, tolerance) in enumerate(zip(MEASURES, TOLERANCES, strict=True)):
        rises = slope(settled, which) * span
        bad |= rises > tolerance
        first, last = settled[0].values[which], settled[-1].values[which]
        print(f"{name}: {first:,.0f} -> {last:,.0f}, line rises by {rises:+,.1f} ({tolerance:,.0f} allowed)")
    for failure in failures[:20]:
        print(f"failed: {failure}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(samples))
    print(f"drawn in {PICTURE}")
    return 1 if bad or failures else 0


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1])))
