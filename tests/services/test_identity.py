"""User identity (PS3.7 D.3.3.7) on both sides, and secrets that stay secret."""

from __future__ import annotations

from typing import Any

import pytest

from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.admission import REFUSED, UNDECIDED, Admission
from dulcet.services.identity import Identified, IdentityUnconfirmed, UserIdentity, check_confirmed, verify
from dulcet.upper_layer.items import ProposedContext, UserIdentityAC, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import REJECT_TRIPLES, Offer
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

SECRET = "correct horse"
IDENTITIES = [
    UserIdentity.username("doctor", confirm=True),
    UserIdentity.passcode("doctor", SECRET, confirm=True),
    UserIdentity.kerberos(b"ticket " + SECRET.encode(), confirm=True),
    UserIdentity.saml(b"<saml>" + SECRET.encode(), confirm=True),
    UserIdentity.jwt(b"token." + SECRET.encode(), confirm=True),
]


def asking(identity: UserIdentityRQ | None) -> AssociateRQ:
    items: tuple[UserItem, ...] = () if identity is None else (identity,)
    context = ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",))
    return AssociateRQ(
        called_ae_title="ARCHIVE", calling_ae_title="MODALITY", presentation_contexts=(context,), user_information=items
    )


def accepting(*items: UserItem) -> AssociateAC:
    return AssociateAC(called_ae_title="ARCHIVE", calling_ae_title="MODALITY", user_information=items)


@pytest.mark.parametrize(("identity", "number"), list(zip(IDENTITIES, range(1, 6), strict=True)))
def test_each_type_has_its_number_and_its_fields(identity: UserIdentityRQ, number: int) -> None:
    assert identity.identity_type == number
    assert identity.positive_response_requested
    assert identity.secondary == (SECRET.encode() if number == 2 else b"")


@pytest.mark.parametrize(
    "identity",
    [UserIdentity.username("é"), UserIdentity.passcode("é", "ü"), UserIdentity.kerberos(b"1"), UserIdentity.saml(b"2"),
     UserIdentity.jwt(b"3")],
)  # fmt: skip
def test_no_confirmation_is_asked_for_by_default(identity: UserIdentityRQ) -> None:
    assert not identity.positive_response_requested


def test_text_travels_in_utf_8() -> None:
    assert UserIdentity.passcode("é", "ü").primary == "é".encode()
    assert UserIdentity.passcode("é", "ü").secondary == "ü".encode()


@pytest.mark.parametrize("identity", IDENTITIES[1:])
def test_no_secret_is_in_a_repr(identity: UserIdentityRQ) -> None:
    assert SECRET not in repr(identity)
    assert SECRET not in str(asking(identity))
    assert SECRET not in repr(UserIdentityAC(SECRET.encode()))


@pytest.mark.parametrize("verdict", [False, None])
def test_a_verifier_who_says_no_refuses(verdict: bool | None) -> None:
    assert verify(lambda identity, request: verdict, asking(IDENTITIES[0])) == (1, 1, 1)


@pytest.mark.parametrize("verdict", ["doctor", 1, 0, object(), ("doctor",)])
def test_a_verifier_who_gives_nonsense_lets_nobody_in(verdict: Any) -> None:
    assert verify(lambda identity, request: verdict, asking(IDENTITIES[0])) == (1, 1, 1)


@pytest.mark.parametrize(
    ("identity", "user"),
    [(IDENTITIES[0], "doctor"), (IDENTITIES[1], "doctor"), (IDENTITIES[2], None), (UserIdentityRQ(1, b"\xff"), "�")],
)
def test_true_lets_in_who_was_named(identity: UserIdentityRQ, user: str | None) -> None:
    found = verify(lambda identity, request: True, asking(identity))
    assert found[0] == user


def test_who_names_nobody_is_asked_about_as_well() -> None:
    seen: list[UserIdentityRQ | None] = []

    def verifier(identity: UserIdentityRQ | None, request: AssociateRQ) -> bool:
        seen.append(identity)
        return True

    assert verify(verifier, asking(None)) == (None, None)
    assert seen == [None]


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_confirmation_is_given_where_it_was_asked_for(identity: UserIdentityRQ) -> None:
    trusted = Identified({"role": "reader"}, b"server says")
    assert verify(lambda identity, request: trusted, asking(identity)) == (
        {"role": "reader"},
        UserIdentityAC(b"server says"),
    )
    quiet = UserIdentityRQ(identity.identity_type, identity.primary, identity.secondary)
    assert verify(lambda identity, request: trusted, asking(quiet)) == ({"role": "reader"}, None)


def test_an_exception_of_the_verifier_goes_through() -> None:
    def verifier(identity: UserIdentityRQ | None, request: AssociateRQ) -> bool:
        raise ConnectionError("no directory")

    with pytest.raises(ConnectionError):
        verify(verifier, asking(None))


def test_a_confirmation_that_was_asked_for_has_to_come() -> None:
    check_confirmed(asking(None), accepting())
    check_confirmed(asking(UserIdentity.username("doctor")), accepting())
    check_confirmed(asking(IDENTITIES[0]), accepting(UserIdentityAC()))
    with pytest.raises(IdentityUnconfirmed, match="without confirming") as caught:
        check_confirmed(asking(IDENTITIES[1]), accepting())
    assert SECRET not in str(caught.value)


# --- a judge and a verifier who fail ---------------------------------------------------------------------------------


def admission(**policy: Any) -> Admission:
    return Admission(
        AcceptancePolicy(any_class=(), **policy), AssociationConfig(), maximum_associations=10, maximum_per_host=10
    )


def decided(request: AssociateRQ | None = None, **policy: Any) -> Any:
    return admission(**policy).decide(request or asking(None), "peer", "host")


@pytest.mark.parametrize("triple", sorted(REJECT_TRIPLES))
def test_a_judge_rejects_with_every_triple_that_exists(triple: tuple[int, int, int]) -> None:
    assert decided(admission_hook=lambda request: triple) == triple


@pytest.mark.parametrize("triple", [(0, 1, 1), (3, 1, 1), (1, 1, 4), (1, 2, 3), (1, 3, 3), (2, 0, 0), (-1, 1, 1)])
def test_a_triple_that_does_not_exist_rejects_for_good_and_is_named(
    triple: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert decided(admission_hook=lambda request: triple) == REFUSED
    assert f"reject ({triple[0]},{triple[1]},{triple[2]}) does not exist" in caplog.text


@pytest.mark.parametrize("nonsense", [True, False, 5, "no", (1, 1), (1, 1, 1, 1), object()])
def test_a_judge_who_gives_nonsense_accepts_nobody(nonsense: Any) -> None:
    assert decided(admission_hook=lambda request: nonsense) in (REFUSED, UNDECIDED)


def test_a_judge_who_says_nothing_accepts() -> None:
    assert isinstance(decided(admission_hook=lambda request: None), Offer)


@pytest.mark.parametrize("which", ["admission_hook", "verifier"])
def test_one_who_fails_refuses_for_now_and_what_it_says_is_not_logged(
    which: str, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: Any) -> Any:
        raise ValueError(f"cannot look up {SECRET}")

    assert decided(asking(IDENTITIES[1]), **{which: failing}) == UNDECIDED
    assert "ValueError" in caplog.text
    assert "test_identity.py" in caplog.text, "where it failed"
    assert SECRET not in caplog.text


def test_what_admission_answers_may_be_sent() -> None:
    assert {REFUSED, UNDECIDED} <= REJECT_TRIPLES
    with pytest.raises(LocalProtocolError):
        AcceptancePolicy(any_class=(), admission_hook=lambda request: (9, 9, 9)).decide(
            asking(None), AssociationConfig()
        )
