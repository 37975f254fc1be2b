"""A TCP connection for a thread that waits: non-blocking socket, one poll, always able to read while it writes.

Rules: no protocol here; every wait has a deadline (`time.monotonic`); a signal handler that raises, as Ctrl-C does,
never leaves a doubt about how many bytes have left.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from dulcet.io.send_buffer import SendBuffer, SendBufferPool
from dulcet.io.sockets import format_address, prepare, quick_ack
from dulcet.upper_layer.fragments import Segment

if TYPE_CHECKING:
    from dulcet.errors import AssociationError
    from dulcet.io.secure_stream import Session

__all__ = ["Transport"]

POLL_IN: Final = getattr(select, "POLLIN", 1)
POLL_OUT: Final = getattr(select, "POLLOUT", 4)

PIECES: Final = 16
"""Waits for which acknowledgements are hurried after a peer was seen to send in pieces; the kernel counts as far."""

LINGER: Final = Struct("ii").pack(1, 0)
"""SO_LINGER of 0 seconds: `close` drops what is unsent and resets."""

send_buffers: Final = SendBufferPool()


class Transport:
    """One connected socket and what is still to be written to it."""

    def __init__(self, sock: socket.socket) -> None:
        prepare(sock)
        self.socket: socket.socket | None = sock
        self._sock = sock
        self._send_buffer: SendBuffer | None = None
        self._unsent: memoryview | None = None
        self._counts: list[int] = []  # what each `send` took of it
        self._poll = select.poll() if hasattr(select, "poll") else None
        self._events = 0
        self._number = sock.fileno()
        self._alarm: socket.socket | None = None
        self._bell: socket.socket | None = None
        self._broken = False
        self._unacknowledged = False  # bytes came, and nothing left since that told the peer
        self._pieces = 0  # waits for which acknowledgements are hurried

    @property
    def is_open(self) -> bool:
        return self.socket is not None

    @property
    def has_unsent(self) -> bool:
        """True while bytes that were taken from the core are not yet with the kernel."""
        return self._unsent is not None

    @property
    def broken(self) -> bool:
        """True once writing failed: nothing more will leave, what came in can still be read."""
        return self._broken

    @property
    def session(self) -> Session | None:
        """What TLS agreed on; None without it."""
        return None

    @property
    def verdict(self) -> AssociationError | None:
        """What TLS knows about why the connection ended."""
        return None

    @property
    def has_buffered(self) -> bool:
        """True while something may be read that no poll tells of."""
        return False

    def objection(self, calling: str) -> str | None:
        """Why the peer's certificate does not allow it to call itself so; None where it does or there is none."""
        return None

    def write(self, segments: Sequence[Segment]) -> bool:
        """Put `segments` on their way; True when all of it is with the kernel, else call `flush` when writable.

        Only while `has_unsent` is False.  Raises InstanceError from a file that ends early.
        """
        self._counts.clear()
        if len(segments) == 1 and isinstance(segments[0], bytes):
            self._unsent = memoryview(segments[0])
        else:
            if self._send_buffer is None:
                self._send_buffer = send_buffers.take()
            self._unsent = self._send_buffer.load(segments)
        return self.flush()

    def flush(self) -> bool:
        """Send on; True when nothing is left."""
        unsent, counts = self._unsent, self._counts
        if unsent is None:
            return True
        done = sum(counts)
        while done < len(unsent) and not self._broken:
            try:
                # Sending and noting how much was sent are one step for the interpreter: Ctrl-C cannot come in between.
                counts.extend(map(self._sock.send, (unsent[done:] if done else unsent,)))
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                # The peer is gone; what it said last can still be read, so this is no end yet.
                self._broken = True
            done = sum(counts)
        self._unacknowledged = False
        self._unsent = None
        if self._send_buffer is not None:
            send_buffers.give(self._send_buffer)
            self._send_buffer = None
        return True

    def read_into(self, buffer: memoryview) -> int | None:
        """Bytes received; 0 at the end of the stream or when the connection broke, None when there is nothing yet."""
        try:
            count = self._sock.recv_into(buffer)
            self._unacknowledged = True
            return count
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return 0

    def share(self) -> None:
        """Prepare for `wake()` from other threads."""
        if self._alarm is None:
            self._alarm, self._bell = socket.socketpair()
            self._alarm.setblocking(False)
            self._bell.setblocking(False)
            if self._poll is not None:
                self._poll.register(self._alarm, POLL_IN)

    def wake(self) -> None:
        """End a `wait` in another thread."""
        if self._bell is not None:
            with contextlib.suppress(OSError):
                self._bell.send(b"\0")

    def wait(self, *, read: bool, deadline: float | None) -> tuple[bool, bool, bool]:
        """Wait until readable (if `read`), writable (if bytes are unsent), woken, or `deadline`: which of the three."""
        if read and (self._unacknowledged or self._pieces):
            self._acknowledge()
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        write = self._unsent is not None
        if self._poll is None:
            return self._select(read, write, timeout)
        wanted = (POLL_IN if read else 0) | (POLL_OUT if write else 0)
        if wanted != self._events:
            self._poll.register(self._sock, wanted)
            self._events = wanted
        got = alarm = 0
        # Milliseconds, never less than was asked for; but a look at what is there is no wait.
        try:
            ready = self._poll.poll(timeout * 1000 + 0.5 if timeout else timeout)
        except RuntimeError:
            raise RuntimeError(
                "an association is for one thread at a time, and another waits on this one: give each its own"
            ) from None
        for file, events in ready:
            if file == self._number:
                got = events
            else:
                alarm = events
                self._quiet()
        other = got & ~(POLL_IN | POLL_OUT)  # an error or a hang-up: reading tells which
        return bool(got & POLL_IN or (other and read)), bool(got & POLL_OUT or (other and write)), bool(alarm)

    def _acknowledge(self) -> None:
        """Have the kernel acknowledge at once what came and what comes next.

        A peer that sends in pieces with Nagle's algorithm on waits for it.  Who sends whole messages in turn does not:
        our answers carry it.
        """
        self._pieces = PIECES if self._unacknowledged else self._pieces - 1
        quick_ack(self._sock)

    def _select(self, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool, bool]:
        """The same where there is no poll."""
        readers = [self._sock] if read else []
        if self._alarm is not None:
            readers.append(self._alarm)
        readable, writable, _ = select.select(readers, [self._sock] if write else [], [self._sock], timeout)
        woken = self._alarm in readable
        if woken:
            self._quiet()
        return self._sock in readable, bool(writable), woken

    def _quiet(self) -> None:
        assert self._alarm is not None
        with contextlib.suppress(OSError):
            self._alarm.recv(4096)

    def interrupt(self) -> None:
        """Wake whoever waits, from another thread: reading is over."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def peer(self) -> str:
        """`host:port` of the peer, as far as known."""
        try:
            return format_address(self._sock.getpeername())
        except OSError:
            return "unknown"

    def close(self) -> None:
        """Close; what is with the kernel still leaves."""
        if self.socket is not None:
            self.socket = None
            if self._unsent is not None and not self._broken:
                # Half a PDU has left: a reset says so, an orderly end would not.
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            self._unsent = None
            for sock in (self._sock, self._alarm, self._bell):
                if sock is not None:
                    with contextlib.suppress(OSError):
                        sock.close()
