"""A folder that keeps what is received, each data set bit for bit behind our own file meta.

Rules: nothing bears its final name before it is whole and, unless told otherwise, on stable storage; names are made
here, never taken over (a valid UID or a digest, no separators); the same instance again is kept once, another one of
the same name beside it; what a crash left half-written is swept at the next start.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, Literal, Self

from dulcet.dimse.status import Status
from dulcet.errors import InstanceError, ReceiveError
from dulcet.io.durable_file import DurableFile, give_name, refused, sync_folder
from dulcet.io.layout import DEFAULT_LAYOUT, PARTIAL, SOP_INSTANCE, Layout
from dulcet.io.verdict import check_announced, empty, refusal
from dulcet.log_codes import coded
from dulcet.part10.file_meta import encode_file_meta
from dulcet.part10.header import Header
from dulcet.part10.location import locate_path
from dulcet.part10.sources import ScanError
from dulcet.part10.walk import whole

try:
    import fcntl

    _fcntl: ModuleType | None = fcntl
except ImportError:  # Windows
    _fcntl = None

__all__ = ["DEFAULT_LAYOUT", "IncomingFile", "Layout", "StoreDirectory"]

log: Final = logging.getLogger("dulcet.store")
"""Names instances by UID and place in the folder's root; paths may hold patient data, so they are not logged."""

Durability = Literal["fsync", "none"]

COMPARED: Final = 1 << 20
MAX_BESIDE: Final = 1000


class StoreDirectory:
    """A folder to receive into; safe for several threads, and for several processes at once."""

    def __init__(
        self, path: str | os.PathLike[str], *, layout: str = DEFAULT_LAYOUT, durability: Durability = "fsync"
    ) -> None:
        """Make the folder `path` and sweep what crashed processes left in it; OSError when it cannot be written to.

        `layout` names the files: a relative path with `{Keyword}` for elements of the top level, `{SOPInstanceUID}`
        among them; ValueError says which part of it does not do.  With the `durability` "none" a power cut may lose
        what was acknowledged; "fsync" has it on stable storage first.
        """
        self.path: Path = Path(path)
        self.layout: Layout = Layout(layout)
        self.durable: bool = durability == "fsync"
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        if self.durable:
            for folder in missing:
                sync_folder(folder.parent)
        self.swept: int = 0
        """How many partial files of crashed processes were removed at the start."""
        self._numbers = itertools.count()
        self._prefix = f"{self.path}{os.sep}"
        self._known: set[str] = {str(self.path)}  # folders that exist and whose names are durable
        self._threads = threading.Lock()
        self._lock: int | None = None
        with _exclusive(self.path):
            self.swept = self._sweep()
            self._begin_session()
        if self.swept:
            log.warning("removed %d partial files that a crash left behind", self.swept, extra=coded("DUL401"))

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> IncomingFile:
        """Start an instance, as its C-STORE-RQ announces it; ReceiveError (A700H) when no file can be made.

        `sop_class_uid`, `sop_instance_uid` and `transfer_syntax` go into its file meta (PS3.10 section 7.1), and so
        does `source_ae_title`, that of the sender, unless it is empty.
        """
        meta = encode_file_meta(sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title=source_ae_title)
        number = next(self._numbers)
        try:
            path = f"{self._session}{os.sep}{number}"
            try:
                file = DurableFile(path, self.path, durable=self.durable)
            except FileNotFoundError:  # somebody emptied the folder under us
                self._resume_session()
                path = f"{self._session}{os.sep}{number}"
                file = DurableFile(path, self.path, durable=self.durable)
        except OSError as error:
            raise refused(self.path, error) from error
        return IncomingFile(self, file, meta, sop_class_uid, sop_instance_uid, transfer_syntax)

    def close(self) -> None:
        """Give up this process's partial folder; nothing to do the second time."""
        with self._threads, _exclusive(self.path):
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            shutil.rmtree(self._session, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self.path / PARTIAL).rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_session(self) -> None:
        """A folder for our partial files, with a lock that shows that we live."""
        self._session = self.path / PARTIAL / secrets.token_hex(8)
        self._session.mkdir(parents=True)
        self._lock = _lock(self._session, create=True)

    def _resume_session(self) -> None:
        with self._threads:
            if self._session.is_dir():
                return
            self.path.mkdir(parents=True, exist_ok=True)
            with _exclusive(self.path):
                if self._lock is not None:
                    os.close(self._lock)
                self._begin_session()

    def _sweep(self) -> int:
        """Remove the partial folders of processes that are gone."""
        swept = 0
        partial = self.path / PARTIAL
        for session in list(partial.iterdir()) if partial.is_dir() else ():
            if session.is_symlink() or not session.is_dir():
                continue
            lock = _lock(session, create=False)
            if lock is None and _fcntl is not None and (session / "lock").exists():
                continue  # a living process works in there
            swept += sum(1 for file in session.iterdir() if file.name != "lock")
            shutil.rmtree(session, ignore_errors=True)
            if lock is not None:
                os.close(lock)
        return swept

    def _place(self, incoming: IncomingFile, relative: str) -> Path:
        """Give a whole file its final name, never another file's."""
        target = final = f"{self._prefix}{relative}"
        folder = os.path.dirname(final) if os.sep in relative else str(self.path)
        if folder not in self._known:
            self._make(Path(folder))
        for attempt in range(MAX_BESIDE):
            if attempt:
                target = _beside(final, attempt)
            try:
                placed = self._put(incoming.partial, target)
            except FileNotFoundError:  # somebody removed the folder since it was made
                self._known = {str(self.path)}
                self._make(Path(folder))
                placed = self._put(incoming.partial, target)
            if not placed and not _same_data_set(target, incoming):
                continue
            if self.durable:  # also where another one put it there: it may not have come so far yet
                sync_folder(folder)
            if placed and attempt:
                log.warning(
                    "%s came with other content than before; kept beside it", ascii(incoming.sop_instance_uid),
                    extra=coded("DUL402"),
                )  # fmt: skip
            incoming.is_new = placed
            return Path(target) if attempt else self.path / relative  # shorter text is taken apart in less time
        raise ReceiveError(
            f"{incoming.sop_instance_uid}: {MAX_BESIDE} different instances of this UID are there already",
            Status.CANNOT_UNDERSTAND,
            comment=f"{MAX_BESIDE} different instances of this UID are there already",
            offending=(SOP_INSTANCE,),
        )

    def _put(self, partial: str, target: str) -> bool:
        """Give a file a name that is free; where it has to be moved, nobody else may take that meanwhile."""
        return give_name(partial, target, self._alone)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._threads, _exclusive(self.path):
            yield

    def _make(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.durable:
            for made in itertools.takewhile(lambda made: str(made) not in self._known, (folder, *folder.parents)):
                sync_folder(made.parent)
        self._known.add(str(folder))


class IncomingFile:
    """An instance on its way to its place: `write` pieces, then `commit`, or `discard`."""

    __slots__ = (
        "_directory",
        "_file",
        "_meta",
        "_walk",
        "is_new",
        "offset",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax",
    )

    def __init__(
        self,
        directory: StoreDirectory,
        file: DurableFile,
        meta: bytes,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax: str,
    ) -> None:
        self._directory = directory
        self._file = file
        self._meta = meta
        self._walk = whole(transfer_syntax, directory.layout.wanted)
        self.offset: int = len(meta)
        """Where the data set begins in the file."""
        self.sop_class_uid: str = sop_class_uid
        self.sop_instance_uid: str = sop_instance_uid
        self.transfer_syntax: str = transfer_syntax
        self.is_new: bool = False
        """True once it was committed to a file of its own; False also where the same instance lay there before."""

    def write(self, data: memoryview) -> None:
        """Append a piece of the data set; ReceiveError: A700H when the disk does not take it, C000H as in `commit`."""
        try:
            self._walk.feed(data)
        except ScanError as error:
            raise refusal(error) from error
        if self._meta:  # the first piece leaves with the file meta in one call
            meta, self._meta = self._meta, b""
            self._file.write(meta, data)
        else:
            self._file.write(data)

    @property
    def partial(self) -> str:
        """Where it lies until it has its name."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the data set so far."""
        return self._file.size and self._file.size - self.offset

    def commit(self, check: Callable[[Header], None] | None = None) -> Path:
        """Check the identity, make it durable and give it its name; where it lies now.

        ReceiveError, with nothing kept: A900H when class or instance UID are not those of the request, C000H when the
        data set does not read as one or does not say its class and instance, A700H when the disk fails.
        """
        directory = self._directory
        try:
            header = self._header()
            if check is not None and header is not None:
                check(header)
            relative = directory.layout.text(header, self.sop_instance_uid)
            self._file.sync()
            self._file.close()
            return directory._place(self, relative)
        except OSError as error:
            raise refused(directory.path, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove it, unless it has its final name already; may be called again."""
        self._file.discard()

    def _header(self) -> Header | None:
        """The elements that identify and name it; None in a transfer syntax that nobody knows how to read."""
        if not self.size:
            raise empty()
        try:
            header = self._walk.finish()
        except ScanError as error:
            raise refusal(error) from error
        if self._walk.opaque:
            return None
        check_announced(header, self.sop_class_uid, self.sop_instance_uid)
        return header


def _beside(final: str, attempt: int) -> str:
    """The name of another instance that came under the same UID."""
    path = Path(final)
    # Names that end in a UID have no suffix, though the UID has dots.
    suffix = path.suffix if not path.suffix[1:].isdigit() else ""
    return str(path.with_name(f"{path.name.removesuffix(suffix)}~{attempt}{suffix}"))


def _same_data_set(existing: str, incoming: IncomingFile) -> bool:
    try:
        location = locate_path(existing)
    except InstanceError:
        return False
    if location.length != incoming.size or location.transfer_syntax != incoming.transfer_syntax:
        return False
    with open(existing, "rb") as one, open(incoming.partial, "rb") as other:
        one.seek(location.offset)
        other.seek(incoming.offset)
        while piece := one.read(COMPARED):
            if piece != other.read(len(piece)):
                return False
    return True


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from sweeping, beginning and ending in this folder meanwhile, where the system can."""
    file = None
    if _fcntl is not None:
        with contextlib.suppress(OSError):
            file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        if file is not None:
            with contextlib.suppress(OSError):  # a network file system may not lock a folder
                _fcntl.flock(file, _fcntl.LOCK_EX)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def _lock(session: Path, *, create: bool) -> int | None:
    """A descriptor that holds the session's lock, None when another process has it or there is none."""
    if _fcntl is None:
        return None
    try:
        file = os.open(session / "lock", os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o644)
    except OSError:
        return None
    try:
        _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
