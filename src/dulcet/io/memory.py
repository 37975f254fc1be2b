"""Data sets that are kept in memory, up to a limit; they are judged as those that go to a folder."""

from __future__ import annotations

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io.verdict import empty, refusal
from dulcet.part10.sources import ScanError
from dulcet.part10.walk import whole

__all__ = ["InMemory", "Memory"]


class InMemory:
    """A `Destination` that gives the encoded data set."""

    durable = False
    """No commit waits for a disk."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> Memory:
        """Start an instance."""
        return Memory(self._limit, transfer_syntax)


class Memory:
    """A data set on its way into memory."""

    def __init__(self, limit: int, transfer_syntax: str) -> None:
        self._data = bytearray()
        self._limit = limit
        self._walk = whole(transfer_syntax)

    def write(self, data: memoryview) -> None:
        """Append a piece; ReceiveError (A700H) beyond the limit, C000H when it does not read as DICOM."""
        if len(self._data) + len(data) > self._limit:
            self.discard()
            raise ReceiveError(
                f"a data set of more than the {self._limit} bytes that are kept in memory; give it a folder (store_to)",
                Status.OUT_OF_RESOURCES,
                comment=f"no room for more than {self._limit} bytes",
            )
        try:
            self._walk.feed(data)
        except ScanError as error:
            self.discard()
            raise refusal(error) from error
        self._data += data

    def commit(self) -> bytes:
        """The data set; ReceiveError (C000H) when it ends within an element."""
        if not self._data:
            raise empty()
        try:
            self._walk.finish()
        except ScanError as error:
            raise refusal(error) from error
        return bytes(self._data)

    def discard(self) -> None:
        """Forget it."""
        self._data = bytearray()
