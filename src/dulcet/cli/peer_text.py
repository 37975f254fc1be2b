"""What is a peer's name and what its address: apart from the file of names, which few commands need to load."""

from __future__ import annotations

__all__ = ["is_name"]


def is_name(text: str) -> bool:
    """True for what can be no address: neither @ nor : in it."""
    return "@" not in text and ":" not in text
