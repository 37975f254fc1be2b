"""The clocks of an association (PS3.7 has none, every application needs them): response, stall, progress, idleness.

Rule: a clock blames the peer for its own silence alone, never while bytes of it wait unread here or it waits for us.
"""

from __future__ import annotations

from typing import Final, Literal

from dulcet.config import AssociationConfig
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import TimedOut
from dulcet.upper_layer.state import State

__all__ = ["WITH_SUBOPERATIONS", "Clocks"]

WITH_SUBOPERATIONS: Final = frozenset(int(field) for field in (CommandField.C_GET_RQ, CommandField.C_MOVE_RQ))
"""Requests whose clocks start anew with each sub-operation."""

Watch = Literal["idle", "progress"]


class Clocks:
    """The part of an association that looks at the time."""

    connection: Connection
    config: AssociationConfig
    requestor: bool
    outstanding: dict[int, Operation]
    performing: dict[int, Request]
    _drained: bool  # every byte that came was dealt with: what is missing, the peer has not sent
    _taken: int  # how often bytes were asked for and given
    _watch: Watch | None
    _watch_deadline: float
    _watch_bytes: int
    _stall_deadline: float | None
    _stall_mark: int
    _command_part: bytearray | None
    _incoming: Request | Command | None  # its command set is here, its data set is not

    @property
    def mid_message(self) -> bool:
        """True while a message of the peer has begun and is not whole."""
        return self._incoming is not None or self._command_part is not None or self.connection.mid_pdu

    def timer(self, now: float) -> float | None:
        """When `handle_timer` wants to be called, on the same monotonic clock.

        What was armed since the last call starts now: call it just before waiting, after everything that came.
        """
        connection = self.connection
        soonest = connection.timer(now)
        if connection.state is not State.ESTABLISHED:
            return soonest
        watch = self._watch_timer(now)
        if watch is not None and (soonest is None or watch < soonest):
            soonest = watch
        response = self.config.timers.response
        if response is not None:
            stall = self._stall_timer(now, response)
            if stall is not None and (soonest is None or stall < soonest):
                soonest = stall
            for operation in self.outstanding.values():
                if operation.departed:
                    deadline = operation.deadline
                    if deadline is None:
                        deadline = operation.deadline = now + response
                    if soonest is None or deadline < soonest:
                        soonest = deadline
        return soonest

    def handle_timer(self, now: float) -> None:
        """Let the timers that ran out by `now` act; read what there is to read first, and pull."""
        self.connection.handle_timer(now)
        if not self.connection.is_established:
            return
        if self._response_is_overdue(now) or (self._stall_deadline is not None and self._stall_deadline <= now):
            self._time_out("response")
        elif self._watch is not None and self._watch_deadline <= now:
            watch, self._watch = self._watch, None
            seconds = self.config.timers.progress
            received = self.connection.bytes_received - self._watch_bytes
            if not self._drained:
                return  # what was not looked at may be what is missed: our slowness, not the peer's
            if watch == "idle" or (seconds is not None and received < self.config.limits.progress * seconds):
                self._time_out(watch)

    def _response_is_overdue(self, now: float) -> bool:
        """True when the peer is late; a clock starts anew where the response may be on its way or waits for us."""
        coming = not self._drained or (self.mid_message and self.config.timers.progress is not None)
        for operation in self.outstanding.values():
            if operation.deadline is not None and operation.deadline <= now:
                if not coming and not (self.performing and operation.field in WITH_SUBOPERATIONS):
                    return True
                operation.deadline = None
        return False

    def _stall_timer(self, now: float, seconds: float) -> float | None:
        """A peer that takes nothing of what waits to be sent, and sends nothing, keeps its response from us as well."""
        if not self.connection.has_output:
            self._stall_deadline = None
            return None
        mark = self._taken + self.connection.bytes_received
        if self._stall_deadline is None or mark != self._stall_mark:
            self._stall_deadline, self._stall_mark = now + seconds, mark
        return self._stall_deadline

    def _watch_timer(self, now: float) -> float | None:
        """The one timer over what the peer sends: progress in the middle of a message, else idleness."""
        watch: Watch | None = None
        if self.mid_message:
            watch = "progress"
        elif not self.requestor and not self.performing and not self.outstanding:
            watch = "idle"
        received = self.connection.bytes_received
        if watch is None or watch != self._watch or (watch == "idle" and received != self._watch_bytes):
            seconds = self.config.timers.progress if watch == "progress" else self.config.timers.idle
            self._watch = watch if seconds is not None else None
            self._watch_deadline = now + (seconds or 0.0)
            self._watch_bytes = received
        return self._watch_deadline if self._watch is not None else None

    def _time_out(self, timer: Literal["response", "idle", "progress"]) -> None:
        self.connection.abort()
        self.connection.announce(TimedOut(timer))
