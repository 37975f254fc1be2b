"""A node served by either face, for tests that do not care which."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dulcet

FACES = ("threads", "loop")


@contextmanager
def served(node: dulcet.Node, face: str) -> Iterator[dulcet.Address]:
    """Serve on loopback while the block runs; its address."""
    if face == "threads":
        with node.threads() as serving:
            yield serving.address
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        serving = asyncio.run_coroutine_threadsafe(_start(node), loop).result(10.0)
        try:
            yield serving.address
        finally:
            asyncio.run_coroutine_threadsafe(serving.stop(), loop).result(20.0)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        loop.close()


async def _start(node: dulcet.Node):
    return await node.start()
