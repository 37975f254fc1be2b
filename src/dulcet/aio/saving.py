"""A data set on its way into a destination, which may wait for a disk: in threads, in as few trips as possible.

Rules: no method of a destination is called in the loop's thread; those of one instance never at the same time; a
destination that is slow slows its sender down, and nobody else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.disk import Disk
from dulcet.aio.protocol import WRITING, Wire

if TYPE_CHECKING:
    from dulcet.io.receiving import Destination, IncomingInstance

__all__ = ["Saving"]

TOGETHER: Final = 576 * 1024
"""Bytes that make one trip to a thread; as many may be collected meanwhile.  Most objects need no second trip: a matrix
of 512 x 512 x 16 bits has room here with all that stands before it."""
ALONE: Final = 64 * 1024
"""Up to here a first piece is kept as bytes of its own; what is longer goes into a buffer that is used again, for
fresh memory of that size costs more than the copy."""
ROOM: Final = TOGETHER + 128 * 1024
"""Bytes of a buffer: what makes it full need not end where it does."""
SPARE: Final = 16
"""Buffers that are kept for the next ones."""

_spare: Final[list[bytearray]] = []


class Saving:
    """One instance: give it what comes, then `finish` or `drop` it."""

    def __init__(self, wire: Wire, destination: Destination, announced: tuple[str, str, str], source: str) -> None:
        self._wire = wire
        self._disk = Disk.of(wire.loop)
        self._destination = destination
        self._waits = bool(getattr(destination, "durable", True))
        self._announced = announced
        self._source = source
        self._small = b""  # all there is, where that is little
        self._buffer: bytearray | None = None
        self._size = 0  # bytes collected, in the one or the other
        self._trip: asyncio.Future[None] | None = None
        self._incoming: IncomingInstance | None = None
        self._failure: BaseException | None = None
        self._held = False
        self._left = False
        self._completing = False  # commit or discard is under way, or was

    def take(self, piece: memoryview) -> None:
        """Something came; it is copied, for the buffer that it lies in is read into again."""
        if self._failure is not None or self._left:
            return  # the rest of the data set still has to be read off the wire
        size = len(piece)
        if not self._size and size <= ALONE:
            self._small, self._size = bytes(piece), size
            return
        if self._buffer is None:
            self._buffer = _spare.pop() if _spare else bytearray(ROOM)
            self._buffer[: self._size] = self._small
            self._small = b""
        if self._size + size > len(self._buffer):  # longer pieces than we announce room for by default
            self._buffer += bytes(self._size + size - len(self._buffer))
        self._buffer[self._size : self._size + size] = piece
        self._size += size
        if self._size < TOGETHER:
            return
        if self._trip is None:
            self._send_off()
        elif not self._held:
            self._held = True
            self._wire.hold(WRITING)

    async def finish(self) -> Any:
        """All of it came: what the destination's `commit` gives; raises what any of its methods raised."""
        while self._trip is not None:
            await asyncio.wait((self._trip,))
        if self._failure is not None:
            raise self._failure
        self._completing = True
        return await self._disk.do(self._complete, *self._collected(), waits=self._waits)

    async def drop(self) -> None:
        """Not all of it came, or it cannot be kept: nothing of it is left; nothing to do once it is completed."""
        self._give_up()
        while self._trip is not None:
            await asyncio.wait((self._trip,))
        if (last := self._let_go()) is not None:
            await last

    def leave(self) -> None:
        """The same without waiting for it."""
        self._give_up()
        if self._trip is None:
            self._let_go()
        else:
            self._trip.add_done_callback(lambda _: self._let_go())

    def _give_up(self) -> None:
        self._left = True
        self._small, self._buffer = b"", None
        self._go_on()

    def _let_go(self) -> asyncio.Future[None] | None:
        if self._completing or self._incoming is None:
            return None
        self._completing = True
        return self._disk.do(self._discard)

    def _collected(self) -> tuple[bytes | bytearray, int]:
        """What is to be written, and how much of it; from now on something else is collected."""
        data = self._small if self._buffer is None else self._buffer
        size, self._small, self._buffer, self._size = self._size, b"", None, 0
        return data, size

    def _send_off(self) -> None:
        self._trip = self._disk.do(self._write, *self._collected())
        self._trip.add_done_callback(self._arrived)

    def _arrived(self, trip: asyncio.Future[None]) -> None:
        self._trip = None
        self._failure = trip.exception()
        if self._failure is None and self._size >= TOGETHER and not self._left:
            self._send_off()
        self._go_on()

    def _go_on(self) -> None:
        if self._held:
            self._held = False
            self._wire.go_on(WRITING)

    # ------------------------------------------------------------------ in a thread

    def _write(self, data: bytes | bytearray, size: int) -> None:
        if self._incoming is None:
            class_uid, instance_uid, syntax = self._announced
            self._incoming = self._destination.begin(class_uid, instance_uid, syntax, source_ae_title=self._source)
        if not size:
            return
        with memoryview(data) as whole, whole[:size] as view:
            self._incoming.write(view)
        if type(data) is bytearray and len(data) == ROOM and len(_spare) < SPARE:
            _spare.append(data)

    def _complete(self, data: bytes | bytearray, size: int) -> Any:
        """To the end, even where nobody waits for it any more."""
        try:
            self._write(data, size)
            assert self._incoming is not None
            return self._incoming.commit()
        finally:
            self._discard()

    def _discard(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.discard()
