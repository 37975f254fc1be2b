"""What the responses of a C-FIND bring: its matches, as many as are wanted (PS3.4 C.4.1).

Rule: a match that does not decode costs nobody the others.  It is said when it comes, and the find ends with an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from dulcet.errors import InstanceError, ReceiveError
from dulcet.log_codes import coded
from dulcet.services.results import Response

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Answers"]

log: Final = logging.getLogger("dulcet.association")

class Answers:
    """The matches of one C-FIND; `limit` is how many are wanted, None for all."""

    def __init__(self, peer: str, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit {limit}: how many matches are wanted, 1 or more; None for all")
        self._peer = peer
        self._left = limit
        self._count = 0
        self._unreadable = 0
        self._reason = ""

    @property
    def enough(self) -> bool:
        """True once as many came as are wanted."""
        return self._left is not None and self._count >= self._left

    def take(self, response: Response) -> Dataset | None:
        """The match that a response brings, if any; StatusError when it ends with anything but success."""
        if not response.status.is_pending:
            response.check()
            return None
        self._count += 1
        if response.data is None:  # PS3.4 section C.4.1.1.3: a match has an identifier
            self._is_none("it has no data set")
            return None
        try:
            # The bounded scanner goes first: pydicom calls itself for every level, and takes noise for an empty set.
            _walk(response.data, response.transfer_syntax)
            return response.dataset()
        except (InstanceError, ReceiveError) as error:
            self._is_none(str(error))
            return None

    def _is_none(self, reason: str) -> None:
        self._unreadable += 1
        self._reason = self._reason or reason
        log.warning("%s: answer %d does not decode: %s", self._peer, self._count, reason, extra=coded("DUL231"))

    def check(self) -> None:
        """ReceiveError when there were some that do not decode."""
        if self._unreadable:
            raise ReceiveError(
                f"{self._peer}: {self._unreadable} of {self._count} answers do not decode: {self._reason}"
            )


def _walk(data: bytes, transfer_syntax: str) -> None:
    """ScanError for what is no data set; depth and elements of one answer are limited here, its bytes by the core."""
    from dulcet.part10.limits import USUAL_LIMITS  # an echo has no answers
    from dulcet.part10.scanner import walk_elements
    from dulcet.part10.sources import MemorySource

    walk_elements(MemorySource(data), transfer_syntax, USUAL_LIMITS)
