"""Draw docs/pictures/state.svg and layers.svg from the data that they show.

The state diagram is `dulcet.upper_layer.state.TABLE`, PS3.8 Table 9-10; where an action leads to is read in the source
of the actions.  In the picture of the layers an arrow is an import that is really there; those that follow from others
are left out.  `--check` writes nothing and says whether the pictures are up to date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import dulcet
from dulcet.upper_layer import actions
from dulcet.upper_layer.state import TABLE, State

TARGET: Final = Path(__file__).parents[1] / "docs" / "pictures"
PACKAGE: Final = Path(dulcet.__file__).parent

STYLE: Final = """<style>
rect { fill: #f4f7fb; stroke: #33557a; stroke-width: 1.5; rx: 6; }
path { fill: none; stroke: #33557a; stroke-width: 1.3; marker-end: url(#arrow); }
text { font: 13px sans-serif; fill: #16283c; text-anchor: middle; }
text.small { font-size: 11px; fill: #4a5d73; }
text.label { font-size: 11px; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
</style>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,0 L8,4 L0,8 z" style="fill:#33557a;stroke:none;marker-end:none"/></marker></defs>
<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>"""

Point = tuple[float, float]


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """The file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return "\n".join([head, f"<title>{title}</title>", STYLE, *parts, "</svg>"]) + "\n"


def box(center: Point, size: Point, lines: Iterable[str]) -> Iterator[str]:
    """A rectangle with its lines, the first one large."""
    (x, y), (width, height) = center, size
    yield f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}"/>'
    found = list(lines)
    for number, line in enumerate(found):
        small = ' class="small"' if number else ""
        below = (number - (len(found) - 1) / 2) * 15 + 4
        yield f'<text{small} x="{x:g}" y="{y + below:g}">{escape(line)}</text>'


def arrow(start: Point, end: Point, size: Point, label: str = "", bend: float = 0.0) -> Iterator[str]:
    """From the edge of one box to that of another; `bend` moves its middle aside, to the left of its way."""
    across, down = end[0] - start[0], end[1] - start[1]
    length = (across**2 + down**2) ** 0.5
    middle = (
        (start[0] + end[0]) / 2 + down / length * bend,
        (start[1] + end[1]) / 2 - across / length * bend,
    )
    control = (2 * middle[0] - (start[0] + end[0]) / 2, 2 * middle[1] - (start[1] + end[1]) / 2)
    first, last = edge(start, control, size), edge(end, control, size)
    yield f'<path d="M{first[0]:.0f},{first[1]:.0f} Q{control[0]:.0f},{control[1]:.0f} {last[0]:.0f},{last[1]:.0f}"/>'
    if label:
        yield f'<text class="label" x="{middle[0]:.0f}" y="{middle[1] + 4:.0f}">{escape(label)}</text>'


def detour(start: Point, end: Point, size: Point, label: str, lane: float) -> Iterator[str]:
    """From the side of one box along a vertical way to that of another."""
    side = size[0] / 2 if lane > start[0] else -size[0] / 2
    aside = (start[0] + end[0] - 2 * lane) / 25  # those further out arrive further up, so that heads do not meet
    last = end[1] - 5 + (aside if lane < start[0] else -aside)
    yield f'<path d="M{start[0] + side:g},{start[1]:g} H{lane:g} V{last:g} H{end[0] + side:g}"/>'
    yield f'<text class="label" x="{lane:g}" y="{(start[1] + end[1]) / 2:g}">{escape(label)}</text>'


def edge(center: Point, towards: Point, size: Point) -> Point:
    """Where the line from a box's center leaves it."""
    across, down = towards[0] - center[0], towards[1] - center[1]
    share = min(
        size[0] / 2 / abs(across) if across else float("inf"), size[1] / 2 / abs(down) if down else float("inf"), 1.0
    )
    return center[0] + across * share, center[1] + down * share


# ---------------------------------------------------------------------- the state machine

PLACES: Final = {
    1: (500, 40), 4: (200, 130), 2: (800, 130), 5: (200, 240), 3: (800, 240), 6: (500, 320), 7: (200, 420),
    8: (800, 420), 9: (200, 540), 10: (500, 540), 11: (200, 650), 12: (500, 650), 13: (800, 650),
}  # fmt: skip
LANES: Final = {(11, 1): 25, (7, 1): 60, (3, 13): 945, (2, 13): 975}
"""Arrows that go round the others, by the x of their way."""
STATE_BOX: Final = (210, 50)
LEGEND: Final = (
    "Each arrow: event and action, as PS3.8 Table 9-10 prints them.  Not drawn: AA-1, AA-7, AA-8 (we abort) lead from",
    "every state with a connection to Sta13; AA-2 to AA-5 and AR-5 (the peer aborts, the connection ends), to Sta1.",
)


def next_states() -> dict[str, set[State | None]]:
    """Action -> where it leads; None is where it was."""
    found: dict[str, set[State | None]] = {}
    over = {"_close": State.IDLE, "_over": State.IDLE, "_establish": State.ESTABLISHED}
    for node in ast.walk(ast.parse(inspect.getsource(actions))):
        if not isinstance(node, ast.FunctionDef):
            continue
        states: set[State | None] = set()
        for part in ast.walk(node):
            if not isinstance(part, ast.Return) or part.value is None:
                continue
            for inner in ast.walk(part.value):
                if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                    if inner.value.id == "State":
                        states.add(State[inner.attr])
                    elif inner.value.id == "self" and inner.attr in over:
                        states.add(over[inner.attr])
        name = node.name.removeprefix("_")
        found[f"{name[:2].upper()}-{name[2:]}"] = states or {None}
    return found


def state_picture() -> str:
    """The diagram."""
    leads = next_states()
    leads |= {name: {None} for name in ("DT-1", "DT-2", "AR-6", "AR-7")}  # they only send, or indicate
    missing = set(TABLE.values()) - leads.keys()
    if missing:
        raise SystemExit(f"no action in the source for {sorted(missing)}")
    edges: dict[tuple[int, int], list[str]] = {}
    stays: dict[int, list[str]] = {}
    for (event, state), action in sorted(TABLE.items()):
        if action.startswith("AA") or action == "AR-5":
            continue
        for target in sorted(leads[action], key=lambda found: found or 0):
            label = f"{int(event)} {action}"
            if target is None or target == state:
                stays.setdefault(int(state), []).append(label)
            else:
                edges.setdefault((int(state), int(target)), []).append(label)
    parts: list[str] = []
    for (start, end), labels in edges.items():
        lane = LANES.get((start, end))
        if lane is None:
            parts += arrow(PLACES[start], PLACES[end], STATE_BOX, ", ".join(labels))
        else:
            parts += detour(PLACES[start], PLACES[end], STATE_BOX, ", ".join(labels), lane)
    for state in State:
        name = state.name.lower().replace("_", " ")
        parts += box(
            PLACES[state], STATE_BOX, [f"Sta{int(state)}", name, *([", ".join(stays[state])] if state in stays else [])]
        )
    for number, line in enumerate(LEGEND):
        parts.append(f'<text class="small" x="500" y="{720 + 16 * number}">{escape(line)}</text>')
    return picture(1000, 750, "The upper layer state machine of PS3.8 Table 9-10", parts)


# ---------------------------------------------------------------------- the layers

LEAVES: Final = frozenset("errors config uids _version part10".split())
WORDS: Final = {
    "upper_layer": "PS3.8: states, framing, negotiation",
    "dimse": "PS3.7: messages, operations, answers",
    "services": "PS3.4: what they are for",
    "io": "sockets, trains, files, TLS",
    "blocking": "the caller's thread",
    "aio": "asyncio",
    "toolkit": "callbacks",
    "node": "handlers",
    "archive": "index, objects, events",
    "trace": "proxy, decoder",
    "cli": "the commands",
    "leaves": "errors, config, uids, part10",
}


def imports() -> dict[str, set[str]]:
    """Package -> the packages that it imports, the leaves as one; what is for annotations alone does not count."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        layer = "leaves" if parts[0] in LEAVES else parts[0]
        if layer not in WORDS:
            continue
        for node in without_annotations(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "dulcet":
                names = [f"dulcet.{one.name}" for one in node.names]
            for name in names:
                other = name.split(".")[1] if name.startswith("dulcet.") else ""
                other = "leaves" if other in LEAVES else other
                if other in WORDS and other != layer:
                    found.setdefault(layer, set()).add(other)
    return found


def without_annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from without_annotations(node)


def below(graph: dict[str, set[str]], name: str) -> set[str]:
    """All that a package needs."""
    direct = graph.get(name, set())
    return direct.union(*(below(graph, other) for other in direct))


def layer_picture() -> str:
    """The packages in rows, each above what it needs."""
    graph = imports()
    rows: dict[str, int] = {}

    def row(name: str) -> int:
        if name not in rows:
            rows[name] = 1 + max((row(other) for other in graph.get(name, ())), default=-1)
        return rows[name]

    for name in WORDS:
        row(name)
    height = max(rows.values())
    size = (230.0, 46.0)
    places: dict[str, Point] = {}
    for number in range(height + 1):
        names = sorted(name for name, found in rows.items() if found == number)
        for column, name in enumerate(names):
            places[name] = (420 + (column - (len(names) - 1) / 2) * 270, 40 + (height - number) * 78)
    parts: list[str] = []
    for name in sorted(places):
        direct = graph.get(name, set())
        implied = set().union(*(below(graph, other) for other in direct)) if direct else set()
        for other in sorted(direct - implied):
            parts += arrow(places[name], places[other], size, bend=110 if rows[name] - rows[other] > 2 else 0)
    for name, place in sorted(places.items()):
        parts += box(place, size, [name, WORDS[name]])
    return picture(840, 80 + height * 78, "The layers of dulcet: each imports from those below", parts)


def main(arguments: list[str] | None = None) -> int:
    """Draw, or with --check say whether the pictures are up to date: 0 when they are, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a picture is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder to write or check")
    options = parser.parse_args(arguments)
    stale = 0
    for name, draw in (("state.svg", state_picture), ("layers.svg", layer_picture)):
        target: Path = options.target / name
        if not options.check:
            options.target.mkdir(exist_ok=True)
            target.write_text(draw(), encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != draw():
            print(f"{target} is not up to date: run python tools/generate_pictures.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
