"""What operations give back: a status is an answer, and `.check()` turns a bad one into an exception."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, TypeAlias

from dulcet.dimse.command import Command
from dulcet.dimse.events import ResponseReceived
from dulcet.dimse.status import Status, received_status
from dulcet.errors import DulcetError, RemoteProtocolError, StatusError
from dulcet.services.sop_classes import Service, service_of

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path
    from typing import BinaryIO

    from pydicom.dataset import Dataset

__all__ = ["InstanceSource", "Response", "Retrieved", "Sent", "response_of"]

InstanceSource: TypeAlias = "str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Dataset"
"""What an instance may be given as: the path of a file, an encoded file, an open one, or a data set."""

SPOKEN: Final = {
    Service.MPPS: "mpps",
    Service.STORAGE_COMMITMENT: "commitment",
    Service.PRINT: "print",
    Service.UPS_PUSH: "ups",
    Service.UPS_PULL: "ups",
    Service.UPS_WATCH: "ups",
    Service.UPS_QUERY: "ups",
}
"""The services whose statuses have meanings of their own, where the command set names the SOP class."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response (PS3.7): its status, the command set, and the data set if there was one, encoded."""

    status: Status
    """Status (0000,0900), with its category and meaning."""
    command: Command
    """All command elements, those that explain the status among them."""
    data: bytes | None = None
    """The data set as it came; None without one."""
    transfer_syntax: str = ""
    """The one that `data` is encoded in."""

    def check(self) -> Response:
        """This response when its status is success, pending or a warning; StatusError otherwise."""
        if self.status.is_failure or self.status.is_cancel:
            comment = self.command.error_comment
            service = service_of(self.command.sop_class_uid or "")
            meaning = self.status.meaning(SPOKEN.get(service) if service is not None else None)
            said = f" ({_printable(comment)})" if comment and comment.strip() != meaning else ""
            what = f"{int(self.status):04X}H {meaning}{said}"
            raise StatusError(f"{self.command.name}: {what}", int(self.status))
        return self

    def dataset(self) -> Dataset | None:
        """The data set, decoded by pydicom; None when there is none.  ReceiveError when it does not decode."""
        if self.data is None:
            return None
        from dulcet.services.identifiers import decode_dataset

        return decode_dataset(self.data, self.transfer_syntax)


def response_of(event: ResponseReceived) -> Response:
    """What the core received, for whoever asked."""
    return Response(received_status(event.command.status), event.command, event.data, event.transfer_syntax)


@dataclass(slots=True)
class Retrieved:
    """What a C-GET or C-MOVE came to (PS3.4 C.4.2, C.4.3)."""

    status: Status
    """That of the last response."""
    completed: int = 0
    """Sub-operations, each a C-STORE, that succeeded (0000,1021)."""
    failed: int = 0
    """Those that failed (0000,1022)."""
    warning: int = 0
    """Those that ended with a warning: kept, but not as they were sent (0000,1023)."""
    remaining: int = 0
    """Those that were still to be done (0000,1020); more than 0 at the end of what was cancelled."""
    failed_uids: list[str] = field(default_factory=list)
    """Failed SOP Instance UID List (0008,0058), as far as the peer gave one."""
    received: list[Path] = field(default_factory=list)
    """Where the instances lie that came here, in the order of their coming; empty where your handler took them."""
    comment: str = ""
    """Error Comment (0000,0902): what the peer says about a status that is no success."""
    not_accepted: list[str] = field(default_factory=list)
    """SOP classes of which `retrieve` proposed contexts for what failed, and of which the peer accepted none."""
    refused: list[str] = field(default_factory=list)
    """SOP Instance UIDs of what came and could not be kept here, because of a full disk or a handler that failed."""
    counted: bool = field(default=False, compare=False, repr=False)
    """True when the peer gave numbers of sub-operations; they are optional in final responses."""
    matched: int = field(default=0, compare=False, repr=False)
    """The most sub-operations that a response told of, those included that were not done in the end."""
    arrived: int | None = field(default=None, compare=False)
    """Instances that came here and were kept; None where somebody else takes them."""

    def update(self, response: Response) -> None:
        """Take over what `response` says; ReceiveError when its identifier does not decode."""
        command = response.command
        self.status = response.status
        numbers = (
            command.number_of_completed_suboperations,
            command.number_of_failed_suboperations,
            command.number_of_warning_suboperations,
        )
        if any(number is not None for number in numbers):  # else the last ones hold
            self.counted = True
            self.completed, self.failed, self.warning = (number or 0 for number in numbers)
        self.remaining = command.number_of_remaining_suboperations or 0
        self.matched = max(self.matched, self.completed + self.failed + self.warning + self.remaining)
        self.comment = command.error_comment or ""
        if not response.status.is_pending and response.data is not None:
            identifier = response.dataset()
            uids = identifier.get("FailedSOPInstanceUIDList") if identifier is not None else None
            uids = [uids] if isinstance(uids, str) else uids or ()
            self.failed_uids = [str(uid) for uid in uids if uid]

    def plus(self, other: Retrieved) -> Retrieved:
        """This and the `other`, later, retrieve into one place; the status is the first that is no success."""
        return Retrieved(
            self.status if not self.status.is_success else other.status,
            self.completed + other.completed,
            self.failed + other.failed,
            self.warning + other.warning,
            self.remaining + other.remaining,
            [*self.failed_uids, *other.failed_uids],
            other.received,
            self.comment or other.comment,
            counted=self.counted or other.counted,
            matched=self.matched + other.matched,
            refused=other.refused,
            arrived=other.arrived,
        )

    def check(self) -> Retrieved:
        """This when every sub-operation was completed; StatusError otherwise, a warning with failures included.

        Also where the peer counts another number of completed sub-operations than came here.
        """
        if self.differs:
            raise StatusError(f"retrieve: {self.difference}", int(self.status))
        if not self.status.is_success or self.failed:
            counts = f"{self.completed} completed, {self.failed} failed, {self.warning} warnings"
            raise StatusError(f"retrieve: {self.answer}; {counts}", int(self.status))
        return self

    @property
    def differs(self) -> bool:
        """True when the peer counts another number of completed sub-operations than came here."""
        if self.status.is_pending or self.status.is_cancel or not self.counted or self.arrived is None:
            return False
        return self.arrived != self.completed + self.warning

    @property
    def difference(self) -> str:
        """What is to be said about that; empty where the numbers agree."""
        if not self.differs:
            return ""
        return f"the peer says that it completed {self.completed + self.warning}, but {self.arrived} came here"

    @property
    def is_empty(self) -> bool:
        """True for a success that had nothing to send: nothing matched."""
        nothing = not (self.completed or self.failed or self.warning or self.arrived)
        return self.status.is_success and nothing and (self.counted or self.arrived is not None)

    @property
    def answer(self) -> str:
        """The status with the peer's comment on it."""
        return f"{self.status} ({_printable(self.comment)})" if self.comment else str(self.status)


@dataclass(frozen=True, slots=True, repr=False)
class Sent:
    """What became of one instance: answered with `status`, or not sent or not answered because of `error`."""

    path: InstanceSource
    """The path, data set or bytes that was given."""
    status: Status | None
    """What the peer answered; None where `error` says why there is no answer."""
    error: DulcetError | None = None
    """Why it was not sent, or not answered."""
    sop_class_uid: str = ""
    """What it was sent as; empty where nobody could read that."""
    sop_instance_uid: str = ""
    """The same."""
    transfer_syntax: str = ""
    """The one it travelled in; it differs from the file's when it was converted."""
    size: int = 0
    """Bytes of the encoded data set."""
    error_comment: str = ""
    """Error Comment (0000,0902): what the peer says about a status that is no success."""
    offending_elements: tuple[int, ...] = ()
    """Offending Element (0000,0901): the tags that the peer says it is about."""

    @classmethod
    def answered(
        cls,
        path: InstanceSource,
        command: Command,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax: str,
        size: int,
    ) -> Sent:
        """What a C-STORE-RSP, the `command`, says of what was sent; one without a status is a failure.

        So is one that names another instance, for it says nothing of this one; it need not name any (PS3.7 Table
        9.1-1).  `path`, `sop_class_uid`, `sop_instance_uid`, `transfer_syntax` and `size` are taken over.
        """
        status, named = command.status, command.sop_instance_uid
        if named is not None and named != sop_instance_uid:
            error = RemoteProtocolError(
                f"the peer answered {received_status(status)} for another instance, {named}, when {sop_instance_uid} "
                "was sent; nobody knows what became of this one, send it again"
            )
            return cls(path, None, error, sop_class_uid, sop_instance_uid, transfer_syntax, size)
        if status == 0:
            return cls(path, Status.SUCCESS, None, sop_class_uid, sop_instance_uid, transfer_syntax, size)
        return cls(
            path, received_status(status), None,
            sop_class_uid, sop_instance_uid, transfer_syntax, size,
            command.error_comment or "", command.offending_element or (),
        )  # fmt: skip

    def __repr__(self) -> str:
        """All fields; a data set and bytes by their kind, for what they hold is not for a message."""
        rest = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.name != "path")
        return f"Sent(path={self._shown}, {rest})"

    @property
    def _shown(self) -> str:
        if isinstance(self.path, bytes | bytearray | memoryview):
            return f"<{len(self.path)} bytes>"
        return f"<{type(self.path).__name__}>" if hasattr(self.path, "add_new") else repr(self.path)

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
            raise StatusError(f"C-STORE of {self._named}: {self.answer}", int(self.status))
        return self

    @property
    def answer(self) -> str:
        """The status with what the peer says on it; empty where it did not answer."""
        if self.status is None:
            return ""
        tags = (f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in self.offending_elements)
        said = "; ".join(filter(None, (_printable(self.error_comment), " ".join(tags))))
        return f"{self.status} ({said})" if said else str(self.status)

    @property
    def _named(self) -> str:
        """The file, or the instance where it is none: a data set is not for a message."""
        is_path = isinstance(self.path, str) or hasattr(self.path, "__fspath__")
        return str(self.path) if is_path else self.sop_instance_uid or "a data set"


def _printable(text: str) -> str:
    """A peer's words, with what is no character to be seen as its escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
