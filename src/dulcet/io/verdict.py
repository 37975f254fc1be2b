"""What is refused of a data set that comes in, wherever it is kept, as it is told to whoever sent it."""

from __future__ import annotations

from typing import Final

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.part10.header import Header
from dulcet.part10.sources import ScanError

__all__ = ["SENDABLE", "check_announced", "empty", "refusal", "shown_uid"]

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
SENDABLE: Final = 64
"""Characters of a SOP Class or Instance UID: a command set takes no more (PS3.7 annex E), so it could not be sent."""
SHOWN: Final = 1024
"""Characters of a UID that a log line shows."""


def refusal(error: ScanError) -> ReceiveError:
    """C000H, with the byte and the reason as Error Comment, and the element as Offending Element (PS3.4 B.2.3)."""
    return ReceiveError(
        f"the data set does not read as DICOM: {error}",
        Status.CANNOT_UNDERSTAND,
        comment=error.comment,
        offending=() if error.tag is None else (error.tag,),
    )


def empty() -> ReceiveError:
    """Of a data set without a byte."""
    return ReceiveError("the data set is empty", Status.CANNOT_UNDERSTAND, comment="the data set is empty")


def check_announced(header: Header, sop_class_uid: str, sop_instance_uid: str) -> None:
    """A data set has to say the SOP class and instance that its C-STORE-RQ announced (PS3.4 section B.2.3).

    ReceiveError, with comment and tag for the peer: C000H when it says none, or one that could not be sent again;
    A900H when it says another one.
    """
    for tag, announced, name in (
        (SOP_CLASS, sop_class_uid, "SOP Class UID"),
        (SOP_INSTANCE, sop_instance_uid, "SOP Instance UID"),
    ):
        found = header.uid(tag)
        why = "the data set has none" if not found else f"more than {SENDABLE} characters"
        if not found or len(found) > SENDABLE:
            shown = f" (it is {shown_uid(found)})" if found else ""
            raise ReceiveError(
                f"{name}: {why}{shown}", Status.CANNOT_UNDERSTAND, comment=f"{name}: {why}", offending=(tag,)
            )
        if found != announced:
            raise ReceiveError(
                f"{name} {shown_uid(found)} in the data set, {shown_uid(announced)} in the request",
                Status.DATA_SET_MISMATCH,
                comment=f"{name} of data set and request differ",
                offending=(tag,),
            )


def shown_uid(value: str) -> str:
    """For the log: without what a terminal obeys, and not without an end."""
    return ascii(value) if len(value) <= SHOWN else f"{value[:64]!a} and {len(value) - 64} characters more"
