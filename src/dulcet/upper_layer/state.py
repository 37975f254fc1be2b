"""The upper layer state machine (PS3.8 section 9.2), as the standard prints it.

Rule: knows neither bytes nor sockets nor clocks; `TABLE` is Table 9-10, `connection` holds the actions
of Tables 9-6 to 9-9.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from dulcet.errors import LocalProtocolError

__all__ = ["TABLE", "Event", "State", "action"]


class State(IntEnum):
    """Sta1 to Sta13 (PS3.8 Tables 9-1 to 9-5)."""

    __hash__ = int.__hash__  # that of an Enum is a function in Python, four times an event

    IDLE = 1
    AWAITING_ASSOCIATE_RQ = 2
    AWAITING_ASSOCIATE_RESPONSE = 3  # from the local user
    AWAITING_TRANSPORT = 4
    AWAITING_ASSOCIATE_ANSWER = 5  # A-ASSOCIATE-AC or -RJ
    ESTABLISHED = 6
    AWAITING_RELEASE_RP = 7
    AWAITING_RELEASE_RESPONSE = 8  # from the local user
    COLLISION_REQUESTOR_RESPONSE = 9
    COLLISION_ACCEPTOR_RP = 10
    COLLISION_REQUESTOR_RP = 11
    COLLISION_ACCEPTOR_RESPONSE = 12
    AWAITING_CLOSE = 13


class Event(IntEnum):
    """Events 1 to 19 (PS3.8 Table 9-10)."""

    __hash__ = int.__hash__

    ASSOCIATE_REQUEST = 1  # local user
    TRANSPORT_CONFIRMED = 2
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_INDICATED = 5
    ASSOCIATE_RQ_RECEIVED = 6
    ACCEPT_RESPONSE = 7  # local user
    REJECT_RESPONSE = 8  # local user
    DATA_REQUEST = 9  # local user
    DATA_RECEIVED = 10
    RELEASE_REQUEST = 11  # local user
    RELEASE_RQ_RECEIVED = 12
    RELEASE_RP_RECEIVED = 13
    RELEASE_RESPONSE = 14  # local user
    ABORT_REQUEST = 15  # local user
    ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU_RECEIVED = 19


PAGE: Final = """
Sta  1     2     3     4     5     6     7     8     9     10    11    12    13
 1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
 2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
 3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
 6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
 7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
 8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
 9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
10   .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
11   .     .     .     .     .     AR-1  .     .     .     .     .     .     .
12   .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
13   .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
14   .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
15   .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
16   .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
17   .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
18   .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
19   .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _read(page: str) -> dict[tuple[Event, State], str]:
    rows = [line.split() for line in page.strip().splitlines()]
    states = [State(int(column)) for column in rows[0][1:]]
    return {
        (Event(int(row[0])), state): cell
        for row in rows[1:]
        for state, cell in zip(states, row[1:], strict=True)
        if cell != "."
    }


TABLE: Final = _read(PAGE)


def action(event: Event, state: State) -> str:
    """The action of a cell, "AE-1" to "AA-8"; an absent cell is LocalProtocolError, here and nowhere else."""
    try:
        return TABLE[event, state]
    except KeyError:
        what = event.name.lower().replace("_", " ")
        raise LocalProtocolError(f"{what} is not allowed while {state.name.lower().replace('_', ' ')}") from None
