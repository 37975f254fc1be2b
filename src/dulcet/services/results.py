"""What operations give back: a status is an answer, and `.check()` turns a bad one into an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dulcet.dimse.command import Command
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError, StatusError

__all__ = ["Response", "Sent"]


@dataclass(frozen=True, slots=True)
class Response:
    """A response (PS3.7): its status, the command set, and the data set if there was one, encoded."""

    status: Status
    command: Command
    data: bytes | None = None
    transfer_syntax: str = ""

    def check(self) -> Response:
        """This response when its status is success, pending or a warning; StatusError otherwise."""
        if self.status.is_failure or self.status.is_cancel:
            comment = self.command.error_comment
            raise StatusError(
                f"{self.command.name}: {self.status}{f' ({comment})' if comment else ''}", int(self.status)
            )
        return self


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one instance: answered with `status`, or not sent or not answered because of `error`."""

    path: Any
    """The path, data set or bytes that was given."""
    status: Status | None
    error: DulcetError | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax: str = ""
    """The one it travelled in; it differs from the file's when it was converted."""
    size: int = 0
    """Bytes of the encoded data set."""

    @property
    def ok(self) -> bool:
        """True when the peer has it: success or a warning."""
        return self.status is not None and (self.status.is_success or self.status.is_warning)

    def check(self) -> Sent:
        """This when `ok`; else the error behind it, or StatusError."""
        if self.error is not None:
            raise self.error
        if not self.ok:
            assert self.status is not None
            raise StatusError(f"C-STORE of {self.path}: {self.status}", int(self.status))
        return self
