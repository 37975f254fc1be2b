"""The fast loops take what lies whole up to their bounds, and nothing beyond: each bound on both sides."""

from __future__ import annotations

import pytest
from tests.part10.samples import BIG_ENDIAN, EXPLICIT, IMPLICIT, element

from dulcet.part10.encoding import encoding_of
from dulcet.part10.plain import keep_plain, pass_plain

TAG = 0x00080018
FAR = 1 << 40
FORMS = [(IMPLICIT, "UI"), (EXPLICIT, "UI"), (EXPLICIT, "OB"), (BIG_ENDIAN, "UI"), (BIG_ENDIAN, "OB")]
forms = pytest.mark.parametrize(("syntax", "vr"), FORMS)


def kept(
    data: bytes, syntax: str, *, stop: int = FAR, left: int = 100, last: int = TAG, most: int = 100,
    wanted: frozenset[int] | None = None,
) -> tuple[int, list[bytes]]:  # fmt: skip
    """Up to where they are taken, and the values."""
    values: dict[int, bytes] = {}
    end, rest, _ = keep_plain(data, 0, stop, left, encoding_of(syntax), last, wanted, values, most)
    assert (rest == left) == (end == 0)
    return end, list(values.values())


def passed(data: bytes, syntax: str, *, stop: int = FAR, left: int = 100) -> int:
    """Up to where they are passed over."""
    end, rest, _ = pass_plain(data, 0, stop, left, encoding_of(syntax))
    assert (rest == left) == (end == 0)
    return end


@forms
def test_a_header_that_ends_with_the_window_is_read_and_one_that_ends_behind_it_is_not(syntax: str, vr: str) -> None:
    data = element(TAG, vr, syntax=syntax)
    assert kept(data, syntax) == (len(data), [b""])
    assert passed(data, syntax) == len(data)
    for cut in range(1, len(data)):
        assert kept(data[:-cut], syntax) == (0, [])
        assert passed(data[:-cut], syntax) == 0


@forms
def test_a_value_that_is_kept_lies_in_the_window_and_another_need_not(syntax: str, vr: str) -> None:
    data = element(TAG, vr, b"1.2\0", syntax=syntax)
    assert kept(data, syntax) == (len(data), [b"1.2\0"])
    assert kept(data[:-1], syntax) == (0, [])
    assert kept(data[:-1], syntax, wanted=frozenset({0})) == (len(data), [])
    assert passed(data[:-1], syntax) == len(data)


@forms
def test_a_value_that_is_kept_has_as_many_bytes_as_the_limit(syntax: str, vr: str) -> None:
    data = element(TAG, vr, b"1.2\0", syntax=syntax)
    assert kept(data, syntax, most=4) == (len(data), [b"1.2\0"])
    assert kept(data, syntax, most=3) == (0, [])
    assert kept(data, syntax, most=3, wanted=frozenset({0})) == (len(data), [])


@forms
def test_an_element_may_end_where_its_item_does(syntax: str, vr: str) -> None:
    data = element(TAG, vr, b"1.2\0", syntax=syntax)
    assert kept(data, syntax, stop=len(data)) == (len(data), [b"1.2\0"])
    assert passed(data, syntax, stop=len(data)) == len(data)
    assert kept(data, syntax, stop=len(data) - 1) == (0, [])
    assert passed(data, syntax, stop=len(data) - 1) == 0


@forms
def test_the_last_tag_is_taken_and_the_next_is_not(syntax: str, vr: str) -> None:
    data = element(TAG, vr, b"1.2\0", syntax=syntax)
    assert kept(data, syntax, last=TAG) == (len(data), [b"1.2\0"])
    assert kept(data, syntax, last=TAG - 1) == (0, [])


@forms
def test_as_many_are_taken_as_are_left(syntax: str, vr: str) -> None:
    one = element(TAG, vr, b"1.2\0", syntax=syntax)
    for left in (0, 1, 2):
        assert kept(one * 2, syntax, left=left)[0] == passed(one * 2, syntax, left=left) == left * len(one)
    assert kept(one * 2, syntax, left=3)[0] == passed(one * 2, syntax, left=3) == 2 * len(one)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_the_group_of_delimiters_is_left_and_those_beside_it_are_not(syntax: str) -> None:
    for tag, there in ((0xFFFDFFFF, True), (0xFFFE0000, False), (0xFFFEE00D, False), (0xFFFEFFFF, False)):
        data = element(tag, "UI", syntax=syntax)
        assert passed(data, syntax) == (len(data) if there else 0)
