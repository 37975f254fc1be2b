"""The fuzzing targets without a fuzzer: their seeds, bytes of chance, and what a fuzzer found."""

from __future__ import annotations

import random

import pytest
from fuzzing.targets import TARGETS, seeds

FOUND: dict[str, tuple[str, bytes]] = {}
"""By what was wrong: the target and the bytes that showed it."""


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_taken(target: str) -> None:
    count = 0
    for seed in seeds(target):
        TARGETS[target](seed)
        count += 1
    assert count > 3


@pytest.mark.parametrize("target", TARGETS)
def test_spoilt_seeds_raise_nothing(target: str) -> None:
    chance = random.Random(11)
    known = list(seeds(target))
    for number in range(400):
        data = bytearray(chance.choice(known))
        for _ in range(chance.randrange(1, 6)):
            where = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[where] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 1:
                    data[where] ^= 1 << chance.randrange(8)
                case 2:
                    del data[where : where + chance.randrange(1, 20)]
                case 3:
                    data[where:where] = chance.randbytes(chance.randrange(1, 20))
            data = data or bytearray(b"\0")
        try:
            TARGETS[target](bytes(data))
        except BaseException as failure:
            failure.add_note(f"number {number}: {bytes(data).hex()}")
            raise


def test_what_was_found_stays_mended() -> None:
    for target, data in FOUND.values():
        TARGETS[target](data)
