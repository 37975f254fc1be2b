"""From events of the core to the callbacks of a `Net`, in the order that is promised.

Rules: one function an event; a callback that raises is logged, and whoever waits for an answer gets a failure.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse import reasons
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.events import (
    AnsweredElsewhere,
    CancelReceived,
    DataReceived,
    RequestReceived,
    RequestRefused,
    ResponseReceived,
    StrayResponse,
)
from dulcet.dimse.operations import Request
from dulcet.dimse.status import Status
from dulcet.errors import AssociationClosed, ReceiveError
from dulcet.io.instances import Instance
from dulcet.io.memory import Memory
from dulcet.io.one_file import OneFile
from dulcet.log_codes import coded
from dulcet.services.acceptance import CALLING_NOT_RECOGNIZED
from dulcet.services.incoming import log_elsewhere, log_refusal
from dulcet.services.termination import ENDINGS, ending
from dulcet.toolkit.associate import Associate
from dulcet.toolkit.messages import BY_FIELD, DataSet
from dulcet.toolkit.storing import Storing
from dulcet.upper_layer import events

if TYPE_CHECKING:
    from dulcet.toolkit.net import Net

__all__ = ["FAILED", "handle"]

log: Final = logging.getLogger("dulcet.toolkit")

FAILED: Final = object()
"""What a callback gave that raised."""


def handle(net: Net, event: Any) -> None:
    """One event of the core."""
    kind = type(event)
    if kind in ENDINGS:
        _ended(net, event)
    HANDLERS[kind](net, event)


def _ended(net: Net, event: Any) -> None:
    assert net._core is not None
    word, error = ending(event, net.peer, net._core)
    in_order = word == "released" or (isinstance(event, events.Closed) and event.expected)
    unanswered = len(net._core.outstanding) + len(net._core.waiting)
    if isinstance(event, events.ReleaseRequested) and unanswered:
        in_order = False
        error = AssociationClosed(f"{net.peer} released the association with {unanswered} requests of ours unanswered")
    if not in_order and net._ending is None:
        net._ending = error


def _associate_requested(net: Net, event: events.AssociateRequested) -> None:
    limit = None if net.server is None else net.server.max_clients
    if net.server is not None and limit is not None and _admissions(net.server) >= limit:
        net.send_associate_reject(2, 3, 2)
        return
    assert net._connection is not None
    calling = event.request.calling
    why = net._connection.objection(calling)
    if why is not None:
        log.warning("%s: refused %s, %s", net.peer, ascii(calling), why, extra=coded("DUL105"))
        net.send_associate_reject(*CALLING_NOT_RECOGNIZED)
        return
    net._admitted = True
    _owe(net)
    if net._call("on_receive_associate_request", Associate.from_pdu(event.request)) is FAILED:
        _answer_late(net, "associate")


def _release_requested(net: Net, event: events.ReleaseRequested) -> None:
    assert net._core is not None
    if net._core.owes != "release":
        net._collision = event  # the requestor answers first (PS3.8 section 7.2.1); ours is due after that
        return
    _owe(net)
    if net._call("on_receive_release_request") is FAILED:
        _answer_late(net, "release")


def _admissions(net: Net) -> int:
    return sum(client._admitted for client in net._clients)


def _owe(net: Net) -> None:
    net._answer_by = time.monotonic() + net.answer_timeout


def _answer_late(net: Net, what: str) -> None:
    """The callback that should have answered raised."""
    assert net._core is not None
    if net._core.owes == what:
        net._do(lambda core: core.reject(1, 1, 1) if what == "associate" else core.release_response())


def _associate_accepted(net: Net, event: events.AssociateAccepted) -> None:
    net._call("on_receive_associate_accept", net.associate.accept)


def _associate_rejected(net: Net, event: events.AssociateRejected) -> None:
    reject = event.reject
    net._call("on_receive_associate_reject", reject.result, reject.source, reject.reason)


def _release_confirmed(net: Net, event: events.ReleaseConfirmed) -> None:
    net._call("on_receive_release_response")
    if net._collision is not None:
        _release_requested(net, net._collision)


def _aborted(net: Net, event: events.Aborted) -> None:
    if event.by_us:
        log.warning("%s: %s", net.peer, event.message, extra=coded("DUL101"))
    else:
        net._call("on_receive_abort", event.source, event.reason)


def _nothing_to_tell(net: Net, event: Any) -> None:
    """`on_close` tells it."""


def _request_received(net: Net, event: RequestReceived) -> None:
    request = event.request
    if not request.streams:
        data = DataSet(request.data, request.context.transfer_syntax) if request.data is not None else None
        _serve(net, request, data)
        return
    path = net._call("on_store_setup", request.context.context_id, request.command)
    if path is FAILED:
        failed = ReceiveError("on_store_setup failed", Status.PROCESSING_FAILURE, comment=reasons.FAILED)
        net._storing = Storing(None, failed)
    elif path is None or path == "":
        net._storing = Storing(Memory(net.memory_limit, event.request.context.transfer_syntax))
    else:
        command, context = request.command, request.context
        try:
            uids = command.sop_class_uid or context.abstract_syntax, command.sop_instance_uid or ""
            calling = net._core.request.calling if net._core and net._core.request else ""
            file = OneFile(os.fsdecode(path)).begin(*uids, context.transfer_syntax, source_ae_title=calling)
            net._storing = Storing(file)
        except ReceiveError as error:
            net._storing = Storing(None, error)
        except (TypeError, ValueError) as error:  # what was given is no path
            why = f"on_store_setup gave {path!r}: {error}"
            net._storing = Storing(None, ReceiveError(why, Status.PROCESSING_FAILURE, comment=reasons.FAILED))


def _request_refused(net: Net, event: RequestRefused) -> None:
    log_refusal(event, net.peer)


def _data_received(net: Net, event: DataReceived) -> None:
    storing, request = net._storing, event.request
    assert storing is not None
    storing.write(event.data)
    if not event.is_last:
        return
    net._storing = None
    try:
        kept = storing.commit()
    except ReceiveError as error:
        log.error(
            "%s: refused %s with %04XH: %s", net.peer, request.command.name, error.status, error, extra=coded("DUL202")
        )
        net._do(partial(DimseAssociation.respond_status, request=request, status=error.status, **error.elements))
        return
    syntax = request.context.transfer_syntax
    _serve(net, request, DataSet(kept, syntax) if isinstance(kept, bytes) else DataSet(None, syntax, kept))


def _serve(net: Net, request: Request, data_set: DataSet | None) -> None:
    told = _tell(net, request.context.context_id, request.command, None, data_set)
    if not told and not request.answered and net.is_associated:
        net._do(lambda core: core.respond_status(request, Status.PROCESSING_FAILURE, ErrorComment=reasons.FAILED))


def _tell(net: Net, context_id: int, command: Command, asked: Command | None, data_set: DataSet | None) -> bool:
    """`on_receive_data`, then the callback of the message; False when one of them raised."""
    message = BY_FIELD.get(command.field)
    well = net._call("on_receive_data", context_id, command, data_set) is not FAILED
    if message is None or (message.is_response and asked is None):
        return net._call("on_receive_unknown", context_id, command, data_set) is not FAILED and well
    arguments = message.arguments(command, asked, data_set)
    return net._call(f"on_receive_{message.name}", context_id, *arguments) is not FAILED and well


def _response_received(net: Net, event: ResponseReceived) -> None:
    operation = event.operation
    asked = Command.make(operation.field, validate=False)
    asked.elements.update({0x0002: operation.sop_class_uid, 0x1000: operation.sop_instance_uid})
    if event.is_final and isinstance(operation.owner, Instance) and operation.departed:
        operation.owner.close()
        net._files.discard(operation.owner)
    data = DataSet(event.data, event.transfer_syntax) if event.data is not None else None
    _tell(net, operation.context.context_id, event.command, asked, data)


def _cancel_received(net: Net, event: CancelReceived) -> None:
    _tell(net, event.context_id, event.command, None, None)


def _stray_response(net: Net, event: StrayResponse) -> None:
    assert net._core is not None
    syntax = net._core.contexts[event.context_id].transfer_syntax
    data = DataSet(event.data, syntax) if event.data is not None else None
    _tell(net, event.context_id, event.command, None, data)


def _answered_elsewhere(net: Net, event: AnsweredElsewhere) -> None:
    log_elsewhere(event, net.peer)


HANDLERS: Final[dict[type[Any], Callable[[Net, Any], None]]] = {
    events.AssociateRequested: _associate_requested,
    events.AssociateAccepted: _associate_accepted,
    events.AssociateRejected: _associate_rejected,
    events.ReleaseRequested: _release_requested,
    events.ReleaseConfirmed: _release_confirmed,
    events.Aborted: _aborted,
    events.TimedOut: _nothing_to_tell,
    events.Closed: _nothing_to_tell,
    RequestReceived: _request_received,
    RequestRefused: _request_refused,
    DataReceived: _data_received,
    ResponseReceived: _response_received,
    CancelReceived: _cancel_received,
    StrayResponse: _stray_response,
    AnsweredElsewhere: _answered_elsewhere,
}
