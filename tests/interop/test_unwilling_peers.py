"""Peers that refuse, abort, dawdle or speak something else: a clear end in bounded time, and nothing half done."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.corpus import make_folder, read_instance
from tests.interop import peers
from tests.interop.comparing import arrived, differences

import dulcet
from dulcet.config import AssociationConfig, Timers


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "sent", 3, 50_000)


@pytest.fixture
def got(tmp_path: Path) -> Path:
    folder = tmp_path / "got"
    folder.mkdir()
    return folder


def all_words(finished: peers.Finished) -> str:
    assert "Traceback" not in finished.errors
    return (finished.output + finished.errors).lower()


def test_refused(files: list[Path], got: Path) -> None:
    with peers.storescp(got, "--refuse") as server:
        finished = peers.dulcet("store", server.address, *files, timeout=20)
        assert finished.returncode == 3
        assert "reject" in all_words(finished) or "refus" in all_words(finished)
        with pytest.raises(dulcet.AssociationRefused) as refusal, dulcet.associate(server.address):
            pass
        assert (refusal.value.result, refusal.value.source, refusal.value.reason) == (1, 1, 1)


@pytest.mark.parametrize("moment", ["--abort-during", "--abort-after"])
def test_aborted(moment: str, files: list[Path], got: Path) -> None:
    with peers.storescp(got, moment) as server:
        finished = peers.dulcet("store", "--json", server.address, *files, timeout=30)
        assert finished.returncode in (1, 3)
        assert "abort" in all_words(finished)
        with dulcet.associate(server.address) as association, pytest.raises(dulcet.AssociationAborted):
            association.store(files[0])


@pytest.mark.parametrize("moment", ["--sleep-during", "--sleep-after"])
def test_slow_but_willing(moment: str, files: list[Path], got: Path) -> None:
    with peers.storescp(got, moment, "1", "-pdu", "131072") as server:
        finished = peers.dulcet("store", server.address, files[0], timeout=30).check()
        assert finished.seconds > 1
    assert differences([read_instance(files[0])], arrived(got)) == []


def test_too_slow_for_our_patience(files: list[Path], got: Path) -> None:
    impatient = AssociationConfig(timers=Timers(response=0.3))
    with peers.pynetdicom_scp(got, "--delay", "10") as server:
        began = time.monotonic()
        with pytest.raises(dulcet.DimseTimeout), dulcet.associate(server.address, config=impatient) as association:
            association.store(files[0])
        assert time.monotonic() - began < 8  # not the peer's ten seconds


def test_a_failure_status_is_an_answer_and_the_next_file_is_sent(files: list[Path], got: Path) -> None:
    with peers.pynetdicom_scp(got, "--status", "A700") as server:
        finished = peers.dulcet("store", "--json", server.address, *files)
        assert finished.returncode == 1
        assert all(path.name in finished.output for path in files)
        assert "a700" in all_words(finished)
        with dulcet.associate(server.address) as association:
            assert association.store(files[0]).status == 0xA700
            assert association.echo().status == 0
    assert len(arrived(got)) == 3


def test_a_warning_status_counts_as_sent(files: list[Path], got: Path) -> None:
    with peers.pynetdicom_scp(got, "--status", "B000") as server:
        peers.dulcet("store", server.address, *files).check()


@contextmanager
def web_server() -> Iterator[int]:
    """Answers every first word with an HTTP error and hangs up, as web servers do."""
    with socket.create_server((peers.HOST, 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_a_web_server_is_no_dicom_peer(files: list[Path]) -> None:
    with web_server() as port:
        finished = peers.dulcet("store", f"WEB@127.0.0.1:{port}", *files, timeout=25)
        assert finished.returncode == 3
        assert all_words(finished)
        with pytest.raises(dulcet.DulcetError), dulcet.associate(f"WEB@127.0.0.1:{port}"):
            pass
