"""Real files to send: every usable file of pydicom's wheel, and quickly generated ones of any size.

Laws: the parser here is independent of dulcet's own (it exists to check it); it reads only what these known files
contain and is no model for untrusted input.  Usable means: file meta (PS3.10 section 7.1) with a transfer syntax, a
storage SOP class and an instance UID, and a data set behind it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from random import Random
from struct import Struct

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})

SYNTAX_NAMES = {
    IMPLICIT: "ImplicitLittleEndian",
    EXPLICIT: "ExplicitLittleEndian",
    DEFLATED: "Deflated",
    BIG_ENDIAN: "ExplicitBigEndian",
    "1.2.840.10008.1.2.4.50": "JPEGBaseline",
    "1.2.840.10008.1.2.4.51": "JPEGExtended",
    "1.2.840.10008.1.2.4.70": "JPEGLosslessSV1",
    "1.2.840.10008.1.2.4.80": "JPEGLSLossless",
    "1.2.840.10008.1.2.4.81": "JPEGLSNearLossless",
    "1.2.840.10008.1.2.4.90": "JPEG2000Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG2000",
    "1.2.840.10008.1.2.5": "RLELossless",
}

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # a DICOMDIR describes files on a medium; it is never sent by C-STORE
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})

# pydicom's README.txt: these end in the middle of an element, so a sender that parses what it sends cannot load them.
TRUNCATED = frozenset({"MR_truncated.dcm", "rtplan_truncated.dcm"})


class NotUsable(Exception):
    """The file cannot be sent as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class Element:
    """Where one element's value lies: `start` counts from the beginning of what was walked."""

    tag: int
    vr: bytes
    start: int
    length: int

    def text(self, data: bytes) -> str:
        """The value as text, without the padding of PS3.5 section 6.2."""
        return data[self.start : self.start + self.length].decode("ascii", "replace").strip("\0 ")


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of the corpus, and what its file meta and its data set say about it."""

    path: Path
    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str
    data_set_offset: int
    own_class_uid: str  # (0008,0016) inside the data set; empty where it has none
    own_instance_uid: str  # (0008,0018) inside the data set; empty where it has none

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def syntax_name(self) -> str:
        return SYNTAX_NAMES[self.transfer_syntax]

    @property
    def consistent(self) -> bool:
        """Whether the data set names the same class and instance as the file meta."""
        return (self.own_class_uid, self.own_instance_uid) == (self.sop_class_uid, self.sop_instance_uid)

    @property
    def truncated(self) -> bool:
        return self.path.name.endswith(tuple(TRUNCATED))

    def data_set(self) -> bytes:
        return self.path.read_bytes()[self.data_set_offset :]


def walk_elements(data: bytes, start: int, explicit: bool = True, big_endian: bool = False) -> Iterator[Element]:
    """The top-level elements from `start` on, up to the first of undefined length; PS3.5 section 7.1."""
    order = ">" if big_endian else "<"
    tag_pair, short, long = Struct(order + "HH"), Struct(order + "H"), Struct(order + "I")
    position = start
    while position + 8 <= len(data):
        group, number = tag_pair.unpack_from(data, position)
        vr = data[position + 4 : position + 6] if explicit else b""
        if vr in LONG_VRS:
            length, value = long.unpack_from(data, position + 8)[0], position + 12
        elif explicit:
            length, value = short.unpack_from(data, position + 6)[0], position + 8
        else:
            length, value = long.unpack_from(data, position + 4)[0], position + 8
        if length == 0xFFFFFFFF:
            return
        yield Element(group << 16 | number, vr, value, length)
        position = value + length


def file_meta(data: bytes) -> tuple[dict[int, Element], int]:
    """The elements of group 0002 and the offset of the data set behind them; raises NotUsable without a preamble."""
    if data[128:132] != b"DICM":
        raise NotUsable("no DICM prefix")
    elements: dict[int, Element] = {}
    end = 132
    for element in walk_elements(data, 132):
        if element.tag >> 16 != 2:
            break
        elements[element.tag] = element
        end = element.start + element.length
    return elements, end


def data_set_bytes(path: Path) -> bytes:
    """The raw bytes behind the file meta, exactly as they stand in the file."""
    data = path.read_bytes()
    return data[file_meta(data)[1] :]


def transfer_syntax_of(path: Path) -> str:
    """What the file meta gives as transfer syntax (0002,0010)."""
    data = path.read_bytes()
    return file_meta(data)[0][0x00020010].text(data)


def own_uids(data_set: bytes, transfer_syntax: str) -> dict[int, Element]:
    """(0008,0016) and (0008,0018) of an (already inflated) data set, where present."""
    found: dict[int, Element] = {}
    walked = walk_elements(data_set, 0, transfer_syntax != IMPLICIT, transfer_syntax == BIG_ENDIAN)
    for element in walked:
        if element.tag > 0x00080018:
            break
        if element.tag in (0x00080016, 0x00080018):
            found[element.tag] = element
    return found


def read_instance(path: Path) -> Instance:
    """Describe one file, or raise NotUsable with the reason."""
    data = path.read_bytes()
    meta, offset = file_meta(data)
    wanted = {0x00020010: "transfer syntax", 0x00020002: "SOP class UID", 0x00020003: "SOP instance UID"}
    for tag, what in wanted.items():
        if tag not in meta or not meta[tag].text(data):
            raise NotUsable(f"file meta has no {what}")
    if offset >= len(data):
        raise NotUsable("no data set behind the file meta")
    syntax, class_uid, instance_uid = (meta[tag].text(data) for tag in wanted)
    if class_uid == DIRECTORY_CLASS:
        raise NotUsable("a DICOMDIR is not a storage instance")
    data_set = data[offset:] if syntax != DEFLATED else zlib.decompressobj(-15).decompress(data[offset:], 1 << 16)
    own = own_uids(data_set, syntax)
    own_class, own_instance = (own[tag].text(data_set) if tag in own else "" for tag in (0x00080016, 0x00080018))
    return Instance(path, syntax, class_uid, instance_uid, offset, own_class, own_instance)


def pydicom_folders() -> tuple[Path, Path]:
    """The folders of test files inside the installed pydicom package."""
    spec = find_spec("pydicom")
    if spec is None or spec.origin is None:
        raise NotUsable("pydicom is not installed")
    data = Path(spec.origin).parent / "data"
    return data / "test_files", data / "charset_files"


@cache
def survey() -> tuple[tuple[Instance, ...], dict[Path, str]]:
    """Every usable instance in pydicom's wheel, and the reason for each file that is not."""
    instances, unusable = [], {}
    for folder in pydicom_folders():
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                try:
                    instances.append(read_instance(path))
                except NotUsable as reason:
                    unusable[path] = str(reason)
    return tuple(instances), unusable


def by_transfer_syntax(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Instances grouped by transfer syntax UID, in the order of SYNTAX_NAMES."""
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[instance.transfer_syntax].append(instance)
    return {syntax: groups[syntax] for syntax in SYNTAX_NAMES if syntax in groups}


def copy_with_unique_instances(instances: Iterable[Instance], folder: Path) -> list[Instance]:
    """Copy instances into `folder`, giving those whose UID is taken another of the same length.

    Names become `NNN_original`.  The UID is overwritten in place in file meta and data set, so nothing else moves; a
    deflated file, whose data set cannot be overwritten, must come with a UID of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    copies = []
    for number, instance in enumerate(instances):
        data = bytearray(instance.path.read_bytes())
        uids = {instance.sop_instance_uid, instance.own_instance_uid} - {""}
        renamed = {uid: _another_uid(uid, taken) if uid in taken else uid for uid in sorted(uids)}
        if any(old != new for old, new in renamed.items()):
            _overwrite_uids(instance, data, renamed)
        taken.update(renamed.values())
        path = folder / f"{number:03}_{instance.name}"
        path.write_bytes(data)
        own = renamed.get(instance.own_instance_uid, "")
        copies.append(
            replace(instance, path=path, sop_instance_uid=renamed[instance.sop_instance_uid], own_instance_uid=own)
        )
    return copies


def _another_uid(old: str, taken: set[str]) -> str:
    """A UID as long as `old` that nobody has, differing in its last component only."""
    stem, _, last = old.rpartition(".")
    first = 10 ** (len(last) - 1) if len(last) > 1 else 0
    return next(uid for uid in (f"{stem}.{number}" for number in range(first, 10 ** len(last))) if uid not in taken)


def _overwrite_uids(instance: Instance, data: bytearray, renamed: dict[str, str]) -> None:
    if instance.transfer_syntax == DEFLATED:
        raise NotUsable(f"{instance.path} is deflated: its UID cannot be replaced in place")
    before = bytes(data)
    meta, offset = file_meta(before)
    in_meta = meta[0x00020003].start
    data[in_meta : in_meta + len(instance.sop_instance_uid)] = renamed[instance.sop_instance_uid].encode()
    own = own_uids(before[offset:], instance.transfer_syntax).get(0x00080018)
    if own is not None and instance.own_instance_uid:
        start = offset + own.start
        data[start : start + len(instance.own_instance_uid)] = renamed[instance.own_instance_uid].encode()


# ---------------------------------------------------------------------------------------------- generated files

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME_BYTE = "1.2.840.10008.5.1.4.1.1.7.2"
UID_ROOT = "1.2.826.0.1.3680043.10.1389"
BLOCK = 1 << 20
FIRST_NUMBER = 10_000_000  # instances are numbered from here, so that all headers have one length
_SHORT, _LONG, _US = Struct("<HH2sH"), Struct("<HH2sxxI"), Struct("<H")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One explicit VR little endian element, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    header = _LONG if vr in LONG_VRS else _SHORT
    return header.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def instance_header(payload: int, seed: int, sop_class_uid: str, study: int = 1, series: int = 1) -> bytes:
    """Preamble, file meta and data set of a monochrome 8 bit image, up to but without `payload` bytes of pixels."""
    columns = gcd(payload, 1024)
    rows = gcd(payload // columns, 1024)
    frames = payload // columns // rows
    instance_uid = f"{UID_ROOT}.{study}.{series}.{FIRST_NUMBER + seed}".encode()
    class_uid = sop_class_uid.encode()
    meta = element(0x00020001, b"OB", b"\0\1") + element(0x00020002, b"UI", class_uid)
    meta += element(0x00020003, b"UI", instance_uid) + element(0x00020010, b"UI", EXPLICIT.encode())
    meta += element(0x00020012, b"UI", f"{UID_ROOT}.0".encode())
    parts = [
        bytes(128) + b"DICM" + element(0x00020000, b"UL", len(meta).to_bytes(4, "little")) + meta,
        element(0x00080016, b"UI", class_uid),
        element(0x00080018, b"UI", instance_uid),
        element(0x00080020, b"DA", b"20240229"),
        element(0x00080030, b"TM", b"123000"),
        element(0x00080050, b"SH", f"ACC{study}".encode()),
        element(0x00080060, b"CS", b"CT" if sop_class_uid == CT_IMAGE else b"OT"),
        element(0x00080064, b"CS", b"WSD"),
        element(0x00100010, b"PN", b"Generated^Instance"),
        element(0x00100020, b"LO", f"PAT{study}".encode()),
        element(0x0020000D, b"UI", f"{UID_ROOT}.{study}".encode()),
        element(0x0020000E, b"UI", f"{UID_ROOT}.{study}.{series}".encode()),
        element(0x00200013, b"IS", str(FIRST_NUMBER + seed).encode()),
        element(0x00280002, b"US", _US.pack(1)),
        element(0x00280004, b"CS", b"MONOCHROME2"),
        element(0x00280008, b"IS", f"{frames:10}".encode()),
        element(0x00280010, b"US", _US.pack(rows)),
        element(0x00280011, b"US", _US.pack(columns)),
        element(0x00280100, b"US", _US.pack(8)),
        element(0x00280101, b"US", _US.pack(8)),
        element(0x00280102, b"US", _US.pack(7)),
        element(0x00280103, b"US", _US.pack(0)),
        _LONG.pack(0x7FE0, 0x0010, b"OB", payload),
    ]
    return b"".join(parts)


@cache
def _noise(seed: int) -> bytes:
    return Random(seed).randbytes(BLOCK)


def make_instance(
    path: Path, size: int, seed: int = 0, sop_class_uid: str = "", study: int = 1, series: int = 1
) -> Path:
    """Write an image whose pixel data has `size` bytes (even, below 4 GiB); `seed` makes its UID and its pixels."""
    if size % 2 or not 0 < size < 1 << 32:
        raise ValueError(f"pixel data of {size} bytes: expected an even number below 4 GiB")
    chosen = sop_class_uid or (MULTI_FRAME_BYTE if size > 1 << 20 else SECONDARY_CAPTURE)
    noise = memoryview(_noise(0))
    turn = seed * 7919 % BLOCK  # every file starts elsewhere in the noise, so that no two are alike
    with path.open("wb", buffering=0) as file:
        left = size
        chunk = noise[turn : turn + left]
        file.write(instance_header(size, seed, chosen, study, series) + chunk)
        left -= len(chunk)
        while left:
            left -= file.write(noise[:left])
    return path


def make_folder(folder: Path, count: int, size: int, sop_class_uid: str = "") -> list[Path]:
    """Write `count` images of `size` bytes each into a new folder and give their paths."""
    folder.mkdir(parents=True)
    return [make_instance(folder / f"{seed:06}.dcm", size, seed, sop_class_uid) for seed in range(count)]


def describe() -> str:
    """A table of what the corpus holds, one line per transfer syntax."""
    instances, unusable = survey()
    lines = [
        f"{SYNTAX_NAMES[syntax]:24}{len(group):4} files {len({i.sop_class_uid for i in group}):3} SOP classes "
        f"{sum(i.path.stat().st_size for i in group) / 1e6:8.2f} MB"
        for syntax, group in by_transfer_syntax(instances).items()
    ]
    return "\n".join([*lines, f"{len(instances)} usable, {len(unusable)} not"])


if __name__ == "__main__":
    print(describe())
    for odd_path, why in survey()[1].items():
        print(f"not usable: {odd_path.name}: {why}")
    for odd in survey()[0]:
        if not odd.consistent or odd.truncated:
            print("odd:", odd.name, odd.sop_class_uid, odd.own_class_uid, odd.sop_instance_uid, odd.own_instance_uid)
