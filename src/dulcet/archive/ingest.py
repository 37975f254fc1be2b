"""What comes in: written as it comes, checked, made durable, indexed; then, and only then, it is acknowledged.

Order: file on stable storage -> name -> folder on stable storage -> row committed.  Rules: the bytes are the sender's,
bit for bit; an instance that is there already is not written again; whatever fails leaves nothing behind; folders and
commits of all that wait are done in one go, and who comes alone waits for nobody.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dulcet import uids
from dulcet.archive.attributes import WANTED
from dulcet.archive.index import Index, IndexTrouble, Kept
from dulcet.archive.objects import Objects, Unfinished
from dulcet.archive.records import Record
from dulcet.dimse.status import Status
from dulcet.errors import InstanceError, ReceiveError
from dulcet.log_codes import coded
from dulcet.part10.file_meta import encode_file_meta, is_valid_uid
from dulcet.part10.header import Header
from dulcet.part10.scanner import scan
from dulcet.part10.sources import FileSource, ScanTruncated

__all__ = ["Ingest", "Stored"]

log: Final = logging.getLogger("dulcet.archive")

HELD: Final = 64 * 1024
"""Bytes of a data set that are held before a file is begun: small objects are written in one call, and headers are
scanned where they are."""
GROUPED: Final = 256
"""Instances in one commit."""
PATIENCE: Final = 120.0
"""Seconds that a sender waits for its commit before it is told A700H."""
UIDS: Final = (
    (0x00080016, "SOP Class UID"),
    (0x00080018, "SOP Instance UID"),
    (0x0020000D, "Study Instance UID"),
    (0x0020000E, "Series Instance UID"),
)
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
    ) -> None:
        """`allows` tells whether an AE title may store; `turn` keeps other processes from an instance of that UID."""
        self.objects = objects
        self.index = index
        self.counts: Counter[str] = Counter()
        """Instances by what became of them: stored, again, beside, refused."""
        self.clock = clock
        self.after: Callable[[], object] | None = None
        """Called when an instance was stored."""
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
            raise ReceiveError(f"{source_ae_title!a} may not store here", Status.NOT_AUTHORIZED)
        return Arriving(self, sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title)

    def close(self) -> None:
        """Commit what waits, and end."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    # ------------------------------------------------------------------ one instance

    def keep(self, arrived: Arriving, kept: Kept, record: Record) -> Stored:
        """Place and index a whole instance, or find that it is there; its file is on stable storage."""
        uid = kept.sop_instance_uid
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
            mark = kept.digest.hex()[:16]
            key = None if beside else self._place(unfinished, record, "")
            key = key or self._place(unfinished, record, mark) or self._replace(unfinished, record, mark)
            record.kept = Kept(
                kept.sop_class_uid, uid, kept.transfer_syntax, key, kept.offset, kept.length, kept.digest
            )
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

    def _place(self, unfinished: Unfinished, record: Record, mark: str) -> str | None:
        return self.objects.place(
            unfinished, record.study_instance_uid, record.series_instance_uid, record.kept.sop_instance_uid, mark
        )

    def _replace(self, unfinished: Unfinished, record: Record, mark: str) -> str:
        """The name of this very content is taken, and no row knows it: what an earlier failure left there goes."""
        key = f"{record.study_instance_uid}/{record.series_instance_uid}/{record.kept.sop_instance_uid}~{mark}.dcm"
        self.objects.remove(key)
        placed = self._place(unfinished, record, mark)
        if placed is None:
            raise ReceiveError(f"{key} is in the way", Status.OUT_OF_RESOURCES)
        return placed

    def _restore(self, unfinished: Unfinished, lost: Kept, record: Record) -> Stored:
        """The row is there and its object is not: somebody removed it, here it is again."""
        key = self._place(unfinished, record, "") or self._place(unfinished, record, lost.digest.hex()[:16])
        if key != lost.object:
            if key is not None:
                self.objects.remove(key)
            raise ReceiveError(
                f"the object of {lost.sop_instance_uid} is missing; rebuild the index", Status.OUT_OF_RESOURCES
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
        try:
            self.index.add([job.record for job in jobs])
        except Exception as error:
            if len(jobs) > 1 and not isinstance(error, ReceiveError):
                for job in jobs:  # one of them cannot be indexed: each for itself
                    self._commit_group([job])
                return
            if not isinstance(error, ReceiveError):
                log.exception("%s cannot be indexed", jobs[0].record.kept.sop_instance_uid, extra=coded("DUL405"))
                error = ReceiveError(f"cannot be indexed: {type(error).__name__}", Status.OUT_OF_RESOURCES)
            for job in jobs:
                job.error = error
        for job in jobs:
            job.release()



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
        self._head = bytearray()
        self._unfinished: Unfinished | None = None
        self._source = source
        self.size: int = 0
        """Bytes of the data set so far."""
        self.sop_class_uid: str = sop_class_uid
        self.sop_instance_uid: str = sop_instance_uid
        self.transfer_syntax: str = transfer_syntax

    def write(self, data: memoryview) -> None:
        """Append a piece of the data set; ReceiveError (A700H) when the disk does not take it."""
        self._digest.update(data)
        self.size += len(data)
        if self._unfinished is not None:
            self._unfinished.write(data)
        elif len(self._head) + len(data) <= HELD:
            self._head += data
        else:
            self._unfinished = self._ingest.objects.begin()
            self._unfinished.write(self._meta, bytes(self._head), data)
            self._head += data[: HELD - len(self._head)]

    def commit(self) -> Stored:
        """Check, make durable, index; ReceiveError, with nothing kept, when that cannot be.

        A900H when class or instance are not those of the request, C000H when the data set does not read or its UIDs are
        none, A700H when disk or index fail.
        """
        try:
            header = self._header()
            study, series = self._identify(header)
            kept = Kept(
                self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax, "", len(self._meta), self.size,
                self._digest.digest(),
            )  # fmt: skip
            record = Record(kept, header, study, series, self._ingest.clock(), self._source)
            return self._ingest.keep(self, kept, record)
        except ReceiveError:
            self._ingest.counts["refused"] += 1
            raise
        except OSError as error:
            self._ingest.counts["refused"] += 1
            raise ReceiveError(f"cannot keep it: {error.strerror}", Status.OUT_OF_RESOURCES) from error
        finally:
            self.discard()

    def finish(self) -> Unfinished:
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
        """The values that the index keeps: from what is held where that is enough, else from the file."""
        if not self.size:
            raise ReceiveError("the data set is empty", Status.CANNOT_UNDERSTAND)
        if self.transfer_syntax not in uids.TRANSFER_SYNTAXES:
            raise ReceiveError(UNREADABLE, Status.CANNOT_UNDERSTAND)
        try:
            if self._unfinished is None:
                return scan(bytes(self._head), self.transfer_syntax, wanted=WANTED)
            if self.transfer_syntax not in uids.DEFLATED:
                with suppress(ScanTruncated):
                    header = scan(bytes(self._head), self.transfer_syntax, wanted=WANTED)
                    if header.consumed < len(self._head):  # else what follows was not held
                        return header
            source = FileSource(_Reader(self._unfinished.file), len(self._meta), self.size)
            return scan(source, self.transfer_syntax, wanted=WANTED)
        except InstanceError as error:
            raise ReceiveError(f"the data set does not read as DICOM: {error}", Status.CANNOT_UNDERSTAND) from error

    def _identify(self, header: Header) -> tuple[str, str]:
        """Study and series; ReceiveError when class or instance differ from the request's, or a UID is none."""
        found = [header.uid(tag) for tag, _ in UIDS]
        for (_, name), value, announced in zip(UIDS, found, (self.sop_class_uid, self.sop_instance_uid)):
            if value and value != announced:
                raise ReceiveError(
                    f"{name} {value!a} in the data set, {announced!a} in the request",
                    Status.DATA_SET_MISMATCH,
                )
        found[:2] = self.sop_class_uid, self.sop_instance_uid
        for (_, name), value in zip(UIDS, found):
            if not is_valid_uid(value):
                what = f"{value!a} is none" if value else "the data set has none"
                raise ReceiveError(f"{name}: {what}", Status.CANNOT_UNDERSTAND)
        return found[2], found[3]


class _Reader:
    """`read(n)` and `seek` over a descriptor."""

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return os.read(self._file, size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return os.lseek(self._file, offset, whence)
