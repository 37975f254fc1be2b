"""The send buffer: segments of the core laid end to end in one reusable buffer, so that one `send` carries many PDUs.

Rules: payload that lies in a file is read straight into its place behind its header; a file that ends early is an error
before its bytes are missed on the wire; send buffers are pooled, an idle association holds none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from dulcet.errors import InstanceError
from dulcet.upper_layer.fragments import FileSpan, Segment

__all__ = ["TRAIN_LENGTH", "FileFailed", "SendBuffer", "SendBufferPool"]

TRAIN_LENGTH: Final = 256 * 1024
"""Bytes asked from the core at once: two of our longest PDUs, some of them already in the processor's cache."""

BUFFER_LENGTH: Final = TRAIN_LENGTH + 192 * 1024
"""The core hands out whole PDUs, so one may be longer than what was asked for by one PDU and its command set."""

SPARE_TRAINS: Final = 16
MAX_SLOTS: Final = 512
"""Payload slots read by one call; IOV_MAX is 1024 on Linux."""


class FileFailed(InstanceError):
    """A file that is being sent is shorter than it was, or cannot be read any more; `file` is its descriptor."""

    def __init__(self, message: str, file: int) -> None:
        super().__init__(message)
        self.file = file


class SendBuffer:
    """One reusable buffer."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER_LENGTH))

    def load(self, segments: Sequence[Segment]) -> memoryview:
        """The segments' bytes in one piece, valid until the next `load`; FileFailed when a file does not give them."""
        total = sum(len(segment) for segment in segments)
        if total > len(self._buffer):
            self._buffer = memoryview(bytearray(total))
        buffer = self._buffer
        position = 0
        slots: list[memoryview] = []
        source: FileSpan | None = None  # where the slots' bytes begin
        expected = 0
        for segment in segments:
            end = position + len(segment)
            if not isinstance(segment, FileSpan):
                buffer[position:end] = segment
            elif not segment.length:
                pass  # an empty data set
            elif source is not None and segment.file == source.file and segment.offset == source.offset + expected:
                slots.append(buffer[position:end])
                expected += segment.length
                if len(slots) == MAX_SLOTS:
                    _fill(source, slots, expected)
                    source, slots = None, []
            else:
                if source is not None:
                    _fill(source, slots, expected)
                source, slots, expected = segment, [buffer[position:end]], segment.length
            position = end
        if source is not None:
            _fill(source, slots, expected)
        return buffer[:total]


class SendBufferPool:
    """Spare send buffers; `list` keeps it safe between threads."""

    def __init__(self) -> None:
        self._spare: list[SendBuffer] = []

    def take(self) -> SendBuffer:
        try:
            return self._spare.pop()
        except IndexError:
            return SendBuffer()

    def give(self, send_buffer: SendBuffer) -> None:
        if len(self._spare) < SPARE_TRAINS:
            self._spare.append(send_buffer)


def _fill(source: FileSpan, slots: list[memoryview], expected: int) -> None:
    """Read `expected` bytes from where `source` begins into the slots."""
    try:
        _read(source, slots, expected)
    except OSError as error:
        raise FileFailed(f"the file cannot be read any more: {error.strerror or error}", source.file) from error


def _short(source: FileSpan, got: int, expected: int) -> FileFailed:
    return FileFailed(
        f"the file ended at byte {source.offset + got}, {expected - got} bytes early: it changed while it was sent",
        source.file,
    )


def _read_vector(source: FileSpan, slots: list[memoryview], expected: int) -> None:
    got = os.preadv(source.file, slots, source.offset)
    while got < expected:  # a signal or the file system cut the call short, or the file is shorter than it was
        count = os.preadv(source.file, _behind(slots, got), source.offset + got)
        if not count:
            raise _short(source, got, expected)
        got += count


def _behind(slots: list[memoryview], count: int) -> list[memoryview]:
    """The slots without their first `count` bytes."""
    left: list[memoryview] = []
    for slot in slots:
        if count < len(slot):
            left.append(slot[count:])
        count = max(count - len(slot), 0)
    return left


def _read_simply(source: FileSpan, slots: list[memoryview], expected: int) -> None:
    os.lseek(source.file, source.offset, os.SEEK_SET)
    done = 0
    for slot in slots:
        filled = 0
        while filled < len(slot):
            piece = os.read(source.file, len(slot) - filled)
            if not piece:
                raise _short(source, done + filled, expected)
            slot[filled : filled + len(piece)] = piece
            filled += len(piece)
        done += filled


_read: Final = _read_vector if hasattr(os, "preadv") else _read_simply
