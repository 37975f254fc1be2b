"""The associate handle: there and back, every limit, and what real peers say kept to the last byte."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.interop import peers
from tests.upper_layer.pdus import RICH_ANSWER, RICH_REQUEST, associate
from tests.upper_layer.wire import CT, EXPLICIT, IMPLICIT, VERIFICATION

from dulcet.errors import LocalProtocolError
from dulcet.toolkit import Associate
from dulcet.upper_layer.items import RoleSelection, UnknownItem, UserIdentityRQ
from dulcet.upper_layer.negotiation import Offer
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ, decode


@pytest.fixture
def request_() -> Associate:
    """A request that may be sent: verification, and CT twice."""
    made = Associate.default()
    made.called, made.calling = "CALLED", "CALLING"
    made.add_presentation(3, 0, CT, [EXPLICIT])
    made.add_presentation(5, 0, CT, [IMPLICIT, EXPLICIT])
    return made


# --- there and back -----------------------------------------------------------------------------------------------


@given(st.one_of(associate(AssociateRQ), associate(AssociateAC)))
def test_whatever_a_pdu_says_survives(pdu: AssociateRQ | AssociateAC) -> None:
    handle = Associate.from_pdu(pdu)
    assert handle.to_pdu() == pdu
    assert handle.to_pdu().encode() == pdu.encode()
    assert Associate.from_pdu(handle.to_pdu()) == handle


UID = st.from_regex(r"[1-9](\.[1-9][0-9]{0,5}){1,6}", fullmatch=True)
IDS = st.lists(st.integers(0, 127).map(lambda number: 2 * number + 1), unique=True, min_size=1, max_size=6)


@st.composite
def handles(draw: st.DrawFn) -> Associate:
    """A handle made with its methods alone."""
    made = Associate(draw(st.booleans()))
    made.version = draw(st.integers(0, 0xFFFF))
    made.called, made.calling = draw(st.sampled_from(("A", "B C"))), "ME"
    for id in draw(IDS):
        syntaxes = draw(st.lists(UID, min_size=1, max_size=3 if made.request else 1))
        made.add_presentation(id, draw(st.integers(0, 4)), draw(st.sampled_from((CT, VERIFICATION))), syntaxes)
        if draw(st.booleans()):
            made.set_role(id, draw(st.booleans()), draw(st.booleans()))
        if draw(st.booleans()):
            made.set_extended(id, draw(st.binary(max_size=20)))
    made.max_length = draw(st.none() | st.just(0) | st.integers(8, 0xFFFFFFFF))
    made.implementation_class_uid = draw(st.none() | UID)
    made.implementation_version = draw(st.none() | st.just("V_1"))
    made.async_operations = draw(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)))
    for type in draw(st.lists(st.sampled_from((0x57, 0x58, 0x59, 0x5A, 0xFF)), max_size=3)):
        made.add_user_info(type, draw(st.binary(max_size=20)))
    return made


@given(handles())
def test_a_handle_made_by_hand_survives_pdu_and_bytes(handle: Associate) -> None:
    assert Associate.from_pdu(handle.to_pdu()) == handle
    # 57H to 59H by hand may hold bytes that no peer could read, or would write in another way.
    if any(
        isinstance(item, UnknownItem) and 0x57 <= item.item_type <= 0x59 for item in handle.to_pdu().user_information
    ):
        return
    again = decode(handle.to_pdu().encode())
    assert isinstance(again, AssociateRQ | AssociateAC)
    assert Associate.from_pdu(again).to_pdu().encode() == handle.to_pdu().encode()
    for id in handle.presentation_ids if handle.request else ():
        assert Associate.from_pdu(again).user_role(id) == handle.user_role(id)
        assert Associate.from_pdu(again).extended(id) == handle.extended(id)


def test_unknown_user_information_keeps_its_place_through_an_edit() -> None:
    handle = Associate.from_pdu(RICH_REQUEST)
    before = [item.encode()[0] for item in RICH_REQUEST.user_information]
    handle.max_length = 4096
    handle.implementation_version = "OTHER"
    handle.set_role(1, True, False)
    handle.async_operations = (1, 1)
    after = handle.to_pdu()
    assert [item.encode()[0] for item in after.user_information] == before
    assert after.unknown_items == RICH_REQUEST.unknown_items
    changed = Associate.from_pdu(decode(after.encode()))  # type: ignore[arg-type]
    assert (changed.max_length, changed.implementation_version) == (4096, "OTHER")
    assert [type for type, _ in changed.user_info] == [0x57, 0x58, 0x5A]
    assert changed.user_info[2] == (0x5A, b"later")


def test_an_answer_keeps_what_it_does_not_know_as_well() -> None:
    assert Associate.from_pdu(RICH_ANSWER).to_pdu().encode() == RICH_ANSWER.encode()


def test_handles_are_equal_when_they_are_equal_on_the_wire(request_: Associate) -> None:
    other = Associate.from_pdu(request_.to_pdu())
    assert other == request_
    other.set_transfer(3, 0, IMPLICIT)
    assert other != request_
    assert request_ != "a request"
    assert "request" in repr(request_)


# --- what real peers say ------------------------------------------------------------------------------------------


def heard(client: Callable[[int], None]) -> bytes:
    """The A-ASSOCIATE-RQ with which a client greets, as it is on the wire."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        thread = threading.Thread(target=client, args=(server.getsockname()[1],), daemon=True)
        thread.start()
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            data = whole_pdu(connection)
        thread.join(30)
    return data


def whole_pdu(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
        piece = connection.recv(65536)
        assert piece, "the peer closed in the middle of a PDU"
        data += piece
    return data


def without_reserved(data: bytes) -> bytes:
    """The PDU with the reserved bytes of its presentation contexts as we send them, zero: DCMTK puts FFH there."""
    made, position = bytearray(data), 74
    while position < len(made):
        kind = made[position]
        if kind in (0x20, 0x21):
            made[position + 5] = made[position + 7] = 0
            made[position + 6] *= kind == 0x21
        position += 4 + int.from_bytes(made[position + 2 : position + 4], "big")
    return bytes(made)


PYNETDICOM = """
import sys
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation, UserIdentityNegotiation
from pynetdicom.sop_class import CTImageStorage, Verification
ae = AE("PYNET")
ae.add_requested_context(Verification)
ae.add_requested_context(CTImageStorage)
extended = SOPClassExtendedNegotiation()
extended.sop_class_uid = CTImageStorage
extended.service_class_application_information = b"\\1\\0\\1"
identity = UserIdentityNegotiation()
identity.user_identity_type = 1
identity.primary_field = b"somebody"
role = build_role(CTImageStorage, scu_role=True, scp_role=True)
ae.associate("127.0.0.1", int(sys.argv[1]), ext_neg=[extended, identity, role])
"""


def run(*command: str) -> None:
    subprocess.run(command, timeout=60, capture_output=True, check=False)


@pytest.mark.interop
@pytest.mark.parametrize("peer", ["storescu", "echoscu", "pynetdicom"])
def test_the_bytes_of_a_real_request_survive(peer: str, tmp_path: Any) -> None:
    def call(port: int) -> None:
        if peer == "pynetdicom":
            run(sys.executable, "-c", PYNETDICOM, str(port))
        elif peer == "echoscu":
            run(peers.tool(peer), "127.0.0.1", str(port))
        else:
            from tests.corpus import make_instance

            run(peers.tool(peer), "127.0.0.1", str(port), str(make_instance(tmp_path / "one.dcm", 512)))

    data = heard(call)
    pdu = decode(data)
    assert isinstance(pdu, AssociateRQ)
    handle = Associate.from_pdu(pdu)
    assert handle.to_pdu().encode() == without_reserved(data)
    assert Associate.from_pdu(handle.to_pdu()) == handle
    handle.check()
    if peer == "pynetdicom":
        id = handle.find_abstract(CT)
        assert (handle.user_role(id), handle.provider_role(id), handle.extended(id)) == (True, True, b"\1\0\1")
        assert [type for type, _ in handle.user_info] == [0x58]


@pytest.mark.interop
def test_the_bytes_of_storescps_answer_survive(request_: Associate, tmp_path: Any) -> None:
    request_.add_presentation(7, 0, "1.2.3.4", [IMPLICIT])  # a class that it does not know
    (tmp_path / "got").mkdir()
    with (
        peers.storescp(tmp_path / "got") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        connection.sendall(request_.to_pdu().encode())
        data = whole_pdu(connection)
    pdu, asked = decode(data), request_.to_pdu()
    assert isinstance(pdu, AssociateAC)
    assert isinstance(asked, AssociateRQ)
    handle = Associate.from_pdu(pdu, asked)
    assert handle.to_pdu().encode() == without_reserved(data)
    assert [handle.result(id) for id in handle.presentation_ids] == [0, 0, 0, 3]
    assert handle.find_abstract(CT) == 3
    assert handle.find_abstract("1.2.3.4") == 0


# --- contexts -----------------------------------------------------------------------------------------------------


def test_contexts_are_found_by_class_and_transfer_syntax(request_: Associate) -> None:
    assert request_.presentation_count == 3
    assert [request_.presentation(index) for index in range(3)] == request_.presentation_ids == [1, 3, 5]
    assert request_.find_abstract(CT) == 3
    assert request_.find_abstract(CT, after=3) == 5
    assert request_.find_abstract(CT, after=5) == 0
    assert request_.find_abstract(CT, transfer=IMPLICIT) == 5
    assert request_.find_abstract("1.2.3") == 0
    assert request_.abstract_count(CT) == 2
    assert request_.abstract_count("1.2.3") == 0


def test_an_answer_is_joined_with_its_request_and_hides_what_it_rejects(request_: Associate) -> None:
    answer = Associate.accepting(request_, Offer(syntaxes={CT: [EXPLICIT]}, implementation_class_uid="1.2"))
    assert [answer.result(id) for id in (1, 3, 5)] == [3, 0, 0]
    assert answer.abstract(1) == VERIFICATION
    assert answer.find_abstract(VERIFICATION) == 0
    assert answer.find_abstract(CT) == 3
    alone = Associate.from_pdu(answer.to_pdu())
    assert alone == answer
    assert alone.abstract(3) == ""
    with pytest.raises(ValueError, match="no abstract syntax yet"):
        alone.set_role(3, True, True)


def test_accepting_takes_everything_by_default_and_echoes_no_extended_data(request_: Associate) -> None:
    request_.set_extended(3, b"\1")
    request_.async_operations = (5, 5)
    answer = Associate.accepting(request_)
    answer.check()
    assert [answer.result(id) for id in answer.presentation_ids] == [0, 0, 0]
    assert answer.extended(3) is None
    assert answer.async_operations == (1, 1)


def test_roles_and_extended_data_move_along_with_the_id(request_: Associate) -> None:
    request_.set_role(1, False, True)
    request_.set_extended(1, b"x")
    request_.set_presentation(0, 11)
    assert request_.presentation_ids == [11, 3, 5]
    assert (request_.has_role(11), request_.user_role(11), request_.provider_role(11)) == (True, False, True)
    assert request_.extended(11) == b"x"
    request_.set_presentation(0, 11)
    assert request_.presentation(0) == 11


def test_contexts_of_one_class_stay_in_step(request_: Associate) -> None:
    request_.set_role(3, True, True)
    request_.set_extended(5, b"both")
    assert request_.provider_role(5)
    assert request_.extended(3) == b"both"
    request_.delete_presentation(3)
    assert request_.provider_role(5)
    request_.delete_presentation(5)
    assert not [item for item in request_.to_pdu().user_information if isinstance(item, RoleSelection)]


def test_a_context_that_changes_its_class_takes_its_role_along(request_: Associate) -> None:
    request_.set_role(3, True, True)
    request_.set_abstract(3, "1.2.3")
    assert request_.has_role(3)
    assert request_.has_role(5)
    request_.set_abstract(5, "1.2.3")
    assert [item.sop_class_uid for item in request_.to_pdu().user_items(RoleSelection)] == ["1.2.3"]
    request_.set_abstract(3, "1.2.3")
    assert request_.abstract(3) == "1.2.3"


def test_roles_are_what_the_standard_says_where_nothing_is_said(request_: Associate) -> None:
    assert not request_.has_role(1)
    assert request_.user_role(1)
    assert not request_.provider_role(1)
    request_.set_role(1, True, True)
    request_.set_role(1, None)
    assert not request_.has_role(1)
    request_.set_extended(1, b"")
    assert request_.extended(1) == b""
    request_.set_extended(1, None)
    assert request_.extended(1) is None


def test_transfer_syntaxes_in_their_order(request_: Associate) -> None:
    assert request_.transfer_count(5) == 2
    request_.add_transfer(5, "1.2.840.10008.1.2.2")
    request_.delete_transfer(5, 0)
    request_.set_transfer(5, 0, IMPLICIT)
    assert [request_.transfer(5, index) for index in range(2)] == [IMPLICIT, "1.2.840.10008.1.2.2"]


def test_128_contexts_and_not_one_more() -> None:
    handle = Associate()
    for id in range(1, 256, 2):
        handle.add_presentation(id)
    with pytest.raises(ValueError, match="used up"):
        handle.add_presentation(1)


def test_reset_empties_everything_and_may_change_the_kind(request_: Associate) -> None:
    request_.set_role(1, True, True)
    request_.add_user_info(0x5A, b"x")
    request_.reset(request=False)
    assert request_ == Associate(request=False)
    assert request_.to_pdu() == AssociateAC(called_ae_title="", calling_ae_title="")
    assert (request_.called, request_.max_length, request_.user_info) == ("", None, [])
    assert Associate().request


def test_the_default_may_be_sent_once_it_has_titles() -> None:
    handle = Associate.default()
    with pytest.raises(ValueError, match="blank"):
        handle.check()
    handle.called = handle.calling = "ME"
    handle.check()
    assert handle.version == 1
    assert handle.application_context == "1.2.840.10008.3.1.1.1"
    assert handle.max_length
    assert handle.implementation_class_uid
    assert handle.implementation_version
    assert handle.abstract(1) == VERIFICATION
    Associate.default(request=False).check()


# --- what is tolerated, and what is refused -----------------------------------------------------------------------


def test_titles_are_read_whatever_they_are_padded_with() -> None:
    pdu = replace(RICH_REQUEST, called_ae_title="STORE\0\0\0", calling_ae_title=" ME")
    handle = Associate.from_pdu(pdu)
    assert (handle.called, handle.calling) == ("STORE", "ME")
    assert handle.to_pdu() == pdu
    blank = Associate.from_pdu(replace(RICH_REQUEST, called_ae_title=""))
    assert blank.called == ""
    with pytest.raises(ValueError, match="blank"):
        blank.check()


def test_what_a_peer_may_send_and_we_may_not_is_kept_and_refused_when_sent() -> None:
    pdu = RICH_REQUEST
    contexts = pdu.presentation_contexts
    for wrong, match in (
        (replace(pdu, presentation_contexts=(replace(contexts[0], context_id=2),)), "odd"),
        (replace(pdu, presentation_contexts=(contexts[0], contexts[0])), "taken"),
        (replace(pdu, presentation_contexts=(replace(contexts[0], transfer_syntaxes=()),)), "transfer syntax"),
        (replace(pdu, presentation_contexts=()), "no presentation context"),
        (replace(pdu, user_information=()), "implementation class"),
    ):
        handle = Associate.from_pdu(wrong)
        assert handle.to_pdu() == wrong
        with pytest.raises(ValueError, match=match) as caught:
            handle.check()
        assert isinstance(caught.value, LocalProtocolError)


def test_an_accept_needs_its_one_transfer_syntax() -> None:
    handle = Associate.default(request=False)
    handle.delete_transfer(1, 0)
    with pytest.raises(ValueError, match="transfer syntax"):
        handle.check()
    handle.set_result(1, 4)
    handle.check()


def test_a_length_of_5_and_a_long_version_are_kept_on_receipt(request_: Associate) -> None:
    for index, item in ((0, b"\0\0\0\5"), (2, b"A VERSION OF TWENTY.")):
        data = bytearray(request_.to_pdu().encode())
        handle = Associate.from_pdu(request_.to_pdu())  # type: ignore[arg-type]
        items = [found.encode() for found in handle.to_pdu().user_information]
        kind = items[index][0]
        at = bytes(data).index(items[index])
        data[at : at + len(items[index])] = bytes((kind, 0)) + len(item).to_bytes(2, "big") + item
        grown = len(item) + 4 - len(items[index])
        data[2:6] = (len(data) - 6).to_bytes(4, "big")
        info = bytes(data).index(items[0] if index else items[1]) - (4 if index else 12)
        data[info + 2 : info + 4] = (int.from_bytes(data[info + 2 : info + 4], "big") + grown).to_bytes(2, "big")
        kept = Associate.from_pdu(decode(bytes(data)))  # type: ignore[arg-type]
        assert (kept.max_length, kept.implementation_version) == (
            (5, request_.implementation_version) if not index else (request_.max_length, "A VERSION OF TWENTY.")
        )
        with pytest.raises(ValueError, match=r"maximum length|implementation version"):
            kept.check()


WRONG: dict[str, Callable[[Associate], object]] = {
    "version": lambda handle: setattr(handle, "version", 0x10000),
    "title of 17": lambda handle: setattr(handle, "called", "X" * 17),
    "blank title": lambda handle: setattr(handle, "calling", "   "),
    "backslash": lambda handle: setattr(handle, "called", "A\\B"),
    "control": lambda handle: setattr(handle, "called", "A\nB"),
    "application context": lambda handle: setattr(handle, "application_context", ""),
    "even id": lambda handle: handle.add_presentation(2),
    "id 0": lambda handle: handle.add_presentation(0),
    "id 257": lambda handle: handle.add_presentation(257),
    "duplicate id": lambda handle: handle.add_presentation(3),
    "even id, set": lambda handle: handle.set_presentation(0, 4),
    "duplicate id, set": lambda handle: handle.set_presentation(0, 3),
    "result": lambda handle: handle.set_result(1, 5),
    "result, added": lambda handle: handle.add_presentation(7, 5),
    "abstract syntax": lambda handle: handle.set_abstract(1, "x" * 65),
    "transfer syntax": lambda handle: handle.add_transfer(1, ""),
    "no such context": lambda handle: handle.result(7),
    "no such context to start behind": lambda handle: handle.find_abstract(CT, after=9),
    "length 7": lambda handle: setattr(handle, "max_length", 7),
    "length 1": lambda handle: setattr(handle, "max_length", 1),
    "length of 33 bits": lambda handle: setattr(handle, "max_length", 1 << 32),
    "class": lambda handle: setattr(handle, "implementation_class_uid", ""),
    "version name of 17": lambda handle: setattr(handle, "implementation_version", "V" * 17),
    "no version name": lambda handle: setattr(handle, "implementation_version", ""),
    "operations": lambda handle: setattr(handle, "async_operations", (1, 65536)),
    "extended": lambda handle: handle.set_extended(1, bytes(65536)),
    "hand-made 51H": lambda handle: handle.add_user_info(0x51, bytes(4)),
    "hand-made 56H": lambda handle: handle.add_user_info(0x56, b""),
    "long user information": lambda handle: handle.add_user_info(0x5A, bytes(65536)),
    "type 256": lambda handle: handle.add_user_info(256, b""),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_and_changes_nothing(wrong: str, request_: Associate) -> None:
    before = request_.to_pdu()
    with pytest.raises(ValueError) as caught:
        WRONG[wrong](request_)
    assert isinstance(caught.value, LocalProtocolError)
    assert request_.to_pdu() == before


OUTSIDE: dict[str, Callable[[Associate], object]] = {
    "presentation": lambda handle: handle.presentation(3),
    "presentation, negative": lambda handle: handle.presentation(-1),
    "set presentation": lambda handle: handle.set_presentation(3, 9),
    "transfer": lambda handle: handle.transfer(3, 1),
    "set transfer": lambda handle: handle.set_transfer(3, 1, IMPLICIT),
    "delete transfer": lambda handle: handle.delete_transfer(3, -1),
    "set user info": lambda handle: handle.set_user_info(0, 0x5A, b""),
    "delete user info": lambda handle: handle.delete_user_info(0),
}


@pytest.mark.parametrize("outside", OUTSIDE)
def test_an_index_out_of_range_is_an_index_error(outside: str, request_: Associate) -> None:
    before = request_.to_pdu()
    with pytest.raises(IndexError):
        OUTSIDE[outside](request_)
    assert request_.to_pdu() == before


def test_an_accepted_context_has_exactly_one_transfer_syntax() -> None:
    accept = Associate.default(request=False)
    for wrong in (lambda: accept.add_transfer(1, EXPLICIT), lambda: accept.add_presentation(3, 0, CT, [IMPLICIT] * 2)):
        with pytest.raises(ValueError, match="exactly one"):
            wrong()
    assert accept.presentation_ids == [1]


def test_user_information_by_hand_and_its_secrets(request_: Associate) -> None:
    identity = UserIdentityRQ(2, b"me", b"secret").encode()[4:]
    request_.add_user_info(0x58, identity)
    request_.add_user_info(0x5A, b"later")
    request_.add_user_info(0x57, b"no item at all")
    request_.set_user_info(1, 0x5B, b"still later")
    assert request_.user_info == [(0x58, identity), (0x5B, b"still later"), (0x57, b"no item at all")]
    assert "secret" not in repr(request_.to_pdu())
    request_.delete_user_info(2)
    request_.delete_user_info(0)
    assert request_.user_info == [(0x5B, b"still later")]


def test_single_items_can_be_taken_back(request_: Associate) -> None:
    request_.async_operations = (0, 3)
    assert request_.async_operations == (0, 3)
    request_.max_length = request_.implementation_class_uid = request_.implementation_version = None
    request_.async_operations = None
    assert request_.to_pdu().user_information == ()
    request_.version = 3
    assert request_.version == 3
