"""Studies out of an archive and into another one: the same bytes, with a DICOMDIR that says what is there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from tests.archive.making import Parts, data_set, parts, send

from dulcet import uids
from dulcet.archive.attributes import IMAGE
from dulcet.archive.directory_records import KEYS, SINGLE_LEVEL, record_type
from dulcet.archive.export import Exported, export, study
from dulcet.archive.matching import Query
from dulcet.archive.upkeep import import_files
from dulcet.errors import DulcetError, InstanceError, NotDicom
from dulcet.io.files import walk

BIG_ENDIAN = uids.EXPLICIT_VR_BIG_ENDIAN
IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
SR = uids.COMPREHENSIVE_SR_STORAGE
PYDICOM = Path(pydicom.__file__).parent / "data"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path / "archive") as made:
        yield made


def out(archive: Parts, to: Path, *, directory: bool = True) -> Exported:
    return export(archive.index.select(Query(IMAGE)), archive.objects, to, directory=directory)


def imported(paths: Iterator[str], archive: Parts) -> dict[str, DulcetError | None]:
    return {str(path): error for path, error in import_files(map(Path, paths), archive.ingest)}


def files(folder: Path) -> Iterator[str]:
    return walk([folder], pytest.fail)


def records(medium: Path, kind: str) -> list[Dataset]:
    """The directory records of a kind."""
    return [item for item in dcmread(medium / "DICOMDIR").DirectoryRecordSequence if item.DirectoryRecordType == kind]


def test_all_of_pydicoms_files_go_out_as_they_are_and_come_back_as_again(archive: Parts, tmp_path: Path) -> None:
    imported(files(PYDICOM), archive)
    stored = len(list(archive.index.select(Query(IMAGE))))
    assert stored > 120
    exported = out(archive, tmp_path / "cd")
    assert (exported.count, exported.failures) == (stored, [])
    before = {archive.objects.path(kept.object).read_bytes() for kept in archive.index.select(Query(IMAGE))}
    after = {path.read_bytes() for path in (tmp_path / "cd").rglob("IM*")}
    assert after == before
    directory = FileSet(tmp_path / "cd" / "DICOMDIR")
    assert {str(found.SOPInstanceUID) for found in directory} == {
        kept.sop_instance_uid for kept in archive.index.select(Query(IMAGE))
    }
    archive.ingest.counts.clear()
    outcome = imported(files(tmp_path / "cd"), archive)
    assert archive.ingest.counts == {"again": stored}
    assert [path for path, error in outcome.items() if error] == [str(tmp_path / "cd" / "DICOMDIR")]


def test_what_a_record_must_have_is_invented_and_counted(archive: Parts, tmp_path: Path) -> None:
    send(archive.ingest, data_set(1, PatientID=None, StudyDate="", InstanceNumber=None, SeriesNumber="7"))
    exported = out(archive, tmp_path / "cd")
    assert exported.invented == {"PatientID": 1, "StudyDate": 1, "StudyID": 1, "InstanceNumber": 1}
    (patient,), (image,) = records(tmp_path / "cd", "PATIENT"), records(tmp_path / "cd", "IMAGE")
    assert (patient.PatientID, patient.PatientName) == ("UNKNOWN1", "Doe^John")
    assert image.InstanceNumber == 1
    assert "PatientID" not in dcmread((tmp_path / "cd").joinpath(*image.ReferencedFileID))  # the object stays as it was


def test_patients_without_an_id_are_not_one_patient(archive: Parts, tmp_path: Path) -> None:
    for number, name in enumerate(("Doe^John", "Roe^Jane", "Doe^John"), 1):
        send(archive.ingest, data_set(number, PatientID=None, PatientName=name, study=f"1.2.{number}"))
    send(archive.ingest, data_set(4, PatientID="P1", IssuerOfPatientID="A", study="1.2.4"))
    send(archive.ingest, data_set(5, PatientID="P1", IssuerOfPatientID="B", study="1.2.5"))
    out(archive, tmp_path / "cd")
    found = records(tmp_path / "cd", "PATIENT")
    assert [(str(item.PatientName), item.PatientID, item.get("IssuerOfPatientID", "")) for item in found] == [
        ("Doe^John", "UNKNOWN1", ""), ("Roe^Jane", "UNKNOWN2", ""), ("Doe^John", "P1", "A"), ("Doe^John", "P1", "B"),
    ]  # fmt: skip


def a_report(number: int) -> Dataset:
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "18748-4", "LN", "Diagnostic imaging report"
    modifier, text = Dataset(), Dataset()
    modifier.RelationshipType, modifier.ValueType = "HAS CONCEPT MOD", "CODE"
    modifier.ConceptNameCodeSequence = Sequence([title])
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "long " * 2000
    return data_set(
        number, SOPClassUID=SR, Modality="SR", CompletionFlag="COMPLETE", VerificationFlag="UNVERIFIED",
        ContentDate="20200131", ContentTime="101500", ConceptNameCodeSequence=Sequence([title]),
        ContentSequence=Sequence([text, modifier]),
    )  # fmt: skip


@pytest.mark.parametrize("syntax", [uids.EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT, BIG_ENDIAN])
def test_sequences_and_numbers_are_the_same_in_every_encoding(archive: Parts, tmp_path: Path, syntax: str) -> None:
    send(archive.ingest, a_report(1), syntax)
    send(archive.ingest, data_set(2, Rows=512, Columns=258, NumberOfFrames="2"), syntax)
    out(archive, tmp_path / "cd")
    (report,), (image,) = records(tmp_path / "cd", "SR DOCUMENT"), records(tmp_path / "cd", "IMAGE")
    assert report.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert [item.RelationshipType for item in report.ContentSequence] == ["HAS CONCEPT MOD"]
    assert report.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning == "Diagnostic imaging report"
    assert (image.Rows, image.Columns, image.NumberOfFrames) == (512, 258, 2)


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87"])
def test_names_keep_their_bytes_and_their_character_set(archive: Parts, tmp_path: Path, character_set: str) -> None:
    name = "Yamada^Tarou=山田^太郎" if "87" in character_set else "Müller^Jörg"
    send(archive.ingest, data_set(1, SpecificCharacterSet=character_set.split("\\"), PatientName=name))
    out(archive, tmp_path / "cd")
    (patient,) = records(tmp_path / "cd", "PATIENT")
    assert str(patient.PatientName) == name


def test_what_other_libraries_refuse_goes_out_too(archive: Parts, tmp_path: Path) -> None:
    frames = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression
    private = "1.2.826.0.1.3680043.10.1.1"
    encoded = {
        number: _encoded(archive, data_set(number, SOPClassUID=class_uid)) for number, class_uid in
        ((1, uids.SECONDARY_CAPTURE_IMAGE_STORAGE), (2, private))
    }  # fmt: skip
    send(
        archive.ingest, encoded[1], frames,
        sop_class_uid=uids.SECONDARY_CAPTURE_IMAGE_STORAGE, sop_instance_uid="1.2.9.1",
    )  # fmt: skip
    send(archive.ingest, encoded[2], sop_class_uid=private, sop_instance_uid="1.2.9.2")
    exported = out(archive, tmp_path / "cd")
    assert (exported.count, exported.failures) == (2, [])
    (image,), (other,) = records(tmp_path / "cd", "IMAGE"), records(tmp_path / "cd", "PRIVATE")
    assert image.ReferencedTransferSyntaxUIDInFile == frames
    assert (other.ReferencedSOPClassUIDInFile, bool(other.PrivateRecordUID)) == (private, True)


def _encoded(archive: Parts, dataset: Dataset) -> bytes:
    from dulcet.services.identifiers import encode_dataset

    return encode_dataset(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)[0]


def test_what_cannot_be_copied_fails_alone_by_name(archive: Parts, tmp_path: Path) -> None:
    stored = [send(archive.ingest, data_set(number)) for number in (1, 2, 3)]
    stored[0].path.unlink()
    changed = bytearray(stored[1].path.read_bytes())
    changed[-3] ^= 1
    stored[1].path.write_bytes(changed)
    for directory in (True, False):
        exported = out(archive, tmp_path / f"out{directory}", directory=directory)
        assert exported.count == 1
        assert [failure.split(": ")[0] for failure in exported.failures] == ["1.2.9.1", "1.2.9.2"]
        assert "No such file" in exported.failures[0]
        assert "is not what was stored" in exported.failures[1]
        assert len([name for name in files(tmp_path / f"out{directory}") if not name.endswith("DICOMDIR")]) == 1


def test_a_full_medium_takes_nothing(archive: Parts, tmp_path: Path) -> None:
    for number in range(1, 9):
        send(archive.ingest, data_set(number, ImageComments="x" * 10000))
    medium = tmp_path / "medium"
    medium.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", medium]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(OSError, match="No space"):
            out(archive, medium)
        assert list(medium.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", medium], check=True)


def test_who_stops_an_export_leaves_nothing(archive: Parts, tmp_path: Path) -> None:
    send(archive.ingest, data_set(1))

    def interrupted() -> Iterator[object]:
        yield from study(archive.index, "1.2.1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(interrupted(), archive.objects, tmp_path / "new" / "cd")  # type: ignore[arg-type]
    assert not (tmp_path / "new" / "cd").exists()


def test_only_files_are_imported_and_nothing_waits(archive: Parts, tmp_path: Path) -> None:
    send(archive.ingest, data_set(1))
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(next((archive.folder / "objects").rglob("*.dcm")), folder / "image")
    (folder / "README").write_text("how to use this disc")
    (folder / "empty").touch()
    (folder / "cut").write_bytes((folder / "image").read_bytes()[:-20])
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        (folder / "null").symlink_to("/dev/null")
        outcome = imported(files(folder), archive)
    kinds = {Path(path).name: type(error) for path, error in outcome.items()}
    assert kinds.pop("cut") not in (NotDicom, type(None))
    junk = dict.fromkeys(("README", "empty", "null", "pipe", "socket"), NotDicom)
    assert kinds == {**junk, "image": type(None)}
    assert archive.ingest.counts["again"] == 1


def test_folders_that_are_not_walked_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "b").symlink_to("a", target_is_directory=True)
    told: list[OSError] = []
    assert list(walk([tmp_path], told.append)) == [str(tmp_path / "a" / "file")]
    assert [(error.filename, "not followed" in str(error.strerror)) for error in told] == [(str(tmp_path / "b"), True)]
    assert list(walk([tmp_path / "b"], told.append)) == [str(tmp_path / "b" / "file")]  # named, it is


def test_a_file_that_vanishes_before_it_is_read_fails(archive: Parts, tmp_path: Path) -> None:
    (outcome,) = imported(iter([str(tmp_path / "gone")]), archive).values()
    assert isinstance(outcome, InstanceError)
    assert "No such file" in str(outcome)


@pytest.mark.parametrize("class_uid", sorted(uids.STORAGE_CLASSES))
def test_every_storage_class_has_a_record(class_uid: str) -> None:
    assert record_type(class_uid) in KEYS
    assert (record_type(class_uid) in SINGLE_LEVEL.values()) == (class_uid in SINGLE_LEVEL)


def test_record_types_are_those_that_pydicom_has() -> None:
    from pydicom.fileset import _FOUR_LEVEL_SOP_CLASSES, _SINGLE_LEVEL_SOP_CLASSES

    for class_uid, kind in {**_FOUR_LEVEL_SOP_CLASSES, **_SINGLE_LEVEL_SOP_CLASSES}.items():
        assert record_type(class_uid) == kind
