"""Modality performed procedure steps on a node: taking, giving and announcing them (PS3.4 sections F.7 to F.9)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING

from dulcet.dimse.status import Status
from dulcet.io.identity import new_uid
from dulcet.node.event_report_sender import EventReportSender, Report
from dulcet.node.scripts import Answer
from dulcet.services.attributes import select
from dulcet.services.mpps import (
    DELETED,
    NOTIFICATION,
    RETRIEVE,
    SOP_CLASS,
    change,
    check_creation,
    event_type,
)
from dulcet.services.proposals import UNCOMPRESSED_PREFERENCE
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.node.application import Node
    from dulcet.node.requests import NormalizedRequest

__all__ = ["MPPS"]

OnStep = Callable[[str, "Dataset"], object]


class MPPS:
    """The provider; made once, it works as long as the node does."""

    def __init__(
        self,
        node: Node,
        *,
        store: MutableMapping[str, Dataset] | None = None,
        on_begin: OnStep | None = None,
        on_change: OnStep | None = None,
        on_end: OnStep | None = None,
        notify: Iterable[str] = (),
        strict: bool = False,
        strict_end: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        """`store` maps SOP instance UIDs to steps, for example a `Datasets` file; without one they are in memory.

        `on_begin`, `on_change` and `on_end` are called with SOP instance UID and step before it is kept; what they
        raise is the answer, `Refused` with its status, anything else with 0110H.  `notify` are AE titles among the
        node's peers that hear of each change; `backoff` says when and how often they are told again, by default 12
        times in about half an hour.  `strict` refuses steps that lack attributes of type 2, `strict_end` those that
        end without what the standard asks for then.

        Raises LocalProtocolError where `node` serves already.
        """
        self.store: MutableMapping[str, Dataset] = {} if store is None else store
        self.notify: tuple[str, ...] = tuple(notify)
        self.strict = strict
        self.strict_end = strict_end
        self.event_report_sender: EventReportSender = EventReportSender(node, backoff=backoff)
        self._on_begin = on_begin
        self._on_change = on_change
        self._on_end = on_end
        self._lock = threading.RLock()
        node.on_n_create(self._create, classes=(SOP_CLASS,))
        node.on_n_set(self._set, classes=(SOP_CLASS,))
        node.on_n_get(self._get, classes=(SOP_CLASS, RETRIEVE))
        # Nobody reports to us what we provide; the class is here so that a user may propose it (F.9).
        node.extra_syntaxes.setdefault(NOTIFICATION, UNCOMPRESSED_PREFERENCE)

    def delete(self, sop_instance_uid: str) -> None:
        """Forget the step `sop_instance_uid`, and announce it (event 5); KeyError when it is not there."""
        with self._lock:
            del self.store[sop_instance_uid]
        self._announce(sop_instance_uid, DELETED)

    def _create(self, request: NormalizedRequest) -> Answer:
        check_creation(request.dataset, strict=self.strict)
        uid = request.sop_instance_uid or new_uid()
        with self._lock:
            if uid in self.store:
                raise Refused(Status.DUPLICATE_INSTANCE, "a step of this UID was created before")
            step = _plain(request.dataset)
            if self._on_begin is not None:
                self._on_begin(uid, step)
            self.store[uid] = step
        self._announce(uid, event_type(None, step))
        return Answer(Status.SUCCESS, AffectedSOPInstanceUID=uid)

    def _set(self, request: NormalizedRequest) -> None:
        uid = request.sop_instance_uid
        with self._lock:
            before = self._find(uid)
            after = change(before, request.dataset, strict=self.strict_end)
            event = event_type(before, after)
            told = self._on_change if event not in (2, 3) else self._on_end
            if told is not None:
                told(uid, after)
            self.store[uid] = after
        self._announce(uid, event)

    def _get(self, request: NormalizedRequest) -> tuple[Status, Dataset]:
        with self._lock:
            step = self._find(request.sop_instance_uid)
        return select(step, request.attributes)

    def _find(self, uid: str) -> Dataset:
        try:
            return self.store[uid]
        except KeyError:
            raise Refused(Status.NO_SUCH_INSTANCE, "no step of this UID was created here") from None

    def _announce(self, uid: str, event: int) -> None:
        for receiver in self.notify:
            self.event_report_sender.send(Report(receiver, NOTIFICATION, uid, prepare=lambda: (event, None)))


def _plain(dataset: Dataset) -> Dataset:
    """The data set without what belongs to the message it came in."""
    import pydicom

    plain = pydicom.Dataset()
    plain.update({element.tag: element for element in dataset})
    return plain
