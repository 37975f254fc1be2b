"""What 0000H means when one of several processes, all of them, or their parent is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.archive.crashing import run


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="several processes take turns on Linux alone")
def test_nothing_acknowledged_is_lost_when_workers_or_their_parent_are_killed(tmp_path: Path) -> None:
    result = run(tmp_path / "data", 15, seed=11, longest=0.15, workers=2)
    assert result.problems == []
    assert result.cycles == 15
    assert len(result.acknowledged) >= 15
    assert result.swept + result.adopted > 0
