"""What is to be sent, looked at in time: enough at first to know its contexts, the rest while the peer is busy.

Rules: those of `dulcet.io.store_queue`, whose limits these are; one task reads the source, a few instances ahead at
most, and threads look at them, so that answers never wait for the next instance.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from dulcet.aio.store_channel import Results, WorkQueue
from dulcet.aio.threads import disk
from dulcet.errors import InstanceError
from dulcet.io import store_queue as limits
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.walking import is_folder, walk
from dulcet.services.results import Sent

__all__ = ["StoreQueue"]

EXAMINED_AT_ONCE: Final = 64
"""Instances that one trip to a thread looks at, and the seconds that the loop waits for their names."""
NAMING_SECONDS: Final = 0.02


class StoreQueue:
    """Instances in batches, and those that follow while a batch is sent."""

    def __init__(
        self,
        sources: Iterable[InstanceSource] | AsyncIterable[InstanceSource],
        results: Results,
        *,
        ahead: bool = False,
    ) -> None:
        """What cannot be sent goes to `results`; `ahead`: the first batch is small, and `follow` will be asked."""
        self._sources = Sources(sources)
        self._results = results
        self._ahead = ahead
        self._limit = limits.FIRST if ahead else limits.BATCH
        self._found: deque[tuple[InstanceSource, Instance | InstanceError]] = deque()  # looked at, not yet given
        self._aside: list[Instance] = []  # not to be sent with those that were on their way
        self._error: BaseException | None = None
        self._looks_ahead = False
        self._sent_some = False
        self._wanted = asyncio.Event()
        self._came = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def batch(self) -> list[Instance]:
        """The next ones to plan associations for, none at the end; raises what the source raised."""
        batch, self._aside = self._aside, []
        limit, self._limit = min(self._limit, limits.BATCH), limits.BATCH
        if len(batch) >= limit:
            return batch
        held = sum(len(instance.data) for instance in batch if instance.data is not None)
        full = time.monotonic() + limits.BATCH_SECONDS
        while await self._arrival():
            source, found = self._found.popleft()
            if isinstance(found, InstanceError):
                await self._results.put(Sent(source, None, found))
                continue
            batch.append(found)
            held += 0 if found.data is None else len(found.data)
            self._looks_ahead = self._ahead and held < limits.BATCH_MEMORY and time.monotonic() < full
            if len(batch) >= limit or held >= limits.BATCH_MEMORY or time.monotonic() >= full:
                break
        else:
            # What came before the error is sent before it is raised, once anything was sent at all.
            if self._error is not None and not (batch and self._sent_some):
                raise self._error
        self._sent_some = True
        if self._looks_ahead:
            self._wanted.set()
        return batch

    async def follow(self, carries: Callable[[tuple[str, str]], bool], work_queue: WorkQueue, wait: bool) -> bool:
        """Add the next ones where an association that `carries` their class and syntax can take them; keep
        those others for a batch.  False when no more will follow.
        """
        most = min(limits.FIRST, limits.BATCH)
        if not self._looks_ahead or len(self._aside) >= most:
            return False
        if wait:
            asked = time.monotonic()
            if not await self._arrival():
                self._looks_ahead = False
                return False
            self._looks_ahead = time.monotonic() - asked < limits.BATCH_SECONDS
        while self._found and len(self._aside) < most:
            source, found = self._found.popleft()
            if isinstance(found, InstanceError):
                await self._results.put(Sent(source, None, found))
            elif carries((found.sop_class_uid, found.transfer_syntax)):
                work_queue.add(found)
            else:
                self._aside.append(found)
        if self._looks_ahead and not self._found:
            self._wanted.set()
        return True

    async def close(self) -> None:
        """Read no more."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _arrival(self) -> bool:
        """Wait until something was found; False at the end of the source."""
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="dulcet-store-queue")
        while not self._found:
            if self._reader.done():
                return False
            self._came.clear()
            self._wanted.set()
            await self._came.wait()
        return True

    async def _read(self) -> None:
        """The task that reads: one trip to a thread for each time that more is wanted."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if not (some := await self._sources.take()):
                    break
                for source, found in zip(some, await loop.run_in_executor(disk, look_at, some)):
                    if found is None:
                        self._sources.put_first(source)
                    else:
                        self._found.append((source, found))
                if self._found:
                    self._came.set()
                else:
                    self._wanted.set()  # folders alone
        except BaseException as error:
            self._error = error
        finally:
            loop.call_soon(self._came.set)  # when this task is done


class Sources:
    """What is to be sent, a few at a time."""

    def __init__(self, what: Iterable[InstanceSource] | AsyncIterable[InstanceSource]) -> None:
        self._async: AsyncIterator[InstanceSource] | None = None
        self._iterator: Iterator[InstanceSource] = iter(())
        self._error: Exception | None = None
        self._folders: deque[Iterator[str]] = deque()
        if isinstance(what, AsyncIterable):
            self._async = aiter(what)
        else:
            self._iterator = iter(what)

    def put_first(self, folder: InstanceSource) -> None:
        """The files below a folder come next."""
        self._folders.append(walk(folder))  # type: ignore[arg-type]  # what is a folder was a path

    async def take(self) -> list[InstanceSource]:
        """The next few; none at the end.  An error of the source's own is raised once what it gave was taken."""
        while self._folders:  # reading these may take long
            some = await asyncio.get_running_loop().run_in_executor(disk, _few, self._folders[0])
            if some:
                return some
            self._folders.popleft()
        if self._error is not None:
            raise self._error
        taken: list[InstanceSource] = []
        try:
            await self._fill(taken, time.monotonic() + NAMING_SECONDS)
        except Exception as error:
            if not taken:
                raise
            self._error = error
        return taken

    async def _fill(self, taken: list[InstanceSource], until: float) -> None:
        if self._async is None:
            for source in itertools.islice(self._iterator, EXAMINED_AT_ONCE):
                taken.append(source)
                if time.monotonic() >= until:
                    return
            return
        async for source in self._async:
            taken.append(source)
            if len(taken) >= EXAMINED_AT_ONCE or time.monotonic() >= until:
                return


def _few(files: Iterator[str]) -> list[InstanceSource]:
    return list(itertools.islice(files, EXAMINED_AT_ONCE))


def look_at(sources: Sequence[Any]) -> list[Instance | InstanceError | None]:
    """Each examined, or why it cannot be sent; None for a folder."""
    found: list[Instance | InstanceError | None] = []
    for source in sources:
        try:
            found.append(examine(source))
        except InstanceError as error:
            found.append(None if is_folder(source) else error)
    return found
