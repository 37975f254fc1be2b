"""A request of the peer, in the hands of a thread that pulls: read its data set, answer it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dulcet.dimse.association import PENDING
from dulcet.dimse.operations import Request
from dulcet.dimse.reasons import UNANSWERED
from dulcet.dimse.source import Source
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError, ReceiveError
from dulcet.services.incoming import Incoming

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.blocking.association import Association
    from dulcet.io.receiving import Destination, IncomingInstance

__all__ = ["IncomingRequest"]


class IncomingRequest(Incoming):
    """A C- or N- request (PS3.7); answer it with `respond`, once, or with pending responses before the final one."""

    def __init__(self, association: Association, request: Request) -> None:
        """For associations: the one that it came on, `association`, and what their core has of it, `request`."""
        super().__init__(request)
        self.association = association
        self._lost = False
        if request.streams:
            association._arriving = self

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
        """The encoded data set, piece by piece as it arrives; each piece is valid until the next is asked for.

        Nothing when there is none, or when it was read already.  Raises what ended the association, and in the blocking
        face LocalProtocolError where it came while something else was awaited, and was thrown away: read it, or
        `defer()`, before you ask the peer for something.
        """
        if self._lost:
            raise LocalProtocolError(
                f"the data set of {self.name} {self.message_id} came while something else was awaited, and was thrown "
                "away; read it before you ask the peer for something, or defer the request"
            )
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

    def save(self, directory: Destination) -> Any:
        """Stream the data set into a directory or another destination; its path, or what else the destination gives.

        `directory` is a `StoreDirectory`, or has its `begin` (`dulcet.io.receiving.Destination`).  All of the data set
        is taken off the wire, also where it is not kept.  Raises ReceiveError, whose `status` says why not, and what
        `chunks` does.
        """
        incoming: IncomingInstance | None = None
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

        `status` is a number or a `Status`, 0000H by default; `data` is in the transfer syntax of the request.  What of
        the request's data set nobody has read is thrown away.  A failure without an ErrorComment gets the one of its
        status.
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
            association._flush_answers()
        if self._deferred and (self.answered or core.has_output or association._transport.has_unsent):
            association._transport.wake()
        if not self.answered:
            association._await_room(here=not self._deferred)
            if association._transport.broken and not self._deferred:
                association._look()  # the peer has gone: who gives answers on and on hears of it here

    def _settle(self, why: str = UNANSWERED) -> None:
        """Whoever had it is done with it: what was not answered, and not deferred, failed."""
        if not self.answered and not self._deferred:
            self.respond(Status.PROCESSING_FAILURE, ErrorComment=why)

    def _drain(self) -> None:
        """Read what of the data set nobody wanted."""
        while self._unread:
            self._unread = not self.association._next_piece().is_last

    def _lose(self, is_last: bool) -> None:
        """A piece of the data set came while nobody could take it."""
        self._lost = True
        if is_last:
            self._unread = False
