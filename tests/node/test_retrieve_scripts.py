"""What a C-GET or C-MOVE answers to whatever a handler gives or raises (PS3.4 C.4.2, C.4.3), without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from tests.node.driving import (
    DESTINATION,
    IDENTIFIER,
    STUDY_GET,
    STUDY_MOVE,
    Driver,
    answers,
    asked,
    async_source,
    counters,
    failed_uids,
    match,
    node_with,
    only,
    raising,
    sent_ok,
    statuses,
)

from dulcet import Answer, Status
from dulcet.dimse.messages import CommandField
from dulcet.errors import (
    AssociationAborted,
    AssociationRefused,
    DimseTimeout,
    InstanceError,
    PeerUnreachable,
    StatusError,
)
from dulcet.node.actions import Action, Call, Forward, Respond, SendHere
from dulcet.node.requests import Request, RetrieveRequest
from dulcet.node.scripts import answer
from dulcet.services.results import Sent
from dulcet.upper_layer.address import Address

# --- C-GET, C-MOVE ---------------------------------------------------------------------------------------------------


def get_request(identifier: Dataset | bytes | None = IDENTIFIER) -> Request:
    return asked(CommandField.C_GET_RQ, STUDY_GET, identifier, Priority=2)


def move_request(destination: str | None = "DEST") -> Request:
    return asked(CommandField.C_MOVE_RQ, STUDY_MOVE, IDENTIFIER, MoveDestination=destination, Priority=1)


def sending(*results: int | Exception | None) -> Callable[[Any], Iterator[Sent]]:
    """Sub-operations that end with these statuses, for items that are their own UIDs; None was not answered."""

    def send(items: Iterable[Any]) -> Iterator[Sent]:
        outcomes = iter(results)
        for item in items:
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            yield sent_ok(item, outcome)

    return send


def retrieved(given: Any, *results: int | Exception | None, move: bool = False) -> list[Respond]:
    driver = Driver()
    driver.send = sending(*results)
    if move:
        node = node_with("on_move", lambda request: given, peers={"DEST": DESTINATION})
        return answers(node, move_request(), driver)
    return answers(node_with("on_get", lambda request: given), get_request(), driver)


@pytest.mark.parametrize("move", [False, True])
def test_counters_count_up_and_remaining_is_in_pending_responses_alone(move: bool) -> None:
    responses = retrieved(["1.1", "1.2", "1.3"], 0, 0xB000, 0, move=move)
    assert statuses(responses) == [0xFF00, 0xFF00, 0xB000]
    assert [counters(response) for response in responses] == [(2, 1, 0, 0), (1, 1, 0, 1), (None, 2, 0, 1)]
    assert responses[-1].data is None


@pytest.mark.parametrize(
    ("results", "status", "counted", "failed"),
    [
        ((0, 0), 0x0000, (None, 2, 0, 0), []),
        ((0, 0xB000), 0xB000, (None, 1, 0, 1), []),
        ((0xB007, 0xB000), 0xB000, (None, 0, 0, 2), []),
        ((0, 0xA700), 0xB000, (None, 1, 1, 0), ["1.2"]),
        ((0xA700, 0xB000), 0xB000, (None, 0, 1, 1), ["1.1"]),
        ((0xC000, None), 0xA702, (None, 0, 2, 0), ["1.1", "1.2"]),
    ],
)
def test_the_final_status_follows_from_the_sub_operations(
    results: tuple[int | None, ...], status: int, counted: tuple[int | None, ...], failed: list[str]
) -> None:
    last = retrieved(["1.1", "1.2"], *results)[-1]
    assert (last.status, counters(last)) == (status, counted)
    assert (failed_uids(last) if failed else last.data) == (failed or None)


@pytest.mark.parametrize("nothing", [None, [], (), iter(()), Status.SUCCESS])
@pytest.mark.parametrize("move", [False, True])
def test_nothing_to_send_is_a_success_with_zero_counters(nothing: Any, move: bool) -> None:
    (response,) = retrieved(nothing, move=move)
    assert (response.status, counters(response), response.data) == (0, (None, 0, 0, 0), None)


def test_an_unknown_total_keeps_one_remaining_until_the_end() -> None:
    responses = retrieved(iter(["1.1", "1.2"]), 0, 0)
    assert [counters(response) for response in responses] == [(1, 1, 0, 0), (1, 2, 0, 0), (None, 2, 0, 0)]


def test_more_than_65535_sub_operations_count_as_that_many() -> None:
    class Many(list[str]):
        def __len__(self) -> int:
            return 70_000

    responses = retrieved(Many(["1.1"]), 0)
    assert counters(responses[0]) == (65535, 1, 0, 0)


@pytest.mark.parametrize("single", ["a/path.dcm", Path("a/path.dcm"), b"DICM", match(), memoryview(b"DICM")])
def test_one_instance_alone_stands_for_a_list_of_one(single: Any) -> None:
    (response,) = retrieved(single, 0)
    assert (response.status, counters(response)) == (0, (None, 1, 0, 0))


def test_an_open_file_is_one_instance(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"1\n2\n3\n")
    with path.open("rb") as file:
        assert counters(retrieved(file, 0)[-1]) == (None, 1, 0, 0)


@pytest.mark.parametrize(
    ("given", "status"),
    [(0xA701, 0xA701), (Answer(0x0124), 0x0124), (0xFF00, 0xC000), (object(), 0xC000), (True, 0xC000), (3.5, 0xC000)],
)
def test_a_status_instead_of_instances_is_the_answer(given: Any, status: int) -> None:
    driver = Driver()
    assert only(node_with("on_get", lambda request: given), get_request(), driver).status == status
    assert driver.of(SendHere) == []


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), 0xC000), (StatusError("no", 0xA701), 0xA701)])
def test_a_retrieve_handler_that_raises_is_a_failure(error: Exception, status: int) -> None:
    assert only(node_with("on_get", raising(error)), get_request()).status == status


def test_a_retrieve_identifier_that_does_not_decode_is_c000h() -> None:
    assert (
        only(node_with("on_get", lambda request: []), get_request(b"\x08\x00\x52\x00\xff\xff\xff\x00")).status == 0xC000
    )


def test_a_c_get_sends_here_with_its_priority_and_a_c_move_to_its_destination() -> None:
    driver = Driver()
    only(node_with("on_get", lambda request: []), get_request(), driver)
    assert driver.of(SendHere)[0].priority == 2
    driver = Driver()
    node = node_with("on_move", lambda request: [], peers={"DEST": DESTINATION}, move_associations=3)
    only(node, move_request(), driver)
    (forward,) = driver.of(Forward)
    assert (forward.address, forward.priority, forward.originator, forward.associations) == (
        Address.parse(DESTINATION), 1, ("THEM", 7), 3,
    )  # fmt: skip


@pytest.mark.parametrize("destination", ["NOBODY", None, "dest"])
def test_an_unknown_destination_is_a801h_and_the_handler_is_not_asked(destination: str | None) -> None:
    seen: list[RetrieveRequest] = []
    node = node_with("on_move", seen.append, peers={"DEST": DESTINATION})
    assert only(node, move_request(destination)).status == 0xA801
    assert seen == []


def test_the_handler_of_a_c_move_sees_the_destination() -> None:
    seen: list[RetrieveRequest] = []
    answers(node_with("on_move", seen.append, peers={"DEST": DESTINATION}), move_request())
    assert seen[0].destination == "DEST"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PeerUnreachable("away"), "the move destination cannot be reached, see the provider's log"),
        (AssociationRefused(1, 1, 7), "the move destination refused the association (1,1,7)"),
        (DimseTimeout("late"), "the rest could not be sent, see the provider's log"),
        (AssociationAborted(0, 0), "the rest could not be sent, see the provider's log"),
    ],
)
def test_a_destination_that_cannot_be_had_is_a702h_with_all_failed(error: Exception, said: str) -> None:
    (response,) = retrieved(["1.1", "1.2"], error, move=True)
    assert (response.status, counters(response)) == (0xA702, (None, 0, 2, 0))
    assert response.elements["ErrorComment"] == said
    assert len(said) <= 64


def test_sub_operations_that_come_to_an_end_leave_the_rest_failed() -> None:
    last = retrieved(["1.1", "1.2", "1.3"], 0, PeerUnreachable("away"), move=True)[-1]
    assert (last.status, counters(last)) == (0xB000, (None, 1, 2, 0))


def test_a_lost_association_ends_a_c_get_and_closes_what_the_handler_gave() -> None:
    closed = []

    def handler(request: RetrieveRequest) -> Iterator[str]:
        try:
            yield "1.1"
            yield "1.2"
        finally:
            closed.append(True)

    request, driver = get_request(), Driver()
    driver.send = sending(AssociationAborted(0, 0))
    with pytest.raises(AssociationAborted):
        driver.run(answer(node_with("on_get", handler), request), request)
    assert closed == [True]
    assert driver.responses == []


def test_a_fault_in_sending_by_c_get_is_a_failure_of_the_operation() -> None:
    (response,) = retrieved(["1.1"], ZeroDivisionError())
    assert (response.status, counters(response)) == (0xA702, (None, 0, 1, 0))


def failing_after(count: int, error: Exception) -> Callable[[RetrieveRequest], Iterator[str]]:
    def handler(request: RetrieveRequest) -> Iterator[str]:
        for number in range(count):
            yield f"1.{number}"
        raise error

    return handler


def test_a_generator_that_raises_midway_has_sent_what_it_gave(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    driver.send = sending(0, 0)
    last = answers(node_with("on_get", failing_after(2, RuntimeError("boom"))), get_request(), driver)[-1]
    assert (last.status, counters(last)) == (0xB000, (None, 2, 1, 0))
    assert "boom" in caplog.text


def test_a_generator_that_raises_at_once_could_send_nothing() -> None:
    last = answers(node_with("on_get", failing_after(0, RuntimeError("boom"))), get_request())[-1]
    assert (last.status, counters(last)) == (0xA702, (None, 0, 1, 0))


def test_a_status_that_a_generator_raises_ends_the_retrieve_with_it() -> None:
    driver = Driver()
    driver.send = sending(0)
    last = answers(node_with("on_get", failing_after(1, StatusError("no", 0xA701))), get_request(), driver)[-1]
    assert (last.status, counters(last)) == (0xA701, (None, 1, 0, 0))


def test_a_source_that_failed_gives_nothing_more() -> None:
    class Stubborn:
        def __iter__(self) -> Stubborn:
            return self

        def __next__(self) -> str:
            raise RuntimeError("again")

    driver = Driver()
    driver.send = lambda items: (sent_ok(item) for item in [*items, *items])
    assert only(node_with("on_get", lambda request: Stubborn()), get_request(), driver).status == 0xA702


@pytest.mark.parametrize("move", [False, True])
def test_a_cancel_between_sub_operations_is_fe00h_with_what_remains(move: bool) -> None:
    closed, driver = [], Driver()
    request = move_request() if move else get_request()

    def send(items: Iterable[Any]) -> Iterator[Sent]:
        try:
            for item in items:
                yield sent_ok(item)
        finally:
            closed.append("sending")

    def cancel(action: Action) -> None:
        if isinstance(action, Respond) and len(driver.responses) == 1:
            request._core.cancelled = True

    driver.send, driver.before = send, cancel
    if move:
        node = node_with("on_move", lambda request: ["1.1", "1.2", "1.3"], peers={"DEST": DESTINATION})
    else:
        node = node_with("on_get", lambda request: ["1.1", "1.2", "1.3"])
    responses = answers(node, request, driver)
    assert statuses(responses) == [0xFF00, 0xFF00, 0xFE00]
    assert counters(responses[-1]) == (1, 2, 0, 0)
    assert closed == ["sending"]


def test_a_cancelled_retrieve_takes_nothing_more_from_its_handler() -> None:
    given: list[str] = []

    def handler(request: RetrieveRequest) -> Iterator[str]:
        for number in range(100):
            given.append(f"1.{number}")
            yield given[-1]

    request, driver = get_request(), Driver()

    def send(items: Iterable[Any]) -> Iterator[Sent]:
        batch = []
        for item in items:
            batch.append(item)
            request._core.cancelled = len(batch) == 5
        yield from map(sent_ok, batch)

    driver.send = send
    last = answers(node_with("on_get", handler), request, driver)[-1]
    assert len(given) == 5
    assert last.status == 0xFE00


def test_a_cancel_after_the_last_sub_operation_changes_nothing() -> None:
    request, driver = get_request(), Driver()

    def send(items: Iterable[Any]) -> Iterator[Sent]:
        yield from [sent_ok(item) for item in items]
        request._core.cancelled = True

    driver.send = send
    assert statuses(answers(node_with("on_get", lambda request: ["1.1"]), request, driver)) == [0]


def test_an_association_that_ends_while_counting_closes_everything() -> None:
    closed: list[str] = []

    def handler(request: RetrieveRequest) -> Iterator[str]:
        try:
            yield "1.1"
            yield "1.2"
        finally:
            closed.append("handler")

    def send(items: Iterable[Any]) -> Iterator[Sent]:
        try:
            for item in items:
                yield sent_ok(item)
        finally:
            closed.append("sending")

    request, driver = get_request(), Driver()

    def lose(action: Action) -> None:
        if isinstance(action, Respond):
            raise AssociationAborted(0, 0)

    driver.send, driver.before = send, lose
    with pytest.raises(AssociationAborted):
        driver.run(answer(node_with("on_get", handler), request), request)
    assert closed == ["sending", "handler"]


def test_failures_are_logged_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    driver.send = lambda items: iter([Sent("x", None, InstanceError("no such file", "x")), sent_ok("1.2", 0xA900)])
    responses = answers(node_with("on_get", lambda request: ["x", "1.2"]), get_request(), driver)
    assert "no such file" in caplog.text
    assert "A900H" in caplog.text
    assert failed_uids(responses[-1]) == ["1.2"], "what has no UID cannot be listed"


@pytest.mark.outside  # an event loop has a pair of sockets
def test_an_async_generator_is_handed_on_as_one() -> None:
    """A face with an event loop iterates it; it ends on a cancel and keeps what was raised, as the plain one does."""
    for count, error, cancelled, expected in (
        (2, None, False, ["1.0", "1.1"]),
        (2, RuntimeError("boom"), False, ["1.0", "1.1"]),
        (2, None, True, []),
    ):
        request = get_request()
        script = answer(node_with("on_get", lambda request, c=count, e=error: async_source(c, e)), request)  # type: ignore[misc]
        call = next(script)
        assert isinstance(call, Call)
        sent = script.send(call.function(call.argument))
        assert isinstance(sent, SendHere)
        request._core.cancelled = cancelled

        async def collected(items: Any) -> list[Any]:
            found = [item async for item in items]
            return found + [item async for item in items]

        assert asyncio.run(collected(sent.items)) == expected
        assert sent.items.failure is error  # type: ignore[union-attr]
