"""Bytes in: from the transport's stream to control PDUs and fragments (PS3.8 section 9.3.1, 9.3.5, Annex E).

Rules: memory follows the bytes that came, never a length that was declared; a P-DATA-TF is never waited for: a
fragment surfaces in the pieces in which it arrives; control PDUs are gathered whole and capped; the type byte is looked
at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from dulcet.errors import RemoteProtocolError
from dulcet.upper_layer.events import NEED_DATA, Fragment, Signal
from dulcet.upper_layer.foreign_protocols import stranger
from dulcet.upper_layer.items import malformed
from dulcet.upper_layer.pdu import ABORT, ASSOCIATE_AC, ASSOCIATE_RQ, P_DATA_TF, PDU_HEADER, PDV_HEADER
from dulcet.upper_layer.trace_events import PDUReceived

__all__ = ["BufferPool", "ControlPDU", "DataBegins", "Framer"]

RECEIVE_BUFFER: Final = 512 * 1024
"""One read takes four P-DATA-TF of the length that we announce; held only while bytes wait in it."""

POOLED_BUFFERS: Final = 64
"""More spare buffers than this are given back to the allocator."""

DATA_HEADERS: Final = Struct(">BxIIBB")
"""A P-DATA-TF and its first PDV: PDU type and length, PDV length, context id, control."""

EMPTY: Final = memoryview(b"")

HEAD: Final = 16
"""Bytes that show who speaks something else."""


class BufferPool:
    """Receive buffers that associations share: an idle one holds none.  `list` keeps it safe between threads."""

    def __init__(self, size: int = RECEIVE_BUFFER) -> None:
        self.size = size
        self._spare: list[memoryview] = []

    def take(self) -> memoryview:
        """A buffer of `size` bytes with any content."""
        try:
            return self._spare.pop()
        except IndexError:
            return memoryview(bytearray(self.size))

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back; nobody may look at it any more."""
        if len(self._spare) < POOLED_BUFFERS:
            self._spare.append(buffer)


@dataclass(frozen=True, slots=True)
class ControlPDU:
    """A whole PDU other than P-DATA-TF, header taken off."""

    pdu_type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class DataBegins:
    """The header of a P-DATA-TF came while `announce_data` was set; what follows is data nevertheless."""

    length: int


class Framer:
    """Cuts a stream into control PDUs and fragments; `next()` raises RemoteProtocolError once it cannot go on."""

    def __init__(self, pool: BufferPool, *, associate_limit: int, announced: int, strict: bool = False) -> None:
        self.announce_data = True
        """Tell of each P-DATA-TF before its fragments: set while data are not expected."""
        self.oversized: int = 0
        """How many P-DATA-TF were longer than announced."""
        self.bytes_received: int = 0
        self.journal: list[object] | None = None
        """Where PDUs are noted, if anybody wants to know."""
        self._pool = pool
        self._associate_limit = associate_limit
        self.announced = announced
        """The longest P-DATA-TF that the peer was told to send; 0 for any."""
        self._strict = strict
        self._buffer: memoryview | None = None
        self._start = 0
        self._end = 0
        self._tail = b""  # the few bytes of a header that a given-back buffer left behind
        self._control: bytearray | None = None
        self._control_type = 0
        self._control_left = 0
        self._pdu_left = 0  # bytes of the current P-DATA-TF behind the current PDV
        self._pdv_left = -1  # bytes of the current PDV still to come, -1 between PDVs
        self._context_id = 0
        self._is_command = False
        self._is_last = False

    def get_buffer(self) -> memoryview:
        """Where the next bytes go; at least a few hundred bytes long."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._pool.take()
            self._start, self._end = 0, len(self._tail)
            if not self._end:
                return buffer
            buffer[: self._end] = self._tail
            self._tail = b""
        elif self._start:
            left = self._end - self._start
            buffer[:left] = bytes(buffer[self._start : self._end])
            self._start, self._end = 0, left
        return buffer[self._end :]

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were put at the start of what `get_buffer()` gave."""
        self._end += count
        self.bytes_received += count

    @property
    def has_unread(self) -> bool:
        """True while bytes are in the buffer that were not looked at."""
        return self._start < self._end

    @property
    def mid_pdu(self) -> bool:
        """True while a PDU has begun and is not whole."""
        return bool(
            self._pdu_left or self._pdv_left > 0 or self._control is not None or self._tail or self._start < self._end
        )

    @property
    def data_is_next(self) -> bool:
        """True when what was not looked at begins with a P-DATA-TF."""
        if self._start == self._end or self._pdu_left or self._pdv_left >= 0 or self._control is not None:
            return False
        assert self._buffer is not None
        return self._buffer[self._start] == P_DATA_TF

    @property
    def is_full(self) -> bool:
        """True when `get_buffer()` could hand out too little room to read into: deal with what came first."""
        return self._buffer is not None and self._end - self._start > len(self._buffer) - 1024

    def release_buffer(self) -> None:
        """Give the buffer back to the pool; what little is unread is kept aside."""
        if self._buffer is not None and self._end - self._start <= 64:
            if self._start < self._end:
                self._tail = bytes(self._buffer[self._start : self._end])
            self._pool.give(self._buffer)
            self._buffer = None
            self._start = self._end = 0

    def discard(self) -> None:
        """Throw away what came and was not looked at."""
        self._start = self._end
        self._tail = b""
        self._control = None
        self._pdu_left, self._pdv_left = 0, -1

    def next(self) -> Fragment | ControlPDU | DataBegins | Signal:
        """The next thing in the stream, or NEED_DATA."""
        if (
            self._end - self._start > DATA_HEADERS.size
            and self._pdv_left < 0
            and not self._pdu_left
            and self._control is None
            and not self.announce_data
            and self.journal is None
            and (fragment := self._lone_pdv()) is not None
        ):
            return fragment
        while True:
            available = self._end - self._start
            if self._pdv_left >= 0:
                # The hot branch: a piece of a PDV, as it lies in the buffer.
                if not available and self._pdv_left:
                    return NEED_DATA
                return self._piece(available)
            if self._pdu_left:
                if self._pdu_left < 6:
                    raise malformed(f"P-DATA-TF: {self._pdu_left} stray bytes after the last PDV")
                if available < 6:
                    return NEED_DATA
                self._begin_pdv()
            elif self._control is not None:
                if not self._gather(available):
                    return NEED_DATA
                control = ControlPDU(self._control_type, bytes(self._control))
                self._control = None
                return control
            elif available < 6:
                if available:
                    self._check_type()
                return NEED_DATA
            else:
                length = self._begin_pdu()
                if length is not None:
                    return DataBegins(length)

    def _lone_pdv(self) -> Fragment | None:
        """Fast path: the first piece of a P-DATA-TF with one PDV, as nearly all have; None leaves all to the others."""
        assert self._buffer is not None
        start = self._start + DATA_HEADERS.size
        pdu_type, pdu_length, length, context_id, control = DATA_HEADERS.unpack_from(self._buffer, self._start)
        if pdu_type != P_DATA_TF or length != pdu_length - 4 or length <= 2 or 0 < self.announced < pdu_length:
            return None
        end = start + length - 2
        if end <= self._end:
            self._start = end
            return Fragment(context_id, control & 1 != 0, control & 2 != 0, self._buffer[start:end])
        self._context_id, self._is_command, self._is_last = context_id, control & 1 != 0, control & 2 != 0
        self._start, self._pdv_left = start, length - 2
        return self._piece(self._end - start)

    def _piece(self, available: int) -> Fragment:
        assert self._buffer is not None or not self._pdv_left
        start, left = self._start, self._pdv_left
        if left <= available:
            view = self._buffer[start : start + left] if left else EMPTY  # type: ignore[index]
            self._start = start + left
            self._pdv_left = -1
            return Fragment(self._context_id, self._is_command, self._is_last, view)
        view = self._buffer[start : start + available]  # type: ignore[index]
        self._start = start + available
        self._pdv_left = left - available
        return Fragment(self._context_id, self._is_command, False, view)

    def _begin_pdv(self) -> None:
        assert self._buffer is not None
        length, self._context_id, control = PDV_HEADER.unpack_from(self._buffer, self._start)
        if length < 2 or length + 4 > self._pdu_left:
            # PS3.8 Annex E.2: a PDV that overruns its PDU is an invalid parameter value
            raise malformed(f"PDV length {length} exceeds the {self._pdu_left - 4} bytes left in its PDU")
        self._is_command = bool(control & 1)
        self._is_last = bool(control & 2)
        self._pdv_left = length - 2
        self._pdu_left -= length + 4
        self._start += 6
        if not self._pdv_left and not self._is_last:
            self._pdv_left = -1  # an empty fragment in the middle says nothing

    def _begin_pdu(self) -> int | None:
        assert self._buffer is not None
        pdu_type, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        if self.journal is not None:
            self.journal.append(PDUReceived(pdu_type, length))
        if pdu_type == P_DATA_TF:
            self._start += 6
            self._pdu_left = length
            if self.announced and length > self.announced:
                if self._strict:
                    raise malformed(f"P-DATA-TF of {length} bytes; we announced at most {self.announced}")
                self.oversized += 1
            return length if self.announce_data else None
        self._check_type()
        if pdu_type in (ASSOCIATE_RQ, ASSOCIATE_AC):
            if length > self._associate_limit:
                raise malformed(f"association PDU of {length} bytes; at most {self._associate_limit} are taken")
        elif length != 4:
            raise malformed(f"PDU {pdu_type:02X}H says {length} bytes; it always has 4")
        self._start += 6
        self._control, self._control_type, self._control_left = bytearray(), pdu_type, length
        return None

    def _gather(self, available: int) -> bool:
        assert self._control is not None
        count = min(available, self._control_left)
        if count:
            assert self._buffer is not None
            self._control += self._buffer[self._start : self._start + count]
            self._start += count
            self._control_left -= count
        return not self._control_left

    def _check_type(self) -> None:
        assert self._buffer is not None
        pdu_type = self._buffer[self._start]
        if not ASSOCIATE_RQ <= pdu_type <= ABORT:
            who = stranger(bytes(self._buffer[self._start : min(self._end, self._start + HEAD)]))
            raise RemoteProtocolError(
                f"PDU type {pdu_type:02X}H does not exist{who and f'; {who}'}", source=2, reason=1
            )
