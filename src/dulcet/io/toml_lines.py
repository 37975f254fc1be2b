"""Where the tables and keys of a TOML file stand, so that a complaint can name the line."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["lines_of", "place"]

Path = tuple[str, ...]


def lines_of(text: str) -> dict[Path, int]:
    """The line of each table and each key, by its path; what stands inside braces has the line of its key."""
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = _keys(match[1])
            found.setdefault(table, number)
        elif match := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line):
            found.setdefault((*table, *_keys(match[1])), number)
    return found


def place(name: str, lines: Mapping[Path, int], where: Path) -> str:
    """`NAME, line N`: the line of this key, or of the nearest table around it that has one."""
    while where and where not in lines:
        where = where[:-1]
    return f"{name}, line {lines[where]}" if where else name


def _keys(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(r""""[^"]*"|'[^']*'|[\w-]+""", dotted))
