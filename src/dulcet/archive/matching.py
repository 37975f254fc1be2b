"""What an identifier asks for (PS3.4 section C.2.2.2 and C.4): conditions by attribute, and the attributes to answer.

Rules: knows no SQL; an identifier that is not of its information model is refused with A900H, and the reason names
attributes, never values; keys that are not supported are told, for the answers then bear FF01H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dulcet.archive.attributes import ATTRIBUTES, BY_TAG, LEVELS, PATIENT, REQUEST_KEYS, STUDY, UNIQUE, Attribute
from dulcet.archive.records import READERS
from dulcet.dimse.status import Status
from dulcet.part10.charset import decode_text
from dulcet.services.attributes import is_empty
from dulcet.services.extended import QueryOptions
from dulcet.services.matching import WILDCARD_VRS, is_universal, plain_text, single_values
from dulcet.services.names import NameKey, fold_name, name_key
from dulcet.services.periods import Period, is_none
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from dulcet.services.models import InformationModel

__all__ = [
    "Between",
    "Condition",
    "Items",
    "Like",
    "Moment",
    "Named",
    "OneOf",
    "Query",
    "read_query",
    "read_retrieve",
]

DAY: Final = 86_400_000_000
NOT_KEYS: Final = frozenset((0x00080005, 0x00080052, 0x00080053))
"""Specific Character Set, Query/Retrieve Level and View: they say how to read the others."""
ZONE: Final = 0x00080201
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
DECODED_VRS: Final = frozenset("LO LT PN SH ST UC UT".split())
"""Those that pydicom decodes by the Specific Character Set (PS3.5 section 6.1.2.3); others are Latin-1 to it."""
MAX_NAMES: Final = 64
"""Names of a key, or words of one: each is a condition of its own, and SQLite has limits."""
MAX_PATTERNS: Final = 256
"""Values of a key that are compared one by one with each row: wildcards, and where a row has several values itself."""
PAIRS: Final = {
    "StudyDate": "StudyTime",
    "SeriesDate": "SeriesTime",
    "AcquisitionDate": "AcquisitionTime",
    "ContentDate": "ContentTime",
    "InstanceCreationDate": "InstanceCreationTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
}
"""Dates and the times that go with them (PS3.4 section C.2.2.2.5.3)."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these: single value matching, or a list of UIDs."""

    keyword: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """One of these patterns fits: `*` is any characters, `?` is one."""

    keyword: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A date, time or date-time in one of these ranges, both ends included, None for open."""

    keyword: str
    ranges: tuple[tuple[int | None, int | None], ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A date and its time as one, in microseconds; in UTC where a `zone` (microseconds east) is given."""

    date: str
    time: str
    first: int | None
    last: int | None
    zone: int | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A person name that fits one of these keys."""

    keyword: str
    keys: tuple[NameKey, ...]
    words: tuple[str, ...] = ()
    """Fuzzy matching instead: folded words, each of which has to sound like one of the name's."""


@dataclass(frozen=True, slots=True)
class Items:
    """An item of the sequence fulfils all conditions."""

    keyword: str
    conditions: tuple[Condition, ...]


Condition = OneOf | Like | Between | Moment | Named | Items


@dataclass(slots=True)
class Query:
    """A query, or what is to be retrieved."""

    level: int
    conditions: list[Condition] = field(default_factory=list)
    answered: list[Attribute] = field(default_factory=list)
    """The attributes of each answer, ascending by tag."""
    unsupported: list[int] = field(default_factory=list)
    """Tags of keys that are neither matched nor answered: answers bear FF01H (PS3.4 Table C.4-1)."""
    character_sets: str = ""
    """Specific Character Set of the identifier."""
    retrieve_ae_title: bool = False
    availability: bool = False

    @property
    def columns(self) -> list[Attribute]:
        """What is answered from the level's own rows."""
        return [found for found in self.answered if self._is_own(found)]

    @property
    def above(self) -> list[Attribute]:
        """What is answered from the rows above."""
        return [found for found in self.answered if not self._is_own(found)]

    def _is_own(self, attribute: Attribute) -> bool:
        return attribute.level == self.level or (attribute.level == PATIENT and self.level == STUDY)


def read_query(
    identifier: Any, model: InformationModel, options: QueryOptions | None = None, *, strict: bool = False
) -> Query:
    """The query that a C-FIND identifier means; Refused (A900H) when it does not fit the model.

    `options` are those that were negotiated.  `strict` asks for the unique key of each level above, unless relational
    queries were negotiated; without it every query is answered as a relational one, for many a peer takes it for that.
    """
    options = options or QueryOptions()
    level, top = _level(identifier, model)
    query = Query(level, character_sets=_character_sets(identifier))
    keys: dict[str, Any] = {}
    for element in identifier:
        _sort_key(element, query, keys)
    if strict and not options.relational:
        _check_hierarchy(keys, level, top)
    for unique in UNIQUE[top : level + 1]:
        if ATTRIBUTES[unique] not in query.answered:
            query.answered.append(ATTRIBUTES[unique])
    query.answered.sort(key=lambda attribute: attribute.tag)
    zone = _zone(identifier) if options.time_zone else None
    moments = _moments(keys, zone, combined=options.date_time)
    query.conditions += moments
    for moment in moments:
        del keys[moment.date]
        keys.pop(moment.time, None)
    query.conditions += _conditions(keys, query.character_sets, fuzzy=options.fuzzy)
    return query


def read_retrieve(identifier: Any, model: InformationModel, *, strict: bool = False) -> Query:
    """What a C-GET or C-MOVE identifier selects: unique keys alone count (PS3.4 section C.4.2.1.4).

    Refused (A900H) when it does not fit the model, or `strict` and without the unique key of each level above.
    """
    level, top = _level(identifier, model)
    keys = {
        keyword: identifier[keyword]
        for keyword in UNIQUE[: level + 1]
        if keyword in identifier and not is_empty(identifier[keyword].value)
    }
    if UNIQUE[level] not in keys:
        raise _refused(f"{UNIQUE[level]} has no value", ATTRIBUTES[UNIQUE[level]].tag)
    if strict:
        _check_hierarchy(keys, level, top)
    conditions: list[Condition] = [OneOf(keyword, _texts(element.value)) for keyword, element in keys.items()]
    return Query(level, conditions)


def _level(identifier: Any, model: InformationModel) -> tuple[int, int]:
    """The level of the query and the top one of the model."""
    levels = [name for name, _ in model.levels]
    name = str(identifier.get("QueryRetrieveLevel", "") or "").strip().upper()
    if name not in levels or name not in LEVELS:
        given = "no Query/Retrieve Level" if not name else "the Query/Retrieve Level is unknown"
        raise _refused(f"{given}: {', '.join(levels)}", 0x00080052)
    return LEVELS.index(name), LEVELS.index(levels[0])


def _sort_key(element: Any, query: Query, keys: dict[str, Any]) -> None:
    """What one element of the identifier is there for."""
    tag = int(element.tag)
    if tag in NOT_KEYS or not tag & 0xFFFF:
        return
    if tag == RETRIEVE_AE_TITLE:
        query.retrieve_ae_title = True
        return
    if tag == INSTANCE_AVAILABILITY:
        query.availability = True
        return
    attribute = BY_TAG.get(tag)
    below = attribute is not None and attribute.level > query.level
    counted_above = attribute is not None and attribute.computed and attribute.level == PATIENT != query.level
    if attribute is None or below or counted_above:
        if tag != ZONE:
            query.unsupported.append(tag)
        return
    query.answered.append(attribute)
    counter = attribute.computed and attribute.keyword.startswith("NumberOf")
    if tag == ZONE or counter:
        return
    if not _is_universal(element):
        keys[attribute.keyword] = element


def _is_universal(element: Any) -> bool:
    """True when one of its values is; what a sequence matches, its items say."""
    vr = str(element.VR)
    return is_empty(element.value) or (
        vr != "SQ" and any(is_universal(vr, single) for single in single_values(element.value))
    )


def _check_hierarchy(keys: dict[str, Any], level: int, top: int) -> None:
    """Each level above needs its unique key (PS3.4 section C.4.1.2.1)."""
    for above in range(top, level):
        if UNIQUE[above] not in keys:
            raise _refused(f"{UNIQUE[above]} has no value", ATTRIBUTES[UNIQUE[above]].tag)


def _conditions(keys: dict[str, Any], character_sets: str, *, fuzzy: bool = False) -> list[Condition]:
    found = []
    for keyword, element in keys.items():
        condition = _condition(keyword, element, character_sets, fuzzy=fuzzy)
        if condition is not None:
            found.append(condition)
    return found


def _condition(keyword: str, element: Any, character_sets: str, *, fuzzy: bool = False) -> Condition | None:
    """The condition of one key; None for universal matching."""
    vr = str(element.VR)
    if vr == "SQ":
        return _items(keyword, element.value, character_sets)
    values = _texts(element.value)
    if vr not in DECODED_VRS:
        values = tuple(map(partial(_decoded, character_sets=character_sets), values))
    if vr in READERS:
        periods = [_period(keyword, vr, text) for text in values]
        return Between(keyword, tuple((period.first, period.last) for period in periods))
    if vr == "PN":
        return _named(keyword, values, fuzzy=fuzzy)
    if vr in ("IS", "US"):
        return OneOf(keyword, tuple(_number(text) for text in values))
    wild = vr in WILDCARD_VRS and any("*" in text or "?" in text for text in values)
    if (wild or (keyword in ATTRIBUTES and ATTRIBUTES[keyword].multiple)) and len(values) > MAX_PATTERNS:
        raise _refused(f"{keyword}: more than {MAX_PATTERNS} values to compare", int(element.tag))
    if wild:
        return Like(keyword, values)
    return OneOf(keyword, values)


def _items(keyword: str, value: Sequence[Any], character_sets: str) -> Items | None:
    """Sequence matching (section C.2.2.2.6): the first item's keys."""
    conditions: list[Condition] = []
    for element in value[0] if len(value) else ():
        if element.keyword in REQUEST_KEYS and not _is_universal(element):
            condition = _condition(element.keyword, element, character_sets)
            if condition is not None:
                conditions.append(condition)
    return Items(keyword, tuple(conditions)) if conditions else None


def _named(keyword: str, values: Sequence[str], *, fuzzy: bool) -> Named | None:
    if fuzzy:
        words = fold_name(" ".join(values)).replace("^", " ").replace("=", " ").replace(",", " ").split()
        words = [word for word in words if word.strip("*")]
        _check_number(keyword, words)
        return Named(keyword, (), tuple(words)) if words else None
    _check_number(keyword, values)
    keys = [key for text in values if (key := name_key(text)) is not None]
    return Named(keyword, tuple(keys)) if len(keys) == len(values) else None


def _check_number(keyword: str, names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        raise _refused(f"{keyword}: more than {MAX_NAMES} names", ATTRIBUTES[keyword].tag)


def _moments(keys: dict[str, Any], zone: int | None, *, combined: bool) -> list[Moment]:
    """Date and time keys that are one: ranges of both, or dates in another time zone."""
    found = []
    for date, time in PAIRS.items():
        if date not in keys or any(len(_texts(keys[one].value)) > 1 for one in (date, time) if one in keys):
            continue
        days = _period(date, "DA", _texts(keys[date].value)[0])
        hours = _period(time, "TM", _texts(keys[time].value)[0]) if time in keys else None
        ranges = hours is not None and "-" in str(keys[date].value) and "-" in str(keys[time].value)
        if not (combined and ranges) and (zone is None or hours is not None):
            continue
        hours = hours or Period(None, None)
        first = None if days.first is None else days.first * DAY + (hours.first or 0) - (zone or 0)
        last = None
        if days.last is not None:
            last = days.last * DAY + (DAY - 1 if hours.last is None else hours.last) - (zone or 0)
        found.append(Moment(date, time, first, last, zone))
    return found


def _period(keyword: str, vr: str, text: str) -> Period:
    period = READERS[vr](text)
    if period is None:
        raise _refused(is_none(keyword, vr), ATTRIBUTES[keyword].tag)
    return period


def _zone(identifier: Any) -> int | None:
    """Timezone Offset From UTC in microseconds."""
    text = str(identifier.get("TimezoneOffsetFromUTC", "") or "").strip()
    if not text:
        return None
    period = READERS["DT"](f"2000010100{text}")
    if period is None or period.offset is None:
        raise _refused("TimezoneOffsetFromUTC: +HHMM or -HHMM", ZONE)
    return period.offset


def _character_sets(identifier: Any) -> str:
    value = identifier.get("SpecificCharacterSet")
    return "" if is_empty(value) else "\\".join(_texts(value))


def _texts(value: Any) -> tuple[str, ...]:
    """The values of an element as text without padding."""
    texts = (plain_text(one.decode("latin-1") if isinstance(one, bytes) else one) for one in single_values(value))
    return tuple(dict.fromkeys(texts))


def _decoded(text: str, character_sets: str) -> str:
    """A code string in Chinese breaks its rule, but it shall be found: by the index's way of reading such bytes."""
    return text if text.isascii() else decode_text(text.encode("latin-1", "replace"), character_sets)


def _number(text: str) -> str:
    """An integer as the index keeps it, whatever zeros and signs it was written with."""
    try:
        return str(int(text))
    except ValueError:
        return text


def _refused(comment: str, tag: int) -> Refused:
    return Refused(Status.DATA_SET_MISMATCH, comment, OffendingElement=(tag,))
