"""The manual pages: made from the commands, one each, and roff that a formatter reads without complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dulcet.cli.app import VERBS, command

FOLDER = Path(__file__).parents[1] / "man"
PAGES = sorted(path.name for path in FOLDER.glob("*.1"))
MACROS = {".TH", ".SH", ".TP", ".PP", ".B", ".BR", ".nf", ".fi", '.\\"'}
FORMATTER = next((name for name in ("mandoc", "groff") if shutil.which(name)), None)
COMMANDS = {"mandoc": ["mandoc", "-T", "lint", "-W", "error"], "groff": ["groff", "-man", "-ww", "-z"]}


def test_there_is_one_for_each_command() -> None:
    assert {*PAGES} == {"dulcet.1", *(f"dulcet-{verb}.1" for verb in VERBS)}


@pytest.mark.parametrize("name", PAGES)
def test_it_holds_what_a_manual_page_holds(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert text.isascii()
    lines = text.splitlines()
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= MACROS
    sections = [line.removeprefix(".SH ") for line in lines if line.startswith(".SH ")]
    assert sections[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES"]
    assert sections[-2:] == ["EXIT STATUS", "SEE ALSO"]
    assert text.count(".nf") == text.count(".fi") == 1
    assert set(re.findall(r"\\(.)", text)) <= {"-", "&", "e", "(", '"'}


@pytest.mark.parametrize("verb", VERBS)
def test_it_has_every_option(verb: str) -> None:
    text = (FOLDER / f"dulcet-{verb}.1").read_text().replace("\\-", "-")
    terms = [line for line in text.splitlines() if line.startswith(".B -")]
    assert sorted(terms) == sorted(f".B {option.names()}" for option in command(verb).options())


@pytest.mark.skipif(FORMATTER is None, reason="needs mandoc or groff")
@pytest.mark.parametrize("name", PAGES)
def test_a_formatter_does_not_complain(name: str) -> None:
    done = subprocess.run(
        [*COMMANDS[str(FORMATTER)], FOLDER / name], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
