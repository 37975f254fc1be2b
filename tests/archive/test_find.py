"""Queries against an index: what matches, what is answered, and how it is encoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from tests.archive.making import CT, MR, Parts, data_set, parts, send

from dulcet import uids
from dulcet.archive import sqlite
from dulcet.archive.answers import Answers
from dulcet.archive.attributes import ATTRIBUTES, LEVELS
from dulcet.archive.index import IndexTrouble
from dulcet.archive.matching import read_query, read_retrieve
from dulcet.services.extended import QueryOptions
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.models import MODELS
from dulcet.services.refusals import Refused

RELATIONAL = QueryOptions(relational=True)
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN

#          number study series values
CONTENTS: list[tuple[int, str, str, dict[str, Any]]] = [
    (1, "1.2.1", "1.2.1.1", {"InstanceNumber": "1", "Rows": 512, "ImageType": ["ORIGINAL", "PRIMARY"]}),
    (2, "1.2.1", "1.2.1.1", {"InstanceNumber": "02", "Rows": 256, "ImageType": ["DERIVED", "PRIMARY"]}),
    (3, "1.2.1", "1.2.1.2", {"Modality": "SR", "SeriesNumber": "7", "SeriesDescription": "Report [final]"}),
    (
        4, "1.2.2", "1.2.2.1",
        {
            "PatientName": "Müller^Jörg^Xaver", "PatientID": "P2", "StudyDate": "2021.02.28", "StudyTime": "2359",
            "SpecificCharacterSet": "ISO_IR 100", "Modality": "MR", "SOPClassUID": MR, "AccessionNumber": "A100",
            "RequestAttributesSequence": [
                {"RequestedProcedureID": "RP1", "ScheduledProcedureStepID": "SPS1"},
                {"RequestedProcedureID": "RP2", "ScheduledProcedureStepID": "SPS2"},
            ],
        },
    ),
    (
        5, "1.2.3", "1.2.3.1",
        {
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "PatientID": "P3", "StudyDate": "20220101",
            "StudyTime": "000030.5", "SpecificCharacterSet": "ISO_IR 192", "TimezoneOffsetFromUTC": "+0900",
            "AcquisitionDateTime": "20220101001500.000000+0900", "StudyDescription": "Head *",
        },
    ),
    (6, "1.2.4", "1.2.4.1", {"PatientName": "", "PatientID": "", "StudyDate": "", "StudyTime": ""}),
]  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with parts(tmp_path_factory.mktemp("archive")) as made:
        for number, study, series, values in CONTENTS:
            values = dict(values)
            items = values.pop("RequestAttributesSequence", None)
            data = data_set(number, study=study, series=series, **values)
            if items:
                data.RequestAttributesSequence = [_item(item) for item in items]
            send(made.ingest, data)
        yield made


def _item(values: dict[str, str]) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def find(
    archive: Parts, level: str, *, model: str = "study", options: QueryOptions = RELATIONAL,
    syntax: str = EXPLICIT, strict: bool = False, **keys: Any,
) -> list[Dataset]:  # fmt: skip
    identifier = keys.pop("identifier", None) or build_identifier(keys, level=level)
    query = read_query(identifier, MODELS[model], options, strict=strict)
    answers = Answers(query, syntax, "ARCHIVE")
    return [decode_dataset(data, syntax) for page in archive.index.find(query) for data in answers.encode(page)]


def studies(archive: Parts, **keys: Any) -> str:
    """The last digits of the studies that match."""
    return "".join(found.StudyInstanceUID[-1] for found in find(archive, "STUDY", **keys))


# ---------------------------------------------------------------------- person names


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "1234"),
        ("*", "1234"),
        ("Doe^John", "1"),
        ("DOE^JOHN", "1"),
        ("doe", ""),
        ("doe^john*", "1"),
        ("doe^^", ""),
        ("Doe*", "1"),
        ("*john*", "1"),
        ("D?e^*", "1"),
        ("^John", "1"),
        ("Jo", ""),
        ("Doe^J", ""),
        ("doe^j*^^^", "1"),
        ("muller^jorg", ""),
        ("muller^jorg*", "2"),
        ("muller^^xaver", "2"),
        ("MÜLLER^*^x*", "2"),
        ("M*r^J*", "2"),
        ("山田", ""),
        ("山田*", "3"),
        ("=山田^太郎", "3"),
        ("==やまだ*", "3"),
        ("=Yamada", ""),
        ("Yamada*=山田*", "3"),
        ("Yamada=山田*", ""),
        ("a*a*a*a*a*a*a*b", ""),
        ("*a*m*a*d*^*u", "3"),
        ("[d]oe", ""),
    ],
)
def test_names_match_without_case_and_accents_and_by_component(archive: Parts, key: str, expected: str) -> None:
    assert studies(archive, PatientName=key) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("jon dow", "1"), ("jack dow", ""), ("joh", "1"), ("John Doe", "1"), ("Jon Do", "1"), ("Mueller", "2"),
        ("Yorg", ""), ("*", "1234"), ("山", "3"),
    ],
)
def test_fuzzy_names_sound_alike_in_any_order(archive: Parts, key: str, expected: str) -> None:
    assert studies(archive, PatientName=key, options=QueryOptions(fuzzy=True)) == expected


# ---------------------------------------------------------------------- dates, times, zones


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"StudyDate": "20200131"}, "1"),
        ({"StudyDate": "2020.01.31"}, "1"),
        ({"StudyDate": "20200101-20211231"}, "12"),
        ({"StudyDate": "-20210228"}, "12"),
        ({"StudyDate": "20210228-"}, "23"),
        ({"StudyTime": "1015"}, "1"),
        ({"StudyTime": "10"}, "1"),
        ({"StudyTime": "101500.5"}, ""),
        ({"StudyTime": "000000-000030.5"}, "3"),
        ({"StudyTime": "23-"}, "2"),
        ({"StudyDate": "20210101-20220101", "StudyTime": "2300-0001"}, ""),
    ],
)
def test_dates_and_times_match_singly_and_as_ranges(archive: Parts, keys: dict[str, str], expected: str) -> None:
    assert studies(archive, **keys) == expected


def test_date_and_time_ranges_are_one_where_it_was_negotiated(archive: Parts) -> None:
    keys = {"StudyDate": "20210228-20220101", "StudyTime": "2300-0001"}
    assert studies(archive, options=QueryOptions(date_time=True), **keys) == "23"
    for date, time, expected in (
        ("20210228-20220101", "2359-000000", "2"),
        ("20210228-", "2300-", "23"),
        ("-20210228", "-2359", "12"),
        ("20210228", "2300-", "2"),
    ):
        assert studies(archive, options=QueryOptions(date_time=True), StudyDate=date, StudyTime=time) == expected


def test_date_times_compare_with_their_offset(archive: Parts) -> None:
    for key, count in (("20211231151500+0000", 1), ("20211231-", 1), ("-20211231150000+0000", 0), ("2020", 0)):
        assert len(find(archive, "IMAGE", AcquisitionDateTime=key)) == count, key


def test_time_zones_are_adjusted_where_it_was_negotiated(archive: Parts) -> None:
    zone = QueryOptions(time_zone=True, relational=True)
    # Half past midnight in Tokyo is still the year before in Greenwich.
    assert studies(archive, options=zone, StudyDate="20211231", TimezoneOffsetFromUTC="+0000") == "3"
    assert studies(archive, options=zone, StudyDate="20220101", TimezoneOffsetFromUTC="+0900") == "3"
    assert studies(archive, options=zone, StudyDate="20220101", TimezoneOffsetFromUTC="-0500") == ""
    assert studies(archive, options=zone, StudyDate="20220101") == "3"
    assert studies(archive, StudyDate="20220101", TimezoneOffsetFromUTC="-0500") == "3"
    # A study without a zone is of the query's.
    assert studies(archive, options=zone, StudyDate="20200131", TimezoneOffsetFromUTC="-0500") == "1"
    date = {"ContentDate": "20211231", "SeriesDate": ""}
    assert find(archive, "IMAGE", options=zone, TimezoneOffsetFromUTC="+0000", **date) == []
    answer = find(archive, "STUDY", options=zone, StudyInstanceUID="1.2.3", TimezoneOffsetFromUTC="+0000")[0]
    assert answer.TimezoneOffsetFromUTC == "+0900"
    with pytest.raises(Refused, match="TimezoneOffsetFromUTC"):
        studies(archive, options=zone, StudyDate="20211231", TimezoneOffsetFromUTC="UTC")


@pytest.mark.parametrize(("keyword", "value"), [("StudyDate", "tomorrow"), ("StudyTime", "2500"), ("StudyDate", "1-2")])
def test_what_is_no_date_or_time_is_refused_by_name(archive: Parts, keyword: str, value: str) -> None:
    with pytest.raises(Refused) as caught:
        studies(archive, **{keyword: value})
    assert caught.value.status == 0xA900
    assert keyword in str(caught.value)
    assert value not in str(caught.value)


# ---------------------------------------------------------------------- other values


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"PatientID": "P2"}, "2"),
        ({"PatientID": "p2"}, ""),
        ({"PatientID": "P?"}, "123"),
        ({"PatientID": "P*"}, "123"),
        ({"AccessionNumber": "A1*"}, "2"),
        ({"StudyDescription": "Head ?"}, "3"),
        ({"StudyDescription": "*e*a*d* *"}, "3"),
        ({"StudyDescription": "[Hh]ead*"}, ""),
        ({"StudyInstanceUID": ["1.2.1", "1.2.3", "9.9"]}, "13"),
        ({"StudyInstanceUID": "1.2.*"}, ""),
        ({"StudyInstanceUID": "*"}, "1234"),
        ({"ModalitiesInStudy": "SR"}, "1"),
        ({"ModalitiesInStudy": "?R"}, "12"),
        ({"ModalitiesInStudy": ["MR", "SR"]}, "12"),
        ({"ModalitiesInStudy": ["MR", "S*"]}, "12"),
        ({"ModalitiesInStudy": "C"}, ""),
        ({"SOPClassesInStudy": MR}, "2"),
        ({"NumberOfStudyRelatedInstances": "3"}, "1234"),
        ({"AccessionNumber": ["A100", "B*"]}, "2"),
    ],
)
def test_values_match_as_their_vr_says(archive: Parts, keys: dict[str, Any], expected: str) -> None:
    assert studies(archive, **keys) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"InstanceNumber": "2"}, "2"),
        ({"InstanceNumber": "1"}, "1"),
        ({"Rows": 7}, ""),
        ({"Rows": 512}, "1"),
        ({"ImageType": "DERIVED"}, "2"),
        ({"ImageType": ["DERIVED", "ORIGINAL"]}, "12"),
        ({"ImageType": "ORIG*"}, "1"),
        ({"SOPInstanceUID": ["1.2.9.2", "1.2.9.5"]}, "25"),
        ({"SeriesInstanceUID": "1.2.1.2"}, "3"),
        ({"SeriesDescription": "Report [*"}, "3"),
        ({"Modality": "MR"}, "4"),
        ({"SeriesNumber": "007"}, "3"),
        ({"PatientID": "P1", "Modality": "CT"}, "12"),
        ({"SOPInstanceUID": "1.2.9.2", "SeriesInstanceUID": "1.2.1.2"}, ""),
        ({"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}, "12"),
    ],
)
def test_image_level_matches_on_every_level(archive: Parts, keys: dict[str, Any], expected: str) -> None:
    found = find(archive, "IMAGE", **keys)
    assert "".join(answer.SOPInstanceUID[-1] for answer in found) == expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"ScheduledProcedureStepID": "SPS2"}, ["1.2.2.1"]),
        ({"ScheduledProcedureStepID": "SPS*", "RequestedProcedureID": "RP1"}, ["1.2.2.1"]),
        ({"ScheduledProcedureStepID": "SPS1", "RequestedProcedureID": "RP2"}, []),
        ({"ScheduledProcedureStepID": ["x", "S?S1"]}, ["1.2.2.1"]),
        ({"ScheduledProcedureStepID": ""}, None),
        ({"ReasonForTheRequestedProcedure": "x"}, None),
        (None, None),
    ],
)
def test_request_attributes_match_within_one_item(archive: Parts, item: dict[str, Any] | None, expected: Any) -> None:
    identifier = build_identifier({}, level="SERIES")
    identifier.RequestAttributesSequence = [] if item is None else [_item(item)]
    found = find(archive, "SERIES", identifier=identifier)
    if expected is None:
        assert len(found) == 5
    else:
        assert [answer.SeriesInstanceUID for answer in found] == expected
    with_items = [answer for answer in found if answer.RequestAttributesSequence]
    if expected != []:
        items = with_items[0].RequestAttributesSequence
        assert [given.ScheduledProcedureStepID for given in items] == ["SPS1", "SPS2"]


# ---------------------------------------------------------------------- levels


def test_patient_level_has_its_own_rows_and_counters(archive: Parts) -> None:
    found = find(
        archive, "PATIENT", model="patient", PatientName="", NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="", NumberOfPatientRelatedInstances="",
    )  # fmt: skip
    assert [
        (
            answer.PatientID, int(answer.NumberOfPatientRelatedStudies), int(answer.NumberOfPatientRelatedSeries),
            int(answer.NumberOfPatientRelatedInstances),
        )
        for answer in found
    ] == [("P1", 1, 2, 3), ("P2", 1, 1, 1), ("P3", 1, 1, 1), ("", 1, 1, 1)]  # fmt: skip
    found = find(archive, "PATIENT", model="patient", PatientName="mull*", options=QueryOptions())
    assert [answer.PatientName for answer in found] == ["Müller^Jörg^Xaver"]


def test_study_and_series_counters(archive: Parts) -> None:
    study = find(
        archive, "STUDY", StudyInstanceUID="1.2.1", NumberOfStudyRelatedSeries="", NumberOfStudyRelatedInstances="",
        ModalitiesInStudy="", SOPClassesInStudy="",
    )[0]  # fmt: skip
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 3)
    assert (list(study.ModalitiesInStudy), study.SOPClassesInStudy) == (["CT", "SR"], CT)
    series = find(archive, "SERIES", StudyInstanceUID="1.2.1", NumberOfSeriesRelatedInstances="")
    assert [int(answer.NumberOfSeriesRelatedInstances) for answer in series] == [2, 1]


def test_a_series_answer_has_what_was_asked_of_study_and_patient(archive: Parts) -> None:
    answer = find(
        archive, "SERIES", StudyInstanceUID="1.2.1", StudyDate="", PatientName="", Modality="SR", SeriesNumber=""
    )[0]
    assert answer.QueryRetrieveLevel == "SERIES"
    assert (answer.StudyDate, answer.PatientName, answer.SeriesNumber) == ("20200131", "Doe^John", 7)
    assert (answer.StudyInstanceUID, answer.SeriesInstanceUID) == ("1.2.1", "1.2.1.2")


@pytest.mark.parametrize(
    ("model", "level", "keys", "missing"),
    [
        ("study", "SERIES", {}, "StudyInstanceUID"),
        ("study", "IMAGE", {"StudyInstanceUID": "1.2.1"}, "SeriesInstanceUID"),
        ("patient", "STUDY", {}, "PatientID"),
        ("patient", "SERIES", {"StudyInstanceUID": "1.2.1"}, "PatientID"),
    ],
)
def test_a_query_without_the_keys_above_is_refused_if_strict_and_not_negotiated_as_relational(
    archive: Parts, model: str, level: str, keys: dict[str, str], missing: str
) -> None:
    with pytest.raises(Refused, match=missing) as caught:
        find(archive, level, model=model, options=QueryOptions(), strict=True, **keys)
    assert caught.value.status == 0xA900
    assert find(archive, level, model=model, options=RELATIONAL, strict=True, **keys)
    assert find(archive, level, model=model, options=QueryOptions(), **keys)
    # A key that everything matches is none.
    with pytest.raises(Refused, match=missing):
        find(archive, level, model=model, options=QueryOptions(), strict=True, **{**keys, missing: "*"})


@pytest.mark.parametrize(
    ("model", "level"), [("study", "PATIENT"), ("patient-study-only", "SERIES"), ("patient", "FRAME"), ("study", "")]
)
def test_an_unknown_level_is_refused(archive: Parts, model: str, level: str) -> None:
    with pytest.raises(Refused, match="Level") as caught:
        find(archive, level, model=model)
    assert caught.value.status == 0xA900


def test_levels_may_be_in_small_letters_and_padded(archive: Parts) -> None:
    identifier = build_identifier({}, level="STUDY")
    identifier.QueryRetrieveLevel = "study "
    assert len(find(archive, "", identifier=identifier)) == 4


def test_keys_that_are_not_supported_are_told_and_not_answered(archive: Parts) -> None:
    keys = {"BurnedInAnnotation": "YES", "Modality": "CT", "NumberOfPatientRelatedStudies": ""}
    query = read_query(build_identifier(keys, level="STUDY"), MODELS["study"])
    assert query.unsupported == [0x00080060, 0x00201200, 0x00280301]
    answer = find(archive, "STUDY", **keys)[0]
    assert {"BurnedInAnnotation", "Modality"} & set(answer.dir()) == set()
    assert read_query(build_identifier({"PatientName": ""}, level="STUDY"), MODELS["study"]).unsupported == []
    grouped = build_identifier({}, level="STUDY")
    grouped.add_new(0x00080000, "UL", 4)
    grouped.TimezoneOffsetFromUTC = "+0100"
    assert read_query(grouped, MODELS["study"]).unsupported == []
    patients = build_identifier({"TimezoneOffsetFromUTC": "+0100"}, level="PATIENT")
    assert read_query(patients, MODELS["patient"]).unsupported == []


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize("syntax", sorted(uids.UNCOMPRESSED))
def test_answers_are_encoded_in_every_syntax(archive: Parts, syntax: str) -> None:
    keys = {"Rows": 512, "PatientName": "", "RequestAttributesSequence": "", "StudyTime": ""}
    answer = find(archive, "IMAGE", syntax=syntax, **keys)[0]
    assert (answer.Rows, answer.PatientName, answer.SOPInstanceUID) == (512, "Doe^John", "1.2.9.1")
    assert "SpecificCharacterSet" not in answer
    assert list(answer.RequestAttributesSequence) == []
    tags = [int(element.tag) for element in answer]
    assert tags == sorted(tags)


@pytest.mark.parametrize(
    ("asked", "study", "answered"),
    [
        ("", "1.2.2", "ISO_IR 192"),
        ("ISO_IR 100", "1.2.2", "ISO_IR 100"),
        ("ISO_IR 101", "1.2.2", "ISO_IR 101"),
        ("ISO_IR 144", "1.2.2", "ISO_IR 192"),
        ("ISO_IR 192", "1.2.2", "ISO_IR 192"),
        ("ISO 2022 IR 87", "1.2.2", "ISO_IR 192"),
        ("ISO 2022 IR 100", "1.2.2", "ISO 2022 IR 100"),
        ("ISO 2022 IR 144\\ISO 2022 IR 100", "1.2.2", "ISO 2022 IR 144\\ISO 2022 IR 100"),
        ("ISO_IR 13", "1.2.3", "ISO_IR 192"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "1.2.3", "ISO 2022 IR 13\\ISO 2022 IR 87"),
        ("\\ISO 2022 IR 87", "1.2.3", "\\ISO 2022 IR 87"),
        ("\\ISO 2022 IR 58", "1.2.3", "\\ISO 2022 IR 58"),
        ("\\ISO 2022 IR 149", "1.2.2", "ISO_IR 192"),
        ("GB18030", "1.2.3", "GB18030"),
        ("GBK", "1.2.2", "ISO_IR 192"),
        ("NO SUCH SET", "1.2.2", "ISO_IR 192"),
        ("ISO_IR 100", "1.2.3", "ISO_IR 192"),
        ("ISO_IR 100", "1.2.1", None),
    ],
)
@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_text_is_in_the_characters_of_the_query_where_they_do(
    archive: Parts, level: str, asked: str, study: str, answered: str | None
) -> None:
    keys = {"StudyInstanceUID": study, "PatientName": "", "RequestAttributesSequence": ""}
    identifier = build_identifier(keys, level=level)
    if asked:
        identifier.SpecificCharacterSet = asked.split("\\")
    answer = find(archive, level, identifier=identifier)[0]
    said = answer.get("SpecificCharacterSet")
    assert (None if said is None else said if isinstance(said, str) else "\\".join(said)) == answered
    names = {"1.2.1": "Doe^John", "1.2.2": "Müller^Jörg^Xaver", "1.2.3": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
    # pydicom leaves the escape of ISO 2022 IR 58 where it is.
    assert str(answer.PatientName).replace("\x1b$)A", "") == names[study]


def test_one_answer_in_another_character_set_leaves_the_rest_in_the_querys(archive: Parts) -> None:
    identifier = build_identifier({"PatientName": ""}, level="STUDY")
    identifier.SpecificCharacterSet = "ISO_IR 100"
    answers = find(archive, "STUDY", identifier=identifier)
    assert [answer.get("SpecificCharacterSet") for answer in answers] == [None, "ISO_IR 100", "ISO_IR 192", None]


SYLLABLES = "\u8868\u5c71"  # in Shift-JIS the second byte of the first one is a backslash


@pytest.mark.parametrize("asked", ["ISO_IR 13", "ISO 2022 IR 13", "GB18030", "", "ISO 2022 IR 13\\ISO 2022 IR 87"])
def test_no_answer_holds_a_byte_that_reads_as_a_delimiter(tmp_path: Path, asked: str) -> None:
    with parts(tmp_path) as archive:
        name = f"Omote^Taro={SYLLABLES}^\u4fd3"
        send(archive.ingest, data_set(1, PatientName=name, SpecificCharacterSet="ISO_IR 192"))
        identifier = build_identifier({"PatientName": ""}, level="STUDY")
        identifier.SpecificCharacterSet = asked.split("\\")
        query = read_query(identifier, MODELS["study"], RELATIONAL)
        (data,) = [data for page in archive.index.find(query) for data in Answers(query, EXPLICIT, "A").encode(page)]
        answer = decode_dataset(data, EXPLICIT)
        assert answer.SpecificCharacterSet == "ISO_IR 192"
        assert answer.PatientName == name
        assert b"\\" not in data


def test_a_code_string_beyond_ascii_is_found_and_answered_as_it_came(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        for number, (sets, codec) in enumerate((("GB18030", "gb18030"), ("ISO_IR 192", "utf_8"))):
            made = data_set(number, study=f"1.{number}", series=f"1.{number}.1", SpecificCharacterSet=sets)
            encoded = encode_dataset(made, EXPLICIT)[0]
            part = "头部".encode(codec)
            element = b"\x18\x00\x15\x00CS" + len(part).to_bytes(2, "little") + part
            at = encoded.index(b"\x20\x00\x0d\x00")
            send(
                archive.ingest, encoded[:at] + element + encoded[at:],
                sop_class_uid=CT, sop_instance_uid=f"1.2.9.{number}",
            )  # fmt: skip
        for sets, codec in (("GB18030", "gb18030"), ("ISO_IR 192", "utf_8"), ("ISO_IR 100", "utf_8")):
            identifier = build_identifier({"BodyPartExamined": ""}, level="SERIES")
            identifier.SpecificCharacterSet = sets
            if sets != "ISO_IR 100":
                identifier.BodyPartExamined = "头部".encode(codec).decode("latin-1")
            query = read_query(identifier, MODELS["study"], RELATIONAL)
            data = [data for page in archive.index.find(query) for data in Answers(query, EXPLICIT, "A").encode(page)]
            assert len(data) == 2
            assert all("头部".encode(codec) in one for one in data)
            assert all(decode_dataset(one, EXPLICIT).SpecificCharacterSet in (sets, "ISO_IR 192") for one in data)


def test_an_escape_that_was_not_understood_is_answered(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        encoded = encode_dataset(data_set(1, PatientName="Doe^____", SpecificCharacterSet="ISO_IR 100"), EXPLICIT)[0]
        send(
            archive.ingest, encoded.replace(b"____", b"\x1b%_\xe9"), sop_class_uid=CT, sop_instance_uid="1.2.9.1"
        )  # fmt: skip
        for asked in ("", "ISO_IR 100", "\\ISO 2022 IR 87", "ISO_IR 192"):
            identifier = build_identifier({"PatientName": ""}, level="STUDY")
            identifier.SpecificCharacterSet = asked.split("\\")
            (answer,) = find(archive, "STUDY", identifier=identifier)
            assert answer.SpecificCharacterSet == "ISO_IR 192"
            assert b"Doe^\x1b%_\xc3\xa9" in encode_dataset(answer, EXPLICIT)[0]


def test_a_key_in_the_chinese_of_iso_2022_is_read(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1, PatientName="Zhang=张^小东", SpecificCharacterSet="GB18030"))
        identifier = build_identifier({"SpecificCharacterSet": ["", "ISO 2022 IR 58"]}, level="STUDY")
        encoded = encode_dataset(identifier, EXPLICIT)[0] + b"\x10\x00\x10\x00PN\x08\x00\x1b$)A\xd5\xc5* "
        assert len(find(archive, "STUDY", identifier=decode_dataset(encoded, EXPLICIT))) == 1


def test_where_and_whether_it_is_there_is_answered_when_asked(archive: Parts) -> None:
    answer = find(archive, "STUDY", RetrieveAETitle="", InstanceAvailability="", StudyInstanceUID="1.2.1")[0]
    assert (answer.RetrieveAETitle, answer.InstanceAvailability) == ("ARCHIVE", "ONLINE")
    image = find(archive, "IMAGE", AvailableTransferSyntaxUID="", SOPInstanceUID="1.2.9.1")[0]
    assert image.AvailableTransferSyntaxUID == EXPLICIT


def test_many_answers_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(sqlite, "STUDIES_AT_ONCE", 2)
    with parts(tmp_path) as archive:
        for study, series, number in itertools.product(range(5), range(2), range(3)):
            send(archive.ingest, data_set(
                study * 100 + series * 10 + number, study=f"1.{study + 1}", series=f"1.{study + 1}.{series}",
                PatientID=str(study),
            ))  # fmt: skip
        expected = [f"1.2.9.{a * 100 + b * 10 + c}" for a, b, c in itertools.product(range(5), range(2), range(3))]
        assert [found.SOPInstanceUID for found in find(archive, "IMAGE")] == expected
        assert len(find(archive, "SERIES")) == 10
        assert len(find(archive, "STUDY")) == 5
        assert len(find(archive, "PATIENT", model="patient")) == 5
        selection = archive.index.select(read_retrieve(
            build_identifier({"PatientID": "3"}, level="PATIENT"), MODELS["patient"]
        ))  # fmt: skip
        assert (len(selection), [kept.sop_instance_uid for kept in selection]) == (6, expected[18:24])


def test_a_query_may_be_left_at_any_answer_and_sees_nothing_locked(archive: Parts) -> None:
    pages = archive.index.find(read_query(build_identifier({}, level="IMAGE"), MODELS["study"], RELATIONAL))
    next(pages)
    send(archive.ingest, data_set(1))  # a writer is not held up, nor is a checkpoint
    archive.index._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages.close()


# ---------------------------------------------------------------------- retrieve


@pytest.mark.parametrize(
    ("level", "keys", "expected"),
    [
        ("PATIENT", {"PatientID": "P1"}, "123"),
        ("STUDY", {"PatientID": "P1", "StudyInstanceUID": ["1.2.1", "1.2.2"]}, "123"),
        ("SERIES", {"PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.2"}, "3"),
        ("IMAGE", {
            "PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1",
            "SOPInstanceUID": ["1.2.9.1", "1.2.9.3"],
        }, "1"),
        ("STUDY", {"PatientID": "P1", "StudyInstanceUID": "9"}, ""),
    ],
)  # fmt: skip
def test_unique_keys_select_what_is_retrieved(archive: Parts, level: str, keys: dict[str, Any], expected: str) -> None:
    query = read_retrieve(build_identifier(keys, level=level), MODELS["patient"])
    assert "".join(kept.sop_instance_uid[-1] for kept in archive.index.select(query)) == expected


def test_a_retrieve_needs_the_key_of_its_level_alone_unless_strict(archive: Parts) -> None:
    identifier = build_identifier({"SOPInstanceUID": "1.2.9.4"}, level="IMAGE")
    query = read_retrieve(identifier, MODELS["study"])
    assert [kept.sop_instance_uid for kept in archive.index.select(query)] == ["1.2.9.4"]
    with pytest.raises(Refused, match="StudyInstanceUID"):
        read_retrieve(identifier, MODELS["study"], strict=True)


def test_nothing_is_retrieved_without_the_key_of_the_level(archive: Parts) -> None:
    with pytest.raises(Refused, match="StudyInstanceUID has no value") as caught:
        read_retrieve(build_identifier({"PatientName": "*"}, level="STUDY"), MODELS["study"])
    assert caught.value.status == 0xA900


def test_any_number_of_uids_can_be_asked_for(archive: Parts) -> None:
    uids_ = [f"1.2.9.{number}" for number in range(40000)]
    assert len(archive.index.select(read_retrieve(
        build_identifier({"SOPInstanceUID": uids_}, level="IMAGE"), MODELS["study"]
    ))) == 6  # fmt: skip


def test_after_the_end_the_index_says_so(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        pass
    with pytest.raises(IndexTrouble, match="closed"):
        archive.index.known("1.2")


# ---------------------------------------------------------------------- whatever comes

TEXT = st.text(alphabet="*?\\-^= 0123456789ADdeoö[]%_'\"+:.山", max_size=40)
KEYS = st.dictionaries(st.sampled_from(sorted(ATTRIBUTES)), TEXT, max_size=6)


@given(level=st.sampled_from(LEVELS), keys=KEYS, flags=st.tuples(*[st.booleans()] * 4), zone=TEXT)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")
def test_any_query_is_answered_or_refused(
    archive: Parts, level: str, keys: dict[str, str], flags: tuple[bool, bool, bool, bool], zone: str
) -> None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.TimezoneOffsetFromUTC = zone
    for keyword, text in keys.items():
        vr = ATTRIBUTES[keyword].vr
        value: Any = [_item({"RequestedProcedureID": text})] if vr == "SQ" else len(text) if vr == "US" else text
        try:
            identifier.add_new(ATTRIBUTES[keyword].tag, vr, value)
            _ = str(identifier[keyword].value)
        except (ValueError, OverflowError, TypeError):
            identifier.pop(keyword, None)  # no data set that decodes holds it
    options = QueryOptions(*flags)
    try:
        answers = find(archive, level, model="patient", options=options, identifier=identifier)
    except Refused:
        return
    assert len(answers) <= 6
    assert all(answer.QueryRetrieveLevel == level for answer in answers)
