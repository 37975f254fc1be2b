"""The messages of all eleven services (PS3.7 sections 9.1, 9.3, 10.1 and 10.3), as the standard prints them.

Rule: a message is known by this table alone; no other module says what a message must or may carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from dulcet.errors import LocalProtocolError

__all__ = ["MESSAGES", "CommandField", "DataSetRule", "MessageDefinition", "response_field"]

RESPONSE: Final = 0x8000  # PS3.7 Table E.1-1, (0000,0100): a response is its request with this bit set


class CommandField(IntEnum):
    """The values of (0000,0100) Command Field, PS3.7 Table E.1-1."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class DataSetRule(Enum):
    """Whether a data set follows the command set of a message."""

    REQUIRED = "M"
    OPTIONAL = "C"
    NEVER = "-"


@dataclass(frozen=True, slots=True)
class MessageDefinition:
    """What one message carries; keywords in the order of their tags.

    Command Group Length, Command Field and Command Data Set Type are in every message and not listed.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    data_set: DataSetRule
    is_response: bool


# The parameter tables: M mandatory, U the user's option, C conditional, - absent.  `data set` stands for the parameter
# that travels after the command set: Data Set, Identifier, Event Information and Reply, Attribute List, Modification
# List, Action Information and Reply.  Rows from Offending Element on, and Attribute Identifier List of a response, are
# fields related to a status (PS3.7 Annex C.4 and C.5).
_SERVICES: Final = """
C_STORE (Table 9.1-1)                    RQ   RSP
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    Priority                             M    -
    data set                             M    -
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               M    U
    MoveOriginatorApplicationEntityTitle U    -
    MoveOriginatorMessageID              U    -

C_FIND (Table 9.1-2)                     RQ   RSP      the response has an identifier exactly when it is pending
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    Priority                             M    -
    data set                             M    C
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C

C_GET (Table 9.1-3)                      RQ   RSP      the response may list the failed instances in an identifier
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    Priority                             M    -
    data set                             M    U
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    NumberOfRemainingSuboperations       -    C
    NumberOfCompletedSuboperations       -    C
    NumberOfFailedSuboperations          -    C
    NumberOfWarningSuboperations         -    C

C_MOVE (Table 9.1-4)                     RQ   RSP      the response may list the failed instances in an identifier
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    MoveDestination                      M    -
    Priority                             M    -
    data set                             M    U
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    NumberOfRemainingSuboperations       -    C
    NumberOfCompletedSuboperations       -    C
    NumberOfFailedSuboperations          -    C
    NumberOfWarningSuboperations         -    C

C_ECHO (Table 9.1-5)                     RQ   RSP
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             -    -
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C

C_CANCEL (Tables 9.3-5, 9.3-8, 9.3-11)   RQ
    MessageIDBeingRespondedTo            M
    data set                             -

N_EVENT_REPORT (Table 10.1-1)            RQ   RSP
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             U    C
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               M    U
    EventTypeID                          M    C
    AttributeIdentifierList              -    C

N_GET (Table 10.1-2)                     RQ   RSP
    AffectedSOPClassUID                  -    U
    RequestedSOPClassUID                 M    -
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             -    C
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               -    U
    RequestedSOPInstanceUID              M    -
    AttributeIdentifierList              U    C

N_SET (Table 10.1-3)                     RQ   RSP
    AffectedSOPClassUID                  -    U
    RequestedSOPClassUID                 M    -
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             M    U
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               -    U
    RequestedSOPInstanceUID              M    -
    AttributeIdentifierList              -    C

N_ACTION (Table 10.1-4)                  RQ   RSP
    AffectedSOPClassUID                  -    U
    RequestedSOPClassUID                 M    -
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             U    C
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               -    U
    RequestedSOPInstanceUID              M    -
    AttributeIdentifierList              -    C
    ActionTypeID                         M    C

N_CREATE (Table 10.1-5)                  RQ   RSP
    AffectedSOPClassUID                  M    U
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             U    U
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               U    C
    AttributeIdentifierList              -    C

N_DELETE (Table 10.1-6)                  RQ   RSP
    AffectedSOPClassUID                  -    U
    RequestedSOPClassUID                 M    -
    MessageID                            M    -
    MessageIDBeingRespondedTo            -    M
    data set                             -    -
    Status                               -    M
    OffendingElement                     -    C
    ErrorComment                         -    C
    ErrorID                              -    C
    AffectedSOPInstanceUID               -    U
    RequestedSOPInstanceUID              M    -
"""

_DATA_SET_RULES: Final = {
    "M": DataSetRule.REQUIRED,
    "U": DataSetRule.OPTIONAL,
    "C": DataSetRule.OPTIONAL,
    "-": DataSetRule.NEVER,
}


def _read_tables(tables: str) -> Iterator[tuple[CommandField, MessageDefinition]]:
    """Each message of the tables above, one per column."""
    for table in tables.strip().split("\n\n"):
        heading, *lines = table.split("\n")
        service = heading.partition(" ")[0]
        rows = [line.rsplit(maxsplit=1 + ("RSP" in heading)) for line in lines]
        for column, kind in enumerate(("RQ", "RSP")[: len(rows[0]) - 1], start=1):
            usages = {row[0].strip(): row[column] for row in rows}
            rule = _DATA_SET_RULES[usages.pop("data set")]
            yield (
                CommandField[f"{service}_{kind}"],
                MessageDefinition(
                    name=f"{service}_{kind}".replace("_", "-"),
                    required=tuple(keyword for keyword, usage in usages.items() if usage == "M"),
                    optional=tuple(keyword for keyword, usage in usages.items() if usage in "UC"),
                    data_set=rule,
                    is_response=kind == "RSP",
                ),
            )


MESSAGES: Final[dict[CommandField, MessageDefinition]] = dict(_read_tables(_SERVICES))

_RESPONSES: Final = {field & ~RESPONSE: field for field in CommandField if field & RESPONSE}


def response_field(request: int) -> CommandField:
    """The Command Field that answers `request`; LocalProtocolError where none does (C-CANCEL-RQ, a response)."""
    try:
        return _RESPONSES[request]
    except KeyError:
        raise LocalProtocolError(f"no response answers a message with Command Field {request:#06x}") from None
