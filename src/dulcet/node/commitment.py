"""Storage commitment on a node (PS3.4 Annex J).

Rules: a request is answered with success once its transaction is kept; the result is found after that, and reported
until the requestor has taken it, also after a restart where the store is a file.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from dulcet.dimse.status import Status
from dulcet.errors import DulcetError
from dulcet.log_codes import coded
from dulcet.node.actions import Call, ReportHere
from dulcet.node.event_report_sender import TRY_AGAIN, EventReportSender, Report
from dulcet.node.scripts import Answer, Script
from dulcet.node.transactions import MemoryTransactions, TransactionStore
from dulcet.services.commitment import (
    SOP_CLASS,
    SOP_INSTANCE,
    Reference,
    Transaction,
    check_request,
    decide,
    event_information,
)
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff

if TYPE_CHECKING:
    from dulcet.node.application import Node
    from dulcet.node.requests import NormalizedRequest

__all__ = ["StorageCommitment"]

log: Final = logging.getLogger("dulcet.node")

PATIENCE: Final = Backoff(first=2.0, longest=3600.0, attempts=100)
"""A requestor may be away for days: about 90 hours of trying, hourly in the end."""

LOOKS: Final = 1.0
"""Seconds between two looks for transactions that other processes took."""


class StorageCommitment:
    """The push model as provider; made once, it works as long as the node does."""

    def __init__(
        self,
        node: Node,
        exists: Callable[[Reference], bool | int],
        *,
        store: TransactionStore | None = None,
        report: Literal["auto", "same", "other"] = "auto",
        retrieve_ae_title: str | None = None,
        backoff: Backoff = PATIENCE,
        among: Literal["reporting", "leaving"] | None = None,
    ) -> None:
        """`exists(reference)` says whether an instance is safe: True, False, or a Failure Reason; a plain function that
        any thread may call.  `store` keeps the transactions; without one they are in memory.
        `retrieve_ae_title` is where results say the instances are, Retrieve AE Title (0008,0054); None says nothing.

        `report` is where results go: on the `same` association first, always on an `other` one to the requestor's
        address in the node's peers, or (`auto`) on another one where that address is known.
        `among` several processes with one store, one is `reporting` on such other associations for all of them, and
        looks for what there is; the others are `leaving` it to that one.
        `backoff` says when and how often a result is reported again that was not taken: by default for some 90 hours,
        hourly in the end.

        Raises TypeError where `exists` is async, LocalProtocolError where `node` serves already.
        """
        if inspect.iscoroutinefunction(exists):
            raise TypeError("exists must be a plain function: results are found in threads, also after a restart")
        self.node = node
        self.exists = exists
        self.store: TransactionStore = MemoryTransactions() if store is None else store
        self.report = report
        self.retrieve_ae_title = retrieve_ae_title
        self.event_report_sender: EventReportSender = EventReportSender(node, backoff=backoff)
        self._lock = threading.Lock()
        self._underway: set[str] = set()
        self._among = among
        self._stopping = threading.Event()
        self._looking: threading.Thread | None = None
        node.on_n_action(self._requested, classes=(SOP_CLASS,))
        node.companions.append(self)

    def start(self) -> None:
        """Take up what a former run left open."""
        if self._among is None:
            for transaction in self.store.open():
                self._send(transaction)
        elif self._among == "reporting" and self._looking is None:
            self._stopping.clear()
            self._looking = threading.Thread(target=self._look, name="dulcet-commitment", daemon=True)
            self._looking.start()

    def stop(self, seconds: float) -> None:
        """What is open stays in the store; a look for more that is under way may take `seconds` to end."""
        looking, self._looking = self._looking, None
        if looking is not None:
            self._stopping.set()
            looking.join(seconds)

    def _look(self) -> None:
        """Report what any of the processes took for those who have an address; in a thread of its own."""
        while True:
            try:
                with self._lock:  # what is being closed is out of the store first, and then no longer under way
                    found = [one for one in self.store.open() if self._reports_elsewhere(one)]
                    found = [one for one in found if one.uid not in self._underway]
                    self._underway.update(one.uid for one in found)
            except Exception:
                log.exception("the open transactions cannot be read; tried again", extra=coded("DUL511"))
                found = []
            for transaction in found:
                self._report(transaction)
            if self._stopping.wait(LOOKS):
                return

    def _reports_elsewhere(self, transaction: Transaction) -> bool:
        return self.report == "other" or (self.report == "auto" and transaction.requestor in self.node.peers)

    def _requested(self, request: NormalizedRequest) -> Answer:
        uid, references = check_request(request.action_type, request.sop_instance_uid, request.dataset)
        transaction = Transaction(uid=uid, requestor=request.requestor.calling_ae_title, references=references)
        if not self.store.add(transaction):
            raise Refused(Status.DUPLICATE_TRANSACTION_UID, "this TransactionUID was used before")
        return Answer(Status.SUCCESS, then=lambda: self._after(transaction))

    _requested.reports_here = True  # type: ignore[attr-defined]

    def _after(self, transaction: Transaction) -> Script:
        """After the response: report here, or leave it to the sender of reports."""
        if self._reports_elsewhere(transaction):
            if self._among is None:  # else it is found in the store
                yield Call(self._send, transaction, here=True)
            return
        decided: Transaction = yield Call(self._decided, transaction, here=True)
        event_type, information = event_information(decided, retrieve_ae_title=self.retrieve_ae_title)
        try:
            response = yield ReportHere(SOP_CLASS, SOP_INSTANCE, event_type, information)
            if response.status not in TRY_AGAIN:
                yield Call(self._reported, (decided, response.status), here=True)
                return
        except DulcetError as error:
            log.info(
                "%s: the result goes on another association: %s", ascii(transaction.requestor), error,
                extra=coded("DUL501"),
            )  # fmt: skip
        yield Call(self._send, decided, here=True)

    def _decided(self, transaction: Transaction) -> Transaction:
        if transaction.failures is None:
            transaction = decide(transaction, self.exists)
            self.store.update(transaction)
        return transaction

    def _send(self, transaction: Transaction) -> None:
        """Report on an association of its own, now and until it is taken."""
        with self._lock:
            if transaction.uid in self._underway:
                return  # from the time before the node was stopped and started again
            self._underway.add(transaction.uid)
        self._report(transaction)

    def _report(self, transaction: Transaction) -> None:
        current = transaction

        def prepare() -> tuple[int, Any]:
            nonlocal current
            current = self._decided(current)
            return event_information(current, retrieve_ae_title=self.retrieve_ae_title)

        def failed(report: Report) -> None:
            nonlocal current
            current = replace(current, attempts=report.failures)
            self.store.update(current)

        def done(report: Report, status: Status | None) -> None:
            self._reported((current, status))

        self.event_report_sender.send(
            Report(
                transaction.requestor,
                SOP_CLASS,
                SOP_INSTANCE,
                prepare=prepare,
                done=done,
                failed=failed,
                failures=transaction.attempts,
            )
        )

    def _reported(self, outcome: tuple[Transaction, Status | None]) -> None:
        transaction, status = outcome
        if status is None:
            log.error(
                "%s: the result of a transaction could not be delivered", ascii(transaction.requestor),
                extra=coded("DUL502"),
            )  # fmt: skip
        elif not status.is_success:
            log.warning(
                "%s: answered the result of a transaction with %s", ascii(transaction.requestor), status,
                extra=coded("DUL503"),
            )  # fmt: skip
        self.store.close(transaction.uid)
        with self._lock:
            self._underway.discard(transaction.uid)
