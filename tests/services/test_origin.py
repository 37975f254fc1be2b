"""Whose C-MOVE an instance comes from."""

from __future__ import annotations

from typing import Any

import pytest

from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.errors import ReceiveError
from dulcet.services.origin import Origin

HOST = "10.0.0.1"


def store(**elements: Any) -> Command:
    return Command.make(CommandField.C_STORE_RQ, data_set=True, validate=False, MessageID=1, **elements)


def origin() -> Origin:
    found = Origin("ME", "ARCHIVE", HOST)
    found.message_id = 7
    return found


@pytest.mark.parametrize("title", ["ME", "ME ", "ARCHIVE"])
def test_the_instances_of_our_move_are_taken_from_anybody(title: str) -> None:
    command = store(MoveOriginatorApplicationEntityTitle=title, MoveOriginatorMessageID=7)
    origin().check(command, "ANYBODY", "10.9.9.9:5000")


@pytest.mark.parametrize(("title", "message_id"), [("ME", 8), ("OTHER", 7), ("OTHER", None), (None, 6)])
def test_those_of_another_move_are_refused(title: str | None, message_id: int | None) -> None:
    command = store(MoveOriginatorApplicationEntityTitle=title, MoveOriginatorMessageID=message_id)
    with pytest.raises(ReceiveError, match="not this one") as refused:
        origin().check(command, "ARCHIVE", f"{HOST}:5000")
    assert refused.value.status == 0x0124
    assert 0 < len(refused.value.comment) <= 64


@pytest.mark.parametrize(("calling", "host"), [("ARCHIVE", "10.9.9.9"), ("STORER", HOST)])
def test_who_leaves_the_originator_out_is_known_by_title_or_host(
    calling: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = origin()
    for _ in range(3):
        found.check(store(), calling, f"{host}:5000")
    assert caplog.text.count("leaves Move Originator out") == 1


def test_a_stranger_without_an_originator_is_refused() -> None:
    with pytest.raises(ReceiveError, match="whom nobody asked"):
        origin().check(store(), "STRANGER", "10.9.9.9:5000")
