"""What an association of either face can tell about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dulcet.dimse.association import DimseAssociation
from dulcet.services.extended import Extended, options_for
from dulcet.upper_layer.negotiation import PresentationContext, Window
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

if TYPE_CHECKING:
    from dulcet.upper_layer.address import Address

__all__ = ["Negotiated"]


class Negotiated:
    """The facts of an association, read from its core."""

    def __init__(self, core: DimseAssociation, *, peer: str, address: Address | None = None) -> None:
        self.peer = peer
        """Who is at the other end: its address as it was called, or host and port as they were seen."""
        self.address = address
        """Where the peer was called; None on the acceptor's side."""
        self.ending: str | None = None
        """How it ended: "released", "refused", "aborted", "closed" or "timeout"; None while it stands."""
        self._core = core

    @property
    def request(self) -> AssociateRQ:
        """The A-ASSOCIATE-RQ."""
        assert self._core.request is not None
        return self._core.request

    @property
    def accept(self) -> AssociateAC:
        """The A-ASSOCIATE-AC."""
        assert isinstance(self._core.answer, AssociateAC)
        return self._core.answer

    @property
    def contexts(self) -> Sequence[PresentationContext]:
        """The accepted presentation contexts."""
        return list(self._core.contexts.values())

    @property
    def window(self) -> Window:
        """Operations that may be outstanding, as agreed on (PS3.7 D.3.3.3)."""
        return self._core.window

    @property
    def called_ae_title(self) -> str:
        return self.request.called

    @property
    def calling_ae_title(self) -> str:
        return self.request.calling

    @property
    def is_requestor(self) -> bool:
        """True on the side that asked for the association."""
        return self._core.requestor

    @property
    def is_established(self) -> bool:
        """True while operations are possible."""
        return self._core.is_established and self.ending is None

    @property
    def identity(self) -> Any:
        """Acceptor: who the requestor is, as the verifier told; None without one."""
        return self._core.identity

    def extended(self, sop_class_uid: str) -> Extended | None:
        """The extended negotiation agreed on for a SOP class, typed for query/retrieve; None where there is none."""
        found = self.accept.extended.get(sop_class_uid)
        return None if found is None else options_for(sop_class_uid, found.information)
