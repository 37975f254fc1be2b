"""Instances to be sent: a path, an open file, bytes or a pydicom Dataset, as what the wire needs of them.

Rules: a file's data set is not parsed, its bytes travel as they lie; what was examined is checked again when it is
opened, for a file may have changed in between.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from dulcet import uids
from dulcet.dimse.source import FileSpan
from dulcet.errors import InstanceError, NotDicom
from dulcet.part10.convert import convert
from dulcet.part10.location import Location, check_whole, locate
from dulcet.services.identifiers import encode_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Instance", "InstanceSource", "examine"]

InstanceSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Dataset"

IN_MEMORY: Final = 64 * 1024
"""Files up to this many bytes are read at once when opened: cheaper than a descriptor that stays open."""


@dataclass(slots=True, eq=False)
class Instance:
    """One instance, examined: what to negotiate for it, and where its data set lies."""

    origin: Any
    """What was given."""
    location: Location
    _data: memoryview | None = None
    _file: int | None = None

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

        InstanceError when the file cannot be read or is not as long any more as it was.
        """
        if self._data is not None:
            return self._data
        location = self.location
        try:
            file = os.open(self.origin, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise InstanceError(f"{self.origin}: {error.strerror}", self.origin) from error
        try:
            size = os.fstat(file).st_size
            if size != location.offset + location.length:
                raise InstanceError(
                    f"{self.origin} has {size} bytes, it had {location.offset + location.length} when it was looked at; "
                    "send it once nobody writes to it any more",
                    self.origin,
                )
            if size > IN_MEMORY:
                self._file = file
                return FileSpan(file, location.offset, location.length)
            data = _read_all(file, size)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if len(data) != size:
            raise InstanceError(f"{self.origin} ended early while it was read", self.origin)
        return memoryview(data)[location.offset :]

    def converted(self, accepted: Sequence[str]) -> tuple[memoryview, str]:
        """The data set in one of the accepted syntaxes, and which; CannotConvert when there is no way."""
        source = self.origin if self._data is None else bytes(self._data)
        if self._data is None:
            data, syntax = convert(source, self.location, accepted)
        else:
            location = Location(
                self.location.transfer_syntax,
                self.location.sop_class_uid,
                self.location.sop_instance_uid,
                0,
                len(self._data),
                self.location.meta,
            )
            data, syntax = convert(source, location, accepted)
        return memoryview(data), syntax

    def close(self) -> None:
        """Close the file, if one is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read_all(file: int, size: int) -> bytes:
    data = os.read(file, size)
    while len(data) < size:
        more = os.read(file, size - len(data))
        if not more:
            break
        data += more
    return data


def examine(what: Any) -> Instance:
    """Look at a path, open binary file, Part 10 bytes or pydicom Dataset, as far as sending it needs.

    Raises NotDicom or InstanceError, whose `.path` is `what`.
    """
    if isinstance(what, str | os.PathLike):
        return _examine_path(what)
    if isinstance(what, bytes | bytearray | memoryview):
        return _examine_bytes(what, bytes(what))
    if hasattr(what, "read") and not hasattr(what, "file_meta"):
        return _examine_file(what)
    return _examine_dataset(what)


def _examine_path(path: str | os.PathLike[str]) -> Instance:
    try:
        with open(path, "rb", buffering=0) as file:
            location = locate(file, path=path)
            check_whole(file, location, path=path)
    except OSError as error:
        raise InstanceError(f"{os.fspath(path)}: {error.strerror or error}", path) from error
    if location.sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY_STORAGE:
        raise NotDicom(f"{os.fspath(path)} is a DICOMDIR, an index of other files; send the files", path)
    return Instance(path, location)


def _examine_bytes(what: Any, data: bytes) -> Instance:
    file = io.BytesIO(data)
    location = locate(file, path=what if not isinstance(what, bytes) else None)
    check_whole(file, location)
    return Instance(what, location, memoryview(data)[location.offset : location.offset + location.length])


def _examine_file(file: BinaryIO) -> Instance:
    name = getattr(file, "name", None)
    if isinstance(name, str) and Path(name).is_file():
        return _examine_path(name)
    file.seek(0)
    return _examine_bytes(file, file.read())


def _examine_dataset(dataset: Dataset) -> Instance:
    data, syntax = encode_dataset(dataset)
    class_uid, instance_uid = str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", ""))
    if not class_uid or not instance_uid:
        raise InstanceError("the data set has no SOP Class UID or no SOP Instance UID; set both before sending", dataset)
    return Instance(dataset, Location(syntax, class_uid, instance_uid, 0, len(data), {}), memoryview(data))
