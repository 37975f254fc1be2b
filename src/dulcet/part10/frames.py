"""What is open while a data set is walked over: data sets, sequences, lists of fragments."""

from __future__ import annotations

from typing import Final

from dulcet.part10.encoding import Encoding
from dulcet.part10.header import Header

__all__ = ["DATA_SET", "FRAGMENTS", "NOTHING", "NO_END", "SEQUENCE", "Frame", "lessen"]

NOTHING: Final[frozenset[int]] = frozenset()
"""Of what is kept."""
NO_END: Final = 1 << 63
"""Where a data set ends, as long as its bytes have not."""
DATA_SET, SEQUENCE, FRAGMENTS = range(3)


class Frame:
    """An open data set, sequence or list of fragments."""

    __slots__ = ("encoding", "end", "header", "items", "kind", "tag", "undefined", "values", "wanted")

    def __init__(
        self,
        kind: int,
        end: int,
        undefined: bool,
        encoding: Encoding,
        header: Header | None,
        wanted: frozenset[int] | None,
        tag: int | None = None,
    ) -> None:
        self.kind = kind
        self.end = end  # of undefined length: where the frame around it ends
        self.undefined = undefined  # a delimiter ends it
        self.encoding = encoding
        self.header = header
        self.values: dict[int, bytes] = header.values if header is not None else {}
        self.wanted = wanted
        self.tag = tag  # of the element that it is the value of, or that it is an item of
        self.items: list[Header] | None = None


def lessen(header: Header | None) -> None:
    """Something of it was not kept."""
    while header is not None:
        header.complete = False
        header = header.parent
