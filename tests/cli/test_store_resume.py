"""`dulcet store --resume`: what a report proves to be stored is left out, and everything else is sent again."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.blocking.providing import Provider, eventually, provider
from tests.cli.running import PATIENCE, dulcet, going_on, listening
from tests.corpus import CT_IMAGE, make_folder, make_instance, read_instance

from dulcet.cli.resuming import LONGEST, StoredBefore, look_at

HOUR = 3600


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "files", 6, 2000, CT_IMAGE)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "sent.jsonl"


def uid(path: Path) -> str:
    return read_instance(path).sop_instance_uid


def lines(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


def confirmed(report: Path) -> list[str]:
    """UIDs of what whole lines of a report have as stored."""
    whole = report.read_bytes().rpartition(b"\n")[0].splitlines()
    return [line["sop_instance_uid"] for line in map(json.loads, whole) if line["result"] == "sent"]


def counts(made: Provider) -> Counter[str]:
    """How often each instance came."""
    return Counter({found: len(copies) for found, copies in made.stored.items()})


def refusing(*numbers: int, status: int = 0xA700) -> Callable[[Provider, Any], object]:
    """Keeps what comes but for these, counted from 0, once."""
    count = iter(range(1000))

    def handle(made: Provider, request: Any) -> None:
        if next(count) in numbers:
            request.respond(status)
        else:
            made.keep(request)

    return handle


# ---------------------------------------------------------------------------------------------- a run that was cut off


def cut_off(files: Path, report: Path, number: signal.Signals, jobs: int) -> None:
    """Stop a run in the middle, however it is told, and resume it."""
    reached = threading.Event()

    def handle(made: Provider, request: Any) -> None:
        made.keep(request)
        if not reached.is_set() and len(made.stored) >= 30:
            eventually(lambda: len(report.read_text().splitlines()) >= 10)
            reached.set()
            running.send(number)
            running.popen.wait(PATIENCE)  # without an answer the run cannot come to its own end before

    with provider(handle) as made:
        with going_on("store", made.address, files, "--report", report, "--jobs", jobs) as running:
            ended = running.end()
        assert ended.code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        eventually(lambda: made.listener.count == 0)
        known, before = confirmed(report), counts(made)
        assert 10 <= len(known) < 200
        done = dulcet("store", made.address, files, "--resume", report)
        after = counts(made)
    assert done.code == 0, done.errors
    assert done.output.startswith(f"{200 - len(known)} sent (")
    assert f", {len(known)} stored before, 0 failed, 0 skipped in " in done.output
    assert after.keys() == {uid(path) for path in files.iterdir()}
    assert {found for found in known if after[found] != before[found]} == set()
    assert sorted(confirmed(report)) == sorted(after)


@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGKILL, 1), (signal.SIGKILL, 3), (signal.SIGINT, 1), (signal.SIGTERM, 1)]
)
def test_what_was_confirmed_is_not_sent_again_and_the_rest_is(
    tmp_path: Path, report: Path, number: signal.Signals, jobs: int
) -> None:
    make_folder(tmp_path / "files", 200, 2000, CT_IMAGE)
    cut_off(tmp_path / "files", report, number, jobs)


def test_a_listener_that_died_and_came_back(tmp_path: Path, files: list[Path], report: Path) -> None:
    with listening(tmp_path / "kept") as (running, address):
        assert dulcet("store", address, *files[:3], "--report", report).code == 0
        running.send(signal.SIGKILL)
        running.end()
    port = address.rpartition(":")[2]
    with socket.socket() as kept_free:  # nobody else is given the port meanwhile
        kept_free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept_free.bind(("127.0.0.1", int(port)))
        done = dulcet("store", address, *files, "--resume", report)
    assert done.code == 3
    assert "0 sent (0 B), 3 stored before, 0 failed, 0 skipped, 3 not tried" in done.output
    with listening(tmp_path / "kept", "--port", port):
        done = dulcet("store", address, *files, "--resume", report)
    assert done.code == 0
    assert done.output.startswith("3 sent")
    assert {path.stem for path in (tmp_path / "kept").glob("*.dcm")} == {uid(path) for path in files}


# ---------------------------------------------------------------------------------------------- what is sent again


def test_what_was_refused_is_sent_again(files: list[Path], report: Path) -> None:
    with provider(refusing(1, 4)) as made:
        first = dulcet("store", made.address, *files, "--report", report)
        assert first.code == 1
        assert first.output.startswith("4 sent")
        again = dulcet("store", made.address, *files, "--resume", report)
        assert (again.code, again.errors) == (0, "")
        assert again.output.startswith("2 sent (")
        assert ", 4 stored before, 0 failed" in again.output
        third = dulcet("store", made.address, *files, "--resume", report)
        assert third.code == 0
        assert third.output.startswith("0 sent (0 B), 6 stored before, 0 failed, 0 skipped in ")
        assert counts(made) == dict.fromkeys(map(uid, files), 1)
    assert [line["result"] for line in lines(report)].count("sent") == 6
    assert [line["result"] for line in lines(report)].count("failed") == 2


def test_still_refused_is_1(files: list[Path], report: Path) -> None:
    with provider(refusing(1, 6)) as made:
        assert dulcet("store", made.address, *files, "--report", report).code == 1
        again = dulcet("store", made.address, *files, "--resume", report)
    assert again.code == 1
    assert again.output.startswith("0 sent (0 B), 5 stored before, 1 failed")


def test_a_warning_is_a_promise(files: list[Path], report: Path) -> None:
    with provider(refusing(*range(6), status=0xB000)) as made:
        assert dulcet("store", made.address, *files, "--report", report).code == 0
        assert ", 6 stored before" in dulcet("store", made.address, *files, "--resume", report).output


def test_what_is_new_is_sent_and_a_missing_report_is_begun(tmp_path: Path, files: list[Path], report: Path) -> None:
    with provider() as made:
        first = dulcet("store", made.address, files[0].parent, "--resume", report)
        assert first.code == 0
        assert first.sentence() == f"there is no report {report} yet: everything is sent"
        assert first.output.startswith("6 sent (")
        make_instance(files[0].parent / "zz.dcm", 2000, 99, CT_IMAGE)
        again = dulcet("store", made.address, files[0].parent, "--resume", report, "--json")
        *results, summary = again.lines()
    assert Counter(line["result"] for line in results) == {"sent": 1, "stored before": 6}
    assert (summary["sent"], summary["stored_before"], summary["not_tried"]) == (1, 6, 0)
    assert set(map(frozenset, lines(report))) == set(map(frozenset, results))
    assert len(lines(report)) == 7


def test_a_file_that_was_changed_is_sent_again(files: list[Path], report: Path) -> None:
    touched, rewritten, other, gone, same, _ = files
    with provider() as made:
        assert dulcet("store", made.address, *files, "--report", report).code == 0
        os.utime(touched, (HOUR, HOUR))
        data = rewritten.read_bytes()
        rewritten.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        times = other.stat()
        other.write_bytes(other.read_bytes().replace(uid(other).encode(), uid(other).encode()[:-1] + b"9"))
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        gone.unlink()
        os.utime(same, ns=(HOUR, same.stat().st_mtime_ns))
        done = dulcet("store", made.address, files[0].parent, "--resume", report, "--json")
    assert done.code == 0
    results = {Path(line["path"]): line["result"] for line in done.lines()[:-1]}
    assert {path for path, result in results.items() if result == "sent"} == {touched, rewritten, other}
    assert results[same] == "stored before"
    assert gone not in results


def test_the_last_word_on_a_file_counts(files: list[Path], report: Path) -> None:
    """Stored, then changed and refused, then put back as it was: nobody knows what the peer has kept."""
    path = files[0]
    with provider(refusing(1)) as made:
        assert dulcet("store", made.address, path, "--report", report).code == 0
        times, data = path.stat(), path.read_bytes()
        path.write_bytes(data + b"\0\0")
        assert dulcet("store", made.address, path, "--resume", report).code == 1
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert dulcet("store", made.address, path, "--resume", report).output.startswith("1 sent")


def test_another_spelling_of_a_path_is_the_same_file(files: list[Path], report: Path) -> None:
    folder = files[0].parent
    with provider() as made:
        assert dulcet("store", made.address, "files", "--report", report, cwd=folder.parent).code == 0
        for spelling in ("./files", folder, folder.parent):
            again = dulcet("store", made.address, spelling, "--resume", report, cwd=folder.parent)
            assert ", 6 stored before, 0 failed" in again.output
        # From another folder the report's relative paths lead elsewhere: in doubt, once more.
        assert "0 stored before" in dulcet("store", made.address, folder, "--resume", report).output


def test_a_dry_run_says_what_is_left_and_writes_nothing(files: list[Path], report: Path) -> None:
    with provider() as made:
        assert dulcet("store", made.address, *files[:4], "--report", report).code == 0
        report.write_bytes(report.read_bytes() + b'{"path": "cut o')
        before = report.read_bytes()
        done = dulcet("store", made.address, *files, "--resume", report, "--dry-run")
        assert done.output.startswith("2 would be sent (")
        assert ", 4 stored before" in done.output
        assert report.read_bytes() == before
        assert len(made.stored) == 4


def test_what_a_dry_run_reported_was_never_sent(files: list[Path], report: Path) -> None:
    with provider() as made:
        assert dulcet("store", made.address, *files, "--dry-run", "--report", report).code == 0
        assert dulcet("store", made.address, *files, "--resume", report).output.startswith("6 sent")


# ---------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize("torn", [b"{", b'{"pat', b'{"path": "/x", "result": "sent", "status": 0', b"\0\0\0\0"])
def test_a_torn_last_line_is_cut_off(files: list[Path], report: Path, torn: bytes) -> None:
    with provider() as made:
        assert dulcet("store", made.address, *files[:2], "--report", report).code == 0
        whole = report.read_bytes()
        report.write_bytes(whole + torn)
        done = dulcet("store", made.address, *files, "--resume", report)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("4 sent")
    assert report.read_bytes().startswith(whole)
    assert sorted(confirmed(report)) == sorted(map(uid, files))


def test_a_line_that_lacks_its_end_alone_proves_nothing(files: list[Path], report: Path) -> None:
    with provider() as made:
        assert dulcet("store", made.address, files[0], "--report", report).code == 0
        report.write_bytes(report.read_bytes()[:-1])
        assert dulcet("store", made.address, files[0], "--resume", report).output.startswith("1 sent")
    assert len(lines(report)) == 1


def test_a_report_of_another_peer_is_2(files: list[Path], report: Path) -> None:
    with provider() as made, provider() as other:
        assert dulcet("store", made.address, *files, "--report", report).code == 0
        before = report.read_bytes()
        done = dulcet("store", other.address, *files, "--resume", report)
        assert other.stored == {}
    assert (done.code, done.output) == (2, "")
    assert done.sentence() == (
        f"{report}, line 1: this report is of what was sent to {made.address}, not to {other.address}; "
        "each peer has its own report"
    )
    assert report.read_bytes() == before


GOOD = (
    b'{"path": "a", "result": "sent", "status": 0, "sop_instance_uid": "1.2", "peer": "A@127.0.0.1:1", '
    b'"file_size": 1, "file_modified_ns": 2}\n'
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello\n", ", line 1: not of a report that can be resumed (it is no JSON object)"),
        (b"\x89PNG\xff\xfe" * 9, " is no report of dulcet store"),
        (b"[]\n", ", line 1: not of a report"),
        (b'{"path": "a"}\n', "(it has no 'result')"),
        (b"[" * 100_000 + b"\n", ", line 1: not of a report"),
        (GOOD + b"\0\0\n" + GOOD, ", line 2: not of a report"),
        (GOOD.replace(b'"a"', b"7"), "its path is no text"),
        (GOOD + b'{"path": "' + b"x" * LONGEST, "a line of more than"),
    ],
)
def test_a_report_that_is_none_is_2_and_stays_as_it_is(
    files: list[Path], report: Path, content: bytes, words: str
) -> None:
    report.write_bytes(content)
    done = dulcet("store", "A@127.0.0.1:1", *files, "--resume", report)
    assert (done.code, done.output) == (2, "")
    assert words in done.sentence()
    assert report.read_bytes() == content


def test_a_report_that_cannot_be_used_is_2(files: list[Path], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "report", files[0] / "report"):
        done = dulcet("store", "A@127.0.0.1:1", *files, "--resume", path)
        assert done.code == 2
        assert f"cannot write the report {path}: " in done.sentence()


def test_one_report_is_enough(files: list[Path], report: Path, tmp_path: Path) -> None:
    done = dulcet("store", "A@127.0.0.1:1", *files, "--resume", report, "--report", tmp_path / "other")
    assert done.code == 2
    assert done.sentence() == "--resume goes on in its own report; leave out --report"
    with provider() as made:
        assert dulcet("store", made.address, *files, "--resume", report, "--report", report).code == 0
        assert len(lines(report)) == 6


# ---------------------------------------------------------------------------------------------- in this process


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sent"', b'"failed"'),
        (b'"status": 0', b'"status": 43008'),  # A800H
        (b'"status": 0', b'"status": 65280'),  # pending
        (b'"status": 0', b'"status": 70000'),
        (b'"status": 0', b'"status": false'),
        (b'"status": 0', b'"status": null'),
        (b'"file_size": 1', b'"file_size": null'),
        (b'"file_modified_ns": 2', b'"file_modified_ns": null'),
        (b'"1.2"', b"null"),
        (b'"1.2"', b'""'),
    ],
)
def test_a_line_that_leaves_a_doubt_proves_nothing(files: list[Path], report: Path, old: bytes, new: bytes) -> None:
    path = files[0]
    os.utime(path, (HOUR, HOUR))
    real = {
        b'"a"': json.dumps(str(path)).encode(),
        b'"1.2"': json.dumps(uid(path)).encode(),
        b'"file_size": 1': b'"file_size": %d' % path.stat().st_size,
        b'"file_modified_ns": 2': b'"file_modified_ns": %d' % path.stat().st_mtime_ns,
    }
    good = GOOD
    for word, value in real.items():
        good = good.replace(word, value)
    report.write_bytes(good)
    assert str(path) in StoredBefore(report, "A@127.0.0.1:1")
    bad = good.replace(real.get(old, old), new)
    assert bad != good
    report.write_bytes(bad)
    assert str(path) not in StoredBefore(report, "A@127.0.0.1:1")


def test_a_file_that_is_no_instance_any_more_is_not_stored(files: list[Path], report: Path) -> None:
    path = files[0]
    with provider() as made:
        assert dulcet("store", made.address, path, "--report", report).code == 0
        times = path.stat()
        path.write_bytes(b"x" * times.st_size)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert str(path) not in StoredBefore(report, made.address)


def test_a_file_that_may_still_be_written_to_has_no_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    future = path.stat().st_mtime_ns + 10**12
    os.utime(path, ns=(future, future))
    assert look_at(str(path)).modified is None
    os.utime(path, (HOUR, HOUR))
    assert look_at(str(path)).modified == HOUR * 10**9
    assert look_at(str(tmp_path / "none")).size is None
