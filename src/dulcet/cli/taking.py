"""What `dulcet listen` does with each request."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dulcet.cli.output import say_json
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io.store_directory import StoreDirectory

if TYPE_CHECKING:
    from dulcet.blocking.requests import IncomingRequest

__all__ = ["Taker"]


class Taker:
    """Takes what comes, from the threads of all associations, and counts."""

    def __init__(self, directory: StoreDirectory, json: bool) -> None:
        self._directory = directory
        self._json = json
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {"stored": 0, "refused": 0}

    def __call__(self, request: IncomingRequest) -> None:
        if request.field == CommandField.C_ECHO_RQ:
            request.respond(Status.SUCCESS)
            return
        if request.field != CommandField.C_STORE_RQ:
            request.respond(Status.UNRECOGNIZED_OPERATION, ErrorComment=not_provided(request.command))
            return
        try:
            path = request.save(self._directory)
        except ReceiveError:
            with self._lock:
                self.counts["refused"] += 1
            raise
        with self._lock:
            self.counts["stored"] += 1
        request.respond(Status.SUCCESS)
        if self._json:
            association = request.association
            say_json(
                event="stored", path=str(path), sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid, transfer_syntax=request.transfer_syntax,
                calling=association.calling_ae_title, peer=association.peer,
            )  # fmt: skip
