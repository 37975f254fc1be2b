"""Run the tests on every other Python that is here, each in an environment of its own: `.venv-3.12` and so on.

Interpreters are looked for on PATH and where pyenv keeps them.  Says which versions were tested and which are not here;
`--versions` names those that must be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import which
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SUPPORTED: Final = ("3.11", "3.12", "3.13", "3.14")

LEFT_OUT: Final = (
    "tests/interop",  # what peers say does not depend on our Python
    "tests/hostile",
    "tests/cli/test_[!a]*",  # commands as processes
    "tests/tls/test_commands.py",
    "tests/tls/test_workers.py",
    "tests/trace",
    "tests/archive/test_crash*.py",
    "tests/dimse/test_command.py",  # long searches for bytes that do harm
    "tests/dimse/test_hostile.py",
    "tests/dimse/test_stateful.py",
    "tests/dimse/test_transfer.py",
    "tests/part10/test_scanner.py",
    "tests/toolkit/test_howto.py",
    "tests/test_docs.py",
    "tests/test_examples.py",
    "tests/test_import_law.py",
    "tests/test_log_codes.py",
    "tests/test_packaging.py",
)
"""What takes long and was tested before, on one Python; 7,500 tests are left, a minute or two of two idle cores."""


def found(version: str) -> Path | None:
    """The interpreter of a version, one that answers."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"), reverse=True)
    for candidate in [which(f"python{version}"), *map(str, kept)]:
        if candidate is None:
            continue
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:  # pyenv's shims may answer with an excuse
            return Path(candidate)
    return None


def environment(version: str, python: Path) -> Path:
    """The Python of its environment, made or brought up to date where pyproject.toml is newer."""
    folder = ROOT / f".venv-{version}"
    ours = folder / "bin" / "python"
    stamp = folder / ".dev"
    settings = ROOT / "pyproject.toml"
    if stamp.exists() and stamp.stat().st_mtime >= settings.stat().st_mtime:
        return ours
    print(f"Python {version}: installing dulcet and its development tools into {folder.name}", flush=True)
    if not ours.exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    pip = [str(ours), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--editable", f"{ROOT}[dev]"], check=True)
    stamp.touch()
    return ours


def tested(version: str, python: Path, workers: str) -> bool:
    """Run them; True where all passed."""
    ours = environment(version, python)
    print(f"Python {version}: {python}", flush=True)
    command = [str(ours), "-m", "pytest", "-q", "-n", workers, "--dist", "loadfile", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as folder:  # pytest keeps folders of its last runs, a gigabyte of them
        left_out = [f"--ignore-glob={ROOT / path}" for path in LEFT_OUT]
        start = time.monotonic()
        done = subprocess.run([*command, f"--basetemp={folder}/tests", *left_out], cwd=ROOT, check=False)
    took = time.monotonic() - start
    print(f"Python {version}: {'passed' if done.returncode == 0 else 'FAILED'} in {took:.0f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="3", help="processes; many tests wait rather than work")
    parser.add_argument("--versions", nargs="*", default=[], help="these, and none that is missing")
    options = parser.parse_args()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = options.versions or [version for version in SUPPORTED if version != here]
    pythons = {version: found(version) for version in wanted}
    missing = [version for version, python in pythons.items() if python is None]
    failed: list[str] = []
    passed: list[str] = []
    for version, python in pythons.items():
        if python is not None:
            try:
                good = tested(version, python, options.workers)
            except subprocess.CalledProcessError as error:
                print(f"Python {version}: {error}", file=sys.stderr)
                good = False
            (passed if good else failed).append(version)
    print(f"tested on other Pythons: {', '.join(passed) or 'none'}; not here: {', '.join(missing) or 'none'}")
    if failed:
        print(f"failed on: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or (missing and options.versions) else 0


if __name__ == "__main__":
    sys.exit(main())
