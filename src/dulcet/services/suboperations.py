"""The C-STORE sub-operations of a C-GET or C-MOVE (PS3.4 C.4.2, C.4.3): counters, failed instances, the final status.

Rule: bookkeeping only; who sends what to whom is the provider's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse.status import Status
from dulcet.errors import DimseTimeout, InstanceError, NoPresentationContext
from dulcet.services.results import Sent
from dulcet.uids import name_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["FINISH", "GRACE", "SubOperations", "unanswered"]

GRACE: Final = 0.1
"""Seconds after a cancel for the answers to what is under way; the final response leaves then."""
FINISH: Final = 5.0
"""Seconds more until the associations that it is under way on are aborted."""

MAX_COUNT: Final = 0xFFFF
"""The counters are US: more than 65,535 sub-operations count as that many."""
MAX_FAILED_UIDS: Final = 10_000
"""Failed instances that are named: with 64 characters each, the list is less than the megabyte that we take too."""


class SubOperations:
    """What is to be sent, and what became of it."""

    def __init__(self, total: int | None) -> None:
        """`total` None: what is to be sent is found while it is sent; Remaining is 1 until the end then."""
        self.total = total
        self.completed: int = 0
        self.failed: int = 0
        self.warning: int = 0
        self.failed_uids: list[str] = []
        self.not_accepted: dict[str, None] = {}
        """SOP classes, in this order, that failed because the receiver accepted no context for them."""
        self._reason = ""
        self.cut: bool = False
        """True when the peer cancelled while one was under way, and its outcome was not waited for."""

    @property
    def done(self) -> int:
        return self.completed + self.failed + self.warning

    @property
    def remaining(self) -> int:
        return 1 if self.total is None else max(self.total - self.done, 0)

    def count(self, sent: Sent, *, cancelled: bool = False) -> None:
        """One sub-operation is over; without an answer it failed, for nobody knows whether the instance arrived."""
        if sent.status is not None and sent.status.is_success:
            self.completed += 1
        elif sent.status is not None and sent.status.is_warning:
            self.warning += 1
        else:
            self.failed += 1
            self.cut |= cancelled and sent.status is None
            if isinstance(sent.error, NoPresentationContext):
                self.not_accepted.setdefault(sent.sop_class_uid)
            elif not self._reason:
                self._reason = _why(sent)
            if sent.sop_instance_uid and len(self.failed_uids) < MAX_FAILED_UIDS:
                self.failed_uids.append(sent.sop_instance_uid)

    def give_up(self) -> None:
        """What is left will not be sent: it failed; one at least where nobody knows how many."""
        self.failed += self.remaining

    def pending(self) -> dict[str, Any]:
        """The counters of a pending response; Remaining is in pending and cancel responses alone (PS3.7 9.3.3.2)."""
        return {"NumberOfRemainingSuboperations": min(self.remaining, MAX_COUNT), **self.counters()}

    def final(self, *, cancelled: bool = False) -> tuple[Status, dict[str, Any]]:
        """Status and counters of the last response."""
        if cancelled:
            return Status.CANCEL, self.pending()
        if not self.failed and not self.warning:
            return Status.SUCCESS, self.counters()
        if self.failed and not self.completed and not self.warning:
            return Status.CANNOT_PERFORM_SUBOPERATIONS, self.counters()
        return Status.SUBOPERATIONS_FAILED, self.counters()

    def failed_list(self) -> Dataset | None:
        """The identifier with Failed SOP Instance UID List (0008,0058); None when nothing failed."""
        if not self.failed_uids:
            return None
        import pydicom

        identifier = pydicom.Dataset()
        identifier.FailedSOPInstanceUIDList = self.failed_uids
        return identifier

    @property
    def comment(self) -> str:
        """Error Comment (0000,0902): why sub-operations failed, in 64 characters, without what a data set holds."""
        if self.cut:
            return "cancelled before every sub-operation was answered"
        if not self.not_accepted:
            return self._reason
        first, *more = self.not_accepted
        others = f" and {len(more)} more" if more else ""
        name = name_of(first)
        room = 64 - len("not accepted: ") - len(others)
        return f"not accepted: {name if len(name) <= room else first[:room]}{others}"

    def counters(self) -> dict[str, Any]:
        """Those of a final response."""
        return {
            "NumberOfCompletedSuboperations": min(self.completed, MAX_COUNT),
            "NumberOfFailedSuboperations": min(self.failed, MAX_COUNT),
            "NumberOfWarningSuboperations": min(self.warning, MAX_COUNT),
        }


def _why(sent: Sent) -> str:
    if sent.status is not None:
        return f"the receiver answered with {int(sent.status):04X}H"
    if isinstance(sent.error, InstanceError):
        return "an instance could not be read or converted, see the log"
    return "a C-STORE was not answered, see the provider's log"


def unanswered(begun: Iterable[str], given: Iterable[str]) -> Iterator[Sent]:
    """What was sent and is not known to have arrived, as it is told after a cancel."""
    error = DimseTimeout("cancelled before it was answered")
    for uid in (Counter(begun) - Counter(given)).elements():
        yield Sent(uid, None, error, "", uid)
