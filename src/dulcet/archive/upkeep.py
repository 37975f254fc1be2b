"""What is done with an archive besides serving: look it over, put files in."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dulcet import uids
from dulcet.archive.attributes import IMAGE
from dulcet.archive.identity import UIDS, identify
from dulcet.archive.index import Index
from dulcet.archive.matching import Query
from dulcet.archive.objects import FileObjects
from dulcet.errors import DulcetError, InstanceError, NotDicom, ReceiveError
from dulcet.log_codes import coded
from dulcet.part10.location import locate, locate_path, walk_file
from dulcet.part10.regular import open_regular
from dulcet.services.models import OBJECT_CLASSES

if TYPE_CHECKING:
    from dulcet.archive.ingest import Ingest

__all__ = ["Checked", "check", "import_files"]

log: Final = logging.getLogger("dulcet.archive")

PIECE: Final = 1 << 20
IDENTIFYING: Final = frozenset(tag for tag, _ in UIDS)


@dataclass(slots=True)
class Checked:
    """What a look over everything found."""

    objects: int = 0
    without_row: int = 0
    """Objects that the index does not know; one that is just coming in is among them for a moment."""
    without_object: int = 0
    """Rows whose object is missing, or is not as long as it was; each is logged (DUL408)."""
    damaged: int = 0
    """Objects that would not be taken today, for their structure is not whole or a UID that identifies them is missing;
    each is logged (DUL408)."""


def check(folder: Path, index: Index) -> Checked:
    """Hold the index and the objects against each other, and walk over the structure of each object.

    Values are skipped, so that an object takes a fraction of a millisecond; those that are deflated are inflated.
    """
    objects = FileObjects(folder, durable=False)
    found = Checked()
    rows = set()
    for kept in chain(index.select(Query(IMAGE)), index.of_no_patient(OBJECT_CLASSES)):
        rows.add(kept.object)
        try:
            size = objects.path(kept.object).stat().st_size
        except OSError:
            size = -1
        if size != kept.offset + kept.length:
            found.without_object += 1
            has = f"has {size} bytes, not {kept.offset + kept.length}"
            why = f"its object {'is missing' if size < 0 else has}"
            log.error("%s, in the index as %s: %s", kept.object, kept.sop_instance_uid, why, extra=coded("DUL408"))
    for key in objects.listing():
        found.objects += 1
        found.damaged += not _is_whole(objects.path(key), key)
        if key not in rows:
            found.without_row += not _has_row(objects.path(key), key, index)
    return found


def _is_whole(path: Path, key: str) -> bool:
    """The verdict of whoever takes, sends and indexes it; what the system does not let be read is no verdict."""
    try:
        location = locate_path(path)
        with open_regular(path) as file:
            header = walk_file(file, location, IDENTIFYING)
        identify(header, location.sop_class_uid, location.sop_instance_uid)
    except OSError as error:
        log.error("%s cannot be read: %s", key, error.strerror, extra=coded("DUL408"))
        return False
    except (InstanceError, ReceiveError) as error:
        log.error("%s is damaged: %s", key, str(error).removeprefix(f"{path}: "), extra=coded("DUL408"))
        return False
    return True


def _has_row(path: Path, key: str, index: Index) -> bool:
    """Is it kept beside another one, or did its row come since?  What it is called does not tell its UID."""
    try:
        uid = locate_path(path).sop_instance_uid
    except (InstanceError, OSError):
        return False
    return any(kept.object == key for kept in index.known(uid))


def import_files(paths: Iterable[Path], ingest: Ingest) -> Iterator[tuple[Path, DulcetError | None]]:
    """Put files in, each data set bit for bit; (path, why not) for each.

    NotDicom stands for what is no object of anybody: other kinds of files, a DICOMDIR, pipes and devices.
    """
    for path in paths:
        try:
            _import(path, ingest)
        except DulcetError as error:
            yield path, error
        else:
            yield path, None


def _import(path: Path, ingest: Ingest) -> None:
    try:
        with open_regular(path) as file:
            location = locate(file, path=path)
            if location.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE:
                raise NotDicom(f"{path} is a DICOMDIR, an index of other files", path)
            arriving = ingest.begin(location.sop_class_uid, location.sop_instance_uid, location.transfer_syntax)
            try:
                file.seek(location.offset)
                while piece := file.read(PIECE):
                    arriving.write(memoryview(piece))
                arriving.commit()
            finally:
                arriving.discard()
    except OSError as error:
        raise InstanceError(f"{path}: {error.strerror}", path) from error
