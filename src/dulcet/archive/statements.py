"""Conditions of a query as SQL for SQLite (PS3.4 section C.2.2.2).

Rule: values travel as parameters, never within the text; names of columns come from the table of attributes alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Final

from dulcet.archive.attributes import ATTRIBUTES, COUNTERS, IMAGE, PATIENT, SERIES, STUDY, Attribute
from dulcet.archive.matching import Between, Condition, Items, Like, Moment, Named, OneOf, Query
from dulcet.services.matching import fits_wildcards

__all__ = ["TABLES", "Where", "column", "fits", "one_fits", "sounds_like", "wheres"]

TABLES: Final = ("patient", "study", "series", "instance")
COMPONENTS: Final = ("family", "given", "middle", "prefix", "suffix")
STUDY_OF: Final = {
    "study": "study.id",
    "series": "series.study",
    "instance": "(SELECT study FROM series WHERE series.id = instance.series)",
}
DAY: Final = 86_400_000_000
STARS: Final = 3

Where = tuple[str, list[object]]
"""A condition and its parameters."""


def column(attribute: Attribute) -> str:
    """The column of an attribute in the table of its level."""
    return COUNTERS.get(attribute.keyword, attribute.keyword)


def wheres(query: Query, *, patients: bool) -> list[list[Where]]:
    """The conditions by table, patient to instance; those on patients go to `study` unless `patients` are asked for."""
    found: list[list[Where]] = [[], [], [], []]
    for condition in query.conditions:
        keyword = condition.date if isinstance(condition, Moment) else condition.keyword
        level = ATTRIBUTES[keyword].level
        table = STUDY if level == PATIENT and not patients else level
        found[table].append(_where(condition, table))
        if table == SERIES and keyword == "SeriesInstanceUID":
            sql, values = _where(condition, SERIES)
            found[STUDY].append((f"study.id IN (SELECT series.study FROM series WHERE {sql})", values))
        if table == IMAGE and keyword == "SOPInstanceUID":
            sql, values = _where(condition, IMAGE)
            inner = f"SELECT instance.series FROM instance WHERE {sql}"
            found[SERIES].append((f"series.id IN ({inner})", values))
            found[STUDY].append((f"study.id IN (SELECT series.study FROM series WHERE series.id IN ({inner}))", values))
    return found


def _where(condition: Condition, table: int) -> Where:
    match condition:
        case OneOf(keyword, values):
            attribute = ATTRIBUTES[keyword]
            name = f"{TABLES[table]}.{column(attribute)}"
            if attribute.vr == "DS":
                return _one_of(f"CASE {name} WHEN '' THEN NULL ELSE CAST({name} AS REAL) END", _decimals(values))
            if attribute.vr in ("IS", "US"):
                name = f"CASE {name} WHEN '' THEN NULL ELSE CAST(CAST({name} AS INTEGER) AS TEXT) END"
            return _one_of(name, values, attribute.multiple)
        case Like(keyword, patterns):
            return _like(f"{TABLES[table]}.{column(ATTRIBUTES[keyword])}", patterns, ATTRIBUTES[keyword].multiple)
        case Between(keyword, ranges):
            return _in_ranges(f"{TABLES[table]}.{keyword}_at", ranges)
        case Moment():
            return _moment(condition, TABLES[table])
        case Named():
            return _named(condition, table)
        case Items(_, conditions):
            return _items(conditions)


def _decimals(values: Sequence[str]) -> list[float]:
    found = []
    for value in values:
        with contextlib.suppress(ValueError):
            found.append(float(value))
    return found


def _one_of(name: str, values: Sequence[str | float], multiple: bool = False) -> Where:
    if multiple:
        given = json.dumps([f"\\{value}\\" for value in values])
        return f"EXISTS (SELECT 1 FROM json_each(?) WHERE instr('\\' || {name} || '\\', value) > 0)", [given]
    if len(values) == 1:
        return f"{name} = ?", [values[0]]
    # One parameter for any number of values: SQLite has limits, and prepares the statement once.
    return f"{name} IN (SELECT value FROM json_each(?))", [json.dumps(values)]


def _like(name: str, patterns: Sequence[str], multiple: bool = False) -> Where:
    if len(patterns) == 1 and not multiple:
        return _glob(name, patterns[0])
    test = "one_fits" if multiple else "fits"
    return f"EXISTS (SELECT 1 FROM json_each(?) WHERE {test}(value, {name}))", [json.dumps(patterns)]


def _glob(name: str, pattern: str) -> Where:
    """GLOB uses an index where the pattern begins with a letter; with many stars its time grows with their power."""
    if pattern.count("*") > STARS:
        return f"fits(?, {name})", [pattern]
    return f"{name} GLOB ?", [pattern.replace("[", "[[]")]


def fits(pattern: str, text: str | None) -> bool:
    """`*` is any characters, `?` is one; nothing is compiled, for that costs more than it spares and has to be kept."""
    return text is not None and fits_wildcards(pattern, text)


def one_fits(pattern: str, texts: str | None) -> bool:
    """One of several values does."""
    return texts is not None and any(fits(pattern, text) for text in texts.split("\\"))


def _in_ranges(name: str, ranges: Sequence[tuple[int | None, int | None]]) -> Where:
    if len(ranges) == 1:
        return _between(name, *ranges[0])
    first, last = "json_extract(value, '$[0]')", "json_extract(value, '$[1]')"
    bounds = f"{name} >= coalesce({first}, {name}) AND {name} <= coalesce({last}, {name})"
    return f"EXISTS (SELECT 1 FROM json_each(?) WHERE {bounds})", [json.dumps(ranges)]


def _any(wheres: Iterable[Where]) -> Where:
    tests = list(wheres)
    if len(tests) == 1:
        return tests[0]
    return f"({' OR '.join(sql for sql, _ in tests)})", [value for _, values in tests for value in values]


def _all(wheres: Iterable[Where]) -> Where:
    tests = list(wheres)
    return f"({' AND '.join(sql for sql, _ in tests)})", [value for _, values in tests for value in values]


def _between(name: str, first: int | None, last: int | None) -> Where:
    bounds: list[Where] = []
    if first is not None:
        bounds.append((f"{name} >= ?", [first]))
    if last is not None:
        bounds.append((f"{name} <= ?", [last]))
    return f"({' AND '.join(sql for sql, _ in bounds)})", [value for _, values in bounds for value in values]


def _moment(moment: Moment, table: str) -> Where:
    value = f"({table}.{moment.date}_at * {DAY} + coalesce({table}.{moment.time}_at, 0)"
    if moment.zone is None:
        return _between(value + ")", moment.first, moment.last)
    offset = "(SELECT zoned.TimezoneOffsetFromUTC FROM study AS zoned WHERE zoned.id = " + STUDY_OF[table] + ")"
    minutes = f"(CAST(substr({offset}, 2, 2) AS INTEGER) * 60 + CAST(substr({offset}, 4, 2) AS INTEGER))"
    sign = f"CASE substr({offset}, 1, 1) WHEN '-' THEN -1 ELSE 1 END"
    # A study that names no zone of its own is taken to be of the one that the query is in.
    local = f"CASE coalesce({offset}, '') WHEN '' THEN {moment.zone} ELSE {sign} * {minutes} * 60000000 END"
    return _between(f"{value} - {local})", moment.first, moment.last)


def _named(named: Named, table: int) -> Where:
    head = f"{TABLES[table]}.id IN (SELECT owner FROM person WHERE level = ? AND tag = ?"
    start: list[object] = [table, ATTRIBUTES[named.keyword].tag]
    if named.words:
        return _all((f"{head} AND sounds_like(whole, ?))", [*start, word]) for word in named.words)
    return _any(_all(_group(head, start, *group) for group in key.groups) for key in named.keys)


def _group(head: str, start: list[object], representation: int | None, patterns: Sequence[Sequence[str]]) -> Where:
    """One component group fits one of the patterns."""
    which = "" if representation is None else " AND representation = ?"
    given: list[object] = [*start] if representation is None else [*start, representation]
    tests: list[Where] = []
    for pattern in patterns:
        pairs = [("whole", pattern[0])] if len(pattern) == 1 else list(zip(COMPONENTS, pattern))
        parts = [_part(name, part) for name, part in pairs if part.strip("*") or not part]
        sql = "".join(f" AND {test}" for test, _ in parts)
        tests.append((f"{head}{which}{sql})", [*given, *(value for _, values in parts for value in values)]))
    return _any(tests)


def _part(name: str, pattern: str) -> Where:
    return _glob(name, pattern) if "*" in pattern or "?" in pattern else (f"{name} = ?", [pattern])


def _items(conditions: Sequence[Condition]) -> Where:
    tests: list[str] = []
    values: list[object] = []
    for condition in conditions:
        assert isinstance(condition, OneOf | Like)
        name = f"request.{condition.keyword}"
        sql, found = (
            _one_of(name, condition.values) if isinstance(condition, OneOf) else _like(name, condition.patterns)
        )
        tests.append(sql)
        values += found
    return f"series.id IN (SELECT request.series FROM request WHERE {' AND '.join(tests)})", values


CODES: Final = {letter: code for code, letters in enumerate("bfpv cgjkqsxz dt l mn r".split(), 1) for letter in letters}


def sounds_like(name: str, word: str) -> bool:
    """Fuzzy matching: one word of the folded name begins with this one, or has its sound."""
    wanted = word.rstrip("*")
    sound = _sound(wanted)
    return any(
        part.startswith(wanted) or (sound != "" and _sound(part) == sound) for part in name.replace("^", " ").split()
    )


def _sound(word: str) -> str:
    """The American Soundex code; "" for what has no letter of the Latin alphabet in front."""
    if not word[:1].isascii() or not word[:1].isalpha():
        return ""
    code, last = word[0], CODES.get(word[0], 0)
    for letter in word[1:]:
        number = CODES.get(letter, 0)
        if number and number != last:
            code += str(number)
        if letter not in "hw":
            last = number
    return code[:4].ljust(4, "0")
