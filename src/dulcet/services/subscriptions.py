"""Who hears of which unified procedure step, and who wants it kept (PS3.4 section CC.2.3, Table CC.2.3-2).

Rule: what was said of a step counts before what was said of all steps; only unsubscribing globally undoes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dulcet.services.matching import Matcher

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Subscriptions"]


@dataclass(frozen=True, slots=True)
class _Subscription:
    """Of one application entity to one step."""

    lock: bool
    """The step must not be deleted while this stands."""
    specific: bool
    """Asked for this very step, not for all."""


@dataclass(frozen=True, slots=True)
class _Global:
    """Of one application entity to all steps, those to come included, or to those that match a filter."""

    lock: bool
    filter: Matcher | None


class Subscriptions:
    """Subscriptions by AE title; no thread but one at a time."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, _Subscription]] = {}
        self._globals: dict[str, _Global] = {}

    def subscribe(self, uid: str, receiver: str, *, lock: bool) -> None:
        """To one step; it is to be told its state now."""
        self._steps.setdefault(uid, {})[receiver] = _Subscription(lock, specific=True)

    def unsubscribe(self, uid: str, receiver: str) -> None:
        """From one step; a global subscription does not bring it back."""
        self._steps.get(uid, {}).pop(receiver, None)

    def subscribe_globally(
        self, receiver: str, steps: Mapping[str, Dataset], *, lock: bool, only: Matcher | None = None
    ) -> list[str]:
        """To all `steps` and those to come; the UIDs of which it is to be told the state now (section CC.2.4.3).

        That is every step where `lock` is asked for, else none.
        """
        self._globals[receiver] = _Global(lock, only)
        meant = [uid for uid, step in steps.items() if only is None or only.matches(step)]
        for uid in meant:
            watchers = self._steps.setdefault(uid, {})
            present = watchers.get(receiver)
            if present is None or not present.specific:
                watchers[receiver] = _Subscription(lock, specific=False)
        return meant if lock else []

    def unsubscribe_globally(self, receiver: str) -> None:
        """From everything, the subscriptions to single steps and all locks included."""
        self._globals.pop(receiver, None)
        for watchers in self._steps.values():
            watchers.pop(receiver, None)

    def suspend(self, receiver: str) -> None:
        """From steps to come; what it hears of, it goes on to hear of."""
        self._globals.pop(receiver, None)

    def created(self, uid: str, step: Dataset) -> None:
        """A new step: all who are subscribed globally hear of it."""
        for receiver, subscription in self._globals.items():
            if subscription.filter is None or subscription.filter.matches(step):
                self._steps.setdefault(uid, {})[receiver] = _Subscription(subscription.lock, specific=False)

    def deleted(self, uid: str) -> None:
        """A step is no more."""
        self._steps.pop(uid, None)

    def receivers(self, uid: str) -> list[str]:
        """The AE titles that hear of a step."""
        return list(self._steps.get(uid, ()))

    def global_receivers(self) -> list[str]:
        """The AE titles that hear of what becomes of the provider."""
        return list(self._globals)

    def is_locked(self, uid: str) -> bool:
        """True while somebody wants a step kept."""
        return any(subscription.lock for subscription in self._steps.get(uid, {}).values())
