"""Who is accepted for what (PS3.8 section 7.1, Table 9-21), decided by a value and answered by negotiation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.pairs import Pair

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError
from dulcet.services.acceptance import STORED_SYNTAXES, AcceptancePolicy
from dulcet.services.extended import QueryOptions
from dulcet.services.identity import Identified, UserIdentity
from dulcet.upper_layer.items import ContextResult, ExtendedNegotiation, ProposedContext, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import Offer, Proposal, Window, accept
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
IMPLICIT, EXPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN
JPEG = uids.JPEG_BASELINE_8_BIT
PRIVATE = "1.3.6.1.4.1.9590.1"
CONFIG = AssociationConfig()


def asking(
    *contexts: tuple[str, Sequence[str]],
    called: str = "ARCHIVE",
    calling: str = "MODALITY",
    items: Sequence[UserItem] = (),
) -> AssociateRQ:
    """An A-ASSOCIATE-RQ with these (class, syntaxes), context ids 1, 3, 5, …"""
    return AssociateRQ(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=tuple(
            ProposedContext(2 * number + 1, abstract, tuple(syntaxes))
            for number, (abstract, syntaxes) in enumerate(contexts or [(CT, (IMPLICIT,))])
        ),
        user_information=tuple(items),
    )


def answer(policy: AcceptancePolicy, request: AssociateRQ, config: AssociationConfig = CONFIG) -> AssociateAC:
    """The A-ASSOCIATE-AC of a policy that accepts."""
    offer = policy.decide(request, config)
    assert isinstance(offer, Offer)
    return accept(request, offer)


def results(policy: AcceptancePolicy, request: AssociateRQ) -> list[int]:
    return [context.result for context in answer(policy, request).presentation_contexts]


# --- AE titles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", ["ARCHIVE", "ARCHIVE   ", " ARCHIVE", "ARCHIVE\0\0", "\0 ARCHIVE \0"])
def test_a_called_ae_title_is_compared_without_padding(called: str) -> None:
    assert isinstance(AcceptancePolicy.storage("ARCHIVE").decide(asking(called=called), CONFIG), Offer)


@pytest.mark.parametrize("called", ["archive", "ARCHIVE2", "AR CHIVE", "", "ANY-SCP"])
def test_another_called_ae_title_is_rejected_with_1_1_7(called: str) -> None:
    assert AcceptancePolicy.storage("ARCHIVE").decide(asking(called=called), CONFIG) == (1, 1, 7)


def test_without_a_called_ae_title_any_is_ours() -> None:
    for called in ("ARCHIVE", "anything", ""):
        assert isinstance(AcceptancePolicy.storage().decide(asking(called=called), CONFIG), Offer)


def test_a_calling_ae_title_that_is_not_listed_is_rejected_with_1_1_3() -> None:
    policy = AcceptancePolicy.storage("ARCHIVE", calling=["MODALITY", "OTHER"])
    assert isinstance(policy.decide(asking(calling="MODALITY "), CONFIG), Offer)
    assert isinstance(policy.decide(asking(calling="OTHER"), CONFIG), Offer)
    assert policy.decide(asking(calling="modality"), CONFIG) == (1, 1, 3)
    assert policy.decide(asking(calling=""), CONFIG) == (1, 1, 3)


def test_the_called_ae_title_is_looked_at_first() -> None:
    policy = AcceptancePolicy.storage("ARCHIVE", calling=["MODALITY"])
    assert policy.decide(asking(called="X", calling="X"), CONFIG) == (1, 1, 7)


def test_nobody_may_call_when_the_list_is_empty() -> None:
    assert AcceptancePolicy.storage(calling=[]).decide(asking(), CONFIG) == (1, 1, 3)


# --- contexts --------------------------------------------------------------------------------------------------------


def test_an_unknown_class_is_answered_3_and_no_common_syntax_4() -> None:
    policy = AcceptancePolicy.storage()
    request = asking(
        (CT, (JPEG, IMPLICIT)),
        (PRIVATE, (IMPLICIT,)),
        (CT, ("1.2.3",)),
        (uids.VERIFICATION, (JPEG,)),
        (uids.VERIFICATION, (EXPLICIT,)),
        (MR, ()),
    )
    assert results(policy, request) == [0, 3, 4, 4, 0, 4]


def test_every_storage_class_is_accepted_in_every_syntax_whose_bytes_are_the_instance() -> None:
    policy = AcceptancePolicy.storage()
    for uid in uids.STORAGE_CLASSES:
        assert results(policy, asking(*((uid, (syntax,)) for syntax in STORED_SYNTAXES))) == [0] * len(STORED_SYNTAXES)


@pytest.mark.parametrize("syntax", sorted(uids.TRANSFER_SYNTAXES))
def test_syntaxes_that_refer_to_pixel_data_elsewhere_or_flow_in_real_time_are_not_accepted(syntax: str) -> None:
    name = uids.TRANSFER_SYNTAXES[syntax]
    elsewhere = name.startswith(("JPIP", "SMPTE", "RFC 2557", "XML", "Papyrus"))
    assert results(AcceptancePolicy.storage(), asking((CT, (syntax,)))) == [4 if elsewhere else 0]


def test_promiscuous_takes_any_class_in_any_syntax() -> None:
    policy = AcceptancePolicy.storage(promiscuous=True)
    given = answer(policy, asking((PRIVATE, ("1.2.3", IMPLICIT)), (PRIVATE, (JPEG,)), (CT, (EXPLICIT,))))
    assert given.presentation_contexts == (
        ContextResult(1, 0, "1.2.3"),
        ContextResult(3, 0, JPEG),
        ContextResult(5, 0, EXPLICIT),
    )


def test_transfer_syntaxes_can_be_narrowed() -> None:
    policy = AcceptancePolicy.storage(transfer_syntaxes=[EXPLICIT])
    given = answer(policy, asking((CT, (IMPLICIT, EXPLICIT)), (CT, (IMPLICIT,))))
    assert given.presentation_contexts == (ContextResult(1, 0, EXPLICIT), ContextResult(3, 4, IMPLICIT))


def test_whose_order_counts_is_the_configurations_choice() -> None:
    policy = AcceptancePolicy(syntaxes={CT: (EXPLICIT, IMPLICIT)})
    request = asking((CT, (IMPLICIT, EXPLICIT)))
    for order, chosen in (("proposer", IMPLICIT), ("acceptor", EXPLICIT)):
        config = AssociationConfig(transfer_syntax_order=order)  # type: ignore[arg-type]
        assert answer(policy, request, config).presentation_contexts[0].transfer_syntax == chosen


def test_a_policy_without_classes_accepts_none() -> None:
    assert results(AcceptancePolicy(), asking((CT, (IMPLICIT,)), (uids.VERIFICATION, (IMPLICIT,)))) == [3, 3]


def test_an_offer_says_what_the_configuration_says() -> None:
    config = AssociationConfig(
        maximum_length=32_768, window_invoked=3, implementation_class_uid="1.2.3", implementation_version_name="X"
    )
    offer = AcceptancePolicy(window=5).decide(asking(), config)
    assert isinstance(offer, Offer)
    assert offer.window == Window(3, 5)
    assert offer.maximum_length == 32_768
    assert (offer.implementation_class_uid, offer.implementation_version_name) == ("1.2.3", "X")


@pytest.mark.parametrize(("asked", "agreed"), [(1, 1), (4, 4), (8, 8), (20, 8), (0, 8)])
def test_a_peer_may_have_as_many_operations_outstanding_as_it_asks_for_and_we_take(asked: int, agreed: int) -> None:
    config = AssociationConfig(window_invoked=asked)
    pair = Pair(config=config, acceptor_config=CONFIG, proposals=[Proposal(CT, (IMPLICIT,))])
    pair.connect()
    request = pair.acceptor.core.request
    assert request is not None
    offer = AcceptancePolicy.storage("ACCEPTOR", calling=["REQUESTOR"]).decide(request, CONFIG)
    assert isinstance(offer, Offer)
    pair.acceptor.core.accept(offer)
    pair.run()
    assert pair.requestor.core.window == Window(agreed, 1)
    assert pair.acceptor.core.window == Window(1, agreed)
    assert pair.requestor.core.context_for(CT) is not None


# --- the judge, identities, extended negotiation ---------------------------------------------------------------------


def test_the_judge_has_the_last_word() -> None:
    asked: list[str] = []

    def admission_hook(request: AssociateRQ) -> tuple[int, int, int] | None:
        asked.append(request.calling)
        return (2, 3, 1) if request.calling == "BUSY" else None

    policy = AcceptancePolicy(called=frozenset(("ARCHIVE",)), admission_hook=admission_hook)
    assert policy.decide(asking(calling="BUSY"), CONFIG) == (2, 3, 1)
    assert isinstance(policy.decide(asking(calling="FREE"), CONFIG), Offer)
    assert policy.decide(asking(called="X"), CONFIG) == (1, 1, 7)
    assert asked == ["BUSY", "FREE"]


def test_a_judge_cannot_invent_a_rejection() -> None:
    policy = AcceptancePolicy(admission_hook=lambda request: (3, 1, 1))
    with pytest.raises(LocalProtocolError):
        policy.decide(asking(), CONFIG)


def test_a_verifier_lets_in_or_keeps_out() -> None:
    def verifier(identity: UserIdentityRQ | None, request: AssociateRQ) -> Identified | bool | None:
        if identity is None:
            return None
        return Identified("somebody", b"ticket") if identity.secondary == b"right" else False

    policy = AcceptancePolicy(any_class=(), verifier=verifier)
    assert policy.decide(asking(), CONFIG) == (1, 1, 1)
    assert policy.decide(asking(items=[UserIdentity.passcode("me", "wrong")]), CONFIG) == (1, 1, 1)
    offer = policy.decide(asking(items=[UserIdentity.passcode("me", "right")]), CONFIG)
    assert isinstance(offer, Offer)
    assert (offer.identity, offer.user_items) == ("somebody", ())
    given = answer(policy, asking(items=[UserIdentity.passcode("me", "right", confirm=True)]))
    assert given.user_identity is not None
    assert given.user_identity.server_response == b"ticket"


def test_without_a_verifier_an_identity_is_passed_over() -> None:
    given = answer(AcceptancePolicy(any_class=()), asking(items=[UserIdentity.passcode("me", "secret", confirm=True)]))
    assert given.user_identity is None


def test_extended_negotiation_is_answered_with_what_both_sides_want() -> None:
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
    policy = AcceptancePolicy(any_class=(), extended={model: QueryOptions(relational=True, fuzzy=False)})
    wanted = ExtendedNegotiation(model, QueryOptions(relational=True, fuzzy=True).encode())
    given = answer(policy, asking((model, (IMPLICIT,)), items=[wanted, ExtendedNegotiation(CT, b"\1")]))
    assert {uid: QueryOptions.decode(found.information) for uid, found in given.extended.items()} == {
        model: QueryOptions(relational=True)
    }
