"""Where a data set goes that is coming in, one piece after the other."""

from __future__ import annotations

from typing import Any

from dulcet.errors import ReceiveError
from dulcet.io.receiving import IncomingInstance

__all__ = ["Storing"]


class Storing:
    """The data set that is coming in, or why it is thrown away."""

    def __init__(self, place: IncomingInstance | None, failure: ReceiveError | None = None) -> None:
        self._place = place
        self._failure = failure

    def write(self, data: memoryview) -> None:
        if self._failure is None and self._place is not None:
            try:
                self._place.write(data)
            except ReceiveError as error:
                self._failure = error
                self.discard()

    def commit(self) -> Any:
        if self._failure is not None or self._place is None:
            raise self._failure or ReceiveError("nothing was kept", comment="nothing was kept")
        return self._place.commit()

    def discard(self) -> None:
        if self._place is not None:
            self._place.discard()
