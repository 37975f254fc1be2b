"""What may be set in an associate handle: each limit of PS3.8 section 9.3 and PS3.7 Annex D, with its sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.upper_layer.items import USER_ITEMS, ExtendedNegotiation, RoleSelection, UnknownItem, UserItem
from dulcet.upper_layer.negotiation import check_ae_title

__all__ = [
    "InvalidAssociate",
    "check_id",
    "check_index",
    "check_length",
    "check_result",
    "check_title",
    "check_uid",
    "check_version",
    "encodable",
    "is_of",
    "refuse",
    "user_item",
]

RESULTS: Final = range(5)  # PS3.8 Table 9-18


class InvalidAssociate(LocalProtocolError, ValueError):
    """A value that may not be sent; nothing went on the wire."""


def refuse(message: str) -> NoReturn:
    raise InvalidAssociate(message)


def check_title(value: str, what: str) -> str:
    try:
        return check_ae_title(value, what)
    except LocalProtocolError as error:
        raise InvalidAssociate(str(error)) from None


def check_uid(value: str) -> str:
    if not 1 <= len(value) <= 64 or not value.isascii() or not value.isprintable() or " " in value:
        refuse(f"{value!r} is no UID: 1 to 64 characters")
    return value


def check_id(id: int, taken: Iterable[int]) -> None:
    if not 1 <= id <= 255 or not id & 1:
        refuse(f"presentation context id {id}: odd numbers from 1 to 255 are allowed")
    if id in taken:
        refuse(f"presentation context id {id} is taken")


def check_result(result: int) -> int:
    if result not in RESULTS:
        refuse(f"presentation context result {result}: 0 to 4 are known (PS3.8 Table 9-18)")
    return result


def check_index(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise IndexError(f"index {index}: there are {count}")
    return index


def check_length(value: int | None) -> None:
    if value is not None and (1 <= value <= 7 or not 0 <= value <= 0xFFFF_FFFF):
        refuse(f"maximum length {value}: 0 (no limit) or 8 to 4294967295; 1 to 7 can carry nothing")


def check_version(value: str | None) -> None:
    if value is not None and not (1 <= len(value) <= 16 and value.isascii() and value.isprintable()):
        refuse(f"implementation version {value!r}: 1 to 16 characters of ASCII")


def is_of(item: UserItem, uid: str) -> bool:
    return isinstance(item, RoleSelection | ExtendedNegotiation) and item.sop_class_uid == uid


def encodable(item: UserItem) -> UserItem:
    try:
        item.encode()
    except LocalProtocolError as error:
        raise InvalidAssociate(str(error)) from None
    return item


def user_item(type: int, data: bytes) -> UserItem:
    """A sub-item made by hand: as the value it is, where its bytes read as one, so that its repr hides secrets."""
    if 0x51 <= type <= 0x56:
        refuse(f"user information {type:02X}H has methods of its own; use those")
    made = encodable(UnknownItem(type, bytes(data)))
    try:
        known = USER_ITEMS[type](bytes(data))
    except (KeyError, RemoteProtocolError):
        return made
    return known if known.encode() == made.encode() else made
