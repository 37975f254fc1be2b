"""Workers that share a port speak TLS as one process does; what cannot be used is said once, before any starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.corpus import make_folder
from tests.interop import peers
from tests.tls.conftest import Party
from tests.tls.test_commands import arguments

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes inherit sockets on POSIX systems")


def test_every_worker_speaks_tls(party: Party, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 12, 10_000)
    options = [*map(str, arguments(party, "ours")), "--workers", "2"]
    with peers.dulcet_listen(tmp_path / "incoming", *options) as server:
        peers.dulcet("store", server.address, *files, *arguments(party), "--jobs", "4").check()
        refused = peers.dulcet("echo", server.address)
        assert refused.returncode == 3
    assert len(list((tmp_path / "incoming").glob("*.dcm"))) == 12


@pytest.mark.parametrize("verb", ["listen", "serve"])
def test_a_certificate_that_cannot_be_used_is_said_once(verb: str, party: Party, tmp_path: Path) -> None:
    del party
    (tmp_path / "odd.pem").write_text("no certificate")
    where = ["--dir" if verb == "listen" else "--data", tmp_path / "data"]
    given = ["--tls-cert", tmp_path / "odd.pem", "--port", "0", "--workers", "2", *where]
    ended = peers.dulcet(verb, *given)
    assert ended.returncode == 2
    assert ended.output == ""
    assert len([line for line in ended.errors.splitlines() if line.startswith("dulcet: ")]) == 1
    assert "odd.pem" in ended.errors
