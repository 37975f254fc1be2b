"""The wire of an association under TLS: its contract is that of `Wire`, its bytes are encrypted.

Rules: the handshake is a step that is taken when bytes have come, under a deadline; many PDUs still leave with one
`write`; while the core has no room, nothing is decrypted and nothing is read; no buffer is held between two reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from dulcet.aio.protocol import LAST_READS, LENT, Wire, send_buffers
from dulcet.dimse.association import DimseAssociation
from dulcet.errors import InstanceError, TLSError
from dulcet.io.secure_stream import RECEIVE, SecureStream, Session
from dulcet.io.sockets import quick_ack
from dulcet.upper_layer.fragments import Segment
from dulcet.upper_layer.framing import BufferPool

__all__ = ["SecureWire"]

PARTING: Final = 1.0
"""Seconds for a peer to take the alert that ended its TLS handshake, and close."""

buffers: Final = BufferPool(RECEIVE)


class SecureWire(Wire):
    """Drives one core on one transport with TLS on it."""

    def __init__(
        self,
        core: DimseAssociation,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[], SecureStream],
        limit: tuple[float, TLSError] | None = None,
    ) -> None:
        """`begin` makes the stream when the first step of the handshake is due; `limit` is the seconds that it may take
        from the connection on, and what is raised after that.
        """
        super().__init__(core, loop)
        self._begin = begin
        self._stream: SecureStream | None = None
        self._cipher: memoryview | None = None
        self._decrypting = False
        self._failed = False
        self._limit = limit
        self._patience: asyncio.TimerHandle | None = None

    @property
    def session(self) -> Session | None:
        return None if self._stream is None else self._stream.session

    @property
    def verdict(self) -> TLSError | None:
        return None if self._stream is None else self._stream.verdict()

    @property
    def received(self) -> int:
        return 0 if self._stream is None else self._stream.received

    def objection(self, calling: str) -> str | None:
        return None if self._stream is None else self._stream.objection(calling)

    def fail(self, error: TLSError) -> None:
        """There is no TLS: tell the owner, let the alert leave, and part."""
        if self._failed or self.begun:
            return
        self._failed = True
        self.owner._insecure(error)
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        # An immediate close would reset the connection under the alert.
        with contextlib.suppress(OSError):
            transport.write_eof()
        self.loop.call_later(PARTING, self.sever)

    # ------------------------------------------------------------------ what the transport calls

    def _connected(self) -> None:
        if self._limit is not None:
            self._patience = self.loop.call_later(self._limit[0], self.fail, self._limit[1])
        if self.core.requestor:
            self._advance()  # the first word is ours

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._cipher is None:
            self._cipher = buffers.take()
        return self._cipher

    def buffer_updated(self, nbytes: int) -> None:
        cipher, self._cipher = self._cipher, None
        assert cipher is not None
        if not self._failed and (stream := self._opened()) is not None:
            stream.receive(cipher[:nbytes])
        buffers.give(cipher)
        self._advance()
        if not self.lost:
            quick_ack(self._socket)

    def eof_received(self) -> bool:
        assert self.transport is not None
        if self._failed or self._stream is None:
            self.transport.close()
        else:
            self._stream.receive_eof()
            self._advance()
        return True

    def _hear_end(self, exc: Exception | None) -> None:
        if self._cipher is not None:
            buffers.give(self._cipher)
            self._cipher = None
        if self._patience is not None:
            self._patience.cancel()
        stream = self._stream
        if self._failed or stream is None:
            return
        if exc is not None and hasattr(os, "readv"):
            buffer = buffers.take()
            with contextlib.suppress(OSError):
                for _ in range(LAST_READS):
                    if not (count := os.readv(self._socket.fileno(), [buffer])):
                        break
                    stream.receive(buffer[:count])
            buffers.give(buffer)
        stream.receive_eof()
        self._advance()

    # ------------------------------------------------------------------ bytes

    def _opened(self) -> SecureStream | None:
        if self._stream is None:
            try:
                self._stream = self._begin()
            except TLSError as error:
                self.fail(error)
        return self._stream

    def _advance(self) -> None:
        """Go on with what came."""
        if self._failed or (stream := self._opened()) is None:
            return
        if not self.begun:
            try:
                done = stream.handshake()
            except TLSError as error:
                self._put(stream.output())
                self.fail(error)
                return
            self._put(stream.output())
            if not done:
                return
            self.begun = True
            if self._patience is not None:
                self._patience.cancel()
            self.core.connection_made()
            self.pump()
        self._decrypt(stream)

    def _decrypt(self, stream: SecureStream) -> None:
        """Hand what came to the core, as long as that has room."""
        if self._decrypting:
            return
        self._decrypting = True
        core = self.core
        try:
            while stream.has_unread and not core.is_full and not self._held & LENT:
                count = stream.decrypt_into(core.get_buffer())
                if stream.has_output:  # an alert, or a new key is agreed on
                    self._put(stream.output())
                if count is None:
                    break
                if count:
                    core.buffer_updated(count)
                else:
                    core.eof_received()
                self.pump()
                if not count:
                    break
        finally:
            self._decrypting = False

    def settle(self) -> None:
        super().settle()
        if self.begun and self._stream is not None and self._stream.has_unread:
            self._decrypt(self._stream)

    def _write(self, transport: asyncio.Transport, segments: Sequence[Segment]) -> None:
        assert self._stream is not None
        send_buffer = None
        try:
            if len(segments) == 1 and isinstance(segments[0], bytes):
                data = self._stream.encrypt(segments[0])
            else:
                send_buffer = send_buffers.take()
                data = self._stream.encrypt(send_buffer.load(segments))
        except InstanceError as error:
            self.owner._spoiled(error)  # nothing of it was encrypted
            return
        except OSError:
            transport.abort()
            return
        finally:
            if send_buffer is not None:
                send_buffers.give(send_buffer)
        transport.write(data)

    def _put(self, data: bytes) -> None:
        """Send what is no PDU."""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _part(self, transport: asyncio.Transport) -> None:
        if self._stream is not None:
            self._put(self._stream.close_notify())
        transport.close()
