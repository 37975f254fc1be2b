"""Whether an association is taken: by its policy, and by how many stand already, in all and from one host.

Rule: one table for one server; who calls it from several threads brings the lock.
"""

from __future__ import annotations

import logging
from typing import Final

from dulcet.config import AssociationConfig
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.upper_layer.negotiation import Offer
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = ["Admission"]

log: Final = logging.getLogger("dulcet.listener")

CROWDED: Final = (2, 3, 2)
"""Transient, presentation: local limit exceeded (PS3.8 Table 9-21)."""


class Admission:
    """Counts the associations that stand, and decides about the next one."""

    def __init__(
        self, policy: AcceptancePolicy, config: AssociationConfig, *, maximum_associations: int, maximum_per_host: int
    ) -> None:
        self.policy = policy
        self.config = config
        self.maximum_associations = maximum_associations
        self.maximum_per_host = maximum_per_host
        self.count = 0
        """Associations that stand."""
        self._hosts: dict[str, int] = {}

    def is_crowded(self, host: str) -> bool:
        """True when one more from there would be one too many."""
        return self.count >= self.maximum_associations or self._hosts.get(host, 0) >= self.maximum_per_host

    def decide(self, request: AssociateRQ, peer: str, host: str) -> Offer | tuple[int, int, int]:
        """What is offered, or the rejection, which is logged; a verifier or judge may take its time over it."""
        if self.is_crowded(host):
            log.warning("%s: refused %s, too many associations", peer, ascii(request.calling))
            return CROWDED
        answer = self.policy.decide(request, self.config)
        if isinstance(answer, tuple):
            log.warning(
                "%s: refused %s calling %s: (%d,%d,%d)", peer, ascii(request.calling), ascii(request.called), *answer
            )
        return answer

    def came(self, host: str) -> None:
        """One more stands."""
        self.count += 1
        self._hosts[host] = self._hosts.get(host, 0) + 1

    def gone(self, host: str) -> None:
        """One less."""
        self.count -= 1
        left = self._hosts.get(host, 1) - 1
        if left:
            self._hosts[host] = left
        else:
            self._hosts.pop(host, None)
