"""What the sending of many instances is made of: what is to be sent, one association and what is on its way there, and
what became of it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dulcet.aio.association import Association
from dulcet.aio.mailbox import Mailbox
from dulcet.dimse.operations import Operation
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.train import FileFailed
from dulcet.services.results import Sent

__all__ = ["LOST", "Lane", "Results", "Sources", "Todo", "failed_by", "look_at"]

EXAMINED_AT_ONCE: Final = 64
"""Instances that one trip to a thread looks at, and the seconds that the loop waits for their names."""
NAMING_SECONDS: Final = 0.02

TOGETHER_BYTES: Final = 64 * 1024
"""Queued bytes that are sent without waiting for more."""

UNSEEN: Final = 64
"""Results that wait for a slow consumer before the sending does."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class _InFlight:
    instance: Instance
    transfer_syntax: str
    size: int


class Todo:
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


class Results:
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


class Lane:
    """One association and what is on its way there."""

    def __init__(self, association: Association, originator: tuple[str, int] | None = None) -> None:
        self.association = association
        self.originator = originator
        self.delivered: int = 0
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

    async def run(self, instances: Iterable[Instance], priority: int, results: Results) -> None:
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
                await results.put(failed_by(instance, error))
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
                failed.append(failed_by(instance, error))
            elif culprit.file in (instance.file, getattr(instance.data, "file", None)):
                failed.append(failed_by(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.append(instance)
            self.association._let_go(operation, instance)
        self._flights.clear()
        if self._unsent is not None:
            self._unsent.close()
            again.append(self._unsent)
            self._unsent = None
        return failed, again


class Sources:
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


def look_at(sources: Sequence[Any]) -> list[Instance | InstanceError]:
    """Each examined, or why it cannot be sent."""
    found: list[Instance | InstanceError] = []
    for source in sources:
        try:
            found.append(source if isinstance(source, Instance) else examine(source))
        except InstanceError as error:
            found.append(error)
    return found


def failed_by(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
