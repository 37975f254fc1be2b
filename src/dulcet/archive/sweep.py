"""After a crash, or without an index: what lies there and has no row is adopted or swept, and counted.

Rule: an object that bears its name is whole and was once on stable storage, so it is indexed, though nobody was told
that it was stored; what has no name yet is removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dulcet.archive.attributes import WANTED
from dulcet.archive.identity import Kept, identify
from dulcet.archive.index import Index
from dulcet.archive.objects import Objects, has_mark, key_of, mark_of
from dulcet.archive.records import Record
from dulcet.errors import InstanceError, ReceiveError
from dulcet.log_codes import coded
from dulcet.part10.location import locate_path, walk_file

__all__ = ["Swept", "adopt_all", "read_object", "sweep"]

log: Final = logging.getLogger("dulcet.archive")

AT_ONCE: Final = 500
"""Objects indexed in one transaction."""
SOURCE: Final = 0x00020016
PIECE: Final = 1 << 20


@dataclass(slots=True)
class Swept:
    """What was found."""

    removed: int = 0
    """Partial files."""
    finished: int = 0
    """Objects that were whole and indexed, their second name left over."""
    adopted: int = 0
    """Whole objects without a row, which have one now."""
    unreadable: int = 0
    """Files among the objects that are none; left where they are."""


def sweep(
    objects: Objects, index: Index, turn: Callable[[str], AbstractContextManager[object]] = nullcontext
) -> Swept:
    """Put right what a crash interrupted; `turn` keeps other processes from an instance of that UID."""
    swept = Swept()
    for path in objects.interrupted():
        _settle_one(path, objects, index, swept, turn)
        path.unlink(missing_ok=True)
    if not objects.traceable:
        adopt_all(objects, index, swept)
    for count, what in (
        (swept.removed, "removed %d partial files"),
        (swept.adopted, "adopted %d whole objects that had no row"),
        (swept.finished, "tidied up after %d objects that were stored"),
    ):
        if count:
            log.warning(what + " that an interrupted run left behind", count, extra=coded("DUL407"))
    return swept


def _settle_one(
    path: Path, objects: Objects, index: Index, swept: Swept, turn: Callable[[str], AbstractContextManager[object]]
) -> None:
    """What one unfinished name stands for."""
    if path.stat().st_nlink < 2:
        swept.removed += 1
        with suppress(InstanceError, OSError):  # most do not read
            objects.tidy(key_of(read_object(path).identity))
        return
    try:
        record = read_object(path)
    except (InstanceError, OSError) as error:
        log.error("%s: an object that was placed does not read: %s", path.name, error, extra=coded("DUL408"))
        swept.unreadable += 1
        return
    with turn(record.kept.sop_instance_uid):
        key = _key_of(path, record, objects)
        known = index.known(record.kept.sop_instance_uid)
        if key is None or any(found.object == key for found in known):
            swept.finished += 1
            return
        objects.settle([key])
        _add([(key, record)], index)
        swept.adopted += 1


def _key_of(path: Path, record: Record, objects: Objects) -> str | None:
    """The other name of a file."""
    for mark in ("", mark_of(record.kept.digest)):
        key = key_of(record.identity, mark)
        other = objects.path(key)
        if other.exists() and os.path.samefile(path, other):
            return key
    return None


def adopt_all(
    objects: Objects, index: Index, swept: Swept | None = None, *, told: Callable[[int], object] | None = None
) -> Swept:
    """Index every object that has no row yet; `told` is called with their number as it grows.

    In the order in which they came: the first of a patient, study or series says what is found of it, the first of a
    UID is the one that is served.
    """
    swept = swept or Swept()
    waiting: list[tuple[str, Record]] = []
    for key in _by_arrival(objects):
        try:
            record = read_object(objects.path(key))
        except (InstanceError, OSError) as error:
            log.error("%s is no object: %s", key, error, extra=coded("DUL408"))
            swept.unreadable += 1
            continue
        if any(found.object == key for found in index.known(record.kept.sop_instance_uid)):
            continue
        waiting.append((key, record))
        swept.adopted += 1
        if len(waiting) == AT_ONCE:
            _add(waiting, index)
            waiting.clear()
            if told is not None:
                told(swept.adopted)
    _add(waiting, index)
    return swept


def _by_arrival(objects: Objects) -> Iterator[str]:
    """Every key: studies by the first that came of each, in each the objects as they came, as their files say.

    Those kept beside others come last, whatever their files say: a copy of the folder may have lost that.
    """
    first: dict[str, int] = {}
    for key in objects.listing():
        study, slash, _ = key.partition("/")
        if not slash:
            yield key  # no object of ours lies there
            continue
        came = _came(objects, key)
        first[study] = min(first.get(study, came), came)
    beside: list[tuple[int, str]] = []
    for study in sorted(first, key=lambda study: (first[study], study)):
        for came, key in sorted((_came(objects, key), key) for key in objects.listing(study)):
            if has_mark(key):
                beside.append((came, key))
            else:
                yield key
    yield from (key for _, key in sorted(beside))


def _came(objects: Objects, key: str) -> int:
    try:
        return objects.path(key).stat().st_mtime_ns
    except OSError:
        return 0  # whoever reads it will say so


def _add(found: list[tuple[str, Record]], index: Index) -> None:
    records: list[Record] = []
    seen: set[str] = set()
    for key, record in found:
        uid = record.identity.sop_instance_uid
        record.kept = replace(record.kept, object=key)
        record.beside = uid in seen or bool(index.known(uid))
        seen.add(uid)
        records.append(record)
    if records:
        index.add(records)


def read_object(path: Path) -> Record:
    """What an object says of itself, its key left open; InstanceError when it is none, damaged, or its UIDs unsound."""
    location = locate_path(path)
    with path.open("rb") as file:
        header = walk_file(file, location, WANTED)
        file.seek(location.offset)
        digest = hashlib.sha256()
        for piece in _pieces(file.read):
            digest.update(piece)
        received = os.fstat(file.fileno()).st_mtime
    try:
        identity = identify(header, location.sop_class_uid, location.sop_instance_uid)
    except ReceiveError as error:
        raise InstanceError(str(error), path) from error
    kept = Kept(
        identity.sop_class_uid, identity.sop_instance_uid, location.transfer_syntax, "", location.offset,
        location.length, digest.digest(),
    )  # fmt: skip
    source = location.meta.get(SOURCE, b"").decode("latin-1").strip("\0 ")
    return Record(identity, kept, header, received, source)


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece
