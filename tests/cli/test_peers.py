"""Peers by name: where the file is, what it may say, what wins, and what is said where it does not do."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.blocking.interruptible import without_coverage
from tests.blocking.providing import Provider, provider
from tests.blocking.scripted import aborts, peer
from tests.cli.running import Outcome, dulcet, environment, going_on
from tests.corpus import CT_IMAGE, make_instance
from tests.tls.authority import Authority

import dulcet as package
from dulcet.archive.configuration import Configuration, PeerTable, render
from dulcet.cli.peers_file import peers_file, read_peers
from dulcet.errors import AddressError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file of peers is."""
    (tmp_path / "config" / "dulcet").mkdir(parents=True)
    return tmp_path / "config" / "dulcet" / "peers.toml"


@pytest.fixture
def made() -> Iterator[Provider]:
    with provider(lambda provider, request: request.respond(0)) as made:
        yield made


def run(file: Path, *arguments: object) -> Outcome:
    """A command of the user whose file this is."""
    return dulcet(*arguments, env={"XDG_CONFIG_HOME": str(file.parents[1]), "DULCET_PEERS": ""})


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---------------------------------------------------------------------------------------------- calling


def test_a_peer_is_called_by_its_name(file: Path, made: Provider) -> None:
    file.write_text(f'[peers.pacs]\naddress = "{made.address}"\n')
    done = run(file, "echo", "pacs")
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith(f"{made.address}: 0000H success in ")
    assert made.associations[0].calling_ae_title == "DULCET"


def test_what_the_file_says_holds_and_the_command_line_wins(file: Path, made: Provider) -> None:
    file.write_text(f'[peers.pacs]\naddress = "{made.address}"\ncalling = "WORKSTATION"\ntimeout = 20\n')
    for arguments in ((), ("--aet", "OTHER"), ("--aet", "DULCET")):
        assert run(file, "echo", "pacs", *arguments).code == 0
    assert [association.calling_ae_title for association in made.associations] == ["WORKSTATION", "OTHER", "DULCET"]


def test_a_timeout_holds(file: Path) -> None:
    with peer(lambda wire: (wire.pdu(), aborts(wire))) as made:
        file.write_text(f'[peers.slow]\naddress = "{made.address}"\ntimeout = 0.3\n')
        start = time.monotonic()
        done = run(file, "echo", "slow")
    assert done.code == 3
    assert "no answer to the association request in time" in done.sentence()
    assert time.monotonic() - start < 15  # without the file it would be 30


@pytest.mark.parametrize("verb", ["echo", "store", "find", "get", "move", "negotiate", "doctor"])
def test_every_command_that_calls_takes_a_name(file: Path, verb: str, tmp_path: Path) -> None:
    make_instance(tmp_path / "one.dcm", 100, 1, CT_IMAGE)
    rest = {
        "store": [tmp_path / "one.dcm"],
        "get": ["-k", "StudyInstanceUID=1.2"],
        "move": ["-k", "StudyInstanceUID=1.2", "--to", "ELSEWHERE"],
    }
    port = free_port()
    file.write_text(f'[peers.pacs]\naddress = "A@127.0.0.1:{port}"\n')
    done = run(file, verb, "pacs", *rest.get(verb, []))
    assert done.code == 3
    assert f"127.0.0.1:{port}" in done.output + done.errors
    assert "nothing listens on that port" in done.output + done.errors


def test_a_proxy_stands_before_a_peer_by_its_name(file: Path, made: Provider) -> None:
    file.write_text(f'[peers.pacs]\naddress = "{made.address}"\n')
    surroundings = {"XDG_CONFIG_HOME": str(file.parents[1])}
    with going_on("trace", "pacs", "--port", "0", env=surroundings) as running:
        where = running.until("listening on").split()[2].rstrip(",")
        assert dulcet("echo", f"PROVIDER@{where}").code == 0
        running.stop()
    done = run(file, "trace", "nothing.pcap")
    assert done.code == 2
    assert done.sentence().startswith("'nothing.pcap' is no file, and no peer: HOST:PORT is expected")


def test_the_destination_of_a_move_is_a_title_or_the_name_of_one(file: Path) -> None:
    asked: list[str | None] = []
    node = package.Node("ARCHIVE")

    @node.on_move
    def move(request):  # type: ignore[no-untyped-def]
        asked.append(request.destination)
        return []

    titles = ("WARD_7", "WARD", "ward2", "ward")
    node.peers.update(dict.fromkeys(titles, package.Address("WARD_7", "127.0.0.1", 1)))
    with node.threads() as serving:
        address = str(serving.address)
        file.write_text(f'[peers.pacs]\naddress = "{address}"\n[peers.ward]\naddress = "WARD_7@127.0.0.1:1"\n')
        for to in ("ward", "WARD", "ward2"):
            run(file, "move", "pacs", "-k", "StudyInstanceUID=1.2", "--to", to)
        file.unlink()
        run(file, "move", address, "-k", "StudyInstanceUID=1.2", "--to", "ward")
    assert asked == list(titles)


def test_tls_by_name(file: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority", "Trial CA")
    theirs = authority.issue("archive", "DNS:archive.example.org")
    ours = authority.issue("workstation", "DNS:workstation.example.org")
    for name, source in (("ca.pem", authority.file), ("our.pem", ours.certificate), ("our.key", ours.key)):
        (file.parent / name).write_bytes(source.read_bytes())
    tls = package.TLSConfig(ca_file=authority.file, certificate=theirs.certificate, key=theirs.key)
    node = package.Node("ARCHIVE")
    with node.threads("127.0.0.1", 0, tls=tls) as serving:
        address = f"ARCHIVE@127.0.0.1:{serving.address.port}"
        shared = '[tls]\nca = "ca.pem"\ncertificate = "our.pem"\nkey = "our.key"\n'
        file.write_text(
            f'{shared}name = "archive.example.org"\n'
            f'[peers.plain]\naddress = "{address}"\n'
            f'[peers.secure]\naddress = "{address}"\ntls = true\n'
            f'[peers.misnamed]\naddress = "{address}"\n'
            'tls = {ca = "ca.pem", certificate = "our.pem", key = "our.key"}\n'
            f'[peers.trusting]\naddress = "{address}"\n[peers.trusting.tls]\ninsecure = true\n'
            f'certificate = "{ours.certificate}"\nkey = "our.key"\n'
        )
        assert run(file, "echo", "secure").code == 0
        assert run(file, "echo", "trusting").code == 0
        assert run(file, "echo", "plain").code == 3
        done = run(file, "echo", "misnamed")
        assert done.code == 3
        assert "mismatch" in done.sentence()
        # What stands on the command line wins, each option for itself.
        assert run(file, "echo", "misnamed", "--tls-name", "archive.example.org").code == 0
        assert "mismatch" in run(file, "echo", "secure", "--tls-name", "other.example.org").sentence()
        # Another certificate brings its own key, or has it in the same file.
        both = tmp_path / "both.pem"
        both.write_bytes(theirs.certificate.read_bytes() + theirs.key.read_bytes())
        assert run(file, "echo", "secure", "--tls-cert", both).code == 0


def test_the_archives_configuration_is_such_a_file(tmp_path: Path, made: Provider) -> None:
    where = made.address.partition("@")[2]
    configuration = Configuration(peers={"PROVIDER": PeerTable(where), "ONLY_CALLS": PeerTable()})
    path = tmp_path / "dulcet.toml"
    path.write_text(render(configuration))
    for name, code in (("PROVIDER", 0), ("ONLY_CALLS", 2)):
        done = dulcet("echo", name, env={"DULCET_PEERS": str(path)})
        assert done.code == code
    assert done.sentence() == f"{path}: peer 'ONLY_CALLS' has no address; write address = \"AET@host:port\""


# ---------------------------------------------------------------------------------------------- which file


def test_one_file_is_read_and_never_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DULCET_PEERS", "")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("dulcet.toml", "peers.toml"):
        (tmp_path / name).write_text('[peers.pacs]\naddress = "EVIL@192.0.2.1:104"\n')
    assert peers_file() == home / ".config" / "dulcet" / "peers.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert peers_file() == home / ".config" / "dulcet" / "peers.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert peers_file() == tmp_path / "xdg" / "dulcet" / "peers.toml"
    monkeypatch.setenv("DULCET_PEERS", "ward.toml")
    assert peers_file() == Path("ward.toml")


def test_an_address_reads_no_file(file: Path) -> None:
    """Nor does it load what would."""
    file.write_text("this is no TOML")
    program = (
        "import sys\nfrom dulcet.cli import main\n"
        "try:\n    main(['echo', 'A@127.0.0.1:1'])\n"
        "except SystemExit as ended:\n    assert ended.code == 3\n"
        "assert not {'tomllib', 'dulcet.cli.peers_file'} & set(sys.modules)\n"
    )
    surroundings = without_coverage(environment({"XDG_CONFIG_HOME": str(file.parents[1])}))  # it reads TOML itself
    subprocess.run([sys.executable, "-c", program], env=surroundings, check=True, timeout=30, capture_output=True)


# ---------------------------------------------------------------------------------------------- what is wrong


def test_an_unknown_name_is_2_and_says_which_there_are(file: Path) -> None:
    file.write_text('[peers.pacs]\naddress = "A@b:1"\n[peers.archive]\naddress = "A@b:2"\n')
    done = run(file, "echo", "Pcas")
    assert (done.code, done.output) == (2, "")
    assert done.sentence() == (
        f"{file} has no peer 'Pcas'; did you mean 'pacs'?  It has archive, pacs; an address reads AET@host:port"
    )
    assert f"{file} has no peer 'zzz'; it has archive, pacs;" in run(file, "find", "zzz").sentence()
    file.write_text("".join(f'[peers.ward{number}]\naddress = "A@b:1"\n' for number in range(20)))
    assert ", ward19, …; an address reads" in run(file, "echo", "x").sentence()
    file.write_text("")
    assert "has no peer 'x', it lists none" in run(file, "echo", "x").sentence()


def test_no_file_is_2(file: Path, tmp_path: Path) -> None:
    done = run(file, "echo", "pacs")
    assert done.code == 2
    assert "'pacs' has no @: an address reads AET@host:port" in done.sentence()
    assert str(file) in done.sentence()
    done = dulcet("echo", "pacs", env={"DULCET_PEERS": str(tmp_path / "none")})
    assert done.code == 2
    assert done.sentence() == f"there is no peer 'pacs': {tmp_path / 'none'}, which $DULCET_PEERS names, does not exist"
    done = dulcet("echo", "pacs", env={"DULCET_PEERS": str(tmp_path)})
    assert done.code == 2
    assert done.sentence().startswith(f"cannot read {tmp_path}, where peers have their names: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[peers.pacs\n", ": Expected"),
        ('[peers.pacs]\nadress = "A@b:1"\n', ", line 2: adress is unknown in [peers.pacs]; there are address, calling"),
        ('[pacs]\naddress = "A@b:1"\n', ", line 1: pacs is unknown; a peer is [peers.pacs]"),
        ('[peers.pacs]\naddress = "A@b"\n', ', line 2: address reads "AET@host:port", or "host:port" where pacs is'),
        ('[peers.pacs]\n\naddress = "A@b:0x10"\n', ", line 3: address reads"),
        ('[peers.pacs]\naddress = "seventeen-letters@b:1"\n', "at most 16"),
        ("[peers.pacs]\naddress = 104\n", ", line 2: address is text in quotes"),
        ('[peers.pacs]\naddress = "A@b:1"\ncalling = "seventeen-letters"\n', ", line 3: AE title"),
        ("[peers.pacs]\ncalling = 7\n", ", line 2: calling is text in quotes"),
        ('[peers.pacs]\ntimeout = "long"\n', ", line 2: timeout is a number of seconds, at least 0.1"),
        ("[peers.pacs]\ntimeout = 0\n", ", line 2: timeout is"),
        ("[peers.pacs]\ntimeout = nan\n", ", line 2: timeout is"),
        ("[peers.pacs]\ntimeout = true\n", ", line 2: timeout is"),
        ('[peers.pacs]\ntls = "yes"\n', ", line 2: tls is true, for what [tls] says, or a table of its own"),
        ('[peers.pacs.tls]\ncert = "x"\n', ", line 2: cert is unknown in [peers.pacs.tls]; there are ca, certificate"),
        ("[peers.pacs]\ntls = {ca = 1}\n", ", line 2: ca is text in quotes"),
        ('[tls]\ninsecure = "no"\n', ", line 2: insecure is true or false"),
        ('[tls]\nprofile = "b14"\n', ", line 2: profile: 'b14' is not allowed; allowed are b12, b13"),
        ("peers = 7\n", ", line 1: peers is a table: [peers.NAME]"),
        ("peers.pacs = 7\n", ", line 1: peers.pacs is a table: [peers.pacs]"),
        ("tls = true\n", ", line 1: tls is a table: [tls]"),
        ('[peers."pacs:104"]\n', ", line 1: 'pacs:104' is no name for a peer: it has @ or : in it"),
        ('[peers."-x"]\n', ", line 1: '-x' is no name for a peer"),
    ],
)
def test_what_does_not_do_is_named_with_its_line(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(AddressError) as raised:
        read_peers(file)
    assert str(raised.value).startswith(str(file))
    assert words in str(raised.value)


def test_a_bad_file_is_2_without_a_traceback(file: Path) -> None:
    for content in (b"[peers.pacs", b"\xff\xfe", b'[peers.pacs]\naddress = "nowhere"\n'):
        file.write_bytes(content)
        for arguments in (("echo", "pacs"), ("peers",)):
            done = run(file, *arguments)
            assert (done.code, done.output) == (2, "")
            assert str(file) in done.sentence()


# ---------------------------------------------------------------------------------------------- listing, completion


def test_peers_are_listed(file: Path) -> None:
    file.write_text(
        '[peers.pacs]\naddress = "PACS@10.0.0.5:104"\ncalling = "WS"\n'
        '[peers.ARCHIVE]\naddress = "localhost:2762"\ntls = true\n[peers.CT1]\noperations = ["C-STORE"]\n'
    )
    done = run(file, "peers")
    assert (done.code, done.errors) == (0, "")
    assert done.output.splitlines() == [
        "pacs     PACS@10.0.0.5:104       as WS",
        "ARCHIVE  ARCHIVE@localhost:2762  with TLS",
        f"2 in {file}",
    ]
    assert run(file, "peers", "--json").lines() == [
        {"name": "pacs", "address": "PACS@10.0.0.5:104", "calling": "WS", "tls": False, "file": str(file)},
        {"name": "ARCHIVE", "address": "ARCHIVE@localhost:2762", "calling": None, "tls": True, "file": str(file)},
    ]
    file.unlink()
    done = run(file, "peers")
    assert (done.code, done.output) == (0, "")
    assert done.sentence() == f"no peer has a name: {file} does not exist"


def completed(file: Path, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_DULCET_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = dulcet(env={**asked, "XDG_CONFIG_HOME": str(file.parents[1]), "DULCET_PEERS": ""})
    assert (done.code, done.errors) == (0, "")
    return [found.partition(",")[2] for found in done.output.split()]


def test_a_shell_completes_names(file: Path) -> None:
    file.write_text('[peers.pacs]\naddress = "A@b:1"\n[peers.archive]\naddress = "A@b:2"\n[peers.CT1]\n')
    assert completed(file, "dulcet echo pa") == ["pacs"]
    assert completed(file, "dulcet store ") == ["pacs", "archive"]
    assert completed(file, "dulcet pee") == ["peers"]
    file.write_text("no TOML")
    assert completed(file, "dulcet echo pa") == []
