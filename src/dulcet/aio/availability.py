"""Instance availability notification as user (PS3.4 Annex R)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dulcet.io.identity import new_uid
from dulcet.services.availability import SOP_CLASS, AvailableInstance, notifications

if TYPE_CHECKING:
    from dulcet.aio.association import Association

__all__ = ["notify_availability"]


async def notify_availability(
    association: Association,
    instances: Iterable[AvailableInstance],
    *,
    procedure_step: tuple[str, str] | None = None,
) -> int:
    """Tell the peer where instances are (N-CREATE, PS3.4 Annex R), in one message for each study: how many that were.

    `association` needs `AVAILABILITY_PROPOSALS`.  `instances` are `AvailableInstance`s, of any studies.
    `procedure_step` is SOP class and instance UID of the performed procedure step that they belong to, None for none.
    Raises StatusError when the peer refuses one: the studies after it are not told; NoPresentationContext when it did
    not accept the class; and what ends the association.
    """
    count = 0
    for dataset in notifications(instances, procedure_step=procedure_step):
        (await association.n_create(SOP_CLASS, new_uid(), dataset)).check()
        count += 1
    return count
