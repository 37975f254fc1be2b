"""Who may associate with us, and for what: a value that answers an A-ASSOCIATE-RQ (PS3.8 section 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.services.extended import Extended, agree
from dulcet.services.identity import Verifier, verify
from dulcet.services.sop_classes import service_of, storage_classes
from dulcet.upper_layer.items import UserItem
from dulcet.upper_layer.negotiation import Offer, Window, check_reject
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = ["AcceptancePolicy"]

CALLING_NOT_RECOGNIZED: Final = (1, 1, 3)
CALLED_NOT_RECOGNIZED: Final = (1, 1, 7)
STORED_SYNTAXES: Final = tuple(
    uid
    for uid in uids.TRANSFER_SYNTAXES
    if uid in uids.UNCOMPRESSED | uids.ENCAPSULATED or uid == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
)
"""Every transfer syntax whose bytes are the instance: none that refers to pixel data elsewhere, no real-time flow."""


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
    unknown_class: Sequence[str] | None = None
    """The transfer syntaxes for classes that are not listed and that no table knows: private storage classes, and those
    that are newer than the table; None treats them as any other."""
    unknown_provided: Sequence[str] | None = None
    """The same for those alone that the requestor asks to be the provider of: what it may be sent by a C-GET."""
    window: int = 8
    """Operations that a peer may have outstanding where it asks for several."""
    extended: Mapping[str, Extended] = field(default_factory=dict)
    """SOP class UID -> what we support of its extended negotiation; answered where the requestor proposes it."""
    admission_hook: Callable[[AssociateRQ], tuple[int, int, int] | None] | None = None
    """Has the last word: a (result, source, reason) of PS3.8 Table 9-21 rejects, None accepts."""
    verifier: Verifier | None = None
    """Checks the user identity (PS3.7 D.3.3.7); without one, identities are neither asked for nor confirmed."""

    @classmethod
    def storage(
        cls,
        called: str | None = None,
        *,
        calling: Iterable[str] | None = None,
        promiscuous: bool = False,
        transfer_syntaxes: Sequence[str] = STORED_SYNTAXES,
    ) -> Self:
        """Verification and every storage class, those of `register_private` included; `promiscuous` takes any class.

        `called` is the AE title that we answer to, None for any; `calling` are those that may call, None for any.
        `transfer_syntaxes` are taken for storage, by default every one whose bytes are the whole instance.
        """
        syntaxes: dict[str, Sequence[str]] = dict.fromkeys(sorted(storage_classes()), transfer_syntaxes)
        syntaxes[uids.VERIFICATION] = tuple(sorted(uids.UNCOMPRESSED))
        return cls(
            called=None if called is None else frozenset((called,)),
            calling=None if calling is None else frozenset(calling),
            syntaxes=syntaxes,
            any_class=() if promiscuous else None,
        )

    def decide(self, request: AssociateRQ, config: AssociationConfig) -> Offer | tuple[int, int, int]:
        """What we offer to who sent `request`, or the (result, source, reason) that rejects it (PS3.8 Table 9-21).

        `config` brings the length, window and names that we announce.  LocalProtocolError for a rejection
        that does not exist; what admission hook and verifier raise goes through.
        """
        if self.called is not None and request.called not in self.called:
            return CALLED_NOT_RECOGNIZED
        if self.calling is not None and request.calling not in self.calling:
            return CALLING_NOT_RECOGNIZED
        identity: Any = None
        user_items: tuple[UserItem, ...] = ()
        if self.verifier is not None:
            verdict = verify(self.verifier, request)
            if len(verdict) == 3:
                return verdict
            identity, confirmation = verdict
            user_items = () if confirmation is None else (confirmation,)
        if self.admission_hook is not None and (rejection := self.admission_hook(request)) is not None:
            check_reject(*rejection)
            return rejection
        return Offer(
            identity=identity,
            user_items=user_items,
            extended=agree(self.extended, {uid: item.information for uid, item in request.extended.items()}),
            syntaxes=self._syntaxes_for(request),
            any_class=self.any_class,
            order=config.transfer_syntax_order,
            maximum_length=config.maximum_length,
            window=Window(config.window_invoked, self.window),
            implementation_class_uid=config.implementation_class_uid,
            implementation_version_name=config.implementation_version_name,
        )

    def _syntaxes_for(self, request: AssociateRQ) -> Mapping[str, Sequence[str]]:
        """Those of the listed classes, and of what this requestor proposes and no table knows."""
        if self.unknown_class is None and self.unknown_provided is None:
            return self.syntaxes
        proposed = {context.abstract_syntax for context in request.presentation_contexts} - self.syntaxes.keys()
        strange = {uid for uid in proposed if service_of(uid) is None}
        if not strange:
            return self.syntaxes
        provided = {uid for uid, role in request.roles.items() if role.provider}
        more: dict[str, Sequence[str]] = {}
        for uid in strange:
            for syntaxes, asked in ((self.unknown_class, True), (self.unknown_provided, uid in provided)):
                if syntaxes is not None and asked:
                    more[uid] = syntaxes
        return {**self.syntaxes, **more}
