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
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dulcet.blocking.association import Association, associate
from dulcet.blocking.channel import LAST_WORD, abort_all
from dulcet.blocking.store_channel import LOST, StoreChannel, WorkQueue, failed_by
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
from dulcet.io.store_queue import StoreQueue
from dulcet.io.walking import NEVER_SENT, each
from dulcet.services.proposals import StoragePlan
from dulcet.services.results import Sent
from dulcet.uids import name_of
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.upper_layer.negotiation import Proposal

__all__ = ["Sending", "StoreMany"]

FRUITLESS: Final = 3
"""Associations in a row that get nothing across before the rest is given up; one may fall over one bad instance."""
LATE: Final = 0.5
"""Seconds for the answers to requests for associations that nobody needs any more, so that they can be released."""

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
        until: Callable[[], float | None] | None = None,
    ) -> None:
        """Without an `address` everything goes over the `given` association, as it does for an acceptor.

        `until` says when answers on that one are no longer waited for, in monotonic time; None while they are.
        """
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
        self._given = StoreChannel(given, self._plan, originator, until=until) if given is not None else None
        self._channels: list[StoreChannel] = []
        self._lock = threading.Lock()
        self._opened = False
        self._late: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._interrupted = False
        self._work_queue: WorkQueue | None = None
        self._before: list[str] = []
        self._failure: DulcetError | None = None
        """Why the last association was given up, and with it what is still to be sent."""
        self._store_queue = StoreQueue(())

    def run(self, what: InstanceSource | Iterable[InstanceSource]) -> Sending:
        """One `Sent` for each; raises what `associate` raises when the very first association cannot be made."""
        return Sending(self._results(each(what)))

    def _results(self, what: Iterable[InstanceSource]) -> Generator[Sent]:
        if self._given is not None:
            self._given.association._check_usable()
        store_queue = self._store_queue = StoreQueue(what, ahead=self.associations == 1)
        abort = True
        try:
            while not self._stopping.is_set():
                batch = store_queue.batch()
                yield from store_queue.unsendable()
                if batch:
                    yield from self._send(batch)
                elif store_queue.ended:
                    break
            if not self._stopping.is_set():
                store_queue.check()
            abort = False
        except GeneratorExit:
            self._stopping.set()
            abort = False
            raise
        finally:
            self._close(abort)

    # ------------------------------------------------------------------ an early end, from any thread

    @property
    def begun(self) -> list[str]:
        """SOP Instance UIDs of the C-STORE-RQs that were made, each as often as it was sent."""
        work_queue = self._work_queue
        return [*self._before, *(work_queue.begun if work_queue is not None else ())]

    def stop(self) -> None:
        """Begin nothing more; `run` ends once what is under way was answered, and the associations are released."""
        self._stopping.set()
        if self._work_queue is not None:
            self._work_queue.stopped = True

    def interrupt(self) -> None:
        """End at once: abort the associations, and fail what is under way."""
        self._interrupted = True
        self.stop()
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            channel.association.interrupt()

    def _planned(self, instances: Iterable[Instance]) -> WorkQueue:
        """A list to send from, which `stop` knows."""
        before, work_queue = self._work_queue, WorkQueue(instances)
        if before is not None:
            self._before += before.begun
        self._work_queue = work_queue
        work_queue.stopped = self._stopping.is_set()
        return work_queue

    # ------------------------------------------------------------------ sending

    def _running(self, channel: StoreChannel, work_queue: WorkQueue) -> Iterator[Sent]:
        """Send these, and over an only association what follows them as well."""
        if self.associations == 1 and work_queue:
            work_queue.more = functools.partial(self._store_queue.following, channel.carries)
        try:
            for sent in channel.run(work_queue, self.priority):
                yield sent
                yield from self._store_queue.unsendable()
        finally:
            work_queue.more = None

    def _send(self, instances: Sequence[Instance]) -> Iterator[Sent]:
        waiting: dict[tuple[str, str], list[Instance]] = {}
        _put_back(instances, waiting)
        if self.associations == 1:
            yield from self._use_standing(waiting)
        while waiting and not self._stopping.is_set():
            channels = self._standing(waiting)
            if channels:
                pairs = [pair for pair in waiting if all(channel.carries(pair) for channel in channels)]
                work_queue = self._planned([instance for pair in pairs for instance in waiting.pop(pair)])
                yield from self._drive_all(channels, work_queue)
            elif self._plan.contexts(waiting):
                yield from self._ask(waiting)
            else:
                for instance in [instance for pair in list(waiting) for instance in waiting.pop(pair)]:
                    error = NoPresentationContext(REFUSED.format(self.address, *map(name_of, _pair(instance))))
                    yield failed_by(instance, error)

    def _ask(self, waiting: dict[tuple[str, str], list[Instance]]) -> Iterator[Sent]:
        """Send what one more association carries, or several that are alike; take it out of `waiting`."""
        # An only association takes over the contexts of the one before: more of their kind may come.
        alone = self.associations == 1
        before = [each for channel in self._channels for each in channel.association.contexts] if alone else []
        wanted = self._plan.contexts(waiting)
        proposals = self._plan.contexts(waiting, before)
        # There are peers that serve one at a time, and what these carry was sent already.
        for channel in list(self._channels):
            self._release(channel)
        classes = {proposal.abstract_syntax for proposal in proposals}
        pairs = [pair for pair in waiting if pair[0] in classes]
        work_queue = self._planned([instance for pair in pairs for instance in waiting.pop(pair)])
        try:
            channel = self._open(proposals, work_queue)
        except LOST as error:
            if self._stopping.is_set():
                return
            if not self._asks_otherwise(error, wanted):
                if not self._opened and self._given is None:
                    raise
                self._failure = error
                yield from self._give_up(work_queue)
            _put_back(work_queue, waiting)
            return
        self._plan.learn(proposals, channel.association.contexts)
        _put_back(work_queue.take_out(lambda instance: channel.settles(_pair(instance))), waiting)
        yield from self._drive_all([channel], work_queue)

    def _drive_all(self, channels: Sequence[StoreChannel], work_queue: WorkQueue) -> Iterator[Sent]:
        """Send over these, and as many more like them as were wished for."""
        count = min(self.associations, len(work_queue))
        if count > 1:
            yield from self._drive_parallel(channels[:count], channels[0].proposals, work_queue, count)
        elif count:
            yield from self._drive(channels[0], channels[0].proposals, work_queue)
        yield from self._give_up(work_queue)

    def _standing(self, waiting: Iterable[tuple[str, str]]) -> list[StoreChannel]:
        """The parallel associations that stand, where something waits that all of them carry."""
        channels = list(self._channels) if self.associations > 1 else []
        return channels if any(all(channel.carries(pair) for channel in channels) for pair in waiting) else []

    def _asks_otherwise(self, error: DulcetError, proposals: Iterable[Proposal]) -> bool:
        """True when the association was rejected without a reason, and something else can be asked for instead."""
        no_reason = isinstance(error, AssociationRefused) and (error.result, error.source, error.reason) == (1, 1, 1)
        return no_reason and self._plan.refuse(proposals)

    def _use_standing(self, waiting: dict[tuple[str, str], list[Instance]]) -> Iterator[Sent]:
        """Send what the associations that stand can carry; take it out of `waiting`."""
        for channel in [*([self._given] if self._given is not None else []), *self._channels]:
            # Where no other association can be made, this one may have to convert, or say why not.
            pairs = [pair for pair in waiting if self.address is None or channel.carries(pair)]
            work_queue = self._planned(instance for pair in pairs for instance in waiting.pop(pair))
            try:
                channel.association._catch_up()  # what was idle for long may be gone
                yield from self._running(channel, work_queue)
            except LOST as error:
                yield from self._lost(channel, work_queue, error)
                if self.address is None:
                    yield from self._give_up(work_queue)
                _put_back(work_queue, waiting)

    def _drive(self, channel: StoreChannel, proposals: Sequence[Proposal], work_queue: WorkQueue) -> Iterator[Sent]:
        """Send over one association, made anew when it is lost; some are left when it was given up."""
        fruitless = 0
        while True:
            try:
                channel.association._catch_up()
                yield from self._running(channel, work_queue)
                return
            except LOST as error:
                failure = error
            yield from self._lost(channel, work_queue, failure)
            if self._stopping.is_set() or not work_queue:
                return
            progress = channel.delivered or isinstance(failure.__cause__, FileFailed)
            fruitless = 0 if progress else fruitless + 1
            if fruitless >= (1 if isinstance(failure, DimseTimeout) else FRUITLESS):
                return
            try:
                channel = self._open(proposals, work_queue)
            except LOST as error:
                self._failure = error
                return

    def _drive_parallel(
        self, standing: Sequence[StoreChannel], proposals: Sequence[Proposal], work_queue: WorkQueue, count: int
    ) -> Iterator[Sent]:
        """The same with several associations, a thread for each; they take from one list."""
        results: queue.SimpleQueue[Sent | BaseException | None] = queue.SimpleQueue()

        def work(channel: StoreChannel | None) -> None:
            try:
                for sent in self._drive(channel or self._open(proposals, work_queue), proposals, work_queue):
                    results.put(sent)
            except LOST:
                pass  # fewer associations than wished for; the others do the work
            except BaseException as error:
                results.put(error)
            finally:
                results.put(None)

        threads = [
            threading.Thread(target=work, args=(channel,), name=f"dulcet-store-{index}", daemon=True)
            for index, channel in enumerate([*standing, *[None] * (count - len(standing) - self._count_late())])
        ]
        running, unanswered = len(threads), len(work_queue)
        try:
            for thread in threads:
                thread.start()
            while running:
                if (not unanswered or self._stopping.is_set()) and self._is_over(work_queue, running):
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
                self.interrupt()
            deadline = time.monotonic() + LAST_WORD + 0.5
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(deadline - time.monotonic(), 0.0))

    def _count_late(self) -> int:
        """Threads that still wait for an association that nobody needs any more."""
        self._late = [thread for thread in self._late if thread.is_alive()]
        return len(self._late)

    def _is_over(self, work_queue: WorkQueue, running: int) -> bool:
        """True when everything is answered and those who still run only wait for an association."""
        with self._lock:
            work_queue.over = running == work_queue.opening
            return work_queue.over

    # ------------------------------------------------------------------ associations

    def _open(self, proposals: Sequence[Proposal], work_queue: WorkQueue) -> StoreChannel:
        assert self.address is not None
        with self._lock:
            if not work_queue or work_queue.stopped:
                raise AssociationError("nothing is left to be sent")
            work_queue.opening += 1
        try:
            association = self._associate(proposals)
        except BaseException:
            with self._lock:
                work_queue.opening -= 1
            raise
        channel = StoreChannel(association, self._plan, self.originator, proposals)
        with self._lock:
            work_queue.opening -= 1
            if not (self._stopping.is_set() or work_queue.over):
                self._opened = True
                self._channels.append(channel)
                return channel
        if not self._interrupted:
            association.release()
        else:
            association.abort()
        raise AssociationError("no more is to be sent")

    def _associate(self, proposals: Sequence[Proposal]) -> Association:
        assert self.address is not None
        for pause in (*(AGAIN if self._opened else ()), None):
            begun = time.monotonic()
            try:
                return associate(
                    self.address, calling_ae_title=self.calling_ae_title, contexts=proposals, config=self.config
                )
            except PeerUnreachable:
                if pause is None or time.monotonic() - begun > 1 or self._stopping.wait(pause):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _lost(self, channel: StoreChannel, work_queue: WorkQueue, error: DulcetError) -> Iterator[Sent]:
        """What the loss of an association means for what was on its way there."""
        self._failure = error
        failed, again = channel.abandon(error)
        work_queue.give_back(again)
        with self._lock:
            if channel in self._channels:
                self._channels.remove(channel)
        yield from failed

    def _give_up(self, work_queue: WorkQueue) -> Iterator[Sent]:
        for instance in work_queue:
            assert self._failure is not None
            yield failed_by(instance, self._failure)

    def _release(self, channel: StoreChannel) -> None:
        with self._lock:
            self._channels.remove(channel)
        with contextlib.suppress(DulcetError):
            channel.association.release()

    def _close(self, abort: bool) -> None:
        """Release our own associations; those with something unanswered, after an early end, are aborted."""
        with self._lock:
            channels, self._channels = self._channels, []
        given = self._given
        if given is not None and given.is_busy:
            if abort:
                channels.append(given)
            else:
                with contextlib.suppress(DulcetError):
                    while given.is_busy:
                        given._collect()
        abort_all(channel.association for channel in channels if abort or channel.is_busy)
        for channel in [*channels, *([given] if given is not None else [])]:
            if channel.association.ending is not None:
                channel.abandon(AssociationError("the rest was not waited for"))
            elif channel is not given:
                with contextlib.suppress(DulcetError):
                    channel.association.release()
        deadline = time.monotonic() + LATE
        for thread in self._late:
            thread.join(max(deadline - time.monotonic(), 0.0))


class Sending(Iterator[Sent]):
    """What becomes of each instance, as it becomes known; leaving early ends the job."""

    def __init__(self, results: Generator[Sent]) -> None:
        self._results = results
        self._wanted = False

    def __iter__(self) -> Iterator[Sent]:
        self._wanted = True
        return self._results

    def __next__(self) -> Sent:
        self._wanted = True
        return next(self._results)

    def close(self) -> None:
        """Send no more, and close the associations."""
        self._wanted = True
        self._results.close()

    def __del__(self) -> None:
        if not self._wanted:
            warnings.warn(NEVER_SENT, RuntimeWarning, source=self, stacklevel=2)


def _pair(instance: Instance) -> tuple[str, str]:
    return instance.sop_class_uid, instance.transfer_syntax


def _put_back(instances: Iterable[Instance], waiting: dict[tuple[str, str], list[Instance]]) -> None:
    for instance in instances:
        waiting.setdefault(_pair(instance), []).append(instance)
