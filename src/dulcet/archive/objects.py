"""Where the objects lie: files in folders named by study and series, which a human can read.

    objects/<Study Instance UID>/<Series Instance UID>/<SOP Instance UID>.dcm
    objects/non-patient/<information model>/<SOP Instance UID>.dcm

Rules: an object bears its name once it is whole and on stable storage, and never another object's; names are made here,
of valid UIDs or digests; until its row is committed an object keeps a second name among the unfinished ones, so that
what a crash interrupted is found without a look at all the others.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from dulcet.archive.identity import Identity
from dulcet.io.durable_file import DurableFile, give_name, refused, sync_folder
from dulcet.part10.file_meta import safe_name

__all__ = ["FileObjects", "Objects", "has_mark", "key_of", "mark_of"]

FOLDER: Final = 0o750
FILE: Final = 0o640
"""Modes of what is made, less what the umask takes: others of the machine see nothing of what the archive keeps."""
SUFFIX: Final = ".dcm"
OF_NO_PATIENT: Final = "non-patient"
"""No name that `safe_name` gives."""
REMEMBERED: Final = 4096
"""Folders known to exist; one that was forgotten is made sure of again."""
TRIES: Final = 100
"""Times that a folder is made for one object: others remove it while it is empty, each once for each of their own."""


def key_of(identity: Identity, mark: str = "") -> str:
    """The key of an instance; with a `mark` that of another data set of its UID."""
    if identity.model is not None:
        parent = f"{OF_NO_PATIENT}/{identity.model.name}"
    else:
        parent = f"{safe_name(identity.study_instance_uid)}/{safe_name(identity.series_instance_uid)}"
    return f"{parent}/{safe_name(identity.sop_instance_uid)}{'~' if mark else ''}{mark}{SUFFIX}"


def mark_of(digest: bytes) -> str:
    """What tells data sets of one UID apart."""
    return digest.hex()[:16]


def has_mark(key: str) -> bool:
    """Does this key tell an object from another one of its UID that came before?"""
    return "~" in key.rpartition("/")[2]  # no name of a UID has one


class Objects(Protocol):
    """Keeps objects by key; safe for any number of threads.  ReceiveError (A700H) when the storage fails."""

    traceable: bool
    """True when `interrupted` finds every object that a crash left between its key and its row."""

    def begin(self) -> DurableFile:
        """A new object, to be written."""

    def place(self, unfinished: DurableFile, key: str) -> bool:
        """Give a whole object its key; False when another object has it.  Not durable before `settle`."""

    def settle(self, keys: Iterable[str]) -> None:
        """Make the keys durable."""

    def path(self, key: str) -> Path:
        """Where an object can be read."""

    def remove(self, key: str) -> None:
        """Forget an object; nothing to do when it is not there."""

    def tidy(self, key: str) -> None:
        """Remove what was made to hold this object, where it holds nothing."""

    def listing(self, within: str = "") -> Iterator[str]:
        """Every object that is there; `within` one study alone, by the first part of its keys."""

    def interrupted(self) -> Iterator[Path]:
        """What a crash left unfinished; each may have its key already."""


class FileObjects:
    """`Objects` in a file system."""

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True, number: int | None = None) -> None:
        """Make the folders; OSError when they cannot be written to.

        One process at a time, as the archive sees to; or one for each `number`, whose unfinished names tell it.
        """
        self.root: Path = Path(root)
        self.durable = durable
        self._objects = self.root / "objects"
        self._partial = self.root / "partial"
        self._numbers = itertools.count()
        self._folders: dict[str, _Folder] = {}
        """Folders that exist, those that hold them included."""
        self._moments = itertools.count(1)
        self._placed: dict[str, int] = {}
        """When each key was placed that is still to be settled."""
        self._noting = threading.Lock()
        self._shaping = threading.Lock()
        """Held while folders are made and noted, or removed and forgotten."""
        for folder in (self._objects, self._partial):
            folder.mkdir(FOLDER, parents=True, exist_ok=True)
        if durable:
            for folder in (self._objects, self._partial, self.root, *self.root.resolve().parents[:1]):
                sync_folder(str(folder))
        self._number = "" if number is None else f"worker{number}-"
        self._prefix = f"{self._number}{os.getpid()}-{os.urandom(4).hex()}"
        self.traceable: bool = self._links()

    def _links(self) -> bool:
        """Can a file have two names here?"""
        probe, second = (self._partial / f"{self._prefix}-{name}" for name in ("probe", "second"))
        try:
            probe.touch()
            os.link(probe, second)
        except OSError:
            return False
        finally:
            for path in (probe, second):
                with contextlib.suppress(OSError):
                    path.unlink()
        return True

    def begin(self) -> DurableFile:
        """A new object, to be written."""
        path = f"{self._partial}/{self._prefix}-{next(self._numbers)}"
        try:
            try:
                return DurableFile(path, self.root, durable=self.durable, mode=FILE)
            except FileNotFoundError:  # somebody emptied the folder under us
                self._partial.mkdir(FOLDER, parents=True, exist_ok=True)
                return DurableFile(path, self.root, durable=self.durable, mode=FILE)
        except OSError as error:
            raise refused(self.root, error) from error

    def place(self, unfinished: DurableFile, key: str) -> bool:
        """Give a whole object its key; False when another object has it.  Not durable before `settle`."""
        parent = os.path.dirname(key)
        folder, target = f"{self._objects}/{parent}", f"{self._objects}/{key}"
        known = self._folders.get(folder)
        try:
            for _ in range(TRIES):
                if known is None:
                    known = self._make(parent)
                try:
                    placed = give_name(unfinished.path, target)
                except FileNotFoundError:  # somebody removed the folder since it was made
                    known = None
                    continue
                if self._folders.get(folder) is known:
                    break
                # Removed and made again meanwhile, maybe not yet noted by who made it: we see to it ourselves.
                known = self._make(parent)
                break
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError as error:
            raise refused(self.root, error) from error
        if not placed:
            return False
        self._placed[key] = self._note(folder)
        return True

    def _make(self, parent: str) -> _Folder:
        """The folders of a study and of a series in it."""
        with self._shaping:
            _make(f"{self._objects}/{parent}")
            if len(self._folders) >= REMEMBERED:
                with self._noting:
                    for path, folder in list(self._folders.items()):
                        if folder.changed <= folder.synced or not self.durable:
                            del self._folders[path]
            above = str(self._objects)
            for name in parent.split("/"):
                self._note(above)
                above = f"{above}/{name}"
            return self._folders.setdefault(above, _Folder())

    def _note(self, folder: str) -> int:
        """Something was put into a folder before this moment."""
        with self._noting:
            moment = next(self._moments)
            self._folders.setdefault(folder, _Folder()).changed = moment
            return moment

    def settle(self, keys: Iterable[str]) -> None:
        """Make the keys durable: the folders that hold them, and those that hold the folders where they are new."""
        for key in keys:
            moment = self._placed.pop(key, None) or next(self._moments)
            folder = f"{self._objects}/{os.path.dirname(key)}"
            if self.durable:
                for path in (folder, os.path.dirname(folder), str(self._objects)):
                    self._sync(path, moment)

    def _sync(self, path: str, moment: int) -> None:
        """See to it that all that was in a folder at that moment is on stable storage.

        Those who come while another one is at it wait: what they put there is in time for the next go, one for all.
        When it fails it has failed for whatever was there, for nobody knows what a second try would be worth.
        """
        folder = self._folders.get(path)
        if folder is None:
            return
        with folder.lock:
            if folder.failed >= moment and folder.failure is not None:
                raise refused(self.root, folder.failure) from folder.failure
            if folder.changed <= folder.synced:
                return
            now = next(self._moments)
            try:
                sync_folder(path)
            except OSError as error:
                folder.failure, folder.failed = error, next(self._moments)
                raise refused(self.root, error) from error
            folder.synced = now

    def path(self, key: str) -> Path:
        """Where an object can be read."""
        return self._objects / key

    def remove(self, key: str) -> None:
        """Forget an object; nothing to do when it is not there."""
        self._placed.pop(key, None)
        with contextlib.suppress(OSError):
            os.unlink(self._objects / key)
        self.tidy(key)

    def tidy(self, key: str) -> None:
        """Remove the folders of series and study where nothing is in them.

        Where several processes place objects they stay, up to `tidy_all`: what another one remembers of them would no
        longer be so.
        """
        if self._number:
            return
        parent = os.path.dirname(key)
        with self._shaping, contextlib.suppress(OSError):
            while parent:
                os.rmdir(f"{self._objects}/{parent}")  # fails where something is in it
                self._folders.pop(f"{self._objects}/{parent}", None)
                parent = os.path.dirname(parent)

    def tidy_all(self) -> None:
        """Remove every folder in which nothing is; nobody else may work in them."""
        for folder, _, _ in os.walk(self._objects, topdown=False):
            if folder != str(self._objects):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)  # fails where something is in it

    def listing(self, within: str = "") -> Iterator[str]:
        """Every object that is there, by the order of names within each folder; `within` one study's folder alone."""
        for folder, folders, names in os.walk(self._objects / within):
            folders.sort()
            for name in sorted(names):
                yield os.path.relpath(os.path.join(folder, name), self._objects)

    def interrupted(self) -> Iterator[Path]:
        """What a crash left unfinished; each may have its key already.  Each of several workers finds its own."""
        for path in sorted(self._partial.iterdir()):
            if path.name.startswith(self._number) and not path.name.startswith(self._prefix):
                yield path


@dataclass(slots=True, eq=False)
class _Folder:
    """When something was put into a folder, and what is known of that on stable storage; moments are counted."""

    changed: int = 0
    synced: int = 0
    failed: int = 0
    failure: OSError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def _make(folder: str) -> None:
    """A folder and those above it, unless they are there; `makedirs` gives its mode to the last one alone."""
    try:
        os.mkdir(folder, FOLDER)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    except FileNotFoundError:
        _make(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, FOLDER)
