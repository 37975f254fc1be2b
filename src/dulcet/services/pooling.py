"""Which association to use again, when to make another, when to let one go, decisions of a pool.

Rule: pure; time and randomness are arguments; what stands on the wire is the face's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dulcet.upper_layer.negotiation import PresentationContext, Proposal

__all__ = ["Chooser", "Decision", "Entry", "covers"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One association of the pool."""

    peer: Hashable
    association: T
    contexts: tuple[PresentationContext, ...] = ()
    idle_since: float | None = None
    """None while it is in use."""
    proposed: tuple[Proposal, ...] = ()
    """What was asked for when it was made: a new association would not be given more of it."""


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What to do about a wish for an association: use `entry`, make one where `open`, or wait for one to come back.

    `evict` is to be released first, to stay below the limit.
    """

    entry: Entry[T] | None = None
    open: bool = False
    evict: Entry[T] | None = None


@dataclass(slots=True)
class Chooser(Generic[T]):
    """The associations of a pool and the rules for them."""

    per_peer: int = 4
    """Associations with one peer at once, in use and idle."""
    idle: float = 30.0
    """Seconds after which an unused association is released; peers do not like to keep them."""
    entries: list[Entry[T]] = field(default_factory=list)
    opening: dict[Hashable, int] = field(default_factory=dict)

    def choose(self, peer: Hashable, wanted: Iterable[Proposal]) -> Decision[T]:
        """The most recently used idle association that has every context wanted, so that the others can age away.

        A context that was asked for on it and refused is as good as had: a new association would not get it either.
        """
        wanted = list(wanted)
        mine = [entry for entry in self.entries if entry.peer == peer]
        idle = sorted((entry for entry in mine if entry.idle_since is not None), key=_age)
        for entry in reversed(idle):
            if covers(entry.contexts, (proposal for proposal in wanted if proposal not in entry.proposed)):
                entry.idle_since = None
                return Decision(entry)
        count = len(mine) + self.opening.get(peer, 0)
        if count < self.per_peer:
            self.opening[peer] = self.opening.get(peer, 0) + 1
            return Decision(open=True)
        if idle:
            self.entries.remove(idle[0])
            self.opening[peer] = self.opening.get(peer, 0) + 1
            return Decision(open=True, evict=idle[0])
        return Decision()

    def opened(self, entry: Entry[T] | None, peer: Hashable) -> None:
        """An association that `choose` asked for was made (and is in use), or could not be made."""
        left = self.opening.get(peer, 1) - 1
        if left:
            self.opening[peer] = left
        else:
            self.opening.pop(peer, None)
        if entry is not None:
            self.entries.append(entry)

    def give_back(self, entry: Entry[T], now: float, *, usable: bool) -> None:
        """It is free again, or, when it is not as it was found, gone: never used again after a timeout or an abort."""
        if not usable:
            if entry in self.entries:
                self.entries.remove(entry)
            return
        entry.idle_since = now

    def overdue(self, now: float) -> list[Entry[T]]:
        """The associations that were idle for too long; they are no longer in the pool."""
        gone = [entry for entry in self.entries if entry.idle_since is not None and now - entry.idle_since >= self.idle]
        for entry in gone:
            self.entries.remove(entry)
        return gone

    def next_deadline(self) -> float | None:
        """When the next one will be overdue."""
        waiting = [entry.idle_since for entry in self.entries if entry.idle_since is not None]
        return min(waiting) + self.idle if waiting else None


def covers(contexts: Iterable[PresentationContext], wanted: Iterable[Proposal]) -> bool:
    """True when each wanted class has an accepted context in one of its transfer syntaxes and in the roles it wants."""
    accepted = list(contexts)
    return all(
        any(
            context.abstract_syntax == proposal.abstract_syntax
            and context.transfer_syntax in proposal.transfer_syntaxes
            and context.as_user >= proposal.user
            and context.as_provider >= proposal.provider
            for context in accepted
        )
        for proposal in wanted
    )


def _age(entry: Entry[T]) -> float:
    return entry.idle_since or 0.0
