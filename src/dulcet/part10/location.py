"""Where in a file the data set lies, and what it is, without parsing it (PS3.10 section 7).

Rule: reads the first 4 KiB and no more, unless the file meta is longer than that or says too little.  The SOP class and
instance are the data set's own where those 4 KiB show them, for that is what a C-STORE-RQ has to name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from struct import Struct
from typing import BinaryIO, Final

from dulcet.errors import InstanceError, NotDicom
from dulcet.part10.encoding import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    UNDEFINED,
    Encoding,
    element_header,
    encoding_of,
    is_deflated,
    looks_explicit,
    tag_name,
)
from dulcet.part10.frames import NOTHING
from dulcet.part10.header import Header
from dulcet.part10.plain import keep_plain, pass_plain
from dulcet.part10.regular import open_regular
from dulcet.part10.scanner import follow, scan
from dulcet.part10.sources import FileSource, ScanError, ScanTruncated
from dulcet.part10.walk import whole
from dulcet.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

__all__ = ["Location", "check_whole", "locate", "locate_at_once", "locate_path", "walk_file"]

HEAD: Final = 4096  # bytes; one page: preamble and file meta are 350 to 600
MAX_META: Final = 1024 * 1024  # bytes of group 0002; private information (0002,0102) is what could make it long
PREAMBLE: Final = 128
GROUP: Final = Struct("<H")

GROUP_LENGTH: Final = 0x00020000
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
TRANSFER_SYNTAX_UID: Final = 0x00020010

UNTRUSTED_GROUPS: Final = frozenset({0x0008})  # where data sets start, if nothing else says that this is one
TRUSTED_GROUPS: Final = range(0x0004, 0x0400)  # 0004 of the other byte order reads as 0400


@dataclass(frozen=True, slots=True)
class Location:
    """A data set within a file: `length` bytes from `offset`, to be sent as they are."""

    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str
    offset: int
    length: int
    meta: dict[int, bytes] = field(default_factory=dict)
    """Raw values of group 0002 by tag; empty when the file has none."""


def locate_path(path: str | os.PathLike[str]) -> Location:
    """`locate` for a path; InstanceError when it cannot be opened or read, NotDicom when it is no regular file."""
    try:
        with open_regular(path) as file:
            return locate(file, path=path)
    except (OSError, ValueError) as error:
        if isinstance(error, InstanceError):
            raise
        raise InstanceError(
            f"{path}: cannot be read ({error}); name a DICOM file that this user may read", path
        ) from error


def locate(file: BinaryIO, *, path: object = None) -> Location:
    """Find the data set in a seekable binary file, from the file's first byte.

    Tolerates a missing preamble or file meta, a wrong or missing group length, file meta in implicit VR, padded UIDs.
    NotDicom when nothing in it reads as DICOM; InstanceError when it is cut off, or has no SOP class or instance UID.
    """
    name = path if path is not None else getattr(file, "name", "the file")
    head = _Head(file, name)
    at = head.start()
    had_preamble = at > 0
    meta, at = _read_meta(head, at)
    if at >= head.size:
        raise InstanceError(
            f"{name}: nothing follows the file meta information, which ends at byte {at}; expected a data set; "
            "the file was cut off, fetch or export it again",
            name,
        )
    transfer_syntax = _text(meta, TRANSFER_SYNTAX_UID) or _guess(head, at, trusted=had_preamble or bool(meta))
    class_uid, instance_uid = _uids(head, at, transfer_syntax, meta)
    return Location(transfer_syntax, class_uid, instance_uid, at, head.size - at, meta)


def locate_at_once(data: bytes, size: int) -> tuple[Location, bool] | None:
    """What `locate` finds, from the first bytes of a file of `size`; and whether these show that it is whole.

    None where it is not as simple as nearly all files are: then `locate` tells, or says what is wrong.
    """
    if data[PREAMBLE : PREAMBLE + 4] != b"DICM":
        return None
    meta: dict[int, bytes] = {}
    most = len(data)
    at, _, _ = keep_plain(data, PREAMBLE + 4, most, most, EXPLICIT_LE, 0x0002FFFF, None, meta, most)
    transfer_syntax = _text(meta, TRANSFER_SYNTAX_UID)
    if transfer_syntax not in TRANSFER_SYNTAXES or is_deflated(transfer_syntax) or min(meta) < GROUP_LENGTH:
        return None
    encoding = encoding_of(transfer_syntax)
    if data[at : at + 2] == b"\2\0" or (encoding.implicit and looks_explicit(data, at)):
        return None
    first: dict[int, bytes] = {}
    end, left, _ = keep_plain(data, at, most, most, encoding, SOP_INSTANCE_UID, None, first, most)
    class_uid, instance_uid = (
        first.get(tag, b"").decode("latin-1").strip("\0 ") for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID)
    )
    if not (class_uid and instance_uid):
        return None
    end, _, _ = pass_plain(data, end, size, left, encoding)
    is_whole = end == size and not (size - at) % 2  # so many bytes cannot meet a limit
    return Location(transfer_syntax, class_uid, instance_uid, at, size - at, meta), is_whole


def walk_file(
    file: BinaryIO, location: Location, wanted: frozenset[int] = NOTHING, *, head: bytes | memoryview = b""
) -> Header:
    """Walk the data set of an open file to its last byte: the wanted elements, or ScanError, which is the verdict.

    Reads element headers and seeks over values; inflates a deflated data set.  `head` are its first bytes, where they
    were read before.
    """
    size = file.seek(0, os.SEEK_END) - location.offset
    if size < location.length:
        raise ScanTruncated(f"a data set of {location.length} bytes was located in it", size)
    walk = whole(location.transfer_syntax, wanted)
    walk.feed(head)
    source = FileSource(file, location.offset + len(head), location.length - len(head))
    passed = source.skip(walk.skippable)
    walk.skip(passed)
    follow(walk, source)
    return walk.finish()


def check_whole(
    file: BinaryIO, location: Location, *, path: object = None, head: bytes | memoryview = b""
) -> None:
    """InstanceError when the walk refuses the data set: "truncated at byte …" when it ends within something."""
    name = path if path is not None else getattr(file, "name", "the file")
    try:
        walk_file(file, location, head=head)
    except ScanTruncated as error:
        end = location.offset + min(file.seek(0, os.SEEK_END) - location.offset, location.length)
        raise InstanceError(
            f"{name}: truncated at byte {end}: {error.reason}; fetch or export the file again", name
        ) from error
    except ScanError as error:
        raise InstanceError(f"{name}: {error}; fetch or export the file again", name) from error


class _Head:
    """The first bytes of a file, more of them when asked."""

    def __init__(self, file: BinaryIO, name: object) -> None:
        self.file = file
        self.name = name
        self.size = file.seek(0, os.SEEK_END)
        self.data = b""
        file.seek(0)
        self.have(min(HEAD, self.size))

    def have(self, size: int) -> bool:
        """Read until `data` holds `size` bytes; False when the file is shorter."""
        while len(self.data) < size:
            more = self.file.read(max(size - len(self.data), HEAD))
            if not more:
                return False
            self.data += more
        return True

    def start(self) -> int:
        """Where group 0002 or, without file meta, the data set starts."""
        if self.data[PREAMBLE : PREAMBLE + 4] == b"DICM":
            return PREAMBLE + 4
        if not self.data:
            raise NotDicom(f"{self.name}: the file is empty; expected a DICOM file", self.name)
        return 0


def _read_meta(head: _Head, at: int) -> tuple[dict[int, bytes], int]:
    """Group 0002 as it stands, whatever its group length says, and where it ends."""
    meta: dict[int, bytes] = {}
    while head.have(at + 8) and head.data[at : at + 2] == b"\2\0":
        if at > MAX_META:
            raise InstanceError(f"{head.name}: file meta information longer than {MAX_META} bytes; not read", head.name)
        head.have(at + 12)
        # PS3.10 section 7.1: explicit VR little endian, always; some writers use the data set's implicit VR
        encoding = EXPLICIT_LE if looks_explicit(head.data, at) else IMPLICIT_LE
        found = element_header(head.data, at, encoding)
        end = found[3] + found[2] if found is not None else head.size + 1
        if found is None or end > head.size:
            if not meta and at == 0:
                raise _not_dicom(head)
            raise InstanceError(
                f"{head.name}: truncated at byte {head.size}, within the file meta element at byte {at}; "
                "fetch or export the file again",
                head.name,
            )
        tag, _, length, start = found
        if length > MAX_META:
            raise InstanceError(f"{head.name}: {tag_name(tag)} of {length} bytes in the file meta; not read", head.name)
        head.have(end)
        meta[tag] = head.data[start:end]
        at = end
    return meta, at


def _text(meta: dict[int, bytes], tag: int) -> str:
    return meta.get(tag, b"").decode("latin-1").strip("\0 \r\n\t")


def _guess(head: _Head, at: int, *, trusted: bool) -> str:
    """The transfer syntax as the first two elements show it (PS3.5 section 7.1); NotDicom if they do not."""
    head.have(at + 12)
    for encoding, transfer_syntax in (
        (EXPLICIT_LE, EXPLICIT_VR_LITTLE_ENDIAN),
        (EXPLICIT_BE, EXPLICIT_VR_BIG_ENDIAN),
        (IMPLICIT_LE, IMPLICIT_VR_LITTLE_ENDIAN),
    ):
        if _reads_as(head, at, encoding, trusted=trusted):
            return transfer_syntax
    if trusted:
        raise InstanceError(
            f"{head.name}: the file meta names no transfer syntax (0002,0010), and the data set at byte {at} shows "
            "neither explicit nor implicit VR; export the file again with complete file meta",
            head.name,
        )
    raise _not_dicom(head)


def _reads_as(head: _Head, at: int, encoding: Encoding, *, trusted: bool) -> bool:
    """True when the first element reads in this encoding, and the second too or nothing follows."""
    found = element_header(head.data, at, encoding)
    if found is None or found[0] >> 16 not in (TRUSTED_GROUPS if trusted else UNTRUSTED_GROUPS):
        return False
    if not (encoding.implicit or looks_explicit(head.data, at)):
        return False
    first, _, length, start = found
    at = start + length
    if length == UNDEFINED:
        return head.data[start : start + 4] == encoding.item_tag
    if at >= head.size:  # beyond it: cut off, where a VR was seen; else it was no length
        return at == head.size or not encoding.implicit
    if length > MAX_META or not head.have(at + 8):
        return not encoding.implicit
    head.have(at + 12)
    found = element_header(head.data, at, encoding)
    if found is None or found[0] <= first:
        return False
    return looks_explicit(head.data, at) if not encoding.implicit else found[2] == UNDEFINED or found[2] <= head.size


def _uids(head: _Head, at: int, transfer_syntax: str, meta: dict[int, bytes]) -> tuple[str, str]:
    """SOP class and instance UID: the data set's own, since C-STORE has to name those; else the file meta's."""
    wanted = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID})
    class_uid, instance_uid = _text(meta, MEDIA_STORAGE_SOP_CLASS_UID), _text(meta, MEDIA_STORAGE_SOP_INSTANCE_UID)
    with suppress(ScanError):  # of what is cut off there, or is damaged before them
        found = scan(head.data[at:], transfer_syntax, wanted=wanted)
        class_uid, instance_uid = found.uid(SOP_CLASS_UID) or class_uid, found.uid(SOP_INSTANCE_UID) or instance_uid
    if not (class_uid and instance_uid):  # they may lie beyond
        try:
            found = scan(FileSource(head.file, at, head.size - at), transfer_syntax, wanted=wanted)
        except ScanError as error:
            raise InstanceError(f"{head.name}: {error}", head.name) from error
        class_uid, instance_uid = found.uid(SOP_CLASS_UID) or class_uid, found.uid(SOP_INSTANCE_UID) or instance_uid
    if not (class_uid and instance_uid):
        missing = "SOP Class UID (0008,0016)" if not class_uid else "SOP Instance UID (0008,0018)"
        raise InstanceError(
            f"{head.name}: neither the file meta nor the data set at byte {at} has a {missing}; "
            "it cannot be stored without one, add it",
            head.name,
        )
    return class_uid, instance_uid


def _not_dicom(head: _Head) -> NotDicom:
    return NotDicom(
        f"{head.name}: not a DICOM file: no DICM at byte 128, and byte 0 does not start a data set of group 0008 "
        f"(found {head.data[:8].hex(' ')}); leave it out",
        head.name,
    )
