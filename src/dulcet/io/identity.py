"""New UIDs (PS3.5 Annex B.2)."""

from __future__ import annotations

from uuid import uuid4

__all__ = ["new_uid"]


def new_uid() -> str:
    """A UID that nobody else has: `2.25.` and a random UUID as a number, at most 44 characters."""
    return f"2.25.{uuid4().int}"
