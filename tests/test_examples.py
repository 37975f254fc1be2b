"""Each example is a program that ends by itself and prints what its reader is told to expect."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.notebooks import code_cells, run

EXAMPLES = Path(__file__).parents[1] / "examples"
TIME_LIMIT = 60.0  # each takes about a second; the machine may be busy
LINES = 60
"""An example fits a screen or two."""

LONGER = {"moving_composite_data.py": 225}
"""Four parties, each a class."""

# Lines that the output holds, in this order, as regular expressions.
EXPECTED = {
    "asyncio_receiver.py": [r"sent 0000H success", r"worked on MR of CompressedSamples\^MR1"],
    "availability.py": [
        r"study 1\.2\.1:",
        r"   1\.2\.1\.1\.2 ONLINE at ARCHIVE",
        r"   1\.2\.2\.1\.1 NEARLINE at ARCHIVE",
        r"2 notifications",
        r"refused: 0120H missing attribute - missing: StudyInstanceUID, ReferencedSeriesSequence",
    ],
    "commitment.py": [
        r"archive keeps 1\.3\.6\.1\.4\.1\.5962\.\S+",
        r"may be deleted here: 1\.3\.6\.1\.4\.1\.5962\.\S+",
        r"must be kept: 1\.2\.3\.4 - no such object instance: it is not with the provider",
    ],
    "durable_receiver.py": [
        r"CT_small\.dcm 0000H success",
        r"from CT1 \('incoming', 'CT'\)",
        r"from CT1 \('incoming', 'MR'\)",
    ],
    "folder_sender.py": [r"skipped notes\.txt", r"try 1: 7 files, 0 failed", r"all there: True"],
    "gui_listener.py": [r"shown: \.dcm in the window's thread: True", r"nobody was cut off: True"],
    "mini_pacs.py": [r"stored 2", r"CompressedSamples\^MR1 20040826", r"retrieved 1"],
    "moving_composite_data.py": [
        r"A -> B  C-MOVE-RQ, message 70",
        r"B -> C  C-GET-RQ, message 500",
        r"C -> B  C-STORE-RQ, message 201",
        r"B -> D  C-STORE-RQ for A 70, message 901",
        r"B -> A  answers 70: 0000H, None to go, 3 done, 0 failed",
    ],
    "mpps.py": [
        r"begun: P1 on CT1",
        r"changed: head, plain",
        r"ended: COMPLETED",
        r"series: \['HEAD'\]",
        r"refused: N-SET-RSP: 0110H .*may no longer be updated.*",
        r"ended: DISCONTINUED",
        r"stopped: the patient had to leave",
    ],
    "print_film.py": [
        r"the printer is NORMAL",
        r"printer: image 1",
        r"printer: image 2",
        r"job: \['DONE'\]",
        r"printer: session over",
    ],
    "progress_bar.py": [r"sending    \[#{20}\] 20/20", r"retrieved  \[#{20}\] 20/20"],
    "router.py": [r"FAR got it"],
    "tls_both_ways.py": [
        r"TLSv1\.3 0000H success",
        r"another's title: AssociationRefused",
        r"no certificate: CertificateRefused",
        r"no TLS: AssociationAborted",
    ],
    "ups.py": [
        r"to be done: read US",
        r"too late: N-ACTION-RSP: C301H the correct transaction UID was not provided",
        r"heard: read CT - state SCHEDULED",
        r"heard: read CT - progress ",
        r"heard: read CT - state COMPLETED",
        r"heard: read MR - state CANCELED",
    ],
    "web_receiver.py": [r"\[\{'uid': '1\.3\.6\.1\.4\.1\.5962\.\S+', 'from': 'CT1'\}\]"],
    "worklist.py": [
        r"   ABEL\^ANNA CT",
        r"   BÖHM\^BEA MR",
        r"   COOK\^CARL A1000",
        r"   begins as IN PROGRESS",
    ],
}
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_every_example_is_listed_with_what_it_prints():
    assert set(PROGRAMS) == EXPECTED.keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_runs_and_says_what_happened(name):
    done = subprocess.run(
        [sys.executable, "-X", "utf8", EXAMPLES / name],
        capture_output=True,
        encoding="utf-8",
        timeout=TIME_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = iter(done.stdout.splitlines())
    for expected in EXPECTED.get(name, ()):
        assert any(re.fullmatch(expected, line) for line in lines), f"no line {expected!r} in\n{done.stdout}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_short_and_says_what_it_is(name):
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert len(source.splitlines()) <= LONGER.get(name, LINES)


def shown(outputs: list[dict[str, Any]]) -> list[object]:
    """What a cell printed and showed; of a picture its pixels, for libraries compress differently."""
    found: list[object] = []
    for output in outputs:
        data = output.get("data", {})
        found.append("".join(output.get("text", ()) or data.get("text/plain", ())))
        if "image/png" in data:
            png = base64.b64decode(data["image/png"])
            begin = png.index(b"IDAT") + 4
            found.append((png[:8], zlib.decompress(png[begin : begin + int.from_bytes(png[begin - 8 : begin - 4])])))
    return found


def test_a_notebook_shows_what_is_kept_in_it():
    notebook = json.loads((EXAMPLES / "query_and_show.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    kept = [shown(cell["outputs"]) for cell in code_cells(notebook)]
    assert [shown(outputs) for outputs in run(notebook)] == kept
    (text, (signature, pixels)) = kept[3]
    assert text == "<Picture 128 x 128>"
    assert signature == b"\x89PNG\r\n\x1a\n"
    assert (len(pixels), min(pixels), max(pixels)) == (128 * 129, 0, 255)
