"""The example with four parties: who numbers what, whose number an answer names, what the counters say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from dulcet.dimse.status import Status

EXAMPLE = Path(__file__).parents[2] / "examples" / "moving_composite_data.py"
ASKED = 70
PENDING = Status.PENDING


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def numbers(example: dict[str, Any], sender: str, receiver: str, message: str) -> list[int]:
    return [
        number
        for from_, to, name, number in example["STEPS"]
        if (from_, to) == (sender, receiver) and name.startswith(message)
    ]


def test_each_numbers_its_own_messages_and_answers_name_the_askers(example: dict[str, Any]) -> None:
    responses = example["run"]()
    assert numbers(example, "A", "B", "C-MOVE-RQ") == [ASKED]
    assert numbers(example, "B", "C", "C-GET-RQ") == [500]
    assert numbers(example, "C", "B", "C-STORE-RQ") == [201, 202, 203]
    assert numbers(example, "B", "D", "C-STORE-RQ") == [901, 902, 903]
    assert {response[0] for response in responses} == {ASKED}


def test_the_originator_is_who_asked_for_the_move(example: dict[str, Any]) -> None:
    example["run"]()
    stores = [name for from_, to, name, _ in example["STEPS"] if (from_, to) == ("B", "D")]
    assert stores == [f"C-STORE-RQ for A {ASKED}"] * 3


def test_pending_responses_carry_the_counters_and_the_last_one_no_remaining(example: dict[str, Any]) -> None:
    assert example["run"]() == [
        (ASKED, PENDING, 2, 1, 0, 0, None),
        (ASKED, PENDING, 1, 2, 0, 0, None),
        (ASKED, Status.SUCCESS, None, 3, 0, 0, None),
    ]


def test_a_refused_instance_is_counted_and_listed(example: dict[str, Any]) -> None:
    responses = example["run"](refused=("1.2.826.0.1.2",))
    assert responses == [
        (ASKED, PENDING, 2, 1, 0, 0, None),
        (ASKED, PENDING, 1, 1, 1, 0, None),
        (ASKED, Status.SUBOPERATIONS_FAILED, None, 2, 1, 0, "1.2.826.0.1.2"),
    ]


def test_an_unknown_destination_is_a801(example: dict[str, Any]) -> None:
    responses = example["run"](destination="NOWHERE")
    assert [response[:2] for response in responses] == [(ASKED, Status.MOVE_DESTINATION_UNKNOWN)]
    assert numbers(example, "B", "C", "C-GET-RQ") == []


def test_cancel_stops_between_sub_operations(example: dict[str, Any]) -> None:
    responses = example["run"](cancel_after=1, count=50)
    status, remaining, completed, failed = responses[-1][1:5]
    assert status == Status.CANCEL
    assert remaining == 50 - completed > 40
    assert failed == 0
    assert len(numbers(example, "B", "D", "C-STORE-RQ")) == completed
