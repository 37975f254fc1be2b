"""The two pages for those who come from elsewhere: the programs on them run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.corpus import CT_IMAGE, make_folder

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def program(page: str) -> str:
    """The one Python program of a page; there is one of the old style above it."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    before, after = text.index("## Before"), text.index("## After")
    assert "```\n" in text[before:after]
    (found,) = re.findall(r"```python\n(.*?)```", text[after:], re.DOTALL)
    return found


def run(page: str, folder: Path, *arguments: Path) -> str:
    script = folder / "program.py"
    script.write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "images", 3, 50_000, CT_IMAGE)


def test_the_program_with_associate_handles(images: list[Path], tmp_path: Path) -> None:
    said = run("coming-from-an-associate-handle-api.md", tmp_path, images[0])
    assert said.splitlines() == ["received PAT1", "answered 0000H success", "a client has gone in order"]


def test_the_program_with_a_listener(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "received"
    folder.mkdir()
    said = run("coming-from-a-listener-sdk.md", tmp_path, folder, *images)
    assert said.splitlines() == ["3 sent, 0 failed", "3 registered, the association was released"]
    assert sorted(path.name for path in folder.iterdir()) == ["1.dcm", "2.dcm", "3.dcm"]
    for image, received in zip(images, sorted(folder.iterdir())):
        assert received.read_bytes()[-50_000:] == image.read_bytes()[-50_000:]
