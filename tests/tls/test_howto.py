"""docs/howto/tls.md: its commands make certificates that work, its programs run, its options exist."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.blocking.providing import provider

import dulcet
from dulcet.cli import app as commands
from dulcet.io.certificates import public_key_pin

TEXT = (Path(__file__).parents[2] / "docs" / "howto" / "tls.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first block of commands was run."""
    folder = tmp_path_factory.mktemp("howto")
    subprocess.run(["sh", "-e", "-c", blocks("sh")[0]], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def test_the_programs_run_with_the_certificates(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    user, server, destination, table = blocks("python")
    served: list[Any] = []
    monkeypatch.setattr(dulcet.Node, "serve", lambda self, host, port, *, tls: served.append((self, port, tls)))
    names: dict[str, Any] = {}
    for program in (server, destination, table):
        exec(compile(program, "tls.md", "exec"), {"dulcet": dulcet}, names)  # noqa: S102 - our own page
    _, port, tls = served[0]
    assert port == 2762
    assert names["archive"].tls is not None
    assert names["table"].objection(None, "CT1") is not None
    with provider(tls=tls) as found:
        port = found.listener.address.port
        text = user.replace("RECEIVER@localhost:2762", f"PROVIDER@localhost:{port}")
        exec(compile(text, "tls.md", "exec"), {})  # noqa: S102
    assert "TLSv1.3" in capsys.readouterr().out


def test_the_pin_is_the_one_that_the_table_takes(made: Path) -> None:
    (command,) = [block for block in blocks("sh") if "dgst" in block]
    done = subprocess.run(["sh", "-c", command], cwd=made, check=True, capture_output=True, text=True, timeout=60)
    certificate = ssl.PEM_cert_to_DER_cert((made / "workstation.pem").read_text())
    assert done.stdout.split()[0] == public_key_pin(certificate)
    assert len(done.stdout.split()[0]) == hashlib.sha256().digest_size * 2


def test_every_option_exists() -> None:
    every = commands.commands().values()
    known = {option for command in every for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"--tls(?:-[a-z]+)*", TEXT))
    assert len(named) >= 10
    assert named <= known


def test_every_message_is_one_that_is_given() -> None:
    source = "".join(
        path.read_text("utf-8")
        for path in (
            Path(dulcet.__file__).parent / "io" / "secure_stream.py",
            *Path(dulcet.__file__).parent.rglob("foreign_protocols.py"),
        )
    )
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", TEXT.partition("## When it does not work")[2], re.MULTILINE)
    for phrase in (phrase for row in rows[1:] for phrase in row.split(", ")):
        if "mismatch" not in phrase and "within" not in phrase:  # OpenSSL's own, and one with a number
            assert phrase in source, phrase
