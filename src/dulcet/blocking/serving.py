"""Waiting for what the peer has to say on an association that this side asked for: events above all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from dulcet.blocking.association import Association
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError, ReceiveError
from dulcet.services.refusals import Refused
from dulcet.services.termination import ENDINGS
from dulcet.upper_layer.events import NEED_DATA, PAUSED

if TYPE_CHECKING:
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.services.results import Response

__all__ = ["look_again", "report_in_turn", "serve_until", "take_events"]

NESTED: Final = 16
"""Reports that may wait for one another's answers on one association; each holds frames of one thread's stack."""

_waiting: Final[WeakKeyDictionary[Association, int]] = WeakKeyDictionary()


def serve_until(association: Association, done: Callable[[], bool], timeout: float | None) -> bool:
    """Let the handler of an association answer the peer's requests until `done()`; False after `timeout` seconds.

    Looks at `done` after each request and whenever the transport is woken.  Raises what ends the association.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    core = association._core
    while not done():
        association._check_usable()
        with association._lock:
            event = core.next_event()
        if event is NEED_DATA or event is PAUSED:
            if not association._exchange(deadline):
                return done()
        elif type(event) in ENDINGS:
            association._ended(event)
        else:
            association._set_aside(event)
    return True


def report_in_turn(
    association: Association,
    sop_class_uid: str,
    sop_instance_uid: str,
    event_type: int,
    dataset: Any,
    *,
    context: str | None = None,
) -> Response:
    """N-EVENT-REPORT from within the handling of a request, once those before it are answered.

    Requests that come in the meantime are handled, and may end here in turn.  LocalProtocolError beyond NESTED.
    """
    depth = _waiting.get(association, 0)
    if depth >= NESTED:
        raise LocalProtocolError(f"{depth} reports wait for an answer of {association.peer}")
    _waiting[association] = depth + 1
    try:
        serve_until(association, association._core.can_invoke, None)
        return association.n_event_report(sop_class_uid, sop_instance_uid, event_type, dataset, context=context)
    finally:
        _waiting[association] = depth


def take_events(
    association: Association, sop_classes: frozenset[str], take: Callable[[IncomingRequest, Any], object]
) -> None:
    """Hand N-EVENT-REPORTs of these SOP classes that come on an association to `take(request, dataset)`.

    What it raises is answered: `Refused` with its status, anything else with 0110H.  Other requests go where they went.
    """
    handler = association.handler
    if not isinstance(handler, _Taking):
        handler = association.handler = _Taking(handler)
    handler.takes.update(dict.fromkeys(sop_classes, take))


def look_again(association: Association) -> None:
    """Have who serves an association until something has come about look whether it has."""
    if association.is_established:
        association._transport.wake()


class _Taking:
    """A handler for events of some SOP classes, each taken by who asked last; other requests go where they went."""

    def __init__(self, before: Callable[[Any], object] | None) -> None:
        self.takes: dict[str, Callable[[IncomingRequest, Any], object]] = {}
        self._before = before

    def __call__(self, request: IncomingRequest) -> None:
        take = self.takes.get(request.sop_class_uid) if request.field == CommandField.N_EVENT_REPORT_RQ else None
        if take is not None:
            _answer(request, take)
        elif self._before is not None:
            self._before(request)
        else:
            request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))


def _answer(request: IncomingRequest, take: Callable[[IncomingRequest, Any], object]) -> None:
    values: dict[str, Any] = {"EventTypeID": request.command.event_type_id}
    try:
        take(request, request.dataset())
    except Refused as refusal:
        request.respond(refusal.status, **values, **refusal.elements)
    except ReceiveError as error:
        request.respond(Status.PROCESSING_FAILURE, **values, **error.elements)
    else:
        request.respond(Status.SUCCESS, **values)
