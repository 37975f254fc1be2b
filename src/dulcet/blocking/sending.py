"""Sending many instances: contexts from the files, several associations where one does not do, results as they come.

Rules: an instance fails for itself alone; an association that broke is made anew as long as the one before got something
across; a file stays open until it was answered and every byte of it has left.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dulcet.blocking.association import Association, associate
from dulcet.config import AssociationConfig
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.events import ResponseReceived
from dulcet.dimse.operations import Operation
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.services.proposals import plan_storage
from dulcet.services.results import Sent
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["StoreMany"]

BATCH: Final = 2000
"""Files looked at before the first is sent: enough that their contexts rarely need another association."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class _InFlight:
    instance: Instance
    transfer_syntax: str
    size: int


class _Lane:
    """One association and what is on its way there."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.delivered = 0
        self.unsent: Instance | None = None
        """Taken from the list, not yet queued: it goes to the next association when this one is lost."""
        self._core = association._core
        self._sent: list[Operation] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._core.outstanding)

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here as they are."""
        return self.association.is_established and self._core.context_for(*pair) is not None

    def run(self, instances: Iterable[Instance], priority: int) -> Iterator[Sent]:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        core, association = self._core, self.association
        for instance in instances:
            self.unsent = instance
            association._check_usable()
            while not core.can_invoke():
                yield self._collect()
            flight = _InFlight(instance, instance.transfer_syntax, 0)
            try:
                _, flight.transfer_syntax, flight.size = association._start_store(
                    instance, priority=priority, owner=flight
                )
            except LOST:
                raise
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                yield _failed(instance, error)
            self.unsent = None
            association._flush()
        while self.is_busy:
            yield self._collect()

    def _collect(self) -> Sent:
        """The next answer."""
        association = self.association
        while True:
            event = association._next_event()
            if type(event) is not ResponseReceived:
                association._set_aside(event)
                continue
            operation = event.operation
            if not operation.departed:
                association._flush_all()
            flight: _InFlight = operation.owner
            instance = flight.instance
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

    def abandon(self, error: DulcetError) -> Iterator[Sent]:
        """What was on its way when the association was lost: nobody knows whether it arrived, so it counts as failed."""
        for operation in list(self._core.outstanding.values()):
            flight: _InFlight = operation.owner
            flight.instance.close()
            yield _failed(flight.instance, error)
        self._core.outstanding.clear()


class StoreMany:
    """One job of sending; `run` once."""

    def __init__(
        self,
        address: Address,
        *,
        calling_ae_title: str,
        config: AssociationConfig | None = None,
        associations: int = 1,
        window: int = 8,
        priority: int = MEDIUM,
        given: Association | None = None,
    ) -> None:
        if associations < 1:
            raise ValueError(f"associations is {associations}: at least 1")
        config = config or AssociationConfig()
        self.address = address
        self.calling_ae_title = calling_ae_title
        self.config = replace(config, window_invoked=window, window_performed=config.window_performed)
        self.associations = associations
        self.priority = priority
        self._given = _Lane(given) if given is not None else None
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()

    def run(self, what: Iterable[InstanceSource]) -> Iterator[Sent]:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        sources = iter(what)
        try:
            while batch := list(itertools.islice(sources, BATCH)):
                instances: list[Instance] = []
                for source in batch:
                    try:
                        instances.append(examine(source))
                    except InstanceError as error:
                        yield Sent(source, None, error)
                yield from self._send(instances)
        finally:
            self._close()

    def _send(self, instances: Sequence[Instance]) -> Iterator[Sent]:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)
        if self.associations == 1:
            for lane in [self._given, *self._lanes]:
                if lane is None:
                    continue
                here = [pair for pair in waiting if lane.carries(pair)]
                todo = [instance for pair in here for instance in waiting.pop(pair)]
                if todo:
                    yield from self._drive(lane, _plan(todo)[0], todo)
        for proposals in plan_storage(waiting):
            classes = {proposal.abstract_syntax for proposal in proposals}
            pairs = [pair for pair in waiting if pair[0] in classes]
            todo = [instance for pair in pairs for instance in waiting.pop(pair)]
            count = min(self.associations, len(todo))
            if count > 1:
                yield from self._drive_parallel(proposals, todo, count)
            else:
                yield from self._drive(None, proposals, todo)

    def _open(self, proposals: Sequence[Proposal]) -> _Lane:
        association = associate(
            self.address, calling_ae_title=self.calling_ae_title, contexts=proposals, config=self.config
        )
        lane = _Lane(association)
        with self._lock:
            self._lanes.append(lane)
        return lane

    def _drive(self, lane: _Lane | None, proposals: Sequence[Proposal], todo: Sequence[Instance]) -> Iterator[Sent]:
        """Send over one association, made anew when it is lost after it got something across."""
        if lane is None:
            lane = self._open(proposals)
        rest = iter(todo)
        while True:
            before = lane.delivered
            try:
                yield from lane.run(rest, self.priority)
            except LOST as error:
                yield from lane.abandon(error)
                following = lane.unsent or next(rest, None)
                if following is None:
                    return
                rest = itertools.chain((following,), rest)
                if lane.delivered > before or getattr(error, "by_us", False):
                    with contextlib.suppress(*LOST):
                        lane = self._open(proposals)
                        continue
                for instance in rest:
                    yield _failed(instance, error)
            return

    def _drive_parallel(
        self, proposals: Sequence[Proposal], todo: Sequence[Instance], count: int
    ) -> Iterator[Sent]:
        """The same with several associations, a thread for each; they take from one list."""
        lanes: list[_Lane] = [self._open(proposals)]  # the first one's failure is the caller's to see
        shared = _Shared(todo)
        results: queue.SimpleQueue[Sent | BaseException | None] = queue.SimpleQueue()

        def work(lane: _Lane | None) -> None:
            try:
                if lane is None:
                    try:
                        lane = self._open(proposals)
                    except LOST:
                        return  # fewer associations than wished for; the others do the work
                for sent in self._drive(lane, proposals, shared):
                    results.put(sent)
            except BaseException as error:
                results.put(error)
            finally:
                results.put(None)

        threads = [
            threading.Thread(target=work, args=(lane,), name=f"dulcet-store-{index}", daemon=True)
            for index, lane in enumerate([*lanes, *[None] * (count - 1)])
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                result = results.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    yield result
        finally:
            shared.stop()
            for thread in threads:
                thread.join()

    def _close(self) -> None:
        """Release our own associations; those with something unanswered, after an early end, are aborted."""
        for lane in self._lanes:
            if lane.is_busy:
                lane.association.abort()
                for _ in lane.abandon(AssociationError("abandoned")):
                    pass
            else:
                lane.association.release()
        self._lanes.clear()
        if self._given is not None and self._given.is_busy:
            with contextlib.suppress(DulcetError):
                while self._given.is_busy:
                    self._given._collect()


class _Shared(Sequence[Instance]):
    """A list that several threads take from, each instance once."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = instances
        self._next = 0
        self._lock = threading.Lock()

    def stop(self) -> None:
        with self._lock:
            self._next = len(self._instances)

    def __iter__(self) -> Iterator[Instance]:
        while True:
            with self._lock:
                index = self._next
                if index >= len(self._instances):
                    return
                self._next = index + 1
            yield self._instances[index]

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, index: int) -> Instance:  # type: ignore[override]
        return self._instances[index]


def _plan(todo: Sequence[Instance]) -> list[list[Proposal]]:
    return plan_storage((instance.sop_class_uid, instance.transfer_syntax) for instance in todo)


def _failed(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
