"""Operations with several responses, and who takes what they bring.

Rule: iterators and no generators, so that leaving one early is known at once and not when the loop gets round to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Self

from dulcet.aio.response_queue import ResponseQueue
from dulcet.dimse.operations import Operation
from dulcet.io.answers import Answers
from dulcet.services.invocations import Invocation
from dulcet.services.results import Response, response_of

if TYPE_CHECKING:

    from pydicom.dataset import Dataset

    from dulcet.aio.operations import Operations
    from dulcet.services.origin import Origin

__all__ = ["Matches", "OperationStream"]


class OperationStream(AsyncIterator[Response]):
    """All responses of an operation; leaving early cancels it and waits for its end."""

    def __init__(
        self, association: Operations, invocation: Callable[[], Invocation], origin: Origin | None = None
    ) -> None:
        self._origin = origin
        self._association = association
        self._invocation = invocation
        self._response_queue = ResponseQueue(association)
        self._operation: Operation | None = None
        self._over = False

    async def __anext__(self) -> Response:
        if self._over:
            raise StopAsyncIteration
        association = self._association
        try:
            if self._operation is None:
                self._operation = await association._invoke(self._invocation(), self._response_queue)
                if self._origin is not None:
                    self._origin.message_id = self._operation.message_id
            event = await self._response_queue.get()
        except BaseException:
            self.leave()
            raise
        self._over = event.is_final
        return response_of(event)

    def leave(self) -> None:
        """Cancel it, unless it has ended; what it still brings is thrown away."""
        if not self._over:
            self._over = True
            if self._operation is not None:
                self._association._leave(self._operation, self._response_queue, cancel=True)

    async def aclose(self) -> None:
        """Leave, and wait for the end."""
        self.leave()
        await self._association._settled()

    def __del__(self) -> None:
        if not self._over and not self._association._loop.is_closed():
            self.leave()


class Matches(AsyncIterator["Dataset"]):
    """The data sets of the pending responses of a C-FIND."""

    def __init__(self, operation_stream: OperationStream, answers: Answers) -> None:
        self._conversation = operation_stream
        self._answers = answers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Dataset:
        answers = self._answers
        while not answers.enough:
            try:
                response = await anext(self._conversation)
            except StopAsyncIteration:
                break
            if (match := answers.take(response)) is not None:
                return match
        if answers.enough:
            await self._conversation.aclose()
        answers.check()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it early: C-CANCEL, and wait for the final response."""
        await self._conversation.aclose()
