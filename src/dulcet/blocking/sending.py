"""Sending many instances: contexts from the files, several associations where one does not do, results as they come.

Rules: an instance fails for itself alone; an association that broke is made anew, unless the last few of them got
nothing across; a file stays open until it was answered and every byte of it has left; whoever leaves early aborts what
is unanswered.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dulcet.blocking.association import Association, associate
from dulcet.blocking.channel import LAST_WORD, abort_all
from dulcet.config import AssociationConfig
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.events import ResponseReceived
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

__all__ = ["StoreMany"]

BATCH: Final = 2000
"""Instances looked at before the first is sent: enough that their contexts rarely need another association."""
BATCH_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of instances that are not files, after which a batch is full."""
BATCH_SECONDS: Final = 1.0
"""A source that gives its instances slowly does not hold up those that it gave."""

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
    """Instances still to be sent, each taken once, by as many threads as there are."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._waiting = deque(instances)
        self.stopped = False

    def __iter__(self) -> Iterator[Instance]:
        while not self.stopped:
            try:
                instance = self._waiting.popleft()
            except IndexError:
                return
            yield instance

    def give_back(self, instances: Sequence[Instance]) -> None:
        self._waiting.extendleft(reversed(instances))

    def __len__(self) -> int:
        return len(self._waiting)


class _Lane:
    """One association and what is on its way there."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.delivered = 0
        self._core = association._core
        self._unsent: Instance | None = None  # taken from the list, not yet queued

    @property
    def flights(self) -> list[tuple[Operation, _InFlight]]:
        """Our operations that are not answered."""
        return [
            (operation, operation.owner)
            for operation in self._core.outstanding.values()
            if isinstance(operation.owner, _InFlight)
        ]

    @property
    def is_busy(self) -> bool:
        return any(isinstance(operation.owner, _InFlight) for operation in self._core.outstanding.values())

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here as they are."""
        return self.association.is_established and self._core.context_for(*pair) is not None

    def run(self, instances: Iterable[Instance], priority: int) -> Iterator[Sent]:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        core, association = self._core, self.association
        for instance in instances:
            self._unsent = instance
            association._check_usable()
            while not core.can_invoke():
                if self.is_busy:
                    yield self._collect()
                else:  # another operation of the caller's is under way
                    association._set_aside(association._next_event())
            flight = _InFlight(instance, instance.transfer_syntax, 0)
            try:
                _, flight.transfer_syntax, flight.size = association._start_store(
                    instance, priority=priority, owner=flight
                )
            except LOST:
                raise
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                self._unsent = None
                yield _failed(instance, error)
            self._unsent = None
            association._flush()
        while self.is_busy:
            yield self._collect()

    def _collect(self) -> Sent:
        """The next answer."""
        association = self.association
        while True:
            event = association._next_event()
            if type(event) is not ResponseReceived or not isinstance(event.operation.owner, _InFlight):
                association._set_aside(event)
                continue
            operation = event.operation
            flight: _InFlight = operation.owner
            instance = flight.instance
            try:
                if not operation.departed:
                    association._flush_all()
            finally:
                instance.close()
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

    def abandon(self, error: DulcetError) -> tuple[list[Sent], list[Instance]]:
        """After the association was lost: what counts as failed, and what can go over another one.

        Nobody knows whether what was on its way arrived, so it failed.  Where we had to abort because of one file, only
        that one did: to send the others once more does no harm.
        """
        again = [self._unsent] if self._unsent is not None else []
        self._unsent = None
        failed = []
        culprit = error.__cause__
        for operation, flight in self.flights:
            instance = flight.instance
            if not isinstance(culprit, FileFailed):
                failed.append(_failed(instance, error))
            elif instance.file == culprit.file:
                failed.append(_failed(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.insert(len(again) - (again[-1:] == [None]), instance)
            instance.close()
            del self._core.outstanding[operation.message_id]
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
        self._given = _Lane(given) if given is not None else None
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, what: Iterable[InstanceSource]) -> Iterator[Sent]:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        sources = iter(what)
        failing = True
        try:
            while batch := yield from self._examine(sources):
                yield from self._send(batch)
            failing = False
        except GeneratorExit:
            self._stopping, failing = True, False
            raise
        finally:
            self._close(failing)

    def _examine(self, sources: Iterator[InstanceSource]) -> Iterator[Sent]:  # type: ignore[misc]
        """The next batch, as the result; what cannot be sent is yielded."""
        instances: list[Instance] = []
        held = 0
        full = time.monotonic() + BATCH_SECONDS
        for source in sources:
            try:
                instance = examine(source)
            except InstanceError as error:
                yield Sent(source, None, error)
            else:
                instances.append(instance)
                held += 0 if instance.data is None else len(instance.data)
            if instances and (len(instances) >= BATCH or held >= BATCH_MEMORY or time.monotonic() >= full):
                break
        return instances  # type: ignore[return-value]

    def _send(self, instances: Sequence[Instance]) -> Iterator[Sent]:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)
        if self.associations == 1:
            yield from self._send_over_standing(waiting)
        for proposals in plan_storage(waiting):
            classes = {proposal.abstract_syntax for proposal in proposals}
            pairs = [pair for pair in waiting if pair[0] in classes]
            todo = _Todo(instance for pair in pairs for instance in waiting.pop(pair))
            count = min(self.associations, len(todo))
            try:
                lane = self._open(proposals)
            except LOST as error:
                if self._given is None and not self._lanes and not self._begun:
                    raise
                yield from (_failed(instance, error) for instance in todo)
                continue
            if count > 1:
                yield from self._drive_parallel(lane, proposals, todo, count)
            elif (failure := (yield from self._drive(lane, proposals, todo))) is not None:
                yield from (_failed(instance, failure) for instance in todo)
