"""Every failure that a node, its services and its folders give says why: status, comment, and the tag it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from tests.node.driving import (
    COMMITMENT,
    CT,
    IDENTIFIER,
    IMPLICIT,
    MPPS,
    STUDY_FIND,
    STUDY_MOVE,
    Driver,
    answers,
    asked,
    instance,
    match,
    node_with,
    only,
    raising,
    unencodable,
)
from tests.services.test_mpps import BEGIN
from tests.services.test_ups import new_step

import dulcet.node.mpps
from dulcet import Answer, Node, Status
from dulcet.dimse.messages import CommandField
from dulcet.errors import COMMENT_LENGTH, ReceiveError
from dulcet.io.durable_file import refused
from dulcet.io.store_directory import StoreDirectory
from dulcet.node.commitment import StorageCommitment
from dulcet.node.requests import Request
from dulcet.node.ups import UnifiedProcedureSteps
from dulcet.services.commitment import SOP_INSTANCE
from dulcet.services.identifiers import build_identifier, encode_dataset
from dulcet.services.refusals import Refused
from dulcet.services.ups import GLOBAL, PUSH

NO_ANSWER = "what the application gave is no answer, see its log"
FAILED = "the application failed, see its log"


def find(data: Dataset | bytes = IDENTIFIER) -> Request:
    return asked(CommandField.C_FIND_RQ, STUDY_FIND, data)


def store() -> Request:
    return asked(CommandField.C_STORE_RQ, CT, AffectedSOPInstanceUID="1.2.3")


def move() -> Request:
    return asked(CommandField.C_MOVE_RQ, STUDY_MOVE, IDENTIFIER, MoveDestination="NOBODY")


def create(sop_class: str = MPPS, data: Dataset | None = None, **elements: Any) -> Request:
    return asked(CommandField.N_CREATE_RQ, sop_class, data or match(), **elements)


def change(sop_class: str = MPPS, uid: str = "1.9") -> Request:
    return asked(CommandField.N_SET_RQ, sop_class, match(), RequestedSOPInstanceUID=uid)


def act(sop_class: str, action: int, uid: str, **keys: Any) -> Request:
    data = build_identifier(keys) if keys else None
    return asked(CommandField.N_ACTION_RQ, sop_class, data, RequestedSOPInstanceUID=uid, ActionTypeID=action)


SCRIPTS: list[tuple[Callable[[], Node], Request, int, str]] = [
    (lambda: Node("US"), find(), 0x0122, f"C-FIND-RQ of {STUDY_FIND} is not provided here"),
    (lambda: Node("US"), store(), 0x0122, f"C-STORE-RQ of {CT} is not provided here"),
    (lambda: Node("US"), create(), 0x0122, f"N-CREATE-RQ of {MPPS} is not provided here"),
    (lambda: node_with("on_find", raising(ValueError("DOE^JOHN"))), find(), 0xC000, FAILED),
    (lambda: node_with("on_store", raising(ValueError("DOE^JOHN"))), store(), 0xC000, FAILED),
    (lambda: node_with("on_n_create", raising(ValueError("DOE^JOHN"))), create(), 0x0110, FAILED),
    (lambda: node_with("on_find", lambda request: "x"), find(), 0xC000, NO_ANSWER),
    (lambda: node_with("on_find", lambda request: [Status.PENDING]), find(), 0xC000, NO_ANSWER),
    (lambda: node_with("on_find", lambda request: 0xFF00), find(), 0xC000, NO_ANSWER),
    (lambda: node_with("on_find", lambda request: [unencodable()]), find(), 0xC000, "an answer cannot be encoded"),
    (lambda: node_with("on_find", lambda request: []), find(b"\xff" * 9), 0xC000, "the data set does not decode"),
    (lambda: node_with("on_store", lambda request: match()), store(), 0xC000, NO_ANSWER),
    (
        lambda: node_with("on_move", lambda request: []),
        move(),
        0xA801,
        "NOBODY is no known peer here; add it to its table",
    ),
    (
        lambda: node_with("on_find", raising(Refused(0xA700, "come again tonight"))),
        find(),
        0xA700,
        "come again tonight",
    ),
    (
        lambda: node_with("on_store", lambda request: Answer(0xA700, ErrorComment="the disk is full")),
        store(),
        0xA700,
        "the disk is full",
    ),
    (
        lambda: node_with("on_find", lambda request: [Answer(0xA700, ErrorComment="too many")]),
        find(),
        0xA700,
        "too many",
    ),
]


@pytest.mark.parametrize(("make", "request_", "status", "comment"), SCRIPTS)
def test_a_node_says_why(make: Callable[[], Node], request_: Request, status: int, comment: str) -> None:
    last = answers(make(), _again(request_))[-1]
    assert (last.status, last.elements["ErrorComment"]) == (status, comment)


def _again(request: Request) -> Request:
    """The same request, not answered yet."""
    request._core.answered = False
    return request


def test_what_cannot_be_received_says_its_reason_and_the_tag() -> None:
    driver = Driver()
    comment = "Series Instance UID: the data set has none"
    driver.received = ReceiveError("none in it", comment=comment, offending=(0x0020000E,))
    response = only(node_with("on_store", lambda request: None), store(), driver)
    assert response.status == 0xC000
    assert response.elements == {
        "ErrorComment": "Series Instance UID: the data set has none",
        "OffendingElement": (0x0020000E,),
    }


# --- the services that are ready-made --------------------------------------------------------------------------------


def mpps() -> Node:
    node = Node("RIS")
    dulcet.node.mpps.MPPS(node)
    return node


def ups() -> Node:
    node = Node("MANAGER")
    UnifiedProcedureSteps(node)
    return node


def commitment() -> Node:
    node = Node("ARCHIVE")
    StorageCommitment(node, lambda reference: True)
    return node


SERVICES: list[tuple[Callable[[], Node], Request, int, str]] = [
    (mpps, change(), 0x0112, "no step of this UID was created here"),
    (
        mpps,
        asked(CommandField.N_GET_RQ, MPPS, RequestedSOPInstanceUID="1.9"),
        0x0112,
        "no step of this UID was created here",
    ),
    (ups, act(PUSH, 9, "1.9"), 0x0123, "action 9; a UPS knows 1 to 5"),
    (ups, act(PUSH, 1, "1.9"), 0x0115, "ProcedureStepState is missing or unknown"),
    (
        ups,
        act(PUSH, 1, "1.9", ProcedureStepState="IN PROGRESS", TransactionUID="1.4"),
        0xC307,
        "no such UPS instance is managed here",
    ),
    (ups, act(PUSH, 3, "1.9"), 0x0115, "ReceivingAE is missing"),
    (
        ups,
        act(PUSH, 3, "1.9", ReceivingAE="AWAY", DeletionLock="TRUE"),
        0xC308,
        "AWAY is no known peer here; add it to its table",
    ),
    (ups, act(PUSH, 5, "1.9", ReceivingAE="AWAY"), 0xC314, "only a global subscription can be suspended"),
    (ups, act(PUSH, 1, GLOBAL, ProcedureStepState="CANCELED"), 0xC314, "a well-known UID of subscriptions is no step"),
    (
        ups,
        create(PUSH, new_step(), AffectedSOPInstanceUID=GLOBAL),
        0x0117,
        "a well-known UID of subscriptions is no step",
    ),
    (ups, asked(CommandField.N_GET_RQ, PUSH, RequestedSOPInstanceUID="1.9"), 0xC307, ""),
    (
        commitment,
        act(COMMITMENT, 2, SOP_INSTANCE, TransactionUID="1.2"),
        0x0123,
        "action 2; storage commitment knows 1",
    ),
    (commitment, act(COMMITMENT, 1, "1.2", TransactionUID="1.2"), 0x0112, f"the one instance is {SOP_INSTANCE}"),
    (commitment, act(COMMITMENT, 1, SOP_INSTANCE, PatientID="x"), 0x0115, "TransactionUID is missing"),
]


@pytest.mark.parametrize(("make", "request_", "status", "comment"), SERVICES)
def test_a_service_says_why(make: Callable[[], Node], request_: Request, status: int, comment: str) -> None:
    """Where it says nothing of its own, the core says the status in words."""
    response = only(make(), _again(request_))
    assert (response.status, response.elements.get("ErrorComment", "")) == (status, comment)


def test_a_second_step_of_one_uid_says_why() -> None:
    node = mpps()
    assert only(node, create(MPPS, build_identifier(BEGIN), AffectedSOPInstanceUID="1.9")).status == 0
    second = only(node, create(MPPS, build_identifier(BEGIN), AffectedSOPInstanceUID="1.9"))
    assert (second.status, second.elements["ErrorComment"]) == (0x0111, "a step of this UID was created before")


# --- folders ---------------------------------------------------------------------------------------------------------


def _refused(place: StoreDirectory, data: Dataset | bytes, uid: str = "1.2.3") -> ReceiveError:
    incoming = place.begin(CT, uid, IMPLICIT)
    encoded = encode_dataset(data, IMPLICIT)[0] if isinstance(data, Dataset) else data
    incoming.write(memoryview(encoded))
    with pytest.raises(ReceiveError) as caught:
        incoming.commit()
    incoming.discard()
    return caught.value


def test_a_uid_of_a_data_set_is_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    place = StoreDirectory(tmp_path, durability="none")
    data = encode_dataset(instance("1.2.4"), IMPLICIT)[0].replace(b"1.2.4\0", b"1\n\x1b[2J")
    refusal = _refused(place, data)
    assert refusal.status == 0xA900
    assert r"\n\x1b[2J" in str(refusal)
    assert str(refusal).isprintable()


def test_a_folder_says_why(tmp_path: Path) -> None:
    place = StoreDirectory(tmp_path, durability="none")
    assert _refused(place, b"").comment == "the data set is empty"
    other = _refused(place, instance("1.2.4"))
    assert (other.comment, other.offending) == ("SOP Instance UID of data set and request differ", (0x00080018,))


def test_a_path_of_ours_is_for_the_log_and_not_for_the_peer(tmp_path: Path) -> None:
    refusal = refused(tmp_path, OSError(28, "No space left on device"))
    assert str(tmp_path) in str(refusal)
    assert refusal.comment == "cannot write: No space left on device"
    assert len(refusal.comment) <= COMMENT_LENGTH


@pytest.mark.parametrize(
    ("given", "asked_for", "warned"),
    [
        (None, None, True),
        (None, "1.9", False),
        (Answer(0, AffectedSOPInstanceUID="1.9"), None, False),
        (0x0110, None, False),
    ],
)
def test_an_instance_whose_uid_nobody_says_is_worth_a_warning(
    given: Any, asked_for: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """PS3.7 section 10.1.5: the requestor may leave the UID to the provider, which then has to say it."""
    only(node_with("on_n_create", lambda request: given), create(AffectedSOPInstanceUID=asked_for))
    assert ("DUL219" in [getattr(record, "code", "") for record in caplog.records]) is warned
