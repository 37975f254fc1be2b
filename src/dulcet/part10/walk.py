"""One walk over the structure of a data set, from its first byte to its last (PS3.5 section 7): the verdict on it.

Whoever receives, sends, imports or looks over an archive asks this walk, so what one takes no other refuses.

Rules: it is given the bytes as they come, in pieces of any size, and its verdict does not depend on where they are
divided; iterative, never recursive; every count has a limit, and none is of time; values are copied when they are
wanted, else passed over by counting; nothing that grows with the data set is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

from dulcet import uids
from dulcet.part10.encoding import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    ITEM,
    ITEM_DELIMITER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    UNDEFINED,
    Encoding,
    element_header,
    encoding_of,
    is_deflated,
    looks_explicit,
    tag_name,
)
from dulcet.part10.frames import DATA_SET, FRAGMENTS, NO_END, NOTHING, SEQUENCE, Frame, lessen
from dulcet.part10.header import CHARACTER_SET, Header
from dulcet.part10.likeness import Place, place_of
from dulcet.part10.limits import ITEM_COST, LOOKED_THROUGH, USUAL_LIMITS, VALUE_COST, WHOLE_LIMITS, ScanLimits
from dulcet.part10.padding import Pad, pad_of
from dulcet.part10.plain import BEFORE_DELIMITERS, keep_plain, pass_plain
from dulcet.part10.sources import CHUNK, FIRST_CHUNK, Inflater, ScanError, ScanTruncated, lead_of

__all__ = ["Walk", "late_items", "whole"]

KNOWN: Final = uids.TRANSFER_SYNTAXES.keys()


def whole(transfer_syntax: str, wanted: frozenset[int] = NOTHING) -> Walk:
    """The walk of an instance to its last byte, with its limits; the wanted top-level elements are kept.

    How a data set lies in a transfer syntax that nobody knows is not known either: of such a one the length is judged
    and nothing else.
    """
    walk = Walk(transfer_syntax, with_character_set(wanted), WHOLE_LIMITS)
    walk._last = max(walk._last, LOOKED_THROUGH)
    walk._even, walk._lead = True, b""
    walk._opaque = transfer_syntax not in KNOWN
    if not walk._encoding.implicit:
        walk._place = place_of(walk._encoding, walk._frames[0].wanted or NOTHING)
    return walk


@lru_cache(maxsize=64)
def with_character_set(wanted: frozenset[int]) -> frozenset[int]:
    """The same, and what the text among them needs to be read."""
    return wanted | {CHARACTER_SET} if wanted else NOTHING


@lru_cache(maxsize=64)
def _highest(wanted: frozenset[int]) -> int:
    return max(wanted, default=BEFORE_DELIMITERS)


class Walk:
    """The state of one walk: a window of bytes, where in it we are, and the stack of open frames.

    `feed` it until there is no more, then `finish`.  Bytes that `skippable` counts need not be given: `skip` them.
    """

    stopped: bool = False
    """True when the walk is over before the data set is: behind the tag `stop`."""
    pad: Pad | None = None
    """What makes an even number of bytes of a data set of odd length; known when it is finished."""

    # Class attributes until they change, for most never do: small objects are walked by the thousand.
    _buffer = b""
    _at = 0
    _base = 0  # offset in the data set of the first byte in the buffer
    _missing = 0  # bytes that have to come before the next step can be taken
    _skipping = 0  # bytes of a value or fragment that are still to be passed over
    _chunk = CHUNK
    _tag: int | None = None  # of what is passed over
    _recent = b""  # the header of the last top-level element
    _mark = 0  # and where it lies
    _stops = False
    _opaque = False
    _even = False  # an odd number of bytes is judged too
    _inflater: Inflater | None = None
    _inflated = 0
    _lead: bytes | None = None  # as long as the first two bytes are not judged
    _failed: ScanError | None = None
    _place: Place | None = None  # where it is known what the ones before began with; for the first run alone

    def __init__(
        self,
        transfer_syntax: str,
        wanted: frozenset[int] | None,
        limits: ScanLimits = USUAL_LIMITS,
        *,
        stop: int | None = None,
    ) -> None:
        """`wanted` are the top-level elements to keep, None all of them; behind the tag `stop` it is over."""
        encoding = encoding_of(transfer_syntax)
        self._limits = limits
        self._encoding = encoding
        self._begun = encoding is not IMPLICIT_LE
        self._left = limits.elements
        self._kept = limits.kept
        self._parts: list[bytes] = []  # those that have come of what is missing
        if stop is not None:
            self._last, self._stops = stop, True
        else:
            self._last = BEFORE_DELIMITERS if wanted is None else _highest(wanted)
        if is_deflated(transfer_syntax):
            self._inflater = Inflater()
        self.header = Header(encoding, None, late_items(encoding, limits))
        """The wanted elements."""
        self._frames = [Frame(DATA_SET, NO_END, False, encoding, self.header, wanted)]

    # ------------------------------------------------------------------ bytes

    @property
    def skippable(self) -> int:
        """Bytes to come that the walk would only count."""
        if self._opaque:
            return NO_END
        return self._skipping if self._inflater is None else 0

    @property
    def opaque(self) -> bool:
        """True when nothing is known of how the data set lies in its bytes."""
        return self._opaque

    def skip(self, size: int) -> None:
        """`size` bytes of the `skippable` ones were passed over."""
        if not self._opaque:
            self._skipping -= size
        self._base += size

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes, borrowed for the time of the call; ScanError for damage and at a limit."""
        size = len(data)
        if self._skipping > size and self._inflater is None:  # within a long value: pixel data above all
            self._skipping -= size
            self._base += size
            return
        try:
            if self._lead is not None:
                self._lead = lead_of(self._lead, data)
            if self._inflater is None:
                self._take(data)
                return
            for piece in self._inflater.feed(data):
                self._inflated += len(piece)
                if self._inflated > self._limits.inflated:
                    raise ScanError(f"inflates beyond the limit of {self._limits.inflated} bytes", self._inflated)
                self._take(piece)
        except ScanError as error:
            self._failed = error
            raise

    def _take(self, data: bytes | memoryview) -> None:
        at, size = 0, len(data)
        if self._opaque:
            self._base += size
            return
        while True:
            if self._skipping:
                passed = min(self._skipping, size - at)
                self._skipping -= passed
                self._base += passed
                at += passed
                self._chunk = FIRST_CHUNK
            if at == size or self.stopped:
                return
            piece = bytes(data[at : at + self._chunk])
            self._chunk = CHUNK
            at += len(piece)
            if self._missing > len(piece):
                self._missing -= len(piece)
                self._parts.append(piece)
                continue
            if self._at != len(self._buffer) or self._parts:  # something waits
                piece = b"".join((self._buffer[self._at :], *self._parts, piece))
                self._parts.clear()
            self._base += self._at
            self._buffer = piece
            self._at = self._missing = 0
            self._advance()

    def finish(self) -> Header:
        """There are no more bytes: the wanted elements; ScanTruncated when the data set ends within something.

        ScanError when its length is odd and no rule of the standard says how to pad it.
        """
        if self._failed is not None:
            raise self._failed
        try:
            self._end()
        except ScanError as error:
            self._failed = error
            raise
        return self.header

    def _end(self) -> None:
        if self._inflater is not None and not self.stopped:
            self._inflater.end()
        rest = b"".join((self._buffer[self._at :], *self._parts)) if self._missing else self._buffer[self._at :]
        where = self._base + self._at
        if len(self._frames) != 1 and not self._skipping:  # they may have ended with the last value
            self._buffer, self._at, self._base = rest, 0, where
            self._advance()
            rest, where = self._buffer[self._at :], self._base + self._at
        if not self.stopped:
            self._check_end(rest, where)
            if self._even and self._inflater is None and (where + len(rest)) % 2:
                self.pad = pad_of(self._recent, self._mark, where, rest, self._encoding)
        self.header.consumed = where if self.stopped else where + len(rest)
        self._frames.clear()

    def _check_end(self, rest: bytes, where: int) -> None:
        """Nothing may be open."""
        end = where + len(rest)
        if self._skipping:
            name = tag_name(self._tag) if self._tag is not None else "a fragment"
            raise ScanTruncated(f"{name} lacks {self._skipping} bytes", end, self._tag)
        frame = self._frames[-1]
        if len(self._frames) > 1:
            raise ScanTruncated(f"{self._name(frame)} is not closed", end, frame.tag)
        if len(rest) < 8:
            if any(rest):
                raise ScanTruncated(f"{len(rest)} bytes begin an element", end)
            return  # fewer than eight zeros may pad a file
        found = element_header(rest, 0, frame.encoding)
        if found is None:
            raise ScanTruncated(f"{len(rest)} bytes begin an element", end)
        raise ScanTruncated(f"{tag_name(found[0])} lacks {found[3] + found[2] - len(rest)} bytes", end, found[0])

    # ------------------------------------------------------------------ steps: each is taken whole, or not at all

    def _advance(self) -> None:
        """Take all that lies whole in the window."""
        if not self._begun:
            if not self._have(8):
                return
            self._begin()
        going = True
        while going:
            frame = self._frames[-1]
            if frame.kind == DATA_SET:
                self._run(frame)
                if self._skipping or (self._at == len(self._buffer) and frame.end == NO_END):
                    return
                going = self._step(frame)
            else:
                going = self._step_item(frame)

    def _begin(self) -> None:
        self._begun = True
        if looks_explicit(self._buffer, self._at):
            # The file meta is wrong; the other way round needs no care.
            self._encoding = self._frames[0].encoding = self.header.encoding = EXPLICIT_LE
            self.header._read_items = late_items(EXPLICIT_LE, self._limits)

    def _run(self, frame: Frame) -> None:
        """Take plain elements, up to whatever is not so."""
        buffer, at, base, left = self._buffer, self._at, self._base, self._left
        top, stop, encoding = len(self._frames) == 1, frame.end - base, frame.encoding
        place, self._place = self._place, None
        if place is not None and (known := place.known) is not None and known.fits(buffer) and known.count <= left:
            place.misses = 0
            for tag, start, to in known.values:
                frame.values[tag] = buffer[start:to]
            self._left = left - known.count
            self._recent, self._mark = buffer[known.mark : known.mark + 12], known.mark
            if known.walked or self._is_past(known.end, encoding):
                frame.wanted = NOTHING
            self._go_to(known.end, known.mark, encoding)
            return
        mark = end = at
        if frame.wanted is not NOTHING:
            end, self._left, mark = keep_plain(
                buffer, at, stop, left, encoding, self._last if top else BEFORE_DELIMITERS, frame.wanted, frame.values,
                self._limits.value,
            )  # fmt: skip
            if top and not self._stops and self._is_past(end, encoding):
                frame.wanted = NOTHING
        first = end
        if frame.wanted is NOTHING:
            end, self._left, after = pass_plain(buffer, first, stop, self._left, encoding)
            mark = after if end > first else mark
        if end == at:
            return
        if top:
            self._recent, self._mark = buffer[mark : mark + 12], base + mark
        elif frame.wanted is None:
            self._keep(frame, end - at + (left - self._left) * VALUE_COST)
        if place is not None:
            place.learn(buffer, first, end, mark, left - self._left, encoding, frame.values)
        self._go_to(end, mark, encoding)

    def _go_to(self, end: int, mark: int, encoding: Encoding) -> None:
        """Behind the plain element that lies at `mark`, whose value may go on behind the window."""
        buffer = self._buffer
        if end > len(buffer):  # were it the end exactly, nothing would be skipped
            found = element_header(buffer[mark : mark + 12], 0, encoding)
            self._tag = found[0] if found is not None else None
            self._skipping = end - len(buffer)
            end = len(buffer)
        self._at = end

    def _is_past(self, at: int, encoding: Encoding) -> bool:
        """Does an element lie here that is beyond all that is wanted?  What is not seen yet, `_step` sees."""
        if len(self._buffer) - at < 4:
            return False
        group, element = encoding.tag.unpack_from(self._buffer, at)
        return bool((group << 16 | element) > self._last)

    def _step(self, frame: Frame) -> bool:
        """Take one element of any kind, or the end of the data set; False when more bytes are wanted, or it is over."""
        where = self._base + self._at
        if where == frame.end:
            return self._leave()
        found = self._header(frame, where)
        if found is None:
            return False
        tag, vr, length, start = found
        if len(self._frames) == 1 and tag > self._last:
            if self._stops:
                self.stopped = True
                return False
            frame.wanted = NOTHING
        if tag >> 16 == 0xFFFE:
            return self._step_delimiter(frame, tag, length, start)
        keep = frame.wanted is None or tag in frame.wanted
        if length == UNDEFINED or vr == b"SQ":
            self._count()
            self._enter(frame, tag, vr, length, start, keep)
            return True
        if self._base + start + length > frame.end:
            raise self._overrun(tag)
        return self._take_value(frame, tag, length, start, keep)

    def _step_delimiter(self, frame: Frame, tag: int, length: int, start: int) -> bool:
        """FFFE elements among data elements: the end of an item of undefined length, or somebody's slip."""
        if tag == SEQUENCE_DELIMITER and frame.undefined:
            return self._leave()  # the item's own delimiter was forgotten; the sequence takes this one
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER) or (length and not frame.undefined):
            raise self._error(f"{tag_name(tag)} stands outside of a sequence", tag)
        self._count()
        self._at = start
        # else it is a delimiter too many, where lengths are known
        return self._leave() if frame.undefined else True

    def _step_item(self, frame: Frame) -> bool:
        """Take one item, fragment or delimiter of a sequence; False when more bytes are wanted, or it is over."""
        where = self._base + self._at
        if where == frame.end:
            return self._leave()
        if where + 8 > frame.end:
            raise self._error(f"only {frame.end - where} bytes are left in {self._name(frame)}", frame.tag)
        if not self._have(8):
            return False
        group, element, length = frame.encoding.implicit_header.unpack_from(self._buffer, self._at)
        tag = group << 16 | element
        if tag in (SEQUENCE_DELIMITER, ITEM_DELIMITER):
            self._count()
            self._at += 8
            return self._leave() if tag == SEQUENCE_DELIMITER else True  # one of an item is one too many: harmless
        if tag != ITEM or (length == UNDEFINED and frame.kind == FRAGMENTS):
            raise self._error(f"expected an item, found {tag_name(tag)}", frame.tag)
        end = frame.end if length == UNDEFINED else where + 8 + length
        if end > frame.end:
            raise self._error(f"an item runs over the end of {self._name(frame)}", frame.tag)
        if frame.kind == FRAGMENTS:
            self._count()
            self._pass(self._at + 8 + length, frame.tag)
            return not self._skipping
        return self._enter_item(frame, end, length)

    def _enter_item(self, frame: Frame, end: int, length: int) -> bool:
        if len(self._frames) // 2 >= self._limits.depth:
            raise self._error(f"nested deeper than the limit of {self._limits.depth}", frame.tag)
        encoding, header = frame.encoding, None
        if encoding is IMPLICIT_LE and not self._encoding.implicit and length >= 8:
            # VR UN of undefined length holds implicit VR (PS3.5 section 6.2.2 note 4), but not every writer knows
            if not self._have(16):
                return False
            encoding = EXPLICIT_LE if looks_explicit(self._buffer, self._at + 8) else IMPLICIT_LE
        self._count()
        self._at += 8
        if frame.items is not None and self._keep(frame, ITEM_COST):
            header = Header(encoding, frame.header, late_items(self._encoding, self._limits))
            frame.items.append(header)
        wanted = None if header is not None else NOTHING
        self._frames.append(Frame(DATA_SET, end, length == UNDEFINED, encoding, header, wanted, frame.tag))
        return True

    def _enter(self, frame: Frame, tag: int, vr: bytes | None, length: int, start: int, keep: bool) -> None:
        """Open a sequence or encapsulated pixel data."""
        undefined = length == UNDEFINED
        end = frame.end if undefined else self._base + start + length
        if end > frame.end:
            raise self._overrun(tag)
        if len(self._frames) == 1:
            self._recent = b""
        sequence = vr in (b"SQ", b"UN") or (vr is None and tag not in PIXEL_DATA)
        encoding = IMPLICIT_LE if vr == b"UN" else frame.encoding
        inner = Frame(SEQUENCE if sequence else FRAGMENTS, end, undefined, encoding, frame.header, None, tag)
        if keep and sequence and frame.header is not None:
            inner.items = frame.header.sequences[tag] = []
        self._at = start
        self._frames.append(inner)

    def _leave(self) -> bool:
        """Close the innermost frame; False when it was the last."""
        self._frames.pop()
        self.stopped = not self._frames
        return not self.stopped

    def _take_value(self, frame: Frame, tag: int, length: int, start: int, keep: bool) -> bool:
        header = frame.header if keep else None
        end = start + length
        if header is not None and length > self._limits.value:
            lessen(header)
            header = None
        if header is not None and not self._have(end - self._at):
            return False
        self._count()
        if len(self._frames) == 1:
            self._recent, self._mark = self._buffer[self._at : self._at + 12], self._base + self._at
        elif header is not None and not self._keep(frame, length + VALUE_COST):
            header = None
        if header is not None:
            header.values[tag] = self._buffer[start:end]
        self._pass(end, tag)
        return not self._skipping

    def _header(self, frame: Frame, where: int) -> tuple[int, bytes | None, int, int] | None:
        """The element header at `where`; None when more bytes are wanted."""
        found = None
        if where + 8 <= frame.end:
            if not self._have(8):
                return None
            found = element_header(self._buffer, self._at, frame.encoding)
            if found is None and where + 12 <= frame.end:
                if not self._have(12):
                    return None
                found = element_header(self._buffer, self._at, frame.encoding)
        if found is None or self._base + found[3] > frame.end:
            raise self._error(f"only {frame.end - where} bytes are left in an item", frame.tag)
        return found

    def _have(self, size: int) -> bool:
        """Does the window hold `size` bytes from where we are?  If not, no step is taken before it does."""
        missing = size - (len(self._buffer) - self._at)
        if missing <= 0:
            return True
        self._missing = missing
        return False

    def _pass(self, end: int, tag: int | None) -> None:
        """Pass over what lies before `end` in the window, or behind it."""
        self._at = min(end, len(self._buffer))
        self._skipping = end - self._at
        self._tag = tag

    def _count(self) -> None:
        """One element, item, fragment or delimiter."""
        if not self._left:
            raise self._error(f"more than the limit of {self._limits.elements} elements")
        self._left -= 1

    def _keep(self, frame: Frame, size: int) -> bool:
        """Charge what is kept of items; False when it would be too much."""
        self._kept -= size
        if self._kept >= 0:
            return True
        frame.wanted = NOTHING
        if frame.header is not None:
            lessen(frame.header)
        return False

    def _name(self, frame: Frame) -> str:
        return tag_name(frame.tag) if frame.tag is not None else "a sequence"

    def _error(self, what: str, tag: int | None = None) -> ScanError:
        return ScanError(what, self._base + self._at, tag)

    def _overrun(self, tag: int) -> ScanError:
        return self._error(f"{tag_name(tag)} runs over the end of its item", tag)


def late_items(encoding: Encoding, limits: ScanLimits) -> Callable[[Header, bytes], list[Header]]:
    """What reads the items of a sequence that was kept undecoded in a data set of this encoding."""
    if limits is USUAL_LIMITS or limits is WHOLE_LIMITS:
        return _LATE[encoding.implicit]
    return partial(_read_items, encoding, limits)


def _read_items(around: Encoding, limits: ScanLimits, header: Header, raw: bytes) -> list[Header]:
    """The items of a sequence of known length: in implicit VR, or of VR UN (PS3.5 section 6.2.2 note 4)."""
    if raw[:4] != IMPLICIT_LE.item_tag:
        return []
    walk = Walk("", None, limits)
    walk._encoding = around
    root = Frame(SEQUENCE, len(raw), False, IMPLICIT_LE, header, None)
    root.items = []
    walk._frames = [root]
    walk.feed(raw)
    if not walk.stopped:
        raise ScanTruncated("a sequence is not closed", len(raw))
    return root.items


_LATE: Final = {
    True: partial(_read_items, IMPLICIT_LE, USUAL_LIMITS),
    False: partial(_read_items, EXPLICIT_LE, USUAL_LIMITS),
}
