"""Requests that wait for the window, and answers that fit their requests: what `Net` refuses and what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import make_instance
from tests.toolkit.recording import (
    CLASSES,
    CT,
    DATA_SET,
    FIND,
    INSTANCE,
    MOVE,
    MPPS,
    Recorded,
    accept_all,
    asking,
    associated,
    running,
)

from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import AssociationClosed, LocalProtocolError
from dulcet.toolkit import Net

STORE = "on_receive_c_store_response"


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


def store_well(net: Net, context_id: int, message_id: int, *_: Any) -> None:
    net.send_c_store_response(context_id, message_id, status=0)


def test_a_release_from_the_callback_of_an_answer_does_not_overtake_what_waits() -> None:
    refused: list[LocalProtocolError] = []

    def release(net: Net, *_: Any) -> None:
        try:
            net.send_release_request()
        except LocalProtocolError as error:
            refused.append(error)

    parties = associated(on_receive_c_store_request=store_well)
    parties.user.scripts[STORE] = release
    for number in range(3):
        parties.user.send_c_store_request(3, None, CT, f"1.2.{number}", data_set=DATA_SET)
    parties.user.heard("on_receive_release_response")
    assert parties.user.names().count(STORE) == 3
    assert len(refused) == 2
    assert "unanswered" in str(refused[0])


def test_a_cancel_of_what_waits_comes_behind_its_request() -> None:
    seen: list[tuple[str, int]] = []
    parties = associated(
        on_receive_c_find_request=lambda net, cid, mid, *_: seen.append(("find", mid)),
        on_receive_c_cancel_request=lambda net, cid, mid: (
            seen.append(("cancel", mid)),
            net.send_c_find_response(cid, mid, status=Status.CANCEL),
        ),
    )
    first, second = (parties.user.send_c_find_request(5, None, FIND, 0, DATA_SET) for _ in range(2))
    parties.user.send_c_cancel_request(5, second)
    parties.user.send_c_cancel_request(5, first)
    parties.user.heard("on_receive_c_find_response", 2)
    assert seen == [("find", first), ("cancel", first), ("find", second), ("cancel", second)]


def test_close_waits_for_those_that_wait_for_the_window() -> None:
    parties = associated(on_receive_c_store_request=store_well)
    for number in range(20):
        parties.user.send_c_store_request(3, None, CT, f"1.2.{number}", data_set=DATA_SET)
    parties.user.close(timeout=20)
    parties.server.heard("on_close")
    assert parties.client.names().count("on_receive_c_store_request") == 20


def test_close_fails_visibly_when_their_turn_does_not_come() -> None:
    parties = associated(on_receive_c_store_request=lambda *_: None)
    for _ in range(2):
        parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    parties.client.heard("on_receive_c_store_request")
    with pytest.raises(AssociationClosed, match="does not take the last"):
        parties.user.close(timeout=0.05)


def test_a_release_of_the_peer_over_requests_of_ours_is_no_end_in_order() -> None:
    parties = associated(on_receive_c_store_request=lambda *_: None)
    for _ in range(3):
        parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    parties.client.heard("on_receive_c_store_request")
    assert parties.client._core is not None
    parties.client.send_release_request()
    error, _ = parties.user.heard("on_close")
    assert isinstance(error, AssociationClosed)
    assert "3 requests of ours unanswered" in str(error)


def test_a_file_that_may_not_be_sent_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dulcet.toolkit import speaking as module

    made: list[Any] = []

    def noting(source: Any, syntax: str) -> tuple[Any, Any]:
        made.append(encode(source, syntax))
        return made[-1]  # type: ignore[no-any-return]

    encode = module.encoded
    monkeypatch.setattr(module, "encoded", noting)
    path = make_instance(tmp_path / "one.dcm", 2048, sop_class_uid=CT)
    parties = associated(on_receive_c_store_request=lambda *_: None)
    parties.user.send_c_store_request(3, 7, CT, INSTANCE, data_set=path)
    with pytest.raises(LocalProtocolError, match="outstanding"):
        parties.user.send_c_store_request(3, 7, CT, INSTANCE, data_set=path)
    assert len(made) == 2
    assert parties.user._files == {made[0][1]}


# --- answers ------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, Callable[[Recorded, int], object]]] = {
    "an unknown message id": ("99", lambda net, mid: net.send_c_store_response(3, 99, CT, INSTANCE, 0)),
    "another context": ("context 3, not 1", lambda net, mid: net.send_c_store_response(1, mid, CT, INSTANCE, 0)),
    "another kind": ("does not answer", lambda net, mid: net.send_c_echo_response(3, mid, CT, 0)),
    "pending of another kind": ("does not answer", lambda net, mid: net.send_c_find_response(3, mid, CT, 0xFF00)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_to_nothing_is_refused_and_nothing_is_sent(wrong: str) -> None:
    parties = associated(on_receive_c_store_request=lambda *_: None)
    message_id = parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    parties.client.heard("on_receive_c_store_request")
    why, call = WRONG[wrong]
    before = parties.client.names()
    with pytest.raises(LocalProtocolError, match=why):
        call(parties.client, message_id)
    assert parties.client.names() == before
    parties.client.send_c_store_response(3, message_id, CT, INSTANCE, 0)
    assert parties.user.heard(STORE)[4] == 0


def test_a_second_answer_is_refused_and_the_next_request_gets_its_own() -> None:
    refused: list[LocalProtocolError] = []

    def twice(net: Net, context_id: int, message_id: int, *_: Any) -> None:
        net.send_c_store_response(context_id, message_id, status=0)
        try:
            net.send_c_store_response(context_id, message_id, status=0)
        except LocalProtocolError as error:
            refused.append(error)

    parties = associated(on_receive_c_store_request=twice)
    for _ in range(3):
        parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET)
    parties.user.heard(STORE, 3)
    parties.user.send_c_echo_request(1, None, CLASSES[0])
    parties.user.heard("on_receive_c_echo_response")
    assert "on_receive_unknown" not in parties.user.names()
    assert len(refused) == 3
    assert "answered already" in str(refused[0])


def test_send_data_may_answer_nothing() -> None:
    parties = associated()
    parties.client.send_data(1, Command.make(CommandField.C_ECHO_RSP, MessageIDBeingRespondedTo=99, Status=0))
    assert parties.user.heard("on_receive_unknown")[1].message_id_being_responded_to == 99


# --- the order of C-MOVE, and the field's name of N-EVENT-REPORT --------------------------------------------------


def test_the_priority_of_a_move_comes_before_its_destination() -> None:
    parties = associated(
        on_receive_c_move_request=lambda net, cid, mid, *_: net.send_c_move_response(cid, mid, status=0)
    )
    parties.user.send_c_move_request(9, None, MOVE, 2, "THERE", DATA_SET)
    parties.user.heard("on_receive_c_move_response")
    told = parties.client.arguments("on_receive_c_move_request")
    assert told[3:5] == (2, "THERE")
    assert bytes(told[5]) == DATA_SET
    with pytest.raises(LocalProtocolError):  # the order of before is no silent mistake
        parties.user.send_c_move_request(9, None, MOVE, "THERE", 0, DATA_SET)  # type: ignore[arg-type]


def test_an_event_report_goes_by_both_of_its_names() -> None:
    told: list[tuple[Any, ...]] = []

    class Reporting(Recorded):
        def on_receive_n_report_request(self, *arguments: Any) -> None:
            told.append(arguments)
            context_id, message_id, class_uid, instance_uid, type_id, _ = arguments
            self.send_n_report_response(context_id, message_id, class_uid, instance_uid, 0, type_id)

    parties = associated()
    client = Reporting(on_receive_associate_request=accept_all)
    parties.server.scripts["on_accept"] = lambda net, error: net.accept(client)
    user = Recorded(on_connect=lambda net, error: net.send_associate_request(asking()))
    assert parties.server.host_info is not None
    user.connect(*parties.server.host_info)
    user.heard("on_receive_associate_accept")
    message_id = user.send_n_report_request(11, None, MPPS, INSTANCE, 5, DATA_SET)
    assert user.heard("on_receive_n_report_response") == (11, message_id, MPPS, INSTANCE, 0, 5, None)
    assert told[0][:5] == (11, message_id, MPPS, INSTANCE, 5)
    assert user.names().count("on_receive_n_event_report_response") == 1
