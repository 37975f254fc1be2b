"""What users test with."""

from __future__ import annotations

from collections.abc import Callable

import dulcet
from dulcet.testing.pairs import Pair, Provider, echo

pytest_plugins = ["dulcet.testing.plugin"]


def test_a_node_serves_until_the_test_is_over(dulcet_node: Callable[[dulcet.Node], dulcet.Address]) -> None:
    address = dulcet_node(dulcet.Node("TESTED"))
    with dulcet.associate(address) as association:
        association.echo().check()


def test_two_cores_talk_without_sockets() -> None:
    pair = Pair()
    pair.establish()
    pair.acceptor.application = Provider()
    operation = echo(pair.requestor)
    pair.run()
    assert operation.message_id not in pair.requestor.core.outstanding
