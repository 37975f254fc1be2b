"""Attribute matching (PS3.4 section C.2.2.2): does a data set in memory match the keys of a C-FIND identifier?

Rules: the identifier is read once, each candidate is held against what was read; matching takes time in proportion to
the lengths of key and value, whatever a peer puts into a key; an absent or empty attribute matches a universal key
alone.  What a universal key is, stands here for the archive as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet.dimse.status import Status
from dulcet.services.attributes import is_empty
from dulcet.services.identifiers import NUMBERS
from dulcet.services.names import fold_groups, name_key
from dulcet.services.periods import Period, is_none, read_date, read_datetime, read_time
from dulcet.services.refusals import Refused
from dulcet.services.written_text import best_character_sets

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["WILDCARD_VRS", "Matcher", "fits_wildcards", "is_universal", "plain_text", "single_values"]

WILDCARD_VRS: Final = frozenset("AE CS LO LT PN SH ST UC UR UT".split())
"""PS3.4 section C.2.2.2.4."""
NUMBER_VRS: Final = frozenset("DS IS FL FD SL SS SV UL US UV".split())
TEMPORAL: Final[dict[str, Callable[[str], Period | None]]] = {"DA": read_date, "TM": read_time, "DT": read_datetime}

NOT_KEYS: Final = frozenset((0x00080005, 0x00080052, 0x00080053, 0x00080201))
"""Specific Character Set, Query/Retrieve Level and View, Timezone Offset From UTC: they say how to read the others."""

Test = Callable[[Any], bool]
"""Takes the value of an element that has one."""


@dataclass(slots=True)
class _Key:
    """One key: its test, None for universal matching; `items` reads the items of a sequence."""

    tag: int
    vr: str
    test: Test | None
    items: Matcher | None = None


def is_universal(vr: str, value: Any) -> bool:
    """True for one value of a key that everything matches (PS3.4 sections C.2.2.2.3 and C.2.2.2.4).

    No value; `*` alone, whatever the VR, dates and times as well; a binary number that is zero, for that is what some
    peers send for an empty one.
    """
    if vr in NUMBERS:
        return is_empty(value) or value == 0
    if isinstance(value, bytes):
        return not value
    return not plain_text("" if value is None else value).strip("*")


class Matcher:
    """The keys of an identifier."""

    def __init__(
        self,
        identifier: Dataset,
        *,
        fold_names: bool = True,
        combined: Iterable[tuple[str, str]] = (),
        matched: Collection[str] | None = None,
    ) -> None:
        """`fold_names`: names match without regard to case and accents (PS3.4 C.2.2.2.1.1 leaves that to us).

        `combined` are pairs of date and time keywords whose ranges are one (section C.2.2.2.5.3).  `matched` are the
        keywords that are matching keys, in items as well, all of them by default; others are return keys: answered
        whatever value they come with.  Raises Refused (A900H) for a matching key that no value of its VR reads as.
        """
        from pydicom.datadict import tag_for_keyword

        pairs = [(int(tag_for_keyword(date) or 0), int(tag_for_keyword(time) or 0)) for date, time in combined]
        self.unmatched: list[int] = []
        """Tags of return keys that came with a value to match."""
        self._character_sets = _character_sets(identifier)
        self._spans = [span for date, time in pairs if (span := _span(identifier, date, time)) is not None]
        spanned = {tag for span in self._spans for tag in (span.date, span.time)}
        self._keys: list[_Key] = []
        for element in identifier:
            tag = int(element.tag)
            if tag in NOT_KEYS or not tag & 0xFFFF:
                continue
            is_return_key = matched is not None and element.keyword not in matched

            def nested(item: Dataset, *, none: bool = is_return_key) -> Matcher:
                return Matcher(item, fold_names=fold_names, combined=combined, matched=() if none else matched)

            if is_return_key:
                key = _return_key(element, nested)
                if _has_value(element):
                    self.unmatched.append(tag)
            else:
                key = _key(element, nested, fold_names)
                if key.items is not None:
                    self.unmatched += key.items.unmatched
            if tag in spanned:
                key.test = None
            self._keys.append(key)

    @property
    def is_universal(self) -> bool:
        """True when everything matches."""
        return not self._spans and all(key.test is None for key in self._keys)

    def matches(self, dataset: Dataset) -> bool:
        """True when every key matches (PS3.4 C.2.2.1: entities match when all keys do)."""
        for key in self._keys:
            if key.test is None:
                continue
            element = _element(dataset, key.tag)
            if element is None or is_empty(element.value) or not key.test(element.value):
                return False
        return all(span.matches(dataset) for span in self._spans)

    def answer(self, dataset: Dataset) -> Dataset:
        """The identifier of the pending response: the attributes that were asked for, empty where there are none.

        Of a sequence that was matched, the items that match (section C.2.2.2.6).  Text is in the character sets of the
        query where these hold it, else in UTF-8; in those of `dataset` where the query names none.
        """
        answer = self._answered(dataset)
        value = best_character_sets(answer, self._character_sets or _character_sets(dataset))
        if value:
            answer.SpecificCharacterSet = value.split("\\")
        return answer

    def _answered(self, dataset: Dataset) -> Dataset:
        import pydicom

        answer = pydicom.Dataset()
        for key in self._keys:
            element = _element(dataset, key.tag)
            if element is None:
                answer.add_new(key.tag, key.vr, [] if key.vr == "SQ" else None if key.vr in NUMBERS else "")
            elif key.items is None:
                answer.add(element)
            else:
                chosen = [key.items._answered(item) for item in element.value or () if key.items.matches(item)]
                answer.add_new(key.tag, "SQ", chosen)
        return answer


def _has_value(element: Any) -> bool:
    vr, value = str(element.VR), element.value
    if vr == "SQ":
        return any(_has_value(inner) for item in value or () for inner in item)
    return not is_empty(value) and not any(is_universal(vr, single) for single in single_values(value))


def _return_key(element: Any, nested: Callable[[Any], Matcher]) -> _Key:
    """A key whose value, if it has one, is not held against anything."""
    tag, vr = int(element.tag), str(element.VR)
    items = [item for item in element.value or () if len(item)] if vr == "SQ" else []
    return _Key(tag, vr, None, nested(items[0]) if items else None)


def _key(element: Any, nested: Callable[[Any], Matcher], fold_names: bool) -> _Key:
    tag, vr, value = int(element.tag), str(element.VR), element.value
    if vr == "SQ":
        # An empty sequence, or one with an empty item, asks for the whole sequence.
        readers = [nested(item) for item in value or () if len(item)]
        if not readers:
            return _Key(tag, vr, None)
        items = readers[0]
        universal = all(reader.is_universal for reader in readers)
        test = None if universal else lambda found: any(reader.matches(item) for reader in readers for item in found)
        return _Key(tag, vr, test, items)
    if is_empty(value):
        return _Key(tag, vr, None)
    values = single_values(value)
    if any(is_universal(vr, single) for single in values):
        return _Key(tag, vr, None)  # one of several values is
    wanted = [test for single in values if (test := _test(vr, single, fold_names, element)) is not None]
    if len(wanted) < len(values):
        return _Key(tag, vr, None)
    # A list of UIDs; of other VRs too, where peers send one (sections C.2.2.2.2 and C.2.2.2.8).
    return _Key(tag, vr, lambda found: any(test(single) for single in single_values(found) for test in wanted))


def _test(vr: str, key: Any, fold_names: bool, element: Any) -> Test | None:
    """The test for one value of a key; None for a name of nothing but delimiters and stars."""
    if vr in TEMPORAL:
        read = TEMPORAL[vr]
        period = read(str(key).strip(" \0"))
        if period is None:
            raise Refused(
                Status.DATA_SET_MISMATCH,
                is_none(element.keyword, vr),
                OffendingElement=(int(element.tag),),
            )
        return lambda found: (other := read(str(found).strip(" \0"))) is not None and period.holds(other)
    if vr in NUMBER_VRS:
        number = _number(key)
        return lambda found: number is not None and _number(found) == number
    if isinstance(key, bytes):
        return lambda found: found == key
    text = plain_text(key)
    if vr == "PN":
        return _name_test(text, fold_names)
    if vr in WILDCARD_VRS and ("*" in text or "?" in text):
        return lambda found: fits_wildcards(text, plain_text(found))
    return lambda found: plain_text(found) == text


def _name_test(text: str, fold: bool) -> Test | None:
    key = name_key(text, fold=fold)
    if key is None:
        return None
    groups = key.groups

    def test(found: Any) -> bool:
        names = fold_groups(plain_text(found), fold=fold)
        return all(
            any(
                representation in (None, number) and any(_fits(pattern, whole, components) for pattern in patterns)
                for number, whole, components in names
            )
            for representation, patterns in groups
        )

    return test


def _fits(pattern: Sequence[str], whole: str, components: Sequence[str]) -> bool:
    """One pattern for the whole group, or one for each of its components."""
    if len(pattern) == 1:
        return fits_wildcards(pattern[0], whole)
    return all(map(fits_wildcards, pattern, components))


def fits_wildcards(pattern: str, text: str) -> bool:
    """`*` is any characters, `?` is one.  At most len(pattern) x len(text) steps, whatever the number of stars."""
    p = t = 0
    star, mark = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, mark = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p += 1
            t += 1
        elif star >= 0:
            p, mark = star + 1, mark + 1
            t = mark
        else:
            return False
    return not pattern[p:].strip("*")


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of dates and a range of times that are one range of date and time."""

    date: int
    time: int
    first: tuple[int, int]
    last: tuple[int, int]

    def matches(self, dataset: Dataset) -> bool:
        date = _period(dataset, self.date, read_date)
        time = _period(dataset, self.time, read_time)
        if date is None or date.first is None:
            return False
        moment = (date.first, time.first if time is not None and time.first is not None else 0)
        return self.first <= moment <= self.last


EARLIEST: Final = -(1 << 62)
LATEST: Final = 1 << 62


def _span(identifier: Dataset, date: int, time: int) -> _Span | None:
    """Only where both keys are ranges; else each is matched by itself."""
    if any("-" not in str(identifier[tag].value) for tag in (date, time) if tag in identifier):
        return None
    if date not in identifier or time not in identifier:
        return None
    days, hours = _period(identifier, date, read_date), _period(identifier, time, read_time)
    if days is None or hours is None:
        return None  # what is wrong with it is said where it is read as a key
    return _Span(
        date,
        time,
        (EARLIEST if days.first is None else days.first, EARLIEST if hours.first is None else hours.first),
        (LATEST if days.last is None else days.last, LATEST if hours.last is None else hours.last),
    )


def _period(dataset: Dataset, tag: int, read: Callable[[str], Period | None]) -> Period | None:
    element = _element(dataset, tag)
    return None if element is None or is_empty(element.value) else read(str(single_values(element.value)[0]).strip())


def _element(dataset: Dataset, tag: int) -> Any:
    element: Any = dataset.get(tag)
    return element


def single_values(value: Any) -> Sequence[Any]:
    """The values of an element, one or many."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return (value,)
    return value


def _character_sets(dataset: Dataset) -> str:
    sets = dataset.get("SpecificCharacterSet")
    return "" if is_empty(sets) else "\\".join(map(str, single_values(sets)))


def plain_text(value: Any) -> str:
    """The value without padding, and without the escape of ISO 2022 IR 58 that pydicom leaves in decoded text."""
    return str(value).replace("\x1b$)A", "").strip(" \0")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
