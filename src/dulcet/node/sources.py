"""What a handler gives to be sent by C-GET or C-MOVE: it ends when the peer cancels; what it raises is kept for later.

Rule: who takes from it and who closes it may be two threads; the handler's own iterator is never in both at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from dulcet.log_codes import coded
from dulcet.node.requests import Request

__all__ = ["AsyncSource", "Source"]

log: Final = logging.getLogger("dulcet.node")


class Source:
    """From a plain handler."""

    def __init__(self, request: Request, items: Iterable[Any]) -> None:
        self.failure: Exception | None = None
        self._items = iter(items)
        self._request = request
        self._taking = threading.Lock()
        self._closing = threading.Event()

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        with self._taking:
            if self._request.cancelled or self.failure is not None or self._closing.is_set():
                raise StopIteration
            try:
                return next(self._items)
            except StopIteration:
                raise
            except Exception as error:
                self.failure = error
                raise StopIteration from None
            finally:
                if self._closing.is_set():
                    self._close()

    def close(self) -> None:
        """Give nothing more, and let the handler clean up: now, or when the thread that takes from it comes back."""
        self._closing.set()
        if self._taking.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._taking.release()

    def _close(self) -> None:
        close = getattr(self._items, "close", None)
        if callable(close):
            try:
                close()
            except Exception:  # a fault in that does not change the answer
                log.exception("an iterator of a handler cannot be closed", extra=coded("DUL214"))


class AsyncSource:
    """From an async handler."""

    def __init__(self, request: Request, items: AsyncIterator[Any]) -> None:
        self.failure: Exception | None = None
        self._items = items
        self._request = request
        self._taking = False
        self._closing = threading.Event()

    def __aiter__(self) -> AsyncSource:
        return self

    async def __anext__(self) -> Any:
        if self._request.cancelled or self.failure is not None or self._closing.is_set():
            raise StopAsyncIteration
        self._taking = True
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise StopAsyncIteration from None
        finally:
            self._taking = False
            if self._closing.is_set():
                await self._close()

    async def aclose(self) -> None:
        """Give nothing more, and let the handler clean up: now, or when what is awaited of it has come."""
        self._closing.set()
        if not self._taking:
            await self._close()

    async def _close(self) -> None:
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()
