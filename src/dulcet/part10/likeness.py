"""What a data set has in common with the one before: instances of a series often have elements of the same lengths.

Rule: all that a walk looks at, the tag, VR and length of each element, is compared byte for byte at its place.  What is
alike is walked over alike, so there is no verdict here; values are not looked at, and none is kept.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from dulcet.part10.encoding import SHORT_VRS, Encoding

__all__ = ["Place", "place_of"]

FEWEST: Final = 8
"""Elements that are worth comparing at once."""
MOST: Final = 512
PLACES: Final = 64


class Likeness:
    """The plain elements that data sets begin with, up to `end`."""

    __slots__ = ("count", "end", "headers", "mark", "places", "size", "values", "walked")
    # `walked`: an element that is beyond all that is wanted was among them.

    def __init__(
        self, data: bytes, first: int, end: int, mark: int, encoding: Encoding, kept: dict[int, bytes]
    ) -> None:
        """Of `data`: before `first` these were kept, from there on nothing is; the last element lies at `mark`."""
        self.end, self.mark, self.walked = end, mark, end > first
        self.values: list[tuple[int, int, int]] = []
        layout, behind, at = "", 0, 0
        while at < end:
            group, element, vr, length = encoding.explicit_header.unpack_from(data, at)
            start = at + 8
            if vr not in SHORT_VRS:
                length = encoding.long.unpack_from(data, start)[0]
                start += 4
            layout += f"{at - behind}x{start - at}s"
            tag = group << 16 | element
            if at < first and tag in kept:  # behind that one of the same tag may follow, which is not kept
                self.values.append((tag, start, start + length))
            behind, at = start, start + length
        self.places = Struct(layout)
        self.headers = self.places.unpack_from(data)
        self.count = len(self.headers)
        self.size = max(self.places.size, *(to for _, _, to in self.values), 0)

    def fits(self, data: bytes) -> bool:
        """True when `data` begins with the same elements, whatever their values are."""
        return len(data) >= self.size and self.places.unpack_from(data) == self.headers


class Place:
    """What is known of the data sets of one encoding of which the same is wanted; several threads may use it."""

    __slots__ = ("known", "misses")

    def __init__(self) -> None:
        self.known: Likeness | None = None
        self.misses = 0

    def learn(
        self, data: bytes, first: int, end: int, mark: int, count: int, encoding: Encoding, kept: dict[int, bytes]
    ) -> None:
        """The next one may be like this one; the longer none was, the more seldom it is looked at."""
        self.misses += 1
        misses = self.misses
        if FEWEST <= count <= MOST and (misses % 64 == 0 or not misses & (misses - 1)):
            self.known = Likeness(data, first, end, mark, encoding, kept)


_places: Final[dict[tuple[bool, frozenset[int]], Place]] = {}


def place_of(encoding: Encoding, wanted: frozenset[int]) -> Place | None:
    """The place for data sets of this encoding; None where too many different things are wanted."""
    found = _places.get((encoding.big, wanted))
    if found is None and len(_places) < PLACES:
        found = _places[encoding.big, wanted] = Place()
    return found
