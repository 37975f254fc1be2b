"""One connected socket on the I/O thread: bytes between it and a core, TLS if wanted, and its end, which comes once.

Rules: the core is asked under the owner's lock, callbacks run without it; a callback may send and close: what that
leads to happens when it has returned.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from dulcet.dimse.association import DimseAssociation
from dulcet.errors import AssociationAborted, AssociationClosed, DulcetError, InstanceError, PeerUnreachable
from dulcet.io.send_buffer import SendBuffer, SendBufferPool
from dulcet.io.sockets import format_address, prepare, quick_ack
from dulcet.log_codes import coded
from dulcet.services.observing import Reporter
from dulcet.toolkit.io_thread import READ, WRITE, IOThread
from dulcet.toolkit.securing import objection, secured
from dulcet.upper_layer.events import NEED_DATA, PAUSED
from dulcet.upper_layer.trace_events import PDUReceived, PDUSent

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["Connection", "Owner"]

log: Final = logging.getLogger("dulcet.toolkit")

NOT_YET: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
RESET: Final = Struct("ii").pack(1, 0)
"""SO_LINGER of 0 seconds: `close` drops what is unsent and resets."""

NO_BYTES: Final = memoryview(b"")

TRAINS_AT_ONCE: Final = 16
"""About 4 MB for a peer that takes them as fast as they come; then it is the others' turn."""

send_buffers: Final = SendBufferPool()


class Owner(Protocol):
    """Whose connection it is."""

    _answer_by: float | None

    def _handle(self, event: Any) -> None: ...
    def _heard(self, pdu_type: int, length: int) -> None: ...
    def _left(self, pdu_type: int, length: int) -> None: ...
    def _moved(self, sent: bool, data: memoryview, count: int, error: OSError | None) -> None: ...
    def _opened(self, secure: bool) -> None: ...
    def _late(self, now: float) -> None: ...
    def _over(self) -> None: ...


class Connection:
    """Drives one core over one socket."""

    def __init__(
        self,
        io: IOThread,
        sock: socket.socket,
        core: DimseAssociation,
        lock: threading.RLock,
        owner: Owner,
        peer: tuple[str, int],
    ) -> None:
        """`peer` is who was connected to, or came: the socket itself does not know any more once it was reset."""
        prepare(sock)
        self.deadline: float | None = None
        self.usable: bool = False
        """True once bytes of the association may flow: connected, and secured where that is wanted."""
        self._ended = False
        self.gone: threading.Event = threading.Event()
        """Set when it has ended and everybody was told."""
        self.error: DulcetError | None = None
        """Why it ended, unless in order."""
        self.lost: AssociationClosed | None = None
        """What did not leave before it was closed."""
        self.host: tuple[str, int] = sock.getsockname()[:2]
        self.peer: tuple[str, int] = peer
        self._io, self._sock, self._core, self._lock, self._owner = io, sock, core, lock, owner
        self._reporter = Reporter(core.config.observers)
        self._tls: TLSConfig | ssl.SSLContext | None = None
        self._handshake_by: float | None = None
        self._close_by: float | None = None
        self._stopping = False
        self._send_buffer: SendBuffer | None = None
        self._unsent: memoryview | None = None
        self._leaving: list[PDUSent] = []
        self._eof = self._broken = self._scheduled = self._failed = False

    @property
    def unsent(self) -> int:
        """Bytes that were taken from the core and are not yet with the kernel."""
        return 0 if self._unsent is None else len(self._unsent)

    def is_over(self) -> bool:
        return self._ended

    @property
    def name(self) -> str:
        return format_address(self.peer)

    def begin(self, tls: TLSConfig | ssl.SSLContext | None, host: str | None, seconds: float) -> None:
        """Start, with a handshake where TLS is given, which has so many seconds.  Never raises: it ends instead."""
        self._io.attended.add(self)
        try:
            if tls is None:
                self._open(secure=False)
                return
            self._tls, self._handshake_by = tls, time.monotonic() + seconds
            self._sock = secured(tls, self._sock, host if self._core.requestor else None, self.name)
            self._handshake()
        except DulcetError as error:
            log.warning("%s", error, extra=coded("DUL151"))
            self._end(error)
        except Exception as error:
            log.exception("%s: unexpected", self.name, extra=coded("DUL901"))
            self.fail(error)

    def objection(self, calling: str) -> str | None:
        """Why the peer's certificate does not allow it to call itself so; None where it does."""
        return objection(self._tls, self._sock, calling)

    def schedule(self) -> None:
        """There is something to send or to end; callable from any thread."""
        if not self._scheduled:
            self._scheduled = True
            self._io.post(self._attend, self)

    def finish(self, seconds: float) -> None:
        """Let what is queued leave, end the association where one stands, close; an error when that took too long."""
        if self._close_by is None and not self.is_over():
            self._close_by = time.monotonic() + seconds
            if self.usable:
                self._attend()
            else:
                self._end()

    # ------------------------------------------------------------------ what the thread calls

    def ready(self, sock: socket.socket, mask: int) -> None:
        if self._handshake_by is not None:
            self._handshake()
            return
        if mask & READ:
            self._read()
        self._attend()

    def expire(self, now: float) -> None:
        if self._handshake_by is not None:
            self._end(PeerUnreachable(f"{self.name}: no TLS handshake in time; does it speak TLS?"))
            return
        with self._lock:
            self._core.handle_timer(now)
        self._owner._late(now)
        if self._close_by is not None and self._close_by <= now:
            left = self.unsent + self._core.queued_bytes
            if left:
                self.lost = AssociationClosed(f"{self.name} does not take the last {left} bytes")
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._end(self.lost)
            return
        self._attend()

    def stop(self) -> None:
        self._stopping = True
        if not self.usable:
            self.drop()
            return
        with self._lock:
            if self._core.is_established:
                self.error = AssociationAborted(2, 0, f"{self.name}: aborted by the last shutdown()", by_us=True)
            self._core.abort(2, 0)
        self._attend()

    def drop(self) -> None:
        self._end(AssociationClosed(f"{self.name}: the last shutdown() ended it"))

    def fail(self, error: Exception) -> None:
        """What nobody foresaw, in a callback's neighbourhood or ours: abort as provider, and tell it once."""
        if self.is_over():
            return
        why = f"{self.name}: aborted, {type(error).__name__} here: {error}"
        again, self._failed = self._failed, True
        self.error = self.error or AssociationAborted(2, 0, why, by_us=True)
        try:
            if not again and self.usable:
                with self._lock:
                    self._core.abort(2, 0)
                self._attend()
                return
        except Exception:
            log.exception("%s: unexpected", self.name, extra=coded("DUL901"))
        self._end()

    # ------------------------------------------------------------------ bytes and events

    def _handshake(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        self.deadline = self._handshake_by
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._io.watch(self._sock, READ, self)
        except ssl.SSLWantWriteError:
            self._io.watch(self._sock, WRITE, self)
        except OSError as error:
            self._end(PeerUnreachable(f"{self.name}: TLS handshake failed: {error}"))
        else:
            self._handshake_by = None
            self._open(secure=True)
            self._read()
            self._attend()

    def _open(self, *, secure: bool) -> None:
        self.usable = True
        self._owner._opened(secure)
        self._attend()

    def _read(self) -> None:
        """Take what has come; under TLS all that was decrypted, for no selector tells of it."""
        core, sock, owner = self._core, self._sock, self._owner
        while not (self._eof or core.is_full or self.is_over()):
            try:
                buffer = core.get_buffer()
                count = sock.recv_into(buffer)
                owner._moved(False, buffer, count, None)
            except NOT_YET:
                return
            except OSError as error:
                owner._moved(False, NO_BYTES, 0, error)
                count = 0
            with self._lock:
                if count:
                    core.buffer_updated(count)
                else:
                    self._eof = True
                    core.eof_received()
            if not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                return

    def _attend(self) -> None:
        """Hand on what there is, send what that led to, and see what is wanted next."""
        self._scheduled = False
        if not self.usable or self.is_over():
            return
        self._pull()
        self._flush()
        core = self._core
        closing = self._close_by is not None and not core.waiting  # who waits for the window has not left either
        if (closing or self._stopping) and not self._unsent and not core.has_output:
            with self._lock:
                core.abort()  # nothing where it is over already
            self._flush()
            self._half_close()
        if self.is_over():
            return
        nothing_left = self._unsent is None and not core.has_output
        if (core.wants_close or self._eof) and nothing_left:
            self._end()
            return
        if self._broken and core.is_full:
            self._end(AssociationClosed(f"{self.name} is gone"))
            return
        reads = not (core.is_full or self._eof)
        if not isinstance(self._sock, ssl.SSLSocket):
            quick_ack(self._sock)
        elif reads and self._sock.pending():
            self._io.post(lambda: self.ready(self._sock, READ), self)
        self._io.watch(self._sock, (READ if reads else 0) | (WRITE if self._unsent is not None else 0), self)
        with self._lock:
            deadlines = [core.timer(time.monotonic()), self._owner._answer_by, self._close_by]
        self.deadline = min((one for one in deadlines if one is not None), default=None)

    def _pull(self) -> None:
        core, owner = self._core, self._owner
        while not self.is_over():
            with self._lock:
                event = core.next_event()
                heard = self._noted(PDUReceived)
            for pdu in heard:
                owner._heard(pdu.pdu_type, pdu.length)
            if event is PAUSED and self._eof:  # nobody is left who could be answered
                self.error = self.error or AssociationClosed(f"{self.name} left before it was answered")
                with self._lock:
                    core.abort()
            elif event is PAUSED or event is NEED_DATA:
                return
            else:
                owner._handle(event)

    def _flush(self) -> None:
        loads = 0
        while not self.is_over():
            if self._unsent is None:
                if loads == TRAINS_AT_ONCE:
                    self.schedule()
                    return
                if not self._load():
                    return
                loads += 1
                continue
            try:
                count = self._sock.send(self._unsent)
                self._owner._moved(True, self._unsent, count, None)
            except NOT_YET:
                return
            except OSError as error:
                self._owner._moved(True, NO_BYTES, 0, error)
                self._broken, self._unsent = True, None  # what the peer said last can still be read
                continue
            self._unsent = self._unsent[count:] if count < len(self._unsent) else None
            if self._unsent is None:
                leaving, self._leaving = self._leaving, []
                for pdu in leaving:
                    self._owner._left(pdu.pdu_type, pdu.length)

    def _load(self) -> bool:
        """Take the next bytes from the core; False when there are none."""
        with self._lock:
            segments = self._core.data_to_send()
            self._leaving = self._noted(PDUSent)
        if self._send_buffer is not None and not segments:
            send_buffers.give(self._send_buffer)
            self._send_buffer = None
        if not segments or self._broken:
            return bool(segments)
        self._send_buffer = self._send_buffer or send_buffers.take()
        try:
            self._unsent = self._send_buffer.load(segments)
        except InstanceError as error:  # the message can no longer be made whole
            self.error = self.error or error
            with self._lock:
                self._core.abort()
        return True

    def _noted(self, kind: type[Any]) -> list[Any]:
        """What of one kind happened since the last time; observers are told all of it."""
        journal = self._core.journal
        assert journal is not None
        noted = [trace_event for trace_event in journal if type(trace_event) is kind]
        self._reporter.report(self._core, self._owner, time.monotonic())
        return noted

    # ------------------------------------------------------------------ the end

    def _half_close(self) -> None:
        """Our last word is out: wait for the peer's close where one is due, for to close first could lose that word."""
        if self.is_over() or self._unsent is not None:
            return
        if self._core.timer(time.monotonic()) is None:
            self._end()
        elif not isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def _end(self, error: DulcetError | None = None) -> None:
        if self.is_over():
            return
        self.error = self.error or error
        self._ended = True
        self.deadline = None
        self._io.attended.discard(self)
        self._io.watch(self._sock, 0, self)
        self._sock.close()
        if self._send_buffer is not None and self._unsent is None:
            send_buffers.give(self._send_buffer)
        self._send_buffer = self._unsent = None
        try:
            self._owner._over()
        finally:
            self.gone.set()
