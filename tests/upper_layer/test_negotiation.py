"""PS3.7 Annex D and PS3.8 section 9.3: request and offer in, answer out; what both sides then make of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.presentation import SCP_SCU_ROLES
from tests.upper_layer.pdus import USER_ITEM, associate
from tests.upper_layer.wire import CT, EXPLICIT, IMPLICIT, REQUEST, VERIFICATION, receive, sent

from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError, RemoteProtocolError
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import Aborted, AssociateRequested
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    ContextResult,
    ExtendedNegotiation,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    ProposedContext,
    RoleSelection,
    UserIdentityAC,
    UserItem,
)
from dulcet.upper_layer.negotiation import (
    Offer,
    PresentationContext,
    Proposal,
    Window,
    accept,
    associate_request,
    check_ae_title,
    check_reject,
    outcome,
    window,
)
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ, decode, encode

JPEG: Final = "1.2.840.10008.1.2.4.70"
OFFER: Final = Offer(syntaxes={VERIFICATION: (IMPLICIT,), CT: (EXPLICIT, IMPLICIT)}, implementation_class_uid="1.2.4")
ACCEPTORS_ORDER: Final = replace(OFFER, order="acceptor")
PROMISCUOUS: Final = Offer(syntaxes={}, any_class=(), implementation_class_uid="1.2.4")


def proposing(*contexts: ProposedContext, items: tuple[UserItem, ...] = ()) -> AssociateRQ:
    return replace(REQUEST, presentation_contexts=contexts, user_information=items)


def answering(*results: ContextResult, items: tuple[UserItem, ...] = ()) -> AssociateAC:
    return AssociateAC(called_ae_title="B", calling_ae_title="A", presentation_contexts=results, user_information=items)


# ---------------------------------------------------------------------------------------- contexts


@pytest.mark.parametrize(("proposed", "offer", "expected"), [
    (ProposedContext(1, CT, (IMPLICIT,)), OFFER, ContextResult(1, 0, IMPLICIT)),
    (ProposedContext(1, CT, (JPEG, IMPLICIT, EXPLICIT)), OFFER, ContextResult(1, 0, IMPLICIT)),
    (ProposedContext(1, CT, (JPEG, IMPLICIT, EXPLICIT)), ACCEPTORS_ORDER, ContextResult(1, 0, EXPLICIT)),
    (ProposedContext(1, CT, (JPEG,)), OFFER, ContextResult(1, 4, JPEG)),
    (ProposedContext(1, CT, (JPEG,)), ACCEPTORS_ORDER, ContextResult(1, 4, JPEG)),
    (ProposedContext(1, CT, ()), OFFER, ContextResult(1, 4, "")),
    (ProposedContext(1, "1.2.3", (IMPLICIT,)), OFFER, ContextResult(1, 3, IMPLICIT)),
    (ProposedContext(1, "1.2.3", ()), OFFER, ContextResult(1, 3, "")),
    (ProposedContext(1, "1.2.3", (JPEG, IMPLICIT)), replace(OFFER, any_class=()), ContextResult(1, 0, JPEG)),
    (ProposedContext(1, "1.2.3", ()), replace(OFFER, any_class=()), ContextResult(1, 4, "")),
    (ProposedContext(1, "1.2.3", (JPEG,)), replace(OFFER, any_class=(IMPLICIT,)), ContextResult(1, 4, JPEG)),
    (ProposedContext(1, "1.2", (JPEG, IMPLICIT)), replace(OFFER, any_class=(IMPLICIT,)), ContextResult(1, 0, IMPLICIT)),
    (ProposedContext(1, CT, (JPEG,)), replace(OFFER, any_class=()), ContextResult(1, 4, JPEG)),
    (ProposedContext(1, CT, (JPEG,)), replace(OFFER, syntaxes={CT: ()}), ContextResult(1, 0, JPEG)),
    (ProposedContext(2, CT, (IMPLICIT,)), OFFER, ContextResult(2, 0, IMPLICIT)),
])  # fmt: skip
def test_a_context_is_judged(proposed: ProposedContext, offer: Offer, expected: ContextResult) -> None:
    assert accept(proposing(proposed), offer).presentation_contexts == (expected,)


def test_each_context_id_is_answered_once_in_its_order() -> None:
    contexts = ProposedContext(5, CT, (EXPLICIT,)), ProposedContext(1, "1.2.3", (IMPLICIT,))
    again = ProposedContext(5, VERIFICATION, (IMPLICIT,))
    request = proposing(*contexts, again)
    answer = accept(request, OFFER)
    assert answer.presentation_contexts == (ContextResult(5, 0, EXPLICIT), ContextResult(1, 3, IMPLICIT))
    for requestor in (True, False):
        assert outcome(request, answer, requestor=requestor)[5].abstract_syntax == CT, "the first one counts for both"


def test_more_contexts_than_there_are_ids_are_all_answered() -> None:
    request = proposing(*(ProposedContext(number % 256, CT, (IMPLICIT,)) for number in range(300)))
    assert [result.context_id for result in accept(request, OFFER).presentation_contexts] == list(range(256))


@pytest.mark.parametrize("result", range(256))
def test_only_result_0_is_an_accepted_context(result: int) -> None:
    answer = answering(ContextResult(3, result, EXPLICIT))
    agreed = outcome(REQUEST, answer, requestor=True)
    assert agreed == ({3: PresentationContext(3, CT, EXPLICIT)} if result == 0 else {})


@pytest.mark.parametrize("result", [
    ContextResult(3, 0, JPEG),
    ContextResult(5, 0, IMPLICIT),
], ids=["a syntax that was not proposed", "a context that was not proposed"])  # fmt: skip
def test_what_was_not_proposed_is_not_agreed_on(result: ContextResult) -> None:
    assert outcome(REQUEST, answering(result), requestor=True) == {}


def test_the_first_answer_to_a_context_counts() -> None:
    answer = answering(ContextResult(3, 0, IMPLICIT), ContextResult(3, 0, EXPLICIT))
    assert outcome(REQUEST, answer, requestor=True)[3].transfer_syntax == IMPLICIT


def test_a_result_without_a_syntax_means_the_first_one_proposed() -> None:
    assert outcome(REQUEST, answering(ContextResult(3, 0)), requestor=True)[3].transfer_syntax == EXPLICIT
    bare = proposing(ProposedContext(1, CT, ()))
    assert outcome(bare, answering(ContextResult(1, 0)), requestor=True)[1].transfer_syntax == ""


def test_both_sides_come_to_the_same_outcome() -> None:
    answer = accept(REQUEST, OFFER)
    requestor, acceptor = (outcome(REQUEST, answer, requestor=side) for side in (True, False))
    assert requestor == {1: PresentationContext(1, VERIFICATION, IMPLICIT), 3: PresentationContext(3, CT, EXPLICIT)}
    assert acceptor == {key: replace(each, as_user=False, as_provider=True) for key, each in requestor.items()}


# ---------------------------------------------------------------------------------------- roles

FLAGS: Final = (False, True)


@pytest.mark.parametrize(("user", "provider", "as_user", "as_provider"), list(product(FLAGS, repeat=4)))
def test_role_selection(user: bool, provider: bool, as_user: bool, as_provider: bool) -> None:
    # PS3.7 D.3.3.4: 1 is accepted, 0 turned down; an answer to a role that was not proposed is ignored.
    request = replace(REQUEST, user_information=(RoleSelection(CT, user, provider),))
    answer = answering(ContextResult(3, 0, EXPLICIT), items=(RoleSelection(CT, as_user, as_provider),))
    ours = outcome(request, answer, requestor=True)[3]
    assert (ours.as_user, ours.as_provider) == (user and as_user, provider and as_provider)
    peers = outcome(request, answer, requestor=False)[3]
    assert (peers.as_user, peers.as_provider) == (ours.as_provider, ours.as_user)
    theirs = SCP_SCU_ROLES[(user, provider)][(as_user, as_provider)]
    assert (ours.as_user, ours.as_provider, peers.as_user, peers.as_provider) == theirs


@pytest.mark.parametrize("asked", [None, RoleSelection(CT, False, True)])
@pytest.mark.parametrize("granted", [None, RoleSelection(CT, False, True)])
def test_role_selection_that_one_side_leaves_out_means_the_default(
    asked: RoleSelection | None, granted: RoleSelection | None
) -> None:
    request = replace(REQUEST, user_information=(asked,) if asked else ())
    answer = answering(ContextResult(3, 0, EXPLICIT), items=(granted,) if granted else ())
    agreed = outcome(request, answer, requestor=True)[3]
    both = asked is not None and granted is not None
    assert (agreed.as_user, agreed.as_provider) == ((False, True) if both else (True, False))


@pytest.mark.parametrize(("may", "granted"), [("all", True), (frozenset((CT,)), True), (frozenset(), False)])
@pytest.mark.parametrize("user", FLAGS)
def test_an_acceptor_grants_no_more_than_was_asked_and_offered(may: frozenset[str], granted: bool, user: bool) -> None:
    asked = RoleSelection(CT, user, True), RoleSelection(VERIFICATION, True, False), RoleSelection("1.2.3", True, True)
    request = replace(REQUEST, user_information=asked)
    answer = accept(request, replace(OFFER, requestor_as_provider=may))
    assert answer.roles == {
        CT: RoleSelection(CT, user, granted),
        VERIFICATION: RoleSelection(VERIFICATION, True, False),
    }


def test_roles_of_a_context_that_was_not_accepted_are_not_answered() -> None:
    request = replace(REQUEST, user_information=(RoleSelection(CT, True, True),))
    assert accept(request, Offer(syntaxes={VERIFICATION: (IMPLICIT,)})).roles == {}


# ---------------------------------------------------------------------------------------- window

NARROWED: Final = [(1, 1, 1), (5, 3, 3), (3, 5, 3), (0, 7, 7), (7, 0, 7), (0, 0, 0), (65535, 0, 65535), (1, 0, 1)]


@pytest.mark.parametrize(("asked", "offered", "agreed"), NARROWED)
def test_the_window_is_narrowed_where_0_is_any_number(asked: int, offered: int, agreed: int) -> None:
    request = replace(REQUEST, user_information=(AsynchronousOperationsWindow(asked, 9),))
    answer = accept(request, replace(OFFER, window=Window(invoked=4, performed=offered)))
    assert answer.window == AsynchronousOperationsWindow(agreed, 4)
    assert window(request, answer, requestor=True) == Window(invoked=agreed, performed=4)
    assert window(request, answer, requestor=False) == Window(invoked=4, performed=agreed)


@pytest.mark.parametrize(("asked", "answered", "agreed"), NARROWED)
def test_an_answer_never_widens_the_window(asked: int, answered: int, agreed: int) -> None:
    request = replace(REQUEST, user_information=(AsynchronousOperationsWindow(asked, 1),))
    answer = answering(items=(AsynchronousOperationsWindow(answered, 1),))
    assert window(request, answer, requestor=True) == Window(agreed, 1)


def test_a_window_that_one_side_does_not_name_is_one_and_one() -> None:
    item = (AsynchronousOperationsWindow(5, 5),)
    asking, silent = replace(REQUEST, user_information=item), replace(REQUEST, user_information=())
    for requestor in (True, False):
        assert window(asking, answering(), requestor=requestor) == Window(1, 1)
        assert window(silent, answering(items=item), requestor=requestor) == Window(1, 1)
    assert accept(silent, replace(OFFER, window=Window(5, 5))).window is None


# ---------------------------------------------------------------------------------------- the rest of an answer


def test_extended_negotiation_is_answered_only_where_proposed_and_accepted() -> None:
    offer = replace(OFFER, extended={CT: b"\1", VERIFICATION: b"\2", "1.2.3": b"\3"})
    assert accept(REQUEST, offer).extended == {}
    asked = ExtendedNegotiation(CT, b"\0"), ExtendedNegotiation("1.2.3", b"\0"), ExtendedNegotiation("1.2.4", b"\0")
    request = replace(REQUEST, user_information=asked)
    assert accept(request, offer).extended == {CT: ExtendedNegotiation(CT, b"\1")}
    assert accept(request, OFFER).extended == {}


def test_what_an_answer_carries() -> None:
    offer = replace(
        OFFER, maximum_length=4096, implementation_version_name="NAME", user_items=(UserIdentityAC(b"ticket"),)
    )
    answer = accept(REQUEST, offer)
    assert answer.user_information == (
        MaximumLength(4096),
        ImplementationClassUID("1.2.4"),
        ImplementationVersionName("NAME"),
        UserIdentityAC(b"ticket"),
    )
    assert accept(REQUEST, OFFER).implementation_version_name == ""
    assert answer.protocol_version == 1
    assert decode(encode(answer)) == answer


@pytest.mark.parametrize("title", [
    b"PLAIN".ljust(16),
    b"NUL".ljust(16, b"\0"),
    b"  LEADING".ljust(16),
    b"MIXED\0  \0\0 ".ljust(16),
    b" " * 16,
    b"\0" * 16,
    b"SIXTEEN LETTERS!",
    bytes(range(0xE0, 0xF0)),
])  # fmt: skip
def test_an_answer_repeats_the_titles_byte_for_byte(title: bytes) -> None:
    data = encode(REQUEST)
    request = decode(data[:10] + title + title[::-1] + data[42:])
    assert isinstance(request, AssociateRQ)
    assert encode(accept(request, OFFER))[10:42] == title + title[::-1]
    assert request.called == title.decode("latin-1").strip("\0 ")
    assert request.calling == title[::-1].decode("latin-1").strip("\0 ")


@given(associate(AssociateRQ), st.lists(USER_ITEM, max_size=3).map(tuple))
def test_every_request_that_decodes_has_an_answer_that_encodes(
    request: AssociateRQ, more: tuple[UserItem, ...]
) -> None:
    request = replace(request, user_information=(*request.user_information, *more))
    for offer in (OFFER, PROMISCUOUS, replace(PROMISCUOUS, order="acceptor")):
        answer = accept(request, offer)
        assert decode(encode(answer)) == answer
        requestor, acceptor = (outcome(request, answer, requestor=side) for side in (True, False))
        assert list(requestor) == list(acceptor)


def test_the_longest_request_has_an_answer_that_encodes() -> None:
    uids = [f"{number}".ljust(600, "\xb9") for number in range(256)]
    request = proposing(
        *(ProposedContext(number, uid, (uid * 80,)) for number, uid in enumerate(uids)),
        items=tuple(RoleSelection(uid, True, True) for uid in uids),
    )
    answer = accept(request, PROMISCUOUS)
    assert decode(encode(answer)) == answer
    assert len(outcome(request, answer, requestor=False)) == 256


# ---------------------------------------------------------------------------------------- what we ask


def ask(*proposals: Proposal, **others: object) -> AssociateRQ:
    fields: dict[str, object] = {
        "called": " CALLED ",
        "calling": "CALLING",
        "maximum_length": 16384,
        "implementation_class_uid": "1.2.3",
        "implementation_version_name": "NAME",
    }
    return associate_request(proposals, **(fields | others))  # type: ignore[arg-type]


def test_a_request_numbers_its_contexts_oddly() -> None:
    request = ask(*(Proposal(f"1.2.{number}", (IMPLICIT,)) for number in range(128)))
    assert [context.context_id for context in request.presentation_contexts] == list(range(1, 256, 2))
    assert (request.called_ae_title, request.calling_ae_title) == ("CALLED", "CALLING")
    assert decode(encode(request)) == request


def test_more_than_128_contexts_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="more than 128"):
        ask(*(Proposal(f"1.2.{number}", (IMPLICIT,)) for number in range(129)))


def test_a_request_without_contexts_or_syntaxes_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="no presentation context"):
        ask()
    with pytest.raises(LocalProtocolError, match="no transfer syntax"):
        ask(Proposal(CT, ()))
    with pytest.raises(LocalProtocolError, match=r"is no Proposal; write dulcet\.Proposal"):
        ask(CT)  # type: ignore[arg-type]


@pytest.mark.parametrize(("proposal", "role"), [
    (Proposal(CT, (IMPLICIT,)), None),
    (Proposal(CT, (IMPLICIT,), provider=True), RoleSelection(CT, True, True)),
    (Proposal(CT, (IMPLICIT,), user=False, provider=True), RoleSelection(CT, False, True)),
    (Proposal(CT, (IMPLICIT,), user=False), RoleSelection(CT, False, False)),
])  # fmt: skip
def test_roles_other_than_the_default_are_named(proposal: Proposal, role: RoleSelection | None) -> None:
    assert ask(proposal).roles.get(CT) == role


@pytest.mark.parametrize(("asked", "expected"), [
    (None, None),
    (Window(1, 1), None),
    (Window(8, 1), AsynchronousOperationsWindow(8, 1)),
    (Window(0, 0), AsynchronousOperationsWindow(0, 0)),
])  # fmt: skip
def test_a_window_other_than_one_and_one_is_named(
    asked: Window | None, expected: AsynchronousOperationsWindow | None
) -> None:
    assert ask(Proposal(CT, (IMPLICIT,)), window=asked).window == expected


def test_a_request_carries_who_made_it() -> None:
    request = ask(Proposal(CT, (IMPLICIT,)), user_items=[ExtendedNegotiation(CT, b"\1")])
    assert request.user_information == (
        MaximumLength(16384),
        ImplementationClassUID("1.2.3"),
        ImplementationVersionName("NAME"),
        ExtendedNegotiation(CT, b"\1"),
    )
    assert ask(Proposal(CT, (IMPLICIT,)), implementation_version_name="").implementation_version_name == ""


# ---------------------------------------------------------------------------------------- rules for values

LEGAL: Final = {(1, 1), (1, 2), (1, 3), (1, 7), (2, 1), (2, 2), (3, 1), (3, 2)}


@pytest.mark.parametrize("result", range(5))
def test_the_reject_triples_of_the_standard_and_no_others_may_be_sent(result: int) -> None:
    for source, reason in product(range(5), range(12)):
        connection = Connection(requestor=False)
        connection.connection_made()
        receive(connection, encode(REQUEST))
        if result in (1, 2) and (source, reason) in LEGAL:
            check_reject(result, source, reason)
            connection.reject(result, source, reason)
            assert len(sent(connection)) == 1
        else:
            with pytest.raises(LocalProtocolError, match=rf"reject \({result},{source},{reason}\) does not exist"):
                connection.reject(result, source, reason)
            assert not connection.has_output
            connection.reject(1, 1, 1)


@pytest.mark.parametrize(("title", "trimmed"), [
    ("A", "A"),
    ("  PADDED  ", "PADDED"),
    ("SIXTEEN LETTERS!", "SIXTEEN LETTERS!"),
    ("  SIXTEEN LETTERS!  ", "SIXTEEN LETTERS!"),
    ("lower-Case_1 ~", "lower-Case_1 ~"),
])  # fmt: skip
def test_ae_titles_that_may_be_sent(title: str, trimmed: str) -> None:
    assert check_ae_title(title) == trimmed


@pytest.mark.parametrize(("title", "message"), [
    ("", "is blank"),
    ("   ", "is blank"),
    ("SEVENTEEN LETTERS", "17 characters long"),
    ("BACK\\SLASH", "may not be sent"),
    ("TAB\tS", "may not be sent"),
    ("NUL\0", "may not be sent"),
    ("DEL\x7f", "may not be sent"),
    ("Ä", "may not be sent"),
])  # fmt: skip
def test_ae_titles_that_may_not_be_sent(title: str, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        check_ae_title(title)
    for which in ("called", "calling"):
        with pytest.raises(LocalProtocolError, match=f"{which} AE title"):
            ask(Proposal(CT, (IMPLICIT,)), **{which: title})


@pytest.mark.parametrize("ids", [(1, 2), (0,), (1, 1), (1, 3, 1)])
@pytest.mark.parametrize("strict", FLAGS)
def test_context_ids_that_are_even_or_repeated_are_an_abort_only_under_strict(
    ids: tuple[int, ...], strict: bool
) -> None:
    connection = Connection(requestor=False, config=AssociationConfig(strict=strict))
    connection.connection_made()
    request = proposing(*(ProposedContext(number, CT, (IMPLICIT,)) for number in ids))
    (event,) = receive(connection, encode(request))
    if strict:
        assert isinstance(event, Aborted)
        assert (event.source, event.reason) == (2, 6)
        assert "odd ones are expected" in event.message
    else:
        assert event == AssociateRequested(request)


def test_context_ids_as_the_standard_has_them_pass_strict() -> None:
    connection = Connection(requestor=False, config=AssociationConfig(strict=True))
    connection.connection_made()
    assert receive(connection, encode(REQUEST)) == [AssociateRequested(REQUEST)]


def test_remote_faults_carry_what_answers_them() -> None:
    fault = RemoteProtocolError("any")
    assert (fault.source, fault.reason) == (2, 6)


@pytest.mark.parametrize(("fields", "message"), [
    ({"maximum_length": 7}, "maximum_length is 7"),
    ({"maximum_length": -1}, "maximum_length is -1"),
    ({"maximum_length": 1 << 32}, "maximum_length is 4294967296"),
    ({"send_maximum": 1}, "send_maximum is 1"),
    ({"send_maximum": 0}, "send_maximum must be a length"),
    ({"window_invoked": 65536}, "window_invoked is 65536"),
    ({"window_performed": -1}, "window_performed is -1"),
])  # fmt: skip
def test_a_configuration_that_cannot_be_negotiated_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AssociationConfig(**fields)  # type: ignore[arg-type]
    assert AssociationConfig(maximum_length=0, send_maximum=8, window_invoked=0).maximum_length == 0
