"""How an association ends, and the exception that tells whoever still waits."""

from __future__ import annotations

from typing import Final

from dulcet.dimse.association import DimseAssociation
from dulcet.errors import (
    AssociationAborted,
    AssociationClosed,
    AssociationError,
    AssociationRefused,
    DimseTimeout,
    NoPresentationContext,
    StatusError,
)
from dulcet.upper_layer.events import (
    Aborted,
    AssociateRejected,
    Closed,
    ReleaseConfirmed,
    ReleaseRequested,
    TimedOut,
)

__all__ = ["ENDINGS", "ending", "ends_in_order", "without"]

ENDINGS: Final = frozenset((Aborted, AssociateRejected, Closed, ReleaseConfirmed, ReleaseRequested, TimedOut))
"""The types of the events after which nothing is possible any more."""

TIMEOUTS: Final = {
    "artim": "no A-ASSOCIATE-RQ came in time",
    "associate": "no answer to the association request in time; is it a DICOM port?",
    "release": "no answer to the release request in time",
    "idle": "nothing came for so long that the association was given up",
    "progress": "the peer stopped in the middle of a message",
    "response": "no response in time; raise Timers.response if the peer needs longer",
}


def ends_in_order(core: DimseAssociation, error: BaseException | None) -> bool:
    """True when a user's block ends with A-RELEASE, False when with A-ABORT (PS3.8 sections 7.2 and 7.3).

    An exception says that something broke off; but a "no" of the peer's breaks nothing off: a class that it did not
    accept, a status that was checked.
    """
    refused = isinstance(error, NoPresentationContext | StatusError)
    return error is None or (refused and not (core.outstanding or core.performing))


def ending(event: object, peer: str, core: DimseAssociation) -> tuple[str, AssociationError | DimseTimeout]:
    """A word for it ("released", "refused", "aborted", "closed", "timeout") and the exception."""
    if isinstance(event, ReleaseConfirmed):
        return "released", AssociationClosed(f"{peer}: the association was released")
    if isinstance(event, ReleaseRequested):
        return "released", AssociationClosed(f"{peer}: the peer released the association")
    if isinstance(event, AssociateRejected):
        reject = event.reject
        return "refused", AssociationRefused(reject.result, reject.source, reject.reason, peer)
    if isinstance(event, TimedOut):
        return "timeout", DimseTimeout(f"{peer}: {TIMEOUTS[event.timer]}")
    if isinstance(event, Aborted):
        if event.by_us:
            message = f"{peer} broke the protocol, the association was aborted: {event.message}"
            return "aborted", AssociationAborted(event.source, event.reason, message, by_us=True)
        error = AssociationAborted(event.source, event.reason)
        return "aborted", AssociationAborted(event.source, event.reason, f"{peer}: {error}")
    if core.answer is None:
        return "closed", AssociationClosed(
            f"{peer} closed the connection without answering the association request; "
            "is it a DICOM port, and does it want TLS?"
        )
    return "closed", AssociationClosed(
        f"{peer} closed the connection in the middle of the association; what was not yet answered is not done"
    )


def without(peer: str, error: object) -> str:
    """What happened, for a line that begins with the peer already."""
    return str(error).removeprefix(peer).removeprefix(": ").strip()
