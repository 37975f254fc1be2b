"""The way to a connected socket without waiting in the loop's thread."""

from __future__ import annotations

import asyncio
import socket

from dulcet.io.sockets import failure, prepare, unknown_host, unreachable

__all__ = ["connect"]


async def connect(loop: asyncio.AbstractEventLoop, host: str, port: int, seconds: float) -> socket.socket:
    """A connected non-blocking socket, trying every address that `host` has, for so many seconds in all.

    Raises PeerUnreachable, which names each address tried and what happened there.
    """
    deadline = loop.time() + seconds
    try:
        async with asyncio.timeout(seconds):
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise unknown_host(host, TimeoutError(f"no answer from the name server within {seconds:g} s")) from error
    except (OSError, UnicodeError) as error:
        raise unknown_host(host, error) from error
    failures: list[str] = []
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        # Each address gets its share of the time, so that one that swallows packets leaves some for the next.
        share = max((deadline - loop.time()) / (len(addresses) - index), 0.001)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failures.append(failure(address, error, share))
            continue
        try:
            prepare(sock)
            async with asyncio.timeout(share):
                await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failures.append(failure(address, error, share))
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise unreachable(host, port, failures)
