"""What the scanner found: raw values by tag, decoded when asked.

Rule: reading a value never raises; only `items` of a sequence that was kept undecoded may, as the scan itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from dulcet.part10.charset import decode_text
from dulcet.part10.encoding import Encoding

__all__ = ["Header"]

Number: TypeAlias = int  # within the class, `int` is the method
CHARACTER_SET: Final = 0x00080005
BINARY_INTEGERS: Final = frozenset(  # integers of VR US, SS or UL among what an index holds; the others are text (IS)
    int(tag, 16)
    for tag in """
        00280002 00280006 00280010 00280011 00280014 00280100 00280101 00280102 00280103 00280106 00280107
        00280108 00280109 00280110 00280111 00280120 00280121 00480006 00480007 30020011
    """.split()
)
NUMBER: Final = re.compile(rb"[+-]?[0-9]+")
MAX_NUMBER: Final = 64  # characters of an integer in text; IS has at most 12 (PS3.5 Table 6.2-1)


class Header:
    """Values of one data set or item, by tag; made by `scan`.

    Plain slots class, for a frozen one costs more than the scan of an item.
    """

    __slots__ = ("_read_items", "complete", "consumed", "encoding", "parent", "sequences", "values")

    def __init__(
        self, encoding: Encoding, parent: Header | None, read_items: Callable[[Header, bytes], list[Header]]
    ) -> None:
        self.encoding: Encoding = encoding
        self.values: dict[Number, bytes] = {}
        """Raw values, padding included; a sequence is here only where its VR was not known (`items` reads it)."""
        self.sequences: dict[Number, list[Header]] = {}
        self.complete: bool = True
        """False when a wanted value in here, or in an item, was longer than the limit and so was not kept."""
        self.consumed: int = 0
        """Bytes of the (inflated) data set up to where the scan stopped; 0 in items."""
        self.parent: Header | None = parent
        """The data set that an item stands in."""
        self._read_items = read_items

    def __contains__(self, tag: Number) -> bool:
        return tag in self.values or tag in self.sequences

    def __iter__(self) -> Iterator[Number]:
        """The tags that were kept, ascending."""
        return iter(sorted({*self.values, *self.sequences}))

    def raw(self, tag: Number) -> bytes | None:
        """The value as it stands, padding included; None when absent, not wanted, too long, or a sequence."""
        return self.values.get(tag)

    def text(self, tag: Number) -> str:
        """The whole value as text without the padding around it; `""` when absent.

        Decoded by the data set's Specific Character Set; bytes it does not know become U+FFFD.
        """
        raw = self.values.get(tag)
        if not raw:
            return ""
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").strip("\0 ")
        return decode_text(raw, self._character_sets()).strip("\0 ")

    def texts(self, tag: Number) -> list[str]:
        """The values between backslashes, each without padding; `[]` when absent or empty."""
        text = self.text(tag)
        return [value.strip("\0 ") for value in text.split("\\")] if text else []

    def uid(self, tag: Number) -> str:
        """The value as a UID: trailing NULs and blanks are padding, other odd characters are kept."""
        return self.values.get(tag, b"").decode("latin-1").strip("\0 ")

    def int(self, tag: Number) -> Number | None:
        """The first value as an unsigned binary integer for the image's US and UL elements, else as IS text.

        What is not text at all is taken as binary; None when there is nothing that reads as an integer.
        """
        raw = self.values.get(tag)
        if not raw:
            return None
        if tag in BINARY_INTEGERS:
            width = 4 if len(raw) == 4 and tag >> 16 != 0x0028 else 2
            return int.from_bytes(raw[:width], "big" if self.encoding.big else "little")
        first = raw[: MAX_NUMBER + 1].split(b"\\")[0].strip(b"\0 ")
        if len(first) <= MAX_NUMBER and NUMBER.fullmatch(first):
            return int(first)
        if len(raw) in (2, 4, 8) and not raw.decode("latin-1").isprintable():
            return int.from_bytes(raw, "big" if self.encoding.big else "little")
        return None

    def items(self, tag: Number) -> list[Header]:
        """The items of a wanted sequence; `[]` when absent or not a sequence.

        Sequences of known length in implicit VR cannot be told from other values, so they are scanned here, at the
        first call, within the limits of the scan.  ScanError when such a one is damaged.
        """
        kept = self.sequences.get(tag)
        if kept is None:
            raw = self.values.get(tag)
            kept = self._read_items(self, raw) if raw else []
            self.sequences[tag] = kept
        return kept

    def _character_sets(self) -> str:
        header: Header | None = self
        while header is not None:
            raw = header.values.get(CHARACTER_SET)
            if raw is not None:
                return raw.decode("latin-1")
            header = header.parent
        return ""
