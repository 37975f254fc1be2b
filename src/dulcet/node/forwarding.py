"""The sub-operations of a C-MOVE, in a thread of their own: whatever the destination does, who asked is heard.

Rules: after a cancel nothing is begun; what is under way may end for a moment, and what has no answer then has failed;
the destinations' associations are released behind the final response, or aborted where they do not come to an end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from dulcet.blocking.channel import LAST_WORD
from dulcet.blocking.sending import StoreMany
from dulcet.services.results import Sent
from dulcet.services.suboperations import FINISH, GRACE, unanswered

__all__ = ["Forwarding"]

AHEAD: Final = 64
"""Results that wait for a requestor who takes its responses slowly, before the sending does."""


class Forwarding(Iterator[Sent]):
    """What becomes of each instance, from a thread that sends; `cancel` and `close` may come from others."""

    def __init__(self, job: StoreMany, items: Iterable[Any]) -> None:
        self._job = job
        self._items = items
        self._results: deque[Sent] = deque()
        self._given: list[str] = []
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._failure: BaseException | None = None
        self._ended = False  # the thread has
        self._left = False  # nobody takes results any more
        self._thread = threading.Thread(target=self._send, name="dulcet-forward", daemon=True)
        self._thread.start()

    def __next__(self) -> Sent:
        with self._changed:
            while not self._results:
                if self._left or self._ended:
                    failure, self._failure = self._failure, None
                    if failure is not None and not self._left:
                        raise failure
                    raise StopIteration
                seconds = None if self._deadline is None else self._deadline - time.monotonic()
                if seconds is not None and seconds <= 0:
                    self._left = True
                    self._results.extend(unanswered(self._job.begun, self._given))
                else:
                    self._changed.wait(seconds)
            sent = self._results.popleft()
            self._given.append(sent.sop_instance_uid)
            self._changed.notify_all()
        return sent

    def cancel(self) -> None:
        """Begin nothing more; the iterator ends soon."""
        self._job.stop()
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + GRACE
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is wanted: after a cancel what is under way has `FINISH` seconds, otherwise none."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
            if self._ended:
                return
        if self._deadline is None:
            self.end()
        else:
            threading.Thread(target=self._see_off, name="dulcet-forward-end", daemon=True).start()

    def end(self) -> None:
        """At once, after a cancel as well."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._job.interrupt()
            self._thread.join(LAST_WORD + 0.5)

    def _see_off(self) -> None:
        self._thread.join(FINISH)
        if self._thread.is_alive():
            self._job.interrupt()

    def _send(self) -> None:
        try:
            for sent in self._job.run(self._items):
                with self._changed:
                    if not self._left:
                        self._results.append(sent)
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: self._left or len(self._results) < AHEAD)
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
