"""What every verb has in common, in this process: how errors and interrupts become exit codes; sums in a summary."""

from __future__ import annotations

import errno
import io
import json
import logging
import signal
from collections.abc import Callable, Iterator

import pytest

import dulcet
from dulcet.cli.command import carry_out, exit_code
from dulcet.cli.output import complain, printable, say, say_json, start_logging
from dulcet.cli.transfer_summary import TransferSummary, _bytes
from dulcet.dimse.status import Status
from dulcet.services.results import Sent


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (dulcet.AddressError("no address"), 2, "no address"),
        (dulcet.LocalProtocolError("not allowed"), 2, "not allowed"),
        (dulcet.AssociationRefused(1, 1, 7, "PEER"), 3, "PEER refused the association"),
        (dulcet.PeerUnreachable("nobody there"), 3, "nobody there"),
        (dulcet.DimseTimeout("too late"), 3, "too late"),
        (dulcet.NoPresentationContext("none"), 1, "none"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "a/b"), 1, "a/b: Read-only file system"),
        (OSError("odd"), 1, "odd"),
    ],
)
def test_an_error_is_a_sentence_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    assert carry_out(raising(error)) == code
    assert capsys.readouterr().err.startswith(f"dulcet: {said}")
    if isinstance(error, Exception):
        assert exit_code(error) == code


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    assert carry_out(raising(dulcet.AddressError("no address"))) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_error_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError):
        carry_out(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert capsys.readouterr().err == ""


def test_sigterm_ends_as_an_exception_so_that_peers_are_told() -> None:
    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    with pytest.raises(SystemExit) as ended:
        carry_out(command)
    assert ended.value.code == 143


def test_a_result_is_the_code() -> None:
    assert carry_out(lambda: 1) == 1


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        carry_out(lambda: 1 // 0)


def test_nothing_that_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[31mb\0c\nd\x9be\udce9f"
    assert printable(evil) == "a?[31mb?c?d?e?f"
    complain(evil)
    say(evil)
    said = capsys.readouterr()
    assert said.err == "dulcet: a?[31mb?c?d?e?f\n"
    assert said.out == "a?[31mb?c?d?e?f\n"
    say_json(name=evil)
    line = capsys.readouterr().out
    assert line.isascii()
    assert json.loads(line) == {"name": evil}


def test_a_log_line_is_one_line_with_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    start_logging(logging.INFO, times=True)
    logging.getLogger("dulcet.test").info("from %s", "a\nb\x1b[1m")
    start_logging(logging.INFO)
    logging.getLogger("dulcet.test").info("plain")
    first, second = stream.getvalue().splitlines()
    assert first.endswith(" INFO from a?b?[1m")
    assert first[:4].isdigit()
    assert second == "INFO plain"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5_000_000_000_000, "5000.00 GB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert _bytes(count) == text


def test_a_summary_names_the_kinds_of_errors(capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[dulcet.DulcetError] = [
        dulcet.CannotConvert("x"),
        dulcet.InstanceError("x"),
        dulcet.NoPresentationContext("x"),
        dulcet.DimseTimeout("x"),
        dulcet.PeerUnreachable("x"),
        dulcet.AssociationClosed("x"),
        dulcet.StatusError("x", 1),
    ]
    summary = TransferSummary(20)
    for number, error in enumerate(errors):
        summary.note(Sent(f"file{number}", None, error))
    for number in range(5):
        summary.note(Sent(f"text{number}", None, dulcet.NotDicom("no")))
    summary.note(Sent("good", Status.SUCCESS, size=2_000_000))
    summary.summary(2.0)
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"dulcet: file{number}: x" for number in range(7)]
    assert said.out.splitlines() == [
        "1 sent (2.0 MB), 7 failed, 5 skipped, 7 not tried in 2.00 s, 1.0 MB/s",
        "  1 failed: in a transfer syntax that the peer does not accept",
        "  1 failed: unreadable, damaged or without its UIDs",
        "  1 failed: of a class that the peer does not accept",
        "  1 failed: not answered in time",
        "  1 failed: peer not reachable any more",
        "  1 failed: association lost",
        "  1 failed: StatusError",
        "  5 skipped: not DICOM: text0, text1, text2, …",
    ]
