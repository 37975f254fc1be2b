"""Unified procedure steps as user (PS3.4 Annex CC): what is said in requests, and what events tell.

Rules: values and functions; reads no clock: `now` is a DT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet.services.identifiers import build_identifier
from dulcet.services.ups import FILTERED, GLOBAL
from dulcet.upper_layer.negotiation import PresentationContext

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "EVENTS",
    "StepEvent",
    "cancel_information",
    "canceled_item",
    "choose_context",
    "performed_item",
    "read_event",
    "subscription",
]

EVENTS: Final = {1: "state", 2: "cancel requested", 3: "progress", 4: "provider status", 5: "assigned"}
"""Words for the Event Type IDs of PS3.4 Table CC.2.4-1."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """What a provider told of a step."""

    kind: str
    """One of EVENTS."""
    sop_instance_uid: str
    dataset: Dataset
    provider: str
    """AE title of who told it."""

    @property
    def state(self) -> str:
        """Procedure Step State of a "state" event, "" of others."""
        return str(self.dataset.get("ProcedureStepState") or "")


def read_event(request: Any) -> StepEvent:
    """What a node was told by N-EVENT-REPORT."""
    kind = EVENTS.get(request.event_type, f"event {request.event_type}")
    return StepEvent(kind, request.sop_instance_uid, request.dataset, request.requestor.calling_ae_title)


def cancel_information(
    reason: str | None, code: Mapping[str, Any] | None, contact_name: str | None, contact_uri: str | None
) -> Dataset:
    """The data set of a request to cancel (Table CC.2.2-1)."""
    keys: dict[str, Any] = {
        "ReasonForCancellation": reason,
        "ProcedureStepDiscontinuationReasonCodeSequence": None if code is None else [code],
        "ContactDisplayName": contact_name,
        "ContactURI": contact_uri,
    }
    return build_identifier({keyword: value for keyword, value in keys.items() if value is not None})


def subscription(
    receiving_ae: str, sop_instance_uid: str, deletion_lock: bool, only: Mapping[str, Any] | None
) -> tuple[str, Dataset]:
    """The instance that is acted on, and the data set, of a subscription (Table CC.2.3-1)."""
    keys = {**(only or {}), "ReceivingAE": receiving_ae, "DeletionLock": "TRUE" if deletion_lock else "FALSE"}
    uid = FILTERED if only is not None and sop_instance_uid == GLOBAL else sop_instance_uid
    return uid, build_identifier(keys)


def performed_item(started: str, now: str, performed: Mapping[str, Any]) -> dict[str, Any]:
    """The item of Performed Procedure Sequence that a COMPLETED step has (Table CC.2.5-3)."""
    return {
        "PerformedProcedureStepStartDateTime": started,
        "PerformedProcedureStepEndDateTime": now,
        "OutputInformationSequence": [],
        **performed,
    }


def canceled_item(now: str, reason: str | None, code: Mapping[str, Any] | None) -> dict[str, Any]:
    """The item of Progress Information Sequence that says why a step is CANCELED (Table CC.2.5-3)."""
    item: dict[str, Any] = {"ProcedureStepCancellationDateTime": now}
    if reason is not None:
        item["ReasonForCancellation"] = reason
    if code is not None:
        item["ProcedureStepDiscontinuationReasonCodeSequence"] = [code]
    return item


def choose_context(contexts: Iterable[PresentationContext], *candidates: str) -> str:
    """The first of these SOP classes that was accepted: all of them work on instances of UPS Push (section CC.3.1)."""
    accepted = {context.abstract_syntax for context in contexts}
    return next((candidate for candidate in candidates if candidate in accepted), candidates[0])
