"""Both faces as users of a scripted provider: they associate, echo, release; what is raised."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

from tests.hostile.scripted import PATIENCE, Peer
from tests.hostile.targets import ECHO, QUICK

import dulcet
import dulcet.aio
from dulcet.dimse.status import Status

__all__ = ["attempt", "provider"]

CONFIG: Final = dulcet.AssociationConfig(timers=dulcet.Timers(associate=0.3, release=0.3, response=0.4, progress=0.3))
assert QUICK.artim


@contextlib.contextmanager
def provider(script: str) -> Iterator[str]:
    """A peer that plays a script to whoever connects first; its address."""
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play() -> None:
            try:
                sock, _ = listening.accept()
                with sock:
                    Peer(sock).perform(script)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield f"PROVIDER@127.0.0.1:{listening.getsockname()[1]}"
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the scripted provider hangs"
    if failures:
        raise failures[0]


def attempt(face: str, address: str) -> Status | Exception:
    """The status of an echo, or what was raised for it."""
    try:
        return on_a_loop(address) if face == "asyncio" else in_this_thread(address)
    except Exception as error:
        return error


def in_this_thread(address: str) -> Status:
    with dulcet.associate(address, contexts=ECHO, config=CONFIG) as association:
        return Status(association.echo().status)


def on_a_loop(address: str) -> Status:
    async def main() -> Status:
        async with (
            asyncio.timeout(PATIENCE),
            dulcet.aio.associate(address, contexts=ECHO, config=CONFIG) as association,
        ):
            return Status((await association.echo()).status)

    return asyncio.run(main())
