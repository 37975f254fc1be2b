"""Record commands as a terminal shows them: docs/pictures/terminal.svg.

The commands really run, against an archive of their own; `--check` runs them again and holds what they say against the
picture, but for times and rates, which are shown as they were.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from dulcet.archive.application import Archive

TARGET: Final = Path(__file__).parents[1] / "docs" / "pictures" / "terminal.svg"
PORT: Final = 11112
"""The port that is shown; the archive stands on a free one."""
COMMANDS: Final = (
    "dulcet doctor ARCHIVE@127.0.0.1:11112",
    "dulcet store ARCHIVE@127.0.0.1:11112 study/",
    "dulcet find ARCHIVE@127.0.0.1:11112 -k PatientName='DOE*' -k StudyDate -k NumberOfStudyRelatedInstances",
    "dulcet get ARCHIVE@127.0.0.1:11112 -k StudyInstanceUID=2.25.4711 --out retrieved",
    "dulcet echo WRONG@127.0.0.1:11112",
)
COLUMNS: Final = 112
LINE: Final = 17
TIMES: Final = re.compile(r"[0-9.]+ (ms|s|kB/s|MB/s)\b|DULCET_[0-9.]+")


def record() -> Iterator[tuple[bool, str]]:
    """Each line, and whether it was typed."""
    with tempfile.TemporaryDirectory() as name:
        study = Path(name) / "study"
        study.mkdir()
        image = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        image.PatientName, image.StudyInstanceUID = "DOE^JANE", "2.25.4711"
        for number in range(1, 4):
            uid = UID(f"2.25.4711.{number}")
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
            image.save_as(study / f"{number}.dcm")
        with (
            Archive(Path(name) / "data", durable=False, allow_any=True) as archive,
            archive.node("ARCHIVE").threads() as serving,
        ):
            for command in COMMANDS:
                yield True, f"$ {command}"
                for line in run(command, serving.address.port, name):
                    yield False, line


def run(command: str, port: int, folder: str) -> Iterator[str]:
    """What a command says, as lines that fit."""
    words = shlex.split(command.replace(str(PORT), str(port)))
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    for line in (done.stdout + done.stderr).replace(str(port), str(PORT)).splitlines():
        for start in range(0, max(len(line), 1), COLUMNS):
            yield line[start : start + COLUMNS]


def draw(lines: list[tuple[bool, str]]) -> str:
    """The picture."""
    width, height = COLUMNS * 7.9 + 32, len(lines) * LINE + 46
    title = "dulcet on a terminal"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        "<style>text { font: 13px monospace; fill: #d7dde5; white-space: pre; } .typed { fill: #8fd18f; }</style>",
        '<rect width="100%" height="100%" rx="8" fill="#1b2430"/>',
    ]
    for number, (typed, text) in enumerate(lines):
        kind = ' class="typed"' if typed else ""
        parts.append(f'<text{kind} x="16" y="{32 + number * LINE}" xml:space="preserve">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Record, or with --check say whether the picture is up to date: 0 when it is, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the picture is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to write or check")
    options = parser.parse_args(arguments)
    target: Path = options.target
    logging.disable(logging.WARNING)  # the refusal is meant
    text = draw(list(record()))
    if not options.check:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.exists() and _without_times(target.read_text(encoding="utf-8")) == _without_times(text):
        return 0
    print(f"{target} is not up to date: run python tools/generate_recordings.py", file=sys.stderr)
    return 1


def _without_times(text: str) -> str:
    return re.sub(r" +", " ", TIMES.sub("…", text))


if __name__ == "__main__":
    raise SystemExit(main())
