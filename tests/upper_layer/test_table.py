"""PS3.8 section 9.2, all 13 x 19 cells: the table transcribed once more, state by state, and what each action does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import pytest
from pynetdicom.fsm import TRANSITION_TABLE
from tests.upper_layer.wire import (
    ANSWER,
    CONFIG,
    REQUEST,
    Piece,
    Seen,
    drained,
    paused,
    pull,
    receive,
    running,
    sent,
)

from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.actions import ACTIONS
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)
from dulcet.upper_layer.pdu import PDU, PDV, Abort, AssociateRJ, PDataTF, ReleaseRP, ReleaseRQ
from dulcet.upper_layer.state import TABLE, Event, State, action

# Column by column, as each state reads: {event: (action, next state)}.  The events that answer an unexpected or wrong
# PDU are the same in all states that stand between association and abort, so only what differs is named.
UNEXPECTED: Final = dict.fromkeys((3, 4, 6, 10, 12, 13, 19), ("AA-8", 13))
ASSOCIATED: Final = UNEXPECTED | {15: ("AA-1", 13), 16: ("AA-3", 1), 17: ("AA-4", 1)}
STANDARD: Final[dict[int, dict[int, tuple[str, int]]]] = {
    1: {1: ("AE-1", 4), 5: ("AE-5", 2)},
    2: {
        **dict.fromkeys((3, 4, 10, 12, 13, 19), ("AA-1", 13)),
        6: ("AE-6", 3),
        16: ("AA-2", 1),
        17: ("AA-5", 1),
        18: ("AA-2", 1),
    },
    3: ASSOCIATED | {7: ("AE-7", 6), 8: ("AE-8", 13)},
    4: {2: ("AE-2", 5), 15: ("AA-2", 1), 17: ("AA-4", 1)},
    5: ASSOCIATED | {3: ("AE-3", 6), 4: ("AE-4", 1)},
    6: ASSOCIATED | {9: ("DT-1", 6), 10: ("DT-2", 6), 11: ("AR-1", 7), 12: ("AR-2", 8)},
    7: ASSOCIATED | {10: ("AR-6", 7), 12: ("AR-8", 0), 13: ("AR-3", 1)},
    8: ASSOCIATED | {9: ("AR-7", 8), 14: ("AR-4", 13)},
    9: ASSOCIATED | {14: ("AR-9", 11)},
    10: ASSOCIATED | {13: ("AR-10", 12)},
    11: ASSOCIATED | {13: ("AR-3", 1)},
    12: ASSOCIATED | {14: ("AR-4", 13)},
    13: {
        **dict.fromkeys((3, 4, 10, 12, 13), ("AA-6", 13)),
        6: ("AA-7", 13),
        16: ("AA-2", 1),
        17: ("AR-5", 1),
        18: ("AA-2", 1),
        19: ("AA-7", 13),
    },
}

ARTIM, ASSOCIATE, RELEASE, NONE, SAME = 7.0, 100.0, 1000.0, None, -1.0
REJECT: Final = AssociateRJ(1, 1, 1)
REMOTE: Final[dict[int, PDU]] = {
    3: ANSWER,
    4: REJECT,
    6: REQUEST,
    10: PDataTF((PDV(1, True, True, b"data"),)),
    12: ReleaseRQ(),
    13: ReleaseRP(),
    16: Abort(0, 0),
}
ANSWERS: Final = {3: 7, 8: 14, 9: 14, 12: 14}
"""Where our user owes an answer, and the event that gives it: nothing that came is looked at before."""


@dataclass(frozen=True)
class Effect:
    """What an action sends, tells its user and does to the timers."""

    sent: tuple[PDU, ...] = ()
    told: tuple[Seen, ...] = ()
    timer: float | None = SAME
    close: bool = False


MESSAGE: Final = PDataTF((PDV(1, True, True, b"command"),))
RECEIVED_DATA: Final = Piece(1, True, True, b"data")
EFFECTS: Final = {
    "AE-1": Effect(),
    "AE-2": Effect(sent=(REQUEST,), timer=ASSOCIATE),
    "AE-3": Effect(told=(AssociateAccepted(ANSWER),), timer=NONE),
    "AE-4": Effect(told=(AssociateRejected(REJECT),), timer=NONE, close=True),
    "AE-5": Effect(timer=ARTIM),
    "AE-6": Effect(told=(AssociateRequested(REQUEST),), timer=NONE),
    "AE-7": Effect(sent=(ANSWER,)),
    "AE-8": Effect(sent=(REJECT,), timer=ARTIM),
    "DT-1": Effect(sent=(MESSAGE,)),
    "DT-2": Effect(told=(RECEIVED_DATA,)),
    "AR-1": Effect(sent=(ReleaseRQ(),), timer=RELEASE),
    "AR-2": Effect(told=(ReleaseRequested(),)),
    "AR-3": Effect(told=(ReleaseConfirmed(),), timer=NONE, close=True),
    "AR-4": Effect(sent=(ReleaseRP(),), timer=ARTIM),
    "AR-5": Effect(told=(Closed(expected=True),), timer=NONE, close=True),
    "AR-6": Effect(told=(RECEIVED_DATA,)),
    "AR-7": Effect(sent=(MESSAGE,)),
    "AR-8": Effect(told=(ReleaseRequested(collision=True),)),
    "AR-9": Effect(sent=(ReleaseRP(),)),
    "AR-10": Effect(told=(ReleaseConfirmed(),), timer=NONE),
    "AA-2": Effect(timer=NONE, close=True),
    "AA-3": Effect(told=(Aborted(0, 0),), timer=NONE, close=True),
    "AA-4": Effect(told=(Closed(expected=False),), timer=NONE, close=True),
    "AA-5": Effect(told=(Closed(expected=True),), timer=NONE, close=True),
    "AA-6": Effect(),
}


def effect(cell: str, event: int, state: int) -> Effect:
    """What a cell does; the aborts depend on what they answer: 1 an unknown PDU type, 2 a PDU out of place."""
    reason = 1 if event == 19 else 2
    told = (Aborted(2, reason, by_us=True),)
    if (cell, event, state) == ("AA-2", 18, 2):
        # The face is told why it closes a connection on which nothing was asked.
        return replace(EFFECTS[cell], told=(TimedOut("artim"),))
    if cell == "AA-1":
        # Documented deviation: what answers bytes goes out as the provider's (2, reason), not as source 0.
        return Effect(sent=(Abort(0, 0),), timer=ARTIM) if event == 15 else Effect((Abort(2, reason),), told, ARTIM)
    if cell == "AA-7":
        return Effect(sent=(Abort(2, reason),))
    if cell == "AA-8":
        return Effect((Abort(2, reason),), told, ARTIM)
    return EFFECTS[cell]


def in_state(state: int, *, requestor: bool) -> Connection | None:
    """A connection that has come to `state` and told and sent all there was; None where this role never gets there."""
    if state in ((2, 3, 10, 12) if requestor else (4, 5, 9, 11)):
        return None
    connection = Connection(requestor=requestor, config=CONFIG)
    if state != 1:
        (lead_requestor if requestor else lead_acceptor)(connection, state)
    if state > 6:
        lead_out(connection, state)
    drained(connection)
    assert connection.state == state
    return connection


def lead_requestor(connection: Connection, state: int) -> None:
    connection.associate(REQUEST)
    if state >= 5:
        connection.connection_made()
    if state >= 6:
        receive(connection, ANSWER.encode())


def lead_acceptor(connection: Connection, state: int) -> None:
    connection.connection_made()
    if state >= 3:
        receive(connection, REQUEST.encode())
    if state >= 6:
        connection.accept(ANSWER)


def lead_out(connection: Connection, state: int) -> None:
    if state in (7, 9, 10, 11, 12):
        connection.release()
    if state in (8, 9, 10, 11, 12):
        receive(connection, ReleaseRQ().encode())
    if state == 11:
        connection.release_response()
    if state == 12:
        receive(connection, ReleaseRP().encode())
    if state == 13:
        connection.abort()


LOCAL: Final[dict[int, Callable[[Connection], None]]] = {
    1: lambda connection: connection.associate(REQUEST),
    2: Connection.connection_made,
    5: Connection.connection_made,
    7: lambda connection: connection.accept(ANSWER),
    8: lambda connection: connection.reject(1, 1, 1),
    9: lambda connection: connection.send_message(1, b"command"),
    11: Connection.release,
    14: Connection.release_response,
    15: Connection.abort,
}


def feed(connection: Connection, event: int) -> list[Seen]:
    """Let an event happen and pull what is told."""
    if event in LOCAL:
        LOCAL[event](connection)
        return pull(connection)
    if event == 17:
        connection.eof_received()
        return pull(connection)
    if event == 18:
        connection.timer(0.0)
        connection.handle_timer(ARTIM)
        return pull(connection)
    return receive(connection, REMOTE[event].encode() if event in REMOTE else b"\x99")


def unworded(events: list[Seen]) -> tuple[Seen, ...]:
    """The events without the words in which an abort of ours names its cause; there have to be some."""
    for event in events:
        if isinstance(event, Aborted):
            assert bool(event.message) == event.by_us
    return tuple(replace(event, message="") if isinstance(event, Aborted) else event for event in events)


def check(connection: Connection, before: float | None, told: list[Seen], expected: Effect, state: int) -> None:
    """Fail unless what happened is what the action is to do."""
    assert connection.state == state
    assert unworded(told) == expected.told
    assert tuple(sent(connection)) == expected.sent
    assert running(connection) == (before if expected.timer is SAME else expected.timer)
    assert connection.wants_close == expected.close
    assert connection.closed == expected.close


ROLES: Final = {"requestor": True, "acceptor": False}
CELLS: Final = [
    pytest.param(state, event, ROLES[role], id=f"Sta{state}-Evt{event}-{role}")
    for state in range(1, 14)
    for event in range(1, 20)
    for role in ROLES
    if in_state(state, requestor=ROLES[role]) is not None and event != (5 if ROLES[role] else 2)
]


def test_the_grid_is_the_table_of_the_standard() -> None:
    ours = {(int(state), int(event)): name for (event, state), name in TABLE.items()}
    assert ours == {(state, event): cell[0] for state, row in STANDARD.items() for event, cell in row.items()}


def test_the_transcription_agrees_with_another_implementation() -> None:
    theirs = {(int(key[1][3:]), int(key[0][3:])): name for key, name in TRANSITION_TABLE.items()}
    assert theirs == {(state, event): cell[0] for state, row in STANDARD.items() for event, cell in row.items()}


def test_every_action_has_one_place() -> None:
    data = {"DT-1", "DT-2", "AR-6", "AR-7"}  # send_message and next_event themselves
    assert set(TABLE.values()) == {*EFFECTS, "AA-1", "AA-7", "AA-8"}
    assert set(ACTIONS) == set(TABLE.values()) - data


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_an_absent_cell_is_a_local_protocol_error(event: Event, state: State) -> None:
    cell = STANDARD[state].get(event)
    if cell is None:
        with pytest.raises(LocalProtocolError, match="is not allowed while"):
            action(event, state)
    else:
        assert action(event, state) == cell[0]


@pytest.mark.parametrize(("state", "event", "requestor"), CELLS)
def test_cell(state: int, event: int, requestor: bool) -> None:
    connection = in_state(state, requestor=requestor)
    assert connection is not None
    before = running(connection)
    if state in ANSWERS and event not in LOCAL and event != 18:
        check_owed(connection, state, event)
        return
    cell = STANDARD[state].get(event)
    if event == 15 and state in (1, 2, 13):
        # Absent cells, yet an abort may be asked for at any time: nothing to do, or, in Sta2, AA-2.
        expected = effect("AA-2", 15, 2) if state == 2 else Effect()
        check(connection, before, feed(connection, 15), expected, 1 if state == 2 else state)
    elif cell is not None and not (event == 1 and not requestor):
        name, after = cell
        told = feed(connection, event)
        check(connection, before, told, effect(name, event, state), after or (9 if requestor else 10))
    elif event in LOCAL:
        with pytest.raises(LocalProtocolError):
            LOCAL[event](connection)
        check(connection, before, pull(connection), Effect(), state)
    else:
        # No transport connection, or ARTIM does not run: such an event cannot come; if it does, nothing happens.
        assert state in (1, 4) or event == 18
        check(connection, before, feed(connection, event), Effect(), state)


def check_owed(connection: Connection, state: int, event: int) -> None:
    """Nothing behind an owed answer is looked at; once it is given, the event acts in the state that follows."""
    before = running(connection)
    assert feed(connection, event) == []
    assert paused(connection)
    check(connection, before, [], Effect(), state)
    LOCAL[ANSWERS[state]](connection)
    drained(connection)
    after = STANDARD[state][ANSWERS[state]][1]
    assert connection.state == after
    name, last = STANDARD[after][event]
    before = running(connection)
    check(connection, before, pull(connection), effect(name, event, after), last)


@pytest.mark.parametrize(("request_", "reject"), [
    (replace(REQUEST, protocol_version=2), AssociateRJ(1, 2, 2)),
    (replace(REQUEST, application_context="1.2.3"), AssociateRJ(1, 1, 2)),
])  # fmt: skip
def test_ae6_rejects_what_no_user_need_be_asked_about(request_: PDU, reject: AssociateRJ) -> None:
    connection = in_state(2, requestor=False)
    assert connection is not None
    told = receive(connection, request_.encode())
    check(connection, None, told, Effect(sent=(reject,), timer=ARTIM), 13)
    assert connection.answer == reject


def test_protocol_version_is_tested_by_its_first_bit_alone() -> None:
    connection = in_state(2, requestor=False)
    assert connection is not None
    request = replace(REQUEST, protocol_version=0x8003)
    assert receive(connection, request.encode()) == [AssociateRequested(request)]


@pytest.mark.parametrize("way", [ReleaseRP(), Abort(0, 0), None], ids=["released", "aborted", "cut"])
@pytest.mark.parametrize("event", [event for event in LOCAL if event != 15])
def test_a_connection_serves_once(way: PDU | None, event: int) -> None:
    connection = in_state(7, requestor=True)
    assert connection is not None
    if way is None:
        connection.eof_received()
        pull(connection)
    else:
        receive(connection, way.encode())
    assert connection.closed
    with pytest.raises(LocalProtocolError):
        LOCAL[event](connection)
    connection.abort()
    assert receive(connection, REQUEST.encode()) == []
    connection.eof_received()
    check(connection, None, pull(connection), Effect(close=True), 1)


def test_bytes_that_come_before_the_transport_is_said_to_stand_wait_for_it() -> None:
    connection = Connection(requestor=False, config=CONFIG)
    assert receive(connection, REQUEST.encode()) == []
    connection.connection_made()
    assert pull(connection) == [AssociateRequested(REQUEST)]


def test_an_abort_with_a_source_that_does_not_fit_changes_nothing() -> None:
    connection = in_state(6, requestor=True)
    assert connection is not None
    for source, reason in ((256, 0), (2, 256), (-1, 0)):
        with pytest.raises(LocalProtocolError):
            connection.abort(source, reason)
    check(connection, None, [], Effect(), 6)


@pytest.mark.parametrize(("source", "reason", "expected"), [(0, 0, (0, 0)), (0, 5, (0, 0)), (2, 5, (2, 5))])
def test_only_the_providers_abort_has_a_reason(source: int, reason: int, expected: tuple[int, int]) -> None:
    connection = in_state(6, requestor=True)
    assert connection is not None
    connection.abort(source, reason)
    assert sent(connection) == [Abort(*expected)]
