"""`find`, `get`, `move`, `negotiate` and `doctor`, as a user runs them, against a node of our own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from tests.corpus import data_set_bytes, make_folder

import dulcet
from dulcet.node.threads import NodeThreads

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("COV")}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dulcet", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_folder(tmp_path_factory.mktemp("held") / "files", 3, 2000)


@pytest.fixture(scope="module")
def retrieved() -> list[str]:
    """The levels of what was asked for."""
    return []


@pytest.fixture
def levels(retrieved: list[str]) -> list[str]:
    retrieved.clear()
    return retrieved


@pytest.fixture(scope="module")
def server(files: list[Path], retrieved: list[str]) -> Iterator[NodeThreads]:
    node = dulcet.Node("ARCHIVE")
    asked: list[Dataset] = []

    @node.on_find
    def find(request):  # type: ignore[no-untyped-def]
        asked.append(request.identifier)
        if request.identifier.get("PatientID") == "NONE":
            return
        if request.identifier.get("PatientID") == "BAD":
            yield dulcet.Status.CANNOT_UNDERSTAND
        for number in range(3):
            answer = Dataset()
            answer.QueryRetrieveLevel = request.level
            answer.PatientName = f"Doe^{number}\x1b[31m"
            answer.StudyInstanceUID = f"1.2.3.{number}"
            answer.ModalitiesInStudy = ["CT", "SR"]
            yield answer

    @node.on_get
    def get(request):  # type: ignore[no-untyped-def]
        retrieved.append(request.level)
        if request.identifier.get("PatientID") == "BAD":
            raise dulcet.Refused(dulcet.Status.DATA_SET_MISMATCH, "no StudyInstanceUID")
        return files

    @node.on_move
    def move(request):  # type: ignore[no-untyped-def]
        return files

    with node.threads() as threads:
        yield threads


def test_find_prints_an_aligned_table_without_control_characters(server: NodeThreads) -> None:
    keys = ("-k", "PatientName=DOE*", "-k", "ModalitiesInStudy", "-k", "StudyInstanceUID")
    done = run("find", str(server.address), *keys)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["PatientName", "ModalitiesInStudy", "StudyInstanceUID"]
    assert lines[1].split() == ["Doe^0?[31m", "CT\\SR", "1.2.3.0"]
    assert lines[-1] == "3 answers"
    assert "\x1b" not in done.stdout


def test_find_prints_csv_and_dicom_json(server: NodeThreads) -> None:
    csv = run("find", str(server.address), "--csv", "-k", "StudyInstanceUID")
    assert csv.stdout.splitlines() == ["StudyInstanceUID", "1.2.3.0", "1.2.3.1", "1.2.3.2"]
    lines = run("find", str(server.address), "--json", "-k", "StudyDate").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["0020000D"]["Value"] for answer in answers] == [["1.2.3.0"], ["1.2.3.1"], ["1.2.3.2"]]


def test_find_stops_at_its_limit_and_says_when_nothing_was_found(server: NodeThreads) -> None:
    limited = run("find", str(server.address), "--csv", "-k", "StudyInstanceUID", "--limit", "2")
    assert limited.stdout.count("1.2.3") == 2
    assert run("find", str(server.address), "-k", "PatientID=NONE").stdout == "0 answers\n"


@pytest.mark.parametrize(
    ("model", "columns"),
    [
        ("worklist", ["PatientID", "PatientName", "AccessionNumber", "Modality", "ScheduledStationAETitle"]),
        ("color-palette", ["SOPClassUID", "SOPInstanceUID"]),
    ],
)
def test_find_without_keys_asks_for_some_of_every_model(model: str, columns: list[str]) -> None:
    node = dulcet.Node("PEER")

    @node.on_find(models=(model,))
    def find(request):  # type: ignore[no-untyped-def]
        yield request.identifier

    with node.threads() as threads:
        done = run("find", str(threads.address), "--model", model)
    headings = done.stdout.splitlines()[0].replace("ScheduledProcedureStepSequence.", "").split()
    assert headings[: len(columns)] == columns
    assert done.stdout.endswith("1 answer\n")


def test_find_fails_with_the_peers_status(server: NodeThreads) -> None:
    done = run("find", str(server.address), "-k", "PatientID=BAD")
    assert done.returncode == 1
    assert "C000H" in done.stderr
    assert done.stdout == ""  # "0 answers" would be an answer


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-k", "PatintName"], "did you mean PatientName?"),
        (["-k", "PatientID=1", "-k", "PatientID.Modality=CT"], "has a value already"),
        (["--level", "visit"], "'visit' is not one of 'patient', 'study', 'series', 'image'"),
        (["--model", "everything"], "does not exist"),
        (["--model", "without-bulk-data"], "cannot be queried"),
    ],
)
def test_find_says_what_is_wrong_with_its_arguments(server: NodeThreads, arguments: list[str], complaint: str) -> None:
    done = run("find", str(server.address), *arguments)
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_get_brings_the_instances_here(server: NodeThreads, files: list[Path], tmp_path: Path) -> None:
    done = run("get", str(server.address), "-k", "StudyInstanceUID=1.2.3", "--out", str(tmp_path / "got"))
    assert done.returncode == 0, done.stderr
    assert "3 completed, 0 failed, 3 received" in done.stdout
    got = sorted(data_set_bytes(path) for path in (tmp_path / "got").glob("*.dcm"))
    assert got == sorted(data_set_bytes(path) for path in files)


def test_a_refused_get_says_why(server: NodeThreads, tmp_path: Path) -> None:
    asked = ("get", str(server.address), "-k", "PatientID=BAD", "--out", str(tmp_path))
    done = run(*asked)
    assert done.returncode == 1
    assert "A900H" in done.stdout
    assert "(no StudyInstanceUID); 0 completed" in done.stdout
    summary = json.loads(run(*asked, "--json").stdout.splitlines()[-1])
    assert (summary["status"], summary["comment"]) == (0xA900, "no StudyInstanceUID")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ((), "-k StudyInstanceUID=1.2.3"),
        (("-k", "PatientID=1", "-k", "StudyDate=2020"), "-k StudyDate: a retrieve goes by PatientID, Study"),
        (("-k", "PatientID=1", "--level", "study"), "--level study needs -k StudyInstanceUID=VALUE"),
        (("-k", "PatientID=1", "--model", "study"), "-k PatientID: a retrieve goes by StudyInstanceUID"),
    ],
)
@pytest.mark.parametrize("verb", [("get",), ("move", "--to", "ME")])
def test_a_retrieve_wants_to_know_what(
    server: NodeThreads, verb: tuple[str, ...], keys: tuple[str, ...], said: str
) -> None:
    done = run(*verb, str(server.address), *keys)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_level_is_that_of_the_lowest_key(server: NodeThreads, levels: list[str], tmp_path: Path) -> None:
    for keys in (["PatientID=1"], ["StudyInstanceUID=1.2", "SeriesInstanceUID=1.3"], ["StudyInstanceUID=1.2"]):
        run("get", str(server.address), *[part for key in keys for part in ("-k", key)], "--out", str(tmp_path / "got"))
    assert levels == ["PATIENT", "SERIES", "STUDY"]


def test_move_listens_before_it_asks(server: NodeThreads, files: list[Path], tmp_path: Path) -> None:
    port = free_port()
    server.node.peers["ME"] = dulcet.Address("ME", "127.0.0.1", port)
    done = run(
        "move", str(server.address), "--aet", "ME", "-k", "StudyInstanceUID=1.2.3", "--receive", str(port), "--json",
        "--out", str(tmp_path / "moved"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["completed"], summary["failed"], len(summary["received"])) == (3, 0, 3)


def test_move_to_a_stranger_fails_and_says_so(server: NodeThreads) -> None:
    done = run("move", str(server.address), "-k", "StudyInstanceUID=1.2.3", "--to", "STRANGER")
    assert done.returncode == 1
    assert "A801H" in done.stdout


def test_move_wants_to_know_where(server: NodeThreads) -> None:
    assert run("move", str(server.address), "-k", "StudyInstanceUID=1.2.3").returncode == 2


def test_negotiate_shows_what_is_accepted(server: NodeThreads) -> None:
    done = run("negotiate", str(server.address), "--class", "Verification", "--class", "CTImageStorage")
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["Verification SOP Class"].count("yes") == 2
    assert rows["CT Image Storage"].count("yes") == 10
    assert "implementation   DULCET_" in done.stdout
    results = [json.loads(line) for line in run("negotiate", str(server.address), "--json").stdout.splitlines()]
    assert {row["result"] for row in results if "result" in row} == {0, 3}
    assert results[-1]["maximum_length"] == 131072


@pytest.mark.parametrize(
    "command",
    [
        ("echo",),
        ("find", "-k", "PatientID"),
        ("get", "-k", "StudyInstanceUID=1"),
        ("move", "-k", "StudyInstanceUID=1", "--to", "ME"),
        ("negotiate",),
        ("doctor",),
        ("store", get_testdata_file("CT_small.dcm")),
    ],
    ids=lambda command: command[0],
)
def test_a_title_of_17_characters_is_2_before_anything_is_sent(command: tuple[str, ...]) -> None:
    done = run(command[0], f"X@127.0.0.1:{free_port()}", *command[1:], "--aet", "X" * 17)
    assert done.returncode == 2
    assert "is 17 characters long; at most 16 are allowed" in done.stderr


def test_so_is_a_destination() -> None:
    done = run("move", f"X@127.0.0.1:{free_port()}", "-k", "StudyInstanceUID=1", "--to", "X" * 17)
    assert done.returncode == 2
    assert f"--to {'X' * 17!r} is 17 characters long" in done.stderr


def test_doctor_goes_step_by_step(server: NodeThreads) -> None:
    done = run("doctor", str(server.address))
    assert done.returncode == 0, done.stderr
    steps = [line.split()[1] for line in done.stdout.splitlines()[:5]]
    assert steps == ["resolve", "connect", "associate", "echo", "release"]
    assert done.stdout.splitlines()[-1].endswith("is well (1 address)")


def test_doctor_says_where_it_stops_and_why(server: NodeThreads) -> None:
    closed = run("doctor", f"X@127.0.0.1:{free_port()}")
    assert closed.returncode == 3
    assert "STOP connect" in closed.stdout
    assert "nothing listens on that port" in closed.stdout
    stranger = run("doctor", f"STRANGER@127.0.0.1:{server.address.port}", "--json")
    last = json.loads(stranger.stdout.splitlines()[-1])
    assert (stranger.returncode, last["step"], last["ok"]) == (3, "associate", False)
    assert "called AE title not recognized" in last["detail"]
