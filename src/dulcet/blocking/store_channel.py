"""What the sending of many is made of: one association and what is on its way there, and what became of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dulcet.blocking.association import Association
from dulcet.dimse.events import AssociationEvent, ResponseReceived
from dulcet.dimse.operations import Operation
from dulcet.errors import AssociationError, DimseTimeout, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.instances import Instance
from dulcet.io.send_buffer import FileFailed
from dulcet.services.proposals import StoragePlan
from dulcet.services.results import Sent

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["LOST", "StoreChannel", "WorkQueue", "failed_by"]

TOGETHER_BYTES: Final = 64 * 1024
"""Queued bytes that are sent without waiting for more."""

LOST: Final = (AssociationError, DimseTimeout, PeerUnreachable)


@dataclass(slots=True, eq=False)
class PendingStore:
    channel: StoreChannel
    instance: Instance
    transfer_syntax: str
    size: int


class WorkQueue:
    """Instances still to be sent, each taken once, by as many threads as there are."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._waiting = deque(instances)
        self.more: Callable[[], Instance | None] | None = None
        """Gives what else can travel with these, once all of them are taken; None for no more."""
        self.stopped = False
        self.begun: list[str] = []
        """SOP Instance UIDs of the C-STORE-RQs that were made."""
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

    def take_out(self, wanted: Callable[[Instance], bool]) -> list[Instance]:
        """Those that are not wanted; the others stay."""
        out = [instance for instance in self._waiting if not wanted(instance)]
        self._waiting = deque(instance for instance in self._waiting if wanted(instance))
        return out

    def give_back(self, instances: Sequence[Instance]) -> None:
        self._waiting.extendleft(reversed(instances))

    def __len__(self) -> int:
        return len(self._waiting)


class StoreChannel:
    """One association and what is on its way there."""

    def __init__(
        self,
        association: Association,
        plan: StoragePlan,
        originator: tuple[str, int] | None = None,
        proposals: Sequence[Proposal] = (),
        until: Callable[[], float | None] | None = None,
    ) -> None:
        """`until` says when answers are no longer waited for, in monotonic time; None while they are."""
        self.association = association
        self.until = until
        self.originator = originator
        self.plan = plan
        self.proposals = proposals
        self.delivered = 0
        self._core = association._core
        self._unsent: Instance | None = None  # taken from the list, not yet queued

    @property
    def pending_stores(self) -> list[tuple[Operation, PendingStore]]:
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
        return isinstance(operation.owner, PendingStore) and operation.owner.channel is self

    def carries(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax can travel here now."""
        return self.association.is_established and self.settles(pair)

    def settles(self, pair: tuple[str, str]) -> bool:
        """True when instances of this class and syntax belong here, by what was agreed on and what was refused."""
        if self._core.context_for(*pair) is not None:
            return True
        return self.plan.settles(pair, [found.transfer_syntax for found in self._core.contexts_for(pair[0])])

    def run(self, work_queue: WorkQueue, priority: int) -> Iterator[Sent]:
        """Send each, as many at once as the window allows; raises when the association is lost."""
        core, association = self._core, self.association
        half = (core.window.invoked or core.config.limits.unanswered) // 2
        queued = bytes_queued = 0
        for instance in work_queue:
            self._unsent = instance
            association._check_usable()
            while not core.can_invoke():
                if self.is_busy:
                    yield self._collect()
                else:  # another operation of the caller's is under way
                    association._set_aside(association._next_event())
            if work_queue.stopped:  # while this one waited for its place in the window
                break
            pending_store = PendingStore(self, instance, instance.transfer_syntax, 0)
            try:
                _, pending_store.transfer_syntax, pending_store.size = association._start_store(
                    instance, priority=priority, originator=self.originator, owner=pending_store
                )
            except DulcetError as error:  # this one alone: it cannot be read, or not be converted
                instance.close()
                self._unsent = None
                yield failed_by(instance, error)
                continue
            self._unsent = None
            work_queue.begun.append(instance.sop_instance_uid)
            # Small requests leave together, half a window of them at most: the peer has the other half meanwhile.
            # Waiting for an answer sends what is left.
            queued, bytes_queued = queued + 1, bytes_queued + pending_store.size
            if bytes_queued > TOGETHER_BYTES or queued >= half:
                queued = bytes_queued = 0
                association._flush()
        while self.is_busy:
            yield self._collect()

    def _collect(self) -> Sent:
        """The next answer."""
        association = self.association
        while True:
            event = self._kept() or self._awaited()
            if event is None:
                return self._given_up()
            if type(event) is not ResponseReceived or not self._is_mine(event.operation):
                association._set_aside(event)
                continue
            operation = event.operation
            pending_store: PendingStore = operation.owner
            instance = pending_store.instance
            try:
                if not operation.departed:
                    association._flush_all()
            finally:
                instance.close()
            self.delivered += 1
            uids = instance.sop_class_uid, instance.sop_instance_uid
            sent = pending_store.transfer_syntax, pending_store.size
            return Sent.answered(instance.origin, event.command, *uids, *sent)

    def _awaited(self) -> AssociationEvent | None:
        """The next event; None when answers are no longer waited for."""
        until = None if self.until is None else self.until()
        return self.association._next_event() if until is None else self.association._event_by(until)

    def _given_up(self) -> Sent:
        """What is not waited for: it failed, though it may have arrived.  What comes of it is taken quietly."""
        operation, pending_store = self.pending_stores[0]
        try:
            if not operation.departed:
                self.association._flush_all()
        finally:
            pending_store.instance.close()
        self._core.forget(operation)
        return failed_by(pending_store.instance, DimseTimeout("cancelled before it was answered"))

    def _kept(self) -> ResponseReceived | None:
        """An answer that came while a request of the peer's was served in between."""
        return self.association._take_kept(self._is_mine)

    def abandon(self, error: DulcetError) -> tuple[list[Sent], list[Instance]]:
        """After the association was lost: what counts as failed, and what can go over another one.

        Nobody knows whether what was on its way arrived, so it failed.  Where we had to abort because of one file, only
        that one did: to send the others once more does no harm.
        """
        failed: list[Sent] = []
        again: list[Instance] = []
        culprit = error.__cause__
        for operation, pending_store in self.pending_stores:
            instance = pending_store.instance
            if not isinstance(culprit, FileFailed):
                failed.append(failed_by(instance, error))
            elif culprit.file in (instance.file, getattr(instance.data, "file", None)):
                failed.append(failed_by(instance, InstanceError(f"{instance.origin}: {culprit}", instance.origin)))
            else:
                again.append(instance)
            instance.close()
            del self._core.outstanding[operation.message_id]
        if self._unsent is not None:
            again.append(self._unsent)
            self._unsent = None
        return failed, again


def failed_by(instance: Instance, error: DulcetError) -> Sent:
    return Sent(
        instance.origin, None, error, instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax
    )
