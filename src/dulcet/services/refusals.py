"""Saying no to an N-service request, with all that the response may carry besides its status (PS3.7 Annex C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dulcet.dimse.status import Status
from dulcet.errors import StatusError, as_comment

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Refused"]


class Refused(StatusError):
    """Raised while a request is handled: it ends with this `status`, one of failure as a rule; not a pending one.

    `comment` is its Error Comment, which may name attributes and UIDs and no value of a patient: the log has the whole
    of it, the peer up to 64 characters.  `attributes` are the tags of the Attribute Identifier List (0000,1005),
    `dataset` is the Attribute List of the response, `elements` are other command elements by keyword.
    """

    def __init__(
        self,
        status: int,
        comment: str = "",
        *,
        attributes: Sequence[int] = (),
        dataset: Dataset | None = None,
        **elements: Any,
    ) -> None:
        super().__init__(f"{Status(status)}{f' ({comment})' if comment else ''}", status)
        self.dataset = dataset
        self.elements: dict[str, Any] = elements
        if comment:
            self.elements["ErrorComment"] = as_comment(comment)
        if attributes:
            self.elements["AttributeIdentifierList"] = tuple(attributes)
