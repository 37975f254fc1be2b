"""odil and GDCM: receivers that know a SOP class alone, not its presentation contexts; and their users at our archive.

gdcmscu 3.0.21 aborts itself once its echo or store is done, whoever answers: what came is looked at instead.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from tests.corpus import CT_IMAGE, make_folder
from tests.interop import peers
from tests.interop.archives import dulcet_serve
from tests.interop.test_query_retrieve import Archive, uids_in
from tests.node.hosting import serving

import dulcet

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
HOST = peers.HOST


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One class in two syntaxes, by turns."""
    made = make_folder(tmp_path / "files", 6, 1000, CT_IMAGE)
    for path in made[::2]:
        found = dcmread(path)
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        found.save_as(path, implicit_vr=True, little_endian=True)
    return made


def uids_of(files: list[Path]) -> list[str]:
    return sorted(str(dcmread(path).SOPInstanceUID) for path in files)


# --- we send ---------------------------------------------------------------------------------------------------------


def test_odil_takes_a_class_in_two_syntaxes(files: list[Path]) -> None:
    with peers.odil_scp() as server:
        peers.dulcet("echo", server.address).check()
        finished = peers.dulcet("store", server.address, *files, "--timeout", "20").check()
        said = server.output()
    assert "6 sent" in finished.output + finished.errors
    assert sorted(line.split()[1] for line in said.splitlines() if line.startswith("stored")) == uids_of(files)


def test_odil_answers_on_another_context_of_the_class_and_is_understood(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    contexts = [dulcet.Proposal(CT_IMAGE, (syntax,)) for syntax in (IMPLICIT, EXPLICIT)]
    config = dulcet.AssociationConfig(timers=dulcet.Timers(response=20))
    with peers.odil_scp() as server, dulcet.associate(server.address, contexts=contexts, config=config) as association:
        assert [association.store(path).status for path in files] == [0] * len(files)
    said = [record.message for record in caplog.records if "the answers are taken" in record.message]
    assert len(said) == 1
    assert "it answers on context" in said[0]


@pytest.mark.parametrize("which", [slice(0, None, 2), slice(1, None, 2)], ids=["implicit", "explicit"])
def test_gdcm_moves_from_us_and_reads_what_it_receives(which: slice, files: list[Path], tmp_path: Path) -> None:
    """Its receiver reads what comes in the syntax of the last context of the class, and takes one association."""
    files = files[which]
    archive, port = Archive(files), peers.free_port()
    archive.node.with_peers({"GDCM": f"GDCM@{HOST}:{port}"})
    taken = tmp_path / "taken"
    taken.mkdir()
    with serving(archive.node) as server:
        peers.gdcmscu(
            server.address.port, "--move", "--studyroot", "--study", "--key", "20,d=1.2", "--port-scp", str(port),
            "-o", taken, aet="ARCHIVE",
        )  # fmt: skip
    assert uids_in(taken) == uids_of(files)
    sent = {str(found.SOPInstanceUID): found.PixelData for found in map(dcmread, files)}
    for path in taken.iterdir():
        found = dcmread(path)
        assert found.PixelData == sent[found.SOPInstanceUID]
        assert found.PatientID == dcmread(files[0]).PatientID


# --- they ask --------------------------------------------------------------------------------------------------------


def test_gdcm_echoes_stores_and_finds(files: list[Path], tmp_path: Path) -> None:
    with dulcet_serve(tmp_path / "archive") as server:
        peers.gdcmscu(server.port, "--echo", aet=server.aet)
        peers.wait_until(lambda: "'GDCM': released after 1 requests" in server.output(), 10.0, "the echo was served")
        for path in files:
            peers.gdcmscu(server.port, "--store", "-i", path, aet=server.aet)
        study = dcmread(files[0]).StudyInstanceUID
        with dulcet.associate(server.address) as association:
            stored = association.find(StudyInstanceUID=study, SOPInstanceUID="", level="IMAGE", model="study")
            assert sorted(str(match.SOPInstanceUID) for match in stored) == uids_of(files)


def test_odil_echoes_stores_finds_and_gets(files: list[Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with dulcet_serve(tmp_path / "archive") as server:
        caller = (HOST, str(server.port), "ODIL", server.aet)
        peers.odil("echo", *caller).check()
        peers.odil("store", *caller, *files).check()
        study = dcmread(files[0]).StudyInstanceUID
        found = peers.odil("find", *caller, "study", "QueryRetrieveLevel=STUDY", "StudyInstanceUID=").check()
        assert study in found.output + found.errors
        keys = ("study", "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}")
        peers.odil("get", "--directory", taken, *caller, *keys).check()
    assert uids_in(taken) == uids_of(files)
