"""Which service a SOP class belongs to, and private ones that an application adds (PS3.4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dulcet import Node, uids
from dulcet.dimse.messages import MESSAGES
from dulcet.services import sop_classes
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.sop_classes import (
    NOT_NEGOTIATED,
    SOP_CLASS_SERVICES,
    Service,
    classes_with,
    operations_of,
    register_private,
    service_of,
    storage_classes,
)

PRIVATE = "1.3.6.1.4.1.9590.100.1"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sop_classes, "_private", {})
    return


def test_operations_are_those_of_ps3_7() -> None:
    known = {message.name.rpartition("-")[0] for message in MESSAGES.values()}
    for _, operations in SOP_CLASS_SERVICES.values():
        assert operations
        assert operations <= known


@pytest.mark.parametrize(
    ("uid", "service", "operations"),
    [
        (uids.VERIFICATION, Service.VERIFICATION, {"C-ECHO"}),
        (uids.CT_IMAGE_STORAGE, Service.STORAGE, {"C-STORE"}),
        (uids.MODALITY_PERFORMED_PROCEDURE_STEP, Service.MPPS, {"N-CREATE", "N-SET"}),
        (uids.STORAGE_COMMITMENT_PUSH_MODEL, Service.STORAGE_COMMITMENT, {"N-ACTION", "N-EVENT-REPORT"}),
        ("1.2.3", None, set()),
    ],
)
def test_a_class_has_a_service_and_its_operations(uid: str, service: Service | None, operations: set[str]) -> None:
    assert service_of(uid) is service
    assert operations_of(uid) == operations


def test_what_no_association_carries_is_of_no_service() -> None:
    assert {uid for uid in NOT_NEGOTIATED if service_of(uid) is not None} == set()


def test_every_service_has_a_class() -> None:
    assert {service for service, _ in SOP_CLASS_SERVICES.values()} == set(Service)


def test_the_classes_that_allow_an_operation() -> None:
    assert classes_with("C-ECHO") == {uids.VERIFICATION}
    assert classes_with("C-STORE") >= uids.STORAGE_CLASSES
    assert uids.MODALITY_PERFORMED_PROCEDURE_STEP in classes_with("N-CREATE")
    assert classes_with("C-NOTHING") == frozenset()


def test_a_registered_class_is_one_of_its_service_everywhere() -> None:
    register_private(PRIVATE, Service.STORAGE)
    assert service_of(PRIVATE) is Service.STORAGE
    assert operations_of(PRIVATE) == {"C-STORE"}
    assert storage_classes() == uids.STORAGE_CLASSES | {PRIVATE}
    assert PRIVATE in classes_with("C-STORE")
    assert PRIVATE in AcceptancePolicy.storage().syntaxes
    storing, getting = Node("US"), Node("US")
    storing.on_store(lambda request: None)
    getting.on_get(lambda request: None)
    assert PRIVATE in storing.policy().syntaxes
    assert PRIVATE in getting.policy().syntaxes


def test_a_class_of_a_service_with_several_operations_has_them_all() -> None:
    register_private(PRIVATE, Service.MPPS)
    assert operations_of(PRIVATE) == {"N-CREATE", "N-SET", "N-GET", "N-EVENT-REPORT"}
    assert storage_classes() == uids.STORAGE_CLASSES
    node = Node("US")
    node.on_n_create(lambda request: None)
    assert PRIVATE in node.policy().syntaxes


def test_registering_again_as_the_same_is_harmless_and_as_another_is_an_error() -> None:
    register_private(PRIVATE, Service.STORAGE)
    register_private(PRIVATE, Service.STORAGE)
    register_private(uids.CT_IMAGE_STORAGE, Service.STORAGE)
    with pytest.raises(ValueError, match="is a SOP class of Storage already"):
        register_private(PRIVATE, Service.QUERY)
    with pytest.raises(ValueError, match="CT Image Storage"):
        register_private(uids.CT_IMAGE_STORAGE, Service.QUERY)


@pytest.mark.parametrize("uid", ["", "1", "1.", "1.02.3", "a.b", "1..2", "1.2 ", "1." + "2" * 64, "1.2\n"])
def test_what_is_no_uid_is_not_registered(uid: str) -> None:
    with pytest.raises(ValueError, match="is not a UID"):
        register_private(uid, Service.STORAGE)
