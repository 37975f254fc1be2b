"""Modality performed procedure steps as user (PS3.4 Annex F).

async with perform_procedure_step(association, begin) as step:
    step.add_series(SeriesInstanceUID=…, ProtocolName="HEAD")
# left in order it is COMPLETED, left by an exception DISCONTINUED
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet.aio.twin import begins
from dulcet.errors import DulcetError
from dulcet.io.identity import new_uid
from dulcet.log_codes import coded
from dulcet.services.identifiers import attribute_tags, build_identifier
from dulcet.services.mpps import (
    COMPLETED,
    DISCONTINUED,
    FINAL,
    IN_PROGRESS,
    RETRIEVE,
    SOP_CLASS,
    begin_from_worklist,
    ending,
    performed_series,
)
from dulcet.services.results import Response

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dulcet.aio.association import Association

__all__ = ["ProcedureStep", "get_procedure_step", "perform_procedure_step", "step_from_worklist"]

log: Final = logging.getLogger("dulcet.association")

NOW: Final = "%Y%m%d%H%M%S"


def step_from_worklist(item: Dataset, **keys: Any) -> Dataset:
    """The N-CREATE data set of a step that performs an item of a worklist; `keys` add to it and replace.

    `item` is an answer of `find(model="worklist")`; what it does not tell is there, and empty (PS3.4 Table F.7.2-1).
    Start date and time are those of now, status is IN PROGRESS.  Raises ValueError for what is no keyword.
    """
    return begin_from_worklist(item, time.strftime(NOW), keys)


@begins
async def perform_procedure_step(
    association: Association, begin: Dataset | Mapping[str, Any], *, sop_instance_uid: str | None = None
) -> ProcedureStep:
    """Announce that a procedure step has begun (N-CREATE, PS3.4 section F.7.2.1); it ends with the block.

    `association` needs `MPPS_PROPOSALS`.  `begin` is the step's data set, as `step_from_worklist` makes it, or the same
    by keywords.  `sop_instance_uid` is that of the step, a new one where none is given.
    Raises StatusError when the peer refuses it, ValueError for what is no keyword, NoPresentationContext when it did
    not accept the class; and what ends the association.

        async with perform_procedure_step(association, step_from_worklist(item)) as step:
            step.add_series(SeriesInstanceUID="1.2.3", ProtocolName="HEAD")
    """
    dataset = build_identifier(begin) if isinstance(begin, Mapping) else begin
    uid = sop_instance_uid or new_uid()
    response = (await association.n_create(SOP_CLASS, uid, dataset)).check()
    return ProcedureStep(association, response.command.affected_sop_instance_uid or uid, dataset)


async def get_procedure_step(
    association: Association, sop_instance_uid: str, attributes: tuple[str | int, ...] = ()
) -> Dataset:
    """A step as the peer knows it (N-GET, PS3.4 section F.8).

    `association` needs `MPPS_PROPOSALS`.  `sop_instance_uid` names the step, `attributes` are keywords or tags; none
    asks for all.
    Raises StatusError when the peer does not know it, ValueError for what is no keyword, ReceiveError when the answer
    does not decode, NoPresentationContext when it did not accept the class; and what ends the association.
    """
    import pydicom

    response = (await association.n_get(RETRIEVE, sop_instance_uid, attribute_tags(attributes))).check()
    return response.dataset() or pydicom.Dataset()


class ProcedureStep:
    """A step that this side performs; as a context manager it ends with the block, by an exception DISCONTINUED.

    Made by `perform_procedure_step`.  What asks the peer raises StatusError when it refuses, ValueError for what is no
    keyword, and what ends the association.
    """

    def __init__(self, association: Association, sop_instance_uid: str, begin: Dataset) -> None:
        """To go on with a step that has begun: its `association` and `sop_instance_uid`; `begin` is its data set, of
        which the series are taken.
        """
        self.association = association
        self.sop_instance_uid = sop_instance_uid
        self.status: str = IN_PROGRESS
        self.series: list[Dataset] = list(begin.get("PerformedSeriesSequence") or ())
        """What Performed Series Sequence says when the step ends."""

    def add_series(self, series: Dataset | None = None, **keys: Any) -> Dataset:
        """Note a series for the end: at least SeriesInstanceUID and ProtocolName (PS3.4 Table F.7.2-1); its item.

        `keys` are its attributes by keyword; those of the data set `series` replace them.  ValueError for what is no
        keyword.
        """
        added = performed_series(series, keys)
        self.series.append(added)
        return added

    async def update(self, changes: Dataset | None = None, **keys: Any) -> Response:
        """Tell of changes while it is in progress (N-SET); StatusError when the peer refuses them.

        `keys` are new values by keyword; those of the data set `changes` replace them.
        """
        return await self._set(changes, keys)

    async def complete(self, changes: Dataset | None = None, **keys: Any) -> Response:
        """End it COMPLETED, now, with the series noted; `changes` and `keys` as in `update`."""
        return await self._end(COMPLETED, changes, keys)

    async def discontinue(
        self, changes: Dataset | None = None, *, reason: Mapping[str, Any] | None = None, **keys: Any
    ) -> Response:
        """End it DISCONTINUED, now; `changes` and `keys` as in `update`.

        `reason` is a code: CodeValue, CodingSchemeDesignator, CodeMeaning (CID 9300).
        """
        if reason is not None:
            keys["PerformedProcedureStepDiscontinuationReasonCodeSequence"] = [reason]
        return await self._end(DISCONTINUED, changes, keys)

    async def _end(self, status: str, changes: Dataset | None, keys: dict[str, Any]) -> Response:
        response = await self._set(changes, ending(status, time.strftime(NOW), self.series, keys, uid=new_uid()))
        self.status = status
        return response

    async def _set(self, changes: Dataset | None, keys: dict[str, Any]) -> Response:
        dataset = build_identifier(keys)
        if changes is not None:
            dataset.update(changes)
        return (await self.association.n_set(SOP_CLASS, self.sop_instance_uid, dataset)).check()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status in FINAL:
            return
        if kind is None:
            await self.complete()
            return
        try:
            await self.discontinue()
        except DulcetError as failure:  # what led here is what the caller must see
            log.warning(
                "%s: the step could not be discontinued: %s", self.association.peer, failure, extra=coded("DUL301")
            )
