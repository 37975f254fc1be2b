"""The information models of PS3.4 as one table."""

from __future__ import annotations

import pytest

from dulcet import uids
from dulcet.services.models import MODELS, find_model, model_of, retrieve_levels
from dulcet.services.sop_classes import Service, operations_of, service_of

UPS = {"ups", "ups-watch", "ups-query"}


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_class_of_a_model_is_for_its_operation(model: object) -> None:
    found = {verb: getattr(model, verb) for verb in ("find", "move", "get")}
    assert any(found.values())
    for verb, uid in found.items():
        if uid is not None:
            assert f"C-{verb.upper()}" in operations_of(uid)
            assert model_of(uid) is model
            assert model.sop_class(verb) == uid  # type: ignore[attr-defined]


def test_every_class_for_query_and_retrieve_is_in_a_model() -> None:
    services = {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET, Service.WORKLIST}
    services |= {Service.RELEVANT_PATIENT_QUERY, Service.SUBSTANCE_QUERY}
    missing = {uid for uid in uids.KEYWORDS.values() if service_of(uid) in services and model_of(uid) is None}
    assert missing == set()


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("patient", ["PATIENT", "STUDY", "SERIES", "IMAGE"]),
        ("study", ["STUDY", "SERIES", "IMAGE"]),
        ("patient-study-only", ["PATIENT", "STUDY"]),
        ("worklist", []),
        ("hanging-protocol", []),
    ],
)
def test_levels_are_those_of_the_standard(name: str, levels: list[str]) -> None:
    assert [level for level, _ in find_model(name).levels] == levels


def test_models_without_bulk_data_and_composite_instances_have_no_c_find() -> None:
    assert find_model("without-bulk-data").find is None
    assert find_model("without-bulk-data").move is None
    assert find_model("composite-instance").sop_class("find") is None
    assert find_model("composite-instance").sop_class("get") == uids.COMPOSITE_INSTANCE_ROOT_RETRIEVE_GET


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"'patients' does not exist; there are patient, study,"):
        find_model("patients")


def test_a_class_of_no_model_has_none() -> None:
    assert model_of(uids.CT_IMAGE_STORAGE) is None


@pytest.mark.parametrize(
    ("level", "names"),
    [(None, ("study", "patient")), ("patient", ("patient", "patient-study-only")), ("SERIES", ("study", "patient"))],
)
def test_patients_are_looked_for_from_the_patient_root_everything_else_from_the_study_root(
    level: str | None, names: tuple[str, ...]
) -> None:
    assert retrieve_levels(level) == names
