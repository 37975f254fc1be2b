"""What those who wait for events need of a node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

__all__ = ["EventListener"]


class EventListener(Protocol):
    """What a node offers to those who want to hear events."""

    def on_n_event_report(self, handler: Any, *, classes: Iterable[str]) -> Any:
        """Have N-EVENT-REPORTs of these SOP classes answered by `handler`."""
