"""What our own tests use, for the tests of those who build on dulcet.

`dulcet.testing.pairs` has two cores with a fake wire and a fake clock; `serving` runs a node on a free port; with
`pytest_plugins = ["dulcet.testing.plugin"]` there is the fixture `dulcet_node`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dulcet.node.application import Node
    from dulcet.upper_layer.address import Address

__all__ = ["serving"]


@contextmanager
def serving(node: Node, *, seconds: float = 2.0) -> Iterator[Address]:
    """The node serves on loopback and a free port while the block runs; where.

    What stands after the block has `seconds` to end by itself.
    """
    server = node.threads()
    try:
        yield server.address
    finally:
        server.stop(seconds)
