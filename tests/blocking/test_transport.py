"""The connection of a thread that waits: what is sent is counted, what is awaited has an end, on poorer systems too."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.blocking.providing import PATIENCE, Provider, descriptors, eventually, provider
from tests.blocking.scripted import Message, Wire, aborts, peer
from tests.corpus import CT_IMAGE, make_folder, make_instance, read_instance

import dulcet
from dulcet import uids
from dulcet.blocking import channel, transport
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.transport import Transport
from dulcet.config import Timers
from dulcet.dimse.command import encode_response
from dulcet.services.proposals import proposals
from dulcet.upper_layer.pdu import PDataTF

CONTEXTS = proposals([CT_IMAGE, uids.VERIFICATION])


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    """A transport and the bare other end."""
    before = descriptors()
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    made = Transport(near)
    yield made, far
    made.close()
    made.close()
    far.close()
    assert descriptors() <= before


@pytest.fixture(params=["poll", "select"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of waiting."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    return str(request.param)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_the_second_thread_of_two_that_wait_is_told(pair: tuple[Transport, socket.socket]) -> None:
    made, far = pair
    told: list[str] = []

    def wait() -> None:
        try:
            made.wait(read=True, deadline=time.monotonic() + PATIENCE)
        except RuntimeError as error:
            told.append(str(error))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: bool(told))
    far.send(b"x")
    for thread in threads:
        thread.join(PATIENCE)
    assert told == ["an association is for one thread at a time, and another waits on this one: give each its own"]


@pytest.mark.usefixtures("waiting")
def test_everything_leaves_in_order_however_little_the_kernel_takes(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    sent = bytes(range(256)) * 8192
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_exactly(far, len(sent) + 4)))
    reader.start()
    complete = near.write([sent[: 1 << 20], memoryview(sent)[1 << 20 :]])
    while not complete:
        assert near.has_unsent
        assert near.wait(read=False, deadline=time.monotonic() + PATIENCE)[1]
        complete = near.flush()
    assert near.write([b"last"])
    assert not near.has_unsent
    reader.join(PATIENCE)
    assert got == [sent + b"last"]


@pytest.mark.usefixtures("waiting")
def test_waiting_ends_at_its_deadline_with_bytes_or_with_a_bell(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    near.wake()  # nobody shares it: nothing happens
    start = time.monotonic()
    assert near.wait(read=True, deadline=start + 0.05) == (False, False, False)
    assert time.monotonic() - start >= 0.049
    far.send(b"x")
    assert near.wait(read=True, deadline=None) == (True, False, False)
    assert near.wait(read=False, deadline=time.monotonic()) == (False, False, False)
    near.share()
    near.share()
    near.wake()
    assert near.wait(read=False, deadline=None) == (False, False, True)
    assert near.wait(read=False, deadline=time.monotonic()) == (False, False, False)
    near.wake()
    assert near.wait(read=True, deadline=None) == (True, False, True)


@pytest.mark.usefixtures("waiting")
def test_acknowledgements_are_hurried_where_a_peer_sends_in_pieces_and_only_there(
    pair: tuple[Transport, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    hurried: list[object] = []
    monkeypatch.setattr(transport, "quick_ack", hurried.append)
    buffer = memoryview(bytearray(100))

    def hear(data: bytes) -> None:
        far.sendall(data)
        assert near.wait(read=True, deadline=time.monotonic() + PATIENCE) == (True, False, False)
        assert near.read_into(buffer) == len(data)

    for _ in range(5):  # in turn: each answer carries the acknowledgement
        hear(b"whole")
        assert near.write([b"answer"])
    assert not hurried
    hear(b"a piece")
    assert not hurried
    hear(b"and the rest")
    assert len(hurried) == 1
    for _ in range(transport.PIECES):  # so does the next message, it seems
        assert near.write([b"answer"])
        hear(b"whole")
    assert len(hurried) == 1 + transport.PIECES
    assert near.write([b"answer"])
    hear(b"whole")
    assert len(hurried) == 1 + transport.PIECES


def test_a_connection_that_broke_takes_everything_and_sends_nothing(pair: tuple[Transport, socket.socket]) -> None:
    near, far = pair
    far.send(b"last words")
    far.shutdown(socket.SHUT_RD)
    assert near.write([b"hello"])
    assert near.broken
    assert near.write([b"more", b"and more"])
    assert not near.has_unsent
    buffer = bytearray(100)
    assert near.wait(read=True, deadline=None)[0]
    assert near.read_into(memoryview(buffer)) == 10
    far.close()
    assert near.read_into(memoryview(buffer)) == 0


def test_nothing_to_read_is_no_end(pair: tuple[Transport, socket.socket]) -> None:
    near, _ = pair
    assert near.read_into(memoryview(bytearray(10))) is None


def test_a_reset_is_an_end() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = Transport(socket.create_connection(listening.getsockname()))
        far, _ = listening.accept()
        assert near.peer() == f"127.0.0.1:{listening.getsockname()[1]}"
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, transport.LINGER)
        far.close()
        assert near.wait(read=True, deadline=None)[0]
        assert near.read_into(memoryview(bytearray(10))) == 0
        assert near.is_open
        near.close()
        near.interrupt()
        assert not near.is_open
        assert near.peer() == "unknown"


def test_closing_in_the_middle_of_a_pdu_is_a_reset_not_an_orderly_end() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = Transport(socket.create_connection(listening.getsockname()))
        far, _ = listening.accept()
        with far:
            far.settimeout(PATIENCE)
            assert not near.write([bytes(32 << 20)])
            near.close()
            with pytest.raises(ConnectionResetError):
                read_exactly(far, 32 << 20)


@pytest.mark.usefixtures("waiting")
def test_associations_work_with_what_there_is(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 8, 70_000, CT_IMAGE)
    held: list[IncomingRequest] = []

    def gather(made: Provider, request: IncomingRequest) -> None:
        if request.field == dulcet.CommandField.C_ECHO_RQ:
            request.respond(0)
            return
        held.append(request.defer())
        if len(held) == 8:
            for one in held:
                threading.Thread(target=made.keep, args=(one,)).start()

    config = dulcet.AssociationConfig(window_invoked=8)
    with (
        provider(gather) as made,
        dulcet.associate(made.address, contexts=CONTEXTS, config=config) as association,
    ):
        assert association.echo().status == 0
        assert all(sent.ok for sent in association.store_many(files))
    assert set(made.stored) == {read_instance(file).sop_instance_uid for file in files}


def test_a_peer_that_answers_and_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said that it refuses, and stopped reading: the rest of the message cannot leave."""
    monkeypatch.setattr(channel, "LAST_WORD", 0.2)
    large = make_instance(tmp_path / "large.dcm", 32 << 20, sop_class_uid=CT_IMAGE)
    over = threading.Event()

    def hasty(wire: Wire) -> None:
        wire.accept()
        pdu = wire.pdu()
        assert isinstance(pdu, PDataTF)
        wire.answer(Message(pdu.values[0].context_id, dulcet.Command.decode(pdu.values[0].data), b""), 0xA700)
        over.wait(PATIENCE)

    config = dulcet.AssociationConfig(timers=Timers(response=0.3))
    with peer(hasty) as made:
        association = dulcet.associate(made.address, contexts=CONTEXTS, config=config)
        with pytest.raises(dulcet.DimseTimeout, match=r"does not take the rest|no response in time"):
            association.store(large)
        assert association.ending == "timeout"
        over.set()


def test_stray_answers_before_many_are_sent_are_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_folder(tmp_path / "files", 2, 1000, CT_IMAGE)

    def stray(wire: Wire) -> None:
        wire.accept()
        echo = wire.message()
        assert isinstance(echo, Message)
        wire.answer(echo)
        wire.send_command(echo.context_id, encode_response(0x0030, 4711, uids.VERIFICATION, None, 0))
        wire.serve()

    with peer(stray) as made, dulcet.associate(made.address, contexts=CONTEXTS) as association:
        assert association.echo().status == 0
        deadline = time.monotonic() + PATIENCE
        while "answers no request of ours" not in caplog.text and time.monotonic() < deadline:
            association._catch_up()
        assert all(sent.ok for sent in association.store_many(files))
    assert "answers no request of ours" in caplog.text


def test_an_interrupt_between_two_waits_ends_a_long_send(tmp_path: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 32 << 20, sop_class_uid=CT_IMAGE)

    def hasty(wire: Wire) -> None:
        wire.accept()
        pdu = wire.pdu()
        assert isinstance(pdu, PDataTF)
        wire.answer(Message(pdu.values[0].context_id, dulcet.Command.decode(pdu.values[0].data), b""), 0xA700)
        association.interrupt()
        aborts(wire)

    with peer(hasty) as made:
        association = dulcet.associate(made.address, contexts=CONTEXTS)
        with pytest.raises(dulcet.AssociationAborted):
            association.store(large)
