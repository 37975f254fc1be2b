"""Objects of no patient: kept, found and retrieved by their own information models, and never by those of patients."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from tests.archive.making import CT, EXPLICIT, data_set, parts, send

import dulcet
from dulcet import uids
from dulcet.archive.application import Archive, Peer, rebuild
from dulcet.archive.directory_records import SINGLE_LEVEL
from dulcet.archive.export import export
from dulcet.archive.of_no_patient import NAMES
from dulcet.archive.sweep import adopt_all, sweep
from dulcet.archive.upkeep import Checked, check
from dulcet.errors import ReceiveError
from dulcet.part10.location import locate_path
from dulcet.services.commitment import Reference
from dulcet.services.models import MODELS, model_of_object

PALETTE = uids.COLOR_PALETTE_STORAGE
HANGING = uids.HANGING_PROTOCOL_STORAGE
CLASSES = [(name, uid) for name in NAMES for uid in MODELS[name].objects]


def palette(number: int = 1, **values: Any) -> Dataset:
    """A color palette `1.2.8.<number>`; keywords replace or, with None, remove what it says."""
    made = Dataset()
    base = {"SOPClassUID": PALETTE, "SOPInstanceUID": f"1.2.8.{number}", "ContentLabel": f"LABEL{number}"}
    for keyword, value in {**base, **values}.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def contexts(*models: str) -> list[dulcet.Proposal]:
    """What a user of these models proposes: to find, to get, and to be sent objects in both roles."""
    found = [dulcet.Proposal(CT, (EXPLICIT,), provider=True), dulcet.Proposal(uids.VERIFICATION, (EXPLICIT,))]
    for name in models:
        model = MODELS[name]
        found += [dulcet.Proposal(uid, (EXPLICIT,)) for uid in (model.find, model.get, model.move) if uid]
        found += [dulcet.Proposal(uid, (EXPLICIT,), provider=True) for uid in model.objects]
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "data", durable=False, allow_any=True) as made:
        yield made


@pytest.fixture
def address(archive: Archive) -> Iterator[str]:
    with archive.node("ARCHIVE").threads() as running:
        yield str(running.address)


@pytest.mark.parametrize(("name", "sop_class"), CLASSES)
def test_every_class_is_kept_found_and_fetched_by_its_model(
    archive: Archive, address: str, tmp_path: Path, name: str, sop_class: str
) -> None:
    assert model_of_object(sop_class) is MODELS[name]
    with dulcet.associate(address, contexts=contexts(name)) as association:
        for number in (1, 2):
            association.store(palette(number, SOPClassUID=sop_class)).check()
        (found,) = association.find(model=name, ContentLabel="*2", SOPInstanceUID="")
        assert (found.SOPClassUID, found.SOPInstanceUID, found.ContentLabel) == (sop_class, "1.2.8.2", "LABEL2")
        got = association.get(model=name, SOPInstanceUID="1.2.8.2", to=tmp_path / "got").check()
        assert got.completed == 1
    kept = archive.objects.path(f"non-patient/{name}/1.2.8.2.dcm")
    assert kept == archive.objects.path(archive.index.known("1.2.8.2")[0].object)
    (path,) = got.received
    assert path.read_bytes()[locate_path(path).offset :] == kept.read_bytes()[locate_path(kept).offset :]


def test_models_keep_to_their_own_objects_and_those_of_patients_to_theirs(archive: Archive, address: str) -> None:
    proposed = [*contexts("color-palette", "hanging-protocol"), *contexts("study", "patient")]
    with dulcet.associate(address, contexts=proposed) as association:
        association.store(palette(1)).check()
        association.store(palette(2, SOPClassUID=HANGING)).check()
        association.store(data_set(3)).check()
        assert [found.SOPInstanceUID for found in association.find(model="color-palette")] == ["1.2.8.1"]
        assert [found.SOPInstanceUID for found in association.find(model="hanging-protocol")] == ["1.2.8.2"]
        assert [found.StudyInstanceUID for found in association.find(level="STUDY", model="study")] == ["1.2.1"]
        assert len(list(association.find(level="PATIENT", model="patient"))) == 1
    counts = archive.counts()
    assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 1, 1, 3)


def test_what_an_object_says_of_a_study_does_not_make_it_one_of_a_patient(archive: Archive, address: str) -> None:
    odd = palette(1, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", PatientID="P1")
    with dulcet.associate(address, contexts=contexts("color-palette")) as association:
        association.store(odd).check()
        assert len(list(association.find(model="color-palette", StudyInstanceUID="1.2.1"))) == 1
    assert archive.counts().studies == 0


def test_keys_of_items_match_and_answers_say_where_the_object_can_be_got(address: str) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-04000", "SRT", "Breast"
    definition = Dataset()
    definition.Modality, definition.AnatomicRegionSequence = "MG", [code]
    made = palette(
        1, SOPClassUID=HANGING, HangingProtocolName="MAMMO", HangingProtocolDefinitionSequence=[definition]
    )
    with dulcet.associate(address, contexts=contexts("hanging-protocol")) as association:
        association.store(made).check()
        asked = Dataset()
        asked.Modality = "MG"
        keys = {"HangingProtocolName": "", "RetrieveAETitle": "", "InstanceAvailability": ""}
        (found,) = association.find(model="hanging-protocol", HangingProtocolDefinitionSequence=[asked], **keys)
        assert (found.HangingProtocolName, found.RetrieveAETitle) == ("MAMMO", "ARCHIVE")
        assert (found.InstanceAvailability, found.SOPInstanceUID) == ("ONLINE", "1.2.8.1")
        asked.Modality = "CT"
        assert not list(association.find(model="hanging-protocol", HangingProtocolDefinitionSequence=[asked], **keys))


def test_they_are_moved_and_committed_like_any_other(archive: Archive, tmp_path: Path) -> None:
    receiver = dulcet.Node("WORKSTATION", store_to=dulcet.StoreDirectory(tmp_path / "got", durability="none"))
    receiver.on_store(lambda request: None)
    with receiver.threads() as workstation:
        archive.peers["WORKSTATION"] = Peer(workstation.address)
        with (
            archive.node("ARCHIVE").threads() as running,
            dulcet.associate(running.address, contexts=contexts("color-palette")) as association,
        ):
            for number in range(3):
                association.store(palette(number)).check()
            moved = association.move(
                model="color-palette", SOPInstanceUID=["1.2.8.0", "1.2.8.2"], destination="WORKSTATION"
            ).check()
            assert moved.completed == 2
    assert sorted(path.name for path in (tmp_path / "got").glob("*.dcm")) == ["1.2.8.0.dcm", "1.2.8.2.dcm"]
    assert archive.committed(Reference(PALETTE, "1.2.8.0")) is True
    assert archive.committed(Reference(PALETTE, "1.2.8.9")) is False
    assert archive.committed(Reference(HANGING, "1.2.8.0")) == 0x0119


def test_nothing_is_retrieved_without_an_instance_and_none_by_another_model(address: str, tmp_path: Path) -> None:
    with dulcet.associate(address, contexts=contexts("color-palette", "hanging-protocol")) as association:
        association.store(palette(1)).check()
        refused = association.get(model="color-palette", ContentLabel="LABEL1", to=tmp_path / "got")
        assert refused.status == 0xA900
        other = association.get(model="hanging-protocol", SOPInstanceUID="1.2.8.1", to=tmp_path / "got")
        assert (other.status, other.completed) == (0, 0)


def test_a_key_that_is_none_is_refused_and_an_object_that_does_not_read_is_told(
    archive: Archive, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with dulcet.associate(address, contexts=contexts("color-palette")) as association:
        for number in (1, 2):
            association.store(palette(number, ContentDate="20200101")).check()
        with pytest.raises(dulcet.StatusError) as caught:
            list(association.find(model="color-palette", ContentDate="yesterday"))
        assert caught.value.status == 0xA900
        archive.objects.path("non-patient/color-palette/1.2.8.1.dcm").write_bytes(b"gone")
        answers = association.find(model="color-palette", ContentLabel="")
        assert next(iter(answers)).ContentLabel == "LABEL2"
        with pytest.raises(dulcet.StatusError, match="1 objects could not be read") as caught:
            list(answers)
        assert caught.value.status == 0xC000
    assert "1.2.8.1 cannot be held against a query" in caplog.text


def test_who_may_not_ask_is_told(tmp_path: Path) -> None:
    proposed = contexts("color-palette")
    with (
        Archive(tmp_path, durable=False, peers={"SENDER": Peer(operations=frozenset({"store"}))}) as archive,
        archive.node("ARCHIVE").threads() as running,
        dulcet.associate(running.address, calling_ae_title="SENDER", contexts=proposed) as association,
    ):
        with pytest.raises(dulcet.StatusError) as caught:
            list(association.find(model="color-palette"))
        assert caught.value.status == 0x0124
        assert association.get(model="color-palette", SOPInstanceUID="1.2", to=tmp_path / "got").status == 0x0124


@pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID"])
def test_they_too_have_to_say_which_they_are(tmp_path: Path, missing: str) -> None:
    with parts(tmp_path) as archive:
        with pytest.raises(ReceiveError, match="the data set has none"):
            send(archive.ingest, palette(1, **{missing: None}), sop_class_uid=PALETTE, sop_instance_uid="1.2.8.1")
        assert archive.folders() == []


def test_the_same_again_other_content_and_a_check(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        first = send(archive.ingest, palette(1))
        assert not send(archive.ingest, palette(1)).new
        other = send(archive.ingest, palette(1, ContentLabel="OTHER"))
        assert archive.index.known("1.2.8.1") == [first.kept, other.kept]
        assert check(tmp_path, archive.index) == Checked(objects=2)
        first.path.unlink()
        assert check(tmp_path, archive.index) == Checked(objects=1, without_object=1)
        assert send(archive.ingest, palette(1)).path == first.path


def test_an_index_is_made_from_them(tmp_path: Path) -> None:
    with Archive(tmp_path, durable=False, allow_any=True) as archive:
        for number in range(3):
            send(archive.ingest, palette(number))
        send(archive.ingest, data_set(1))
        before = {uid: archive.index.known(uid) for uid in ("1.2.8.0", "1.2.8.2", "1.2.9.1")}
    assert rebuild(tmp_path).adopted == 4
    with Archive(tmp_path, durable=False, allow_any=True) as archive:
        assert {uid: archive.index.known(uid) for uid in before} == before
        assert len(archive.index.of_no_patient([PALETTE])) == 3
        assert archive.counts().studies == 1


@pytest.mark.parametrize("when", ["placed", "committed"])
def test_a_crash_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    from dulcet.archive.objects import FileObjects

    with parts(tmp_path) as archive:
        monkeypatch.setattr("dulcet.io.durable_file.DurableFile.discard", lambda self: None)
        send(archive.ingest, palette(1))
        if when == "placed":
            archive.index._connection.execute("DELETE FROM instance")
        swept = sweep(FileObjects(tmp_path, durable=True), archive.index)
        assert (swept.adopted, swept.finished) == ((1, 0) if when == "placed" else (0, 1))
        assert len(archive.index.of_no_patient([PALETTE])) == 1
        assert adopt_all(archive.objects, archive.index).adopted == 0


@pytest.mark.parametrize(("name", "sop_class"), CLASSES)
def test_they_are_exported_with_their_directory_record_where_there_is_one(
    tmp_path: Path, name: str, sop_class: str
) -> None:
    with parts(tmp_path / "data") as archive:
        send(archive.ingest, palette(1, SOPClassUID=sop_class))
        chosen = list(archive.index.of_no_patient([sop_class]))
        assert export(chosen, archive.objects, tmp_path / "plain", directory=False).count == 1
        assert dcmread(tmp_path / "plain" / "non-patient" / name / "1.2.8.1.dcm").ContentLabel == "LABEL1"
        exported = export(chosen, archive.objects, tmp_path / "media")
        if sop_class not in SINGLE_LEVEL:
            assert (exported.count, len(exported.failures)) == (0, 1)
            assert "no directory record is there" in exported.failures[0]
            return
        assert (exported.count, exported.failures) == (1, [])
        (record,) = dcmread(tmp_path / "media" / "DICOMDIR").DirectoryRecordSequence
        assert record.DirectoryRecordType == SINGLE_LEVEL[sop_class]


def test_the_log_says_what_was_asked_for_and_nothing_of_it(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with dulcet.associate(address, contexts=contexts("color-palette")) as association:
        association.store(palette(1, ContentLabel="PLANTED")).check()
        assert len(list(association.find(model="color-palette", ContentLabel="PLANTED"))) == 1
    assert "C-FIND of color-palette" in caplog.text
    assert "PLANTED" not in caplog.text
