"""Async tests on asyncio's loop and on uvloop; what they leave behind is a failure."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from tests.faces import PATIENCE, tasks_gone

import dulcet.aio

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test function on each loop, bounded; no task and no descriptor may be left."""

    def run(*, loop: str, **fixtures: Any) -> None:
        async def bounded() -> None:
            before = descriptors()
            async with asyncio.timeout(PATIENCE):
                await test(**fixtures)
            await tasks_gone()
            for _ in range(200):
                if descriptors() <= before:
                    return
                await asyncio.sleep(0.01)
            assert descriptors() <= before

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(bounded())

    keyword = inspect.Parameter.KEYWORD_ONLY
    fixtures = [one.replace(kind=keyword) for one in inspect.signature(test).parameters.values()]
    functools.update_wrapper(run, test)
    run.__signature__ = inspect.Signature([*fixtures, inspect.Parameter("loop", keyword)])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop", LOOPS)(run)


def descriptors() -> int:
    """Open descriptors of this process; a loop keeps one of /dev/null for the day when it has no other left."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}") != "/dev/null"
    return count


@contextlib.asynccontextmanager
async def standing(
    handler: Callable[..., Any] | None = None, *, server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[dulcet.aio.Association, dulcet.aio.Association]]:
    """Both ends of an association in one loop: the requestor's and the acceptor's."""
    async with (
        dulcet.aio.serve("HERE@127.0.0.1:0", handler, **(server or {})) as serving,
        dulcet.aio.associate(str(serving.address), **options) as association,
    ):
        if handler is None:
            other = await serving.accept(10)
        else:
            [other] = serving._alive
        assert other is not None
        yield association, other


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has come about."""
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")
