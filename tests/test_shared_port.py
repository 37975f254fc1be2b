"""Several servers behind one port, on every face: who takes what, and limits that hold for all of them together."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.faces import Faces, on_each_face

import dulcet
from dulcet import Status
from dulcet.io.shared_port import SharedPort

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes inherit sockets on POSIX systems")

SLOTS = 6


@pytest.fixture
def ports() -> Iterator[list[SharedPort]]:
    """One port as two members have it, each with descriptors of its own, as in two processes."""
    parent = SharedPort.open("127.0.0.1", 0, members=2, slots=SLOTS)
    members = [
        SharedPort([sock.dup() for sock in parent.sockets], os.dup(parent.table), 2, SLOTS, number) for number in (0, 1)
    ]
    parent.close()
    yield members
    for member in members:
        member.close()
        os.close(member.table)
    os.close(parent.table)


def naming(name: str, taken: Counter[str]) -> Any:
    """A handler that counts what came to the server of this name."""

    async def handler(request: Any) -> None:
        taken[name] += 1
        await request.respond(Status.SUCCESS)

    return handler


@on_each_face
async def test_whoever_has_fewer_takes_the_next_and_limits_are_for_both(faces: Faces, ports: list[SharedPort]) -> None:
    taken: Counter[str] = Counter()
    with ExitStack() as stack:
        for name, port in zip("ab", ports):
            options = {"shared": port, "maximum_associations": SLOTS, "maximum_per_ae": 4}
            provider = stack.enter_context(faces.handling(naming(name, taken), **options))
            assert provider.address.endswith(f":{port.port}")
        standing = [
            dulcet.associate(provider.address, calling_ae_title=title) for title in ("X", "X", "X", "X", "Y", "Y")
        ]
        for association in standing:
            association.echo().check()
        assert sum(taken.values()) == SLOTS
        assert min(taken.values()) >= 2  # three, where nobody is kept waiting
        with pytest.raises(dulcet.AssociationRefused, match="2,3,2"):
            dulcet.associate(provider.address, calling_ae_title="Y")
        standing.pop().release()  # room, but not for another one of X
        await_room(provider.address, "Y").release()
        with pytest.raises(dulcet.AssociationRefused, match="2,3,2"):
            dulcet.associate(provider.address, calling_ae_title="X")
        for association in standing:
            association.release()


def await_room(address: str, title: str) -> dulcet.Association:
    """The place of one that was released is free when its server has noticed."""
    for _ in range(1000):
        try:
            return dulcet.associate(address, calling_ae_title=title)
        except dulcet.AssociationRefused as error:
            if (error.result, error.source, error.reason) != (2, 3, 2):
                raise
    raise AssertionError("there is no room")


@on_each_face
async def test_one_that_stops_leaves_the_port_to_the_other(faces: Faces, ports: list[SharedPort]) -> None:
    taken: Counter[str] = Counter()
    with faces.handling(naming("b", taken), shared=ports[1], maximum_associations=SLOTS) as provider:
        with faces.handling(naming("a", taken), shared=ports[0], maximum_associations=SLOTS):
            pass
        ports[1].clear(0)  # as a parent does for one that is gone
        for _ in range(3):
            with dulcet.associate(provider.address) as association:
                association.echo().check()
    assert taken == {"b": 3}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(provider.address.rpartition(":")[2])))


def test_a_port_that_counts_less_than_may_stand_is_refused(ports: list[SharedPort]) -> None:
    with pytest.raises(ValueError, match="7 associations, but the shared port counts 6"):
        dulcet.listen("X@127.0.0.1:0", shared=ports[0], maximum_associations=7)
