"""A DICOMDIR of `dulcet export` in DCMTK's hands: dumped, checked and gone on in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests import corpus
from tests.archive.making import data_set, parts, send
from tests.interop.peers import dulcet, tool

from dulcet.services.identifiers import encode_dataset

RECORD = re.compile(r"^ +\(0004,1430\) CS \[([A-Z ]+)\]", re.MULTILINE)


def run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, encoding="latin-1", timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "E: " not in ended.stderr
    return ended.stdout


def kinds(directory: Path) -> list[str]:
    dumped = run(tool("dcmdump"), "-q", directory, folder=directory.parent)
    return [kind.strip() for kind in RECORD.findall(dumped)]


def test_dcmtk_reads_a_directory_and_goes_on_in_it(tmp_path: Path) -> None:
    data, medium = tmp_path / "archive", tmp_path / "cd"
    images = [instance.path for instance in corpus.survey()[0] if not instance.truncated]
    dulcet("import", *images, "--data", data)
    with parts(data) as archive:
        send(archive.ingest, data_set(1, PatientID=None, StudyDate="", StudyTime=None))
        private = "1.2.826.0.1.3680043.10.1.1"
        encoded = encode_dataset(data_set(2, SOPClassUID=private), "1.2.840.10008.1.2.1")[0]
        send(archive.ingest, encoded, sop_class_uid=private, sop_instance_uid="1.2.9.2")
    studies = sorted(folder.name for folder in (data / "objects").iterdir())
    exported = dulcet("export", *studies, "--to", medium, "--data", data, "--json").check().json_lines()
    assert exported[0]["failed"] == 0
    found = kinds(medium / "DICOMDIR")
    above = {"PATIENT", "STUDY", "SERIES"}
    assert exported[0]["exported"] == sum(kind not in above for kind in found)

    # One more image on the medium: what dcmgpdir had to understand of ours is in the directory that it writes.
    (medium / "NEW").mkdir()
    first = medium / "PT000001" / "ST000001" / "SE000001" / "IM000001"
    shutil.copy(first, medium / "NEW" / "IMAGE")
    run(tool("dcmodify"), "-nb", "-gin", "NEW/IMAGE", folder=medium)
    options = ("-q", "+A", "-nb", "-Nxc", "+Nrs", "+I", "+D", "DICOMDIR")
    run(tool("dcmgpdir"), *options, "NEW/IMAGE", folder=medium)
    extended = kinds(medium / "DICOMDIR")
    assert sorted(extended) == sorted([*found, extended[extended.index("SERIES") + 1]])
    # An instance that our directory names is not entered a second time.
    run(tool("dcmgpdir"), *options, first.relative_to(medium), folder=medium)
    assert kinds(medium / "DICOMDIR") == extended
