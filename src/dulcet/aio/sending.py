"""Sending many instances: contexts from the files, several associations where one does not do, results as they come.

Rules: an instance fails for itself alone; an association that broke is made anew, unless the last few of them got
nothing across; a file stays open until it was answered and every byte of it has left; whoever leaves early aborts what
is unanswered.  Files are looked at in threads; parallel associations have a task each; an only association is really
the only one, for there are peers that serve one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from dulcet.aio.association import Association, associate
from dulcet.aio.store_channel import LOST, Results, StoreChannel, WorkQueue, failed_by
from dulcet.aio.store_queue import StoreQueue
from dulcet.config import AssociationConfig
from dulcet.dimse.command import MEDIUM
from dulcet.errors import (
    AssociationError,
    AssociationRefused,
    DimseTimeout,
    DulcetError,
    NoPresentationContext,
    PeerUnreachable,
)
from dulcet.io.instances import Instance, InstanceSource
from dulcet.io.pixels import decompressible
from dulcet.io.send_buffer import FileFailed
from dulcet.io.walking import NEVER_SENT, each
from dulcet.services.proposals import StoragePlan
from dulcet.services.results import Sent
from dulcet.services.suboperations import FINISH, GRACE, unanswered
from dulcet.uids import name_of
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["Sending", "StoreMany"]

FRUITLESS: Final = 3
"""Associations in a row that get nothing across before the rest is given up; one may fall over one bad instance."""
CLOCK: Final = 0.01
"""Seconds by which a timer of the loop may be early."""

AGAIN: Final = (0.05, 0.2, 0.5)
"""Pauses, in seconds, before a further association is asked for again where nobody listened: some peers do not while
they have one, and need a moment after it."""

REFUSED: Final = "{} refused {} in {} and in whatever it could be converted to; `dulcet negotiate` shows what it takes"


class StoreMany:
    """One job of sending; `run` once."""

    def __init__(
        self,
        address: Address | None,
        *,
        calling_ae_title: str,
        config: AssociationConfig | None = None,
        associations: int = 1,
        window: int = 8,
        priority: int = MEDIUM,
        originator: tuple[str, int] | None = None,
        given: Association | None = None,
    ) -> None:
        """Without an `address` everything goes over the `given` association, as it does for an acceptor."""
        if associations < 1:
            raise ValueError(f"associations is {associations}: at least 1")
        if address is None and associations > 1:
            raise ValueError("an acceptor sends over the association that it was given: associations must be 1")
        config = config or AssociationConfig()
        self.address = address
        self.calling_ae_title = calling_ae_title
        self.config: AssociationConfig = replace(config, window_invoked=window)
        self.associations = associations
        self.priority = priority
        self.originator = originator
        self._plan = StoragePlan(decompressible())
        self._given = StoreChannel(given, self._plan, originator) if given is not None else None
        self._channels: list[StoreChannel] = []
        self._opened = False
        self._failure: DulcetError | None = None
        """Why the last association was given up, and with it what is still to be sent."""
        self._results = Results()
        self._store_queue = StoreQueue((), self._results)
        self._work_queue: WorkQueue | None = None
        self._stopping = asyncio.Event()
        self.begun: list[str] = []
        """SOP Instance UIDs of the C-STORE-RQs that were made, each as often as it was sent."""

    def run(self, what: InstanceSource | Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> Sending:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        return Sending(self, what if isinstance(what, AsyncIterable) else each(what))

    async def work(self, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        """The task that does it."""
        store_queue = self._store_queue = StoreQueue(what, self._results, ahead=self.associations == 1)
        try:
            if self._given is not None:
                self._given.association._check_usable()
            while not self._stopping.is_set() and (batch := await store_queue.batch()):
                await self._send(batch)
        except asyncio.CancelledError:
            await self._close(abort=False)
            raise
        except BaseException:
            await self._close(abort=True)
            raise
        else:
            await self._close(abort=False)
        finally:
            await store_queue.close()
            self._results.wake()

    def stop(self) -> None:
        """Begin nothing more; the task ends once what is under way was answered, and the associations are released."""
        self._stopping.set()
        if self._work_queue is not None:
            self._work_queue.stopped = True

    def _planned(self, instances: Iterable[Instance]) -> WorkQueue:
        """A list to send from, which `stop` knows."""
        self._work_queue = WorkQueue(instances, self.begun)
        self._work_queue.stopped = self._stopping.is_set()
        return self._work_queue

    async def _run(self, channel: StoreChannel, work_queue: WorkQueue) -> None:
        """Send these, and over an only association what follows them as well."""
        if self.associations == 1 and work_queue:
            work_queue.more = functools.partial(self._store_queue.follow, channel.carries)
        try:
            await channel.run(work_queue, self.priority, self._results)
        finally:
            work_queue.more = None

    async def _send(self, instances: Sequence[Instance]) -> None:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        _put_back(instances, waiting)
        if self.associations == 1:
            await self._use_standing(waiting)
        while waiting and not self._stopping.is_set():
            channels = self._standing(waiting)
            if channels:
                pairs = [pair for pair in waiting if all(channel.carries(pair) for channel in channels)]
                work_queue = self._planned([instance for pair in pairs for instance in waiting.pop(pair)])
                await self._drive_all(channels, work_queue)
            elif self._plan.contexts(waiting):
                await self._ask(waiting)
            else:
                for instance in [instance for pair in list(waiting) for instance in waiting.pop(pair)]:
                    error = NoPresentationContext(REFUSED.format(self.address, *map(name_of, _pair(instance))))
                    await self._results.put(failed_by(instance, error))

    async def _ask(self, waiting: dict[tuple[str, str], list[Instance]]) -> None:
        """Send what one more association carries, or several that are alike; take it out of `waiting`."""
        # An only association takes over the contexts of the one before: more of their kind may come.
        alone = self.associations == 1
        before = [each for channel in self._channels for each in channel.association.contexts] if alone else []
        wanted = self._plan.contexts(waiting)
        proposals = self._plan.contexts(waiting, before)
        # There are peers that serve one at a time, and what these carry was sent already.
        for channel in list(self._channels):
            await self._release(channel)
        classes = {proposal.abstract_syntax for proposal in proposals}
        pairs = [pair for pair in waiting if pair[0] in classes]
        work_queue = self._planned([instance for pair in pairs for instance in waiting.pop(pair)])
        try:
            channel = await self._open(proposals)
        except LOST as error:
            if self._stopping.is_set():
                return
            if not self._asks_otherwise(error, wanted):
                if not self._opened and self._given is None:
                    raise
                self._failure = error
                await self._give_up(work_queue)
            _put_back(work_queue, waiting)
            return
        self._plan.learn(proposals, channel.association.contexts)
        _put_back(work_queue.take_out(lambda instance: channel.settles(_pair(instance))), waiting)
        await self._drive_all([channel], work_queue)

    async def _drive_all(self, channels: Sequence[StoreChannel], work_queue: WorkQueue) -> None:
        """Send over these, and as many more like them as were wished for."""
        count = min(self.associations, len(work_queue))
        if count > 1:
            await self._drive_parallel(channels[:count], channels[0].proposals, work_queue, count)
        elif count:
            await self._drive(channels[0], channels[0].proposals, work_queue)
        await self._give_up(work_queue)

    def _standing(self, waiting: Iterable[tuple[str, str]]) -> list[StoreChannel]:
        """The parallel associations that stand, where something waits that all of them carry."""
        channels = list(self._channels) if self.associations > 1 else []
        return channels if any(all(channel.carries(pair) for channel in channels) for pair in waiting) else []

    def _asks_otherwise(self, error: DulcetError, proposals: Iterable[Proposal]) -> bool:
        """True when the association was rejected without a reason, and something else can be asked for instead."""
        no_reason = isinstance(error, AssociationRefused) and (error.result, error.source, error.reason) == (1, 1, 1)
        return no_reason and self._plan.refuse(proposals)

    async def _use_standing(self, waiting: dict[tuple[str, str], list[Instance]]) -> None:
        """Send what the associations that stand can carry; take it out of `waiting`."""
        for channel in [*([self._given] if self._given is not None else []), *self._channels]:
            # Where no other association can be made, this one may have to convert, or say why not.
            pairs = [pair for pair in waiting if self.address is None or channel.carries(pair)]
            work_queue = self._planned([instance for pair in pairs for instance in waiting.pop(pair)])
            try:
                await self._run(channel, work_queue)
            except LOST as error:
                await self._lost(channel, work_queue, error)
                if self.address is None:
                    await self._give_up(work_queue)
                _put_back(work_queue, waiting)

    async def _drive(self, channel: StoreChannel, proposals: Sequence[Proposal], work_queue: WorkQueue) -> None:
        """Send over one association, made anew when it is lost; some are left when it was given up."""
        fruitless = 0
        while True:
            try:
                await self._run(channel, work_queue)
                return
            except LOST as error:
                failure = error
            await self._lost(channel, work_queue, failure)
            if not work_queue:
                return
            progress = channel.delivered or isinstance(failure.__cause__, FileFailed)
            fruitless = 0 if progress else fruitless + 1
            if fruitless >= (1 if isinstance(failure, DimseTimeout) else FRUITLESS):
                return
            try:
                channel = await self._open(proposals)
            except LOST as error:
                self._failure = error
                return

    async def _drive_parallel(
        self, standing: Sequence[StoreChannel], proposals: Sequence[Proposal], work_queue: WorkQueue, count: int
    ) -> None:
        """The same with several associations, a task for each; they take from one list."""
        opening: set[asyncio.Task[None] | None] = set()

        async def work(channel: StoreChannel | None) -> None:
            with contextlib.suppress(*LOST):  # fewer associations than wished for; the others do the work
                if channel is None:
                    opening.add(task := asyncio.current_task())
                    try:
                        channel = await self._open(proposals)
                    finally:
                        opening.discard(task)
                await self._drive(channel, proposals, work_queue)

        tasks = [asyncio.ensure_future(work(channel)) for channel in [*standing, *[None] * (count - len(standing))]]
        pending = set(tasks)
        try:
            # A peer that serves one association at a time answers the others once the first is released: too late.
            while pending and (work_queue or not pending <= opening):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # ------------------------------------------------------------------ associations

    async def _open(self, proposals: Sequence[Proposal]) -> StoreChannel:
        assert self.address is not None
        if self._stopping.is_set():
            raise AssociationError("nothing more is to be sent")
        association = await self._associate(proposals)
        if self._stopping.is_set():
            await association.release()
            raise AssociationError("nothing more is to be sent")
        channel = StoreChannel(association, self._plan, self.originator, proposals)
        self._opened = True
        self._channels.append(channel)
        return channel

    async def _associate(self, proposals: Sequence[Proposal]) -> Association:
        assert self.address is not None
        for pause in (*(AGAIN if self._opened else ()), None):
            begun = time.monotonic()
            try:
                return await associate(
                    self.address, calling_ae_title=self.calling_ae_title, contexts=proposals, config=self.config
                )
            except PeerUnreachable:
                if pause is None or time.monotonic() - begun > 1:
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _lost(self, channel: StoreChannel, work_queue: WorkQueue, error: DulcetError) -> None:
        """What the loss of an association means for what was on its way there."""
        self._failure = error
        failed, again = channel.abandon(error)
        work_queue.give_back(again)
        if channel in self._channels:
            self._channels.remove(channel)
        for sent in failed:
            await self._results.put(sent)

    async def _give_up(self, work_queue: WorkQueue) -> None:
        for instance in work_queue:
            assert self._failure is not None
            await self._results.put(failed_by(instance, self._failure))

    async def _release(self, channel: StoreChannel) -> None:
        self._channels.remove(channel)
        with contextlib.suppress(DulcetError):
            await channel.association.release()

    def leave(self) -> None:
        """Whoever asked has gone: what is unanswered on the association that was given is not waited for."""
        if self._given is not None:
            self._given.leave()

    def forget(self) -> None:
        """The same after a cancel: the association that was given goes on."""
        if self._given is not None:
            self._given.forget()

    async def _close(self, abort: bool) -> None:
        """Release our own associations; those with something unanswered, after an early end, are aborted."""
        channels, self._channels = self._channels, []
        given = self._given
        if given is not None and given.is_busy:
            if abort:
                channels.append(given)
            else:
                given.leave()
        await asyncio.gather(*(self._end(channel, abort or channel.is_busy) for channel in channels))

    async def _end(self, channel: StoreChannel, abort: bool) -> None:
        with contextlib.suppress(DulcetError):
            if abort:
                await channel.association.abort()
            else:
                await channel.association.release()
        channel.abandon(AssociationError("the rest was not waited for"))


class Sending(AsyncIterator[Sent]):
    """What becomes of each instance, as it becomes known; leaving early ends the job."""

    def __init__(self, job: StoreMany, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        self._job = job
        self._what = what
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._deadline: float | None = None
        self._given: list[str] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sent:
        if self._over:
            raise StopAsyncIteration
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._job.work(self._what))
            self._task.add_done_callback(_look_at_end)
        task, results = self._task, self._job._results
        try:
            while not (task.done() or results.unwanted) or results._sent:
                if (sent := await results.get()) is not None:
                    self._given.append(sent.sop_instance_uid)
                    return sent
                self._look_at_clock()
        except BaseException:
            self.leave()
            raise
        self._over = True
        if not results.unwanted:
            task.result()
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Begin nothing more; it ends soon, whatever the peer does; what has no answer then is given as failed."""
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + GRACE
            self._job.stop()
            loop.call_later(GRACE, self._job._results.wake)

    def _look_at_clock(self) -> None:
        task, results = self._task, self._job._results
        if self._deadline is None or task is None or task.done() or results._sent:
            return
        loop = task.get_loop()
        if loop.time() >= self._deadline - CLOCK:
            results._sent.extend(unanswered(self._job.begun, self._given))
            results.unwanted = True
            results.wake()
            if self._job.address is None:
                self._job.forget()
                task.cancel()
            else:
                loop.call_later(FINISH, task.cancel)

    def leave(self) -> None:
        """Send no more, and wait for nothing."""
        if not self._over:
            self._over = True
            if self._job._results.unwanted:
                return  # it ends by itself
            if self._task is not None and not self._task.done():
                self._job.leave()
                self._task.cancel()

    async def aclose(self) -> None:
        """Leave, and wait until the associations are closed."""
        self.leave()
        if self._task is not None and not self._job._results.unwanted:
            await asyncio.wait([self._task])

    async def end(self) -> None:
        """Leave, and wait until the associations are closed, after a cancel as well."""
        self.leave()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        if self._task is None:
            if not self._over:
                warnings.warn(NEVER_SENT, RuntimeWarning, source=self, stacklevel=2)
        elif not self._task.get_loop().is_closed():
            self.leave()


def _look_at_end(task: asyncio.Task[None]) -> None:
    """Whoever left does not ask how it ended."""
    if not task.cancelled():
        task.exception()


def _pair(instance: Instance) -> tuple[str, str]:
    return instance.sop_class_uid, instance.transfer_syntax


def _put_back(instances: Iterable[Instance], waiting: dict[tuple[str, str], list[Instance]]) -> None:
    for instance in instances:
        waiting.setdefault(_pair(instance), []).append(instance)
