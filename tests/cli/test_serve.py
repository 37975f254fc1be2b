"""`serve`, `status`, `index`, `export` and `import`, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from tests.archive.making import EXPLICIT, data_set
from tests.interop import peers
from tests.interop.peers import Server, announced, dulcet

import dulcet as library
from dulcet import uids
from dulcet.archive.application import Archive
from dulcet.part10.file_meta import encode_file_meta
from dulcet.services.identifiers import encode_dataset

MARKER = "Planted"


def serve(folder: Path, *options: str) -> AbstractContextManager[Server]:
    return announced([*peers.DULCET, "serve", "--port", "0", "--data", folder, "--allow-any", *options], folder)


def store(address: str, *numbers: int, **values: str) -> None:
    with library.associate(address) as association:
        for number in numbers:
            association.store(data_set(number, **values)).check()


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_served_folder_keeps_finds_tells_and_stops(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(data) as server:
        assert dulcet("echo", server.address).returncode == 0
        store(server.address, 1, 2, PatientName=f"{MARKER}^A", PatientID="P7")
        with library.associate(server.address) as association:
            assert len(list(association.find(level="STUDY", PatientName=f"{MARKER.upper()}*"))) == 1
            # A value that pydicom would warn of, with the value, on the server's standard error.
            with pytest.raises(library.StatusError):
                list(association.find(level="STUDY", StudyDate=MARKER))
        status = dulcet("status", "--data", data, "--json").check().json_lines()[0]
        assert (status["studies"], status["instances"], status["unfinished"]) == (1, 2, 0)
        assert "instances                    2" in dulcet("status", "--data", data).check().output
        assert "0 rows without object" in dulcet("index", "check", "--data", data).check().output
        refused = dulcet("index", "rebuild", "--data", data)
        assert (refused.returncode, "in use by another process" in refused.errors) == (1, True)
        ended = server.stop()
    assert ended.returncode == 0
    assert ended.output.splitlines()[-1] == "stopped: 2 stored, 0 again, 0 beside, 0 refused"
    assert MARKER.casefold() not in ended.errors.casefold()
    assert "C-FIND at STUDY" in ended.errors


def test_json_lines_tell_what_a_start_found(tmp_path: Path) -> None:
    with Archive(tmp_path, durable=False):
        pass
    (tmp_path / "partial" / "of-a-crash").write_bytes(b"half")
    with peers.process(
        [*peers.DULCET, "serve", "--port", "0", "--data", tmp_path, "--json", "--durability", "none"]
    ) as running:
        peers.wait_until(lambda: '"listening"' in running.output() or running.ended(), 20, "the line of its start")
        finished = running.stop()
    lines = {str(line["event"]).partition(":")[0]: line for line in finished.json_lines()}
    assert lines["swept"]["removed"] == 1
    assert lines["listening"]["ae_title"] == "ARCHIVE"
    assert lines["stopped"]["stored"] == 0
    assert {"not durable", "nobody may call"} <= set(lines)


def test_text_lines_tell_it_too(tmp_path: Path) -> None:
    with Archive(tmp_path, durable=False):
        pass
    (tmp_path / "partial" / "of-a-crash").write_bytes(b"half")
    with announced([*peers.DULCET, "serve", "--port", "0", "--data", tmp_path], tmp_path) as server:
        output = server.output()
    assert "swept: 1 removed, 0 adopted, 0 unreadable" in output
    assert "nobody may call: add [peers.TITLE]" in output


def test_a_configuration_says_who_may_do_what(tmp_path: Path) -> None:
    told = tmp_path / "told"
    config = tmp_path / "dulcet.toml"
    hook = json.dumps([sys.executable, "-c", f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"])
    config.write_text(
        f'[server]\nae_title = "PACS"\nport = 0\ndata = "{tmp_path / "data"}"\n[storage]\ndurability = "none"\n'
        f'[events]\nhook = {hook}\nseries_quiet = 0\nstudy_quiet = 0\n'
        '[limits]\nassociations_per_title = 1\n[peers.CT]\noperations = ["store"]\n'
    )
    printed = dulcet("serve", "--config", config, "--print-config").check().output
    (tmp_path / "printed.toml").write_text(printed)
    assert dulcet("serve", "--config", tmp_path / "printed.toml", "--print-config").check().output == printed
    with announced([*peers.DULCET, "serve", "--config", config], tmp_path) as server:
        assert server.aet == "PACS"
        with pytest.raises(library.AssociationRefused):
            library.associate(server.address)
        with library.associate(server.address, calling_ae_title="CT") as association:
            association.store(data_set(1)).check()
            with pytest.raises(library.StatusError) as caught:
                list(association.find(level="STUDY"))
            assert caught.value.status == 0x0124
            with pytest.raises(library.AssociationRefused, match="2,3,2"):  # one of its title stands
                library.associate(server.address, calling_ae_title="CT")
        peers.wait_until(lambda: told.exists() and len(told.read_text().splitlines()) >= 3, 20, "three events")
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert {event["event"] for event in events} == {"instance stored", "series stable", "study stable"}
    assert all("PatientID" not in event for event in events)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "{folder}/bad.toml"], "bad.toml, line 2: port is a whole number"),
        (["--config", "{folder}/missing.toml"], "cannot read"),
        (
            ["--config", "{folder}/hook.toml", "--data", "{folder}/data"],
            "[events] the hook '/nowhere/tell' does not exist",
        ),
        (["--aet", "LONGER THAN SIXTEEN CHARACTERS"], "16"),
        (["--durability", "maybe"], "'maybe' is not one of 'fsync', 'none'"),
        (["--data", "{folder}/bad.toml"], "cannot keep data"),
        (["--data", "{folder}/data", "--bind", "192.0.2.1", "--port", "0"], "192.0.2.1"),
    ],
)
def test_what_it_cannot_do_is_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = '104'\n")
    (tmp_path / "hook.toml").write_text("[events]\nhook = ['/nowhere/tell']\n")
    ended = dulcet("serve", *(argument.format(folder=tmp_path) for argument in arguments))
    assert ended.returncode == 2
    assert words in ended.errors
    assert "Traceback" not in ended.errors


def test_a_second_server_of_a_folder_is_told(tmp_path: Path) -> None:
    with serve(tmp_path):
        ended = dulcet("serve", "--port", "0", "--data", tmp_path)
        assert (ended.returncode, "in use by another process" in ended.errors) == (1, True)


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_a_terminal_that_goes_away_lets_those_finish_who_are_at_it(tmp_path: Path, workers: list[str]) -> None:
    """SIGHUP comes twice then, from the shell and from the system, and neither is in a hurry."""
    with serve(tmp_path, "--drain", "60", *workers) as server:
        association = library.associate(server.address)
        server.process.popen.send_signal(signal.SIGHUP)
        peers.wait_until(lambda: "SIGHUP: stopping" in server.output(), 15, "the signal is noticed")
        server.process.popen.send_signal(signal.SIGHUP)
        assert association.echo().status == 0
        association.release()
        assert server.process.wait(20).returncode == 0


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with serve(tmp_path, "--drain", "60") as server:
        association = library.associate(server.address)
        server.process.popen.send_signal(signal.SIGTERM)
        peers.wait_until(lambda: "stopping" in server.output(), 15, "the first signal is noticed")
        server.process.popen.send_signal(signal.SIGTERM)
        assert server.process.wait(15).returncode == 0
        with pytest.raises(library.DulcetError):
            association.echo()
        association.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "--data", "{folder}"], "is no archive"),
        (["index", "check", "--data", "{folder}"], "is no archive"),
        (["index", "shake", "--data", "{folder}"], "'shake' is not one of 'rebuild', 'check', 'backup'"),
        (["index", "backup", "--data", "{folder}/archive"], "--to"),
        (["export", "1.2", "--data", "{folder}", "--to", "{folder}/x"], "is no archive"),
        (["export", "1.2", "--data", "{folder}/archive", "--to", "{folder}"], "not an empty folder"),
        (["import", "{folder}/nothing", "--data", "{folder}/archive"], "does not exist"),
    ],
)
def test_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    with Archive(tmp_path / "archive", durable=False):
        pass
    ended = dulcet(*(argument.format(folder=tmp_path) for argument in arguments))
    assert (ended.returncode, words in ended.errors) == (2, True)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """An archive of two studies, one of them in two series, and a data set beside."""
    with (
        Archive(tmp_path / "filled", durable=False, allow_any=True) as archive,
        archive.node("ARCHIVE").threads() as running,
        library.associate(running.address) as association,
    ):
        for number in range(1, 7):
            study = "1.2.1" if number < 5 else "1.2.2"
            extra = {"StudyID": "1", "SeriesNumber": "1", "PatientID": "P1"}
            series = f"{study}.{number % 2}"
            association.store(data_set(number, study=study, series=series, **extra)).check()
        association.store(data_set(1, PatientName="Other")).check()
    return tmp_path / "filled"


def test_a_study_goes_out_with_a_directory_and_comes_back_in(filled: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    ended = dulcet("export", "1.2.1", "--to", medium, "--data", filled)
    assert (ended.returncode, ended.output) == (0, "4 exported, 0 failed\n")
    directory = FileSet(dcmread(medium / "DICOMDIR"))
    assert sorted(str(found.SOPInstanceUID) for found in directory) == [f"1.2.9.{number}" for number in range(1, 5)]
    ended = dulcet("import", medium, "--data", tmp_path / "second")
    assert (ended.returncode, ended.output) == (
        0, "4 imported, 1 skipped, 0 failed\n  1 skipped: not DICOM, or a DICOMDIR: DICOMDIR\n"
    )  # fmt: skip
    with Archive(filled) as one, Archive(tmp_path / "second") as two:
        for number in range(1, 5):
            assert one.index.known(f"1.2.9.{number}")[0].digest == two.index.known(f"1.2.9.{number}")[0].digest
    again = dulcet("import", medium, "--data", tmp_path / "second", "--json").check().json_lines()
    assert again == [{"imported": 4, "again": 4, "beside": 0, "skipped": 1, "failed": 0}]
    told = dulcet("import", medium, "--data", tmp_path / "second").check().output
    assert told.startswith("4 imported, 1 skipped, 0 failed\n  4 of them were there already\n")


def test_plain_export_and_what_fails(filled: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    ended = dulcet("export", "1.2.1", "1.2.2", "--plain", "--to", plain, "--data", filled, "--json")
    assert ended.check().json_lines() == [{"exported": 6, "failed": 0, "missing": []}]
    assert files_of(plain) == [f"1.2.9.{number}.dcm" for number in range(1, 7)]
    (plain / "odd.txt").write_text("not DICOM")
    ended = dulcet("import", plain / "1.2.1", plain / "odd.txt", "--data", tmp_path / "second")
    assert ended.returncode == 0
    assert ended.output.endswith("4 imported, 1 skipped, 0 failed\n  1 skipped: not DICOM, or a DICOMDIR: odd.txt\n")


def test_a_study_that_is_not_there_is_named_beside_those_that_are(filled: Path, tmp_path: Path) -> None:
    ended = dulcet("export", "9.9", "1.2.1", "8.8", "--plain", "--to", tmp_path / "some", "--data", filled)
    assert (ended.returncode, ended.output) == (1, "4 exported, 0 failed\n")
    assert [line.rpartition(" ")[2] for line in ended.errors.splitlines()] == ["9.9", "8.8"]
    ended = dulcet("export", "9.9", "--plain", "--to", tmp_path / "none", "--data", filled, "--json")
    assert (ended.returncode, ended.json_lines()) == (1, [{"exported": 0, "failed": 0, "missing": ["9.9"]}])


def test_what_a_directory_needs_and_objects_lack_is_told(tmp_path: Path) -> None:
    with Archive(tmp_path / "data", durable=False, allow_any=True) as archive:
        arriving = archive.ingest.begin("1.2.840.10008.5.1.4.1.1.2", "1.2.9.1", "1.2.840.10008.1.2.1")
        arriving.write(memoryview(encode_dataset(data_set(1, PatientID=None), "1.2.840.10008.1.2.1")[0]))
        arriving.commit()
    ended = dulcet("export", "1.2.1", "--to", tmp_path / "medium", "--data", tmp_path / "data")
    assert (ended.returncode, ended.output) == (0, "1 exported, 0 failed\n")
    assert "PatientID in 1, SeriesNumber in 1, StudyID in 1 records" in ended.errors
    told = dulcet("export", "1.2.1", "--to", tmp_path / "second", "--data", tmp_path / "data", "--json").check()
    assert told.json_lines()[0]["invented"] == {"PatientID": 1, "SeriesNumber": 1, "StudyID": 1}


def test_a_backup_of_index_then_objects_is_whole(filled: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    with serve(filled) as server:
        assert dulcet("index", "backup", "--data", filled, "--to", backup / "index.sqlite").returncode == 0
        store(server.address, 8)  # what comes between the two copies is an object without a row
        shutil.copytree(filled / "objects", backup / "objects")
    checked = dulcet("index", "check", "--data", backup, "--json").check().json_lines()
    assert checked == [{"objects": 8, "without_row": 1, "rows_without_object": 0, "damaged": 0}]
    rebuilt = dulcet("index", "rebuild", "--data", backup)
    assert (rebuilt.returncode, rebuilt.output) == (0, "8 indexed, 0 unreadable\n")
    checked = dulcet("index", "check", "--data", backup)
    assert checked.output == "8 objects, 0 without row, 0 rows without object, 0 damaged\n"
    next((backup / "objects").rglob("1.2.9.5.dcm")).unlink()
    assert dulcet("index", "check", "--data", backup).returncode == 1
    (backup / "objects" / "odd").write_text("x")
    assert dulcet("index", "rebuild", "--data", backup).returncode == 1


def test_a_backup_takes_the_place_of_an_older_one_alone(filled: Path, tmp_path: Path) -> None:
    """What else has its name is left as it is; the index that is copied least of all gives way."""
    copy, image = tmp_path / "copy.sqlite", tmp_path / "image.dcm"
    image.write_bytes(b"somebody's image")
    for _ in range(2):
        assert dulcet("index", "backup", "--data", filled, "--to", copy).check().output.startswith(f"{copy}: ")
    for target, words in (
        (image, f"{image} is there and no index"),
        (filled / "index.sqlite", "is the index itself"),
        (tmp_path, f"{tmp_path} is a folder"),
        (tmp_path / "none" / "copy", f"{tmp_path / 'none'} is no folder"),
    ):
        ended = dulcet("index", "backup", "--data", filled, "--to", target)
        assert (ended.returncode, ended.output) == (2, "")
        assert words in ended.errors
    assert image.read_bytes() == b"somebody's image"
    assert dulcet("index", "check", "--data", filled).returncode == 0


def test_a_folder_that_takes_no_file_is_named(filled: Path, tmp_path: Path) -> None:
    """What the system says of a full disk or a missing right begins with the file, not with a number."""
    (filled / "lock").unlink()
    (filled / "lock").mkdir()
    ended = dulcet("index", "rebuild", "--data", filled)
    assert ended.returncode == 1
    assert ended.errors == f"dulcet: {filled / 'lock'}: Is a directory\n"


def test_objects_of_no_patient_are_found_fetched_checked_and_exported(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "palette.dcm"
    palette = Dataset()
    palette.SOPClassUID, palette.SOPInstanceUID, palette.ContentLabel = uids.COLOR_PALETTE_STORAGE, "1.2.8.1", "HOT"
    file.write_bytes(encode_file_meta(palette.SOPClassUID, "1.2.8.1", EXPLICIT) + encode_dataset(palette, EXPLICIT)[0])
    with serve(data) as server:
        dulcet("store", server.address, file).check()
        asked = ("--model", "color-palette", "-k", "ContentLabel=HOT", "-k", "SOPInstanceUID", "--json")
        (found,) = dulcet("find", server.address, *asked).check().json_lines()
        assert "1.2.8.1" in json.dumps(found)
        got = tmp_path / "got"
        dulcet("get", server.address, "--model", "color-palette", "-k", "SOPInstanceUID=1.2.8.1", "--out", got).check()
        assert dcmread(got / "1.2.8.1.dcm").ContentLabel == "HOT"
    checked = dulcet("index", "check", "--data", data).check()
    assert checked.output == "1 objects, 0 without row, 0 rows without object, 0 damaged\n"
    assert dulcet("index", "rebuild", "--data", data).check().output == "1 indexed, 0 unreadable\n"
    medium = tmp_path / "medium"
    ended = dulcet("export", "1.2.8.1", "--to", medium, "--data", data)
    assert (ended.returncode, ended.output) == (0, "1 exported, 0 failed\n")
    (record,) = dcmread(medium / "DICOMDIR").DirectoryRecordSequence
    assert record.DirectoryRecordType == "PALETTE"


def test_private_classes_and_odd_uids_are_the_configuration_s_to_allow(tmp_path: Path) -> None:
    private = data_set(1, SOPClassUID="1.3.46.670589.11.0.0.12.1", StudyInstanceUID="1.2.old-device")
    made = encode_dataset(private, EXPLICIT)[0]
    file = tmp_path / "private.dcm"
    file.write_bytes(encode_file_meta(private.SOPClassUID, "1.2.9.1", EXPLICIT) + made)
    with serve(tmp_path / "a") as server:
        assert dulcet("store", server.address, file).returncode == 1
    with serve(tmp_path / "b", "--promiscuous") as server:
        dulcet("store", server.address, file).check()
        asked = ("-k", "StudyInstanceUID=1.2.old-device", "--json")
        (found,) = dulcet("find", server.address, *asked).check().json_lines()
        assert "1.2.old-device" in json.dumps(found)
    with serve(tmp_path / "c", "--promiscuous", "--strict") as server:
        assert dulcet("store", server.address, file).returncode == 1
        stopped = server.stop()
    assert stopped.output.splitlines()[-1] == "stopped: 0 stored, 0 again, 0 beside, 1 refused"
