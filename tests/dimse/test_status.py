"""Statuses: categories, meanings and names, held against PS3.7 Annex C, PS3.4 and pynetdicom's transcription."""

from __future__ import annotations

import copy
import json
import pickle

import pynetdicom.status
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulcet.dimse.status import SERVICES, Status, StatusCategory

CONSTANTS = {name: getattr(Status, name) for name in dir(Status) if name.isupper()}

THEIR_TABLES = {
    "storage": pynetdicom.status.STORAGE_SERVICE_CLASS_STATUS,
    "find": pynetdicom.status.QR_FIND_SERVICE_CLASS_STATUS,
    "move": pynetdicom.status.QR_MOVE_SERVICE_CLASS_STATUS,
    "get": pynetdicom.status.QR_GET_SERVICE_CLASS_STATUS,
    "mpps": pynetdicom.status.PROCEDURE_STEP_STATUS,
    "commitment": pynetdicom.status.STORAGE_COMMITMENT_SERVICE_CLASS_STATUS,
    "print": pynetdicom.status.PRINT_JOB_MANAGEMENT_SERVICE_CLASS_STATUS,
    "ups": pynetdicom.status.UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS,
}


def test_every_category_is_that_of_pynetdicom() -> None:
    for code in range(0x10000):
        theirs = pynetdicom.status.code_to_category(code)
        if theirs == "Unknown":  # a code that the standard does not know promises nothing: we call it a failure
            theirs = "Failure"
        assert Status(code).category.value == theirs.lower(), hex(code)


@given(st.integers(0, 0xFFFF))
def test_a_status_is_of_exactly_one_category(code: int) -> None:
    status = Status(code)
    answers = {
        StatusCategory.SUCCESS: status.is_success,
        StatusCategory.PENDING: status.is_pending,
        StatusCategory.WARNING: status.is_warning,
        StatusCategory.FAILURE: status.is_failure,
        StatusCategory.CANCEL: status.is_cancel,
    }
    assert [category for category, holds in answers.items() if holds] == [status.category]


@pytest.mark.parametrize("service", SERVICES)
def test_every_code_of_a_service_has_a_meaning_of_its_own(service: str) -> None:
    for code in THEIR_TABLES[service]:
        assert not Status(code).meaning(service).startswith("unknown"), hex(code)


@pytest.mark.parametrize(
    ("service", "code", "words"),
    [
        ("storage", 0xA700, "out of resources"),
        ("storage", 0xA7FF, "out of resources"),
        ("storage", 0xA9AB, "data set does not match"),
        ("storage", 0xC123, "cannot understand"),
        ("storage", 0xB000, "coercion"),
        ("storage", 0xB006, "discarded"),
        ("storage", 0xB007, "does not match the SOP class"),
        ("find", 0xFF01, "optional keys were not supported"),
        ("find", 0xA710, "prior record key"),
        ("find", 0xB001, "response limit"),
        ("find", 0xC001, "unable to process"),
        ("move", 0xA801, "destination unknown"),
        ("move", 0xB000, "one or more failures"),
        ("get", 0xA702, "sub-operations cannot be performed"),
        ("get", 0xAA02, "extract frames"),
        ("mpps", 0x0110, "may no longer be updated"),
        ("mpps", 0x0120, "missing attribute"),
        ("commitment", 0x0131, "duplicate transaction UID"),
        ("commitment", 0x0112, "no such object instance"),
        ("print", 0xB604, "demagnified"),
        ("print", 0xC602, "queue is full"),
        ("ups", 0xC303, "SCHEDULED"),
        ("ups", 0xC3FF, "unable to process"),
        ("ups", 0x0124, "not authorized"),
        (None, 0xA702, "sub-operations"),
        (None, 0xA7F1, "out of resources"),
        (None, 0xA5F1, "refused"),
        (None, 0xBEEF, "warning"),
        (None, 0x4711, "unknown status, taken as failure"),
    ],
)
def test_a_meaning_is_read_from_the_ranges_of_the_service(service: str | None, code: int, words: str) -> None:
    assert words in Status(code).meaning(service)


def test_the_services_of_the_tables_are_named() -> None:
    assert set(SERVICES) == set(THEIR_TABLES)
    with pytest.raises(ValueError, match="no table of statuses for 'fax'; expected one of storage, find"):
        Status.SUCCESS.meaning("fax")


@given(st.integers(0, 0xFFFF), st.sampled_from([None, *SERVICES]))
def test_every_status_has_a_meaning(code: int, service: str | None) -> None:
    assert Status(code).meaning(service)


def test_a_status_reads_as_code_and_meaning() -> None:
    assert str(Status(0xA700)) == "A700H out of resources"
    assert f"{Status.SUCCESS}" == "0000H success"
    assert repr(Status.PENDING) == "Status(0xff00)"
    assert f"{Status.PENDING:04X}" == "FF00"


def test_a_status_is_an_integer() -> None:
    assert Status.CANCEL == 0xFE00
    assert hash(Status.CANCEL) == hash(0xFE00)
    assert {0xFE00: "it"}[Status.CANCEL] == "it"
    assert json.dumps(Status.CANCEL) == "65024"
    for same in (copy.copy(Status.CANCEL), copy.deepcopy(Status.CANCEL), pickle.loads(pickle.dumps(Status.CANCEL))):  # noqa: S301
        assert same == Status.CANCEL
        assert same.is_cancel


@pytest.mark.parametrize("code", [-1, 0x10000])
def test_a_status_has_sixteen_bits(code: int) -> None:
    with pytest.raises(ValueError, match="0 to 65535"):
        Status(code)


def test_constants_carry_the_codes_of_the_standard() -> None:
    assert {
        "SUCCESS": 0x0000,
        "PENDING": 0xFF00,
        "PENDING_WARNING": 0xFF01,
        "CANCEL": 0xFE00,
        "OUT_OF_RESOURCES": 0xA700,
        "DATA_SET_MISMATCH": 0xA900,
        "CANNOT_UNDERSTAND": 0xC000,
        "MOVE_DESTINATION_UNKNOWN": 0xA801,
        "NO_SUCH_ATTRIBUTE": 0x0105,
        "INVALID_ATTRIBUTE_VALUE": 0x0106,
        "ATTRIBUTE_LIST_ERROR": 0x0107,
        "PROCESSING_FAILURE": 0x0110,
        "DUPLICATE_INSTANCE": 0x0111,
        "NO_SUCH_INSTANCE": 0x0112,
        "NO_SUCH_EVENT_TYPE": 0x0113,
        "NO_SUCH_ARGUMENT": 0x0114,
        "INVALID_ARGUMENT_VALUE": 0x0115,
        "ATTRIBUTE_VALUE_OUT_OF_RANGE": 0x0116,
        "INVALID_INSTANCE": 0x0117,
        "NO_SUCH_SOP_CLASS": 0x0118,
        "CLASS_INSTANCE_CONFLICT": 0x0119,
        "MISSING_ATTRIBUTE": 0x0120,
        "MISSING_ATTRIBUTE_VALUE": 0x0121,
        "SOP_CLASS_NOT_SUPPORTED": 0x0122,
        "NO_SUCH_ACTION": 0x0123,
        "NOT_AUTHORIZED": 0x0124,
        "DUPLICATE_INVOCATION": 0x0210,
        "UNRECOGNIZED_OPERATION": 0x0211,
        "MISTYPED_ARGUMENT": 0x0212,
        "RESOURCE_LIMITATION": 0x0213,
    }.items() <= CONSTANTS.items()
    assert {value for value in CONSTANTS.values() if value < 0x0131 or 0x0200 < value < 0x1000} - {0x0001} == {
        code for code in pynetdicom.status.GENERAL_STATUS if code < 0x1000
    }


@pytest.mark.parametrize(("prefix", "service"), [("UPS_", "ups"), ("PRINT_", "print")])
def test_constants_of_a_service_are_all_the_codes_it_adds(prefix: str, service: str) -> None:
    ours = {int(value) for name, value in CONSTANTS.items() if name.startswith(prefix)}
    theirs = {code for code in THEIR_TABLES[service] if Status(code) & 0xFF00 in (0xB300, 0xB600, 0xC300, 0xC600)}
    if service == "ups":  # C3xx are in its range for "unable to process"; those with a meaning of their own are named
        theirs = {code for code in theirs if THEIR_TABLES[service][code][1] != "Unable to Process"}
    assert ours == theirs


def test_constants_are_of_the_category_of_their_range() -> None:
    for name, value in CONSTANTS.items():
        if value >> 12 == 0xB:
            assert value.is_warning, name
        if value >> 12 in (0xA, 0xC):
            assert value.is_failure, name
