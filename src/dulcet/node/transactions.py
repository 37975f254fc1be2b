"""Where a storage commitment provider keeps its transactions: in memory, or in a file that survives a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from os import PathLike, fspath
from typing import Final, Protocol

from dulcet.services.commitment import Reference, Transaction

__all__ = ["MemoryTransactions", "SQLiteTransactions", "TransactionStore"]

KEPT: Final = 30 * 86_400
"""Seconds for which a reported transaction is remembered, so that its UID is known as a duplicate."""


class TransactionStore(Protocol):
    """What a provider needs of a store; called from several threads at once, each call is done when it returns."""

    def add(self, transaction: Transaction) -> bool:
        """Keep a new transaction; False, and nothing changed, when its UID is known already."""

    def update(self, transaction: Transaction) -> None:
        """It was decided, or reporting failed once more."""

    def close(self, uid: str) -> None:
        """It was reported, or given up."""

    def open(self) -> Iterable[Transaction]:
        """Those that are to be decided or reported still, oldest first."""


class MemoryTransactions:
    """Transactions that a restart forgets; at most `limit` that are closed are remembered."""

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._open: dict[str, Transaction] = {}
        self._closed: dict[str, None] = {}

    def add(self, transaction: Transaction) -> bool:
        with self._lock:
            if transaction.uid in self._open or transaction.uid in self._closed:
                return False
            self._open[transaction.uid] = transaction
            return True

    def update(self, transaction: Transaction) -> None:
        with self._lock:
            if transaction.uid in self._open:
                self._open[transaction.uid] = transaction

    def close(self, uid: str) -> None:
        with self._lock:
            if self._open.pop(uid, None) is not None:
                self._closed[uid] = None
                while len(self._closed) > self.limit:
                    del self._closed[next(iter(self._closed))]

    def open(self) -> Iterable[Transaction]:
        with self._lock:
            return list(self._open.values())


class SQLiteTransactions:
    """Transactions in an SQLite file; each call returns once it is on the disk."""

    def __init__(self, path: str | PathLike[str], *, kept: float = KEPT) -> None:
        """`kept` is how many seconds a closed transaction is remembered."""
        self.kept = kept
        self._lock = threading.Lock()
        self._database = sqlite3.connect(fspath(path), check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS commitment_transactions ("
            " uid TEXT PRIMARY KEY, requestor TEXT NOT NULL, instances TEXT NOT NULL, failures TEXT,"
            " attempts INTEGER NOT NULL DEFAULT 0, received REAL NOT NULL, closed REAL) WITHOUT ROWID"
        )

    def add(self, transaction: Transaction) -> bool:
        now = time.time()
        with self._lock:
            self._database.execute("DELETE FROM commitment_transactions WHERE closed < ?", (now - self.kept,))
            done = self._database.execute(
                "INSERT OR IGNORE INTO commitment_transactions"
                " (uid, requestor, instances, failures, attempts, received) VALUES (?, ?, ?, ?, ?, ?)",
                (transaction.uid, transaction.requestor, *_columns(transaction), now),
            )
            return done.rowcount == 1

    def update(self, transaction: Transaction) -> None:
        _, failures, attempts = _columns(transaction)
        with self._lock:
            self._database.execute(
                "UPDATE commitment_transactions SET failures = ?, attempts = ? WHERE uid = ? AND closed IS NULL",
                (failures, attempts, transaction.uid),
            )

    def close(self, uid: str) -> None:
        with self._lock:
            self._database.execute(
                "UPDATE commitment_transactions SET closed = ? WHERE uid = ? AND closed IS NULL", (time.time(), uid)
            )

    def open(self) -> Iterable[Transaction]:
        with self._lock:
            rows = self._database.execute(
                "SELECT uid, requestor, instances, failures, attempts FROM commitment_transactions"
                " WHERE closed IS NULL ORDER BY received, uid"
            ).fetchall()
        return [_transaction(*row) for row in rows]

    def disconnect(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def _columns(transaction: Transaction) -> tuple[str, str | None, int]:
    instances = json.dumps([[found.sop_class_uid, found.sop_instance_uid] for found in transaction.references])
    failures = transaction.failures
    return (
        instances,
        None
        if failures is None
        else json.dumps([[found.sop_class_uid, found.sop_instance_uid, reason] for found, reason in failures]),
        transaction.attempts,
    )


def _transaction(uid: str, requestor: str, instances: str, failures: str | None, attempts: int) -> Transaction:
    failed = None
    if failures is not None:
        failed = tuple((Reference(of_class, instance), reason) for of_class, instance, reason in json.loads(failures))
    references = tuple(Reference(of_class, instance) for of_class, instance in json.loads(instances))
    return Transaction(uid=uid, requestor=requestor, references=references, failures=failed, attempts=attempts)
