"""The reason in a failing response: Error Comment (0000,0902) and Offending Element (0000,0901), PS3.7 Annex C.

Rules: no failure goes out without a comment; where nobody gives one, it is the status in words.  A comment may name
UIDs and attributes, and never a value of a patient; what is too long for LO is cut between words, the log has it whole.
"""

from __future__ import annotations

from typing import Final

from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import SERVICES, Status, StatusCategory, category_of
from dulcet.errors import AssociationRefused, PeerUnreachable, as_comment

__all__ = [
    "FAILED",
    "TOO_LATE",
    "UNANSWERED",
    "comment_of",
    "fails",
    "not_provided",
    "why_not_sent",
]

FAILED: Final = "the application failed, see its log"
UNANSWERED: Final = "the application gave no answer, see its log"
TOO_LATE: Final = "the provider ended the association before this was done"

_SPOKEN: Final[dict[int, str]] = {
    CommandField.C_STORE_RQ: "storage",
    CommandField.C_FIND_RQ: "find",
    CommandField.C_MOVE_RQ: "move",
    CommandField.C_GET_RQ: "get",
}
_NORMALIZED: Final = {0xC3: "ups", 0xC6: "print"}
"""The services that have failures of their own among those of the N-services, by the first byte."""


def fails(status: int) -> bool:
    """True for a status that has to be explained: neither done, nor going on, nor canceled."""
    return 0 < status <= 0xFFFF and category_of(status) is StatusCategory.FAILURE


def comment_of(field: int, status: int) -> str:
    """What is said where nobody gives a reason: the status in the words of the service that the request belongs to."""
    service = _SPOKEN.get(field) or _NORMALIZED.get(status >> 8)
    assert service is None or service in SERVICES
    return as_comment(Status(status).meaning(service))


def not_provided(command: Command) -> str:
    """The comment on a request that nobody provides here (0122H, 0211H)."""
    return as_comment(f"{command.name} of {command.sop_class_uid or 'no SOP class'} is not provided here")


def why_not_sent(failure: Exception) -> str:
    """What the peer is told of sub-operations that came to an end; addresses and our own faults are for the log."""
    if isinstance(failure, PeerUnreachable):
        return "the move destination cannot be reached, see the provider's log"
    if isinstance(failure, AssociationRefused):
        numbers = f"{failure.result},{failure.source},{failure.reason}"
        return f"the move destination refused the association ({numbers})"
    return "the rest could not be sent, see the provider's log"
