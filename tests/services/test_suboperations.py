"""Counters, failed instances and the final status of C-GET and C-MOVE (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulcet.dimse.status import Status
from dulcet.errors import InstanceError
from dulcet.services.results import Sent
from dulcet.services.suboperations import MAX_COUNT, MAX_FAILED_UIDS, SubOperations

SUCCESS, WARNING, FAILURE = 0x0000, 0xB007, 0xA700


def sent(status: int | None, uid: str = "1.2.3") -> Sent:
    error = InstanceError("unreadable") if status is None else None
    return Sent("path", None if status is None else Status(status), error, sop_instance_uid=uid)


def after(total: int | None, *statuses: int | None) -> SubOperations:
    operations = SubOperations(total)
    for number, status in enumerate(statuses):
        operations.count(sent(status, f"1.{number}"))
    return operations


def test_what_is_to_be_done_and_what_was_done_add_up() -> None:
    operations = after(5, SUCCESS, WARNING, FAILURE)
    assert (operations.remaining, operations.done) == (2, 3)
    assert operations.pending() == {
        "NumberOfRemainingSuboperations": 2,
        "NumberOfCompletedSuboperations": 1,
        "NumberOfFailedSuboperations": 1,
        "NumberOfWarningSuboperations": 1,
    }
    assert operations.counters().keys() == operations.pending().keys() - {"NumberOfRemainingSuboperations"}


@pytest.mark.parametrize(
    ("statuses", "final"),
    [
        ((), 0x0000),
        ((SUCCESS,), 0x0000),
        ((SUCCESS, WARNING), 0xB000),
        ((WARNING,), 0xB000),
        ((FAILURE, SUCCESS), 0xB000),
        ((FAILURE, WARNING), 0xB000),
        ((FAILURE, FAILURE), 0xA702),
        ((None,), 0xA702),
    ],
)
def test_the_final_status(statuses: tuple[int | None, ...], final: int) -> None:
    status, elements = after(len(statuses), *statuses).final()
    assert status == final
    assert "NumberOfRemainingSuboperations" not in elements


def test_a_cancelled_operation_says_what_remains() -> None:
    status, elements = after(3, SUCCESS).final(cancelled=True)
    assert status == 0xFE00
    assert elements["NumberOfRemainingSuboperations"] == 2


def test_an_unknown_total_has_one_remaining_until_the_end() -> None:
    assert after(None, SUCCESS, SUCCESS).pending()["NumberOfRemainingSuboperations"] == 1


def test_a_total_that_was_too_small_leaves_nothing_remaining() -> None:
    assert after(1, SUCCESS, SUCCESS).remaining == 0


@pytest.mark.parametrize(("total", "failed"), [(5, 4), (None, 1), (1, 0)])
def test_what_is_given_up_failed(total: int | None, failed: int) -> None:
    operations = after(total, SUCCESS)
    operations.give_up()
    assert operations.failed == failed


def test_counters_stop_at_what_they_can_say() -> None:
    operations = SubOperations(MAX_COUNT + 10)
    operations.completed = operations.failed = operations.warning = MAX_COUNT + 1
    assert set(operations.counters().values()) == {MAX_COUNT}
    operations = SubOperations(MAX_COUNT + 10)
    assert operations.pending()["NumberOfRemainingSuboperations"] == MAX_COUNT


def test_failed_instances_are_listed() -> None:
    operations = after(4, SUCCESS, FAILURE, None, WARNING)
    identifier = operations.failed_list()
    assert identifier is not None
    assert list(identifier.FailedSOPInstanceUIDList) == ["1.1", "1.2"]


def test_nothing_failed_is_no_list_and_an_instance_without_a_uid_is_not_in_it() -> None:
    assert after(1, SUCCESS).failed_list() is None
    operations = SubOperations(1)
    operations.count(sent(None, ""))
    assert operations.failed_list() is None
    assert operations.failed == 1


def test_the_list_of_failed_instances_has_an_end() -> None:
    operations = SubOperations(None)
    operations.failed_uids = ["1.2"] * MAX_FAILED_UIDS
    operations.count(sent(FAILURE))
    assert len(operations.failed_uids) == MAX_FAILED_UIDS
    assert operations.failed == 1


@given(st.lists(st.sampled_from([SUCCESS, WARNING, FAILURE, 0x0124, 0xFE00, None])), st.integers(0, 20))
def test_every_sub_operation_is_counted_once(statuses: list[int | None], more: int) -> None:
    total = len(statuses) + more
    operations = after(total, *statuses)
    assert operations.completed + operations.failed + operations.warning == len(statuses)
    assert operations.remaining == more
    assert len(operations.failed_uids) == operations.failed
