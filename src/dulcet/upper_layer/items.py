"""The items of the association PDUs (PS3.8 sections 9.3.2 and 9.3.3, PS3.7 Annex D.3.3).

Rules: decoders are total (a value or RemoteProtocolError); what is not known is kept; text is kept as it came (only the
padding that the standard knows is taken off); encoders refuse what the field cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct, error
from sys import intern
from typing import Final

from dulcet.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "AsynchronousOperationsWindow",
    "CommonExtendedNegotiation",
    "ContextResult",
    "ExtendedNegotiation",
    "ImplementationClassUID",
    "ImplementationVersionName",
    "MaximumLength",
    "ProposedContext",
    "RoleSelection",
    "UnknownItem",
    "UserIdentityAC",
    "UserIdentityRQ",
    "UserItem",
    "split_items",
]

ITEM_HEADER: Final = Struct(">BxH")
LENGTH: Final = Struct(">H")
TWO_LENGTHS: Final = Struct(">HH")
MAXIMUM_LENGTH: Final = Struct(">I")
CONTEXT_HEADER: Final = Struct(">BxBx")
TWO_BYTES: Final = Struct("BB")

APPLICATION_CONTEXT: Final = 0x10
PROPOSED_CONTEXT: Final = 0x20
CONTEXT_RESULT: Final = 0x21
ABSTRACT_SYNTAX: Final = 0x30
TRANSFER_SYNTAX: Final = 0x40
USER_INFORMATION: Final = 0x50


def malformed(message: str) -> RemoteProtocolError:
    """Invalid PDU parameter value: A-ABORT (2,6)."""
    return RemoteProtocolError(message, source=2, reason=6)


def pack(layout: Struct, *values: int | bytes) -> bytes:
    """`layout.pack(*values)`, with LocalProtocolError for a value that its field cannot hold."""
    try:
        return layout.pack(*values)
    except error as wrong:
        raise LocalProtocolError(f"{values} do not fit their fields: {wrong}") from None


def item(item_type: int, payload: bytes) -> bytes:
    """One item or sub-item: type, reserved, 16-bit length, payload."""
    if len(payload) > 0xFFFF:
        raise LocalProtocolError(f"item {item_type:02X}H is {len(payload)} bytes long; an item holds at most 65535")
    return pack(ITEM_HEADER, item_type, len(payload)) + payload


def split_items(data: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    """Each (type, payload) of a run of items; RemoteProtocolError when one overruns `data`."""
    position, end = 0, len(data)
    while position < end:
        if end - position < 4:
            raise malformed(f"{where}: {end - position} stray bytes after the last item")
        item_type, length = ITEM_HEADER.unpack_from(data, position)
        position += 4
        if length > end - position:
            raise malformed(f"{where}: item {item_type:02X}H says {length} bytes, {end - position} are left")
        yield item_type, data[position : position + length]
        position += length


def encode_text(text: str) -> bytes:
    """A UID or name as it stands on the wire here: not padded (PS3.8 Annex F).

    Every byte that a peer may send is allowed, for an answer repeats UIDs of the request.
    """
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise LocalProtocolError(f"{text!r} holds characters that this field cannot carry") from None


def decode_text(data: bytes) -> str:
    """A UID or name without the NUL or space padding that some peers add; its characters are not judged here.

    Interned: the same UIDs come with every association, and an idle one is to cost little.
    """
    return intern(data.decode("latin-1").strip("\0 "))


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as proposed (item 20H, PS3.8 section 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        parts = [pack(CONTEXT_HEADER, self.context_id, 0), item(ABSTRACT_SYNTAX, encode_text(self.abstract_syntax))]
        parts += [item(TRANSFER_SYNTAX, encode_text(uid)) for uid in self.transfer_syntaxes]
        return item(PROPOSED_CONTEXT, b"".join(parts))

    @classmethod
    def decode(cls, data: bytes) -> ProposedContext:
        if len(data) < 4:
            raise malformed(f"presentation context item of {len(data)} bytes; at least 4 expected")
        abstract_syntax: str | None = None
        transfer_syntaxes: list[str] = []
        for sub_type, payload in split_items(data[4:], f"presentation context {data[0]}"):
            if sub_type == ABSTRACT_SYNTAX and abstract_syntax is None:
                abstract_syntax = decode_text(payload)
            elif sub_type == TRANSFER_SYNTAX:
                transfer_syntaxes.append(decode_text(payload))
        return cls(data[0], abstract_syntax or "", tuple(transfer_syntaxes))


@dataclass(frozen=True, slots=True)
class ContextResult:
    """The answer to a presentation context (item 21H, PS3.8 section 9.3.3.2).

    `result`: 0 acceptance, 1 user rejection, 2 no reason, 3 abstract syntax not supported, 4 transfer syntaxes not
    supported (Table 9-18).  `transfer_syntax` is not significant unless the result is 0.
    """

    context_id: int
    result: int
    transfer_syntax: str = ""

    @property
    def accepted(self) -> bool:
        return self.result == 0

    def encode(self) -> bytes:
        # A transfer syntax sub-item is there even when not significant: some peers insist on it.
        syntax = item(TRANSFER_SYNTAX, encode_text(self.transfer_syntax))
        return item(CONTEXT_RESULT, pack(CONTEXT_HEADER, self.context_id, self.result) + syntax)

    @classmethod
    def decode(cls, data: bytes) -> ContextResult:
        if len(data) < 4:
            raise malformed(f"presentation context result of {len(data)} bytes; at least 4 expected")
        transfer_syntax = ""
        for sub_type, payload in split_items(data[4:], f"result of presentation context {data[0]}"):
            if sub_type == TRANSFER_SYNTAX and not transfer_syntax:
                transfer_syntax = decode_text(payload)
        return cls(data[0], data[2], transfer_syntax)


@dataclass(frozen=True, slots=True)
class MaximumLength:
    """The longest P-DATA-TF that the sender of this item takes, bytes of PDV list; 0 is no limit (51H, PS3.8 D.1)."""

    length: int

    def encode(self) -> bytes:
        return item(0x51, pack(MAXIMUM_LENGTH, self.length))

    @classmethod
    def decode(cls, data: bytes) -> MaximumLength:
        if len(data) != 4:
            raise malformed(f"maximum length sub-item of {len(data)} bytes; 4 expected")
        return cls(MAXIMUM_LENGTH.unpack(data)[0])


@dataclass(frozen=True, slots=True)
class ImplementationClassUID:
    """Who made the sender's software (52H, PS3.7 D.3.3.2)."""

    uid: str

    def encode(self) -> bytes:
        return item(0x52, encode_text(self.uid))

    @classmethod
    def decode(cls, data: bytes) -> ImplementationClassUID:
        return cls(decode_text(data))


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """How many operations may be outstanding (53H, PS3.7 D.3.3.3); 0 is no limit, an absent item is 1 and 1."""

    invoked: int
    performed: int

    def encode(self) -> bytes:
        return item(0x53, pack(TWO_LENGTHS, self.invoked, self.performed))

    @classmethod
    def decode(cls, data: bytes) -> AsynchronousOperationsWindow:
        if len(data) != 4:
            raise malformed(f"asynchronous operations window of {len(data)} bytes; 4 expected")
        return cls(*TWO_LENGTHS.unpack(data))


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """Which roles the requestor may take for a SOP class (54H, PS3.7 D.3.3.4); absent: user only."""

    sop_class_uid: str
    user: bool
    provider: bool

    def encode(self) -> bytes:
        return item(0x54, _with_length(encode_text(self.sop_class_uid)) + bytes((self.user, self.provider)))

    @classmethod
    def decode(cls, data: bytes) -> RoleSelection:
        uid, rest = _prefixed(data, "role selection")
        if len(rest) < 2:
            raise malformed("role selection sub-item ends before its two roles")
        return cls(decode_text(uid), rest[0] != 0, rest[1] != 0)


@dataclass(frozen=True, slots=True)
class ImplementationVersionName:
    """The name of the sender's version, 1 to 16 characters (55H, PS3.7 D.3.3.2); longer ones are kept on receipt."""

    name: str

    def encode(self) -> bytes:
        return item(0x55, encode_text(self.name))

    @classmethod
    def decode(cls, data: bytes) -> ImplementationVersionName:
        return cls(decode_text(data))


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """Opaque application information of a SOP class (56H, PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes

    def encode(self) -> bytes:
        return item(0x56, _with_length(encode_text(self.sop_class_uid)) + self.information)

    @classmethod
    def decode(cls, data: bytes) -> ExtendedNegotiation:
        uid, rest = _prefixed(data, "extended negotiation")
        return cls(decode_text(uid), rest)


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """The service class and related general SOP classes of a SOP class (57H, PS3.7 D.3.3.6); only requests carry it.

    Its second byte is a version, always 0 so far; a receiver does not test it.
    """

    sop_class_uid: str
    service_class_uid: str
    related_general: tuple[str, ...] = ()

    def encode(self) -> bytes:
        related = b"".join(_with_length(encode_text(uid)) for uid in self.related_general)
        names = _with_length(encode_text(self.sop_class_uid)) + _with_length(encode_text(self.service_class_uid))
        return item(0x57, names + _with_length(related))

    @classmethod
    def decode(cls, data: bytes) -> CommonExtendedNegotiation:
        sop_class, rest = _prefixed(data, "common extended negotiation")
        service_class, rest = _prefixed(rest, "common extended negotiation")
        # The list may be left out altogether, and what follows it is reserved.
        related, _ = _prefixed(rest, "related general SOP classes") if rest else (b"", b"")
        return cls(decode_text(sop_class), decode_text(service_class), tuple(_uids(related)))


@dataclass(frozen=True, slots=True)
class UserIdentityRQ:
    """Who asks (58H, PS3.7 D.3.3.7): secrets, so repr does not show them.

    `identity_type`: 1 user name, 2 user name and passcode, 3 Kerberos service ticket, 4 SAML assertion,
    5 JSON web token.
    """

    identity_type: int
    primary: bytes
    secondary: bytes = b""
    positive_response_requested: bool = False

    def __repr__(self) -> str:
        return f"UserIdentityRQ(identity_type={self.identity_type}, <{len(self.primary)}+{len(self.secondary)} bytes>)"

    def encode(self) -> bytes:
        head = pack(TWO_BYTES, self.identity_type, self.positive_response_requested)
        return item(0x58, head + _with_length(self.primary) + _with_length(self.secondary))

    @classmethod
    def decode(cls, data: bytes) -> UserIdentityRQ:
        if len(data) < 2:
            raise malformed(f"user identity sub-item of {len(data)} bytes; at least 6 expected")
        primary, rest = _prefixed(data[2:], "user identity primary field")
        secondary, _ = _prefixed(rest, "user identity secondary field") if rest else (b"", b"")
        return cls(data[0], primary, secondary, data[1] != 0)


@dataclass(frozen=True, slots=True)
class UserIdentityAC:
    """The acceptor's positive answer to a user identity (59H, PS3.7 D.3.3.7); empty for types 1 and 2."""

    server_response: bytes = b""

    def __repr__(self) -> str:
        return f"UserIdentityAC(<{len(self.server_response)} bytes>)"

    def encode(self) -> bytes:
        return item(0x59, _with_length(self.server_response))

    @classmethod
    def decode(cls, data: bytes) -> UserIdentityAC:
        response, _ = _prefixed(data, "user identity response") if data else (b"", b"")
        return cls(response)


@dataclass(frozen=True, slots=True)
class UnknownItem:
    """An item or sub-item that this edition of the standard does not define; kept in its place."""

    item_type: int
    data: bytes

    def encode(self) -> bytes:
        return item(self.item_type, self.data)


UserItem = (
    MaximumLength
    | ImplementationClassUID
    | AsynchronousOperationsWindow
    | RoleSelection
    | ImplementationVersionName
    | ExtendedNegotiation
    | CommonExtendedNegotiation
    | UserIdentityRQ
    | UserIdentityAC
    | UnknownItem
)

USER_ITEMS: Final[dict[int, Callable[[bytes], UserItem]]] = {
    0x51: MaximumLength.decode,
    0x52: ImplementationClassUID.decode,
    0x53: AsynchronousOperationsWindow.decode,
    0x54: RoleSelection.decode,
    0x55: ImplementationVersionName.decode,
    0x56: ExtendedNegotiation.decode,
    0x57: CommonExtendedNegotiation.decode,
    0x58: UserIdentityRQ.decode,
    0x59: UserIdentityAC.decode,
}


def decode_user_information(data: bytes) -> tuple[UserItem, ...]:
    """The sub-items of item 50H in the order in which they came."""
    items: list[UserItem] = []
    for item_type, payload in split_items(data, "user information"):
        decode = USER_ITEMS.get(item_type)
        items.append(decode(payload) if decode else UnknownItem(item_type, payload))
    return tuple(items)


def _with_length(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise LocalProtocolError(f"a field of {len(data)} bytes does not fit its 16-bit length")
    return LENGTH.pack(len(data)) + data


def _uids(data: bytes) -> Iterator[str]:
    """Each UID of a list in which each stands behind its 16-bit length."""
    position = 0
    while position < len(data):
        start = position + 2
        position = start + LENGTH.unpack_from(data, position)[0] if start <= len(data) else start
        if position > len(data):
            raise malformed("related general SOP class ends behind its list")
        yield decode_text(data[start:position])


def _prefixed(data: bytes, where: str) -> tuple[bytes, bytes]:
    """A field behind its 16-bit length, and the rest."""
    if len(data) < 2:
        raise malformed(f"{where}: {len(data)} bytes are left where a length was expected")
    length = LENGTH.unpack_from(data)[0]
    if length > len(data) - 2:
        raise malformed(f"{where} says {length} bytes, {len(data) - 2} are left")
    return data[2 : 2 + length], data[2 + length :]
