"""Identifiers and attribute lists: from keywords to bytes and back (PS3.4 C.4.1, PS3.5)."""

from __future__ import annotations

import subprocess
import sys
import zlib
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from dulcet import uids
from dulcet.errors import InstanceError, ReceiveError
from dulcet.services import identifiers
from dulcet.services.identifiers import attribute_tags, build_identifier, decode_dataset, encode_dataset

IMPLICIT, EXPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG, DEFLATED = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED]


# --- encoding and decoding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_data_set_survives_every_syntax(syntax: str) -> None:
    dataset = build_identifier({"PatientName": "DOE^J", "StudyInstanceUID": ["1.2", "1.3"], "Rows": 5}, level="study")
    data, used = encode_dataset(dataset, syntax)
    assert used == syntax
    assert len(data) % 2 == 0
    decoded = decode_dataset(data, syntax)
    assert decoded == dataset
    assert decoded.file_meta.TransferSyntaxUID == syntax


@given(
    st.dictionaries(
        st.sampled_from(["PatientName", "PatientID", "StudyDescription", "AccessionNumber"]),
        st.text("ABC^ *?", min_size=1, max_size=12).map(str.strip),
    ),
    st.sampled_from(SYNTAXES),
)
def test_what_is_asked_for_arrives(keys: dict[str, str], syntax: str) -> None:
    decoded = decode_dataset(encode_dataset(build_identifier(keys), syntax)[0], syntax)
    assert {keyword: str(decoded.get(keyword) or "") for keyword in keys} == keys


def test_without_a_syntax_that_of_its_file_meta_counts() -> None:
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    assert encode_dataset(dataset)[1] == EXPLICIT


@pytest.mark.parametrize(
    ("implicit", "little", "syntax"), [(True, True, IMPLICIT), (False, True, EXPLICIT), (False, False, BIG)]
)
def test_without_file_meta_the_encoding_that_it_was_read_in_counts(implicit: bool, little: bool, syntax: str) -> None:
    read = decode_dataset(encode_dataset(build_identifier({"PatientID": "1"}), syntax)[0], syntax)
    read.file_meta = pydicom.dataset.FileMetaDataset()
    assert read.original_encoding == (implicit, little)
    assert encode_dataset(read)[1] == syntax


def test_a_data_set_that_was_just_made_is_explicit_little_endian() -> None:
    assert encode_dataset(build_identifier({"PatientID": "1"}))[1] == EXPLICIT


def test_file_meta_names_class_and_instance_where_the_data_set_does() -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uids.CT_IMAGE_STORAGE, "1.2.3"
    meta = decode_dataset(encode_dataset(dataset, EXPLICIT)[0], EXPLICIT).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (uids.CT_IMAGE_STORAGE, "1.2.3")
    assert "MediaStorageSOPClassUID" not in decode_dataset(b"", EXPLICIT).file_meta


def test_what_pydicom_cannot_write_is_an_instance_error() -> None:
    dataset = Dataset()
    dataset.add_new(0x00280010, "US", "many")
    with pytest.raises(InstanceError, match="cannot be encoded"):
        encode_dataset(dataset, IMPLICIT)


def test_what_does_not_decode_is_c000h_and_does_not_repeat_what_it_holds() -> None:
    with pytest.raises(ReceiveError, match="does not decode") as caught:
        decode_dataset(b"no deflated data of DOE^JOHN", DEFLATED)
    assert caught.value.status == 0xC000
    assert "DOE" not in str(caught.value)


def test_a_deflated_data_set_is_inflated_to_a_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "MAX_INFLATED", 1000)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(b"\0" * 100_000) + deflate.flush()
    with pytest.raises(ReceiveError, match="ValueError"):
        decode_dataset(bomb, DEFLATED)


# --- identifiers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_asks_for_the_value(nothing: str | None) -> None:
    identifier = build_identifier({"PatientName": nothing, "ReferencedStudySequence": nothing})
    assert identifier["PatientName"].is_empty
    assert len(identifier.ReferencedStudySequence) == 0


def test_a_level_is_in_capitals() -> None:
    assert build_identifier({}, level="series").QueryRetrieveLevel == "SERIES"
    assert "QueryRetrieveLevel" not in build_identifier({})


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ({"Modality": "CT"}, [{"Modality": "CT"}]),
        ([{"Modality": "CT"}, {"Modality": "MR"}], [{"Modality": "CT"}, {"Modality": "MR"}]),
        ([build_identifier({"Modality": "CT"})], [{"Modality": "CT"}]),
        ([{}], [{}]),
    ],
)
def test_a_mapping_is_an_item_of_a_sequence(value: Any, items: list[dict[str, str]]) -> None:
    identifier = build_identifier({"ScheduledProcedureStepSequence": value})
    found = [{element.keyword: element.value for element in item} for item in identifier.ScheduledProcedureStepSequence]
    assert found == items


@pytest.mark.parametrize(
    ("keys", "charset"),
    [
        ({"PatientName": "Müller"}, "ISO_IR 192"),
        ({"ScheduledProcedureStepSequence": [{"ScheduledPerformingPhysicianName": "Müller"}]}, "ISO_IR 192"),
        ({"PatientName": ["A", "Müller"]}, "ISO_IR 192"),
        ({"PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100"}, "ISO_IR 100"),
        ({"PatientName": "Miller", "Rows": 5}, None),
    ],
)
def test_text_beyond_ascii_says_its_character_set(keys: dict[str, Any], charset: str | None) -> None:
    identifier = build_identifier(keys)
    assert identifier.get("SpecificCharacterSet") == charset
    decoded = decode_dataset(encode_dataset(identifier, IMPLICIT)[0], IMPLICIT)
    assert decoded.get("PatientName") == identifier.get("PatientName")


def test_what_is_no_keyword_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="'PatientsName' is no DICOM keyword"):
        build_identifier({"PatientsName": "X"})


def test_a_value_that_may_have_several_representations_takes_the_first() -> None:
    assert build_identifier({"SmallestImagePixelValue": 5})["SmallestImagePixelValue"].VR == "US"


def test_attributes_are_keywords_and_tags() -> None:
    assert attribute_tags(["PatientName", 0x00100020]) == (0x00100010, 0x00100020)
    with pytest.raises(ValueError, match="'Nobody' is no DICOM keyword"):
        attribute_tags(["Nobody"])


@pytest.mark.outside
def test_pydicom_is_loaded_with_the_first_data_set_and_not_before() -> None:
    program = (
        "import sys, dulcet.services.identifiers as i; assert 'pydicom' not in sys.modules; i.build_identifier({}); "
        "assert 'pydicom' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# --- dates and times as Python has them ------------------------------------------------------------------------------

DAY, NEXT = date(2026, 1, 31), date(2026, 2, 1)
HOUR = time(9, 30)
MOMENT = datetime(2026, 1, 31, 9, 30, 15, 250000)
EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("StudyDate", DAY, "20260131"),
        ("StudyDate", date(476, 9, 4), "04760904"),
        ("StudyDate", (DAY, NEXT), "20260131-20260201"),
        ("StudyDate", (DAY, None), "20260131-"),
        ("StudyDate", (None, DAY), "-20260131"),
        ("StudyDate", ("20260131", "20260201"), "20260131-20260201"),
        ("StudyDate", ("20260131", NEXT), "20260131-20260201"),
        ("StudyDate", (DAY, DAY), "20260131-20260131"),
        ("StudyDate", (None, None), ""),
        ("StudyDate", ("", None), ""),
        ("StudyDate", MOMENT, "20260131"),
        ("StudyDate", "20260131-", "20260131-"),
        ("StudyTime", HOUR, "093000"),
        ("StudyTime", (HOUR, time(17)), "093000-170000"),
        ("StudyTime", (time(9, tzinfo=EAST), None), "090000-"),
        ("StudyTime", MOMENT, "093015.250000"),
        ("AcquisitionDateTime", MOMENT, "20260131093015.250000"),
        ("AcquisitionDateTime", MOMENT.replace(tzinfo=EAST), "20260131093015.250000+0530"),
        ("AcquisitionDateTime", (MOMENT, None), "20260131093015.250000-"),
        ("AcquisitionDateTime", (DAY, NEXT), "20260131-20260201"),
        ("AcquisitionDateTime", (MOMENT.replace(tzinfo=EAST), NEXT), "20260131093015.250000+0530-20260201"),
    ],
)  # fmt: skip
def test_dates_and_times_may_be_objects_and_pairs_of_them_ranges(keyword: str, value: Any, text: str) -> None:
    assert build_identifier({keyword: value})[keyword].value == text
    nested = build_identifier({"ScheduledProcedureStepSequence": {keyword: value}})
    assert nested.ScheduledProcedureStepSequence[0][keyword].value == text


def test_a_list_is_one_of_values() -> None:
    assert list(build_identifier({"StudyDate": [DAY, "20260201"]}).StudyDate) == ["20260131", "20260201"]


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("StudyDate", (NEXT, DAY), "StudyDate: the range ends before"),
        ("StudyTime", (time(17), HOUR), "StudyTime: the range ends before"),
        ("StudyDate", (DAY,), "StudyDate: a tuple is a range"),
        ("StudyDate", (DAY, NEXT, DAY), "a list takes 3 values"),
        ("PatientID", ("A", "B"), "PatientID: a tuple is a range, of dates and times alone; several values are a list"),
        ("StudyDate", 20260131, "StudyDate: text is expected, not int"),
        ("PatientID", 4711, "PatientID: text is expected, not int"),
        ("PatientName", True, "PatientName: text is expected, not bool"),
        ("StudyInstanceUID", ["1.2", 1.3], "StudyInstanceUID: text is expected, not float"),
        ("PatientName", DAY, "PatientName: text is expected, not date"),
    ],
)
def test_what_is_no_range_and_no_text_is_an_error_that_names_the_key(keyword: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_identifier({keyword: value})
