"""The event-driven face: associate handles, callbacks, a storage listener, for those who come from SDKs."""

from __future__ import annotations

from dulcet.toolkit.associate import Associate, InvalidAssociate

__all__ = ["Associate", "InvalidAssociate"]
