"""Negotiation in full, both sides over sockets: roles, extended negotiation, identities, judges, private classes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.node.hosting import CT, EXPLICIT, PATIENCE, STUDY_FIND, STUDY_MOVE, calling, instance, serving, wait_until

import dulcet
from dulcet import Identified, IdentityUnconfirmed, Node, QueryOptions, RetrieveOptions, UserIdentity, uids
from dulcet.errors import AssociationError, AssociationRefused, LocalProtocolError
from dulcet.node.requests import Request, StoreRequest
from dulcet.services import sop_classes
from dulcet.services.sop_classes import Service, register_private
from dulcet.upper_layer.items import CommonExtendedNegotiation, UserIdentityRQ
from dulcet.upper_layer.negotiation import REJECT_TRIPLES, Proposal
from dulcet.upper_layer.pdu import AssociateRQ

VERIFICATION = uids.VERIFICATION
PRIVATE = "1.3.6.1.4.1.9590.100.7"
SECRET = "correct-horse-battery"
IDENTITIES = {
    1: UserIdentity.username("doctor", confirm=True),
    2: UserIdentity.passcode("doctor", SECRET, confirm=True),
    3: UserIdentity.kerberos(SECRET.encode(), confirm=True),
    4: UserIdentity.saml(b"<assertion>" + SECRET.encode(), confirm=True),
    5: UserIdentity.jwt(SECRET.encode() + b".b.c", confirm=True),
}


def refused(server: Any, *classes: Any, **options: Any) -> tuple[int, int, int]:
    with pytest.raises(AssociationRefused) as caught:
        calling(server, *(classes or (VERIFICATION,)), **options)
    assert SECRET not in str(caught.value)
    return caught.value.result, caught.value.source, caught.value.reason


# --- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "provider", "agreed"),
    [(True, False, (True, False)), (True, True, (True, True)), (False, True, (False, True))],
)
def test_roles_are_what_was_proposed_seen_from_each_side(user: bool, provider: bool, agreed: tuple[bool, bool]) -> None:
    seen: list[Any] = []
    node = Node("NODE")
    node.on_store(lambda request: seen.append(request.context))
    proposals = [Proposal(CT, (EXPLICIT,), user=user, provider=provider), Proposal(VERIFICATION, (EXPLICIT,))]
    with serving(node) as server, calling(server, *proposals) as association:
        (context,) = [found for found in association.contexts if found.abstract_syntax == CT]
        assert (context.as_user, context.as_provider) == agreed
        if agreed[0]:
            association.store(instance("1.2.1")).check()
            assert (seen[0].as_user, seen[0].as_provider) == (agreed[1], agreed[0])
        else:
            with pytest.raises(dulcet.NoPresentationContext):
                association.store(instance("1.2.1"))


# --- extended negotiation --------------------------------------------------------------------------------------------


def test_extended_negotiation_is_typed_for_query_and_retrieve_and_raw_for_the_rest() -> None:
    node = Node("NODE")
    node.on_find(lambda request: [])
    node.on_move(lambda request: [])
    node.on_store(lambda request: None)
    node.extended = {
        STUDY_FIND: QueryOptions(relational=True, fuzzy=True, time_zone=True),
        STUDY_MOVE: RetrieveOptions(relational=True),
        CT: b"\2\0\1",
    }
    asked = {
        STUDY_FIND: QueryOptions(fuzzy=True, date_time=True, time_zone=True),
        STUDY_MOVE: RetrieveOptions(relational=True, enhanced_multi_frame=True),
        CT: b"\1\1\1",
        VERIFICATION: b"\1",
    }
    with serving(node) as server:
        with calling(server, STUDY_FIND, STUDY_MOVE, CT, VERIFICATION, extended=asked) as association:
            assert association.extended(STUDY_FIND) == QueryOptions(fuzzy=True, time_zone=True)
            assert association.extended(STUDY_MOVE) == RetrieveOptions(relational=True)
            assert association.extended(CT) == b"\2\0\1"
            assert association.extended(VERIFICATION) is None
        with calling(server, STUDY_FIND) as association:
            assert association.extended(STUDY_FIND) is None


def test_common_extended_negotiation_reaches_the_judge() -> None:
    seen: list[AssociateRQ] = []
    node = Node("NODE")
    node.on_associate(seen.append)
    item = CommonExtendedNegotiation(PRIVATE, uids.CT_IMAGE_STORAGE, (CT,))
    with serving(node) as server, calling(server, VERIFICATION, common_extended=[item]):
        pass
    assert seen[0].common_extended == {PRIVATE: item}


# --- user identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", IDENTITIES)
def test_an_identity_is_verified_confirmed_and_known_to_handlers(number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[Any] = []
    node = Node("NODE", config=dulcet.AssociationConfig(observers=(dulcet.log_trace_events(),)))

    @node.verify_identity
    def verify(identity: UserIdentityRQ | None, request: AssociateRQ) -> Identified:
        seen.append((identity, request.calling))
        return Identified({"user": number}, b"the server says" if number in (3, 4) else b"")

    node.on_echo(lambda request: seen.append(request.requestor.identity))
    with serving(node) as server, calling(server, VERIFICATION, identity=IDENTITIES[number]) as association:
        association.echo().check()
        answer = association.accept.user_identity
        assert answer is not None
        assert answer.server_response == (b"the server says" if number in (3, 4) else b"")
    assert seen == [(IDENTITIES[number], "TESTER"), {"user": number}]
    assert SECRET not in caplog.text
    assert SECRET.encode().hex() not in caplog.text


def test_who_is_not_trusted_is_refused_and_what_was_said_stays_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = Node("NODE")
    node.verify_identity(lambda identity, request: identity is not None and identity.secondary == b"right")
    with serving(node) as server:
        assert refused(server, identity=IDENTITIES[2]) == (1, 1, 1)
        assert refused(server) == (1, 1, 1)
        right = UserIdentity.passcode("doctor", "right", confirm=True)
        with calling(server, VERIFICATION, identity=right) as association:
            association.echo().check()
    assert SECRET not in caplog.text


def test_a_true_verdict_names_the_user_of_the_identity() -> None:
    seen: list[Any] = []
    node = Node("NODE")
    node.verify_identity(lambda identity, request: True)
    node.on_echo(lambda request: seen.append(request.requestor.identity))
    with serving(node) as server, calling(server, VERIFICATION, identity=IDENTITIES[1]) as association:
        association.echo().check()
    assert seen == ["doctor"]


def test_an_acceptor_that_does_not_check_identities_is_not_trusted_with_one_that_asks_for_it() -> None:
    with serving(Node("NODE")) as server:
        with pytest.raises(IdentityUnconfirmed) as caught:
            calling(server, VERIFICATION, identity=IDENTITIES[2])
        assert SECRET not in str(caught.value)
        with calling(server, VERIFICATION, identity=UserIdentity.passcode("doctor", SECRET)) as association:
            association.echo().check()


def test_a_secret_that_cannot_be_sent_is_not_in_the_error() -> None:
    with serving(Node("NODE")) as server:
        with pytest.raises((LocalProtocolError, ValueError)) as caught:
            calling(server, VERIFICATION, identity=UserIdentity.jwt(SECRET.encode() * 10_000))
        assert SECRET not in str(caught.value)


def test_a_server_response_that_cannot_be_sent_refuses_and_the_listener_lives() -> None:
    node, responses = Node("NODE"), iter([b"x" * 70_000, b"x"])
    node.verify_identity(lambda identity, request: Identified("doctor", next(responses)))
    with serving(node) as server:
        assert refused(server, identity=IDENTITIES[3]) == (2, 1, 1)
        with calling(server, VERIFICATION, identity=IDENTITIES[3]) as association:
            association.echo().check()


# --- judges ----------------------------------------------------------------------------------------------------------


def test_a_judge_rejects_with_every_triple_there_is() -> None:
    verdicts = iter(sorted(REJECT_TRIPLES))
    node = Node("NODE")
    node.on_associate(lambda request: next(verdicts, None))
    with serving(node) as server:
        assert [refused(server) for _ in REJECT_TRIPLES] == sorted(REJECT_TRIPLES)
        with calling(server, VERIFICATION) as association:
            association.echo().check()


def test_a_judge_or_verifier_who_fails_refuses_and_the_listener_lives(caplog: pytest.LogCaptureFixture) -> None:
    admission_hook: list[Any] = [(3, 3, 3), ValueError(SECRET), "nonsense", None]
    node = Node("NODE")

    @node.on_associate
    def decide(request: AssociateRQ) -> Any:
        verdict = admission_hook.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    with serving(node) as server:
        assert refused(server) == (1, 1, 1)
        assert "reject (3,3,3) does not exist" in caplog.text
        assert refused(server) == (2, 1, 1)
        assert refused(server) == (2, 1, 1)
        with calling(server, VERIFICATION) as association:
            association.echo().check()
    assert SECRET not in caplog.text


def test_a_judge_knows_who_calls_and_what_is_proposed() -> None:
    seen: list[AssociateRQ] = []
    node = Node("NODE")
    node.on_associate(seen.append)
    with serving(node) as server, calling(server, VERIFICATION, CT):
        pass
    assert (seen[0].calling, seen[0].called) == ("TESTER", "NODE")
    assert [context.abstract_syntax for context in seen[0].presentation_contexts] == [VERIFICATION, CT]


@pytest.mark.parametrize(
    ("options", "calling_as", "called", "outcome"),
    [
        ({}, "ANYBODY", "NODE", None),
        ({}, "ANYBODY", "OTHER", (1, 1, 7)),
        ({"any_called": True}, "ANYBODY", "OTHER", None),
        ({"calling": ["FRIEND"]}, "FRIEND", "NODE", None),
        ({"calling": ["FRIEND"]}, "STRANGER", "NODE", (1, 1, 3)),
        ({"calling": []}, "FRIEND", "NODE", (1, 1, 3)),
    ],
)
def test_who_may_call_whom(
    options: dict[str, Any], calling_as: str, called: str, outcome: tuple[int, int, int] | None
) -> None:
    with serving(Node("NODE", **options)) as server:
        address = f"{called}@{server.address.host}:{server.address.port}"
        if outcome is None:
            with dulcet.associate(address, calling_ae_title=calling_as) as association:
                association.echo().check()
        else:
            with pytest.raises(AssociationRefused) as caught:
                dulcet.associate(address, calling_ae_title=calling_as)
            assert (caught.value.result, caught.value.source, caught.value.reason) == outcome


# --- those who take their time ---------------------------------------------------------------------------------------


class SlowVerifier:
    """Takes until it is released for whoever calls as SLOW."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, identity: UserIdentityRQ | None, request: AssociateRQ) -> bool:
        if request.calling == "SLOW":
            self.asked.release()
            self.release.wait(PATIENCE)
        return True


def slowly(server: Any, results: list[Any]) -> threading.Thread:
    def call() -> None:
        try:
            with calling(server, VERIFICATION, calling_ae_title="SLOW") as association:
                results.append(association.echo().status)
        except AssociationError as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.fixture
def slow() -> Iterator[SlowVerifier]:
    verifier = SlowVerifier()
    yield verifier
    verifier.release.set()


def test_a_slow_verifier_holds_up_nobody_else(slow: SlowVerifier) -> None:
    node, results = Node("NODE"), []
    node.verify_identity(slow)
    with serving(node) as server:
        threads = [slowly(server, results) for _ in range(3)]
        for _ in threads:
            assert slow.asked.acquire(timeout=PATIENCE)
        with calling(server, VERIFICATION) as association:
            association.echo().check()
        assert results == []
        slow.release.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert results == [0, 0, 0]


def test_a_decision_that_does_not_come_in_time_is_a_transient_refusal(slow: SlowVerifier) -> None:
    config = dulcet.AssociationConfig(timers=dulcet.Timers(associate=0.2))
    node, results = Node("NODE", config=config), []
    node.verify_identity(slow)
    with serving(node) as server:
        slowly(server, results).join(PATIENCE)
        (error,) = results
        assert (error.result, error.source, error.reason) == (2, 3, 1)
        slow.release.set()
        with calling(server, VERIFICATION) as association:
            association.echo().check()


def test_a_peer_that_goes_away_while_it_is_decided_about_is_forgotten(slow: SlowVerifier) -> None:
    node = Node("NODE")
    node.verify_identity(slow)
    with serving(node) as server:
        impatient = dulcet.AssociationConfig(timers=dulcet.Timers(associate=0.1))
        with pytest.raises(dulcet.DimseTimeout):
            calling(server, VERIFICATION, calling_ae_title="SLOW", config=impatient)
        slow.release.set()
        with calling(server, VERIFICATION) as association:
            association.echo().check()
        wait_until(lambda: server._receiver.listener.count == 0, "nobody is counted who is not there")


def test_a_node_stops_while_somebody_decides(slow: SlowVerifier) -> None:
    node, results = Node("NODE"), []
    node.verify_identity(slow)
    with serving(node) as server:
        thread = slowly(server, results)
        assert slow.asked.acquire(timeout=PATIENCE)
    thread.join(PATIENCE)
    assert isinstance(results[0], AssociationError)


def test_the_number_of_associations_holds_though_several_are_decided_about_at_once(slow: SlowVerifier) -> None:
    policy = dulcet.AcceptancePolicy(any_class=(), verifier=slow)
    with dulcet.listen("NODE@127.0.0.1:0", policy=policy, maximum_associations=1) as listener:
        results: list[Any] = []

        def call() -> None:
            try:
                results.append(calling(listener, VERIFICATION, calling_ae_title="SLOW"))  # type: ignore[arg-type]
            except AssociationRefused as error:
                results.append((error.result, error.source, error.reason))

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert slow.asked.acquire(timeout=PATIENCE)
        slow.release.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert results.count((2, 3, 2)) == 2
        for association in results:
            if not isinstance(association, tuple):
                association.abort()


# --- private classes -------------------------------------------------------------------------------------------------


def test_a_private_class_is_stored_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sop_classes, "_private", {})
    stored: list[str] = []

    def node() -> Node:
        found = Node("NODE")

        @found.on_store
        def keep(request: StoreRequest) -> None:
            stored.append(request.sop_class_uid)

        return found

    with serving(node()) as server, calling(server, PRIVATE, VERIFICATION) as association:
        assert [context.abstract_syntax for context in association.contexts] == [VERIFICATION]
    register_private(PRIVATE, Service.STORAGE)
    with serving(node()) as server, calling(server, PRIVATE, VERIFICATION) as association:
        association.store(instance("1.2.1", PRIVATE)).check()
    assert stored == [PRIVATE]


def test_handlers_see_who_asks_and_from_where() -> None:
    seen: list[Request] = []
    node = Node("NODE", any_called=True)
    node.on_echo(seen.append)
    with serving(node) as server:
        association = dulcet.associate(f"ALIAS@127.0.0.1:{server.address.port}", calling_ae_title="ME")
        association.echo().check()
        association.release()
    requestor = seen[0].requestor
    assert (requestor.calling_ae_title, requestor.called_ae_title, requestor.identity) == ("ME", "ALIAS", None)
    assert requestor.peer.startswith("127.0.0.1:")
