"""Instances to be sent: a path, an open file, bytes or a pydicom Dataset, as what the wire needs of them.

Rules: a file's data set is not parsed, its bytes travel as they lie; what was examined is checked again when it is
opened, for a file may have changed in between.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

from dulcet import uids
from dulcet.dimse.elements import checked, is_uid
from dulcet.dimse.source import FileSpan
from dulcet.errors import InstanceError, LocalProtocolError, NotDicom
from dulcet.io.pixels import decompress, decompressible
from dulcet.part10.convert import convert
from dulcet.part10.location import Location, check_whole, locate, locate_at_once
from dulcet.part10.regular import READ_ONLY
from dulcet.part10.sources import ScanError
from dulcet.part10.walk import whole
from dulcet.services.identifiers import encode_dataset
from dulcet.services.results import InstanceSource
from dulcet.upper_layer.negotiation import check_uid

__all__ = ["Instance", "InstanceSource", "examine"]

AT_ONCE: Final = 16 * 1024
"""Files up to this many bytes are read when they are examined: a thousand wait in less memory than one image."""

IN_MEMORY: Final = 64 * 1024
"""Files up to this many bytes are read at once when opened: cheaper than a descriptor that stays open."""


@dataclass(slots=True, eq=False)
class Instance:
    """One instance, examined: what to negotiate for it, and where its data set lies."""

    origin: Any
    """What was given."""
    location: Location
    """What it is, and where in the file its data set lies."""
    data: memoryview | FileSpan | None = None
    """The encoded data set, when it is in memory or its place is known already."""
    file: int | None = None
    """The descriptor that a FileSpan of `open` reads from."""

    @classmethod
    def of_span(
        cls, span: FileSpan, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, origin: Any = None
    ) -> Instance:
        """An encoded data set that lies in an open file; the file stays the caller's to close.

        `span` names descriptor, offset and length, the file meta left out.  `sop_class_uid`, `sop_instance_uid` and
        `transfer_syntax` are taken as they are: nothing is read.  `origin` is what results name as their `path`, by
        default the span.
        """
        location = Location(transfer_syntax, sop_class_uid, sop_instance_uid, span.offset, span.length, {})
        return cls(span if origin is None else origin, location, span)

    @property
    def sop_class_uid(self) -> str:
        return self.location.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        return self.location.sop_instance_uid

    @property
    def transfer_syntax(self) -> str:
        return self.location.transfer_syntax

    def open(self) -> memoryview | FileSpan:
        """The encoded data set, to be sent as it is; `close()` when it was answered.

        One of odd length is padded where the standard says how (PS3.5 section 7.1.1); it is read into memory for that.
        InstanceError when that is not so, when the file cannot be read, or is not as long any more as it was.
        """
        data = self._opened()
        return data if len(data) % 2 == 0 else self._padded(data)

    def _opened(self) -> memoryview | FileSpan:
        if self.data is not None:
            return self.data
        location, origin = self.location, self.origin
        end = location.offset + location.length
        try:
            file = _descriptor(origin)
            try:
                size = os.fstat(file).st_size
                if size != end:
                    raise InstanceError(
                        f"{_name(origin)} has {size} bytes, it had {end} when it was looked at; "
                        "send it once nobody writes to it any more",
                        origin,
                    )
                stays_open = size > IN_MEMORY
                data = b"" if stays_open else _read_span(file, location.offset, location.length)
            except BaseException:
                os.close(file)
                raise
            if stays_open:
                self.file = file
                return FileSpan(file, location.offset, location.length)
            os.close(file)
        except (OSError, ValueError) as error:  # ValueError: an open file that was closed meanwhile
            if isinstance(error, InstanceError):
                raise
            raise InstanceError(f"{_name(origin)}: {_reason(error)}", origin) from error
        if len(data) != location.length:
            raise InstanceError(f"{_name(origin)} ended early while it was read", origin)
        return memoryview(data)

    def _padded(self, source: memoryview | FileSpan) -> memoryview:
        """With an even number of bytes."""
        try:
            data = _read_span(source.file, source.offset, source.length) if isinstance(source, FileSpan) else source
        finally:
            self.close()
        if self.transfer_syntax in uids.DEFLATED:  # PS3.5 section A.5: one NUL belongs behind it
            return memoryview(bytes(data) + b"\0")
        walk = whole(self.transfer_syntax)
        try:
            walk.feed(data)
            walk.finish()
        except ScanError as error:
            raise InstanceError(f"{_name(self.origin)}: {error}; it cannot be sent", self.origin) from error
        assert walk.pad is not None
        return memoryview(walk.pad.applied(bytes(data)))

    def converted(self, accepted: Sequence[str]) -> tuple[memoryview, str]:
        """The data set in one of the `accepted` transfer syntaxes, and which one: for where its own is not among them.

        Explicit VR little endian goes before the others.  CannotConvert when there is no way, as for compressed pixels
        that nothing installed here decompresses; InstanceError when it is damaged or cannot be read.
        """
        if self.transfer_syntax in decompressible() and not uids.UNCOMPRESSED.isdisjoint(accepted):
            return self._decompressed(accepted)
        if self.data is None and isinstance(self.origin, str | os.PathLike):
            data, syntax = convert(self.origin, self.location, accepted)
            return memoryview(data), syntax
        source = self.open()
        try:
            whole = _read_span(source.file, source.offset, source.length) if isinstance(source, FileSpan) else source
        finally:
            self.close()
        try:
            data, syntax = convert(bytes(whole), replace(self.location, offset=0, length=len(whole)), accepted)
        except InstanceError as error:
            error.path = self.origin
            raise
        return memoryview(data), syntax

    def _decompressed(self, accepted: Sequence[str]) -> tuple[memoryview, str]:
        source = self.open()
        try:
            whole = _read_span(source.file, source.offset, source.length) if isinstance(source, FileSpan) else source
        finally:
            self.close()
        try:
            plain = decompress(bytes(whole), self.transfer_syntax)
            syntax = uids.EXPLICIT_VR_LITTLE_ENDIAN
            location = replace(self.location, transfer_syntax=syntax, offset=0, length=len(plain))
            data, syntax = convert(plain, location, accepted)
        except InstanceError as error:
            error.path = self.origin
            raise
        return memoryview(data), syntax

    def close(self) -> None:
        """Close the file, if one is open."""
        if self.file is not None:
            file, self.file = self.file, None
            os.close(file)


def examine(what: Any) -> Instance:
    """Look at a path, open binary file, Part 10 bytes or pydicom Dataset, as far as sending it needs.

    An Instance, made with `Instance.of_span` where an index knows it already, is taken as it is.

    An open file is taken from its first byte, and has to stay open until it is sent; its position does not change.
    Raises NotDicom or InstanceError, whose `.path` is `what`.
    """
    try:
        instance = _examined(what)
        _check_uids(instance.location)
        return instance
    except LocalProtocolError as error:
        raise InstanceError(f"{_name(what)}: {error}; this one cannot be sent, mend its header", what) from None
    except InstanceError as error:
        error.path = what
        raise
    except (OSError, ValueError) as error:
        raise InstanceError(f"{_name(what)}: {_reason(error)}", what) from error


def _examined(what: Any) -> Instance:
    if isinstance(what, Instance):
        return what
    if isinstance(what, str | os.PathLike):
        return _examine_path(what)
    if isinstance(what, bytes | bytearray | memoryview):
        return _examine_bytes(what, bytes(what))
    if hasattr(what, "read"):
        return _examine_file(what)
    return _examine_dataset(what)


def _check_uids(location: Location) -> None:
    """LocalProtocolError for what may not stand in a PDU: there it would end the association for all the others."""
    check_uid(location.sop_class_uid, "SOP Class UID")
    check_uid(location.transfer_syntax, "Transfer Syntax UID")
    if not is_uid(location.sop_instance_uid):  # letters do no harm here, and are in files of old devices
        checked("C-STORE-RQ", "AffectedSOPInstanceUID", location.sop_instance_uid)


def _examine_path(path: str | os.PathLike[str]) -> Instance:
    try:
        descriptor = os.open(path, READ_ONLY)
    except OSError as error:
        if error.errno != errno.ENXIO:  # what opening a socket gives
            raise
        raise NotDicom(f"{os.fspath(path)} is no regular file; leave it out", path) from None
    status = os.fstat(descriptor)
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise InstanceError(f"{os.fspath(path)} is a folder; name the files in it", path)
        raise NotDicom(f"{os.fspath(path)} is no regular file; leave it out", path)
    name, size = os.fspath(path), status.st_size
    try:
        data = _read_span(descriptor, 0, min(size, AT_ONCE))
        if size > AT_ONCE:
            found = locate_at_once(data, size)
            if found is not None and found[1]:
                return Instance(path, _no_index(found[0], name))
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return Instance(path, _look(file, name, found and found[0], data))
    finally:
        os.close(descriptor)
    return _examine_bytes(path, data, name)


def _examine_bytes(what: Any, data: bytes, name: str = "the bytes given") -> Instance:
    found = locate_at_once(data, len(data))
    if found is not None and found[1]:
        location = _no_index(found[0], name)
    else:
        location = _look(io.BytesIO(data), name, found and found[0], data)
    return Instance(what, location, memoryview(data)[location.offset : location.offset + location.length])


def _examine_file(file: BinaryIO) -> Instance:
    name = _name(file)
    if _is_plain(file):
        if file.writable():
            file.flush()
        descriptor = os.dup(file.fileno())
        with os.fdopen(descriptor, "rb", buffering=0) as own:
            position = os.lseek(descriptor, 0, os.SEEK_CUR)  # shared with the caller's
            try:
                return Instance(file, _look(own, name))
            finally:
                os.lseek(descriptor, position, os.SEEK_SET)
    before = file.tell() if file.seekable() else None
    if before is not None:
        file.seek(0)
    data: bytes | str = file.read()
    if isinstance(data, str):
        raise InstanceError(f'{name} is open as text; open it with "rb"', file)
    if before is not None:
        file.seek(before)
    return _examine_bytes(file, data, name)


def _examine_dataset(dataset: Any) -> Instance:
    from pydicom.dataset import Dataset

    if not isinstance(dataset, Dataset):
        raise InstanceError(
            f"a {type(dataset).__name__} cannot be sent; give a path, an open file, bytes or a Dataset", dataset
        )
    tags = list(dataset.keys())  # to iterate over the data set itself would decode every element
    stray = next((tag for tag in tags if tag.group < 4), None)
    if stray is not None:
        raise InstanceError(f"the data set holds {stray}, which belongs in file_meta or nowhere; take it out", dataset)
    data, syntax = encode_dataset(dataset)
    class_uid, instance_uid = str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", ""))
    if not class_uid or not instance_uid:
        raise InstanceError("the data set has no SOP Class UID or no SOP Instance UID; set both first", dataset)
    return Instance(dataset, Location(syntax, class_uid, instance_uid, 0, len(data), {}), memoryview(data))


def _look(file: BinaryIO, name: str, found: Location | None = None, data: bytes = b"") -> Location:
    """Where the data set lies, all of it; `found` is what a first look has found out, `data` how the file begins."""
    location = found if found is not None else locate(file, path=name)
    check_whole(file, _no_index(location, name), path=name, head=memoryview(data)[location.offset :])
    return location


def _no_index(location: Location, name: str) -> Location:
    if location.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE:
        raise NotDicom(f"{name} is a DICOMDIR, an index of other files; send the files", name)
    return location


def _is_plain(file: Any) -> bool:
    """True for a regular file whose descriptor gives what `read` gives: not for one that is inflated on the way."""
    inner = getattr(file, "file", file)  # tempfile wraps what it opens
    raw = getattr(inner, "raw", inner)
    return isinstance(raw, io.FileIO) and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


def _descriptor(origin: Any) -> int:
    """A descriptor of our own."""
    if isinstance(origin, str | os.PathLike):
        return os.open(origin, READ_ONLY)
    return os.dup(origin.fileno())


def _read_span(file: int, offset: int, length: int) -> bytes:
    """Those bytes, or as many of them as there are."""
    pieces = []
    while length:
        piece = os.pread(file, length, offset) if hasattr(os, "pread") else _seek_and_read(file, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _seek_and_read(file: int, length: int, offset: int) -> bytes:
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, length)


def _name(what: Any) -> str:
    """How it is called in messages."""
    if isinstance(what, Instance):
        return what.sop_instance_uid if isinstance(what.origin, FileSpan) else _name(what.origin)
    if isinstance(what, str | os.PathLike):
        return os.fspath(what)
    if isinstance(what, bytes | bytearray | memoryview):
        return "the bytes given"
    return str(getattr(what, "name", None) or ("the open file" if hasattr(what, "read") else "the data set"))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
