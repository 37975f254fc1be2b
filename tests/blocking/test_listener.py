"""A listener among peers of every kind: whoever means well is served at once, whoever does not is answered and gone."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.blocking.providing import PATIENCE, descriptors, eventually, provider
from tests.blocking.scripted import Wire
from tests.corpus import CT_IMAGE, EXPLICIT

import dulcet
from dulcet import uids
from dulcet.blocking import accepting, channel
from dulcet.blocking.transport import Transport
from dulcet.config import Timers
from dulcet.services.proposals import proposals
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import ProposedContext
from dulcet.upper_layer.negotiation import associate_request
from dulcet.upper_layer.pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ, PDataTF, ReleaseRQ, encode

QUICK = dulcet.AssociationConfig(timers=Timers(artim=0.4))
ECHO = proposals([uids.VERIFICATION])


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """No descriptor and no thread is left of what a test did."""
    before, threads = descriptors(), threading.active_count()
    yield
    assert descriptors() <= before
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > threads:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def request(called: str = "PROVIDER", calling: str = "ME") -> AssociateRQ:
    return associate_request(
        ECHO,
        called=called,
        calling=calling,
        maximum_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version_name="TEST",
    )


@contextlib.contextmanager
def pending(address: str) -> Iterator[Wire]:
    """A bare connection to a listener."""
    where = Address.parse(address)
    with socket.create_connection((where.host, where.port), timeout=PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Wire(sock)


def is_served(address: str) -> bool:
    """Somebody else gets an association and an answer, at once."""
    start = time.monotonic()
    with dulcet.associate(address, contexts=ECHO) as association:
        return association.echo().status == 0 and time.monotonic() - start < 1.0


def answering(**options: Any) -> Any:
    return provider(lambda provider, request: request.respond(0), **options)


# ---------------------------------------------------------------------------------------------- hostile holders


def test_silent_and_half_open_connections_keep_nobody_waiting_and_are_gone_after_artim() -> None:
    with answering(config=QUICK) as made, contextlib.ExitStack() as stack:
        start = time.monotonic()
        silent = [stack.enter_context(pending(made.address)) for _ in range(50)]
        half = [stack.enter_context(pending(made.address)) for _ in range(10)]
        for wire in half:
            wire.send(encode(request())[:30])
        assert is_served(made.address)
        assert [wire.pdu() for wire in silent] == [None] * 50  # Table 9-10, event 18 in Sta2: closed without a word
        assert [wire.pdu() for wire in half] == [None] * 10
        assert 0.3 < time.monotonic() - start < 5
        assert is_served(made.address)


def test_a_byte_now_and_then_does_not_extend_the_time(caplog: pytest.LogCaptureFixture) -> None:
    with answering(config=QUICK) as made, pending(made.address) as wire:
        start = time.monotonic()
        wire.sock.settimeout(0.02)
        words = encode(request())
        with contextlib.suppress(ConnectionError):
            for byte in words:
                wire.sock.send(bytes((byte,)))
                with contextlib.suppress(TimeoutError):
                    if not wire.sock.recv(100):
                        break
        assert time.monotonic() - start < 3
        assert is_served(made.address)
    assert "no whole A-ASSOCIATE-RQ within 0.4 s" in caplog.text


def test_one_byte_at_a_time_is_fine_when_it_is_quick() -> None:
    with answering() as made, pending(made.address) as wire:
        for byte in encode(request()):
            wire.send(bytes((byte,)))
        assert isinstance(wire.pdu(), AssociateAC)
        wire.send(ReleaseRQ())
        wire.pdu()


def test_the_request_and_what_follows_may_come_in_one_piece() -> None:
    echo = dulcet.Command.make(
        dulcet.CommandField.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=uids.VERIFICATION
    ).encode()
    from dulcet.upper_layer.pdu import PDV

    with answering() as made, pending(made.address) as wire:
        wire.send(encode(request()) + encode(PDataTF((PDV(1, True, True, echo),))) + encode(ReleaseRQ()))
        kinds = [type(wire.pdu()).__name__ for _ in range(3)]
        assert kinds == ["AssociateAC", "PDataTF", "ReleaseRP"]


GARBAGE = {
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", (2, 1), "speaks HTTP"),
    "tls": (bytes.fromhex("16030100c8010000c40303") + bytes(190), (2, 1), "speaks TLS"),
    "zeros": (bytes(100_000), (2, 1), "PDU type 00H"),
    "random": (random.Random(7).randbytes(100_000), (2, 1), "does not exist"),
    "data first": (bytes.fromhex("0400000000080000000401030000"), (2, 2), "P-DATA-TF while"),
    "release first": (encode(ReleaseRQ()), (2, 2), "ReleaseRQ while"),
    "4 GiB announced": (b"\1\0\xff\xff\xff\xff" + bytes(1000), (2, 6), "4294967295 bytes"),
    "2 MiB announced": (b"\1\0\0\x20\0\0" + bytes(1000), (2, 6), "2097152 bytes"),
    "garbage items": (b"\1\0\0\0\0\x50\0\1\0\0" + bytes(32 + 32) + b"\x10\0\xff\xff" + bytes(8), (2, 6), ""),
    "cut short": (b"\1\0\0\0\0\x04\0\1\0\0", (2, 6), ""),
}


@pytest.mark.parametrize(("words", "answer", "logged"), GARBAGE.values(), ids=GARBAGE.keys())
def test_nonsense_is_answered_with_an_abort_that_says_why(
    words: bytes, answer: tuple[int, int], logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(config=QUICK) as made, pending(made.address) as wire:
        with contextlib.suppress(ConnectionError):  # it may be closed upon in the middle of it
            wire.send(words)
        assert wire.pdu() == Abort(*answer)
        assert is_served(made.address)
        wire.until_closed()
        assert is_served(made.address)
    assert logged in caplog.text


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"called_ae_title": "OTHER"}, (1, 1, 7)),
        ({"called_ae_title": "provider"}, (1, 1, 7)),
        ({"called_ae_title": " "}, (1, 1, 7)),
        ({"application_context": "1.2.3"}, (1, 1, 2)),
        ({"protocol_version": 2}, (1, 2, 2)),
    ],
)
def test_what_is_refused_is_refused_with_the_right_reason(
    changes: dict[str, Any], answer: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    with answering() as made, pending(made.address) as wire:
        wire.send(replace(request(), **changes))
        assert wire.pdu() == AssociateRJ(*answer)
        assert is_served(made.address)


def test_a_thousand_contexts_are_answered_each_id_once_or_aborted_where_it_is_strict() -> None:
    contexts = tuple(ProposedContext(1 + 2 * n % 256, CT_IMAGE, (EXPLICIT,)) for n in range(1000))
    many = replace(request(), presentation_contexts=contexts)
    for strict in (False, True):
        with answering(config=dulcet.AssociationConfig(strict=strict)) as made, pending(made.address) as wire:
            wire.send(many)
            answer = wire.pdu()
            if strict:
                assert answer == Abort(2, 6)
            else:
                assert isinstance(answer, AssociateAC)
                ids = [context.context_id for context in answer.presentation_contexts]
                assert len(ids) == len(set(ids)) == 128
            assert is_served(made.address)


def test_resets_at_every_moment_leave_nothing() -> None:
    words = encode(request())
    with answering(config=QUICK) as made:
        for cut in (0, 1, 6, 30, len(words)):
            with pending(made.address) as wire:
                wire.send(words[:cut])
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert is_served(made.address)
        eventually(lambda: made.listener.count == 0)


def test_more_guests_than_fit_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "GREETED_AT_ONCE", 4)
    with answering() as made, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(pending(made.address)) for _ in range(12)]
        assert [wire.pdu() for wire in wires[:8]] == [None] * 8
        assert is_served(made.address)


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[int], None]]:
    """Let this process open only so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(count: int) -> None:
        used = {int(name) for name in os.listdir("/proc/self/fd")}
        free = [number for number in range(max(used) + 2 + count) if number not in used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[count] if count < len(free) else max(used) + 1, hard))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_the_silent_go_first_and_service_goes_on(
    few_descriptors: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "RESERVE", 0.1)
    with answering(host="localhost") as made, contextlib.ExitStack() as stack:
        assert is_served(made.address)
        made.join()
        for _ in range(3):
            stack.enter_context(pending(made.address))
        few_descriptors(1)  # for our own end of the next one; the listener has to find one for its own
        fourth = stack.enter_context(pending(made.address))
        fourth.send(request())
        assert isinstance(fourth.pdu(), AssociateAC)


def test_when_nothing_can_be_accepted_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "RESERVE", 0.1)
    real = socket.socket.accept
    failures = [2]

    def fails(self: socket.socket) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise OSError(24, "Too many open files")
        return real(self)

    with answering() as made:
        monkeypatch.setattr(socket.socket, "accept", fails)
        with dulcet.associate(made.address, contexts=ECHO) as association:
            assert association.echo().status == 0
    assert caplog.text.count("raise the limit of open files") == 2


def test_trouble_with_one_guest_is_not_the_listeners(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = accepting.Acceptor._hear

    def fails(self: Any, guest: Any, events: int) -> None:
        if fails_for:
            fails_for.pop()
            raise ZeroDivisionError
        real(self, guest, events)

    fails_for = [1]
    monkeypatch.setattr(accepting.Acceptor, "_hear", fails)
    with answering() as made:
        with pytest.raises(dulcet.AssociationClosed):
            dulcet.associate(made.address, contexts=ECHO)
        assert is_served(made.address)
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", ["maximum_associations", "maximum_per_host"])
def test_beyond_the_limit_is_a_transient_refusal(limit: str) -> None:
    with answering(**{limit: 2}) as made:
        assert (made.listener.maximum_associations, made.listener.maximum_per_host) in {(2, 100), (500, 2)}
        one = dulcet.associate(made.address, contexts=ECHO)
        two = dulcet.associate(made.address, contexts=ECHO)
        assert made.listener.count == 2
        with pytest.raises(dulcet.AssociationRefused) as caught:
            dulcet.associate(made.address, contexts=ECHO)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
        one.release()
        eventually(lambda: made.listener.count == 1)
        assert is_served(made.address)
        two.abort()
        eventually(lambda: made.listener.count == 0)


def test_who_may_call_is_a_policy() -> None:
    policy = dulcet.AcceptancePolicy.storage(None, calling=["FRIEND"])
    with answering(policy=policy) as made:
        with dulcet.associate(made.address, calling_ae_title="FRIEND", contexts=ECHO) as association:
            assert association.echo().status == 0
        with pytest.raises(dulcet.AssociationRefused) as caught:
            dulcet.associate(made.address, calling_ae_title="FOE", contexts=ECHO)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)


# ---------------------------------------------------------------------------------------------- its life


def test_accept_waits_as_long_as_it_is_told() -> None:
    with dulcet.listen("A@127.0.0.1:0") as made:
        assert made.accept(timeout=0.05) is None
        with dulcet.associate(str(made.address), contexts=ECHO) as requestor:
            association = made.accept(timeout=PATIENCE)
            assert association is not None
            assert association.peer.startswith("127.0.0.1:")
            thread = threading.Thread(target=lambda: list(association.requests()))
            thread.start()
            requestor.release()
            thread.join(PATIENCE)


def test_closing_aborts_what_nobody_took_and_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LAST_WORD", 0.5)
    made = dulcet.listen("A@127.0.0.1:0", config=QUICK)
    address = str(made.address)
    with pending(address) as silent, pending(address) as half:
        half.send(encode(request("A"))[:20])
        taken = dulcet.associate(address, contexts=ECHO)
        association = made.accept(PATIENCE)
        assert association is not None
        with contextlib.ExitStack() as stack:
            untaken = [stack.enter_context(pending(address)) for _ in range(8)]
            for wire in untaken:
                wire.send(request("A"))
                assert isinstance(wire.pdu(), AssociateAC)
            start = time.monotonic()
            made.close()
            made.close()
            assert time.monotonic() - start < 2, "they have the same moment, not one after the other"
            assert [wire.pdu() for wire in untaken] == [Abort(0, 0)] * 8
        assert silent.pdu() is None
        assert half.pdu() is None
        assert list(made) == []
        assert made.accept(timeout=PATIENCE) is None
        with pytest.raises(dulcet.PeerUnreachable):
            dulcet.associate(address, contexts=ECHO)
        with association, taken:
            thread = threading.Thread(target=lambda: [request.respond(0) for request in association.requests()])
            thread.start()
            assert taken.echo().status == 0
            taken.release()
            thread.join(PATIENCE)


def test_stopping_leaves_what_is_established_to_be_taken() -> None:
    with dulcet.listen("A@127.0.0.1:0") as made:
        waiting = [dulcet.associate(str(made.address), contexts=ECHO) for _ in range(3)]
        made.stop()
        with pytest.raises(dulcet.PeerUnreachable):
            dulcet.associate(str(made.address), contexts=ECHO)
        taken = list(made)
        assert len(taken) == 3
        threads = [threading.Thread(target=lambda one=one: list(one.requests())) for one in taken]
        for thread, requestor in zip(threads, waiting):
            thread.start()
            requestor.release()
            thread.join(PATIENCE)
        assert [association.ending for association in taken] == ["released"] * 3


def test_port_0_takes_a_free_one_and_says_which() -> None:
    with dulcet.listen("A@127.0.0.1:0") as one, dulcet.listen("A@127.0.0.1:0") as other:
        assert 0 not in (one.address.port, other.address.port)
        assert one.address.port != other.address.port
        assert str(one.address) == f"A@127.0.0.1:{one.address.port}"


def test_a_port_in_use_is_an_error_that_says_so() -> None:
    with dulcet.listen("A@127.0.0.1:0") as made:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{made.address.port}: .* choose another port"):
            dulcet.listen(f"B@127.0.0.1:{made.address.port}")
        with pytest.raises(dulcet.AddressError):
            dulcet.listen("nonsense")


@pytest.mark.parametrize("host", ["*", "::1", "localhost"])
def test_other_addresses(host: str) -> None:
    with answering(host=host) as made:
        port = made.listener.address.port
        for there in {"*": ("127.0.0.1", "::1"), "::1": ("::1",), "localhost": ("localhost",)}[host]:
            where = f"[{there}]" if ":" in there else there
            assert is_served(f"PROVIDER@{where}:{port}")


def test_an_answer_that_the_kernel_does_not_take_at_once_is_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long A-ASSOCIATE-AC over a small socket buffer; what the peer says meanwhile is not lost."""
    real = Transport

    class Narrow(real):
        def __init__(self, sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
            super().__init__(sock)

    monkeypatch.setattr(accepting, "Transport", Narrow)
    contexts = tuple(ProposedContext(1 + 2 * n, "1.2." + "3" * 50, (EXPLICIT, "1.2." + "4" * 58)) for n in range(128))
    long = replace(request(), presentation_contexts=contexts)
    policy = dulcet.AcceptancePolicy(any_class=("1.2." + "4" * 58,))
    where: socket.socket
    with answering(policy=policy) as made, socket.socket() as where:
        where.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        where.connect(("127.0.0.1", made.listener.address.port))
        where.settimeout(PATIENCE)
        wire = Wire(where)
        wire.send(encode(long) + encode(ReleaseRQ()))
        kinds = [type(wire.pdu()).__name__ for _ in range(2)]
        assert kinds == ["AssociateAC", "ReleaseRP"]


def test_a_listener_that_is_dropped_gives_back_port_thread_and_descriptors() -> None:
    listener = dulcet.listen("PROVIDER@127.0.0.1:0")
    address = listener.address
    taken = dulcet.associate(address)
    untaken = listener.accept(PATIENCE)
    assert untaken is not None
    waiting = dulcet.associate(address)
    del listener
    gc.collect()
    eventually(lambda: not [one for one in threading.enumerate() if one.name == f"dulcet-listener-{address.port}"])
    with pytest.raises(dulcet.PeerUnreachable):
        dulcet.associate(address)
    with pytest.raises(dulcet.AssociationAborted):  # nobody took it, so nobody will serve it
        waiting.echo()
    untaken.handler = lambda request: request.respond(0)
    serving = threading.Thread(target=lambda: list(untaken.requests()))
    serving.start()
    taken.release()  # what was handed out goes on
    serving.join(PATIENCE)
    assert untaken.ending == "released"
