"""A picture of the ratios: how many times as fast as each peer, on a logarithmic axis, with a mark at the target."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import floor, log10

from bench.measuring import Row, Scenario, admission_hook

LEFT, WIDTH, ROW, TOP = 280, 520, 24, 40
Bar = tuple[str, float, float]  # label, ratio, target
MET, MISSED, MARK, GRID = "#2a7f62", "#b3402f", "#222222", "#d0d0d0"


def ratios(scenarios: Mapping[str, type[Scenario]], results: Mapping[str, Mapping[str, Row]]) -> list[Bar]:
    """One bar for each target that compares us with a peer and has figures of both."""
    bars = []
    for identifier, rows in results.items():
        for target in scenarios[identifier].targets:
            verdict = admission_hook(target, rows)
            if verdict.ratio is not None and target.at_least is not None and target.peer is not None:
                ours = "" if target.ours == "dulcet" else f" ({target.ours})"
                bars.append((f"{identifier}{ours} : {target.peer}", verdict.ratio, target.at_least))
    return bars


def svg(bars: list[Bar]) -> str:
    """The bars as a picture; an empty one without bars."""
    values = [value for _, ratio, target in bars for value in (ratio, target)] or [1.0]
    low, high = floor(log10(min(*values, 1.0))), floor(log10(max(values))) + 1

    def across(value: float) -> float:
        return LEFT + WIDTH * (log10(value) - low) / (high - low)

    height = TOP + ROW * len(bars) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 80}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<text x="8" y="16">times as fast as the peer; the black mark is the target</text>',
    ]
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle" fill="#666">{10.0**power:g}</text>')
    for number, (label, ratio, target) in enumerate(bars):
        y = TOP + ROW * number
        start, end = sorted((across(1.0), across(ratio)))
        colour = MET if ratio >= target else MISSED
        parts += [
            f'<text x="8" y="{y + 14}">{escape(label)}</text>',
            f'<rect x="{start:.1f}" y="{y + 3}" width="{end - start:.1f}" height="{ROW - 8}" fill="{colour}"/>',
            f'<line x1="{across(target):.1f}" y1="{y}" x2="{across(target):.1f}" y2="{y + ROW - 2}" '
            f'stroke="{MARK}" stroke-width="2"/>',
            f'<text x="{end + 4:.1f}" y="{y + 14}" paint-order="stroke" stroke="white" stroke-width="3">'
            f"{ratio:.2g}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
