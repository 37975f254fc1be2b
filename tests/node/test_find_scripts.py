"""What a C-FIND answers to whatever a handler gives or raises (PS3.4 C.4.1), without a socket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from tests.node.driving import (
    COMMITMENT,
    IDENTIFIER,
    IMPLICIT,
    MPPS,
    STUDY_FIND,
    Driver,
    answers,
    asked,
    async_source,
    match,
    node_with,
    only,
    statuses,
    unencodable,
)

from dulcet import Answer, Status
from dulcet.dimse.messages import CommandField
from dulcet.errors import (
    AssociationAborted,
    AssociationRefused,
    LocalProtocolError,
    StatusError,
)
from dulcet.node.actions import END, Action, Call, Close, Next, Respond
from dulcet.node.requests import FindRequest, Request
from dulcet.node.scripts import Script, answer
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset

# --- C-FIND ----------------------------------------------------------------------------------------------------------


def find_request(identifier: Dataset | bytes | None = IDENTIFIER) -> Request:
    return asked(CommandField.C_FIND_RQ, STUDY_FIND, identifier)


def test_each_answer_is_a_pending_response_and_success_ends_them() -> None:
    node = node_with("on_find", lambda request: [match("1.1"), match("1.2")])
    responses = answers(node, find_request())
    assert statuses(responses) == [0xFF00, 0xFF00, 0]
    found = [decode_dataset(response.data or b"", IMPLICIT).StudyInstanceUID for response in responses[:2]]
    assert found == ["1.1", "1.2"]
    assert responses[-1].data is None


def test_an_async_generator_of_answers_is_pulled_as_it_is() -> None:
    node = node_with("on_find", lambda request: async_source(1))
    request = find_request()
    script = answer(node, request)
    call = next(script)
    assert isinstance(call, Call)
    action = script.send(call.function(call.argument))
    assert isinstance(action, Next)
    assert hasattr(action.iterator, "__anext__")
    assert isinstance(script.send(END), Close)
    assert script.send(None).status == 0  # type: ignore[union-attr]


def test_the_handler_sees_the_identifier_decoded() -> None:
    seen: list[FindRequest] = []
    assert statuses(answers(node_with("on_find", seen.append), find_request())) == [0]
    (request,) = seen
    assert (request.level, request.identifier.StudyInstanceUID) == ("STUDY", "1.2.3")
    assert request.model is not None
    assert request.model.name == "study"
    assert request.message_id == 7
    assert not request.cancelled
    assert request.sop_instance_uid == ""


def test_an_identifier_without_a_level_or_no_identifier_is_an_empty_one() -> None:
    seen: list[FindRequest] = []
    answers(node_with("on_find", seen.append), find_request(None))
    assert seen[0].level == ""
    assert len(seen[0].identifier) == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [0]),
        (Status.OUT_OF_RESOURCES, [0xA700]),
        (0xFE00, [0xFE00]),
        (0xFF00, [0xC000]),
        (-1, [0xC000]),
        (True, [0xC000]),
        (match(), [0xFF00, 0]),
        ([], [0]),
        (iter([match()]), [0xFF00, 0]),
        ([(0xFF01, match()), (0xFF00, match())], [0xFF01, 0xFF00, 0]),
        ([match(), 0xA700, match()], [0xFF00, 0xA700]),
        ([match(), (0xA700, None)], [0xFF00, 0xA700]),
        ([Answer(0xFF01, match())], [0xFF01, 0]),
        (Answer(0xA700), [0xA700]),
        ([None], [0xC000]),
        ([0xFF00], [0xC000]),
        ([(0xFF00, None)], [0xC000]),
        ([match(), "nonsense"], [0xFF00, 0xC000]),
        ([(0xFF00, "nonsense")], [0xC000]),
        ([unencodable()], [0xC000]),
        (object(), [0xC000]),
        ("abc", [0xC000]),
    ],
)
def test_what_a_find_handler_gives_becomes_statuses(given: Any, expected: list[int]) -> None:
    assert statuses(answers(node_with("on_find", lambda request: given), find_request())) == expected


def test_an_answer_that_is_encoded_already_goes_out_as_it_is() -> None:
    encoded = encode_dataset(match(), IMPLICIT)[0]
    assert answers(node_with("on_find", lambda request: [encoded]), find_request())[0].data == encoded


def test_elements_of_a_pending_answer_and_of_the_last_one_are_sent() -> None:
    given = [Answer(0xFF00, match(), ErrorComment="first"), Answer(0xA700, ErrorComment="full")]
    responses = answers(node_with("on_find", lambda request: given), find_request())
    assert [response.elements for response in responses] == [{"ErrorComment": "first"}, {"ErrorComment": "full"}]


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("boom"), 0xC000), (StatusError("full", 0xA700), 0xA700), (AssociationRefused(1, 1, 1), 0xC000)],
)
def test_a_generator_that_raises_midway_ends_with_a_failure_after_what_it_gave(error: Exception, status: int) -> None:
    def handler(request: FindRequest) -> Iterator[Dataset]:
        yield match()
        raise error

    assert statuses(answers(node_with("on_find", handler), find_request())) == [0xFF00, status]


@pytest.mark.parametrize("last", [[match()], [0xA700], ["nonsense"], [unencodable()], []])
def test_the_generator_is_closed_whatever_ends_it(last: list[Any]) -> None:
    closed = []

    def handler(request: FindRequest) -> Iterator[Any]:
        try:
            yield from last
            yield 0x0000
        finally:
            closed.append(True)

    answers(node_with("on_find", handler), find_request())
    assert closed == [True]


def test_a_cancel_between_two_answers_closes_the_generator_and_is_answered_with_fe00h() -> None:
    given, closed = [], []

    def handler(request: FindRequest) -> Iterator[Dataset]:
        try:
            for number in range(100):
                given.append(number)
                yield match()
        finally:
            closed.append(True)

    request, driver = find_request(), Driver()

    def cancel(action: Action) -> None:
        if isinstance(action, Respond) and len(driver.responses) == 2:
            request._core.cancelled = True

    driver.before = cancel
    assert statuses(answers(node_with("on_find", handler), request, driver)) == [0xFF00] * 3 + [0xFE00]
    assert (len(given), closed) == (4, [True])


def test_an_association_that_ends_while_answering_closes_the_generator() -> None:
    closed = []

    def handler(request: FindRequest) -> Iterator[Dataset]:
        try:
            yield match()
            yield match()
        finally:
            closed.append(True)

    request, driver = find_request(), Driver()

    def lose(action: Action) -> None:
        if isinstance(action, Respond):
            raise AssociationAborted(0, 0)

    driver.before = lose
    with pytest.raises(AssociationAborted):
        driver.run(answer(node_with("on_find", handler), request), request)
    assert closed == [True]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x08\x00\x52\x00\xff\xff\xff\x00STUDY", id="length beyond its end"),
        pytest.param(b"\x28\x00\x10\x00\x03\x00\x00\x00\x01\x02\x03", id="half a number"),
        pytest.param(encode_dataset(IDENTIFIER, IMPLICIT)[0][:-1], id="a byte short"),
        pytest.param(b"\x40\x00\x00\x01\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 2000, id="nested too deep"),
    ],
)
def test_an_identifier_that_does_not_decode_is_c000h_and_reaches_no_handler(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[FindRequest] = []
    response = only(node_with("on_find", called.append), find_request(data))
    assert response.status == 0xC000
    assert response.elements == {"ErrorComment": "the data set does not decode"}
    assert called == []


def test_what_cannot_be_encoded_is_logged_without_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    secret = Dataset()
    secret.add_new(0x00100010, "US", "DOE^JOHN")
    answers(node_with("on_find", lambda request: [secret]), find_request())
    assert "cannot be encoded" in caplog.text
    assert "DOE" not in caplog.text


def test_command_elements_that_do_not_exist_are_a_failure_not_the_end() -> None:
    node = node_with("on_find", lambda request: [Answer(0xFF00, match(), Bogus=1)])
    assert statuses(answers(node, find_request())) == [0xC000]
    node = node_with("on_n_set", lambda request: Answer(0, EventTypeID="text"))
    assert only(node, asked(CommandField.N_SET_RQ, MPPS, match())).status == 0x0110


def test_what_cannot_be_sent_after_the_final_response_is_raised() -> None:
    def then() -> Script:
        raise LocalProtocolError("too late")
        yield

    node = node_with("on_n_action", lambda request: Answer(then=then))
    request, driver = asked(CommandField.N_ACTION_RQ, COMMITMENT), Driver()
    with pytest.raises(LocalProtocolError):
        driver.run(answer(node, request), request)
    assert statuses(driver.responses) == [0]


def test_nothing_is_logged_of_what_a_data_set_holds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    planted = build_identifier({"PatientName": "PLANTED^NAME", "PatientID": "SECRET77"}, level="PATIENT")
    answers(node_with("on_find", lambda request: [planted, object()]), find_request(planted))
    bad = encode_dataset(planted, IMPLICIT)[0] + b"\x28\0\x10\0\x03\0\0\0abc"
    answers(node_with("on_find", lambda request: []), find_request(bad))
    assert "PLANTED" not in caplog.text
    assert "SECRET77" not in caplog.text
