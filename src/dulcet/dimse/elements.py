"""The command dictionary (PS3.7 Annex E), and its values: what may be sent and how it is encoded.

Rule: knows elements one by one; which of them make a message is the business of `messages` and `command`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from operator import index
from struct import Struct
from typing import Any, Final, NamedTuple

from dulcet.errors import LocalProtocolError

__all__ = [
    "COMMAND_ELEMENTS",
    "COMMAND_TAGS",
    "DECODERS",
    "ENCODERS",
    "EXPLICIT_VRS",
    "HIGH",
    "LOW",
    "MEDIUM",
    "CommandElement",
    "checked",
    "decode_opaque",
    "decode_text",
    "encode_opaque",
    "encode_uid",
    "is_uid",
    "tag_name",
]

MEDIUM: Final = 0x0000  # (0000,0700) Priority
HIGH: Final = 0x0001
LOW: Final = 0x0002

US: Final = Struct("<H")


class CommandElement(NamedTuple):
    """One row of PS3.7 Tables E.1-1 and E.2-1: keyword, value representation, value multiplicity."""

    keyword: str
    vr: str
    vm: str
    retired: bool = False


RETIRED: Final = True

COMMAND_ELEMENTS: Final[dict[int, CommandElement]] = {
    # PS3.7 Table E.1-1
    0x0000_0000: CommandElement("CommandGroupLength", "UL", "1"),
    0x0000_0002: CommandElement("AffectedSOPClassUID", "UI", "1"),
    0x0000_0003: CommandElement("RequestedSOPClassUID", "UI", "1"),
    0x0000_0100: CommandElement("CommandField", "US", "1"),
    0x0000_0110: CommandElement("MessageID", "US", "1"),
    0x0000_0120: CommandElement("MessageIDBeingRespondedTo", "US", "1"),
    0x0000_0600: CommandElement("MoveDestination", "AE", "1"),
    0x0000_0700: CommandElement("Priority", "US", "1"),
    0x0000_0800: CommandElement("CommandDataSetType", "US", "1"),
    0x0000_0900: CommandElement("Status", "US", "1"),
    0x0000_0901: CommandElement("OffendingElement", "AT", "1-n"),
    0x0000_0902: CommandElement("ErrorComment", "LO", "1"),
    0x0000_0903: CommandElement("ErrorID", "US", "1"),
    0x0000_1000: CommandElement("AffectedSOPInstanceUID", "UI", "1"),
    0x0000_1001: CommandElement("RequestedSOPInstanceUID", "UI", "1"),
    0x0000_1002: CommandElement("EventTypeID", "US", "1"),
    0x0000_1005: CommandElement("AttributeIdentifierList", "AT", "1-n"),
    0x0000_1008: CommandElement("ActionTypeID", "US", "1"),
    0x0000_1020: CommandElement("NumberOfRemainingSuboperations", "US", "1"),
    0x0000_1021: CommandElement("NumberOfCompletedSuboperations", "US", "1"),
    0x0000_1022: CommandElement("NumberOfFailedSuboperations", "US", "1"),
    0x0000_1023: CommandElement("NumberOfWarningSuboperations", "US", "1"),
    0x0000_1030: CommandElement("MoveOriginatorApplicationEntityTitle", "AE", "1"),
    0x0000_1031: CommandElement("MoveOriginatorMessageID", "US", "1"),
    # PS3.7 Table E.2-1: retired, never sent; kept as bytes when a peer sends them
    0x0000_0001: CommandElement("CommandLengthToEnd", "UL", "1", RETIRED),
    0x0000_0010: CommandElement("CommandRecognitionCode", "SH", "1", RETIRED),
    0x0000_0200: CommandElement("Initiator", "AE", "1", RETIRED),
    0x0000_0300: CommandElement("Receiver", "AE", "1", RETIRED),
    0x0000_0400: CommandElement("FindLocation", "AE", "1", RETIRED),
    0x0000_0850: CommandElement("NumberOfMatches", "US", "1", RETIRED),
    0x0000_0860: CommandElement("ResponseSequenceNumber", "US", "1", RETIRED),
    0x0000_4000: CommandElement("DialogReceiver", "LT", "1", RETIRED),
    0x0000_4010: CommandElement("TerminalType", "LT", "1", RETIRED),
    0x0000_5010: CommandElement("MessageSetID", "SH", "1", RETIRED),
    0x0000_5020: CommandElement("EndMessageID", "SH", "1", RETIRED),
    0x0000_5110: CommandElement("DisplayFormat", "LT", "1", RETIRED),
    0x0000_5120: CommandElement("PagePositionID", "LT", "1", RETIRED),
    0x0000_5130: CommandElement("TextFormatID", "CS", "1", RETIRED),
    0x0000_5140: CommandElement("NormalReverse", "CS", "1", RETIRED),
    0x0000_5150: CommandElement("AddGrayScale", "CS", "1", RETIRED),
    0x0000_5160: CommandElement("Borders", "CS", "1", RETIRED),
    0x0000_5170: CommandElement("Copies", "IS", "1", RETIRED),
    0x0000_5180: CommandElement("CommandMagnificationType", "CS", "1", RETIRED),
    0x0000_5190: CommandElement("Erase", "CS", "1", RETIRED),
    0x0000_51A0: CommandElement("Print", "CS", "1", RETIRED),
    0x0000_51B0: CommandElement("Overlays", "US", "1-n", RETIRED),
}

COMMAND_TAGS: Final[dict[str, int]] = {element.keyword: tag for tag, element in COMMAND_ELEMENTS.items()}


def tag_name(tag: int) -> str:
    """The keyword of a tag, or `(gggg,eeee)` where it has none."""
    element = COMMAND_ELEMENTS.get(tag)
    return element.keyword if element else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


# --- what may be sent ------------------------------------------------------------------------------------------------

# PS3.5 Table 6.2-1 without the padding.  A UID should be digits and dots alone (section 9.1), but is not in every file.
is_uid: Final[Callable[[str], object]] = re.compile(r"[!-\[\]-~]{1,64}").fullmatch
_is_ae_title = re.compile(r"[ -\[\]-~]{1,16}").fullmatch
_is_long_string = re.compile(r"[ -\[\]-~]{1,64}").fullmatch  # the default repertoire, for a command set names no other


def checked(name: str, keyword: str, value: Any) -> Any:
    """`value` as it is kept and encoded; LocalProtocolError, naming the message `name`, says what was expected."""
    vr = "Priority" if keyword == "Priority" else COMMAND_ELEMENTS[COMMAND_TAGS[keyword]].vr
    check, expected = _CHECKS[vr]
    try:
        return check(value)
    except (TypeError, ValueError):
        given = f"{len(value)} characters of text" if isinstance(value, str) and vr == "LO" else repr(value)
        raise LocalProtocolError(f"{name}: {keyword} is {given}; expected {expected}") from None


def _check_us(value: Any) -> int:
    number = index(value)
    if not 0 <= number <= 0xFFFF:
        raise ValueError
    return number


def _check_priority(value: Any) -> int:
    number = index(value)
    if number not in (MEDIUM, HIGH, LOW):
        raise ValueError
    return number


def _check_tags(value: Any) -> tuple[int, ...]:
    tags = tuple(index(tag) for tag in value)
    if not tags or not all(0 <= tag <= 0xFFFF_FFFF for tag in tags):
        raise ValueError
    return tags


def _check_text(matches: Callable[[str], object]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = str.strip(value, " ")
        if not matches(text):
            raise ValueError
        return text

    return check


_CHECKS: Final[dict[str, tuple[Callable[[Any], Any], str]]] = {
    "US": (_check_us, "an integer from 0 to 65535"),
    "Priority": (_check_priority, "0 (medium), 1 (high) or 2 (low)"),
    "AT": (_check_tags, "one or more tags, integers from 0 to 0xFFFFFFFF"),
    "UI": (_check_text(is_uid), "a UID of 1 to 64 ASCII characters"),
    "AE": (_check_text(_is_ae_title), "an AE title of 1 to 16 ASCII characters, not blank, without a backslash"),
    "LO": (_check_text(_is_long_string), "1 to 64 ASCII characters without a backslash"),
}


# --- values as bytes -------------------------------------------------------------------------------------------------


def _encode_us(value: int | None) -> bytes:
    return b"" if value is None else US.pack(value)


def encode_uid(value: str | None) -> bytes:
    """UI, padded with NUL to an even length."""
    data = (value or "").encode("latin-1")
    return data + b"\0" if len(data) & 1 else data  # PS3.5 section 9.1


def _encode_text(value: str | None) -> bytes:
    data = (value or "").encode("latin-1")
    return data + b" " if len(data) & 1 else data  # PS3.5 Table 6.2-1


def _encode_tags(value: tuple[int, ...] | None) -> bytes:
    return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value or ())


def encode_opaque(value: bytes | None) -> bytes:
    """An element of no known VR: its bytes, padded with NUL to an even length."""
    data = b"" if value is None else b"".join((value,))  # refuses all but bytes
    return data + b"\0" if len(data) & 1 else data


def _decode_us(value: bytes) -> int | None:
    return int.from_bytes(value[:2], "little") if value else None


def decode_text(value: bytes) -> str | None:
    """UI, AE and LO: the first of several values, without padding at either end; None when nothing is left."""
    if b"\\" in value:
        value = value.partition(b"\\")[0]
    return value.strip(b"\0 ").decode("latin-1") or None


def _decode_tags(value: bytes) -> tuple[int, ...] | None:
    whole = value[: len(value) & ~3]
    return tuple(group << 16 | element for group, element in struct.iter_unpack("<HH", whole)) or None


def decode_opaque(value: bytes) -> bytes | None:
    """An element of no known VR: its bytes, None when empty."""
    return value or None


_CODECS: Final[dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]]] = {
    "US": (_encode_us, _decode_us),
    "UI": (encode_uid, decode_text),
    "AE": (_encode_text, decode_text),
    "LO": (_encode_text, decode_text),
    "AT": (_encode_tags, _decode_tags),
}
_LIVE: Final = {tag: element for tag, element in COMMAND_ELEMENTS.items() if tag and not element.retired}
ENCODERS: Final = {tag: _CODECS[element.vr][0] for tag, element in _LIVE.items()}
DECODERS: Final = {tag: _CODECS[element.vr][1] for tag, element in _LIVE.items()}

# The VRs of the command dictionary: all have the short explicit form, 2 letters and 2 bytes of length (PS3.5 7.1.2).
EXPLICIT_VRS: Final = frozenset(element.vr.encode() for element in COMMAND_ELEMENTS.values())
