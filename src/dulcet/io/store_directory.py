"""A folder that keeps what is received, each data set bit for bit behind our own file meta.

Rules: nothing bears its final name before it is whole and, unless told otherwise, on stable storage; names are made
here, never taken over (a valid UID or a digest, no separators); the same instance again is kept once, another one of
the same name beside it; what a crash left half-written is swept at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final, Literal

from dulcet import uids
from dulcet.dimse.status import Status
from dulcet.errors import InstanceError, ReceiveError
from dulcet.part10.file_meta import encode_file_meta, safe_name
from dulcet.part10.header import Header
from dulcet.part10.location import locate_path
from dulcet.part10.scanner import scan

try:
    import fcntl

    _fcntl: ModuleType | None = fcntl
except ImportError:  # Windows
    _fcntl = None

__all__ = ["DEFAULT_LAYOUT", "IncomingFile", "Layout", "StoreDirectory"]

Durability = Literal["fsync", "none"]

DEFAULT_LAYOUT: Final = "{SOPInstanceUID}.dcm"
PARTIAL: Final = ".partial"
"""Files on their way lie in this folder of the store directory, one folder a process."""

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
NAME_LENGTH: Final = 64
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")
COMPARED: Final = 1 << 20
MAX_BESIDE: Final = 1000

OUT_OF_SPACE: Final = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG))
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
            self._parts.append(self._fields(part))
        if not self._tags.keys() & {"SOPInstanceUID"}:
            raise ValueError(f"layout {template!r} must contain {{SOPInstanceUID}}, or instances would share a name")
        self.wanted = frozenset(self._tags.values()) | {SOP_CLASS, SOP_INSTANCE}

    def _fields(self, part: str) -> list[tuple[str, str | None]]:
        fields: list[tuple[str, str | None]] = []
        for literal, name, spec, conversion in string.Formatter().parse(part):
            if spec or conversion:
                raise ValueError(f"layout {self.template!r}: {{{name}}} takes no format")
            if "\0" in literal or "\\" in literal:
                raise ValueError(f"layout {self.template!r} holds a character that a file name cannot have")
            if name is not None:
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

        def value(keyword: str) -> str:
            if keyword == "SOPInstanceUID":
                return safe_name(sop_instance_uid)
            text = header.text(self._tags[keyword]) if header is not None else ""
            if keyword.endswith("UID") and text:
                return safe_name(text)
            return NOT_IN_NAMES.sub("_", text)[:NAME_LENGTH].strip("_") or "unknown"

        return Path(
            *("".join(text + (value(name) if name is not None else "") for text, name in part) for part in self._parts)
        )


class StoreDirectory:
    """A folder to receive into; safe for several threads, and for several processes at once."""

    def __init__(
        self, path: str | os.PathLike[str], *, layout: str = DEFAULT_LAYOUT, durability: Durability = "fsync"
    ) -> None:
        """Make the folder and sweep what crashed processes left in it; OSError when it cannot be written to."""
        self.path = Path(path)
        self.layout = Layout(layout)
        self.durable = durability == "fsync"
        self.path.mkdir(parents=True, exist_ok=True)
        self.swept = self._sweep()
        """How many partial files of crashed processes were removed at the start."""
        self._session = self.path / PARTIAL / secrets.token_hex(8)
        self._session.mkdir(parents=True)
        self._lock = _lock(self._session)
        self._numbers = itertools.count()
        self._known: set[Path] = {self.path}  # folders that exist and whose names are durable

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> IncomingFile:
        """Start an instance, as its C-STORE-RQ announces it; ReceiveError (A700H) when no file can be made."""
        meta = encode_file_meta(sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title=source_ae_title)
        path = self._session / str(next(self._numbers))
        try:
            file = os.open(path, O_READ_WRITE, 0o644)
        except OSError as error:
            raise _refusal(error, path) from error
        return IncomingFile(self, file, path, meta, sop_class_uid, sop_instance_uid, transfer_syntax)

    def close(self) -> None:
        """Give up this process's partial folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._session, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.path / PARTIAL).rmdir()

    def _sweep(self) -> int:
        """Remove the partial folders of processes that are gone."""
        swept = 0
        partial = self.path / PARTIAL
        for session in partial.iterdir() if partial.is_dir() else ():
            lock = _lock(session, create=False)
            if lock is None and _fcntl is not None and (session / "lock").exists():
                continue  # a living process works in there
            swept += sum(1 for file in session.iterdir() if file.name != "lock")
            shutil.rmtree(session, ignore_errors=True)
            if lock is not None:
                os.close(lock)
        return swept

    def _place(self, incoming: IncomingFile, relative: Path) -> Path:
        """Give a whole file its final name, never another file's."""
        final = self.path / relative
        if final.parent not in self._known:
            self._make(final.parent)
        for attempt in range(MAX_BESIDE):
            target = final if not attempt else final.with_name(f"{final.stem}~{attempt}{final.suffix}")
            if _put(incoming.partial, target):
                if self.durable:
                    _sync_folder(target.parent)
                return target
            if _same_data_set(target, incoming):
                incoming.discard()
                if self.durable:  # whoever put it there may not have come so far yet
                    _sync_folder(target.parent)
                return target
        raise ReceiveError(f"{final}: {MAX_BESIDE} different instances of this name are there already", 0xC000)

    def _make(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.durable:
            for made in (folder, *folder.parents):
                if made in self._known:
                    break
                _sync_folder(made.parent)
                if made == self.path:
                    break
        self._known.add(folder)


class IncomingFile:
    """An instance on its way to its place: `write` pieces, then `commit`, or `discard`."""

    __slots__ = (
        "_directory",
        "_file",
        "_meta",
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
        partial: Path,
        meta: bytes,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax: str,
    ) -> None:
        self._directory = directory
        self._file = file
        self.partial = partial
        self._meta = meta
        self.offset = len(meta)
        """Where the data set begins in the file."""
        self.size = 0
        """Bytes of the data set so far."""
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax = transfer_syntax

    def write(self, data: memoryview) -> None:
        """Append a piece of the data set; ReceiveError (A700H) when the disk does not take it."""
        try:
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
            raise _refusal(error, self.partial) from error
        self.size += len(data)

    def commit(self, check: Callable[[Header], None] | None = None) -> Path:
        """Check the identity, make it durable and give it its name; where it lies now.

        ReceiveError, with nothing kept: A900H when class or instance UID are not those of the request, C000H when the
        data set does not read as one, A700H when the disk fails.
        """
        directory = self._directory
        try:
            header = self._header()
            if check is not None and header is not None:
                check(header)
            relative = directory.layout.path(header, self.sop_instance_uid)
            if directory.durable:
                os.fsync(self._file)  # fails once and for all: the file is discarded, not tried again
            self._close()
            return directory._place(self, relative)
        except OSError as error:
            raise _refusal(error, self.partial) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove it, unless it has its final name already; may be called again."""
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self.partial)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _header(self) -> Header | None:
        """The elements that identify and name it; None in a transfer syntax that nobody knows how to read."""
        if not self.size:
            raise ReceiveError("the data set is empty", Status.CANNOT_UNDERSTAND)
        if self.transfer_syntax not in uids.TRANSFER_SYNTAXES:
            return None
        os.lseek(self._file, self.offset, os.SEEK_SET)
        try:
            header = scan(_Reader(self._file), self.transfer_syntax, wanted=self._directory.layout.wanted)
        except InstanceError as error:
            raise ReceiveError(f"the data set does not read as DICOM: {error}", Status.CANNOT_UNDERSTAND) from error
        for tag, announced, what in (
            (SOP_CLASS, self.sop_class_uid, "SOP Class UID"),
            (SOP_INSTANCE, self.sop_instance_uid, "SOP Instance UID"),
        ):
            found = header.uid(tag)
            if found and found != announced:
                raise ReceiveError(
                    f"{what} {found} in the data set, {announced} in the request", Status.DATA_SET_MISMATCH
                )
        return header


class _Reader:
    """`read(n)` over a descriptor."""

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return os.read(self._file, size)


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _put(partial: Path, target: Path) -> bool:
    """Move a file to a name that is free; False when it is taken."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without hard links: claim the name, then move over the claim.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(partial, target)
        return True
    os.unlink(partial)
    return True


def _same_data_set(existing: Path, incoming: IncomingFile) -> bool:
    try:
        location = locate_path(existing)
    except InstanceError:
        return False
    if location.length != incoming.size or location.transfer_syntax != incoming.transfer_syntax:
        return False
    with existing.open("rb") as one, incoming.partial.open("rb") as other:
        one.seek(location.offset)
        other.seek(incoming.offset)
        while piece := one.read(COMPARED):
            if piece != other.read(len(piece)):
                return False
    return True


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _lock(session: Path, *, create: bool = True) -> int | None:
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


def _refusal(error: OSError, path: Path) -> ReceiveError:
    what = error.strerror or str(error)
    cure = "free some space" if error.errno in OUT_OF_SPACE else "check the folder and its permissions"
    return ReceiveError(f"cannot write in {path.parent.parent.parent}: {what}; {cure}", Status.OUT_OF_RESOURCES)
