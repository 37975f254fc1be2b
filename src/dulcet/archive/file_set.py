"""The DICOMDIR of a file-set (PS3.10 section 8, PS3.3 Annex F), made from the headers of objects that stay as they are.

Rules: an object is never written anew, its values are copied as bytes, in the character set that it names; what a
record must have and the object lacks is invented and counted; two patients never share a record as both have no ID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final
from uuid import uuid4

from dulcet import uids
from dulcet.archive.directory_records import KEYS, SINGLE_LEVEL, record_type
from dulcet.errors import InstanceError
from dulcet.part10.encoding import EXPLICIT_LE, LONG_VRS
from dulcet.part10.file_meta import encode_file_meta
from dulcet.part10.header import CHARACTER_SET, Header
from dulcet.services.models import model_of_object

__all__ = ["DirectoryWriter"]

PRIVATE_RECORD_UID: Final = "2.25.262137391402744265379213925424498154563"
"""Private Record UID (0004,1432) of our records for objects of private classes; made once, from a random UUID."""

ITEM_HEADER: Final = Struct("<HHL")
SHORT_HEADER: Final = Struct("<HH2sH")
LONG_HEADER: Final = Struct("<HH2s2xL")
UNSIGNED_LONG: Final = Struct("<L")
WIDTHS: Final = {b"US": 2, b"SS": 2, b"OW": 2, b"AT": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OF": 4, b"OL": 4, b"FD": 8}
"""Bytes that are turned round where the object is in big endian."""

MOST_ITEM: Final = 0xFFFE
RELATIONSHIP_TYPE: Final = 0x0040A010
MODIFIER: Final = "HAS CONCEPT MOD"

INVENTED: Final[dict[str, str]] = {
    "PatientID": "UNKNOWN{number}",
    "StudyID": "{number}",
    "SeriesNumber": "{number}",
    "InstanceNumber": "{number}",
    "Modality": "OT",
    "CompletionFlag": "PARTIAL",
    "VerificationFlag": "UNVERIFIED",
    "DoseSummationType": "PLAN",
    "MIMETypeOfEncapsulatedDocument": "application/octet-stream",
    "HangingProtocolLevel": "SINGLE_USER",
    "NumberOfFrames": "1",
    "ImageType": "ORIGINAL\\PRIMARY",
}
INVENTED_BY_VR: Final[dict[bytes, bytes]] = {
    b"DA": b"19000101",
    b"TM": b"000000",
    b"DT": b"19000101000000",
    b"US": b"\1\0",
    b"UL": b"\1\0\0\0",
}
UNKNOWN: Final = b"UNKNOWN"


@dataclass(slots=True, eq=False)
class _Record:
    """A directory record, and those below it."""

    kind: str
    body: bytes
    """The elements behind the offsets, record type included."""
    below: dict[object, _Record] = field(default_factory=dict)
    number: int = 0
    """Which one it is among its neighbours, from 1."""
    offset: int = 0

    @property
    def size(self) -> int:
        return 8 + 34 + len(self.body)  # the item's header; two offsets and the flag between them

    def all(self) -> Iterator[_Record]:
        yield self
        for record in self.below.values():
            yield from record.all()


class DirectoryWriter:
    """Takes objects one after the other, and gives the DICOMDIR that names them."""

    def __init__(self) -> None:
        self._top = _Record("", b"")
        self.invented: Counter[str] = Counter()
        """How many records got a value of ours, by keyword."""

    @staticmethod
    def wanted(sop_class_uid: str) -> frozenset[int]:
        """The tags that the records of an object of this class are made from."""
        kinds = ("PATIENT", "STUDY", "SERIES", record_type(sop_class_uid))
        return frozenset(_tag(key.keyword) for kind in kinds for key in KEYS[kind]) | {CHARACTER_SET}

    def add(self, header: Header, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> tuple[str, ...]:
        """Make the records of an object, with those above that are not there yet; its File ID, part by part.

        `header` has the `wanted` values.  File IDs are 8 characters at most of the capital letters and digits that
        PS3.10 section 8.2 and 8.5 allow.
        """
        kind = record_type(sop_class_uid)
        reference = sop_class_uid, sop_instance_uid, transfer_syntax
        if sop_class_uid in SINGLE_LEVEL:
            number = len(self._top.below) + 1
            path: tuple[str, ...] = (f"{kind[0]}{number:07d}",)
            self._top.below[sop_instance_uid] = self._leaf(kind, header, number, path, reference)
            return path
        if model_of_object(sop_class_uid) is not None:
            raise InstanceError("no directory record is there for this class of no patient; export it with --plain")
        above = [self._record(self._top, self._patient(header), "PATIENT", header)]
        for level, tag in (("STUDY", 0x0020000D), ("SERIES", 0x0020000E)):
            above.append(self._record(above[-1], header.raw(tag), level, header))
        number = len(above[-1].below) + 1
        path = (
            f"PT{above[0].number:06d}", f"ST{above[1].number:06d}", f"SE{above[2].number:06d}",
            f"IM{number:06d}" if number < 1_000_000 else f"I{number:07d}",
        )  # fmt: skip
        above[-1].below[sop_instance_uid] = self._leaf(kind, header, number, path, reference)
        return path

    def encode(self) -> bytes:
        """The whole DICOMDIR."""
        uid = f"2.25.{uuid4().int}"
        meta = encode_file_meta(uids.MEDIA_STORAGE_DIRECTORY_STORAGE, uid, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        start = len(meta) + len(self._general(0, 0)) + LONG_HEADER.size
        at = start
        records = list(self._top.all())[1:]
        for record in records:
            record.offset = at
            at += record.size
        top = list(self._top.below.values())
        pieces = [
            meta,
            self._general(top[0].offset, top[-1].offset) if top else self._general(0, 0),
            LONG_HEADER.pack(0x0004, 0x1220, b"SQ", at - start),
        ]
        pieces += self._items(self._top)
        return b"".join(pieces)

    # ------------------------------------------------------------------ records

    def _record(self, above: _Record, key: object, kind: str, header: Header) -> _Record:
        found = above.below.get(key)
        if found is None:
            number = len(above.below) + 1
            found = above.below[key] = _Record(kind, self._body(kind, header, number), number=number)
        return found

    def _leaf(
        self, kind: str, header: Header, number: int, path: tuple[str, ...], reference: tuple[str, str, str]
    ) -> _Record:
        sop_class_uid, sop_instance_uid, transfer_syntax = reference
        private = {0x00041432: (b"UI", PRIVATE_RECORD_UID.encode())} if kind == "PRIVATE" else {}
        points = {
            **private,
            0x00041500: (b"CS", "\\".join(path).encode()),
            0x00041510: (b"UI", sop_class_uid.encode("latin-1", "replace")),
            0x00041511: (b"UI", sop_instance_uid.encode("latin-1", "replace")),
            0x00041512: (b"UI", transfer_syntax.encode("latin-1", "replace")),
        }
        return _Record(kind, self._body(kind, header, number, points), number=number)

    @staticmethod
    def _patient(header: Header) -> tuple[bytes, ...]:
        """Which patient: the ID with its issuer, the name only where there is no ID."""
        number, issuer, name = (
            (header.raw(_tag(keyword)) or b"").strip(b"\0 ")
            for keyword in ("PatientID", "IssuerOfPatientID", "PatientName")
        )
        return (number, issuer) if number else (b"", issuer, name)

    def _body(
        self, kind: str, header: Header, number: int, points: dict[int, tuple[bytes, bytes]] | None = None
    ) -> bytes:
        """The elements of a record, in the order of their tags."""
        elements = {0x00041430: (b"CS", kind.encode()), **(points or {})}
        character_sets = header.raw(CHARACTER_SET)
        if character_sets and character_sets.strip(b"\0 "):
            elements[CHARACTER_SET] = b"CS", character_sets
        for key in KEYS[kind]:
            tag, vr = _tag(key.keyword), _vr(_tag(key.keyword))
            value = _value(header, tag, vr)
            if not value.strip(b"\0 ") and key.must:
                self.invented[key.keyword] += 1
                value = _invent(key.keyword, vr, number)
            if value or key.must or key.empty:
                elements[tag] = vr, value
        return b"".join(_element(tag, *elements[tag]) for tag in sorted(elements))

    # ------------------------------------------------------------------ bytes

    @staticmethod
    def _general(first: int, last: int) -> bytes:
        """What stands before the records: File-set ID, the offsets of the first and the last at the top, the flag."""
        return b"".join(
            (
                _element(0x00041130, b"CS", b""),
                _element(0x00041200, b"UL", UNSIGNED_LONG.pack(first)),
                _element(0x00041202, b"UL", UNSIGNED_LONG.pack(last)),
                _element(0x00041212, b"US", b"\0\0"),
            )
        )

    def _items(self, above: _Record) -> Iterator[bytes]:
        """The records below one, each before those below it."""
        records = list(above.below.values())
        for record, following in zip(records, [*records[1:], None]):
            lower = next(iter(record.below.values()), None)
            yield ITEM_HEADER.pack(0xFFFE, 0xE000, record.size - 8)
            yield _element(0x00041400, b"UL", UNSIGNED_LONG.pack(following.offset if following else 0))
            yield _element(0x00041410, b"US", b"\xff\xff")
            yield _element(0x00041420, b"UL", UNSIGNED_LONG.pack(lower.offset if lower else 0))
            yield record.body
            yield from self._items(record)


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


def _vr(tag: int) -> bytes:
    """The VR of an element; the first one where the standard leaves a choice, UN for a private one."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)[:2].encode()
    except KeyError:
        return b"UN"


def _value(header: Header, tag: int, vr: bytes) -> bytes:
    """The value as it is written in explicit VR little endian."""
    if vr == b"SQ":
        items = header.items(tag)
        if tag == _tag("ContentSequence"):  # PS3.3 Table F.5-23: what modifies the title, not the whole document
            items = [item for item in items if item.text(RELATIONSHIP_TYPE) == MODIFIER]
        return b"".join(_item(item) for item in items)
    value = header.raw(tag) or b""
    width = WIDTHS.get(vr, 1)
    if header.encoding.big and width > 1:
        return b"".join(value[at : at + width][::-1] for at in range(0, len(value), width))
    return value


def _item(header: Header) -> bytes:
    content = b""
    for tag in header:
        vr = _vr(tag)
        content += _element(tag, vr, _value(header, tag, vr))
    return ITEM_HEADER.pack(0xFFFE, 0xE000, len(content)) + content


def _invent(keyword: str, vr: bytes, number: int) -> bytes:
    if vr == b"SQ":
        return _item(_Unknown())
    if keyword in INVENTED:
        return INVENTED[keyword].format(number=number).encode()
    return INVENTED_BY_VR.get(vr, UNKNOWN)


class _Unknown(Header):
    """The code that says that nobody named one."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(EXPLICIT_LE, None, lambda _header, _raw: [])
        self.values = {0x00080100: UNKNOWN, 0x00080102: b"99DULCET", 0x00080104: b"Unknown"}


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB", b"UN") else b" "
    if vr in LONG_VRS or len(value) > MOST_ITEM:
        if vr not in LONG_VRS:
            vr = b"UN"  # PS3.5 section 6.2.2: too long for the 16 bits of its own VR
        return LONG_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value
    return SHORT_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value
