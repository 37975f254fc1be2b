"""What a node negotiates is settled when it starts: what comes too late is told, and limits are those it was given."""

from __future__ import annotations

import asyncio

import pytest
from tests.node.hosting import CT, calling, instance, serving

import dulcet
from dulcet import Node
from dulcet.errors import AssociationRefused, LocalProtocolError
from dulcet.upper_layer.address import Address


def test_a_handler_of_something_new_is_refused_while_a_node_serves_and_taken_afterwards():
    node = Node("NODE")
    with serving(node):
        with pytest.raises(LocalProtocolError, match=r"^node NODE serves already, and a handler of C-FIND-RQ"):
            node.on_find(lambda request: ())
        with pytest.raises(LocalProtocolError, match="an admission hook would not"):
            node.on_associate(lambda request: None)
        with pytest.raises(LocalProtocolError, match="a verifier of identities would not"):
            node.verify_identity(lambda identity, request: True)
        assert node.handler_for(0x20, "1.2.840.10008.5.1.4.1.2.2.1") is None
    node.on_find(lambda request: ())


def test_a_handler_may_take_the_place_of_another_while_a_node_serves():
    node, kept = Node("NODE"), []
    node.on_store(lambda request: None, classes=(CT,))
    with serving(node) as server:
        node.on_store(kept.append, classes=(CT,))
        with calling(server, CT) as association:
            association.store(instance("1.2.1")).check()
    assert len(kept) == 1


def test_in_an_event_loop_as_well():
    async def run() -> None:
        node = Node("NODE")
        async with node.start():
            with pytest.raises(LocalProtocolError, match="a handler of N-GET-RQ would not be negotiated: register it"):
                node.on_n_get(lambda request: None)
        node.on_n_get(lambda request: None)

    asyncio.run(run())


def test_associations_of_one_title_are_bounded_with_threads():
    with serving(Node("NODE"), maximum_per_ae=1) as server, calling(server, calling_ae_title="ONE"):
        with pytest.raises(AssociationRefused) as caught:
            calling(server, calling_ae_title="ONE")
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
        calling(server, calling_ae_title="TWO").release()


def test_associations_of_one_title_are_bounded_in_an_event_loop():
    def pending(address: Address) -> None:
        with dulcet.associate(address, calling_ae_title="ONE"):
            with pytest.raises(AssociationRefused, match="2,3,2"):
                dulcet.associate(address, calling_ae_title="ONE")
            dulcet.associate(address, calling_ae_title="TWO").release()

    async def run() -> None:
        async with Node("NODE").start(maximum_per_ae=1) as server:
            await asyncio.to_thread(pending, server.address)

    asyncio.run(run())
