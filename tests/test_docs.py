"""The documentation keeps its word: its programs run, its commands exist, its links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tests.running_docs import Block, blocks, says

from dulcet.cli.app import VERBS
from dulcet.cli.app import command as command_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
TIME_LIMIT = 60.0  # each takes about a second; the machine may be busy

ELSEWHERE = {
    "docs/howto/coming-from-a-listener-sdk.md": "tests/toolkit/test_howto.py",
    "docs/howto/coming-from-an-associate-handle-api.md": "tests/toolkit/test_howto.py",
}
"""Pages whose programs take arguments, and where those are run."""

LANGUAGES = {"", "json", "ini", "make", "python", "sh", "text", "toml", "yaml"}
WITH_PROGRAMS = [
    name
    for name, page in zip(NAMES, PAGES, strict=True)
    if name not in ELSEWHERE and any(block.info == "python" for block in blocks(page))
]


def test_there_are_programs_to_run():
    assert {"README.md", "docs/tutorial.md"} <= set(WITH_PROGRAMS)


@pytest.mark.parametrize("name", WITH_PROGRAMS)
def test_the_programs_of_a_page_run_and_print_what_it_shows(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "tests.running_docs", ROOT / name, tmp_path],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=TIME_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_block_says_what_it_is_in_and_why_where_it_is_not_run(name):
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    for block in blocks(ROOT / name):
        if block.info == "python no-run":
            before = "\n".join(text[max(0, block.line - 5) : block.line - 2])
            assert "Not run" in before, f"{name}, line {block.line}: no word why it is not run"
        else:
            assert block.info in LANGUAGES, f"{name}, line {block.line}: {block.info!r}"


def commands(block: Block) -> list[list[str]]:
    """The `dulcet …` command lines of a block of shell, also those behind a pipe or a semicolon."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        part: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|;&<>"):
                if part[:1] == ["dulcet"]:
                    found.append(part[1:])
                part = []
            else:
                part.append(word)
    return found


WITH_COMMANDS = [
    (f"{name}:{block.line}", command)
    for name, page in zip(NAMES, PAGES, strict=True)
    for block in blocks(page)
    if block.info == "sh"
    for command in commands(block)
]


@pytest.mark.parametrize(("place", "command"), WITH_COMMANDS)
def test_a_command_line_is_one_that_the_command_takes(place, command):
    if command[:1] in (["--version"], ["--help"], ["--help-all"], ["--show-completion"]):
        return
    words = [word for word in command if word != "--debug"]
    assert words[0] in VERBS, f"{place}: no command {words[0]!r}"
    if not {"--help", "--help-all"} & set(words):
        command_of(words[0]).make_context(words[0], words[1:])  # says what it does not take


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    plain = (re.sub(r"[^\w\- ]", "", found.lower()).strip() for found in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_inside_the_documentation_lead_somewhere(name):
    page = ROOT / name
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name}: {target} does not exist"
        if name != "README.md" and found.suffix == ".md" and path:
            assert found.is_relative_to(DOCS) or path.startswith("../"), f"{name}: {target} leaves the documentation"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{name}: {found.name} has no heading #{anchor}"


PLACE = re.compile(r"`([a-z_0-9/]+\.py):([\w.]+)`")


def test_the_walks_through_the_layers_name_what_is_there():
    places = PLACE.findall((DOCS / "explanation" / "layers.md").read_text(encoding="utf-8"))
    assert len(places) > 30
    for file, name in places:
        body = ast.parse((ROOT / "src" / "dulcet" / file).read_text(encoding="utf-8")).body
        for part in name.split("."):
            found = [node for node in body if getattr(node, "name", None) == part]
            assert found, f"{file} has no {name}"
            body = getattr(found[0], "body", [])


def test_every_page_is_reached_from_the_index():
    seen: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            waiting.append((page.parent / target.partition("#")[0]).resolve())
    assert not set(DOCS.rglob("*.md")) - seen


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [("a … c", "a b c", True), ("a\nb", "a\nb\n", True), ("a", "a\nb", False), ("a\nb", "a", False), ("a", "b", False)],
)
def test_what_a_page_shows_is_held_against_what_is_printed(expected, printed, fits):
    assert (says(expected, printed) is None) is fits


GENERATED = {
    "generate_reference": ("reference", "limits.md"),
    "generate_conformance": ("conformance.md", ""),
    "generate_pictures": ("pictures", "state.svg"),
}


@pytest.mark.parametrize("generator", GENERATED)
def test_a_generated_page_that_is_out_of_date_is_noticed(generator, tmp_path, capsys):
    name, page = GENERATED[generator]
    main = import_module(f"tools.{generator}").main
    target = ["--target", str(tmp_path / name)]
    if page:
        (tmp_path / name).mkdir()
    assert main(["--check", *target]) == 1
    assert "not up to date" in capsys.readouterr().err
    assert main(target) == 0
    assert main(["--check", *target]) == 0
    made = tmp_path / name / page
    made.write_text(made.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    assert main(["--check", *target]) == 1
