"""Where the scanner takes its bytes from: a reader, a file that can be skipped in, a deflate stream.

Rule: `read(n)` gives 1 to n bytes, or none at the end; `skip(n)` tells how many bytes it passed over.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from dulcet.errors import InstanceError

__all__ = [
    "CHUNK",
    "DamagedDeflate",
    "FileSource",
    "InflateSource",
    "MemorySource",
    "ReadSource",
    "Readable",
    "Reader",
    "ScanError",
    "ScanTruncated",
    "Seekable",
    "Source",
    "opened",
]

CHUNK: Final = 16 * 1024  # the usual header fits in one; larger ones cost more to throw away than to ask for again
MAX_IDLE: Final = (
    1024 * 1024
)  # bytes of empty deflate blocks in a row: they inflate to nothing and so meet no other limit
FIRST_CHUNK: Final = 1024  # after a skip in a file: often just one more element header is wanted


class ScanError(InstanceError):
    """A data set could not be read as DICOM, or a limit was reached; `offset` is the byte of the data set."""

    opening = "the data set cannot be read at byte"

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{self.opening} {offset}: {reason}")
        self.reason = reason
        self.offset = offset


class ScanTruncated(ScanError):
    """The bytes end before the data set does."""

    opening = "the data set ends early, at byte"


class DamagedDeflate(ScanError):
    """The deflate stream of a deflated data set is damaged; `offset` counts inflated bytes."""

    opening = "the data set cannot be inflated further than byte"


class Source(Protocol):
    """What the scanner asks for bytes."""

    skips_free: bool
    """True when skipped bytes are neither read nor made, so that they need not count against the limit of bytes."""

    def read(self, size: int) -> bytes:
        """One to `size` bytes, or none at the end."""

    def skip(self, size: int) -> int:
        """Pass over up to `size` bytes; fewer only at the end."""


class Reader(Protocol):
    """Anything with a `read(n)`."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes, none at the end."""


class Seekable(Reader, Protocol):
    """A binary file that can be positioned."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go there; the new position."""


Readable: TypeAlias = bytes | bytearray | memoryview | Reader


class ReadSource:
    """Bytes from a `read(n)`; skipping reads and forgets."""

    skips_free = False

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        self._read = read

    def read(self, size: int) -> bytes:
        """One to about `size` bytes; small wishes are rounded up by the scanner, not here."""
        return self._read(size) or b""

    def skip(self, size: int) -> int:
        """Read and forget."""
        left = size
        while left > 0:
            chunk = self.read(min(left, CHUNK))
            if not chunk:
                break
            left -= len(chunk)
        return size - left


class FileSource:
    """`size` bytes of a seekable file from `start`; skipping seeks."""

    skips_free = True

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
    """Bytes-like that may change or be taken back after the scan: copied a piece at a time."""

    skips_free = True

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
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


class InflateSource(ReadSource):
    """The inflated bytes of a raw deflate stream (PS3.5 section A.5), a bounded piece at a time."""

    def __init__(self, source: Source) -> None:
        super().__init__(self._inflate)
        self._source = source
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._made = 0

    def _inflate(self, size: int) -> bytes:
        inflater = self._inflater
        idle = 0
        while not inflater.eof:
            data = inflater.unconsumed_tail or self._source.read(CHUNK)
            try:
                made = inflater.decompress(data, size)
            except zlib.error as error:
                raise DamagedDeflate(str(error), self._made) from None
            if made:
                self._made += len(made)
                return made
            if not data and not inflater.eof:
                raise ScanTruncated("so many were inflated, more of the deflate stream was to come", self._made)
            idle += len(data)
            if idle > MAX_IDLE:
                raise DamagedDeflate(f"{idle} bytes of the deflate stream hold nothing", self._made)
        return b""


def opened(source: Readable | Source, *, deflated: bool) -> tuple[bytes, Source | None]:
    """What is in memory already, and where more comes from."""
    if isinstance(source, bytes) and not deflated:
        return source, None
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = MemorySource(source)
    elif isinstance(source, io.IOBase) and source.seekable():
        start = source.tell()
        source = FileSource(source, start, source.seek(0, io.SEEK_END) - start)
    elif not isinstance(source, (FileSource, ReadSource)):
        source = ReadSource(source.read)
    return b"", InflateSource(source) if deflated else source
