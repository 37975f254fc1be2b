"""One authority with what it issued, for all tests of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tls.authority import Authority, Credentials

from dulcet.io.tls import TLSConfig


@dataclass(frozen=True)
class Party:
    """An authority, a server and a client that it vouches for, and somebody whom it does not know."""

    authority: Authority
    stranger: Authority
    ours: Credentials
    theirs: Credentials
    unknown: Credentials

    @property
    def server(self) -> TLSConfig:
        return TLSConfig(ca_file=self.authority.file, **self.ours.files)

    @property
    def client(self) -> TLSConfig:
        return TLSConfig(ca_file=self.authority.file, **self.theirs.files)


@pytest.fixture(scope="session")
def party(tmp_path_factory: pytest.TempPathFactory) -> Party:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(folder), Authority(folder, "Stranger")
    return Party(
        authority, stranger, authority.issue(), authority.issue("ct1", "DNS:ct1.example.org"), stranger.issue()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where certificates are put that change."""
    return tmp_path
