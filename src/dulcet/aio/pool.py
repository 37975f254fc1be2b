"""A pool of associations for tasks: `async with pool.associate("ARCHIVE@host:port") as association`."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, Self

from dulcet.aio.association import Association, associate
from dulcet.aio.twin import Background, Changed, saw_nothing
from dulcet.config import AssociationConfig
from dulcet.errors import AssociationRefused, DulcetError
from dulcet.services.pooling import Chooser, Entry
from dulcet.services.proposals import DEFAULT_PROPOSALS
from dulcet.services.retrying import Backoff
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import UserIdentityRQ
from dulcet.upper_layer.negotiation import Proposal

__all__ = ["Pool"]

LONGEST_PAUSE: Final = 30.0
"""Seconds that no pause exceeds."""


class Pool:
    """Associations that are used again: by peer and contexts, released when idle, never after anything went wrong."""

    def __init__(
        self,
        *,
        calling_ae_title: str = "DULCET",
        per_peer: int = 4,
        idle: float = 30.0,
        attempts: int = 5,
        pause: float = 0.2,
        config: AssociationConfig | None = None,
        identity: UserIdentityRQ | None = None,
    ) -> None:
        """Associations are made as `calling_ae_title`, with `config` and `identity` as in `associate`.

        `per_peer` associations at once with one peer, released after `idle` seconds without use; a transient refusal
        (result 2) is tried again up to `attempts` times in all, with growing, jittered pauses from `pause` seconds on.
        Raises ValueError for `per_peer` or `attempts` below 1.
        """
        if per_peer < 1 or attempts < 1:
            raise ValueError(f"per_peer is {per_peer}, attempts is {attempts}: at least 1 each")
        self.calling_ae_title = calling_ae_title
        self.attempts = attempts
        self.pause = pause
        self.config: AssociationConfig = config or AssociationConfig()
        self.identity = identity
        # Half of a pause is fixed, of the other half chance adds its share.
        self._backoff = Backoff(pause / 2, LONGEST_PAUSE / 2, spread=1.0, attempts=attempts)
        self._chooser: Chooser[Association] = Chooser(per_peer, idle)
        self._changed = Changed()
        self._closed = False
        self._sweeper: Background | None = None

    @contextlib.asynccontextmanager
    async def associate(
        self, address: str | Address, *, contexts: Iterable[Proposal] | None = None, timeout: float | None = None
    ) -> AsyncIterator[Association]:
        """An association for the time of the block: an idle one that has all `contexts`, or a new one.

        `address` is `AET@host:port` or an `Address`; `contexts` are as in `associate`.  A block that ends in an
        exception aborts it, and it is not used again.
        Waits for one to come back where the peer's limit is reached, `timeout` seconds at most (TimeoutError), None for
        as long as it takes.  Raises what `associate` raises, and RuntimeError once the pool is closed.
        """
        address = Address.parse(address)
        wanted = list(DEFAULT_PROPOSALS if contexts is None else contexts)
        entry = await self._take(address, wanted, None if timeout is None else time.monotonic() + timeout)
        try:
            yield entry.association
        except BaseException:
            await entry.association.abort()
            await self._give_back(entry)
            raise
        await self._give_back(entry)

    async def close(self) -> None:
        """Release what is idle; what is in use is released when it comes back."""
        async with self._changed:
            self._closed = True
            idle = [entry for entry in self._chooser.entries if entry.idle_since is not None]
            for entry in idle:
                self._chooser.entries.remove(entry)
            self._changed.notify_all()
        await _release(idle)
        if self._sweeper is not None:
            await self._sweeper.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _take(self, address: Address, wanted: list[Proposal], deadline: float | None) -> Entry[Association]:
        while True:
            async with self._changed:
                if self._closed:
                    raise RuntimeError("the pool is closed")
                decision = self._chooser.choose(address, wanted)
                if decision.entry is None and not decision.open:
                    left = None if deadline is None else deadline - time.monotonic()
                    if not await self._changed.wait_for_change(left):
                        raise TimeoutError(f"all {self._chooser.per_peer} associations with {address} are in use")
                    continue
            if decision.evict is not None:
                await _release([decision.evict])
            if decision.open:
                return await self._open(address, wanted)
            assert decision.entry is not None
            if saw_nothing(decision.entry.association) and _is_quiet(decision.entry.association):
                return decision.entry
            await self._drop(decision.entry)  # the peer ended it, or said what nobody asked, while nobody looked

    async def _open(self, address: Address, wanted: list[Proposal]) -> Entry[Association]:
        entry: Entry[Association] | None = None
        try:
            association = await self._associate(address, wanted)
            entry = Entry(address, association, tuple(association.contexts), proposed=tuple(wanted))
            return entry
        finally:
            async with self._changed:
                self._chooser.opened(entry, address)
                self._changed.notify_all()

    async def _associate(self, address: Address, wanted: list[Proposal]) -> Association:
        for attempt in itertools.count(1):
            try:
                return await associate(
                    address,
                    calling_ae_title=self.calling_ae_title,
                    contexts=wanted,
                    config=self.config,
                    identity=self.identity,
                )
            except AssociationRefused as error:
                pause = self._backoff.pause(attempt, random.random())
                if not error.transient or pause is None:
                    raise
            until = time.monotonic() + pause
            async with self._changed:
                while not self._closed and await self._changed.wait_for_change(until - time.monotonic()):
                    pass
                if self._closed:
                    raise RuntimeError("the pool is closed")
        raise AssertionError("unreachable: the back-off ends")

    async def _give_back(self, entry: Entry[Association]) -> None:
        if not _is_quiet(entry.association):
            await self._drop(entry)
            return
        async with self._changed:
            keep = not self._closed
            self._chooser.give_back(entry, time.monotonic(), usable=keep)
            self._changed.notify_all()
            if keep and self._sweeper is None:
                self._sweeper = Background(self._sweep, "dulcet-pool")
        if not keep:
            await _release([entry])

    async def _drop(self, entry: Entry[Association]) -> None:
        """It is not used again; its place is free once the peer was told."""
        if entry.association.ending is None:
            await entry.association.abort()
        async with self._changed:
            self._chooser.give_back(entry, time.monotonic(), usable=False)
            self._changed.notify_all()

    async def _sweep(self) -> None:
        """Release what nobody used for long."""
        while True:
            async with self._changed:
                if self._closed:
                    return
                deadline = self._chooser.next_deadline()
                left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
                await self._changed.wait_for_change(left)
                overdue = self._chooser.overdue(time.monotonic())
            await _release(overdue)


def _is_quiet(association: Association) -> bool:
    """True while it stands, nothing is owed by either side, and no message has begun."""
    core = association._core
    return association.is_established and not (core.outstanding or core.performing or core.mid_message)


async def _release(entries: Iterable[Entry[Association]]) -> None:
    for entry in entries:
        with contextlib.suppress(DulcetError):
            await entry.association.release()
