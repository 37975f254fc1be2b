"""Hypothesis strategies for all seven PDUs with every item and sub-item, and a walk over the length fields of a PDU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st
from tests.upper_layer.wire import ANSWER, REQUEST

from dulcet.upper_layer.items import (
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
)
from dulcet.upper_layer.pdu import PDV, Abort, AssociateAC, AssociateRJ, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ

BYTE: Final = st.integers(0, 0xFF)
SHORT: Final = st.integers(0, 0xFFFF)
ANY: Final = st.characters(max_codepoint=0xFF)
UID: Final = st.text("0123456789.", max_size=64)
TEXT: Final = st.text(ANY, max_size=40).map(lambda text: text.strip("\0 "))
TITLE: Final = st.text(ANY, max_size=16).map(lambda text: text.rstrip(" "))
FIELD: Final = st.binary(max_size=60)

USER_ITEM: Final = st.one_of(
    st.builds(MaximumLength, st.integers(0, 0xFFFFFFFF)),
    st.builds(ImplementationClassUID, UID | TEXT),
    st.builds(AsynchronousOperationsWindow, SHORT, SHORT),
    st.builds(RoleSelection, UID, st.booleans(), st.booleans()),
    st.builds(ImplementationVersionName, TEXT),
    st.builds(ExtendedNegotiation, UID, FIELD),
    st.builds(CommonExtendedNegotiation, UID, UID, st.lists(UID | TEXT, max_size=4).map(tuple)),
    st.builds(UserIdentityRQ, BYTE, FIELD, FIELD, st.booleans()),
    st.builds(UserIdentityAC, FIELD),
    st.builds(UnknownItem, BYTE.filter(lambda number: not 0x51 <= number <= 0x59), FIELD),
)
PROPOSED: Final = st.builds(ProposedContext, BYTE, UID | TEXT, st.lists(UID | TEXT, max_size=4).map(tuple))
RESULT: Final = st.builds(ContextResult, BYTE, BYTE, UID | TEXT)


def associate(kind: type[AssociateRQ] | type[AssociateAC]) -> st.SearchStrategy[AssociateRQ | AssociateAC]:
    """An association PDU of one kind with anything in it; what stands in no place of its own is unknown."""
    known, contexts = ((0x20, 0x50), PROPOSED) if kind is AssociateRQ else ((0x21, 0x50), RESULT)
    return st.builds(
        kind,
        called_ae_title=TITLE,
        calling_ae_title=TITLE,
        application_context=UID | TEXT,
        presentation_contexts=st.lists(contexts, max_size=4).map(tuple),
        user_information=st.lists(USER_ITEM, max_size=6).map(tuple),
        protocol_version=SHORT,
        unknown_items=st.lists(
            st.builds(UnknownItem, BYTE.filter(lambda number: number not in known), FIELD), max_size=2
        ).map(tuple),
    )


P_DATA: Final = st.builds(
    PDataTF,
    st.lists(st.builds(PDV, BYTE, st.booleans(), st.booleans(), FIELD), max_size=5).map(tuple),
)
PDUS: Final = st.one_of(
    associate(AssociateRQ),
    associate(AssociateAC),
    st.builds(AssociateRJ, BYTE, BYTE, BYTE),
    P_DATA,
    st.just(ReleaseRQ()),
    st.just(ReleaseRP()),
    st.builds(Abort, BYTE, BYTE),
)

RICH_REQUEST: Final = replace(
    REQUEST,
    user_information=(
        MaximumLength(0),
        ImplementationClassUID("1.2.3"),
        AsynchronousOperationsWindow(5, 0),
        RoleSelection("1.2.840.10008.1.1", True, True),
        ImplementationVersionName("NAME_1"),
        ExtendedNegotiation("1.2.3", b"\1\2\3"),
        CommonExtendedNegotiation("1.2.3", "1.2.4", ("1.2.5", "1.2.6.7")),
        UserIdentityRQ(2, b"me", b"secret", True),
        UnknownItem(0x5A, b"later"),
    ),
    unknown_items=(UnknownItem(0x99, b"later"),),
)
RICH_ANSWER: Final = replace(
    ANSWER,
    user_information=(*RICH_REQUEST.user_information[:6], UserIdentityAC(b"ticket"), UnknownItem(0x5A, b"later")),
)
P_DATA_EXAMPLE: Final = PDataTF(
    (PDV(1, True, True, b"command"), PDV(1, False, False, b"data"), PDV(1, False, True, b""))
)


def length_fields(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, size) of each length field of a PDU, outer and inner."""
    yield 2, 4
    if data[0] in (1, 2):
        yield from _items(data, 74, len(data))
    elif data[0] == 4:
        position = 6
        while position < len(data):
            yield position, 4
            position += 4 + int.from_bytes(data[position : position + 4], "big")


def _items(data: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    while position < end:
        kind, length = data[position], int.from_bytes(data[position + 2 : position + 4], "big")
        yield position + 2, 2
        start, position = position + 4, position + 4 + length
        if kind in (0x20, 0x21):
            yield from _items(data, start + 4, position)
        elif kind == 0x50:
            yield from _items(data, start, position)
        elif kind in (0x54, 0x56, 0x59):
            yield start, 2
        elif kind == 0x57:
            *names, (related, _) = _fields(data, start, position)
            yield from (*names, (related, 2), *_fields(data, related + 2, position))
        elif kind == 0x58:
            yield from _fields(data, start + 2, position)


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    while position < end:
        yield position, 2
        position += 2 + int.from_bytes(data[position : position + 2], "big")
