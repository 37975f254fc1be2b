"""The archive as an application entity: verification, storage, query, retrieve, storage commitment; any face runs it.

Rules: one process at a time works in a data folder, or several that one parent lets; who may do what is a table by
calling AE title; nothing that a data set holds gets into a log.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from dulcet.archive import of_no_patient
from dulcet.archive.answers import Answers
from dulcet.archive.attributes import LEVELS
from dulcet.archive.events import IDLE, Events, Handler
from dulcet.archive.index import INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE, Counts, IndexTrouble, Selection, Watch
from dulcet.archive.ingest import Ingest
from dulcet.archive.matching import Query, read_query, read_retrieve
from dulcet.archive.objects import FILE, FOLDER, FileObjects
from dulcet.archive.retrieve import RetrieveSet
from dulcet.archive.sqlite import SqliteIndex
from dulcet.archive.sweep import Swept, adopt_all, sweep
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.log_codes import coded
from dulcet.node.application import Node
from dulcet.node.commitment import StorageCommitment
from dulcet.node.requests import FindRequest, NormalizedRequest, Request, RetrieveRequest
from dulcet.node.transactions import SQLiteTransactions
from dulcet.services.commitment import SOP_CLASS as COMMITMENT
from dulcet.services.commitment import Reference
from dulcet.services.extended import QueryOptions, RetrieveOptions
from dulcet.services.models import MODELS
from dulcet.services.refusals import Refused
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.archive.instance_locks import InstanceLocks

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]

__all__ = ["OPERATIONS", "Archive", "ArchiveWorker", "FolderInUse", "Peer", "rebuild"]

log: Final = logging.getLogger("dulcet.archive")

INDEX: Final = "index.sqlite"
UNFINISHED: Final = f"{INDEX}.new"
OBJECTS: Final = "objects"
LOCK: Final = "lock"
TURNS: Final = "turns"
TRANSACTIONS: Final = "commitment.sqlite"
QUERIED: Final = ("patient", "study", "patient-study-only")
OPERATIONS: Final = ("store", "find", "get", "move", "commit")
"""What a peer may be allowed; verification always is."""
QUERY_OPTIONS: Final = QueryOptions(relational=True, date_time=True, fuzzy=True, time_zone=True)
RETRIEVE_OPTIONS: Final = RetrieveOptions(relational=True)
CLASS_INSTANCE_CONFLICT: Final = 0x0119
RUNNING: Final = b"running\n"
IDLE_AMONG_MEMBERS: Final = 0.5
"""Seconds after which the one that tells of events looks for those of the others."""


class FolderInUse(IndexTrouble):
    """Another process has the data folder."""


@dataclass(frozen=True, slots=True)
class ArchiveWorker:
    """One of several processes that serve a data folder, which their parent opened and lent them (`Archive.lend`)."""

    number: int
    """From 0; one living process has it at a time."""
    lock: int
    """The inherited descriptor of the folder's lock, which keeps others out until the last member has ended."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who may call."""

    address: Address | None = None
    """Where it is reached, for C-MOVE and the results of storage commitment."""
    operations: frozenset[str] = frozenset(OPERATIONS)


class Archive:
    """A data folder, open; a context manager."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durable: bool = True,
        peers: Mapping[str, Peer] | None = None,
        allow_any: bool = False,
        strict_queries: bool = False,
        handlers: Iterable[Handler] = (),
        watch: Watch | None = None,
        worker: ArchiveWorker | None = None,
        strict: bool = False,
        private: bool = False,
    ) -> None:
        """Open the folder, or make it; put right what a crash left.

        `peers` are known by their AE titles; others may call if `allow_any`, and do everything.  `handlers` are told of
        events of the kinds that `watch` names, of all kinds without one.  FolderInUse, IndexDamaged, OSError.
        `strict_queries` holds peers to the hierarchy of PS3.4 section C.4.1.2.1, but those of relational queries.
        Of several `worker`s that of number 0 tells of events and reports results of commitment, for all of them.
        `strict` refuses UIDs that PS3.5 section 9.1 does not allow; `private` takes storage classes no table knows.
        """
        self.folder: Path = Path(folder)
        self.folder.mkdir(FOLDER, parents=True, exist_ok=True)
        self.peers: dict[str, Peer] = dict(peers or {})
        self.allow_any = allow_any
        self.private = private
        self.strict_queries = strict_queries
        handlers = list(handlers)
        if watch is None:
            watch = Watch(frozenset((INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE)) if handlers else frozenset())
        self._worker = worker
        self._lent = False
        self._instance_locks: InstanceLocks | None = None
        self._lock = _Lock(self.folder / LOCK) if worker is None else _LentLock(worker.lock)
        try:
            if worker is not None:
                from dulcet.archive.instance_locks import InstanceLocks

                self._instance_locks = InstanceLocks(self.folder / TURNS)
            anew = Swept() if worker is not None else self._lost_index(durable)
            number = None if worker is None else worker.number
            self.objects: FileObjects = FileObjects(self.folder, durable=durable, number=number)
            self.index: SqliteIndex = SqliteIndex(
                self.folder / INDEX, durable=durable, watch=watch, check=self._lock.interrupted,
                turn=nullcontext if self._instance_locks is None else self._instance_locks.writing,
            )  # fmt: skip
            self.swept: Swept = sweep(self.objects, self.index, self._instance_turn)
            self.swept.adopted += anew.adopted
            self.swept.unreadable += anew.unreadable
        except BaseException:
            self._lock.release(clean=False)
            raise
        self.ingest: Ingest = Ingest(
            self.objects, self.index, allows=lambda title: self.is_allowed(title, "store"), turn=self._instance_turn,
            strict=strict,
        )  # fmt: skip
        self._leads = worker is None or worker.number == 0
        self.events: Events = Events(
            self.index, handlers if self._leads else [], idle=IDLE if worker is None else IDLE_AMONG_MEMBERS
        )
        self.ingest.after = self.events.wake if handlers else None
        self._transactions: list[SQLiteTransactions] = []

    @property
    def _instance_turn(self) -> Callable[[str], AbstractContextManager[object]]:
        return nullcontext if self._instance_locks is None else self._instance_locks.instance

    def _lost_index(self, durable: bool) -> Swept:
        """Where there are objects and no index, it is made of them."""
        _remove_unfinished(self.folder)
        if (self.folder / INDEX).exists() or not (self.folder / OBJECTS).is_dir():
            return Swept()
        found = _make_index(self.folder, durable=durable)
        if found.adopted:
            log.warning("the index is new; %d objects were indexed", found.adopted, extra=coded("DUL406"))
        return found

    def is_allowed(self, title: str, operation: str) -> bool:
        """May this AE title do that?"""
        peer = self.peers.get(title)
        return self.allow_any if peer is None else operation in peer.operations

    # ------------------------------------------------------------------ serving

    def node(self, ae_title: str, *, config: AssociationConfig | None = None, move_associations: int = 4) -> Node:
        """The node that provides the archive's services under an AE title."""
        node = Node(
            ae_title,
            store_to=self.ingest,
            peers={title: peer.address for title, peer in self.peers.items() if peer.address is not None},
            calling=None if self.allow_any else self.peers,
            config=config,
            move_associations=move_associations,
        )
        node.on_store(_accept, private=self.private)
        node.on_find(self._find, models=QUERIED)
        node.on_get(self._retrieve, models=QUERIED)
        node.on_move(self._retrieve, models=QUERIED)
        node.on_find(self._find_objects, models=of_no_patient.NAMES)
        node.on_get(self._retrieve_objects, models=of_no_patient.NAMES)
        node.on_move(self._retrieve_objects, models=of_no_patient.NAMES)
        for name in QUERIED:
            model = MODELS[name]
            node.extended[model.find or ""] = QUERY_OPTIONS
            node.extended[model.get or ""] = node.extended[model.move or ""] = RETRIEVE_OPTIONS
        transactions = self._commitments()
        self._transactions.append(transactions)
        among: Literal["reporting", "leaving"] | None = None
        if self._worker is not None:
            among = "reporting" if self._leads else "leaving"
        StorageCommitment(node, self.committed, store=transactions, retrieve_ae_title=ae_title, among=among)
        self._guard_commitment(node)
        if self._leads:
            node.companions.append(self.events)
        return node

    def committed(self, reference: Reference) -> bool | int:
        """Is this instance safe here, and whole?  True, False, or 0119H for another class."""
        for kept in self.index.known(reference.sop_instance_uid)[:1]:
            if kept.sop_class_uid != reference.sop_class_uid:
                return CLASS_INSTANCE_CONFLICT
            try:
                return self.objects.path(kept.object).stat().st_size == kept.offset + kept.length
            except OSError:
                return False
        return False

    def _find(self, request: FindRequest) -> Iterator[Any]:
        self._check(request, "find")
        model = request.model
        assert model is not None
        options = request.requestor.extended(request.sop_class_uid)
        options = options if isinstance(options, QueryOptions) else QueryOptions()
        query = read_query(request.identifier, model, options, strict=self.strict_queries)
        log.info("%s: C-FIND at %s", request.requestor.who, LEVELS[query.level], extra=coded("DUL411"))
        return self._answers(query, request.transfer_syntax, request.requestor.called_ae_title)

    def _answers(self, query: Query, transfer_syntax: str, title: str) -> Iterator[Any]:
        answers = Answers(query, transfer_syntax, title)
        for page in self.index.find(query):
            if query.unsupported:
                yield from ((Status.PENDING_WARNING, data) for data in answers.encode(page))
            else:
                yield from answers.encode(page)

    def _retrieve(self, request: RetrieveRequest) -> RetrieveSet:
        self._check(request, "get" if request.destination is None else "move")
        model = request.model
        assert model is not None
        options = request.requestor.extended(request.sop_class_uid)
        relational = isinstance(options, RetrieveOptions) and options.relational
        query = read_retrieve(request.identifier, model, strict=self.strict_queries and not relational)
        return self._shipment(request, self.index.select(query))

    def _find_objects(self, request: FindRequest) -> Iterator[Any]:
        self._check(request, "find")
        model = request.model
        assert model is not None
        log.info("%s: C-FIND of %s", request.requestor.who, model.name, extra=coded("DUL411"))
        title = request.requestor.called_ae_title
        return of_no_patient.find_objects(request.identifier, model, self.index, self.objects, title)

    def _retrieve_objects(self, request: RetrieveRequest) -> RetrieveSet:
        self._check(request, "get" if request.destination is None else "move")
        model = request.model
        assert model is not None
        return self._shipment(request, of_no_patient.select_objects(request.identifier, model, self.index))

    def _shipment(self, request: RetrieveRequest, selection: Selection) -> RetrieveSet:
        retrieve_set = RetrieveSet(selection, self.objects)
        log.info(
            "%s: %s of %d instances", request.requestor.who, request.command.name, len(retrieve_set),
            extra=coded("DUL412"),
        )
        return retrieve_set

    def _guard_commitment(self, node: Node) -> None:
        """Commitment is for those who may."""
        commit = node.handler_for(CommandField.N_ACTION_RQ, COMMITMENT)
        assert commit is not None

        @functools.wraps(commit)
        def guarded(request: NormalizedRequest) -> Any:
            self._check(request, "commit")
            return commit(request)

        node.on_n_action(guarded, classes=(COMMITMENT,))

    def _check(self, request: Request, operation: str) -> None:
        title = request.requestor.calling_ae_title
        if not self.is_allowed(title, operation):
            raise Refused(Status.NOT_AUTHORIZED, f"this AE title may not {operation} here")

    # ------------------------------------------------------------------ the folder

    def counts(self) -> Counts:
        """How much there is."""
        return self.index.counts()

    def lend(self) -> int:
        """Leave the folder to `Member`s: the descriptor that they have to inherit.  Close it after they ended.

        OSError where the system or the file system cannot keep the promises of several processes.
        """
        try:
            from dulcet.archive.instance_locks import can_take_turns
        except ImportError:  # Windows
            able = False
        else:
            able = self.objects.traceable and can_take_turns(self.folder / TURNS)
        if not able:
            raise OSError(f"several processes cannot share {self.folder}: it takes Linux and a file system with links")
        self._commitments().disconnect()  # made now, not by all of them at once
        self._close_stores()
        self._lent = True
        return self._lock.file

    def _commitments(self) -> SQLiteTransactions:
        """What was asked and not reported yet, in a file with the mode of all others."""
        path = self.folder / TRANSACTIONS
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, FILE))
        return SQLiteTransactions(path)

    def _close_stores(self) -> None:
        self.events.stop(2.0)
        self.ingest.close()
        self.index.close()
        for transactions in self._transactions:
            transactions.disconnect()

    def close(self) -> None:
        """Finish what waits and give the folder back; may be called again."""
        if self._lock.held:
            if not self._lent:
                self._close_stores()
            if self._instance_locks is not None:
                self._instance_locks.close()
            self._lock.release(clean=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rebuild(folder: str | os.PathLike[str], told: Callable[[int], object] | None = None) -> Swept:
    """Make the index anew from the objects, beside the old one until it is whole; FolderInUse while somebody serves."""
    path = Path(folder)
    lock = _Lock(path / LOCK)
    whole = not lock.interrupted
    try:
        swept = _make_index(path, told=told)
        whole = True
        return swept
    finally:
        lock.release(clean=whole)  # else the old index is still to be looked over


def _make_index(path: Path, *, durable: bool = True, told: Callable[[int], object] | None = None) -> Swept:
    """From the objects, beside the old one until it is whole: what breaks off leaves that, or none, never a part."""
    made = path / UNFINISHED
    _remove_unfinished(path)
    index = SqliteIndex(made, durable=durable)
    objects = FileObjects(path, durable=durable)
    objects.tidy_all()
    try:
        swept = adopt_all(objects, index, told=told)
    finally:
        index.close()
    # In this order: without an index one is made at the next start, and a log never meets another one's index.
    for old in (INDEX, f"{INDEX}-wal", f"{INDEX}-shm"):
        (path / old).unlink(missing_ok=True)
    os.replace(made, path / INDEX)
    return swept


def _remove_unfinished(path: Path) -> None:
    """What a rebuild left that was killed."""
    for suffix in ("", "-wal", "-shm"):
        (path / f"{UNFINISHED}{suffix}").unlink(missing_ok=True)


class _Lock:
    """The data folder's lock, which says too whether the one before ended as it should."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), FILE)
        try:
            if fcntl is not None:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.file)
            raise FolderInUse(f"{path.parent} is in use by another process; stop that one first") from None
        self.held = True
        self.interrupted = os.read(self.file, len(RUNNING)) == RUNNING
        """True when the one before did not come to its end."""
        try:
            self._write(RUNNING)
        except OSError as error:
            os.close(self.file)
            raise OSError(error.errno, error.strerror, str(path)) from error

    def release(self, *, clean: bool) -> None:
        if clean:
            self._write(b"")
        os.close(self.file)
        self.held = False

    def _write(self, text: bytes) -> None:
        """Where the disk is full, it says what it said before."""
        os.lseek(self.file, 0, os.SEEK_SET)
        os.write(self.file, text)
        os.ftruncate(self.file, len(text))


class _LentLock(_Lock):
    """The same lock in a member, which holds it and leaves the rest to its parent."""

    def __init__(self, file: int) -> None:
        os.set_inheritable(file, False)
        self.file = file
        self.held = True
        self.interrupted = False

    def release(self, *, clean: bool) -> None:
        os.close(self.file)
        self.held = False


def _accept(request: Any) -> None:
    """It was kept before the handler was called."""
