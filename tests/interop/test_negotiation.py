"""Roles, extended negotiation, user identity and the operations window with pynetdicom, in both directions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from tests.interop.peers import HOST
from tests.node.hosting import CT, EXPLICIT, IMPLICIT, MR, STUDY_FIND, instance, serving

import dulcet
from dulcet import Identified, IdentityUnconfirmed, Node, QueryOptions, UserIdentity, uids
from dulcet.errors import AssociationRefused
from dulcet.node.threads import NodeThreads
from dulcet.upper_layer.items import CommonExtendedNegotiation, UserIdentityRQ
from dulcet.upper_layer.negotiation import Proposal
from dulcet.upper_layer.pdu import AssociateRQ

VERIFICATION = uids.VERIFICATION
PRIVATE = "1.3.6.1.4.1.9590.100.8"

IDENTITIES: dict[int, tuple[bytes, bytes]] = {
    1: (b"doctor", b""),
    2: (b"doctor", b"correct horse"),
    3: (b"a service ticket", b""),
    4: (b"<saml:Assertion/>", b""),
    5: (b"header.payload.signature", b""),
}
OURS = {
    1: UserIdentity.username("doctor", confirm=True),
    2: UserIdentity.passcode("doctor", "correct horse", confirm=True),
    3: UserIdentity.kerberos(b"a service ticket", confirm=True),
    4: UserIdentity.saml(b"<saml:Assertion/>", confirm=True),
    5: UserIdentity.jwt(b"header.payload.signature", confirm=True),
}
RESPONSES = {1: b"", 2: b"", 3: b"server ticket", 4: b"<saml:Response/>", 5: b""}


@contextlib.contextmanager
def pynetdicom_user(server: NodeThreads, *classes: str, **options: Any) -> Iterator[Any]:
    """An association of pynetdicom's with a node of ours, accepted or not."""
    application = AE(ae_title="PYNETDICOM")
    for uid in classes or (VERIFICATION,):
        application.add_requested_context(uid, [EXPLICIT, IMPLICIT])
    association = application.associate(HOST, server.address.port, ae_title=server.address.ae_title, **options)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextlib.contextmanager
def pynetdicom_provider(handlers: list[Any], *contexts: tuple[str, dict[str, bool]]) -> Iterator[str]:
    """A provider of pynetdicom's; its address."""
    application = AE(ae_title="PYNETDICOM")
    application.add_supported_context(VERIFICATION, [EXPLICIT, IMPLICIT])
    for uid, roles in contexts:
        application.add_supported_context(uid, [EXPLICIT, IMPLICIT], **roles)
    server: Any = application.start_server((HOST, 0), block=False, evt_handlers=handlers)
    try:
        yield f"PYNETDICOM@{HOST}:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()


def theirs(number: int, *, confirm: bool = True) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = number
    item.positive_response_requested = confirm
    item.primary_field, item.secondary_field = IDENTITIES[number]
    return item


# --- user identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", IDENTITIES)
def test_pynetdicom_says_who_it_is_and_is_told_that_we_believe_it(number: int) -> None:
    seen: list[Any] = []
    node = Node("NODE")

    @node.verify_identity
    def verify(identity: UserIdentityRQ | None, request: AssociateRQ) -> Identified | bool:
        assert identity is not None
        seen.append((identity.identity_type, identity.primary, identity.secondary))
        return Identified(f"user {number}", RESPONSES[number])

    node.on_echo(lambda request: seen.append(request.requestor.identity))
    with serving(node) as server, pynetdicom_user(server, ext_neg=[theirs(number)]) as association:
        assert association.is_established
        assert association.send_c_echo().Status == 0
        answer = association.acceptor.user_identity
    assert answer is not None
    assert (answer.server_response or b"") == RESPONSES[number]
    assert seen == [(number, *IDENTITIES[number]), f"user {number}"]


def test_pynetdicom_is_refused_when_we_do_not_believe_it() -> None:
    node = Node("NODE")
    node.verify_identity(lambda identity, request: False)
    with serving(node) as server, pynetdicom_user(server, ext_neg=[theirs(2)]) as association:
        assert association.is_rejected
    assert (association.acceptor.primitive.result, association.acceptor.primitive.result_source) == (1, 1)


@pytest.mark.parametrize("number", IDENTITIES)
def test_we_say_to_pynetdicom_who_we_are_and_check_that_it_believes_us(number: int) -> None:
    seen: list[Any] = []

    def verify(event: Any) -> tuple[bool, bytes]:
        seen.append((event.user_id_type, event.primary_field, event.secondary_field or b""))
        return True, RESPONSES[number]

    # To user names it gives no positive response, though the standard asks for an empty one (PS3.7 D.3.3.7.2).
    confirms = number > 2
    identity = replace(OURS[number], positive_response_requested=confirms)
    with (
        pynetdicom_provider([(evt.EVT_USER_ID, verify)]) as address,
        dulcet.associate(address, contexts=ECHO, identity=identity) as association,
    ):
        association.echo().check()
        confirmed = association.accept.user_identity
        assert (confirmed is not None) is confirms
        assert confirmed is None or confirmed.server_response == RESPONSES[number]
        if not confirms:
            with pytest.raises(IdentityUnconfirmed):
                dulcet.associate(address, contexts=ECHO, identity=OURS[number])
    assert set(seen) == {(number, *IDENTITIES[number])}


def test_pynetdicom_does_not_believe_us_or_does_not_say_so() -> None:
    with (
        pynetdicom_provider([(evt.EVT_USER_ID, lambda event: (False, b""))]) as address,
        pytest.raises(AssociationRefused),
    ):
        dulcet.associate(address, contexts=ECHO, identity=OURS[2])
    with pynetdicom_provider([]) as address, pytest.raises(IdentityUnconfirmed):
        dulcet.associate(address, contexts=ECHO, identity=OURS[1])


ECHO = [Proposal(VERIFICATION, (EXPLICIT,))]

# --- roles -----------------------------------------------------------------------------------------------------------


def test_roles_that_pynetdicom_proposes() -> None:
    node = Node("NODE")
    node.on_store(lambda request: None)
    roles = [build_role(CT, scu_role=True, scp_role=True), build_role(MR, scp_role=True)]
    with serving(node) as server, pynetdicom_user(server, CT, MR, VERIFICATION, ext_neg=roles) as association:
        agreed = {found.abstract_syntax: (found.as_scu, found.as_scp) for found in association.accepted_contexts}
    assert agreed == {CT: (True, True), MR: (False, True), VERIFICATION: (True, False)}


@pytest.mark.parametrize(
    ("proposed", "supported", "agreed"),
    [
        ((True, True), (True, True), (True, True)),
        ((True, True), (True, False), (True, False)),
        ((True, True), (False, True), (False, True)),
        ((False, True), (True, True), (False, True)),
        ((True, False), (True, True), (True, False)),
        ((True, True), None, (True, False)),
    ],
)
def test_roles_that_we_propose(
    proposed: tuple[bool, bool], supported: tuple[bool, bool] | None, agreed: tuple[bool, bool]
) -> None:
    roles = {} if supported is None else {"scu_role": supported[0], "scp_role": supported[1]}
    with pynetdicom_provider([], (CT, roles)) as address:
        contexts = [Proposal(CT, (EXPLICIT,), user=proposed[0], provider=proposed[1]), *ECHO]
        with dulcet.associate(address, contexts=contexts) as association:
            (found,) = [context for context in association.contexts if context.abstract_syntax == CT]
            assert (found.as_user, found.as_provider) == agreed


# --- extended negotiation --------------------------------------------------------------------------------------------


def test_pynetdicom_negotiates_options_with_us() -> None:
    seen: list[AssociateRQ] = []
    node = Node("NODE")
    node.on_find(lambda request: [])
    node.on_associate(seen.append)
    node.extended = {STUDY_FIND: QueryOptions(relational=True, fuzzy=True)}
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = STUDY_FIND, b"\1\1\0"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = PRIVATE, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = [CT]
    with (
        serving(node) as server,
        pynetdicom_user(server, STUDY_FIND, VERIFICATION, ext_neg=[extended, common]) as association,
    ):
        assert association.acceptor.sop_class_extended == {STUDY_FIND: b"\1"}
    assert seen[0].common_extended == {PRIVATE: CommonExtendedNegotiation(PRIVATE, "1.2.840.10008.4.2", (CT,))}


def test_we_negotiate_options_with_pynetdicom() -> None:
    seen: list[Any] = []

    def extend(event: Any) -> dict[str, bytes]:
        seen.append(dict(event.app_info))
        return {STUDY_FIND: b"\0\0\1\1", CT: b"\2\3"}

    def extend_commonly(event: Any) -> dict[str, Any]:
        seen.append({uid: item.related_general_sop_class_identification for uid, item in event.items.items()})
        return {}

    handlers = [(evt.EVT_SOP_EXTENDED, extend), (evt.EVT_SOP_COMMON, extend_commonly)]
    asked = {STUDY_FIND: QueryOptions(relational=True, fuzzy=True, time_zone=True), CT: b"\1"}
    contexts = [Proposal(STUDY_FIND, (EXPLICIT,)), Proposal(CT, (EXPLICIT,)), *ECHO]
    common = [CommonExtendedNegotiation(PRIVATE, "1.2.840.10008.4.2", (CT,))]
    with (
        pynetdicom_provider(handlers, (STUDY_FIND, {}), (CT, {})) as address,
        dulcet.associate(address, contexts=contexts, extended=asked, common_extended=common) as association,
    ):
        assert association.extended(STUDY_FIND) == QueryOptions(fuzzy=True, time_zone=True)
        assert association.extended(CT) == b"\2\3"
        association.echo().check()
    assert seen == [{STUDY_FIND: b"\1\0\1\1", CT: b"\1"}, {PRIVATE: [CT]}]


# --- the operations window, and rejections ---------------------------------------------------------------------------


def test_a_window_that_pynetdicom_proposes_and_one_that_it_does_not_answer() -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 1
    with serving(Node("NODE")) as server, pynetdicom_user(server, ext_neg=[window]) as association:
        assert association.acceptor.asynchronous_operations == (5, 1)
        assert association.send_c_echo().Status == 0
    config = dulcet.AssociationConfig(window_invoked=8)
    with (
        pynetdicom_provider([], (CT, {})) as address,
        dulcet.associate(address, contexts=[*ECHO, Proposal(CT, (EXPLICIT,))], config=config) as association,
    ):
        assert association.window.invoked == 1, "pynetdicom does not answer it"
        association.echo().check()
        assert not association.store(instance("1.2.1")).status.is_success, "nobody handles it there"


@pytest.mark.parametrize("triple", [(1, 1, 1), (1, 1, 3), (2, 3, 1), (2, 3, 2), (1, 2, 2)])
def test_pynetdicom_reads_our_rejections(triple: tuple[int, int, int]) -> None:
    node = Node("NODE")
    node.on_associate(lambda request: triple)
    with serving(node) as server, pynetdicom_user(server) as association:
        assert association.is_rejected
        answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == triple
