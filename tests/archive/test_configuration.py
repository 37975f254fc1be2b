"""The configuration: typed, written with comments, and an error names the line and what is allowed."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from dulcet.archive.configuration import Configuration, ConfigurationError, PeerTable, load, open_archive, parse, render
from dulcet.archive.events import Hook

FULL = """
[server]
ae_title = "PACS"
port = 104
drain = 5

[storage]
durability = "none"

[query]
strict = true

[limits]
maximum_length = 0

[events]
hook = ["/usr/bin/tell", "--json"]
kinds = ["study stable"]

[peers.WORKSTATION]
address = "192.0.2.1:104"
operations = ["find", "move"]

[peers."CT 1"]
"""


def test_what_is_written_reads_as_the_same() -> None:
    full = parse(FULL)
    assert full.server.drain == 5.0
    assert full.query.strict
    assert full.peers["CT 1"] == PeerTable()
    assert parse(render(full)) == full
    assert parse(render(Configuration())) == Configuration()
    full.server.data = 'C:\\data\\"x"\n\u00e9'
    assert parse(render(full)) == full


def test_every_line_that_is_written_has_a_comment() -> None:
    lines = [line for line in render(parse(FULL)).splitlines() if line]
    for above, line in pairwise(lines):
        assert line.startswith("#") or above.startswith("#"), line
    tomllib.loads(render(Configuration()))
    assert "# [peers.WORKSTATION]" in render(Configuration())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", ["line 2", "prot is unknown in [server]", "port"]),
        ("\n[sever]\n", ["line 2", "[sever] is unknown", "[server]"]),
        ("server = 1", ["line 1", "[server]"]),
        ("[server]\nport = '104'", ["line 2", "port is a whole number"]),
        ("[server]\nport = true", ["line 2", "port is a whole number"]),
        ("[server]\nport = 70000", ["line 2", "0 to 65535"]),
        ("[server]\nport = -1", ["line 2", "at least 0"]),
        ("[server]\nallow_any = 1", ["line 2", "true or false"]),
        ("[server]\ndrain = 'x'", ["line 2", "a number"]),
        ("[server]\nae_title = 1", ["line 2", "text in quotes"]),
        ("[server]\nae_title = 'LONGER THAN SIXTEEN'", ["line 2", "16"]),
        ("[limits]\nmaximum_length = 7", ["line 2", "at least 8"]),
        ("[storage]\n\ndurability = 'fast'", ["line 3", "'fast' is not allowed", "fsync, none"]),
        ("[events]\nkinds = ['x']", ["line 2", "instance stored, series stable, study stable"]),
        ("[events]\nhook = 'rm -rf /'", ["line 2", "a list of texts"]),
        ("[events]\nhook = [1]", ["line 2", "a list of texts"]),
        ("[peers.A]\naddress = 'nowhere'", ["line 2", "host:port"]),
        ("[peers.A]\naddress = 'B@127.0.0.1:104'", ["line 2", "host:port", "the name of the table, A"]),
        ("[peers.A]\noperations = ['delete']", ["line 2", "store, find, get, move, commit"]),
        ("[peers]\nA = 'x:1'", ["line 2", "[peers.A]"]),
        ("[peers.'A\\B']", ["line 1"]),
        ("peers.A.address = 'nowhere'", ["line 1", "host:port"]),
        ("[server\n", ["line 1"]),
    ],
)
def test_an_error_names_the_line_and_what_is_allowed(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "dulcet.toml")
    for word in ["dulcet.toml", *words]:
        assert word in str(caught.value)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "dulcet.toml").write_bytes(b"[server]\n# \xff")
    with pytest.raises(ConfigurationError, match="at byte 11"):
        load(tmp_path / "dulcet.toml")


def test_an_archive_is_opened_as_configured(tmp_path: Path) -> None:
    tell = tmp_path / "tell"
    tell.touch(0o755)
    configuration = parse(FULL.replace("/usr/bin/tell", str(tell)))
    configuration.server.data = str(tmp_path)
    assert configuration.association_config().maximum_length == 0
    with open_archive(configuration) as archive:
        assert not archive.objects.durable
        assert archive.strict_queries
        assert str(archive.peers["WORKSTATION"].address) == "WORKSTATION@192.0.2.1:104"
        assert archive.is_allowed("WORKSTATION", "move")
        assert not archive.is_allowed("WORKSTATION", "store")
        assert not archive.is_allowed("ELSE", "find")
        assert archive.index.watch.kinds == {"study stable"}
        (hook,) = archive.events._handlers
        assert isinstance(hook, Hook)
        assert hook.arguments == [str(tell), "--json"]
