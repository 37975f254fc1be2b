"""How commands speak: text for people, one JSON object a line for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Final

import typer

__all__ = ["CALLING", "FAILED", "INTERRUPTED", "JSON", "NO_ASSOCIATION", "PEER", "USAGE", "complain", "say_json"]

FAILED: Final = 1
USAGE: Final = 2
NO_ASSOCIATION: Final = 3
INTERRUPTED: Final = 130

PEER = Annotated[str, typer.Argument(metavar="AET@HOST:PORT", help="The peer.", show_default=False)]
CALLING = Annotated[str, typer.Option("--aet", metavar="AET", help="Our AE title.")]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def complain(sentence: str) -> None:
    """An error, on standard error, without control characters that a peer may have slipped in."""
    text = "".join(character if character.isprintable() else "?" for character in sentence)
    print(f"dulcet: {text}", file=sys.stderr, flush=True)


def say_json(**values: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(values, ensure_ascii=False), flush=True)
