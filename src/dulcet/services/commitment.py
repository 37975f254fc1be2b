"""Storage commitment, push model (PS3.4 Annex J): requests, results, and what decides between them.

Rules: values and functions; a transaction is decided once and then only reported; what a peer sends is checked before
anything of it is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.log_codes import coded
from dulcet.services.attributes import is_empty
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "COMMITMENT_PROPOSALS",
    "CommitmentResult",
    "Reference",
    "Transaction",
    "action_information",
    "check_request",
    "decide",
    "event_information",
    "read_report",
]

log: Final = logging.getLogger("dulcet.node")

SOP_CLASS: Final = uids.STORAGE_COMMITMENT_PUSH_MODEL
SOP_INSTANCE: Final = uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
"""The one well-known instance (PS3.4 section J.3.5)."""

REQUEST_STORAGE_COMMITMENT: Final = 1
"""Action Type ID (PS3.4 Table J.3-1)."""
ALL_COMMITTED: Final = 1
FAILURES_EXIST: Final = 2
"""Event Type IDs (PS3.4 Table J.3-2)."""

REASONS: Final = frozenset((0x0110, 0x0112, 0x0119, 0x0122, 0x0131, 0x0213))
"""Failure Reason (0008,1197) of PS3.3 section C.14.1.1: processing failure, no such instance, class/instance conflict,
class not supported, duplicate transaction UID, resource limitation."""

COMMITMENT_PROPOSALS: Final = tuple(proposals((SOP_CLASS,)))
"""What to propose for `request_commitment`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that is to be kept: `sop_class_uid` and `sop_instance_uid`, as it was sent."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A request as its provider remembers it."""

    uid: str
    requestor: str
    """AE title of whoever asked, to whom the result goes."""
    references: tuple[Reference, ...]
    failures: tuple[tuple[Reference, int], ...] | None = None
    """With their reasons; None until it is decided."""
    attempts: int = 0
    """How often reporting failed."""

    @property
    def committed(self) -> tuple[Reference, ...]:
        """Those that are safe."""
        failed = {reference for reference, _ in self.failures or ()}
        return tuple(reference for reference in self.references if reference not in failed)


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What the provider said of a transaction."""

    transaction_uid: str
    """Transaction UID (0008,1195), that of the request."""
    committed: tuple[Reference, ...]
    """Those that are safe."""
    failed: tuple[tuple[Reference, int], ...]
    """With Failure Reason (0008,1197)."""

    @property
    def ok(self) -> bool:
        """True when every instance is safe: only now may the sender delete its own."""
        return not self.failed

    def check(self) -> CommitmentResult:
        """This result when `ok`; StatusError with the first reason otherwise."""
        if self.failed:
            reason = Status(self.failed[0][1])
            raise StatusError(
                f"storage commitment: {len(self.failed)} of {len(self.failed) + len(self.committed)} instances are not "
                f"safe, the first because of {int(reason):04X}H {reason.meaning('commitment')}",
                int(reason),
            )
        return self


def action_information(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """The data set of the request (PS3.4 Table J.3-1); ValueError when it names no instance."""
    sequence = _sequence(references)
    if not sequence:
        raise ValueError("storage commitment needs at least one instance")
    return build_identifier({"TransactionUID": transaction_uid, "ReferencedSOPSequence": sequence})


def check_request(
    action_type: int | None, sop_instance_uid: str, dataset: Dataset
) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and instances of a request; Refused when it is none.

    0123H another action, 0112H another instance than the well-known one, 0115H no Transaction UID or no instances.
    """
    if action_type != REQUEST_STORAGE_COMMITMENT:
        raise Refused(Status.NO_SUCH_ACTION, f"action {action_type}; storage commitment knows 1")
    if sop_instance_uid != SOP_INSTANCE:
        raise Refused(Status.NO_SUCH_INSTANCE, f"the one instance is {SOP_INSTANCE}")
    uid = _uid(dataset, "TransactionUID")
    if not uid:
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "TransactionUID is missing")
    references = tuple(_references(dataset, "ReferencedSOPSequence"))
    if not references:
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "ReferencedSOPSequence is missing or empty")
    if not all(reference.sop_class_uid and reference.sop_instance_uid for reference in references):
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "an item of ReferencedSOPSequence lacks its UIDs")
    return uid, tuple(dict.fromkeys(references))


def decide(transaction: Transaction, exists: Callable[[Reference], bool | int]) -> Transaction:
    """The transaction with the failures that `exists` found.

    It answers True for what is safe, False for what is not there (0112H), or a Failure Reason; when it raises, or says
    something else, the reason is 0110H.
    """
    failures: list[tuple[Reference, int]] = []
    for reference in transaction.references:
        try:
            answer: Any = exists(reference)
        except Exception:
            log.exception(
                "storage commitment: whether an instance is safe could not be found out", extra=coded("DUL509")
            )
            answer = int(Status.PROCESSING_FAILURE)
        if answer is True:
            continue
        if answer is False or answer is None:
            answer = int(Status.NO_SUCH_INSTANCE)
        reason = int(answer) if isinstance(answer, int) else -1
        if reason not in REASONS:
            log.error("storage commitment: %r is no Failure Reason; 0110H is reported", answer, extra=coded("DUL510"))
            reason = int(Status.PROCESSING_FAILURE)
        failures.append((reference, reason))
    return replace(transaction, failures=tuple(failures))


def event_information(transaction: Transaction, *, retrieve_ae_title: str | None = None) -> tuple[int, Dataset]:
    """Event Type ID and data set of the report (PS3.4 Table J.3-2); `retrieve_ae_title` is where the instances are."""
    assert transaction.failures is not None
    keys: dict[str, Any] = {"TransactionUID": transaction.uid}
    if retrieve_ae_title is not None:
        keys["RetrieveAETitle"] = retrieve_ae_title
    if transaction.committed:
        keys["ReferencedSOPSequence"] = _sequence(transaction.committed)
    if transaction.failures:
        keys["FailedSOPSequence"] = [
            {**item, "FailureReason": reason}
            for item, (_, reason) in zip(_sequence(found for found, _ in transaction.failures), transaction.failures)
        ]
    return FAILURES_EXIST if transaction.failures else ALL_COMMITTED, build_identifier(keys)


def read_report(event_type: int | None, dataset: Dataset) -> CommitmentResult:
    """The result in a report; Refused when it is none: 0113H another event, 0115H no Transaction UID.

    What a provider says is read as it is: event 1 with failed instances is a failure all the same.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise Refused(Status.NO_SUCH_EVENT_TYPE, f"event {event_type}; storage commitment knows 1 and 2")
    uid = _uid(dataset, "TransactionUID")
    if not uid:
        raise Refused(Status.INVALID_ARGUMENT_VALUE, "TransactionUID is missing")
    failed = tuple(
        (reference, int(item.get("FailureReason") or Status.PROCESSING_FAILURE))
        for item, reference in zip(dataset.get("FailedSOPSequence") or (), _references(dataset, "FailedSOPSequence"))
    )
    return CommitmentResult(uid, tuple(_references(dataset, "ReferencedSOPSequence")), failed)


def _sequence(references: Iterable[Reference]) -> list[dict[str, Any]]:
    return [
        {"ReferencedSOPClassUID": reference.sop_class_uid, "ReferencedSOPInstanceUID": reference.sop_instance_uid}
        for reference in references
    ]


def _references(dataset: Dataset, keyword: str) -> Iterable[Reference]:
    for item in dataset.get(keyword) or ():
        yield Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if is_empty(value) else str(value).strip(" \0")
