"""Has anything become slower?  Ratios of a quick run against committed ones, with room for noise (`--check`).

Laws: ratios, never times; one bad run is no verdict: what looks worse is measured once more, and the better one counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.measuring import Row, Scenario, Size, admission_hook, measure

COMMITTED = Path(__file__).resolve().parent / "committed.json"
WORSE = 0.5  # of the committed ratio is worse than noise makes it on a machine that others use too
DISK = 0.25  # the same where a disk takes part
ON_DISK = frozenset({"S9"})

Scenarios = Mapping[str, type[Scenario]]


def ratios(identifier: str, scenario: type[Scenario], rows: Mapping[str, Row]) -> dict[str, float]:
    """Every ratio to a peer that a scenario has figures for, by a name that stays the same."""
    found = {}
    for target in scenario.targets:
        verdict = admission_hook(target, rows)
        if verdict.ratio is not None:
            found[f"{identifier}: {target.ours} / {target.peer}, {target.metric}"] = round(verdict.ratio, 3)
    return found


def worse(identifier: str, found: Mapping[str, float], committed: Mapping[str, float]) -> dict[str, str]:
    """What fell below the tolerance, or gives no ratio any more."""
    factor = DISK if identifier in ON_DISK else WORSE
    failures = {}
    for name, before in committed.items():
        if not name.startswith(f"{identifier}: "):
            continue
        now = found.get(name)
        if now is None:
            failures[name] = f"{before:g} before, no figure now"
        elif now < before * factor:
            failures[name] = f"{before:g} before, {now:g} now"
    return failures


def run(scenarios: Scenarios, chosen: list[str], say: Callable[[str], None]) -> int:
    """Measure and compare; the number of ratios that became worse."""
    committed: dict[str, float] = json.loads(COMMITTED.read_text())["ratios"]
    failures: dict[str, str] = {}
    for identifier in chosen:
        best: dict[str, float] = {}
        for _ in range(2):
            scenario = scenarios[identifier]
            for name, ratio in ratios(identifier, scenario, measure(scenario(Size(True)), say)).items():
                best[name] = max(ratio, best.get(name, 0.0))
            if not worse(identifier, best, committed):
                break
        failures |= worse(identifier, best, committed)
    for name, what in failures.items():
        print(f"worse: {name}: {what}")
    print(f"{len(failures)} of {len(committed)} ratios are worse than noise explains")
    return len(failures)


def commit(scenarios: Scenarios, results: Mapping[str, Mapping[str, Row]], known: Mapping[str, object]) -> None:
    """Make these ratios the ones to compare with; those of scenarios that were not run stay."""
    before = json.loads(COMMITTED.read_text())["ratios"] if COMMITTED.is_file() else {}
    kept = {name: ratio for name, ratio in before.items() if name.partition(":")[0] not in results}
    for identifier, rows in results.items():
        kept |= ratios(identifier, scenarios[identifier], rows)
    COMMITTED.write_text(json.dumps({"machine": dict(known), "ratios": kept}, indent=1) + "\n")
