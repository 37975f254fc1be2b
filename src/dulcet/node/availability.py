"""Instance availability on a node (PS3.4 Annex R): hearing of instances that can be got somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dulcet.dimse.status import Status
from dulcet.io.identity import new_uid
from dulcet.node.scripts import Answer
from dulcet.services.availability import SOP_CLASS, AvailableInstance, read_notification

if TYPE_CHECKING:
    from dulcet.node.application import Node
    from dulcet.node.requests import NormalizedRequest

__all__ = ["InstanceAvailability"]


class InstanceAvailability:
    """The provider, which keeps nothing itself; made once, it works as long as the node does."""

    def __init__(self, node: Node, hear: Callable[[list[AvailableInstance]], object], *, strict: bool = False) -> None:
        """`hear` gets the instances of each notification; what it raises is the answer, `Refused` with its status,
        anything else with 0110H.  `strict` refuses notifications that lack attributes of type 2.

        Raises LocalProtocolError where `node` serves already.
        """
        self.hear = hear
        self.strict = strict
        node.on_n_create(self._create, classes=(SOP_CLASS,))

    def _create(self, request: NormalizedRequest) -> Answer:
        self.hear(read_notification(request.dataset, strict=self.strict))
        return Answer(Status.SUCCESS, AffectedSOPInstanceUID=request.sop_instance_uid or new_uid())
