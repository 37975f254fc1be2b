"""`python -m bench [--quick] [--only S1,S4] [--json PATH] [--docs]`: measure, and print tables.

`--growth` measures how cost grows, `--pictures` draws curves, `--check` compares with committed ratios, which
`--commit` makes.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import signal
import sys
import time
from pathlib import Path

from bench import check, growth, machine, pictures, plot, report
from bench.measuring import Size, measure
from bench.scenarios import SCENARIOS

SPEED_PAGE = machine.ROOT / "docs" / "explanation" / "speed.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks against DCMTK and pynetdicom.")
    parser.add_argument("--quick", action="store_true", help="three rounds with less work: under three minutes")
    parser.add_argument("--only", default="", metavar="S1,S4", help=f"some of {', '.join(SCENARIOS)}")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where results go; without it bench/results/")
    parser.add_argument("--from", type=Path, metavar="PATH", dest="stored", help="tables of an earlier run instead")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/explanation/speed.md")
    parser.add_argument("--growth", action="store_true", help="how cost grows with sizes and numbers, instead")
    parser.add_argument("--pictures", action="store_true", help="curves of throughput, latency, memory, instead")
    parser.add_argument("--check", action="store_true", help="a quick run against bench/committed.json, instead")
    parser.add_argument("--commit", action="store_true", help="write this run's ratios into bench/committed.json")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code, and so have we
    compileall.compile_dir(machine.ROOT / "src", quiet=2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an exception, so that everything is cleaned up
    named = [name for name in options.only.split(",") if name]
    if options.growth or options.pictures:
        return _draw(named, options)
    chosen = named or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}: there are {', '.join(SCENARIOS)}")
    if options.check:
        return int(check.run(SCENARIOS, chosen, _say) > 0)
    known, results = report.from_json(options.stored) if options.stored else _measure(chosen, options)
    text = report.markdown(known, SCENARIOS, results)
    print(text)
    if options.commit:
        check.commit(SCENARIOS, results, known)
    if options.docs:
        report.write_into(SPEED_PAGE, text)
    return int(any(row.failures for rows in results.values() for row in rows.values()))


def _measure(chosen: list[str], options: argparse.Namespace) -> tuple[dict[str, object], report.Results]:
    known = machine.facts()
    results: report.Results = {}
    began = time.monotonic()
    for identifier in chosen:
        scenario = SCENARIOS[identifier](Size(options.quick))
        started = time.monotonic()
        results[identifier] = measure(scenario, _say)
        _say(f"{identifier}: {time.monotonic() - started:.0f} s")
        _store(known, options, results)  # after each, so that a run that is stopped leaves what it has
    _say(f"{time.monotonic() - began:.0f} s in all")
    return known, results


def _store(known: dict[str, object], options: argparse.Namespace, results: report.Results) -> None:
    target = options.json or (None if options.quick else machine.result_path(known))
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(report.as_json(known, options.quick, results), indent=1) + "\n")
        target.with_suffix(".svg").write_text(plot.svg(plot.ratios(SCENARIOS, results)))


def _draw(named: list[str], options: argparse.Namespace) -> int:
    """Growth, pictures or both, into bench/results or the folder of --json."""
    folder = options.json.parent if options.json else machine.ROOT / "bench" / "results"
    if options.pictures:
        pictures.write_all(folder, options.quick)
    if options.growth:
        measured = growth.run(options.quick, named)
        growth.write(measured, folder, machine.facts())
        text = growth.markdown(measured)
        print(text)
        if options.docs:
            report.write_into(SPEED_PAGE, text, report.GROWTH)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
