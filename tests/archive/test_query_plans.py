"""Look-ups go by an index of the data base, whatever is kept: a plan that walks a table is slow with a million rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from tests.archive.making import Parts, data_set, parts, send

from dulcet.archive.attributes import LEVELS
from dulcet.archive.matching import read_query
from dulcet.archive.statements import TABLES, wheres
from dulcet.services.models import MODELS


def plans(archive: Parts, level: str, keys: dict[str, str]) -> list[str]:
    """How SQLite goes about each table that the keys are about."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    query = read_query(identifier, MODELS["patient" if level == "PATIENT" else "study"])
    found: list[str] = []
    for table, conditions in zip(TABLES, wheres(query, patients=level == "PATIENT"), strict=True):
        if conditions:
            where = "".join(f" AND {sql}" for sql, _ in conditions)
            sql = f"EXPLAIN QUERY PLAN SELECT id FROM {table} WHERE 1{where} ORDER BY id"
            rows = archive.index._connection.execute(sql, [value for _, values in conditions for value in values])
            found += [row[3] for row in rows]
    return found


@pytest.mark.parametrize(
    ("level", "keys", "wanted"),
    [
        ("STUDY", {"StudyInstanceUID": "1.2.1"}, "sqlite_autoindex_study_1 (StudyInstanceUID=?)"),
        ("STUDY", {"StudyInstanceUID": "1.2.1\\1.2.2"}, "sqlite_autoindex_study_1 (StudyInstanceUID=?)"),
        ("STUDY", {"PatientID": "P1"}, "study_by_patient_id (PatientID=?)"),
        ("STUDY", {"PatientID": "P*"}, "study_by_patient_id (PatientID>? AND PatientID<?)"),
        ("PATIENT", {"PatientID": "P1"}, "patient_by_id (PatientID=?)"),
        ("STUDY", {"AccessionNumber": "A1"}, "study_by_accession_number (AccessionNumber=?)"),
        ("STUDY", {"StudyDate": "20200101-20200131"}, "study_by_date (StudyDate_at>? AND StudyDate_at<?)"),
        ("STUDY", {"PatientName": "DOE^JOHN"}, "person_by_family (level=? AND tag=? AND family=?)"),
        ("STUDY", {"PatientName": "doe*"}, "person_by_whole (level=? AND tag=? AND whole>? AND whole<?)"),
        ("STUDY", {"PatientName": "Gro?mann*"}, "person_by_whole (level=? AND tag=? AND whole>? AND whole<?)"),
        ("STUDY", {"PatientName": "Yamada=山田"}, "person_by_whole (level=? AND tag=? AND whole=?)"),
        ("STUDY", {"PatientName": "Großmann^Ä*"}, "person_by_family (level=? AND tag=? AND family=?)"),
        ("STUDY", {"ReferringPhysicianName": "A^B"}, "person_by_family (level=? AND tag=? AND family=?)"),
        ("SERIES", {"SeriesInstanceUID": "1.2.1.1"}, "series_by_uid (SeriesInstanceUID=?)"),
        ("IMAGE", {"SOPInstanceUID": "1.2.9.1"}, "sqlite_autoindex_instance_1 (SOPInstanceUID=?)"),
    ],
)
def test_a_look_up_uses_its_index(tmp_path: Path, level: str, keys: dict[str, str], wanted: str) -> None:
    assert level in LEVELS
    with parts(tmp_path) as archive:
        send(archive.ingest, data_set(1, PatientName="Großmann^Änne"))
        found = plans(archive, level, keys)
    assert any(line.endswith(wanted) for line in found), found
    walked = [line for line in found if line.startswith("SCAN") and "json_each" not in line]
    assert walked == [], found
