"""Bytes and events of an association on an event loop: what user and provider build on.

Rules: no protocol decision here, the core makes them; every wait has a deadline; whatever leaves an `async with` block
by an exception aborts, everything else releases; after a timeout or an abort nothing is sent any more.  All of it
belongs to the thread of its loop, except for `interrupt()` and the answers to deferred requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet.aio.protocol import FULL, UNCLAIMED, Wire
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.reasons import TOO_LATE
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted, AssociationClosed, AssociationError, DimseTimeout, InstanceError, TLSError
from dulcet.log_codes import coded
from dulcet.services.negotiated import Negotiated
from dulcet.services.termination import ending, ends_in_order
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import Closed, ReleaseRequested

if TYPE_CHECKING:
    from dulcet.io.secure_stream import Session

__all__ = ["Channel"]

log: Final = logging.getLogger("dulcet.association")


BREATH: Final = 8
"""Pending responses that a provider gives in one turn of the loop; a turn costs as much as one or two of them."""


class Channel(Negotiated):
    """One association's core and wire, and the tasks that wait for what comes."""

    ending: str | None

    def __init__(self, core: DimseAssociation, wire: Wire, *, peer: str, address: Address | None = None) -> None:
        super().__init__(core, peer=peer, address=address)
        self._wire = wire
        wire.owner = self
        self._loop = wire.loop
        self._error: AssociationError | DimseTimeout | None = None
        self._leaving = False
        self._breath = 0
        self._waiting: set[asyncio.Future[Any]] = set()  # all who would wait for ever if it ended unsaid

    @property
    def tls(self) -> Session | None:
        """What TLS agreed on, the peer's certificate included; None without TLS."""
        return self._wire.session

    # ------------------------------------------------------------------ the end

    async def release(self) -> None:
        """A-RELEASE, orderly (PS3.8 section 7.2); nothing to do once it has ended.

        With operations that were left unanswered it aborts instead.  Raises AssociationAborted when the peer aborts,
        DimseTimeout when it does not answer within `Timers.release` seconds; what was answered before was answered.
        """
        core = self._core
        if core.outstanding:
            await self._settled()
        if self._is_over():
            await self._finished()
            return
        if self._leaving:  # another task is about it
            while not self._is_over():
                await self._wait()
            await self._finished()
            return
        if core.outstanding:  # PS3.7 allows no release now, and nobody is left who would wait for the answers
            log.warning(
                "%s: aborted, %d operations were left unanswered", self.peer, len(core.outstanding),
                extra=coded("DUL119"),
            )  # fmt: skip
            await self.abort()
            return
        for request in list(core.performing.values()):
            core.respond_status(request, Status.PROCESSING_FAILURE, ErrorComment=TOO_LATE)
        core.release()
        self._give_way()
        self._wire.pump()
        try:
            while not self._is_over():
                await self._wait()
            await self._finished()
        except BaseException:
            self._end_here(_aborted_by_us(self.peer))
            raise
        if not isinstance(self._error, AssociationClosed):
            self._check_usable()

    async def abort(self) -> None:
        """A-ABORT: what is unanswered is not done."""
        self._end_here(_aborted_by_us(self.peer))
        await self._finished()

    def interrupt(self) -> None:
        """Have whoever waits on it stop with AssociationAborted, and the peer told; callable from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._end_here, _aborted_by_us(self.peer))

    async def close(self) -> None:
        """Release it if it stands, and close; raises what `release` does."""
        await self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not ends_in_order(self._core, error):
            await self.abort()
            return
        try:
            await self.release()
        except (AssociationError, DimseTimeout) as trouble:  # what was answered before was answered
            log.warning("%s: no orderly release: %s", self.peer, trouble, extra=coded("DUL124"))

    def _end_here(self, error: AssociationAborted | DimseTimeout) -> None:
        """Send A-ABORT, and have `error` raised for whoever still uses the association."""
        if self.ending is not None:
            return
        self._core.abort()
        self._over("timeout" if isinstance(error, DimseTimeout) else "aborted", error)
        self._wire.pump()

    def _ended(self, event: object) -> None:
        """The association is over by an event of the core."""
        word, error = ending(event, self.peer, self._core)
        if isinstance(event, Closed) and (verdict := self._wire.verdict) is not None:
            error = verdict
        if isinstance(event, ReleaseRequested):
            self._core.release_response()
            if event.collision:
                return  # our own release goes on
        self._over(word, error)

    def _over(self, word: str, error: AssociationError | DimseTimeout) -> None:
        """Remember how it ended, and tell everybody who waits."""
        if self.ending is not None:
            return
        self.ending, self._error = word, error
        self._wire.finish()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._give_way()

    def _give_way(self) -> None:
        """Nobody is waited for any more: look at what is left on the wire."""
        if not self._wire.lost:
            self._leaving = True
            self._loop.call_soon(self._wire.go_on, UNCLAIMED | FULL)

    async def _finished(self) -> None:
        """Until the transport is closed, which takes LAST_WORD seconds at most; at once where we are cancelled."""
        try:
            await self._finished_by_itself()
        except BaseException:
            self._wire.sever()
            raise

    async def _finished_by_itself(self) -> None:
        """Until the transport is closed, for whatever reason."""
        while not self._wire.lost:
            await self._wait()

    async def _settled(self) -> None:
        """Until the operations that were left early are answered or given up."""

    def _is_over(self) -> bool:
        return self.ending is not None

    def _check_usable(self) -> None:
        if self.ending is not None:
            assert self._error is not None
            raise self._error.with_traceback(None)

    # ------------------------------------------------------------------ waiting

    async def _wait(self) -> None:
        """Until the end of the association, or of its transport."""
        future: asyncio.Future[None] = self._loop.create_future()
        await self._suspend(future)

    async def _suspend(self, future: asyncio.Future[Any]) -> None:
        """Wait for something, or for the end of the association; the caller looks which it was."""
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    async def _room(self) -> None:
        """Until everything queued is with the kernel, so that a slow reader slows us down."""
        wire, core = self._wire, self._core
        self._breath += 1
        if not core.has_output and self._breath % BREATH == 0:
            await asyncio.sleep(0)  # a cancel may have come, and others want a turn
        while core.has_output and self.ending is None:
            future: asyncio.Future[None] = self._loop.create_future()
            wire.room.append(future)
            await self._suspend(future)

    # ------------------------------------------------------------------ what the wire tells

    def _spoiled(self, error: InstanceError) -> None:
        failure = AssociationAborted(0, 0, f"{error}; the association was aborted", by_us=True)
        failure.__cause__ = error
        self._end_here(failure)

    def _dispatch(self, event: Any) -> None:
        """One event of the core."""

    def _sent(self) -> None:
        """Something has left."""

    def _insecure(self, error: TLSError) -> None:
        self._over("closed", error)

    def _stalled(self) -> None:
        """Nothing was taken for so long that those who wait for what lies behind it are told."""

    def _lost(self) -> None:
        if self.ending is None and self._core.closed:
            self._ended(Closed(expected=True))
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _aborted_by_us(peer: str) -> AssociationAborted:
    return AssociationAborted(0, 0, f"{peer}: the association was aborted by this side", by_us=True)
