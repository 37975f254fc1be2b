"""What may wait leaves the loop's thread: the disk, and handlers that are plain functions.

Rule: the two never share a pool, for a handler waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import AssociationClosed
from dulcet.services.incoming import Incoming

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.aio.association import Association
    from dulcet.aio.requests import IncomingRequest
    from dulcet.io.receiving import Destination

__all__ = ["DISK_THREADS", "RequestInThread", "disk", "handlers"]

Result = TypeVar("Result")

DISK_THREADS: Final = 16
"""Several times more fsyncs a second leave 16 threads than one."""

disk: Final = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="dulcet-disk")
"""What opens, reads, writes and converts; `dulcet.aio.disk` hands over to it."""

handlers: Final = ThreadPoolExecutor(128, thread_name_prefix="dulcet-handler")
"""More than one host may have associations: a slow host cannot take every thread."""

LOOK: Final = 5.0
"""Seconds after which a thread that waits for its loop looks whether there still is one."""


class RequestInThread(Incoming):
    """An IncomingRequest for a handler that is a plain function: the same names, and they wait."""

    def __init__(self, request: IncomingRequest) -> None:
        super().__init__(request._request)
        self._inner = request
        self.association: Association = request.association

    @property
    def streams(self) -> bool:
        """True when its data set comes in pieces, and not all of it was read."""
        return self._inner.streams

    @property
    def deferred(self) -> bool:
        """True once `defer()` was called."""
        return self._inner.deferred

    def defer(self) -> RequestInThread:
        """Promise to answer later, maybe from another thread, while more requests are taken: for windows beyond 1.

        The data set is read first, for nothing else comes before it.
        """
        self._wait(self._inner.defer())
        return self

    def chunks(self) -> Iterator[memoryview]:
        """The encoded data set, piece by piece as it arrives; each piece is valid until the next is asked for.

        Nothing when there is none, or when it was read already.  Raises what ended the association, and in the blocking
        face LocalProtocolError where it came while something else was awaited, and was thrown away: read it, or
        `defer()`, before you ask the peer for something.
        """
        pieces = self._inner.chunks()
        try:
            while (piece := self._wait(_next(pieces))) is not None:
                yield piece
        finally:
            self._wait(_close(pieces))

    def read(self) -> bytes:
        """The whole encoded data set; empty when there is none, or when it was read already."""
        return self._wait(self._inner.read())

    def dataset(self) -> Dataset:
        """The data set, decoded by pydicom; ReceiveError (C000H) when it does not decode."""
        from dulcet.services.identifiers import decode_dataset

        return decode_dataset(self.read(), self.transfer_syntax)

    def save(self, directory: Destination) -> Any:
        """Stream the data set into a directory or another destination; its path, or what else the destination gives.

        `directory` is a `StoreDirectory`, or has its `begin` (`dulcet.io.receiving.Destination`).  All of the data set
        is taken off the wire, also where it is not kept.  Raises ReceiveError, whose `status` says why not, and what
        `chunks` does.
        """
        return self._wait(self._inner.save(directory))

    def respond(self, status: int = Status.SUCCESS, data: Source | None = None, **elements: Any) -> None:
        """Answer with a status; `data` is an encoded data set, `elements` are command elements by keyword.

        `status` is a number or a `Status`, 0000H by default; `data` is in the transfer syntax of the request.  What of
        the request's data set nobody has read is thrown away.  A failure without an ErrorComment gets the one of its
        status.
        A pending status (FF00H, FF01H) may be followed by more responses.  LocalProtocolError once answered.
        """
        self._wait(_respond(self._inner, status, data, elements))

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have the loop do it, and wait for it; the association's own timers bound that."""
        loop = self.association._loop
        future = asyncio.run_coroutine_threadsafe(work, loop)
        while True:
            try:
                return future.result(LOOK)
            except TimeoutError:
                if future.done():
                    raise  # the work's own
                if loop.is_closed() or not loop.is_running():
                    raise AssociationClosed(f"{self.association.peer}: the event loop has stopped") from None


async def _next(pieces: Any) -> memoryview | None:
    return await anext(pieces, None)


async def _close(pieces: Any) -> None:
    await pieces.aclose()


async def _respond(request: IncomingRequest, status: int, data: Source | None, elements: dict[str, Any]) -> None:
    await request.respond(status, data, **elements)
