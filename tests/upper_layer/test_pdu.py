"""PS3.8 section 9.3, PS3.7 Annex D.3.3: what is encoded decodes to the same, anything decodes to a value or a fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as theirs
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context
from tests.upper_layer.pdus import P_DATA_EXAMPLE, PDUS, RICH_ANSWER, RICH_REQUEST, length_fields
from tests.upper_layer.wire import ANSWER, IMPLICIT, REQUEST, VERIFICATION

from dulcet.errors import LocalProtocolError, RemoteProtocolError
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
    UserItem,
)
from dulcet.upper_layer.pdu import (
    PDU,
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    decode,
    decode_body,
    encode,
)

EXAMPLES: Final[list[PDU]] = [
    RICH_REQUEST,
    RICH_ANSWER,
    AssociateRJ(2, 3, 1),
    P_DATA_EXAMPLE,
    ReleaseRQ(),
    ReleaseRP(),
    Abort(2, 6),
]
IDS: Final = [type(pdu).__name__ for pdu in EXAMPLES]


def judged(data: bytes) -> PDU | RemoteProtocolError:
    """What `data` decodes to; any other exception is a failure."""
    try:
        found: PDU | RemoteProtocolError = decode(data)
    except RemoteProtocolError as fault:
        found = fault
    if isinstance(found, RemoteProtocolError):
        assert (found.source, found.reason) in ((2, 1), (2, 6))
    return found


# ---------------------------------------------------------------------------------------- there and back


@given(PDUS)
def test_what_is_encoded_decodes_to_the_same(pdu: PDU) -> None:
    data = encode(pdu)
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    assert decode(data) == pdu


@given(st.binary(max_size=400))
def test_arbitrary_bytes_decode_to_a_value_or_a_fault(data: bytes) -> None:
    judged(data)


@given(st.sampled_from(range(9)), st.binary(max_size=300))
def test_an_arbitrary_body_decodes_to_a_value_that_encodes_again(pdu_type: int, body: bytes) -> None:
    pdu = judged(bytes((pdu_type, 0)) + len(body).to_bytes(4, "big") + body)
    if not isinstance(pdu, RemoteProtocolError):
        assert decode(encode(pdu)) == pdu


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_pdu_with_some_bytes_changed_decodes_to_a_value_or_a_fault(pdu: PDU, data: st.DataObject) -> None:
    spoiled = bytearray(encode(pdu))
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    found = judged(bytes(spoiled))
    if not isinstance(found, RemoteProtocolError):
        assert decode(encode(found)) == found


@pytest.mark.parametrize("pdu", EXAMPLES, ids=IDS)
def test_every_length_field_lengthened_and_shortened_is_a_value_or_a_fault(pdu: PDU) -> None:
    data = encode(pdu)
    offsets = list(length_fields(data))
    assert len(offsets) == {AssociateRQ: 29, AssociateAC: 18, PDataTF: 4}.get(type(pdu), 1)
    for offset, size in offsets:
        length = int.from_bytes(data[offset : offset + size], "big")
        highest = (1 << 8 * size) - 1
        for wrong in {0, 1, 2, length - 4, length - 2, length - 1, length + 1, length + 2, length + 4, highest}:
            if not 0 <= wrong <= highest or wrong == length:
                continue
            found = judged(data[:offset] + wrong.to_bytes(size, "big") + data[offset + size :])
            if offset == 2:
                assert isinstance(found, RemoteProtocolError), "a PDU is as long as it says"
            elif not isinstance(found, RemoteProtocolError):
                assert decode(encode(found)) == found


@pytest.mark.parametrize("pdu", EXAMPLES, ids=IDS)
def test_no_strict_prefix_is_a_pdu(pdu: PDU) -> None:
    data = encode(pdu)
    for end in range(len(data)):
        assert isinstance(judged(data[:end]), RemoteProtocolError)
    assert isinstance(judged(data + b"\0"), RemoteProtocolError)


@pytest.mark.parametrize("pdu", EXAMPLES, ids=IDS)
def test_reserved_fields_are_zero_and_not_tested(pdu: PDU) -> None:
    data = encode(pdu)
    offsets = {AssociateRQ: (1, 8, 9, *range(42, 74)), AssociateAC: (1, 8, 9, *range(42, 74)), PDataTF: (1,)}
    offsets |= {AssociateRJ: (1, 6), ReleaseRQ: (1, 6, 7, 8, 9), ReleaseRP: (1, 6, 7, 8, 9), Abort: (1, 6, 7)}
    other = bytearray(data)
    for offset in offsets[type(pdu)]:
        assert data[offset] == 0
        other[offset] = 0xA5
    assert decode(bytes(other)) == pdu


# ---------------------------------------------------------------------------------------- as others send it


def associate_bytes(pdu_type: int, *items: bytes, titles: bytes = b"CALLED".ljust(16) + b"CALLING".ljust(16)) -> bytes:
    body = b"\0\1\0\0" + titles + bytes(32) + b"".join(items)
    return bytes((pdu_type, 0)) + len(body).to_bytes(4, "big") + body


def tlv(item_type: int, payload: bytes) -> bytes:
    return bytes((item_type, 0)) + len(payload).to_bytes(2, "big") + payload


def test_padded_uids_and_names_are_read_without_their_padding() -> None:
    data = associate_bytes(
        1,
        tlv(0x10, b"1.2.840.10008.3.1.1.1\0"),
        tlv(0x20, bytes((1, 0, 0, 0)) + tlv(0x30, b"1.2.840.10008.1.1\0") + tlv(0x40, b"1.2.840.10008.1.2 ")),
        tlv(0x50, tlv(0x52, b"1.2.3\0") + tlv(0x55, b"A NAME OF TWENTY CHARS  ")),
    )
    request = decode(data)
    assert isinstance(request, AssociateRQ)
    assert request.application_context == "1.2.840.10008.3.1.1.1"
    assert request.presentation_contexts == (ProposedContext(1, VERIFICATION, (IMPLICIT,)),)
    assert request.implementation_class_uid == "1.2.3"
    assert request.implementation_version_name == "A NAME OF TWENTY CHARS"


def test_an_association_pdu_without_a_single_item_is_a_value() -> None:
    request = decode(associate_bytes(1))
    assert isinstance(request, AssociateRQ)
    assert request.application_context == ""
    assert request.presentation_contexts == ()
    assert request.maximum_length == 0
    assert (request.implementation_class_uid, request.implementation_version_name) == ("", "")
    assert (request.window, request.user_identity) == (None, None)
    assert (request.roles, request.extended, request.common_extended) == ({}, {}, {})
    answer = decode(associate_bytes(2))
    assert isinstance(answer, AssociateAC)
    assert answer.user_identity is None


def test_the_first_item_of_a_kind_counts_and_the_others_are_kept() -> None:
    roles = RoleSelection("1.2", True, True), RoleSelection("1.2", False, False)
    extended = ExtendedNegotiation("1.2", b"1"), ExtendedNegotiation("1.2", b"2")
    common = CommonExtendedNegotiation("1.2", "1.3"), CommonExtendedNegotiation("1.2", "1.4")
    more = MaximumLength(1), MaximumLength(2), UserIdentityRQ(1, b"me"), UserIdentityRQ(1, b"you")
    request = replace(REQUEST, user_information=(*roles, *extended, *common, *more))
    assert request.roles == {"1.2": roles[0]}
    assert request.extended == {"1.2": extended[0]}
    assert request.common_extended == {"1.2": common[0]}
    assert request.maximum_length == 1
    assert request.user_identity == UserIdentityRQ(1, b"me")
    assert request.user_items(RoleSelection) == list(roles)
    assert decode(encode(request)) == request


def test_two_application_contexts_and_two_user_informations() -> None:
    data = associate_bytes(2, *(tlv(0x10, uid) for uid in (b"1.1", b"1.2")), *(tlv(0x50, tlv(0x52, b"1")),) * 2)
    answer = decode(data)
    assert isinstance(answer, AssociateAC)
    assert answer.application_context == "1.1"
    assert answer.unknown_items == (UnknownItem(0x10, b"1.2"),)
    assert answer.user_information == (ImplementationClassUID("1"),) * 2


def test_a_context_item_of_the_other_direction_is_kept_as_unknown() -> None:
    for pdu_type, item_type in ((1, 0x21), (2, 0x20)):
        found = decode(associate_bytes(pdu_type, tlv(item_type, b"any")))
        assert isinstance(found, AssociateRQ | AssociateAC)
        assert found.unknown_items == (UnknownItem(item_type, b"any"),)


def test_what_a_context_holds_twice_or_holds_besides_is_passed_over() -> None:
    sub_items = (0x30, b"1"), (0x99, b"?"), (0x30, b"2"), (0x40, b"3"), (0x40, b"4")
    proposed = b"".join(tlv(*sub_item) for sub_item in sub_items)
    assert ProposedContext.decode(bytes((1, 0, 0, 0)) + proposed) == ProposedContext(1, "1", ("3", "4"))
    result = bytes((1, 0, 0, 0)) + tlv(0x99, b"?") + tlv(0x40, b"3") + tlv(0x40, b"4")
    assert ContextResult.decode(result) == ContextResult(1, 0, "3")
    assert ContextResult.decode(bytes((1, 9, 4, 9))) == ContextResult(1, 4, "")


def test_fields_that_may_be_left_out() -> None:
    assert CommonExtendedNegotiation.decode(b"\0\1A\0\1B") == CommonExtendedNegotiation("A", "B")
    assert CommonExtendedNegotiation.decode(b"\0\1A\0\1B\0\0rest") == CommonExtendedNegotiation("A", "B")
    assert UserIdentityRQ.decode(b"\1\0\0\2me") == UserIdentityRQ(1, b"me")
    assert UserIdentityAC.decode(b"") == UserIdentityAC()


@pytest.mark.parametrize(("data", "message"), [
    (b"", "0 bytes are no PDU"),
    (b"\5\0\0\0\0\3\0\0\0", "it always has 4"),
    (b"\4\0\0\0\0\5\0\0\0\0\0", "stray bytes"),
    (b"\4\0\0\0\0\6\0\0\0\1\0\0", "PDV length 1 does not fit"),
    (b"\4\0\0\0\0\6\0\0\0\3\0\0", "PDV length 3 does not fit"),
    (b"\1\0\0\0\0\0", "at least 68 expected"),
    (associate_bytes(1, b"\x10\0\0"), "3 stray bytes"),
    (associate_bytes(1, b"\x10\0\0\2A"), "says 2 bytes, 1 are left"),
    (associate_bytes(1, tlv(0x20, b"\1\0\0")), "at least 4 expected"),
    (associate_bytes(2, tlv(0x21, b"\1\0\0")), "at least 4 expected"),
    (associate_bytes(1, tlv(0x50, tlv(0x51, b"\0\0\1"))), "4 expected"),
    (associate_bytes(1, tlv(0x50, tlv(0x53, b"\0\0\1"))), "4 expected"),
    (associate_bytes(1, tlv(0x50, tlv(0x54, b"\0\1A\1"))), "before its two roles"),
    (associate_bytes(1, tlv(0x50, tlv(0x56, b"\0"))), "1 bytes are left where a length was expected"),
    (associate_bytes(1, tlv(0x50, tlv(0x56, b"\0\2A"))), "says 2 bytes, 1 are left"),
    (associate_bytes(1, tlv(0x50, tlv(0x57, b"\0\1A\0\1B\0\1\0"))), "ends behind its list"),
    (associate_bytes(1, tlv(0x50, tlv(0x57, b"\0\1A\0\1B\0\3\0\2C"))), "ends behind its list"),
    (associate_bytes(1, tlv(0x50, tlv(0x58, b"\1"))), "at least 6 expected"),
])  # fmt: skip
def test_what_is_malformed_says_so(data: bytes, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        decode(data)
    assert (caught.value.source, caught.value.reason) == (2, 6)


@pytest.mark.parametrize("pdu_type", [0, 8, 0x47, 0xFF])
def test_a_type_that_does_not_exist_is_an_unrecognized_pdu(pdu_type: int) -> None:
    with pytest.raises(RemoteProtocolError, match="does not exist") as caught:
        decode_body(pdu_type, b"")
    assert (caught.value.source, caught.value.reason) == (2, 1)


@pytest.mark.parametrize("value", [
    AssociateRJ(256, 1, 1),
    Abort(2, -1),
    PDataTF((PDV(256, True, True, b""),)),
    replace(REQUEST, called_ae_title="SEVENTEEN LETTERS"),
    replace(REQUEST, called_ae_title="\N{SNOWMAN}"),
    replace(REQUEST, protocol_version=65536),
    replace(REQUEST, application_context="\N{SNOWMAN}"),
    replace(REQUEST, unknown_items=(UnknownItem(256, b""),)),
    replace(REQUEST, unknown_items=(UnknownItem(1, bytes(65536)),)),
    replace(REQUEST, user_information=(UserIdentityRQ(1, bytes(40000)),) * 2),
    replace(ANSWER, presentation_contexts=(ContextResult(256, 0),)),
    ProposedContext(-1, "1", ("2",)),
    MaximumLength(1 << 32),
    AsynchronousOperationsWindow(65536, 0),
    ImplementationVersionName("\N{SNOWMAN}"),
    RoleSelection("1" * 65536, True, True),
    ExtendedNegotiation("1" * 65536, b""),
    CommonExtendedNegotiation("1" * 40000, "1" * 40000),
    UserIdentityRQ(256, b""),
    UserIdentityRQ(1, bytes(65536)),
    UserIdentityAC(bytes(65536)),
])  # fmt: skip
def test_what_a_field_cannot_hold_is_refused(value: PDU | UserItem | ProposedContext) -> None:
    with pytest.raises(LocalProtocolError):
        value.encode()


def test_identities_are_not_shown() -> None:
    shown = f"{UserIdentityRQ(2, b'alice', b'secret')} {UserIdentityAC(b'secret')} {RICH_REQUEST}"
    assert "secret" not in shown
    assert "alice" not in shown


def hostile(*items: bytes) -> bytes:
    """An A-ASSOCIATE-RQ filled with one kind of item up to the limit for such PDUs."""
    data = b"".join(items)
    return associate_bytes(1, *items * ((1024 * 1024 - 100) // len(data)))


@pytest.mark.parametrize("data", [
    hostile(tlv(0x50, tlv(0x55, b""))),
    hostile(tlv(0x50, tlv(0x57, bytes(4) + b"\xff\xf0" + bytes(0xFFF0)))),
    hostile(tlv(0x20, bytes(4))),
    hostile(tlv(0x99, b"")),
], ids=["user informations", "related classes", "contexts", "unknown"])  # fmt: skip
def test_decoding_time_is_linear_in_the_length(data: bytes) -> None:
    # What is quadratic takes from ten seconds to some minutes here, what is linear half a second.
    start = time.process_time()
    decode(data)
    assert time.process_time() - start < 5


# ---------------------------------------------------------------------------------------- another implementation

THEIRS: Final[dict[type[PDU], Callable[[], Any]]] = {
    AssociateRQ: theirs.A_ASSOCIATE_RQ,
    AssociateAC: theirs.A_ASSOCIATE_AC,
    AssociateRJ: theirs.A_ASSOCIATE_RJ,
    PDataTF: theirs.P_DATA_TF,
    ReleaseRQ: theirs.A_RELEASE_RQ,
    ReleaseRP: theirs.A_RELEASE_RP,
    Abort: theirs.A_ABORT_RQ,
}
KNOWN_REQUEST: Final = replace(RICH_REQUEST, user_information=RICH_REQUEST.user_information[:-1], unknown_items=())
KNOWN_ANSWER: Final = replace(RICH_ANSWER, user_information=RICH_ANSWER.user_information[:-1])


@pytest.mark.parametrize("pdu", [KNOWN_REQUEST, KNOWN_ANSWER, *EXAMPLES[2:]], ids=IDS)
def test_what_we_encode_another_implementation_decodes_and_encodes_to_the_same_bytes(pdu: PDU) -> None:
    other = THEIRS[type(pdu)]()
    other.decode(encode(pdu))
    assert other.encode() == encode(pdu)


def their_association(answer: bool) -> A_ASSOCIATE:
    """An A-ASSOCIATE primitive of theirs with every negotiation item there is."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CALLING", "CALLED"
    maximum, uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    maximum.maximum_length_received, uid.implementation_class_uid = 32768, "1.2.3"
    name = ImplementationVersionNameNotification()
    name.implementation_version_name = "N"
    window, role = AsynchronousOperationsWindowNegotiation(), SCP_SCU_RoleSelectionNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 3, 4
    role.sop_class_uid, role.scu_role, role.scp_role = VERIFICATION, True, False
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = VERIFICATION, b"\1\0"
    information: list[Any] = [maximum, uid, name, window, role, extended]
    context = build_context(VERIFICATION, [IMPLICIT, "1.2.840.10008.1.2.1"])
    context.context_id = 1
    if answer:
        context.transfer_syntax, context.result = [IMPLICIT], 0
        primitive.result, primitive.presentation_context_definition_results_list = 0, [context]
        identity = UserIdentityNegotiation()
        identity.server_response = b"ticket"
        primitive.user_information = [*information, identity]
        return primitive
    common, identity = SOPClassCommonExtendedNegotiation(), UserIdentityNegotiation()
    common.sop_class_uid, common.service_class_uid = VERIFICATION, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = ["1.2.5", "1.2.6"]
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"me", b"secret"
    identity.positive_response_requested = True
    primitive.presentation_context_definition_list = [context]
    primitive.user_information = [*information, common, identity]
    return primitive


SHARED: Final = {
    MaximumLength(32768),
    ImplementationClassUID("1.2.3"),
    ImplementationVersionName("N"),
    AsynchronousOperationsWindow(3, 4),
    RoleSelection(VERIFICATION, True, False),
    ExtendedNegotiation(VERIFICATION, b"\1\0"),
}


def test_the_request_of_another_implementation() -> None:
    data = theirs.A_ASSOCIATE_RQ(their_association(answer=False)).encode()
    request = decode(data)
    assert isinstance(request, AssociateRQ)
    assert (request.called, request.calling) == ("CALLED", "CALLING")
    assert request.presentation_contexts == (ProposedContext(1, VERIFICATION, (IMPLICIT, "1.2.840.10008.1.2.1")),)
    assert set(request.user_information) == SHARED | {
        CommonExtendedNegotiation(VERIFICATION, "1.2.840.10008.4.2", ("1.2.5", "1.2.6")),
        UserIdentityRQ(2, b"me", b"secret", True),
    }
    assert encode(request) == data


def test_the_answer_of_another_implementation() -> None:
    data = theirs.A_ASSOCIATE_AC(their_association(answer=True)).encode()
    answer = decode(data)
    assert isinstance(answer, AssociateAC)
    assert answer.presentation_contexts == (ContextResult(1, 0, IMPLICIT),)
    assert answer.presentation_contexts[0].accepted
    assert answer.user_identity == UserIdentityAC(b"ticket")
    assert set(answer.user_information) == SHARED | {UserIdentityAC(b"ticket")}
    assert encode(answer) == data


def test_pdv_controls() -> None:
    controls = [PDV(1, command, last, b"").control for command in (False, True) for last in (False, True)]
    assert controls == [0, 2, 1, 3]
