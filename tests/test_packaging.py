"""What users install is whole: the wheel is typed, has the command, and an sdist builds the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from dulcet import _version

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from a copy with no network."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("src", "man", "tests", "tools", "docs", "examples", "fuzzing"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"dulcet-{_version.__version__}.dist-info/{name}").decode()


def test_the_wheel_holds_every_file_of_the_package_manual_pages_and_nothing_else(wheel):
    package = ROOT / "src" / "dulcet"
    files = {path.relative_to(ROOT / "src").as_posix() for path in package.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert "dulcet/py.typed" in files
    data = f"dulcet-{_version.__version__}.data/data/share/man/man1"
    pages = {f"{data}/{path.name}" for path in (ROOT / "man").iterdir()}
    assert len(pages) > 10
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files | pages


def test_the_wheel_has_the_command(wheel):
    lines = dist_info(wheel, "entry_points.txt").splitlines()
    assert lines[lines.index("[console_scripts]") + 1] == "dulcet = dulcet.cli:main"


def test_the_metadata_says_what_it_needs(wheel):
    metadata = Parser().parsestr(dist_info(wheel, "METADATA"))
    assert metadata["Name"] == "dulcet"
    assert metadata["Version"] == _version.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [line.split(">=")[0] for line in base] == ["click", "pydicom"]
    assert metadata.get_all("Provides-Extra") == ["dev", "docs", "fast", "fuzz", "pixels"]


def test_the_sdist_holds_sources_and_tests(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/dulcet/py.typed", "tests/test_packaging.py"} <= names
    assert {"examples/query_and_show.ipynb", "docs/pictures/state.svg", "Makefile", "CHANGELOG.md"} <= names


def test_an_sdist_builds_the_same_wheel(built, wheel, tmp_path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as made:
        assert {name: made.read(name) for name in made.namelist()} == {
            name: wheel.read(name) for name in wheel.namelist()
        }


COMMANDS = "echo store find get move listen serve status index export import negotiate doctor trace".split()


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what it depends on, no more, taken from here."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
    subprocess.run([*command, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=60)
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.strip())
    for found in needed("dulcet"):
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (place / name).symlink_to(Path(str(found.locate_file(name))))
    return python


def needed(name: str) -> list[Distribution]:
    """What a distribution needs without extras, and what that needs."""
    found: dict[str, Distribution] = {}
    waiting = [name]
    while waiting:
        for line in distribution(waiting.pop()).requires or ():
            requirement = re.match(r"[\w.-]+", line)
            marked = any(word in line.partition(";")[2] for word in ("extra", "python_version", "platform"))
            if requirement and not marked and requirement[0] not in found:
                found[requirement[0]] = distribution(requirement[0])
                waiting.append(requirement[0])
    return list(found.values())


def run(command: list[str]) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env=clean, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_wheel_is_what_runs(installed):
    found = run([str(installed), "-c", "import dulcet; print(dulcet.__file__)"]).strip()
    assert Path(found).resolve().is_relative_to(installed.parents[1].resolve())


def test_every_command_of_the_installed_wheel_runs(installed):
    dulcet = str(installed.with_name("dulcet"))
    assert run([dulcet, "--version"]).strip() == f"dulcet {_version.__version__}"
    lines = run([dulcet, "--help"]).partition("Commands:")[2].splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert set(names) >= set(COMMANDS)
    with ThreadPoolExecutor(2) as threads:
        for name, text in zip(names, threads.map(lambda name: run([dulcet, name, "--help"]), names), strict=True):
            assert f"dulcet {name} " in text


def test_the_installed_wheel_sends_receives_and_asks(installed, tmp_path):
    dulcet = str(installed.with_name("dulcet"))
    folder = tmp_path / "incoming"
    command = [dulcet, "listen", "--port", "0", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as listening:
        try:
            assert listening.stdout is not None
            port = listening.stdout.readline().partition(" as ")[0].rpartition(":")[2]
            peer = f"RECEIVER@127.0.0.1:{port}"
            assert "0000H" in run([dulcet, "echo", peer])
            assert "is well" in run([dulcet, "doctor", peer])
            assert "1 sent" in run([dulcet, "store", peer, str(get_testdata_file("CT_small.dcm"))])
        finally:
            listening.terminate()
    assert len(list(folder.glob("*.dcm"))) == 1
