"""What a program that is carried over finds: its arguments handed on, copies, a wait, a dump, bytes, an own address."""

from __future__ import annotations

import copy
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.toolkit.recording import CLASSES, Parties, Recorded, accept_all, asking, associated, connected, running

from dulcet.config import AssociationConfig, Timers
from dulcet.errors import AssociationClosed, LocalProtocolError, PeerUnreachable
from dulcet.toolkit import (
    AbortReason,
    AbortSource,
    ACSERejectReason,
    Associate,
    Net,
    PDUType,
    PresentationRejectReason,
    PresentationResult,
    RejectReason,
    RejectResult,
    RejectSource,
)
from dulcet.toolkit.io_thread import current
from dulcet.upper_layer.negotiation import check_abort, check_reject


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


# --- the default on_accept ----------------------------------------------------------------------------------------


class Receiver(Net):
    """Takes arguments of its own."""

    def __init__(self, folder: str, *, mark: int = 0) -> None:
        super().__init__(answer_timeout=0.5, memory_limit=9)
        self.folder, self.mark = folder, mark
        self.images: list[str] = []

    def on_receive_associate_request(self, associate: Associate) -> None:
        accept_all(self, associate)


def test_who_is_accepted_is_made_as_the_listening_object_was() -> None:
    server = Receiver("incoming", mark=7)
    config = AssociationConfig(timers=Timers(idle=99.0))
    port = server.listen("127.0.0.1")
    server.config, server.memory_limit = config, 10
    users = [Recorded(on_connect=lambda net, error: net.send_associate_request(asking())) for _ in range(2)]
    for user in users:
        user.connect("127.0.0.1", port)
        user.heard("on_receive_associate_accept")
    first, second = server.clients
    for client in (first, second):
        assert isinstance(client, Receiver)
        assert (client.folder, client.mark, client.answer_timeout) == ("incoming", 7, 0.5)
        assert (client.config, client.memory_limit) == (config, 10)
    assert isinstance(first, Receiver)
    assert isinstance(second, Receiver)
    assert first.images is not second.images


# --- wait ---------------------------------------------------------------------------------------------------------


def plainly_connected() -> tuple[Net, Net, Net]:
    """Objects that nobody taught to record anything."""
    server, client, user = Net(), Net(), Net()
    client.on_receive_associate_request = lambda associate: accept_all(client, associate)  # type: ignore[method-assign]
    server.on_accept = lambda error: server.accept(client)  # type: ignore[method-assign]
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    assert user.wait("on_connect", 20)
    return user, server, client


def test_a_script_waits_for_callbacks_without_events_of_its_own() -> None:
    user, server, client = plainly_connected()
    user.send_associate_request(asking())
    assert user.wait("on_receive_associate_accept", 20)
    assert user.is_associated
    for _ in range(2):
        user.send_c_echo_request(1, None, CLASSES[0])
    for _ in range(2):
        assert user.wait("on_receive_c_echo_response", 20)
    assert not user.wait("on_receive_c_echo_response", 0.01)  # each is waited for once
    user.send_release_request()
    assert user.wait("on_receive_release_response", 20)
    assert server.wait("on_close", 20)
    assert client.wait("on_receive_c_echo_request", 0)  # what was before the wait counts
    assert not user.wait("on_receive_abort", 20)  # it is over: nothing more comes
    assert not client.wait("on_receive_abort")


def test_a_wait_ends_with_the_connection_that_could_not_be_made() -> None:
    user = Net()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        user.connect("127.0.0.1", closed.getsockname()[1])
        assert not user.wait("on_receive_associate_accept", 20)
    assert user.wait("on_connect", 20)


def test_a_wait_ends_with_the_listening() -> None:
    server = Net()
    server.listen("127.0.0.1")
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(server.wait("on_close")))
    waiting.start()
    server.close()
    waiting.join(20)
    assert ended == [False]


def test_a_new_connection_begins_to_count_anew() -> None:
    user, server, _ = plainly_connected()
    user.close()
    port = server.host_info[1] if server.host_info else 0
    server.on_accept = lambda error: server.accept(Net())  # type: ignore[method-assign]
    user.connect("127.0.0.1", port)
    assert user.wait("on_connect", 20)
    assert not user.wait("on_connect", 0)


def test_what_cannot_be_waited_for_is_said() -> None:
    with pytest.raises(ValueError, match="no callback"):
        Net().wait("on_nothing")
    with pytest.raises(ValueError, match="no callback"):
        Net().wait("close")
    refused: list[Exception] = []

    def within(net: Recorded, *_: Any) -> None:
        try:
            net.wait("on_close", 1)
        except LocalProtocolError as error:
            refused.append(error)

    parties = associated(on_receive_c_echo_request=within)
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    parties.client.heard("on_receive_c_echo_request")
    assert "wait for itself" in str(refused[0])


# --- bytes and addresses ------------------------------------------------------------------------------------------


def test_the_bytes_of_both_directions_are_told_to_who_asks() -> None:
    received, sent = bytearray(), bytearray()
    parties: Parties = connected(Recorded(), Recorded(), Recorded(on_receive_associate_request=accept_all))
    parties.user.on_bytes_received = lambda data, error: received.extend(data)  # type: ignore[method-assign]
    parties.user.on_bytes_sent = lambda data, error: sent.extend(data)  # type: ignore[method-assign]
    request = asking()
    parties.user.send_associate_request(request)
    parties.user.heard("on_receive_associate_accept")
    assert bytes(sent) == request.to_pdu().encode()
    accepted = parties.user.associate.accept
    assert accepted is not None
    assert bytes(received) == accepted.to_pdu().encode()


def test_the_error_of_reading_is_told() -> None:
    errors: list[OSError | None] = []
    client = Recorded()
    client.on_bytes_received = lambda data, error: errors.append(error)  # type: ignore[method-assign]
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with socket.create_connection(("127.0.0.1", server.listen("127.0.0.1")), timeout=10) as peer:
        server.heard("on_accept")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
    server.heard("on_close")
    assert len(errors) == 1
    assert isinstance(errors[0], ConnectionResetError)


def test_the_error_of_writing_is_told() -> None:
    errors: list[OSError | None] = []
    parties = associated()
    user, connection = parties.user, parties.user._connection
    assert connection is not None
    user.on_bytes_sent = lambda data, error: errors.append(error)  # type: ignore[method-assign]

    def send_into_nothing() -> None:  # on the I/O thread: the peer cannot close before it is sent
        connection._sock.shutdown(socket.SHUT_WR)
        user.send_c_echo_request(1, None, CLASSES[0])

    current().post(send_into_nothing)
    assert isinstance(user.heard("on_close")[0], AssociationClosed)
    assert any(isinstance(error, BrokenPipeError) for error in errors)


def test_our_own_address_and_port_can_be_chosen() -> None:
    server = Recorded(on_accept=lambda net, error: net.accept(Recorded()))
    port = server.listen("127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    for arguments, expected in (
        (("127.0.0.1", own, "127.0.0.1", port), ("127.0.0.1", own)),
        (("", 0, "127.0.0.1", port), None),
        ((None, 0, "127.0.0.1", port), None),
    ):
        user = Recorded()
        user.connect(*arguments)  # type: ignore[arg-type]
        assert user.heard("on_connect") == (None,)
        assert expected in (None, user.host_info)
        assert user.peer_info == ("127.0.0.1", port)
        user.close()


def test_an_address_that_is_not_ours_is_said() -> None:
    server = Net()
    user = Recorded()
    user.connect("192.0.2.1", 0, "127.0.0.1", server.listen("127.0.0.1"))
    (error,) = user.heard("on_connect")
    assert isinstance(error, PeerUnreachable)
    assert "127.0.0.1" in str(error)


def test_one_protocol_alone_can_be_asked_for() -> None:
    server = Net()
    port = server.listen("127.0.0.1")
    user = Recorded()
    user.connect("127.0.0.1", port, ip="v6")
    (error,) = user.heard("on_connect")
    assert "no address of that protocol" in str(error)
    user.connect("127.0.0.1", port, ip="v4")
    assert user.heard("on_connect", 2) == (None,)


# --- the handle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_handle_is_its_own(kind: Any) -> None:
    associate = asking()
    associate.add_user_info(0x5A, b"some")
    associate.set_role(3, True, True)
    made = kind(associate)
    assert made == associate
    made.called = "OTHER"
    made.add_transfer(3, "1.2.840.10008.1.2")
    made.add_presentation(99, 0, CLASSES[0], ["1.2.840.10008.1.2"])
    made.set_role(3, None)
    made.delete_user_info(0)
    assert associate.transfer_count(3) == 1
    assert associate.called == "PROVIDER"
    assert associate.presentation_count == len(CLASSES)
    assert associate.provider_role(3)
    assert associate.user_info == [(0x5A, b"some")]


def test_a_handle_can_be_printed_and_shows_no_secret() -> None:
    associate = asking()
    associate.async_operations = (8, 1)
    associate.set_role(3, True, True)
    associate.set_extended(5, b"\1\2")
    associate.implementation_version = "MINE"
    associate.add_user_info(0x58, b"\2\1\0\4user\0\4pass")
    associate.add_user_info(0x5A, b"some")
    assert str(associate).splitlines() == [
        "A-ASSOCIATE-RQ, version 1",
        "  called 'PROVIDER', calling 'USER'",
        "  application context 1.2.840.10008.3.1.1.1 (DICOM Application Context Name)",
        "  maximum length 16384",
        "  implementation 1.2.3.4 MINE",
        "  operations: 8 invoked, 1 performed",
        "  context 1 1.2.840.10008.1.1 (Verification SOP Class)",
        "    transfer syntax 1.2.840.10008.1.2.1 (Explicit VR Little Endian)",
        "  context 3 1.2.840.10008.5.1.4.1.1.2 (CT Image Storage)",
        "    transfer syntax 1.2.840.10008.1.2.1 (Explicit VR Little Endian)",
        "    requestor is user: True, provider: True",
        *str(associate).splitlines()[11:13],
        "    extended negotiation 01 02",
        *str(associate).splitlines()[14:-2],
        "  user information 58H user identity, 14 bytes",
        "  user information 5AH unknown, 4 bytes",
    ]
    accept = Associate.accepting(associate)
    accept.set_result(1, 3)
    assert "context 1 1.2.840.10008.1.1 (Verification SOP Class): 3 abstract syntax not supported" in str(accept)
    assert "context 3 1.2.840.10008.5.1.4.1.1.2 (CT Image Storage): 0 accepted" in str(accept)


def test_what_a_peer_sent_cannot_act_on_a_terminal() -> None:
    pdu = replace(asking().to_pdu(), called_ae_title="\x1b[31mRED\x07", application_context="1.2\x1b[2J")
    shown = str(Associate.from_pdu(pdu))  # type: ignore[arg-type]
    assert shown.replace("\n", "").isprintable()
    bare = Associate(request=False)
    bare.add_presentation(1, 0, "", ["1.2.840.10008.1.2"])
    bare._contexts[0].result = 9
    assert "context 1 (no abstract syntax): 9 (unknown)" in str(bare)
    assert "maximum length none" in str(bare)


# --- names of numbers ---------------------------------------------------------------------------------------------


def test_the_names_are_the_numbers_that_may_be_sent() -> None:
    reasons = {
        RejectSource.USER: RejectReason,
        RejectSource.PROVIDER_ACSE: ACSERejectReason,
        RejectSource.PROVIDER_PRESENTATION: PresentationRejectReason,
    }
    named = {(source, reason) for source, kind in reasons.items() for reason in kind}
    legal = set()
    for source in range(6):
        for reason in range(20):
            try:
                check_reject(RejectResult.PERMANENT, source, reason)
            except LocalProtocolError:
                continue
            legal.add((source, reason))
    assert named == legal
    for abort in AbortReason:
        check_abort(AbortSource.PROVIDER, abort)
    assert [int(result) for result in PresentationResult] == [0, 1, 2, 3, 4]


def test_pdu_types_are_those_that_are_told() -> None:
    parties = associated()
    parties.user.send_release_request()
    parties.user.heard("on_receive_release_response")
    told = [arguments[0] for name, arguments in parties.user.calls if name in ("on_send", "on_receive")]
    assert told == [PDUType.ASSOCIATE_RQ, PDUType.ASSOCIATE_AC, PDUType.RELEASE_RQ, PDUType.RELEASE_RP]
