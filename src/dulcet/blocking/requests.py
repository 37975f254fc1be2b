"""A request of the peer, in the hands of a thread that pulls: read its data set, answer it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dulcet.dimse.association import PENDING
from dulcet.dimse.command import Command
from dulcet.dimse.messages import RESPONSE
from dulcet.dimse.operations import Request
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.blocking.association import Association
    from dulcet.io.store_directory import IncomingFile, StoreDirectory

__all__ = ["IncomingRequest"]


class IncomingRequest:
    """A C- or N- request (PS3.7); answer it with `respond`, once, or with pending responses before the final one."""

    def __init__(self, association: Association, request: Request) -> None:
        self.association = association
        self._request = request
        self._unread = request.streams
        self._deferred = False

    @property
    def command(self) -> Command:
        """The command set as it came."""
        return self._request.command

    @property
    def field(self) -> int:
        """Command Field (0000,0100), a `CommandField` where the standard knows it."""
        return self._request.field

    @property
    def name(self) -> str:
        """`C-STORE-RQ` and the like."""
        return self._request.command.name

    @property
    def message_id(self) -> int:
        return self._request.message_id

    @property
    def sop_class_uid(self) -> str:
        """The affected or requested SOP class, else the abstract syntax of the presentation context."""
        return self._request.command.sop_class_uid or self._request.context.abstract_syntax

    @property
    def sop_instance_uid(self) -> str:
        return self._request.command.sop_instance_uid or ""

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax of the presentation context, in which the data set comes."""
        return self._request.context.transfer_syntax

    @property
    def answered(self) -> bool:
        """True once the final response was given."""
        return self._request.answered

    @property
    def cancelled(self) -> bool:
        """True once the peer cancelled it; the final response is still owed."""
        return self._request.cancelled

    @property
    def streams(self) -> bool:
        """True when its data set comes in pieces, and not all of it was read."""
        return self._unread

    @property
    def deferred(self) -> bool:
        """True once `defer()` was called."""
        return self._deferred

    def defer(self) -> IncomingRequest:
        """Promise to answer later, maybe from another thread, while more requests are taken: for windows beyond 1.

        The data set is read first, for nothing else comes before it.
        """
        if self._unread:
            self._request.data = self.read()
        self._deferred = True
        self.association._transport.share()
        return self

    def chunks(self) -> Iterator[memoryview]:
        """The encoded data set, piece by piece as it arrives; each piece is valid until the next is asked for."""
        if not self._unread:
            if self._request.data is not None:
                yield memoryview(self._request.data)
            return
        while True:
            event = self.association._next_piece()
            if event.is_last:
                self._unread = False
            if event.data:
                yield event.data
            if event.is_last:
                return

    def read(self) -> bytes:
        """The whole encoded data set; empty when there is none, or when it was read already."""
        return b"".join(bytes(piece) for piece in self.chunks())

    def dataset(self) -> Dataset:
        """The data set, decoded by pydicom; ReceiveError (C000H) when it does not decode."""
        from dulcet.services.identifiers import decode_dataset

        return decode_dataset(self.read(), self.transfer_syntax)

    def save(self, directory: StoreDirectory) -> Any:
        """Stream the data set into a directory; its path.  ReceiveError carries the status that says why not."""
        incoming: IncomingFile | None = None
        failure: ReceiveError | None = None
        try:
            incoming = directory.begin(
                self.sop_class_uid,
                self.sop_instance_uid,
                self.transfer_syntax,
                source_ae_title=self.association.calling_ae_title,
            )
        except ReceiveError as error:
            failure = error
        try:
            for piece in self.chunks():
                if failure is None and incoming is not None:
                    try:
                        incoming.write(piece)
                    except ReceiveError as error:
                        failure = error  # the rest of the data set still has to be read off the wire
            if failure is not None:
                raise failure
            assert incoming is not None
            return incoming.commit()
        finally:
            if incoming is not None:
                incoming.discard()

    def respond(self, status: int = Status.SUCCESS, data: Source | None = None, **elements: Any) -> None:
        """Answer with a status; `data` is an encoded data set, `elements` are command elements by keyword.

        A pending status (FF00H, FF01H) may be followed by more responses.  LocalProtocolError once answered.
        """
        self._drain()
        association = self.association
        core = association._core
        with association._lock:
            if data is None and not elements and status not in PENDING:
                core.respond_status(self._request, status)
            else:
                core.respond(self._request, self._response(status, data is not None, elements), data)
            association._flush()
        if self._deferred:
            association._transport.wake()
        if not self.answered:
            association._await_room(here=not self._deferred)

    def _response(self, status: int, has_data: bool, elements: dict[str, Any]) -> Command:
        command = self._request.command
        values: dict[str, Any] = {
            "MessageIDBeingRespondedTo": self._request.message_id,
            "Status": int(status),
            "AffectedSOPClassUID": command.sop_class_uid,
            "AffectedSOPInstanceUID": command.sop_instance_uid,
            **elements,
        }
        return Command.make(self.field | RESPONSE, validate=False, data_set=has_data, **values)

    def _settle(self) -> None:
        """Whoever had it is done with it: what was not answered, and not deferred, failed."""
        if not self.answered and not self._deferred:
            self.respond(Status.PROCESSING_FAILURE)

    def _drain(self) -> None:
        """Read what of the data set nobody wanted."""
        for _ in self.chunks():
            pass
