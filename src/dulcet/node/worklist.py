"""A modality worklist on a node (PS3.4 Annex K)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dulcet.dimse.status import Status
from dulcet.services.worklist import worklist_matcher

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.node.application import Node
    from dulcet.node.requests import FindRequest

__all__ = ["Worklist"]


class Worklist:
    """Answers worklist queries from data sets; made once, it works as long as the node does."""

    def __init__(
        self,
        node: Node,
        items: Iterable[Dataset] | Callable[[FindRequest], Iterable[Dataset]],
        *,
        fold_names: bool = True,
    ) -> None:
        """`items` are the scheduled procedure steps, one data set with one item of Scheduled Procedure Step Sequence
        each: a collection that may change between two queries, or a function that gives them for a request; of what it
        gives, what matches is answered.  `fold_names` matches names without regard to case and accents.

        Values of return keys (PS3.4 Table K.6-1), as Pregnancy Status, are not matched; the answers bear FF01H then.
        Raises LocalProtocolError where `node` serves already.
        """
        self.items: Any = items
        self.fold_names = fold_names
        node.on_find(self._answer, models=("worklist",))

    def _answer(self, request: FindRequest) -> Iterator[tuple[Status, Dataset]]:
        matcher = worklist_matcher(request.identifier, fold_names=self.fold_names)
        items: Iterable[Dataset] = self.items(request) if callable(self.items) else tuple(self.items)
        # PS3.4 Table K.4-1: FF01H says that an optional key was not matched, as its value asked for.
        status = Status.PENDING_WARNING if matcher.unmatched else Status.PENDING
        for item in items:
            if matcher.matches(item):
                yield status, matcher.answer(item)
