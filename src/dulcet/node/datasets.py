"""Data sets by UID in a file: what providers of steps keep across a restart."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, MutableMapping
from os import PathLike, fspath
from typing import TYPE_CHECKING

from dulcet import uids
from dulcet.services.identifiers import decode_dataset, encode_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Datasets"]


class Datasets(MutableMapping[str, "Dataset"]):
    """A mapping from UID to data set in an SQLite file; what was set is on the disk, and oldest first.

    A value that was got is a copy: change it by setting it.
    """

    def __init__(self, path: str | PathLike[str], *, table: str = "datasets") -> None:
        """`table` lets several mappings share a file."""
        if not table.isidentifier():
            raise ValueError(f"{table!r} is no name for a table")
        self._table = table
        self._lock = threading.Lock()
        self._database = sqlite3.connect(fspath(path), check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            f"CREATE TABLE IF NOT EXISTS {table}"
            " (number INTEGER PRIMARY KEY, uid TEXT UNIQUE NOT NULL, data BLOB NOT NULL)"
        )

    def __getitem__(self, uid: str) -> Dataset:
        with self._lock:
            row = self._database.execute(f"SELECT data FROM {self._table} WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            raise KeyError(uid)
        return decode_dataset(row[0], uids.EXPLICIT_VR_LITTLE_ENDIAN)

    def __setitem__(self, uid: str, dataset: Dataset) -> None:
        data, _ = encode_dataset(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        with self._lock:
            self._database.execute(
                f"INSERT INTO {self._table} (uid, data) VALUES (?, ?)"
                " ON CONFLICT (uid) DO UPDATE SET data = excluded.data",
                (uid, data),
            )

    def __delitem__(self, uid: str) -> None:
        with self._lock:
            done = self._database.execute(f"DELETE FROM {self._table} WHERE uid = ?", (uid,))
        if not done.rowcount:
            raise KeyError(uid)

    def __contains__(self, uid: object) -> bool:
        with self._lock:
            row = self._database.execute(f"SELECT 1 FROM {self._table} WHERE uid = ?", (uid,)).fetchone()
        return row is not None

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            rows = self._database.execute(f"SELECT uid FROM {self._table} ORDER BY number").fetchall()
        return iter([row[0] for row in rows])

    def __len__(self) -> int:
        with self._lock:
            count: int = self._database.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0]
        return count

    def disconnect(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
