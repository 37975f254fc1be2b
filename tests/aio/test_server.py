"""The server: greeting under ARTIM, limits, hostile peers, draining; and what an idle association costs."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import struct
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.aio.loops import descriptors, on_each_loop, standing, until
from tests.corpus import CT_IMAGE, make_instance, read_instance

import dulcet
import dulcet.aio
from dulcet import AcceptancePolicy, AssociationConfig, Limits, Status, Timers, uids
from dulcet.aio import server as server_module
from dulcet.aio.threads import RequestInThread
from dulcet.services.proposals import proposals
from dulcet.upper_layer.items import ImplementationClassUID, MaximumLength, ProposedContext
from dulcet.upper_layer.pdu import AssociateRQ, encode

MANY = {"maximum_associations": 1000, "maximum_per_host": 1000}


async def succeed(request: Any) -> None:
    await request.respond()


def request_pdu() -> bytes:
    return encode(
        AssociateRQ(
            called_ae_title="HERE",
            calling_ae_title="RAW",
            presentation_contexts=(ProposedContext(1, uids.VERIFICATION, (uids.IMPLICIT_VR_LITTLE_ENDIAN,)),),
            user_information=(MaximumLength(16384), ImplementationClassUID("1.2.3")),
        )
    )


async def opened(server: dulcet.aio.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.address.port)


# ---------------------------------------------------------------------- waiting for associations


@on_each_loop
async def test_associations_are_accepted_one_by_one() -> None:
    server = await dulcet.aio.serve("HERE@127.0.0.1:0")
    assert await server.accept(0.01) is None
    async with dulcet.aio.associate(str(server.address), calling_ae_title="ONE") as association:
        taken = await server.accept(10)
        assert taken is not None
        assert (taken.calling_ae_title, taken.is_requestor, server.count) == ("ONE", False, 1)
        waiting = [asyncio.create_task(server.accept()) for _ in range(2)]
        untaken = await dulcet.aio.associate(str(server.address))
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        left = await dulcet.aio.associate(str(server.address))
        await asyncio.wait(waiting)
        last = await dulcet.aio.associate(str(server.address))
        await server.close()
        await server.close()
        assert [one async for one in server] == []
        assert await server.accept() is None
        await until(lambda: last.ending is not None)
        assert (last.ending, untaken.ending, left.ending, association.ending) == ("aborted", None, None, None)
        with pytest.raises(dulcet.PeerUnreachable):
            await dulcet.aio.associate(str(server.address))
        for one in (untaken, left, last):
            await one.abort()
    await until(lambda: server.count == 0)
    assert taken.ending == "released"


@on_each_loop
async def test_a_port_that_is_taken_says_so() -> None:
    async with dulcet.aio.serve("HERE@127.0.0.1:0") as server:
        with pytest.raises(OSError, match="choose another port"):
            await dulcet.aio.serve(str(server.address))
        with pytest.raises(dulcet.AddressError):
            dulcet.aio.serve("no address")


@on_each_loop
async def test_a_loop_that_cannot_watch_sockets_accepts_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise NotImplementedError

    server = dulcet.aio.serve("HERE@127.0.0.1:0", succeed)
    real = asyncio.get_running_loop
    watcher = _Without(real())
    monkeypatch.setattr(server_module.asyncio, "get_running_loop", lambda: watcher)
    await server
    monkeypatch.undo()
    for _ in range(3):
        async with dulcet.aio.associate(str(server.address)) as association:
            assert (await association.echo()).status == 0
    assert await server.stop()


class _Without:
    """A loop without readers, as Windows has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real = loop

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


# ---------------------------------------------------------------------- who is not let in


@on_each_loop
async def test_silence_garbage_and_half_a_request_cost_nothing_that_stays(caplog: pytest.LogCaptureFixture) -> None:
    garbage = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        request_pdu()[:40],
        b"\x01\x00\xff\xff\xff\xff",
        b"\x04\x00\x00\x00\x00\x04\x00\x00\x00\x00",
        b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00",
        request_pdu() + b"\xff" * 1000,
        request_pdu() + b"\x04\x00\x00\x00\x00\x09",
    ]
    caplog.set_level(logging.INFO)
    config = AssociationConfig(timers=Timers(artim=0.15, progress=0.15, idle=0.3))
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed, config=config) as server:
        before = descriptors()
        connections = [await opened(server) for _ in garbage * 3]
        for (_, writer), data in zip(connections, garbage * 3):
            writer.write(data)
        async with dulcet.aio.associate(str(server.address)) as association:
            assert (await association.echo()).status == 0  # nobody else waits for them
        for reader, writer in connections:
            with pytest.MonkeyPatch.context(), _suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()
            with _suppress(ConnectionError):
                await writer.wait_closed()
        await until(lambda: not server._pending_connections and server.count == 0)
        await until(lambda: descriptors() <= before)
    assert "speaks HTTP" in caplog.text
    assert "speaks TLS" in caplog.text
    assert "no whole A-ASSOCIATE-RQ within 0.15 s" in caplog.text


def _suppress(*kinds: type[BaseException]) -> Any:
    import contextlib

    return contextlib.suppress(*kinds)


@on_each_loop
async def test_connections_that_are_reset_leave_nothing() -> None:
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed) as server:
        before = descriptors()
        for data in (b"", request_pdu()[:30], request_pdu()):
            for _ in range(20):
                sock = socket.create_connection(("127.0.0.1", server.address.port))
                sock.sendall(data)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                await asyncio.sleep(0)
        await until(lambda: not (server._pending_connections or server._alive or server._tasks or server.count))
        await until(lambda: descriptors() <= before)


@on_each_loop
async def test_the_oldest_silent_connection_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GREETED_AT_ONCE", 3)
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed) as server:
        silent = []
        for count in range(1, 5):
            silent.append(await opened(server))
            await until(lambda count=count: len(server._pending_connections) == min(count, 3))
        assert await silent[0][0].read() == b""
        async with dulcet.aio.associate(str(server.address)) as association:
            assert (await association.echo()).status == 0
        for _, writer in silent:
            writer.close()


@on_each_loop
async def test_out_of_descriptors_the_silent_go_first_and_the_log_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "RESERVE", 0.05)
    failing = True

    class Listening:
        """A listening socket in a process that has no descriptor left."""

        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def accept(self) -> Any:
            if failing:
                raise OSError(24, "Too many open files")
            return self.real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    real = server_module.listening_sockets
    monkeypatch.setattr(server_module, "listening_sockets", lambda *where: [Listening(one) for one in real(*where)])
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed) as server:
        failing = False
        silent = await opened(server)
        await until(lambda: len(server._pending_connections) == 1)
        failing = True
        second = await opened(server)
        await until(lambda: not server._pending_connections)
        assert await silent[0].read() == b""
        await until(lambda: "raise the limit of open files" in caplog.text)
        failing = False
        async with dulcet.aio.associate(str(server.address)) as association:
            assert (await association.echo()).status == 0
        for _, writer in (silent, second):
            writer.close()


@on_each_loop
async def test_a_verifier_may_take_its_time_but_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    main = threading.get_ident()

    def slowly(identity: Any, request: Any) -> bool:
        assert threading.get_ident() != main
        if request.calling == "SLOW":
            assert go.wait(20)
        if request.calling == "FAULT":
            raise RuntimeError("a fault of the verifier")
        return True

    config = AssociationConfig(timers=Timers(associate=0.3))
    policy = AcceptancePolicy(any_class=(), verifier=slowly)
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed, policy=policy, config=config) as server:
        address = str(server.address)
        slow = asyncio.create_task(dulcet.aio.associate(address, calling_ae_title="SLOW")._associate())
        await until(lambda: len(server._pending_connections) == 1)
        async with dulcet.aio.associate(address) as association:
            assert (await association.echo()).status == 0
        with pytest.raises(dulcet.AssociationRefused, match="2,1,1"):
            await dulcet.aio.associate(address, calling_ae_title="FAULT")
        with pytest.raises(dulcet.AssociationRefused, match="2,3,1"):
            await slow
        go.set()
        gone = await opened(server)
        gone[1].write(request_pdu())
        gone[1].close()
        await until(lambda: not server._pending_connections and server.count == 0)
    assert "failed with RuntimeError" in caplog.text
    assert "a fault of the verifier" not in caplog.text  # it may hold a passcode
    assert "nobody decided about it in time" in caplog.text


# ---------------------------------------------------------------------- handlers


@on_each_loop
async def test_handlers_of_one_association_run_at_once_within_its_window() -> None:
    inside = most = 0

    async def handler(request: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1
        await request.respond()

    async with standing(handler, config=AssociationConfig(window_invoked=5)) as (association, _):
        await asyncio.gather(*(association.echo() for _ in range(10)))
    assert most == 5


@on_each_loop
async def test_a_plain_function_is_called_in_a_thread_and_may_wait(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "one.dcm", 3 << 20, sop_class_uid=CT_IMAGE)
    data = read_instance(file).data_set()
    folder = dulcet.StoreDirectory(tmp_path / "kept", durability="none")
    main = threading.get_ident()
    ways: list[str] = []

    def handler(request: RequestInThread) -> None:
        assert threading.get_ident() != main
        assert request.association.calling_ae_title == "DULCET"
        time.sleep(0.01)
        if request.field != 1:
            request.respond()
            return
        ways.append("way")
        assert request.streams
        if len(ways) == 1:
            assert b"".join(bytes(piece) for piece in request.chunks()) == data
        elif len(ways) == 2:
            assert request.dataset().SOPInstanceUID == request.sop_instance_uid
        elif len(ways) == 3:
            assert read_instance(request.save(folder)).data_set() == data
        elif len(ways) == 4:
            assert request.defer().deferred
            assert request.read() == data
        else:
            for _ in request.chunks():
                break
        assert request.streams == (len(ways) == 5)
        request.respond(Status.SUCCESS)
        with pytest.raises(dulcet.LocalProtocolError):
            request.respond(Status.SUCCESS)

    async with standing(handler) as (association, _):
        for _ in range(5):
            assert (await association.store(file)).ok
        turns = 0
        echo = asyncio.create_task(association.echo())
        while not echo.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await echo).status == 0
        assert turns > 2
    folder.close()


@on_each_loop
async def test_a_handler_in_a_thread_learns_that_the_association_ended() -> None:
    entered, go = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def handler(request: RequestInThread) -> None:
        entered.set()
        assert go.wait(20)
        try:
            request.respond()
        except dulcet.DulcetError as error:
            raised.append(error)
            raise

    async with dulcet.aio.serve("HERE@127.0.0.1:0", handler) as server:
        association = await dulcet.aio.associate(str(server.address))
        waiting = asyncio.create_task(association.echo())
        await until(entered.is_set)
        await association.abort()
        with pytest.raises(dulcet.AssociationAborted):
            await waiting
        await until(lambda: server.count == 0)
        go.set()
        await until(lambda: bool(raised))
    assert isinstance(raised[0], dulcet.AssociationAborted)


@on_each_loop
async def test_a_piece_stays_as_it_is_while_its_reader_waits(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 4 << 20, sop_class_uid=CT_IMAGE)
    data = read_instance(file).data_set()
    whole: list[bytes] = []

    async def handler(request: Any) -> None:
        async for piece in request.chunks():
            before = bytes(piece)
            await asyncio.sleep(0.003)
            assert bytes(piece) == before
            whole.append(before)
        await request.respond()

    async with standing(handler) as (association, _):
        assert (await association.store(file)).ok
    assert b"".join(whole) == data
    assert len(whole) > 10


@on_each_loop
async def test_who_takes_a_data_set_may_change_half_way(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 4 << 20, sop_class_uid=CT_IMAGE)
    size = len(read_instance(file).data_set())

    async def handler(request: Any) -> None:
        reading = asyncio.create_task(request.read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        if request.streams:
            assert len(await request.read()) < size
        await request.respond()

    async with standing(handler) as (association, other):
        for _ in range(3):
            assert (await association.store(file)).ok
        assert other._wire.held == 0


@on_each_loop
async def test_nothing_behind_a_data_set_that_nobody_takes_is_looked_at(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 8 << 20, sop_class_uid=CT_IMAGE)
    async with standing() as (association, other):
        storing = asyncio.create_task(association.store(file))
        requests = other.requests()
        request = await anext(requests)
        await until(lambda: other._wire._read_paused)
        assert other._core.connection.bytes_received < 1 << 20
        await request.respond()
        assert (await storing).ok
        await requests.aclose()


@on_each_loop
async def test_a_response_behind_a_data_set_that_nobody_takes_does_not_hang(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 8 << 20, sop_class_uid=CT_IMAGE)
    config = AssociationConfig(window_invoked=2, timers=Timers(response=0.3))
    contexts = proposals([CT_IMAGE, uids.VERIFICATION], provider=True)
    async with standing(contexts=contexts, config=config, server={"config": config}) as (association, other):
        storing = asyncio.create_task(association.store(file))
        await until(lambda: bool(other._requests))
        with pytest.raises(dulcet.DimseTimeout, match="nobody takes what came before"):
            await other.echo()
        with pytest.raises((dulcet.AssociationError, dulcet.DimseTimeout)):
            await storing


@on_each_loop
async def test_a_peer_that_only_asks_is_slowed_down() -> None:
    config = AssociationConfig(limits=Limits(unanswered=4), window_performed=0)
    held: list[Any] = []

    async def handler(request: Any) -> None:
        held.append(await request.defer())

    policy = AcceptancePolicy(any_class=(), window=0)
    options = AssociationConfig(window_invoked=0, limits=Limits(unanswered=100))
    async with standing(handler, server={"config": config, "policy": policy}, config=options) as (association, _):
        echoes = [asyncio.create_task(association.echo()) for _ in range(50)]
        await until(lambda: len(held) == 4)
        while held:
            assert len(held) <= 4
            await held.pop(0).respond()
            await asyncio.sleep(0.002)
        assert [echo.result().status for echo in echoes] == [0] * 50


# ---------------------------------------------------------------------- draining


@on_each_loop
async def test_stop_lets_what_is_under_way_finish() -> None:
    async def handler(request: Any) -> None:
        await asyncio.sleep(0.1)
        await request.respond()

    server = await dulcet.aio.serve("HERE@127.0.0.1:0", handler)

    async def work() -> int:
        async with dulcet.aio.associate(str(server.address)) as association:
            return int((await association.echo()).status)

    working = asyncio.create_task(work())
    await until(lambda: server.count == 1)
    assert await server.stop(10) is True
    assert await working == 0


@on_each_loop
async def test_stop_aborts_who_does_not_end_and_cancels_their_handlers() -> None:
    ended: list[str] = []

    async def handler(request: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    server = await dulcet.aio.serve("HERE@127.0.0.1:0", handler)
    idle = [await dulcet.aio.associate(str(server.address)) for _ in range(5)]
    waiting = asyncio.create_task(idle[0].echo())
    await until(lambda: len(server._tasks) == 1)
    start = time.monotonic()
    assert await server.stop(0.1) is False
    assert time.monotonic() - start < 2.0
    with pytest.raises(dulcet.AssociationAborted):
        await waiting
    await until(lambda: ended == ["cancelled"] and all(one.ending == "aborted" for one in idle))
    for one in idle:
        await one.close()


@on_each_loop
async def test_how_each_association_went_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dulcet.receiver")
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed) as server:
        async with dulcet.aio.associate(str(server.address), calling_ae_title="ONE") as association:
            await association.echo()
            await association.echo()
        async with dulcet.aio.associate(str(server.address), calling_ae_title="TWO") as association:
            server.interrupt()
            with pytest.raises(dulcet.AssociationAborted):  # noqa: PT012
                while True:
                    await association.echo()
        await until(lambda: server.count == 0)
    assert re.search(r"127\.0\.0\.1:\d+ 'ONE': released after 2 requests, 0\.\d s", caplog.text)
    assert re.search(r"'TWO': .*aborted by this side", caplog.text)


# ---------------------------------------------------------------------- cost


@on_each_loop
async def test_an_idle_association_costs_little() -> None:
    count = 500
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed, **MANY) as server:
        address = str(server.address)
        contexts = proposals([uids.VERIFICATION])
        warm = await dulcet.aio.associate(address, contexts=contexts)
        assert (await warm.echo()).status == 0
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        try:
            standing = [await dulcet.aio.associate(address, contexts=contexts) for _ in range(count)]
            for one in standing:
                assert (await one.echo()).status == 0
            await until(lambda: server.count == count + 1)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        print(f"{each:.0f} bytes for both ends")
        assert each < 2 * 25_000
        assert len(asyncio.all_tasks()) == 1
        start = time.monotonic()
        assert (await warm.echo()).status == 0
        assert time.monotonic() - start < 1.0
        for one in (*standing, warm):
            await one.abort()


@on_each_loop
async def test_many_associate_at_once() -> None:
    async with dulcet.aio.serve("HERE@127.0.0.1:0", succeed, **MANY) as server:

        async def one() -> int:
            contexts = proposals([uids.VERIFICATION])
            async with dulcet.aio.associate(str(server.address), contexts=contexts) as association:
                return int((await association.echo()).status)

        start = time.monotonic()
        assert await asyncio.gather(*(one() for _ in range(300))) == [0] * 300
        assert time.monotonic() - start < 10
        await until(lambda: server.count == 0)
