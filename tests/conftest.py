"""What every test shares: Hypothesis's profile; an interop test that is skipped where it is required fails; every
response with a failure that a core of ours sends, in whichever test, has to say why (PS3.7 Annex C); with
DULCET_NO_SOCKETS=1, as `make test-fast` has it, a test that makes a socket or a process fails.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dulcet.dimse.command import Command
from dulcet.dimse.elements import checked
from dulcet.dimse.reasons import fails
from dulcet.errors import DulcetError
from dulcet.upper_layer.connection import Connection

INTEROP = Path(__file__).parent / "interop"
REQUIRED = os.environ.get("DULCET_REQUIRE_INTEROP") == "1"
SKIPPED = "an interop test was skipped, but DULCET_REQUIRE_INTEROP=1 asks for it: "

# No deadline: the machines that run this are shared and slow at times.  In CI the same examples each time.
settings.register_profile("dulcet", deadline=None, derandomize=os.environ.get("CI", "") not in ("", "0", "false"))
settings.load_profile("dulcet")


if hasattr(signal, "SIGHUP"):
    # Whoever runs the tests with `nohup` wants them to go on, not that the servers in them hear no SIGHUP.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts them in the background has them ignore Ctrl-C, and so would the programs that they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("DULCET_NO_SOCKETS") == "1":

    def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
        if event in ("socket.__new__", "subprocess.Popen") and os.environ.get("PYTEST_CURRENT_TEST"):
            raise RuntimeError(f"{event}: tests of the core use neither sockets nor processes")

    sys.addaudithook(_refuse)


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


_send_message = Connection.send_message
_unexplained: list[str] = []


def _watched(self: Connection, context_id: int, command: bytes, *rest: Any) -> None:
    """Every message that a core sends, of whichever face and thread."""
    _send_message(self, context_id, command, *rest)
    try:
        said = Command.decode(command)
    except DulcetError:
        return  # a test that sends what is no command set
    if said.is_response and fails(said.status or 0):
        try:
            checked(said.name, "ErrorComment", said.error_comment)
        except DulcetError as error:
            _unexplained.append(f"{said.name} with {said.status:04X}H: {error}")


Connection.send_message = _watched  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _failures_say_why() -> Generator[None]:
    yield
    found, _unexplained[:] = list(_unexplained), []
    assert not found, f"failures without a reason: {found}"
