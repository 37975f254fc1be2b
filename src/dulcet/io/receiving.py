"""What takes a data set as it comes in: a folder, an archive, or whatever an application brings."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Destination", "IncomingInstance"]


class IncomingInstance(Protocol):
    """One instance on its way: `write` pieces, then `commit` or `discard`."""

    def write(self, data: memoryview, /) -> None:
        """Append a piece, borrowed for the time of the call; ReceiveError with the status that says why not."""

    def commit(self) -> Any:
        """All pieces are here: make it durable and visible; where it is now.  ReceiveError when it cannot be kept."""

    def discard(self) -> None:
        """Forget it, unless it was committed; may be called again."""


class Destination(Protocol):
    """Makes the place for one instance after the other; called from several threads."""

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> IncomingInstance:
        """Start an instance, as its C-STORE-RQ announces it; ReceiveError when it cannot be taken."""
