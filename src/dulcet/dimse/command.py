"""The command set of a DIMSE message and its codec (PS3.7 section 6.3): implicit VR little endian, group 0000 alone.

Rules: what a message may carry is asked of the table in `messages`; what we send is checked, what we receive is
tolerated where a meaning is left; decoding raises RemoteProtocolError and nothing else; a fast path gives what the
general path gives, or steps aside.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from struct import Struct
from typing import Any, ClassVar, Final, Generic, Never, TypeVar, overload

from dulcet.dimse.elements import (
    COMMAND_ELEMENTS,
    COMMAND_TAGS,
    DECODERS,
    ENCODERS,
    EXPLICIT_VRS,
    HIGH,
    LOW,
    MEDIUM,
    checked,
    decode_opaque,
    decode_text,
    encode_opaque,
    encode_uid,
    is_uid,
    tag_name,
)
from dulcet.dimse.messages import MESSAGES, RESPONSE, CommandField, DataSetRule, MessageDefinition
from dulcet.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "HIGH",
    "LOW",
    "MEDIUM",
    "NO_DATA_SET",
    "Command",
    "encode_c_echo_rq",
    "encode_c_store_rq",
    "encode_response",
]

NO_DATA_SET: Final = 0x0101  # (0000,0800) Command Data Set Type; any other value says that a data set follows
DATA_SET: Final = 0x0001  # the one of the other values that we send

ELEMENT_HEADER: Final = Struct("<HHI")  # group, element, length of the value
GROUP_LENGTH: Final = Struct("<HHII")  # (0000,0000) with its value, the bytes that follow it

_DEFINITIONS: Final[dict[int, MessageDefinition]] = {int(field): row for field, row in MESSAGES.items()}

T = TypeVar("T")


class Element(Generic[T]):
    """The value of one command element, as an attribute of Command; None when absent or empty."""

    def __init__(self, tag: int) -> None:
        self._tag = tag
        element = COMMAND_ELEMENTS[tag]
        self.__doc__ = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {element.keyword}, {element.vr}; None when absent."

    @overload
    def __get__(self, command: None, owner: type[Command]) -> Element[T]: ...

    @overload
    def __get__(self, command: Command, owner: type[Command]) -> T | None: ...

    def __get__(self, command: Command | None, owner: type[Command]) -> Element[T] | T | None:
        if command is None:
            return self
        value: T | None = command.elements.get(self._tag)
        return value


class Command:
    """A command set: `elements` maps tags to values, in the order they were given or received.

    US is int, UI, AE and LO are str without padding, AT is a tuple of tags; an empty element is None; unknown and
    retired elements are bytes.  (0000,0000) Command Group Length is not kept: encoding makes it.
    """

    __slots__ = ("elements",)

    def __init__(self, elements: dict[int, Any]) -> None:
        self.elements: dict[int, Any] = elements

    affected_sop_class_uid: Element[str] = Element(0x0002)
    requested_sop_class_uid: Element[str] = Element(0x0003)
    message_id: Element[int] = Element(0x0110)
    message_id_being_responded_to: Element[int] = Element(0x0120)
    move_destination: Element[str] = Element(0x0600)
    priority: Element[int] = Element(0x0700)
    command_data_set_type: Element[int] = Element(0x0800)
    status: Element[int] = Element(0x0900)
    offending_element: Element[tuple[int, ...]] = Element(0x0901)
    error_comment: Element[str] = Element(0x0902)
    error_id: Element[int] = Element(0x0903)
    affected_sop_instance_uid: Element[str] = Element(0x1000)
    requested_sop_instance_uid: Element[str] = Element(0x1001)
    event_type_id: Element[int] = Element(0x1002)
    attribute_identifier_list: Element[tuple[int, ...]] = Element(0x1005)
    action_type_id: Element[int] = Element(0x1008)
    number_of_remaining_suboperations: Element[int] = Element(0x1020)
    number_of_completed_suboperations: Element[int] = Element(0x1021)
    number_of_failed_suboperations: Element[int] = Element(0x1022)
    number_of_warning_suboperations: Element[int] = Element(0x1023)
    move_originator_ae_title: Element[str] = Element(0x1030)
    move_originator_message_id: Element[int] = Element(0x1031)

    @property
    def field(self) -> int:
        """(0000,0100) Command Field; 0, which no message has, when absent from a command set made by hand."""
        return self.elements.get(0x0100) or 0

    @property
    def definition(self) -> MessageDefinition | None:
        """The row of the message table; None for a Command Field that the standard does not know."""
        return _DEFINITIONS.get(self.field)

    @property
    def name(self) -> str:
        """`C-STORE-RQ`, or the Command Field in hexadecimal where it is unknown."""
        definition = self.definition
        return definition.name if definition else f"{self.field:#06x}"

    @property
    def is_response(self) -> bool:
        """True for a response, of an unknown service too."""
        return bool(self.field & RESPONSE)

    @property
    def is_request(self) -> bool:
        """True for a request; C-CANCEL-RQ is one."""
        return not self.field & RESPONSE

    @property
    def has_data_set(self) -> bool:
        """True when a data set follows; without (0000,0800), when the message must have one."""
        kind = self.elements.get(0x0800)
        if kind is None:
            definition = self.definition
            return definition is not None and definition.data_set is DataSetRule.REQUIRED
        return bool(kind != NO_DATA_SET)

    @property
    def sop_class_uid(self) -> str | None:
        """The affected SOP class, or else the requested one."""
        return self.elements.get(0x0002) or self.elements.get(0x0003)

    @property
    def sop_instance_uid(self) -> str | None:
        """The affected SOP instance, or else the requested one."""
        return self.elements.get(0x1000) or self.elements.get(0x1001)

    @classmethod
    def make(cls, field: int, /, *, data_set: bool = False, validate: bool = True, **keywords: Any) -> Command:
        """The command set of the message `field`, from `keywords` as `MessageID=1`; None stands for an absent one.

        `data_set` tells whether a data set follows.  Raises LocalProtocolError for an unknown or missing keyword, a
        value out of range (US 0..65535, UI 1..64, AE 1..16, LO 1..64 characters of ASCII) or a data set that the
        message must or must not have; with `validate=False` for a keyword that is not in the dictionary alone.
        """
        command = cls({0x0100: int(field), 0x0800: DATA_SET if data_set else NO_DATA_SET})
        return command._changed(keywords, validate=validate)

    def copy(self) -> Command:
        """An equal command set that can be changed by itself."""
        return Command(dict(self.elements))

    def replace(self, /, *, data_set: bool | None = None, validate: bool = True, **keywords: Any) -> Command:
        """A copy with the elements in `keywords` changed, or removed where None is given.

        `data_set` tells whether a data set follows, None leaves it as it is.  `validate` is as for `make`, and so is
        what raises LocalProtocolError.
        """
        command = self.copy()
        if data_set is not None:
            command.elements[0x0800] = DATA_SET if data_set else NO_DATA_SET
        return command._changed(keywords, validate=validate)

    def _changed(self, keywords: dict[str, Any], *, validate: bool) -> Command:
        """Apply `keywords` to this command set and check it."""
        definition = _definition(self) if validate else None
        known = _known_keywords(definition)
        for keyword, value in keywords.items():
            tag = known.get(keyword)
            if tag is None:
                raise LocalProtocolError(
                    f"{self.name} has no {keyword}; expected of {', '.join(known) or 'nothing'}"
                    if definition
                    else f"{self.name}: {keyword} is not a keyword of the command dictionary (PS3.7 Annex E)"
                )
            if value is None:
                self.elements.pop(tag, None)
            else:
                self.elements[tag] = checked(self.name, keyword, value) if definition else value
        if definition:
            _check_message(self, definition)
        return self

    def encode(self) -> bytes:
        """The bytes on the wire, tags ascending, group length first (PS3.7 section 6.3.1).

        Raises LocalProtocolError for a value that does not fit its VR, which `make` would have refused.
        """
        parts = []
        for tag in sorted(self.elements):
            if tag == 0x0000:
                continue
            try:
                value = ENCODERS.get(tag, encode_opaque)(self.elements[tag])
                parts.append(ELEMENT_HEADER.pack(0, tag, len(value)) + value)
            except (struct.error, TypeError, ValueError, AttributeError) as error:
                raise LocalProtocolError(f"{self.name}: {tag_name(tag)} cannot be encoded: {error}") from error
        body = b"".join(parts)
        return GROUP_LENGTH.pack(0, 0, 4, len(body)) + body

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Command:
        """The command set in `data`, all of it; RemoteProtocolError (source 0, reason 0) when there is none.

        An error is: an element header or value that is cut short, and a missing or empty (0000,0100).  Tolerated are:
        elements in any order; a wrong or missing group length; the first of duplicates counts; elements of other
        groups are skipped; odd lengths; text padded with NUL or space at either end (blank text is None); of several
        values where one is expected the first, so a US of more than 2 bytes gives its first 2, and one of 1 byte that
        byte; an AT with bytes to spare gives the whole tags; explicit VR little endian, element by element, where the
        length makes no sense as an implicit one.  Text is read as ISO 8859-1, so that every byte has a meaning.
        """
        data = bytes(data)
        elements = _decode_store(data)
        if elements is None:
            elements = _decode_elements(data)
        if elements.get(0x0100) is None:
            _refuse("the command set has no Command Field (0000,0100)")
        return cls(elements)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Command):
            return NotImplemented
        return self.elements == other.elements

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        """Message and elements, but neither comments nor opaque bytes: these could tell of a patient."""
        shown = [
            f"{tag_name(tag)}={_shown(tag, value)}"
            for tag, value in self.elements.items()
            if tag not in (0x0000, 0x0100, 0x0800)
        ]
        return f"<{' '.join([self.name, *shown, 'with data set' if self.has_data_set else 'without data set'])}>"


def _shown(tag: int, value: Any) -> str:
    """A value for people; the length alone of what could be patient data."""
    if tag == 0x0900 and isinstance(value, int):
        return f"{value:#06x}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if tag == 0x0902 and isinstance(value, str):
        return f"<{len(value)} characters>"
    if isinstance(value, tuple):
        return "[" + " ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in value) + "]"
    return repr(value)


# --- the message is checked against its table ------------------------------------------------------------------------


def _known_keywords(definition: MessageDefinition | None) -> dict[str, int]:
    """The keywords that may be given: those of the message, or the whole dictionary."""
    if definition is None:
        return COMMAND_TAGS
    return {keyword: COMMAND_TAGS[keyword] for keyword in definition.required + definition.optional}


def _definition(command: Command) -> MessageDefinition:
    definition = command.definition
    if definition is None:
        raise LocalProtocolError(f"{command.name} is not the Command Field of a message (PS3.7 Table E.1-1)")
    return definition


def _check_message(command: Command, definition: MessageDefinition) -> None:
    """Hold a command set against its row of the table."""
    for keyword in definition.required:
        if command.elements.get(COMMAND_TAGS[keyword]) is None:
            raise LocalProtocolError(f"{definition.name} needs {keyword}")
    if definition.data_set is DataSetRule.REQUIRED and not command.has_data_set:
        raise LocalProtocolError(f"{definition.name} needs a data set")
    if definition.data_set is DataSetRule.NEVER and command.has_data_set:
        raise LocalProtocolError(f"{definition.name} has no data set")


# --- the general codec -----------------------------------------------------------------------------------------------


def _refuse(message: str) -> Never:
    raise RemoteProtocolError(message, source=0, reason=0)


def _decode_elements(data: bytes) -> dict[int, Any]:
    """Every element of group 0000 in `data` but the group length; RemoteProtocolError where it is cut short."""
    elements: dict[int, Any] = {}
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < 8:
            _refuse(f"the command set ends within an element header at byte {offset}: {end - offset} of 8 bytes")
        group, element, length = ELEMENT_HEADER.unpack_from(data, offset)
        offset += 8
        if length > end - offset and data[offset - 4 : offset - 2] in EXPLICIT_VRS:
            length >>= 16  # two letters and a length: explicit VR, which PS3.7 section 6.3.1 rules out
        if length > end - offset:
            _refuse(f"({group:04X},{element:04X}) of {length} bytes exceeds the {end - offset} left in the command set")
        if not group and element and element not in elements:
            elements[element] = DECODERS.get(element, decode_opaque)(data[offset : offset + length])
        offset += length
    return elements


# --- fast paths: C-STORE and the plain responses, thousands a second -------------------------------------------------


def _header(tag: int, length: int) -> bytes:
    return ELEMENT_HEADER.pack(0, tag, length)


_START: Final = _header(0x0000, 4)
_CLASS: Final = ELEMENT_HEADER.pack(0, 0x0002, 0)[:4]
_INSTANCE: Final = ELEMENT_HEADER.pack(0, 0x1000, 0)[:4]
_FIELD, _ID, _ID_ANSWERED = _header(0x0100, 2), _header(0x0110, 2), _header(0x0120, 2)
_PRIORITY, _DATA_SET_TYPE, _STATUS = _header(0x0700, 2), _header(0x0800, 2), _header(0x0900, 2)

_CLASS_START: Final = Struct("<8s4x4sI")  # the group length, whatever its value; the header of the class UID
_FOUR_SHORTS: Final = Struct("<8sH8sH8sH8sH")
_THREE_SHORTS: Final = Struct("<8sH8sH8sH")
_INSTANCE_HEADER: Final = Struct("<4sI")


_LONGEST: Final = 66
"""Bytes of a class UID that is worth remembering; a longer one is wrong."""
_remembered: Final = lru_cache(maxsize=512)(decode_text)  # SOP classes come again and again


def _class_uid(value: bytes) -> str | None:
    return _remembered(value) if len(value) <= _LONGEST else decode_text(value)


def _decode_store(data: bytes) -> dict[int, Any] | None:
    """C-STORE-RQ, C-STORE-RSP, C-ECHO-RQ and -RSP exactly as everybody writes them; None for anything else.

    The layout: class UID, Command Field, message id, then priority and data set type or data set type and status, then
    the instance UID or nothing; of a C-ECHO-RQ the data set type alone.
    """
    try:
        start, tag, length = _CLASS_START.unpack_from(data)
        after_class = 20 + length
        if len(data) == after_class + _THREE_SHORTS.size:
            h1, field, h2, message_id, h3, third = _THREE_SHORTS.unpack_from(data, after_class)
            if start != _START or tag != _CLASS or h1 != _FIELD or h2 != _ID or h3 != _DATA_SET_TYPE:
                return None
            return {0x0002: _class_uid(data[20:after_class]), 0x0100: field, 0x0110: message_id, 0x0800: third}
        h1, field, h2, message_id, h3, third, h4, fourth = _FOUR_SHORTS.unpack_from(data, after_class)
    except struct.error:
        return None
    if start != _START or tag != _CLASS or h1 != _FIELD:
        return None
    if h2 == _ID and h3 == _PRIORITY and h4 == _DATA_SET_TYPE:
        tags = (0x0110, 0x0700, 0x0800)
    elif h2 == _ID_ANSWERED and h3 == _DATA_SET_TYPE and h4 == _STATUS:
        tags = (0x0120, 0x0800, 0x0900)
    else:
        return None
    elements = {
        0x0002: _class_uid(data[20:after_class]),
        0x0100: field,
        tags[0]: message_id,
        tags[1]: third,
        tags[2]: fourth,
    }
    rest = after_class + _FOUR_SHORTS.size
    if rest == len(data):
        return elements
    if len(data) - rest < 8:
        return None
    tag, length = _INSTANCE_HEADER.unpack_from(data, rest)
    if tag != _INSTANCE or rest + 8 + length != len(data):
        return None
    elements[0x1000] = decode_text(data[rest + 8 :])
    return elements


_STORE_RQ: Final = Struct("<8sH8sH8sH4sI")  # message id, priority, data set type, the header of the instance UID
_ECHO_RQ: Final = Struct("<8sH8sH")  # message id, data set type
_RESPONSE: Final = Struct("<8sH8sH8sH")  # message id answered, data set type, status


@lru_cache(maxsize=512)  # SOP classes; the standard has about 250, and an entry takes some 200 bytes
def _template(field: int, class_uid: str) -> tuple[int, bytes]:
    """Length and bytes of (0000,0002) and (0000,0100); ValueError for a UID that is not worth keeping."""
    if not is_uid(class_uid):
        raise ValueError
    encoded = Command({0x0002: class_uid, 0x0100: field}).encode()[GROUP_LENGTH.size :]
    return len(encoded), encoded


def encode_c_echo_rq(message_id: int, class_uid: str = "1.2.840.10008.1.1") -> bytes:
    """A C-ECHO-RQ.  Raises LocalProtocolError like `Command.make`."""
    try:  # fast path: equal to the general one below
        length, start = _template(CommandField.C_ECHO_RQ, class_uid)
        middle = _ECHO_RQ.pack(_ID, message_id, _DATA_SET_TYPE, NO_DATA_SET)
        return GROUP_LENGTH.pack(0, 0, 4, length + _ECHO_RQ.size) + start + middle
    except (struct.error, TypeError, ValueError):
        return Command.make(CommandField.C_ECHO_RQ, AffectedSOPClassUID=class_uid, MessageID=message_id).encode()


def encode_c_store_rq(
    message_id: int,
    class_uid: str,
    instance_uid: str,
    priority: int = MEDIUM,
    originator: tuple[str, int] | None = None,
) -> bytes:
    """A C-STORE-RQ with a data set; `originator` is AE title and message id of the C-MOVE-RQ behind it.

    Raises LocalProtocolError like `Command.make`.
    """
    # Fast path, about 1 us: equal to the general path below, which takes whatever is unusual or wrong.
    if originator is None and priority in (MEDIUM, HIGH, LOW):
        try:
            if is_uid(instance_uid):
                length, start = _template(CommandField.C_STORE_RQ, class_uid)
                uid = instance_uid.encode("ascii")
                if len(uid) & 1:
                    uid += b"\0"
                middle = _STORE_RQ.pack(
                    _ID, message_id, _PRIORITY, priority, _DATA_SET_TYPE, DATA_SET, _INSTANCE, len(uid)
                )
                return GROUP_LENGTH.pack(0, 0, 4, length + _STORE_RQ.size + len(uid)) + start + middle + uid
        except (struct.error, TypeError, ValueError):
            pass
    title, originator_id = originator or (None, None)
    return Command.make(
        CommandField.C_STORE_RQ,
        data_set=True,
        AffectedSOPClassUID=class_uid,
        MessageID=message_id,
        Priority=priority,
        AffectedSOPInstanceUID=instance_uid,
        MoveOriginatorApplicationEntityTitle=title,
        MoveOriginatorMessageID=originator_id,
    ).encode()


def encode_response(
    request_field: int, message_id: int, class_uid: str | None, instance_uid: str | None, status: int
) -> bytes:
    """The response without a data set to `request_field`: C-STORE-RSP, C-ECHO-RSP, a final C-FIND-RSP and so on.

    The UIDs echo the request and are not checked, for a peer that sends bad ones is to be answered all the same; None
    leaves them out.  Raises LocalProtocolError for a message id or status that is not 0..65535.
    """
    field = request_field | RESPONSE
    # Fast path, about 1 us: equal to the general path below, which takes whatever is unusual or wrong.
    if class_uid is not None:
        try:
            length, start = _template(field, class_uid)
            middle = _RESPONSE.pack(_ID_ANSWERED, message_id, _DATA_SET_TYPE, NO_DATA_SET, _STATUS, status)
            tail = b""
            if instance_uid is not None:
                uid = encode_uid(instance_uid)
                tail = _INSTANCE_HEADER.pack(_INSTANCE, len(uid)) + uid
            return GROUP_LENGTH.pack(0, 0, 4, length + _RESPONSE.size + len(tail)) + start + middle + tail
        except (struct.error, TypeError, ValueError, AttributeError):
            pass
    name = Command({0x0100: field}).name
    return Command.make(
        field,
        validate=False,
        AffectedSOPClassUID=class_uid,
        MessageIDBeingRespondedTo=checked(name, "MessageIDBeingRespondedTo", message_id),
        Status=checked(name, "Status", status),
        AffectedSOPInstanceUID=instance_uid,
    ).encode()
