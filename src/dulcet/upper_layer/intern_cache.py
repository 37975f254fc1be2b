"""What peers say again and again: decoded, judged and encoded once.

Rules: only pure functions remember, by all that their result follows from; what a peer can make us remember is bounded;
what may be a secret (user identity) is never remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

__all__ = ["Recent", "Shared"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

LONGEST: Final = 32 * 1024
"""Bytes of a key that is worth remembering: 128 contexts with 8 transfer syntaxes each."""

ENTRIES: Final = 64
"""More than most nodes have kinds of peers.  An entry takes 5 to 10 times its key, 100 KB at most: 6 MB in all."""


class Shared(tuple[T, ...]):
    """A tuple that is one object for all who said the same: who has it may compare with `is`.

    `notes` keeps what was concluded from it, by the function that did.
    """

    notes: dict[str, Any]

    def __new__(cls, items: Iterable[T]) -> Shared[T]:
        made = super().__new__(cls, items)
        made.notes = {}
        return made


class Recent(Generic[K, V]):
    """Results by key, the oldest of which goes first; each step is one of `dict`, so threads need no lock."""

    def __init__(self) -> None:
        self._results: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """What was concluded from `key`, if that is remembered."""
        return self._results.get(key)

    def put(self, key: K, result: V) -> V:
        """Remember it; the result that counts, which another thread may have put a moment ago."""
        results = self._results
        while len(results) >= ENTRIES:
            try:
                del results[next(iter(results))]
            except (KeyError, RuntimeError, StopIteration):  # another thread was quicker
                continue
        return results.setdefault(key, result)
