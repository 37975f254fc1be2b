"""What every test shares: Hypothesis's profile; an interop test that is skipped where it is required fails."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

INTEROP = Path(__file__).parent / "interop"
REQUIRED = os.environ.get("DULCET_REQUIRE_INTEROP") == "1"
SKIPPED = "an interop test was skipped, but DULCET_REQUIRE_INTEROP=1 asks for it: "

# No deadline: the machines that run this are shared and slow at times.  In CI the same examples each time.
settings.register_profile("dulcet", deadline=None, derandomize=os.environ.get("CI", "") not in ("", "0", "false"))
settings.load_profile("dulcet")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("interop"):
        report.outcome = "failed"
        report.longrepr = f"{SKIPPED}{report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if REQUIRED and report.skipped and collector.path.is_relative_to(INTEROP):
        report.outcome = "failed"
        report.longrepr = f"{SKIPPED}{report.longrepr}"
    return report
