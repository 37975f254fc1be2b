"""Requests in the hands of whoever provides: read, kept, answered late, early, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.blocking.providing import PATIENCE, Provider, provider
from tests.blocking.scripted import Message, Wire, aborts, peer
from tests.corpus import CT_IMAGE, EXPLICIT, data_set_bytes, make_folder, make_instance, read_instance
from tests.io.arriving import data_set

import dulcet
from dulcet import uids
from dulcet.blocking.receiver import Receiver
from dulcet.blocking.requests import IncomingRequest
from dulcet.config import Timers
from dulcet.part10.file_meta import encode_file_meta
from dulcet.services.proposals import proposals
from dulcet.upper_layer.negotiation import associate_request
from dulcet.upper_layer.pdu import PDV, AssociateAC, PDataTF, ReleaseRP, ReleaseRQ

STORAGE = proposals([CT_IMAGE, uids.VERIFICATION])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_instance(tmp_path / "one.dcm", 300_000, sop_class_uid=CT_IMAGE)


def store(address: str, *files: Path) -> list[int]:
    """The statuses of files sent one by one."""
    with dulcet.associate(address, contexts=STORAGE) as association:
        return [int(association.store(file).status or 0) for file in files]


def test_the_facts_of_a_request(file: Path) -> None:
    instance = read_instance(file)
    seen: list[Any] = []

    def note(made: Provider, request: IncomingRequest) -> None:
        seen.append((request.name, request.field, request.message_id, request.sop_class_uid, request.sop_instance_uid))
        seen.append((request.transfer_syntax, request.streams, request.answered, request.cancelled, request.deferred))
        assert request.association.is_established
        made.keep(request)
        seen.append((request.streams, request.answered))

    with provider(note) as made:
        assert store(made.address, file) == [0]
    assert seen == [
        ("C-STORE-RQ", 0x0001, 1, CT_IMAGE, instance.sop_instance_uid),
        (EXPLICIT, True, False, False, False),
        (False, True),
    ]


def test_a_data_set_in_pieces_is_the_data_set(file: Path) -> None:
    pieces: list[bytes] = []

    def in_pieces(made: Provider, request: IncomingRequest) -> None:
        pieces.extend(bytes(piece) for piece in request.chunks())
        assert request.read() == b""
        request.respond(0)

    with provider(in_pieces) as made:
        assert store(made.address, file) == [0]
    assert len(pieces) > 1
    assert b"".join(pieces) == read_instance(file).data_set()


def test_a_data_set_decoded(file: Path) -> None:
    names: list[str] = []

    def decode(made: Provider, request: IncomingRequest) -> None:
        dataset = request.dataset()
        names.append(str(dataset.PatientName))
        assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
        request.respond(0)

    with provider(decode) as made:
        assert store(made.address, file) == [0]
    assert names == ["Generated^Instance"]


def test_saved_into_a_folder(file: Path, tmp_path: Path) -> None:
    paths: list[Path] = []
    with dulcet.StoreDirectory(tmp_path / "kept") as directory:

        def save(made: Provider, request: IncomingRequest) -> None:
            paths.append(request.save(directory))
            request.respond(0)

        with provider(save) as made:
            assert store(made.address, file, file) == [0, 0]
        assert paths == [tmp_path / "kept" / f"{read_instance(file).sop_instance_uid}.dcm"] * 2
        assert data_set_bytes(paths[0]) == read_instance(file).data_set()


@pytest.mark.parametrize("step", ["begin", "write", "commit"])
def test_what_cannot_be_kept_is_read_off_the_wire_all_the_same(file: Path, step: str) -> None:
    """The status says why, the association lives on, and the place is given up."""
    calls: list[str] = []

    class Place:
        def write(self, data: memoryview) -> None:
            calls.append("write")
            if step == "write":
                raise dulcet.ReceiveError("the disk is full", 0xA700)

        def commit(self) -> str:
            calls.append("commit")
            raise dulcet.ReceiveError("no", 0xA900)

        def discard(self) -> None:
            calls.append("discard")

    class Destination:
        def begin(self, *_: str, **__: str) -> Place:
            if step == "begin":
                raise dulcet.ReceiveError("no room", 0xA701)
            return Place()

    def save(made: Provider, request: IncomingRequest) -> None:
        try:
            request.save(Destination())
        except dulcet.ReceiveError as error:
            request.respond(error.status)

    with provider(save) as made:
        expected = {"begin": 0xA701, "write": 0xA700, "commit": 0xA900}[step]
        assert store(made.address, file, file) == [expected, expected]
    if step == "write":
        assert calls == ["write", "discard"] * 2
    elif step == "commit":
        assert calls.count("commit") == calls.count("discard") == 2
        assert calls[-1] == "discard"


def test_an_abort_in_the_middle_leaves_no_partial_file(tmp_path: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 8 << 20, sop_class_uid=CT_IMAGE)
    begun = threading.Event()
    with dulcet.StoreDirectory(tmp_path / "kept") as directory:

        class Telling:
            def begin(self, *uids: str, **options: str) -> Any:
                incoming = directory.begin(*uids, **options)
                begun.set()
                return incoming

        with provider(lambda made, request: request.save(Telling())) as made:
            association = dulcet.associate(made.address, contexts=STORAGE)
            thread = threading.Thread(target=lambda: (begun.wait(PATIENCE), association.interrupt()))
            thread.start()
            with pytest.raises(dulcet.AssociationAborted):
                _store_on_and_on(association, large)
            thread.join(PATIENCE)
            made.join()
            assert made.endings == ["aborted"]
        assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.suffix != ".dcm"] == [
            "lock"
        ]


def _store_on_and_on(association: dulcet.Association, file: Path) -> None:
    while True:
        association.store(file)


def test_left_unanswered_is_a_failure(file: Path) -> None:
    with provider(lambda made, request: None) as made:
        assert store(made.address, file) == [0x0110]
    with provider(lambda made, request: next(request.chunks())) as made:
        assert store(made.address, file, file) == [0x0110, 0x0110]


def test_answered_early_the_rest_of_the_data_set_runs_out(file: Path) -> None:
    with provider(lambda made, request: request.respond(0xA700)) as made:
        assert store(made.address, file, file, file) == [0xA700] * 3


def test_answered_twice_is_our_own_mistake(file: Path) -> None:
    def twice(made: Provider, request: IncomingRequest) -> None:
        request.respond(0)
        request.respond(0)

    with provider(twice) as made:
        with dulcet.associate(made.address, contexts=STORAGE) as association:
            assert association.store(file).ok
            with pytest.raises(dulcet.AssociationAborted):
                association.store(file)
        made.join()
        assert [type(error) for error in made.errors] == [dulcet.LocalProtocolError]


def test_leaving_the_loop_answers_what_is_owed_and_releases(file: Path) -> None:
    ended: list[str] = []

    def leaves(made: Provider, association: dulcet.Association) -> None:
        for _ in association.requests():
            break

    with provider(each=leaves) as made:
        association = dulcet.associate(made.address, contexts=STORAGE)
        assert association.store(file).status == 0x0110
        with pytest.raises(dulcet.AssociationClosed, match="the peer released"):
            association.store(file)
        made.join()
        assert made.endings == ["released"]
        ended.append(str(association.ending))
    assert ended == ["released"]


def test_a_request_may_be_answered_after_the_loop_was_left(file: Path) -> None:
    def next_one(made: Provider, association: dulcet.Association) -> None:
        request = next(association.requests())
        made.keep(request)
        assert list(association.requests()) == []

    with provider(each=next_one) as made:
        assert store(made.address, file) == [0]


def test_deferred_requests_are_answered_from_other_threads_in_any_order(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 8, 20_000, CT_IMAGE)
    held: list[IncomingRequest] = []

    def gather(made: Provider, request: IncomingRequest) -> None:
        held.append(request.defer())
        if len(held) == 8:
            for one in reversed(held):
                threading.Thread(target=made.keep, args=(one,)).start()

    config = dulcet.AssociationConfig(window_invoked=8)
    with (
        provider(gather) as made,
        dulcet.associate(made.address, contexts=STORAGE, config=config) as association,
    ):
        assert association.window.invoked == 8
        assert all(sent.ok for sent in association.store_many(files))
    assert {uid: [len(one) for one in data] for uid, data in made.stored.items()} == {
        read_instance(file).sop_instance_uid: [len(read_instance(file).data_set())] for file in files
    }


# ---------------------------------------------------------------------------------------------- peers that misbehave


def pending_requests(script: Callable[[Wire], object]) -> Callable[[str], None]:
    """Run a script as requestor against an address."""

    def run(address: str) -> None:
        where = dulcet.Address.parse(address)
        with socket.create_connection((where.host, where.port), timeout=PATIENCE) as sock:
            script(Wire(sock))

    return run


def requesting(wire: Wire, called: str) -> None:
    wire.send(
        associate_request(
            STORAGE,
            called=called,
            calling="SCRIPT",
            maximum_length=16384,
            implementation_class_uid="1.2.3",
            implementation_version_name="TEST",
        )
    )
    assert isinstance(wire.pdu(), AssociateAC)


def begun_store(uid: str = "1.2.3") -> bytes:
    return dulcet.Command.make(
        dulcet.CommandField.C_STORE_RQ,
        MessageID=1,
        AffectedSOPClassUID=CT_IMAGE,
        AffectedSOPInstanceUID=uid,
        Priority=0,
        data_set=True,
    ).encode()


def test_a_data_set_that_stands_still_is_given_up() -> None:
    config = dulcet.AssociationConfig(timers=Timers(progress=0.3))

    def stops(wire: Wire) -> None:
        requesting(wire, "PROVIDER")
        wire.send_command(1, begun_store())
        wire.send(PDataTF((PDV(1, False, False, b"half"),)))
        aborts(wire)

    with provider(config=config) as made:
        pending_requests(stops)(made.address)
        made.join()
        assert [type(error) for error in made.errors] == [dulcet.DimseTimeout]
        assert made.endings == ["timeout"]


def test_an_association_that_is_idle_for_long_is_given_up() -> None:
    config = dulcet.AssociationConfig(timers=Timers(idle=0.3))

    def idles(wire: Wire) -> None:
        requesting(wire, "PROVIDER")
        aborts(wire)

    with provider(config=config) as made:
        pending_requests(idles)(made.address)
        made.join()
        assert made.endings == ["timeout"]


def test_a_release_in_the_middle_of_a_data_set_keeps_nothing(tmp_path: Path) -> None:
    def leaves(wire: Wire) -> None:
        requesting(wire, "PROVIDER")
        wire.send_command(1, begun_store())
        wire.send(PDataTF((PDV(1, False, False, b"half"),)))
        wire.send(ReleaseRQ())
        assert isinstance(wire.pdu(), ReleaseRP)

    with dulcet.StoreDirectory(tmp_path / "kept") as directory:
        with provider(lambda made, request: request.save(directory)) as made:
            pending_requests(leaves)(made.address)
            made.join()
        assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["lock"]


def test_a_request_without_the_data_set_that_it_needs() -> None:
    statuses: list[int | None] = []

    def without(wire: Wire) -> None:
        requesting(wire, "PROVIDER")
        command = dulcet.Command.make(
            dulcet.CommandField.C_STORE_RQ, MessageID=1, AffectedSOPClassUID=CT_IMAGE, AffectedSOPInstanceUID="1.2",
            Priority=0, data_set=False, validate=False,
        )  # fmt: skip
        wire.send_command(1, command.encode())
        answer = wire.message()
        assert isinstance(answer, Message)
        statuses.append(answer.command.status)
        wire.send(ReleaseRQ())
        wire.pdu()

    with provider() as made:
        pending_requests(without)(made.address)
    assert statuses == [0xC000]


def test_a_data_set_that_was_not_read_before_something_else_was_asked_is_lost_and_says_so() -> None:
    errors: list[dulcet.LocalProtocolError] = []

    def asks_first(made: Provider, association: dulcet.Association) -> None:
        for number, request in enumerate(association.requests()):
            if number:
                made.keep(request)
                continue
            association.echo()
            with pytest.raises(dulcet.LocalProtocolError, match="read it before you ask") as caught:
                request.read()
            errors.append(caught.value)
            request.respond(0xC000)

    contexts = [dulcet.Proposal(uid, (EXPLICIT,), provider=True) for uid in (CT_IMAGE, uids.VERIFICATION)]
    data = encode_file_meta(CT_IMAGE, "1.2.3", EXPLICIT) + data_set(uid="1.2.3", bulk=100_000)
    with provider(each=asks_first) as made:
        with dulcet.associate(
            made.address, contexts=contexts, handler=lambda request: request.respond(0)
        ) as association:
            assert association.store(data).status == 0xC000
            assert association.store(data).status == 0
        made.join()
        assert made.endings == ["released"]
    assert len(errors) == 1
    assert made.stored == {"1.2.3": [data_set(uid="1.2.3", bulk=100_000)]}


# ---------------------------------------------------------------------------------------------- in the background


def test_a_receiver_serves_in_the_background(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dulcet.receiver")
    got: list[bytes] = []

    def take(request: IncomingRequest) -> None:
        got.append(request.read())
        request.respond(0)

    with Receiver("RECEIVER@127.0.0.1:0", take) as receiver:
        assert store(str(receiver.address), file, file) == [0, 0]
    assert got == [read_instance(file).data_set()] * 2
    assert "'DULCET': released after 2 requests" in caplog.text
    with pytest.raises(dulcet.PeerUnreachable):
        dulcet.associate(str(receiver.address))


def test_a_receivers_handler_that_fails_is_a_status(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Callable[[IncomingRequest], object]] = [
        lambda request: 1 / 0,
        lambda request: None,
        lambda request: _refuse(),
        lambda request: request.respond(0),
    ]
    with Receiver("RECEIVER@127.0.0.1:0", lambda request: answers.pop(0)(request)) as receiver:
        assert store(str(receiver.address), file, file, file, file) == [0x0110, 0x0110, 0xA700, 0]
    assert "ZeroDivisionError" in caplog.text
    assert "refused C-STORE-RQ with A700H: full" in caplog.text


def _refuse() -> None:
    raise dulcet.ReceiveError("full", 0xA700)


def test_stopping_waits_for_those_who_send_and_aborts_those_who_stay(file: Path) -> None:
    receiver = Receiver("RECEIVER@127.0.0.1:0", lambda request: request.respond(0))
    stays = dulcet.associate(str(receiver.address), contexts=STORAGE)
    assert stays.store(file).ok
    start = time.monotonic()
    assert receiver.stop(0.2) is False
    assert 0.2 <= time.monotonic() - start < 4
    with pytest.raises(dulcet.AssociationAborted):
        stays.store(file)
    quick = Receiver("RECEIVER@127.0.0.1:0", lambda request: request.respond(0))
    leaves = dulcet.associate(str(quick.address), contexts=STORAGE)
    thread = threading.Thread(target=leaves.release)
    thread.start()
    assert quick.stop(PATIENCE) is True
    thread.join(PATIENCE)


def test_an_exception_stops_a_receiver_at_once(file: Path) -> None:
    start = time.monotonic()
    receiver = Receiver("RECEIVER@127.0.0.1:0", lambda request: None)
    association = dulcet.associate(str(receiver.address), contexts=STORAGE)
    with pytest.raises(KeyError), receiver:
        raise KeyError
    assert time.monotonic() - start < 4
    with pytest.raises(dulcet.AssociationError):
        association.store(file)


def test_one_association_for_which_there_is_no_thread_goes_and_the_others_stay(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = threading.Thread.start
    failures = [1]

    def start(self: threading.Thread) -> None:
        if self._target is not None and self._target.__name__ == "_work" and failures.pop():  # type: ignore[attr-defined]
            failures.append(0)
            raise RuntimeError("can't start new thread")
        real(self)

    with Receiver("RECEIVER@127.0.0.1:0", lambda request: request.respond(0)) as receiver:
        monkeypatch.setattr(threading.Thread, "start", start)
        association = dulcet.associate(str(receiver.address), contexts=STORAGE)
        with pytest.raises(dulcet.AssociationAborted):
            association.store(file)
        failures[:] = [0] * 10
        assert store(str(receiver.address), file) == [0]
    assert "no thread to serve it" in caplog.text


def test_what_breaks_an_association_is_logged_with_who_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def nonsense(wire: Wire) -> None:
        requesting(wire, "RECEIVER")
        wire.send(PDataTF((PDV(1, False, True, b"data without a command"),)))
        aborts(wire)

    with Receiver("RECEIVER@127.0.0.1:0", lambda request: request.respond(0)) as receiver:
        pending_requests(nonsense)(str(receiver.address))
    assert "'SCRIPT'" in caplog.text
    assert "broke the protocol" in caplog.text


def test_a_handler_that_ends_the_association_by_itself(file: Path) -> None:
    with Receiver("RECEIVER@127.0.0.1:0", lambda request: request.association.abort()) as receiver:
        association = dulcet.associate(str(receiver.address), contexts=STORAGE)
        with pytest.raises(dulcet.AssociationAborted):
            association.store(file)


def test_an_unexpected_exception_is_logged_and_aborts(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: dulcet.Association) -> Any:
        raise ZeroDivisionError

    with Receiver("RECEIVER@127.0.0.1:0", lambda request: None) as receiver:
        monkeypatch.setattr(dulcet.Association, "requests", broken)
        association = dulcet.associate(str(receiver.address), contexts=STORAGE)
        with pytest.raises(dulcet.AssociationAborted):
            association.store(file)
    assert "unexpected" in caplog.text


def test_the_peer_of_a_script_is_a_peer() -> None:
    """What these tests stand on: the scripted peer speaks to itself."""
    with peer(lambda wire: (wire.accept(), wire.serve())) as made:
        pending_requests(lambda wire: (requesting(wire, "PEER"), wire.send(ReleaseRQ()), wire.pdu()))(made.address)
