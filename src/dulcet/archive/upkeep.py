"""What is done with an archive besides serving: look it over, take a study out, put files in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dulcet import uids
from dulcet.archive.attributes import IMAGE, STUDY
from dulcet.archive.index import Index, Kept
from dulcet.archive.matching import OneOf, Query
from dulcet.archive.objects import SUFFIX, FileObjects
from dulcet.errors import DulcetError, InstanceError
from dulcet.part10.location import locate_path

if TYPE_CHECKING:
    from dulcet.archive.ingest import Ingest

__all__ = ["Checked", "check", "export_plain", "export_with_directory", "import_files", "study"]

PIECE: Final = 1 << 20


@dataclass(slots=True)
class Checked:
    """What a look over everything found."""

    objects: int = 0
    without_row: int = 0
    """Objects that the index does not know; one that is just coming in is among them for a moment."""
    without_object: int = 0
    """Rows whose object is missing, or is not as long as it was."""


def check(folder: Path, index: Index) -> Checked:
    """Hold the index and the objects against each other; reads no object."""
    objects = FileObjects(folder, durable=False)
    found = Checked()
    rows = set()
    for kept in index.select(Query(IMAGE)):
        rows.add(kept.object)
        try:
            size = objects.path(kept.object).stat().st_size
        except OSError:
            size = -1
        found.without_object += size != kept.offset + kept.length
    for key in objects.listing():
        found.objects += 1
        if key not in rows:
            uid = Path(key).name.removesuffix(SUFFIX).partition("~")[0]
            found.without_row += all(kept.object != key for kept in index.known(uid))
    return found


def study(index: Index, study_instance_uid: str) -> Iterator[Kept]:
    """The instances of a study."""
    return iter(index.select(Query(STUDY, [OneOf("StudyInstanceUID", (study_instance_uid,))])))


def export_plain(chosen: Iterable[Kept], objects: FileObjects, to: Path) -> int:
    """Copy the files as they lie, in folders by study and series; how many."""
    count = 0
    for kept in chosen:
        target = to / kept.object
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(objects.path(kept.object), target)
        count += 1
    return count


def export_with_directory(chosen: Iterable[Kept], objects: FileObjects, to: Path) -> tuple[int, list[str]]:
    """A file-set with a DICOMDIR (PS3.10 section 8), named as media want it; how many, and why others are not in it."""
    from pydicom.fileset import FileSet

    made = FileSet()
    count, failures = 0, []
    for kept in chosen:
        try:
            made.add(objects.path(kept.object))
        except Exception as error:  # pydicom raises many kinds for what a directory record cannot say
            failures.append(f"{kept.sop_instance_uid}: {type(error).__name__}")
        else:
            count += 1
    to.mkdir(parents=True, exist_ok=True)
    made.write(to)
    return count, failures


def import_files(paths: Iterable[Path], ingest: Ingest) -> Iterator[tuple[Path, DulcetError | None]]:
    """Put files in, each data set bit for bit; a DICOMDIR is passed over.  (path, why not) for each."""
    for path in paths:
        try:
            if _import(path, ingest):
                yield path, None
        except DulcetError as error:
            yield path, error


def _import(path: Path, ingest: Ingest) -> bool:
    location = locate_path(path)
    if location.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE:
        return False
    arriving = ingest.begin(location.sop_class_uid, location.sop_instance_uid, location.transfer_syntax)
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(location.offset)
            while piece := file.read(PIECE):
                arriving.write(memoryview(piece))
        arriving.commit()
    except OSError as error:
        raise InstanceError(f"{os.fspath(path)}: {error.strerror}", path) from error
    finally:
        arriving.discard()
    return True
