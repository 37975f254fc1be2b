"""Observers: from a journal of trace events to those who asked to be told, and two observers that most will want.

Rule: an observer cannot break an association: what it raises is logged once and passed over.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, assert_never

from dulcet.dimse.trace_events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRefused,
    AssociationReleased,
    AssociationRequested,
    ConnectionClosed,
    ConnectionOpened,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    OperationFinished,
    PDUReceived,
    PDUSent,
    TraceEvent,
)
from dulcet.log_codes import coded

if TYPE_CHECKING:
    from dulcet.dimse.association import DimseAssociation

__all__ = ["Metrics", "Observer", "Reporter", "log_trace_events"]

log: Final = logging.getLogger("dulcet.trace_events")

Observer = Callable[[TraceEvent, Any], object]
"""Called with what happened and the association it happened on (`.peer` …), in its thread or event loop."""


class Reporter:
    """Hands the journal of one association on."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._started: dict[tuple[bool, int], float] = {}
        self._failed: list[Observer] = []

    def report(self, core: DimseAssociation, association: Any, now: float) -> None:
        """Tell each observer what happened since the last time; `now` is monotonic."""
        journal = core.journal
        while journal:
            happened = journal[:]
            del journal[: len(happened)]  # another thread may have added to it in between
            for trace_event in happened:
                trace_event = self._timed(trace_event, now)
                for observer in self._observers:
                    self._tell(observer, trace_event, association)

    def _timed(self, trace_event: TraceEvent, now: float) -> TraceEvent:
        if isinstance(trace_event, MessageReceived | MessageSent) and trace_event.command.is_request:
            key = (isinstance(trace_event, MessageReceived), trace_event.command.message_id or 0)
            self._started[key] = now
        elif isinstance(trace_event, OperationFinished):
            start = self._started.pop((trace_event.by_us, trace_event.message_id), None)
            if start is not None:
                return replace(trace_event, seconds=now - start)
        return trace_event

    def _tell(self, observer: Observer, trace_event: TraceEvent, association: Any) -> None:
        try:
            observer(trace_event, association)
        except Exception:
            if not any(observer is failed for failed in self._failed):
                self._failed.append(observer)
                log.exception(
                    "an observer failed; it is told on, and what it raises is passed over", extra=coded("DUL902")
                )


def log_trace_events(logger: logging.Logger | None = None) -> Observer:
    """An observer that logs: associations at INFO, operations and messages at DEBUG; no data set, no patient data.

    `logger` takes the lines, by default that of the name `dulcet.trace_events`:
    `AssociationConfig(observers=(log_trace_events(),))`.
    """
    target = logger or log

    def tell(trace_event: TraceEvent, association: Any) -> None:
        level = logging.DEBUG if isinstance(trace_event, QUIET) else logging.INFO
        if target.isEnabledFor(level):
            target.log(level, "%s: %s", association.peer, _sentence(trace_event))

    return tell


QUIET: Final = (
    ConnectionClosed,
    ConnectionOpened,
    MessageReceived,
    MessageSent,
    OperationFinished,
    PDUReceived,
    PDUSent,
)


def _sentence(trace_event: TraceEvent) -> str:
    match trace_event:
        case AssociationRequested(request, by_us):
            who = "requested" if by_us else "request"
            return f"association {who}, {request.calling!a} calls {request.called!a}"
        case AssociationAccepted(accept, _):
            accepted = sum(context.accepted for context in accept.presentation_contexts)
            return f"association accepted, {accepted} of {len(accept.presentation_contexts)} contexts"
        case AssociationRefused(result, source, reason, _):
            return f"association refused ({result},{source},{reason})"
        case AssociationReleased():
            return "association released"
        case AssociationAborted(source, reason, by_us, message):
            return f"association aborted by {'us' if by_us else 'the peer'} ({source},{reason}) {message}".rstrip()
        case OperationFinished(name, message_id, status, _, size, seconds):
            took = "" if seconds is None else f" in {seconds * 1000:.1f} ms"
            return f"{name} {message_id}: {status:04X}H, {size} bytes{took}"
        case MessageReceived(context_id, command):
            return f"<- {command.name} on context {context_id}"
        case MessageSent(context_id, command, size):
            return f"-> {command.name} on context {context_id}, {size} bytes of data"
        case PDUReceived(pdu_type, length):
            return f"<- PDU {pdu_type:02X}H, {length} bytes"
        case PDUSent(pdu_type, length):
            return f"-> PDU {pdu_type:02X}H, {length} bytes"
        case ConnectionOpened():
            return "connected"
        case ConnectionClosed(expected):
            return "connection closed" if expected else "connection lost"
        case HandshakeFailed(message):
            return message
        case _:
            assert_never(trace_event)


class Metrics:
    """An observer that counts; read `.counts` and `.seconds` at any time."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By the name of the trace event; operations also by `C-STORE 0000H` and `C-STORE bytes`."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Time in operations, by name."""

    def __call__(self, trace_event: TraceEvent, association: Any) -> None:
        self.counts[type(trace_event).__name__] += 1
        if isinstance(trace_event, OperationFinished):
            self.counts[f"{trace_event.name} {trace_event.status:04X}H"] += 1
            self.counts[f"{trace_event.name} bytes"] += trace_event.size
            self.seconds[trace_event.name] += trace_event.seconds or 0.0
