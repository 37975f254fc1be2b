"""`python -m bench [--quick] [--only S1,S4] [--json PATH] [--docs]`: measure, and print tables."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from bench import machine, plot, report
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
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an exception, so that everything is cleaned up
    chosen = [name for name in options.only.split(",") if name] or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}: there are {', '.join(SCENARIOS)}")
    known, results = report.from_json(options.stored) if options.stored else _measure(chosen, options)
    text = report.markdown(known, SCENARIOS, results)
    print(text)
    if options.docs:
        report.write_into(SPEED_PAGE, text)
    return int(any(row.failures for rows in results.values() for row in rows.values()))


def _measure(chosen: list[str], options: argparse.Namespace) -> tuple[dict[str, object], report.Results]:
    known = machine.facts()
    results: report.Results = {}
    began = time.monotonic()
    for identifier in chosen:
        scenario = SCENARIOS[identifier](Size(options.quick))
        results[identifier] = measure(scenario, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    target = options.json or (None if options.quick else machine.result_path(known))
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(report.as_json(known, options.quick, results), indent=1) + "\n")
        target.with_suffix(".svg").write_text(plot.svg(plot.ratios(SCENARIOS, results)))
        print(f"results are in {target} and {target.with_suffix('.svg').name}", file=sys.stderr)
    return known, results


if __name__ == "__main__":
    sys.exit(main())
