"""What may be answered and aborted: the checks for applications that make their own PDUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.upper_layer.wire import CT, EXPLICIT, IMPLICIT, VERIFICATION

from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserItem,
)
from dulcet.upper_layer.negotiation import check_abort, check_answer
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

ASKED = AssociateRQ(
    called_ae_title="A",
    calling_ae_title="B",
    presentation_contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (EXPLICIT, IMPLICIT))),
    user_information=(
        AsynchronousOperationsWindow(3, 0),
        RoleSelection(CT, True, False),
        ExtendedNegotiation(CT, b"\1"),
    ),
)
GOOD = AssociateAC(
    called_ae_title="A",
    calling_ae_title="B",
    presentation_contexts=(ContextResult(1, 3), ContextResult(3, 0, IMPLICIT)),
    user_information=(
        AsynchronousOperationsWindow(3, 7),
        RoleSelection(CT, True, False),
        ExtendedNegotiation(CT, b"\2"),
    ),
)


def told(*items: UserItem) -> AssociateAC:
    return replace(GOOD, user_information=items)


def results(*contexts: ContextResult) -> AssociateAC:
    return replace(GOOD, presentation_contexts=contexts)


WRONG = {
    "a context left out": results(ContextResult(1, 0, IMPLICIT)),
    "a context twice": results(ContextResult(1, 3), ContextResult(1, 3), ContextResult(3, 0, IMPLICIT)),
    "a context that nobody proposed": results(ContextResult(1, 3), ContextResult(3, 3), ContextResult(5, 3)),
    "a syntax that nobody proposed": results(ContextResult(1, 0, EXPLICIT), ContextResult(3, 3)),
    "a wider window": told(AsynchronousOperationsWindow(4, 1)),
    "any number where some were asked": told(AsynchronousOperationsWindow(0, 1)),
    "a role not asked for": told(RoleSelection(CT, True, True)),
    "a role for another class": told(RoleSelection(VERIFICATION, True, False)),
    "extended data for another class": told(ExtendedNegotiation(VERIFICATION, b"")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_never_says_more_than_was_proposed(wrong: str) -> None:
    with pytest.raises(LocalProtocolError):
        check_answer(ASKED, WRONG[wrong])


def test_an_answer_may_narrow() -> None:
    check_answer(ASKED, GOOD)
    check_answer(ASKED, told())
    check_answer(ASKED, told(AsynchronousOperationsWindow(1, 0), RoleSelection(CT, False, False)))


def test_a_window_is_not_answered_where_none_was_proposed() -> None:
    with pytest.raises(LocalProtocolError, match="window"):
        check_answer(replace(ASKED, user_information=()), told(AsynchronousOperationsWindow(1, 1)))


@pytest.mark.parametrize("reason", range(8))
def test_abort_reasons_of_the_provider(reason: int) -> None:
    check_abort(0, reason)
    if reason in (3, 7):
        with pytest.raises(LocalProtocolError):
            check_abort(2, reason)
    else:
        check_abort(2, reason)


def test_abort_source_1_is_reserved() -> None:
    with pytest.raises(LocalProtocolError):
        check_abort(1, 0)
