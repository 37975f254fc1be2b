"""What is sent for a C-GET or C-MOVE: the stored files, without looking at them again (PS3.4 section C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Iterator

from dulcet.archive.index import Selection
from dulcet.archive.objects import Objects
from dulcet.io.instances import Instance
from dulcet.part10.location import Location

__all__ = ["RetrieveSet"]


class RetrieveSet:
    """The instances of a selection, ready to be sent; it knows how many they are."""

    def __init__(self, selection: Selection, objects: Objects) -> None:
        self._selection = selection
        self._objects = objects

    def __len__(self) -> int:
        return len(self._selection)

    def __iter__(self) -> Iterator[Instance]:
        for kept in self._selection:
            location = Location(
                kept.transfer_syntax, kept.sop_class_uid, kept.sop_instance_uid, kept.offset, kept.length
            )
            yield Instance(self._objects.path(kept.object), location)
