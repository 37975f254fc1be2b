"""A folder that keeps what is received, each data set bit for bit behind our own file meta.

Rules: nothing bears its final name before it is whole and, unless told otherwise, on stable storage; names are made
here, never taken over (a valid UID or a digest, no separators); the same instance again is kept once, another one of
the same name beside it; what a crash left half-written is swept at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import secrets
import shutil
import string
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, Literal, Self

from dulcet.dimse.status import Status
from dulcet.errors import InstanceError, ReceiveError
from dulcet.io.verdict import empty, refusal
from dulcet.log_codes import coded
from dulcet.part10.file_meta import encode_file_meta, safe_name
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

DEFAULT_LAYOUT: Final = "{SOPInstanceUID}.dcm"
PARTIAL: Final = ".partial"
"""Files on their way lie in this folder of the store directory, one folder a process."""

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
VALUE_LENGTHS: Final = (64, 32, 16, 8)
"""Characters of a header value in a name: the most that leave the name short enough."""
UID_LENGTH: Final = 64
NAME_LENGTH: Final = 240
"""Bytes of a file or folder name; file systems take 255, and `~999` may be put behind it."""
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")
COMPARED: Final = 1 << 20
MAX_BESIDE: Final = 1000

OUT_OF_SPACE: Final = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG))
WITHOUT_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK))
"""What a file system without hard links answers."""
O_READ_WRITE: Final = (
    os.O_RDWR | os.O_CREAT | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip


class Layout:
    """How files are named: a relative path with `{Keyword}` for the value of a top-level element."""

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """Raises ValueError that says which part of `template` does not do."""
        self.template = template
        self._parts: list[list[tuple[str, str | None]]] = []
        self._tags: dict[str, int] = {}
        for part in template.split("/"):
            if part.strip() in ("", ".", ".."):
                raise ValueError(f"layout {template!r} must be a relative path without empty parts, '.' and '..'")
            fields = self._fields(part)
            self._parts.append(fields)
            longest = sum(
                len(text.encode()) + (0 if name is None else UID_LENGTH if name.endswith("UID") else VALUE_LENGTHS[-1])
                for text, name in fields
            )
            if longest > NAME_LENGTH:
                raise ValueError(f"layout {template!r}: {part!r} may become longer than {NAME_LENGTH} bytes; split it")
        if not self._tags.keys() & {"SOPInstanceUID"}:
            raise ValueError(f"layout {template!r} must contain {{SOPInstanceUID}}, or instances would share a name")
        self.wanted: frozenset[int] = frozenset(self._tags.values()) | {SOP_CLASS, SOP_INSTANCE}

    def _fields(self, part: str) -> list[tuple[str, str | None]]:
        fields: list[tuple[str, str | None]] = []
        try:
            parsed = list(string.Formatter().parse(part))
        except ValueError as error:
            raise ValueError(f"layout {self.template!r}: {error}") from None
        for literal, name, spec, conversion in parsed:
            if spec or conversion:
                raise ValueError(f"layout {self.template!r}: {{{name}}} takes no format")
            if "\\" in literal or not literal.isprintable():
                raise ValueError(f"layout {self.template!r} holds a character that a file name cannot have")
            if name is not None:
                if not name:
                    raise ValueError(f"layout {self.template!r}: {{}} names nothing, as {{StudyInstanceUID}} does")
                self._tags[name] = self._tag(name)
            fields.append((literal, name))
        return fields

    def _tag(self, keyword: str) -> int:
        known = {"SOPInstanceUID": SOP_INSTANCE, "SOPClassUID": SOP_CLASS}
        if keyword in known:
            return known[keyword]
        from pydicom.datadict import tag_for_keyword

        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"layout {self.template!r}: {keyword!r} is no DICOM keyword, as StudyInstanceUID is one")
        return tag

    def path(self, header: Header | None, sop_instance_uid: str) -> Path:
        """The relative path of an instance; without a header, what is not known is "unknown"."""
        return Path(self.text(header, sop_instance_uid))

    def text(self, header: Header | None, sop_instance_uid: str) -> str:
        """The same as text: a Path costs as much as the file's name."""
        if self.template == DEFAULT_LAYOUT:
            return f"{safe_name(sop_instance_uid)}.dcm"

        def value(keyword: str, length: int) -> str:
            if keyword == "SOPInstanceUID":
                return safe_name(sop_instance_uid)
            text = header.text(self._tags[keyword]) if header is not None else ""
            if keyword.endswith("UID") and text:
                return safe_name(text)
            return NOT_IN_NAMES.sub("_", text)[:length].strip("_") or "unknown"

        def joined(fields: list[tuple[str, str | None]], length: int) -> str:
            return "".join(text + (value(keyword, length) if keyword is not None else "") for text, keyword in fields)

        def name(fields: list[tuple[str, str | None]]) -> str:
            tries = (joined(fields, length) for length in VALUE_LENGTHS)
            return next(made for made in tries if len(made.encode()) <= NAME_LENGTH)  # the layout sees to it

        names = [name(fields) for fields in self._parts]
        if names[0].casefold() == PARTIAL:  # a value may have made it so; what lies there is swept
            names[0] = f"_{names[0]}"
        return os.sep.join(names)


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
                _sync_folder(folder.parent)
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
                file = os.open(path, O_READ_WRITE, 0o666)
            except FileNotFoundError:  # somebody emptied the folder under us
                self._resume_session()
                path = f"{self._session}{os.sep}{number}"
                file = os.open(path, O_READ_WRITE, 0o666)
        except OSError as error:
            raise self._refusal(error) from error
        return IncomingFile(self, file, path, meta, sop_class_uid, sop_instance_uid, transfer_syntax)

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
                _sync_folder(folder)
            if placed and attempt:
                log.warning(
                    "%s came with other content than before; kept beside it", ascii(incoming.sop_instance_uid),
                    extra=coded("DUL402"),
                )  # fmt: skip
            incoming.is_new = placed
            return Path(target)
        raise ReceiveError(
            f"{incoming.sop_instance_uid}: {MAX_BESIDE} different instances of this UID are there already",
            Status.CANNOT_UNDERSTAND,
            comment=f"{MAX_BESIDE} different instances of this UID are there already",
            offending=(SOP_INSTANCE,),
        )

    def _put(self, partial: str, target: str) -> bool:
        """Give a file a name that is free, its partial one may stay for `discard`; False when it is taken."""
        try:
            os.link(partial, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            with self._threads, _exclusive(self.path):  # nobody may take the name between the look and the move
                if os.path.lexists(target):
                    return False
                os.rename(partial, target)
        return True

    def _make(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.durable:
            for made in itertools.takewhile(lambda made: str(made) not in self._known, (folder, *folder.parents)):
                _sync_folder(made.parent)
        self._known.add(str(folder))

    def _refusal(self, error: OSError) -> ReceiveError:
        what = error.strerror or str(error)
        cure = "free some space" if error.errno in OUT_OF_SPACE else "check the folder and its permissions"
        return ReceiveError(
            f"cannot write in {self.path}: {what}; {cure}", Status.OUT_OF_RESOURCES, comment=f"cannot write: {what}"
        )


class IncomingFile:
    """An instance on its way to its place: `write` pieces, then `commit`, or `discard`."""

    __slots__ = (
        "_directory",
        "_file",
        "_meta",
        "_walk",
        "is_new",
        "offset",
        "partial",
        "size",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax",
    )

    def __init__(
        self,
        directory: StoreDirectory,
        file: int,
        partial: str,
        meta: bytes,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax: str,
    ) -> None:
        self._directory = directory
        self._file = file
        self.partial: str = partial
        """Where it lies until it has its name."""
        self._meta = meta
        self._walk = whole(transfer_syntax, directory.layout.wanted)
        self.offset: int = len(meta)
        """Where the data set begins in the file."""
        self.size: int = 0
        """Bytes of the data set so far."""
        self.sop_class_uid: str = sop_class_uid
        self.sop_instance_uid: str = sop_instance_uid
        self.transfer_syntax: str = transfer_syntax
        self.is_new: bool = False
        """True once it was committed to a file of its own; False also where the same instance lay there before."""

    def write(self, data: memoryview) -> None:
        """Append a piece of the data set; ReceiveError: A700H when the disk does not take it, C000H as in `commit`."""
        try:
            self._walk.feed(data)
            if self._meta:
                # The first piece leaves with the file meta in one call.
                meta, self._meta = self._meta, b""
                count = os.writev(self._file, (meta, data)) if hasattr(os, "writev") else os.write(self._file, meta)
                done = count - len(meta)
                if done < 0:
                    _write_all(self._file, memoryview(meta)[count:])
                    done = 0
            else:
                done = os.write(self._file, data)
            if done < len(data):
                _write_all(self._file, data[done:])
        except OSError as error:
            raise self._directory._refusal(error) from error
        except ScanError as error:
            raise refusal(error) from error
        self.size += len(data)

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
            if directory.durable:
                os.fsync(self._file)  # fails once and for all: the file is discarded, not tried again
            self._close()
            return directory._place(self, relative)
        except OSError as error:
            raise directory._refusal(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove it, unless it has its final name already; may be called again."""
        self._close()
        partial, self.partial = self.partial, ""
        if partial:
            with contextlib.suppress(OSError):
                os.unlink(partial)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

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
        for tag, announced, what in (
            (SOP_CLASS, self.sop_class_uid, "SOP Class UID"),
            (SOP_INSTANCE, self.sop_instance_uid, "SOP Instance UID"),
        ):
            found = header.uid(tag)
            if not found or len(found) > UID_LENGTH:
                # It could not be sent again: an archive refuses it, and so do others.
                why = "the data set has none" if not found else f"more than {UID_LENGTH} characters"
                raise ReceiveError(
                    f"{what}: {why}", Status.CANNOT_UNDERSTAND, comment=f"{what}: {why}", offending=(tag,)
                )
            if found != announced:
                raise ReceiveError(
                    f"{what} {found} in the data set, {announced} in the request",
                    Status.DATA_SET_MISMATCH,
                    comment=f"{what} of data set and request differ",
                    offending=(tag,),
                )
        return header


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


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


def _sync_folder(folder: str | os.PathLike[str]) -> None:
    if os.name != "posix":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


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
