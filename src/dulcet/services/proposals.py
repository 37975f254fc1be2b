"""What to propose: pure functions from what is wanted to presentation contexts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.services.extended import Extended, encode_extended
from dulcet.services.models import MODELS
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import CommonExtendedNegotiation, ExtendedNegotiation, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import (
    MAX_CONTEXTS,
    PresentationContext,
    Proposal,
    Window,
    associate_request,
)
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = [
    "DEFAULT_PROPOSALS",
    "UNCOMPRESSED_PREFERENCE",
    "StoragePlan",
    "association_request",
    "common_first",
    "proposals",
    "retrieval_proposals",
]

UNCOMPRESSED_PREFERENCE: Final = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
"""What we propose where nothing else decides; every DICOM application takes the second (PS3.5 section 10.1)."""

DEFAULT_SYNTAX: Final = uids.IMPLICIT_VR_LITTLE_ENDIAN

MOST_SYNTAXES: Final = 64
"""Transfer syntaxes of one context; the standard has about as many, and the others have their turn later."""

CONVERTIBLE: Final = frozenset(
    (
        uids.IMPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_BIG_ENDIAN,
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )
)

DEFAULT_SERVICES: Final = (
    uids.VERIFICATION,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
    uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
)


def association_request(
    address: Address,
    *,
    calling_ae_title: str,
    contexts: Iterable[Proposal] | None,
    config: AssociationConfig,
    identity: UserIdentityRQ | None = None,
    extended: Mapping[str, Extended] | None = None,
    common_extended: Iterable[CommonExtendedNegotiation] = (),
    user_items: Iterable[UserItem] = (),
) -> AssociateRQ:
    """The A-ASSOCIATE-RQ of `associate()`; LocalProtocolError for what cannot be proposed."""
    if not isinstance(config, AssociationConfig):
        raise TypeError(f"config is an AssociationConfig, not a {type(config).__name__}")
    items: list[UserItem] = [ExtendedNegotiation(uid, data) for uid, data in encode_extended(extended or {}).items()]
    items += common_extended
    if identity is not None:
        items.append(identity)
    items += user_items
    return associate_request(
        DEFAULT_PROPOSALS if contexts is None else contexts,
        called=address.ae_title,
        calling=calling_ae_title,
        maximum_length=config.maximum_length,
        implementation_class_uid=config.implementation_class_uid,
        implementation_version_name=config.implementation_version_name,
        window=Window(config.window_invoked, config.window_performed),
        user_items=items,
    )


def proposals(sop_classes: Iterable[str], *, provider: bool = False) -> list[Proposal]:
    """One context for each class in the uncompressed syntaxes; `provider` asks for both roles (C-GET)."""
    return [Proposal(uid, UNCOMPRESSED_PREFERENCE, provider=provider) for uid in sop_classes]


# What travels between few peers or none, the least seldom first; each stands for the classes below it as well.
SELDOM: Final = tuple(
    f"1.2.840.10008.5.1.4.{branch}."
    for branch in """
    1.1.9.3 1.1.9.4 1.1.9.5 1.1.9.6 1.1.9.7 1.1.9.8 1.1.9.100 1.1.9.1.4
    1.1.78 1.1.79 1.1.80 1.1.81 1.1.82 1.1.68 1.1.90 1.1.91
    1.1.11.6 1.1.11.7 1.1.11.9 1.1.11.10 1.1.11.11 1.1.11.12 1.1.104.3 1.1.104.4 1.1.104.5
    1.1.481.10 1.1.481.11 1.1.481.12 1.1.481.13 1.1.481.14 1.1.481.15 1.1.481.16 1.1.481.17 1.1.481.18 1.1.481.19
    1.1.481.20 1.1.481.21 1.1.481.22 1.1.481.23 1.1.481.24 1.1.481.25 34
    1.1.200 1.1.201 38 39 43 44 45 1.1.501 1.1.601
    """.split()
)
"""Waveforms beyond the ECG; eye and surface measurements; volumetric presentation states and models to print; radiation
therapy of the second generation; protocols, inventories, templates, which are of no patient; security and industry.
"""


def _default() -> tuple[Proposal, ...]:
    services = proposals(DEFAULT_SERVICES)
    storage = proposals(sorted(uids.STORAGE_CLASSES - uids.RETIRED, key=common_first), provider=True)
    return tuple((services + storage)[:MAX_CONTEXTS])


def common_first(uid: str) -> tuple[int, str]:
    """The classes of everyday work first: 128 contexts do not hold every class there is."""
    ranks = (rank for rank, branch in enumerate(SELDOM, start=1) if f"{uid}.".startswith(branch))
    return next(ranks, 0), uid


DEFAULT_PROPOSALS: Final = _default()
"""Verification, query/retrieve, worklist, and the storage classes in both roles, up to the 128 that fit."""


def retrieval_proposals(syntaxes: Sequence[str] = ()) -> list[Proposal]:
    """What a C-GET needs on one association: the models of patients and studies, and storage classes with the requestor
    as provider, as many as there is room for.

    `syntaxes` are taken besides the uncompressed ones, in contexts of their own; there is room for fewer classes then:
    `dulcet.retrieve` asks which are needed, and makes further associations.
    """
    services = proposals(uid for name in ("study", "patient") if (uid := MODELS[name].get) is not None)
    storage: list[Proposal] = []
    for proposal in DEFAULT_PROPOSALS:
        if not proposal.provider:
            continue
        for syntax in syntaxes:
            storage.append(Proposal(proposal.abstract_syntax, (syntax,), provider=True))
        storage.append(proposal)
    return (services + storage)[:MAX_CONTEXTS]


class StoragePlan:
    """What one job of sending asks a peer for, association by association, and what it knows of the answers.

    Each SOP class has one context on an association: there are receivers that answer by the class alone, or read what
    comes in the syntax of its last context.  It names the syntaxes that the files are in, for they are to travel as
    they are; where the peer takes one of several, the next association is for the others.  What can be converted is
    proposed uncompressed only after the peer has refused it, the default transfer syntax of PS3.5 section 10.1
    included: an acceptor with an order of its own would take that, and files would be converted for nothing.
    """

    def __init__(self, decompressible: Collection[str] = ()) -> None:
        """`decompressible` are the transfer syntaxes that can be made uncompressed, besides those that are."""
        self._convertible = CONVERTIBLE.union(decompressible)
        self._refused: set[tuple[str, str]] = set()

    def contexts(
        self, wanted: Iterable[tuple[str, str]], before: Iterable[PresentationContext] = ()
    ) -> list[Proposal]:
        """One association's contexts for instances of these (SOP class, transfer syntax) pairs, as many as it holds.

        Those of an association `before` are asked for again where there is room: more of their kind may come.
        """
        by_class: dict[str, list[str]] = {}
        for sop_class, syntax in wanted:
            syntaxes = by_class.setdefault(sop_class, [])
            if syntax not in syntaxes:
                syntaxes.append(syntax)
        asked = {sop_class: self._asked(sop_class, syntaxes) for sop_class, syntaxes in by_class.items()}
        for context in before:
            asked.setdefault(context.abstract_syntax, (context.transfer_syntax,))
        return [Proposal(sop_class, syntaxes) for sop_class, syntaxes in asked.items() if syntaxes][:MAX_CONTEXTS]

    def learn(self, proposals: Iterable[Proposal], accepted: Iterable[PresentationContext]) -> None:
        """What the peer made of the contexts of an association."""
        chosen = {context.abstract_syntax for context in accepted if context.as_user}
        for proposal in proposals:
            sop_class, syntaxes = proposal.abstract_syntax, proposal.transfer_syntaxes
            if sop_class not in chosen:
                self._refused.update((sop_class, refused) for refused in syntaxes)

    def refuse(self, proposals: Iterable[Proposal]) -> bool:
        """The whole association was rejected, as some do who like none of its contexts; False when nothing else can be
        asked for in their place, so that it was for another reason or is the end.
        """
        found = {
            (proposal.abstract_syntax, syntax)
            for proposal in proposals
            if DEFAULT_SYNTAX not in proposal.transfer_syntaxes
            for syntax in proposal.transfer_syntaxes
            if any((proposal.abstract_syntax, target) not in self._refused for target in self._targets(syntax))
        }
        self._refused |= found
        return bool(found)

    def settles(self, pair: tuple[str, str], accepted: Collection[str]) -> bool:
        """True when instances of a pair belong on an association with these `accepted` syntaxes of their class: as they
        are, converted once the peer refused that, or to fail there where it refused whatever they could be.
        """
        sop_class, syntax = pair
        if syntax in accepted:
            return True
        if pair not in self._refused:
            return False
        targets = self._targets(syntax)
        return any(target in accepted for target in targets) or all(
            (sop_class, target) in self._refused for target in targets
        )

    def _targets(self, syntax: str) -> tuple[str, ...]:
        """What an instance in this syntax may be converted to."""
        return UNCOMPRESSED_PREFERENCE if syntax in self._convertible else ()

    def _asked(self, sop_class: str, syntaxes: Sequence[str]) -> tuple[str, ...]:
        """The transfer syntaxes of the one context of a class; none when every way was refused."""

        def left(syntaxes: Iterable[str]) -> list[str]:
            return [syntax for syntax in syntaxes if (sop_class, syntax) not in self._refused]

        as_they_are = left(syntaxes)
        if not as_they_are:
            return tuple(left(UNCOMPRESSED_PREFERENCE)) if any(map(self._targets, syntaxes)) else ()
        return tuple(as_they_are[:MOST_SYNTAXES])
