"""Event reports to other application entities, on associations of their own (PS3.7 section 10.1.1).

Rules: each receiver has a queue and a thread while there is something for it, so a peer that is slow or away delays
nobody else; what one receiver gets, it gets in order; nothing is dropped before it was answered or tried often enough.
The reporting side is the provider: it proposes the role, and tolerates a peer that does not answer role selection.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet.blocking.association import Association, associate
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError, InstanceError, PeerUnreachable
from dulcet.log_codes import coded
from dulcet.services.proposals import UNCOMPRESSED_PREFERENCE
from dulcet.services.retrying import Backoff
from dulcet.upper_layer.negotiation import Proposal

if TYPE_CHECKING:
    from dulcet.node.application import Node

__all__ = ["EventReportSender", "Report"]

log: Final = logging.getLogger("dulcet.node")

TRY_AGAIN: Final = frozenset((Status.PROCESSING_FAILURE, Status.RESOURCE_LIMITATION))
"""Answers that say that the receiver could not take it now; every other answer is its last word."""

QUEUED: Final = 10_000
"""Reports that may wait for one receiver; beyond, the oldest goes.  At some 2 KB each that is 20 MB."""


@dataclass(slots=True, eq=False)
class Report:
    """One N-EVENT-REPORT, and who wants to know what became of it."""

    receiver: str
    """Its AE title, looked up in the node's peers each time."""
    sop_class_uid: str
    sop_instance_uid: str
    prepare: Callable[[], tuple[int, Any]]
    """Called when it is about to be sent: event type and event information."""
    context: str | None = None
    """The abstract syntax it travels under where that is not its SOP class."""
    done: Callable[[Report, Status | None], object] | None = None
    """Called with the status of the answer, or None when it was tried often enough."""
    failed: Callable[[Report], object] | None = None
    """Called after each failure that is not the last, `failures` and `pause` being up to date."""
    failures: int = 0
    pause: float = 0.0


class EventReportSender:
    """Delivers reports while the node serves; those given before or after wait."""

    def __init__(self, node: Node, *, backoff: Backoff | None = None) -> None:
        """`backoff` says when and how often a report is tried again."""
        self.node = node
        self.backoff: Backoff = backoff or Backoff(longest=300.0, attempts=12)
        self._queues: dict[str, deque[Report]] = {}
        self._running: dict[str, threading.Thread] = {}
        self._open: set[Association] = set()
        self._changed = threading.Condition()
        self._serving = False
        node.companions.append(self)

    def send(self, report: Report) -> None:
        """Queue a report; returns at once."""
        with self._changed:
            queue = self._queues.setdefault(report.receiver, deque())
            if len(queue) >= QUEUED:
                log.error(
                    "%s has %d reports waiting; the oldest is dropped", ascii(report.receiver), len(queue),
                    extra=coded("DUL508"),
                )  # fmt: skip
                self._end(queue.popleft(), None)
            queue.append(report)
            if self._serving:
                self._drive(report.receiver)

    def start(self) -> None:
        """The node serves: what waits is sent."""
        with self._changed:
            self._serving = True
            for receiver in list(self._queues):
                self._drive(receiver)

    def stop(self, seconds: float) -> None:
        """Stop sending; what is under way may take `seconds` to end."""
        with self._changed:
            self._serving = False
            self._changed.notify_all()
            threads = list(self._running.values())
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        with self._changed:
            for association in list(self._open):
                association.interrupt()

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is left to send; False when `timeout` seconds were too short."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._queues.values()), timeout)

    # ------------------------------------------------------------------ a queue

    def _drive(self, receiver: str) -> None:
        """Start the thread of a queue unless it runs; the lock is held."""
        if receiver not in self._running and self._queues.get(receiver):
            thread = threading.Thread(
                target=self._run, args=(receiver,), name=f"dulcet-reports-{receiver}", daemon=True
            )
            self._running[receiver] = thread
            thread.start()

    def _run(self, receiver: str) -> None:
        while True:
            with self._changed:
                queue = self._queues[receiver]
                if not queue or not self._serving:
                    if not queue:
                        del self._queues[receiver]
                    del self._running[receiver]
                    self._changed.notify_all()
                    return
                report = queue[0]
            pause = self._deliver(receiver, queue, report)
            if pause:
                with self._changed:
                    self._changed.wait_for(lambda: not self._serving, pause)

    def _deliver(self, receiver: str, queue: deque[Report], report: Report) -> float:
        """Send what waits over one association, beginning with `report`; seconds to wait after a failure."""
        try:
            event = report.prepare()
            with self._associate(receiver, report) as association:
                try:
                    self._open.add(association)
                    return self._send(association, queue, report, event)
                finally:
                    self._open.discard(association)
        except InstanceError:
            log.exception("%s: an event report cannot be encoded", ascii(receiver), extra=coded("DUL504"))
            self._remove(queue, queue[0], None)
        except DulcetError as error:
            if queue:  # those that were answered are gone: it is the first one that failed
                return self._failure(queue, queue[0], str(error))
        except Exception:
            log.exception("%s: an event report cannot be made now", ascii(receiver), extra=coded("DUL505"))
            return self._failure(queue, queue[0], "it could not be made")
        return 0.0

    def _associate(self, receiver: str, report: Report) -> Association:
        address = self.node.peers.get(receiver)
        if address is None:
            raise PeerUnreachable(f"{receiver!a} is no known peer; add it to the node's peers")
        context = report.context or report.sop_class_uid
        return associate(
            address,
            calling_ae_title=self.node.ae_title,
            contexts=[Proposal(context, UNCOMPRESSED_PREFERENCE, user=False, provider=True)],
            config=self.node.config,
        )

    def _send(self, association: Association, queue: deque[Report], report: Report, event: tuple[int, Any]) -> float:
        """Reports of one queue until it is empty, one fails, or one needs another context."""
        while self._serving:
            event_type, information = event
            response = association.n_event_report(
                report.sop_class_uid, report.sop_instance_uid, event_type, information, context=report.context
            )
            if response.status in TRY_AGAIN:
                return self._failure(queue, report, f"the answer was {response.status}")
            self._remove(queue, report, response.status)
            with self._changed:
                if not queue or queue[0].context != report.context:
                    break
                report = queue[0]
            event = report.prepare()
        return 0.0

    def _failure(self, queue: deque[Report], report: Report, why: str) -> float:
        report.failures += 1
        pause = self.backoff.pause(report.failures, random.random())
        log.warning(
            "%s: an event report failed (%d): %s", ascii(report.receiver), report.failures, why, extra=coded("DUL506")
        )
        if pause is None:
            self._remove(queue, report, None)
            return 0.0
        report.pause = pause
        if report.failed is not None:
            self._tell(report, report.failed, report)
        return pause

    def _remove(self, queue: deque[Report], report: Report, status: Status | None) -> None:
        self._end(report, status)
        with self._changed:
            if report in queue:
                queue.remove(report)
            self._changed.notify_all()

    def _end(self, report: Report, status: Status | None) -> None:
        if report.done is not None:
            self._tell(report, report.done, report, status)

    def _tell(self, report: Report, who: Callable[..., object], *arguments: object) -> None:
        """Call the application; what it raises is its own business."""
        try:
            who(*arguments)
        except Exception:
            log.exception(
                "%s: what was to be done after a report failed", ascii(report.receiver), extra=coded("DUL507")
            )
