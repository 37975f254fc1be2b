"""One contract of matching (PS3.4 section C.2.2.2) for both engines: SQL in the archive, and data sets in memory."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from tests.archive.making import Parts, data_set, parts, send

from dulcet.archive.matching import read_query
from dulcet.archive.sqlite import SqliteIndex
from dulcet.archive.statements import fits
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.matching import Matcher, is_universal
from dulcet.services.models import MODELS
from dulcet.services.refusals import Refused

EXPLICIT = "1.2.840.10008.1.2.1"

CONTENTS: dict[str, dict[str, Any]] = {
    "a": {"PatientName": "김희중", "PatientID": "P1", "StudyDate": "20200131", "StudyTime": "101500"},
    "b": {"PatientName": "Großmann^Test", "PatientID": "P2", "StudyDate": "20210228", "StudyTime": "2359"},
    "c": {"PatientName": "GROSSMANN^Heß", "PatientID": "P3", "StudyDate": "20220101", "StudyTime": "000030.5"},
    "d": {"PatientName": "Test^Kana==がだ", "PatientID": "", "StudyDate": "", "StudyTime": ""},
    "e": {"PatientName": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "PatientID": "[x]*?", "AccessionNumber": "A100"},
    "f": {"PatientName": "", "PatientID": "p1", "PatientWeight": "70.50", "StudyDate": "", "StudyTime": ""},
    "g": {"PatientName": "Müller^Jörg^Xaver^Dr.", "PatientID": "P7", "AccessionNumber": "a100", "PatientSize": "1.8"},
    "h": {"PatientName": "Йордан^Ёлкин", "PatientID": "P8", "OtherPatientIDs": ["X1", "Y2"]},
    "i": {"PatientName": "Weiß^Heß", "PatientID": "P9", "NameOfPhysiciansReadingStudy": ["Doe^John", "Roe^Jane"]},
}  # fmt: skip


class Engines:
    """The same studies, asked in both ways."""

    def __init__(self, archive: Parts) -> None:
        self.archive = archive
        self.held: list[Dataset] = []
        for number, (letter, values) in enumerate(CONTENTS.items()):
            made = data_set(number, study=letter_uid(letter), SpecificCharacterSet="ISO_IR 192", **values)
            send(archive.ingest, made)
            self.held.append(decode_dataset(encode_dataset(made, EXPLICIT)[0], EXPLICIT))

    def sql(self, identifier: Dataset) -> str:
        query = read_query(identifier, MODELS["study"])
        pages = list(self.archive.index.find(query))
        place = [attribute.keyword for attribute in query.columns].index("StudyInstanceUID")
        return "".join(chr(int(row[place].split(".")[-1])) for page in pages for row in page.rows)

    def memory(self, identifier: Dataset) -> str:
        matcher = Matcher(identifier)
        return "".join(letter for letter, held in zip(CONTENTS, self.held) if matcher.matches(held))


def letter_uid(letter: str) -> str:
    return f"1.2.{ord(letter)}"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with parts(tmp_path_factory.mktemp("engines")) as archive:
        yield Engines(archive)


@pytest.fixture(params=["sql", "memory"])
def find(engines: Engines, request: pytest.FixtureRequest) -> Callable[..., str]:
    engine = getattr(engines, request.param)

    def run(**keys: Any) -> str:
        identifier = build_identifier(keys, level="STUDY")
        # As a peer sends it: encoded, and decoded by us.
        return str(engine(decode_dataset(encode_dataset(identifier, EXPLICIT)[0], EXPLICIT)))

    return run


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("?희중", "a"), ("김희?", "a"), ("김??", "a"), ("김?", ""), ("기*", ""), ("김*", "a"), ("???", "a"),
        ("Gro?mann*", "b"), ("Gro??mann*", "bc"), ("Großmann*", "bc"), ("grossmann*", "bc"), ("GROSSMANN^*", "bc"),
        ("GRO\N{LATIN CAPITAL LETTER SHARP S}MANN*", "bc"), ("Gro?mann^Test", "b"), ("?roßmann^T?st", "b"),
        ("Wei?^Hess", "i"), ("Weiss^He?", "i"), ("Wei?^He?", "i"), ("weiss^hess", "i"), ("*^He?", "ci"),
        ("*^Heß", "ci"),
        ("==がだ", "d"), ("==かた", ""), ("==か*", ""), ("==が?", "d"), ("==がた", ""), ("==??", "d"),
        ("ヤマダ*", "e"), ("ﾔﾏﾀﾞ*", "e"), ("ﾔﾏ??^*", "e"), ("ヤマタ^*", ""), ("山田*", "e"), ("=山田^*", "e"),
        ("*=山田^太郎", "e"), ("ﾔﾏﾀﾞ^*=田中*", ""), ("==やまだ^たろ?", "e"),
        ("muller*", "g"), ("MULLER^JORG^XAVER^DR.", "g"), ("^jorg*", "g"), ("m?ller^^x*", "g"), ("muller^jorg", ""),
        ("jörg", ""), ("Иордан*", "h"), ("елкин", ""), ("*^елкин", "h"),
        ("*", "abcdefghi"), ("^*", "abcdefghi"), ("==", "abcdefghi"), ("?*", "abcdeghi"), ("[g]*", ""),
        (["김*", "Muller*"], "ag"), (["김*", "*"], "abcdefghi"),
    ],
)  # fmt: skip
def test_names(find: Callable[..., str], key: Any, expected: str) -> None:
    assert find(PatientName=key) == expected


@pytest.mark.parametrize("key", ["*", "**", "", "* "])
@pytest.mark.parametrize(
    "keyword",
    "StudyDate StudyTime PatientID StudyInstanceUID PatientWeight PatientAge PatientSex AccessionNumber".split(),
)
def test_a_star_alone_is_universal_whatever_the_vr(engines: Engines, keyword: str, key: str) -> None:
    element = build_identifier({keyword: ""})[keyword]
    encoded = key.encode() + b" " * (len(key) & 1)
    raw = struct.pack("<HH2sH", element.tag.group, element.tag.element, element.VR.encode(), len(encoded)) + encoded
    read = decode_dataset(encode_dataset(build_identifier({}, level="STUDY"), EXPLICIT)[0] + raw, EXPLICIT)
    assert engines.sql(read) == engines.memory(read) == "abcdefghi"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"StudyDate": "20200131"}, "aeghi"),
        ({"StudyDate": "20210101-20211231"}, "b"),
        ({"StudyDate": "-20210301"}, "abeghi"),
        ({"StudyDate": "20210228-"}, "bc"),
        ({"StudyDate": ["20210228", "20220101"]}, "bc"),
        ({"StudyDate": ["20210101-20211231", "20220101-"]}, "bc"),
        ({"StudyDate": "20220101", "StudyTime": "*"}, "c"),
        ({"StudyTime": "2359"}, "b"),
        ({"StudyTime": "23"}, "b"),
        ({"StudyTime": ["23", "00"]}, "bc"),
        ({"StudyTime": "000000-000030.5"}, "c"),
        ({"PatientID": "P1"}, "a"),
        ({"PatientID": "P?"}, "abcghi"),
        ({"PatientID": "[x]*"}, "e"),
        ({"PatientID": "*[x]**"}, "e"),
        ({"AccessionNumber": "A*"}, "e"),
        ({"StudyInstanceUID": [letter_uid("a"), letter_uid("h"), "9.9"]}, "ah"),
        ({"StudyInstanceUID": "1.2.*"}, ""),
        ({"PatientWeight": "70.5"}, "f"),
        ({"PatientSize": ["1.80", "2"]}, "g"),
        ({"OtherPatientIDs": "Y?"}, "h"),
        ({"OtherPatientIDs": "X*2"}, ""),  # a pattern does not reach from one value into the next
        ({"OtherPatientIDs": ["Q", "X1"]}, "h"),
        ({"NameOfPhysiciansReadingStudy": "roe*"}, "i"),
        ({"PatientSex": "M"}, ""),
        ({"PatientID": "P1", "PatientName": "김*"}, "a"),
        ({"PatientID": "P1", "PatientName": "Muller*"}, ""),
    ],
)  # fmt: skip
def test_values(find: Callable[..., str], keys: dict[str, Any], expected: str) -> None:
    assert find(**keys) == expected


def test_a_binary_zero_is_no_value_for_some_peers_and_so_universal() -> None:
    assert is_universal("US", 0)
    assert is_universal("FL", 0.0)
    assert is_universal("US", None)
    assert not is_universal("US", 512)
    assert not is_universal("IS", "0")


LETTERS = "ab*?^=ßs김희기がか\u3099é\u0301"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(LETTERS, max_size=8))
def test_both_engines_find_the_same_names(engines: Engines, text: str) -> None:
    identifier = build_identifier({"PatientName": text.rstrip(" ")}, level="STUDY")
    assert engines.sql(identifier) == engines.memory(identifier)


@pytest.mark.parametrize("key", ["tomorrow", "20260231", "-"])
def test_what_is_no_date_is_refused(engines: Engines, key: str) -> None:
    identifier = build_identifier({}, level="STUDY")
    identifier.add_new(0x00080020, "LO", key)
    identifier["StudyDate"].VR = "DA"
    for engine in (engines.sql, engines.memory):
        with pytest.raises(Refused, match="StudyDate"):
            engine(identifier)


def test_a_key_of_many_values_is_answered(engines: Engines) -> None:
    days = [f"2020{month:02}{day:02}" for month in range(1, 13) for day in range(1, 29)] * 10
    for keys in ({"StudyDate": days}, {"PatientWeight": ["70.5"] * 3000}, {"AccessionNumber": ["A100", *["x"] * 3000]}):
        identifier = build_identifier(keys, level="STUDY")
        assert engines.sql(identifier) == engines.memory(identifier)
    with pytest.raises(Refused, match="PatientName: more than 64 names"):
        engines.sql(build_identifier({"PatientName": [f"x{number}" for number in range(65)]}, level="STUDY"))


def test_values_that_are_compared_one_by_one_have_a_limit(engines: Engines) -> None:
    """A thousand wildcards took a minute of an archive with 700 studies."""
    for keyword in ("PatientID", "ModalitiesInStudy"):
        tag = 0x00100020 if keyword == "PatientID" else 0x00080061
        most = [f"X{number}*" for number in range(256)]
        identifier = build_identifier({keyword: [*most, *most]}, level="STUDY")
        assert engines.sql(identifier) == engines.memory(identifier)
        with pytest.raises(Refused, match=f"{keyword}: more than 256 values to compare") as caught:
            engines.sql(build_identifier({keyword: [*most, "Y"]}, level="STUDY"))
        assert tag in caught.value.elements["OffendingElement"]


def test_a_pattern_costs_no_memory() -> None:
    """What compiled it needed 500 MB and half a minute for a megabyte of stars, and kept it."""
    pattern = "*a" * 100_000
    tracemalloc.start()
    try:
        assert not fits(pattern, "b" * 64)
        assert fits(pattern, "a" * 100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def old_fold(name: str) -> str:
    """As names were folded before the second version of the index."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def test_an_index_with_names_of_the_first_version_is_upgraded_and_finds(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        engines = Engines(archive)
        expected = archive.index._rows("SELECT * FROM person ORDER BY level, tag, owner, representation, whole", [])
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.create_function("old_fold", 1, old_fold)
        connection.execute("DELETE FROM person")
        connection.execute(
            "INSERT INTO person SELECT id, 1, 0x00100010, 0, old_fold(PatientName), old_fold(PatientName),"
            " '', '', '', '' FROM study"
        )
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    index = SqliteIndex(tmp_path / "index.sqlite")
    try:
        engines.archive.index = index
        assert engines.sql(build_identifier({"PatientName": "김희?"}, level="STUDY")) == "a"
        assert engines.sql(build_identifier({"PatientName": "Gro?mann*"}, level="STUDY")) == "b"
        assert index._rows("SELECT * FROM person ORDER BY level, tag, owner, representation, whole", []) == expected
    finally:
        index.close()
