"""What comes in: written as it comes, checked, made durable, indexed; then, and only then, it is acknowledged.

Order: file on stable storage -> name -> folder on stable storage -> row committed.  Rules: the bytes are the sender's,
bit for bit; an instance that is there already is not written again; whatever fails leaves nothing behind; folders and
commits of all that wait are done in one go, and who comes alone waits for nobody.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dulcet import uids
from dulcet.archive.attributes import WANTED
from dulcet.archive.identity import Identity, Kept, identify
from dulcet.archive.index import Index, IndexTrouble
from dulcet.archive.objects import Objects, key_of, mark_of
from dulcet.archive.records import Record
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io.durable_file import DurableFile
from dulcet.io.verdict import empty, refusal
from dulcet.log_codes import coded
from dulcet.part10.file_meta import encode_file_meta
from dulcet.part10.header import Header
from dulcet.part10.sources import ScanError
from dulcet.part10.walk import whole

__all__ = ["Ingest", "Stored"]

log: Final = logging.getLogger("dulcet.archive")

HELD: Final = 64 * 1024
"""Bytes of a data set that are held before a file is begun: small objects are written in one call."""
GROUPED: Final = 256
"""Instances in one commit."""
TOLD: Final = 1024
"""Studies with odd UIDs that are remembered, so that each is told once."""
PATIENCE: Final = 120.0
"""Seconds that a sender waits for its commit before it is told A700H."""
UNREADABLE: Final = f"in a transfer syntax that cannot be read; the {len(uids.TRANSFER_SYNTAXES)} of the standard can"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an instance; a path as far as the system is concerned."""

    kept: Kept
    path: Path
    new: bool
    """False when it was there already, bit for bit."""

    def __fspath__(self) -> str:
        return str(self.path)


class Ingest:
    """A `Destination` that keeps and indexes."""

    def __init__(
        self,
        objects: Objects,
        index: Index,
        *,
        allows: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.time,
        turn: Callable[[str], AbstractContextManager[object]] = nullcontext,
        strict: bool = False,
    ) -> None:
        """`allows` tells whether an AE title may store; `turn` keeps other processes from an instance of that UID;
        `strict` refuses UIDs that PS3.5 section 9.1 does not allow.
        """
        self.objects = objects
        self.index = index
        self.counts: Counter[str] = Counter()
        """Instances by what became of them: stored, again, beside, refused."""
        self.clock = clock
        self.after: Callable[[], object] | None = None
        """Called when an instance was stored."""
        self._strict = strict
        self._odd: OrderedDict[str, None] = OrderedDict()
        """Studies whose odd UIDs were told, the latest last."""
        self._allows = allows
        self._turn = turn
        self._guard = threading.Lock()
        self._busy: dict[str, _Turn] = {}
        self._closed = False
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_groups, name="dulcet-commit", daemon=True)
        self._thread.start()

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> Arriving:
        """Start an instance; ReceiveError when its sender may not store (0124H), others at `commit`."""
        if self._allows is not None and not self._allows(source_ae_title):
            raise ReceiveError(
                f"{source_ae_title!a} may not store here; give it `store` in the table of peers",
                Status.NOT_AUTHORIZED,
                comment=f"{source_ae_title!a} may not store here",
            )
        return Arriving(self, sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title)

    def close(self) -> None:
        """Commit what waits, and end."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    # ------------------------------------------------------------------ one instance

    def identify(self, header: Header, sop_class_uid: str, sop_instance_uid: str) -> Identity:
        """The identity that is kept and served; ReceiveError.  UIDs that are none are told once for each study."""
        identity = identify(header, sop_class_uid, sop_instance_uid, strict=self._strict)
        if identity.odd:
            with self._guard:
                study = identity.study_instance_uid or identity.sop_instance_uid
                told = study in self._odd
                self._odd[study] = None
                if len(self._odd) > TOLD:
                    self._odd.popitem(last=False)
            if not told:
                log.warning(
                    "%s: no UID as PS3.5 9.1 has them: %s; taken as it is", ascii(study), ", ".join(identity.odd),
                    extra=coded("DUL413"),
                )  # fmt: skip
        return identity

    def keep(self, arrived: Arriving, record: Record) -> Stored:
        """Place and index a whole instance, or find that it is there; its file is on stable storage."""
        kept, uid = record.kept, record.identity.sop_instance_uid
        with self._alone(uid):
            present = self.index.known(uid)
            for found in present:
                if found.digest == kept.digest and self.objects.path(found.object).exists():
                    self.counts["again"] += 1
                    return Stored(found, self.objects.path(found.object), False)
            beside = bool(present) and present[0].digest != kept.digest
            unfinished = arrived.finish()
            if present and not beside:
                return self._restore(unfinished, present[0], record)
            mark = mark_of(kept.digest)
            key = None if beside else self._place(unfinished, record, "")
            key = key or self._place(unfinished, record, mark) or self._replace(unfinished, record, mark)
            record.kept = replace(kept, object=key)
            record.beside = beside
            self._settle(key)
            self._commit(record)
        if beside:
            log.warning(
                "%s came with other content than before; kept beside the first, which is served", uid,
                extra=coded("DUL402"),
            )  # fmt: skip
        self.counts["beside" if beside else "stored"] += 1
        if self.after is not None:
            self.after()
        return Stored(record.kept, self.objects.path(key), True)

    def _place(self, unfinished: DurableFile, record: Record, mark: str) -> str | None:
        """Its key, or None when another object has it."""
        key = key_of(record.identity, mark)
        return key if self.objects.place(unfinished, key) else None

    def _replace(self, unfinished: DurableFile, record: Record, mark: str) -> str:
        """The name of this very content is taken, and no row knows it: what an earlier failure left there goes."""
        key = key_of(record.identity, mark)
        self.objects.remove(key)
        if not self.objects.place(unfinished, key):
            raise ReceiveError(
                f"{key} is in the way", Status.OUT_OF_RESOURCES, comment="a file is in the way, see the archive's log"
            )
        return key

    def _restore(self, unfinished: DurableFile, lost: Kept, record: Record) -> Stored:
        """The row is there and its object is not: somebody removed it, here it is again."""
        key = self._place(unfinished, record, "") or self._place(unfinished, record, mark_of(lost.digest))
        if key != lost.object:
            if key is not None:
                self.objects.remove(key)
            raise ReceiveError(
                f"the object of {lost.sop_instance_uid} is missing; rebuild the index",
                Status.OUT_OF_RESOURCES,
                comment="the object of this UID is missing; rebuild the index",
            )
        self.objects.settle([key])
        log.warning(
            "the object of %s was missing; it came again and was put back", lost.sop_instance_uid, extra=coded("DUL403")
        )
        self.counts["restored"] += 1
        return Stored(lost, self.objects.path(key), True)

    def _settle(self, key: str) -> None:
        """Put the name on stable storage, in the sender's own thread: the file system joins those who do."""
        try:
            self.objects.settle([key])
        except ReceiveError:
            self.objects.remove(key)
            raise

    @contextmanager
    def _alone(self, uid: str) -> Iterator[None]:
        """One at a time for each SOP instance."""
        with self._guard:
            turn = self._busy.setdefault(uid, _Turn())
            turn.users += 1
        try:
            with turn.lock, self._turn(uid):
                yield
        finally:
            with self._guard:
                turn.users -= 1
                if not turn.users:
                    del self._busy[uid]

    # ------------------------------------------------------------------ commits in groups

    def _commit(self, record: Record) -> None:
        """Wait for the group that this one is in; its object is removed when it fails."""
        job = _Job(record)
        if self._closed:
            job.error = IndexTrouble("the archive is closing")
            job.release()
        else:
            self._queue.put(job)
        if not job.done.acquire(timeout=PATIENCE):
            raise IndexTrouble(f"the index did not commit within {PATIENCE:g} s", doubtful=True)
        error = job.error
        if error is None:
            return
        if isinstance(error, IndexTrouble) and error.doubtful:
            log.error(
                "%s: nobody knows whether its row was committed; its object stays", record.kept.sop_instance_uid,
                extra=coded("DUL404"),
            )  # fmt: skip
        else:
            self.objects.remove(record.kept.object)
        raise error

    def _commit_groups(self) -> None:
        ending = False
        while not ending:
            job = self._queue.get()
            jobs: list[_Job] = []
            while True:
                if job is None:
                    ending = True
                else:
                    jobs.append(job)
                if len(jobs) >= GROUPED:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._commit_group(jobs)

    def _commit_group(self, jobs: Sequence[_Job]) -> None:
        records = [job.record for job in jobs]
        failures: Sequence[Exception | None] = [None] * len(jobs)
        try:
            self.index.add(records)
        except Exception as error:
            # Of several, one may be to blame, whatever the error is called; unless the fate of all is unknown.
            together = len(jobs) == 1 or (isinstance(error, IndexTrouble) and error.doubtful)
            failures = [error] * len(jobs) if together else self._add_each(records)
        for job, failure in zip(jobs, failures, strict=True):
            job.error = None if failure is None else _refusal(job.record, failure)
            job.release()

    def _add_each(self, records: Sequence[Record]) -> Sequence[Exception | None]:
        """What kept each from the index."""
        try:
            return self.index.add_each(records)
        except Exception as error:  # the data base's own: the same for all
            return [error] * len(records)


def _refusal(record: Record, failure: Exception) -> ReceiveError:
    """What the sender is told of an instance that did not get into the index."""
    if isinstance(failure, ReceiveError):
        return failure
    log.error(
        "%s cannot be indexed", record.identity.sop_instance_uid, exc_info=failure, extra=coded("DUL405")
    )  # fmt: skip
    return ReceiveError(
        f"cannot be indexed: {type(failure).__name__}", Status.OUT_OF_RESOURCES, comment="it cannot be indexed"
    )


@dataclass(slots=True, eq=False)
class _Turn:
    """Those who have instances of one UID."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class _Job:
    """An instance that waits for its commit."""

    __slots__ = ("done", "error", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.error: ReceiveError | None = None
        self.done = threading.Lock()  # the cheapest thing to wait for: taken now, released when it is done
        self.done.acquire()

    def release(self) -> None:
        if self.done.locked():
            self.done.release()


class Arriving:
    """One instance on its way: `write` pieces, then `commit` or `discard`."""

    __slots__ = (
        "_digest",
        "_head",
        "_ingest",
        "_meta",
        "_source",
        "_unfinished",
        "_walk",
        "size",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax",
    )

    def __init__(
        self, ingest: Ingest, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, source: str
    ) -> None:
        self._ingest = ingest
        self._meta = encode_file_meta(sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title=source)
        self._digest = hashlib.sha256()
        self._walk = whole(transfer_syntax, WANTED)
        self._head = bytearray()
        self._unfinished: DurableFile | None = None
        self._source = source
        self.size: int = 0
        """Bytes of the data set so far."""
        self.sop_class_uid: str = sop_class_uid
        self.sop_instance_uid: str = sop_instance_uid
        self.transfer_syntax: str = transfer_syntax

    def write(self, data: memoryview) -> None:
        """Append a piece of the data set; ReceiveError: A700H when the disk does not take it, C000H as in `commit`."""
        try:
            self._walk.feed(data)
        except ScanError as error:
            self._ingest.counts["refused"] += 1
            raise refusal(error) from error
        self._digest.update(data)
        self.size += len(data)
        if self._unfinished is not None:
            self._unfinished.write(data)
        elif len(self._head) + len(data) <= HELD:
            self._head += data
        else:
            self._unfinished = self._ingest.objects.begin()
            self._unfinished.write(self._meta, bytes(self._head), data)
            self._head = bytearray()

    def commit(self) -> Stored:
        """Check, make durable, index; ReceiveError, with nothing kept, when that cannot be.

        A900H when class or instance are not those of the request, C000H when the data set does not read or does not say
        which instance it is, A700H when disk or index fail.
        """
        try:
            header = self._header()
            identity = self._ingest.identify(header, self.sop_class_uid, self.sop_instance_uid)
            kept = Kept(
                identity.sop_class_uid, identity.sop_instance_uid, self.transfer_syntax, "", len(self._meta), self.size,
                self._digest.digest(),
            )  # fmt: skip
            return self._ingest.keep(self, Record(identity, kept, header, self._ingest.clock(), self._source))
        except ReceiveError:
            self._ingest.counts["refused"] += 1
            raise
        except OSError as error:
            self._ingest.counts["refused"] += 1
            what = f"cannot keep it: {error.strerror}"
            raise ReceiveError(what, Status.OUT_OF_RESOURCES, comment=what) from error
        finally:
            self.discard()

    def finish(self) -> DurableFile:
        """All of it in a file on stable storage."""
        if self._unfinished is None:
            self._unfinished = self._ingest.objects.begin()
            self._unfinished.write(self._meta, bytes(self._head))
        self._unfinished.sync()
        return self._unfinished

    def discard(self) -> None:
        """Forget it, unless it was committed; may be called again."""
        if self._unfinished is not None:
            self._unfinished.discard()

    def _header(self) -> Header:
        """The values that the index keeps, of a data set that is whole."""
        if not self.size:
            raise empty()
        if self.transfer_syntax not in uids.TRANSFER_SYNTAXES:
            raise ReceiveError(UNREADABLE, Status.CANNOT_UNDERSTAND, comment=UNREADABLE)
        try:
            return self._walk.finish()
        except ScanError as error:
            raise refusal(error) from error
