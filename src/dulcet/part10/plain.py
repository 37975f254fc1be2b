"""The fast way over plain elements: known length, a VR that the standard knows, no sequence (PS3.5 section 7.1.2).

Rule: stops at whatever is not so; `walk` knows everything else.  It has no verdict of its own.
"""

from __future__ import annotations

from typing import Final

from dulcet.part10.encoding import LONG_VRS, SHORT_VRS, UNDEFINED, Encoding

__all__ = ["keep_plain", "pass_plain"]

LONG_PLAIN: Final = LONG_VRS - {b"SQ"}
BEFORE_DELIMITERS: Final = 0xFFFDFFFF
DELIMITERS: Final = 0xFFFE


def keep_plain(
    data: bytes,
    at: int,
    stop: int,
    left: int,
    encoding: Encoding,
    last: int,
    wanted: frozenset[int] | None,
    values: dict[int, bytes],
    most: int,
) -> tuple[int, int, int]:
    """From `at`, take up to `left` elements up to the tag `last`, none of which ends behind `stop`.

    (Where the first one lies that is not taken, what is left of `left`, where the last one lies that was.)  The wanted
    ones, all for None, are put into `values`: these have to lie within `data` and to have at most `most` bytes.  The
    value of the last one may end behind `data`.
    """
    size = len(data)
    mark, last_start, long = at, size - 8, encoding.long.unpack_from
    if encoding.implicit:
        implicit = encoding.implicit_header.unpack_from
        while at <= last_start and left:
            group, element, length = implicit(data, at)
            tag = group << 16 | element
            end = at + 8 + length
            if tag > last or end > stop or length == UNDEFINED:
                break
            if wanted is None or tag in wanted:
                if end > size or length > most:
                    break
                values[tag] = data[at + 8 : end]
            mark, at = at, end
            left -= 1
        return at, left, mark
    unpack = encoding.explicit_header.unpack_from
    while at <= last_start and left:
        group, element, vr, length = unpack(data, at)
        tag = group << 16 | element
        if tag > last:
            break
        start = at + 8
        if vr not in SHORT_VRS:
            if vr not in LONG_PLAIN or start > last_start + 4:
                break
            length = long(data, start)[0]
            if length == UNDEFINED:
                break
            start += 4
        end = start + length
        if end > stop:
            break
        if wanted is None or tag in wanted:
            if end > size or length > most:
                break
            values[tag] = data[start:end]
        mark, at = at, end
        left -= 1
    return at, left, mark


def pass_plain(data: bytes, at: int, stop: int, left: int, encoding: Encoding) -> tuple[int, int, int]:
    """The same where nothing is wanted, whatever the tags: that is what most elements are."""
    if encoding.implicit:
        return keep_plain(data, at, stop, left, encoding, BEFORE_DELIMITERS, frozenset(), {}, 0)
    last_start, mark = len(data) - 8, at
    unpack, long = encoding.passed_header.unpack_from, encoding.long.unpack_from
    short_numbers, long_numbers = encoding.short_numbers, encoding.long_numbers  # a number is looked up faster
    while at <= last_start and left:
        group, vr, length = unpack(data, at)
        if vr in short_numbers:
            end = at + 8 + length
        elif vr in long_numbers and at <= last_start - 4:
            length = long(data, at + 8)[0]
            if length == UNDEFINED:
                break
            end = at + 12 + length
        else:
            break
        if end > stop or group == DELIMITERS:
            break
        mark, at = at, end
        left -= 1
    return at, left, mark
