"""What operations give back: a status is an answer, until `.check()` is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dulcet import uids
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import AssociationClosed, NotDicom, ReceiveError, StatusError
from dulcet.services.identifiers import encode_dataset
from dulcet.services.results import Response, Retrieved, Sent

EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
FINE = [0x0000, 0x0001, 0x0107, 0xB000, 0xB007, 0xFF00, 0xFF01]
BAD = [0x0110, 0x0122, 0xA700, 0xA7FF, 0xA900, 0xC000, 0xCFFF, 0xFE00, 0x1234]


def find_rsp(status: int, data: bytes | None = None, **elements: Any) -> Response:
    command = Command.make(CommandField.C_FIND_RSP, validate=False, Status=status, **elements)
    return Response(Status(status), command, data, EXPLICIT)


def get_rsp(status: int, counts: tuple[int | None, ...], data: bytes | None = None, **more: Any) -> Response:
    names = ("Remaining", "Completed", "Failed", "Warning")
    counters: dict[str, Any] = {
        f"NumberOf{name}Suboperations": count for name, count in zip(names, counts, strict=True)
    }
    return Response(
        Status(status),
        Command.make(CommandField.C_GET_RSP, validate=False, Status=status, **counters, **more),
        data,
        EXPLICIT,
    )


# --- Response --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", FINE)
def test_success_pending_and_warnings_pass_the_check(status: int) -> None:
    response = find_rsp(status)
    assert response.check() is response


@pytest.mark.parametrize("status", BAD)
def test_failures_and_cancel_do_not_pass_the_check(status: int) -> None:
    with pytest.raises(StatusError, match=rf"^C-FIND-RSP: {status:04X}H .+") as caught:
        find_rsp(status).check()
    assert caught.value.status == status


def test_the_comment_of_the_peer_is_part_of_the_error() -> None:
    with pytest.raises(StatusError, match=r"\(no disk left\)$"):
        find_rsp(0xA700, ErrorComment="no disk left").check()
    with pytest.raises(StatusError) as caught:
        find_rsp(0xA700).check()
    assert not str(caught.value).endswith(")")


def test_a_data_set_is_decoded_when_asked_for() -> None:
    match = Dataset()
    match.PatientName = "Doe^Jane"
    response = find_rsp(0xFF00, encode_dataset(match, EXPLICIT)[0])
    decoded = response.dataset()
    assert decoded is not None
    assert decoded.PatientName == "Doe^Jane"
    assert find_rsp(0).dataset() is None


def test_a_data_set_that_does_not_decode_is_a_receive_error() -> None:
    response = find_rsp(0xFF00, b"neither deflated nor anything")
    with pytest.raises(ReceiveError, match="does not decode"):
        Response(response.status, response.command, response.data, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN).dataset()


# --- Retrieved -------------------------------------------------------------------------------------------------------


def test_counters_follow_the_responses_and_remaining_ends_with_them() -> None:
    result = Retrieved(Status.PENDING)
    result.update(get_rsp(0xFF00, (5, 3, 1, 1)))
    assert (result.remaining, result.completed, result.failed, result.warning) == (5, 3, 1, 1)
    result.update(get_rsp(0x0000, (None, 10, 0, 0)))
    assert (result.remaining, result.completed, result.failed, result.warning) == (0, 10, 0, 0)
    assert result.check() is result


@pytest.mark.parametrize(
    ("status", "failed"), [(0x0000, 1), (0xB000, 0), (0xB000, 3), (0xA702, 2), (0xFE00, 0), (0xC001, 0)]
)
def test_a_retrieve_that_is_not_complete_does_not_pass_the_check(status: int, failed: int) -> None:
    result = Retrieved(Status.PENDING)
    result.update(get_rsp(status, (None, 4, failed, 0)))
    with pytest.raises(StatusError, match=f"4 completed, {failed} failed, 0 warnings") as caught:
        result.check()
    assert caught.value.status == status


@pytest.mark.parametrize("failed", [["1.2.3"], ["1.2.3", "1.2.4"], []])
def test_failed_instances_are_listed_where_the_peer_lists_them(failed: list[str]) -> None:
    identifier = Dataset()
    identifier.FailedSOPInstanceUIDList = failed
    data = encode_dataset(identifier, EXPLICIT)[0]
    result = Retrieved(Status.PENDING)
    result.update(get_rsp(0xFF00, (1, 0, 1, 0), data))
    assert result.failed_uids == []  # a pending response has none
    result.update(get_rsp(0xB000, (None, 1, len(failed), 0), data))
    assert result.failed_uids == failed


def test_a_final_response_without_a_list_leaves_it_empty() -> None:
    result = Retrieved(Status.PENDING)
    result.update(get_rsp(0xB000, (None, 1, 1, 0)))
    assert result.failed_uids == []


def test_what_the_peer_says_about_a_failure_is_told() -> None:
    result = Retrieved(Status.PENDING)
    result.update(get_rsp(0xA900, (None, 0, 0, 0), ErrorComment="no StudyInstanceUID"))
    assert result.comment == "no StudyInstanceUID"
    with pytest.raises(StatusError, match=r"A900H .* \(no StudyInstanceUID\); 0 completed"):
        result.check()


# --- Sent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_success_and_warnings_mean_that_the_peer_has_it(status: int) -> None:
    sent = Sent("image.dcm", Status(status))
    assert sent.ok
    assert sent.check() is sent


@pytest.mark.parametrize("status", [*BAD, 0xFF00])
def test_anything_else_means_that_it_has_not(status: int) -> None:
    sent = Sent("image.dcm", Status(status))
    assert not sent.ok
    with pytest.raises(StatusError, match=rf"image\.dcm: {status:04X}H") as caught:
        sent.check()
    assert caught.value.status == status


@pytest.mark.parametrize("error", [NotDicom("no DICOM", "image.dcm"), AssociationClosed("gone")])
def test_what_kept_it_from_being_sent_is_raised_by_the_check(error: NotDicom | AssociationClosed) -> None:
    sent = Sent("image.dcm", None, error)
    assert not sent.ok
    with pytest.raises(type(error)) as caught:
        sent.check()
    assert caught.value is error


# --- what a C-STORE-RSP says -----------------------------------------------------------------------------------------


def answered(what: Any = "a.dcm", **elements: Any) -> Sent:
    command = Command.make(CommandField.C_STORE_RSP, validate=False, **elements)
    return Sent.answered(what, command, "1.2", "1.2.3", EXPLICIT, 7)


def test_a_response_without_a_status_is_a_failure() -> None:
    assert answered().status == Status.PROCESSING_FAILURE


def test_a_success_is_no_place_for_reasons() -> None:
    sent = answered(Status=0, ErrorComment="all is well")
    assert (sent.ok, sent.error_comment, sent.answer) == (True, "", "0000H success")
    assert (sent.sop_class_uid, sent.sop_instance_uid, sent.transfer_syntax, sent.size) == ("1.2", "1.2.3", EXPLICIT, 7)


def test_a_reason_and_the_elements_that_it_is_about_are_kept_and_said() -> None:
    sent = answered(Status=0xA900, ErrorComment="SOP Class differs", OffendingElement=(0x00080016,))
    assert (sent.error_comment, sent.offending_elements) == ("SOP Class differs", (0x00080016,))
    assert sent.answer.endswith("(SOP Class differs; (0008,0016))")
    assert answered(Status=0xA900, OffendingElement=(0x00080016,)).answer.endswith("((0008,0016))")
    assert Sent("a.dcm", None).answer == ""


def test_what_a_peer_says_cannot_play_with_a_terminal_or_a_log() -> None:
    assert answered(Status=0xA700, ErrorComment="full\x1b[31m\n\x9b2J Gerät").answer.endswith(
        r"(full\x1b[31m\n\x9b2J Gerät)"
    )


def test_a_data_set_that_was_refused_is_named_by_its_uid() -> None:
    dataset = Dataset()
    dataset.PatientName = "DOE^JOHN"
    with pytest.raises(StatusError, match=r"^C-STORE of 1\.2\.3: A700H ") as caught:
        answered(dataset, Status=0xA700).check()
    assert "DOE" not in str(caught.value)


def test_what_is_printed_of_it_is_short_and_has_no_value_of_a_patient() -> None:
    image = Dataset()
    image.PatientName = "DOE^JOHN"
    for given, shown in ((image, "<Dataset>"), (b"x" * 100_000, "<100000 bytes>"), ("a.dcm", "'a.dcm'")):
        sent = Sent(given, Status.SUCCESS, None, "1.2", "1.3")
        assert repr(sent).startswith(f"Sent(path={shown}, status=Status(0x0000), error=None, sop_class_uid='1.2', ")
        assert "DOE" not in repr(sent)
