"""The association that carries operations: contexts, establishment, release, abort, and what is borrowed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from tests.pairs import (
    CT,
    EVERYTHING,
    GET,
    IMPLICIT,
    VERIFICATION,
    Pair,
    Piece,
    Provider,
    context,
    echo,
    echo_rq,
    message,
    request,
    store,
)

from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.events import DataReceived, RequestReceived, ResponseReceived, StrayResponse
from dulcet.dimse.messages import CommandField
from dulcet.dimse.source import FileSpan
from dulcet.errors import LocalProtocolError, NoPresentationContext
from dulcet.upper_layer.events import (
    NEED_DATA,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dulcet.upper_layer.negotiation import Offer, Proposal, Window

DATA = bytes(range(256)) * 300


@pytest.fixture
def pair() -> Pair:
    """Two ends whose association stands."""
    return Pair().establish()


def answers(pair: Pair, user: int = 0) -> list[ResponseReceived | StrayResponse]:
    """The responses that an end was told of since it was last asked."""
    return [event for event in pair.ends[user].told() if isinstance(event, ResponseReceived | StrayResponse)]


# --- contexts ------------------------------------------------------------------------------------------------------


def test_the_first_context_of_a_class_or_of_a_class_and_a_syntax_is_found(pair: Pair) -> None:
    core = pair.requestor.core
    assert [found.context_id for found in core.contexts_for(CT)] == [3, 5]
    assert core.need_context(CT).context_id == 3
    assert core.need_context(CT, IMPLICIT).context_id == 5
    assert core.context_for("1.2.3") is None
    with pytest.raises(NoPresentationContext, match=r"accept 1\.2\.3; it accepted no context of that class; propose"):
        core.need_context("1.2.3")
    named = r"in 1\.2; it accepted \S+ \(Explicit VR Little Endian\), \S+ \(Implicit VR Little Endian\); propose"
    with pytest.raises(NoPresentationContext, match=named):
        core.need_context(CT, "1.2")


def test_contexts_are_found_by_role() -> None:
    pair = Pair(proposals=[Proposal(CT, (IMPLICIT,)), Proposal(GET, (IMPLICIT,), provider=True)]).establish()
    assert pair.requestor.core.context_for(CT) is not None
    assert pair.acceptor.core.context_for(CT) is None
    assert pair.acceptor.core.context_for(GET) is not None


def test_asking_for_a_context_too_early_is_not_remembered() -> None:
    pair = Pair()
    assert pair.requestor.core.context_for(CT) is None
    assert pair.requestor.core.contexts_for(CT) == []
    pair.establish()
    assert pair.requestor.core.context_for(CT) is not None


def test_an_echo_is_what_an_invoked_one_is(pair: Pair) -> None:
    user, provider = pair.requestor.core, pair.acceptor.core
    where = user.need_context(VERIFICATION)
    for message_id in (1, 2):
        operation = user.echo(where, owner="mine") if message_id == 1 else user.invoke(
            where, Command.make(CommandField.C_ECHO_RQ, validate=False, AffectedSOPClassUID=VERIFICATION), owner="mine"
        )  # fmt: skip
        assert (operation.message_id, operation.owner, operation.field) == (message_id, "mine", 0x30)
        assert (operation.sop_class_uid, operation.sop_instance_uid, operation.size) == (VERIFICATION, None, 0)
        pair.run()
        (received,) = pair.acceptor.told()
        assert isinstance(received, RequestReceived)
        assert received.request.command == Command.make(
            CommandField.C_ECHO_RQ, MessageID=message_id, AffectedSOPClassUID=VERIFICATION
        )
        with pytest.raises(LocalProtocolError, match="1 operations are outstanding"):
            user.echo(where)
        provider.respond_status(received.request, 0)
        pair.run()
        (response,) = answers(pair)
        assert isinstance(response, ResponseReceived)
        assert response.operation is operation
        assert response.is_final
        assert not user.has_unread
        assert not user.message_is_next


# --- association control -------------------------------------------------------------------------------------------


def test_an_association_is_made_and_released(pair: Pair) -> None:
    fresh = Pair()
    fresh.connect()
    (asked,) = fresh.acceptor.told()
    assert isinstance(asked, AssociateRequested)
    assert fresh.acceptor.core.request == fresh.requestor.core.request == asked.request
    fresh.acceptor.core.accept(Offer(syntaxes={}, any_class=(), window=Window(4, 3)))
    fresh.run()
    (accepted,) = fresh.requestor.told()
    assert isinstance(accepted, AssociateAccepted)
    assert fresh.requestor.core.answer == fresh.acceptor.core.answer == accepted.accept
    assert set(fresh.requestor.core.contexts) == {1, 3, 5, 7, 9, 11}
    assert fresh.requestor.core.window == Window(1, 1)
    assert not fresh.requestor.core.wants_close

    pair.requestor.core.release()
    pair.run()
    assert pair.acceptor.told() == [ReleaseRequested()]
    pair.acceptor.core.release_response()
    pair.run()
    assert pair.requestor.told() == [ReleaseConfirmed()]
    assert pair.requestor.core.closed
    assert pair.acceptor.told() == [Closed(expected=True)]
    assert pair.acceptor.core.closed


def test_an_association_is_rejected() -> None:
    pair = Pair()
    pair.connect()
    pair.acceptor.core.reject(1, 1, 3)
    pair.run()
    (event,) = pair.requestor.told()
    assert isinstance(event, AssociateRejected)
    assert not pair.requestor.core.contexts
    assert not pair.requestor.core.can_invoke()


def test_an_offer_answers_a_request_that_came() -> None:
    with pytest.raises(LocalProtocolError, match="before a request came"):
        DimseAssociation(requestor=False).accept(EVERYTHING)


def test_a_whole_answer_is_taken_as_it_is() -> None:
    first, second = Pair(), Pair()
    first.establish()
    second.connect()
    answer = first.acceptor.core.answer
    assert answer is not None
    second.acceptor.core.accept(answer)  # type: ignore[arg-type]
    second.run()
    assert second.requestor.core.is_established


def test_release_with_outstanding_operations_is_a_local_protocol_error(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    with pytest.raises(LocalProtocolError, match="release with 1 unanswered"):
        pair.requestor.core.release()
    assert not pair.requestor.core.has_output
    assert pair.requestor.core.is_established


def test_an_answer_is_still_given_while_the_peer_waits_for_its_release(pair: Pair) -> None:
    echo(pair.acceptor)
    pair.run()
    (event,) = pair.requestor.told()
    assert isinstance(event, RequestReceived)
    pair.acceptor.core.outstanding.clear()  # the acceptor forgets and releases
    pair.acceptor.core.release()
    pair.run()
    assert pair.requestor.told() == [ReleaseRequested()]
    pair.requestor.core.respond_status(event.request, 0)
    pair.requestor.core.release_response()
    pair.run()
    assert [type(each) for each in pair.acceptor.told()] == [StrayResponse, ReleaseConfirmed]


def test_data_that_come_after_our_release_request_are_still_delivered(pair: Pair) -> None:
    core = pair.requestor.core
    core.release()
    requests = b"".join(message(1, echo_rq(number)) for number in (1, 2, 3))
    # None of these can be answered any more (PS3.8 Table 9-10, event 9 in Sta7): neither pause for it, nor try to.
    twice = message(1, echo_rq(1)) + message(3, request(CommandField.C_STORE_RQ, CT, 8))
    pair.requestor.receive(requests + twice)
    pair.run()
    assert [type(event) for event in pair.requestor.told()] == [RequestReceived] * 3
    pair.acceptor.core.release_response()
    pair.run()
    assert pair.requestor.told() == [ReleaseConfirmed()]


def test_abort_overtakes_queued_data(pair: Pair) -> None:
    store(pair.requestor, DATA * 100)
    first = pair.requestor.core.data_to_send(20_000)
    assert pair.requestor.core.has_output
    pair.acceptor.receive(b"".join(bytes(part) for part in first if not isinstance(part, FileSpan)))
    pair.requestor.core.abort()
    pair.run()
    *_, last = told = pair.acceptor.told()
    assert last == Aborted(0, 0)
    assert sum(len(event.data) for event in told if isinstance(event, Piece)) < 140_000
    assert pair.requestor.told() == [Closed(expected=True)]


@pytest.mark.parametrize("by_peer", [True, False])
def test_abort_while_half_a_message_is_in(pair: Pair, by_peer: bool) -> None:
    pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[:5000])
    pair.run()
    assert pair.acceptor.core.mid_message
    told = pair.acceptor.told()
    assert isinstance(told[0], RequestReceived)
    if by_peer:
        # a PDU is whole or the stream is lost, so the rest of it comes first
        pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[5000:50_000])
        pair.acceptor.eof = True
        pair.run()
        assert pair.acceptor.told()[-1] == Closed(expected=False)
    else:
        pair.acceptor.core.abort(2, 6)
        pair.acceptor.receive(message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA)[5000:])
        pair.run()
        assert pair.requestor.told() == [Aborted(2, 6)]
        assert pair.acceptor.told() == [Closed(expected=True)]
    assert pair.acceptor.core.closed


def test_an_end_is_told_once_and_nothing_after_it(pair: Pair) -> None:
    pair.requestor.core.abort()
    pair.run()
    assert pair.acceptor.told() == [Aborted(0, 0)]
    core = pair.acceptor.core
    buffer = core.get_buffer()
    wire = message(1, echo_rq(1))
    buffer[: len(wire)] = wire
    core.buffer_updated(len(wire))
    core.eof_received()
    core.eof_received()
    assert [core.next_event() for _ in range(5)] == [NEED_DATA] * 5
    assert core.closed
    assert core.wants_close
    assert core.timer(0.0) is None
    core.handle_timer(1e9)
    assert core.next_event() is NEED_DATA


def test_a_transport_that_goes_away_is_told_once(pair: Pair) -> None:
    echo(pair.requestor)
    pair.run()
    pair.requestor.eof = True
    pair.run()
    assert pair.requestor.told() == [Closed(expected=False)]
    assert [pair.requestor.core.next_event() for _ in range(3)] == [NEED_DATA] * 3


def test_nothing_can_be_asked_for_after_the_end(pair: Pair) -> None:
    core = pair.requestor.core
    where = context(core, VERIFICATION)
    waiting = echo(pair.requestor)
    core.abort()
    calls: list[Callable[[], object]] = [
        lambda: core.invoke(where, echo_rq(70)),
        lambda: core.store(where, CT, "1.2", b"data"),
        core.release,
        lambda: core.cancel(waiting),
    ]
    core.outstanding.pop(waiting.message_id)
    for call in calls[:3]:
        with pytest.raises(LocalProtocolError):
            call()
    core.outstanding[waiting.message_id] = waiting
    with pytest.raises(LocalProtocolError):
        core.cancel(waiting)
    assert not waiting.cancelled
    assert not core.can_invoke()


def test_what_is_wrong_with_a_request_leaves_no_trace(pair: Pair) -> None:
    core = pair.requestor.core
    where = context(core, CT)
    with pytest.raises(LocalProtocolError):
        core.store(where, CT, "not a UID \n", b"data")
    with pytest.raises(LocalProtocolError):
        core.invoke(where, Command({0x0100: 1, 0x0700: 70_000}), b"data")
    assert not core.outstanding
    assert not core.has_output
    assert store(pair.requestor, b"data").message_id == 1


# --- borrowed views ------------------------------------------------------------------------------------------------


def test_a_piece_is_valid_until_the_next_call(pair: Pair) -> None:
    core = pair.acceptor.core
    wire = message(3, request(CommandField.C_STORE_RQ, CT, 8, data_set=True), DATA, fragment=100)[:3000]
    buffer = core.get_buffer()
    buffer[: len(wire)] = wire
    core.buffer_updated(len(wire))
    assert isinstance(core.next_event(), RequestReceived)
    event = core.next_event()
    assert isinstance(event, DataReceived)
    assert isinstance(event.data, memoryview)
    assert bytes(event.data) == DATA[:100]
    assert event.data.obj is buffer.obj  # not copied
    following = core.next_event()
    assert isinstance(following, DataReceived)
    assert bytes(following.data) == DATA[100:200]


def test_next_event_after_next_event_is_the_order_of_the_wire(pair: Pair) -> None:
    names = itertools.count(1)
    wire = b"".join(
        message(3, request(CommandField.C_STORE_RQ, CT, next(names), data_set=True), DATA[:10])
        + message(1, echo_rq(next(names)))
        for _ in range(5)
    )
    provider = pair.acceptor.application = Provider()
    pair.acceptor.receive(wire)
    pair.run()
    assert [each.message_id for each in provider.requests] == list(range(1, 11))
    assert [each.command.message_id_being_responded_to for each in answers(pair)] == list(range(1, 11))
