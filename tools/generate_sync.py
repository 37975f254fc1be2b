"""Write the service users of the blocking face from those of asyncio, so that each stands once.

Run it after a change of one of `SOURCES`; with --check it writes nothing and fails when a file is not up to date.
What the two faces do differently has one name in `dulcet.aio.twin` and `dulcet.blocking.twin`, and is not generated.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "dulcet"
SOURCES = ("availability", "commitment", "mpps", "pool", "printing", "retrieving", "ups")

HEADER = "# Written by tools/generate_sync.py from {source}: change that file, and run it.\n"

NAMES = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aio": "blocking",
    "asynccontextmanager": "contextmanager",
}

PHRASES = {
    "for the tasks of one loop, the node's too": "may be used from any thread",
    "for tasks: `": "for threads: `",
}
"""What docstrings say of the one face and not of the other."""

AWAITED = re.compile(r"\(await ([^()\n]*(?:\([^()\n]*\)[^()\n]*)*)\)\.")
KEYWORDS = re.compile(r"\b(?:await|async) ")


def render(name: str) -> str:
    """The blocking module."""
    source = (PACKAGE / "aio" / f"{name}.py").read_text(encoding="utf-8")
    text = HEADER.format(source=f"aio/{name}.py") + _translated(source)
    ruff = [sys.executable, "-m", "ruff", "check", "--quiet", "--fix", "--select", "I", "--stdin-filename"]
    target = str(PACKAGE / "blocking" / f"{name}.py")
    ended = subprocess.run([*ruff, target, "-"], input=text, capture_output=True, text=True, check=True)
    return ended.stdout


def _translated(source: str) -> str:
    """The text with each token as the blocking face has it; what lies between tokens stays."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    superfluous = _superfluous(tokens)
    pieces, done = [], 0
    for index, token in enumerate(tokens):
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end) if row <= len(starts))
        replaced = token.string
        if index in superfluous:
            replaced = ""
        elif token.type == tokenize.NAME and token.string in ("async", "await"):
            replaced, end = "", end + 1  # with the blank behind it
        elif token.type == tokenize.NAME:
            replaced = NAMES.get(token.string, token.string)
        elif token.type == tokenize.STRING:
            replaced = _spoken(token.string)
        if replaced != source[start:end]:
            pieces += [source[done:start], replaced]
            done = end
    return "".join([*pieces, source[done:]])


def _superfluous(tokens: list[tokenize.TokenInfo]) -> set[int]:
    """The parentheses of `(await …).name`."""
    found = set()
    for index, token in enumerate(tokens[:-1]):
        if token.string != "(" or tokens[index + 1].string != "await":
            continue
        if tokens[index - 1].type == tokenize.NAME and tokens[index - 1].string not in ("return", "in", "not"):
            continue  # the arguments of a call
        depth, end = 0, index
        while depth or end == index:
            depth += {"(": 1, ")": -1}.get(tokens[end].string, 0)
            end += 1
        if tokens[end].string == ".":
            found |= {index, end - 1}
    return found


def _spoken(text: str) -> str:
    """A docstring, with the code in it."""
    for ours, theirs in PHRASES.items():
        text = text.replace(ours, theirs)
    return KEYWORDS.sub("", AWAITED.sub(r"\1.", text)).replace("dulcet.aio", "dulcet.blocking")


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is not up to date")
    check = parser.parse_args().check
    for name in SOURCES:
        target = PACKAGE / "blocking" / f"{name}.py"
        text = render(name)
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{target} is not up to date: run python tools/generate_sync.py", file=sys.stderr)
            return 1
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
