"""Unified procedure steps as user (PS3.4 Annex CC): make, perform, watch and cancel them.

uid = await create_step(association, ProcedureStepLabel="plan", ScheduledProcedureStepStartDateTime="202607051000")
async with perform_step(association, uid) as step:
    await step.progress(50, "half of it")
    step.performed(PerformedWorkitemCodeSequence=[…], …)
# left in order it is COMPLETED, left by an exception CANCELED
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet.aio.twin import begins, event_handler
from dulcet.errors import DulcetError
from dulcet.io.identity import new_uid
from dulcet.log_codes import coded
from dulcet.services.identifiers import build_identifier
from dulcet.services.listening import EventListener
from dulcet.services.ups import (
    CANCELED,
    CHANGE_STATE,
    COMPLETED,
    EVENT,
    FINAL,
    GLOBAL,
    IN_PROGRESS,
    PULL,
    PUSH,
    REQUEST_CANCEL,
    SUBSCRIBE,
    SUSPEND,
    UNSUBSCRIBE,
    WATCH,
    scheduled_step,
)
from dulcet.services.ups_requests import (
    StepEvent,
    cancel_information,
    canceled_item,
    choose_context,
    performed_item,
    read_event,
    subscription,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.aio.association import Association
    from dulcet.services.results import Response

__all__ = [
    "StepEvent",
    "StepPerformance",
    "create_step",
    "get_step",
    "perform_step",
    "request_step_cancel",
    "subscribe",
    "suspend_global_subscription",
    "unsubscribe",
    "watch_steps",
]

log: Final = logging.getLogger("dulcet.association")


def watch_steps(node: EventListener, hear: Callable[[StepEvent], object]) -> None:
    """Have a node hear events of steps (PS3.4 section CC.2.4); who is to send them is told by `subscribe`.

    `node` is a `Node`, or what has its `on_n_event_report`; `hear` gets each `StepEvent`.
    """
    node.on_n_event_report(event_handler(hear, read_event), classes=(PUSH, EVENT))


async def create_step(
    association: Association, dataset: Dataset | None = None, *, sop_instance_uid: str | None = None, **keys: Any
) -> str:
    """Make a step (N-CREATE, PS3.4 section CC.2.5): its UID.

    `association` needs `UPS_PROPOSALS`.  `dataset` as it is, or `keys`, of which ProcedureStepLabel and
    ScheduledProcedureStepStartDateTime are needed; `keys` beside a `dataset` are not looked at.  `sop_instance_uid` is
    that of the step, a new one where none is given.
    Raises StatusError when the peer refuses it, ValueError for what is no keyword, NoPresentationContext when it did
    not accept the class; and what ends the association.
    """
    uid = sop_instance_uid or new_uid()
    step = scheduled_step(**keys) if dataset is None else dataset
    context = choose_context(association.contexts, PUSH)
    response = (await association.n_create(PUSH, uid, step, context=context)).check()
    return response.command.affected_sop_instance_uid or uid


async def get_step(association: Association, sop_instance_uid: str, attributes: Sequence[str | int] = ()) -> Dataset:
    """A step as the peer knows it (N-GET, PS3.4 section CC.2.7).

    `association` needs `UPS_PROPOSALS`.  `sop_instance_uid` names the step, `attributes` are keywords or tags; none
    asks for all.
    Raises StatusError when the peer does not know it, ValueError for what is no keyword, ReceiveError when the answer
    does not decode, NoPresentationContext when it did not accept the class; and what ends the association.
    """
    import pydicom

    context = choose_context(association.contexts, PULL, WATCH, PUSH)
    response = (await association.n_get(PUSH, sop_instance_uid, attributes, context=context)).check()
    return response.dataset() or pydicom.Dataset()


async def request_step_cancel(
    association: Association,
    sop_instance_uid: str,
    *,
    reason: str | None = None,
    code: Mapping[str, Any] | None = None,
    contact_name: str | None = None,
    contact_uri: str | None = None,
) -> Response:
    """Ask for a step to be canceled (N-ACTION 2, PS3.4 section CC.2.2); who performs it may go on all the same.

    `association` needs `UPS_PROPOSALS`.  `sop_instance_uid` names the step.  `reason` is text, `code` one of CID 9300,
    by keyword; `contact_name` and `contact_uri` say whom to ask.  What is None is left out.
    Raises StatusError when the peer refuses, NoPresentationContext when it did not accept the class; and what ends the
    association.
    """
    information = cancel_information(reason, code, contact_name, contact_uri)
    return await _act(association, sop_instance_uid, REQUEST_CANCEL, information, PUSH, WATCH)


async def subscribe(
    association: Association,
    receiving_ae: str,
    sop_instance_uid: str = GLOBAL,
    *,
    deletion_lock: bool = False,
    only: Mapping[str, Any] | None = None,
) -> Response:
    """Have events sent to an AE title that the peer knows (N-ACTION 3, PS3.4 section CC.2.3): of one step, or of all.

    `association` needs `UPS_PROPOSALS`.  `receiving_ae` is who gets them; `sop_instance_uid` names the step, by default
    all there are and will be.
    `deletion_lock` keeps steps from being deleted; `only` are matching keys for a filtered global subscription.
    Raises StatusError when the peer refuses, ValueError for what is no keyword, NoPresentationContext when it did not
    accept the class; and what ends the association.
    """
    uid, information = subscription(receiving_ae, sop_instance_uid, deletion_lock, only)
    return await _act(association, uid, SUBSCRIBE, information, WATCH)


async def unsubscribe(association: Association, receiving_ae: str, sop_instance_uid: str = GLOBAL) -> Response:
    """Have no more events sent (N-ACTION 4, PS3.4 section CC.2.3); deletion locks go with it.

    `association` needs `UPS_PROPOSALS`.  `receiving_ae` is who got them; `sop_instance_uid` names the step, by default
    any.
    Raises StatusError when the peer refuses, NoPresentationContext when it did not accept the class; and what ends the
    association.
    """
    information = build_identifier({"ReceivingAE": receiving_ae})
    return await _act(association, sop_instance_uid, UNSUBSCRIBE, information, WATCH)


async def suspend_global_subscription(association: Association, receiving_ae: str) -> Response:
    """Have no events of steps to come sent (N-ACTION 5, PS3.4 section CC.2.3); those of present ones go on.

    `association` needs `UPS_PROPOSALS`.  `receiving_ae` is who got them.  Raises StatusError when the peer refuses,
    NoPresentationContext when it did not accept the class; and what ends the association.
    """
    return await _act(association, GLOBAL, SUSPEND, build_identifier({"ReceivingAE": receiving_ae}), WATCH)


@begins
async def perform_step(
    association: Association, sop_instance_uid: str, *, transaction_uid: str | None = None
) -> StepPerformance:
    """Take a step (N-ACTION 1 to IN PROGRESS, PS3.4 section CC.2.1); it ends with the block.

    `association` needs `UPS_PROPOSALS`.  `sop_instance_uid` names the step.  Keep `transaction_uid`, the lock, to be
    able to go on after a crash; without one a new UID is taken.
    Raises StatusError when another one was quicker, NoPresentationContext when it did not accept the class; and what
    ends the association.

        async with perform_step(association, uid) as step:
            step.performed(PerformedStationNameCodeSequence=[station], PerformedWorkitemCodeSequence=[work])
    """
    step = StepPerformance(association, sop_instance_uid, transaction_uid or new_uid())
    await step._change_state(IN_PROGRESS)
    return step


class StepPerformance:
    """A step that this side performs; as a context manager it ends with the block, by an exception CANCELED.

    Made by `perform_step`, or by itself to go on with a step whose lock was kept.  What asks the peer raises
    StatusError when it refuses, ValueError for what is no keyword, and what ends the association.
    """

    def __init__(self, association: Association, sop_instance_uid: str, transaction_uid: str) -> None:
        """`association` needs `UPS_PROPOSALS`; `sop_instance_uid` names the step, and `transaction_uid` is its lock."""
        self.association = association
        self.sop_instance_uid = sop_instance_uid
        self.transaction_uid = transaction_uid
        """The lock: whoever knows it may go on with the step."""
        self.state: str = IN_PROGRESS
        self.started: str = _now()
        self._performed: dict[str, Any] = {}

    async def update(self, changes: Dataset | None = None, **keys: Any) -> Response:
        """Set attributes (N-SET, PS3.4 section CC.2.6); StatusError when the peer refuses.

        `keys` are new values by keyword; those of the data set `changes` replace them.
        """
        dataset = build_identifier({**keys, "TransactionUID": self.transaction_uid})
        if changes is not None:
            dataset.update(changes)
        context = choose_context(self.association.contexts, PULL)
        return (await self.association.n_set(PUSH, self.sop_instance_uid, dataset, context=context)).check()

    async def progress(self, percent: float, description: str = "", **keys: Any) -> Response:
        """Tell how far it is; who watches hears of it.

        `percent` is 0 to 100, `description` text; `keys` are further attributes of the progress item by keyword.
        """
        item = {"ProcedureStepProgress": f"{percent:g}", "ProcedureStepProgressDescription": description, **keys}
        return await self.update(ProcedureStepProgressInformationSequence=[item])

    def performed(self, **keys: Any) -> None:
        """Note what was done, for the end: `keys` by keyword, those of a former call replaced.

        PerformedStationNameCodeSequence and PerformedWorkitemCodeSequence are needed, OutputInformationSequence says
        what came of it (PS3.4 Table CC.2.5-3, final state).
        """
        self._performed.update(keys)

    async def complete(self, **keys: Any) -> Response:
        """Set what was done, and end it COMPLETED; `keys` as in `performed`.  StatusError (C304H) when something is
        lacking.
        """
        self.performed(**keys)
        item = performed_item(self.started, _now(), self._performed)
        await self.update(UnifiedProcedureStepPerformedProcedureSequence=[item])
        return await self._change_state(COMPLETED)

    async def cancel(self, reason: str | None = None, code: Mapping[str, Any] | None = None) -> Response:
        """End it CANCELED; `reason` is text, `code` a reason of CID 9300 by keyword."""
        await self.update(ProcedureStepProgressInformationSequence=[canceled_item(_now(), reason, code)])
        return await self._change_state(CANCELED)

    async def _change_state(self, state: str) -> Response:
        information = build_identifier({"ProcedureStepState": state, "TransactionUID": self.transaction_uid})
        response = await _act(self.association, self.sop_instance_uid, CHANGE_STATE, information, PULL)
        self.state = state
        return response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state in FINAL:
            return
        if kind is None:
            await self.complete()
            return
        try:
            await self.cancel()
        except DulcetError as failure:  # what led here is what the caller must see
            log.warning("%s: the step could not be canceled: %s", self.association.peer, failure, extra=coded("DUL302"))


async def _act(association: Association, uid: str, action: int, information: Dataset, *contexts: str) -> Response:
    context = choose_context(association.contexts, *contexts)
    return (await association.n_action(PUSH, uid, action, information, context=context)).check()


def _now() -> str:
    return time.strftime("%Y%m%d%H%M%S%z")
