"""Completion, as the shells ask for it: bash is run where it is there, the others by what they send."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.running import dulcet, environment

from dulcet.cli.app import SHELLS, VERBS

BASH = shutil.which("bash")
PROGRAM = """
eval "$(dulcet --show-completion bash)"
complete -p dulcet
COMP_WORDS=({words})
COMP_CWORD={last}
_dulcet_completion dulcet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `dulcet` is this one."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "dulcet"
    script.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dulcet \"$@\"\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def in_bash(path: str, *words: str, folder: Path) -> list[str]:
    """What bash offers for the last of these words."""
    assert BASH is not None
    program = PROGRAM.format(words=" ".join(map(shlex.quote, words)), last=len(words) - 1)
    done = subprocess.run(
        [BASH, "--norc", "-c", program], capture_output=True, text=True, timeout=60, cwd=folder,
        env=environment({"PATH": path, "HOME": str(folder)}), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    registered, *offered = done.stdout.splitlines()
    assert "_dulcet_completion dulcet" in registered
    return [line for line in offered if line]


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("dulcet", ""), list(VERBS)),
        (("dulcet", "st"), ["store", "status"]),
        (("dulcet", "--sh"), ["--show-completion"]),
        (("dulcet", "--show-completion", ""), list(SHELLS)),
        (("dulcet", "store", "--dr"), ["--dry-run"]),
        (("dulcet", "echo", "--tls-p"), ["--tls-password-file", "--tls-profile"]),
        (("dulcet", "find", "A@b:104", "--level", "s"), ["study", "series"]),
        (("dulcet", "listen", "--durability", ""), ["fsync", "none"]),
        (("dulcet", "index", ""), ["rebuild", "check", "backup"]),
        (("dulcet", "nonsense", ""), list(VERBS)),  # no complaint in the middle of a line
    ],
)
def test_bash_completes(path: str, words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    assert in_bash(path, *words, folder=tmp_path) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_what_to_ask(shell: str) -> None:
    done = dulcet("--show-completion", shell)
    assert (done.code, done.errors) == (0, "")
    assert f"_DULCET_COMPLETE={shell}_complete" in done.output
    assert re.search(r"^(complete|#compdef|    complete).*\bdulcet\b", done.output, re.MULTILINE)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_answered_with_what_an_option_does(shell: str) -> None:
    words = {"COMP_WORDS": "dulcet store --dry", "COMP_CWORD": "--dry" if shell == "fish" else "2"}
    done = dulcet(env={"_DULCET_COMPLETE": f"{shell}_complete", **words})
    assert (done.code, done.errors) == (0, "")
    assert "--dry-run" in done.output
    assert "Only say what would be sent." in done.output


def test_another_shell_is_a_slip_of_the_pen() -> None:
    done = dulcet("--show-completion", "tcsh")
    assert done.code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.sentence()
