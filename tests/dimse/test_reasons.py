"""Failures say why (PS3.7 Annex C): Error Comment and Offending Element of what the core sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pairs import CT, FIND, Pair, Provider, echo, find, response, store

from dulcet.dimse.command import Command
from dulcet.dimse.elements import checked
from dulcet.dimse.events import ResponseReceived
from dulcet.dimse.messages import MESSAGES, CommandField
from dulcet.dimse.reasons import comment_of, fails, not_provided
from dulcet.dimse.status import Status
from dulcet.errors import COMMENT_LENGTH, ReceiveError, as_comment

FAILURES = [0x0105, 0x0110, 0x0122, 0x0211, 0xA700, 0xA801, 0xA900, 0xC000, 0xC307, 0xC601, 0x4711]


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("Study Instance UID: the data set has none", "Study Instance UID: the data set has none"),
        ("a" * 64, "a" * 64),
        ("a" * 65, "a" * 61 + "..."),
        ("word " * 12 + "last", "word " * 12 + "last"),
        ("word " * 12 + "these", "word " * 11 + "word..."),
        (
            "nothing of it could be kept, for the folder is there no more, (yes)",
            "nothing of it could be kept, for the folder is there no more...",
        ),
        ("C:\\folder\nnext\tline\x1b[31m", "C:/folder next line [31m"),
        ("für Großmann", "f?r Gro?mann"),
        ("  ", ""),
    ],
)
def test_a_reason_becomes_a_comment(text: str, comment: str) -> None:
    assert as_comment(text) == comment


@given(st.text(max_size=200))
def test_whatever_the_text_a_comment_can_be_sent(text: str) -> None:
    comment = as_comment(text)
    assert len(comment) <= COMMENT_LENGTH
    if comment:
        assert checked("C-STORE-RSP", "ErrorComment", comment) == comment


@pytest.mark.parametrize("field", [field for field in CommandField if not MESSAGES[field].is_response])
@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_without_a_reason_says_its_status(field: CommandField, status: int) -> None:
    comment = comment_of(field, status)
    assert comment
    assert comment == as_comment(comment)


def test_the_words_are_those_of_the_service() -> None:
    assert comment_of(CommandField.C_FIND_RQ, 0xA900) == "identifier does not match the SOP class"
    assert comment_of(CommandField.N_ACTION_RQ, 0xC307) == "no such UPS instance is managed here"
    assert comment_of(CommandField.N_ACTION_RQ, 0xC600) == "the film session has no film boxes"


@pytest.mark.parametrize("status", [0x0000, 0xFF00, 0xFF01, 0xFE00, 0xB000, 0x0107, 0x0001, 65536, -1])
def test_what_is_no_failure_needs_no_reason(status: int) -> None:
    assert not fails(status)


def _comment(pair: Pair) -> tuple[int | None, str | None, tuple[int, ...] | None]:
    (event,) = (event for event in pair.ends[0].told() if isinstance(event, ResponseReceived))
    return event.command.status, event.command.error_comment, event.command.offending_element


@pytest.mark.parametrize("status", FAILURES)
def test_every_status_that_fails_leaves_with_a_comment(status: int) -> None:
    pair = Pair().establish()
    pair.ends[1].application = Provider(status)
    store(pair.ends[0], b"data")
    pair.run()
    assert _comment(pair) == (status, comment_of(CommandField.C_STORE_RQ, status), None)


def test_a_success_has_none() -> None:
    pair = Pair().establish()
    pair.ends[1].application = Provider()
    store(pair.ends[0], b"data")
    pair.run()
    assert _comment(pair) == (0, None, None)


def test_a_command_set_without_a_comment_is_given_one_and_one_with_it_is_left_alone() -> None:
    for given_, expected in ((None, "unable to process"), ("no such place", "no such place")):
        pair = Pair().establish()
        find(pair.ends[0])
        pair.run()
        (request,) = pair.ends[1].core.performing.values()
        command = response(CommandField.C_FIND_RQ, request.message_id, 0xC001).replace(
            validate=False, ErrorComment=given_
        )
        pair.ends[1].core.respond(request, command)
        pair.run()
        assert _comment(pair) == (0xC001, expected, None)


def test_what_dimse_itself_refuses_says_why() -> None:
    pair = Pair().establish()
    core = pair.ends[0].core
    context = core.need_context(CT)
    core.invoke(
        context,
        Command.make(
            CommandField.C_STORE_RQ, validate=False, AffectedSOPClassUID=CT, AffectedSOPInstanceUID="1.2", Priority=0
        ),
    )
    pair.run()
    assert _comment(pair) == (0xC000, "a C-STORE without a data set", None)


def test_a_message_id_in_use_is_named() -> None:
    pair = Pair().establish()
    find(pair.ends[0])
    pair.run()
    del pair.ends[0].core.outstanding[1]
    core = pair.ends[0].core
    command = Command.make(CommandField.C_FIND_RQ, data_set=True, validate=False, AffectedSOPClassUID=FIND, MessageID=1)
    core.invoke(core.need_context(FIND), command, b"identifier")
    pair.run()
    assert _comment(pair) == (0x0210, "message id 1 still awaits its answer", None)


def test_an_error_of_receiving_tells_its_comment_alone_and_its_elements() -> None:
    assert ReceiveError("cannot write in /archive", 0xA700, comment="cannot write").elements == {
        "ErrorComment": "cannot write"
    }
    assert ReceiveError("Study of DOE^JOHN", offending=(0x0020000D,)).elements == {"OffendingElement": (0x0020000D,)}
    assert ReceiveError("Study of DOE^JOHN").elements == {}


def test_what_is_not_provided_is_named() -> None:
    pair = Pair().establish()
    echo(pair.ends[0])
    pair.run()
    (request,) = pair.ends[1].core.performing.values()
    assert not_provided(request.command) == "C-ECHO-RQ of 1.2.840.10008.1.1 is not provided here"
    pair.ends[1].core.respond_status(request, Status.SOP_CLASS_NOT_SUPPORTED, OffendingElement=(0x00080016,))
    pair.run()
    assert _comment(pair) == (0x0122, "refused: SOP class not supported", (0x00080016,))
