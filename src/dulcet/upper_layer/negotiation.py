"""Association negotiation (PS3.7 Annex D, PS3.8 section 9.3) as pure functions: request and offer in, answer out.

Rules: values in, values out; an acceptor only ever narrows what was proposed; the proposer's order of transfer syntaxes
counts unless the offer says otherwise, for senders choose the first syntax accepted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.intern_cache import Recent, Shared
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    ProposedContext,
    RoleSelection,
    UserItem,
    malformed,
)
from dulcet.upper_layer.pdu import DICOM_APPLICATION_CONTEXT, AssociateAC, AssociateRJ, AssociateRQ

__all__ = [
    "ACCEPTANCE",
    "MAX_CONTEXTS",
    "Offer",
    "PresentationContext",
    "Proposal",
    "Window",
    "accept",
    "associate_request",
    "check_abort",
    "check_ae_title",
    "check_answer",
    "check_context_ids",
    "check_reject",
    "check_uid",
    "outcome",
    "reject_reason",
    "window",
]

MAX_CONTEXTS: Final = 128
"""Context ids are the odd numbers of a byte (PS3.8 section 9.3.2.2)."""

ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
NO_REASON: Final = 2
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

LONGEST_ROLE_UID: Final = 128
"""Role selection for a longer UID (64 is the standard's limit) is not answered: 256 answers fit one item then."""

UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*").fullmatch
MOST_OF_A_UID: Final = 64
"""Characters (PS3.5 section 9.1).  One UID that is longer, and some peers end the association for all the others."""

ABORT_REASONS: Final = (0, 1, 2, 4, 5, 6)  # PS3.8 Table 9-26, of the provider, without the reserved one

REJECT_TRIPLES: Final = frozenset(  # PS3.8 Table 9-21, without its reserved values
    (result, source, reason)
    for result in (1, 2)
    for source, reasons in ((1, (1, 2, 3, 7)), (2, (1, 2)), (3, (1, 2)))
    for reason in reasons
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One line of what a requestor proposes: a SOP class with the transfer syntaxes of one context, and the roles."""

    abstract_syntax: str
    """The UID of the SOP class."""
    transfer_syntaxes: tuple[str, ...]
    """Their UIDs, one at least, in our order of preference."""
    user: bool = True
    """We want to invoke its operations."""
    provider: bool = False
    """We want the peer to invoke them, as C-GET and event reports need (PS3.7 D.3.3.4)."""


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """What was agreed on under one context id, seen from our side.

    `as_user`: we may invoke its operations; `as_provider`: the peer may.  `context_id` is an odd number, 1 to 255;
    `abstract_syntax` and `transfer_syntax` are UIDs.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    as_user: bool = True
    as_provider: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Operations that may be outstanding at once, seen from our side; 0 is any number."""

    invoked: int = 1
    performed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an acceptor supports.

    `syntaxes`: SOP class UID -> transfer syntaxes in the acceptor's order; `any_class`: the transfer syntaxes for
    classes that are not listed, None to refuse those; an empty sequence takes every transfer syntax that is proposed.
    `requestor_as_provider`: classes for which the requestor may be provider (C-GET, N-EVENT-REPORT).
    """

    syntaxes: Mapping[str, Sequence[str]]
    any_class: Sequence[str] | None = None
    order: Literal["proposer", "acceptor"] = "proposer"
    maximum_length: int = 128 * 1024
    window: Window = field(default_factory=Window)
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    requestor_as_provider: frozenset[str] | Literal["all"] = "all"
    extended: Mapping[str, bytes] = field(default_factory=dict)
    user_items: tuple[UserItem, ...] = ()
    identity: Any = None
    """Who the requestor is, as a verifier told; kept beside the association, not sent."""


def check_ae_title(title: str, what: str = "AE title") -> str:
    """The title without the spaces around it; LocalProtocolError when it may not be sent (PS3.5 section 6.2, AE)."""
    trimmed = title.strip(" ")
    if not trimmed:
        raise LocalProtocolError(f"{what} {title!r} is blank; 1 to 16 characters are expected")
    if len(trimmed) > 16:
        raise LocalProtocolError(f"{what} {title!r} is {len(trimmed)} characters long; at most 16 are allowed")
    if any(not " " <= character <= "~" or character == "\\" for character in trimmed):
        raise LocalProtocolError(f"{what} {title!r} holds what may not be sent: ASCII without \\ and controls only")
    return trimmed


@lru_cache(maxsize=2048)
def check_uid(uid: str, what: str) -> str:
    """The UID; LocalProtocolError when it may not be proposed (PS3.5 section 9.1), leading zeros apart."""
    if not UID(uid):
        raise LocalProtocolError(f"{what} {uid[:80]!a} is no UID; numbers with dots between are expected")
    if len(uid) > MOST_OF_A_UID:
        raise LocalProtocolError(
            f"{what} {uid[:80]} is {len(uid)} characters long; at most {MOST_OF_A_UID} are allowed in a UID"
        )
    return uid


def check_context_ids(request: AssociateRQ) -> None:
    """RemoteProtocolError (2,6) unless the context ids are odd, distinct and 128 at most (PS3.8 section 9.3.2.2)."""
    contexts = request.presentation_contexts
    if type(contexts) is Shared and "sound ids" in contexts.notes:
        return
    ids = Counter(context.context_id for context in contexts)
    wrong = sorted(number for number, times in ids.items() if not number & 1 or times > 1)
    if wrong:
        raise malformed(f"presentation context ids {wrong}; odd ones are expected, each once")
    if type(contexts) is Shared:
        contexts.notes["sound ids"] = True


def check_reject(result: int, source: int, reason: int) -> None:
    """LocalProtocolError unless (result, source, reason) is a triple of PS3.8 Table 9-21 that may be sent."""
    if (result, source, reason) not in REJECT_TRIPLES:
        raise LocalProtocolError(
            f"reject ({result},{source},{reason}) does not exist: result 1-2; (source,reason) one of "
            "(1,1) (1,2) (1,3) (1,7) (2,1) (2,2) (3,1) (3,2)"
        )


def check_abort(source: int, reason: int) -> None:
    """LocalProtocolError unless (source, reason) is of PS3.8 Table 9-26; a user's reason does not count."""
    if source not in (0, 2) or (source == 2 and reason not in ABORT_REASONS):
        raise LocalProtocolError(
            f"abort ({source},{reason}) does not exist: source 0 (user), or 2 (provider) with reason 0, 1, 2, 4, 5 or 6"
        )


def check_answer(request: AssociateRQ, answer: AssociateAC) -> None:
    """LocalProtocolError where an answer says more than `request` proposed, or leaves a context unanswered."""
    proposed = {context.context_id: context for context in reversed(request.presentation_contexts)}
    ids = [result.context_id for result in answer.presentation_contexts]
    if sorted(ids) != sorted(proposed):
        raise LocalProtocolError(f"contexts {ids} are answered; {list(proposed)} were proposed, each wants one answer")
    for result in answer.presentation_contexts:
        if result.accepted and result.transfer_syntax not in proposed[result.context_id].transfer_syntaxes:
            raise LocalProtocolError(
                f"context {result.context_id}: transfer syntax {result.transfer_syntax!r} was not proposed"
            )
    asked, granted = request.window, answer.window
    if granted is not None and (
        asked is None
        or _narrow(asked.invoked, granted.invoked) != granted.invoked
        or _narrow(asked.performed, granted.performed) != granted.performed
    ):
        raise LocalProtocolError("the operations window is answered where it was proposed, and never widened")
    for uid, role in answer.roles.items():
        wish = request.roles.get(uid)
        if wish is None or role.user > wish.user or role.provider > wish.provider:
            raise LocalProtocolError(f"roles of {uid}: an answer only narrows what was proposed")
    extra = answer.extended.keys() - request.extended.keys()
    if extra:
        raise LocalProtocolError(f"extended negotiation of {', '.join(sorted(extra))} was not proposed")


def associate_request(
    proposals: Iterable[Proposal],
    *,
    called: str,
    calling: str,
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version_name: str,
    window: Window | None = None,
    user_items: Iterable[UserItem] = (),
) -> AssociateRQ:
    """The A-ASSOCIATE-RQ for these proposals; context ids 1, 3, 5, … in their order.

    LocalProtocolError: no proposal or more than 128, one without a transfer syntax, an AE title that may not be sent.
    """
    terms = maximum_length, implementation_class_uid, implementation_version_name, window
    items = tuple(user_items)
    # A tuple cannot change: asked for again, it is the same request.  Items may hold a secret, so they are not kept.
    key = (id(proposals), *terms) if type(proposals) is tuple and not items else None
    last = None if key is None else _recent.get(key)
    if last is not None and last[0] is proposals:
        _, contexts, information = last
    else:
        contexts, information = _proposed(proposals, *terms, items)
        if key is not None and all(type(context.transfer_syntaxes) is tuple for context in contexts):
            contexts, information = Shared(contexts), Shared(information)
            _recent.put(key, (proposals, contexts, information))
    return AssociateRQ(
        called_ae_title=check_ae_title(called, "called AE title"),
        calling_ae_title=check_ae_title(calling, "calling AE title"),
        presentation_contexts=contexts,
        user_information=information,
    )


_Proposed = tuple[tuple[ProposedContext, ...], tuple[UserItem, ...]]

_recent: Final = Recent[tuple[object, ...], tuple[object, tuple[ProposedContext, ...], tuple[UserItem, ...]]]()
"""By identity of the proposals, which are kept so that nobody else gets theirs, and what else is said."""


def _proposed(
    proposals: Iterable[Proposal],
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version_name: str,
    window: Window | None,
    user_items: Iterable[UserItem],
) -> _Proposed:
    """Presentation contexts and user information of a request."""
    contexts = []
    roles: dict[str, RoleSelection] = {}
    for index, proposal in enumerate(proposals):
        if index == MAX_CONTEXTS:
            raise LocalProtocolError(f"more than {MAX_CONTEXTS} presentation contexts: split them over associations")
        if not isinstance(proposal, Proposal):
            raise LocalProtocolError(f"{proposal!a} is no Proposal; write dulcet.Proposal(uid, syntaxes)")
        if not proposal.transfer_syntaxes:
            raise LocalProtocolError(f"no transfer syntax is proposed for {proposal.abstract_syntax}")
        check_uid(proposal.abstract_syntax, "abstract syntax")
        for uid in proposal.transfer_syntaxes:
            check_uid(uid, "transfer syntax")
        contexts.append(ProposedContext(2 * index + 1, proposal.abstract_syntax, proposal.transfer_syntaxes))
        if proposal.provider or not proposal.user:
            roles[proposal.abstract_syntax] = RoleSelection(proposal.abstract_syntax, proposal.user, proposal.provider)
    if not contexts:
        raise LocalProtocolError("no presentation context is proposed: name at least one SOP class")
    check_uid(implementation_class_uid, "implementation class UID")
    information: list[UserItem] = [MaximumLength(maximum_length), ImplementationClassUID(implementation_class_uid)]
    if window is not None and (window.invoked, window.performed) != (1, 1):
        information.append(AsynchronousOperationsWindow(window.invoked, window.performed))
    information += roles.values()
    if implementation_version_name:
        information.append(ImplementationVersionName(implementation_version_name))
    for item in user_items:
        _check_item(item)
        information.append(item)
    return tuple(contexts), tuple(information)


def _check_item(item: UserItem) -> None:
    """LocalProtocolError for a UID in a sub-item that is none."""
    if isinstance(item, RoleSelection | ExtendedNegotiation | CommonExtendedNegotiation):
        check_uid(item.sop_class_uid, "SOP class of extended negotiation or roles")
    if isinstance(item, CommonExtendedNegotiation):
        check_uid(item.service_class_uid, "service class")
        for uid in item.related_general:
            check_uid(uid, "related general SOP class")


def reject_reason(request: AssociateRQ) -> AssociateRJ | None:
    """The rejection that the protocol itself asks for, if any: version and application context (PS3.8 Table 9-21)."""
    if not request.protocol_version & 1:  # bit 0 alone is tested (PS3.8 section 9.3.2)
        return AssociateRJ(1, 2, 2)
    if request.application_context != DICOM_APPLICATION_CONTEXT:
        return AssociateRJ(1, 1, 2)
    return None


def accept(request: AssociateRQ, offer: Offer) -> AssociateAC:
    """The A-ASSOCIATE-AC that answers `request`: each context id once, never more than was proposed."""
    results, information = _recalled(request, offer)
    return AssociateAC(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        application_context=DICOM_APPLICATION_CONTEXT,
        presentation_contexts=results,
        user_information=information,
    )


_Answer = tuple[tuple[ContextResult, ...], tuple[UserItem, ...]]


def _recalled(request: AssociateRQ, offer: Offer) -> _Answer:
    """Contexts and user information of the answer: those of last time where the same was proposed and offered."""
    contexts = request.presentation_contexts
    if type(contexts) is not Shared or offer.user_items or offer.extended:
        return _answered(request, offer)
    classes = contexts.notes.get("classes")
    if classes is None:
        classes = contexts.notes["classes"] = {context.abstract_syntax: None for context in contexts}
    # Looked up each time, for an application may change what its policy holds.
    supported = [offer.syntaxes.get(uid, offer.any_class) for uid in classes]
    terms = (
        offer.order,
        offer.maximum_length,
        offer.window,
        offer.implementation_class_uid,
        offer.implementation_version_name,
        offer.requestor_as_provider,
    )
    last = contexts.notes.get("answer")
    if last is not None:
        user_information, last_supported, last_terms, answer = last
        if user_information is request.user_information and supported == last_supported and terms == last_terms:
            return answer  # type: ignore[no-any-return]
    results, information = _answered(request, offer)
    answer = Shared(results), Shared(information)
    if all(syntaxes is None or type(syntaxes) is tuple for syntaxes in supported):  # others might change in place
        contexts.notes["answer"] = request.user_information, supported, terms, answer
    return answer


def _answered(request: AssociateRQ, offer: Offer) -> _Answer:
    """Each context judged, and what else there is to say."""
    results: dict[int, ContextResult] = {}
    accepted_classes: set[str] = set()
    for context in request.presentation_contexts:
        if context.context_id in results:
            continue
        result = _judge(context, offer)
        results[context.context_id] = result
        if result.accepted:
            accepted_classes.add(context.abstract_syntax)
    information: list[UserItem] = [
        MaximumLength(offer.maximum_length),
        ImplementationClassUID(offer.implementation_class_uid),
    ]
    if request.window is not None:
        information.append(
            AsynchronousOperationsWindow(
                # The item is always seen from the requestor: what it may invoke is what we perform.
                _narrow(request.window.invoked, offer.window.performed),
                _narrow(request.window.performed, offer.window.invoked),
            )
        )
    for uid, role in request.roles.items():
        if uid in accepted_classes and len(uid) <= LONGEST_ROLE_UID:
            may_provide = offer.requestor_as_provider == "all" or uid in offer.requestor_as_provider
            information.append(RoleSelection(uid, role.user, role.provider and may_provide))
    if offer.implementation_version_name:
        information.append(ImplementationVersionName(offer.implementation_version_name))
    for uid in request.extended:
        if uid in accepted_classes and uid in offer.extended:
            information.append(ExtendedNegotiation(uid, offer.extended[uid]))
    information += offer.user_items
    return tuple(results.values()), tuple(information)


def outcome(request: AssociateRQ, answer: AssociateAC, *, requestor: bool) -> dict[int, PresentationContext]:
    """The accepted contexts by id, seen from the requestor's or the acceptor's side, roles included (PS3.7 D.3.3.4)."""
    shared = answer.presentation_contexts
    if type(shared) is not Shared:
        return _agreed(request, answer, requestor)
    said = request.presentation_contexts, request.user_information, answer.user_information
    last = shared.notes.get("outcome")
    if last is not None:
        # By identity: only what is shared is one object for all who say so.
        last_said, last_requestor, agreed = last
        if requestor is last_requestor and all(one is other for one, other in zip(said, last_said, strict=True)):
            return dict(agreed)
    agreed = _agreed(request, answer, requestor)
    if all(isinstance(one, Shared) for one in said):
        shared.notes["outcome"] = said, requestor, dict(agreed)
    return agreed


def _agreed(request: AssociateRQ, answer: AssociateAC, requestor: bool) -> dict[int, PresentationContext]:
    proposed = {context.context_id: context for context in reversed(request.presentation_contexts)}
    asked, granted = request.roles, answer.roles
    agreed: dict[int, PresentationContext] = {}
    for result in answer.presentation_contexts:
        context = proposed.get(result.context_id)
        if not result.accepted or context is None or result.context_id in agreed:
            continue
        if result.transfer_syntax and result.transfer_syntax not in context.transfer_syntaxes:
            continue  # a syntax that nobody proposed: this context carries nothing that both sides can read
        user, provider = _roles(asked.get(context.abstract_syntax), granted.get(context.abstract_syntax))
        agreed[result.context_id] = PresentationContext(
            result.context_id,
            context.abstract_syntax,
            # Some acceptors leave the syntax out where just one was proposed.
            result.transfer_syntax or (context.transfer_syntaxes or ("",))[0],
            as_user=user if requestor else provider,
            as_provider=provider if requestor else user,
        )
    return agreed


def window(request: AssociateRQ, answer: AssociateAC, *, requestor: bool) -> Window:
    """The operations window agreed on, seen from one side (PS3.7 D.3.3.3); 1 and 1 unless both named it."""
    if request.window is None or answer.window is None:
        return Window()
    invoked = _narrow(request.window.invoked, answer.window.invoked)
    performed = _narrow(request.window.performed, answer.window.performed)
    return Window(invoked, performed) if requestor else Window(performed, invoked)


def _judge(context: ProposedContext, offer: Offer) -> ContextResult:
    supported = offer.syntaxes.get(context.abstract_syntax, offer.any_class)
    first = context.transfer_syntaxes[0] if context.transfer_syntaxes else ""
    if supported is None:
        return ContextResult(context.context_id, ABSTRACT_SYNTAX_NOT_SUPPORTED, first)
    if not supported:
        chosen = first
    elif offer.order == "proposer":
        chosen = next((uid for uid in context.transfer_syntaxes if uid in supported), "")
    else:
        chosen = next((uid for uid in supported if uid in context.transfer_syntaxes), "")
    if not chosen:
        return ContextResult(context.context_id, TRANSFER_SYNTAXES_NOT_SUPPORTED, first)
    return ContextResult(context.context_id, ACCEPTANCE, chosen)


def _roles(asked: RoleSelection | None, granted: RoleSelection | None) -> tuple[bool, bool]:
    """Whether the requestor is user, and provider: an absent item on either side means user only."""
    if asked is None or granted is None:
        return True, False
    return asked.user and granted.user, asked.provider and granted.provider


def _narrow(one: int, other: int) -> int:
    """The smaller of two counts where 0 is any number."""
    return min(one, other) if one and other else one or other
