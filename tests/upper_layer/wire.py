"""Connections without sockets: a fake wire, a fake clock, two ends.

Rules: only the public face of `Connection` is used; bytes in go through `get_buffer()` as a transport would put them,
bytes out are checked to be whole PDUs; fragments are copied, for a view is borrowed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from dulcet.config import AssociationConfig, Timers
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import NEED_DATA, PAUSED, Fragment, Signal, UpperLayerEvent
from dulcet.upper_layer.fragments import FileSpan, Segment
from dulcet.upper_layer.framing import BufferPool
from dulcet.upper_layer.items import ContextResult, ImplementationClassUID, MaximumLength, ProposedContext
from dulcet.upper_layer.pdu import PDU, AssociateAC, AssociateRQ, decode

VERIFICATION: Final = "1.2.840.10008.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"

TIMERS: Final = Timers(artim=7.0, associate=100.0, release=1000.0)
"""So far apart that a deadline tells which timer it is."""
CONFIG: Final = AssociationConfig(timers=TIMERS)

REQUEST: Final = AssociateRQ(
    called_ae_title="CALLED",
    calling_ae_title="CALLING",
    presentation_contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (EXPLICIT, IMPLICIT))),
    user_information=(MaximumLength(16384), ImplementationClassUID("1.2.3")),
)
ANSWER: Final = AssociateAC(
    called_ae_title="CALLED",
    calling_ae_title="CALLING",
    presentation_contexts=(ContextResult(1, 0, IMPLICIT), ContextResult(3, 0, EXPLICIT)),
    user_information=(MaximumLength(16384), ImplementationClassUID("1.2.4")),
)


@dataclass(frozen=True)
class Piece:
    """A Fragment whose bytes are ours."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


Seen = UpperLayerEvent | Piece


def kept(event: UpperLayerEvent | Signal) -> Seen | Signal:
    """The event with its bytes copied."""
    if isinstance(event, Fragment):
        return Piece(event.context_id, event.is_command, event.is_last, bytes(event.data))
    return event


def pull(connection: Connection) -> list[Seen]:
    """Every event up to NEED_DATA or PAUSED."""
    events: list[Seen] = []
    while not isinstance(event := kept(connection.next_event()), Signal):
        events.append(event)
    return events


def put(connection: Connection, data: bytes) -> int:
    """Let the transport receive as much of `data` as there is room for; how much that was."""
    if connection.is_full:
        return 0
    buffer = connection.get_buffer()
    count = min(len(buffer), len(data))
    buffer[:count] = data[:count]
    connection.buffer_updated(count)
    return count


def receive(connection: Connection, data: bytes, sizes: Iterable[int] = ()) -> list[Seen]:
    """Receive `data` in reads of these sizes, the rest as it fits, and pull after each; all events."""
    events: list[Seen] = []
    position = 0
    for size in sizes:
        end = min(position + size, len(data))
        while position < end and (count := put(connection, data[position:end])):
            position += count
            events += pull(connection)
    while position < len(data) and (count := put(connection, data[position:])):
        position += count
        events += pull(connection)
    return events


def joined(events: Iterable[Seen]) -> list[Seen]:
    """The same events with pieces of one PDV or message part put together: what does not depend on the reads."""
    whole: list[Seen] = []
    for event in events:
        last = whole[-1] if whole else None
        if (
            isinstance(event, Piece)
            and isinstance(last, Piece)
            and not last.is_last
            and (last.context_id, last.is_command) == (event.context_id, event.is_command)
        ):
            whole[-1] = Piece(event.context_id, event.is_command, event.is_last, last.data + event.data)
        else:
            whole.append(event)
    return whole


def flat(segments: Iterable[Segment]) -> bytes:
    """The bytes of segments, files read."""
    return b"".join(
        os.pread(segment.file, segment.length, segment.offset) if isinstance(segment, FileSpan) else segment
        for segment in segments
    )


def cut(data: bytes) -> list[bytes]:
    """A stream of whole PDUs, one by one; fails when the last one is not whole."""
    pdus = []
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        assert len(data) >= end, f"a PDU of {end} bytes was cut to {len(data)}"
        pdus.append(data[:end])
        data = data[end:]
    return pdus


def sent(connection: Connection, limit: int = 256 * 1024) -> list[PDU]:
    """All that the connection has to send, as PDUs; fails unless it is whole ones."""
    return [decode(pdu) for pdu in cut(drained(connection, limit))]


def drained(connection: Connection, limit: int = 256 * 1024) -> bytes:
    """All that the connection has to send."""
    parts = []
    while segments := connection.data_to_send(limit):
        parts.append(flat(segments))
    assert not connection.has_output
    return b"".join(parts)


def running(connection: Connection, now: float = 0.0) -> float | None:
    """Seconds until the next timer."""
    deadline = connection.timer(now)
    return None if deadline is None else deadline - now


@dataclass
class End:
    """One end: what it saw, and what its application does about it."""

    connection: Connection
    application: Callable[[Connection, Seen], None] | None = None
    seen: list[Seen] = field(default_factory=list)
    inbox: bytearray = field(default_factory=bytearray)
    eof: bool = False
    read_size: Callable[[], int] = lambda: 1 << 30
    """How much the next read brings at most."""

    def step(self) -> bool:
        """Take what came and pull one event; False when nothing happened."""
        connection = self.connection
        moved = False
        if self.inbox and (count := put(connection, bytes(self.inbox[: self.read_size()]))):
            del self.inbox[:count]
            moved = True
        if self.eof and not self.inbox:
            connection.eof_received()
        event = kept(connection.next_event())
        if isinstance(event, Signal):
            return moved
        self.seen.append(event)
        if self.application is not None:
            self.application(connection, event)
        return True


class Pair:
    """A requestor and an acceptor over a wire that a test may spoil, under one clock."""

    def __init__(
        self,
        *,
        config: AssociationConfig = CONFIG,
        acceptor_config: AssociationConfig | None = None,
        wire: Callable[[bytes, bool], bytes] | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        self.requestor = End(Connection(requestor=True, config=config, pool=pool))
        self.acceptor = End(Connection(requestor=False, config=acceptor_config or config, pool=pool))
        self.now = 0.0
        self._wire = wire

    def connect(self, request: AssociateRQ = REQUEST) -> None:
        """The transport connection stands on both ends."""
        self.requestor.connection.associate(request)
        self.requestor.connection.connection_made()
        self.acceptor.connection.connection_made()

    def establish(self, answer: AssociateAC = ANSWER) -> None:
        """Associate, and forget how it came about."""
        self.connect()
        self.run()
        self.acceptor.connection.accept(answer)
        self.run()
        assert self.requestor.connection.is_established
        assert self.acceptor.connection.is_established
        self.requestor.seen.clear()
        self.acceptor.seen.clear()

    def deliver(self, one: End, other: End) -> bool:
        """Carry what one end has to send to the other, its close included."""
        data = drained(one.connection)
        cut(data)
        if data and self._wire is not None:
            data = self._wire(data, one is self.requestor)
        if not other.connection.closed:
            other.inbox += data
            if one.connection.wants_close and not other.eof:
                other.eof = True
                return True
        return bool(data)

    def run(self, steps: int = 10_000) -> None:
        """Until nothing moves any more, time standing still."""
        for _ in range(steps):
            moved = self.deliver(self.requestor, self.acceptor) | self.deliver(self.acceptor, self.requestor)
            moved |= self.requestor.step() | self.acceptor.step()
            if not moved:
                return
        raise AssertionError(f"still moving after {steps} steps")

    def sleep(self) -> bool:
        """Advance the clock to the next timer and let it act; False when none runs."""
        connections = [end.connection for end in (self.requestor, self.acceptor) if not end.connection.wants_close]
        deadlines = [deadline for each in connections if (deadline := each.timer(self.now)) is not None]
        if not deadlines:
            return False
        self.now = min(deadlines)
        for each in connections:
            each.handle_timer(self.now)
        return True

    def finish(self) -> None:
        """Let timers run out; what then still stands is cut off."""
        self.run()
        for _ in range(20):
            if not self.sleep():
                break
            self.run()
        for end in (self.requestor, self.acceptor):
            end.eof = True
        self.run()


class WatchedPool(BufferPool):
    """A pool that knows how many of its buffers are out."""

    out = 0

    def take(self) -> memoryview:
        self.out += 1
        return super().take()

    def give(self, buffer: memoryview) -> None:
        self.out -= 1
        super().give(buffer)


def paused(connection: Connection) -> bool:
    """True when an answer is owed and nothing else is told."""
    return connection.next_event() is PAUSED


def quiet(connection: Connection) -> bool:
    """True when every byte is dealt with and there is nothing to tell."""
    return connection.next_event() is NEED_DATA
