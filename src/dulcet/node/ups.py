"""Unified procedure steps on a node: push, pull, watch, query and event (PS3.4 Annex CC).

Rule: one request at a time changes steps and subscriptions; the events that tell of it go out in the order of changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Final

from dulcet.dimse.status import Status
from dulcet.io.identity import new_uid
from dulcet.node.event_report_sender import EventReportSender, Report
from dulcet.node.scripts import Answer
from dulcet.services.attributes import select
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import UNCOMPRESSED_PREFERENCE
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff
from dulcet.services.subscriptions import Subscriptions
from dulcet.services.ups import (
    CANCEL_REQUESTED,
    CHANGE_STATE,
    EVENT,
    FILTERED,
    FINAL,
    GLOBAL,
    PROVIDER_STATUS,
    PULL,
    PUSH,
    QUERY,
    REQUEST_CANCEL,
    SUBSCRIBE,
    SUSPEND,
    UNSUBSCRIBE,
    WATCH,
    Transition,
    change_state,
    create,
    modify,
    request_cancel,
    state_of,
    state_report,
    step_matcher,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.node.application import Node
    from dulcet.node.requests import FindRequest, NormalizedRequest
    from dulcet.services.matching import Matcher
    from dulcet.services.ups import Event

__all__ = ["UnifiedProcedureSteps"]

HIDDEN: Final = ("TransactionUID",)
GLOBALS: Final = frozenset((GLOBAL, FILTERED))

OnStep = Callable[[str, "Dataset"], object]
OnCancel = Callable[[str, "Dataset", "Dataset"], "bool | None"]


class UnifiedProcedureSteps:
    """The provider; made once, it works as long as the node does.  Its methods are for the application itself."""

    def __init__(
        self,
        node: Node,
        *,
        store: MutableMapping[str, Dataset] | None = None,
        on_change: OnStep | None = None,
        on_cancel_request: OnCancel | None = None,
        strict: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        """`store` maps SOP instance UIDs to steps, for example a `Datasets` file; without one they are in memory.
        Who receives events is one of the peers of `node`; `backoff` says when and how often an event is sent again that
        was not taken, by default 12 times in about half an hour.

        `on_change` is called with UID and step before a change is kept; what it raises is the answer.
        `on_cancel_request(uid, step, information)` is asked when this application performs steps itself: True when it
        stops, False when it will not (C313H), None when the step is not its own.
        `strict` refuses steps that lack attributes of type 2.

        Raises LocalProtocolError where `node` serves already.
        """
        self.node = node
        self.store: MutableMapping[str, Dataset] = {} if store is None else store
        self.subscriptions: Subscriptions = Subscriptions()
        self.strict = strict
        self.event_report_sender: EventReportSender = EventReportSender(node, backoff=backoff)
        self._on_change = on_change
        self._on_cancel_request = on_cancel_request
        self._lock = threading.RLock()
        classes = (PUSH, PULL, WATCH)
        node.on_n_create(self._created, classes=classes)
        node.on_n_set(self._set, classes=classes)
        node.on_n_get(self._get, classes=classes)
        node.on_n_action(self._action, classes=classes)
        node.on_find(self._find, models=("ups", "ups-watch", "ups-query"))
        for sop_class in (PUSH, PULL, WATCH, QUERY, EVENT):
            node.extra_syntaxes.setdefault(sop_class, UNCOMPRESSED_PREFERENCE)

    # ------------------------------------------------------------------ for the application

    def create(self, dataset: Dataset, sop_instance_uid: str | None = None) -> str:
        """Make a step (section CC.2.5.3) of the attributes in `dataset`; its UID.

        `sop_instance_uid` is the UID it gets, None for a new one.  Raises Refused with the status that an N-CREATE
        would be answered with.
        """
        return self._create(dataset, sop_instance_uid)[0]

    def get(self, sop_instance_uid: str) -> Dataset:
        """The step `sop_instance_uid`, its lock included; KeyError when there is none."""
        with self._lock:
            return self.store[sop_instance_uid]

    def change_state(self, sop_instance_uid: str, state: str, transaction_uid: str) -> Status:
        """Change a step's state as an N-ACTION of type 1 does (section CC.2.1); success or a warning.

        `state` is what the step `sop_instance_uid` becomes, IN PROGRESS, COMPLETED or CANCELED.  `transaction_uid` is
        its lock (0008,1195): a new UID to take it, the same one to end it.  Raises Refused with the status that the
        N-ACTION would be answered with.
        """
        information = build_identifier({"ProcedureStepState": state, "TransactionUID": transaction_uid})
        return self._change(sop_instance_uid, lambda step: change_state(step, information, now=_now()))

    def set(self, sop_instance_uid: str, changes: Dataset) -> Status:
        """Change the step `sop_instance_uid` as an N-SET does (section CC.2.6).

        `changes` are the attributes, the lock of a step that is in progress among them.  Raises Refused with the status
        that the N-SET would be answered with.
        """
        return self._change(sop_instance_uid, lambda step: modify(step, changes, now=_now()))

    def delete(self, sop_instance_uid: str) -> bool:
        """Forget the step `sop_instance_uid`, which has ended; False when it has not, or somebody holds a deletion lock
        (section CC.2.1.3), or there is none.
        """
        with self._lock:
            step = self.store.get(sop_instance_uid)
            if step is None or state_of(step) not in FINAL or self.subscriptions.is_locked(sop_instance_uid):
                return False
            del self.store[sop_instance_uid]
            self.subscriptions.deleted(sop_instance_uid)
            return True

    def announce(self, status: str, *, subscriptions: str = "COLD START", steps: str = "COLD START") -> None:
        """Tell who is subscribed globally that the provider's `status` is RESTARTED or GOING DOWN (event 4).

        Of the lists of `subscriptions` and of `steps`, one that was kept is a WARM START, else a COLD START (Table
        CC.2.4-1).
        """
        report = build_identifier(
            {
                "SCPStatus": status,
                "SubscriptionListStatus": subscriptions,
                "UnifiedProcedureStepListStatus": steps,
            }
        )
        with self._lock:
            for receiver in self.subscriptions.global_receivers():
                self._report(receiver, GLOBAL, (PROVIDER_STATUS, report))

    # ------------------------------------------------------------------ handlers

    def _created(self, request: NormalizedRequest) -> Answer:
        uid, status = self._create(request.dataset, request.sop_instance_uid or None)
        return Answer(status, AffectedSOPInstanceUID=uid)

    def _set(self, request: NormalizedRequest) -> Status:
        return self.set(request.sop_instance_uid, request.dataset)

    def _get(self, request: NormalizedRequest) -> tuple[Status, Dataset]:
        with self._lock:
            step = self.store.get(request.sop_instance_uid)
        if step is None:
            raise Refused(Status.UPS_NO_SUCH_INSTANCE)
        return select(step, request.attributes, hidden=HIDDEN)

    def _find(self, request: FindRequest) -> Iterator[Dataset]:
        matcher = step_matcher(request.identifier)
        with self._lock:
            steps = list(self.store.values())
        for step in steps:
            if matcher.matches(step):
                yield matcher.answer(step)

    def _action(self, request: NormalizedRequest) -> Status:
        uid, information = request.sop_instance_uid, request.dataset
        action = ACTIONS.get(request.action_type or 0)
        if action is None:
            raise Refused(Status.NO_SUCH_ACTION, f"action {request.action_type}; a UPS knows 1 to 5")
        return action(self, uid, information, request.requestor.calling_ae_title)

    # ------------------------------------------------------------------ actions

    def _change_state(self, uid: str, information: Dataset, requestor: str) -> Status:
        _not_global(uid)
        return self._change(uid, lambda step: change_state(step, information, now=_now()))

    def _request_cancel(self, uid: str, information: Dataset, requestor: str) -> Status:
        _not_global(uid)

        def cancel(step: Dataset | None) -> Transition:
            transition = request_cancel(step, information, requestor=requestor, now=_now())
            if transition.events and transition.events[0][0] == CANCEL_REQUESTED:
                told = bool(self.subscriptions.receivers(uid))
                own = self._on_cancel_request
                verdict = own(uid, transition.step, transition.events[0][1]) if own is not None else None
                if verdict is False:
                    raise Refused(Status.UPS_PERFORMER_DECLINES)
                if verdict is None and not told:
                    raise Refused(Status.UPS_PERFORMER_UNREACHABLE, "nobody is subscribed who could cancel the step")
            return transition

        return self._change(uid, cancel)

    def _subscribe(self, uid: str, information: Dataset, requestor: str) -> Status:
        receiver, lock = self._receiver(information), _lock(information)
        with self._lock:
            if uid in GLOBALS:
                only = _filter(information) if uid == FILTERED else None
                told = self.subscriptions.subscribe_globally(receiver, self.store, lock=lock, only=only)
            else:
                self._step(uid)
                self.subscriptions.subscribe(uid, receiver, lock=lock)
                told = [uid]
            for found in told:
                self._report(receiver, found, state_report(self.store[found]))
        return Status.SUCCESS

    def _unsubscribe(self, uid: str, information: Dataset, requestor: str) -> Status:
        receiver = self._receiver(information)
        with self._lock:
            if uid in GLOBALS:
                self.subscriptions.unsubscribe_globally(receiver)
            else:
                self._step(uid)
                self.subscriptions.unsubscribe(uid, receiver)
        return Status.SUCCESS

    def _suspend(self, uid: str, information: Dataset, requestor: str) -> Status:
        if uid not in GLOBALS:
            raise Refused(Status.UPS_ACTION_NOT_APPROPRIATE, "only a global subscription can be suspended")
        with self._lock:
            self.subscriptions.suspend(self._receiver(information))
        return Status.SUCCESS

    def _receiver(self, information: Dataset) -> str:
        """Receiving AE (0074,1234), whoever asks; it must be one that we can reach."""
        receiver = str(information.get("ReceivingAE") or "").strip()
        if not receiver:
            raise Refused(Status.INVALID_ARGUMENT_VALUE, "ReceivingAE is missing")
        if receiver not in self.node.peers:
            who = ascii(receiver)[1:-1]
            raise Refused(Status.UPS_UNKNOWN_RECEIVER, f"{who} is no known peer here; add it to its table")
        return receiver

    # ------------------------------------------------------------------ changes and events

    def _create(self, dataset: Dataset, uid: str | None) -> tuple[str, Status]:
        uid = uid or new_uid()
        if uid in GLOBALS:
            raise Refused(Status.INVALID_INSTANCE, "a well-known UID of subscriptions is no step")
        with self._lock:
            transition = create(dataset, self.store.get(uid), uid, now=_now(), strict=self.strict)
            self._keep(uid, transition)
            self.subscriptions.created(uid, transition.step)
            self._tell(uid, transition.events)
        return uid, transition.status

    def _change(self, uid: str, change: Callable[[Dataset | None], Transition]) -> Status:
        with self._lock:
            before = self.store.get(uid)
            transition = change(before)
            if transition.step is not before:
                self._keep(uid, transition)
            self._tell(uid, transition.events)
        return transition.status

    def _keep(self, uid: str, transition: Transition) -> None:
        if self._on_change is not None:
            self._on_change(uid, transition.step)
        self.store[uid] = transition.step

    def _step(self, uid: str) -> Dataset:
        step = self.store.get(uid)
        if step is None:
            raise Refused(Status.UPS_NO_SUCH_INSTANCE)
        return step

    def _tell(self, uid: str, events: tuple[Event, ...]) -> None:
        for receiver in self.subscriptions.receivers(uid):
            for event in events:
                self._report(receiver, uid, event)

    def _report(self, receiver: str, uid: str, event: Event) -> None:
        self.event_report_sender.send(Report(receiver, PUSH, uid, prepare=lambda: event, context=EVENT))


Action = Callable[[UnifiedProcedureSteps, str, "Dataset", str], Status]

ACTIONS: Final[dict[int, Action]] = {
    CHANGE_STATE: UnifiedProcedureSteps._change_state,
    REQUEST_CANCEL: UnifiedProcedureSteps._request_cancel,
    SUBSCRIBE: UnifiedProcedureSteps._subscribe,
    UNSUBSCRIBE: UnifiedProcedureSteps._unsubscribe,
    SUSPEND: UnifiedProcedureSteps._suspend,
}


def _not_global(uid: str) -> None:
    if uid in GLOBALS:
        raise Refused(Status.UPS_ACTION_NOT_APPROPRIATE, "a well-known UID of subscriptions is no step")


def _lock(information: Dataset) -> bool:
    """Deletion Lock (0074,1230)."""
    value = str(information.get("DeletionLock") or "").strip()
    if value not in ("TRUE", "FALSE"):
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "DeletionLock must be TRUE or FALSE")
    return value == "TRUE"


def _filter(information: Dataset) -> Matcher:
    """The matching keys of a filtered global subscription (section CC.2.3.3.1)."""
    import pydicom

    keys = pydicom.Dataset()
    keys.update(
        {element.tag: element for element in information if element.keyword not in ("ReceivingAE", "DeletionLock")}
    )
    return step_matcher(keys)


def _now() -> str:
    """This moment as a DT, with its offset from UTC."""
    return time.strftime("%Y%m%d%H%M%S%z")
