"""Line charts as SVG: logarithmic or linear axes, a few series, a legend; no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

Points = Sequence[tuple[float, float]]

LEFT, TOP, WIDTH, HEIGHT, BELOW = 80, 40, 520, 300, 60
COLOURS = ("#2a7f62", "#b3402f", "#2f5fb3", "#8a6d1d", "#6b3fa0", "#3b8ea5", "#a03f6b", "#555555")
GRID = "#dddddd"


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along it; logarithmic unless said otherwise."""

    label: str
    logarithmic: bool = True

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        """From where to where it goes, in the unit of `place`."""
        if self.logarithmic:
            low, high = floor(min(map(log10, values)) + 1e-9), ceil(max(map(log10, values)) - 1e-9)
            return float(low), float(max(high, low + 1))
        high_value = max(values) or 1.0
        step = 10.0 ** floor(log10(high_value))
        return 0.0, ceil(high_value / step) * step

    def place(self, value: float) -> float:
        return log10(value) if self.logarithmic else value

    def ticks(self, low: float, high: float) -> list[float]:
        if self.logarithmic:
            return [10.0**power for power in range(int(low), int(high) + 1)]
        return [low + (high - low) * part / 5 for part in range(6)]


def svg(title: str, x: Axis, y: Axis, series: Mapping[str, Points]) -> str:
    """One line for each series that has points; what a logarithmic axis cannot show is left out."""
    shown = {
        name: [
            (a, b) for a, b in points if (a > 0 or not x.logarithmic) and (b > 0 or not y.logarithmic)
        ]
        for name, points in series.items()
    }  # fmt: skip
    shown = {name: points for name, points in shown.items() if points}
    every = [point for points in shown.values() for point in points] or [(1.0, 1.0)]
    across = _scale(x, [a for a, _ in every], LEFT, LEFT + WIDTH)
    up = _scale(y, [b for _, b in every], TOP + HEIGHT, TOP)
    height = TOP + HEIGHT + BELOW + 18 * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_grid(x, y, every, across, up),
    ]
    for number, (name, points) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 40:
            parts += [f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="{colour}"/>' for a, b in points]
        below = TOP + HEIGHT + BELOW + 18 * number
        parts.append(f'<rect x="{LEFT}" y="{below - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 22}" y="{below - 2}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = axis.span(values)
    return lambda value: start + (end - start) * (axis.place(value) - low) / (high - low)


def _grid(x: Axis, y: Axis, every: Points, across: Callable[[float], float], up: Callable[[float], float]) -> list[str]:
    parts = []
    for value in x.ticks(*x.span([a for a, _ in every])):
        at = across(value)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{TOP + HEIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{_short(value)}</text>')
    for value in y.ticks(*y.span([b for _, b in every])):
        at = up(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + WIDTH}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{TOP + HEIGHT + 34}" text-anchor="end">{escape(x.label)}</text>')
    parts.append(f'<text x="8" y="{TOP - 6}">{escape(y.label)}</text>')
    return parts


def _short(value: float) -> str:
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"
