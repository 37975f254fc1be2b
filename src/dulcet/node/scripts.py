"""How each service is provided (PS3.7 section 9 and 10, PS3.4 annexes B and C), as scripts of actions.

Rules: no I/O and no waiting, so that one script serves every face; whatever a handler raises is a failure status and
the association lives on; what it returns is read by one function; cancel is looked at between two answers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError, PeerUnreachable, ReceiveError, StatusError
from dulcet.node.actions import END, Action, Call, Close, Forward, Next, Receive, Respond, SendHere
from dulcet.node.requests import EchoRequest, FindRequest, NormalizedRequest, RetrieveRequest, StoreRequest
from dulcet.services.identifiers import decode_dataset, encode_dataset
from dulcet.services.refusals import Refused
from dulcet.services.results import Sent
from dulcet.services.suboperations import SubOperations

if TYPE_CHECKING:
    from dulcet.node.application import Node

__all__ = ["Answer", "Script", "answer"]

log: Final = logging.getLogger("dulcet.node")

Script = Generator[Action, Any, None]


class Answer:
    """What an N-service handler may return where a status and a data set are not enough: command elements besides."""

    __slots__ = ("dataset", "elements", "status", "then")

    def __init__(
        self,
        status: int = Status.SUCCESS,
        dataset: Any = None,
        *,
        then: Callable[[], Script] | None = None,
        **elements: Any,
    ) -> None:
        self.status = status
        self.dataset = dataset
        self.then = then
        """The script that goes on once the response was sent: it may report on the same association."""
        self.elements = elements
        """By keyword, as in `AffectedSOPInstanceUID=…`, `EventTypeID=…`."""


def answer(node: Node, request: EchoRequest) -> Script:
    """The script for a request, whoever provides it; 0122H or 0211H where nobody does."""
    handler = node.handler_for(request.command.field, request.sop_class_uid, request.context.abstract_syntax)
    if handler is None:
        known = request.command.definition is not None
        peer, name = request.requestor.peer, request.command.name
        log.warning("%s: nobody provides %s for %s", peer, name, request.sop_class_uid)
        yield Respond(Status.SOP_CLASS_NOT_SUPPORTED if known else Status.UNRECOGNIZED_OPERATION)
        return
    script = SCRIPTS.get(request.command.field, _normalized)
    try:
        yield from script(node, request, handler)
    except _Failed as failure:
        yield Respond(failure.status, failure.data, failure.elements)


class _Failed(Exception):
    """The operation ends here, with this status."""

    def __init__(self, status: int, comment: str = "") -> None:
        super().__init__(comment)
        self.status = status
        # An Error Comment is LO: 64 characters, no backslash, and never what a data set holds.
        self.elements: dict[str, Any] = {"ErrorComment": comment[:64]} if comment else {}
        self.data: bytes | None = None

    @classmethod
    def refused(cls, request: EchoRequest, refusal: Refused) -> _Failed:
        """With what the refusal says besides its status."""
        failure = cls(refusal.status)
        failure.elements = dict(refusal.elements)
        failure.data = _encoded(request, refusal.dataset)
        return failure


def _guarded(request: EchoRequest, action: Action, status: int) -> Generator[Action, Any, Any]:
    """The result of an action that runs the application's code; what it raises ends the operation."""
    try:
        return (yield action)
    except Refused as refusal:
        log.warning("%s: %s was refused: %s", request.requestor.peer, request.command.name, refusal)
        raise _Failed.refused(request, refusal) from refusal
    except StatusError as error:
        raise _Failed(error.status) from error
    except ReceiveError as error:
        log.error("%s: %s failed with %04XH: %s", request.requestor.peer, request.command.name, error.status, error)
        raise _Failed(error.status) from error
    except Exception as error:
        if isinstance(error, DulcetError) and not isinstance(error, PeerUnreachable | ValueError):
            raise  # the association itself is over
        log.exception("%s: the handler of %s failed", request.requestor.peer, request.command.name)
        raise _Failed(status, "the application failed, see its log") from error


# ---------------------------------------------------------------------- C-ECHO, C-STORE


def _echo(node: Node, request: EchoRequest, handler: Any) -> Script:
    result = yield from _guarded(request, Call(handler, request), Status.PROCESSING_FAILURE)
    yield Respond(_status(result))


def _store(node: Node, request: EchoRequest, handler: Any) -> Script:
    received = yield from _guarded(request, Receive(node.store_directory, node.memory_limit), Status.PROCESSING_FAILURE)
    stored = StoreRequest(request.requestor, request.context, request.command, request._core)
    if isinstance(received, bytes):
        stored.data = received
    else:
        stored.path = received
    try:
        status = _status((yield from _guarded(request, Call(handler, stored), Status.CANNOT_UNDERSTAND)))
    except _Failed:
        _remove(stored)
        raise
    if status.is_failure:
        _remove(stored)
    yield Respond(status)


def _remove(stored: StoreRequest) -> None:
    """What the application refused is not kept."""
    if isinstance(stored.path, Path):
        stored.path.unlink(missing_ok=True)


# ---------------------------------------------------------------------- C-FIND


def _find(node: Node, request: EchoRequest, handler: Any) -> Script:
    find = FindRequest(
        request.requestor, request.context, request.command, request._core, identifier=_decoded(request)
    )
    answers = yield from _guarded(request, Call(handler, find), Status.CANNOT_UNDERSTAND)
    if answers is None or isinstance(answers, int):
        yield Respond(_status(answers))
        return
    iterator = _iterator(answers)
    while True:
        item = yield from _guarded(request, Next(iterator), Status.CANNOT_UNDERSTAND)
        if request.cancelled:
            yield Close(iterator)
            yield Respond(Status.CANCEL)
            return
        if item is END:
            yield Respond(Status.SUCCESS)
            return
        status, dataset, elements = _read(item, Status.PENDING)
        if not status.is_pending:
            yield Close(iterator)
            yield Respond(status, None, elements)
            return
        yield Respond(status, _encoded(request, dataset), elements)


# ---------------------------------------------------------------------- C-GET, C-MOVE


def _retrieve(node: Node, request: EchoRequest, handler: Any) -> Script:
    destination = request.command.move_destination
    retrieve = RetrieveRequest(
        request.requestor, request.context, request.command, request._core,
        identifier=_decoded(request), destination=destination,
    )  # fmt: skip
    address = None
    if request.command.field == CommandField.C_MOVE_RQ:
        address = node.peers.get(destination or "")
        if address is None:
            log.warning(
                "%s: C-MOVE to %s, which is no known peer; add it to the node's peers",
                request.requestor.peer, ascii(destination),
            )  # fmt: skip
            raise _Failed(Status.MOVE_DESTINATION_UNKNOWN)
    items = yield from _guarded(request, Call(handler, retrieve), Status.PROCESSING_FAILURE)
    if items is None or isinstance(items, int):
        yield Respond(_status(items))
        return
    operations = SubOperations(len(items) if isinstance(items, Sized) else None)
    priority = request.command.priority or 0
    if address is None:
        sending: Action = SendHere(items, priority)
    else:
        originator = (request.requestor.calling_ae_title, request.message_id)
        sending = Forward(address, items, priority, originator, node.move_associations)
    results = yield sending
    cancelled = yield from _sub_operations(request, operations, results)
    status, elements = operations.final(cancelled=cancelled)
    failed = operations.failed_list()
    yield Respond(status, _encoded(request, failed) if failed is not None else None, elements)


def _sub_operations(
    request: EchoRequest, operations: SubOperations, results: Any
) -> Generator[Action, Any, bool]:
    """Count each as it ends, tell the peer, stop when it cancels; True when it did."""
    while True:
        try:
            sent = yield from _guarded(request, Next(results), Status.CANNOT_PERFORM_SUBOPERATIONS)
        except _Failed as failure:
            if not operations.done:
                # Nothing was sent: the destination cannot be reached or refuses, or the application failed at once.
                operations.failed = operations.total or 0
                raise _Failed(failure.status, "no sub-operation could be performed") from failure
            operations.failed += max((operations.total or operations.done + 1) - operations.done, 0)
            return False
        if sent is END:
            return False
        assert isinstance(sent, Sent)
        operations.count(sent)
        if not sent.ok:
            log.warning("%s: sub-operation failed: %s", request.requestor.peer, sent.error or sent.status)
        if request.cancelled:
            yield Close(results)
            return True
        if operations.total is None or operations.remaining:
            yield Respond(Status.PENDING, None, operations.pending())


# ---------------------------------------------------------------------- N-services


def _normalized(node: Node, request: EchoRequest, handler: Any) -> Script:
    asked = NormalizedRequest(
        request.requestor, request.context, request.command, request._core, dataset=_decoded(request)
    )
    here = getattr(handler, "reports_here", False)
    result = yield from _guarded(request, Call(handler, asked, here), Status.PROCESSING_FAILURE)
    status, dataset, elements = _read(result, Status.SUCCESS)
    command = request.command
    for keyword, value in (("EventTypeID", command.event_type_id), ("ActionTypeID", command.action_type_id)):
        if value is not None:
            elements.setdefault(keyword, value)
    yield Respond(status, _encoded(request, dataset) if dataset is not None else None, elements)
    if isinstance(result, Answer) and result.then is not None:
        yield from result.then()


# ---------------------------------------------------------------------- reading and writing data sets and results


def _decoded(request: EchoRequest) -> Any:
    """The data set of a request; an empty one where there is none."""
    import pydicom

    data = request._core.data
    if data is None:
        return pydicom.Dataset()
    try:
        dataset = decode_dataset(data, request.transfer_syntax)
        for element in dataset.iterall():  # pydicom decodes values late: what is wrong with them is wanted now
            _ = element.value
    except Exception as error:
        log.error("%s: the data set of %s does not decode", request.requestor.peer, request.command.name)
        composite = request.command.field < CommandField.N_EVENT_REPORT_RQ
        raise _Failed(
            Status.CANNOT_UNDERSTAND if composite else Status.PROCESSING_FAILURE, "the data set does not decode"
        ) from error
    return dataset


def _encoded(request: EchoRequest, dataset: Any) -> bytes | None:
    if dataset is None or isinstance(dataset, bytes):
        return dataset
    try:
        return encode_dataset(dataset, request.transfer_syntax)[0] or None
    except DulcetError as error:
        log.error("%s: an answer to %s cannot be encoded: %s", request.requestor.peer, request.command.name, error)
        raise _Failed(Status.PROCESSING_FAILURE, "an answer cannot be encoded") from error


def _status(result: Any) -> Status:
    """What a handler returned, as the status of a final response."""
    status, dataset, _ = _read(result, Status.SUCCESS)
    if dataset is not None:
        log.error("a handler returned a data set where a status is expected; 0110H is answered")
        return Status.PROCESSING_FAILURE
    return status


def _read(result: Any, default: Status) -> tuple[Status, Any, dict[str, Any]]:
    """(status, data set, command elements) of what a handler gave: None, a status, a Dataset, a pair, an Answer.

    Bytes are a data set that is encoded already, in the transfer syntax of the request.
    """
    if isinstance(result, Answer):
        return Status(result.status), result.dataset, dict(result.elements)
    if result is None:
        return default, None, {}
    if isinstance(result, int) and not isinstance(result, bool) and 0 <= result <= 0xFFFF:
        return Status(result), None, {}
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], int):
        return Status(result[0]), result[1], {}
    if hasattr(result, "iterall") or isinstance(result, bytes):
        return default, result, {}
    given = type(result).__name__
    log.error("a handler gave %s where a status, a Dataset, a pair of both or an Answer is expected", given)
    return Status.PROCESSING_FAILURE, None, {}


def _iterator(answers: Any) -> Iterator[Any] | AsyncIterator[Any]:
    if hasattr(answers, "__anext__"):
        found: AsyncIterator[Any] = answers
        return found
    if isinstance(answers, Iterable) and not hasattr(answers, "iterall"):
        return iter(answers)
    return iter((answers,))  # one Dataset, or what `_read` will not take


SCRIPTS: Final[dict[int, Any]] = {
    CommandField.C_ECHO_RQ: _echo,
    CommandField.C_STORE_RQ: _store,
    CommandField.C_FIND_RQ: _find,
    CommandField.C_GET_RQ: _retrieve,
    CommandField.C_MOVE_RQ: _retrieve,
}
