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
from dulcet.upper_layer.negotiation import MAX_CONTEXTS, Proposal, Window, associate_request
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = [
    "DEFAULT_PROPOSALS",
    "UNCOMPRESSED_PREFERENCE",
    "association_request",
    "plan_storage",
    "plan_takeover",
    "proposals",
    "proposed_as_is",
    "retrieval_proposals",
]

UNCOMPRESSED_PREFERENCE: Final = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
"""What we propose where nothing else decides; every DICOM application takes the second (PS3.5 section 10.1)."""

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
    storage = proposals(sorted(uids.STORAGE_CLASSES - uids.RETIRED, key=_common_first), provider=True)
    return tuple((services + storage)[:MAX_CONTEXTS])


def _common_first(uid: str) -> tuple[int, str]:
    """The classes of everyday work first: 128 contexts do not hold every class there is."""
    ranks = (rank for rank, branch in enumerate(SELDOM, start=1) if f"{uid}.".startswith(branch))
    return next(ranks, 0), uid


DEFAULT_PROPOSALS: Final = _default()
"""Verification, query/retrieve, worklist, and the storage classes in both roles, up to the 128 that fit."""


def retrieval_proposals(syntaxes: Sequence[str] = ()) -> list[Proposal]:
    """What a C-GET needs: the retrieve classes, and storage classes with the requestor as provider.

    `syntaxes` are taken besides the uncompressed ones, in contexts of their own; there is room for fewer classes then.
    """
    services = proposals(uid for row in MODELS.values() if (uid := row.get) is not None)
    storage: list[Proposal] = []
    for proposal in DEFAULT_PROPOSALS:
        if not proposal.provider:
            continue
        for syntax in syntaxes:
            storage.append(Proposal(proposal.abstract_syntax, (syntax,), provider=True))
        storage.append(proposal)
    return (services + storage)[:MAX_CONTEXTS]


def plan_storage(
    wanted: Iterable[tuple[str, str]], decompressible: Collection[str] = ()
) -> list[list[Proposal]]:
    """The contexts for instances of these (SOP class, transfer syntax) pairs, in lists that fit one association each.

    A context for each pair, so that every file can travel as it is; and for each class with files that are
    uncompressed, or `decompressible`, one with the syntaxes that they can be converted to.
    """
    by_class: dict[str, list[str]] = {}
    for sop_class, syntax in wanted:
        syntaxes = by_class.setdefault(sop_class, [])
        if syntax not in syntaxes:
            syntaxes.append(syntax)
    associations: list[list[Proposal]] = [[]]
    for sop_class, syntaxes in by_class.items():
        group = [Proposal(sop_class, (syntax,)) for syntax in syntaxes]
        if any(syntax in CONVERTIBLE or syntax in decompressible for syntax in syntaxes):
            fallback = tuple(uid for uid in UNCOMPRESSED_PREFERENCE if uid not in syntaxes)
            if fallback:
                group.append(Proposal(sop_class, fallback))
        for start in range(0, len(group), MAX_CONTEXTS):
            part = group[start : start + MAX_CONTEXTS]
            if len(associations[-1]) + len(part) > MAX_CONTEXTS:
                associations.append([])
            associations[-1] += part
    return [association for association in associations if association]


def plan_takeover(
    wanted: Collection[tuple[str, str]], before: Iterable[tuple[str, str]], decompressible: Collection[str] = ()
) -> list[list[Proposal]]:
    """The same for an association that follows one for the pairs `before`: these too, where one takes them all."""
    plan = plan_storage(wanted, decompressible)
    if len(plan) == 1:
        whole = plan_storage([*wanted, *before], decompressible)
        if len(whole) == 1:
            return whole
    return plan


def proposed_as_is(proposals: Iterable[Proposal]) -> set[tuple[str, str]]:
    """The (SOP class, transfer syntax) pairs that have a context alone: refused once, they are refused again."""
    return {
        (proposal.abstract_syntax, proposal.transfer_syntaxes[0])
        for proposal in proposals
        if len(proposal.transfer_syntaxes) == 1
    }
