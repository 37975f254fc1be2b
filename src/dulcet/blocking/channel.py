"""Bytes and events of an association in the caller's own thread: what user and provider build on.

Rules: no protocol decision here, the core makes them; every wait has a deadline; whatever leaves a `with` block by an
exception aborts, everything else releases; after a timeout or an abort nothing is sent any more.  The lock is for
those who answer a deferred request from another thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from dulcet.blocking.fair_lock import FairLock
from dulcet.blocking.transport import Transport
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import AssociationEvent
from dulcet.dimse.reasons import TOO_LATE
from dulcet.dimse.status import Status
from dulcet.errors import (
    AssociationAborted,
    AssociationClosed,
    AssociationError,
    DimseTimeout,
    DulcetError,
    InstanceError,
)
from dulcet.log_codes import coded
from dulcet.services.negotiated import Negotiated
from dulcet.services.observing import Reporter
from dulcet.services.termination import ENDINGS, ending, ends_in_order
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.events import NEED_DATA, PAUSED, Closed, ReleaseRequested

if TYPE_CHECKING:
    from dulcet.io.secure_stream import Session

__all__ = ["Channel", "abort_all", "aborted_by_us"]

log: Final = logging.getLogger("dulcet.association")

TOGETHER: Final = 4
"""Answers that leave in one piece where the peer has more requests under way: half of a usual window."""
LATE: Final = 0.001
"""Seconds that an answer may wait for the next one."""

STREAM: Final = 32 * 1024
"""Bytes of one read after which more is probably there: the next one is tried without asking first."""

LAST_WORD: Final = 2.0
"""Seconds for a peer to take our A-ABORT and close; after that the connection is closed under it."""


class Channel(Negotiated):
    """One association's core and transport, and the thread that drives them."""

    ending: str | None

    def __init__(
        self, core: DimseAssociation, transport: Transport, *, peer: str, address: Address | None = None
    ) -> None:
        super().__init__(core, peer=peer, address=address)
        self._transport = transport
        self._error: AssociationError | DimseTimeout | None = None
        self._interrupted = False
        self._streaming = False  # the last read brought much
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._waiting_for_room = 0
        self._flushed = 0.0
        self._reporter = Reporter(core.config.observers) if core.config.observers else None
        self._fair_lock: FairLock | None = None
        self._has_turn = False

    @property
    def tls(self) -> Session | None:
        """What TLS agreed on, the peer's certificate included; None without TLS."""
        return self._transport.session

    # ------------------------------------------------------------------ the end

    def release(self) -> None:
        """A-RELEASE, orderly (PS3.8 section 7.2); nothing to do once it has ended.

        With operations that were left unanswered it aborts instead.  Raises AssociationAborted when the peer aborts,
        DimseTimeout when it does not answer within `Timers.release` seconds; what was answered before was answered.
        """
        if self.ending is not None:
            return
        core = self._core
        if core.outstanding:  # PS3.7 allows no release now, and nobody is left who would wait for the answers
            log.warning(
                "%s: aborted, %d operations were left unanswered", self.peer, len(core.outstanding),
                extra=coded("DUL119"),
            )  # fmt: skip
            self.abort()
            return
        try:
            with self._lock:
                for request in list(core.performing.values()):
                    core.respond_status(request, Status.PROCESSING_FAILURE, ErrorComment=TOO_LATE)
                core.release()
            while self.ending is None:
                self._next_event()  # what still comes can no longer be answered
        except AssociationClosed:
            pass
        finally:
            self._finish()

    def abort(self) -> None:
        """A-ABORT: what is unanswered is not done."""
        self._end_here(aborted_by_us(self.peer))
        self._finish()

    def _end_here(self, error: AssociationAborted | DimseTimeout) -> None:
        """Queue A-ABORT, and have `error` raised for whoever still uses the association."""
        if self.ending is None:
            self.ending = "timeout" if isinstance(error, DimseTimeout) else "aborted"
            self._error = error
        with self._lock:
            self._core.abort()

    def interrupt(self) -> None:
        """Have whoever waits on it stop with AssociationAborted, and the peer told; callable from another thread."""
        self._interrupted = True
        self._transport.interrupt()

    def close(self) -> None:
        """Release it if it stands, and close; raises what `release` does."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not ends_in_order(self._core, error):
            self.abort()
            return
        try:
            self.release()
        except (AssociationError, DimseTimeout) as trouble:  # what was answered before was answered
            log.warning("%s: no orderly release: %s", self.peer, trouble, extra=coded("DUL124"))

    def _finish(self, deadline: float | None = None) -> None:
        """Let our last word leave, wait for the peer's close for a moment, close."""
        core, transport = self._core, self._transport
        if not transport.is_open:
            return
        if deadline is None:
            deadline = time.monotonic() + LAST_WORD
        with contextlib.suppress(DulcetError):
            while self._interrupted and (transport.has_unsent or core.has_output) and not transport.broken:
                # What woke us looks like the peer's close: only let our last word leave.
                self._flush()
                if transport.has_unsent and not transport.wait(read=False, deadline=deadline)[1]:
                    break
            while not transport.broken and not core.closed and time.monotonic() < deadline:
                if core.next_event() in (NEED_DATA, PAUSED) and not self._exchange(deadline):
                    break
            if core.wants_close and not transport.broken:
                self._flush()
        transport.close()
        if self._reporter is not None:
            self._reporter.report(core, self, time.monotonic())

    # ------------------------------------------------------------------ events

    def _set_aside(self, event: AssociationEvent) -> None:
        """What came while something else was awaited."""

    def _check_usable(self) -> None:
        if self.ending is not None:
            assert self._error is not None
            raise self._error.with_traceback(None)

    def _next_event(self) -> AssociationEvent:
        """The next event that does not end the association; waits as long as the core's timers let it."""
        core = self._core
        while True:
            with self._lock:
                event = core.next_event()
            if event is NEED_DATA or event is PAUSED:
                if self.ending is not None:
                    self._check_usable()
                if core.closed:
                    self._ended(Closed(expected=True))
                self._exchange(None)
            elif type(event) in ENDINGS:
                self._ended(event)
            else:
                if self._reporter is not None:  # now, for who takes the event may be busy with it for long
                    self._reporter.report(core, self, time.monotonic())
                return event

    def _event_by(self, deadline: float) -> AssociationEvent | None:
        """The next event that does not end the association, if it comes in time; what is here already does."""
        core = self._core
        while True:
            with self._lock:
                event = core.next_event()
            if event is NEED_DATA or event is PAUSED:
                if core.closed:
                    self._check_usable()
                    self._ended(Closed(expected=True))
                if not self._exchange(deadline):
                    return None
            elif type(event) in ENDINGS:
                self._ended(event)
            else:
                return event

    def _catch_up(self) -> None:
        """Deal with what came while nobody looked; raises when the association ended meanwhile."""
        self._exchange(time.monotonic())
        while (event := self._core.next_event()) is not NEED_DATA and event is not PAUSED:
            if type(event) in ENDINGS:
                self._ended(event)
            else:
                self._set_aside(event)

    def _ended(self, event: object) -> None:
        """The association is over: remember how, close, and raise it."""
        word, error = ending(event, self.peer, self._core)
        if isinstance(event, Closed) and (verdict := self._transport.verdict) is not None:
            error = verdict
        if isinstance(event, ReleaseRequested):
            self._core.release_response()
            if event.collision:
                return  # our own release goes on
        self.ending, self._error = word, error
        self._finish()
        raise error

    # ------------------------------------------------------------------ bytes

    def _exchange(self, deadline: float | None, *, room: bool = False) -> bool:
        """Send what there is, then wait for bytes, room or a timer; False when `deadline` has passed.

        `room`: nothing is waited for once all of it is with the kernel.
        """
        core, transport = self._core, self._transport
        if self._reporter is not None:
            self._reporter.report(core, self, time.monotonic())
        if self._interrupted and self.ending is None:
            self.abort()
            self._check_usable()
        with self._lock:
            if core.has_output or transport.has_unsent or self._waiting_for_room:
                self._flush()
            idle, read = not transport.has_unsent, not core.is_full
            if (idle and core.wants_close) or (transport.broken and not read):
                core.eof_received()
                return True
            if room and idle:
                return True
            if self._streaming and idle and read and self._read():
                return True
            timer = core.timer(time.monotonic())
        until = timer if deadline is None else deadline if timer is None else min(timer, deadline)
        readable, writable, woken = self._wait(read, until)
        if self._interrupted and self.ending is None:
            return True  # what ended the wait is no end of the stream
        with self._lock:
            if writable:
                self._flush()
            if readable:
                self._read()
            elif not (writable or woken):
                now = time.monotonic()
                core.handle_timer(now)
                return deadline is None or now < deadline
        return True

    def _wait(self, read: bool, deadline: float | None) -> tuple[bool, bool, bool]:
        """For bytes, room or a wake-up; what came is dealt with when it is our turn, where there are turns."""
        fair_lock = self._fair_lock
        if fair_lock is None:
            return self._transport.wait(read=read, deadline=deadline)
        self._end_turn()
        found = self._transport.wait(read=read, deadline=deadline)
        fair_lock.take()
        self._has_turn = True
        return found

    def _take_turns(self, fair_lock: FairLock | None) -> None:
        """From now on; None while something else than bytes may be waited for."""
        self._end_turn()
        if self._reporter is None:  # observers are an application's, and may take their time
            self._fair_lock = fair_lock

    def _end_turn(self) -> None:
        if self._has_turn:
            assert self._fair_lock is not None
            self._has_turn = False
            self._fair_lock.give()

    def _read(self) -> bool:
        """Take what the kernel has; False where that is nothing."""
        count = self._transport.read_into(self._core.get_buffer())
        if count:
            self._core.buffer_updated(count)
        elif count == 0:
            self._core.eof_received()
        self._streaming = count is not None and count >= STREAM
        return count is not None

    def _flush(self) -> None:
        """Send as much as the kernel takes now.  A file that ends early breaks the message: then we abort."""
        transport, core = self._transport, self._core
        with self._lock:  # several threads may have something to send; each piece leaves once
            if transport.has_unsent and not transport.flush():
                return
            while core.has_output:
                segments = core.data_to_send()
                try:
                    if not transport.write(segments):
                        return
                except InstanceError as error:
                    # The message it belongs to can no longer be made whole.
                    failure = AssociationAborted(0, 0, f"{error}; the association was aborted", by_us=True)
                    self._end_here(failure)
                    self._finish()
                    raise failure from error
            if self._waiting_for_room:
                self._room.notify_all()

    def _flush_answers(self) -> None:
        """Send, unless the next request is here already: then several answers leave together, none of them late."""
        core = self._core
        now = time.monotonic()
        if not core.has_unread or core.unsent_answers >= TOGETHER or now - self._flushed > LATE:
            self._flushed = now
            self._flush()

    def _await_room(self, *, here: bool) -> None:
        """Wait until what is queued is with the kernel, so that a slow reader slows us down.

        `here`: in the thread that drives the association; another one waits for that one to get it out.
        """
        transport, core = self._transport, self._core
        while (transport.has_unsent or core.has_output) and not transport.broken and self.ending is None:
            if here:
                self._exchange(None, room=True)
                continue
            with self._lock:
                self._waiting_for_room += 1
                self._room.wait(1.0)
                self._waiting_for_room -= 1

    def _flush_all(self) -> None:
        """Send everything: for the rare peer that answers before it has read to the end."""
        core, transport = self._core, self._transport
        seconds = core.config.timers.response
        deadline = None if seconds is None else time.monotonic() + seconds
        while (transport.has_unsent or core.has_output) and not transport.broken and not core.closed:
            if not self._exchange(deadline, room=True):
                self._end_here(DimseTimeout(f"{self.peer} answered, but does not take the rest of what it answered"))
                self._finish()
                self._check_usable()


def abort_all(channels: Iterable[Channel]) -> None:
    """A-ABORT on each; their peers have the same moment to close, all together."""
    standing = list(channels)
    deadline = time.monotonic() + LAST_WORD
    for channel in standing:
        channel._end_here(aborted_by_us(channel.peer))
        with contextlib.suppress(DulcetError):
            channel._flush()
    for channel in standing:
        channel._finish(deadline)


def aborted_by_us(peer: str) -> AssociationAborted:
    """For who still waits on an association that this side aborted."""
    return AssociationAborted(0, 0, f"{peer}: the association was aborted by this side", by_us=True)
