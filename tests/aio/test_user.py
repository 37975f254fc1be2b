"""Several tasks on one association, cancellation, and back-pressure towards a peer that gives or takes too much."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from tests.aio.loops import descriptors, on_each_loop, standing, until
from tests.blocking.scripted import Message, Wire, aborts, peer, serve
from tests.corpus import CT_IMAGE, make_folder, make_instance, read_instance

import dulcet
import dulcet.aio
from dulcet import AcceptancePolicy, AssociationConfig, Status, Timers, uids
from dulcet.aio import response_queue
from dulcet.aio.sending import StoreMany
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.io.send_buffer import FileFailed
from dulcet.services.identifiers import encode_dataset
from dulcet.services.proposals import proposals
from dulcet.upper_layer.items import AsynchronousOperationsWindow
from dulcet.upper_layer.pdu import PDV, Abort, PDataTF, ReleaseRQ

ANYTHING = {"policy": AcceptancePolicy(any_class=())}
WINDOW = AssociationConfig(window_invoked=4)
FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND


def match(comments: str = "") -> bytes:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.PatientComments = comments
    dataset.StudyInstanceUID = "1.2.3"
    return encode_dataset(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)[0]


async def succeed(request: Any) -> None:
    await request.respond()


# ---------------------------------------------------------------------- the window


@on_each_loop
async def test_more_tasks_than_the_window_allows_take_turns() -> None:
    at_once: list[int] = []

    async def handler(request: Any) -> None:
        at_once.append(len(request.association._core.performing))
        await asyncio.sleep(0.002)
        await request.respond()

    for config, most in ((AssociationConfig(), 1), (WINDOW, 4)):
        at_once.clear()
        async with standing(handler, config=config) as (association, _):
            responses = await asyncio.gather(*(association.echo() for _ in range(20)))
            assert [response.status for response in responses] == [0] * 20
        assert max(at_once) == most


@on_each_loop
async def test_answers_reach_the_tasks_that_asked() -> None:
    held: list[Any] = []

    async def handler(request: Any) -> None:
        held.append(await request.defer())
        if len(held) == 4:
            for index, one in enumerate(reversed(held)):
                await one.respond(0xC000 + one.message_id if index % 2 else 0)

    async with standing(handler, config=WINDOW) as (association, _):
        responses = await asyncio.gather(*(association.echo() for _ in range(4)))
    found = [int(response.status) for response in responses]
    assert found == [0xC001, 0, 0xC003, 0]


@on_each_loop
async def test_a_place_given_to_a_task_that_was_cancelled_goes_to_the_next() -> None:
    held: list[Any] = []

    async def handler(request: Any) -> None:
        held.append(await request.defer())

    async with standing(handler) as (association, _):
        first, second, third = (asyncio.create_task(association.echo()) for _ in range(3))
        await until(lambda: len(held) == 1 and len(association._slots) == 2)
        second.cancel()
        await asyncio.wait([second])
        await held[0].respond()
        assert (await first).status == 0
        await until(lambda: len(held) == 2)
        await held[1].respond()
        assert (await third).status == 0
        assert association._promised == 0


# ---------------------------------------------------------------------- cancellation


@on_each_loop
async def test_a_cancelled_task_leaves_the_association_usable() -> None:
    held: list[Any] = []

    async def handler(request: Any) -> None:
        held.append(await request.defer())
        if len(held) > 1:
            await request.respond()

    async with standing(handler) as (association, _):
        waiting = asyncio.create_task(association.echo())
        await until(lambda: len(held) == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        again = asyncio.create_task(association.echo())
        await asyncio.sleep(0.02)
        assert not again.done()  # the place is taken until the peer has answered
        await held[0].respond(0xC123)
        assert (await again).status == 0
        assert not association._drains
    assert association.ending == "released"


@on_each_loop
async def test_a_peer_that_does_not_end_what_was_left_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dulcet.aio.operations.DRAIN", 0.05)

    async def handler(request: Any) -> None:
        await request.defer()

    async with standing(handler) as (association, other):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await association.echo()
        await until(lambda: association.ending is not None)
        with pytest.raises(dulcet.AssociationAborted, match="did not end an operation that was left"):
            await association.echo()
        await until(lambda: other.ending is not None)
        assert (association.ending, other.ending) == ("aborted", "aborted")


@on_each_loop
async def test_a_store_cancelled_half_way_sends_whole_pdus_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dulcet.aio.operations.DRAIN", 0.2)
    file = make_instance(tmp_path / "long.dcm", 64 << 20, sop_class_uid=CT_IMAGE)
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(wire: Wire) -> None:
        wire.accept()
        loop.call_soon_threadsafe(go.set)
        aborts(wire)
        wire.until_closed()

    with peer(script) as made:
        association = await dulcet.aio.associate(made.address)
        before = descriptors()
        storing = asyncio.create_task(association.store(file))
        await go.wait()
        await until(lambda: association._wire._write_paused)
        storing.cancel()
        await asyncio.wait([storing])
        assert storing.cancelled()
        await until(lambda: association.ending is not None)
        await association.close()
        assert association.ending == "aborted"
        assert descriptors() < before
        await asyncio.to_thread(made.join)


@on_each_loop
async def test_a_cancelled_find_sends_c_cancel_and_drains() -> None:
    seen: list[str] = []

    def script(wire: Wire) -> None:
        wire.accept()
        while isinstance(message := wire.message(), Message):
            seen.append(message.command.name)
            if message.command.field == CommandField.C_CANCEL_RQ:
                for status in (Status.PENDING, Status.CANCEL):
                    wire.send_command(message.context_id, final(1, int(status)))
            elif message.command.field == CommandField.C_ECHO_RQ:
                wire.answer(message)
        assert isinstance(message, ReleaseRQ)
        wire.send(b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        wire.until_closed()

    with peer(script) as made:
        async with dulcet.aio.associate(made.address, contexts=proposals([uids.VERIFICATION, FIND])) as association:

            async def ask() -> None:
                async for _ in association.find(level="STUDY", PatientName=""):
                    raise AssertionError("there was no match")

            asking = asyncio.create_task(ask())
            await until(lambda: len(seen) == 1)
            asking.cancel()
            await asyncio.wait([asking])
            assert (await association.echo()).status == 0
        assert association.ending == "released"
        await asyncio.to_thread(made.join)
    assert seen == ["C-FIND-RQ", "C-CANCEL-RQ", "C-ECHO-RQ"]


def final(message_id: int, status: int) -> bytes:
    return Command.make(
        CommandField.C_FIND_RSP, MessageIDBeingRespondedTo=message_id, Status=status, AffectedSOPClassUID=FIND
    ).encode()


@on_each_loop
async def test_cancelling_associate_closes_the_connection() -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(wire: Wire) -> None:
        wire.pdu()
        loop.call_soon_threadsafe(reached.set)
        aborts(wire)
        wire.until_closed()

    with peer(script) as made:

        async def connect() -> None:
            await dulcet.aio.associate(made.address)

        associating = asyncio.create_task(connect())
        await reached.wait()
        associating.cancel()
        await asyncio.wait([associating])
        assert associating.cancelled()
        await asyncio.to_thread(made.join)


@on_each_loop
async def test_release_waits_for_what_was_left_and_aborts_for_what_was_not() -> None:
    held: list[Any] = []

    async def handler(request: Any) -> None:
        held.append(await request.defer())

    async with standing(handler) as (association, _):
        left = asyncio.create_task(association.echo())
        await until(lambda: len(held) == 1)
        left.cancel()
        await asyncio.wait([left])
        releasing = asyncio.create_task(association.release())
        await asyncio.sleep(0.02)
        assert not releasing.done()
        await held[0].respond()
        await releasing
        assert association.ending == "released"
    async with standing(handler) as (association, _):
        waiting = asyncio.create_task(association.echo())
        await until(lambda: len(held) == 2)
        await association.release()
        assert association.ending == "aborted"
        with pytest.raises(dulcet.AssociationAborted):
            await waiting


@on_each_loop
async def test_several_tasks_may_release() -> None:
    async with standing(succeed) as (association, _):
        await asyncio.gather(*(association.release() for _ in range(3)), association.close())
        assert association.ending == "released"


# ---------------------------------------------------------------------- back-pressure


@on_each_loop
async def test_a_slow_consumer_of_a_find_slows_the_peer_down() -> None:
    given = 0

    async def handler(request: Any) -> None:
        nonlocal given
        data = match("." * 10_000)
        for _ in range(4_000):
            await request.respond(Status.PENDING, data)
            given += 1
        await request.respond()

    async with standing(handler, server=ANYTHING) as (association, _):
        count = 0
        async for _ in association.find(level="STUDY", PatientName=""):
            count += 1
            if count == 10:
                for _ in range(100):
                    await asyncio.sleep(0.005)
                mail = association._full
                assert mail is not None
                assert len(mail._responses) == response_queue.KEPT
                assert given < 4_000
        assert count == given == 4_000


@on_each_loop
async def test_an_operation_in_the_middle_of_a_find_waits_and_does_not_hang() -> None:
    async def handler(request: Any) -> None:
        if request.field == CommandField.C_FIND_RQ:
            data = match()
            for _ in range(1000):
                await request.respond(Status.PENDING, data)
        await request.respond()

    for config in (AssociationConfig(), WINDOW):
        async with standing(handler, server=ANYTHING, config=config) as (association, _):
            count = 0
            async for _ in association.find(level="STUDY", PatientName=""):
                count += 1
                if count in (1, 500):
                    assert (await association.echo()).status == 0
            assert count == 1000


@on_each_loop
async def test_what_piles_up_behind_a_consumer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_queue, "KEPT_BYTES", 200_000)

    async def handler(request: Any) -> None:
        data = match()
        for _ in range(20_000):
            await request.respond(Status.PENDING, data)
        await request.respond()

    config = AssociationConfig(timers=Timers(response=0.3))
    async with standing(handler, server=ANYTHING, config=config) as (association, _):
        finding = association.find(level="STUDY", PatientName="")
        await anext(finding)
        with pytest.raises(dulcet.DimseTimeout, match="nobody takes what came before"):
            await association.echo()
        assert association._full is None or len(association._full._responses) < 300
        assert association.ending == "timeout"


@on_each_loop
async def test_a_find_whose_consumer_is_gone_is_cancelled_at_once() -> None:
    cancelled = asyncio.Event()

    async def handler(request: Any) -> None:
        data = match()
        while not request.cancelled:
            await request.respond(Status.PENDING, data)
        cancelled.set()
        await request.respond(Status.CANCEL)

    async with standing(handler, server=ANYTHING) as (association, _):
        async for _ in association.find(level="STUDY", PatientName=""):
            break
        gc.collect()
        await association.release()
        assert cancelled.is_set()
        assert association.ending == "released"


@on_each_loop
async def test_a_slow_reader_gets_every_byte_in_order(tmp_path: Path) -> None:
    files = [make_instance(tmp_path / f"{seed}.dcm", size, seed, CT_IMAGE) for seed, size in enumerate((9 << 20, 4))]
    data = [read_instance(path).data_set() for path in files]
    got: list[bytes] = []

    def slowly(wire: Wire) -> None:
        import time

        wire.accept(maximum_length=30_000, window=AsynchronousOperationsWindow(4, 4))
        time.sleep(0.1)

        def each(message: Message) -> int:
            got.append(message.data)
            return 0

        wire.serve(each)

    with peer(slowly) as made:
        async with dulcet.aio.associate(made.address, config=WINDOW) as association:
            assert association.window.invoked == 4
            await asyncio.gather(*(association.store(path) for path in files))
        await asyncio.to_thread(made.join)
    assert sorted(got, key=len) == sorted(data, key=len)


@on_each_loop
async def test_the_loop_is_shared_while_much_is_sent(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 96 << 20, sop_class_uid=CT_IMAGE)
    with peer(serve) as made:
        async with dulcet.aio.associate(made.address) as association:
            storing = asyncio.create_task(association.store(file))
            turns = 0
            while not storing.done():
                await asyncio.sleep(0)
                turns += 1
            assert (await storing).ok
            assert turns > 10
        await asyncio.to_thread(made.join)


# ---------------------------------------------------------------------- how it goes wrong


@on_each_loop
async def test_a_file_that_shrinks_while_it_is_sent_aborts_and_store_many_goes_on(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 3, 5_000, CT_IMAGE)
    long = make_instance(tmp_path / "long.dcm", 64 << 20, 77, CT_IMAGE)
    stored: list[str] = []
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stops_reading(wire: Wire) -> None:
        import time

        wire.accept(window=AsynchronousOperationsWindow(8, 8))
        loop.call_soon_threadsafe(stopped.set)
        time.sleep(0.2)
        aborts(wire)
        wire.until_closed()

    def goes_on(wire: Wire) -> None:
        wire.accept(window=AsynchronousOperationsWindow(8, 8))

        def each(message: Message) -> int:
            stored.append(message.command.sop_instance_uid or "")
            return 0

        wire.serve(each)

    with peer(stops_reading, goes_on) as made:
        contexts = proposals([CT_IMAGE])
        async with dulcet.aio.associate(made.address, contexts=contexts, config=WINDOW) as association:

            async def shrink() -> None:
                await stopped.wait()
                await until(lambda: association._wire._write_paused)
                with long.open("r+b") as handle:
                    handle.truncate(1000)

            shrinking = asyncio.create_task(shrink())
            results = [sent async for sent in association.store_many([long, *files])]
            await shrinking
            error = association._error
            assert isinstance(error, dulcet.AssociationAborted)
            assert isinstance(error.__cause__, FileFailed)
        await asyncio.to_thread(made.join)
    assert [sent.path for sent in results if not sent.ok] == [long]
    assert {sent.path for sent in results if sent.ok} == set(files)
    assert set(stored) == {read_instance(path).sop_instance_uid for path in files}


@on_each_loop
async def test_what_the_peer_said_before_it_reset_the_connection_is_heard(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 32 << 20, sop_class_uid=CT_IMAGE)

    def rude(wire: Wire) -> None:
        wire.accept()
        wire.pdu()
        wire.send(Abort(0, 0))  # and closes with bytes unread, which resets

    with peer(rude) as made:
        association = await dulcet.aio.associate(made.address)
        with pytest.raises(dulcet.AssociationAborted) as raised:
            await association.store(file)
        assert not raised.value.by_us
        await association.close()
        await asyncio.to_thread(made.join)


@on_each_loop
async def test_strays_and_nonsense_of_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    def strange(wire: Wire) -> None:
        wire.accept()
        message = wire.message()
        assert isinstance(message, Message)
        wire.answer(message)
        wire.answer(message)
        assert isinstance(wire.message(), Message)
        wire.send(PDataTF((PDV(99, True, True, b""),)))
        aborts(wire)
        wire.until_closed()

    with peer(strange) as made:
        association = await dulcet.aio.associate(made.address, contexts=proposals([uids.VERIFICATION]))
        assert (await association.echo()).status == 0
        with pytest.raises(dulcet.AssociationAborted, match="presentation context 99") as raised:
            await association.echo()
        assert raised.value.by_us
        await association.close()
        await asyncio.to_thread(made.join)
    assert "answers no request of ours" in caplog.text


@on_each_loop
async def test_a_peer_that_never_closes_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dulcet.aio.protocol.LAST_WORD", 0.1)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stays(wire: Wire) -> None:
        wire.accept()
        asyncio.run_coroutine_threadsafe(over.wait(), loop).result(20)

    with peer(stays) as made:
        association = await dulcet.aio.associate(made.address)
        await association.abort()
        assert association._wire.lost
        over.set()
        await asyncio.to_thread(made.join)


@on_each_loop
async def test_store_many_raises_when_nobody_is_there_and_ends_when_left(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 200, 20_000)
    async with standing(succeed) as (association, _):
        for associations in (1, 2):
            async for sent in association.store_many(files, associations=associations):
                assert sent.ok
                break
        assert (await association.echo()).status == 0

        async def sources() -> Any:
            for path in files[:5]:
                yield path

        assert [sent.ok async for sent in association.store_many(sources())] == [True] * 5  # type: ignore[arg-type]

        def broken() -> Any:
            yield files[0]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            [sent async for sent in association.store_many(broken())]
        assert association.is_established
    with pytest.raises(dulcet.AssociationClosed):
        [sent async for sent in association.store_many(files)]


@on_each_loop
async def test_a_slow_consumer_of_store_many_slows_the_sending_down(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 300, 1_000)
    count = 0

    async def handler(request: Any) -> None:
        nonlocal count
        count += 1
        await request.respond()

    async with standing(handler) as (association, _):
        sending = association.store_many(files)
        assert (await anext(sending)).ok
        await asyncio.sleep(0.2)
        assert count < 150
        assert len([sent async for sent in sending]) == 299


@on_each_loop
async def test_parallel_associations_are_used_again_for_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dulcet.io.store_queue.BATCH", 64)
    files = make_folder(tmp_path / "some", 300, 1_000)
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed) as server:
        most = 0

        def count(trace_event: Any, association: Any) -> None:
            nonlocal most
            most += type(trace_event).__name__ == "AssociationAccepted"

        config = AssociationConfig(observers=(count,))
        contexts = proposals([uids.VERIFICATION])
        async with dulcet.aio.associate(str(server.address), contexts=contexts, config=config) as association:
            assert sum([sent.ok async for sent in association.store_many(files, associations=3)]) == 300
    assert most <= 4


@on_each_loop
async def test_a_peer_that_serves_one_association_at_a_time_delays_nothing(tmp_path: Path) -> None:
    """The others are not answered before the first is released, and all was sent by then."""
    files = make_folder(tmp_path / "some", 12, 1_000)
    turn = threading.Lock()

    def in_turn(wire: Wire) -> None:
        with turn, contextlib.suppress(OSError):  # those that come too late are given up
            wire.accept()
            wire.serve()

    config = AssociationConfig(timers=Timers(associate=10.0))
    with peer(in_turn) as made:
        job = StoreMany(dulcet.Address.parse(made.address), calling_ae_title="ME", config=config, associations=3)
        async with asyncio.timeout(5):
            assert sum([sent.ok async for sent in job.run(files)]) == 12
