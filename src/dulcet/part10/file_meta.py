"""The file meta information of a DICOM file (PS3.10 section 7.1), and names made from UIDs.

Rule: what a peer sent is written as it was sent; nothing here refuses, pads beyond the even length, or cuts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from struct import Struct
from typing import Final

from dulcet._version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["encode_file_meta", "is_valid_uid", "safe_name"]

PREAMBLE: Final = bytes(128) + b"DICM"  # zeros: a preamble with other content makes a file two things at once
GROUP_LENGTH: Final = Struct("<HH2sHL")
SHORT_ELEMENT: Final = Struct("<HH2sH")
LONG_ELEMENT: Final = Struct("<HH2sHL")
FILE_META_VERSION: Final = LONG_ELEMENT.pack(2, 1, b"OB", 0, 2) + b"\0\1"
MAX_UID_LENGTH: Final = 64  # PS3.5 section 9.1

_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_STRICT_UID: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")


def encode_file_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
    *,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
    source_ae_title: str = "",
    sending_ae_title: str = "",
    receiving_ae_title: str = "",
) -> bytes:
    """What stands before the data set in a file: zero preamble, `DICM`, group 0002 in explicit VR little endian.

    Empty AE titles are left out.  Never raises on text that a peer might send: odd characters are kept as bytes.
    """
    instance = _element(0x0003, b"UI", sop_instance_uid)
    head = _class_element(sop_class_uid)
    tail = _tail(
        transfer_syntax,
        implementation_class_uid,
        implementation_version_name,
        source_ae_title,
        sending_ae_title,
        receiving_ae_title,
    )
    length = len(head) + len(instance) + len(tail)
    return b"".join((PREAMBLE, GROUP_LENGTH.pack(2, 0, b"UL", 4, length), head, instance, tail))


@lru_cache(maxsize=512)
def _class_element(sop_class_uid: str) -> bytes:
    return FILE_META_VERSION + _element(0x0002, b"UI", sop_class_uid)


@lru_cache(maxsize=512)
def _tail(transfer_syntax: str, class_uid: str, version: str, source: str, sending: str, receiving: str) -> bytes:
    """The elements that stay the same for a whole association."""
    optional = ((0x0016, source), (0x0017, sending), (0x0018, receiving))
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax),
            _element(0x0012, b"UI", class_uid),
            _element(0x0013, b"SH", version),
            *(_element(element, b"AE", title) for element, title in optional if title),
        )
    )


def _element(element: int, vr: bytes, text: str) -> bytes:
    try:
        value = text.encode("ascii")
    except UnicodeEncodeError:
        value = text.encode("utf-8", "surrogatepass")
    if len(value) & 1:
        value += b"\0" if vr == b"UI" else b" "
    if len(value) > 0xFFFF:  # PS3.5 section 6.2.2: a value too long for its VR's 16-bit length is written as UN
        return LONG_ELEMENT.pack(2, element, b"UN", 0, len(value)) + value
    return SHORT_ELEMENT.pack(2, element, vr, len(value)) + value


def is_valid_uid(text: str, *, strict: bool = False) -> bool:
    """True for digits and dots in components, at most 64 characters (PS3.5 section 9.1).

    Leading zeros of a component are tolerated unless `strict`: they are wrong, common and harmless.
    """
    pattern = _STRICT_UID if strict else _UID
    return len(text) <= MAX_UID_LENGTH and pattern.fullmatch(text) is not None


def safe_name(uid: str) -> str:
    """A name for a file or folder: the UID itself when it is one, else `uid-` and 32 hexadecimal digits of its SHA-256.

    The result never holds a separator, never begins or ends with a dot, and differs for different text.
    """
    if is_valid_uid(uid):
        return uid
    from hashlib import sha256  # loads OpenSSL

    return "uid-" + sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]
