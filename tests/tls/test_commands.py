"""The options of TLS at every verb, and what a user reads when something is wrong."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import make_folder
from tests.interop import peers
from tests.tls.conftest import Party

from dulcet.cli import app as commands
from dulcet.cli.tls_options import TLS_PORT
from dulcet.errors import TLSConfigError
from dulcet.io.tls import PORT, TLSConfig

CALLING = "tls tls_ca tls_cert tls_key tls_password_file tls_crl tls_profile tls_insecure tls_name".split()
LISTENING = [*CALLING[:-1], "tls_client"]


def options(verb: str) -> set[str]:
    return {str(parameter.name) for parameter in commands.command(verb).params}


@pytest.mark.parametrize("verb", ["echo", "store", "find", "get", "move", "negotiate", "doctor"])
def test_verbs_that_call_take_the_options(verb: str) -> None:
    found = options(verb)
    assert set(CALLING) <= found
    assert "tls_client" not in found


@pytest.mark.parametrize("verb", ["listen", "serve"])
def test_verbs_that_are_called_take_the_options(verb: str) -> None:
    found = options(verb)
    assert set(LISTENING) <= found
    assert "tls_name" not in found


def arguments(party: Party, who: str = "theirs") -> list[str | Path]:
    credentials = getattr(party, who)
    return ["--tls-ca", party.authority.file, "--tls-cert", credentials.certificate, "--tls-key", credentials.key]


def test_echo_store_and_doctor_over_tls(party: Party, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 5, 10_000)
    with peers.dulcet_listen(tmp_path / "incoming", *map(str, arguments(party, "ours"))) as server:
        peers.dulcet("echo", server.address, *arguments(party)).check()
        peers.dulcet("store", server.address, *files, *arguments(party), "--jobs", "2").check()
        assert "TLSv1.3 TLS_" in peers.dulcet("doctor", server.address, *arguments(party)).output
        peers.dulcet("negotiate", server.address, "--class", "Verification", *arguments(party)).check()
    assert len(list((tmp_path / "incoming").glob("*.dcm"))) == 5


def test_who_does_not_get_in_reads_why(party: Party, tmp_path: Path) -> None:
    with peers.dulcet_listen(tmp_path / "incoming", *map(str, arguments(party, "ours"))) as server:
        cases: dict[str, list[str | Path]] = {
            "refused us: it wants a certificate (certificate, --tls-cert)": ["--tls-ca", party.authority.file],
            "nobody here knows its CA (ca_file, --tls-ca)": ["--tls"],
            "that port wants TLS": [],
            "call it by a name of its certificate": [*arguments(party), "--tls-name", "archive.example.org"],
        }
        for why, given in cases.items():
            finished = peers.dulcet("echo", server.address, *given)
            assert finished.returncode == 3, finished
            assert why in finished.errors
            assert "Traceback" not in finished.errors
        insecure = peers.dulcet("echo", server.address, *arguments(party)[2:], "--tls-insecure").check()
        assert "TLS without verification: anybody can be at the other end" in insecure.errors
        finished = server.stop()
    assert "gave no certificate, and one is required here" in finished.errors


def test_clients_need_no_certificate_where_none_is_asked_for(party: Party, tmp_path: Path) -> None:
    given = map(str, arguments(party, "ours")[2:])
    with peers.dulcet_listen(tmp_path / "incoming", *given) as server:
        peers.dulcet("echo", server.address, "--tls-ca", party.authority.file).check()
    given = map(str, [*arguments(party, "ours"), "--tls-client", "optional"])
    with peers.dulcet_listen(tmp_path / "incoming", *given) as server:
        peers.dulcet("echo", server.address, "--tls-ca", party.authority.file).check()


def test_a_key_opens_with_a_password_from_a_file(party: Party, tmp_path: Path) -> None:
    locked = party.authority.issue(password=b"open")
    words = tmp_path / "words"
    given = ["--tls-cert", locked.certificate, "--tls-key", locked.key]
    address = f"X@127.0.0.1:{peers.free_port()}"
    for text, code, why in (
        ("open\nmore", 3, "nothing listens"),
        ("shut", 2, "the password for"),
        (None, 2, "words cannot be read"),
    ):
        if text is None:
            words.unlink()
        else:
            words.write_text(text)
        finished = peers.dulcet("echo", address, *given, "--tls-password-file", words)
        assert (finished.returncode, why in finished.errors) == (code, True), finished
    finished = peers.dulcet("echo", address, *given)
    assert finished.returncode == 2
    assert "--tls-password-file FILE says its password" in finished.errors


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--tls-cert", "/nowhere/our.pem"], "/nowhere/our.pem cannot be read: No such file"),
        (["--tls-profile", "b9"], "b12 or b13"),
        (["--tls-key", "our.key"], "no certificate that it belongs to"),
    ],
)
def test_what_cannot_be_used_is_a_matter_of_usage(given: list[str], why: str) -> None:
    finished = peers.dulcet("echo", "X@127.0.0.1:104", *given)
    assert finished.returncode == 2
    assert why in finished.errors


def test_a_listener_without_a_certificate_says_so(tmp_path: Path) -> None:
    finished = peers.dulcet("listen", "--tls", "--port", "0", "--dir", tmp_path)
    assert finished.returncode == 2
    assert "a server needs a certificate for TLS" in finished.errors


@pytest.fixture
def in_process() -> Iterator[None]:
    """A command in this process leaves the log and the signals as they were."""
    root = logging.getLogger()
    handlers, level, terminate = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    signal.signal(signal.SIGTERM, terminate)


@pytest.mark.usefixtures("in_process")
def test_tls_has_a_port_of_its_own(party: Party, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def receiver(address: Any, *_: object, **__: object) -> None:
        seen.append(address)
        raise TLSConfigError("seen")

    monkeypatch.setattr("dulcet.blocking.receiver.Receiver", receiver)
    for given in ([], arguments(party, "ours"), [*arguments(party, "ours"), "--port", "5000"]):
        with pytest.raises(SystemExit):
            commands.run(["listen", "--dir", str(tmp_path), *map(str, given)])
    assert [address.port for address in seen] == [11112, PORT, 5000]
    assert PORT == TLS_PORT == 2762
    assert [isinstance(address.tls, TLSConfig) for address in seen] == [False, True, True]


def test_move_receives_over_tls_where_it_is_asked_to() -> None:
    finished = peers.dulcet("move", "X@127.0.0.1:104", "-k", "StudyInstanceUID=1.2", "--receive", "0", "--receive-tls")
    assert finished.returncode == 2
    assert "--receive-tls needs --tls-cert" in finished.errors
