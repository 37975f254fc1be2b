"""What is remembered about association PDUs changes nothing but the time it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dulcet import uids
from dulcet.errors import RemoteProtocolError
from dulcet.upper_layer import intern_cache
from dulcet.upper_layer.intern_cache import Recent, Shared
from dulcet.upper_layer.items import (
    ExtendedNegotiation,
    RoleSelection,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserItem,
)
from dulcet.upper_layer.negotiation import (
    Offer,
    Proposal,
    Window,
    accept,
    associate_request,
    check_context_ids,
    outcome,
)
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ, decode, encode

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def request(
    *user_items: UserItem, calling: str = "ME", name: str = "TEST", window: Window | None = None
) -> AssociateRQ:
    return associate_request(
        [Proposal(CT, (IMPLICIT, EXPLICIT)), Proposal(MR, (EXPLICIT,)), Proposal(MR, (IMPLICIT,))],
        called="YOU",
        calling=calling,
        maximum_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version_name=name,
        window=window,
        user_items=user_items,
    )


def received(sent: AssociateRQ) -> AssociateRQ:
    came = decode(encode(sent))
    assert isinstance(came, AssociateRQ)
    assert came == sent
    return came


def answers(came: AssociateRQ, offer: Offer) -> AssociateAC:
    """The answer, checked against that to a request of which nothing is remembered."""
    fresh = replace(
        came,
        presentation_contexts=tuple(came.presentation_contexts),
        user_information=tuple(came.user_information),
    )
    assert type(fresh.presentation_contexts) is tuple
    answer, expected = accept(came, offer), accept(fresh, offer)
    assert answer == expected
    assert encode(answer) == encode(expected)
    for requestor in (False, True):
        assert outcome(came, answer, requestor=requestor) == outcome(fresh, expected, requestor=requestor)
    return answer


def test_the_same_items_are_one_object_and_the_titles_are_their_own() -> None:
    one, other = received(request(calling="ONE")), received(request(calling="OTHER"))
    assert one.presentation_contexts is other.presentation_contexts
    assert one.user_information is other.user_information
    assert (one.calling, other.calling) == ("ONE", "OTHER")
    offer = Offer(syntaxes={CT: (EXPLICIT,)})
    assert answers(one, offer).presentation_contexts is answers(other, offer).presentation_contexts
    assert answers(other, offer).calling_ae_title == "OTHER"


def test_another_offer_gets_another_answer_and_the_first_one_its_own_again() -> None:
    came = received(request(RoleSelection(CT, True, True), window=Window(5, 5)))
    offers = [
        Offer(syntaxes={CT: (EXPLICIT, IMPLICIT)}),
        Offer(syntaxes={CT: (EXPLICIT, IMPLICIT)}, order="acceptor"),
        Offer(syntaxes={}, any_class=()),
        Offer(syntaxes={MR: (EXPLICIT,)}, any_class=(IMPLICIT,)),
        Offer(syntaxes={CT: ()}, maximum_length=0),
        Offer(syntaxes={CT: ()}, window=Window(0, 3)),
        Offer(syntaxes={CT: ()}, requestor_as_provider=frozenset()),
        Offer(syntaxes={CT: ()}, implementation_class_uid="1.9"),
        Offer(syntaxes={CT: ()}, implementation_version_name="OTHER"),
        Offer(syntaxes={CT: ()}, user_items=(UserIdentityAC(b"ticket"),)),
        Offer(syntaxes={CT: ()}, extended={CT: b"\1"}),
    ]
    first = [answers(came, offer) for offer in offers]
    assert len({encode(answer) for answer in first}) == len(offers) - 1  # the extended one was not proposed
    assert [answers(came, offer) for offer in offers] == first


def test_a_policy_that_changes_in_place_is_looked_at_anew() -> None:
    came = received(request(name="CHANGES"))
    syntaxes: dict[str, tuple[str, ...] | list[str]] = {CT: (EXPLICIT,)}
    offer = Offer(syntaxes=syntaxes)
    assert [result.accepted for result in answers(came, offer).presentation_contexts] == [True, False, False]
    syntaxes[MR] = [IMPLICIT]
    assert [result.accepted for result in answers(came, offer).presentation_contexts] == [True, False, True]
    syntaxes[MR].append(EXPLICIT)  # type: ignore[union-attr]
    assert [result.accepted for result in answers(came, offer).presentation_contexts] == [True, True, True]


def test_who_changes_the_contexts_of_one_association_changes_no_other() -> None:
    came = received(request(name="TAMPERS"))
    answer = accept(came, Offer(syntaxes={CT: (EXPLICIT,)}))
    for _ in range(3):
        agreed = outcome(came, answer, requestor=False)
        assert list(agreed) == [1]
        agreed.clear()


@pytest.mark.parametrize(
    "kind", [UserIdentityRQ(2, b"user", b"passcode"), UserIdentityAC(b"ticket"), UnknownItem(0x5F, b"what?")]
)
def test_secrets_and_what_nobody_knows_are_not_remembered(kind: UserItem) -> None:
    one, other = received(request(kind)), received(request(kind))
    assert type(one.presentation_contexts) is tuple
    assert one.user_information is not other.user_information
    answers(one, Offer(syntaxes={CT: (EXPLICIT,)}))


def test_what_is_long_is_not_remembered() -> None:
    long = received(request(ExtendedNegotiation(CT, bytes(intern_cache.LONGEST))))
    assert type(long.presentation_contexts) is tuple
    many = tuple(context for _ in range(43) for context in request().presentation_contexts)
    assert type(received(replace(request(), presentation_contexts=many)).presentation_contexts) is tuple


def test_context_ids_that_are_wrong_stay_wrong() -> None:
    contexts = request().presentation_contexts
    wrong = received(replace(request(), presentation_contexts=(contexts[0], contexts[0])))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="each once"):
            check_context_ids(wrong)
        check_context_ids(received(request()))


def test_an_answer_is_seen_from_the_side_that_looks() -> None:
    offer = Offer(syntaxes={CT: (EXPLICIT,)})
    came = received(request(RoleSelection(CT, False, True)))
    answer = decode(encode(accept(came, offer)))
    assert isinstance(answer, AssociateAC)
    for _ in range(2):
        ours, theirs = (outcome(came, answer, requestor=requestor)[1] for requestor in (True, False))
        assert (ours.as_user, ours.as_provider) == (False, True) == (theirs.as_provider, theirs.as_user)


def test_no_more_is_remembered_than_has_room() -> None:
    recent = Recent[int, str]()
    for number in range(3 * intern_cache.ENTRIES):
        assert recent.put(number, str(number)) == str(number)
    assert recent.get(0) is None
    assert recent.get(3 * intern_cache.ENTRIES - 1) is not None
    assert recent.put(3 * intern_cache.ENTRIES - 1, "late") == str(3 * intern_cache.ENTRIES - 1)
    assert len(recent._results) <= intern_cache.ENTRIES


def test_room_is_made_though_another_thread_makes_some_too() -> None:
    class Raced(dict[int, str]):
        """Another thread takes the oldest first, once."""

        raced = False

        def __delitem__(self, key: int) -> None:
            super().__delitem__(key)
            if not self.raced:
                self.raced = True
                raise KeyError(key)

    recent = Recent[int, str]()
    recent._results = Raced(dict.fromkeys(range(intern_cache.ENTRIES), ""))
    assert recent.put(-1, "new") == "new"
    assert recent.get(0) is None
    assert recent.get(1) == ""


def test_a_shared_tuple_is_a_tuple() -> None:
    assert Shared([1, 2]) == (1, 2)
    assert hash(Shared([1, 2])) == hash((1, 2))
    assert repr(Shared([1, 2])) == "(1, 2)"
    assert uids.VERIFICATION not in Shared([CT])


def asked(proposals: Any, *items: UserItem, **terms: Any) -> AssociateRQ:
    wanted: dict[str, Any] = {
        "called": "YOU",
        "calling": "ME",
        "maximum_length": 16384,
        "implementation_class_uid": "1.2.3",
        "implementation_version_name": "ASKED",
    } | terms
    return associate_request(proposals, user_items=items, **wanted)


def test_the_same_proposals_are_the_same_request_whoever_asks() -> None:
    proposals = (Proposal(CT, (IMPLICIT, EXPLICIT), provider=True), Proposal(MR, (EXPLICIT,)))
    first = asked(proposals)
    assert first == asked(list(proposals))
    again = asked(proposals, calling="OTHER")
    assert again.calling == "OTHER"
    assert again.presentation_contexts is first.presentation_contexts
    assert again.user_information is first.user_information
    assert encode(again) == encode(asked(list(proposals), calling="OTHER"))
    for terms in (
        {"maximum_length": 8},
        {"implementation_class_uid": "1.9"},
        {"implementation_version_name": ""},
        {"window": Window(3, 3)},
    ):
        assert asked(proposals, **terms) == asked(list(proposals), **terms) != first
    assert asked(proposals[:1]) == asked(list(proposals[:1])) != first


def test_a_request_with_items_of_its_own_is_not_remembered() -> None:
    proposals = (Proposal(CT, (IMPLICIT,)),)
    secret = UserIdentityRQ(2, b"user", b"passcode")
    assert asked(proposals, secret).user_identity == secret
    assert asked(proposals).user_identity is None
    assert asked(proposals, secret).presentation_contexts is not asked(proposals, secret).presentation_contexts


def test_proposals_that_can_change_are_not_remembered() -> None:
    syntaxes: Any = [IMPLICIT]
    proposals = (Proposal(CT, syntaxes),)
    assert list(asked(proposals).presentation_contexts[0].transfer_syntaxes) == [IMPLICIT]
    syntaxes.append(EXPLICIT)
    came = decode(encode(asked(proposals)))
    assert isinstance(came, AssociateRQ)
    assert came.presentation_contexts[0].transfer_syntaxes == (IMPLICIT, EXPLICIT)
