"""Operations with several responses, and who takes what they bring.

Rule: iterators and no generators, so that leaving one early is known at once and not when the loop gets round to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Self

from dulcet.aio.disk import Disk
from dulcet.aio.mailbox import Mailbox
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.io.answers import Answers
from dulcet.io.store_directory import StoreDirectory
from dulcet.services.invocations import Invocation
from dulcet.services.results import Response

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from dulcet.aio.operations import Operations
    from dulcet.aio.requests import IncomingRequest

__all__ = ["Conversation", "Keeper", "Matches"]


class Conversation(AsyncIterator[Response]):
    """All responses of an operation; leaving early cancels it and waits for its end."""

    def __init__(self, association: Operations, invocation: Callable[[], Invocation]) -> None:
        self._association = association
        self._invocation = invocation
        self._mailbox = Mailbox(association)
        self._operation: Operation | None = None
        self._over = False

    async def __anext__(self) -> Response:
        if self._over:
            raise StopAsyncIteration
        association = self._association
        try:
            if self._operation is None:
                self._operation = await association._invoke(self._invocation(), self._mailbox)
            event = await self._mailbox.get()
        except BaseException:
            self.leave()
            raise
        self._over = event.is_final
        return association._response(event)

    def leave(self) -> None:
        """Cancel it, unless it has ended; what it still brings is thrown away."""
        if not self._over:
            self._over = True
            if self._operation is not None:
                self._association._leave(self._operation, self._mailbox, cancel=True)

    async def aclose(self) -> None:
        """Leave, and wait for the end."""
        self.leave()
        await self._association._settled()

    def __del__(self) -> None:
        if not self._over and not self._association._loop.is_closed():
            self.leave()


class Matches(AsyncIterator["Dataset"]):
    """The data sets of the pending responses of a C-FIND."""

    def __init__(self, conversation: Conversation, answers: Answers) -> None:
        self._conversation = conversation
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


class Keeper:
    """Takes instances that come: into a folder, or to a handler."""

    def __init__(self, directory: StoreDirectory | None, handler: Callable[[Any], object] | None) -> None:
        self.received: list[Path] = []
        self.handler = handler
        self._directory = directory
        self._own = False

    @classmethod
    def of(cls, to: Any) -> Keeper:
        if isinstance(to, StoreDirectory):
            return cls(to, None)
        if callable(to):
            return cls(None, to)
        keeper = cls(StoreDirectory(to), None)
        keeper._own = True
        return keeper

    async def __call__(self, request: IncomingRequest) -> None:
        if request.field == CommandField.C_ECHO_RQ:
            await request.respond(Status.SUCCESS)
        elif request.field != CommandField.C_STORE_RQ:
            await request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))
        elif self.handler is not None:
            await request.association._call(self.handler, request)
        else:
            assert self._directory is not None
            path = await request.save(self._directory)
            await request.respond(Status.SUCCESS)
            self.received.append(path)

    async def close(self) -> None:
        if self._own and self._directory is not None:
            await Disk.of(asyncio.get_running_loop()).do(self._directory.close)
