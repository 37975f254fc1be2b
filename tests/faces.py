"""One text for every face: a behaviour is written with `await`, and runs on threads, asyncio and uvloop.

Rules: names and parameters are the library's own, nothing is translated; on the blocking face each call is made at once
and its result awaited without ever suspending; a provider runs beside the user, in threads or in a loop of its own, so
any two faces can meet; whatever goes wrong in a provider goes wrong in the test; every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

import dulcet
import dulcet.aio
from dulcet.blocking.receiver import Receiver

PATIENCE = 30.0
"""Seconds after which a test has failed."""

ADDRESS = "PROVIDER@127.0.0.1:0"

Handler = Callable[[Any], Awaitable[object]]


# ---------------------------------------------------------------------- the blocking face, awaited


class Done:
    """The result of a call that was made already."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        return self.value
        yield


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise AssertionError("something was awaited that is not the blocking face's")


class Awaited:
    """An object of the blocking face under the names of the asyncio one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value) or not is_awaited(type(self.inner), name):
            return wrapped(value)

        @functools.wraps(value)
        def call(*arguments: Any, **options: Any) -> Any:
            result = value(*arguments, **{key: plain(option) for key, option in options.items()})
            if hasattr(result, "__next__"):
                return Iterated(result)
            return Done(wrapped(result))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "inner":
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner, name, plain(value))

    async def __aenter__(self) -> Awaited:
        self.inner.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)


def is_awaited(kind: type, name: str) -> bool:
    """Whether the asyncio twin of a method is awaited or iterated over."""
    twin = getattr(getattr(dulcet.aio, kind.__name__.lstrip("_"), dulcet.aio.Association), name)
    annotation = str(inspect.signature(twin).return_annotation)
    return inspect.iscoroutinefunction(twin) or annotation.startswith(("Awaitable", "AsyncIterator"))


class Iterated:
    """An iterator of the blocking face, for `async for`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __aiter__(self) -> Iterated:
        return self

    async def __anext__(self) -> Any:
        try:
            return wrapped(next(self.inner))
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.inner.close()


def wrapped(value: Any) -> Any:
    kinds = (dulcet.Association, dulcet.IncomingRequest)
    return Awaited(value) if isinstance(value, kinds) else value


def plain(value: Any) -> Any:
    """An async handler as the blocking face takes it."""
    if inspect.iscoroutinefunction(value):
        return lambda request: at_once(value(wrapped(request)))
    return value


# ---------------------------------------------------------------------- faces


@dataclass
class Provider:
    """Where it listens, and how it went."""

    address: str = ""
    endings: list[str | None] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    """What was raised in scripts and handlers."""
    finish: Callable[[], None] = lambda: None
    """Wait until every association is over."""


class Blocking:
    """`dulcet.associate` in the test's thread, `dulcet.listen` and `Receiver` in others."""

    name = "blocking"
    concurrent = False
    """Whether several operations of one association can be awaited at once."""

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        at_once(test)

    @contextlib.asynccontextmanager
    async def associate(self, address: str, **options: Any) -> AsyncIterator[Any]:
        with dulcet.associate(address, **{key: plain(value) for key, value in options.items()}) as association:
            yield Awaited(association)

    @contextlib.contextmanager
    def handling(self, handler: Handler, **options: Any) -> Iterator[Provider]:
        provider = Provider()
        with Receiver(ADDRESS, plain(reported(handler, provider)), **options) as receiver:
            provider.address = str(receiver.address)
            provider.finish = lambda: until(lambda: not receiver._alive)
            yield provider
            provider.finish()

    @contextlib.contextmanager
    def accepting(self, script: Handler, **options: Any) -> Iterator[Provider]:
        provider = Provider()
        threads: list[threading.Thread] = []
        with dulcet.listen(ADDRESS, **options) as listener:
            provider.address = str(listener.address)

            def serve(association: dulcet.Association) -> None:
                try:
                    with association:
                        at_once(script(Awaited(association)))
                except BaseException as error:
                    provider.errors.append(error)
                finally:
                    provider.endings.append(association.ending)

            def accept() -> None:
                for association in listener:
                    threads.append(threading.Thread(target=serve, args=(association,), daemon=True))
                    threads[-1].start()

            accepting = threading.Thread(target=accept, daemon=True)
            accepting.start()
            provider.finish = lambda: until(lambda: all(not thread.is_alive() for thread in list(threads)))
            yield provider
            provider.finish()
        accepting.join(PATIENCE)
        assert not accepting.is_alive()


class Aio:
    """`dulcet.aio` on a loop of one kind, the provider's in a thread of its own."""

    concurrent = True

    def __init__(self, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.name = name
        self.new_loop = new_loop

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test
            await tasks_gone()

        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            runner.run(bounded())

    def associate(self, address: str, **options: Any) -> Any:
        return dulcet.aio.associate(address, **options)

    @contextlib.contextmanager
    def handling(self, handler: Handler, **options: Any) -> Iterator[Provider]:
        provider = Provider()

        @contextlib.asynccontextmanager
        async def serve() -> AsyncIterator[dulcet.aio.Server]:
            async with dulcet.aio.serve(ADDRESS, reported(handler, provider), **options) as server:
                yield server

        with self._beside(serve, provider):
            yield provider

    @contextlib.contextmanager
    def accepting(self, script: Handler, **options: Any) -> Iterator[Provider]:
        provider = Provider()

        async def serve(association: dulcet.aio.Association) -> None:
            try:
                async with association:
                    await script(association)
            except Exception as error:
                provider.errors.append(error)
            finally:
                provider.endings.append(association.ending)

        @contextlib.asynccontextmanager
        async def accept() -> AsyncIterator[dulcet.aio.Server]:
            async with dulcet.aio.serve(ADDRESS, **options) as server, asyncio.TaskGroup() as group:

                async def each() -> None:
                    async for association in server:
                        group.create_task(serve(association))

                group.create_task(each())
                yield server
                await server.close()

        with self._beside(accept, provider):
            yield provider

    @contextlib.contextmanager
    def _beside(self, serve: Callable[[], Any], provider: Provider) -> Iterator[None]:
        """Run a server in a loop in a thread."""
        started, stop = threading.Event(), threading.Event()
        failures: list[BaseException] = []

        async def main() -> None:
            async with asyncio.timeout(2 * PATIENCE), serve() as server:
                provider.address = str(server.address)
                provider.finish = lambda: until(lambda: not server._alive and not server._tasks)
                started.set()
                await asyncio.get_running_loop().run_in_executor(None, stop.wait)
            await tasks_gone()

        def thread() -> None:
            try:
                with asyncio.Runner(loop_factory=self.new_loop) as runner:
                    runner.run(main())
            except BaseException as error:
                failures.append(error)
            finally:
                started.set()

        running = threading.Thread(target=thread, daemon=True)
        running.start()
        assert started.wait(PATIENCE)
        try:
            if not failures:
                yield
                provider.finish()
        finally:
            stop.set()
            running.join(PATIENCE)
            assert not running.is_alive(), "the server does not stop"
            for failure in failures:
                raise failure


FACES = {
    "blocking": Blocking(),
    "asyncio": Aio("asyncio", asyncio.new_event_loop),
    "uvloop": Aio("uvloop", uvloop.new_event_loop),
}
PAIRS = [
    ("blocking", "blocking"),
    ("asyncio", "asyncio"),
    ("uvloop", "uvloop"),
    ("asyncio", "blocking"),
    ("blocking", "uvloop"),
]


@dataclass(frozen=True)
class Faces:
    """Who uses and who provides."""

    user: Any
    provider: Any

    def associate(self, address: str, **options: Any) -> Any:
        """`associate` of the user's face, as an async context manager."""
        return self.user.associate(address, **options)

    def handling(self, handler: Handler, **options: Any) -> Any:
        """A provider that hands every request to an async function."""
        return self.provider.handling(handler, **options)

    def accepting(self, script: Handler, **options: Any) -> Any:
        """A provider that runs an async function for each association."""
        return self.provider.accepting(script, **options)


def on_each_face(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test function for each pair of faces."""

    @pytest.mark.parametrize("faces", [Faces(FACES[a], FACES[b]) for a, b in PAIRS], ids=[f"{a}-{b}" for a, b in PAIRS])
    @functools.wraps(test)
    def run(*, faces: Faces, **fixtures: Any) -> None:
        faces.user.run(test(faces=faces, **fixtures))

    return run


# ---------------------------------------------------------------------- waiting


def until(condition: Callable[[], bool]) -> None:
    """Wait, in a thread that may, for what another thread brings about."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come about")


async def tasks_gone() -> None:
    """Nothing of the library is left running in this loop."""
    own = asyncio.current_task()
    for _ in range(100):
        left = {task for task in asyncio.all_tasks() if task is not own}
        if not left:
            return
        await asyncio.wait(left, timeout=0.05)
    raise AssertionError(f"left running: {left}")


def reported(handler: Handler, provider: Provider) -> Handler:
    """The handler, its exceptions kept for the test to look at."""

    async def handle(request: Any) -> None:
        try:
            await handler(request)
        except BaseException as error:
            provider.errors.append(error)
            logging.getLogger("tests.faces").debug("raised by a handler", exc_info=True)
            raise

    return handle
