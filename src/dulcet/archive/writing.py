"""Rows for instances: inserted, counted and noted as events, within a transaction that somebody else holds.

Rule: what is remembered of studies and series is of committed transactions only; `forget` after any other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dulcet.archive.attributes import ATTRIBUTES, COLUMNS, IMAGE, PATIENT, REQUEST_KEYS, SERIES, STUDY
from dulcet.archive.index import INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE
from dulcet.archive.records import Record
from dulcet.services.names import fold_groups

__all__ = ["NO_SERIES", "Writer"]

NO_SERIES: Final = 0
"""What stands for the series of an object of no patient: no row has this number, so no query of patients meets it."""
TABLES: Final = ("patient", "study", "series", "instance")

REMEMBERED: Final = 4096
"""Studies, and series, whose ids are kept in memory: those that are being sent."""

EXTRA: Final = (
    ("identity",),
    ("patient", "changed"),
    ("study", "changed"),
    ("series", "object", "transfer_syntax", "offset", "length", "digest", "received", "source"),
)
"""Columns of each table besides the attributes."""


def _insertion(table: str, level: int) -> str:
    names: list[str] = []
    for attribute in COLUMNS[level]:
        names.append(attribute.keyword)
        if attribute.temporal:
            names.append(f"{attribute.keyword}_at")
    names += EXTRA[level]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


INSERTIONS: Final = tuple(_insertion(table, level) for level, table in enumerate(TABLES))
PERSONS: Final = {
    level: [(attribute.keyword, attribute.tag) for attribute in COLUMNS[level] if attribute.vr == "PN"]
    for level in (PATIENT, STUDY, SERIES)
}


@dataclass(slots=True)
class _Study:
    id: int
    patient: int
    modalities: set[str]
    classes: set[str]


@dataclass(slots=True)
class _Change:
    """What a transaction adds to one study, patient or series."""

    series: int = 0
    instances: int = 0
    studies: int = 0
    names: bool = False
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)


class Writer:
    """Writes on one connection."""

    def __init__(self, connection: sqlite3.Connection, kinds: Iterable[str]) -> None:
        self._connection = connection
        self._kinds = frozenset(kinds)
        self._studies: dict[str, _Study] = {}
        self._series: dict[tuple[int, str], int] = {}

    def forget(self) -> None:
        """The transaction was rolled back: what was remembered of it is not so."""
        self._studies.clear()
        self._series.clear()

    def add(self, records: Sequence[Record]) -> None:
        """Insert them all."""
        if len(self._studies) > REMEMBERED or len(self._series) > REMEMBERED:
            self.forget()
        studies: dict[str, _Change] = {}
        patients: dict[int, _Change] = {}
        series: dict[int, _Change] = {}
        now = 0.0
        for record in records:
            now = max(now, record.received)
            if record.beside:
                self._add_beside(record)
                continue
            if record.identity.model is not None:
                self._new_instance(record, NO_SERIES)
                self._note(INSTANCE_STORED, record.received, self._event_body(record))
                continue
            study = self._studies.get(record.identity.study_instance_uid) or self._find_study(record)
            if study is None:
                study = self._new_study(record, patients)
            change = studies.setdefault(record.identity.study_instance_uid, _Change())
            series_id = self._series_of(record, study, change, patients)
            if record.kept.sop_class_uid not in study.classes:
                study.classes.add(record.kept.sop_class_uid)
                change.names = True
            self._new_instance(record, series_id)
            change.instances += 1
            series.setdefault(series_id, _Change()).instances += 1
            patients.setdefault(study.patient, _Change()).instances += 1
            self._note(INSTANCE_STORED, record.received, self._event_body(record))
        self._count(studies, patients, series, now)

    # ------------------------------------------------------------------ rows

    def _find_study(self, record: Record) -> _Study | None:
        row = self._connection.execute(
            "SELECT id, patient, ModalitiesInStudy, SOPClassesInStudy FROM study WHERE StudyInstanceUID = ?",
            (record.identity.study_instance_uid,),
        ).fetchone()
        if row is None:
            return None
        study = _Study(row[0], row[1], set(filter(None, row[2].split("\\"))), set(filter(None, row[3].split("\\"))))
        self._studies[record.identity.study_instance_uid] = study
        return study

    def _new_study(self, record: Record, patients: dict[int, _Change]) -> _Study:
        patient = self._patient(record)
        values = record.values(STUDY)
        id_ = self._insert(STUDY, [*values, patient, record.received])
        self._name(STUDY, id_, record)
        patients.setdefault(patient, _Change()).studies += 1
        study = self._studies[record.identity.study_instance_uid] = _Study(id_, patient, set(), set())
        return study

    def _patient(self, record: Record) -> int:
        number, issuer, name = (
            record.text(ATTRIBUTES[keyword]) for keyword in ("PatientID", "IssuerOfPatientID", "PatientName")
        )
        identity = json.dumps([number, issuer] if number else ["", issuer, name])
        row = self._connection.execute("SELECT id FROM patient WHERE identity = ?", (identity,)).fetchone()
        if row is not None:
            return int(row[0])
        id_ = self._insert(PATIENT, [*record.values(PATIENT), identity])
        self._name(PATIENT, id_, record)
        return id_

    def _series_of(self, record: Record, study: _Study, change: _Change, patients: dict[int, _Change]) -> int:
        key = (study.id, record.identity.series_instance_uid)
        found = self._series.get(key)
        if found is not None:
            return found
        row = self._connection.execute(
            "SELECT id FROM series WHERE study = ? AND SeriesInstanceUID = ?", key
        ).fetchone()
        if row is not None:
            id_ = int(row[0])
        else:
            id_ = self._insert(SERIES, [*record.values(SERIES), study.id, record.received])
            self._name(SERIES, id_, record)
            for item in record.requests():
                self._connection.execute(
                    f"INSERT INTO request VALUES (?, {', '.join('?' * len(REQUEST_KEYS))})",
                    [id_, *(item[keyword] for keyword in REQUEST_KEYS)],
                )
            change.series += 1
            patients.setdefault(study.patient, _Change()).series += 1
            modality = record.text(ATTRIBUTES["Modality"])
            if modality and modality not in study.modalities:
                study.modalities.add(modality)
                change.names = True
        self._series[key] = id_
        return id_

    def _new_instance(self, record: Record, series: int) -> None:
        kept = record.kept
        self._insert(
            IMAGE,
            [
                *record.values(IMAGE), series, kept.object, kept.transfer_syntax, kept.offset, kept.length, kept.digest,
                record.received, record.source,
            ],
        )  # fmt: skip

    def _add_beside(self, record: Record) -> None:
        kept = record.kept
        self._connection.execute(
            "INSERT OR IGNORE INTO beside SELECT id, ?, ?, ?, ?, ?, ?, ? FROM instance WHERE SOPInstanceUID = ?",
            (
                kept.digest, kept.object, kept.transfer_syntax, kept.offset, kept.length, record.received,
                record.source, kept.sop_instance_uid,
            ),
        )  # fmt: skip

    def _insert(self, level: int, values: Sequence[object]) -> int:
        cursor = self._connection.execute(INSERTIONS[level], values)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _name(self, level: int, owner: int, record: Record) -> None:
        for keyword, tag in PERSONS[level]:
            for representation, whole, components in fold_groups(record.text(ATTRIBUTES[keyword])):
                self._connection.execute(
                    "INSERT INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (owner, level, tag, representation, whole, *components),
                )

    # ------------------------------------------------------------------ counters and events

    def _count(
        self, studies: dict[str, _Change], patients: dict[int, _Change], series: dict[int, _Change], now: float
    ) -> None:
        execute = self._connection.execute
        for series_id, change in series.items():
            execute(
                "UPDATE series SET instances = instances + ?, changed = ?, stable = 0 WHERE id = ?",
                (change.instances, now, series_id),
            )
        for uid, change in studies.items():
            study = self._studies[uid]
            execute(
                "UPDATE study SET series = series + ?, instances = instances + ?, changed = ?, stable = 0 WHERE id = ?",
                (change.series, change.instances, now, study.id),
            )
            if change.names:
                execute(
                    "UPDATE study SET ModalitiesInStudy = ?, SOPClassesInStudy = ? WHERE id = ?",
                    ("\\".join(sorted(study.modalities)), "\\".join(sorted(study.classes)), study.id),
                )
        for patient, change in patients.items():
            execute(
                "UPDATE patient SET studies = studies + ?, series = series + ?, instances = instances + ? WHERE id = ?",
                (change.studies, change.series, change.instances, patient),
            )

    def settle(self, table: str, changed: float, now: float) -> None:
        """Mark what did not change since as stable, with its event."""
        kind = SERIES_STABLE if table == "series" else STUDY_STABLE
        if kind in self._kinds:
            series = table == "series"
            sql = (
                "SELECT StudyInstanceUID, SeriesInstanceUID, series.instances FROM series"
                " JOIN study ON study.id = series.study WHERE series.stable = 0 AND series.changed <= ?"
            )
            if not series:
                sql = "SELECT StudyInstanceUID, series, instances FROM study WHERE stable = 0 AND changed <= ?"
            rows = self._connection.execute(sql, (changed,)).fetchall()
            for uid, second, instances in rows:
                body = {"study_instance_uid": uid, "series_instance_uid" if series else "series": second}
                self._note(kind, now, {**body, "instances": instances})
        self._connection.execute(f"UPDATE {table} SET stable = 1 WHERE stable = 0 AND changed <= ?", (changed,))

    def _event_body(self, record: Record) -> dict[str, object]:
        """What the event of an arrival says: where it is, nothing of the patient."""
        return {
            "sop_class_uid": record.identity.sop_class_uid,
            "sop_instance_uid": record.identity.sop_instance_uid,
            "study_instance_uid": record.identity.study_instance_uid,
            "series_instance_uid": record.identity.series_instance_uid,
            "transfer_syntax": record.kept.transfer_syntax,
            "object": record.kept.object,
            "source": record.source,
        }

    def _note(self, kind: str, now: float, body: dict[str, object]) -> None:
        if kind in self._kinds:
            self._connection.execute(
                "INSERT INTO event (kind, body, made, due) VALUES (?, ?, ?, ?)", (kind, json.dumps(body), now, now)
            )
