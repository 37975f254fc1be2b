"""Sending many: contexts from the files, several associations, a window; and what one bad file or lost peer costs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.blocking.providing import descriptors, provider
from tests.blocking.scripted import Message, Wire, aborts, peer, serve
from tests.corpus import CT_IMAGE, SECONDARY_CAPTURE, make_folder, make_instance, read_instance, survey

import dulcet
from dulcet import uids
from dulcet.blocking import channel, sending
from dulcet.blocking.sending import StoreMany
from dulcet.config import Timers
from dulcet.io import store_queue
from dulcet.io.instances import IN_MEMORY
from dulcet.services import invocations
from dulcet.services.proposals import proposals
from dulcet.services.results import Sent
from dulcet.upper_layer.items import AsynchronousOperationsWindow
from dulcet.upper_layer.pdu import Abort, AssociateRJ, PDataTF, ReleaseRP, ReleaseRQ

WINDOW = AsynchronousOperationsWindow(8, 1)
CONTEXTS = proposals([CT_IMAGE])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "files", 12, 1000, CT_IMAGE)


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before


def uids_of(files: Sequence[Path]) -> set[str]:
    return {read_instance(file).sop_instance_uid for file in files}


def send(address: str, files: Sequence[Any], **options: Any) -> list[Sent]:
    return list(StoreMany(dulcet.Address.parse(address), calling_ae_title="ME", **options).run(files))


def failed(results: Sequence[Sent]) -> dict[Path, type[Exception]]:
    return {sent.path: type(sent.error) for sent in results if not sent.ok}


# ---------------------------------------------------------------------------------------------- contexts


def test_contexts_come_from_the_files() -> None:
    instances = [found for found in survey()[0] if not found.truncated and found.consistent]
    with provider() as made:
        results = send(made.address, [found.path for found in instances])
    assert failed(results) == {}
    for found in instances:
        data = found.data_set()
        assert data + b"\0" * (len(data) % 2) in made.stored[found.sop_instance_uid]
        assert found.transfer_syntax in {sent.transfer_syntax for sent in results if sent.path == found.path}


def test_more_contexts_than_one_association_takes_are_split(tmp_path: Path) -> None:
    classes = sorted(uids.STORAGE_CLASSES)[:150]
    files = [
        make_instance(tmp_path / f"{number}.dcm", 64, number, sop_class) for number, sop_class in enumerate(classes)
    ]
    with provider() as made:
        results = send(made.address, files)
        assert failed(results) == {}
        assert set(made.stored) == uids_of(files)
        made.join()
        assert made.endings == ["released"] * 2
        assert all(len(association.contexts) <= 128 for association in made.associations)
        with dulcet.associate(made.address, contexts=CONTEXTS) as association:
            assert failed(list(association.store_many(files))) == {}


def test_the_association_given_is_used_for_what_it_carries(files: list[Path], tmp_path: Path) -> None:
    other = make_instance(tmp_path / "other.dcm", 100, 99, SECONDARY_CAPTURE)
    with provider() as made:
        with dulcet.associate(made.address, contexts=CONTEXTS) as association:
            assert failed(list(association.store_many(files))) == {}
            assert len(made.associations) == 1
            assert failed(list(association.store_many([*files, other]))) == {}
            assert association.is_established
        made.join()
        assert made.endings == ["released", "released"]


# ---------------------------------------------------------------------------------------------- batches


def test_a_slow_source_does_not_hold_up_what_it_gave(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_queue, "BATCH_SECONDS", 0.0)
    answered: list[Sent] = []

    def one_by_one() -> Iterator[Path]:
        for number, file in enumerate(files):
            assert len(answered) == number, "the one before is answered before the next is asked for"
            yield file

    with provider() as made:
        for sent in StoreMany(dulcet.Address.parse(made.address), calling_ae_title="ME").run(one_by_one()):
            answered.append(sent)
        made.join()
        assert len(made.associations) == 1
    assert failed(answered) == {}


def test_what_is_in_memory_is_sent_before_it_is_too_much(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_queue, "BATCH_MEMORY", 2500)
    taken = [0]
    answered = [0]

    def source() -> Iterator[bytes]:
        for file in files:
            assert taken[0] - answered[0] < 3
            taken[0] += 1
            yield file.read_bytes()

    with provider() as made:
        for sent in StoreMany(dulcet.Address.parse(made.address), calling_ae_title="ME").run(source()):
            assert sent.ok
            answered[0] += 1
    assert answered == [len(files)]


# ---------------------------------------------------------------------------------------------- window


def test_a_window_is_used_to_the_full_and_answers_may_come_in_any_order(files: list[Path]) -> None:
    order: list[str] = []

    def eight_at_once(wire: Wire) -> None:
        request = wire.accept(window=WINDOW)
        assert request.window == AsynchronousOperationsWindow(8, 1)
        for count in (8, 4):
            messages = [wire.message() for _ in range(count)]  # all of them before the first answer
            for message in reversed(messages):
                assert isinstance(message, Message)
                order.append(message.command.sop_instance_uid or "")
                wire.answer(message)
        assert isinstance(wire.serve(), ReleaseRQ)

    with peer(eight_at_once) as made:
        results = send(made.address, files)
    assert [sent.sop_instance_uid for sent in results] == order
    assert failed(results) == {}


def test_a_peer_without_a_window_gets_one_after_the_other(files: list[Path]) -> None:
    def one_at_a_time(wire: Wire) -> None:
        wire.accept()
        while isinstance(message := wire.message(), Message):
            wire.sock.setblocking(False)
            with pytest.raises(BlockingIOError):  # nothing more has come with it
                wire.sock.recv(1)
            wire.sock.settimeout(20)
            wire.answer(message)
        assert isinstance(message, ReleaseRQ)
        wire.send(ReleaseRP())
        wire.until_closed()

    with peer(one_at_a_time) as made:
        assert failed(send(made.address, files)) == {}


@pytest.mark.parametrize("window", [None, WINDOW], ids=["one", "eight"])
def test_another_operation_under_way_is_waited_for_or_left_aside(
    files: list[Path], window: AsynchronousOperationsWindow | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(wire: Wire) -> None:
        wire.accept(window=window)
        echo = wire.message()
        assert isinstance(echo, Message)
        if window is not None:
            store = wire.message()
            assert isinstance(store, Message)
            wire.answer(echo)
            wire.answer(store)
        else:
            wire.answer(echo)
        wire.serve()

    contexts = proposals([uids.VERIFICATION, CT_IMAGE])
    config = dulcet.AssociationConfig(window_invoked=8)
    monkeypatch.setattr(dulcet.Association, "_catch_up", lambda self: None)  # it might be answered too soon
    with peer(late) as made, dulcet.associate(made.address, contexts=contexts, config=config) as association:
        operation = association._invoke(invocations.echo(association._core))
        assert failed(list(association.store_many(files))) == {}
        assert association._response_to(operation).command.status == 0


def test_answers_that_were_kept_and_taken_count_no_longer(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each echo has the answers of the instances before it kept; they are taken, so they do not pile up."""

    def in_order(wire: Wire) -> None:
        wire.accept(window=WINDOW)
        wire.serve()

    monkeypatch.setattr("dulcet.blocking.association.KEPT_BYTES", 10 * invocations.RESPONSE_COST)
    contexts = proposals([uids.VERIFICATION, CT_IMAGE])
    config = dulcet.AssociationConfig(window_invoked=8)
    with peer(in_order) as made, dulcet.associate(made.address, contexts=contexts, config=config) as association:
        for _ in range(3):
            results = association.store_many(files)
            first = next(results)
            assert association.echo().status == 0
            assert failed([first, *results]) == {}


def test_a_peer_that_answers_before_it_has_read_to_the_end(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "large.dcm", 16 << 20, sop_class_uid=CT_IMAGE)

    def hasty(wire: Wire) -> None:
        wire.accept()
        for _ in range(2):
            pdu = wire.pdu()
            assert isinstance(pdu, PDataTF)
            assert pdu.values[0].is_command
            message = Message(pdu.values[0].context_id, dulcet.Command.decode(pdu.values[0].data), b"")
            wire.answer(message, 0xA700)
            while not pdu.values[-1].is_last or pdu.values[-1].is_command:
                pdu = wire.pdu()
                assert isinstance(pdu, PDataTF)
        wire.serve()

    with peer(hasty) as made:
        with dulcet.associate(made.address, contexts=CONTEXTS) as association:
            assert association.store(file).status == 0xA700
            [sent] = association.store_many([file])
            assert sent.status == 0xA700
        assert association.ending == "released"


# ---------------------------------------------------------------------------------------------- several at once


def test_associations_in_parallel_send_each_file_once(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 60, 2000, CT_IMAGE)
    meet = threading.Barrier(4)
    met: set[str] = set()

    def keep(made: Any, request: Any) -> None:
        if request.association.peer not in met:
            met.add(request.association.peer)
            meet.wait(20)  # the first on each association: all four are there at the same time
        made.keep(request)

    with provider(keep) as made:
        results = send(made.address, files, associations=4, window=1)
        assert failed(results) == {}
        assert Counter(sent.path for sent in results) == Counter(files)
        assert {uid: len(data) for uid, data in made.stored.items()} == dict.fromkeys(uids_of(files), 1)
        made.join()
        assert made.endings == ["released"] * 4


def test_parallel_batches_do_not_pile_up_associations(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_queue, "BATCH", 3)
    with provider(maximum_associations=2) as made:
        assert failed(send(made.address, files, associations=2)) == {}


def test_parallel_associations_that_do_not_carry_the_next_batch_are_released(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "BATCH", 3)
    others = [make_instance(tmp_path / f"{number}.dcm", 100, 90 + number, SECONDARY_CAPTURE) for number in range(3)]
    with provider() as made:
        assert failed(send(made.address, [*files[:3], *others, *files[3:6]], associations=2)) == {}
        made.join()
        assert made.endings == ["released"] * len(made.associations)
        assert 3 <= len(made.associations) <= 6


def test_an_idle_parallel_association_that_was_closed_costs_nothing(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "BATCH", 6)
    both = threading.Barrier(2)

    def until_closed(wire: Wire) -> None:
        wire.accept()
        both.wait(20)
        assert wire.serve() is None

    def source() -> Iterator[Path]:
        yield from files[:6]
        for wire in made.wires:
            wire.sock.shutdown(socket.SHUT_RDWR)
        yield from files[6:]

    with peer(until_closed, until_closed, serve) as made:
        results = send(made.address, source(), associations=2, window=1)  # type: ignore[arg-type]
    assert len(results) == 12
    assert failed(results) == {}


def test_fewer_associations_than_wished_for_do_the_work(files: list[Path]) -> None:
    with provider(maximum_associations=2) as made:
        assert failed(send(made.address, files, associations=6)) == {}


def test_a_peer_that_serves_one_association_at_a_time_delays_nothing(files: list[Path]) -> None:
    """The others are not answered before the first is released, and all was sent by then."""
    turn = threading.Lock()

    def in_turn(wire: Wire) -> None:
        with turn:
            serve(wire)

    config = dulcet.AssociationConfig(timers=Timers(associate=10.0))
    with peer(in_turn) as made:
        began = time.monotonic()
        assert failed(send(made.address, files, associations=3, config=config)) == {}
        assert time.monotonic() - began < 5.0


def test_one_of_several_associations_that_is_lost_leaves_the_rest_to_the_others(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 30, 1000, CT_IMAGE)

    def deadly(wire: Wire) -> None:
        wire.accept()
        wire.message()
        wire.send(Abort(0, 0))

    with peer(deadly, serve) as made:
        results = send(made.address, files, associations=2, window=1)
    assert len(results) == 30
    assert list(failed(results).values()) == [dulcet.AssociationAborted]


def test_when_all_are_lost_the_rest_fails(files: list[Path]) -> None:
    def deadly(wire: Wire) -> None:
        wire.accept()
        wire.message()
        wire.send(Abort(0, 0))

    with peer(deadly) as made:
        results = send(made.address, files, associations=2, window=1)
    assert len(results) == 12
    assert set(failed(results).values()) == {dulcet.AssociationAborted}
    assert len(made.wires) <= 2 * sending.FRUITLESS


def test_what_goes_wrong_in_a_thread_goes_wrong_here(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dulcet.Association, "_start_store", broken)
    with provider() as made, pytest.raises(ZeroDivisionError):
        send(made.address, files, associations=3)


# ---------------------------------------------------------------------------------------------- one bad file


def test_a_file_that_shrinks_while_it_is_sent_fails_for_itself_alone(files: list[Path], tmp_path: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 16 << 20, 99, CT_IMAGE)
    todo = [*files[:3], large, *files[3:]]
    got: Counter[str] = Counter()

    def shrinking(wire: Wire) -> None:
        wire.accept(window=WINDOW)
        for _ in range(3):
            message = wire.message()
            assert isinstance(message, Message)  # answered late: they are in flight when the file shrinks
        wire.pdu()
        os.truncate(large, 1 << 20)
        aborts(wire)

    def rest(wire: Wire) -> None:
        wire.accept(window=WINDOW)

        def note(message: Message) -> int:
            got[message.command.sop_instance_uid or ""] += 1
            return 0

        wire.serve(note)

    with peer(shrinking, rest) as made:
        results = send(made.address, todo)
    assert failed(results) == {large: dulcet.InstanceError}
    [error] = [sent.error for sent in results if sent.error]
    assert str(error).startswith(f"{large}: the file ended at byte ")
    assert set(got) == uids_of(files)
    assert len(results) == len(todo)


def test_a_file_that_shrinks_while_it_is_stored_alone_aborts(tmp_path: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 16 << 20, 99, CT_IMAGE)

    def shrinking(wire: Wire) -> None:
        wire.accept()
        wire.pdu()
        os.truncate(large, 1 << 20)
        aborts(wire)

    with peer(shrinking) as made, dulcet.associate(made.address, contexts=CONTEXTS) as association:
        with pytest.raises(dulcet.AssociationAborted, match="changed while it was sent") as caught:
            association.store(large)
        assert caught.value.by_us
        assert association.ending == "aborted"


def test_files_that_vanish_or_change_fail_for_themselves_alone(files: list[Path], tmp_path: Path) -> None:
    gone = make_instance(tmp_path / "gone.dcm", IN_MEMORY * 2, 98, CT_IMAGE)
    grown = make_instance(tmp_path / "grown.dcm", IN_MEMORY // 2, 99, CT_IMAGE)
    with provider() as made:
        results = []
        for sent in StoreMany(dulcet.Address.parse(made.address), calling_ae_title="ME", window=1).run(
            [*files, gone, grown]
        ):
            if not results:
                gone.unlink()
                grown.write_bytes(grown.read_bytes() + b"more")
            results.append(sent)
    assert failed(results) == {gone: dulcet.InstanceError, grown: dulcet.InstanceError}
    assert set(made.stored) == uids_of(files)


def test_one_that_brings_the_peer_down_costs_itself(files: list[Path]) -> None:
    deadly = read_instance(files[0]).sop_instance_uid
    also = read_instance(files[5]).sop_instance_uid

    def fragile(wire: Wire) -> None:
        wire.accept()
        wire.serve(lambda message: wire.send(Abort(0, 0)) if message.command.sop_instance_uid in (deadly, also) else 0)

    with peer(fragile) as made:
        results = send(made.address, files)
    assert failed(results) == dict.fromkeys([files[0], files[5]], dulcet.AssociationAborted)
    assert len(made.wires) == 3


# ---------------------------------------------------------------------------------------------- a lost association


def after_three(last: Any) -> Any:
    """The script of a peer that answers two and does `last` after the third."""

    def script(wire: Wire) -> None:
        wire.accept(window=WINDOW)
        for number in range(3):
            message = wire.message()
            assert isinstance(message, Message)
            if number < 2:
                wire.answer(message)
        last(wire)

    return script


def ends_by_abort(wire: Wire) -> None:
    wire.send(Abort(2, 1))
    wire.until_closed()


def ends_by_release(wire: Wire) -> None:
    wire.send(ReleaseRQ())
    while not isinstance(wire.pdu(), ReleaseRP):
        pass


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (lambda wire: None, dulcet.AssociationClosed),
        (ends_by_abort, dulcet.AssociationAborted),
        (ends_by_release, dulcet.AssociationClosed),
        (lambda wire: wire.send(b"\x09nonsense"), dulcet.AssociationAborted),
    ],
    ids=["closed", "aborted", "released", "broken"],
)
@pytest.mark.parametrize("given", [True, False])
def test_what_was_on_its_way_fails_and_the_rest_goes_over_a_new_association(
    files: list[Path], last: Any, error: type[Exception], given: bool
) -> None:
    with peer(after_three(last), serve) as made:
        if given:
            config = dulcet.AssociationConfig(window_invoked=8)
            with dulcet.associate(made.address, contexts=CONTEXTS, config=config) as association:
                results = list(association.store_many(files))
            assert association.ending != "released" or last is ends_by_release
        else:
            results = send(made.address, files)
    assert len(results) == 12
    lost = failed(results)
    assert 1 <= len(lost) <= 8
    assert set(lost.values()) == {error}
    assert len(made.wires) == 2


def test_an_association_that_was_closed_while_it_was_idle_costs_nothing(files: list[Path]) -> None:
    closed = threading.Event()

    def leaves(wire: Wire) -> None:
        wire.accept()
        wire.sock.close()
        closed.set()

    with peer(leaves, serve) as made:
        association = dulcet.associate(made.address, contexts=CONTEXTS)
        assert closed.wait(20)
        assert failed(list(association.store_many(files))) == {}
        assert association.ending == "closed"


def test_a_peer_that_gets_nothing_across_is_given_up(files: list[Path]) -> None:
    def accepts_and_leaves(wire: Wire) -> None:
        wire.accept()

    with peer(accepts_and_leaves) as made:
        results = send(made.address, files)
    assert set(failed(results).values()) == {dulcet.AssociationClosed}
    assert len(results) == 12
    assert len(made.wires) == sending.FRUITLESS


def test_a_peer_that_refuses_the_next_association_is_given_up(files: list[Path]) -> None:
    def refuses(wire: Wire) -> None:
        wire.pdu()
        wire.send(AssociateRJ(2, 3, 2))

    with peer(after_three(lambda wire: None), refuses) as made:
        results = send(made.address, files, window=1)
    assert [type(sent.error) for sent in results if sent.error] == [
        dulcet.AssociationClosed,
        *[dulcet.AssociationRefused] * 9,
    ]
    with peer(refuses) as made, pytest.raises(dulcet.AssociationRefused):
        send(made.address, files)


def test_an_association_that_is_refused_later_fails_what_it_was_for(files: list[Path], tmp_path: Path) -> None:
    """Only the first one's refusal is an exception; after that, results are owed."""
    other = make_instance(tmp_path / "other.dcm", 100, 99, SECONDARY_CAPTURE)

    def refuses(wire: Wire) -> None:
        wire.pdu()
        wire.send(AssociateRJ(1, 1, 1))

    with peer(serve, refuses) as made, dulcet.associate(made.address, contexts=CONTEXTS) as association:
        results = list(association.store_many([*files, other]))
    assert failed(results) == {other: dulcet.AssociationRefused}


def test_a_peer_that_never_answers_costs_one_timeout(files: list[Path]) -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        aborts(wire)

    config = dulcet.AssociationConfig(timers=Timers(response=0.3))
    with peer(silent) as made:
        results = send(made.address, files, config=config)
    assert set(failed(results).values()) == {dulcet.DimseTimeout}
    assert len(results) == 12
    assert len(made.wires) == 1


def test_a_peer_that_takes_no_more_bytes_costs_one_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LAST_WORD", 0.2)
    large = make_instance(tmp_path / "large.dcm", 32 << 20, 99, CT_IMAGE)
    done = threading.Event()

    def full(wire: Wire) -> None:
        wire.accept()
        done.wait(20)

    config = dulcet.AssociationConfig(timers=Timers(response=0.3))
    with peer(full) as made:
        try:
            [sent] = send(made.address, [large], config=config)
        finally:
            done.set()
    assert isinstance(sent.error, dulcet.DimseTimeout)


# ---------------------------------------------------------------------------------------------- leaving early


def test_leaving_early_waits_for_what_is_on_its_way_and_keeps_the_association(files: list[Path]) -> None:
    with provider() as made:
        config = dulcet.AssociationConfig(window_invoked=8)
        with dulcet.associate(made.address, contexts=CONTEXTS, config=config) as association:
            for sent in association.store_many(files):
                assert sent.ok
                break
            assert association.store(files[-1]).ok
        assert association.ending == "released"
        made.join()
        assert made.endings == ["released"]


@pytest.mark.parametrize("associations", [1, 3])
def test_leaving_early_aborts_associations_of_our_own(
    files: list[Path], associations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "LAST_WORD", 0.2)
    held = threading.Event()

    def some(made: Any, request: Any) -> None:
        if len(made.stored) >= 2:
            held.wait(20)
        made.keep(request)

    with provider(some) as made:
        job = StoreMany(dulcet.Address.parse(made.address), calling_ae_title="ME", associations=associations)
        for sent in job.run(files):
            assert sent.ok
            break
        held.set()
        made.join()
        assert "aborted" in made.endings
        assert set(made.endings) <= {"aborted", "released"}


def test_a_generator_that_is_forgotten_in_the_block_aborts(files: list[Path]) -> None:
    with provider() as made:
        config = dulcet.AssociationConfig(window_invoked=8)
        with dulcet.associate(made.address, contexts=CONTEXTS, config=config) as association:
            results = association.store_many(files)
            assert next(results).ok
        assert association.ending == "aborted"
        results.close()  # type: ignore[attr-defined]
        made.join()
        assert made.endings == ["aborted"]


def test_a_source_that_raises_aborts(files: list[Path]) -> None:
    def source() -> Iterator[Path]:
        yield from files[:5]
        raise KeyError("source")

    with provider() as made:
        with dulcet.associate(made.address, contexts=CONTEXTS) as association, pytest.raises(KeyError):
            list(association.store_many(source()))
        with pytest.raises(KeyError):
            send(made.address, source())  # type: ignore[arg-type]


def test_an_association_that_is_over_sends_nothing(files: list[Path]) -> None:
    with provider() as made:
        with dulcet.associate(made.address, contexts=CONTEXTS) as association:
            pass
        with pytest.raises(dulcet.AssociationClosed, match="released"):
            list(association.store_many(files))


def test_at_least_one_association() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        send("A@127.0.0.1:1", [], associations=0)
    with pytest.raises(ValueError, match="associations must be 1"):
        StoreMany(None, calling_ae_title="ME", associations=2)


def test_an_acceptors_association_that_is_lost_takes_the_rest_with_it(files: list[Path]) -> None:
    results: list[Sent] = []

    def send_all(provider: Any, association: dulcet.Association) -> None:
        results.extend(association.store_many(files))

    contexts = [dulcet.Proposal(CT_IMAGE, (read_instance(files[0]).transfer_syntax,), provider=True)]
    with provider(each=send_all) as made, dulcet.associate(made.address, contexts=contexts) as association:
        for number, request in enumerate(association.requests()):
            if number == 3:
                association.abort()
                break
            request.respond(0)
    assert len(results) == 12
    assert [sent.ok for sent in results] == [True] * 3 + [False] * 9
    assert {type(sent.error) for sent in results[3:]} == {dulcet.AssociationAborted}
