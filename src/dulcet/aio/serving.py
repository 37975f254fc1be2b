"""Waiting for what the peer has to say on an association that this side asked for: events above all."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from dulcet.aio.association import Association
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError, ReceiveError
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from dulcet.aio.requests import IncomingRequest
    from dulcet.services.results import Response

__all__ = ["look_again", "report_in_turn", "serve_until", "take_events"]

NESTED: Final = 16
"""Reports that may wait for one another's answers on one association; each holds a task and a data set."""

_waiting: Final[WeakKeyDictionary[Association, int]] = WeakKeyDictionary()

_watchers: Final[WeakKeyDictionary[Association, set[asyncio.Future[None]]]] = WeakKeyDictionary()
"""Those who look at something again whenever a request was handled."""


async def serve_until(association: Association, done: Callable[[], bool], timeout: float | None) -> bool:
    """Let the handler of an association answer the peer's requests until `done()`; False after `timeout` seconds.

    Looks at `done` after each request and whenever the transport is woken.  Raises what ends the association.
    """
    try:
        async with asyncio.timeout(timeout) as limit:
            while not done():
                association._check_usable()
                await _change(association)
    except TimeoutError:
        if not limit.expired():
            raise  # what ended the association
        return done()
    return True


async def report_in_turn(
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
        return await association.n_event_report(sop_class_uid, sop_instance_uid, event_type, dataset, context=context)
    finally:
        _waiting[association] -= 1


def take_events(
    association: Association, sop_classes: frozenset[str], take: Callable[[IncomingRequest, Any], object]
) -> None:
    """Hand N-EVENT-REPORTs of these SOP classes that come on an association to `take(request, dataset)`.

    What it raises is answered: `Refused` with its status, anything else with 0110H.  Other requests go where they went.
    """
    _attentive(association).takes.update(dict.fromkeys(sop_classes, take))


class _Taking:
    """A handler for events of some SOP classes, each taken by who asked last; other requests go where they went.

    Whenever one was handled, those who wait look again.
    """

    def __init__(self, association: Association, before: Callable[[Any], object] | None) -> None:
        self.takes: dict[str, Callable[[IncomingRequest, Any], object]] = {}
        self._association = association
        self._before = before

    async def __call__(self, request: IncomingRequest) -> None:
        take = self.takes.get(request.sop_class_uid) if request.field == CommandField.N_EVENT_REPORT_RQ else None
        try:
            if take is not None:
                await _answer(request, take)
            elif self._before is not None:
                await self._association._call(self._before, request)
            else:
                await request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))
        finally:
            look_again(self._association)


def _attentive(association: Association) -> _Taking:
    handler = association.handler
    if not isinstance(handler, _Taking):
        handler = association.handler = _Taking(association, handler)
    return handler


async def _answer(request: IncomingRequest, take: Callable[[IncomingRequest, Any], object]) -> None:
    values: dict[str, Any] = {"EventTypeID": request.command.event_type_id}
    try:
        taken = take(request, await request.dataset())
        if inspect.isawaitable(taken):
            await taken
    except Refused as refusal:
        await request.respond(refusal.status, **values, **refusal.elements)
    except ReceiveError as error:
        await request.respond(Status.PROCESSING_FAILURE, **values, **error.elements)
    else:
        await request.respond(Status.SUCCESS, **values)


def look_again(association: Association) -> None:
    """Have those who serve an association until something has come about look whether it has."""
    for future in _watchers.get(association, ()):
        if not future.done():
            future.set_result(None)


async def _change(association: Association) -> None:
    """Until a request was handled, somebody said `look_again`, or the association ended."""
    if association.handler is not None:
        _attentive(association)
    watchers = _watchers.setdefault(association, set())
    future: asyncio.Future[None] = association._loop.create_future()
    watchers.add(future)
    try:
        await association._suspend(future)
    finally:
        watchers.discard(future)
