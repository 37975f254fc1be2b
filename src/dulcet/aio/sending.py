"""Sending many instances: contexts from the files, several associations where one does not do, results as they come.

Rules: an instance fails for itself alone; an association that broke is made anew, unless the last few of them got
nothing across; a file stays open until it was answered and every byte of it has left; whoever leaves early aborts what
is unanswered.  Files are looked at in threads; each association has a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet.aio.association import Association, associate
from dulcet.aio.mailbox import Mailbox
from dulcet.aio.threads import disk
from dulcet.config import AssociationConfig
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.operations import Operation
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.train import FileFailed
from dulcet.services.proposals import plan_storage
from dulcet.services.results import Sent
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["Sending", "StoreMany"]

BATCH: Final = 2000
"""Instances looked at before the first is sent: enough that their contexts rarely need another association."""
BATCH_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of instances that are not files, after which a batch is full."""
BATCH_SECONDS: Final = 1.0
"""A source that gives its instances slowly does not hold up those that it gave."""
EXAMINED_AT_ONCE: Final = 64
"""Instances that one trip to a thread looks at, and the seconds that the loop waits for their names."""
NAMING_SECONDS: Final = 0.02

TOGETHER_BYTES: Final = 64 * 1024
"""Queued bytes that are sent without waiting for more."""

UNSEEN: Final = 64
"""Results that wait for a slow consumer before the sending does."""

FRUITLESS: Final = 3
"""Associations in a row that get nothing across before the rest is given up; one may fall over one bad instance."""
IDLE_LANES: Final = 4
"""Associations of our own that stay open for the next batch; peers have limits."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class _InFlight:
    instance: Instance
    transfer_syntax: str
    size: int


class _Todo:
    """Instances still to be sent, each taken once, by as many tasks as there are."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._waiting = deque(instances)

    def __iter__(self) -> Iterator[Instance]:
        while self._waiting:
            yield self._waiting.popleft()

    def give_back(self, instances: Sequence[Instance]) -> None:
        self._waiting.extendleft(reversed(instances))

    def __len__(self) -> int:
        return len(self._waiting)


class _Results:
    """From the tasks that send to the one that asked; who is too far ahead waits."""

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self._changed = asyncio.Event()

    async def put(self, sent: Sent) -> None:
        self._sent.append(sent)
        self._changed.set()
        while len(self._sent) > UNSEEN:
            self._changed.clear()
            await self._changed.wait()

    async def get(self) -> Sent | None:
        """The next one; None when there is none and something else has changed."""
        if not self._sent:
            self._changed.clear()
            await self._changed.wait()
        if not self._sent:
            return None
        sent = self._sent.popleft()
        if len(self._sent) == UNSEEN:
            self._changed.set()
        return sent

    def wake(self) -> None:
        self._changed.set()


class _Lane:
    """One association and what is on its way there."""

    def __init__(self, association: Association, originator: tuple[str, int] | None = None) -> None:
        self.association = association
        self.originator = originator
        self.delivered = 0
        self._core = association._core
        self._mailbox = Mailbox(association)
        self._flights: dict[Operation, _InFlight] = {}
        self._unsent: Instance | None = None  # taken from the list, not yet queued

    @property
    def is_busy(self) -> bool:
        return bool(self._flights)

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here as they are."""
        return self.association.is_established and self._core.context_for(*pair) is not None

    async def run(self, instances: Iterable[Instance], priority: int, results: _Results) -> None:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        association = self.association
        queued = 0
        for instance in instances:
            self._unsent = instance
            association._check_usable()
            try:
                context, data, syntax = await association._prepare(instance)
                while not association._has_place():
                    if self._flights:
                        await results.put(await self._collect())
                    else:  # another operation of the caller's is under way
                        await association._place()
                        break
                operation = self._core.store(
                    context,
                    instance.sop_class_uid,
                    instance.sop_instance_uid,
                    data,
                    priority=priority,
                    originator=self.originator,
                    owner=self._mailbox,
                )
            except LOST:
                raise
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                self._unsent = None
                await results.put(_failed(instance, error))
            else:
                self._flights[operation] = _InFlight(instance, syntax, len(data))
                self._unsent = None
                queued += len(data) + 1
                if queued > TOGETHER_BYTES or not (self._core.invocable or self._mailbox.has_responses):
                    queued = 0
                    association._wire.pump()
                else:  # several small requests leave together
                    association._wire.pump_soon()
        while self._flights:
            await results.put(await self._collect())

    async def _collect(self) -> Sent:
        """The next answer."""
        event = await self._mailbox.get()
        flight = self._flights.pop(event.operation)
        instance = flight.instance
        self.association._let_go(event.operation, instance)
        self.delivered += 1
        status = event.command.status
        return Sent(
            instance.origin,
            Status(Status.PROCESSING_FAILURE if status is None else status),
            None,
            instance.sop_class_uid,
            instance.sop_instance_uid,
            flight.transfer_syntax,
            flight.size,
        )

    def leave(self) -> None:
        """Nobody waits for the answers any more."""
        for operation, flight in self._flights.items():
            self.association._leave(operation, self._mailbox)
            self.association._let_go(operation, flight.instance)
        self._flights.clear()
        if self._unsent is not None:
            self._unsent.close()

    def abandon(self, error: DulcetError) -> tuple[list[Sent], list[Instance]]:
        """After the association was lost: what counts as failed, and what can go over another one.

        Nobody knows whether what was on its way arrived, so it failed.  Where we had to abort because of one file, only
        that one did: to send the others once more does no harm.
        """
        failed: list[Sent] = []
        again: list[Instance] = []
        culprit = error.__cause__
        for operation, flight in self._flights.items():
            instance = flight.instance
            if not isinstance(culprit, FileFailed):
                failed.append(_failed(instance, error))
            elif culprit.file in (instance.file, getattr(instance.data, "file", None)):
                failed.append(_failed(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.append(instance)
            self.association._let_go(operation, instance)
        self._flights.clear()
        if self._unsent is not None:
            self._unsent.close()
            again.append(self._unsent)
            self._unsent = None
        return failed, again


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
        self.config = replace(config, window_invoked=window)
        self.associations = associations
        self.priority = priority
        self.originator = originator
        self._given = _Lane(given, originator) if given is not None else None
        self._lanes: list[_Lane] = []
        self._opened = False
        self._failure: DulcetError | None = None
        """Why the last association was given up, and with it what is still to be sent."""
        self._results = _Results()

    def run(self, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> Sending:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        return Sending(self, what)

    async def work(self, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        """The task that does it."""
        sources = _Sources(what)
        try:
            if self._given is not None:
                self._given.association._check_usable()
            while batch := await self._examine(sources):
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
            self._results.wake()

    async def _examine(self, sources: _Sources) -> list[Instance]:
        """The next batch; what cannot be sent is reported."""
        loop = asyncio.get_running_loop()
        batch: list[Instance] = []
        held = 0
        full = time.monotonic() + BATCH_SECONDS
        while some := await sources.take():
            for source, found in zip(some, await loop.run_in_executor(disk, _look_at, some)):
                if isinstance(found, InstanceError):
                    await self._results.put(Sent(source, None, found))
                else:
                    batch.append(found)
                    held += 0 if found.data is None else len(found.data)
            if len(batch) >= BATCH or held >= BATCH_MEMORY or (batch and time.monotonic() >= full):
                break
        return batch

    async def _send(self, instances: Sequence[Instance]) -> None:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)
        if self.associations == 1:
            await self._use_standing(waiting)
        for proposals in plan_storage(waiting):
            classes = {proposal.abstract_syntax for proposal in proposals}
            pairs = [pair for pair in waiting if pair[0] in classes]
            todo = _Todo([instance for pair in pairs for instance in waiting.pop(pair)])
            count = min(self.associations, len(todo))
            while self.associations == 1 and len(self._lanes) >= IDLE_LANES:
                await self._release(self._lanes[0])
            try:
                lane = await self._open(proposals)
            except LOST as error:
                if not self._opened and self._given is None:
                    raise
                self._failure = error
            else:
                if count > 1:
                    await self._drive_parallel(lane, proposals, todo, count)
                else:
                    await self._drive(lane, proposals, todo)
            await self._give_up(todo)

    async def _use_standing(self, waiting: dict[tuple[str, str], list[Instance]]) -> None:
        """Send what the associations that stand can carry; take it out of `waiting`."""
        for lane in [*([self._given] if self._given is not None else []), *self._lanes]:
            # Where no other association can be made, this one may have to convert, or say why not.
            pairs = [pair for pair in waiting if self.address is None or lane.carries(pair)]
            todo = _Todo([instance for pair in pairs for instance in waiting.pop(pair)])
            try:
                await lane.run(todo, self.priority, self._results)
            except LOST as error:
                await self._lost(lane, todo, error)
                if self.address is None:
                    await self._give_up(todo)
                for instance in todo:
                    waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)

    async def _drive(self, lane: _Lane, proposals: Sequence[Proposal], todo: _Todo) -> None:
        """Send over one association, made anew when it is lost; something is left in `todo` when it was given up."""
        fruitless = 0
        while True:
            try:
                await lane.run(todo, self.priority, self._results)
                return
            except LOST as error:
                failure = error
            await self._lost(lane, todo, failure)
            if not todo:
                return
            progress = lane.delivered or isinstance(failure.__cause__, FileFailed)
            fruitless = 0 if progress else fruitless + 1
            if fruitless >= (1 if isinstance(failure, DimseTimeout) else FRUITLESS):
                return
            try:
                lane = await self._open(proposals)
            except LOST as error:
                self._failure = error
                return

    async def _drive_parallel(self, first: _Lane, proposals: Sequence[Proposal], todo: _Todo, count: int) -> None:
        """The same with several associations, a task for each; they take from one list."""

        async def work(lane: _Lane | None) -> None:
            with contextlib.suppress(*LOST):  # fewer associations than wished for; the others do the work
                await self._drive(lane or await self._open(proposals), proposals, todo)

        tasks = [asyncio.ensure_future(work(lane)) for lane in [first, *[None] * (count - 1)]]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for lane in list(self._lanes):
            await self._release(lane)

    # ------------------------------------------------------------------ associations

    async def _open(self, proposals: Sequence[Proposal]) -> _Lane:
        assert self.address is not None
        association = await associate(
            self.address, calling_ae_title=self.calling_ae_title, contexts=proposals, config=self.config
        )
        lane = _Lane(association, self.originator)
        self._opened = True
        self._lanes.append(lane)
        return lane

    async def _lost(self, lane: _Lane, todo: _Todo, error: DulcetError) -> None:
        """What the loss of an association means for what was on its way there."""
        self._failure = error
        failed, again = lane.abandon(error)
        todo.give_back(again)
        if lane in self._lanes:
            self._lanes.remove(lane)
        for sent in failed:
            await self._results.put(sent)

    async def _give_up(self, todo: _Todo) -> None:
        for instance in todo:
            assert self._failure is not None
            await self._results.put(_failed(instance, self._failure))

    async def _release(self, lane: _Lane) -> None:
        self._lanes.remove(lane)
        with contextlib.suppress(DulcetError):
            await lane.association.release()

    def leave(self) -> None:
        """Whoever asked has gone: what is unanswered on the association that was given is not waited for."""
        if self._given is not None:
            self._given.leave()

    async def _close(self, abort: bool) -> None:
        """Release our own associations; those with something unanswered, after an early end, are aborted."""
        lanes, self._lanes = self._lanes, []
        given = self._given
        if given is not None and given.is_busy:
            if abort:
                lanes.append(given)
            else:
                given.leave()
        await asyncio.gather(*(self._end(lane, abort or lane.is_busy) for lane in lanes))

    async def _end(self, lane: _Lane, abort: bool) -> None:
        with contextlib.suppress(DulcetError):
            if abort:
                await lane.association.abort()
            else:
                await lane.association.release()
        lane.abandon(AssociationError("the rest was not waited for"))


class Sending(AsyncIterator[Sent]):
    """What becomes of each instance, as it becomes known; leaving early ends the job."""

    def __init__(self, job: StoreMany, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        self._job = job
        self._what = what
        self._task: asyncio.Task[None] | None = None
        self._over = False

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
            while True:
                if task.done() and not results._sent:
                    break
                if (sent := await results.get()) is not None:
                    return sent
        except BaseException:
            self.leave()
            raise
        self._over = True
        task.result()
        raise StopAsyncIteration

    def leave(self) -> None:
        """Send no more, and wait for nothing."""
        if not self._over:
            self._over = True
            if self._task is not None and not self._task.done():
                self._job.leave()
                self._task.cancel()

    async def aclose(self) -> None:
        """Leave, and wait until the associations are closed."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        if self._task is not None and not self._task.get_loop().is_closed():
            self.leave()


class _Sources:
    """What is to be sent, a few at a time."""

    def __init__(self, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        self._async: AsyncIterator[InstanceSource] | None = None
        self._iterator: Iterator[InstanceSource] = iter(())
        if isinstance(what, AsyncIterable):
            self._async = aiter(what)
        else:
            self._iterator = iter(what)

    async def take(self) -> list[InstanceSource]:
        """The next few; none at the end."""
        taken: list[InstanceSource] = []
        until = time.monotonic() + NAMING_SECONDS
        if self._async is None:
            for source in itertools.islice(self._iterator, EXAMINED_AT_ONCE):
                taken.append(source)
                if time.monotonic() >= until:
                    break
            return taken
        async for source in self._async:
            taken.append(source)
            if len(taken) >= EXAMINED_AT_ONCE or time.monotonic() >= until:
                break
        return taken


def _look_at(sources: Sequence[Any]) -> list[Instance | InstanceError]:
    """Each examined, or why it cannot be sent."""
    found: list[Instance | InstanceError] = []
    for source in sources:
        try:
            found.append(source if isinstance(source, Instance) else examine(source))
        except InstanceError as error:
            found.append(error)
    return found


def _look_at_end(task: asyncio.Task[None]) -> None:
    """Whoever left does not ask how it ended."""
    if not task.cancelled():
        task.exception()


def _failed(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
