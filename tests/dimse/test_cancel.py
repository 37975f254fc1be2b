"""C-CANCEL (PS3.7 section 9.3.2.3): it asks, it does not end; the final response still comes."""

from __future__ import annotations

import pytest
from tests.pairs import CT, FIND, Pair, Provider, echo, echo_rq, find, get, message, pending, request, store

from dulcet.config import AssociationConfig
from dulcet.dimse.events import CancelReceived, RequestReceived, ResponseReceived
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation, Request
from dulcet.dimse.status import Status


@pytest.fixture
def pair() -> Pair:
    return Pair().establish()


def under_way(pair: Pair) -> tuple[Operation, Request]:
    """A C-FIND that gave one match and goes on, from both sides."""
    operation = find(pair.requestor)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    pending(pair.acceptor.core, event.request)
    pair.run()
    pair.requestor.told()
    return operation, event.request


def test_a_cancel_reaches_the_request_it_names(pair: Pair) -> None:
    operation, asked = under_way(pair)
    assert not asked.cancelled
    pair.requestor.core.cancel(operation)
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, CancelReceived)
    assert (event.message_id, event.request) == (operation.message_id, asked)
    assert asked.cancelled
    assert operation.cancelled
    assert not asked.answered


def test_leaving_early_cancels_and_drains(pair: Pair) -> None:
    operation, asked = under_way(pair)
    core = pair.acceptor.core
    pair.requestor.core.cancel(operation)
    for _ in range(3):  # matches that were on their way already
        pending(core, asked)
    pair.run()
    core.respond_status(asked, Status.CANCEL)
    pair.run()
    told = pair.requestor.told()
    assert [event.is_final for event in told if isinstance(event, ResponseReceived)] == [False] * 3 + [True]
    assert not pair.requestor.core.outstanding
    pair.acceptor.application = Provider()
    echo(pair.requestor)
    pair.run()
    assert len(pair.requestor.told()) == 1


def test_a_cancel_of_what_is_not_under_way_names_nobody(pair: Pair) -> None:
    pair.acceptor.receive(message(7, CANCEL_99))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, CancelReceived)
    assert (event.message_id, event.request) == (99, None)
    _, asked = under_way(pair)
    pair.acceptor.receive(message(7, CANCEL_99))
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, CancelReceived)
    assert event.request is None
    assert not asked.cancelled


CANCEL_99 = request(CommandField.C_CANCEL_RQ, FIND).replace(validate=False, MessageIDBeingRespondedTo=99)


def test_a_cancel_without_a_message_id_does_no_harm(pair: Pair) -> None:
    _, asked = under_way(pair)
    pair.acceptor.receive(message(7, request(CommandField.C_CANCEL_RQ, FIND)))
    pair.run()
    assert not asked.cancelled
    assert pair.acceptor.core.is_established


def test_a_cancel_after_the_answer_names_nobody(pair: Pair) -> None:
    operation, asked = under_way(pair)
    pair.acceptor.core.respond_status(asked, 0)
    pair.requestor.core.cancel(operation)  # it crosses the final response
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, CancelReceived)
    assert event.request is None
    assert not asked.cancelled


def test_cancelling_twice_sends_one_message(pair: Pair) -> None:
    operation, _ = under_way(pair)
    for _ in range(3):
        pair.requestor.core.cancel(operation)
    pair.run()
    pair.requestor.core.cancel(operation)
    assert not pair.requestor.core.has_output
    assert len(pair.acceptor.told()) == 1


def test_cancelling_what_is_answered_sends_nothing(pair: Pair) -> None:
    operation, asked = under_way(pair)
    pair.acceptor.core.respond_status(asked, 0)
    pair.run()
    pair.requestor.core.cancel(operation)
    assert not pair.requestor.core.has_output
    assert not operation.cancelled


def test_cancelling_an_operation_whose_message_id_another_has_now_sends_nothing(pair: Pair) -> None:
    pair.acceptor.application = Provider()
    old = echo(pair.requestor, 5)
    pair.run()
    pair.acceptor.application = None
    new = echo(pair.requestor, 5)
    pair.requestor.core.data_to_send()
    pair.requestor.core.cancel(old)
    assert not pair.requestor.core.has_output
    assert not new.cancelled


def test_a_cancel_is_not_counted_in_the_window(pair: Pair) -> None:
    operation, asked = under_way(pair)
    assert pair.requestor.core.invocable == 0
    pair.requestor.core.cancel(operation)
    pair.run()
    assert len(pair.requestor.core.outstanding) == 1
    assert pair.acceptor.core.performing == {asked.message_id: asked}


def test_a_cancel_of_a_get_comes_between_its_sub_operations() -> None:
    config = AssociationConfig(window_invoked=2, window_performed=2)
    pair = Pair(config=config).establish()
    pair.requestor.application = Provider()
    operation = get(pair.requestor)
    pair.run()
    pair.acceptor.told()
    store(pair.acceptor, bytes(300_000))
    pair.requestor.core.cancel(operation)
    pair.run()
    cancelled, stored = pair.acceptor.told()
    assert isinstance(cancelled, CancelReceived)
    assert isinstance(stored, ResponseReceived)


def test_a_cancel_between_the_data_of_a_store_is_a_broken_message(pair: Pair) -> None:
    head = message(3, request(CommandField.C_STORE_RQ, CT, 1, data_set=True))
    pair.acceptor.receive(head + message(7, CANCEL_99) + message(1, echo_rq(3)))
    pair.run()
    assert pair.acceptor.core.closed or not pair.acceptor.core.is_established
