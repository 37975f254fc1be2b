"""Studies taken out of an archive: each object a copy, byte for byte, of what was stored, with a DICOMDIR or without.

Rules: nothing is decoded or encoded again; a copy is held against the digest that was taken when the object came; an
object that cannot be exported fails alone, by name; what is given up in the middle leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Final

from dulcet.archive.attributes import STUDY
from dulcet.archive.file_set import DirectoryWriter
from dulcet.archive.identity import Kept
from dulcet.archive.index import Index
from dulcet.archive.matching import OneOf, Query
from dulcet.archive.objects import Objects
from dulcet.errors import InstanceError
from dulcet.part10.header import Header
from dulcet.part10.scanner import scan
from dulcet.part10.sources import FileSource
from dulcet.services.models import OBJECT_CLASSES

__all__ = ["Exported", "export", "study"]

PIECE: Final = 1 << 20
DIRECTORY: Final = "DICOMDIR"
PARTIAL: Final = ".partial"


@dataclass(slots=True)
class Exported:
    """What an export has done."""

    count: int = 0
    """Objects in the folder."""
    failures: list[str] = field(default_factory=list)
    """Why others are not there, each with its SOP Instance UID."""
    invented: Counter[str] = field(default_factory=Counter)
    """Values that the DICOMDIR had to have and the objects lack, by keyword; the objects are as they were."""


def study(index: Index, uid: str) -> Iterator[Kept]:
    """The instances of the study that has this UID; or the object of no patient whose SOP Instance UID it is."""
    yield from index.select(Query(STUDY, [OneOf("StudyInstanceUID", (uid,))]))
    yield from index.of_no_patient(OBJECT_CLASSES, (uid,))


def export(chosen: Iterable[Kept], objects: Objects, to: Path, *, directory: bool = True) -> Exported:
    """Copy objects into `to`, a folder that is empty or is made; with a DICOMDIR unless `directory` is False.

    With it files bear names that media allow (PS3.10 section 8.2), without it their UIDs, in folders by study and
    series.  OSError when the folder takes no more: then what was copied is removed, and the folder too if it was made.
    """
    exported = Exported()
    writer = DirectoryWriter() if directory else None
    with _all_or_nothing(to) as made:
        for kept in chosen:
            try:
                wanted = None if writer is None else writer.wanted(kept.sop_class_uid)
                header = _copy(kept, objects, made.partial, wanted)
                path: tuple[str, ...] = (kept.object,)
                if writer is not None and header is not None:
                    path = writer.add(header, kept.sop_class_uid, kept.sop_instance_uid, kept.transfer_syntax)
            except InstanceError as error:
                exported.failures.append(f"{kept.sop_instance_uid}: {error}")
            else:
                made.take("/".join(path))
                exported.count += 1
        if writer is not None and exported.count:
            made.partial.write_bytes(writer.encode())
            made.take(DIRECTORY)
            exported.invented = writer.invented
    return exported


class _Made:
    """What an export has put into its folder."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.partial: Path = to / PARTIAL
        """Where a copy lies until it is whole."""
        self.paths: list[Path] = []

    def take(self, relative: str) -> None:
        """Give the copy its name."""
        target = self.to / relative
        for folder in reversed(target.parents[: len(Path(relative).parts) - 1]):
            if not folder.exists():
                folder.mkdir()
                self.paths.append(folder)
        self.partial.rename(target)
        self.paths.append(target)


@contextlib.contextmanager
def _all_or_nothing(to: Path) -> Iterator[_Made]:
    """Remove everything again when it is given up, whatever the reason."""
    existed = to.exists()
    to.mkdir(parents=True, exist_ok=True)
    made = _Made(to)
    try:
        yield made
    except BaseException:
        for path in reversed(made.paths):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
    finally:
        made.partial.unlink(missing_ok=True)
        if not existed:
            with contextlib.suppress(OSError):  # there is something in it
                to.rmdir()


def _copy(kept: Kept, objects: Objects, target: Path, wanted: frozenset[int] | None) -> Header | None:
    """Copy an object and hold it against its digest; with `wanted`, the values of its header.

    InstanceError when it cannot be read or is not what was stored; OSError when `target` cannot be written.
    """
    path = objects.path(kept.object)
    try:
        source = path.open("rb", buffering=0)
    except OSError as error:
        raise InstanceError(f"cannot be read: {error.strerror}", path) from error
    with source, target.open("wb", buffering=0) as copy:
        digest, at = hashlib.sha256(), 0
        while piece := _read(source, path):
            digest.update(memoryview(piece)[max(0, kept.offset - at) :])
            at += len(piece)
            view = memoryview(piece)
            while view:
                view = view[copy.write(view) :]
        if digest.digest() != kept.digest:
            raise InstanceError("is not what was stored: its bytes have changed on the disk; send it again", path)
        if wanted is None:
            return None
        return scan(FileSource(source, kept.offset, kept.length), kept.transfer_syntax, wanted=wanted)


def _read(source: RawIOBase, path: Path) -> bytes:
    try:
        return source.read(PIECE) or b""
    except OSError as error:
        raise InstanceError(f"cannot be read: {error.strerror}", path) from error
