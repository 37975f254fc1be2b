"""An even number of bytes: what the standard says of every value, and what not every writer did (PS3.5 section 7.1.1).

Rule: a value is padded where the standard says with what, and where nothing else moves by it: at the very end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dulcet.part10.encoding import Encoding, element_header, tag_name
from dulcet.part10.sources import ScanError

__all__ = ["Pad", "pad_of"]

PIXELS: Final = 0x7FE00010
NUL_PADDED: Final = frozenset({b"UI", b"OB", b"UN"})  # PS3.5 Table 6.2-1
SPACE_PADDED: Final = frozenset(vr.encode() for vr in "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split())


@dataclass(frozen=True, slots=True)
class Pad:
    """What is to change: the bytes from `at` on become `field`, and `tail` comes behind the end."""

    at: int
    field: bytes
    tail: bytes

    def applied(self, data: bytes) -> bytes:
        """The data set with an even number of bytes."""
        return b"".join((data[: self.at], self.field, data[self.at + len(self.field) :], self.tail))


def pad_of(recent: bytes, mark: int, where: int, rest: bytes, encoding: Encoding) -> Pad:
    """How a data set of odd length becomes one of even length; ScanError when that is not unambiguous.

    `recent` is the header of its last element, which begins at `mark`; the elements end at `where`, with zeros behind.
    """
    end = where + len(rest)
    if rest:
        return Pad(end, b"", b"\0")  # zeros are behind it already
    found = element_header(recent, 0, encoding)
    if found is not None:
        tag, vr, length, start = found
        fill, size = _fill(tag, vr), 2 if start == 8 and vr is not None else 4
        if fill and length % 2 and mark + start + length == where and length + 1 < 1 << 8 * size:
            longer = (length + 1).to_bytes(size, "big" if encoding.big else "little")
            return Pad(mark + start - size, longer, fill)
        raise ScanError(f"odd length; {tag_name(tag)} cannot be padded", end, tag)
    raise ScanError("odd length; its last element is no value", end)


def _fill(tag: int, vr: bytes | None) -> bytes:
    """What pads a value; nothing where that is not known."""
    if tag == PIXELS or vr in NUL_PADDED:
        return b"\0"
    return b" " if vr in SPACE_PADDED else b""
