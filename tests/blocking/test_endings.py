"""How associations do not come about, and how they end: each its own exception, with a sentence that helps."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.blocking.providing import Provider, descriptors, provider
from tests.blocking.scripted import PATIENCE, Message, Wire, aborts, peer, serve
from tests.corpus import CT_IMAGE

import dulcet
from dulcet import uids
from dulcet.blocking import channel
from dulcet.config import Timers
from dulcet.errors import REJECT_CURES, REJECT_REASONS
from dulcet.io.sockets import listening_sockets
from dulcet.part10.location import locate
from dulcet.services.proposals import proposals
from dulcet.upper_layer.pdu import Abort, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ

ECHO = proposals([uids.VERIFICATION])
QUICK = dulcet.AssociationConfig(timers=Timers(connect=0.4, associate=0.4, release=0.4, response=0.4, artim=0.4))


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before, threads = descriptors(), threading.active_count()
    yield
    assert descriptors() <= before
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > threads:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def associate(address: str, **options: Any) -> dulcet.Association:
    return dulcet.associate(address, contexts=ECHO, **options)


# ---------------------------------------------------------------------------------------------- it does not come about


@pytest.mark.parametrize("result", [1, 2])
@pytest.mark.parametrize(("source", "reason"), REJECT_REASONS)
def test_a_refusal_says_why_and_what_to_do(result: int, source: int, reason: int) -> None:
    def refuse(wire: Wire) -> None:
        assert isinstance(wire.pdu(), AssociateRQ)
        wire.send(AssociateRJ(result, source, reason))
        wire.until_closed()

    with peer(refuse) as made:
        with pytest.raises(dulcet.AssociationRefused) as caught:
            associate(made.address)
        error = caught.value
        assert (error.result, error.source, error.reason) == (result, source, reason)
        assert error.transient == (result == 2)
        assert made.address in str(error)
        assert REJECT_REASONS[source, reason] in str(error)
        assert REJECT_CURES[source, reason] in str(error)


def test_an_abort_instead_of_an_answer() -> None:
    def abort(wire: Wire) -> None:
        wire.pdu()
        wire.send(Abort(2, 4))
        wire.until_closed()

    with peer(abort) as made:
        with pytest.raises(dulcet.AssociationAborted, match="unrecognized PDU parameter") as caught:
            associate(made.address)
        assert (caught.value.source, caught.value.reason, caught.value.by_us) == (2, 4, False)


def test_a_close_instead_of_an_answer() -> None:
    with peer(lambda wire: wire.pdu()) as made, pytest.raises(dulcet.AssociationClosed, match="is it a DICOM port"):
        associate(made.address)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "speaks HTTP"),
        (bytes.fromhex("15030100020246"), "TLS alert"),
        (bytes.fromhex("160301004a"), "speaks TLS"),
        (b"\0" * 100, "PDU type 00H does not exist"),
        (b"\2\0\xff\xff\xff\xff" + bytes(100), "association PDU of 4294967295 bytes"),
        (b"\4\0\0\0\0\6", "P-DATA-TF while awaiting associate answer"),
    ],
)
def test_what_is_no_dicom_port_is_told_so(says: bytes, words: str) -> None:
    def say(wire: Wire) -> None:
        wire.pdu()
        wire.send(says)
        aborts(wire)

    with peer(say) as made, pytest.raises(dulcet.AssociationAborted, match=words) as caught:
        associate(made.address, config=QUICK)
    assert caught.value.by_us


def test_silence_instead_of_an_answer() -> None:
    with (
        within(5),
        peer(lambda wire: (wire.pdu(), aborts(wire))) as made,
        pytest.raises(dulcet.DimseTimeout, match="is it a DICOM port"),
    ):
        associate(made.address, config=QUICK)


def test_nobody_there() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(dulcet.PeerUnreachable, match=f"cannot connect to 127.0.0.1:{port}.*nothing listens"):
            associate(f"A@127.0.0.1:{port}")
    with pytest.raises(dulcet.PeerUnreachable, match=r"'no-such-host\.invalid' is not known"):
        associate("A@no-such-host.invalid:104")
    with pytest.raises(dulcet.AddressError):
        associate("nonsense")


def test_a_peer_that_swallows_everything() -> None:
    [full] = listening_sockets("127.0.0.1", 0, backlog=0)
    with full, contextlib.ExitStack() as stack:
        port = full.getsockname()[1]
        for _ in range(3):
            pending_requests = stack.enter_context(socket.socket())
            pending_requests.setblocking(False)
            pending_requests.connect_ex(("127.0.0.1", port))
        with within(3), pytest.raises(dulcet.PeerUnreachable, match="no answer within"):
            associate(f"A@127.0.0.1:{port}", config=QUICK)


def test_what_may_not_be_sent_is_not_sent() -> None:
    with peer(serve) as made:
        for options in ({"calling_ae_title": "X" * 17}, {"contexts": []}):
            with pytest.raises(dulcet.LocalProtocolError):
                dulcet.associate(made.address, **options)  # type: ignore[arg-type]
        assert made.wires == []


# ---------------------------------------------------------------------------------------------- it ends


def test_a_release_is_a_release() -> None:
    with peer(serve) as made:
        association = associate(made.address)
        assert association.echo().status == 0
        association.close()
        association.release()
        assert association.ending == "released"
        with pytest.raises(dulcet.AssociationClosed, match="released"):
            association.echo()
    assert made.pdus == ["AssociateRQ", "PDataTF", "ReleaseRQ", "end"]


def test_an_abort_is_an_abort() -> None:
    with peer(lambda wire: (wire.accept(), aborts(wire))) as made:
        association = associate(made.address)
        association.abort()
        association.abort()
        association.release()
        assert association.ending == "aborted"
        with pytest.raises(dulcet.AssociationAborted, match="by this side") as caught:
            association.echo()
        assert caught.value.by_us


def test_an_exception_in_the_block_aborts() -> None:
    def script(wire: Wire) -> None:
        wire.accept()
        assert aborts(wire) == Abort(0, 0)

    with peer(script) as made, pytest.raises(KeyError), associate(made.address):
        raise KeyError


def test_no_answer_is_a_timeout_and_the_end() -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        aborts(wire)

    with peer(silent) as made, associate(made.address, config=QUICK) as association:
        with within(5), pytest.raises(dulcet.DimseTimeout, match=r"raise Timers\.response"):
            association.echo()
        assert association.ending == "timeout"
        assert not association.is_established
        with pytest.raises(TimeoutError):
            association.echo()


def test_a_release_without_an_answer_raises_where_it_was_asked_for() -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        aborts(wire)

    with peer(silent) as made, within(5):
        association = associate(made.address, config=QUICK)
        with pytest.raises(dulcet.DimseTimeout, match="release"):
            association.release()


def test_a_block_that_has_its_answers_keeps_them_however_the_peer_ends(caplog: pytest.LogCaptureFixture) -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        aborts(wire)

    with peer(silent) as made, within(5):
        with associate(made.address, config=QUICK) as association:
            pass
        assert association.ending == "timeout"
    assert "no orderly release" in caplog.text
    assert [record.code for record in caplog.records if hasattr(record, "code")][-1] == "DUL124"


def test_the_same_where_the_peer_aborts_instead(caplog: pytest.LogCaptureFixture) -> None:
    def rude(wire: Wire) -> None:
        wire.accept()
        wire.pdu()
        wire.send(Abort(0, 0))

    with peer(rude) as made, within(5), associate(made.address, config=QUICK) as association:
        pass
    assert association.ending == "aborted"
    assert "no orderly release" in caplog.text


def test_the_peers_release_ends_it() -> None:
    def leaves(wire: Wire) -> None:
        wire.accept()
        wire.message()
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)

    with peer(leaves) as made:
        association = associate(made.address)
        with pytest.raises(dulcet.AssociationClosed, match="the peer released"):
            association.echo()
        assert association.ending == "released"


def test_both_release_at_once() -> None:
    def collides(wire: Wire) -> None:
        wire.accept()
        assert isinstance(wire.pdu(), ReleaseRQ)
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)
        wire.send(ReleaseRP())
        wire.until_closed()

    with peer(collides) as made:
        with associate(made.address) as association:
            pass
        assert association.ending == "released"


def test_a_peer_that_closes_instead_of_releasing() -> None:
    def rude(wire: Wire) -> None:
        wire.accept()
        wire.pdu()

    with peer(rude) as made:
        with associate(made.address) as association:
            pass
        assert association.ending == "closed"


def test_a_peer_that_does_not_close_is_closed_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LAST_WORD", 0.2)
    over = threading.Event()

    def clings(wire: Wire) -> None:
        wire.accept()
        aborts(wire)
        over.wait(PATIENCE)

    with peer(clings) as made, within(3):
        associate(made.address).abort()
        over.set()


def test_what_the_peer_says_last_is_heard_though_it_takes_nothing_more() -> None:
    """A reset on sending does not hide the A-ABORT that came before it."""

    def gone(wire: Wire) -> None:
        wire.accept()
        wire.message()
        wire.send(Abort(2, 6))
        wire.sock.close()

    with peer(gone) as made:
        association = associate(made.address)
        with pytest.raises(dulcet.AssociationAborted, match="invalid PDU parameter value"):
            association.echo()


def test_unanswered_operations_are_aborted_not_released(caplog: pytest.LogCaptureFixture) -> None:
    from dulcet.services import invocations

    with peer(lambda wire: (wire.accept(), aborts(wire))) as made:
        with associate(made.address) as association:
            association._invoke(invocations.echo(association._core))
        assert association.ending == "aborted"
    assert "1 operations were left unanswered" in caplog.text


# ---------------------------------------------------------------------------------------------- from another thread


@pytest.mark.parametrize("when", ["waiting", "before"])
def test_an_interrupt_ends_the_wait_and_tells_the_peer(when: str) -> None:
    asked = threading.Event()

    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        asked.set()
        aborts(wire)

    with peer(silent) as made:
        association = associate(made.address)
        if when == "before":
            association.interrupt()
            asked.set()
        thread = threading.Thread(target=lambda: (asked.wait(PATIENCE), association.interrupt()))
        thread.start()
        with within(5), pytest.raises(dulcet.AssociationAborted) as caught:
            association.echo()
        thread.join(PATIENCE)
        assert caught.value.by_us
        assert association.ending == "aborted"
        association.interrupt()


def test_an_interrupt_while_much_is_sent() -> None:
    """The peer has stopped reading; whether it ever sees the A-ABORT is up to it, but we stop."""
    started = threading.Event()
    over = threading.Event()

    def full(wire: Wire) -> None:
        wire.accept()
        wire.exactly(6, inside=False)
        started.set()
        over.wait(PATIENCE)

    with peer(full) as made:
        association = dulcet.associate(made.address, contexts=proposals([CT_IMAGE]))
        thread = threading.Thread(target=lambda: (started.wait(PATIENCE), association.interrupt()))
        thread.start()
        with within(10), pytest.raises(dulcet.AssociationAborted):
            association.store(_large())
        thread.join(PATIENCE)
        over.set()


def _large() -> bytes:
    from tests.io.arriving import data_set

    from dulcet.part10.file_meta import encode_file_meta

    return encode_file_meta(CT_IMAGE, "1.2.3", uids.EXPLICIT_VR_LITTLE_ENDIAN) + data_set(uid="1.2.3", bulk=32 << 20)


# ---------------------------------------------------------------------------------------------- what comes unasked


def test_requests_of_the_peer_that_nobody_handles_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    statuses = []

    def asks(wire: Wire) -> None:
        wire.accept()
        echo = wire.message()
        assert isinstance(echo, Message)
        for _ in range(2):
            wire.send_command(echo.context_id, dulcet.Command.make(
                dulcet.CommandField.C_ECHO_RQ, MessageID=77, AffectedSOPClassUID=uids.VERIFICATION
            ).encode())  # fmt: skip
            answer = wire.message()
            assert isinstance(answer, Message)
            statuses.append(answer.command.status)
        wire.answer(echo)
        wire.answer(echo)
        wire.serve()

    with peer(asks) as made, associate(made.address) as association:
        assert association.echo().status == 0
        assert association.echo().status == 0, "the second answer to the first is none to this"
    assert statuses == [0x0122, 0x0122]
    assert "refused C-ECHO-RQ" in caplog.text
    assert "answers no request of ours" in caplog.text


def test_a_handler_answers_what_comes_while_we_wait() -> None:
    statuses = []

    def asks(wire: Wire) -> None:
        wire.accept()
        echo = wire.message()
        assert isinstance(echo, Message)
        for _ in range(4):
            wire.send_command(echo.context_id, dulcet.Command.make(
                dulcet.CommandField.C_ECHO_RQ, MessageID=77, AffectedSOPClassUID=uids.VERIFICATION
            ).encode())  # fmt: skip
            answer = wire.message()
            assert isinstance(answer, Message)
            statuses.append(answer.command.status)
        wire.answer(echo)
        wire.serve()

    answers: list[Callable[[Any], object]] = [
        lambda request: request.respond(0),
        lambda request: None,
        lambda request: 1 / 0,
        lambda request: _refuse(),
    ]
    with (
        peer(asks) as made,
        associate(made.address, handler=lambda request: answers.pop(0)(request)) as association,
    ):
        assert association.echo().status == 0
    assert statuses == [0, 0x0110, 0x0110, 0xA700]


def _refuse() -> None:
    raise dulcet.ReceiveError("no", 0xA700)


def test_both_directions_at_once_never_wait_for_each_other() -> None:
    """Both sides send more than all buffers hold, and each reads while it writes."""
    large = _large()
    got: dict[str, int] = {}

    def take(request: Any) -> None:
        got[request.association.peer] = sum(len(piece) for piece in request.chunks())
        request.respond(0)

    def also_sends(made: Provider, association: dulcet.Association) -> None:
        association.handler = take
        assert association.store(large).ok
        while association.peer not in got:
            take(next(association.requests()))

    contexts = [dulcet.Proposal(CT_IMAGE, (uids.EXPLICIT_VR_LITTLE_ENDIAN,), provider=True)]
    with (
        provider(each=also_sends) as made,
        dulcet.associate(made.address, contexts=contexts, handler=take) as association,
    ):
        assert association.store(large).ok
        for request in association.requests():  # until the acceptor has had enough
            take(request)
    assert made.errors == []
    assert len(got) == 2
    assert set(got.values()) == {len(large) - locate(io.BytesIO(large)).offset}


def test_many_threads_with_an_association_each() -> None:
    count = 24
    good = []

    def work() -> None:
        with associate(made.address) as association:
            good.extend(association.echo().status == 0 for _ in range(10))

    with provider(lambda provider, request: request.respond(0)) as made:
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        made.join()
        assert made.endings == ["released"] * count
    assert good == [True] * count * 10
