"""A bounded scan of a data set's header: what an index needs, from bytes that nobody vouches for (PS3.5 section 7).

Rules: iterative, never recursive; every count has a limit; values are copied, not decoded; pixel data is never entered.
Two loops take the plain elements with short headers at full speed; `_step` knows everything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dulcet.part10.encoding import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    ITEM,
    ITEM_DELIMITER,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    element_header,
    encoding_of,
    is_deflated,
    looks_explicit,
    tag_name,
)
from dulcet.part10.header import CHARACTER_SET, Header
from dulcet.part10.sources import CHUNK, Readable, ScanError, ScanTruncated, Source, opened

__all__ = ["ScanLimits", "scan", "walk_elements"]

BEFORE_PIXEL_DATA: Final = min(PIXEL_DATA) - 1
BEFORE_DELIMITERS: Final = 0xFFFDFFFF
NO_END: Final = 1 << 63  # where a data set ends, as long as its source has not
NOTHING: Final[frozenset[int]] = frozenset()
AT_ONCE: Final = 64 * 1024
"""Bytes in which no limit can be met."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What a data set may make the scanner do."""

    depth: int = 64
    """Data sets within data sets; real ones have up to about 10."""
    bytes: int = 16 * 1024 * 1024
    """Bytes looked at, inflated ones included; values that are skipped by seeking do not count."""
    elements: int = 200_000
    """Elements, items and delimiters: at a microsecond or so each, this alone ends within the seconds below."""
    seconds: float = 2.0
    """Time in all."""
    value: int = 64 * 1024
    """Bytes of one value that is kept; longer ones are passed over and make `Header.complete` False."""


USUAL_LIMITS: Final = ScanLimits()


def scan(
    source: Readable | Source,
    transfer_syntax: str,
    *,
    wanted: frozenset[int] | None = None,
    limits: ScanLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Header:
    """The wanted top-level elements of a data set (all for None), with everything inside the wanted sequences.

    `source` is bytes, a file at the start of its data set, or anything with `read(n)`.
    Stops before the pixel data or after the highest wanted tag; Specific Character Set is kept in any case.
    ScanTruncated when the bytes end within an element or an open sequence, ScanError for damage and at a limit.
    """
    last = min(max(wanted, default=0), BEFORE_PIXEL_DATA) if wanted is not None else BEFORE_PIXEL_DATA
    if limits is None:
        if wanted is not None and type(source) is bytes and len(source) <= AT_ONCE:
            header = _scan_plain(source, transfer_syntax, wanted, last)
            if header is not None:
                return header
        limits = USUAL_LIMITS
    wanted = wanted | {CHARACTER_SET} if wanted is not None else None
    scanner = _Scanner(source, transfer_syntax, wanted, last, limits, clock)
    return scanner.run()


def _scan_plain(data: bytes, transfer_syntax: str, wanted: frozenset[int], last: int) -> Header | None:
    """The same where all up to the last wanted tag is plain, explicit VR with short headers; None where it is not."""
    encoding = encoding_of(transfer_syntax)
    if encoding.implicit or is_deflated(transfer_syntax):
        return None
    header = Header(encoding, None, _no_items)
    values, unpack = header.values, encoding.explicit_header.unpack_from
    at, last_start = 0, len(data) - 12
    while at <= last_start:
        group, element, vr, length = unpack(data, at)
        tag = group << 16 | element
        if vr not in SHORT_VRS:
            if tag <= last or vr not in LONG_VRS:
                return None
            header.consumed = at
            return header
        if tag > last:
            header.consumed = at
            return header
        start = at + 8
        at = start + length
        if tag in wanted or tag == CHARACTER_SET:
            values[tag] = data[start:at]
    return None


def _no_items(header: Header, raw: bytes) -> list[Header]:
    """Of a value that has a VR, and is no sequence."""
    return []


def walk_elements(source: Source, transfer_syntax: str, limits: ScanLimits) -> int:
    """Go through every element, the pixel data's fragments too, keeping none; the bytes passed, or scan's errors."""
    return _Scanner(source, transfer_syntax, NOTHING, 0xFFFFFFFF, limits, time.monotonic).run().consumed


class _Frame:
    """An open data set, sequence or list of fragments."""

    __slots__ = ("encoding", "end", "header", "items", "kind", "undefined", "values", "wanted")

    def __init__(
        self,
        kind: int,
        end: int,
        undefined: bool,
        encoding: Encoding,
        header: Header | None,
        wanted: frozenset[int] | None,
    ) -> None:
        self.kind = kind
        self.end = end  # of undefined length: where the frame around it ends
        self.undefined = undefined  # a delimiter ends it
        self.encoding = encoding
        self.header = header
        self.values: dict[int, bytes] = header.values if header is not None else {}
        self.wanted = wanted
        self.items: list[Header] | None = None


DATA_SET, SEQUENCE, FRAGMENTS = range(3)


class _Scanner:
    """The state of one scan: a window of bytes, where in it we are, and the stack of open frames."""

    def __init__(
        self,
        source: Readable | Source,
        transfer_syntax: str,
        wanted: frozenset[int] | None,
        last: int,
        limits: ScanLimits,
        clock: Callable[[], float],
    ) -> None:
        self._source: Source | None
        self._buffer, self._source = opened(source, deflated=is_deflated(transfer_syntax))
        self._base = 0  # offset in the data set of the first byte in the buffer
        self._at = 0
        self._limits = limits
        self._cap = limits.bytes
        self._left = limits.elements
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._last = last
        self._encoding = encoding_of(transfer_syntax)
        self._wanted = wanted
        self._depth = 1
        self._frames: list[_Frame] = []

    def run(self) -> Header:
        """Scan from the first element to where the scan is to stop."""
        encoding = self._encoding
        if encoding is IMPLICIT_LE and self._have(8) and looks_explicit(self._buffer, self._at):
            self._encoding = encoding = EXPLICIT_LE  # the file meta is wrong; the other way round needs no care
        top = Header(encoding, None, self._late_items)
        self._frames.append(_Frame(DATA_SET, NO_END, False, encoding, top, self._wanted))
        try:
            self._scan_frames()
        finally:
            self._frames.clear()  # the header knows us: without its frame nothing goes round in a circle
        top.consumed = self._base + self._at
        return top

    def read_items(self, header: Header, encoding: Encoding) -> list[Header]:
        """Scan the value of a sequence that is the whole source."""
        frame = _Frame(SEQUENCE, len(self._buffer), False, encoding, header, None)
        frame.items = []
        self._frames.append(frame)
        self._scan_frames()
        return frame.items

    def _late_items(self, header: Header, raw: bytes) -> list[Header]:
        """The items of a sequence that was kept undecoded: implicit VR, or VR UN (PS3.5 section 6.2.2 note 4)."""
        if raw[:4] != IMPLICIT_LE.item_tag:
            return []
        scanner = _Scanner(raw, "", None, BEFORE_DELIMITERS, self._limits, self._clock)
        scanner._encoding = self._encoding
        return scanner.read_items(header, IMPLICIT_LE)

    def _scan_frames(self) -> None:
        going = True
        while going:
            frame = self._frames[-1]
            if frame.kind == DATA_SET:
                if frame.encoding.implicit:
                    self._run_implicit(frame)
                else:
                    self._run_explicit(frame)
                going = self._step(frame)
            else:
                going = self._step_item(frame)

    def _run_explicit(self, frame: _Frame) -> None:
        """Take plain elements with short headers while they lie whole in the window; stop at whatever is not so."""
        buffer, at, left = self._buffer, self._at, self._left
        stop = min(len(buffer), frame.end - self._base, self._cap - self._base)
        last = self._last if len(self._frames) == 1 and self._last < BEFORE_DELIMITERS else BEFORE_DELIMITERS
        unpack, limit = frame.encoding.explicit_header.unpack_from, self._limits.value
        values, wanted = frame.values, frame.wanted
        last_start = stop - 8
        while at <= last_start and left:
            group, element, vr, length = unpack(buffer, at)
            start = at + 8
            end = start + length
            tag = group << 16 | element
            if vr not in SHORT_VRS or end > stop or tag > last or length > limit:
                break
            if wanted is None or tag in wanted:
                values[tag] = buffer[start:end]
            at = end
            left -= 1
        self._at, self._left = at, left

    def _run_implicit(self, frame: _Frame) -> None:
        """The same for implicit VR."""
        buffer, at, left = self._buffer, self._at, self._left
        stop = min(len(buffer), frame.end - self._base, self._cap - self._base)
        last = self._last if len(self._frames) == 1 and self._last < BEFORE_DELIMITERS else BEFORE_DELIMITERS
        unpack, limit = frame.encoding.implicit_header.unpack_from, self._limits.value
        values, wanted = frame.values, frame.wanted
        last_start = stop - 8
        while at <= last_start and left:
            group, element, length = unpack(buffer, at)
            start = at + 8
            end = start + length
            tag = group << 16 | element
            if end > stop or tag > last or length > limit:
                break
            if wanted is None or tag in wanted:
                values[tag] = buffer[start:end]
            at = end
            left -= 1
        self._at, self._left = at, left

    def _step(self, frame: _Frame) -> bool:
        """Take one element of any kind, or the end of the data set; False when the scan is over."""
        where = self._base + self._at
        if where == frame.end:
            return self._leave()
        top = len(self._frames) == 1
        if top and not self._have(8) and not any(self._buffer[self._at :]):
            self._at = len(self._buffer)  # fewer than eight zeros may pad a file
            return False
        tag, vr, length, start = self._header(frame, where)
        if top and tag > self._last:
            return False
        if tag >> 16 == 0xFFFE:
            return self._step_delimiter(frame, tag, length, start)
        keep = frame.wanted is None or tag in frame.wanted
        if length == UNDEFINED or (vr == b"SQ" and keep):
            self._enter(frame, tag, vr, length, start, keep)
        else:
            self._take_value(frame, tag, length, start, keep)
        return True

    def _step_delimiter(self, frame: _Frame, tag: int, length: int, start: int) -> bool:
        """FFFE elements among data elements: the end of an item of undefined length, or somebody's slip."""
        if tag == ITEM_DELIMITER and frame.undefined:
            self._at = start
            return self._leave()
        if tag == SEQUENCE_DELIMITER and frame.undefined:
            return self._leave()  # the item's own delimiter was forgotten; the sequence takes this one
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER) or length:
            raise self._error(f"{tag_name(tag)} stands among data elements, outside of a sequence")
        self._at = start  # a delimiter too many, where lengths are known
        return True

    def _step_item(self, frame: _Frame) -> bool:
        """Take one item, fragment or delimiter of a sequence; False when the scan is over."""
        where = self._base + self._at
        if where == frame.end:
            return self._leave()
        self._spend(where, frame, 8)
        if not self._have(8):
            raise self._truncated("an item was to come")
        group, element, length = frame.encoding.implicit_header.unpack_from(self._buffer, self._at)
        tag = group << 16 | element
        self._at += 8
        if tag == SEQUENCE_DELIMITER:
            return self._leave()
        if tag == ITEM_DELIMITER:
            return True  # one too many: harmless
        if tag != ITEM or (length == UNDEFINED and frame.kind == FRAGMENTS):
            self._at -= 8
            raise self._error(f"expected an item of known length or a delimiter, found {tag_name(tag)} ({length})")
        end = where + 8 + length
        if length == UNDEFINED:
            end = frame.end
        elif end > frame.end:
            raise self._error(f"an item of {length} bytes runs over the end of its sequence at byte {frame.end}")
        if frame.kind == FRAGMENTS:
            self._skip(length)
        else:
            self._enter_item(frame, end, length == UNDEFINED)
        return True

    def _enter_item(self, frame: _Frame, end: int, undefined: bool) -> None:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise self._error(f"data sets nested deeper than the limit of {self._limits.depth}")
        encoding, header = frame.encoding, None
        if encoding is IMPLICIT_LE and not self._encoding.implicit and self._have(8):
            # VR UN of undefined length holds implicit VR (PS3.5 section 6.2.2 note 4), but not every writer knows
            encoding = EXPLICIT_LE if looks_explicit(self._buffer, self._at) else IMPLICIT_LE
        if frame.items is not None:
            header = Header(encoding, frame.header, self._late_items)
            frame.items.append(header)
        wanted = None if header is not None else NOTHING
        self._frames.append(_Frame(DATA_SET, end, undefined, encoding, header, wanted))

    def _enter(self, frame: _Frame, tag: int, vr: bytes | None, length: int, start: int, keep: bool) -> None:
        """Open a sequence or encapsulated pixel data."""
        undefined = length == UNDEFINED
        end = frame.end if undefined else self._base + start + length
        if end > frame.end:
            raise self._overrun(tag, length, frame.end)
        sequence = vr in (b"SQ", b"UN") or (vr is None and tag not in PIXEL_DATA)
        encoding = IMPLICIT_LE if vr == b"UN" else frame.encoding
        inner = _Frame(SEQUENCE if sequence else FRAGMENTS, end, undefined, encoding, frame.header, None)
        if keep and sequence and frame.header is not None:
            inner.items = frame.header.sequences[tag] = []
        self._at = start
        self._frames.append(inner)

    def _leave(self) -> bool:
        """Close the innermost frame; False when it was the last."""
        if self._frames.pop().kind == DATA_SET:
            self._depth -= 1
        return bool(self._frames)

    def _take_value(self, frame: _Frame, tag: int, length: int, start: int, keep: bool) -> None:
        if self._base + start + length > frame.end:
            raise self._overrun(tag, length, frame.end)
        self._at = start
        if keep and frame.header is not None:
            if length <= self._limits.value:
                self._spend_bytes(length)
                if not self._have(length):
                    raise self._truncated(f"within the {length} bytes of {tag_name(tag)}")
                frame.values[tag] = self._buffer[self._at : self._at + length]
                self._at += length
                return
            around: Header | None = frame.header
            while around is not None:
                around.complete = False
                around = around.parent
        self._skip(length)

    def _header(self, frame: _Frame, where: int) -> tuple[int, bytes | None, int, int]:
        """The element header at `where`, counted against the limits."""
        self._spend(where, frame, 8)
        found = element_header(self._buffer, self._at, frame.encoding) if self._have(8) else None
        if found is None and self._have(12):
            found = element_header(self._buffer, self._at, frame.encoding)
        if found is None:
            raise self._truncated("an element header was to come, or the end of a sequence")
        if self._base + found[3] > frame.end:
            raise self._overrun(found[0], found[2], frame.end)
        return found

    def _have(self, size: int) -> bool:
        """Make the window hold `size` bytes from where we are; False when the source ends before."""
        missing = size - (len(self._buffer) - self._at)
        if missing <= 0:
            return True
        if self._source is None:
            return False
        parts = [self._buffer[self._at :]]
        self._base += self._at
        self._at = 0
        while missing > 0:
            chunk = self._source.read(max(missing, CHUNK))
            if not chunk:
                self._source = None
                break
            parts.append(chunk)
            missing -= len(chunk)
        self._buffer = b"".join(parts)
        return missing <= 0

    def _skip(self, size: int) -> None:
        """Pass over `size` bytes, keeping none of them."""
        within = min(size, len(self._buffer) - self._at)
        free = self._source is None or self._source.skips_free
        if free:
            self._cap += size
        else:
            self._spend_bytes(size)
        self._at += within
        if within == size:
            return
        passed = self._source.skip(size - within) if self._source is not None else 0
        self._base += self._at + passed
        self._buffer, self._at = b"", 0
        if within + passed < size:
            raise self._truncated(f"{size - within - passed} bytes before the end of a value")

    def _spend(self, where: int, frame: _Frame, size: int) -> None:
        """Count one header of at least `size` bytes."""
        if where + size > frame.end:
            raise self._error(f"only {frame.end - where} bytes are left in an item or sequence, too few for an element")
        self._left -= 1
        if self._left < 0:
            raise self._error(f"more than the limit of {self._limits.elements} elements")
        if self._clock() > self._deadline:
            raise self._error(f"the scan took longer than the limit of {self._limits.seconds} s")
        self._spend_bytes(size)

    def _spend_bytes(self, size: int) -> None:
        if self._base + self._at + size > self._cap:
            raise self._error(f"more than the limit of {self._limits.bytes} bytes to look at")

    def _error(self, what: str) -> ScanError:
        return ScanError(what, self._base + self._at)

    def _overrun(self, tag: int, length: int, end: int) -> ScanError:
        return self._error(f"{tag_name(tag)}, length {length}, runs over the end of its item at byte {end}")

    def _truncated(self, what: str) -> ScanTruncated:
        return ScanTruncated(what, self._base + len(self._buffer))
