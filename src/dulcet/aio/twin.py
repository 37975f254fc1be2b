"""What the two faces do differently, under one name: the service users that are generated for both are written with it.

Rule: `dulcet.blocking.twin` has the same names; there they wait in the caller's thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from dulcet.aio.association import Association
from dulcet.aio.threads import disk, handlers

__all__ = [
    "AwaitableContext",
    "Background",
    "BegunOnEntry",
    "Changed",
    "Latch",
    "begins",
    "call",
    "event_handler",
    "is_async",
    "on_disk",
    "saw_nothing",
    "share",
]

Begun = TypeVar("Begun", bound=AbstractAsyncContextManager[Any])
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


class AwaitableContext(Generic[Begun]):
    """What begins with a question to the peer and ends with another: await its beginning, or enter it."""

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


def begins(
    function: Callable[Parameters, Coroutine[Any, Any, Begun]],
) -> Callable[Parameters, AwaitableContext[Begun]]:
    """Make an `AwaitableContext` of what a coroutine function returns."""

    @functools.wraps(function)
    def begin(*args: Parameters.args, **keywords: Parameters.kwargs) -> AwaitableContext[Begun]:
        return AwaitableContext(function(*args, **keywords))

    return begin


class BegunOnEntry:
    """A context manager that asks the peer when it is awaited or entered, once."""

    _is_begun = False

    def _start(self) -> None:
        """The last line of `__init__`: nothing is asked there."""

    async def _begin(self) -> None:
        raise NotImplementedError

    async def _once(self) -> Self:
        if not self._is_begun:
            await self._begin()
            self._is_begun = True
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._once().__await__()

    async def __aenter__(self) -> Self:
        return await self._once()


class Changed(asyncio.Condition):
    """A condition whose waits end."""

    async def wait_for_change(self, seconds: float | None) -> bool:
        """Wait for a notification, the condition being held; False when `seconds` have passed without one."""
        if seconds is not None and seconds <= 0:
            return False
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Latch(asyncio.Event):
    """An event whose waits end."""

    async def wait_at_most(self, seconds: float) -> bool:
        """True once it is set; False after `seconds`."""
        if not self.is_set() and seconds > 0:
            try:
                await asyncio.wait_for(self.wait(), seconds)
            except TimeoutError:
                return False
        return self.is_set()


class Background:
    """Work beside that of the caller."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._task = asyncio.create_task(work(), name=name)

    async def join(self) -> None:
        """Wait for its end."""
        await self._task


def is_async(function: Callable[..., object]) -> bool:
    """True for `async def`, and for an object that is called like one."""
    return any(inspect.iscoroutinefunction(one) for one in (function, getattr(function, "__call__", None)))  # noqa: B004


async def call(function: Callable[[Any], object], argument: Any) -> None:
    """Call a function of the application; a plain one is called in a thread, for it may wait."""
    if is_async(function):
        called: Any = function(argument)
    else:
        called = await asyncio.get_running_loop().run_in_executor(handlers, function, argument)
    if inspect.isawaitable(called):
        await called


def event_handler(hear: Callable[[Any], object], read: Callable[[Any], Any]) -> Callable[[Any], Awaitable[None] | None]:
    """A node's handler that gives what `read` makes of each request to `hear`."""

    async def handle(request: Any) -> None:
        await call(hear, read(request))

    def handle_in_thread(request: Any) -> None:
        hear(read(request))

    return handle if is_async(hear) else handle_in_thread


async def on_disk(function: Callable[[Any], Result], argument: Any) -> Result:
    """Call what may wait for the disk, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(disk, function, argument)


def saw_nothing(association: Association) -> bool:
    """True while nothing unexpected came on an idle association; here it is told as it comes."""
    return association.is_established


def share(association: Association) -> None:
    """Have a wait on this association end when somebody else has what is waited for; here any task can."""
