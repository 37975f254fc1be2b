"""The index in SQLite: one connection that writes, others that read, write-ahead log, every commit on stable storage.

Rules: plain SQL; a reader never holds a transaction from one page to the next; what the data base refuses is
IndexTrouble, and the transaction leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from dulcet.archive.attributes import IMAGE, PATIENT, SERIES, STUDY, Attribute
from dulcet.archive.identity import Kept
from dulcet.archive.index import Counts, Event, IndexDamaged, IndexTrouble, Page, Watch
from dulcet.archive.matching import Query
from dulcet.archive.objects import FILE
from dulcet.archive.records import Record
from dulcet.archive.statements import TABLES, Where, column, fits, one_fits, sounds_like, wheres
from dulcet.archive.writing import NO_SERIES, Writer
from dulcet.services.names import fold_groups

__all__ = ["SqliteIndex"]

log: Final = logging.getLogger("dulcet.index")

STUDIES_AT_ONCE: Final = 64
"""Studies whose series are read together."""
ROWS_AT_ONCE: Final = 500
LOG_PAGES: Final = 4000
"""Pages of the log, 16 MB, after which it is carried over into the index: each time costs two waits for the disk."""
SPARE_READERS: Final = 16
"""Read connections kept open: about 100 kB each once used."""
BUSY: Final = 5.0
"""Seconds to wait for another process that writes, before the senders are told A700H."""
DAMAGED: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
KEPT: Final = (
    "instance.SOPClassUID, instance.SOPInstanceUID,"
    " {0}.transfer_syntax, {0}.object, {0}.offset, {0}.length, {0}.digest"
)
LISTED: Final = "id IN (SELECT value FROM json_each(?))"
"""Ids given as one parameter, so that the statement is prepared once."""


class SqliteIndex:
    """An `Index` in one file."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = True,
        watch: Watch | None = None,
        busy: float = BUSY,
        check: bool = True,
        turn: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """Open or make it; IndexDamaged when it does not pass SQLite's check, IndexTrouble when it cannot be opened.

        `turn` keeps other processes from writing.
        """
        self.path: Path = Path(path)
        self.watch: Watch = watch or Watch()
        self.made: bool = not self.path.exists()
        """True when it is new."""
        self._busy = busy
        self._writing = threading.Lock()
        self._turn = turn
        self._version = 0
        self._spare: list[sqlite3.Connection] = []
        self._closed = False
        with _troubles():
            self._connection = self._connect()
            opened = os.stat(self.path)
            self._file = (opened.st_dev, opened.st_ino)
            self._connection.execute("PRAGMA journal_mode = WAL")
            if self.made:
                self._keep_to_us()
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            if check and not self.made:
                self._check()
            _migrate(self._connection)
            self._writer = Writer(self._connection, self.watch.kinds)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.create_function("sounds_like", 2, sounds_like, deterministic=True)
        connection.create_function("fits", 2, fits, deterministic=True)
        connection.create_function("one_fits", 2, one_fits, deterministic=True)
        connection.create_function("folded", 1, _folded, deterministic=True)
        return connection

    def _keep_to_us(self) -> None:
        """As the objects are; what SQLite makes beside it later has its mode."""
        for name in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path = f"{self.path}{name}"
                os.chmod(path, os.stat(path).st_mode & FILE)

    def _check(self) -> None:
        answer = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer is None or answer[0] != "ok":
            raise IndexDamaged(f"{self.path}: the index is damaged; make it anew with `dulcet index rebuild`")

    # ------------------------------------------------------------------ writing

    def add(self, records: Sequence[Record]) -> None:
        """Index instances in one transaction, durable on return; all or none."""
        with self._transaction():
            self._writer.add(records)

    def add_each(self, records: Sequence[Record]) -> list[Exception | None]:
        """Index each by itself, in one transaction, durable on return: what kept each from it, None for those that are
        in.
        """
        found: list[Exception | None] = []
        with self._transaction() as connection:
            for record in records:
                connection.execute("SAVEPOINT one")
                try:
                    self._writer.add([record])
                    found.append(None)
                except Exception as error:
                    if not connection.in_transaction:
                        raise  # SQLite has taken everything back, as it does when the disk is full
                    connection.execute("ROLLBACK TO one")
                    self._writer.forget()
                    found.append(_trouble(error) if isinstance(error, sqlite3.Error) else error)
                connection.execute("RELEASE one")
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction of this thread's own; rolled back on any error."""
        with self._writing, self._turn(), _troubles():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._notice_others()
                self._notice_loss()
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._writer.forget()
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def _notice_others(self) -> None:
        """Forget what is remembered of the rows when another process has written since."""
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._writer.forget()

    def _notice_loss(self) -> None:
        """IndexTrouble when the file that we hold has no name any more: what goes into it nobody finds again."""
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._file:
            raise IndexTrouble("the index was removed or replaced while it was in use; stop, and start again")

    # ------------------------------------------------------------------ reading

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A read connection, kept for the next one who asks."""
        with _troubles():
            try:
                connection = self._spare.pop()
            except IndexError:
                if self._closed:
                    raise IndexTrouble("the index is closed") from None
                connection = self._connect()
                connection.execute("PRAGMA query_only = 1")
            try:
                yield connection
            finally:
                if len(self._spare) < SPARE_READERS and not self._closed:
                    self._spare.append(connection)
                else:
                    connection.close()

    def known(self, sop_instance_uid: str) -> list[Kept]:
        """What is kept under this UID: the one that is served first, those beside it after; empty for none."""
        with self._reading() as connection:
            first = connection.execute(
                f"SELECT {KEPT.format('instance')} FROM instance WHERE SOPInstanceUID = ?", (sop_instance_uid,)
            ).fetchone()
            if first is None:
                return []
            others = connection.execute(
                f"SELECT {KEPT.format('beside')} FROM beside JOIN instance ON instance.id = beside.instance"
                " WHERE SOPInstanceUID = ? ORDER BY beside.received",
                (sop_instance_uid,),
            ).fetchall()
        return [Kept(*row) for row in (first, *others)]

    def find(self, query: Query) -> Iterator[Page]:
        """The answers to a query, a page at a time; no transaction stands between two pages."""
        conditions = wheres(query, patients=query.level == PATIENT)
        if query.level in (PATIENT, STUDY):
            ids = self._ids(TABLES[query.level], conditions[query.level])
            names = ", ".join(column(attribute) for attribute in query.columns)
            for part in _parts(ids, ROWS_AT_ONCE):
                sql = f"SELECT {names} FROM {TABLES[query.level]} WHERE {LISTED} ORDER BY id"
                yield Page({}, self._rows(sql, [part]))
            return
        series_query = query if query.level == SERIES else None
        for above, series in self._series(query, conditions):
            if series_query is not None:
                yield Page(above, series)
            else:
                yield from self._instances(query, conditions[IMAGE], above, series)

    def _series(self, query: Query, conditions: list[list[Where]]) -> Iterator[tuple[dict[str, str], list[Any]]]:
        """(values of the study, rows of its series that match); at image level each row begins with the series' id."""
        of_study = [found for found in query.above if found.level in (PATIENT, STUDY)]
        of_series = [found for found in query.answered if found.level == SERIES]
        leading = "id, " if query.level == IMAGE else ""
        names = leading + ", ".join(column(attribute) for attribute in of_series)
        where, values = _joined(conditions[SERIES])
        studies = ", ".join(["id", *(column(found) for found in of_study)])
        for part in _parts(self._ids("study", conditions[STUDY]), STUDIES_AT_ONCE):
            rows = self._rows(f"SELECT {studies} FROM study WHERE {LISTED}", [part])
            above = {row[0]: _named(of_study, row[1:]) for row in rows}
            found = self._rows(
                f"SELECT study, {names} FROM series WHERE study IN (SELECT value FROM json_each(?)){where}"
                " ORDER BY study, id",
                [part, *values],
            )
            for study, group in groupby(found, key=lambda row: row[0]):
                if study in above:
                    yield above[study], [row[1:] for row in group]

    def _instances(
        self, query: Query, conditions: list[Where], above: dict[str, str], series: list[Any]
    ) -> Iterator[Page]:
        of_series = [found for found in query.above if found.level == SERIES]
        names = ", ".join(["id", *(column(attribute) for attribute in query.columns)])
        where, values = _joined(conditions)
        sql = f"SELECT {names} FROM instance WHERE series = ? AND id > ?{where} ORDER BY id LIMIT {ROWS_AT_ONCE}"
        for number, *rest in series:
            values_above = {**above, **_named(of_series, rest)}
            last = 0
            while rows := self._rows(sql, [number, last, *values]):
                yield Page(values_above, [row[1:] for row in rows])
                last = rows[-1][0]
                if len(rows) < ROWS_AT_ONCE:
                    break

    def select(self, query: Query) -> _Selection:
        """The instances of a query's matches."""
        conditions = wheres(query, patients=False)
        in_series, series_values = _joined(conditions[SERIES])
        in_instance, instance_values = _joined(conditions[IMAGE])
        found = array("q")
        for part in _parts(self._ids("study", conditions[STUDY]), STUDIES_AT_ONCE):
            with self._reading() as connection:
                rows = connection.execute(
                    "SELECT instance.id FROM series JOIN instance ON instance.series = series.id"
                    f" WHERE series.study IN (SELECT value FROM json_each(?)){in_series}{in_instance}"
                    " ORDER BY series.study, series.id, instance.id",
                    [part, *series_values, *instance_values],
                )
                found.extend(row[0] for row in rows)
        return _Selection(self, found)

    def of_no_patient(self, sop_classes: Iterable[str], sop_instance_uids: Iterable[str] | None = None) -> _Selection:
        """The objects of these classes that are of no patient; with UIDs those of them alone."""
        conditions: list[Where] = [
            ("series = ?", [NO_SERIES]),
            ("SOPClassUID IN (SELECT value FROM json_each(?))", [json.dumps(list(sop_classes))]),
        ]
        if sop_instance_uids is not None:
            uids = json.dumps(list(sop_instance_uids))
            conditions.append(("SOPInstanceUID IN (SELECT value FROM json_each(?))", [uids]))
        return _Selection(self, self._ids("instance", conditions))

    def _ids(self, table: str, conditions: list[Where]) -> array[int]:
        where, values = _joined(conditions)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT id FROM {table} WHERE 1{where} ORDER BY id", values)
            return array("q", (row[0] for row in rows))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(sql, values).fetchall()

    def counts(self) -> Counts:
        """How much there is."""
        with self._reading() as connection:
            patients, studies, series, instances, beside = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in (*TABLES, "beside")
            )
            size = sum(
                connection.execute(f"SELECT coalesce(sum(length), 0) FROM {table}").fetchone()[0]
                for table in ("instance", "beside")
            )
            events, oldest = connection.execute("SELECT count(*), min(made) FROM event").fetchone()
        return Counts(patients, studies, series, instances, beside, size, events, oldest)

    # ------------------------------------------------------------------ events

    def settle(self, now: float) -> float | None:
        """Note the series and studies that have become stable; when the next one may, None for none waiting."""
        upcoming = self._next_stable()
        if upcoming is None or upcoming > now:
            return upcoming
        with self._transaction():
            self._writer.settle("series", now - self.watch.series_quiet, now)
            self._writer.settle("study", now - self.watch.study_quiet, now)
        return self._next_stable()

    def _next_stable(self) -> float | None:
        waiting = []
        with self._reading() as connection:
            for table, quiet in (("series", self.watch.series_quiet), ("study", self.watch.study_quiet)):
                (oldest,) = connection.execute(f"SELECT min(changed) FROM {table} WHERE stable = 0").fetchone()
                if oldest is not None:
                    waiting.append(oldest + quiet)
        return min(waiting, default=None)

    def due(self, now: float, limit: int) -> list[Event]:
        """Events to be told by now, the oldest first."""
        rows = self._rows("SELECT id, kind, body, attempts FROM event WHERE due <= ? ORDER BY id LIMIT ?", [now, limit])
        return [Event(number, kind, json.loads(body), attempts) for number, kind, body, attempts in rows]

    def acknowledge(self, event: Event) -> None:
        """It was told."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM event WHERE id = ?", (event.id,))

    def postpone(self, event: Event, until: float) -> None:
        """It could not be told."""
        with self._transaction() as connection:
            connection.execute("UPDATE event SET due = ?, attempts = attempts + 1 WHERE id = ?", (until, event.id))

    # ------------------------------------------------------------------ the file

    def backup(self, path: str) -> None:
        """A consistent copy, made while others read and write; on stable storage when it bears its name."""
        unfinished = f"{path}.partial"
        try:
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE))  # for nobody else, as the index
            with self._reading() as connection, _copying(path), contextlib.closing(sqlite3.connect(unfinished)) as copy:
                connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
            file = os.open(unfinished, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(unfinished, path)
        except BaseException:
            for suffix in ("", "-journal"):
                with contextlib.suppress(OSError):
                    os.unlink(f"{unfinished}{suffix}")
            raise

    def close(self) -> None:
        """Give everything back."""
        with self._writing, self._turn():  # the last one carries the log over
            self._closed = True
            self._connection.close()
            while self._spare:
                self._spare.pop().close()


class _Selection:
    """Instances by their ids."""

    def __init__(self, index: SqliteIndex, ids: array[int]) -> None:
        self._index = index
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Kept]:
        sql = f"SELECT instance.id, {KEPT.format('instance')} FROM instance WHERE {LISTED}"
        for start in range(0, len(self._ids), ROWS_AT_ONCE):
            ids = self._ids[start : start + ROWS_AT_ONCE]
            rows = {row[0]: row[1:] for row in self._index._rows(sql, [json.dumps(ids.tolist())])}
            for number in ids:
                if number in rows:
                    yield Kept(*rows[number])


def _parts(ids: array[int], size: int) -> Iterator[str]:
    """The ids in lists of at most `size`, as JSON."""
    for start in range(0, len(ids), size):
        yield json.dumps(ids[start : start + size].tolist())


def _joined(conditions: list[Where]) -> tuple[str, list[object]]:
    return (
        "".join(f" AND {sql}" for sql, _ in conditions),
        [value for _, values in conditions for value in values],
    )


def _named(attributes: Sequence[Attribute], row: Sequence[Any]) -> dict[str, str]:
    return {attribute.keyword: value for attribute, value in zip(attributes, row)}


def _folded(names: str | None) -> str:
    """The values of `person` for names, as JSON; for migrations."""
    return json.dumps([[number, whole, *components] for number, whole, components in fold_groups(names or "")])


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, one numbered step after the other, each in a transaction of its own."""
    present = int(connection.execute("PRAGMA user_version").fetchone()[0])
    folder = resources.files("dulcet.archive") / "migrations"
    steps = sorted((int(step.name[:4]), step) for step in folder.iterdir() if step.name.endswith(".sql"))
    if steps and present > steps[-1][0]:
        raise IndexTrouble(f"the index is of version {present}, this one knows {steps[-1][0]}: use a newer dulcet")
    for number, step in steps:
        if number > present:
            sql = step.read_text("utf-8")
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")


@contextlib.contextmanager
def _troubles() -> Iterator[None]:
    """What SQLite raises, as IndexTrouble."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise _trouble(error, doubtful=code == sqlite3.SQLITE_IOERR) from error


@contextlib.contextmanager
def _copying(path: str) -> Iterator[None]:
    """What the copy is to blame for is not said of the index: that is only read here."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            raise
        raise IndexTrouble(f"cannot copy the index to {path}: {error}") from error


def _trouble(error: sqlite3.Error, *, doubtful: bool = False) -> IndexTrouble:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
        return IndexDamaged(f"the index is damaged ({error}); make it anew with `dulcet index rebuild`")
    return IndexTrouble(f"the index cannot be used: {error}", doubtful=doubtful)
