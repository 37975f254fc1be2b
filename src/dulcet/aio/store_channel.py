"""What the sending of many is made of: one association and what is on its way there, and what became of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dulcet.aio.association import Association
from dulcet.aio.response_queue import ResponseQueue
from dulcet.dimse.operations import Operation
from dulcet.errors import AssociationError, DimseTimeout, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.instances import Instance
from dulcet.io.send_buffer import FileFailed
from dulcet.services.proposals import StoragePlan
from dulcet.services.results import Sent

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["LOST", "Results", "StoreChannel", "WorkQueue", "failed_by"]

TOGETHER_BYTES: Final = 64 * 1024
"""Queued bytes that are sent without waiting for more."""

UNSEEN: Final = 64
"""Results that wait for a slow consumer before the sending does."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class PendingStore:
    instance: Instance
    transfer_syntax: str
    size: int


class WorkQueue:
    """Instances still to be sent, each taken once, by as many tasks as there are."""

    def __init__(self, instances: Iterable[Instance], begun: list[str] | None = None) -> None:
        self._waiting = deque(instances)
        self.begun: list[str] = [] if begun is None else begun
        """SOP Instance UIDs of the C-STORE-RQs that were made."""
        self.stopped: bool = False
        """True when nothing more is to be begun: it is empty then."""
        self.more: Callable[[WorkQueue, bool], Awaitable[bool]] | None = None
        """Adds what else can travel with these, once all of them are taken; see `refill`."""

    def __iter__(self) -> Iterator[Instance]:
        while self:
            yield self._waiting.popleft()

    def take(self) -> Instance:
        """The next one; IndexError when there is none."""
        return self._waiting.popleft()

    async def refill(self, *, wait: bool) -> bool:
        """Add what follows these; False when nothing will.  Without `wait`, only what is there already."""
        return not self.stopped and self.more is not None and await self.more(self, wait) and not self.stopped

    def add(self, instance: Instance) -> None:
        self._waiting.append(instance)

    def take_out(self, wanted: Callable[[Instance], bool]) -> list[Instance]:
        """Those that are not wanted; the others stay."""
        out = [instance for instance in self._waiting if not wanted(instance)]
        self._waiting = deque(instance for instance in self._waiting if wanted(instance))
        return out

    def give_back(self, instances: Sequence[Instance]) -> None:
        self._waiting.extendleft(reversed(instances))

    def __len__(self) -> int:
        return 0 if self.stopped else len(self._waiting)


class Results:
    """From the tasks that send to the one that asked; who is too far ahead waits."""

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self._changed = asyncio.Event()
        self.unwanted: bool = False
        """True when nobody takes them any more."""

    async def put(self, sent: Sent) -> None:
        if self.unwanted:
            return
        self._sent.append(sent)
        self._changed.set()
        while len(self._sent) > UNSEEN and not self.unwanted:
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


class StoreChannel:
    """One association and what is on its way there."""

    def __init__(
        self,
        association: Association,
        plan: StoragePlan,
        originator: tuple[str, int] | None = None,
        proposals: Sequence[Proposal] = (),
    ) -> None:
        self.association = association
        self.originator = originator
        self.plan: StoragePlan = plan
        self.proposals: Sequence[Proposal] = proposals
        self.delivered: int = 0
        self._core = association._core
        self._response_queue = ResponseQueue(association)
        self._pending_stores: dict[Operation, PendingStore] = {}
        self._unsent: Instance | None = None  # taken from the list, not yet queued

    @property
    def is_busy(self) -> bool:
        return bool(self._pending_stores)

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here now."""
        return self.association.is_established and self.settles(pair)

    def settles(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax belong here, by what was agreed on and what was refused."""
        if self._core.context_for(*pair) is not None:
            return True
        return self.plan.settles(pair, [found.transfer_syntax for found in self._core.contexts_for(pair[0])])

    async def run(self, work_queue: WorkQueue, priority: int, results: Results) -> None:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        association = self.association
        half = (self._core.window.invoked or self._core.config.limits.unanswered) // 2
        queued = bytes_queued = 0
        while work_queue or await work_queue.refill(wait=not self._pending_stores):
            if not work_queue:  # what follows is still looked at
                if self._pending_stores:
                    await results.put(await self._collect())
                continue
            instance = self._unsent = work_queue.take()
            association._check_usable()
            try:
                context, data, syntax = await association._prepare(instance)
                while not association._has_place():
                    if self._pending_stores:
                        await results.put(await self._collect())
                    else:  # another operation of the caller's is under way
                        await association._place()
                        break
                if work_queue.stopped:  # while this one waited for its place in the window
                    instance.close()
                    self._unsent = None
                    break
                operation = self._core.store(
                    context,
                    instance.sop_class_uid,
                    instance.sop_instance_uid,
                    data,
                    priority=priority,
                    originator=self.originator,
                    owner=self._response_queue,
                )
            except LOST:
                raise
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                self._unsent = None
                await results.put(failed_by(instance, error))
            else:
                self._pending_stores[operation] = PendingStore(instance, syntax, len(data))
                self._unsent = None
                work_queue.begun.append(instance.sop_instance_uid)
                # Small requests leave together, half a window of them at most: the peer has the other half meanwhile.
                queued, bytes_queued = queued + 1, bytes_queued + len(data)
                waits = not (self._core.invocable or self._response_queue.has_responses)
                if bytes_queued > TOGETHER_BYTES or queued >= half or waits:
                    queued = bytes_queued = 0
                    association._wire.pump()
                else:
                    association._wire.pump_soon()
        while self._pending_stores:
            await results.put(await self._collect())

    async def _collect(self) -> Sent:
        """The next answer."""
        event = await self._response_queue.get()
        pending_store = self._pending_stores.pop(event.operation)
        instance = pending_store.instance
        self.association._let_go(event.operation, instance)
        self.delivered += 1
        uids = instance.sop_class_uid, instance.sop_instance_uid
        return Sent.answered(instance.origin, event.command, *uids, pending_store.transfer_syntax, pending_store.size)

    def leave(self) -> None:
        """Nobody waits for the answers any more."""
        for operation, pending_store in self._pending_stores.items():
            self.association._leave(operation, self._response_queue)
            self.association._let_go(operation, pending_store.instance)
        self._pending_stores.clear()
        if self._unsent is not None:
            self._unsent.close()

    def forget(self) -> None:
        """The same where the association goes on, and answers may never come: they are taken quietly."""
        for operation, pending_store in self._pending_stores.items():
            self._core.forget(operation)
            self.association._let_go(operation, pending_store.instance)
        self._pending_stores.clear()
        self.association._grant()

    def abandon(self, error: DulcetError) -> tuple[list[Sent], list[Instance]]:
        """After the association was lost: what counts as failed, and what can go over another one.

        Nobody knows whether what was on its way arrived, so it failed.  Where we had to abort because of one file, only
        that one did: to send the others once more does no harm.
        """
        failed: list[Sent] = []
        again: list[Instance] = []
        culprit = error.__cause__
        for operation, pending_store in self._pending_stores.items():
            instance = pending_store.instance
            if not isinstance(culprit, FileFailed):
                failed.append(failed_by(instance, error))
            elif culprit.file in (instance.file, getattr(instance.data, "file", None)):
                failed.append(failed_by(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.append(instance)
            self.association._let_go(operation, instance)
        self._pending_stores.clear()
        if self._unsent is not None:
            self._unsent.close()
            again.append(self._unsent)
            self._unsent = None
        return failed, again


def failed_by(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
