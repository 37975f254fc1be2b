"""Facts about the machine and the software that a figure belongs to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.interop import archives, peers

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, object]:
    """What to write beside every figure."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "dcmtk": dcmtk_version(),
        "orthanc": orthanc_version(),
        **{name: installed(name) for name in ("dulcet", "pynetdicom", "pydicom")},
        "commit": commit(),
        "load_at_start": os.getloadavg()[0],
    }


def processor() -> str:
    """The model name of the processor, as the kernel gives it."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def dcmtk_version() -> str:
    """DCMTK's version; raises MissingTool where it is not installed."""
    first = peers.run([peers.tool("echoscu"), "--version"]).output
    found = re.search(r"v(\d+\.\d+\.\d+)", first)
    return found[1] if found else first.strip()


def orthanc_version() -> str:
    """Orthanc's version, as it says itself."""
    said = peers.run([archives.orthanc_path(), "--version"]).output
    found = re.search(r"(\d+\.\d+\.\d+)", said)
    return found[1] if found else "unknown"


def installed(package: str) -> str:
    """The installed version of a package, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that is measured, with a `+` where sources differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = "+" if git("status", "--porcelain", "--", "src") else ""
    return git("rev-parse", "--short", "HEAD") + changed


def result_path(known: dict[str, object]) -> Path:
    """bench/results/<date>-<host facts>.json"""
    words = f"{known['cores']}-core {known['processor']} python{known['python']}"
    return ROOT / "bench" / "results" / f"{str(known['date'])[:10]}-{re.sub(r'[^A-Za-z0-9.]+', '-', words)}.json"
