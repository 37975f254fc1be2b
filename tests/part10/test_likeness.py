"""What is compared with the one before has the verdict that it has alone."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from tests.part10 import mutants
from tests.part10.samples import EXPLICIT, element, identity
from tests.part10.test_walk import INDEXED, Verdict, received

from dulcet.part10 import likeness


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    likeness._places.clear()
    yield
    likeness._places.clear()


def alone(data: bytes, syntax: str, pieces: list[int], wanted: frozenset[int]) -> Verdict:
    likeness._places.clear()
    return received(data, syntax, pieces, wanted)


@pytest.mark.parametrize("pieces", [[1 << 20], [600, 9000], [1, 2000]], ids=str)
@pytest.mark.parametrize("wanted", [frozenset[int](), frozenset({0x00080016, 0x00080018}), INDEXED], ids=len)
def test_behind_any_other_it_is_judged_as_alone(wanted: frozenset[int], pieces: list[int]) -> None:
    found = 0
    for number, (syntax, data) in enumerate(mutants.originals()):
        them = list(mutants.mutants(data, syntax, Random(number), 60 if number < 4 else 10))
        expected = [alone(one, syntax, pieces, wanted) for one in them]
        likeness._places.clear()
        for _ in range(2):  # the original first, and what was made of it behind it: most begin alike
            assert [received(one, syntax, pieces, wanted) for one in (data, *them)][1:] == expected
        found += sum(place.known is not None for place in likeness._places.values())
    assert found  # else nothing was compared


def test_what_lies_elsewhere_is_not_alike() -> None:
    data = identity() + b"".join(element(0x00080020 + number, "DA", b"20240229") for number in range(12))
    wanted = frozenset({0x00080018, 0x00080030})
    kept = received(data, EXPLICIT, [1 << 20], wanted)
    key, place = next(iter(likeness._places.items()))
    known = place.known
    assert known is not None
    assert known.fits(data)
    seen = set()
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        likeness._places[key], place.known = place, known
        after = received(changed, EXPLICIT, [1 << 20], wanted)
        assert after == alone(changed, EXPLICIT, [1 << 20], wanted)
        seen.add(known.fits(changed))
        assert not known.fits(changed) or after[0] == kept[0] == "whole"
    assert seen == {True, False}
