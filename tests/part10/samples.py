"""Files to read: all of pydicom's wheel, and hand-made elements, one of each kind that a test needs."""

from __future__ import annotations

import io
import warnings
import zlib
from functools import cache
from pathlib import Path
from struct import pack

import pydicom

from dulcet.part10 import Location, locate_path

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNCOMPRESSED = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)

UNDEFINED = 0xFFFFFFFF
SHORT = "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
FOLDER = Path(pydicom.__file__).parent / "data"
NOT_FILES = {".py", ".pyc", ".json", ".txt", ".dump", ".gz", ".icc", ".md", ""}
TRUNCATED = {"MR_truncated.dcm", "rtplan_truncated.dcm"}
# A first byte that is missing, no SOP class UID at all, a data set of group 0001 without a transfer syntax.
UNUSABLE = {"no_meta.dcm", "empty_charset_LEI.dcm", "nested_priv_SQ.dcm", "meta_missing_tsyntax.dcm"}


@cache
def files() -> list[Path]:
    """Every DICOM file of the wheel, DICOMDIRs and their folders included."""
    return sorted(path for path in FOLDER.rglob("*") if path.is_file() and is_dicom(path))


def is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        magic = file.read(132)[128:] == b"DICM"
    return magic or path.suffix not in NOT_FILES


def usable() -> list[Path]:
    return [path for path in files() if path.name not in UNUSABLE]


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@cache
def dataset(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def element(tag: int, vr: str, value: bytes = b"", *, syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    """One data element; `length` lies about the value's when given."""
    length = len(value) if length is None else length
    order = ">" if syntax == BIG_ENDIAN else "<"
    if syntax == IMPLICIT or not vr:
        return pack(order + "HHL", tag >> 16, tag & 0xFFFF, length) + value
    head = pack(order + "HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in SHORT:
        return head + pack(order + "H", length) + value
    return head + pack(order + "HL", 0, length) + value


def item(*elements: bytes, syntax: str = EXPLICIT, undefined: bool = False) -> bytes:
    inside = b"".join(elements)
    if undefined:
        inside += element(0xFFFEE00D, "", syntax=syntax)
        return element(0xFFFEE000, "", inside, syntax=syntax, length=UNDEFINED)
    return element(0xFFFEE000, "", inside, syntax=syntax)


def sequence(tag: int, *items: bytes, syntax: str = EXPLICIT, undefined: bool = False, vr: str = "SQ") -> bytes:
    inside = b"".join(items)
    if undefined:
        inside += element(0xFFFEE0DD, "", syntax=syntax)
        return element(tag, vr, inside, syntax=syntax, length=UNDEFINED)
    return element(tag, vr, inside, syntax=syntax)


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def identity(syntax: str = EXPLICIT) -> bytes:
    """The SOP class and instance UID of a data set."""
    return element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0", syntax=syntax) + element(
        0x00080018, "UI", b"1.2.3.4\0", syntax=syntax
    )


def meta(
    syntax: str | None = EXPLICIT, *, vr: bool = True, group_length: bool = True, uids: bool = True, wrong: int = 0
) -> bytes:
    """Group 0002 without preamble; `wrong` is added to its group length."""
    how = EXPLICIT if vr else IMPLICIT
    body = element(0x00020001, "OB", b"\0\1", syntax=how)
    if uids:
        body += element(0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.7\0", syntax=how)
        body += element(0x00020003, "UI", b"1.2.3.4 \0\0", syntax=how)
    if syntax is not None:
        body += element(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2), syntax=how)
    if not group_length:
        return body
    return element(0x00020000, "UL", pack("<L", len(body) + wrong), syntax=how) + body


def part10(data: bytes, syntax: str | None = EXPLICIT, **how: object) -> bytes:
    return bytes(128) + b"DICM" + meta(syntax, **how) + data  # type: ignore[arg-type]


class Counting(io.BytesIO):
    """A file that knows how much was read from it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.taken = 0
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        self.reads += 1
        return data


@cache
def located(path: Path) -> Location:
    return locate_path(path)
