"""What begins with a question to the peer and ends with another: await its beginning, or enter it."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["Beginning"]

Begun = TypeVar("Begun", bound=AbstractAsyncContextManager[Any])


class Beginning(Generic[Begun]):
    """A step to be begun."""

    def __init__(self, work: Coroutine[Any, Any, Begun]) -> None:
        self._work = work
        self._begun: Begun | None = None

    def __await__(self) -> Generator[Any, None, Begun]:
        return self._work.__await__()

    async def __aenter__(self) -> Begun:
        self._begun = await self._work
        await self._begun.__aenter__()
        return self._begun

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._begun is not None
        await self._begun.__aexit__(kind, error, trace)
