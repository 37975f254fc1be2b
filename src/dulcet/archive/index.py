"""What the archive asks of its index, and the values that go in and come out.

Rule: neither SQL nor files: an index in another data base is another class with these methods, nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dulcet.archive.identity import Kept
from dulcet.archive.matching import Query
from dulcet.archive.records import Record
from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError

__all__ = ["Counts", "Event", "Index", "IndexDamaged", "IndexTrouble", "Page", "Selection"]


class IndexTrouble(ReceiveError):
    """The index could not be written or read; nothing of what was asked for is in it, unless `doubtful`."""

    def __init__(self, message: str, *, doubtful: bool = False) -> None:
        super().__init__(message, Status.OUT_OF_RESOURCES, comment=message)
        self.doubtful = doubtful
        """True when a crash might still make it so: the storage failed in the very moment of the commit."""


class IndexDamaged(IndexTrouble):
    """The index does not read as one."""


@dataclass(slots=True)
class Page:
    """Some answers to a query that have the levels above in common."""

    above: Mapping[str, str]
    """Values of the levels above by keyword; empty at the top."""
    rows: Sequence[Sequence[Any]]
    """The values of `Query.columns` for each."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and that somebody is to be told."""

    id: int
    kind: str
    body: Mapping[str, Any]
    attempts: int = 0


@dataclass(slots=True)
class Counts:
    """How much there is."""

    patients: int = 0
    studies: int = 0
    series: int = 0
    instances: int = 0
    beside: int = 0
    """Data sets kept beside the first ones of their UID."""
    bytes: int = 0
    """Of all data sets."""
    events: int = 0
    """Waiting to be told."""
    oldest_event: float | None = None
    """Seconds since 1970."""


class Selection(Protocol):
    """Instances chosen at one moment, read a page at a time."""

    def __len__(self) -> int:
        """How many."""

    def __iter__(self) -> Iterator[Kept]:
        """Each, in the order of studies, series and arrival."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What happens that somebody wants to hear of."""

    kinds: frozenset[str] = field(default_factory=frozenset)
    series_quiet: float = 30.0
    """Seconds without a new instance after which a series is stable."""
    study_quiet: float = 60.0


INSTANCE_STORED: Final = "instance stored"
SERIES_STABLE: Final = "series stable"
STUDY_STABLE: Final = "study stable"


class Index(Protocol):
    """Safe for any number of threads; every method raises IndexTrouble when the data base fails."""

    def add(self, records: Sequence[Record]) -> None:
        """Index instances in one transaction, durable on return; all or none."""

    def add_each(self, records: Sequence[Record]) -> Sequence[Exception | None]:
        """Index each by itself, durable on return: what kept each from it, None for those that are in."""

    def known(self, sop_instance_uid: str) -> list[Kept]:
        """What is kept under this UID: the one that is served first, those beside it after; empty for none."""

    def find(self, query: Query) -> Iterator[Page]:
        """The answers to a query, a page at a time; no transaction stands between two pages."""

    def select(self, query: Query) -> Selection:
        """The instances of a query's matches."""

    def of_no_patient(self, sop_classes: Iterable[str], sop_instance_uids: Iterable[str] | None = None) -> Selection:
        """The objects of these classes that are of no patient; with UIDs those of them alone."""

    def counts(self) -> Counts:
        """How much there is."""

    def settle(self, now: float) -> float | None:
        """Note the series and studies that have become stable; when the next one may, None for none waiting."""

    def due(self, now: float, limit: int) -> list[Event]:
        """Events to be told by now, the oldest first."""

    def acknowledge(self, event: Event) -> None:
        """It was told."""

    def postpone(self, event: Event, until: float) -> None:
        """It could not be told."""

    def backup(self, path: str) -> None:
        """A consistent copy, made while others read and write."""

    def close(self) -> None:
        """Give everything back."""
