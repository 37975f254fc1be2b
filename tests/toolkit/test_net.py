"""`Net` beyond the walk-through: every message both ways, what is refused, ends of every kind, limits, timers."""

from __future__ import annotations

import errno
import gc
import inspect
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import EXPLICIT, IMPLICIT, element, make_instance
from tests.toolkit.recording import (
    CLASSES,
    CT,
    DATA_SET,
    FIND,
    INSTANCE,
    MPPS,
    Parties,
    Recorded,
    accept_all,
    asking,
    associated,
    connected,
    context_of,
    running,
    values_of,
)
from tools import generate_message_stubs

from dulcet import uids
from dulcet.config import AssociationConfig, Timers
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status, StatusCategory
from dulcet.errors import AssociationAborted, AssociationClosed, LocalProtocolError, PeerUnreachable
from dulcet.io.sockets import listening_sockets
from dulcet.toolkit import Associate, Net, shutdown, startup
from dulcet.toolkit.io_thread import current
from dulcet.toolkit.messages import ALL, Message
from dulcet.upper_layer.items import ImplementationClassUID, ImplementationVersionName, MaximumLength, ProposedContext
from dulcet.upper_layer.pdu import Abort, AssociateRJ, ReleaseRQ, decode


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


REQUESTS = [message for message in ALL if not message.is_response and message.name != "c_cancel_request"]
RESPONSES = {message.field: message for message in ALL if message.is_response}


def plain(arguments: tuple[Any, ...]) -> list[Any]:
    return [bytes(one) if hasattr(one, "transfer_syntax") else one for one in arguments]


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: message.name)
def test_every_message_goes_there_and_back_with_all_it_carries(message: Message) -> None:
    context_id, uid = context_of(message.name)
    answer = RESPONSES[CommandField(message.field | 0x8000)]
    parties = associated(
        **{
            f"on_receive_{message.name}": lambda net, *_: getattr(net, f"send_{answer.name}")(
                context_id, *values_of(answer, uid)
            )
        }
    )
    assert getattr(parties.user, f"send_{message.name}")(context_id, *values_of(message, uid)) == 4711
    received = parties.client.heard(f"on_receive_{message.name}")
    assert plain(received) == [context_id, *values_of(message, uid)]
    answered = parties.user.heard(f"on_receive_{answer.name}")
    assert plain(answered) == [context_id, *values_of(answer, uid)]
    status = answered[1 + list(answer.keywords).index("status")]
    assert isinstance(status, Status)
    assert status.category is StatusCategory.WARNING


def test_a_cancel_reaches_its_request() -> None:
    parties = associated(
        on_receive_c_find_request=lambda *_: None,
        on_receive_c_cancel_request=lambda net, context_id, message_id: net.send_c_find_response(
            context_id, message_id, status=Status.CANCEL
        ),
    )
    message_id = parties.user.send_c_find_request(5, None, FIND, data_set=DATA_SET)
    parties.client.heard("on_receive_c_find_request")
    parties.user.send_c_cancel_request(5, message_id)
    assert parties.client.heard("on_receive_c_cancel_request") == (5, message_id)
    assert parties.client.names(sends=False)[-3:] == ["on_receive", "on_receive_data", "on_receive_c_cancel_request"]
    assert parties.user.heard("on_receive_c_find_response")[3] == Status.CANCEL


def test_pending_responses_come_one_by_one() -> None:
    def find(net: Net, context_id: int, message_id: int, *_: Any) -> None:
        for number in range(3):
            match = pydicom.Dataset()
            match.PatientID = str(number)
            net.send_c_find_response(context_id, message_id, status=Status.PENDING, data_set=match)
        net.send_c_find_response(context_id, message_id, status=Status.SUCCESS)

    parties = associated(on_receive_c_find_request=find)
    query = pydicom.Dataset()
    query.PatientID = ""
    parties.user.send_c_find_request(5, None, FIND, data_set=query)
    parties.user.heard("on_receive_c_find_response", 4)
    answers = [arguments for name, arguments in parties.user.calls if name == "on_receive_c_find_response"]
    assert [answer[3] for answer in answers] == [0xFF00, 0xFF00, 0xFF00, 0]
    assert [answer[4].dataset().PatientID for answer in answers[:3]] == ["0", "1", "2"]
    assert answers[3][4] is None


def test_what_a_response_leaves_out_is_filled_from_its_request() -> None:
    def bare(net: Net, context_id: int, message_id: int, *_: Any) -> None:
        command = Command.make(CommandField.C_STORE_RSP, MessageIDBeingRespondedTo=message_id, Status=0xA700)
        net.send_data(context_id, command)

    parties = associated(on_receive_c_store_request=bare)
    parties.user.send_c_store_request(3, 12, CT, INSTANCE, data_set=DATA_SET)
    assert parties.user.heard("on_receive_c_store_response") == (3, 12, CT, INSTANCE, 0xA700)
    assert parties.user.arguments("on_receive_data")[1].affected_sop_class_uid is None


def test_a_command_set_can_be_edited_before_it_leaves() -> None:
    def edit(net: Net, context_id: int, command: Command) -> None:
        command.elements[0x1031] = 321
        command.elements[0x9999] = b"private"

    parties = associated(
        on_receive_c_store_request=lambda net, cid, mid, *_: net.send_c_store_response(cid, mid, status=0)
    )
    parties.user.scripts["on_send_command_set"] = edit
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    parties.user.heard("on_receive_c_store_response")
    assert parties.client.arguments("on_receive_c_store_request")[6] == 321
    assert parties.client.arguments("on_receive_data")[1].elements[0x9999] == b"private\0"


def test_a_command_that_nobody_knows_is_told_and_answered() -> None:
    parties = associated()
    command = Command.make(0x0ABC, validate=False, data_set=True, AffectedSOPClassUID=CT)
    message_id = parties.user.send_data(3, command, b"what is it")
    presentation_id, received, data_set = parties.client.heard("on_receive_unknown")
    assert (presentation_id, received.field, bytes(data_set)) == (3, 0x0ABC, b"what is it")
    told = parties.user.heard("on_receive_unknown")
    assert (told[1].message_id_being_responded_to, told[1].status) == (message_id, Status.UNRECOGNIZED_OPERATION)
    assert parties.user.names()[-2:] == ["on_receive_data", "on_receive_unknown"]
    assert parties.user.is_associated


def test_a_response_to_nothing_is_unknown() -> None:
    parties = associated()
    stray = Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=99, Status=0)
    parties.client.send_data(1, stray)
    assert parties.user.heard("on_receive_unknown")[1].message_id_being_responded_to == 99
    assert "on_receive_c_echo_response" not in parties.user.names()


def test_requests_that_nobody_provides_are_answered() -> None:
    parties = associated()
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    assert parties.user.heard("on_receive_c_echo_response")[-1] == Status.SUCCESS
    parties.user.send_n_delete_request(11, None, MPPS, INSTANCE)
    assert parties.user.heard("on_receive_n_delete_response")[-1] == Status.SOP_CLASS_NOT_SUPPORTED


def test_what_dimse_itself_refuses_is_logged(caplog: Any) -> None:
    parties = associated()
    uids_of = {"AffectedSOPClassUID": CT, "AffectedSOPInstanceUID": INSTANCE}
    command = Command.make(CommandField.C_STORE_RQ, validate=False, **uids_of)
    parties.user.send_data(3, command)
    assert parties.user.heard("on_receive_c_store_response")[4] == Status.CANNOT_UNDERSTAND
    assert "refused C-STORE-RQ, message 1: C000H" in caplog.text
    assert "on_receive_c_store_request" not in parties.client.names()


def test_a_callback_that_raises_is_a_failure_status_and_the_association_lives(caplog: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("planned")

    parties = associated(on_receive_n_get_request=fail)
    parties.user.send_n_get_request(11, None, MPPS, INSTANCE)
    assert parties.user.heard("on_receive_n_get_response")[4] == Status.PROCESSING_FAILURE
    assert parties.user.is_associated
    assert "planned" in caplog.text


def test_requests_beyond_the_window_wait_for_their_turn() -> None:
    """One operation at a time was agreed on; message ids are unique all the same."""
    parties = associated(
        on_receive_c_store_request=lambda net, cid, mid, *_: net.send_c_store_response(cid, mid, status=0)
    )
    ids = [parties.user.send_c_store_request(3, None, CT, f"1.2.{n}", data_set=DATA_SET) for n in range(20)]
    assert len(set(ids)) == 20
    assert parties.user.queued_bytes
    parties.user.heard("on_receive_c_store_response", 20)
    instances = [arguments[3] for name, arguments in parties.client.calls if name == "on_receive_c_store_request"]
    assert instances == [f"1.2.{n}" for n in range(20)]
    assert parties.user.queued_bytes == 0


def test_a_file_travels_as_it_lies_and_is_closed(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 300_000, sop_class_uid=CT)
    kept: list[bytes] = []
    parties = associated(
        on_receive_c_store_request=lambda net, cid, mid, *rest: (
            kept.append(bytes(rest[-1])),
            net.send_c_store_response(cid, mid, status=0),
        )
    )
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=path)
    parties.user.heard("on_receive_c_store_response")
    assert path.read_bytes().endswith(kept[0])
    assert len(kept[0]) > 300_000
    assert not parties.user._files
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=parties.client.arguments("on_receive_data")[2])
    parties.user.heard("on_receive_c_store_response", 2)
    assert kept[1] == kept[0]


def test_a_file_that_shrinks_while_it_is_sent_aborts(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 40 << 20, sop_class_uid=CT)
    parties = associated(on_store_setup=lambda *_: os.truncate(path, 0))
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=path)
    error, _ = parties.user.heard("on_close")
    assert "changed while it was sent" in str(error)
    assert parties.client.heard("on_receive_abort") == (0, 0)


# --- data sets that come ------------------------------------------------------------------------------------------


def test_a_data_set_is_streamed_to_the_path_that_is_named(tmp_path: Path) -> None:
    target = tmp_path / "mine.dcm"
    source = make_instance(tmp_path / "one.dcm", 200_000, sop_class_uid=CT)
    uid = pydicom.dcmread(source, stop_before_pixels=True).SOPInstanceUID
    parties = associated(
        on_store_setup=lambda *_: target,
        on_receive_c_store_request=lambda net, cid, mid, *_: net.send_c_store_response(cid, mid, status=0),
    )
    parties.user.send_c_store_request(3, None, CT, uid, data_set=source)
    assert parties.user.heard("on_receive_c_store_response")[4] == 0
    data_set = parties.client.arguments("on_receive_c_store_request")[-1]
    assert (data_set.path, data_set.data) == (target, None)
    assert bytes(data_set) == source.read_bytes()[-len(bytes(data_set)) :]
    assert data_set.dataset().SOPInstanceUID == uid
    assert pydicom.dcmread(target).file_meta.SourceApplicationEntityTitle == "USER"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.dcm", "one.dcm"]


@pytest.mark.parametrize("folder", ["missing", "."])
def test_what_cannot_be_kept_is_a_failure_and_no_callback(folder: str, tmp_path: Path) -> None:
    """No such folder; and, in one that is there, a data set of another instance than announced."""
    parties = associated(on_store_setup=lambda *_: tmp_path / folder / "x.dcm")
    parties.user.send_c_store_request(3, None, CT, "1.2.3", data_set=DATA_SET)
    status = parties.user.heard("on_receive_c_store_response")[4]
    assert status == (Status.OUT_OF_RESOURCES if folder == "missing" else Status.DATA_SET_MISMATCH)
    assert "on_receive_data" not in parties.client.names()
    assert list(tmp_path.iterdir()) == []
    parties.client.scripts["on_store_setup"] = lambda *_: None
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    parties.user.heard("on_receive_c_echo_response")


def test_memory_is_bounded() -> None:
    client = Recorded(memory_limit=1000, on_receive_associate_request=accept_all)
    parties = connected(Recorded(), Recorded(), client)
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=bytes(5000))
    assert parties.user.heard("on_receive_c_store_response")[4] == Status.OUT_OF_RESOURCES
    assert "on_receive_c_store_request" not in client.names()


def test_a_store_setup_that_raises_is_a_failure() -> None:
    parties = associated(on_store_setup=lambda *_: 1 / 0)
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    assert parties.user.heard("on_receive_c_store_response")[4] == Status.PROCESSING_FAILURE


def test_half_a_data_set_leaves_nothing(tmp_path: Path) -> None:
    parties = associated(on_store_setup=lambda *_: tmp_path / "half.dcm")
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=bytes(40 << 20))
    parties.client.heard("on_store_setup")
    parties.user.send_abort()
    parties.server.heard("on_close")
    assert list(tmp_path.iterdir()) == []


# --- what is refused, with nothing on the wire --------------------------------------------------------------------


def everything_sent(parties: Parties) -> list[tuple[str, tuple[Any, ...]]]:
    return [call for net in (parties.user, parties.client) for call in net.calls if call[0] == "on_send"]


def kept_as_it_came(**changes: Any) -> Associate:
    """What a peer might have sent: it is kept, and may not be sent on."""
    pdu = asking().to_pdu()
    return Associate.from_pdu(replace(pdu, **changes))  # type: ignore[arg-type]


PROPOSED = ProposedContext(1, CLASSES[0], (EXPLICIT,))
CLASS = ImplementationClassUID("1.2.3")
KEPT = {
    "a blank title": {"calling_ae_title": ""},
    "a title with a control": {"called_ae_title": "A\nB"},
    "no context": {"presentation_contexts": ()},
    "129 contexts": {"presentation_contexts": tuple(replace(PROPOSED, context_id=n) for n in range(129))},
    "an even id": {"presentation_contexts": (replace(PROPOSED, context_id=2),)},
    "an id twice": {"presentation_contexts": (PROPOSED, PROPOSED)},
    "no transfer syntax": {"presentation_contexts": (replace(PROPOSED, transfer_syntaxes=()),)},
    "no abstract syntax": {"presentation_contexts": (replace(PROPOSED, abstract_syntax=""),)},
    "a maximum length of 7": {"user_information": (MaximumLength(7), CLASS)},
    "a long version": {"user_information": (CLASS, ImplementationVersionName("V" * 17))},
    "no implementation class": {"user_information": ()},
}


@pytest.mark.parametrize("wrong", KEPT)
def test_a_request_that_may_not_be_sent_is_not_sent(wrong: str) -> None:
    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=accept_all))
    with pytest.raises(ValueError):
        parties.user.send_associate_request(kept_as_it_came(**KEPT[wrong]))
    assert parties.user.queued_bytes == 0
    assert everything_sent(parties) == []
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")
    assert [call[1][0] for call in everything_sent(parties)][:1] == [1]


BEFORE: dict[str, Callable[[Parties], object]] = {
    "an accept as a request": lambda parties: parties.user.send_associate_request(Associate.default(request=False)),
    "a request from an acceptor": lambda parties: parties.client.send_associate_request(asking()),
    "a request as an accept": lambda parties: parties.client.send_associate_accept(asking()),
    "an accept before a request": lambda parties: parties.client.send_associate_accept(
        Associate.default(request=False)
    ),
    "a reject before a request": lambda parties: parties.client.send_associate_reject(1, 1, 1),
    "a reject from a user": lambda parties: parties.user.send_associate_reject(1, 1, 1),
    "a release before an association": lambda parties: parties.user.send_release_request(),
    "a release response to nothing": lambda parties: parties.client.send_release_response(),
    "a message before an association": lambda parties: parties.user.send_c_echo_request(1, None, CLASSES[0]),
    "abort source 1": lambda parties: parties.user.send_abort(1, 0),
    "abort reason 3": lambda parties: parties.user.send_abort(2, 3),
    "accept beyond on_accept": lambda parties: parties.server.accept(Net()),
    "connect twice": lambda parties: parties.user.connect("127.0.0.1", 1),
    "listen while connected": lambda parties: parties.user.listen("127.0.0.1"),
}


@pytest.mark.parametrize("wrong", BEFORE)
def test_what_is_wrong_before_an_association_sends_nothing(wrong: str) -> None:
    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=accept_all))
    with pytest.raises((LocalProtocolError, ValueError)):
        BEFORE[wrong](parties)
    assert everything_sent(parties) == []
    parties.user.send_associate_request(asking())  # and what is right goes on
    parties.user.heard("on_receive_associate_accept")


DURING: dict[str, Callable[[Parties], object]] = {
    "a second request": lambda parties: parties.user.send_associate_request(asking()),
    "a second accept": lambda parties: parties.client.send_associate_accept(Associate.accepting(asking())),
    "a reject after the accept": lambda parties: parties.client.send_associate_reject(1, 1, 1),
    "a release response to nothing": lambda parties: parties.user.send_release_response(),
    "a context that was not accepted": lambda parties: parties.user.send_c_echo_request(99, None, CLASSES[0]),
    "data on a context that was not accepted": lambda parties: parties.user.send_data(
        98, Command.make(CommandField.C_ECHO_RQ, AffectedSOPClassUID=CLASSES[0], MessageID=1)
    ),
    "no data set": lambda parties: parties.user.send_c_store_request(3, None, CT, INSTANCE),
    "no status": lambda parties: parties.client.send_c_store_response(3, 1, CT, INSTANCE),
    "a priority of 3": lambda parties: parties.user.send_c_find_request(5, None, FIND, 3, DATA_SET),
    "a long originator": lambda parties: parties.user.send_c_store_request(3, None, CT, INSTANCE, 0, "X" * 17, 1, b"x"),
    "a status of 17 bits": lambda parties: parties.client.send_c_echo_response(1, 1, status=0x10000),
    "a message id of 17 bits": lambda parties: parties.user.send_c_echo_request(1, 65536, CLASSES[0]),
}


@pytest.mark.parametrize("wrong", DURING)
def test_what_is_wrong_within_an_association_sends_nothing(wrong: str) -> None:
    parties = associated()
    parties.client.heard("on_send")
    before = everything_sent(parties)
    with pytest.raises(LocalProtocolError):
        DURING[wrong](parties)
    assert everything_sent(parties) == before
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    assert parties.user.heard("on_receive_c_echo_response")[-1] == 0
    assert len(everything_sent(parties)) == len(before) + 2


def test_a_message_id_is_used_once_while_it_is_outstanding() -> None:
    parties = associated(on_receive_n_get_request=lambda *_: None)
    parties.user.send_n_get_request(11, 7, MPPS, INSTANCE)
    parties.user.send_n_get_request(11, 8, MPPS, INSTANCE)  # waits
    for taken in (7, 8):
        with pytest.raises(LocalProtocolError, match="outstanding"):
            parties.user.send_n_get_request(11, taken, MPPS, INSTANCE)
    with pytest.raises(LocalProtocolError, match="unanswered"):
        parties.user.send_release_request()


@pytest.mark.parametrize("triple", [(0, 1, 1), (3, 1, 1), (1, 1, 4), (1, 2, 3), (1, 3, 0), (1, 4, 1)], ids=str)
def test_reserved_rejects_are_never_sent(triple: tuple[int, int, int]) -> None:
    refused: list[Exception] = []

    def reject(net: Net, associate: Associate) -> None:
        try:
            net.send_associate_reject(*triple)
        except LocalProtocolError as error:
            refused.append(error)
        net.send_associate_reject(1, 1, 1)

    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=reject))
    parties.user.send_associate_request(asking())
    assert parties.user.heard("on_receive_associate_reject") == (1, 1, 1)
    assert len(refused) == 1


def test_reserved_rejects_decode() -> None:
    user = Recorded()
    with socket.create_server(("127.0.0.1", 0)) as server:
        user.connect(*server.getsockname())
        peer, _ = server.accept()
        with peer:
            user.heard("on_connect")
            user.send_associate_request(asking())
            peer.recv(65536)
            peer.sendall(AssociateRJ(1, 3, 7).encode())
            assert user.heard("on_receive_associate_reject") == (1, 3, 7)


def test_an_accept_never_says_more_than_was_proposed() -> None:
    refused: list[Exception] = []

    def accept(net: Net, associate: Associate) -> None:
        wrong = Associate.accepting(associate)
        wrong.set_transfer(1, 0, IMPLICIT)
        narrow = Associate.accepting(associate)
        narrow.delete_presentation(1)
        wide = Associate.accepting(associate)
        wide.async_operations = (2, 2)
        for one in (wrong, narrow, wide):
            try:
                net.send_associate_accept(one)
            except LocalProtocolError as error:
                refused.append(error)
        accept_all(net, associate)

    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=accept))
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")
    assert len(refused) == 3


def test_nothing_is_possible_before_startup_and_after_the_end() -> None:
    net = Net()
    with pytest.raises(LocalProtocolError, match="not connected"):
        net.send_abort()
    parties = associated()
    parties.user.close()
    with pytest.raises(LocalProtocolError, match="not connected"):
        parties.user.send_c_echo_request(1, None, CLASSES[0])
    shutdown()
    try:
        with pytest.raises(LocalProtocolError, match="startup"):
            net.connect("127.0.0.1", 1)
        with pytest.raises(LocalProtocolError, match="startup"):
            net.listen()
        with pytest.raises(LocalProtocolError, match="without"):
            shutdown()
    finally:
        startup()


def test_iscl_is_retired() -> None:
    with pytest.raises(LocalProtocolError, match="ISCL was retired"):
        Net(iscl=True)


# --- associations that are not answered as usual ------------------------------------------------------------------


def test_an_association_request_that_nobody_handles_is_rejected() -> None:
    parties = connected(Recorded(), Recorded(), Recorded())
    parties.user.send_associate_request(asking())
    assert parties.user.heard("on_receive_associate_reject") == (1, 1, 1)


def test_an_association_request_that_is_not_answered_meets_a_timer() -> None:
    client = Recorded(answer_timeout=0.05, on_receive_associate_request=lambda *_: None)
    parties = connected(Recorded(), Recorded(), client)
    parties.user.send_associate_request(asking())
    assert parties.user.heard("on_receive_associate_reject") == (2, 3, 1)
    parties.server.heard("on_close")


def test_a_release_request_that_is_not_answered_meets_a_timer() -> None:
    parties = associated(on_receive_release_request=lambda *_: None, answer_timeout=0.05)
    parties.user.send_release_request()
    parties.user.heard("on_receive_release_response")


@pytest.mark.parametrize("callback", ["on_receive_associate_request", "on_receive_release_request"])
def test_an_answer_is_given_for_a_callback_that_raises(callback: str) -> None:
    scripts = {"on_receive_associate_request": accept_all, callback: lambda *_: 1 / 0}
    parties = connected(Recorded(), Recorded(), Recorded(**scripts))
    parties.user.send_associate_request(asking())
    if callback == "on_receive_associate_request":
        assert parties.user.heard("on_receive_associate_reject") == (1, 1, 1)
    else:
        parties.user.heard("on_receive_associate_accept")
        parties.user.send_release_request()
        parties.user.heard("on_receive_release_response")


def test_a_peer_that_leaves_before_it_is_answered_is_no_hang() -> None:
    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=lambda *_: None))
    parties.user.send_associate_request(asking())
    parties.client.heard("on_receive_associate_request")
    parties.user._connection._sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
    error, _ = parties.server.heard("on_close")
    assert isinstance(error, AssociationClosed)


def test_another_application_context_is_rejected_by_the_protocol() -> None:
    parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=accept_all))
    request = asking()
    request.application_context = "1.2.3"
    parties.user.send_associate_request(request)
    assert parties.user.heard("on_receive_associate_reject") == (1, 1, 2)
    assert "on_receive_associate_request" not in parties.client.names()


def test_both_release_at_once() -> None:
    """On the I/O thread, so that neither request leaves before the other is asked for."""
    parties = associated()
    parties.user.scripts["on_receive_c_echo_response"] = lambda *_: (
        parties.client.send_release_request(),
        parties.user.send_release_request(),
    )
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    for net in (parties.user, parties.client):
        net.heard("on_receive_release_response")
        net.heard("on_receive_release_request")
    assert parties.server.heard("on_close")[0] is None


def test_clients_beyond_the_limit_are_rejected_not_dropped() -> None:
    server = Recorded(max_clients=2)
    clients: list[Recorded] = []

    def on_accept(net: Net, error: object) -> None:
        clients.append(Recorded(on_receive_associate_request=accept_all))
        net.accept(clients[-1])

    server.scripts["on_accept"] = on_accept
    port = server.listen("127.0.0.1")
    users = [Recorded(on_connect=lambda net, error: net.send_associate_request(asking())) for _ in range(3)]
    for user, callback in zip(users, ("accept", "accept", "reject")):
        user.connect("127.0.0.1", port)
        user.heard(f"on_receive_associate_{callback}")
    assert users[2].arguments("on_receive_associate_reject") == (2, 3, 2)
    assert "on_receive_associate_request" not in clients[2].names()
    users[0].send_release_request()
    server.heard("on_close", 2)
    again = Recorded(on_connect=lambda net, error: net.send_associate_request(asking()))
    again.connect("127.0.0.1", port)
    again.heard("on_receive_associate_accept")


# --- connections and their ends -----------------------------------------------------------------------------------


def test_state_is_told() -> None:
    fresh = Net()
    assert [fresh.is_activated, fresh.is_connected, fresh.is_associated] == [False] * 3
    assert (fresh.queued_bytes, fresh.clients, fresh.host_info, fresh.peer_info, fresh.server) == (
        0,
        [],
        None,
        None,
        None,
    )
    assert fresh.associate == (None, None)
    assert fresh.peer == "nobody"
    parties = associated()
    user, server, client = parties.user, parties.server, parties.client
    assert user.is_activated
    assert user.is_connected
    assert user.is_associated
    assert client.is_associated
    assert server.is_activated
    assert not server.is_connected
    assert server.clients == [client]
    assert client.server is server
    assert user.peer_info == server.host_info == client.host_info
    assert user.host_info == client.peer_info
    for net in (user, client):
        request, accept = net.associate
        assert request is not None
        assert accept is not None
        assert request.called == "PROVIDER"
        assert accept.abstract(3) == CT
        assert accept.transfer(3) == EXPLICIT
    user.close()
    server.heard("on_close")
    assert [user.is_activated, user.is_connected, user.is_associated, client.is_activated] == [False] * 4
    assert server.clients == []
    assert user.associate.request is not None


@pytest.mark.parametrize(
    ("host", "ip"), [("", "both"), ("*", "v4"), ("127.0.0.1", "both"), ("localhost", "v4"), ("", "v6")]
)
def test_it_listens_where_it_is_told(host: str, ip: Any) -> None:
    server = Recorded()
    port = server.listen(host, 0, backlog=5, ip=ip)
    assert server.host_info is not None
    assert server.host_info[1] == port
    with socket.create_connection(("::1" if ip == "v6" else "127.0.0.1", port), timeout=10):
        server.heard("on_accept")
    server.heard("on_close")
    server.close()
    assert not server.is_activated
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    server.listen("127.0.0.1", port)


def test_out_of_descriptors_is_told_and_gets_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(sock: socket.socket) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    server = Recorded(on_accept=lambda net, error: None if error else net.accept(Recorded()))
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", exhausted)
        port = server.listen("127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            (error,) = server.heard("on_accept")
            assert error.errno == errno.EMFILE
            patch.undo()
            assert server.heard("on_accept", 2) == (None,)


def test_a_peer_that_resets_while_it_is_sent_to_is_one_on_close() -> None:
    user, peer = stuck_user()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
    peer.close()
    error, net = user.heard("on_close")
    assert isinstance(error, AssociationClosed)
    assert net is user
    assert user.names().count("on_close") == 1


def test_an_address_that_is_none_is_told_to_on_connect() -> None:
    user = Recorded()
    user.connect("127.0.0.1", 70000)
    assert isinstance(user.heard("on_connect")[0], PeerUnreachable)


def test_closing_while_connecting_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    from dulcet.toolkit import net as module

    going = threading.Event()

    def slow(host: str, port: int, deadline: float, **options: Any) -> socket.socket:
        going.wait(10)
        return socket.create_connection((host, port))

    monkeypatch.setattr(module, "connect", slow)
    with socket.create_server(("127.0.0.1", 0)) as server:
        user = Recorded()
        user.connect(*server.getsockname())
        user.close()
        going.set()
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(1) == b""
    assert user.names() == []


def test_a_file_is_converted_where_the_context_has_another_syntax(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 2048, sop_class_uid=CT)
    client = Recorded(on_receive_associate_request=accept_all)
    parties = connected(Recorded(), Recorded(), client)
    request = asking()
    request.set_transfer(3, 0, IMPLICIT)
    parties.user.send_associate_request(request)
    parties.user.heard("on_receive_associate_accept")
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=path)
    data_set = client.heard("on_receive_c_store_request")[-1]
    assert data_set.transfer_syntax == IMPLICIT
    assert data_set.dataset().PatientID == pydicom.dcmread(path).PatientID


def test_port_0_is_one_port_in_both_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    from dulcet.toolkit import listening_socket

    tried: list[int] = []

    def taken_at_first(host: str, port: int, **options: Any) -> list[socket.socket]:
        tried.append(port)
        if host == "::1" and len(tried) < 4:
            raise OSError(errno.EADDRINUSE, "in use")
        if host == "::1":
            raise OSError(errno.EADDRNOTAVAIL, "no such protocol")
        return listening_sockets(host, port, **options)

    monkeypatch.setattr(listening_socket, "listening_sockets", taken_at_first)
    server = Net()
    assert server.listen("", 0) == tried[-1] != tried[1]
    assert server.host_info == ("127.0.0.1", tried[-1])
    with pytest.raises(OSError, match="no such protocol"):
        Net().listen("", 0, ip="v6")


def test_whatever_goes_wrong_with_one_the_others_go_on(caplog: Any) -> None:
    current().post(lambda: 1 / 0)
    parties = associated()
    assert "unexpected" in caplog.text
    assert parties.user.is_associated


def test_an_aborted_association_can_be_left_without_a_word() -> None:
    """The peer aborts, and the callback closes: nothing is told twice."""
    parties = associated()
    parties.user.scripts["on_receive_abort"] = lambda net, *_: net.close()
    parties.client.send_abort()
    parties.server.heard("on_close")
    parties.user.heard("on_receive_abort")
    parties.user.close()
    assert "on_close" not in parties.user.names()


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    server, other = Net(), Net()
    port = server.listen("127.0.0.1")
    with pytest.raises(OSError, match="cannot listen"):
        other.listen("127.0.0.1", port)
    assert other.listen("127.0.0.1")


def test_nobody_there_is_told_to_on_connect() -> None:
    user = Recorded()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        user.connect("127.0.0.1", closed.getsockname()[1])
        (error,) = user.heard("on_connect")
    assert isinstance(error, PeerUnreachable)
    assert not user.is_activated
    assert user.names() == ["on_connect"]


def test_a_connection_that_nobody_accepts_is_closed() -> None:
    server, user = Recorded(on_accept=lambda *_: None), Recorded()
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    assert user.heard("on_close")[1] is user
    assert server.clients == []


def test_an_object_can_connect_again() -> None:
    parties = associated()
    parties.user.close()
    assert parties.server.host_info is not None
    again = Recorded(on_receive_associate_request=accept_all)
    parties.server.scripts["on_accept"] = lambda net, error: net.accept(again)
    parties.user.connect("127.0.0.1", parties.server.host_info[1])
    parties.user.heard("on_connect", 2)
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept", 2)
    assert parties.user.send_c_echo_request(1, None, CLASSES[0]) == 1


def test_the_crash_of_a_peer_is_one_on_close() -> None:
    server = Recorded(on_accept=lambda net, error: net.accept(Recorded(on_receive_associate_request=accept_all)))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        peer.sendall(asking().to_pdu().encode())
        assert peer.recv(1) == b"\2"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
    error, peer_net = server.heard("on_close")
    assert isinstance(error, AssociationClosed)
    assert not peer_net.is_associated
    server.close()
    assert server.names().count("on_close") == 1


def test_nonsense_is_aborted_and_told_once() -> None:
    client = Recorded()
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        pdu = decode(peer.recv(10))
        assert isinstance(pdu, Abort)
    error, _ = server.heard("on_close")
    assert isinstance(error, AssociationAborted)
    assert error.by_us


def test_a_silent_connection_meets_artim() -> None:
    client = Recorded(config=AssociationConfig(timers=Timers(artim=0.05)))
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        assert peer.recv(10) == b""
    server.heard("on_close")


def test_a_callback_may_close_its_own_connection_and_others() -> None:
    parties = associated(
        on_receive_c_echo_request=lambda net, *_: (net.send_c_echo_response(1, 5, status=0), net.close())
    )
    parties.user.scripts["on_receive_c_echo_response"] = lambda *_: parties.server.close()
    parties.user.send_c_echo_request(1, 5, CLASSES[0])
    parties.user.heard("on_receive_c_echo_response")  # the answer left before the abort that close() means here
    parties.user.heard("on_receive_abort")
    error, _ = parties.user.heard("on_close")
    assert isinstance(error, AssociationAborted)
    parties.server.heard("on_close")
    assert not parties.client.is_connected


def test_a_callback_may_send_on_other_connections() -> None:
    """As one who passes images on does: two associations, all on one thread."""
    onward = associated(on_receive_c_echo_request=lambda net, *request: net.send_c_echo_response(*request, 0))
    first = associated(on_receive_c_echo_request=lambda net, *_: onward.user.send_c_echo_request(1, 9, CLASSES[0]))
    onward.user.scripts["on_receive_c_echo_response"] = lambda *_: first.client.send_c_echo_response(1, 3, status=0)
    first.user.send_c_echo_request(1, 3, CLASSES[0])
    assert first.user.heard("on_receive_c_echo_response")[:2] == (1, 3)


def test_close_drains_what_is_queued() -> None:
    kept: list[int] = []
    parties = associated(on_receive_c_store_request=lambda net, *rest: kept.append(len(bytes(rest[-1]))))
    data = element(0x7FE00010, b"OB", bytes(20 << 20))
    parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=data)
    parties.user.close()
    assert parties.user.queued_bytes == 0
    parties.client.heard("on_receive_abort")
    assert kept == [len(data)]
    assert "on_close" not in parties.user.names()


def stuck_user() -> tuple[Recorded, socket.socket]:
    """A user whose peer accepts an association and then reads no more, with much to send."""
    user = Recorded()
    with socket.create_server(("127.0.0.1", 0)) as server:
        user.connect(*server.getsockname())
        peer, _ = server.accept()
    user.heard("on_connect")
    user.send_associate_request(asking())
    request = decode(peer.recv(65536))
    peer.sendall(Associate.accepting(Associate.from_pdu(request)).to_pdu().encode())  # type: ignore[arg-type]
    user.heard("on_receive_associate_accept")
    user.send_c_store_request(3, None, CT, INSTANCE, data_set=bytes(64 << 20))
    return user, peer


def read_to_the_end(peer: socket.socket) -> None:
    while peer.recv(1 << 20):
        pass


def test_close_fails_visibly_when_the_peer_takes_nothing() -> None:
    user, peer = stuck_user()
    with peer:
        with pytest.raises(AssociationClosed, match="does not take the last"):
            user.close(timeout=0.1)
        error, net = user.heard("on_close")
        assert "does not take" in str(error)
        assert net is user
        with pytest.raises(ConnectionResetError):
            read_to_the_end(peer)


def test_a_busy_thread_is_said() -> None:
    release = threading.Event()
    parties = associated(on_receive_c_echo_request=lambda *_: release.wait(20))
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    parties.client.heard("on_receive_data")
    try:
        with pytest.raises(TimeoutError, match="busy"):
            parties.user.close(timeout=-0.9)
    finally:
        release.set()
    parties.server.heard("on_close")


# --- startup and shutdown -----------------------------------------------------------------------------------------


def test_startup_is_counted_and_the_last_shutdown_aborts_as_provider() -> None:
    startup()
    client = Recorded(on_receive_associate_request=accept_all)
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    port = server.listen("127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(asking().to_pdu().encode())
        assert peer.recv(65536)[0] == 2
        shutdown()
        assert client.is_associated
        ended = threading.Thread(target=shutdown)
        ended.start()
        assert decode(peer.recv(10)) == Abort(2, 0)
    ended.join(10)
    assert not ended.is_alive()
    try:
        assert not [one for one in threading.enumerate() if one.name == "dulcet-toolkit"]
        assert isinstance(client.server and server.arguments("on_close")[0], AssociationAborted)
        assert server.names().count("on_close") == 1
        assert not server.is_activated
        assert not client.is_activated
    finally:
        startup()


def test_the_thread_ends_though_a_peer_does_not_listen() -> None:
    user, peer = stuck_user()
    with peer:
        shutdown()
        startup()
    assert isinstance(user.arguments("on_close")[0], AssociationAborted)


def test_shutdown_within_a_callback_does_not_wait_for_itself() -> None:
    parties = associated(on_receive_c_echo_request=lambda *_: shutdown())
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    assert parties.user.heard("on_close")
    parties.server.heard("on_close")
    startup()


def test_connecting_when_the_thread_ends_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    from dulcet.toolkit import net as module

    going = threading.Event()

    def slow(host: str, port: int, deadline: float, **options: Any) -> socket.socket:
        going.wait(10)
        return socket.create_connection((host, port))

    monkeypatch.setattr(module, "connect", slow)
    with socket.create_server(("127.0.0.1", 0)) as server:
        first, second = Recorded(), Recorded()
        first.connect(*server.getsockname())
        first.close()
        assert not first.wait("on_connect")
        second.connect(*server.getsockname())
        shutdown()
        startup()
        going.set()
        for _ in range(2):
            peer, _ = server.accept()
            with peer:
                peer.settimeout(10)
                assert peer.recv(1) == b""
    assert not second.wait("on_connect", 20)
    assert not second.is_activated
    assert first.names() == second.names() == []


# --- what users see -----------------------------------------------------------------------------------------------


def test_the_methods_are_real_ones() -> None:
    for message in ALL:
        for prefix in ("send_", "on_receive_"):
            method = getattr(Net, prefix + message.name)
            assert method.__name__ == prefix + message.name
            assert method.__doc__
            assert prefix + message.name in dir(Net)
    assert str(inspect.signature(Net.send_c_echo_request)) == "(self, presentation_id, message_id, class_uid)"
    received = inspect.signature(Net.on_receive_c_store_response)
    assert list(received.parameters)[1:] == ["presentation_id", "message_id", "class_uid", "instance_uid", "status"]
    echo: Any = Net().send_c_echo_request
    for call, what in (
        (lambda: echo(1, None), "class_uid"),
        (lambda: echo(1, None, CT, 4), "too many"),
        (lambda: echo(1, None, CT, class_uid=CT), "multiple values"),
        (lambda: echo(1, None, CT, priority=1), "unexpected"),
    ):
        with pytest.raises(TypeError, match=what):
            call()
    with pytest.raises(LocalProtocolError, match="not connected"):
        echo(class_uid=CT, presentation_id=1, message_id=None)


def test_type_checkers_see_the_same_methods(capsys: Any, tmp_path: Path) -> None:
    assert generate_message_stubs.main(["--check"]) == 0
    stale = tmp_path / "stale.pyi"
    assert generate_message_stubs.main(["--check", "--target", str(stale)]) == 1
    assert generate_message_stubs.main(["--target", str(stale)]) == 0
    assert generate_message_stubs.main(["--check", "--target", str(stale)]) == 0


def test_observers_are_told_as_in_every_face() -> None:
    seen: list[str] = []
    config = AssociationConfig(observers=(lambda trace_event, net: seen.append(type(trace_event).__name__),))
    parties = connected(Recorded(config=config), Recorded(), Recorded(on_receive_associate_request=accept_all))
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")
    assert seen[:4] == ["ConnectionOpened", "AssociationRequested", "PDUSent", "PDUReceived"]


def test_a_peer_that_releases_in_its_own_way_is_answered_by_default() -> None:
    client = Recorded(on_receive_associate_request=accept_all)
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        peer.sendall(asking().to_pdu().encode())
        peer.recv(65536)
        peer.sendall(ReleaseRQ().encode())
        assert peer.recv(10)[0] == 6
    assert server.heard("on_close")[0] is None


def test_nothing_is_left_behind(caplog: Any) -> None:
    with caplog.at_level(logging.ERROR):
        parties = associated()
        parties.user.close()
        parties.server.heard("on_close")
        parties.server.close()
        del parties
        gc.collect()
    assert not caplog.records
    assert CLASSES[0] == uids.VERIFICATION
