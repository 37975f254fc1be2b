"""Bytes out: from a command set and a data set to P-DATA-TF PDUs (PS3.8 section 9.3.5, Annexes D.1 and E).

Rules: nothing is copied until a face asks; what lies in a file leaves here as FileSpan, a face reads it straight behind
its headers; a PDU is handed out whole, so an abort may follow at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

__all__ = ["FileSpan", "OutgoingMessage", "Segment", "fragment_length"]

HEADERS: Final = Struct(">BxIIBB")
"""A P-DATA-TF with one PDV: PDU type and length, PDV length, context id, control: 12 bytes."""

P_DATA_TF: Final = 0x04
COMMAND: Final = 0x01
LAST: Final = 0x02
SMALL: Final = 8 * 1024
"""Bytes of a data set that are rather copied than sent as a segment of their own."""
PDV_OVERHEAD: Final = 6
"""What a maximum length counts besides the data (PS3.8 D.1): PDV length, context id, control."""


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bytes that are still in a file: `length` of them from `offset` on; `file` is an open descriptor that stays open
    until the message was answered.
    """

    file: int
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


Segment = bytes | memoryview | FileSpan


class OutgoingMessage:
    """One message on its way: its command set, then its data set, cut to the peer's maximum length."""

    __slots__ = ("_command", "_context_id", "_data", "_fragment", "_length", "_offset", "_position", "operation")

    def __init__(
        self,
        context_id: int,
        command: bytes,
        data: memoryview | FileSpan | None,
        fragment: int,
        operation: object = None,
    ) -> None:
        self.operation: object = operation
        """Whose message this is; handed back when its last byte was asked for."""
        self._context_id = context_id
        self._command = command
        self._data = data
        self._length = -1 if data is None else len(data)
        self._fragment = fragment
        self._position = 0  # of the command set, then of the data set
        self._offset = data.offset if isinstance(data, FileSpan) else 0

    @property
    def size(self) -> int:
        """Bytes still to go, headers not counted."""
        return len(self._command) + max(self._length, 0) - self._position

    def take(self, limit: int, segments: list[Segment]) -> tuple[int, bool]:
        """Append whole PDUs until `limit` bytes are passed; the bytes appended, and whether the message has left."""
        taken = 0
        if self._command:
            if self._length <= SMALL and max(self._length, len(self._command)) <= self._fragment:
                whole = self._whole()
                if whole is not None:
                    segments.append(whole)
                    return len(whole), True
            taken = self._take_command(segments)
            if self._length < 0:
                return taken, True
        data, fragment, length, position = self._data, self._fragment, self._length, self._position
        context_id, pack = self._context_id, HEADERS.pack
        while taken < limit:
            count = length - position
            if count > fragment:
                count, control = fragment, 0
            else:
                control = LAST
            segments.append(pack(P_DATA_TF, count + 6, count + 2, context_id, control))
            if isinstance(data, FileSpan):
                segments.append(FileSpan(data.file, self._offset + position, count))
            else:
                segments.append(data[position : position + count])  # type: ignore[index]
            position += count
            taken += count + 12
            if control:
                self._position = position
                return taken, True
        self._position = position
        return taken, False

    def _whole(self) -> bytes | None:
        """Fast path: a message that is small and in memory, in one piece; None where it is in a file."""
        command, data, length, context_id = self._command, self._data, self._length, self._context_id
        count = len(command)
        headers = HEADERS.pack(P_DATA_TF, count + 6, count + 2, context_id, COMMAND | LAST)
        if data is None:
            whole = headers + command
        elif isinstance(data, FileSpan):
            return None
        else:
            whole = b"".join(
                (headers, command, HEADERS.pack(P_DATA_TF, length + 6, length + 2, context_id, LAST), data)
            )
        self._command, self._position = b"", max(length, 0)
        return whole

    def _take_command(self, segments: list[Segment]) -> int:
        """A command set is small, so it leaves in one go, in as many PDUs as the peer's maximum length needs."""
        command, fragment = self._command, self._fragment
        self._command = b""
        parts = []
        for start in range(0, len(command), fragment):
            piece = command[start : start + fragment]
            control = COMMAND | (LAST if start + fragment >= len(command) else 0)
            parts.append(HEADERS.pack(P_DATA_TF, len(piece) + 6, len(piece) + 2, self._context_id, control) + piece)
        segments.append(b"".join(parts))
        return len(segments[-1])


def fragment_length(peer_maximum: int, own_maximum: int) -> int:
    """Data bytes a PDV: what the peer's maximum length allows, ours where it has none (0) or a longer one."""
    longest = own_maximum if peer_maximum == 0 else min(peer_maximum, own_maximum)
    # PS3.8 Annex E.2: fragments are of even length.  A maximum of 1 to 7 could carry nothing: it is read as 8.
    return max(longest - PDV_OVERHEAD, 2) & ~1
