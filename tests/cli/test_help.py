"""Help: one screen for what most people need, everything with --help-all, and neither loads the engines."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.blocking.interruptible import without_coverage
from tests.cli.running import dulcet, environment

from dulcet.cli.app import VERBS, app, command

LINES, COLUMNS = 24, 80
EVERY = ("", *VERBS)
ENGINES = "asyncio pydicom rich sqlite3 ssl dulcet.aio dulcet.archive dulcet.blocking dulcet.node dulcet.io".split()


def shown(*arguments: str) -> list[str]:
    """The lines of a help, as wide as a terminal makes them."""
    done = CliRunner().invoke(app, arguments, prog_name="dulcet", terminal_width=COLUMNS)
    assert done.exit_code == 0, done.output
    assert done.output.isascii() or "…" in done.output
    assert "\x1b" not in done.output
    return done.output.splitlines()


@pytest.mark.parametrize("verb", EVERY)
def test_help_fits_a_screen(verb: str) -> None:
    lines = shown(*verb.split(), "--help")
    assert lines[0].startswith(f"Usage: dulcet {verb}".rstrip())
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert shown(*verb.split(), "-h") == lines


@pytest.mark.parametrize("verb", EVERY)
def test_help_shows_two_examples_and_where_there_is_more(verb: str) -> None:
    lines = shown(*verb.split(), "--help")
    examples = [line for line in lines if re.match(rf" +(\w+=\S+ )?dulcet {verb}", line)]
    assert len(examples) >= 2
    assert f"dulcet {verb} --help-all".replace("  ", " ") in "\n".join(lines)


@pytest.mark.parametrize("verb", EVERY)
def test_the_complete_help_has_every_option_and_no_line_too_many(verb: str) -> None:
    lines = shown(*verb.split(), "--help-all")
    text = "\n".join(lines)
    assert max(map(len, lines)) <= COLUMNS
    known = command(verb) if verb else app
    names = [name for one in known.params if isinstance(one, click.Option) for name in one.opts]
    for name in set(names) - {"--help-all"}:
        assert re.search(rf"{name}\b", text), name
    if verb:
        for paragraph in command(verb).paragraphs():
            assert " ".join(paragraph.split()) in " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_is_one_that_the_command_takes(verb: str) -> None:
    lines = "\n".join(command(verb).examples()).replace("\\\n", " ").splitlines()
    assert len(lines) >= 2
    for line in (part for whole in lines for part in re.split(r" > \S+;? *|; +", whole) if part):
        words = shlex.split(line)
        words = words[words.index("dulcet") :]
        assert words[1] == verb, line
        command(verb).make_context(verb, words[2:])  # says what it does not take


def test_the_list_has_every_command_on_one_line() -> None:
    lines = shown("--help")
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.startswith("  ")]
    assert listed == list(VERBS)


def loaded(arguments: Iterable[str]) -> set[str]:
    """The modules that a process has when it ends."""
    program = (
        "import sys, atexit; atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from dulcet.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False,
        env=without_coverage(environment()),
    )  # fmt: skip
    return set(done.stderr.splitlines())


@pytest.mark.parametrize("arguments", [("--help",), ("--help-all",), ("serve", "--help"), ("store", "--help-all")])
def test_help_loads_no_engine(arguments: tuple[str, ...]) -> None:
    found = loaded(arguments)
    assert "dulcet.cli.app" in found
    assert not found & set(ENGINES)


def test_a_command_loads_itself_alone() -> None:
    found = loaded(("echo", "A@127.0.0.1:1"))
    assert {"dulcet.cli.echo", "dulcet.blocking.association"} <= found
    others = {f"dulcet.cli.{module}" for module in VERBS.values()} - {"dulcet.cli.echo"}
    unneeded = "asyncio pydicom rich sqlite3 ssl json hashlib tomllib shutil pathlib dulcet.io.store_directory".split()
    assert not found & {*others, *unneeded}
    assert not {module for module in found if module.startswith("dulcet.part10")}  # an echo carries no data set


@pytest.mark.parametrize("arguments", [("--help",), ("store", "--help"), ("--version",), ("peers", "--json")])
def test_output_that_nothing_takes_is_one_sentence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A disk that is full, when the output goes into a file."""
    (tmp_path / "peers.toml").write_text('[peers.pacs]\naddress = "ARCHIVE@127.0.0.1:104"\n')
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dulcet", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False, env={**without_coverage(environment()), "DULCET_PEERS": str(tmp_path / "peers.toml")},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "dulcet: standard output: No space left on device\n")


def test_help_is_plain_in_a_pipe_whatever_is_asked_for() -> None:
    plain = dulcet("store", "--help")
    assert plain.code == 0
    for extra in ({"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}):
        assert dulcet("store", "--help", env=extra) == plain
