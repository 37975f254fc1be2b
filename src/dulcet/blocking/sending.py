"""Sending many instances: contexts from the files, several associations where one does not do, results as they come.

Rules: an instance fails for itself alone; an association that broke is made anew, unless the last few of them got
nothing across; a file stays open until it was answered and every byte of it has left; whoever leaves early aborts what
is unanswered.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from dulcet.io.instances import Instance, InstanceSource
from dulcet.io.pixels import decompressible
from dulcet.io.train import FileFailed
from dulcet.io.upcoming import Upcoming
from dulcet.services.proposals import plan_takeover, proposed_as_is
from dulcet.services.results import Sent
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["StoreMany"]

FRUITLESS: Final = 3
"""Associations in a row that get nothing across before the rest is given up; one may fall over one bad instance."""
LATE: Final = 0.5
"""Seconds for the answers to requests for associations that nobody needs any more, so that they can be released."""

TOGETHER_BYTES: Final = 64 * 1024
"""Queued bytes that are sent without waiting for more."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class _InFlight:
    lane: _Lane
    instance: Instance
    transfer_syntax: str
    size: int


class _Todo:
    """Instances still to be sent, each taken once, by as many threads as there are."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._waiting = deque(instances)
        self.more: Callable[[], Instance | None] | None = None
        """Gives what else can travel with these, once all of them are taken; None for no more."""
        self.stopped = False
        self.opening = 0
        """Associations on their way that are to take from here."""
        self.over = False
        """True when all is answered: an association that comes later is too late."""

    def __iter__(self) -> Iterator[Instance]:
        while not self.stopped:
            try:
                instance = self._waiting.popleft()
            except IndexError:
                following = self.more() if self.more is not None else None
                if following is None:
                    return
                instance = following
            yield instance

    def give_back(self, instances: Sequence[Instance]) -> None:
        self._waiting.extendleft(reversed(instances))

    def __len__(self) -> int:
        return len(self._waiting)


class _Lane:
    """One association and what is on its way there."""

    def __init__(
        self,
        association: Association,
        originator: tuple[str, int] | None = None,
        proposals: Iterable[Proposal] = (),
    ) -> None:
        self.association = association
        self.originator = originator
        self.asked = proposed_as_is(proposals)
        self.delivered = 0
        self._core = association._core
        self._unsent: Instance | None = None  # taken from the list, not yet queued

    @property
    def flights(self) -> list[tuple[Operation, _InFlight]]:
        """Our operations that are not answered."""
        return [
            (operation, operation.owner)
            for operation in self._core.outstanding.values()
            if self._is_mine(operation)
        ]

    @property
    def is_busy(self) -> bool:
        return any(map(self._is_mine, self._core.outstanding.values())) or any(
            map(self._is_mine, self.association._inbox)
        )

    def _is_mine(self, operation: Operation) -> bool:
        return isinstance(operation.owner, _InFlight) and operation.owner.lane is self

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here as they are, or nowhere else either."""
        return self.association.is_established and (pair in self.asked or self._core.context_for(*pair) is not None)

    def run(self, instances: Iterable[Instance], priority: int) -> Iterator[Sent]:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        core, association = self._core, self.association
        half = (core.window.invoked or core.config.limits.unanswered) // 2
        queued = bytes_queued = 0
        for instance in instances:
            self._unsent = instance
            association._check_usable()
            while not core.can_invoke():
                if self.is_busy:
                    yield self._collect()
                else:  # another operation of the caller's is under way
                    association._set_aside(association._next_event())
            flight = _InFlight(self, instance, instance.transfer_syntax, 0)
            try:
                _, flight.transfer_syntax, flight.size = association._start_store(
                    instance, priority=priority, originator=self.originator, owner=flight
                )
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                self._unsent = None
                yield _failed(instance, error)
                continue
            self._unsent = None
            # Small requests leave together, half a window of them at most: the peer has the other half meanwhile.
            # Waiting for an answer sends what is left.
            queued, bytes_queued = queued + 1, bytes_queued + flight.size
            if bytes_queued > TOGETHER_BYTES or queued >= half:
                queued = bytes_queued = 0
                association._flush()
        while self.is_busy:
            yield self._collect()

    def _collect(self) -> Sent:
        """The next answer."""
        association = self.association
        while True:
            event = self._kept() or association._next_event()
            if type(event) is not ResponseReceived or not self._is_mine(event.operation):
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

    def _kept(self) -> ResponseReceived | None:
        """An answer that came while a request of the peer's was served in between."""
        inbox = self.association._inbox
        mine = next(filter(self._is_mine, inbox), None) if inbox else None
        return None if mine is None else inbox.pop(mine).popleft()

    def abandon(self, error: DulcetError) -> tuple[list[Sent], list[Instance]]:
        """After the association was lost: what counts as failed, and what can go over another one.

        Nobody knows whether what was on its way arrived, so it failed.  Where we had to abort because of one file, only
        that one did: to send the others once more does no harm.
        """
        failed: list[Sent] = []
        again: list[Instance] = []
        culprit = error.__cause__
        for operation, flight in self.flights:
            instance = flight.instance
            if not isinstance(culprit, FileFailed):
                failed.append(_failed(instance, error))
            elif culprit.file in (instance.file, getattr(instance.data, "file", None)):
                failed.append(_failed(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.append(instance)
            instance.close()
            del self._core.outstanding[operation.message_id]
        if self._unsent is not None:
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
        self.config: AssociationConfig = replace(config, window_invoked=window)
        self.associations = associations
        self.priority = priority
        self.originator = originator
        self._given = _Lane(given) if given is not None else None
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._opened = False
        self._late: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._failure: DulcetError | None = None
        """Why the last association was given up, and with it what is still to be sent."""
        self._upcoming = Upcoming(())

    def run(self, what: Iterable[InstanceSource]) -> Iterator[Sent]:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        if self._given is not None:
            self._given.association._check_usable()
        upcoming = self._upcoming = Upcoming(what, ahead=self.associations == 1)
        abort = True
        try:
            while True:
                batch = upcoming.batch()
                yield from upcoming.unsendable()
                if batch:
                    yield from self._send(batch)
                elif upcoming.ended:
                    break
            upcoming.check()
            abort = False
        except GeneratorExit:
            self._stopping.set()
            abort = False
            raise
        finally:
            self._close(abort)

    def _running(self, lane: _Lane, todo: _Todo) -> Iterator[Sent]:
        """Send these, and over an only association what follows them as well."""
        if self.associations == 1 and todo:
            todo.more = functools.partial(self._upcoming.following, lane.carries)
        try:
            for sent in lane.run(todo, self.priority):
                yield sent
                yield from self._upcoming.unsendable()
        finally:
            todo.more = None

    def _send(self, instances: Sequence[Instance]) -> Iterator[Sent]:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)
        if self.associations == 1:
            yield from self._use_standing(waiting)
        for proposals in self._plan(waiting):
            classes = {proposal.abstract_syntax for proposal in proposals}
            pairs = [pair for pair in waiting if pair[0] in classes]
            todo = _Todo(instance for pair in pairs for instance in waiting.pop(pair))
            count = min(self.associations, len(todo))
            standing = self._make_room(pairs)
            try:
                lanes = standing or [self._open(proposals, todo)]
            except LOST as error:
                if not self._opened and self._given is None:
                    raise
                self._failure = error
            else:
                if count > 1:
                    yield from self._drive_parallel(lanes[:count], proposals, todo, count)
                else:
                    yield from self._drive(lanes[0], proposals, todo)
            yield from self._give_up(todo)

    def _plan(self, waiting: Collection[tuple[str, str]]) -> list[list[Proposal]]:
        """Contexts for these; an only association takes over those of the one before where there is room for all."""
        before = [pair for lane in self._lanes for pair in lane.asked] if self.associations == 1 else []
        return plan_takeover(waiting, before, decompressible())

    def _make_room(self, pairs: Sequence[tuple[str, str]]) -> list[_Lane]:
        """The parallel associations that stand and carry all of these; those that are in the way are released.

        An only association is: there are peers that serve one at a time, and what it carries was sent already.
        """
        for lane in [found for found in self._lanes if self.associations == 1 or not all(map(found.carries, pairs))]:
            self._release(lane)
        return list(self._lanes)

    def _use_standing(self, waiting: dict[tuple[str, str], list[Instance]]) -> Iterator[Sent]:
        """Send what the associations that stand can carry; take it out of `waiting`."""
        for lane in [*([self._given] if self._given is not None else []), *self._lanes]:
            # Where no other association can be made, this one may have to convert, or say why not.
            pairs = [pair for pair in waiting if self.address is None or lane.carries(pair)]
            todo = _Todo(instance for pair in pairs for instance in waiting.pop(pair))
            try:
                lane.association._catch_up()  # what was idle for long may be gone
                yield from self._running(lane, todo)
            except LOST as error:
                yield from self._lost(lane, todo, error)
                if self.address is None:
                    yield from self._give_up(todo)
                for instance in todo:
                    waiting.setdefault((instance.sop_class_uid, instance.transfer_syntax), []).append(instance)

    def _drive(self, lane: _Lane, proposals: Sequence[Proposal], todo: _Todo) -> Iterator[Sent]:
        """Send over one association, made anew when it is lost; something is left in `todo` when it was given up."""
        fruitless = 0
        while True:
            try:
                lane.association._catch_up()
                yield from self._running(lane, todo)
                return
            except LOST as error:
                failure = error
            yield from self._lost(lane, todo, failure)
            if self._stopping.is_set() or not todo:
                return
            progress = lane.delivered or isinstance(failure.__cause__, FileFailed)
            fruitless = 0 if progress else fruitless + 1
            if fruitless >= (1 if isinstance(failure, DimseTimeout) else FRUITLESS):
                return
            try:
                lane = self._open(proposals, todo)
            except LOST as error:
                self._failure = error
                return

    def _drive_parallel(
        self, standing: Sequence[_Lane], proposals: Sequence[Proposal], todo: _Todo, count: int
    ) -> Iterator[Sent]:
        """The same with several associations, a thread for each; they take from one list."""
        results: queue.SimpleQueue[Sent | BaseException | None] = queue.SimpleQueue()

        def work(lane: _Lane | None) -> None:
            try:
                for sent in self._drive(lane or self._open(proposals, todo), proposals, todo):
                    results.put(sent)
            except LOST:
                pass  # fewer associations than wished for; the others do the work
            except BaseException as error:
                results.put(error)
            finally:
                results.put(None)

        threads = [
            threading.Thread(target=work, args=(lane,), name=f"dulcet-store-{index}", daemon=True)
            for index, lane in enumerate([*standing, *[None] * (count - len(standing) - self._count_late())])
        ]
        running, unanswered = len(threads), len(todo)
        try:
            for thread in threads:
                thread.start()
            while running:
                if not unanswered and self._is_over(todo, running):
                    # A peer that serves one association at a time answers the others once the first is released.
                    self._late += threads
                    threads, running = [], 0
                    break
                result = results.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    unanswered -= 1
                    yield result
        finally:
            if running:
                self._interrupt(todo)
            deadline = time.monotonic() + LAST_WORD + 0.5
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(deadline - time.monotonic(), 0.0))

    def _count_late(self) -> int:
        """Threads that still wait for an association that nobody needs any more."""
        self._late = [thread for thread in self._late if thread.is_alive()]
        return len(self._late)

    def _is_over(self, todo: _Todo, running: int) -> bool:
        """True when everything is answered and those who still run only wait for an association."""
        with self._lock:
            todo.over = running == todo.opening
            return todo.over

    # ------------------------------------------------------------------ associations

    def _open(self, proposals: Sequence[Proposal], todo: _Todo) -> _Lane:
        assert self.address is not None
        with self._lock:
            if not todo:
                raise AssociationError("nothing is left to be sent")
            todo.opening += 1
        try:
            association = associate(
                self.address, calling_ae_title=self.calling_ae_title, contexts=proposals, config=self.config
            )
        except BaseException:
            with self._lock:
                todo.opening -= 1
            raise
        lane = _Lane(association, self.originator, proposals)
        with self._lock:
            todo.opening -= 1
            if not (self._stopping.is_set() or todo.over):
                self._opened = True
                self._lanes.append(lane)
                return lane
        if todo.over:
            association.release()
        else:
            association.abort()
        raise AssociationError("no more is to be sent")

    def _lost(self, lane: _Lane, todo: _Todo, error: DulcetError) -> Iterator[Sent]:
        """What the loss of an association means for what was on its way there."""
        self._failure = error
        failed, again = lane.abandon(error)
        todo.give_back(again)
        with self._lock:
            if lane in self._lanes:
                self._lanes.remove(lane)
        yield from failed

    def _give_up(self, todo: _Todo) -> Iterator[Sent]:
        for instance in todo:
            assert self._failure is not None
            yield _failed(instance, self._failure)

    def _release(self, lane: _Lane) -> None:
        with self._lock:
            self._lanes.remove(lane)
        with contextlib.suppress(DulcetError):
            lane.association.release()

    def _interrupt(self, todo: _Todo) -> None:
        """Have the threads stop, and their peers told."""
        todo.stopped = True
        with self._lock:
            self._stopping.set()
            lanes = list(self._lanes)
        for lane in lanes:
            lane.association.interrupt()

    def _close(self, abort: bool) -> None:
        """Release our own associations; those with something unanswered, after an early end, are aborted."""
        with self._lock:
            lanes, self._lanes = self._lanes, []
        given = self._given
        if given is not None and given.is_busy:
            if abort:
                lanes.append(given)
            else:
                with contextlib.suppress(DulcetError):
                    while given.is_busy:
                        given._collect()
        abort_all(lane.association for lane in lanes if abort or lane.is_busy)
        for lane in [*lanes, *([given] if given is not None else [])]:
            if lane.association.ending is not None:
                lane.abandon(AssociationError("the rest was not waited for"))
            elif lane is not given:
                with contextlib.suppress(DulcetError):
                    lane.association.release()
        deadline = time.monotonic() + LATE
        for thread in self._late:
            thread.join(max(deadline - time.monotonic(), 0.0))


def _failed(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
