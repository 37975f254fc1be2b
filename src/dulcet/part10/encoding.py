"""How data elements lie in bytes (PS3.5 sections 7.1 and 10): byte order, explicit or implicit VR, lengths.

Rule: knows one element header at a time; neither files, nor limits, nor where a data set ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from dulcet.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPIP_REFERENCED_DEFLATE,
    JPIPHTJ2K_REFERENCED_DEFLATE,
)

__all__ = [
    "DEFLATED",
    "EXPLICIT_BE",
    "EXPLICIT_LE",
    "IMPLICIT_LE",
    "ITEM",
    "ITEM_DELIMITER",
    "LONG_VRS",
    "PIXEL_DATA",
    "SEQUENCE_DELIMITER",
    "SHORT_VRS",
    "UNDEFINED",
    "Encoding",
    "element_header",
    "encoding_of",
    "is_deflated",
    "looks_explicit",
    "tag_name",
]

UNDEFINED: Final = 0xFFFFFFFF  # PS3.5 section 7.1.1: value length of unknown extent
ITEM: Final = 0xFFFEE000
ITEM_DELIMITER: Final = 0xFFFEE00D
SEQUENCE_DELIMITER: Final = 0xFFFEE0DD
PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

SHORT_VRS: Final = frozenset(  # PS3.5 Table 7.1-2: 16-bit length right after the VR
    vr.encode() for vr in "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
LONG_VRS: Final = frozenset(  # PS3.5 Table 7.1-1: two reserved bytes, then a 32-bit length
    vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
)

GE_PRIVATE_BIG_ENDIAN_PIXELS: Final = "1.2.840.113619.5.2"  # implicit VR little endian but for the pixels
DEFLATED: Final = frozenset(
    {
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        JPIP_REFERENCED_DEFLATE,
        JPIPHTJ2K_REFERENCED_DEFLATE,
    }
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """One of the ways of writing data elements, with its structures ready to unpack."""

    implicit: bool
    big: bool
    explicit_header: Struct
    passed_header: Struct
    """Group, VR as a number and 16-bit length: all that is needed of an element that nobody wants."""
    short_numbers: frozenset[int]
    """The VRs with a 16-bit length as such numbers."""
    long_numbers: frozenset[int]
    """Those with a 32-bit length, SQ left out."""
    implicit_header: Struct
    long: Struct
    tag: Struct
    item_tag: bytes


def _encoding(*, implicit: bool, big: bool) -> Encoding:
    order = ">" if big else "<"
    item = Struct(order + "HH").pack(ITEM >> 16, ITEM & 0xFFFF)
    number = Struct(order + "H").unpack
    return Encoding(
        implicit,
        big,
        Struct(order + "HH2sH"),
        Struct(order + "H2xHH"),
        frozenset(number(vr)[0] for vr in SHORT_VRS),
        frozenset(number(vr)[0] for vr in LONG_VRS - {b"SQ"}),
        Struct(order + "HHL"),
        Struct(order + "L"),
        Struct(order + "HH"),
        item,
    )


IMPLICIT_LE: Final = _encoding(implicit=True, big=False)
EXPLICIT_LE: Final = _encoding(implicit=False, big=False)
EXPLICIT_BE: Final = _encoding(implicit=False, big=True)

_ENCODINGS: Final = {
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LE,
    GE_PRIVATE_BIG_ENDIAN_PIXELS: IMPLICIT_LE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BE,
}


def encoding_of(transfer_syntax: str) -> Encoding:
    """The encoding of a transfer syntax, once inflated; all others are explicit VR little endian (PS3.5 A.4)."""
    return _ENCODINGS.get(transfer_syntax, EXPLICIT_LE)


def is_deflated(transfer_syntax: str) -> bool:
    """True when the whole data set is one deflate stream (PS3.5 section A.5)."""
    return transfer_syntax in DEFLATED


def looks_explicit(data: bytes, at: int) -> bool:
    """True when the element at `at` carries a VR that the standard knows."""
    vr = data[at + 4 : at + 6]
    return vr in SHORT_VRS or vr in LONG_VRS


def element_header(data: bytes, at: int, encoding: Encoding) -> tuple[int, bytes | None, int, int] | None:
    """`(tag, vr, length, start of the value)` of the element at `at`, or None when `data` ends before the header does.

    Delimiters and items have no VR.  An element of an explicit data set without two capital letters is taken as
    implicit VR (some writers switch inside sequences); an unknown VR has the 32-bit length that the standard
    gives all VRs to come (PS3.5 section 7.1.2), unless its reserved bytes are in use.
    """
    if len(data) - at < 8:
        return None
    if encoding.implicit:
        group, element, length = encoding.implicit_header.unpack_from(data, at)
        return group << 16 | element, None, length, at + 8
    group, element, vr, length = encoding.explicit_header.unpack_from(data, at)
    tag = group << 16 | element
    if vr in SHORT_VRS:
        return tag, vr, length, at + 8
    if vr not in LONG_VRS:
        if group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            return tag, None, encoding.long.unpack_from(data, at + 4)[0], at + 8
        if length:
            return tag, vr, length, at + 8
    if len(data) - at < 12:
        return None
    return tag, vr, encoding.long.unpack_from(data, at + 8)[0], at + 12


def tag_name(tag: int) -> str:
    """`(gggg,eeee)`, as the standard prints tags."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
