"""How each service is provided (PS3.7 section 9 and 10, PS3.4 annexes B and C), as scripts of actions.

Rules: no I/O and no waiting, so that one script serves every face; whatever a handler raises is a failure status and
the association lives on, and so it does where a handler returns nonsense; cancel is looked at between two answers; an
iterator that a handler gave is closed on every way out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sized
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import FAILED, not_provided, why_not_sent
from dulcet.dimse.status import Status
from dulcet.errors import (
    AssociationError,
    DimseTimeout,
    DulcetError,
    LocalProtocolError,
    ReceiveError,
    StatusError,
    as_comment,
)
from dulcet.io.instances import Instance
from dulcet.io.receiving import Destination, IncomingInstance
from dulcet.log_codes import coded
from dulcet.node.actions import END, Action, Call, Close, Forward, Next, Receive, Respond, SendHere
from dulcet.node.decoding import decode_strictly
from dulcet.node.requests import FindRequest, NormalizedRequest, Request, RetrieveRequest, StoreRequest
from dulcet.node.sources import AsyncSource, Source
from dulcet.services.identifiers import encode_dataset
from dulcet.services.refusals import Refused
from dulcet.services.results import Sent
from dulcet.services.suboperations import SubOperations

if TYPE_CHECKING:
    from dulcet.node.application import Node

__all__ = ["Answer", "Script", "answer"]

log: Final = logging.getLogger("dulcet.node")

Script = Generator[Action, Any, None]


class Answer:
    """What an N-service handler may return where a status and a data set are not enough: command elements besides.

    `status` may be a failure too.  `dataset` is the reply, a Dataset, or bytes in the transfer syntax of the request;
    None for none.  `elements` are those of the response (PS3.7 section 10.3), by keyword, as in
    `Answer(AffectedSOPInstanceUID=uid)`; with one that a response cannot hold, 0110H is answered instead.  `then` gives
    what is done once the response was sent.
    """

    __slots__ = ("dataset", "elements", "status", "then")

    def __init__(
        self,
        status: int = Status.SUCCESS,
        dataset: Any = None,
        *,
        then: Callable[[], Script] | None = None,
        **elements: Any,
    ) -> None:
        self.status: int = status
        self.dataset: Any = dataset
        self.then: Callable[[], Script] | None = then
        """The script that goes on once the response was sent: it may report on the same association."""
        self.elements: dict[str, Any] = elements
        """By keyword, as in `AffectedSOPInstanceUID=…`, `EventTypeID=…`."""


def answer(node: Node, request: Request) -> Script:
    """The script for a request, whoever provides it; 0122H or 0211H where nobody does.

    A class is found under the one that was negotiated too (print meta classes, PS3.4 H.3.2.2), but not one to be
    stored: what nobody takes under its own name could not be sent on under it.
    """
    classes = [request.sop_class_uid]
    if request.command.field != CommandField.C_STORE_RQ:
        classes.append(request.context.abstract_syntax)
    handler = node.handler_for(request.command.field, *classes)
    if handler is None:
        known = request.command.definition is not None
        peer, name = request.requestor.who, request.command.name
        log.warning("%s: nobody provides %s for %s", peer, name, request.sop_class_uid, extra=coded("DUL201"))
        status = Status.SOP_CLASS_NOT_SUPPORTED if known else Status.UNRECOGNIZED_OPERATION
        yield Respond(status, None, {"ErrorComment": not_provided(request.command)})
        return
    script = SCRIPTS.get(request.command.field, _normalized)
    try:
        yield from script(node, request, handler)
    except _Failed as failure:
        yield Respond(failure.status, failure.data, failure.elements)
    except LocalProtocolError as error:
        if request._core.answered:
            raise
        # Command elements that no command set can hold; where the association is over, this fails as well.
        log.error(
            "%s: an answer to %s cannot be sent: %s", request.requestor.who, request.command.name, error,
            extra=coded("DUL206"),
        )  # fmt: skip
        yield Respond(_unable(request), None, {"ErrorComment": NO_ANSWER})


def _unable(request: Request) -> Status:
    """The failure of an application: "unable to process" where the service has it (PS3.4 B.2.3, C.4), else 0110H."""
    return Status.CANNOT_UNDERSTAND if request.command.field in UNABLE_TO_PROCESS else Status.PROCESSING_FAILURE


class _Failed(Exception):
    """The operation ends here, with this status."""

    def __init__(self, status: int, comment: str = "") -> None:
        super().__init__(comment)
        self.status = status
        self.elements: dict[str, Any] = {"ErrorComment": as_comment(comment)} if comment else {}
        self.data: bytes | None = None

    @classmethod
    def of(cls, request: Request, error: StatusError) -> _Failed:
        """With all that the application's own words for it hold; it cannot be pending and over at once."""
        if not _ends(error.status):
            log.error(
                "a handler of %s raised the status %r; %s", request.command.name, error.status, _unable(request),
                extra=coded("DUL207"),
            )  # fmt: skip
            return cls(_unable(request), NO_ANSWER)
        failure = cls(error.status)
        if isinstance(error, Refused):
            failure.elements = dict(error.elements)
            failure.data = _encoded(request, error.dataset)
        return failure


def _guarded(request: Request, action: Action) -> Generator[Action, Any, Any]:
    """The result of an action that runs the application's code; what it raises ends the operation."""
    try:
        return (yield action)
    except StatusError as error:
        peer, name = request.requestor.who, request.command.name
        log.warning("%s: %s was refused: %s", peer, name, error, extra=coded("DUL208"))
        raise _Failed.of(request, error) from error
    except ReceiveError as error:
        peer, name = request.requestor.who, request.command.name
        log.error("%s: %s failed with %04XH: %s", peer, name, error.status, error, extra=coded("DUL202"))
        failure = _Failed(error.status)
        failure.elements = error.elements
        raise failure from error
    except Exception as error:
        if isinstance(action, Receive) and isinstance(error, LOST):
            raise  # the association itself is over
        peer, name = request.requestor.who, request.command.name
        log.exception("%s: the handler of %s failed", peer, name, extra=coded("DUL203"))
        raise _Failed(_unable(request), FAILED) from error


# ---------------------------------------------------------------------- C-ECHO, C-STORE


def _echo(node: Node, request: Request, handler: Any) -> Script:
    status, elements = _status(request, (yield from _guarded(request, Call(handler, request))))
    yield Respond(status, None, elements)


def _store(node: Node, request: Request, handler: Any) -> Script:
    place = None if node.store_directory is None else _Place(node.store_directory)
    received = yield from _guarded(request, Receive(place, node.memory_limit))
    stored = StoreRequest(request.requestor, request.context, request.command, request._core)
    if place is None:
        stored.data = received
    else:
        stored.path = received
    try:
        status, elements = _status(request, (yield from _guarded(request, Call(handler, stored))))
    except _Failed:
        _remove(stored, place)
        raise
    if status.is_failure:
        _remove(stored, place)
    yield Respond(status, None, elements)


class _Place:
    """A destination that remembers what it began."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.incoming: IncomingInstance | None = None

    @property
    def durable(self) -> bool:
        """True where a commit waits for the disk, or may."""
        return bool(getattr(self._destination, "durable", True))

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> IncomingInstance:
        self.incoming = self._destination.begin(
            sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title=source_ae_title
        )
        return self.incoming


def _remove(stored: StoreRequest, place: _Place | None) -> None:
    """What the application refused is not kept, unless it was there before: somebody was told that it is kept."""
    if place is not None and isinstance(stored.path, Path) and getattr(place.incoming, "is_new", False):
        stored.path.unlink(missing_ok=True)


# ---------------------------------------------------------------------- C-FIND


def _find(node: Node, request: Request, handler: Any) -> Script:
    find = FindRequest(request.requestor, request.context, request.command, request._core, identifier=_decoded(request))
    answers = yield from _guarded(request, Call(handler, find))
    if answers is None or isinstance(answers, int):
        status, elements = _status(request, answers)
        yield Respond(status, None, elements)
        return
    iterator = _iterator(answers)
    try:
        status, elements = yield from _matches(request, iterator)
    except Exception:
        yield Close(iterator)
        raise
    yield Close(iterator)
    yield Respond(status, None, elements)


def _matches(
    request: Request, iterator: Iterator[Any] | AsyncIterator[Any]
) -> Generator[Action, Any, tuple[Status, dict[str, Any]]]:
    """A pending response for each answer; the status that ends it."""
    while True:
        item = yield from _guarded(request, Next(iterator))
        if request.cancelled:
            return Status.CANCEL, {}
        if item is END:
            return Status.SUCCESS, {}
        status, dataset, elements = _read(request, item, Status.PENDING)
        if not status.is_pending:
            return status, elements
        if dataset is None:
            log.error(
                "%s: the handler of C-FIND-RQ gave a pending answer without a data set", request.requestor.who,
                extra=coded("DUL207"),
            )  # fmt: skip
            return _unable(request), {"ErrorComment": NO_ANSWER}
        yield Respond(status, _encoded(request, dataset), elements)


# ---------------------------------------------------------------------- C-GET, C-MOVE


def _retrieve(node: Node, request: Request, handler: Any) -> Script:
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
                request.requestor.who, ascii(destination), extra=coded("DUL211"),
            )  # fmt: skip
            raise _Failed(
                Status.MOVE_DESTINATION_UNKNOWN,
                f"{ascii(destination)[1:-1]} is no known peer here; add it to its table",
            )
    given = yield from _guarded(request, Call(handler, retrieve))
    if isinstance(given, int | Answer):
        status, elements = _status(request, given)
        yield Respond(status, None, {**SubOperations(0).counters(), **elements})
        return
    items = _items(request, given)
    operations = SubOperations(len(items) if isinstance(items, Sized) else None)
    source: Any = AsyncSource(request, items) if hasattr(items, "__anext__") else Source(request, items)
    priority = request.command.priority or 0
    if address is None:
        sending: Action = SendHere(source, priority)
    else:
        originator = (request.requestor.calling_ae_title, request.message_id)
        sending = Forward(address, source, priority, originator, node.move_associations)
    results = yield from _guarded(request, sending)
    try:
        lost = yield from _sub_operations(request, operations, results)
    except Exception:
        yield Close(results)
        yield Close(source)
        raise
    yield Close(results)
    yield Close(source)
    yield _last(request, operations, lost or source.failure)


def _sub_operations(
    request: Request, operations: SubOperations, results: Any
) -> Generator[Action, Any, Exception | None]:
    """Count each as it ends and tell the peer; what kept the rest from being sent, if anything.

    After a cancel the face begins no more and ends this soon; what was under way is counted still, and not told of.
    """
    peer, field = request.requestor.who, request.command.field
    while True:
        try:
            sent = yield Next(results)
        except Exception as error:
            if field == CommandField.C_GET_RQ and isinstance(error, LOST):
                raise  # the association itself is over
            log.warning(
                "%s: the sub-operations of %s came to an end: %s", peer, request.command.name, error,
                extra=coded("DUL212"),
            )  # fmt: skip
            return error
        if sent is END:
            break
        assert isinstance(sent, Sent)
        operations.count(sent, cancelled=request.cancelled)
        if not sent.ok:
            log.warning(
                "%s: C-STORE of %s failed: %s", peer, sent.sop_instance_uid or "an instance", sent.error or sent.answer,
                extra=coded("DUL213"),
            )  # fmt: skip
        if not request.cancelled and (operations.total is None or operations.remaining):
            yield Respond(Status.PENDING, None, operations.pending())
    return None


def _last(request: Request, operations: SubOperations, failure: Exception | None) -> Respond:
    """The final response of a C-GET or C-MOVE (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
    if request.cancelled and (operations.remaining or operations.cut):
        status, elements = operations.final(cancelled=True)
    elif failure is None:
        status, elements = operations.final()
    elif isinstance(failure, StatusError):
        failed = _Failed.of(request, failure)
        return Respond(failed.status, failed.data, {**operations.counters(), **failed.elements})
    else:
        if not isinstance(failure, DulcetError):
            log.error(
                "%s: the handler of %s failed", request.requestor.who, request.command.name, exc_info=failure,
                extra=coded("DUL203"),
            )  # fmt: skip
        operations.give_up()
        status, elements = operations.final()
        elements["ErrorComment"] = why_not_sent(failure)
    if operations.comment and (operations.failed or operations.cut):
        elements.setdefault("ErrorComment", operations.comment)
    failed_list = operations.failed_list()
    return Respond(status, None if failed_list is None else _encoded(request, failed_list), elements)


def _items(request: Request, given: Any) -> Any:
    """What is to be sent, as something that can be iterated; one instance alone stands for a list of one."""
    if given is None:
        return ()
    if isinstance(given, SINGLE) or hasattr(given, "iterall") or hasattr(given, "read"):
        return (given,)
    if isinstance(given, Iterable) or hasattr(given, "__anext__"):
        return given
    log.error(
        "a handler of %s gave %s, which is nothing to send", request.command.name, type(given).__name__,
        extra=coded("DUL207"),
    )  # fmt: skip
    raise _Failed(_unable(request), NO_ANSWER)


# ---------------------------------------------------------------------- N-services


def _normalized(node: Node, request: Request, handler: Any) -> Script:
    asked = NormalizedRequest(
        request.requestor, request.context, request.command, request._core, dataset=_decoded(request)
    )
    here = getattr(handler, "reports_here", False)
    result = yield from _guarded(request, Call(handler, asked, here))
    status, dataset, elements = _final(request, result)
    command = request.command
    for keyword, value in (("EventTypeID", command.event_type_id), ("ActionTypeID", command.action_type_id)):
        if value is not None:
            elements.setdefault(keyword, value)
    if command.field == CommandField.N_CREATE_RQ and not (
        status.is_failure or command.sop_instance_uid or elements.get("AffectedSOPInstanceUID")
    ):  # PS3.7 section 10.1.5.1.4: the response has it where the request left it to the provider
        log.warning(
            "%s: a handler of N-CREATE-RQ made an instance and does not say its UID; return "
            "Answer(AffectedSOPInstanceUID=...)", request.requestor.who, extra=coded("DUL219"),
        )  # fmt: skip
    yield Respond(status, _encoded(request, dataset) if dataset is not None else None, elements)
    if isinstance(result, Answer) and result.then is not None:
        try:
            yield from result.then()
        except LOST:
            raise
        except Exception:
            log.exception(
                "%s: what was to follow the answer to %s failed", request.requestor.who, command.name,
                extra=coded("DUL209"),
            )  # fmt: skip


# ---------------------------------------------------------------------- reading and writing data sets and results


def _decoded(request: Request) -> Any:
    """The data set of a request; an empty one where there is none."""
    import pydicom

    data = request._core.data
    if data is None:
        return pydicom.Dataset()
    try:
        return decode_strictly(data, request.transfer_syntax)
    except ReceiveError as error:
        log.error("%s: %s: %s", request.requestor.who, request.command.name, error, extra=coded("DUL210"))
        raise _Failed(_unable(request), "the data set does not decode") from error


def _encoded(request: Request, dataset: Any) -> bytes | None:
    if dataset is None or isinstance(dataset, bytes):
        return dataset
    try:
        return encode_dataset(dataset, request.transfer_syntax)[0] or None
    except DulcetError as error:
        why = type(error.__cause__ or error).__name__  # its words may repeat what the data set holds
        log.error(
            "%s: an answer to %s cannot be encoded: %s", request.requestor.who, request.command.name, why,
            extra=coded("DUL206"),
        )  # fmt: skip
        raise _Failed(_unable(request), "an answer cannot be encoded") from error


def _status(request: Request, result: Any) -> tuple[Status, dict[str, Any]]:
    """What a handler returned, as the status of a final response with what explains it."""
    status, dataset, elements = _final(request, result)
    if dataset is not None:
        log.error(
            "a handler of %s returned a data set where a status is expected", request.command.name,
            extra=coded("DUL207"),
        )  # fmt: skip
        raise _Failed(_unable(request), NO_ANSWER)
    return status, elements


def _final(request: Request, result: Any) -> tuple[Status, Any, dict[str, Any]]:
    """`_read` of what ends an operation, which no pending status can."""
    status, dataset, elements = _read(request, result, Status.SUCCESS)
    if status.is_pending:
        log.error(
            "a handler of %s returned %s, which ends nothing", request.command.name, status, extra=coded("DUL207")
        )
        return _unable(request), None, {"ErrorComment": NO_ANSWER}
    return status, dataset, elements


def _read(request: Request, result: Any, default: Status) -> tuple[Status, Any, dict[str, Any]]:
    """(status, data set, command elements) of what a handler gave: None, a status, a Dataset, a pair, an Answer.

    Bytes are a data set that is encoded already, in the transfer syntax of the request.
    """
    if isinstance(result, Answer) and _is_status(result.status):
        return Status(result.status), result.dataset, dict(result.elements)
    if result is None:
        return default, None, {}
    if _is_status(result):
        return Status(result), None, {}
    if isinstance(result, tuple) and len(result) == 2 and _is_status(result[0]):
        return Status(result[0]), result[1], {}
    if hasattr(result, "iterall") or isinstance(result, bytes):
        return default, result, {}
    log.error(
        "a handler of %s gave %s where a status, a Dataset, a pair of both or an Answer is expected",
        request.command.name, type(result).__name__, extra=coded("DUL207"),
    )  # fmt: skip
    return _unable(request), None, {"ErrorComment": NO_ANSWER}


def _is_status(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF


def _ends(status: Any) -> bool:
    return _is_status(status) and not Status(status).is_pending


def _iterator(answers: Any) -> Iterator[Any] | AsyncIterator[Any]:
    if hasattr(answers, "__anext__"):
        found: AsyncIterator[Any] = answers
        return found
    if isinstance(answers, Iterable) and not hasattr(answers, "iterall"):
        return iter(answers)
    return iter((answers,))  # one Dataset, or what `_read` will not take


NO_ANSWER: Final = "what the application gave is no answer, see its log"

LOST: Final = (AssociationError, DimseTimeout, LocalProtocolError)
"""What says that the association which a request came on is over."""

SINGLE: Final = (str, PathLike, bytes, bytearray, memoryview, Instance)
"""One instance to send, though some of them can be iterated."""

UNABLE_TO_PROCESS: Final = frozenset(
    (CommandField.C_STORE_RQ, CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ)
)

SCRIPTS: Final[dict[int, Any]] = {
    CommandField.C_ECHO_RQ: _echo,
    CommandField.C_STORE_RQ: _store,
    CommandField.C_FIND_RQ: _find,
    CommandField.C_GET_RQ: _retrieve,
    CommandField.C_MOVE_RQ: _retrieve,
}
