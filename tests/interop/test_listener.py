"""`dulcet listen` under senders that abort, die or talk nonsense, and told to stop while it works."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from tests.corpus import make_folder, make_instance, read_instance
from tests.interop import peers
from tests.interop.comparing import arrived, differences

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "a data PDU first": bytes.fromhex("0400000000080000000401030000"),
    "a PDU of 4 GB": bytes.fromhex("0100ffffffff") + bytes(100),
    "nothing": b"",
    "half an A-ASSOCIATE-RQ": bytes.fromhex("0100000000cd00010000") + b"ANY-SCP".ljust(16),
}


@pytest.fixture
def got(tmp_path: Path) -> Path:
    return tmp_path / "got"


def still_serves(server: peers.Server) -> bool:
    return peers.echoscu(server.port, aet=server.aet, timeout=10).returncode == 0


def everything_below(folder: Path) -> list[Path]:
    """All files, partial ones too, but not the lock by which a listener shows that its partial files are alive."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


@pytest.mark.parametrize("words", GARBAGE.values(), ids=GARBAGE.keys())
def test_nonsense_is_turned_away_and_service_goes_on(words: bytes, got: Path) -> None:
    with peers.dulcet_listen(got) as server:
        with socket.create_connection((server.host, server.port), timeout=5) as client:
            client.sendall(words)
            assert still_serves(server)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        assert still_serves(server)
        assert server.stop().returncode == 0
        assert "Traceback" not in server.output()
    assert list(got.iterdir()) == []


def test_an_abort_keeps_what_was_acknowledged(tmp_path: Path, got: Path) -> None:
    files = make_folder(tmp_path / "sent", 3, 50_000)
    with peers.dulcet_listen(got) as server:
        peers.storescu(server.port, files, "--abort", aet=server.aet)
        assert still_serves(server)
    assert differences(map(read_instance, files), arrived(got)) == []


def test_a_sender_killed_in_mid_object_leaves_nothing(tmp_path: Path, got: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 400 << 20)
    with peers.dulcet_listen(got, "--durability", "none") as server:
        command = [peers.tool("storescu"), "--max-send-pdu", "4096", "-aec", server.aet, server.host, str(server.port)]
        with peers.process([*command, str(large)]) as sender:
            peers.wait_until(lambda: any(map(os.path.getsize, everything_below(got))), 20, "the file is begun")
            os.kill(sender.pid, signal.SIGKILL)
            assert sender.wait(5).returncode == -signal.SIGKILL
        peers.wait_until(lambda: not everything_below(got), 10, "the partial file is removed")
        assert still_serves(server)


def test_sigterm_drains_what_is_under_way(tmp_path: Path, got: Path) -> None:
    files = make_folder(tmp_path / "sent", 400, 20_000)
    with peers.dulcet_listen(got, "--durability", "none") as server:
        command = [
            peers.tool("storescu"),
            "-aec",
            server.aet,
            "+sd",
            server.host,
            str(server.port),
            str(files[0].parent),
        ]
        with peers.process(command) as sender:
            peers.wait_until(lambda: bool(everything_below(got)), 20, "the first file has come")
            stopped = server.stop(timeout=30)
            sent = sender.wait(30)
    assert stopped.returncode == 0, stopped.errors
    received = arrived(got)  # raises where anything but whole files is left
    whole = [instance for instance in map(read_instance, files) if instance.sop_instance_uid in received]
    assert differences(whole, received) == []
    if sent.returncode == 0:
        assert len(received) == len(files)


def test_partial_files_of_an_earlier_life_are_swept_at_start(tmp_path: Path, got: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 400 << 20)
    with peers.dulcet_listen(got, "--durability", "none") as server:
        command = [peers.tool("storescu"), "--max-send-pdu", "4096", "-aec", server.aet, server.host, str(server.port)]
        with peers.process([*command, str(large)]):
            peers.wait_until(lambda: any(map(os.path.getsize, everything_below(got))), 20, "the file is begun")
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(5)
    assert len(everything_below(got)) == 1
    with peers.dulcet_listen(got):
        assert everything_below(got) == []


def test_a_folder_that_cannot_be_written_is_said_at_start(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.touch()
    finished = peers.dulcet("listen", "--port", "0", "--dir", blocked / "incoming", timeout=20)
    assert finished.returncode == 2
    assert str(blocked) in finished.output + finished.errors
    assert "Traceback" not in finished.errors


def test_private_classes_need_promiscuous(tmp_path: Path, got: Path) -> None:
    private = make_instance(tmp_path / "private.dcm", 2048, sop_class_uid="1.3.12.2.1107.5.9.1")
    with peers.dulcet_listen(got) as server:
        assert peers.pynetdicom_scu(server.port, [private], aet=server.aet).returncode != 0
    assert everything_below(got) == []
    with peers.dulcet_listen(got, "--promiscuous") as server:
        peers.pynetdicom_scu(server.port, [private], aet=server.aet).check()
        peers.dulcet("store", server.address, private).check()
    assert differences([read_instance(private)], arrived(got)) == []
