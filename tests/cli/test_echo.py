"""`dulcet echo`, and what all commands have in common: exit codes, one sentence, --debug, help that fits."""

from __future__ import annotations

import signal
import socket
import time

import pytest
from tests.blocking.providing import provider
from tests.blocking.scripted import Wire, aborts, peer
from tests.cli.running import dulcet, environment, going_on

from dulcet._version import __version__
from dulcet.upper_layer.pdu import AssociateRJ, AssociateRQ


def refuse(wire: Wire) -> None:
    assert isinstance(wire.pdu(), AssociateRQ)
    wire.send(AssociateRJ(1, 1, 7))
    wire.until_closed()


def test_a_peer_that_answers() -> None:
    with provider(lambda provider, request: request.respond(0)) as made:
        done = dulcet("echo", made.address, "--aet", "WORKSTATION", "-n", 3)
        assert made.associations[0].calling_ae_title == "WORKSTATION"
    assert (done.code, done.errors) == (0, "")
    lines = done.output.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{made.address}: 0000H success in ") and line.endswith(" ms") for line in lines)


def test_json() -> None:
    with provider(lambda provider, request: request.respond(0)) as made:
        done = dulcet("echo", made.address, "--json", "--count", 2)
    assert done.code == 0
    assert [(line["peer"], line["status"]) for line in done.lines()] == [(made.address, 0)] * 2
    assert all(line["milliseconds"] > 0 for line in done.lines())


def test_a_status_that_is_no_success_is_1() -> None:
    with provider(lambda provider, request: request.respond(0x0122)) as made:
        done = dulcet("echo", made.address)
    assert done.code == 1
    assert "0122H refused: SOP class not supported" in done.output


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nonsense", "has no @"),
        ("A@host", "has no port"),
        ("A@host:0x10", "is not a TCP port"),
        ("@host:104", "AE title"),
        ("SEVENTEEN-LETTERS@host:104", "AE title"),
        ("A@::1:104", "brackets"),
    ],
)
def test_a_bad_address_is_2(address: str, words: str) -> None:
    done = dulcet("echo", address)
    assert done.code == 2
    assert words in done.sentence()
    assert done.output == ""


def test_a_bad_title_of_ours_is_2() -> None:
    done = dulcet("echo", "A@127.0.0.1:104", "--aet", "X" * 17)
    assert done.code == 2
    assert "at most 16" in done.sentence()


def test_nobody_there_is_3() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        done = dulcet("echo", f"A@127.0.0.1:{bound.getsockname()[1]}")
    assert done.code == 3
    assert "nothing listens on that port" in done.sentence()


def test_a_refusal_is_3_and_says_what_to_do() -> None:
    with peer(refuse) as made:
        done = dulcet("echo", made.address)
    assert done.code == 3
    assert "called AE title not recognized" in done.sentence()
    assert "case-sensitive" in done.sentence()


def test_silence_is_3() -> None:
    with peer(lambda wire: (wire.pdu(), aborts(wire))) as made:
        done = dulcet("echo", made.address, "--timeout", "0.3")
    assert done.code == 3
    assert "is it a DICOM port" in done.sentence()


def test_a_web_server_is_3() -> None:
    def web(wire: Wire) -> None:
        wire.pdu()
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m")
        aborts(wire)

    with peer(web) as made:
        done = dulcet("echo", made.address)
    assert done.code == 3
    assert "speaks HTTP" in done.sentence()
    assert done.sentence().isprintable()


def test_debug_shows_where_it_happened_wherever_it_stands() -> None:
    with peer(refuse) as made:
        for arguments in (("--debug", "echo", made.address), ("echo", made.address, "--debug")):
            done = dulcet(*arguments)
            assert done.code == 3
            assert "Traceback" in done.errors
            assert done.errors.splitlines()[-1].startswith("dulcet: ")


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "dulcet: interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_tells_the_peer(number: signal.Signals, code: int, said: str) -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        running.send(number)
        aborts(wire)

    with peer(silent) as made, going_on("echo", made.address) as running:
        start = time.monotonic()
        done = running.end()
        assert time.monotonic() - start < 5
    assert (done.code, done.errors) == (code, said)


@pytest.mark.parametrize("verb", ["", "echo", "store", "listen"])
def test_help_fits_a_terminal_of_80_by_24(verb: str) -> None:
    done = dulcet(*verb.split(), "--help", env={"COLUMNS": "80", "LINES": "24"})
    lines = done.output.splitlines()
    assert done.code == 0
    assert lines[0].startswith(f"Usage: dulcet {verb}".rstrip())
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in done.output
    assert len(lines) <= 24
    if verb in ("echo", "store"):
        assert any(line.strip().startswith(f"dulcet {verb} ARCHIVE@127.0.0.1:11112") for line in lines)


def test_usage_is_2() -> None:
    for arguments in (("nonsense",), ("echo",), ("echo", "A@b:1", "--nonsense"), ("echo", "A@b:1", "--count", "0")):
        done = dulcet(*arguments)
        assert done.code == 2
        assert " --help" in done.sentence()


def test_version() -> None:
    done = dulcet("--version")
    assert (done.code, done.output) == (0, f"dulcet {__version__}\n")


def test_the_environment_is_plain() -> None:
    assert "NO_COLOR" not in environment()
