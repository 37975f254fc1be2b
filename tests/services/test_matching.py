"""PS3.4 section C.2.2.2: each kind of matching, held against the text and against other ways to compute it."""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dulcet.dimse.status import Status
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.matching import Matcher, fits_wildcards
from dulcet.services.names import fold_name
from dulcet.services.periods import Period, read_date, read_datetime, read_time
from dulcet.services.refusals import Refused


def matches(key: dict[str, Any], candidate: dict[str, Any], **options: Any) -> bool:
    return Matcher(build_identifier(key), **options).matches(build_identifier(candidate))


def one(keyword: str, key: Any, value: Any) -> bool:
    return matches({keyword: key}, {keyword: value})


# ------------------------------------------------------------------------------ universal and single value matching


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("PatientID", "", "4711", True),
        ("PatientID", None, "", True),
        ("PatientID", "4711", "4711", True),
        ("PatientID", "4711 ", " 4711", True),  # padding means nothing in LO
        ("PatientID", "4711", "4712", False),
        ("PatientID", "abc", "ABC", False),  # case counts, but in names
        ("PatientID", "4711", "", False),
        ("Modality", "CT", "CT", True),
        ("PatientAge", "034Y", "034Y", True),
        ("SeriesNumber", "7", "7", True),
        ("SeriesNumber", "07", "7", True),
        ("SeriesNumber", "7", "8", False),
        ("PatientWeight", "70.50", "70.5", True),
        ("Rows", 512, 512, True),
        ("Rows", 512, 256, False),
        ("PregnancyStatus", 0, 4, True),  # what some peers send for an empty US
        ("SeriesNumber", "0", "7", False),
        ("ImageType", "PRIMARY", ["ORIGINAL", "PRIMARY"], True),  # any of several values
        ("ImageType", "SECONDARY", ["ORIGINAL", "PRIMARY"], False),
    ],
)
def test_universal_and_single_value_matching(keyword, key, value, expected):
    assert one(keyword, key, value) is expected


def test_an_absent_attribute_matches_a_universal_key_alone():
    assert matches({"PatientID": ""}, {})
    assert matches({"PatientID": "*"}, {})
    assert not matches({"PatientID": "4711"}, {})
    assert not matches({"PatientID": "?"}, {})
    assert not matches({"StudyDate": "19000101-"}, {})
    assert not matches({"StudyInstanceUID": "1.2"}, {})


def test_bytes_are_compared_as_they_are():
    assert matches({"RedPaletteColorLookupTableData": b"\1\2"}, {"RedPaletteColorLookupTableData": b"\1\2"})
    assert not matches({"RedPaletteColorLookupTableData": b"\1\2"}, {"RedPaletteColorLookupTableData": b"\1\3"})


# ------------------------------------------------------------------------------ lists


def test_a_list_of_uids_matches_any_of_them():
    key = {"StudyInstanceUID": ["1.2.3", "1.2.4"]}
    assert matches(key, {"StudyInstanceUID": "1.2.4"})
    assert not matches(key, {"StudyInstanceUID": "1.2.40"})


def test_a_list_of_other_values_is_taken_as_one_too():
    assert matches({"Modality": ["CT", "MR"]}, {"Modality": "MR"})
    assert not matches({"Modality": ["CT", "MR"]}, {"Modality": "US"})


def test_a_uid_knows_no_wildcards():
    identifier = Dataset()
    identifier.add_new(0x0020000D, "UI", "1.2.*")
    assert not Matcher(identifier).matches(build_identifier({"StudyInstanceUID": "1.2.3"}))


# ------------------------------------------------------------------------------ wildcards


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("PatientID", "4*", "4711", True),
        ("PatientID", "*11", "4711", True),
        ("PatientID", "4?11", "4711", True),
        ("PatientID", "4?1", "4711", False),
        ("PatientID", "****", "", True),
        ("PatientID", "?", "", False),
        ("StudyDescription", "*head*", "CT head plain", True),
        ("StudyDescription", "*HEAD*", "CT head plain", False),
        ("StudyDescription", "[ab]*", "[ab]c", True),  # brackets mean themselves
        ("StudyDescription", "[ab]*", "ac", False),
        ("RetrieveAETitle", "ARC*", "ARCHIVE", True),
        ("ScheduledProcedureStepID", "S?", "S1", True),
        ("SeriesNumber", "7", "7", True),
        ("PatientAge", "0*", "034Y", False),  # AS knows no wildcards
    ],
)
def test_wildcards(keyword, key, value, expected):
    assert one(keyword, key, value) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_what_a_regular_expression_makes_of_them(pattern, text):
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    assert fits_wildcards(pattern, text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


def test_a_hostile_pattern_takes_no_more_than_its_length_times_that_of_the_value():
    started = time.process_time()
    assert not fits_wildcards("*a" * 200 + "b", "a" * 10_000)
    assert time.process_time() - started < 5.0  # a backtracking matcher does not come back


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DOE^JOHN", "Doe^John", True),
        ("doe^*", "DOE^JOHN", True),
        ("DOE", "DOE^JOHN", False),
        ("DOE*", "DOE^JOHN", True),
        ("DOE^JOHN", "DOE^JOHN^^^", True),
        ("DOE^JOHN^", "DOE ^ JOHN", True),
        ("MULLER^JORG", "Müller^Jörg", True),
        ("Müller*", "MULLER^JORG", True),
        ("STRASSE", "Straße", True),
        ("*", "", True),
        ("Yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada*=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada*=田中*", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("=山田*", "Yamada^Tarou=山田^太郎", True),
        ("Yamada*=山田*", "Yamada^Tarou", False),
    ],
)
def test_names(key, value, expected):
    assert one("PatientName", key, value) is expected


def test_names_as_they_are_written_on_request():
    assert not matches({"PatientName": "DOE"}, {"PatientName": "Doe"}, fold_names=False)
    assert matches({"PatientName": "Do*"}, {"PatientName": "Doe"}, fold_names=False)


@given(st.text(max_size=20))
def test_folding_a_name_twice_changes_nothing_more(name):
    assert fold_name(fold_name(name)) == fold_name(name)


# ------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("StudyDate", "20260131", "20260131", True),
        ("StudyDate", "20260131", "2026.01.31", True),  # as ACR-NEMA wrote it
        ("StudyDate", "20260101-20261231", "20260131", True),
        ("StudyDate", "20260131-20260131", "20260131", True),
        ("StudyDate", "20260201-20261231", "20260131", False),
        ("StudyDate", "-20260131", "20260131", True),
        ("StudyDate", "-20260130", "20260131", False),
        ("StudyDate", "20260131-", "20260131", True),
        ("StudyDate", "20260201-", "20260131", False),
        ("StudyDate", "20260131", "garbage", False),
        ("StudyTime", "10", "103015.5", True),
        ("StudyTime", "1030", "103015", True),
        ("StudyTime", "1030", "103115", False),
        ("StudyTime", "103015.5", "103015.5", True),
        ("StudyTime", "103015.5", "103015.6", False),
        ("StudyTime", "1000-1100", "110059.999", True),
        ("StudyTime", "1000-1100", "110100", False),
        ("StudyTime", "-0900", "085959", True),
        ("StudyTime", "10:30-", "10:30:00", True),
        ("AcquisitionDateTime", "2026", "20260131103015", True),
        ("AcquisitionDateTime", "202601", "20260131103015", True),
        ("AcquisitionDateTime", "202602", "20260131103015", False),
        ("AcquisitionDateTime", "2025-2026", "20260131103015", True),
        ("AcquisitionDateTime", "202601311000-202601311100", "20260131103015.123456", True),
        ("AcquisitionDateTime", "202601311000-", "20260131103015", True),
        ("AcquisitionDateTime", "-202601311000", "20260131103015", False),
        ("AcquisitionDateTime", "202601311000+0100-202601311100+0100", "202601310930+0000", True),
        ("AcquisitionDateTime", "202601311000+0100-202601311100+0100", "202601311030+0000", False),
        ("AcquisitionDateTime", "202601311000-0500", "202601311500+0000", True),
        ("AcquisitionDateTime", "202601311000+0100-", "202601311030", True),  # without offset: as it stands there
    ],
)
def test_ranges(keyword, key, value, expected):
    assert one(keyword, key, value) is expected


@given(st.dates(date(1600, 1, 1)), st.dates(date(1600, 1, 1)))
def test_days_follow_the_calendar(first, second):
    one, other = read_date(first.strftime("%Y%m%d")), read_date(second.strftime("%Y%m%d"))
    assert one is not None
    assert other is not None
    assert other.first - one.first == (second - first).days


@given(
    st.datetimes(datetime(1600, 1, 1), datetime(9999, 1, 1)),
    st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
)
def test_moments_follow_the_calendar(moment, distance):
    try:
        later = moment + distance
    except OverflowError:
        return
    first, second = (read_datetime(value.strftime("%Y%m%d%H%M%S.%f").zfill(21)) for value in (moment, later))
    assert first is not None
    assert second is not None
    assert second.first - first.first == round((later - moment) / timedelta(microseconds=1))


@pytest.mark.parametrize("text", ["2026", "202602", "20260228", "2026022823", "202602282359", "20260228235959"])
def test_a_moment_is_as_long_as_what_it_leaves_open(text):
    period, after = read_datetime(text), read_datetime({4: "2027", 6: "202603"}.get(len(text), "20260301"))
    assert period is not None
    assert after is not None
    assert period.last + 1 == after.first


@pytest.mark.parametrize(
    ("keyword", "key"),
    [
        ("StudyDate", "yesterday"),
        ("StudyDate", "20260231"),
        ("StudyDate", "-"),
        ("StudyDate", "20260101-20260231"),
        ("StudyTime", "2500"),
        ("StudyTime", "10-1"),
        ("AcquisitionDateTime", "20261301"),
        ("AcquisitionDateTime", "-"),
    ],
)
def test_a_key_that_is_neither_value_nor_range_is_refused_with_its_tag(keyword, key):
    identifier = Dataset()
    identifier.add_new(keyword_tag := build_identifier({keyword: None})[keyword].tag, "LO", key)
    identifier[keyword].VR = {"StudyDate": "DA", "StudyTime": "TM"}.get(keyword, "DT")
    with pytest.raises(Refused) as caught:
        Matcher(identifier)
    assert caught.value.status == Status.DATA_SET_MISMATCH
    assert caught.value.elements["OffendingElement"] == (int(keyword_tag),)
    form = {"StudyDate": "DA value or range (YYYYMMDD)", "StudyTime": "TM value or range (HHMMSS)"}
    said = form.get(keyword, "DT value or range (YYYYMMDDHHMMSS)")
    assert caught.value.elements["ErrorComment"] == f"{keyword}: no {said}"


@pytest.mark.parametrize("read", [read_date, read_time, read_datetime])
@given(text=st.text("0123456789.:-+ ", max_size=30))
def test_reading_is_total(read, text):
    period = read(text)
    if period is not None and period.first is not None and period.last is not None and "-" not in text:
        assert period.first <= period.last


STEP = {"Modality": "CT", "ScheduledProcedureStepStartDate": "20260705", "ScheduledProcedureStepStartTime": "090000"}
WHEN = [("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")]


@pytest.mark.parametrize(
    ("days", "hours", "day", "hour", "expected"),
    [
        ("20260705-20260707", "1000-1800", "20260705", "0959", False),
        ("20260705-20260707", "1000-1800", "20260705", "1000", True),
        ("20260705-20260707", "1000-1800", "20260706", "0300", True),  # in between, whatever the time
        ("20260705-20260707", "1000-1800", "20260707", "1800", True),
        ("20260705-20260707", "1000-1800", "20260707", "1801", False),
        ("20260705-", "1000-", "20260705", "0959", False),
        ("20260705-", "1000-", "20990101", "0000", True),
        ("-20260705", "-1000", "20260705", "1000", True),
        ("-20260705", "-1000", "20260705", "1001", False),
        ("20260705", "1000-1800", "20260705", "0900", False),  # one of them is no range: each by itself
        ("20260705-20260707", "1000", "20260706", "1000", True),
        ("20260705-20260707", "1000", "20260706", "1100", False),
    ],
)
def test_ranges_of_date_and_time_are_one(days, hours, day, hour, expected):
    key = dict(zip(WHEN[0], (days, hours)))
    candidate = dict(zip(WHEN[0], (day, hour)))
    assert matches(key, candidate, combined=WHEN) is expected
    nested = ({"ScheduledProcedureStepSequence": [key]}, {"ScheduledProcedureStepSequence": [candidate]})
    assert matches(*nested, combined=WHEN) is expected


def test_apart_they_are_apart():
    key = {"StudyDate": "20260705-20260707", "StudyTime": "1000-1800"}
    assert not matches(key, {"StudyDate": "20260706", "StudyTime": "0300"})


# ------------------------------------------------------------------------------ sequences


SCHEDULED = "ScheduledProcedureStepSequence"


def test_a_sequence_matches_when_one_item_matches_all_its_keys():
    candidate = {SCHEDULED: [{"Modality": "MR", "ScheduledStationAETitle": "A"}, STEP]}
    assert matches({SCHEDULED: [{"Modality": "CT"}]}, candidate)
    assert matches({SCHEDULED: [{"Modality": "CT", "ScheduledProcedureStepStartDate": "20260705"}]}, candidate)
    assert not matches({SCHEDULED: [{"Modality": "CT", "ScheduledStationAETitle": "A"}]}, candidate)  # of two items
    assert not matches({SCHEDULED: [{"Modality": "US"}]}, candidate)
    assert not matches({SCHEDULED: [{"Modality": "US"}]}, {SCHEDULED: []})
    assert not matches({SCHEDULED: [{"Modality": "US"}]}, {})


@pytest.mark.parametrize("key", [[], [{}], [{"Modality": ""}]])
def test_an_empty_sequence_or_item_is_universal(key):
    assert matches({SCHEDULED: key}, {SCHEDULED: [STEP]})
    assert matches({SCHEDULED: key}, {})


# ------------------------------------------------------------------------------ answers


def answer(key: dict[str, Any], candidate: dict[str, Any]) -> Dataset:
    return Matcher(build_identifier(key)).answer(build_identifier(candidate))


def test_an_answer_holds_what_was_asked_for_and_nothing_else():
    found = answer(
        {"PatientName": "D*", "PatientID": None, "StudyDate": None},
        {"PatientName": "DOE", "PatientID": "1", "Modality": "CT"},
    )
    assert found == build_identifier({"PatientName": "DOE", "PatientID": "1", "StudyDate": None})


def test_of_a_sequence_the_items_that_match_are_answered():
    candidate = {SCHEDULED: [{"Modality": "MR", "ScheduledStationName": "x"}, {**STEP, "ScheduledStationName": "y"}]}
    found = answer({SCHEDULED: [{"Modality": "CT", "ScheduledStationName": None}]}, candidate)
    assert found == build_identifier({SCHEDULED: [{"Modality": "CT", "ScheduledStationName": "y"}]})
    assert answer({SCHEDULED: []}, candidate) == build_identifier(candidate)
    assert answer({SCHEDULED: [{"Modality": "CT"}]}, {}) == build_identifier({SCHEDULED: []})


def test_an_answer_says_how_its_text_is_encoded():
    german = build_identifier({"PatientName": "Müller^Jörg", "PatientID": "1"})
    german.SpecificCharacterSet = "ISO_IR 100"
    stored = decode_dataset(encode_dataset(german, "1.2.840.10008.1.2.1")[0], "1.2.840.10008.1.2.1")
    found = Matcher(build_identifier({"PatientName": None})).answer(stored)
    assert found.SpecificCharacterSet == "ISO_IR 100"
    data, syntax = encode_dataset(found, "1.2.840.10008.1.2.1")
    assert decode_dataset(data, syntax).PatientName == "Müller^Jörg"
    bare = Dataset()
    bare.PatientName = "Müller"
    assert Matcher(build_identifier({"PatientName": None})).answer(bare).SpecificCharacterSet == "ISO_IR 192"
    assert "SpecificCharacterSet" not in answer({"PatientID": None}, {"PatientID": "1"})


def test_what_says_how_to_read_the_others_is_no_key():
    identifier = build_identifier({"PatientID": "1"}, level="STUDY")
    identifier.SpecificCharacterSet = "ISO_IR 100"
    identifier.TimezoneOffsetFromUTC = "+0100"
    matcher = Matcher(identifier)
    assert matcher.matches(build_identifier({"PatientID": "1"}))
    assert "QueryRetrieveLevel" not in matcher.answer(build_identifier({"PatientID": "1"}))


def test_return_keys_are_answered_and_not_matched():
    key = {"TransactionUID": "1.2", "PatientID": "1", "PatientWeight": "", SCHEDULED: [{"Modality": "CT"}]}
    items = [{"Modality": "MR", "ScheduledStationName": "x"}]
    candidate = {"TransactionUID": "1.3", "PatientID": "1", SCHEDULED: items}
    matcher = Matcher(build_identifier(key), matched=("PatientID",))
    assert matcher.unmatched == [0x00081195, 0x00400100]
    assert matcher.matches(build_identifier(candidate))
    assert not matcher.matches(build_identifier({"PatientID": "2"}))
    found = matcher.answer(build_identifier(candidate))
    assert (found.TransactionUID, list(found[SCHEDULED].value[0].keys())) == ("1.3", [0x00080060])
    assert Matcher(build_identifier({**key, "PatientID": ""}), matched=()).is_universal


def test_a_return_key_whose_value_does_not_read_is_no_reason_to_refuse():
    identifier = build_identifier({"PatientID": "1"})
    identifier.add_new(0x00400002, "LO", "soon")
    identifier["ScheduledProcedureStepStartDate"].VR = "DA"
    assert Matcher(identifier, matched=("PatientID",)).matches(build_identifier({"PatientID": "1"}))
    with pytest.raises(Refused):
        Matcher(identifier)


@pytest.mark.parametrize(
    ("key", "candidate", "expected"),
    [
        ({"StudyDate": "2026-", "StudyTime": "10-"}, {}, None),  # not a range: refused
        ({"ScheduledProcedureStepStartDate": "20260705-"}, {}, False),
        (dict(zip(WHEN[0], ("20260705-", "10-"))), {}, False),
        (dict(zip(WHEN[0], ("20260705-", "10-"))), {WHEN[0][0]: "someday"}, False),
        (dict(zip(WHEN[0], ("20260705-", "10-"))), {WHEN[0][0]: "20260706"}, True),  # no time: the whole day
        ({"SeriesNumber": "7"}, {"SeriesNumber": ""}, False),
    ],
)
def test_candidates_that_lack_something(key, candidate, expected):
    if expected is None:
        with pytest.raises(Refused):
            matches(key, candidate, combined=WHEN)
    else:
        assert matches(key, candidate, combined=WHEN) is expected


def test_a_combined_range_that_does_not_read_is_refused():
    with pytest.raises(Refused):
        matches(dict(zip(WHEN[0], ("20260705-", "25-"))), {}, combined=WHEN)


def test_numbers_that_are_none_do_not_match():
    candidate = Dataset()
    candidate.add_new(0x00200011, "LO", "seven")
    assert not Matcher(build_identifier({"SeriesNumber": "7"})).matches(candidate)


def test_an_hour_that_does_not_exist_is_no_moment():
    assert read_datetime("2026070525") is None
    assert read_datetime("20260705-2026070525") is None


def test_an_open_value_lies_in_no_period():
    period = read_date("20260101-")
    assert period is not None
    assert not period.holds(Period(None, 5))


@pytest.mark.parametrize(
    ("asked", "name", "answered"),
    [
        ("ISO_IR 100", "Müller", "ISO_IR 100"),
        ("ISO_IR 100", "山田", "ISO_IR 192"),
        ("\\ISO 2022 IR 87", "Yamada=山田", ["", "ISO 2022 IR 87"]),
        ("ISO_IR 13", "Yamada=表", "ISO_IR 192"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ", "ISO_IR 13"),
        ("GB18030", "张", "GB18030"),
        ("ISO_IR 100", "Miller", None),
    ],
)
def test_an_answer_is_in_the_character_sets_of_the_query_where_they_do(asked, name, answered):
    identifier = build_identifier({"PatientName": None, SCHEDULED: [{"ScheduledPerformingPhysicianName": None}]})
    identifier.SpecificCharacterSet = asked.split("\\")
    item = build_identifier({"PatientName": name, SCHEDULED: [{"ScheduledPerformingPhysicianName": name}]})
    item.SpecificCharacterSet = "ISO_IR 192"
    answer = Matcher(identifier).answer(item)
    sent = decode_dataset(encode_dataset(answer, "1.2.840.10008.1.2.1")[0], "1.2.840.10008.1.2.1")
    assert sent.get("SpecificCharacterSet") == answered
    assert str(sent.PatientName) == str(sent[SCHEDULED].value[0].ScheduledPerformingPhysicianName) == name
    assert "SpecificCharacterSet" not in sent[SCHEDULED].value[0]
