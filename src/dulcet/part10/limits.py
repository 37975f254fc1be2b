"""What a data set may make a walk do.

Rule: counts, never seconds, so that the verdict is the same whoever walks, on whatever machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ITEM_COST", "LOOKED_THROUGH", "USUAL_LIMITS", "VALUE_COST", "WHOLE_LIMITS", "ScanLimits"]

LOOKED_THROUGH: Final = 0x0070FFFF
"""The wanted elements are looked for up to this tag, whatever they are: some data sets are not in order, and who wants
few of them has to find the same ones."""
ITEM_COST: Final = 512
"""Bytes that an item which is kept counts for, besides its values."""
VALUE_COST: Final = 64
"""And each of these, besides its bytes."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What a data set may make a walk do."""

    depth: int = 64
    """Data sets within data sets; real ones have up to about 10."""
    elements: int = 200_000
    """Elements, items, fragments and delimiters: each takes a microsecond or so."""
    inflated: int = 16 * 1024 * 1024
    """Bytes that a deflated data set may inflate to."""
    value: int = 64 * 1024
    """Bytes of one value that is kept; longer ones are passed over and make `Header.complete` False."""
    kept: int = 16 * 1024 * 1024
    """Bytes in the items of all wanted sequences; what is more is passed over and makes `Header.complete` False."""


USUAL_LIMITS: Final = ScanLimits()
"""For a header, an identifier or another small data set."""

WHOLE_LIMITS: Final = ScanLimits(elements=2_000_000, inflated=1024 * 1024 * 1024, kept=1024 * 1024)
"""For an instance: frames by the ten thousand have some fifty elements each; it inflates at about 300 MB/s."""
