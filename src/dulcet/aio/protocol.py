"""The wire of one association on an event loop: bytes between transport and core, events to whoever owns it.

Rules: events are dispatched in the transport's callback, with no task or queue in between; the core is pulled, so while
nobody takes a data set nothing behind it is looked at; a buffer that the transport may still hold is not written to;
what is idle owns no buffer; one timer an association, moved when it fires and not with every message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Sequence
from struct import pack
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from dulcet.dimse.association import DimseAssociation
from dulcet.errors import InstanceError, TLSError
from dulcet.io.send_buffer import SendBuffer, SendBufferPool
from dulcet.io.sockets import format_address, quick_ack
from dulcet.log_codes import coded
from dulcet.services.observing import Reporter
from dulcet.upper_layer.events import NEED_DATA, PAUSED
from dulcet.upper_layer.fragments import FileSpan, Segment

if TYPE_CHECKING:
    from dulcet.io.secure_stream import Session

__all__ = ["FULL", "LAST_WORD", "LENT", "UNCLAIMED", "WRITING", "Owner", "Wire"]

log: Final = logging.getLogger("dulcet.association")

LAST_WORD: Final = 2.0
"""Seconds for a peer to take our A-ABORT or A-RELEASE-RP and close; after that the connection is closed under it."""

TRAINS_AT_ONCE: Final = 16
"""Send buffers written before the loop serves the others: 4 MiB, one or two milliseconds."""

LAST_READS: Final = 16
"""Reads of what a peer said before it went; its last PDU is in the first one."""

JOINED: Final = 32 * 1024
"""Messages in memory up to this length are copied into one piece; longer ones and files go by send buffer."""

RESET: Final = pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection, which says that what came was not whole."""

UNCLAIMED: Final = 1
"""A data set comes that nobody takes yet."""
LENT: Final = 2
"""Somebody reads in the receive buffer."""
FULL: Final = 4
"""Answers wait for a slow consumer."""
WRITING: Final = 8
"""A data set comes faster than its destination takes it."""

send_buffers: Final = SendBufferPool()


class Owner(Protocol):
    """Whom the events of a wire concern."""

    def _dispatch(self, event: Any) -> None:
        """One event of the core."""

    def _sent(self) -> None:
        """Something has left."""

    def _spoiled(self, error: InstanceError) -> None:
        """A message cannot be made whole any more."""

    def _insecure(self, error: TLSError) -> None:
        """There is no TLS, and so no association."""

    def _stalled(self) -> None:
        """Nothing was looked at for as long as a response may take."""

    def _lost(self) -> None:
        """The transport is gone, and what came was dealt with as far as somebody takes it."""


class Wire(asyncio.BufferedProtocol):
    """Drives one core on one transport."""

    def __init__(self, core: DimseAssociation, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.owner: Owner
        self.loop = loop
        self.thread: int = threading.get_ident()
        """Where the loop runs."""
        self.transport: asyncio.Transport | None = None
        self.begun: bool = False
        """True once DICOM can be spoken on it."""
        self.lost: bool = False
        """True once the transport is gone."""
        self.room: list[asyncio.Future[None]] = []
        """Those who wait until everything queued has been taken by the kernel."""
        self._reporter = Reporter(core.config.observers) if core.config.observers else None
        self._socket: Any = None
        self._held = 0  # why nothing more is looked at
        self._held_until: float | None = None
        self._pumping = False
        self._send_buffer: SendBuffer | None = None
        self._write_paused = False
        self._read_paused = False
        self._going_on = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._severing: asyncio.TimerHandle | None = None

    @property
    def session(self) -> Session | None:
        """What TLS agreed on; None without TLS."""
        return None

    @property
    def verdict(self) -> TLSError | None:
        """What TLS knows about why the connection ended."""
        return None

    @property
    def received(self) -> int:
        """Bytes of ciphertext that came."""
        return 0

    def fail(self, error: TLSError) -> None:
        """There is no TLS."""

    def objection(self, calling: str) -> str | None:
        """Why the peer's certificate does not allow it to call itself so; None where it does."""
        return None

    # ------------------------------------------------------------------ what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(0)
        self._socket = transport.get_extra_info("socket")
        self.host = format_address(transport.get_extra_info("peername") or ("", 0)).rpartition(":")[0]
        with contextlib.suppress(OSError):  # not TCP, or gone already: the first read will say so
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connected()

    def _connected(self) -> None:
        self.begun = True
        self.core.connection_made()
        self.pump()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.core.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.core.buffer_updated(nbytes)
        self.pump()
        if self.transport is not None and not self.lost:
            quick_ack(self._socket)

    def eof_received(self) -> bool:
        self.core.eof_received()
        self.pump()
        return True  # it closes when the core says so

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._send_buffer is not None:
            send_buffers.give(self._send_buffer)
            self._send_buffer = None
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for handle in (self._timer, self._severing):
            if handle is not None:
                handle.cancel()
        self._timer = self._severing = self._send_buffer = None
        self._hear_end(exc)
        self._socket = None
        self._wake_room()
        self.owner._lost()

    def _hear_end(self, exc: Exception | None) -> None:
        if exc is not None:
            self._read_last()
        self.core.eof_received()
        self.pump()

    def _read_last(self) -> None:
        """Writing failed, but the peer may have said why before it went, and its bytes are still there."""
        if not hasattr(os, "readv"):
            return
        with contextlib.suppress(OSError):
            for _ in range(LAST_READS):
                if self.core.is_full or self._held & LENT:
                    return
                count = os.readv(self._socket.fileno(), [self.core.get_buffer()])
                if not count:
                    return
                self.core.buffer_updated(count)
                self.pump()

    # ------------------------------------------------------------------ events

    def pump(self) -> None:
        """Hand on every event there is, then send what that led to."""
        if self._pumping:
            return
        self._pumping = True
        core = self.core
        try:
            while not self._held:
                event = core.next_event()
                if event is NEED_DATA or event is PAUSED:
                    break
                self.owner._dispatch(event)
        except Exception:
            log.exception("unexpected; the association is aborted", extra=coded("DUL901"))
            core.abort(2, 0)
        finally:
            self._pumping = False
        self.settle()

    def pump_soon(self) -> None:
        """The same once everybody had a turn: what they say leaves together."""
        if not self._going_on:
            self._going_on = True
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._going_on = False
        self.pump()

    def hold(self, why: int) -> None:
        """Look at nothing more until `go_on`: somebody has to take what came first."""
        if not self._held:
            response = self.core.config.timers.response
            self._held_until = None if response is None else self.loop.time() + response
        self._held |= why

    def go_on(self, why: int) -> None:
        """That reason to wait is gone."""
        self._held &= ~why
        if not self._held:
            self._held_until = None
        self.pump()

    @property
    def held(self) -> int:
        """Why nothing more is looked at: UNCLAIMED, LENT, FULL, WRITING; 0 while events flow."""
        return self._held

    # ------------------------------------------------------------------ bytes out

    def settle(self) -> None:
        """Send what there is, and let transport and timer follow the core."""
        transport, core = self.transport, self.core
        if self._reporter is not None:
            self._reporter.report(core, self.owner, self.loop.time())
        if transport is None or self.lost:
            return
        if core.has_output:
            self._flush(transport)
        closing = transport.is_closing()
        if core.wants_close and not core.has_output and not closing:
            core.eof_received()
            self.finish()
            self._part(transport)
            return
        if self.room and not self._write_paused and not core.has_output:
            self._wake_room()
        if not closing:
            paused = bool(self._held & LENT) or core.is_full
            if paused != self._read_paused:
                self._read_paused = paused
                if paused:
                    transport.pause_reading()
                else:
                    transport.resume_reading()
        if self._reporter is not None:  # what has just left
            self._reporter.report(core, self.owner, self.loop.time())
        self._arm()

    def _flush(self, transport: asyncio.Transport) -> None:
        core = self.core
        for _ in range(TRAINS_AT_ONCE):
            if self._write_paused or transport.is_closing() or not core.has_output:
                return
            self._write(transport, core.data_to_send())
            self.owner._sent()
        self.pump_soon()

    def _write(self, transport: asyncio.Transport, segments: Sequence[Segment]) -> None:
        if len(segments) == 1 and isinstance(segments[0], bytes):
            transport.write(segments[0])
            return
        if len(segments) < 8 and sum(map(len, segments)) <= JOINED:
            parts = [segment for segment in segments if not isinstance(segment, FileSpan)]
            if len(parts) == len(segments):
                transport.write(b"".join(parts))
                return
        send_buffer = send_buffers.take()
        try:
            data = send_buffer.load(segments)
        except InstanceError as error:
            send_buffers.give(send_buffer)
            self.owner._spoiled(error)
            return
        transport.write(data)
        if transport.get_write_buffer_size():
            self._send_buffer = send_buffer  # the transport may keep our view of it until it has sent all
        else:
            send_buffers.give(send_buffer)

    def _part(self, transport: asyncio.Transport) -> None:
        transport.close()

    def _wake_room(self) -> None:
        for future in self.room:
            if not future.done():
                future.set_result(None)
        self.room.clear()

    # ------------------------------------------------------------------ time and the end

    def _arm(self) -> None:
        deadline = self.core.timer(self.loop.time())
        until = self._held_until
        if until is not None and (deadline is None or until < deadline):
            deadline = until
        if deadline is None:
            return
        if self._timer is not None:
            if deadline >= self._timer_at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self.loop.call_at(deadline, self._expired), deadline

    def _expired(self) -> None:
        self._timer = None
        now = self.loop.time()
        if self._held_until is not None and self._held_until <= now:
            response = self.core.config.timers.response
            self._held_until = None if response is None else now + response
            self.owner._stalled()
        self.core.handle_timer(now)
        self.pump()

    def finish(self) -> None:
        """Our last word is on its way: the connection ends by the peer's close, or without it in a moment."""
        if self._severing is None and not self.lost:
            self._severing = self.loop.call_later(LAST_WORD, self.sever)

    def sever(self) -> None:
        """Close now, whatever was not sent."""
        transport = self.transport
        if transport is None or self.lost:
            return
        if transport.get_write_buffer_size():
            # Half a PDU has left: a reset says so, an orderly end would not.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()
