"""What is to be sent, looked at in time: enough at first to know its contexts, the rest while the peer is busy.

Rules: what cannot be sent is reported and costs nothing else; a folder stands for the files below it; who gives slowly,
or much at once, is asked again when all that it gave was answered; an error of the source's own is raised when what it
gave before was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from dulcet.errors import InstanceError
from dulcet.io.instances import Instance, InstanceSource, examine
from dulcet.io.walking import is_folder, walk
from dulcet.services.results import Sent

__all__ = ["BATCH", "FIRST", "StoreQueue"]

FIRST: Final = 256
"""Instances looked at before the first is sent over the only association; the others while the peer works.  Their
contexts are all that is proposed, so there must be enough to see what is coming."""
BATCH: Final = 2000
"""The same before several associations are made, and before another one: enough that one more is rarely needed."""
BATCH_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of instances that are not files, after which a batch is full."""
BATCH_SECONDS: Final = 1.0
"""A source that gives its instances slowly does not hold up those that it gave."""


class StoreQueue:
    """Instances in batches, and one by one while a batch is sent."""

    def __init__(self, sources: Iterable[InstanceSource], *, ahead: bool = False) -> None:
        """`ahead`: the first batch is small, and `following` will be asked while it is sent."""
        self.ended: bool = False
        """True when the source has nothing more."""
        self._folder: InstanceSource | None = None  # one that was just found among them
        self._sources = self._each(iter(sources))
        self._limit = FIRST if ahead else BATCH
        self._aside: list[Instance] = []  # looked at while others were sent, and not to be sent with them
        self._unsendable: list[Sent] = []
        self._error: Exception | None = None
        self._looks_ahead = False

    def batch(self) -> list[Instance]:
        """The next ones to plan associations for; none at the end, or where those of a second cannot be sent."""
        batch, self._aside = self._aside, []
        limit, self._limit = min(self._limit, BATCH), BATCH
        if self._error is not None or len(batch) >= limit:
            return batch
        held = sum(len(instance.data) for instance in batch if instance.data is not None)
        full = time.monotonic() + BATCH_SECONDS
        for source in self._sources:
            try:
                instance = examine(source)
            except InstanceError as error:
                self._not_sent(source, error)
            else:
                batch.append(instance)
                held += 0 if instance.data is None else len(instance.data)
            self._looks_ahead = held < BATCH_MEMORY and time.monotonic() < full
            if len(batch) >= limit or not self._looks_ahead:
                break
        else:
            self.ended = True
        return batch

    def following(self, carries: Callable[[tuple[str, str]], bool]) -> Instance | None:
        """The next one, if an association that `carries` its class and syntax can take it; those others are kept."""
        most = min(FIRST, BATCH)
        if self._error is not None or len(self._aside) >= most or not self._looks_ahead:
            return None
        asked = time.monotonic()
        try:
            for source in self._sources:
                self._looks_ahead = time.monotonic() - asked < BATCH_SECONDS
                try:
                    instance = examine(source)
                except InstanceError as error:
                    self._not_sent(source, error)
                    continue
                if carries((instance.sop_class_uid, instance.transfer_syntax)):
                    return instance
                self._aside.append(instance)
                if len(self._aside) >= most or not self._looks_ahead:
                    break
        except Exception as error:
            self._error, self.ended = error, True
        return None

    def unsendable(self) -> Iterator[Sent]:
        """What was found unsendable since the last time."""
        if self._unsendable:
            found, self._unsendable = self._unsendable, []
            yield from found

    def _not_sent(self, source: InstanceSource, error: InstanceError) -> None:
        if is_folder(source):
            self._folder = source
        else:
            self._unsendable.append(Sent(source, None, error))

    def _each(self, sources: Iterator[InstanceSource]) -> Iterator[InstanceSource]:
        for source in sources:
            yield source
            while self._folder is not None:
                folder, self._folder = self._folder, None
                yield from walk(folder)  # type: ignore[arg-type]  # what is a folder was a path

    def check(self) -> None:
        """Raise what the source raised."""
        if self._error is not None:
            raise self._error
