"""Whose C-MOVE an instance comes from: who listens for one move takes what that one sends (PS3.7 section 9.1.1.1).

Rule: Move Originator AE Title and Message ID are optional; who leaves them out is known by AE title or host.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dulcet.dimse.command import Command
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.log_codes import coded

if TYPE_CHECKING:
    from dulcet.services.acceptance import AcceptancePolicy

__all__ = ["Origin", "receiving_policy"]

log: Final = logging.getLogger("dulcet.association")


class Origin:
    """One C-MOVE of ours."""

    def __init__(self, title: str, provider: str, host: str) -> None:
        """Our AE title, that of the peer that was asked to move, and the host that it has."""
        self.message_id: int | None = None
        """Of the C-MOVE-RQ; None until it was made."""
        self._title = title
        self._provider = provider
        self._host = host
        self._warned = False

    def check(self, command: Command, calling: str, peer: str) -> None:
        """ReceiveError (0124H) for a C-STORE-RQ that belongs to somebody else's move or to none."""
        title, message_id = command.move_originator_ae_title, command.move_originator_message_id
        if title or message_id is not None:
            # There are providers that give their own title instead of ours.
            known = (title or self._title).strip() in (self._title, self._provider)
            if known and message_id in (None, self.message_id):
                return
            self._refuse(f"an instance of the C-MOVE {message_id} of {title!a}, which is not this one")
        if calling != self._provider and peer.rpartition(":")[0] != self._host:
            self._refuse(f"an instance of no C-MOVE from {calling!a}, whom nobody asked for any")
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: %s leaves Move Originator out; its instances are taken for those of this C-MOVE", peer,
                ascii(calling), extra=coded("DUL218"),
            )  # fmt: skip

    def _refuse(self, why: str) -> None:
        raise ReceiveError(why, Status.NOT_AUTHORIZED, comment="not of the C-MOVE that is waited for here")


def receiving_policy() -> AcceptancePolicy:
    """Storage classes, private ones and those that no table knows included: what a peer has is what was asked for."""
    from dulcet.services.acceptance import STORED_SYNTAXES, AcceptancePolicy  # for those who listen

    return replace(AcceptancePolicy.storage(), unknown_class=STORED_SYNTAXES)
