"""An associate handle as lines of text.

Rule: what a peer sent is shown so that it cannot act on a terminal, and what may be a secret is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from dulcet.toolkit.codes import PresentationResult
from dulcet.uids import name_of

if TYPE_CHECKING:
    from dulcet.toolkit.associate import Associate

__all__ = ["dump"]

NAMES: Final = {0x57: "common extended negotiation", 0x58: "user identity", 0x59: "user identity response"}


def dump(associate: Associate) -> Iterator[str]:
    """The lines: fixed fields, contexts with what was negotiated for their classes, user information."""
    yield f"A-ASSOCIATE-{'RQ' if associate.request else 'AC'}, version {associate.version}"
    yield f"  called {associate.called!a}, calling {associate.calling!a}"
    yield f"  application context {_named(associate.application_context)}"
    yield f"  maximum length {_or_none(associate.max_length)}"
    implementation = associate.implementation_class_uid, associate.implementation_version
    yield f"  implementation {_or_none(implementation[0])} {_or_none(implementation[1])}"
    if associate.async_operations is not None:
        yield "  operations: {} invoked, {} performed".format(*associate.async_operations)
    for id in dict.fromkeys(associate.presentation_ids):
        yield from _context(associate, id)
    for type, data in associate.user_info:
        yield f"  user information {type:02X}H {NAMES.get(type, 'unknown')}, {len(data)} bytes"


def _context(associate: Associate, id: int) -> Iterator[str]:
    result = "" if associate.request else f": {_result(associate.result(id))}"
    yield f"  context {id} {_named(associate.abstract(id)) or '(no abstract syntax)'}{result}"
    for index in range(associate.transfer_count(id)):
        yield f"    transfer syntax {_named(associate.transfer(id, index))}"
    if associate.has_role(id):
        yield f"    requestor is user: {associate.user_role(id)}, provider: {associate.provider_role(id)}"
    extended = associate.extended(id)
    if extended is not None:
        yield f"    extended negotiation {extended[:32].hex(' ')}{' …' if len(extended) > 32 else ''}"


def _result(value: int) -> str:
    try:
        return f"{value} {PresentationResult(value).name.replace('_', ' ').lower()}"
    except ValueError:
        return f"{value} (unknown)"


def _named(uid: str) -> str:
    name = name_of(uid)
    shown = ascii(uid)[1:-1]
    return shown if name == uid else f"{shown} ({name})"


def _or_none(value: object) -> str:
    return "none" if value is None else ascii(value).strip("'")
