"""An association on which nothing is said costs no thread, and ends as any other does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.blocking.providing import PATIENCE, eventually
from tests.blocking.scripted import Wire

import dulcet
from dulcet import uids
from dulcet.blocking import accepting
from dulcet.blocking.receiver import Receiver
from dulcet.blocking.requests import IncomingRequest
from dulcet.config import Timers
from dulcet.services.proposals import proposals
from dulcet.upper_layer.negotiation import associate_request
from dulcet.upper_layer.pdu import PDV, Abort, AssociateAC, PDataTF, ReleaseRP, ReleaseRQ, encode

ADDRESS = "RECEIVER@127.0.0.1:0"
ECHO = proposals([uids.VERIFICATION])
REQUEST = encode(
    associate_request(
        ECHO,
        called="RECEIVER",
        calling="QUIET",
        maximum_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version_name="",
    )
)
ECHO_RQ = encode(
    PDataTF(
        (
            PDV(
                1, True, True,
                dulcet.Command.make(
                    dulcet.CommandField.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=uids.VERIFICATION
                ).encode(),
            ),
        )
    )
)  # fmt: skip


@contextlib.contextmanager
def receiving(config: dulcet.AssociationConfig | None = None, **limits: Any) -> Iterator[tuple[Receiver, list[str]]]:
    """A receiver, and the names of the threads that answered."""
    threads: list[str] = []

    def answer(request: IncomingRequest) -> None:
        threads.append(threading.current_thread().name)
        request.respond(0)

    with Receiver(ADDRESS, answer, config=config, **limits) as receiver:
        yield receiver, threads


@contextlib.contextmanager
def associated(receiver: Receiver, more: bytes = b"") -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", receiver.address.port), timeout=PATIENCE) as sock:
        wire = Wire(sock)
        wire.send(REQUEST + more)
        assert isinstance(wire.pdu(), AssociateAC)
        yield wire


def test_many_that_say_nothing_are_no_threads_and_one_that_speaks_is_served() -> None:
    with receiving() as (receiver, threads), contextlib.ExitStack() as stack:
        before = threading.active_count()
        wires = [stack.enter_context(associated(receiver)) for _ in range(50)]
        assert threading.active_count() == before
        assert receiver.listener.count == 50
        silent = receiver.listener._acceptor._silent
        eventually(lambda: len(silent) == 50)
        eventually(lambda: all(guest.core.connection._framer._buffer is None for guest in silent.values()))
        wires[20].send(ECHO_RQ)
        assert isinstance(wires[20].pdu(), PDataTF)
        assert len(threads) == 1
        assert threads[0].startswith("dulcet-serve")
        for wire in wires:
            wire.send(ReleaseRQ())
            assert isinstance(wire.pdu(), ReleaseRP)
        for wire in wires:
            wire.sock.close()
        eventually(lambda: receiver.listener.count == 0)


def test_a_release_without_a_request_is_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dulcet.receiver")
    with receiving() as (receiver, threads), associated(receiver) as wire:
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)
        wire.sock.close()
        eventually(lambda: receiver.listener.count == 0)
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == [
        "'QUIET': released after 0 requests, 0.0 s"
    ]
    assert threads == []


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_comes_in_pieces_or_at_once_is_the_same(size: int) -> None:
    said = REQUEST + ECHO_RQ + ECHO_RQ + encode(ReleaseRQ())
    with receiving() as (receiver, threads):
        with socket.create_connection(("127.0.0.1", receiver.address.port), timeout=PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(sock)
            for start in range(0, len(said), size):
                wire.send(said[start : start + size])
            kinds = [type(wire.pdu()).__name__ for _ in range(4)]
        assert kinds == ["AssociateAC", "PDataTF", "PDataTF", "ReleaseRP"]
        assert len(threads) == 2


def _close(wire: Wire) -> None:
    wire.sock.close()


def _abort(wire: Wire) -> None:
    wire.send(Abort(0, 0))


def _nonsense(wire: Wire) -> None:
    wire.send(b"\x99" * 20)
    assert isinstance(said := wire.pdu(), Abort)
    assert (said.source, said.reason) == (2, 1)
    wire.sock.close()


def _another_request(wire: Wire) -> None:
    wire.send(REQUEST)
    assert isinstance(said := wire.pdu(), Abort)
    assert (said.source, said.reason) == (2, 2)
    wire.sock.close()


@pytest.mark.parametrize(
    ("end", "word", "reason"),
    [
        (_close, "closed", "closed the connection in the middle of the association"),
        (_abort, "aborted", "aborted"),
        (_nonsense, "aborted", "PDU type 99H does not exist"),
        (_another_request, "aborted", "AssociateRQ while established"),
    ],
)
def test_any_other_end_is_told_with_its_reason(
    end: Callable[[Wire], None], word: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dulcet.receiver")
    with receiving() as (receiver, _), associated(receiver) as wire:
        end(wire)
        eventually(lambda: receiver.listener.count == 0)
    warning, line = (record.getMessage() for record in caplog.records)
    assert reason in warning
    assert f"'QUIET': {word} after 0 requests" in line


def test_silence_ends_after_the_idle_time_and_the_peer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    config = dulcet.AssociationConfig(timers=Timers(idle=0.2, artim=0.2))
    caplog.set_level("INFO", "dulcet.receiver")
    start = time.monotonic()
    with receiving(config) as (receiver, _), associated(receiver) as wire:
        assert isinstance(wire.pdu(), Abort)
        assert wire.pdu() is None
        assert 0.2 <= time.monotonic() - start < PATIENCE / 2
        eventually(lambda: receiver.listener.count == 0)
    assert "nothing came for so long" in caplog.text
    assert "timeout after 0 requests" in caplog.text


def test_who_stays_when_it_is_stopped_has_its_time_and_is_aborted_then() -> None:
    receiver = Receiver(ADDRESS, lambda request: request.respond(0))
    with associated(receiver) as speaks, associated(receiver) as stays:
        stopped: list[bool] = []
        thread = threading.Thread(target=lambda: stopped.append(receiver.stop(0.5)))
        thread.start()
        eventually(lambda: not receiver.listener._acceptor._thread.is_alive())
        speaks.send(ECHO_RQ)
        assert isinstance(speaks.pdu(), PDataTF)
        speaks.send(ReleaseRQ())
        assert isinstance(speaks.pdu(), ReleaseRP)
        assert isinstance(stays.pdu(), Abort)
        stays.sock.close()
        speaks.sock.close()
        thread.join(PATIENCE)
        assert stopped == [False]


def test_an_interrupt_aborts_those_that_are_silent_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dulcet.receiver")
    with receiving() as (receiver, threads), associated(receiver) as wire:
        receiver.interrupt()
        assert isinstance(wire.pdu(), Abort)
        wire.sock.close()
        eventually(lambda: receiver.listener.count == 0)
        with associated(receiver) as after:
            after.send(ECHO_RQ)
            assert isinstance(after.pdu(), PDataTF)
            after.send(ReleaseRQ())
            assert isinstance(after.pdu(), ReleaseRP)
        assert len(threads) == 1
    assert "aborted by this side" in caplog.text
    assert "aborted after 0 requests" in caplog.text


def test_silent_ones_do_not_push_out_one_another_or_those_who_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "GREETED_AT_ONCE", 3)
    with receiving() as (receiver, _), contextlib.ExitStack() as stack:
        wires = [stack.enter_context(associated(receiver)) for _ in range(10)]
        for wire in wires:
            wire.send(ECHO_RQ)
            assert isinstance(wire.pdu(), PDataTF)


def test_silent_ones_count_for_the_limit() -> None:
    with receiving(maximum_associations=1) as (receiver, _), associated(receiver) as wire:
        with pytest.raises(dulcet.AssociationRefused):
            dulcet.associate(str(receiver.address), contexts=ECHO)
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)
        wire.sock.close()
        eventually(lambda: receiver.listener.count == 0)
        dulcet.associate(str(receiver.address), contexts=ECHO).release()


def test_observers_are_told_as_it_happens_in_the_thread_that_serves() -> None:
    told: list[tuple[str, str]] = []

    def observe(trace_event: object, association: object) -> None:
        told.append((type(trace_event).__name__, threading.current_thread().name.rsplit("-", 1)[0]))

    config = dulcet.AssociationConfig(observers=(observe,))
    with receiving(config) as (receiver, _), associated(receiver) as wire:
        eventually(lambda: ("AssociationAccepted", "dulcet-serve") in told)
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)
        wire.sock.close()
        eventually(lambda: ("ConnectionClosed", "dulcet-serve") in told)
