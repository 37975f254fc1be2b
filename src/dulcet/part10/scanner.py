"""What an index needs of a data set's header, and walks over what lies in memory or in a file."""

from __future__ import annotations

from typing import Final

from dulcet.part10.encoding import PIXEL_DATA
from dulcet.part10.frames import NOTHING
from dulcet.part10.header import CHARACTER_SET, Header
from dulcet.part10.limits import USUAL_LIMITS, ScanLimits
from dulcet.part10.sources import CHUNK, MemorySource, Readable, Source
from dulcet.part10.walk import Walk

__all__ = ["ScanLimits", "follow", "scan", "walk_elements"]

BEFORE_PIXEL_DATA: Final = min(PIXEL_DATA) - 1


def scan(
    source: Readable | Source, transfer_syntax: str, *, wanted: frozenset[int] | None = None,
    limits: ScanLimits = USUAL_LIMITS,
) -> Header:  # fmt: skip
    """The wanted top-level elements of a data set (all for None), with everything inside the wanted sequences.

    Stops before the pixel data or after the highest wanted tag; Specific Character Set is kept in any case.
    ScanTruncated when the bytes end within an element or an open sequence, ScanError for damage and at a limit.
    """
    last = min(max(wanted, default=0), BEFORE_PIXEL_DATA) if wanted is not None else BEFORE_PIXEL_DATA
    walk = Walk(transfer_syntax, wanted | {CHARACTER_SET} if wanted is not None else None, limits, stop=last)
    follow(walk, source)
    return walk.finish()


def walk_elements(source: Readable | Source, transfer_syntax: str, limits: ScanLimits) -> Header:
    """Go through every element, the pixel data's fragments too, keeping none; scan's errors."""
    walk = Walk(transfer_syntax, NOTHING, limits)
    follow(walk, source)
    return walk.finish()


def follow(walk: Walk, source: Readable | Source) -> None:
    """Feed a walk from a source to its end, or until the walk is over."""
    if isinstance(source, bytes):
        walk.feed(source)
        return
    if isinstance(source, bytearray | memoryview):
        source = MemorySource(source)
    while not walk.stopped:
        if walk.skippable:
            passed = source.skip(walk.skippable)
            walk.skip(passed)
            if walk.skippable:
                return
        piece = source.read(CHUNK)
        if not piece:
            return
        walk.feed(piece)
