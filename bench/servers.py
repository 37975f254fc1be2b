"""Servers that no command starts as they are measured: limits far away, the face and the window as asked.

Usage: servers.py threads|asyncio --dir DIR [--window N]; prints `listening on ...`, ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import dulcet
from dulcet import aio
from dulcet.blocking.receiver import Receiver

FAR = 100_000  # associations at once, of one address too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("face", choices=("threads", "asyncio"))
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--window", type=int, default=1)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    # Idle associations are the point: none of them is to be ended while it is looked at.
    timers = dulcet.Timers(idle=None)
    config = dulcet.AssociationConfig(window_performed=options.window, window_invoked=options.window, timers=timers)
    with dulcet.StoreDirectory(options.dir, durability="none") as directory:
        if options.face == "threads":
            _threads(directory, config)
        else:
            asyncio.run(_loop(directory, config))


def _threads(directory: dulcet.StoreDirectory, config: dulcet.AssociationConfig) -> None:
    def answer(request: Any) -> None:
        if request.field == dulcet.CommandField.C_STORE_RQ:
            request.save(directory)
        request.respond(dulcet.Status.SUCCESS)

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    receiver = Receiver("BENCH@127.0.0.1:0", answer, config=config, maximum_associations=FAR, maximum_per_host=FAR)
    _say(receiver.address)
    ended.wait()
    receiver.stop(0.0)


async def _loop(directory: dulcet.StoreDirectory, config: dulcet.AssociationConfig) -> None:
    async def answer(request: Any) -> None:
        if request.field == dulcet.CommandField.C_STORE_RQ:
            await request.save(directory)
        await request.respond(dulcet.Status.SUCCESS)

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with aio.serve(
        "BENCH@127.0.0.1:0", answer, config=config, maximum_associations=FAR, maximum_per_host=FAR
    ) as server:
        _say(server.address)
        await ended.wait()


def _say(address: Any) -> None:
    print(f"listening on 127.0.0.1:{address.port} as {address.ae_title}", flush=True)


if __name__ == "__main__":
    main()
