"""`dulcet store`: what is sent, what is not and why, in text, in JSON, in a report; and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.blocking.providing import Provider, provider
from tests.blocking.scripted import Message, Wire, aborts, peer, serve
from tests.cli.running import dulcet, going_on, listening, on_a_terminal
from tests.corpus import (
    CT_IMAGE,
    copy_with_unique_instances,
    data_set_bytes,
    make_folder,
    make_instance,
    read_instance,
    survey,
)

from dulcet.cli import main
from dulcet.upper_layer.pdu import Abort, ReleaseRQ

PLANTED = "Planted^Patient"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three images, and three files that are none."""
    folder = tmp_path / "study"
    make_folder(folder / "images", 3, 2000, CT_IMAGE)
    (folder / "README.txt").write_text("no image\n" * 50)
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    return folder


def accepting(status: int = 0) -> Any:
    def answer(provider: Provider, request: Any) -> None:
        if status:
            request.respond(status)
        else:
            provider.keep(request)

    return provider(answer)


def test_a_folder(study: Path) -> None:
    with accepting() as made:
        done = dulcet("store", made.address, study)
    assert (done.code, done.errors) == (0, "")
    first, skipped = done.output.splitlines()
    assert re.fullmatch(r"3 sent \(7\.\d kB\), 0 failed, 3 skipped in \d+\.\d\d s, .+/s", first)
    assert skipped == "  3 skipped: not DICOM: README.txt, empty, pipe"
    assert set(made.stored) == {read_instance(path).sop_instance_uid for path in (study / "images").iterdir()}


def test_files_and_folders_and_jobs(study: Path, tmp_path: Path) -> None:
    single = make_instance(tmp_path / "single.dcm", 100, 77, CT_IMAGE)
    with accepting() as made:
        done = dulcet("store", made.address, single, study / "images", "--jobs", 3, "--aet", "SENDER")
        assert {association.calling_ae_title for association in made.associations} == {"SENDER"}
    assert done.code == 0
    assert done.output.startswith("4 sent")
    assert len(made.stored) == 4


def test_the_whole_corpus_into_listen_bit_for_bit(tmp_path: Path) -> None:
    """All that is whole and says which instance it is; the rest fails by name, with the reason."""
    sent = copy_with_unique_instances(survey()[0], tmp_path / "corpus")
    with listening(tmp_path / "kept", "--durability", "none") as (running, address):
        done = dulcet("store", address, tmp_path / "corpus", "--jobs", 2, "--json")
        *results, summary = done.lines()
        stopped = running.stop()
    nameless = {found.path for found in sent if not found.truncated and not _says_what_it_is(found.path)}
    whole = [found for found in sent if not found.truncated and found.path not in nameless]
    assert summary["sent"] + summary["failed"] + summary["skipped"] == len(sent)
    assert {Path(line["path"]) for line in results if line["result"] == "sent"} == {found.path for found in whole}
    assert summary["sent"] == len(whole)
    refused = {Path(line["path"]): line for line in results if line["status"] == 0xC000}
    assert refused.keys() == nameless
    assert all(
        re.fullmatch("SOP (Class|Instance) UID: the data set has none", line["error_comment"])
        for line in refused.values()
    )
    assert stopped.code == 0
    kept = {path.stem: path for path in (tmp_path / "kept").glob("*.dcm")}
    for found in whole:
        uid = found.own_instance_uid or found.sop_instance_uid
        data = found.data_set()
        assert data_set_bytes(kept.pop(uid)) == data + b"\0" * (len(data) % 2 and found.syntax_name == "Deflated")
    assert kept == {}


def _says_what_it_is(path: Path) -> bool:
    """Has the data set itself, whatever its file meta says, both UIDs?"""
    read = pydicom.dcmread(path, stop_before_pixels=True)
    return bool(read.get("SOPClassUID") and read.get("SOPInstanceUID"))


def test_pydicoms_test_files_as_they_are(tmp_path: Path) -> None:
    folder = Path(str(pydicom.data.get_testdata_file("CT_small.dcm"))).parent
    with listening(tmp_path / "kept", "--durability", "none") as (_, address):
        done = dulcet("store", address, folder, "--json")
    *results, summary = done.lines()
    assert done.code == 1
    reasons = {Path(line["path"]).name: line["reason"] for line in results if line["result"] == "failed"}
    assert "truncated at byte" in reasons["MR_truncated.dcm"]
    assert all(reasons.values())
    skipped = {Path(line["path"]).name for line in results if line["result"] == "skipped"}
    assert {"DICOMDIR", "README.txt"} <= skipped
    assert summary["sent"] > 100
    assert summary["not_tried"] == 0


def test_json_and_the_report_say_what_became_of_each(study: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    cut = make_instance(study / "zz.dcm", 1000, 9)
    cut.write_bytes(cut.read_bytes()[:-10])
    with accepting() as made:
        done = dulcet("store", made.address, study, "--json", "--report", report)
    *lines, summary = done.lines()
    assert done.code == 1
    assert lines == [json.loads(line) for line in report.read_text().splitlines()]
    by_path = {Path(line["path"]).name: line for line in lines}
    assert {name: line["result"] for name, line in by_path.items()} == {
        **{f"{number:06}.dcm": "sent" for number in range(3)},
        **dict.fromkeys(["README.txt", "empty", "pipe"], "skipped"),
        "zz.dcm": "failed",
    }
    image = read_instance(study / "images" / "000001.dcm")
    found = image.path.stat()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", by_path["000001.dcm"].pop("time"))
    assert by_path["000001.dcm"] == {
        "path": str(image.path),
        "result": "sent",
        "status": 0,
        "reason": None,
        "error_comment": None,
        "offending_elements": [],
        "sop_class_uid": CT_IMAGE,
        "sop_instance_uid": image.sop_instance_uid,
        "transfer_syntax": image.transfer_syntax,
        "bytes": len(image.data_set()),
        "peer": made.address,
        "file_size": found.st_size,
        "file_modified_ns": found.st_mtime_ns,
    }
    assert "truncated" in by_path["zz.dcm"]["reason"]
    assert summary | {"seconds": 0} == {
        "summary": True, "sent": 3, "stored_before": 0, "failed": 1, "skipped": 3, "not_tried": 0, "seconds": 0,
        "bytes": sum(line["bytes"] for line in lines),
    }  # fmt: skip
    assert summary["seconds"] > 0


def test_a_dry_run_sends_nothing(study: Path) -> None:
    with peer(serve) as made:
        done = dulcet("store", made.address, study, "--dry-run")
        assert made.wires == []
    assert done.code == 0
    assert done.output.startswith("3 would be sent (7.")
    done = dulcet("store", "A@127.0.0.1:1", study, "--dry-run", "--json")
    assert [line["result"] for line in done.lines()[:-1]].count("would send") == 3
    assert {line["status"] for line in done.lines()[:-1]} == {None}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (0xA700, 1, "  3 failed: A700H out of resources"),
        (0xB000, 0, "  3 sent: B000H warning: elements coerced, or sub-operations failed"),
    ],
)
def test_statuses_are_summed_up(study: Path, status: int, code: int, words: str) -> None:
    with accepting(status) as made:
        done = dulcet("store", made.address, study)
    assert done.code == code
    assert words in done.output.splitlines()
    assert len(done.errors.splitlines()) == (3 if code else 0)


def test_a_class_that_the_peer_does_not_take(study: Path) -> None:
    def nothing(wire: Wire) -> None:
        wire.accept(lambda proposed: None)
        assert isinstance(wire.serve(), ReleaseRQ)

    with peer(nothing) as made:
        done = dulcet("store", made.address, study)
    assert done.code == 1
    assert "  3 failed: of a class that the peer does not accept" in done.output
    assert "Traceback" not in done.errors


def test_an_association_lost_on_the_way(study: Path) -> None:
    def dies(wire: Wire) -> None:
        wire.accept()
        wire.message()
        wire.send(Abort(0, 0))
        wire.until_closed()

    with peer(dies, serve) as made:
        done = dulcet("store", made.address, study)
    assert done.code == 1
    assert done.output.splitlines()[0].startswith("2 sent")
    assert "  1 failed: association lost" in done.output
    assert "000000.dcm" in done.errors


def test_no_association_is_3_and_nothing_was_tried(study: Path) -> None:
    done = dulcet("store", "A@no-such-host.invalid:104", study)
    assert done.code == 3
    assert "'no-such-host.invalid' is not known" in done.sentence()
    assert done.output.splitlines()[0].startswith("0 sent (0 B), 0 failed, 3 skipped, 3 not tried")


def test_a_path_that_does_not_exist_is_2(tmp_path: Path) -> None:
    done = dulcet("store", "A@127.0.0.1:1", tmp_path / "none")
    assert done.code == 2
    assert done.sentence() == f"{tmp_path / 'none'} does not exist; nothing was sent"


def test_a_bad_address_is_2(study: Path) -> None:
    assert dulcet("store", "nonsense", study).code == 2


def test_a_report_that_cannot_be_written_is_2(study: Path) -> None:
    done = dulcet("store", "A@127.0.0.1:1", study, "--report", "/proc/none/report")
    assert done.code == 2
    assert "cannot write the report" in done.sentence()


def test_a_report_on_a_full_disk_is_one_sentence(study: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with accepting() as made:
        done = dulcet("store", made.address, study, "--report", "/dev/full")
    assert done.code == 1
    assert done.sentence() == "the report /dev/full: No space left on device"


def test_nothing_to_send_is_1(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 100)
    for folder in (tmp_path, tmp_path / "text"):
        done = dulcet("store", "A@127.0.0.1:1", folder)
        assert done.code == 1
        assert done.sentence() == "nothing to send: no DICOM files found"


def test_a_dangling_link_is_a_failure(study: Path) -> None:
    (study / "dangling").symlink_to(study / "nowhere")
    done = dulcet("store", "A@127.0.0.1:1", study / "dangling", "--dry-run")
    assert done.code == 1
    assert "No such file" in done.sentence()


def test_names_that_are_no_text(study: Path) -> None:
    odd = os.fsencode(study) + b"/caf\xe9\x1b[31m.dcm"
    shutil.copy(study / "images" / "000000.dcm", odd)
    with accepting(0xA700) as made:
        done = dulcet("store", made.address, study, "--report", study / "report.jsonl")
        assert done.code == 1
        assert "\x1b" not in done.errors
        assert "caf??[31m.dcm: A700H" in done.errors
        lines = [json.loads(line) for line in (study / "report.jsonl").read_text().splitlines()]
        assert os.fsencode(next(line["path"] for line in lines if "caf" in line["path"])) == odd
        assert dulcet("store", made.address, study, "--json", env={"LC_ALL": "C"}).lines()[-1]["failed"] == 4


def test_ctrl_c_tells_the_peer_and_sums_up(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    make_folder(folder, 50, 50_000, CT_IMAGE)

    def stops(wire: Wire) -> None:
        wire.accept()
        for _ in range(20):
            message = wire.message()
            assert isinstance(message, Message)
            wire.answer(message)
        running.send(signal.SIGINT)
        aborts(wire)

    with peer(stops) as made, going_on("store", made.address, folder, "--jobs", "1") as running:
        start = time.monotonic()
        done = running.end()
        assert time.monotonic() - start < 10
    assert done.code == 130
    assert done.errors == "dulcet: interrupted\n"
    found = re.match(r"(\d+) sent .*, 0 failed, 0 skipped, (\d+) not tried", done.output)
    assert found is not None
    assert 15 <= int(found[1]) == 50 - int(found[2])


def test_sigterm_tells_the_peer(tmp_path: Path) -> None:
    make_folder(tmp_path / "files", 5, 50_000, CT_IMAGE)

    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        running.send(signal.SIGTERM)
        aborts(wire)

    with peer(silent) as made, going_on("store", made.address, tmp_path / "files") as running:
        assert running.end().code == 143


def test_whoever_reads_our_output_may_go(study: Path) -> None:
    with accepting() as made, going_on("store", made.address, study, "--json") as running:
        assert running.popen.stdout is not None
        running.end()
    assert "Traceback" not in "".join(running.errors)


# ---------------------------------------------------------------------------------------------- on a terminal


def test_a_bar_on_a_terminal(study: Path) -> None:
    with accepting() as made:
        done = on_a_terminal("store", made.address, study)
    assert done.code == 0
    assert "100%" in done.errors
    assert "6/6" in done.errors
    assert "\x1b[" in done.errors
    assert done.output.startswith("3 sent")


def test_no_color_means_none(study: Path) -> None:
    with accepting() as made:
        done = on_a_terminal("store", made.address, study, env={"NO_COLOR": "1"})
    assert "100%" in done.errors
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[0-9;]*m", done.errors)


def test_failures_stand_above_the_bar(study: Path) -> None:
    with accepting(0xA700) as made:
        done = on_a_terminal("store", made.address, study)
    assert done.code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.errors)
    assert len(re.findall(r"00000\d\.dcm: A700H", plain.replace("\r\n", ""))) == 3


@pytest.mark.parametrize("option", ["--json", None])
def test_no_bar_for_one_file_or_for_programs(study: Path, option: str | None) -> None:
    with accepting() as made:
        what = study if option else study / "images" / "000000.dcm"
        done = on_a_terminal("store", made.address, what, *([option] if option else []))
    assert done.code == 0
    assert done.errors == ""


# ---------------------------------------------------------------------------------------------- what is not said


def test_nothing_of_a_patient_is_said(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 1000, 3, CT_IMAGE)
    data = path.read_bytes()
    assert b"Generated^Instance" in data
    path.write_bytes(data.replace(b"Generated^Instance", PLANTED.encode().ljust(18)))
    with listening(tmp_path / "kept", "--layout", "{PatientName}/{SOPInstanceUID}.dcm") as (running, address):
        done = dulcet("--debug", "store", address, path)
        assert done.code == 0
        path.write_bytes(data.replace(b"Generated^Instance", PLANTED.upper().encode().ljust(18)))
        assert dulcet("--debug", "store", address, path).code == 0
        stopped = running.stop()
    for said in (done.output, done.errors, stopped.output, stopped.errors):
        assert "planted" not in said.lower()
    assert {path.parent.name for path in (tmp_path / "kept").rglob("*.dcm")} == {"Planted_Patient", "PLANTED_PATIENT"}


def test_a_folder_that_cannot_be_read_is_a_failure(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a test that runs as root is let in everywhere."""
    real = os.scandir
    closed = study / "images"

    def scandir(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["store", "A@127.0.0.1:1", str(study), "--dry-run"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.err == f"dulcet: {closed}: Permission denied\n"
    assert said.out.startswith("0 would be sent (0 B), 1 failed, 3 skipped in")


def test_the_reason_of_the_peer_is_on_the_terminal_in_json_and_in_the_report(study: Path, tmp_path: Path) -> None:
    def refuse(provider: Provider, request: Any) -> None:
        request.read()
        request.respond(0xC123, ErrorComment="no Patient ID", OffendingElement=(0x00100020,))

    report = tmp_path / "report.jsonl"
    with provider(refuse) as made:
        spoken = dulcet("store", made.address, study / "images")
        written = dulcet("store", made.address, study / "images", "--json", "--report", report)
    assert (spoken.code, written.code) == (1, 1)
    lines = spoken.errors.splitlines()
    assert len(lines) == 3
    assert all(line.endswith("C123H cannot understand or process (no Patient ID; (0010,0020))") for line in lines)
    kept = [json.loads(line) for line in report.read_text().splitlines()]
    assert kept == [line for line in written.lines() if "path" in line]
    assert {(line["status"], line["error_comment"], *line["offending_elements"]) for line in kept} == {
        (0xC123, "no Patient ID", "00100020")
    }
