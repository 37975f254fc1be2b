"""`python -m fuzzing TARGET SECONDS`: atheris on one target, or on each of them for its share of the time.

Seeds come from `targets.seeds`; what is worth keeping lies in `.fuzzing/`, and is where the next run begins.  A find is
written there as well, and the exit code is 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WORK = Path(".fuzzing")


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["dulcet"]):
        from fuzzing.targets import TARGETS, seeds

    corpus = WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=5", "-rss_limit_mb=1024"]
    options += ["-print_final_stats=1", f"-artifact_prefix={WORK}/find-{name}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], TARGETS[name])
    atheris.Fuzz()


def main(seconds: int) -> int:
    """Each target in a process of its own; 1 when one of them found something."""
    from fuzzing.targets import TARGETS

    found = 0
    for name in TARGETS:
        done = subprocess.run(
            [sys.executable, "-m", "fuzzing", name, str(max(seconds // len(TARGETS), 1))],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        runs = re.search(r"number_of_executed_units: (\d+)", said)
        print(f"{name}: {int(runs[1]) if runs else 0:,} executions, exit code {done.returncode}", flush=True)
        if done.returncode:
            print(said[-4000:])
            found = 1
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fuzz(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(main(int(sys.argv[1])))
