"""A request of the peer, in the hands of a task: read its data set, answer it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.protocol import LENT, UNCLAIMED
from dulcet.aio.saving import Saving
from dulcet.dimse.association import PENDING
from dulcet.dimse.command import Command
from dulcet.dimse.events import DataReceived
from dulcet.dimse.operations import Request
from dulcet.dimse.reasons import UNANSWERED
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError, LocalProtocolError
from dulcet.log_codes import coded
from dulcet.services.incoming import Incoming

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.aio.association import Association
    from dulcet.io.receiving import Destination

__all__ = ["IncomingRequest"]

log: Final = logging.getLogger("dulcet.association")

Sink = Callable[[memoryview], None]


class IncomingRequest(Incoming):
    """A C- or N- request (PS3.7); answer it with `respond`, once, or with pending responses before the final one."""

    _on_cancel: Callable[[], object] | None = None
    """Called when C-CANCEL comes for it."""

    def __init__(self, association: Association, request: Request) -> None:
        """For associations: the one that it came on, `association`, and what their core has of it, `request`."""
        super().__init__(request)
        self.association = association
        self._sink: Sink | None = None
        self._wakes: list[asyncio.Future[None]] = []
        self._lent: memoryview | None = None
        self._answer: tuple[int, Command | None, Source | None] | None = None  # given, to be sent behind the data set

    async def defer(self) -> IncomingRequest:
        """Promise to answer later, maybe from another thread, while more requests are taken: for windows beyond 1.

        The data set is read first, for nothing else comes before it.
        """
        if self._unread:
            self._request.data = await self.read()
        self._deferred = True
        return self

    async def chunks(self) -> AsyncIterator[memoryview]:
        """The encoded data set, piece by piece as it arrives; each piece is valid until the next is asked for.

        Nothing when there is none, or when it was read already.  Raises what ended the association, and in the blocking
        face LocalProtocolError where it came while something else was awaited, and was thrown away: read it, or
        `defer()`, before you ask the peer for something.
        """
        if not self._unread:
            if self._request.data is not None:
                yield memoryview(self._request.data)
            return
        wire = self.association._wire

        def lend(piece: memoryview) -> None:
            self._lent = piece
            wire.hold(LENT)

        self._claim(lend)
        try:
            while True:
                if self._lent is not None:
                    yield self._lent
                    self._lent = None
                    if self._sink is lend:
                        wire.go_on(LENT)
                elif not self.streams or self._sink is not lend:
                    return
                else:
                    await self._next()
        finally:
            self._disclaim(lend)

    async def read(self) -> bytes:
        """The whole encoded data set; empty when there is none, or when it was read already."""
        pieces: list[bytes] = []
        await self._consume(lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    async def dataset(self) -> Dataset:
        """The data set, decoded by pydicom; ReceiveError (C000H) when it does not decode."""
        from dulcet.services.identifiers import decode_dataset

        return decode_dataset(await self.read(), self.transfer_syntax)

    async def save(self, directory: Destination) -> Any:
        """Stream the data set into a directory or another destination; its path, or what else the destination gives.

        `directory` is a `StoreDirectory`, or has its `begin` (`dulcet.io.receiving.Destination`).  All of the data set
        is taken off the wire, also where it is not kept.  Raises ReceiveError, whose `status` says why not, and what
        `chunks` does.
        """
        saving = Saving(
            self.association._wire,
            directory,
            (self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax),
            self.association.calling_ae_title,
        )
        try:
            await self._consume(saving.take)
            return await saving.finish()
        except Exception:
            await saving.drop()
            raise
        except BaseException:  # whoever cancels us does not wait for a disk
            saving.leave()
            raise

    def respond(self, status: int = Status.SUCCESS, data: Source | None = None, **elements: Any) -> Awaitable[None]:
        """Answer with a status; `data` is an encoded data set, `elements` are command elements by keyword.

        `status` is a number or a `Status`, 0000H by default; `data` is in the transfer syntax of the request.  What of
        the request's data set nobody has read is thrown away.  A failure without an ErrorComment gets the one of its
        status.
        A pending status (FF00H, FF01H) may be followed by more responses.  LocalProtocolError once answered.
        """
        association = self.association
        if threading.get_ident() != association._wire.thread:
            return self._respond_from_elsewhere(status, data, elements)
        if self.answered or self._answer is not None:
            raise LocalProtocolError(f"{self.name} {self.message_id} was answered already")
        association._check_usable()
        command = None
        if data is not None or elements or status in PENDING:
            command = self._response(status, data is not None, elements)
        if not self._unread:
            self._send(status, command, data)
            return DONE if self._request.answered else _Afterwards(association._room)
        self._answer = (status, command, data)
        self._claim(_discard)
        return _Afterwards(self._drained)

    def _respond_from_elsewhere(self, status: int, data: Source | None, elements: dict[str, Any]) -> Awaitable[None]:
        """The same from another thread, which waits for the loop to have done it."""
        done: Future[None] = Future()

        def answer() -> None:
            try:
                self.respond(status, data, **elements)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self.association._loop.call_soon_threadsafe(answer)
        done.result()
        return DONE

    def _send(self, status: int, command: Command | None, data: Source | None) -> None:
        core, wire = self.association._core, self.association._wire
        if command is None:
            core.respond_status(self._request, status)
        else:
            core.respond(self._request, command, data)
        # PAUSED may be over by it; where more answers are under way, they leave together.
        if core.performing or core.has_unread:
            wire.pump_soon()
        else:
            wire.pump()

    def _settle(self, why: str = UNANSWERED) -> None:
        """Whoever had it is done with it: what was not answered, and not deferred, failed."""
        if not self.answered and not self._deferred and self._answer is None and self.association.ending is None:
            self.respond(Status.PROCESSING_FAILURE, ErrorComment=why)

    # ------------------------------------------------------------------ the data set

    def _claim(self, sink: Sink) -> None:
        """Have the pieces go to `sink` from now on, in the transport's callback."""
        self._sink, self._lent = sink, None
        self.association._wire.go_on(UNCLAIMED | LENT)

    def _disclaim(self, sink: Sink) -> None:
        """Nobody takes what is left of it, for now."""
        if self._sink is sink:
            self._sink = self._lent = None
            self.association._await_claim(self)

    def _take(self, event: DataReceived) -> None:
        """A piece came."""
        sink = self._sink
        if event.is_last:
            self._unread = False
        if sink is not None and event.data:
            sink(event.data)
        if not self._unread and self._answer is not None:
            try:
                self._send(*self._answer)
            except DulcetError as error:
                log.warning(
                    "%s: %s was not answered: %s", self.association.peer, self.name, error, extra=coded("DUL205")
                )
        self._notify()

    def _notify(self) -> None:
        for future in self._wakes:
            if not future.done():
                future.set_result(None)
        self._wakes.clear()

    async def _next(self) -> None:
        """Until a piece came, or the association ended: then its error."""
        self.association._check_usable()
        future = self.association._loop.create_future()
        self._wakes.append(future)
        await self.association._suspend(future)
        if self._unread and self._lent is None:
            self.association._check_usable()

    async def _consume(self, sink: Sink) -> None:
        """Have the whole data set go to `sink`."""
        if not self._unread:
            if self._request.data is not None:
                sink(memoryview(self._request.data))
            return
        self._claim(sink)
        try:
            while self._unread:
                await self._next()
        finally:
            self._disclaim(sink)

    async def _drained(self) -> None:
        while self._unread and self.association.ending is None:
            await self._next()


class _Done:
    """Nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


DONE: Final = _Done()


class _Afterwards:
    """What may be awaited, and need not be."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        result: Generator[Any, None, None] = self._wait().__await__()
        return result


def _discard(piece: memoryview) -> None:
    """Nobody wants it."""
