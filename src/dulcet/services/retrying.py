"""When to try again (pure: the time between two tries, not the waiting)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Longer and longer pauses, in seconds, spread so that many who failed together do not come back together."""

    first: float = 2.0
    longest: float = 3600.0
    factor: float = 2.0
    spread: float = 0.2
    """Up to this share of a pause is added, as the random number says."""
    attempts: int | None = None
    """How often at most; None for ever."""

    def pause(self, failures: int, random: float = 0.0) -> float | None:
        """Seconds after so many failures, 1 or more; None when it was tried often enough.  `random` is 0 to 1."""
        if self.attempts is not None and failures >= self.attempts:
            return None
        # No power of a large count: it would not fit a float.
        grown = self.first
        for _ in range(failures - 1):
            grown *= self.factor
            if grown >= self.longest:
                break
        return min(grown, self.longest) * (1.0 + self.spread * random)
