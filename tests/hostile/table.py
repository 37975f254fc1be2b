"""The tables of docs/explanation/hostile-peers.md, as rows: what is promised there is what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["PAGE", "rows"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "hostile-peers.md"


def rows(heading: str) -> list[dict[str, str]]:
    """The rows of the first table under a heading, by the names of its columns; code marks taken off."""
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        if line.lstrip("#").strip() == heading:
            break
    else:
        raise AssertionError(f"{PAGE.name} has no heading {heading!r}")
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table or line.startswith("#"):
            break
    names, _, *body = table
    return [dict(zip(names, (cell.replace("`", "") for cell in row), strict=True)) for row in body]
