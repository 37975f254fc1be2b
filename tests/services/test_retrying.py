"""The one back-off: pauses that grow, are spread, and end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dulcet.services.retrying import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first=0.2, longest=30.0)
    assert [backoff.pause(failures) for failures in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert backoff.pause(5000) == 30.0


def test_it_was_tried_often_enough() -> None:
    backoff = Backoff(first=1.0, attempts=3)
    assert [backoff.pause(failures) for failures in (1, 2, 3, 4)] == [1.0, 2.0, None, None]
    assert Backoff(attempts=1).pause(1) is None


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 2))
def test_a_pause_is_spread_upwards_by_its_share(failures: int, random: float, spread: float) -> None:
    least = Backoff(first=0.5, longest=60.0, spread=spread).pause(failures, 0.0)
    pause = Backoff(first=0.5, longest=60.0, spread=spread).pause(failures, random)
    assert least is not None
    assert pause is not None
    assert least <= pause <= least * (1 + spread) * 1.000001
    assert pause == least * (1 + spread * random)
