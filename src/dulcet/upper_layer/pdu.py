"""The seven PDUs of the upper layer (PS3.8 section 9.3), to bytes and back.

Rules: values are frozen; `decode` is total (a PDU or RemoteProtocolError); reserved fields are sent as zero and never
tested on receipt; whatever came is kept, so that `decode(encode(pdu)) == pdu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeVar

from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.upper_layer.intern_cache import LONGEST, Recent, Shared
from dulcet.upper_layer.items import (
    APPLICATION_CONTEXT,
    CONTEXT_RESULT,
    PROPOSED_CONTEXT,
    USER_INFORMATION,
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    ProposedContext,
    RoleSelection,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserItem,
    decode_text,
    decode_user_information,
    encode_text,
    item,
    malformed,
    pack,
    split_items,
)

__all__ = [
    "PDU",
    "PDV",
    "Abort",
    "AssociateAC",
    "AssociateRJ",
    "AssociateRQ",
    "PDataTF",
    "ReleaseRP",
    "ReleaseRQ",
    "decode",
    "encode",
]

PDU_HEADER: Final = Struct(">BxI")
PDV_HEADER: Final = Struct(">IBB")
ASSOCIATE_HEAD: Final = Struct(">Hxx16s16s32s")
FOUR_BYTES: Final = Struct("4B")

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
RELEASE_RQ: Final = 0x05
RELEASE_RP: Final = 0x06
ABORT: Final = 0x07

CONTEXTS_SHARED: Final = 128
"""Nobody who keeps to the standard proposes more (PS3.8 section 9.3.2.2)."""

DICOM_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

DICOM_CONTEXT_ITEM: Final = item(APPLICATION_CONTEXT, encode_text(DICOM_APPLICATION_CONTEXT))

_Item = TypeVar("_Item", bound=UserItem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Associate:
    """What A-ASSOCIATE-RQ and -AC share (PS3.8 Tables 9-11 and 9-17).

    The AE titles are the 16 characters of the field with trailing spaces taken off; `called` and `calling` are what
    they name, without the leading spaces and NULs that some peers send.
    """

    called_ae_title: str
    calling_ae_title: str
    application_context: str = DICOM_APPLICATION_CONTEXT
    user_information: tuple[UserItem, ...] = ()
    protocol_version: int = 1
    unknown_items: tuple[UnknownItem, ...] = ()

    @property
    def called(self) -> str:
        return self.called_ae_title.strip("\0 ")

    @property
    def calling(self) -> str:
        return self.calling_ae_title.strip("\0 ")

    def user_items(self, kind: type[_Item]) -> list[_Item]:
        """The user information sub-items of one kind, in order."""
        return [found for found in self.user_information if isinstance(found, kind)]

    def user_item(self, kind: type[_Item]) -> _Item | None:
        """The first user information sub-item of one kind."""
        return next((found for found in self.user_information if isinstance(found, kind)), None)

    @property
    def maximum_length(self) -> int:
        """The longest P-DATA-TF that the sender takes; 0, also when absent, is no limit (PS3.8 D.1.1)."""
        found = self.user_item(MaximumLength)
        return found.length if found else 0

    @property
    def implementation_class_uid(self) -> str:
        found = self.user_item(ImplementationClassUID)
        return found.uid if found else ""

    @property
    def implementation_version_name(self) -> str:
        found = self.user_item(ImplementationVersionName)
        return found.name if found else ""

    @property
    def window(self) -> AsynchronousOperationsWindow | None:
        """The asynchronous operations window, None when the item is absent (which means 1 and 1)."""
        return self.user_item(AsynchronousOperationsWindow)

    @property
    def roles(self) -> dict[str, RoleSelection]:
        """Role selection by SOP class UID; the first one of a UID counts."""
        found: dict[str, RoleSelection] = {}
        for role in self.user_items(RoleSelection):
            found.setdefault(role.sop_class_uid, role)
        return found

    @property
    def extended(self) -> dict[str, ExtendedNegotiation]:
        """Extended negotiation by SOP class UID; the first one of a UID counts."""
        found: dict[str, ExtendedNegotiation] = {}
        for extended in self.user_items(ExtendedNegotiation):
            found.setdefault(extended.sop_class_uid, extended)
        return found

    def _encode(self, pdu_type: int, contexts: tuple[ProposedContext | ContextResult, ...]) -> bytes:
        titles = _title(self.called_ae_title), _title(self.calling_ae_title)
        parts = [
            pack(ASSOCIATE_HEAD, self.protocol_version, *titles, bytes(32)),
            DICOM_CONTEXT_ITEM
            if self.application_context == DICOM_APPLICATION_CONTEXT
            else item(APPLICATION_CONTEXT, encode_text(self.application_context)),
            _joined(contexts),
            item(USER_INFORMATION, _joined(self.user_information)),
            *[unknown.encode() for unknown in self.unknown_items],
        ]
        body = b"".join(parts)
        return PDU_HEADER.pack(pdu_type, len(body)) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRQ(_Associate):
    """A-ASSOCIATE-RQ (PS3.8 section 9.3.2)."""

    presentation_contexts: tuple[ProposedContext, ...] = ()

    @property
    def common_extended(self) -> dict[str, CommonExtendedNegotiation]:
        return {found.sop_class_uid: found for found in reversed(self.user_items(CommonExtendedNegotiation))}

    @property
    def user_identity(self) -> UserIdentityRQ | None:
        return self.user_item(UserIdentityRQ)

    def encode(self) -> bytes:
        return self._encode(ASSOCIATE_RQ, self.presentation_contexts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAC(_Associate):
    """A-ASSOCIATE-AC (PS3.8 section 9.3.3); the titles repeat what the request carried and are not tested."""

    presentation_contexts: tuple[ContextResult, ...] = ()

    @property
    def user_identity(self) -> UserIdentityAC | None:
        return self.user_item(UserIdentityAC)

    def encode(self) -> bytes:
        return self._encode(ASSOCIATE_AC, self.presentation_contexts)


@dataclass(frozen=True, slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 section 9.3.4); reserved values decode as they are."""

    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        return PDU_HEADER.pack(ASSOCIATE_RJ, 4) + pack(FOUR_BYTES, 0, self.result, self.source, self.reason)


@dataclass(frozen=True, slots=True)
class PDV:
    """One presentation data value: a fragment of a command set or a data set (PS3.8 section 9.3.5.1, Annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes

    @property
    def control(self) -> int:
        """The message control header: bit 0 command, bit 1 last fragment."""
        return self.is_command | self.is_last << 1


@dataclass(frozen=True, slots=True)
class PDataTF:
    """P-DATA-TF as a value (PS3.8 section 9.3.5), for tools and tests: associations stream (framing, fragments)."""

    values: tuple[PDV, ...]

    def encode(self) -> bytes:
        body = b"".join(
            pack(PDV_HEADER, len(value.data) + 2, value.context_id, value.control) + value.data for value in self.values
        )
        return PDU_HEADER.pack(P_DATA_TF, len(body)) + body


@dataclass(frozen=True, slots=True)
class ReleaseRQ:
    """A-RELEASE-RQ (PS3.8 section 9.3.6)."""

    def encode(self) -> bytes:
        return PDU_HEADER.pack(RELEASE_RQ, 4) + bytes(4)


@dataclass(frozen=True, slots=True)
class ReleaseRP:
    """A-RELEASE-RP (PS3.8 section 9.3.7)."""

    def encode(self) -> bytes:
        return PDU_HEADER.pack(RELEASE_RP, 4) + bytes(4)


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 section 9.3.8): source 0 service user, 2 service provider; the reason counts for source 2."""

    source: int = 0
    reason: int = 0

    def encode(self) -> bytes:
        return PDU_HEADER.pack(ABORT, 4) + pack(FOUR_BYTES, 0, 0, self.source, self.reason)


PDU = AssociateRQ | AssociateAC | AssociateRJ | PDataTF | ReleaseRQ | ReleaseRP | Abort


def encode(pdu: PDU) -> bytes:
    """The bytes of a PDU; LocalProtocolError when a field cannot hold its value."""
    return pdu.encode()


def decode(data: bytes) -> PDU:
    """The one PDU that `data` is, header included; RemoteProtocolError when it is not exactly one whole PDU."""
    if len(data) < 6:
        raise malformed(f"{len(data)} bytes are no PDU; its header alone is 6")
    pdu_type, length = PDU_HEADER.unpack_from(data)
    if length != len(data) - 6:
        raise malformed(f"PDU {pdu_type:02X}H says {length} bytes, {len(data) - 6} are there")
    return decode_body(pdu_type, bytes(data[6:]))


def decode_body(pdu_type: int, body: bytes) -> PDU:
    """The PDU of a type from the bytes behind its header."""
    if pdu_type in (ASSOCIATE_RQ, ASSOCIATE_AC):
        return _decode_associate(pdu_type, body)
    if pdu_type == P_DATA_TF:
        return PDataTF(tuple(_pdvs(body)))
    if pdu_type not in (ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, ABORT):
        raise RemoteProtocolError(f"PDU type {pdu_type:02X}H does not exist", source=2, reason=1)
    if len(body) != 4:
        raise malformed(f"PDU {pdu_type:02X}H says {len(body)} bytes; it always has 4")
    if pdu_type == ASSOCIATE_RJ:
        return AssociateRJ(body[1], body[2], body[3])
    if pdu_type == ABORT:
        return Abort(body[2], body[3])
    return ReleaseRQ() if pdu_type == RELEASE_RQ else ReleaseRP()


def _joined(items: tuple[ProposedContext | ContextResult | UserItem, ...]) -> bytes:
    """The bytes of items, one behind the other; those of a shared tuple are made once."""
    if type(items) is not Shared:
        return b"".join([one.encode() for one in items])
    encoded: bytes | None = items.notes.get("encoded")
    if encoded is None:
        encoded = items.notes["encoded"] = b"".join([one.encode() for one in items])
    return encoded


_Items = tuple[
    str, tuple[ProposedContext, ...], tuple[ContextResult, ...], tuple[UserItem, ...], tuple[UnknownItem, ...]
]
"""Application context, presentation contexts as proposed or answered, user information, unknown items."""

_recent: Final = Recent[tuple[int, bytes], _Items]()
"""The variable items of association PDUs: most peers propose the same every time, and are answered the same."""


def _decode_associate(pdu_type: int, body: bytes) -> AssociateRQ | AssociateAC:
    if len(body) < ASSOCIATE_HEAD.size:
        raise malformed(f"association PDU of {len(body)} bytes; at least {ASSOCIATE_HEAD.size} expected")
    version, called, calling, _ = ASSOCIATE_HEAD.unpack_from(body)
    key = pdu_type, body[ASSOCIATE_HEAD.size :]
    items = _recent.get(key) or _decode_items(*key)
    application_context, proposed, results, user_information, unknown = items
    shared = {
        "called_ae_title": called.decode("latin-1").rstrip(" "),
        "calling_ae_title": calling.decode("latin-1").rstrip(" "),
        "application_context": application_context,
        "user_information": user_information,
        "protocol_version": version,
        "unknown_items": unknown,
    }
    if pdu_type == ASSOCIATE_RQ:
        return AssociateRQ(presentation_contexts=proposed, **shared)
    return AssociateAC(presentation_contexts=results, **shared)


def _decode_items(pdu_type: int, data: bytes) -> _Items:
    """The variable items; remembered unless they are long, strange or secret."""
    proposed: list[ProposedContext] = []
    results: list[ContextResult] = []
    application_context: str | None = None
    user_information: list[UserItem] = []
    unknown: list[UnknownItem] = []
    for item_type, payload in split_items(data, "association PDU"):
        if item_type == PROPOSED_CONTEXT and pdu_type == ASSOCIATE_RQ:
            proposed.append(ProposedContext.decode(payload))
        elif item_type == CONTEXT_RESULT and pdu_type == ASSOCIATE_AC:
            results.append(ContextResult.decode(payload))
        elif item_type == APPLICATION_CONTEXT and application_context is None:
            application_context = decode_text(payload)
        elif item_type == USER_INFORMATION:
            user_information.extend(decode_user_information(payload))
        else:
            unknown.append(UnknownItem(item_type, payload))
    uid = application_context or ""
    if (
        unknown
        or len(data) > LONGEST
        or len(proposed) + len(results) > CONTEXTS_SHARED
        or any(isinstance(found, UserIdentityRQ | UserIdentityAC | UnknownItem) for found in user_information)
    ):
        return uid, tuple(proposed), tuple(results), tuple(user_information), tuple(unknown)
    return _recent.put((pdu_type, data), (uid, Shared(proposed), Shared(results), Shared(user_information), ()))


def _pdvs(body: bytes) -> list[PDV]:
    values: list[PDV] = []
    position, end = 0, len(body)
    while position < end:
        if end - position < 6:
            raise malformed(f"P-DATA-TF: {end - position} stray bytes after the last PDV")
        length, context_id, control = PDV_HEADER.unpack_from(body, position)
        if length < 2 or length - 2 > end - position - 6:
            raise malformed(f"PDV length {length} does not fit the {end - position - 4} bytes left in its PDU")
        position += 6
        values.append(PDV(context_id, bool(control & 1), bool(control & 2), body[position : position + length - 2]))
        position += length - 2
    return values


def _title(text: str) -> bytes:
    data = encode_text(text)
    if len(data) > 16:
        raise LocalProtocolError(f"AE title {text!r} is {len(data)} characters long; at most 16 fit")
    return data.ljust(16)
