"""User identity (PS3.7 D.3.3.7): saying who asks, and checking it.

Rule: passcodes and tokens never appear in a repr, a log line or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dulcet.errors import AssociationError
from dulcet.upper_layer.items import UserIdentityAC, UserIdentityRQ
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

__all__ = ["Identified", "IdentityUnconfirmed", "UserIdentity", "Verifier", "check_confirmed", "verify"]

REFUSED: Final = (1, 1, 1)


class IdentityUnconfirmed(AssociationError):
    """A positive response to the user identity was asked for and not given: the acceptor may not check identities."""


class UserIdentity:
    """Ways to say who asks; each gives the sub-item for `associate(user_items=…)` or `identity=…`.

    `confirm` asks for a positive response: without one the association is given up, and IdentityUnconfirmed raised.
    """

    @staticmethod
    def username(name: str, *, confirm: bool = False) -> UserIdentityRQ:
        """Type 1: the user `name` alone; `confirm` asks for a positive response."""
        return UserIdentityRQ(1, name.encode(), b"", confirm)

    @staticmethod
    def passcode(name: str, passcode: str, *, confirm: bool = False) -> UserIdentityRQ:
        """Type 2: user `name` and `passcode`; `confirm` asks for a positive response.

        Over TLS only, for it travels as it is.
        """
        return UserIdentityRQ(2, name.encode(), passcode.encode(), confirm)

    @staticmethod
    def kerberos(ticket: bytes, *, confirm: bool = False) -> UserIdentityRQ:
        """Type 3: `ticket` is a Kerberos service ticket; `confirm` asks for a positive response."""
        return UserIdentityRQ(3, ticket, b"", confirm)

    @staticmethod
    def saml(assertion: bytes, *, confirm: bool = False) -> UserIdentityRQ:
        """Type 4: `assertion` is a SAML assertion, encoded; `confirm` asks for a positive response."""
        return UserIdentityRQ(4, assertion, b"", confirm)

    @staticmethod
    def jwt(token: bytes, *, confirm: bool = False) -> UserIdentityRQ:
        """Type 5: `token` is a JSON web token, encoded; `confirm` asks for a positive response."""
        return UserIdentityRQ(5, token, b"", confirm)


@dataclass(frozen=True, slots=True)
class Identified:
    """What a verifier gives for an identity that it trusts."""

    user: Any
    """Handed on to handlers as `request.requestor.identity`."""
    server_response: bytes = b""
    """For Kerberos and SAML: the server's ticket or response (PS3.7 Table D.3-15)."""


Verifier = Callable[[UserIdentityRQ | None, AssociateRQ], Identified | bool | None]
"""Called with the identity, None when none was named; Identified or True lets it in, False or None does not."""


def verify(verifier: Verifier, request: AssociateRQ) -> tuple[Any, UserIdentityAC | None] | tuple[int, int, int]:
    """Who it is and what to answer, or the rejection; an exception of the verifier goes through."""
    identity = request.user_identity
    found = verifier(identity, request)
    if isinstance(found, Identified):
        user, response = found.user, found.server_response
    elif found is True:
        user, response = _name(identity), b""
    else:
        return REFUSED  # also what is neither: a name or a number lets nobody in
    confirmed = identity is not None and identity.positive_response_requested
    return user, UserIdentityAC(response) if confirmed else None


def check_confirmed(request: AssociateRQ, answer: AssociateAC) -> None:
    """IdentityUnconfirmed when a positive response was asked for and not given."""
    identity = request.user_identity
    if identity is not None and identity.positive_response_requested and answer.user_identity is None:
        raise IdentityUnconfirmed(
            "the peer accepted the association without confirming the user identity; it may not check identities: "
            "ask its administrator, or do without confirm=True"
        )


def _name(identity: UserIdentityRQ | None) -> str | None:
    """The user name of types 1 and 2."""
    if identity is None or identity.identity_type not in (1, 2):
        return None
    return identity.primary.decode("utf-8", "replace")
