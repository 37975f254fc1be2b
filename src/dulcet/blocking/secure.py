"""The transport of the blocking face under TLS: its contract is that of `Transport`, its bytes are encrypted.

Rules: the handshake is a step that is taken when bytes have come, under a deadline of the caller's; many PDUs still
leave with one `send`; whoever waits for bytes that were received already does not wait.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from dulcet.blocking.transport import LINGER, Transport, send_buffers
from dulcet.config import Timers
from dulcet.errors import InstanceError, TLSError
from dulcet.io.secure_stream import RECEIVE, SecureStream, Session, dial
from dulcet.io.sockets import connect
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.fragments import Segment
from dulcet.upper_layer.framing import BufferPool

__all__ = ["SecureTransport", "connect_securely"]

buffers: Final = BufferPool(RECEIVE)


def connect_securely(address: Address, timers: Timers) -> SecureTransport:
    """A client's transport after its TLS handshake.  Raises TLSConfigError, PeerUnreachable, TLSError."""
    stream = dial(address.tls, address.host, str(address))
    sock = connect(address.host, address.port, time.monotonic() + timers.connect)
    deadline = time.monotonic() + timers.tls
    transport = SecureTransport(sock, lambda: stream)
    try:
        while not transport.shake_hands():
            readable, writable, _ = transport.wait(read=True, deadline=deadline)
            if not (readable or writable) and time.monotonic() >= deadline:
                raise TLSError(f"{address}: no TLS handshake within {timers.tls:g} s; does it speak TLS?")
    except BaseException:
        transport.close()
        raise
    return transport


class SecureTransport(Transport):
    """One connected socket with TLS on it."""

    def __init__(self, sock: socket.socket, begin: Callable[[], SecureStream]) -> None:
        """`begin` makes the stream when the first step of the handshake is due."""
        super().__init__(sock)
        self._begin = begin
        self._stream: SecureStream | None = None
        self._spoilt = False

    @property
    def session(self) -> Session | None:
        return None if self._stream is None else self._stream.session

    @property
    def received(self) -> int:
        """Bytes of ciphertext that came."""
        return 0 if self._stream is None else self._stream.received

    @property
    def verdict(self) -> TLSError | None:
        return None if self._stream is None else self._stream.verdict()

    @property
    def has_buffered(self) -> bool:
        return self._stream is not None and self._stream.has_unread

    def objection(self, calling: str) -> str | None:
        return None if self._stream is None else self._stream.objection(calling)

    def shake_hands(self) -> bool:
        """Take a step of the handshake with what has come; True when it is done, else wait until readable, or writable
        where bytes are unsent.  Raises TLSError: what is unsent then tells the peer.
        """
        stream = self._stream
        if stream is None:
            stream = self._stream = self._begin()
        if not self.flush():
            return False
        self._receive(stream)
        try:
            done = stream.handshake()
        finally:
            waiting = self._put(stream.output())
        return done and not waiting

    def write(self, segments: Sequence[Segment]) -> bool:
        assert self._stream is not None
        plain: bytes | memoryview
        send_buffer = None
        try:
            if len(segments) == 1 and isinstance(segments[0], bytes):
                plain = segments[0]
            else:
                send_buffer = send_buffers.take()
                plain = send_buffer.load(segments)
            self._counts.clear()
            self._unsent = memoryview(self._stream.encrypt(plain))
        except InstanceError:
            raise  # nothing of it was encrypted
        except ssl.SSLError:
            self._broken = True  # what the peer said last can still be read
            return True
        except BaseException:
            # Ctrl-C: nobody knows how much of it is in the stream, so nothing more may follow.
            self._spoilt = self._broken = True
            raise
        finally:
            if send_buffer is not None:
                send_buffers.give(send_buffer)
        return self.flush()

    def read_into(self, buffer: memoryview) -> int | None:
        assert self._stream is not None
        stream = self._stream
        if not stream.has_unread and not self._receive(stream):
            return None
        count = stream.decrypt_into(buffer)
        if stream.has_output and self._unsent is None:  # an alert, or a new key is agreed on
            self._put(stream.output())
        return count

    def wait(self, *, read: bool, deadline: float | None) -> tuple[bool, bool, bool]:
        if read and self.has_buffered:
            _, writable, woken = super().wait(read=False, deadline=0.0)
            return True, writable, woken
        return super().wait(read=read, deadline=deadline)

    def end_writing(self) -> None:
        """Tell the peer that nothing more comes, and read on."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Throw away what has come; True at the end of the stream."""
        buffer = buffers.take()
        try:
            return super().read_into(buffer) == 0
        finally:
            buffers.give(buffer)

    def close(self) -> None:
        if self.is_open:
            if self._spoilt:
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            elif self._stream is not None and self._unsent is None and not self._broken:
                with contextlib.suppress(OSError):
                    self._sock.send(self._stream.close_notify())
        super().close()

    def _receive(self, stream: SecureStream) -> bool:
        """Take what the kernel has; False when that is nothing."""
        buffer = buffers.take()
        try:
            count = super().read_into(buffer)
            if count:
                stream.receive(buffer[:count])
            elif count == 0:
                stream.receive_eof()
            return count is not None
        finally:
            buffers.give(buffer)

    def _put(self, data: bytes) -> bool:
        """Send what is no PDU; True while some of it is unsent."""
        if data:
            self._counts.clear()
            self._unsent = memoryview(data)
            self.flush()
        return self._unsent is not None
