"""What a walk refuses while a data set comes in, as it is told to whoever sent it."""

from __future__ import annotations

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.part10.sources import ScanError

__all__ = ["empty", "refusal"]


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
