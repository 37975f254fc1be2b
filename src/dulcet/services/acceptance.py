"""Who may associate with us, and for what: a value that answers an A-ASSOCIATE-RQ (PS3.8 section 7.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.upper_layer.negotiation import Offer, Window
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = ["AcceptancePolicy"]

CALLING_NOT_RECOGNIZED: Final = (1, 1, 3)
CALLED_NOT_RECOGNIZED: Final = (1, 1, 7)
STORED_SYNTAXES: Final = tuple(uid for uid in uids.TRANSFER_SYNTAXES if uid not in uids.REFERENCED)
"""Every transfer syntax whose bytes are the instance; those that only refer to pixel data elsewhere are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptancePolicy:
    """The SOP classes and AE titles that are accepted."""

    called: frozenset[str] | None = None
    """AE titles that we answer to; None for any.  Compared without padding, case-sensitive."""
    calling: frozenset[str] | None = None
    """AE titles that may call; None for any."""
    syntaxes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """SOP class UID -> transfer syntaxes, in our order; an empty sequence takes whatever is proposed."""
    any_class: Sequence[str] | None = None
    """The transfer syntaxes for classes that are not listed; None refuses them."""
    window: int = 8
    """Operations that a peer may have outstanding where it asks for several."""

    @classmethod
    def storage(
        cls,
        called: str | None = None,
        *,
        calling: Iterable[str] | None = None,
        promiscuous: bool = False,
        transfer_syntaxes: Sequence[str] = STORED_SYNTAXES,
    ) -> Self:
        """Verification and every storage class of the standard; `promiscuous` takes any class, private ones too."""
        syntaxes: dict[str, Sequence[str]] = dict.fromkeys(sorted(uids.STORAGE_CLASSES), transfer_syntaxes)
        syntaxes[uids.VERIFICATION] = tuple(sorted(uids.UNCOMPRESSED))
        return cls(
            called=None if called is None else frozenset((called,)),
            calling=None if calling is None else frozenset(calling),
            syntaxes=syntaxes,
            any_class=() if promiscuous else None,
        )

    def decide(self, request: AssociateRQ, config: AssociationConfig) -> Offer | tuple[int, int, int]:
        """What we offer this requestor, or the (result, source, reason) that rejects it."""
        if self.called is not None and request.called not in self.called:
            return CALLED_NOT_RECOGNIZED
        if self.calling is not None and request.calling not in self.calling:
            return CALLING_NOT_RECOGNIZED
        return Offer(
            syntaxes=self.syntaxes,
            any_class=self.any_class,
            order=config.transfer_syntax_order,
            maximum_length=config.maximum_length,
            window=Window(config.window_invoked, self.window),
            implementation_class_uid=config.implementation_class_uid,
            implementation_version_name=config.implementation_version_name,
        )
