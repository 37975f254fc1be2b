"""The generated registries agree with their sources, and every SOP class has its service."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pydicom.uid
import pynetdicom.sop_class
import pytest
from pydicom._uid_dict import UID_dictionary

from dulcet import _version, uids
from dulcet.services import sop_classes
from dulcet.services.sop_classes import (
    NOT_NEGOTIATED,
    SOP_CLASS_SERVICES,
    Service,
    operations_of,
    register_private,
    service_of,
)

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT / "tools" / "generate_uids.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_uids", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the generator alone in a process: pynetdicom, once imported, has added rows to pydicom's dictionary."""
    return subprocess.run([sys.executable, GENERATOR, *arguments], capture_output=True, text=True, timeout=60)


def test_the_generated_file_is_up_to_date():
    done = generate("--check")
    assert done.returncode == 0, done.stderr


def test_check_fails_on_a_changed_file_and_says_where(tmp_path):
    target = tmp_path / "uids.py"
    assert generate("--target", target).returncode == 0
    assert target.read_text() == Path(uids.__file__).read_text()
    target.write_text(target.read_text().replace("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.49"))
    done = generate("--check", "--target", target)
    assert done.returncode == 1
    assert "1.2.840.10008.1.2.4.49" in done.stderr


def test_check_fails_when_the_file_is_missing(tmp_path):
    assert generate("--check", "--target", tmp_path / "none.py").returncode == 1


def test_a_transfer_syntax_that_nobody_classified_stops_the_generator(generator):
    row = generator.Entry("1.2.840.10008.1.2.99", "Something new", "Transfer Syntax", False, "SomethingNew")
    with pytest.raises(SystemExit, match="SomethingNew"):
        generator.marks(row)


@pytest.mark.parametrize(
    ("keyword", "constant"),
    [
        ("ImplicitVRLittleEndian", "IMPLICIT_VR_LITTLE_ENDIAN"),
        ("CTImageStorage", "CT_IMAGE_STORAGE"),
        ("JPEG2000Lossless", "JPEG2000_LOSSLESS"),
        ("XRay3DAngiographicImageStorage", "X_RAY_3D_ANGIOGRAPHIC_IMAGE_STORAGE"),
    ],
)
def test_constants_are_keywords_in_capitals(generator, keyword, constant):
    assert generator.Entry("1.2", "", "SOP Class", False, keyword).constant == constant
    assert getattr(uids, constant) == uids.KEYWORDS[keyword]


def test_every_named_transfer_syntax_and_sop_class_of_pydicom_is_here():
    for uid, (name, kind, _info, _retired, keyword) in UID_dictionary.items():
        if keyword and kind == "Transfer Syntax":
            assert uids.TRANSFER_SYNTAXES[uid] == name
        elif keyword and kind in ("SOP Class", "Meta SOP Class"):
            assert uids.SOP_CLASSES[uid] == name


def test_each_transfer_syntax_is_in_exactly_one_set():
    sets = (uids.UNCOMPRESSED, uids.DEFLATED, uids.REFERENCED, uids.ENCAPSULATED, uids.OTHER_ENCODINGS)
    for uid in uids.TRANSFER_SYNTAXES:
        assert sum(uid in part for part in sets) == 1, uid
    assert frozenset().union(*sets) == uids.TRANSFER_SYNTAXES.keys()
    assert uids.BIG_ENDIAN | {uids.IMPLICIT_VR_LITTLE_ENDIAN} < uids.UNCOMPRESSED


def test_the_sets_agree_with_pydicom():
    for syntax in map(pydicom.uid.UID, uids.TRANSFER_SYNTAXES):
        if syntax not in UID_dictionary or syntax in uids.OTHER_ENCODINGS | uids.REFERENCED:
            continue
        assert syntax.is_deflated == (syntax in {uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}) or "Deflate" in syntax.name
        assert syntax.is_implicit_VR == (syntax in uids.IMPLICIT_VR), syntax.name
        assert syntax.is_little_endian == (syntax not in uids.BIG_ENDIAN), syntax.name
        assert syntax.is_encapsulated == (syntax in uids.ENCAPSULATED) or syntax in uids.DEFLATED, syntax.name


def test_storage_classes_hold_all_that_pynetdicom_stores():
    theirs = pynetdicom.sop_class._STORAGE_CLASSES | pynetdicom.sop_class._NON_PATIENT_OBJECT_CLASSES
    assert set(map(str, theirs.values())) <= uids.STORAGE_CLASSES


def test_storage_classes_hold_the_retired_ones_and_no_other_service():
    assert uids.ULTRASOUND_IMAGE_STORAGE_RETIRED in uids.STORAGE_CLASSES
    assert uids.HARDCOPY_GRAYSCALE_IMAGE_STORAGE in uids.STORAGE_CLASSES
    assert uids.DICOSCT_IMAGE_STORAGE in uids.STORAGE_CLASSES
    assert uids.STORAGE_COMMITMENT_PUSH_MODEL not in uids.STORAGE_CLASSES
    assert uids.MEDIA_STORAGE_DIRECTORY_STORAGE not in uids.STORAGE_CLASSES
    assert uids.ULTRASOUND_IMAGE_STORAGE_RETIRED in uids.RETIRED
    assert uids.CT_IMAGE_STORAGE not in uids.RETIRED


def test_name_of_gives_the_registered_name_or_the_uid():
    assert uids.name_of("1.2.840.10008.1.2") == "Implicit VR Little Endian"
    assert uids.name_of("1.2.840.10008.5.1.4.1.1.2") == "CT Image Storage"
    assert uids.name_of(uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE).startswith("Storage Commitment Push Model")
    assert uids.name_of(uids.STORAGE_SERVICE_CLASS) == "Storage Service Class"
    assert uids.name_of(uids.APPLICATION_CONTEXT) == "DICOM Application Context Name"
    assert uids.name_of("1.2.3.4") == "1.2.3.4"


def test_the_implementation_identity_fits_its_fields():
    assert _version.IMPLEMENTATION_VERSION_NAME.removeprefix("DULCET_") == _version.__version__
    assert len(_version.IMPLEMENTATION_VERSION_NAME) <= 16
    assert pydicom.uid.UID(_version.IMPLEMENTATION_CLASS_UID).is_valid


def test_every_sop_class_has_a_service_or_is_never_negotiated():
    assert uids.SOP_CLASSES.keys() == SOP_CLASS_SERVICES.keys() | NOT_NEGOTIATED
    assert not SOP_CLASS_SERVICES.keys() & NOT_NEGOTIATED
    assert {service for service, _operations in SOP_CLASS_SERVICES.values()} == set(Service)


def test_no_row_gives_a_sop_class_twice():
    listed = [uid for _service, _operations, sop_class_uids in sop_classes._ROWS for uid in sop_class_uids]
    assert len(listed) == len(set(listed))
    assert not uids.STORAGE_CLASSES & set(listed)


def test_operations_are_those_of_ps3_7():
    known = {"C-ECHO", "C-STORE", "C-FIND", "C-GET", "C-MOVE"}
    known |= {"N-EVENT-REPORT", "N-GET", "N-SET", "N-ACTION", "N-CREATE", "N-DELETE"}
    for uid, (_service, operations) in SOP_CLASS_SERVICES.items():
        assert operations, uid
        assert operations <= known, uid


# What pynetdicom calls its groups, and the service that we give each SOP class of the group.
PYNETDICOM_GROUPS = {
    "VERIFICATION": {Service.VERIFICATION},
    "STORAGE": {Service.STORAGE},
    "NON_PATIENT_OBJECT": {Service.STORAGE},
    "QR": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "HANGING_PROTOCOL": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "COLOR_PALETTE": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "IMPLANT_TEMPLATE": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "DEFINED_PROCEDURE": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "PROTOCOL_APPROVAL": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "INVENTORY": {Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET},
    "BASIC_WORKLIST": {Service.WORKLIST},
    "RELEVANT_PATIENT_QUERY": {Service.RELEVANT_PATIENT_QUERY},
    "SUBSTANCE_ADMINISTRATION": {Service.SUBSTANCE_QUERY},
    "PROCEDURE_STEP": {Service.MPPS},
    "STORAGE_COMMITMENT": {Service.STORAGE_COMMITMENT},
    "STORAGE_MANAGEMENT": {Service.STORAGE_MANAGEMENT},
    "APPLICATION_EVENT": {Service.EVENT_LOGGING},
    "INSTANCE_AVAILABILITY": {Service.INSTANCE_AVAILABILITY},
    "MEDIA_CREATION": {Service.MEDIA_CREATION},
    "DISPLAY_SYSTEM": {Service.DISPLAY_SYSTEM},
    "PRINT_MANAGEMENT": {Service.PRINT},
    "RT_MACHINE_VERIFICATION": {Service.RT_MACHINE_VERIFICATION},
    "UNIFIED_PROCEDURE_STEP": {
        Service.UPS_PUSH,
        Service.UPS_PULL,
        Service.UPS_WATCH,
        Service.UPS_EVENT,
        Service.UPS_QUERY,
    },
}


def _pynetdicom_groups() -> dict[str, dict[str, str]]:
    names = (name for name in dir(pynetdicom.sop_class) if name.startswith("_") and name.endswith("_CLASSES"))
    groups = {name[1 : -len("_CLASSES")]: getattr(pynetdicom.sop_class, name) for name in names}
    return {name: group for name, group in groups.items() if name not in ("SERVICE", "MEDIA_STORAGE")}


def test_every_group_of_pynetdicom_is_compared():
    assert _pynetdicom_groups().keys() == PYNETDICOM_GROUPS.keys()


@pytest.mark.parametrize("group", sorted(PYNETDICOM_GROUPS))
def test_services_agree_with_pynetdicom(group):
    sop_class_uids = [str(uid) for uid in _pynetdicom_groups()[group].values()]
    assert {service_of(uid) for uid in sop_class_uids} == PYNETDICOM_GROUPS[group]
    for uid in sop_class_uids:
        name = uids.SOP_CLASSES[uid].upper()
        for verb in ("FIND", "MOVE", "GET"):
            if name.endswith(f"- {verb}"):
                assert operations_of(uid) == {f"C-{verb}"}


@pytest.fixture
def _empty_private_registry(monkeypatch):
    monkeypatch.setattr(sop_classes, "_private", {})


@pytest.mark.usefixtures("_empty_private_registry")
def test_a_private_sop_class_is_known_once_registered():
    private = "1.3.12.2.1107.5.9.1"
    assert service_of(private) is None
    assert operations_of(private) == frozenset()
    register_private(private, Service.STORAGE)
    register_private(private, Service.STORAGE)
    assert service_of(private) is Service.STORAGE
    assert operations_of(private) == {"C-STORE"}


@pytest.mark.usefixtures("_empty_private_registry")
def test_a_private_sop_class_gets_every_operation_of_its_service():
    register_private("1.2.3", Service.MPPS)
    assert operations_of("1.2.3") == {"N-CREATE", "N-SET", "N-GET", "N-EVENT-REPORT"}


@pytest.mark.usefixtures("_empty_private_registry")
def test_a_sop_class_is_of_one_service_alone():
    register_private("1.2.3", Service.STORAGE)
    with pytest.raises(ValueError, match="Storage already"):
        register_private("1.2.3", Service.QUERY)
    with pytest.raises(ValueError, match="Verification already"):
        register_private(uids.VERIFICATION, Service.STORAGE)
    register_private(uids.VERIFICATION, Service.VERIFICATION)


@pytest.mark.parametrize("text", ["", "1", "1.2.", "1..2", "1.02", "a.b", "1.2\n", "1." + "2" * 63])
def test_what_is_not_a_uid_is_not_registered(text):
    with pytest.raises(ValueError, match="is not a UID"):
        register_private(text, Service.STORAGE)
    assert service_of(text) is None
