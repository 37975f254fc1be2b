"""Storage commitment as user (PS3.4 Annex J): ask, and wait for a result that may come on any association.

commitments = Commitments(node)                       # results on associations that the provider makes come to it
pending = await request_commitment(association, files, results=commitments)
(await pending.wait(60)).check()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from dulcet.aio.association import Association
from dulcet.aio.serving import look_again, serve_until, take_events
from dulcet.aio.twin import Latch, call, on_disk, share
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout
from dulcet.io.identity import new_uid
from dulcet.io.references import reference
from dulcet.services.commitment import (
    REQUEST_STORAGE_COMMITMENT,
    SOP_CLASS,
    SOP_INSTANCE,
    CommitmentResult,
    Reference,
    action_information,
    read_report,
)
from dulcet.services.listening import EventListener
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from dulcet.aio.requests import IncomingRequest

__all__ = ["Commitments", "PendingCommitment", "request_commitment"]


class Commitments:
    """The transactions that are waited for, and the results that came; for the tasks of one loop, the node's too."""

    def __init__(
        self, node: EventListener | None = None, *, on_result: Callable[[CommitmentResult], object] | None = None
    ) -> None:
        """`node` listens for results that providers report on associations of their own: a `Node`, or what has its
        `on_n_event_report`.  `on_result` gets each result, those of transactions of a former run too; without it these
        are answered with 0115H.  Where it raises, the provider is told that it failed, and may report again.
        """
        self.on_result = on_result
        self.listens: bool = node is not None
        self._pending: dict[str, PendingCommitment] = {}
        if node is not None:
            node.on_n_event_report(self._reported, classes=(SOP_CLASS,))

    async def _reported(self, request: Any) -> None:
        """The handler of a node."""
        await _take((self,), request.event_type, request.dataset)

    async def _resolve(self, result: CommitmentResult) -> bool:
        """Give a result to who waits for it; False when nobody does."""
        pending = self._pending.get(result.transaction_uid)
        if pending is None:
            return False
        if self.on_result is not None:
            await call(self.on_result, result)  # where it raises, the provider reports again
        self._pending.pop(result.transaction_uid, None)
        pending.result = result
        pending._wake()
        return True


async def _take(registries: Sequence[Commitments], event_type: int | None, dataset: Any) -> None:
    """A report came: Refused when it is none, or nobody knows its transaction."""
    result = read_report(event_type, dataset)
    for commitments in registries:
        if await commitments._resolve(result):
            return
    for commitments in registries:
        if commitments.on_result is not None:
            await call(commitments.on_result, result)
            return
    raise Refused(Status.INVALID_ARGUMENT_VALUE, "no such transaction")


class _Heard:
    """Who waits for results that come on an association; kept by its handler, so that both go together."""

    def __init__(self) -> None:
        self.own = Commitments()  # of those who brought none
        self.registries = [self.own]

    async def take(self, request: IncomingRequest, dataset: Any) -> None:
        await _take(self.registries, request.command.event_type_id, dataset)


_heard: Final[WeakKeyDictionary[Association, ReferenceType[_Heard]]] = WeakKeyDictionary()


class PendingCommitment:
    """A request that was taken, and whose result is still to come."""

    def __init__(self, transaction_uid: str, commitments: Commitments, association: Association) -> None:
        """For `request_commitment`: `transaction_uid` is what the result names, `commitments` what waits for it,
        `association` where it was asked.
        """
        self.transaction_uid = transaction_uid
        self.result: CommitmentResult | None = None
        """What the provider said; None as long as it said nothing."""
        self._commitments = commitments
        self._association = association
        self._came = Latch()

    async def wait(self, timeout: float) -> CommitmentResult | None:
        """The result; None when none came within `timeout` seconds, which is no answer: wait again, or ask again.

        Serves the association in the meantime, so use it in the thread that uses the association.  Raises what ended
        the association when the result cannot come on another one.
        """
        deadline = time.monotonic() + timeout
        association, commitments = self._association, self._commitments
        if association.is_established:
            try:
                await serve_until(association, lambda: self.result is not None, timeout)
            except (AssociationError, DimseTimeout):
                if self.result is None and not commitments.listens:
                    raise
        elif self.result is None and not commitments.listens:
            association._check_usable()
        await self._came.wait_at_most(deadline - time.monotonic())
        return self.result

    def _wake(self) -> None:
        self._came.set()
        look_again(self._association)


async def request_commitment(
    association: Association,
    instances: Iterable[Any],
    *,
    results: Commitments | None = None,
    transaction_uid: str | None = None,
) -> PendingCommitment:
    """Ask the peer to answer for instances (PS3.4 section J.3.2): what it says comes later, on any association.

    `association` needs `COMMITMENT_PROPOSALS`.  `instances` are paths, data sets, results of `store`, `Reference`s, or
    pairs of SOP class and instance UID; each is asked for once.
    `results` is needed where the peer reports on an association of its own.  `transaction_uid` names the request, a new
    UID where none is given; give one to know the result after a restart.
    Raises StatusError when the peer refuses, ValueError for no instances, InstanceError for a file that is none,
    NoPresentationContext when the peer did not accept the class; and what ends the association.
    """
    references = await on_disk(_references, instances)
    uid = transaction_uid or new_uid()
    commitments = _hear(association, results)
    pending = PendingCommitment(uid, commitments, association)
    commitments._pending[uid] = pending
    share(association)
    try:
        response = await association.n_action(
            SOP_CLASS, SOP_INSTANCE, REQUEST_STORAGE_COMMITMENT, action_information(uid, references)
        )
        response.check()
    except BaseException:
        commitments._pending.pop(uid, None)
        raise
    return pending


def _hear(association: Association, commitments: Commitments | None) -> Commitments:
    """Have the results that come on an association given to those who asked on it."""
    known = _heard.get(association)
    heard = None if known is None else known()
    if heard is None:
        heard = _Heard()
        _heard[association] = ref(heard)
        take_events(association, frozenset((SOP_CLASS,)), heard.take)
    if commitments is None:
        return heard.own
    if commitments not in heard.registries:
        heard.registries.append(commitments)
    return commitments


def _references(instances: Iterable[Any]) -> list[Reference]:
    return list(dict.fromkeys(reference(instance) for instance in instances))
