"""Streams that were spoilt somewhere, in front of a server: nothing unexpected, nothing left, others are served."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from typing import Any

import pytest
from tests.aio.loops import descriptors, on_each_loop, until

import dulcet
import dulcet.aio
from dulcet import AssociationConfig, Proposal, Timers, uids
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.upper_layer.negotiation import Offer, associate_request

STREAMS = 150
CT = uids.CT_IMAGE_STORAGE


def session() -> bytes:
    """What a requestor sends: association, C-ECHO, C-STORE, C-STORE, release."""
    user, provider = DimseAssociation(requestor=True), DimseAssociation(requestor=False)
    user.associate(
        associate_request(
            [Proposal(uids.VERIFICATION, (uids.IMPLICIT_VR_LITTLE_ENDIAN,)), Proposal(CT, ("1.2.840.10008.1.2.1",))],
            called="HERE",
            calling="SPOILT",
            maximum_length=16384,
            implementation_class_uid="1.2.3",
            implementation_version_name="",
        )
    )
    said = b""

    def turn(core: DimseAssociation, other: DimseAssociation) -> bytes:
        out = b""
        while core.has_output:
            out += b"".join(bytes(one) for one in core.data_to_send())  # type: ignore[arg-type]
        view = other.get_buffer()
        view[: len(out)] = out
        other.buffer_updated(len(out))
        return out

    user.connection_made()
    provider.connection_made()
    said += turn(user, provider)
    provider.next_event()
    provider.accept(Offer(syntaxes={}, any_class=()))
    turn(provider, user)
    user.next_event()
    one, other = user.contexts.values()
    user.invoke(one, Command.make(CommandField.C_ECHO_RQ, validate=False, AffectedSOPClassUID=uids.VERIFICATION))
    said += turn(user, provider)
    for number in range(2):
        user.outstanding.clear()
        user.store(other, CT, f"1.2.{number}", bytes(range(256)) * 40)
        said += turn(user, provider)
    user.outstanding.clear()
    user.release()
    return said + turn(user, provider)


@on_each_loop
async def test_spoilt_streams_are_outlived(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    whole, chance = session(), random.Random(7)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    handled = 0

    async def handler(request: Any) -> None:
        nonlocal handled
        handled += 1
        if request.field == CommandField.C_STORE_RQ:
            if chance.random() < 0.5:
                await request.read()
            else:
                async for _ in request.chunks():
                    await asyncio.sleep(0)
        await request.respond()

    timers = Timers(artim=0.5, progress=0.5, idle=0.5, response=0.5)
    options: dict[str, Any] = {"maximum_associations": 1000, "maximum_per_host": 1000}
    config = AssociationConfig(timers=timers)
    async with dulcet.aio.serve("HERE@127.0.0.1:0", handler, config=config, **options) as server:
        before = descriptors()
        for _ in range(STREAMS):
            await spoil(server.address.port, bytearray(whole), chance)
        async with dulcet.aio.associate(str(server.address)) as association:
            assert (await association.echo()).status == 0
        await until(lambda: not server._pending_connections and not server._tasks and server.count == 0)
        await until(lambda: descriptors() <= before)
    assert handled > STREAMS // 2  # most of them got that far
    assert complaints == []
    assert "unexpected" not in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


async def spoil(port: int, data: bytearray, chance: random.Random) -> None:
    """Send a stream with a few bytes changed, cut off, in pieces, and end it one way or another."""
    for _ in range(chance.choice((0, 1, 1, 3, 10))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    del data[chance.choice((len(data), chance.randrange(len(data)))) :]
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        position = 0
        while position < len(data):
            size = chance.choice((1, 7, 300, 5000, 50000))
            await loop.sock_sendall(sock, data[position : position + size])
            position += size
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        how = chance.random()
        if how < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how < 0.6:
            async with asyncio.timeout(0.02):
                while await loop.sock_recv(sock, 4096):
                    pass
    except (ConnectionError, TimeoutError):
        pass  # the server had enough of it
    finally:
        sock.close()
