"""What each service answers to whatever a handler gives or raises (PS3.7 sections 9 and 10), without a socket."""

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
    NONSENSE,
    STUDY_FIND,
    Driver,
    asked,
    instance,
    match,
    node_with,
    only,
    raising,
    unencodable,
)

from dulcet import Answer, Node, Status, uids
from dulcet.dimse.messages import CommandField
from dulcet.errors import (
    AssociationAborted,
    AssociationRefused,
    DimseTimeout,
    LocalProtocolError,
    PeerUnreachable,
    ReceiveError,
    StatusError,
)
from dulcet.io.store_directory import StoreDirectory
from dulcet.node.actions import Call, Receive, ReportHere, Respond
from dulcet.node.requests import NormalizedRequest, Request, StoreRequest
from dulcet.node.scripts import Script, answer
from dulcet.services.identifiers import decode_dataset, encode_dataset
from dulcet.services.refusals import Refused

# --- nobody provides it ----------------------------------------------------------------------------------------------


def test_what_nobody_provides_is_0122h() -> None:
    assert only(Node("US"), asked(CommandField.C_FIND_RQ, STUDY_FIND, IDENTIFIER)).status == 0x0122


def test_an_operation_that_the_standard_does_not_know_is_0211h() -> None:
    request = asked(CommandField.C_ECHO_RQ, "1.2.3")
    request.command.elements[0x0100] = 0x0042
    request._core.field = 0x0042
    assert only(Node("US"), request).status == 0x0211


# --- C-ECHO ----------------------------------------------------------------------------------------------------------


def test_an_echo_is_a_success_without_a_handler() -> None:
    assert only(Node("US"), asked(CommandField.C_ECHO_RQ, uids.VERIFICATION)).status == 0


@pytest.mark.parametrize(
    ("given", "status"),
    [(None, 0), (0, 0), (Status.NOT_AUTHORIZED, 0x0124), (Answer(0x0124), 0x0124), (match(), 0x0110), (0xFF00, 0x0110)]
    + [(thing, 0x0110) for thing in NONSENSE],
)
def test_what_an_echo_handler_returns_is_its_status(given: object, status: int) -> None:
    node = node_with("on_echo", lambda request: given)
    assert only(node, asked(CommandField.C_ECHO_RQ, uids.VERIFICATION)).status == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("boom"), 0x0110),
        (StatusError("no", 0x0124), 0x0124),
        (StatusError("pending", 0xFF00), 0x0110),
        (StatusError("beyond", 70000), 0x0110),
        (ReceiveError("no", 0xA700), 0xA700),
        (AssociationRefused(1, 1, 1), 0x0110),
        (PeerUnreachable("away"), 0x0110),
        (DimseTimeout("late"), 0x0110),
        (LocalProtocolError("no"), 0x0110),
    ],
)
def test_whatever_a_handler_raises_is_a_failure_of_this_request_alone(error: Exception, status: int) -> None:
    """Also what dulcet raises: a handler may use other associations of its own."""
    assert only(node_with("on_echo", raising(error)), asked(CommandField.C_ECHO_RQ, uids.VERIFICATION)).status == status


def test_what_cannot_be_kept_is_refused_with_the_reason_and_the_tags() -> None:
    error = ReceiveError("no", 0xC000, comment="ends \\ early" + "." * 64, offending=(0x7FE00010,))
    response = only(node_with("on_echo", raising(error)), asked(CommandField.C_ECHO_RQ, uids.VERIFICATION))
    assert response.status == 0xC000
    assert response.elements == {
        "ErrorComment": "ends / early" + "." * 52,
        "OffendingElement": (0x7FE00010,),
    }


def test_a_refusal_answers_with_all_that_it_says() -> None:
    refusal = Refused(
        0x0106, "bad \\ value", attributes=(0x00100010,), dataset=match("1.5"), AffectedSOPInstanceUID="1.7"
    )
    response = only(node_with("on_n_set", raising(refusal)), asked(CommandField.N_SET_RQ, MPPS, match()))
    assert response.status == 0x0106
    assert response.elements["ErrorComment"] == "bad / value"
    assert response.elements["AttributeIdentifierList"] == (0x00100010,)
    assert response.elements["AffectedSOPInstanceUID"] == "1.7"
    assert decode_dataset(response.data or b"", IMPLICIT).StudyInstanceUID == "1.5"


def test_a_refusal_whose_data_set_cannot_be_encoded_is_a_failure_all_the_same() -> None:
    node = node_with("on_n_set", raising(Refused(0x0106, dataset=unencodable())))
    assert only(node, asked(CommandField.N_SET_RQ, MPPS, match())).status == 0x0110


def test_what_a_handler_raises_is_no_comment_for_the_peer() -> None:
    node = node_with("on_echo", raising(ValueError("DOE^JOHN")))
    response = only(node, asked(CommandField.C_ECHO_RQ, uids.VERIFICATION))
    assert response.elements == {"ErrorComment": "the application failed, see its log"}


# --- C-STORE ---------------------------------------------------------------------------------------------------------


def store_request() -> Request:
    return asked(CommandField.C_STORE_RQ, CT, AffectedSOPInstanceUID="1.2.3")


@pytest.mark.parametrize("sop_class", ["1.2.3.4", uids.VERIFICATION, uids.MEDIA_STORAGE_DIRECTORY_STORAGE, STUDY_FIND])
def test_what_was_not_negotiated_is_not_stored_under_a_class_that_was(sop_class: str) -> None:
    """A private class, or none of storage at all: taken in, it would be found, and sent to nobody."""
    seen: list[StoreRequest] = []
    request = asked(CommandField.C_STORE_RQ, CT, AffectedSOPInstanceUID="1.2.3", AffectedSOPClassUID=sop_class)
    response = only(node_with("on_store", seen.append), request)
    assert (response.status, seen) == (0x0122, [])
    assert response.elements == {"ErrorComment": f"C-STORE-RQ of {sop_class} is not provided here"}
    taken = asked(
        CommandField.C_STORE_RQ, CT, AffectedSOPInstanceUID="1.2.3", AffectedSOPClassUID=uids.MR_IMAGE_STORAGE
    )
    assert only(node_with("on_store", seen.append), taken).status == 0


def test_a_stored_data_set_is_given_to_the_handler_in_memory() -> None:
    seen: list[StoreRequest] = []
    driver = Driver()
    driver.received = encode_dataset(instance("1.2.3"), IMPLICIT)[0]
    assert only(node_with("on_store", seen.append), store_request(), driver).status == 0
    (request,) = seen
    assert (request.data, request.path) == (driver.received, None)
    assert request.dataset().SOPInstanceUID == "1.2.3"
    assert (request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax) == (CT, "1.2.3", IMPLICIT)


def test_a_stored_data_set_lies_in_the_folder_when_the_handler_sees_it(tmp_path: Path) -> None:
    seen: list[StoreRequest] = []
    node = node_with("on_store", seen.append, store_to=tmp_path, durability="none")
    assert only(node, store_request()).status == 0
    assert seen[0].path.is_file()
    assert seen[0].data is None
    assert seen[0].dataset().SOPInstanceUID == "1.2.3"


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda request: Status.OUT_OF_RESOURCES, 0xA700),
        (raising(StatusError("no", 0xA900)), 0xA900),
        (raising(RuntimeError("boom")), 0xC000),
        (lambda request: "nonsense", 0xC000),
        (lambda request: match(), 0xC000),
        (lambda request: 0xFF00, 0xC000),
    ],
)
def test_what_the_handler_refuses_is_not_kept(handler: Callable[[Any], Any], status: int, tmp_path: Path) -> None:
    node = node_with("on_store", handler, store_to=tmp_path, durability="none")
    assert only(node, store_request()).status == status
    assert list(tmp_path.rglob("*.dcm")) == []


def test_a_warning_keeps_it(tmp_path: Path) -> None:
    node = node_with("on_store", lambda request: 0xB000, store_to=tmp_path, durability="none")
    assert only(node, store_request()).status == 0xB000
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


def test_a_refused_duplicate_does_not_remove_what_was_kept_before(tmp_path: Path) -> None:
    verdicts = iter([Status.SUCCESS, Status.DUPLICATE_INSTANCE])
    node = node_with("on_store", lambda request: next(verdicts), store_to=tmp_path, durability="none")
    assert only(node, store_request()).status == 0
    assert only(node, store_request()).status == 0x0111
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


@pytest.mark.parametrize("durability", ["fsync", "none"])
def test_the_place_says_whether_it_is_durable(durability: Any, tmp_path: Path) -> None:
    driver = Driver()
    directory = StoreDirectory(tmp_path, durability=durability)
    only(node_with("on_store", lambda request: None, store_to=directory), store_request(), driver)
    (receive,) = driver.of(Receive)
    assert receive.directory.durable is (durability == "fsync")


def test_another_destination_keeps_what_it_has_whatever_the_handler_says(tmp_path: Path) -> None:
    class Archive:
        discarded = False

        def begin(self, *_: str, source_ae_title: str = "") -> Archive:
            return self

        def write(self, data: memoryview, /) -> None: ...

        def commit(self) -> str:
            return "row 17"

        def discard(self) -> None:
            self.discarded = True

    seen: list[StoreRequest] = []
    node = node_with("on_store", lambda request: seen.append(request) or 0xA700, store_to=Archive())
    assert only(node, store_request()).status == 0xA700
    assert seen[0].path == "row 17"


def test_a_data_set_that_cannot_be_kept_is_refused_with_its_status() -> None:
    driver = Driver()
    driver.received = ReceiveError("disk full", Status.OUT_OF_RESOURCES)
    assert only(node_with("on_store", lambda request: None), store_request(), driver).status == 0xA700


def test_a_destination_that_fails_is_the_applications_failure() -> None:
    driver = Driver()
    driver.received = ZeroDivisionError()
    assert only(node_with("on_store", lambda request: None), store_request(), driver).status == 0xC000


@pytest.mark.parametrize("lost", [AssociationAborted(0, 0), DimseTimeout("late")])
def test_an_association_that_ends_in_the_middle_of_a_data_set_ends_the_script(lost: Exception) -> None:
    driver = Driver()
    driver.received = lost
    request = store_request()
    with pytest.raises(type(lost)):
        driver.run(answer(node_with("on_store", lambda request: None), request), request)
    assert driver.responses == []


# --- N-services ------------------------------------------------------------------------------------------------------


def test_the_handler_of_an_n_service_sees_the_data_set_decoded_and_what_is_asked() -> None:
    seen: list[NormalizedRequest] = []
    node = node_with("on_n_action", seen.append)
    only(node, asked(CommandField.N_ACTION_RQ, COMMITMENT, match(), RequestedSOPInstanceUID="1.9", ActionTypeID=1))
    (request,) = seen
    assert request.dataset.StudyInstanceUID == "1.2.3"
    assert (request.action_type, request.event_type, request.attributes) == (1, None, ())
    assert (request.sop_class_uid, request.sop_instance_uid) == (COMMITMENT, "1.9")


def test_an_n_get_names_its_attributes() -> None:
    seen: list[NormalizedRequest] = []
    only(node_with("on_n_get", seen.append), asked(CommandField.N_GET_RQ, MPPS, AttributeIdentifierList=(0x00100010,)))
    assert seen[0].attributes == (0x00100010,)
    assert len(seen[0].dataset) == 0


@pytest.mark.parametrize(
    ("register", "field", "element"),
    [
        ("on_n_action", CommandField.N_ACTION_RQ, "ActionTypeID"),
        ("on_n_event_report", CommandField.N_EVENT_REPORT_RQ, "EventTypeID"),
    ],
)
def test_event_and_action_types_are_echoed_unless_the_handler_says_otherwise(
    register: str, field: CommandField, element: str
) -> None:
    request = lambda: asked(field, COMMITMENT, **{element: 2})  # noqa: E731
    assert only(node_with(register, lambda request: None), request()).elements == {element: 2}
    assert only(node_with(register, lambda request: Answer(**{element: 9})), request()).elements == {element: 9}


@pytest.mark.parametrize(
    ("given", "status", "has_data"),
    [
        (None, 0, False),
        (0x0112, 0x0112, False),
        (match(), 0, True),
        ((0x0107, match()), 0x0107, True),
        ((0x0112, None), 0x0112, False),
        (Answer(0x0001, match()), 0x0001, True),
        (Dataset(), 0, False),
        (0xFF00, 0x0110, False),
        ((0xFF00, match()), 0x0110, False),
        (unencodable(), 0x0110, False),
    ]
    + [(thing, 0x0110, False) for thing in NONSENSE],
)
def test_what_an_n_handler_returns_is_the_response(given: Any, status: int, has_data: bool) -> None:
    response = only(node_with("on_n_get", lambda request: given), asked(CommandField.N_GET_RQ, MPPS))
    assert (response.status, response.data is not None) == (status, has_data)


def test_an_answer_names_the_instance_that_was_made() -> None:
    node = node_with("on_n_create", lambda request: Answer(AffectedSOPInstanceUID="1.77"))
    assert only(node, asked(CommandField.N_CREATE_RQ, MPPS, match())).elements == {"AffectedSOPInstanceUID": "1.77"}


@pytest.mark.parametrize(
    ("register", "field"),
    [
        ("on_n_event_report", CommandField.N_EVENT_REPORT_RQ),
        ("on_n_get", CommandField.N_GET_RQ),
        ("on_n_set", CommandField.N_SET_RQ),
        ("on_n_action", CommandField.N_ACTION_RQ),
        ("on_n_create", CommandField.N_CREATE_RQ),
        ("on_n_delete", CommandField.N_DELETE_RQ),
    ],
)
def test_every_n_service_fails_by_itself(register: str, field: CommandField) -> None:
    assert only(node_with(register, raising(RuntimeError("boom"))), asked(field, MPPS)).status == 0x0110
    assert (
        only(node_with(register, lambda request: None), asked(field, MPPS, b"\x28\0\x10\0\x03\0\0\0abc")).status
        == 0x0110
    )


def test_a_handler_that_reports_on_the_association_is_called_there_and_its_script_goes_on_after_the_response() -> None:
    def then() -> Script:
        told.append((yield ReportHere(COMMITMENT, "1.9", 1, None)))

    def handler(request: NormalizedRequest) -> Answer:
        return Answer(then=then)

    told: list[Any] = []
    handler.reports_here = True  # type: ignore[attr-defined]
    driver = Driver()
    assert only(node_with("on_n_action", handler), asked(CommandField.N_ACTION_RQ, COMMITMENT), driver).status == 0
    assert driver.of(Call)[0].here is True
    kinds = [type(action) for action in driver.actions]
    assert kinds == [Call, Respond, ReportHere]
    assert told == [None]


def test_what_fails_after_the_response_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def then() -> Script:
        yield ReportHere(COMMITMENT, "1.9", 1, None)
        raise RuntimeError("boom")

    node = node_with("on_n_action", lambda request: Answer(then=then))
    assert only(node, asked(CommandField.N_ACTION_RQ, COMMITMENT)).status == 0
    assert "boom" in caplog.text
