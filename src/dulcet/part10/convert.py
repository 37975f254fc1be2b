"""One uncompressed transfer syntax into another, for a peer that accepted only the other (PS3.5 Annex A).

Rules: values are carried over byte for byte, their words swapped where the byte order changes; text is never decoded,
so what was odd stays as odd as it was; iterative, so that nesting costs no stack.  Sequences and items get undefined
lengths, group lengths (retired) are left out.  pydicom gives the dictionary of VRs, loaded for implicit VR alone.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Sequence
from typing import Final

from dulcet.errors import CannotConvert, InstanceError
from dulcet.part10.encoding import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    ITEM,
    ITEM_DELIMITER,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    element_header,
    encoding_of,
    is_deflated,
    looks_explicit,
    tag_name,
)
from dulcet.part10.location import Location
from dulcet.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

__all__ = ["UNCOMPRESSED", "convert"]

PREFERENCE: Final = (  # what loses least first: VRs kept, then no inflating at the peer, then the retired one
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
UNCOMPRESSED: Final = frozenset(PREFERENCE)
"""The transfer syntaxes that `convert` knows on both sides."""

MAX_INFLATED: Final = 1024 * 1024 * 1024  # bytes; 1,029 to 1 is what a deflate bomb reaches
MAX_DEPTH: Final = 1024  # open data sets; nothing here grows with depth but a list, so far above any real file

PIXEL_REPRESENTATION: Final = 0x00280103
WORDS: Final = {  # bytes of the words that turn around with the byte order (PS3.5 sections 6.2 and 7.3)
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), 2),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
ARRAYS: Final = {array(code).itemsize: code for code in "HIQ"}


def convert(source: str | os.PathLike[str] | bytes, location: Location, accepted: Sequence[str]) -> tuple[bytes, str]:
    """The data set (no file meta) of a located file in one of the accepted transfer syntaxes, and which one that is.

    `source` is the path or all bytes of the file.  As it stands when its own syntax was accepted; CannotConvert when it
    is compressed or nothing uncompressed was accepted; InstanceError when it is damaged.
    """
    path = None if isinstance(source, bytes) else source
    own = location.transfer_syntax
    if own in accepted:
        return _stored(source, location), own
    target = next((syntax for syntax in PREFERENCE if syntax in accepted), None)
    if own not in UNCOMPRESSED or target is None:
        raise CannotConvert(_refusal(own, accepted), path)
    data = _stored(source, location)
    try:
        if is_deflated(own):
            data = _inflated(data)
        if encoding_of(own) is not encoding_of(target):
            data = _Recoding(data, encoding_of(own), encoding_of(target)).run()
    except InstanceError as error:
        error.path = path
        raise
    return (_deflated(data) if is_deflated(target) else data), target


def _refusal(own: str, accepted: Sequence[str]) -> str:
    peer = ", ".join(accepted) or "none"
    if own in UNCOMPRESSED:
        return f"transfer syntax {own} cannot become one of those that the peer accepted ({peer}); let it accept {own}"
    return (
        f"the pixel data is compressed (transfer syntax {own}) and the peer accepted only {peer}; "
        f"let the peer accept {own}, or decompress the file first"
    )


def _stored(source: str | os.PathLike[str] | bytes, location: Location) -> bytes:
    if isinstance(source, bytes):
        return source[location.offset : location.offset + location.length]
    try:
        with open(source, "rb") as file:
            file.seek(location.offset)
            return file.read(location.length)
    except OSError as error:
        raise InstanceError(f"{source}: cannot be read ({error})", source) from error


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise InstanceError(f"the deflated data set is damaged: {error}; fetch or export the file again") from None
    if not inflater.eof:
        raise InstanceError(
            f"the deflated data set ends early, or is longer than {MAX_INFLATED} bytes; send it to a peer that accepts "
            "deflated data sets, or export it again"
        )
    return inflated


def _deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = deflater.compress(data) + deflater.flush()
    return stream + b"\0" if len(stream) & 1 else stream  # PS3.5 section A.5: an even number of bytes


class _Frame:
    """An open data set (top level or item) or sequence of the source."""

    __slots__ = ("creators", "encoding", "end", "is_sequence", "signed", "undefined")

    def __init__(self, is_sequence: bool, end: int, undefined: bool, encoding: Encoding, signed: bool) -> None:
        self.is_sequence = is_sequence
        self.end = end
        self.undefined = undefined
        self.encoding = encoding
        self.signed = signed  # Pixel Representation, for the elements that are US or SS
        self.creators: dict[int, str] = {}  # private creator by group and block (PS3.5 section 7.8.1)


class _Recoding:
    """One data set on its way from one encoding to another."""

    def __init__(self, data: bytes, source: Encoding, target: Encoding) -> None:
        self._data = data
        self._view = memoryview(data)
        self._at = 0
        self._target = target
        self._parts: list[bytes | memoryview] = []
        if source is IMPLICIT_LE and looks_explicit(data, 0):
            source = EXPLICIT_LE  # the file meta is wrong
        self._frames = [_Frame(False, len(data), False, source, False)]

    def run(self) -> bytes:
        """The data set in the target encoding."""
        while self._frames:
            frame = self._frames[-1]
            if self._at == frame.end or (len(self._frames) == 1 and self._is_padding()):
                self._leave(frame)
            elif frame.is_sequence:
                self._item(frame)
            else:
                self._element(frame)
        return b"".join(self._parts)

    def _is_padding(self) -> bool:
        return len(self._data) - self._at < 8 and not any(self._data[self._at :])  # eight are an element, left out

    def _element(self, frame: _Frame) -> None:
        tag, vr, length, start = self._header(frame)
        if tag >> 16 == 0xFFFE:
            self._delimiter(frame, tag, start)
            return
        if vr is None:
            vr = self._dictionary_vr(frame, tag, start, length)
        undefined = length == UNDEFINED
        end = frame.end if undefined else start + length
        if end > frame.end:
            raise self._error(f"{tag_name(tag)} of {length} bytes runs over the end at byte {frame.end}")
        if undefined and (vr not in (b"SQ", b"UN") or tag in PIXEL_DATA):
            raise CannotConvert(
                f"{tag_name(tag)} is encapsulated, though the transfer syntax is an uncompressed one; "
                "decompress the file first"
            )
        self._at = start
        if undefined or vr == b"SQ":
            self._write_header(tag, b"SQ", UNDEFINED)
            # PS3.5 section 6.2.2 note 4: VR UN of undefined length holds implicit VR little endian
            inner = IMPLICIT_LE if vr == b"UN" else frame.encoding
            self._frames.append(_Frame(True, end, undefined, inner, frame.signed))
            return
        self._at = end
        if tag & 0xFFFF:  # group lengths are wrong now, and retired (PS3.5 section 7.2)
            self._value(frame, tag, vr, start, end)

    def _value(self, frame: _Frame, tag: int, vr: bytes, start: int, end: int) -> None:
        value: bytes | memoryview = self._view[start:end]
        if tag == PIXEL_REPRESENTATION:
            frame.signed = any(value)
        elif tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            frame.creators[tag >> 16 << 16 | (tag & 0xFF) << 8] = bytes(value).decode("latin-1").strip("\0 ")
        if vr in SHORT_VRS and end - start > 0xFFFF:
            vr = b"UN"  # PS3.5 section 6.2.2: too long for the 16-bit length of its VR
        word = WORDS.get(vr, 1)
        if word > 1 and frame.encoding.big != self._target.big:
            value = _swapped(value, word)
        self._write_header(tag, vr, len(value))
        self._parts.append(value)

    def _item(self, frame: _Frame) -> None:
        group, element, length = frame.encoding.implicit_header.unpack_from(self._window(8), 0)
        tag = group << 16 | element
        start = self._at + 8
        if tag == ITEM_DELIMITER:
            self._at = start  # one too many: harmless
            return
        if tag == SEQUENCE_DELIMITER:
            self._at = start
            self._leave(frame)
            return
        end = frame.end if length == UNDEFINED else start + length
        if tag != ITEM or end > frame.end:
            raise self._error(f"expected an item within its sequence, found {tag_name(tag)}, length {length}")
        if len(self._frames) > MAX_DEPTH:
            raise self._error(f"sequences nested deeper than {MAX_DEPTH // 2}")
        self._at = start
        encoding = frame.encoding
        if encoding is IMPLICIT_LE and looks_explicit(self._data, start) and not self._frames[0].encoding.implicit:
            encoding = EXPLICIT_LE
        self._write_delimiter(ITEM, UNDEFINED)
        self._frames.append(_Frame(False, end, length == UNDEFINED, encoding, frame.signed))

    def _delimiter(self, frame: _Frame, tag: int, start: int) -> None:
        """FFFE elements among data elements: the item's end, or somebody's slip."""
        if tag == SEQUENCE_DELIMITER and frame.undefined:
            self._leave(frame)  # the item's own was forgotten
            return
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER):
            raise self._error(f"{tag_name(tag)} stands among data elements, outside of a sequence")
        self._at = start
        if frame.undefined:
            self._leave(frame)

    def _leave(self, frame: _Frame) -> None:
        self._frames.pop()
        if self._frames:
            self._write_delimiter(SEQUENCE_DELIMITER if frame.is_sequence else ITEM_DELIMITER, 0)

    def _header(self, frame: _Frame) -> tuple[int, bytes | None, int, int]:
        found = element_header(self._data, self._at, frame.encoding)
        if found is None or found[3] > frame.end:
            raise self._error("an element header was to come")
        return found

    def _window(self, size: int) -> memoryview:
        if self._frames[-1].end - self._at < size:
            raise self._error("an item was to come")
        return self._view[self._at : self._at + size]

    def _write_header(self, tag: int, vr: bytes, length: int) -> None:
        target = self._target
        if target.implicit:
            self._parts.append(target.implicit_header.pack(tag >> 16, tag & 0xFFFF, length))
        elif vr in SHORT_VRS:
            self._parts.append(target.explicit_header.pack(tag >> 16, tag & 0xFFFF, vr, length))
        else:
            self._parts.append(target.explicit_header.pack(tag >> 16, tag & 0xFFFF, vr, 0) + target.long.pack(length))

    def _write_delimiter(self, tag: int, length: int) -> None:
        self._parts.append(self._target.implicit_header.pack(tag >> 16, tag & 0xFFFF, length))

    def _dictionary_vr(self, frame: _Frame, tag: int, start: int, length: int) -> bytes:
        """The VR that an implicit element has by the dictionary; UN when unknown or when the value contradicts it."""
        if length == UNDEFINED and tag not in PIXEL_DATA:
            return b"SQ"
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            return b"LO"
        vr = _look_up(tag, frame.creators.get(tag & 0xFFFFFF00, ""), signed=frame.signed)
        if vr == b"SQ":
            return vr if not length or self._data[start : start + 4] == frame.encoding.item_tag else b"UN"
        return vr if length % WORDS.get(vr, 1) == 0 else b"UN"

    def _error(self, what: str) -> InstanceError:
        return InstanceError(f"the data set cannot be read at byte {self._at}: {what}; fetch or export the file again")


def _look_up(tag: int, creator: str, *, signed: bool) -> bytes:
    from pydicom.datadict import dictionary_VR, private_dictionary_VR

    try:
        vr = private_dictionary_VR(tag, creator) if tag >> 16 & 1 else dictionary_VR(tag)
    except KeyError:
        return b"UN"
    if "OW" in vr:  # PS3.5 section A.1: what may be OB or OW is OW in implicit VR; look-up tables need long lengths
        return b"OW"
    if " or " in vr:
        return b"SS" if signed else b"US"
    known = vr.encode()
    return known if known in SHORT_VRS or known in LONG_VRS else b"UN"


def _swapped(value: bytes | memoryview, word: int) -> bytes:
    """Every word turned around; bytes after the last whole word stay."""
    whole = len(value) - len(value) % word
    words = array(ARRAYS[word], bytes(value[:whole]))
    words.byteswap()
    return words.tobytes() + bytes(value[whole:])
