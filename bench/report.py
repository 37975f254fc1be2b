"""Results as JSON with every raw sample, and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.measuring import CALM, METRICS, Row, Scenario, Target, Verdict, admission_hook, with_unit

FIGURES = "<!-- figures: written by `python -m bench --docs` -->", "<!-- end of figures -->"
GROWTH = "<!-- growth: written by `python -m bench --growth --docs` -->", "<!-- end of growth -->"

Results = dict[str, dict[str, Row]]


def as_json(known: Mapping[str, object], quick: bool, results: Results) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "machine": dict(known),
        "quick": quick,
        "scenarios": {
            identifier: {name: {"samples": row.samples, "failures": row.failures} for name, row in rows.items()}
            for identifier, rows in results.items()
        },
    }


def from_json(path: Path) -> tuple[dict[str, object], Results]:
    """Read back what `as_json` gave."""
    stored = json.loads(path.read_text())
    results = {
        identifier: {name: Row(name, row["samples"], row["failures"]) for name, row in rows.items()}
        for identifier, rows in stored["scenarios"].items()
    }
    return stored["machine"], results


def wanted(target: Target) -> str:
    """A target in words."""
    if target.at_most is not None:
        return f"<= {with_unit(target.metric, target.at_most)}"
    if target.peer is None:
        return f">= {with_unit(target.metric, target.at_least or 0.0)}"
    return f">= {target.at_least:g} x {target.peer}"


def target_table(scenarios: Mapping[str, type[Scenario]], results: Results) -> str:
    """One line per target: ours, the peer's, the ratio, and whether it is met."""
    lines = [
        "| id | scenario | ours | peer | ratio | target | met | what limits it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for identifier, rows in results.items():
        scenario = scenarios[identifier]
        for number, target in enumerate(scenario.targets):
            verdict = admission_hook(target, rows)
            limits = scenario.limits if number == 0 else "as above"
            met = _met(verdict) + _busy(rows.get(target.ours))
            cells = [identifier, scenario.title, *_figures(verdict), wanted(target), met, limits]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(verdict: Verdict) -> tuple[str, str, str]:
    metric = verdict.target.metric
    ours = with_unit(metric, verdict.ours) if verdict.ours is not None else "no figure"
    where = {"sender_peak_bytes": " sender", "receiver_peak_bytes": " receiver"}.get(metric, "")
    named = f"{ours}{where}" if verdict.target.ours == "dulcet" else f"{ours} ({verdict.target.ours})"
    peer = f"{with_unit(metric, verdict.peer)} ({verdict.target.peer})" if verdict.peer is not None else "-"
    return named, peer, f"{verdict.ratio:.2f}" if verdict.ratio is not None else "-"


def _met(verdict: Verdict) -> str:
    return {True: "yes", False: "**no**", None: "not measured"}[verdict.met]


def _busy(row: Row | None) -> str:
    """A mark for a figure that other programs had a part in."""
    share = row.median("others_share") if row is not None else None
    return ", busy machine" if share is not None and share > CALM else ""


def contestant_table(scenario: type[Scenario], rows: Mapping[str, Row]) -> str:
    """Every contestant of one scenario: the median, its range, and the work of both sides."""
    lines = [
        f"**{scenario.id}: {scenario.title}**",
        "",
        "| contestant | median | range | runs | CPU per object, send / receive | peak memory of both | others |",
        "|---" * 7 + "|",
    ]
    for row in rows.values():
        metric = "import_seconds" if row.values("import_seconds") else scenario.metric
        values = row.values(metric)
        if not values:
            reason = row.failures[-1].splitlines()[0][:120] if row.failures else "not run"
            lines.append(f"| {row.name} | failed: {reason} | | {len(row.failures)} | | | |")
            continue
        middle = row.median(metric)
        assert middle is not None
        factor = METRICS[metric][1]
        spread = f"{min(values) * factor:,.3g} to {max(values) * factor:,.3g}"
        tail = row.median("p99_seconds")
        figure = with_unit(metric, middle) + (f", {with_unit('p99_seconds', tail)}" if tail is not None else "")
        if row.failures:
            figure += f"; {len(row.failures)} failed"
        cells = [row.name, figure, spread, str(len(values)), _cpu(row), _memory(row), _others(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cpu(row: Row) -> str:
    wall, rate = row.median("seconds"), row.median("objects_per_second")
    both = row.median("sender_cpu_seconds"), row.median("receiver_cpu_seconds")
    if not wall or not rate:
        return ""
    return " / ".join(f"{1000 * used / (wall * rate):.3g} ms" for used in both if used is not None)


def _others(row: Row) -> str:
    share = row.median("others_share")
    return "" if share is None else f"{100 * share:.0f} %"


def _memory(row: Row) -> str:
    peaks = row.median("sender_peak_bytes"), row.median("receiver_peak_bytes")
    return " / ".join("-" if peak is None else f"{peak / 1e6:,.0f} MB" for peak in peaks) if any(peaks) else ""


def markdown(known: Mapping[str, object], scenarios: Mapping[str, type[Scenario]], results: Results) -> str:
    """Both kinds of table, under a line that says where they were measured."""
    host = (
        f"Measured {str(known['date'])[:10]} on {known['cores']} cores of {known['processor']}, "
        f"Linux {known['kernel']}, Python {known['python']}; DCMTK {known['dcmtk']}, pynetdicom {known['pynetdicom']}, "
        f"pydicom {known['pydicom']}, Orthanc {known.get('orthanc', '-')}, "
        f"dulcet {known['dulcet']} at {known['commit']}. "
        f"The load was {float(str(known['load_at_start'])):.1f} at the start."
    )
    details = [contestant_table(scenarios[identifier], rows) for identifier, rows in results.items()]
    return "\n\n".join([host, target_table(scenarios, results), *details])


def write_into(page: Path, text: str, marks: tuple[str, str] = FIGURES) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = marks
    head, _, rest = page.read_text().partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        raise ValueError(f"{page} has no place for figures: {begin} ... {end}")
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")
