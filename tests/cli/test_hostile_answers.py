"""`dulcet find` and a peer that answers what no peer should: what came is shown, nothing of it harms."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import dulcet, environment, going_on, on_a_terminal

from dulcet import AcceptancePolicy, AssociationError, Status, listen
from dulcet.uids import IMPLICIT_VR_LITTLE_ENDIAN

ROWS = (0x0028, 0x0010)
PATIENT_NAME, PATIENT_ID = (0x0010, 0x0010), (0x0010, 0x0020)
INSTANCES = (0x0020, 0x1208)
SEQUENCE = (0x0040, 0x0275)
NAMED = ("-k", "PatientName", "-k", "PatientID")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
FORMATS = pytest.mark.parametrize("form", ["--table", "--csv", "--json"])


IMPLICIT = AcceptancePolicy(any_class=(IMPLICIT_VR_LITTLE_ENDIAN,))


def element(tag: tuple[int, int], value: bytes) -> bytes:
    """Implicit VR little endian, of the length that the value has."""
    return struct.pack("<HHI", *tag, len(value)) + value


def match(name: bytes = b"DOE ", patient: bytes = b"1 ", *more: bytes) -> bytes:
    return element(PATIENT_NAME, name) + element(PATIENT_ID, patient) + b"".join(more)


def deep(levels: int) -> bytes:
    """A sequence within a sequence and so on, each of known length."""
    inner = b""
    for _ in range(levels):
        inner = element(SEQUENCE, element((0xFFFE, 0xE000), inner))
    return inner


ENDLESSLY_DEEP = (struct.pack("<HHI", *SEQUENCE, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 20_000


@contextmanager
def answering(*answers: bytes, then: Callable[[Any], object] | None = None) -> Iterator[str]:
    """A provider that gives these answers to a C-FIND, encoded as they are, and its address."""
    with listen("EVIL@127.0.0.1:0", policy=IMPLICIT) as listener:

        def provide() -> None:
            for association in listener:
                try:
                    for request in association.requests():
                        request.read()
                        for answer in answers:
                            request.respond(Status.PENDING, answer)
                        if then is not None:
                            then(request)
                        elif not request.answered:
                            request.respond(Status.SUCCESS)
                except AssociationError:
                    pass  # aborted, by one side or the other

        providing = threading.Thread(target=provide, daemon=True)
        providing.start()
        yield str(listener.address)
    providing.join(20)
    assert not providing.is_alive()


def find(address: str, form: str, *keys: str, terminal: bool = False) -> Any:
    arguments = ("find", address, *(() if form == "--table" else (form,)), *keys)
    return on_a_terminal(*arguments, output=True) if terminal else dulcet(*arguments)


ESCAPES = (
    match(b"\x1b[31mRED\x1b[0m^\x07\x1b]0;title\x07", b"=cmd|'/C calc'!A0 "),
    match(b'line\nbreak,"q" ', b"\x9b31m"),
    element((0x0008, 0x0005), b"ISO_IR 192") + match("x\u202ey\u200f".encode(), b"\r\nFAKE LINE "),
)


@FORMATS
@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_a_terminal_obeys_comes_through(form: str, terminal: bool) -> None:
    with answering(*ESCAPES) as address:
        done = find(address, form, *NAMED, terminal=terminal)
    assert done.code == 0
    shown = done.output + done.errors
    plain = shown.replace("\r\r\n", "\n").replace("\r\n", "\n")
    assert not CONTROLS.search(plain), ascii(shown)
    assert "RED" in plain
    if terminal:
        assert not any(line.startswith("FAKE") for line in plain.splitlines())


def test_what_a_peer_says_as_a_reason_or_calls_itself_is_printable_too() -> None:
    def refuse(request: Any) -> None:
        request.respond(0xFE00, ErrorComment="\x1b[2J\x1b[31mpwned\nFAKE")

    with answering(then=refuse) as address:
        done = find(address, "--table", *NAMED)
        debugged = dulcet("--debug", "find", address, *NAMED)
    assert done.code == 1
    assert done.sentence().endswith("FAKE)")
    assert not CONTROLS.search(done.errors)
    assert debugged.code == 1
    assert not CONTROLS.search(debugged.errors)


def test_csv_is_no_formula_and_stays_csv() -> None:
    patients = [b"=1+1", b"+1+1", b"-1+1", b"@SUM", b"\tx", b"\rx", b"-12.5 ", b"+7", b"a=b "]
    with answering(*(match(patient=patient) for patient in patients)) as address:
        done = find(address, "--csv", *NAMED)
    rows = list(csv.reader(io.StringIO(done.output)))
    assert [row[1].strip() for row in rows[1:]] == [
        "'=1+1", "'+1+1", "'-1+1", "'@SUM", "'\tx", "'\nx", "-12.5", "+7", "a=b",
    ]  # fmt: skip


ODD = (
    match(),
    match(b"", b"", element(INSTANCES, b"N/A "), element(ROWS, b"abc"), element(SEQUENCE, b"no sequence!")),
    match(b"", b"", element(INSTANCES, b"99999999999999999999"), element((0x0010, 0x1030), b"nan ")),
    match(b"", b"", element((0x0018, 0x9073), struct.pack("<d", float("nan"))), element((0x0010, 0x1020), b"1e999 ")),
    match(b"LAST"),
)
ODD_KEYS = (
    *NAMED, "-k", "NumberOfStudyRelatedInstances", "-k", "Rows", "-k", "RequestAttributesSequence",
)  # fmt: skip


@FORMATS
def test_a_value_that_does_not_fit_its_vr_is_marked_and_the_other_answers_stand(form: str) -> None:
    with answering(*ODD) as address:
        done = find(address, form, *ODD_KEYS)
    assert done.code == 0, done.errors
    assert "Traceback" not in done.errors
    assert "answer 2: " in done.errors
    assert "NumberOfStudyRelatedInstances (0020,1208) is no IS" in done.errors
    assert "Rows (0028,0010) is no US" in done.errors
    assert "RequestAttributesSequence (0040,0275) is no SQ" in done.errors
    assert "N/A" not in done.errors
    assert "99999999999999999999" in done.output
    if form == "--json":

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        answers = [json.loads(line, parse_constant=refuse) for line in done.output.splitlines()]
        assert len(answers) == len(ODD)
        assert answers[1]["00201208"] == {"vr": "IS", "Value": ["N/A"]}
        assert answers[1]["00280010"] == {"vr": "UN", "InlineBinary": "YWJj"}
        assert answers[2]["00101030"]["Value"] == ["nan"]
        assert answers[3]["00189073"]["Value"] == ["NaN"]
        assert answers[3]["00101020"]["Value"] == ["1e999"]
    else:
        assert "N/A (no IS)" in done.output
        assert "616263 (no US)" in done.output
        assert "LAST" in done.output


@FORMATS
@pytest.mark.parametrize("bad", [ENDLESSLY_DEEP, b"\xff" * 500], ids=["deep", "noise"])
def test_an_answer_that_is_no_data_set_is_said_with_its_number_and_the_peers_name(form: str, bad: bytes) -> None:
    with answering(match(b"FIRST "), bad, match(b"LAST")) as address:
        done = find(address, form, *NAMED)
    assert done.code == 1
    assert "Traceback" not in done.errors
    assert f"{address}: answer 2 does not decode" in done.errors
    assert f"{address}: 1 of 3 answers do not decode" in done.errors
    assert done.output.index("FIRST") < done.output.index("LAST")
    assert "RecursionError" not in done.errors


@FORMATS
def test_sequences_of_known_length_may_nest_as_deep_as_they_like(form: str) -> None:
    """pydicom enters them when they are looked at, and calls itself."""
    with answering(match(b"FIRST "), match() + deep(1500), match(b"LAST")) as address:
        done = find(address, form, *NAMED, "-k", "RequestAttributesSequence")
    assert done.code == 0
    assert "Traceback" not in done.errors
    assert done.output.index("FIRST") < done.output.index("LAST")
    if form == "--json":
        assert [len(json.loads(line)) for line in done.output.splitlines()] == [2, 3, 2]
        assert "RequestAttributesSequence (0040,0275) is no SQ" in done.errors


@FORMATS
def test_an_abort_after_answers_leaves_what_came(form: str) -> None:
    with answering(
        *[match(b"DOE%d" % index) for index in range(5)], then=lambda request: request.association.abort()
    ) as address:
        done = find(address, form, *NAMED)
    assert done.code == 3
    assert all(f"DOE{index}" in done.output for index in range(5))
    assert "abort" in done.sentence()


def on_and_on(request: Any) -> None:
    while True:
        request.respond(Status.PENDING, match(b"X" * 20_000))


@FORMATS
def test_a_peer_that_never_ends_is_left_at_the_deadline_with_what_came(form: str) -> None:
    with answering(then=on_and_on) as address:
        began = time.monotonic()
        done = find(address, form, *NAMED, "--deadline", "2")
        took = time.monotonic() - began
    assert done.code == 1
    assert "the 2 s of --deadline are over, after" in done.sentence()
    assert done.output.count("XXX") > 10
    assert took < 15


def test_a_peer_that_is_silent_is_left_at_the_deadline() -> None:
    said = threading.Event()

    def wait(request: Any) -> None:
        said.wait(20)

    with answering(match(), then=wait) as address:
        done = find(address, "--table", *NAMED, "--deadline", "1.5")
        said.set()
    assert done.code == 1
    assert done.output.splitlines()[-1] == "1 answer"
    assert "after 1 answer; there may be more" in done.sentence()


def test_the_limit_is_said_where_there_may_be_more() -> None:
    with answering(*[match()] * 3) as address:
        limited = find(address, "--table", *NAMED, "--limit", "2")
        whole = find(address, "--table", *NAMED, "--limit", "4")
    assert (limited.code, limited.output.splitlines()[-1]) == (0, "2 answers")
    assert "stopped at --limit 2; there may be more" in limited.sentence()
    assert (whole.code, whole.errors) == (0, "")


def test_a_table_shows_what_came_before_the_end() -> None:
    """Rows do not wait for the last one; later ones that are wider push to the right, too long ones end in a dot."""
    more = threading.Event()

    def later(request: Any) -> None:
        more.wait(20)
        for index in range(30):
            request.respond(Status.PENDING, match(b"A-NAME-THAT-IS-WIDER-THAN-THE-FIRST", b"LATER%d " % index))
        request.respond(Status.PENDING, match(b"Y" * 65, b"LONG"))
        request.respond(Status.SUCCESS)

    with answering(match(b"FIRST "), then=later) as address, going_on("find", address, *NAMED) as running:
        running.until("FIRST")
        more.set()
        done = running.end()
    lines = done.output.splitlines()
    assert lines[0].split() == ["PatientName", "PatientID"]
    assert lines[2].split() == ["A-NAME-THAT-IS-WIDER-THAN-THE-FIRST", "LATER0"]
    assert lines[-2].split() == ["Y" * 63 + "…", "LONG"]
    assert lines[-1] == "32 answers"


def until_cancelled(request: Any) -> None:
    while not request.cancelled:
        request.respond(Status.PENDING, match(b"X" * 20_000))
        request.association._look()
    request.respond(Status.CANCEL)


@FORMATS
def test_memory_does_not_grow_with_the_answers(form: str) -> None:
    """1500 answers of 20 KB; what is kept of them shows at once."""
    peaks = []
    for limit in ("30", "1500"):
        with answering(then=until_cancelled) as address:
            arguments = ["find", address, *NAMED, "--limit", limit, *([] if form == "--table" else [form])]
            program = (
                "import resource, sys; from dulcet.cli import main\n"
                "try:\n    main(sys.argv[1:])\n"
                "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
            )
            done = subprocess.run(
                [sys.executable, "-c", program, *arguments],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, env=environment(), check=True,
            )  # fmt: skip
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] - peaks[0] < 8_000, peaks  # kB; the answers together have 30,000


@pytest.mark.parametrize("verb", ["get", "move"])
def test_a_retrieve_is_left_at_the_deadline_too(verb: str, tmp_path: Path) -> None:
    counts = {"NumberOfRemainingSuboperations": 7, "NumberOfCompletedSuboperations": 2}

    def some(request: Any) -> None:
        request.respond(Status.PENDING, **counts)
        while not request.cancelled:
            request.association._next_event()

    more = ("--out", tmp_path) if verb == "get" else ("--to", "ELSEWHERE")
    with answering(then=some) as address:
        began = time.monotonic()
        done = dulcet(verb, address, "-k", "StudyInstanceUID=1.2.3", *more, "--deadline", "6")
        took = time.monotonic() - began
    assert done.code == 1
    assert "2 completed, 0 failed" in done.output
    assert "the 6 s of --deadline are over" in done.errors
    assert took < 25
