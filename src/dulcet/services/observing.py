"""Observers: from a journal of happenings to those who asked to be told, and two observers that most will want.

Rule: an observer cannot break an association: what it raises is logged once and passed over.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, assert_never

from dulcet.log_codes import coded
from dulcet.upper_layer.happenings import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRefused,
    AssociationReleased,
    AssociationRequested,
    ConnectionClosed,
    ConnectionOpened,
    HandshakeFailed,
    Happening,
    MessageReceived,
    MessageSent,
    OperationFinished,
    PDUReceived,
    PDUSent,
)

if TYPE_CHECKING:
    from dulcet.dimse.association import Association

__all__ = ["Metrics", "Observer", "Reporter", "log_happenings"]

log: Final = logging.getLogger("dulcet.happenings")

Observer = Callable[[Happening, Any], object]
"""Called with what happened and the association it happened on (`.peer` …), in its thread or event loop."""


class Reporter:
    """Hands the journal of one association on."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._started: dict[tuple[bool, int], float] = {}
        self._failed: list[Observer] = []

    def report(self, core: Association, association: Any, now: float) -> None:
        """Tell each observer what happened since the last time; `now` is monotonic."""
        journal = core.journal
        while journal:
            happened = journal[:]
            del journal[: len(happened)]  # another thread may have added to it in between
            for happening in happened:
                happening = self._timed(happening, now)
                for observer in self._observers:
                    self._tell(observer, happening, association)

    def _timed(self, happening: Happening, now: float) -> Happening:
        if isinstance(happening, MessageReceived | MessageSent) and happening.command.is_request:
            key = (isinstance(happening, MessageReceived), happening.command.message_id or 0)
            self._started[key] = now
        elif isinstance(happening, OperationFinished):
            start = self._started.pop((happening.by_us, happening.message_id), None)
            if start is not None:
                return replace(happening, seconds=now - start)
        return happening

    def _tell(self, observer: Observer, happening: Happening, association: Any) -> None:
        try:
            observer(happening, association)
        except Exception:
            if not any(observer is failed for failed in self._failed):
                self._failed.append(observer)
                log.exception(
                    "an observer failed; it is told on, and what it raises is passed over", extra=coded("DUL902")
                )


def log_happenings(logger: logging.Logger | None = None) -> Observer:
    """An observer that logs: associations at INFO, operations and messages at DEBUG; no data set, no patient data.

    `logger` takes the lines, by default that of the name `dulcet.happenings`:
    `AssociationConfig(observers=(log_happenings(),))`.
    """
    target = logger or log

    def tell(happening: Happening, association: Any) -> None:
        level = logging.DEBUG if isinstance(happening, QUIET) else logging.INFO
        if target.isEnabledFor(level):
            target.log(level, "%s: %s", association.peer, _sentence(happening))

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


def _sentence(happening: Happening) -> str:
    match happening:
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
            assert_never(happening)


class Metrics:
    """An observer that counts; read `.counts` and `.seconds` at any time."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By the name of the happening; operations also by `C-STORE 0000H` and `C-STORE bytes`."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Time in operations, by name."""

    def __call__(self, happening: Happening, association: Any) -> None:
        self.counts[type(happening).__name__] += 1
        if isinstance(happening, OperationFinished):
            self.counts[f"{happening.name} {happening.status:04X}H"] += 1
            self.counts[f"{happening.name} bytes"] += happening.size
            self.seconds[happening.name] += happening.seconds or 0.0
