"""Where the responses to an operation wait for the task that asked.

Rule: a slow consumer slows the peer down and not our memory, unless somebody else waits for what lies behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from dulcet.dimse.events import ResponseReceived
from dulcet.services.invocations import KEPT_BYTES, RESPONSE_COST

if TYPE_CHECKING:
    from dulcet.aio.operations import Operations

__all__ = ["ResponseQueue"]

KEPT: Final = 64
"""Responses that wait for their consumer before the peer has to: some loop turns' worth of a fast C-FIND."""


class ResponseQueue:
    """The responses to one operation, or to all those of one sender, in the order of their coming."""

    __slots__ = ("_association", "_bytes", "_future", "_responses", "abandoned")

    def __init__(self, association: Operations) -> None:
        self._association = association
        self._responses: deque[ResponseReceived] = deque()
        self._bytes = 0
        self._future: asyncio.Future[None] | None = None
        self.abandoned: bool = False
        """True once nobody will ask for what still comes."""

    @property
    def is_awaited(self) -> bool:
        """True while somebody waits for the next response."""
        return self._future is not None

    @property
    def has_responses(self) -> bool:
        """True when `get` does not wait."""
        return bool(self._responses)

    @property
    def is_full(self) -> bool:
        """True while the next response had better not come."""
        if len(self._responses) < KEPT:
            return False
        return self._bytes >= KEPT_BYTES or not self._association._somebody_waits()

    def put(self, event: ResponseReceived) -> None:
        """A response came."""
        if self.abandoned:
            return
        self._responses.append(event)
        self._bytes += RESPONSE_COST + len(event.data or b"")
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)
        elif len(self._responses) >= KEPT and self.is_full:
            self._association._hold_for(self)

    def abandon(self) -> None:
        """Keep nothing of it."""
        self.abandoned = True
        self._responses.clear()
        self._bytes = 0
        self._association._emptied(self)

    async def get(self) -> ResponseReceived:
        """The next response; raises how the association ended when none will come."""
        association = self._association
        while not self._responses:
            association._check_usable()
            self._future = association._loop.create_future()
            association._reconsider()
            try:
                await association._suspend(self._future)
            finally:
                self._future = None
        event = self._responses.popleft()
        self._bytes -= RESPONSE_COST + len(event.data or b"")
        if len(self._responses) < KEPT // 2:
            association._emptied(self)
        return event
