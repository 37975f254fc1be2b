"""Attribute lists of N-services (PS3.4 section 5.4, PS3.7 section 10): requirement tables, selection, change.

Rules: a table is written as the standard prints it, one attribute a line, `>` for those of the items of a sequence;
what is wrong with a peer's list ends in `Refused`, with the status and the attributes that PS3.7 Annex C asks for; no
value of a data set gets into a comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from dulcet.dimse.status import Status
from dulcet.services.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Rule", "check", "forbid", "is_empty", "merge", "read_rules", "select", "tag_of"]

Type = Literal["1", "2", "3"]

CHARACTER_SET: Final = 0x00080005


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a table: type 1 needs a value, 2 may be empty, 3 may be absent; `values` are those allowed."""

    keyword: str
    type: Type
    values: tuple[str, ...] = ()
    items: tuple[Rule, ...] = ()
    """The rules for each item of a sequence."""


def read_rules(table: str) -> tuple[Rule, ...]:
    """Rules from lines of keyword, type and allowed values: `>ProcedureStepState  1  SCHEDULED | COMPLETED`."""
    lines = [line.split(maxsplit=2) for line in table.strip().splitlines()]
    rules, rest = _read_level(lines, 0, 0)
    assert rest == len(lines)
    return rules


def _read_level(lines: Sequence[Sequence[str]], start: int, depth: int) -> tuple[tuple[Rule, ...], int]:
    rules: list[Rule] = []
    while start < len(lines):
        name, kind, *allowed = lines[start]
        if len(name) - len(name.lstrip(">")) < depth:
            break
        items, after = _read_level(lines, start + 1, depth + 1)
        values = tuple(value.strip() for value in allowed[0].split("|")) if allowed else ()
        assert kind in ("1", "2", "3")
        rules.append(Rule(name.lstrip(">"), kind, values, items))  # type: ignore[arg-type]
        start = after
    return tuple(rules), start


@dataclass(slots=True)
class _Findings:
    missing: list[Rule] = field(default_factory=list)
    empty: list[Rule] = field(default_factory=list)
    wrong: list[tuple[Rule, Any]] = field(default_factory=list)


def check(dataset: Dataset, rules: Iterable[Rule], *, strict: bool = False, absent: int | None = None) -> None:
    """Refused when a rule is broken: 0120H attributes missing, 0121H values missing, 0106H values not allowed.

    A type 2 attribute that is absent counts only if `strict`: many a modality leaves it out.  `absent` is the status
    for missing attributes where the service has no 0120H, as N-SET.
    """
    found = _Findings()
    _look(dataset, rules, strict, found)
    if found.missing:
        raise Refused(
            Status.MISSING_ATTRIBUTE if absent is None else absent,
            _comment("missing", found.missing),
            attributes=[tag_of(rule.keyword) for rule in found.missing],
        )
    if found.empty:
        raise Refused(
            Status.MISSING_ATTRIBUTE_VALUE, _comment("no value in", found.empty), dataset=_emptied(found.empty)
        )
    if found.wrong:
        wrong = [rule for rule, _ in found.wrong]
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, _comment("not allowed in", wrong), dataset=_listed(found.wrong))


def _look(dataset: Dataset, rules: Iterable[Rule], strict: bool, found: _Findings) -> None:
    for rule in rules:
        if rule.keyword not in dataset:
            if rule.type == "1" or (strict and rule.type == "2"):
                found.missing.append(rule)
            continue
        value = dataset[rule.keyword].value
        if is_empty(value):
            if rule.type == "1":
                found.empty.append(rule)
        elif rule.values and str(value).strip() not in rule.values:
            found.wrong.append((rule, value))
        elif rule.items and hasattr(value, "append"):
            for item in value:
                _look(item, rule.items, strict, found)


def is_empty(value: Any) -> bool:
    """True for an element's value of zero length: None, "", no items, nothing but spaces."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip(" \0")
    try:
        return len(value) == 0
    except TypeError:
        return False  # a number


def forbid(dataset: Dataset, keywords: Iterable[str]) -> None:
    """Refused with 0105H and the tags when the list holds an attribute that may not be in it."""
    found = [keyword for keyword in keywords if keyword in dataset]
    if found:
        comment = f"may not be set: {', '.join(found)}"
        raise Refused(Status.NO_SUCH_ATTRIBUTE, comment, attributes=[tag_of(keyword) for keyword in found])


def select(dataset: Dataset, tags: Sequence[int], *, hidden: Iterable[str] = ()) -> tuple[Status, Dataset]:
    """What N-GET answers (PS3.7 section 10.1.2): the attributes asked for, all for none; 0001H when some lack."""
    import pydicom

    unseen = {tag_of(keyword) for keyword in hidden}
    wanted: Iterable[int] = tags or [int(element.tag) for element in dataset]
    chosen = pydicom.Dataset()
    lacking = False
    for tag in wanted:
        if tag in dataset and tag not in unseen:
            chosen.add(dataset[tag])
        else:
            lacking = True
    if CHARACTER_SET in dataset and chosen:
        chosen.add(dataset[CHARACTER_SET])
    return Status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if lacking and tags else Status.SUCCESS, chosen


def merge(dataset: Dataset, changes: Dataset, *, without: Iterable[str] = ()) -> Dataset:
    """A copy of `dataset` with the attributes of an N-SET replaced (PS3.7 section 10.1.3): a sequence as a whole.

    Text of both is kept readable: where their character sets differ, the copy is in UTF-8.
    """
    import pydicom

    skipped = {tag_of(keyword) for keyword in without}
    result = pydicom.Dataset()
    for source in (dataset, changes):
        for element in source:
            _ = element.value  # decoded with the character set of its own data set
            if int(element.tag) not in skipped or source is dataset:
                result.add(element)
    if dataset.get(CHARACTER_SET) != changes.get(CHARACTER_SET, dataset.get(CHARACTER_SET)):
        result.SpecificCharacterSet = "ISO_IR 192"
    elif CHARACTER_SET in dataset:
        result.add(dataset[CHARACTER_SET])
    return result


def tag_of(keyword: str) -> int:
    """The tag of a keyword of the dictionary."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


def _comment(what: str, rules: Sequence[Rule]) -> str:
    return f"{what}: {', '.join(rule.keyword for rule in rules)}"


def _emptied(rules: Iterable[Rule]) -> Dataset:
    return _listed((rule, None) for rule in rules)


def _listed(pairs: Iterable[tuple[Rule, Any]]) -> Dataset:
    """The Attribute List that says which values are wrong (PS3.7 section C.4.2 and C.5)."""
    import pydicom
    from pydicom.datadict import dictionary_VR

    dataset = pydicom.Dataset()
    for rule, value in pairs:
        tag = tag_of(rule.keyword)
        vr = dictionary_VR(tag)
        dataset.add_new(tag, vr, value if value is not None else [] if vr == "SQ" else "")
    return dataset
