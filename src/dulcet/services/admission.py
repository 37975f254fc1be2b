"""Whether an association is taken: by its policy, and by how many stand already, in all, from one host, of one title.

Rules: one table for one server; who calls it from several threads brings the lock; an application whose
admission hook or verifier fails refuses, and lives; what these say then is not logged, for it may hold a passcode.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.log_codes import coded
from dulcet.services.acceptance import CALLING_NOT_RECOGNIZED, AcceptancePolicy
from dulcet.upper_layer.events import Aborted, Closed, TimedOut
from dulcet.upper_layer.negotiation import Offer, check_context_ids, reject_reason
from dulcet.upper_layer.pdu import AssociateRJ, AssociateRQ

__all__ = ["Admission", "log_event", "log_parting"]

log: Final = logging.getLogger("dulcet.listener")

CROWDED: Final = (2, 3, 2)
"""Transient, presentation: local limit exceeded (PS3.8 Table 9-21)."""
REFUSED: Final = (1, 1, 1)
"""Permanent, no reason given: for an admission hook that rejects with what does not exist."""
UNDECIDED: Final = (2, 1, 1)
"""Transient, no reason given: for an admission hook or verifier that fails, perhaps as whom it asks is away."""


class Together(Protocol):
    """Those who serve one port together, and what stands with all of them."""

    slots: int
    """The most associations that one of them may have."""

    def counting(self) -> AbstractContextManager[None]:
        """Nobody else counts meanwhile."""

    def standing(self, host: str, title: str) -> tuple[int, int, int]:
        """Associations of all: in all, of that host, of that calling AE title."""

    def came(self, host: str, title: str) -> None:
        """One more of ours stands."""

    def gone(self, host: str, title: str) -> None:
        """One of ours less."""


class Admission:
    """Counts the associations that stand, and decides about the next one."""

    def __init__(
        self,
        policy: AcceptancePolicy,
        config: AssociationConfig,
        *,
        maximum_associations: int,
        maximum_per_host: int,
        maximum_per_ae: int | None = None,
        together: Together | None = None,
    ) -> None:
        if together is not None and maximum_associations > together.slots:
            raise ValueError(f"{maximum_associations} associations, but the shared port counts {together.slots}")
        self._together = together
        self.policy = policy
        self.config = config
        self.maximum_associations = maximum_associations
        self.maximum_per_host = maximum_per_host
        self.maximum_per_ae = maximum_per_ae
        self.count: int = 0
        """Associations that stand."""
        self._hosts: dict[str, int] = {}
        self._titles: dict[str, int] = {}

    def is_crowded(self, host: str, calling: str = "") -> bool:
        """True when one more from there, or of that calling AE title, would be one too many."""
        if self._together is not None:
            in_all, of_host, of_title = self._together.standing(host, calling)
        else:
            in_all, of_host, of_title = self.count, self._hosts.get(host, 0), self._titles.get(calling, 0)
        return (
            in_all >= self.maximum_associations
            or of_host >= self.maximum_per_host
            or (self.maximum_per_ae is not None and of_title >= self.maximum_per_ae)
        )

    def admit(self, host: str, calling: str = "") -> bool:
        """Count one more, unless it is one too many."""
        with nullcontext() if self._together is None else self._together.counting():
            admitted = not self.is_crowded(host, calling)
            if admitted:
                self.came(host, calling)
            return admitted

    def decide(
        self, request: AssociateRQ, peer: str, host: str, objection: Callable[[str], str | None] | None = None
    ) -> Offer | tuple[int, int, int]:
        """What is offered, or the rejection, which is logged; a verifier or admission hook may take its time over it.

        `objection` says why the peer's certificate does not allow an AE title.  Never raises.
        """
        if self.is_crowded(host, request.calling):
            log.warning("%s: refused %s, too many associations", peer, ascii(request.calling), extra=coded("DUL104"))
            return CROWDED
        why = None if objection is None else objection(request.calling)
        if why is not None:
            log.warning("%s: refused %s, %s", peer, ascii(request.calling), why, extra=coded("DUL105"))
            return CALLING_NOT_RECOGNIZED
        answer = self._asked(request, peer)
        if isinstance(answer, tuple):
            log.warning(
                "%s: refused %s calling %s: (%d,%d,%d)", peer, ascii(request.calling), ascii(request.called), *answer,
                extra=coded("DUL106"),
            )  # fmt: skip
        else:
            try:
                check_context_ids(request)
            except RemoteProtocolError as error:
                log.warning("%s: %s; taken all the same, strict=True aborts", peer, error, extra=coded("DUL107"))
        return answer

    def _asked(self, request: AssociateRQ, peer: str) -> Offer | tuple[int, int, int]:
        try:
            return self.policy.decide(request, self.config)
        except LocalProtocolError as error:
            log.error("%s: the admission hook is wrong: %s", peer, error, extra=coded("DUL112"))
            return REFUSED
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "%s: the admission hook or verifier of associations failed with %s in %s, line %s",
                peer, type(error).__name__, where.filename, where.lineno, extra=coded("DUL113"),
            )  # fmt: skip
            return UNDECIDED

    def came(self, host: str, calling: str = "") -> None:
        """One more stands."""
        if self._together is not None:
            self._together.came(host, calling)
        self.count += 1
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._titles[calling] = self._titles.get(calling, 0) + 1

    def gone(self, host: str, calling: str = "") -> None:
        """One less."""
        if self._together is not None:
            self._together.gone(host, calling)
        self.count -= 1
        for counts, key in ((self._hosts, host), (self._titles, calling)):
            left = counts.get(key, 1) - 1
            if left:
                counts[key] = left
            else:
                counts.pop(key, None)


def log_event(event: object, core: DimseAssociation, peer: str) -> None:
    """A line about what became of a connection before there was an association; none where nothing was ever said."""
    if isinstance(event, Aborted) and event.by_us:
        log.warning("%s: %s", peer, event.message, extra=coded("DUL101"))
    elif isinstance(event, TimedOut) and core.connection.bytes_received:
        log.warning("%s: no whole A-ASSOCIATE-RQ within %g s", peer, core.config.timers.artim, extra=coded("DUL102"))
    elif isinstance(event, Closed) and not event.expected:
        log.warning("%s: closed the connection before there was an association", peer, extra=coded("DUL103"))


def log_parting(core: DimseAssociation, peer: str) -> None:
    """A line about a connection that is over, where the protocol itself refused it or its slips were tolerated."""
    oversized = core.connection.oversized_pdus
    if oversized:
        announced = core.config.maximum_length
        log.warning(
            "%s: %d P-DATA-TF were longer than the %d bytes announced; taken all the same, strict=True aborts",
            peer, oversized, announced, extra=coded("DUL108"),
        )  # fmt: skip
    if core.request is not None and isinstance(core.answer, AssociateRJ):
        reject = reject_reason(core.request)
        if reject is not None:
            log.warning(
                "%s: refused %s, it speaks another protocol: (%d,%d,%d)",
                peer, ascii(core.request.calling), reject.result, reject.source, reject.reason, extra=coded("DUL109"),
            )  # fmt: skip
