"""What is asked in a wrong way: of every command, one sentence on standard error, exit code 2, no traceback."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import config

from dulcet.cli import main
from dulcet.cli.app import VERBS

PEER = "ARCHIVE@127.0.0.1:1"
STUDY = ("-k", "StudyInstanceUID=1.2.3")
GOOD: dict[str, tuple[str, ...]] = {
    "echo": (PEER,),
    "store": (PEER, "{folder}"),
    "find": (PEER,),
    "get": (PEER, *STUDY),
    "move": (PEER, *STUDY, "--to", "AET"),
    "listen": ("--port", "0", "--dir", "{folder}/in"),
    "serve": ("--port", "0", "--data", "{folder}/data"),
    "status": (),
    "index": ("check",),
    "export": ("1.2.3", "--to", "{folder}/out"),
    "import": ("{folder}/text",),
    "negotiate": (PEER,),
    "doctor": (PEER,),
    "trace": ("127.0.0.1:1", "--port", "0"),
    "peers": (),
}
"""Lines that would do, to which something is added that does not."""
CALLING = ("echo", "store", "find", "get", "move", "negotiate", "doctor")
QUERYING = ("find", "get", "move")
ARCHIVES = ("status", "index", "export")


def added(verbs: tuple[str, ...], *words: str, says: str) -> list[tuple[tuple[str, ...], str]]:
    """A case for each of these commands: its good line with these words behind it."""
    return [((verb, *GOOD[verb], *words), says) for verb in verbs]


def instead(verbs: tuple[str, ...], peer: str, *, says: str) -> list[tuple[tuple[str, ...], str]]:
    """A case for each of these commands: this where its peer stands."""
    return [((verb, peer, *GOOD[verb][1:]), says) for verb in verbs]


CASES = [
    (("nonsense",), "there is no command 'nonsense'; see dulcet --help"),
    (("ecko", PEER), "did you mean echo?"),
    (("--nonsense",), "No such option"),
    *added(tuple(VERBS), "--nonsense", says="--nonsense"),
    *(((verb,), "Missing") for verb in (*CALLING, "index", "export", "import", "trace")),
    (("store", PEER), "'PATH...'"),
    (("export", "1.2.3"), "--to"),
    # addresses
    *instead(CALLING, "ARCHIVE127.0.0.1:104", says="has no @"),
    *instead(CALLING, "ARCHIVE@127.0.0.1:no", says="is not a TCP port"),
    *instead(CALLING, "ARCHIVE@127.0.0.1:99999", says="99999"),
    *instead(CALLING, "@127.0.0.1:104", says="AE title"),
    *instead(CALLING, "A" * 17 + "@127.0.0.1:104", says="16"),
    *instead(("trace",), "somewhere", says="is no file, and no peer: HOST:PORT is expected"),
    *instead(("trace",), "127.0.0.1:dicom", says="is no file, and no peer: HOST:PORT is expected"),
    *added((*CALLING, "listen", "serve"), "--aet", "A" * 17, says="--aet 'AAAAAAAAAAAAAAAAA' is 17 characters long"),
    # numbers and choices
    *added(("echo", "store", "find", "get", "move"), "--timeout", "soon", says="'soon' is not a valid float"),
    *added(("echo",), "--count", "0", says="--count"),
    *added(("store",), "--jobs", "65", says="--jobs"),
    *added(("find",), "--limit", "0", says="--limit"),
    *added(("find",), "--csv", "--json", says="--csv or --json"),
    *added(("listen", "serve", "trace"), "--port", "65536", says="--port"),
    *added(("listen", "serve"), "--drain", "-1", says="--drain"),
    *added(("listen", "serve"), "--durability", "maybe", says="'maybe' is not one of 'fsync', 'none'"),
    *added(("move",), "--receive", "x", says="--receive"),
    *added(("trace",), "--fault", "dance", says="dance"),
    (("index", "shake"), "'shake' is not one of"),
    # keys
    *added(QUERYING, "-k", "PatintName", says="did you mean PatientName?"),
    *added(QUERYING, "-k", "12345678=1", says="'12345678' is no DICOM keyword or tag"),
    *added(QUERYING, "-k", "=x", says="is no DICOM keyword or tag"),
    *added(QUERYING, "--level", "visit", says="'visit' is not one of"),
    *added(QUERYING, "--model", "everything", says="everything"),
    *added(("negotiate",), "--class", "Nonsense", says="no SOP class"),
    (("get", PEER), "name what to retrieve"),
    (("move", PEER, *STUDY), "--to AET says who gets it"),
    # files
    (("store", PEER, "{folder}/none"), "does not exist"),
    (("import", "{folder}/none"), "does not exist"),
    *added(("store",), "--report", "{folder}/none/report", says="cannot write the report"),
    *added(ARCHIVES, "--data", "{folder}/none", says="is no archive"),
    *added(("import",), "--data", "{folder}/text", says="cannot keep data in"),
    *added(("get",), "--out", "{folder}/text", says="cannot receive into"),
    (("move", PEER, *STUDY, "--receive", "0", "--out", "{folder}/text"), "cannot receive into"),
    (("move", PEER, *STUDY, "--to", "ELSEWHERE", "--out", "{folder}"), "--out is about what comes here"),
    (("move", PEER, *STUDY, "--to", "ELSEWHERE", "--bind", "127.0.0.1"), "--bind is about what comes here"),
    *added(("index",), "--to", "{folder}/copy", says="--to is for backup"),
    (("index", "backup"), "--to says where the copy goes"),
    *added(("listen",), "--dir", "{folder}/text", says="cannot receive into"),
    *added(("listen",), "--layout", "{{Nonsense}}.dcm", says="Nonsense"),
    *added(("serve",), "--data", "{folder}/text", says="cannot keep data in"),
    *added(("serve",), "--config", "{folder}/none.toml", says="cannot read"),
    *added(("serve",), "--config", "{folder}/text", says="text"),
    *added(("trace",), "--record", "{folder}/text", says="is there already"),
    (("trace", "{folder}/text"), "text"),
    *added(CALLING, "--tls-ca", "{folder}/none.pem", says="none.pem"),
    *added(("listen", "serve"), "--tls-cert", "{folder}/none.pem", says="none.pem"),
    *added(("listen", "serve"), "--tls", says="needs a certificate"),
    *added((*CALLING, "listen", "serve"), "--tls-cert", "{folder}/text", says="text"),
    *added(CALLING, "--tls-profile", "b11", says="b11"),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    root, theirs = logging.getLogger(), logging.getLogger("pydicom")
    handlers, level, their_level = list(root.handlers), root.level, theirs.level
    mode = config.settings.reading_validation_mode
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)
    theirs.setLevel(their_level)
    config.settings.reading_validation_mode = mode


def run(arguments: tuple[str, ...], folder: Path) -> int:
    (folder / "text").write_text("these = are [ just words\n")
    with pytest.raises(SystemExit) as ended:
        main([word.format(folder=folder) for word in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_command_is_in_the_matrix() -> None:
    assert GOOD.keys() == VERBS.keys()


@pytest.mark.parametrize(("arguments", "says"), CASES, ids=[" ".join(arguments) for arguments, _ in CASES])
def test_one_sentence_and_2(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, tmp_path) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("dulcet: ")
    assert says in line
    assert said.out == ""


@pytest.mark.parametrize("verb", VERBS)
def test_debug_shows_where_it_came_from(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run((verb, *GOOD[verb], "--nonsense", "--debug"), tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("dulcet: No such option")


def test_debug_shows_what_an_address_lacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("--debug", "echo", "nowhere"), tmp_path) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "AddressError" in said


def test_nothing_asked_for_is_the_help_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run((), tmp_path) == 2
    said = capsys.readouterr()
    assert said.err.startswith("Usage: dulcet")
    assert said.out == ""
