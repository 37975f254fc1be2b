"""Write man/*.1, the manual pages of the commands, from the same options and docstrings as their help.

`--check` writes nothing and says whether the pages are up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dulcet._version import __version__
from dulcet.cli.app import EXAMPLES, EXIT_CODES, app, commands
from dulcet.cli.command import Argument, Option, Verb

TARGET: Final = Path(__file__).parents[1] / "man"


def text(words: str) -> str:
    """Words as roff takes them: no backslash, no control character at the start of a line."""
    plain = words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    plain = plain.replace("…", "...")
    return f"\\&{plain}" if plain.startswith(".") else plain


def section(title: str, *lines: str) -> Iterator[str]:
    yield from (f".SH {title.upper()}", *lines)


def described(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A section of terms and what they mean; nothing where there are none."""
    rows = list(rows)
    if rows:
        yield from section(title)
    for term, meaning in rows:
        yield from (".TP", f".B {text(term)}", text(meaning))


def head(name: str, what: str) -> Iterator[str]:
    yield '.\\" Made from the code by tools/generate_man.py; do not edit.'
    yield f'.TH "{name.upper()}" 1 "" "dulcet {__version__}" "dulcet"'
    yield from section("Name", f"{text(name)} \\- {text(what)}")


def examples(lines: Iterable[str]) -> Iterator[str]:
    yield from section("Examples", ".nf", *map(text, lines), ".fi")


def codes() -> Iterator[str]:
    yield from described("Exit status", EXIT_CODES)


def record(one: Option | Argument) -> tuple[str, str]:
    return one.record()


def page_of(name: str, command: Verb) -> Iterator[str]:
    """The page of one command."""
    yield from head(f"dulcet-{name}", command.get_short_help_str())
    words = " ".join(argument.record()[0] for argument in command.arguments())
    yield from section("Synopsis", f".B dulcet {name}", text(f"[OPTIONS] {words}".rstrip()))
    yield from section("Description")
    for paragraph in command.paragraphs():
        yield from (".PP", *(text(line.strip()) for line in paragraph.splitlines()))
    yield from examples(command.examples())
    yield from described("Arguments", map(record, command.arguments()))
    for group, options in command.groups().items():
        yield from described(group, map(record, options))
    yield from codes()
    yield from section("See also", ".BR dulcet (1)")


def main_page() -> Iterator[str]:
    """The page of `dulcet` itself."""
    yield from head("dulcet", "DICOM networking: verify, send, query, retrieve, receive and archive")
    yield from section("Synopsis", ".B dulcet", text("[OPTIONS] COMMAND ..."))
    words = "A peer is AET@HOST:PORT. Each command has a page of its own, dulcet-COMMAND(1)."
    yield from section("Description", text(words))
    yield from examples(EXAMPLES)
    rows = ((name, command.get_short_help_str()) for name, command in commands().items())
    yield from described("Commands", rows)
    yield from described("Options", map(record, app.options()))
    yield from codes()
    named = [f".BR dulcet\\-{name} (1){',' if name != list(commands())[-1] else ''}" for name in commands()]
    yield from section("See also", *named)


def pages() -> dict[str, str]:
    """File name -> page."""
    made = {f"dulcet-{name}.1": page_of(name, command) for name, command in commands().items()}
    return {name: "\n".join(lines) + "\n" for name, lines in {"dulcet.1": main_page(), **made}.items()}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or with --check say whether they are up to date: 0 when they are, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder to write or check")
    options = parser.parse_args(arguments)
    made, target = pages(), options.target
    if not options.check:
        target.mkdir(exist_ok=True)
        for name, page in made.items():
            (target / name).write_text(page, encoding="utf-8")
        return 0
    found = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.1")}
    stale = sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))
    for name in stale:
        print(f"{target / name} is not up to date: run python tools/generate_man.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
