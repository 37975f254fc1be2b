"""The asyncio face: the names of the blocking one, awaited.

    async with dulcet.aio.associate("ARCHIVE@127.0.0.1:11112") as association:
        (await association.echo()).check()

It runs on the loop that is there, uvloop included, and installs none.
"""

from __future__ import annotations

from dulcet.aio.association import Association, associate
from dulcet.aio.pool import Pool
from dulcet.aio.requests import IncomingRequest
from dulcet.aio.server import Server, serve

__all__ = ["Association", "IncomingRequest", "Pool", "Server", "associate", "serve"]
