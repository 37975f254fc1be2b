"""Where a walk takes its bytes from: memory, a file that can be skipped in, a deflate stream; and how it fails.

Rule: `read(n)` gives 1 to n bytes, or none at the end; `skip(n)` tells how many bytes it passed over.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias

from dulcet.errors import InstanceError

__all__ = [
    "CHUNK",
    "DamagedDeflate",
    "FileSource",
    "Inflater",
    "MemorySource",
    "Readable",
    "ScanError",
    "ScanTruncated",
    "Seekable",
    "Source",
    "lead_of",
]

CHUNK: Final = 16 * 1024  # the usual header fits in one; larger ones cost more to throw away than to ask for again
SLICE: Final = 4 * 1024  # of a deflate stream at a time: it is copied again for each chunk that it inflates to
MAX_IDLE: Final = (
    1024 * 1024
)  # bytes of empty deflate blocks in a row: they inflate to nothing and so meet no other limit
FIRST_CHUNK: Final = 1024  # after a skip: often just one more element header is wanted


class ScanError(InstanceError):
    """A data set could not be read as DICOM, or a limit was reached; `offset` is the byte of the data set.

    `tag` is the innermost element that is known to be at fault, None where there is none.
    """

    opening = "the data set cannot be read at byte"

    def __init__(self, reason: str, offset: int, tag: int | None = None) -> None:
        super().__init__(f"{self.opening} {offset}: {reason}")
        self.reason = reason
        self.offset = offset
        self.tag = tag

    @property
    def comment(self) -> str:
        """The same in the 64 characters of an Error Comment (0000,0902)."""
        return f"byte {self.offset}: {self.reason}"


class ScanTruncated(ScanError):
    """The bytes end before the data set does."""

    opening = "the data set ends early, at byte"

    @property
    def comment(self) -> str:
        return f"ends at byte {self.offset}: {self.reason}"


class DamagedDeflate(ScanError):
    """The deflate stream of a deflated data set is damaged; `offset` counts inflated bytes."""

    opening = "the data set cannot be inflated further than byte"

    @property
    def comment(self) -> str:
        return f"cannot be inflated further than byte {self.offset}"


def lead_of(lead: bytes, data: bytes | memoryview) -> bytes | None:
    """Judge the first two bytes of a data set: what is known of them, None when they are good; ScanError.

    Behind file meta, bytes that read as one more element of group 0002 are taken for that (PS3.10 section 7.1): nobody
    could tell from the file where the data set starts, nor which transfer syntax counts.
    """
    lead += bytes(data[: 2 - len(lead)])
    if lead == b"\2\0":
        raise ScanError("begins as file meta does, with group 0002", 0)
    return None if len(lead) == 2 else lead


class Source(Protocol):
    """What a walk is fed from."""

    def read(self, size: int) -> bytes:
        """One to `size` bytes, or none at the end."""

    def skip(self, size: int) -> int:
        """Pass over up to `size` bytes; fewer only at the end."""


class Seekable(Protocol):
    """A binary file that can be positioned."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes, none at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go there; the new position."""


Readable: TypeAlias = bytes | bytearray | memoryview


class FileSource:
    """`size` bytes of a seekable file from `start`; skipping seeks."""

    def __init__(self, file: Seekable, start: int, size: int) -> None:
        self._file = file
        self._left = size
        self._chunk = CHUNK // 4
        file.seek(start)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, in chunks that grow while nothing is skipped."""
        data = self._file.read(min(size, max(self._chunk, 12), self._left)) or b""
        self._left = self._left - len(data) if data else 0
        self._chunk = min(self._chunk * 2, CHUNK)
        return data

    def skip(self, size: int) -> int:
        """Seek."""
        size = min(size, self._left)
        self._file.seek(size, 1)
        self._left -= size
        self._chunk = FIRST_CHUNK
        return size


class MemorySource:
    """Bytes-like that may change or be taken back afterwards: copied a piece at a time."""

    def __init__(self, data: Readable) -> None:
        self._view = memoryview(data).cast("B")
        self._at = 0

    def read(self, size: int) -> bytes:
        """Copy a piece."""
        piece = bytes(self._view[self._at : self._at + size])
        self._at += len(piece)
        return piece

    def skip(self, size: int) -> int:
        """Step over."""
        size = min(size, len(self._view) - self._at)
        self._at += size
        return size


class Inflater:
    """The inflated bytes of a raw deflate stream (PS3.5 section A.5), a bounded piece at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._made = 0
        self._idle = 0

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """What more of the stream inflates to; what follows its end is left alone."""
        stream = self._stream
        for start in range(0, len(data), SLICE):
            rest: bytes | memoryview = data[start : start + SLICE]
            while not stream.eof:
                try:
                    made = stream.decompress(rest, CHUNK)
                except zlib.error as error:
                    raise DamagedDeflate(str(error), self._made) from None
                if made:
                    self._idle = 0
                    self._made += len(made)
                    yield made
                else:
                    self._idle += len(rest)
                    if self._idle > MAX_IDLE:
                        raise DamagedDeflate(f"{self._idle} bytes of the deflate stream hold nothing", self._made)
                rest = stream.unconsumed_tail
                if not rest and len(made) < CHUNK:
                    break

    def end(self) -> None:
        """No more comes: ScanTruncated when the stream has not ended."""
        if not self._stream.eof:
            raise ScanTruncated("more of the deflate stream was to come", self._made)
