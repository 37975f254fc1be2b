"""The same data and the same queries into Orthanc, DCMTK's dcmqrscp and our archive: answers compared.

Where they differ, DIFFERENCES says which of them, and why; a difference that is not listed fails, and so does one that
is listed and does not show.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.archive.making import data_set
from tests.corpus import Instance
from tests.interop import peers
from tests.interop.archives import dulcet_serve, orthanc

import dulcet

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # dcmqrscp takes no others unless it is told
UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}

GENERATED: list[dict[str, Any]] = [
    {"PatientName": "Doe^John", "PatientID": "G1", "StudyDate": "20200131", "StudyTime": "101500"},
    {"PatientName": "Doe^Jane^^Dr.", "PatientID": "G2", "StudyDate": "20200201", "StudyTime": "101500.25"},
    {"PatientName": "doe^jim", "PatientID": "g3", "StudyDate": "20211231", "StudyTime": "235959"},
    {"PatientName": "Doering^Max", "PatientID": "G4", "StudyDate": "20220101", "StudyTime": "000000"},
    {"PatientName": "Müller^Jörg", "PatientID": "G5", "StudyDate": "", "SpecificCharacterSet": "ISO_IR 100"},
    {"PatientName": "O'Neil^Ann", "PatientID": "G[6]", "StudyDescription": "50% off_sale", "AccessionNumber": "A100"},
    {"PatientName": "", "PatientID": "G7", "AccessionNumber": "a100", "StudyID": "S*7"},
    {"PatientName": "김희중", "PatientID": "H1", "SpecificCharacterSet": ["", "ISO 2022 IR 149"]},
    {"PatientName": "Großmann^Test", "PatientID": "H2", "SpecificCharacterSet": "ISO_IR 100"},
    {"PatientName": "GROSSMANN^Test", "PatientID": "H3", "StudyTime": ""},
    {"PatientName": "Test^Kana==がだ", "PatientID": "H4", "SpecificCharacterSet": "ISO_IR 192"},
]  # fmt: skip

A_STUDY = "1.2.3.0"
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "everything": ("STUDY", {}),
    "all that is answered": (
        "STUDY",
        dict.fromkeys("PatientName PatientID StudyDate StudyTime AccessionNumber StudyID PatientSex".split(), ""),
    ),
    "name": ("STUDY", {"PatientName": "Doe^John"}),
    "name in capitals": ("STUDY", {"PatientName": "DOE^JOHN"}),
    "family name alone": ("STUDY", {"PatientName": "Doe"}),
    "family name and a star": ("STUDY", {"PatientName": "Doe*"}),
    "family name, capital, and a star": ("STUDY", {"PatientName": "DOE*"}),
    "family name and anything": ("STUDY", {"PatientName": "Doe^*"}),
    "question mark": ("STUDY", {"PatientName": "D?e^John"}),
    "given name": ("STUDY", {"PatientName": "*^John"}),
    "accents": ("STUDY", {"PatientName": "Muller^Jorg"}),
    "accents in the key": ("STUDY", {"PatientName": "Müller*"}),
    "name that nobody has": ("STUDY", {"PatientName": "Nobody*"}),
    "first character, Hangul": ("STUDY", {"PatientName": "?희중"}),
    "last character, Hangul": ("STUDY", {"PatientName": "김희?"}),
    "part of a syllable": ("STUDY", {"PatientName": "기*"}),
    "a syllable and a star": ("STUDY", {"PatientName": "김*"}),
    "a question mark for ß": ("STUDY", {"PatientName": "Gro?mann*"}),
    "two question marks for ss": ("STUDY", {"PatientName": "GRO??MANN*"}),
    "ß": ("STUDY", {"PatientName": "Großmann*"}),
    "ss for ß": ("STUDY", {"PatientName": "GROSSMANN*"}),
    "dakuten": ("STUDY", {"PatientName": "Test^Kana==が*"}),
    "without dakuten": ("STUDY", {"PatientName": "Test^Kana==か*"}),
    "any date": ("STUDY", {"StudyDate": "*"}),
    "any time": ("STUDY", {"StudyTime": "*"}),
    "any date and time": ("STUDY", {"StudyDate": "*", "StudyTime": "*", "PatientName": "Doe^John"}),
    "a star for an id": ("STUDY", {"PatientID": "*"}),
    "return keys": ("STUDY", {"PatientID": "G1", "PatientWeight": "", "PatientSize": ""}),
    "patient id": ("STUDY", {"PatientID": "G1"}),
    "patient id, case": ("STUDY", {"PatientID": "G3"}),
    "patient id with brackets": ("STUDY", {"PatientID": "G[6]"}),
    "patient ids": ("STUDY", {"PatientID": "G?"}),
    "per cent is no wildcard": ("STUDY", {"StudyDescription": "50% off?sale"}),
    "accession number, case": ("STUDY", {"AccessionNumber": "A100"}),
    "accession numbers": ("STUDY", {"AccessionNumber": "A*"}),
    "date": ("STUDY", {"StudyDate": "20200131"}),
    "dates": ("STUDY", {"StudyDate": "20200101-20201231"}),
    "dates from": ("STUDY", {"StudyDate": "20211231-"}),
    "dates to": ("STUDY", {"StudyDate": "-20200201"}),
    "times": ("STUDY", {"StudyTime": "101500-101600"}),
    "time": ("STUDY", {"StudyTime": "101500"}),
    "dates and times apart": ("STUDY", {"StudyDate": "20200101-20220101", "StudyTime": "000000-110000"}),
    "studies": ("STUDY", {"StudyInstanceUID": ["1.2.3.1", "1.2.3.2", "9.9"]}),
    "modality": ("STUDY", {"ModalitiesInStudy": "MR"}),
    "modalities": ("STUDY", {"ModalitiesInStudy": ["MR", "US"]}),
    "series": ("SERIES", {"StudyInstanceUID": A_STUDY, "Modality": "", "SeriesNumber": ""}),
    "series by modality": ("SERIES", {"StudyInstanceUID": A_STUDY, "Modality": "MR"}),
    "series by number": ("SERIES", {"StudyInstanceUID": A_STUDY, "SeriesNumber": "2"}),
    "images": ("IMAGE", {
        "StudyInstanceUID": A_STUDY, "SeriesInstanceUID": f"{A_STUDY}.1", "InstanceNumber": "", "SOPClassUID": "",
    }),
    "image by number": ("IMAGE", {
        "StudyInstanceUID": A_STUDY, "SeriesInstanceUID": f"{A_STUDY}.0", "InstanceNumber": "2",
    }),
    "an image": ("IMAGE", {
        "StudyInstanceUID": A_STUDY, "SeriesInstanceUID": f"{A_STUDY}.0", "SOPInstanceUID": "1.2.9.2",
    }),
    "an image without its series": ("IMAGE", {"StudyInstanceUID": A_STUDY, "InstanceNumber": "2"}),
    "an image by its UID alone": ("IMAGE", {"SOPInstanceUID": "1.2.9.2", "InstanceNumber": ""}),
    "rows of zero, an empty one of some peers": ("IMAGE", {
        "StudyInstanceUID": A_STUDY, "SeriesInstanceUID": f"{A_STUDY}.1", "Rows": 0,
    }),
    "series without their study": ("SERIES", {"Modality": "MR", "StudyInstanceUID": ""}),
    "a series by its UID alone": ("SERIES", {"SeriesInstanceUID": f"{A_STUDY}.1", "Modality": ""}),
}  # fmt: skip

NOBODY = frozenset(
    {"name that nobody has", "family name alone", "patient id, case", "part of a syllable", "without dakuten"}
)
"""Queries that nothing answers."""

MORE, FEWER, VALUES, REFUSED = "we find more", "we find fewer", "the values differ", "the other refuses it"

CASE = (MORE, "dcmqrscp compares names with their case; PS3.4 C.2.2.2.1 leaves it to the provider, and we do not")
ACCENTS = (MORE, "the others compare accents; PS3.4 C.2.2.2.1 leaves it to the provider, and we do not")
BYTES = (MORE, "the others take `?` for one byte; it is one character (PS3.4 C.2.2.2.4), whatever its encoding")
SHARP_S = (MORE, "the others know one spelling of ß; PS3.4 C.2.2.2.1 leaves it to the provider, and to us they are one")
STAR = "to us `*` alone is universal whatever the VR (PS3.4 C.2.2.2.4); it is no date or time to the others"
ZERO = (MORE, "Orthanc looks for images without rows; to us a binary zero is no value")
HIERARCHY = (REFUSED, "dcmqrscp insists on the keys of the levels above; we do with `strict = true` alone")
SECONDS = (MORE, "a time without a fraction is the whole second for us (PS3.5 6.2: what is left out is not specified)")
NO_MODALITIES = (FEWER, "dcmqrscp does not support Modalities in Study: it neither matches nor answers it")

DIFFERENCES: dict[tuple[str, str], tuple[str, str]] = {
    ("all that is answered", "orthanc"): (
        VALUES, "Orthanc does not decode the groups of a Japanese name behind the first, ISO 2022 IR 87 with escapes",
    ),
    ("name in capitals", "dcmqrscp"): CASE,
    ("family name and a star", "dcmqrscp"): CASE,
    ("family name, capital, and a star", "dcmqrscp"): CASE,
    ("family name and anything", "dcmqrscp"): CASE,
    ("accents", "orthanc"): ACCENTS,
    ("accents", "dcmqrscp"): ACCENTS,
    ("dates to", "orthanc"): (FEWER, "Orthanc takes a study without a date for earlier than any; it has none to match"),
    **{
        (name, archive): reason
        for archive in ("orthanc", "dcmqrscp")
        for reason, names in (
            (BYTES, ("first character, Hangul", "last character, Hangul", "a question mark for ß")),
            (SHARP_S, ("two question marks for ss", "ß", "ss for ß")),
            ((REFUSED if archive == "orthanc" else MORE, STAR), ("any date", "any time", "any date and time")),
        )
        for name in names
    },
    ("rows of zero, an empty one of some peers", "orthanc"): ZERO,
    ("an image without its series", "dcmqrscp"): HIERARCHY,
    ("an image by its UID alone", "dcmqrscp"): HIERARCHY,
    ("a series by its UID alone", "dcmqrscp"): HIERARCHY,
    ("time", "orthanc"): SECONDS,
    ("time", "dcmqrscp"): SECONDS,
    ("modality", "dcmqrscp"): NO_MODALITIES,
    ("modalities", "dcmqrscp"): NO_MODALITIES,
    ("images", "dcmqrscp"): (VALUES, "dcmqrscp does not answer the SOP Class UID"),
}  # fmt: skip
"""(query, archive) -> in which way it answers otherwise, and why."""


@pytest.fixture(scope="module")
def files(whole: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Files of pydicom that every archive takes, and data sets made for the queries."""
    made: list[Any] = [instance.path for instance in whole if instance.transfer_syntax in SYNTAXES]
    for number, values in enumerate(GENERATED):
        made.append(data_set(100 + number, study=f"1.2.3.{number}", series=f"1.2.3.{number}.0", **values))
    for number in range(1, 5):
        series = {"series": f"{A_STUDY}.{number % 2}", "SeriesNumber": str(number % 2 + 1)}
        modality = {"Modality": "MR" if number % 2 else "CT"}
        made.append(data_set(number, study=A_STUDY, PatientID="G1", **series, **modality))
    return made


@pytest.fixture(scope="module")
def archives(files: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("archives")
    for name in ("dcmqrscp", "dulcet"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        servers = {
            "dulcet": stack.enter_context(dulcet_serve(folder / "dulcet", "--durability", "none")),
            "orthanc": stack.enter_context(orthanc(folder / "orthanc")),
            "dcmqrscp": stack.enter_context(peers.dcmqrscp(folder / "dcmqrscp", environment=peers.TUNED)),
        }
        addresses = {name: server.address for name, server in servers.items()}
        taken = {name: fill(address, files) for name, address in addresses.items()}
        assert taken["dulcet"] == taken["orthanc"] == taken["dcmqrscp"]
        assert sum(taken["dulcet"].values()) > 100
        yield addresses


def fill(address: str, files: list[Any]) -> dict[str, bool]:
    """Whether each was taken."""
    with dulcet.associate(address, calling_ae_title="DULCET") as association:
        return {sent.sop_instance_uid: sent.ok for sent in association.store_many(files)}


def ask(address: str, level: str, keys: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The answers, by unique key: those attributes that were asked for, as text."""
    with warnings.catch_warnings(), dulcet.associate(address, calling_ae_title="DULCET") as association:
        warnings.simplefilter("ignore")
        answers = list(association.find(level=level, model="study", **{UNIQUE[level]: "", **keys}))
        return {
            str(answer[UNIQUE[level]].value): {
                keyword: str(answer.get(keyword, "") or "").rstrip("^ ") for keyword in keys if keyword != UNIQUE[level]
            }
            for answer in answers
        }


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("other", ["orthanc", "dcmqrscp"])
def test_answers_are_those_of_others(archives: dict[str, str], name: str, other: str) -> None:
    level, keys = QUERIES[name]
    ours = ask(archives["dulcet"], level, keys)
    assert len(ours) > 0 or name in NOBODY
    difference, theirs = None, ours
    try:
        theirs = ask(archives[other], level, keys)
    except dulcet.StatusError:
        difference = REFUSED
    if difference:
        pass
    elif ours.keys() == theirs.keys():
        difference = VALUES if ours != theirs else None
    elif ours.keys() > theirs.keys():
        difference = MORE
    elif ours.keys() < theirs.keys():
        difference = FEWER
    else:
        difference = "neither holds the other's"
    expected = DIFFERENCES.get((name, other))
    assert difference == (None if expected is None else expected[0])


def test_a_level_that_the_model_lacks_is_a900(archives: dict[str, str]) -> None:
    # dcmqrscp refuses it as well, as it refuses everything; Orthanc answers patients in the study root.
    for name, status in (("dulcet", 0xA900), ("dcmqrscp", 0xC000)):
        with dulcet.associate(archives[name], calling_ae_title="DULCET") as association:
            with pytest.raises(dulcet.StatusError) as caught:
                list(association.find(level="PATIENT", model="study", PatientID="G1"))
            assert caught.value.status == status, name
