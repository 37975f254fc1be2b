"""A pytest plugin: `pytest_plugins = ["dulcet.testing.plugin"]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from dulcet.node.application import Node
from dulcet.testing import serving
from dulcet.upper_layer.address import Address

__all__ = ["dulcet_node"]


@pytest.fixture
def dulcet_node() -> Iterator[Callable[[Node], Address]]:
    """`address = dulcet_node(node)` serves a node on a free port of loopback until the test is over."""
    with ExitStack() as stack:
        yield lambda node: stack.enter_context(serving(node))
