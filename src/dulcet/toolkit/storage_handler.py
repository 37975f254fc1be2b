"""What a storage listener and a requester do with instances that come: where they go, who is asked, what is answered.

Rules: a failed write is never answered 0000H; what a callback raises is a failure status, and the association lives.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse.reasons import FAILED
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io.memory import InMemory
from dulcet.io.one_file import OneFile
from dulcet.io.store_directory import StoreDirectory
from dulcet.log_codes import coded
from dulcet.toolkit.messages import DataSet

if TYPE_CHECKING:
    from dulcet.blocking.requests import IncomingRequest

__all__ = ["StorageHandler", "StoredObject"]

log: Final = logging.getLogger("dulcet.toolkit")

MEMORY_LIMIT: Final = 256 * 1024 * 1024
"""Bytes of all objects in memory that nobody has taken yet; one more is answered A700H."""


class StoredObject(DataSet):
    """An instance that was kept in memory: `data`, encoded, and what its `request` said it is."""

    __slots__ = ("sop_class_uid", "sop_instance_uid")

    def __init__(self, data: bytes, request: IncomingRequest) -> None:
        super().__init__(data, request.transfer_syntax)
        self.sop_class_uid: str = request.sop_class_uid
        self.sop_instance_uid: str = request.sop_instance_uid


class StorageHandler:
    """Instances go to the file that `on_store_setup` names, else into memory where that is enabled, else a folder."""

    def __init__(
        self,
        *,
        store_directory: str | os.PathLike[str] | None = None,
        in_memory: bool = False,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Where instances go: `store_directory`, a folder, or, with `in_memory`, memory: up to `memory_limit` bytes.

        The limit, 256 MiB, counts all that nobody has taken yet.
        """
        self.store_directory = store_directory
        """The folder for instances that nothing else names a place for; they get safe names there."""
        self.in_memory = in_memory
        self.memory_limit = memory_limit
        self.next_storage_status: int | None = None
        """The status of the next C-STORE-RSP, once; it cannot turn a failure into a success."""
        self._folder: StoreDirectory | None = None
        self._stored: deque[StoredObject] = deque()
        self._lock = threading.Lock()

    def on_store_setup(self, request: IncomingRequest) -> str | os.PathLike[str] | None:
        """An instance is announced, none of its data was read: give the path to write it to, or None or "" for none.

        `request` names `sop_class_uid` and `sop_instance_uid`, and `request.association.calling_ae_title` who sends.
        Without a path it goes into memory where `in_memory` is True, else into `store_directory`.  A ReceiveError that
        is raised here answers with its status, anything else that is raised with 0110H; nothing is kept then.
        """
        return None

    def on_store_done(self, path: Any, stored: bool) -> bool | int | None:
        """An instance came, and was not answered yet: give the answer.

        * `path`: the file, which may be renamed now; None where the instance is in memory.  Of what was not kept it is
          what `on_store_setup` gave.
        * `stored`: True where it is whole and, in a file, durable; False where it was not kept.

        True answers 0000H, False C000H, None what happened, a number itself; nothing of these makes 0000H of a failure.
        What is raised here is logged and answered 0110H.
        """
        return None

    def take_stored_object(self) -> StoredObject | None:
        """The oldest object in memory, from now on the caller's; None when there is none."""
        with self._lock:
            return self._stored.popleft() if self._stored else None

    def _store(self, request: IncomingRequest) -> None:
        """Receive and answer one C-STORE-RQ."""
        path: Any = None
        status = Status.SUCCESS
        why: dict[str, Any] = {}
        try:
            path = self.on_store_setup(request)
            if path is not None and path != "":
                path = request.save(OneFile(path))
            elif self.in_memory:
                path = None
                self._remember(request)
            else:
                path = request.save(self._directory())
        except ReceiveError as error:
            log.error(
                "%s: refused %s with %04XH: %s", request.association.peer, request.name, error.status, error,
                extra=coded("DUL202"),
            )  # fmt: skip
            status, why = Status(error.status), error.elements
        except Exception:
            if request.association.ending is not None:
                raise
            log.exception("%s: on_store_setup failed", request.association.peer, extra=coded("DUL203"))
            status, why = Status.PROCESSING_FAILURE, {"ErrorComment": FAILED}
        try:
            verdict = self.on_store_done(path, status == Status.SUCCESS)
        except Exception:
            log.exception("%s: on_store_done failed", request.association.peer, extra=coded("DUL203"))
            verdict, why = int(Status.PROCESSING_FAILURE), why or {"ErrorComment": FAILED}
        said = self._verdict(status, verdict)
        request.respond(said, **(why if said.is_failure else {}))

    def _verdict(self, status: Status, verdict: bool | int | None) -> Status:
        """What is answered: what happened, unless that was well and somebody knows better."""
        wish, self.next_storage_status = self.next_storage_status, None
        if verdict is False:
            said = Status.CANNOT_UNDERSTAND
        else:
            said = Status.SUCCESS if verdict is None or verdict is True else Status(verdict)
        for better in (said, Status(wish or 0)):
            if not better.is_success and not status.is_failure:
                status = better
        return status

    def _remember(self, request: IncomingRequest) -> None:
        with self._lock:
            held = sum(len(one.data or b"") for one in self._stored)
        data = request.save(InMemory(max(self.memory_limit - held, 0)))
        with self._lock:
            self._stored.append(StoredObject(data, request))

    def _directory(self) -> StoreDirectory:
        if self.store_directory is None:
            raise ReceiveError(
                "no place to keep it: set store_directory, in_memory or on_store_setup",
                Status.PROCESSING_FAILURE,
                comment="the listener has no place to keep it, see its log",
            )
        with self._lock:
            if self._folder is None or os.fspath(self._folder.path) != os.fspath(self.store_directory):
                self._close_folder()
                self._folder = StoreDirectory(self.store_directory)
            return self._folder

    def _close_folder(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None
