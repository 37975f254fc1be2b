"""An index that is made anew answers as the one before it did: what came first says what is served and found."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from tests.archive.making import Parts, data_set, parts, send

from dulcet.archive.application import rebuild
from dulcet.archive.attributes import IMAGE, PATIENT, SERIES, STUDY
from dulcet.archive.matching import read_query
from dulcet.archive.sweep import adopt_all
from dulcet.services.models import MODELS

LONG = "1.2." + "7" * 80
UTF_8 = "ISO_IR 192"
PALETTE = "1.2.840.10008.5.1.4.39.1"
WANTED = {
    PATIENT: ("PatientID", "PatientName", "PatientBirthDate", "NumberOfPatientRelatedInstances"),
    STUDY: ("PatientID", "PatientName", "StudyInstanceUID", "StudyDescription", "NumberOfStudyRelatedInstances"),
    SERIES: ("StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription"),
    IMAGE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientName"),
}
LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")


def answers(archive: Parts) -> list[Any]:
    """All that can be found, in the order of the answers, and all that can be retrieved."""
    found: list[Any] = []
    for level, keywords in WANTED.items():
        identifier = Dataset()
        identifier.QueryRetrieveLevel = LEVELS[level]
        for keyword in keywords:
            setattr(identifier, keyword, None)
        query = read_query(identifier, MODELS["patient" if level == PATIENT else "study"])
        pages = [(dict(page.above), [list(row) for row in page.rows]) for page in archive.index.find(query)]
        found.append([(above, row) for above, rows in pages for row in rows])
        found.append([kept.digest for kept in archive.index.select(query)])
    found.append([kept.digest for kept in archive.index.of_no_patient([PALETTE])])
    return found


@pytest.mark.parametrize("way", ["rebuild", "a start without an index"])
@pytest.mark.filterwarnings("ignore:.*VR UI:UserWarning")
def test_it_answers_as_before_whatever_the_order_of_names(tmp_path: Path, way: str) -> None:
    """Names and arrivals are in opposite orders: of instances in a study, studies of a patient, and of duplicates."""
    moments = count(1_500_000_000)
    with parts(tmp_path, clock=lambda: float(next(moments))) as archive:
        arriving: list[tuple[int, dict[str, Any]]] = [
            (9, {"PatientName": "First^A", "StudyDescription": "came first", "SeriesDescription": "one"}),
            (2, {"PatientName": "Second^B", "StudyDescription": "came second", "SeriesDescription": "two"}),
            (30, {"study": "1.2.8", "series": "1.2.8.1", "PatientID": "P2", "PatientName": "Older^Name"}),
            (31, {"study": "1.2.7", "series": "1.2.7.1", "PatientID": "P2", "PatientName": "Newer^Name"}),
            (40, {"study": "1.2.5", "series": "1.2.5.1", "StudyDescription": "is served"}),
            (40, {"study": "1.2.0", "series": "1.2.0.1", "StudyDescription": "is beside it"}),
            (40, {"study": "1.2.5", "series": "1.2.5.1", "StudyDescription": "is beside it, too"}),
            (50, {"study": LONG, "series": f"{LONG}.1"}),
            (51, {"study": "STUDY A", "series": "SERIES 1", "PatientName": "Wang=王", "SpecificCharacterSet": UTF_8}),
        ]
        for number, values in arriving:
            send(archive.ingest, data_set(number, **values))
        for text in ("served", "beside"):
            nothing: dict[str, Any] = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality"))
            send(archive.ingest, data_set(60, SOPClassUID=PALETTE, ContentLabel=text.upper(), **nothing))
        _stamp(archive)
        before = answers(archive)
        besides = archive.index.known("1.2.9.40")
        assert len(besides) == 3
    if way == "rebuild":
        assert rebuild(tmp_path).adopted == 11
    else:
        (tmp_path / "index.sqlite").unlink()
    with parts(tmp_path) as archive:
        if way != "rebuild":
            assert adopt_all(archive.objects, archive.index).adopted == 11
        assert answers(archive) == before
        assert archive.index.known("1.2.9.40") == besides


def _stamp(archive: Parts) -> None:
    """Every file has the moment at which it came, also where the clock of the file system is not that fine."""
    with closing(sqlite3.connect(archive.folder / "index.sqlite")) as connection:
        sql = "SELECT object, received FROM instance UNION ALL SELECT object, received FROM beside"
        for key, received in connection.execute(sql):
            os.utime(archive.objects.path(key), (received, received))


def test_a_file_among_the_studies_is_counted_and_the_rest_indexed(tmp_path: Path) -> None:
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1))
    (tmp_path / "objects" / "README").write_text("not an object")
    swept = rebuild(tmp_path)
    assert (swept.adopted, swept.unreadable) == (1, 1)
