"""Dates, times and ranges of them as keys write them (PS3.4 section C.2.2.2.5, PS3.5 section 6.2), as whole numbers.

Rule: reads no clock and knows no time zone but the offset that is written; what does not read is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["TEMPORAL", "Period", "is_none", "read_date", "read_datetime", "read_time", "write_period"]

TEMPORAL: Final = ("DA", "TM", "DT")

FORMS: Final = {"DA": "YYYYMMDD", "TM": "HHMMSS", "DT": "YYYYMMDDHHMMSS"}

DATE: Final = re.compile(r"(\d{4})([.]?)(\d{2})\2(\d{2})")
TIME: Final = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
DATETIME: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?"
)
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
MONTH_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Period:
    """From `first` to `last`, both included, None for open; in days or microseconds.

    A value without all its components is the period that it leaves open: the time 10 is 10:00:00 to 10:59:59.999999.
    """

    first: int | None
    last: int | None
    offset: int | None = None
    """Of the first end from UTC in microseconds, where one is written."""
    last_offset: int | None = None

    def holds(self, value: Period) -> bool:
        """True when a value that was read lies within; offsets count where both sides have one."""
        moment = value.first
        if moment is None:
            return False
        return (
            self.first is None or _shifted(self.first, self.offset, value) <= _shifted(moment, value.offset, self)
        ) and (
            self.last is None or _shifted(moment, value.offset, self) <= _shifted(self.last, self.last_offset, value)
        )


def _shifted(moment: int, offset: int | None, other: Period) -> int:
    """In UTC, provided that the other side can be."""
    known = offset is not None and (other.offset is not None or other.last_offset is not None)
    return moment - (offset or 0) if known else moment


def is_none(keyword: str, vr: str) -> str:
    """What is said of a key that is neither a value nor a range."""
    return f"{keyword}: no {vr} value or range ({FORMS[vr]})"


def read_date(text: str) -> Period | None:
    """DA: `20260131`, `2026.01.31`, or a range with `-`; in days."""
    return _read_range(text, _date)


def read_time(text: str) -> Period | None:
    """TM: `10`, `1030`, `10:30:15`, `103015.5`, or a range; in microseconds of the day."""
    return _read_range(text, _time)


def read_datetime(text: str) -> Period | None:
    """DT: `2026`, `202601311030+0100`, or a range; in microseconds.

    A `-` and four digits are an offset from UTC where they can be one (up to -1200), else the end of a range.
    """
    single = _datetime(text)
    if single is not None:
        return single
    for match in re.finditer("-", text):
        period = _joined(text[: match.start()], text[match.end() :], _datetime)
        if period is not None:
            return period
    return None


def write_period(keyword: str, vr: str, value: Any) -> Any:
    """A key of VR DA, TM or DT from objects of `datetime`, or from a tuple (first, last), None for an open end.

    Text, lists of values and everything else are given back as they are, objects in a list written.  ValueError names
    the `keyword` of a tuple that is no range, or ends before it begins.
    """
    if not isinstance(value, tuple):
        return [_written(vr, one) for one in value] if isinstance(value, list) else _written(vr, value)
    if len(value) != 2:
        raise ValueError(f"{keyword}: a tuple is a range, (first, last); a list takes {len(value)} values")
    first, last = value
    if type(first) is type(last) and hasattr(first, "isoformat") and _is_after(first, last):
        raise ValueError(f"{keyword}: the range ends before it begins")
    texts = ["" if end is None else str(_written(vr, end)).strip() for end in value]
    return "-".join(texts) if any(texts) else ""


def _written(vr: str, value: Any) -> Any:
    """PS3.5 Table 6.2-1: YYYYMMDD, HHMMSS.FFFFFF and both with the offset from UTC where it is known."""
    # Told by what they have: the module has a clock, and the core reads none.
    has_date, has_time = hasattr(value, "year"), hasattr(value, "hour")
    if has_date and has_time:
        day, clock = _written("DA", value.date()), _written("TM", value.time())
        return {"DA": day, "TM": clock, "DT": f"{day}{clock}{value.strftime('%z')[:5]}"}[vr]
    # isoformat pads years to four digits, strftime does not everywhere.
    if has_date and vr != "TM":
        return value.isoformat().replace("-", "")
    if has_time and vr == "TM":
        return value.replace(tzinfo=None).isoformat().replace(":", "")
    return value


def _is_after(first: Any, last: Any) -> bool:
    try:
        return bool(first > last)
    except TypeError:  # one with an offset, one without
        return False


def _read_range(text: str, read: Callable[[str], Period | None]) -> Period | None:
    before, hyphen, after = text.partition("-")
    return _joined(before, after, read) if hyphen else read(text)


def _joined(before: str, after: str, read: Callable[[str], Period | None]) -> Period | None:
    first, last = read(before.strip()), read(after.strip())
    if (first is None and before.strip()) or (last is None and after.strip()) or (first is None and last is None):
        return None
    return Period(
        first.first if first else None,
        last.last if last else None,
        first.offset if first else None,
        last.offset if last else None,
    )


def _date(text: str) -> Period | None:
    match = DATE.fullmatch(text)
    if match is None:
        return None
    day = _day(int(match[1]), int(match[3]), int(match[4]))
    return None if day is None else Period(day, day)


def _time(text: str) -> Period | None:
    match = TIME.fullmatch(text)
    return None if match is None else _clock(match[1], match[2], match[3], match[4])


def _clock(hour: str, minute: str | None, second: str | None, fraction: str | None) -> Period | None:
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:  # 60 is a leap second
        return None
    first = (int(hour) * 3600 + int(minute or 0) * 60 + int(second or 0)) * SECOND + int(
        (fraction or "0").ljust(6, "0")
    )
    length = 3600 * SECOND if minute is None else 60 * SECOND if second is None else SECOND
    if fraction is not None:
        length = 10 ** (6 - len(fraction))
    return Period(first, first + length - 1)


def _datetime(text: str) -> Period | None:
    match = DATETIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    offset = None
    if zone is not None:
        offset = (int(zone[1:3]) * 60 + int(zone[3:])) * 60 * SECOND * (-1 if zone[0] == "-" else 1)
        if int(zone[3:]) > 59 or not -12 * 3600 * SECOND <= offset <= 14 * 3600 * SECOND:
            return None
    first = _day(int(year), int(month or 1), int(day or 1))
    if first is None:
        return None
    if hour is not None:
        clock = _clock(hour, minute, second, fraction)
        if clock is None or clock.first is None or clock.last is None:
            return None
        return Period(first * DAY + clock.first, first * DAY + clock.last, offset, offset)
    if day is not None:
        after = first + 1
    elif month is not None:
        after = first + _month_length(int(year), int(month))
    else:
        after = _day(int(year), 12, 31) or 0
        after += 1
    return Period(first * DAY, after * DAY - 1, offset, offset)


def _month_length(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return MONTH_LENGTHS[month - 1] + (month == 2 and leap)


def _day(year: int, month: int, day: int) -> int | None:
    """Days since 0000-03-01 of the Gregorian calendar; None for a day that does not exist."""
    if not 1 <= month <= 12 or not 1 <= day <= _month_length(year, month):
        return None
    shifted = year - (month <= 2)
    return (
        365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    )
