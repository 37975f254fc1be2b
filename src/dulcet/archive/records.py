"""What the index is told of an instance: the values of its header by level, read when they are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dulcet.archive.attributes import ATTRIBUTES, COLUMNS, REQUEST_KEYS, Attribute
from dulcet.archive.identity import Identity, Kept
from dulcet.errors import InstanceError
from dulcet.part10.header import Header
from dulcet.services.periods import Period, read_date, read_datetime, read_time

__all__ = ["Record", "comparable"]

READERS: Final[dict[str, Callable[[str], Period | None]]] = {"DA": read_date, "TM": read_time, "DT": read_datetime}
IDENTIFYING: Final = {
    "SOPClassUID": "sop_class_uid",
    "SOPInstanceUID": "sop_instance_uid",
    "StudyInstanceUID": "study_instance_uid",
    "SeriesInstanceUID": "series_instance_uid",
}
"""Attributes whose values are those of the identity that was checked, whatever else the header could be read as."""
ROWS: Final = tuple(
    tuple(
        (attribute, attribute.tag, attribute.temporal, IDENTIFYING.get(attribute.keyword)) for attribute in level
    )
    for level in COLUMNS
)
MAX_TEXT: Final = 10240
"""Characters of a value: LT has at most this many (PS3.5 Table 6.2-1)."""


@dataclass(slots=True)
class Record:
    """One instance for the index."""

    identity: Identity
    kept: Kept
    header: Header
    received: float
    """Seconds since 1970."""
    source: str = ""
    """The AE title that sent it."""
    beside: bool = False
    """True for another data set of an instance that is there already."""
    told: dict[str, object] = field(default_factory=dict)
    """What the event of its arrival says besides."""

    def values(self, level: int) -> list[str | int | None]:
        """The values of `COLUMNS[level]`, each date and time followed by the number it compares as."""
        found: list[str | int | None] = []
        header, sequences = self.header.values, self.header.sequences
        for attribute, tag, temporal, identifying in ROWS[level]:
            if identifying is not None:
                found.append(getattr(self.identity, identifying))
                continue
            # Most attributes are absent from most instances.
            text = self.text(attribute) if tag in header or tag in sequences else ""
            found.append(text)
            if temporal:
                found.append(comparable(attribute.vr, text) if text else None)
        return found

    def text(self, attribute: Attribute) -> str:
        """The value as text, cut at what any text may have."""
        if attribute.vr == "SQ":
            items = self.requests()
            return json.dumps(items, ensure_ascii=False) if items else ""
        if attribute.vr == "US":
            number = self.header.int(attribute.tag)
            return "" if number is None else str(number)
        if attribute.vr == "UI":
            return self.header.uid(attribute.tag)[:MAX_TEXT]
        text = self.header.text(attribute.tag)
        return text[:MAX_TEXT].replace("\0", " ") if len(text) > MAX_TEXT or "\0" in text else text

    def requests(self) -> list[dict[str, str]]:
        """The items of Request Attributes Sequence, what is kept of them; none when it is damaged."""
        try:
            items = self.header.items(ATTRIBUTES["RequestAttributesSequence"].tag)
        except InstanceError:
            return []
        return [
            {keyword: item.text(tag)[:MAX_TEXT].replace("\0", " ") for keyword, tag in REQUEST_KEYS.items()}
            for item in items
        ]


def comparable(vr: str, text: str) -> int | None:
    """A date, time or date-time as a whole number; None when it does not read as one."""
    if not text:
        return None
    period = READERS[vr](text.split("\\")[0].strip())
    if period is None or period.first is None:
        return None
    return period.first - (period.offset or 0)
