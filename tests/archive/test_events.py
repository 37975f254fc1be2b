"""Events reach programs and functions at least once, also after a restart, and one that fails holds up no other."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archive.making import data_set, parts, send

from dulcet.archive.events import AT_ONCE, LAST_WORDS, Events, Hook, HookFailed
from dulcet.archive.index import INSTANCE_STORED, Event, IndexTrouble, Watch

STORED = Watch(frozenset((INSTANCE_STORED,)))


def test_a_program_gets_json_on_its_standard_input_and_no_shell(tmp_path: Path) -> None:
    told = tmp_path / "told; rm -rf $HOME"
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    Hook([sys.executable, "-c", script, str(told)])(Event(7, INSTANCE_STORED, {"sop_instance_uid": "1.2"}))
    assert json.loads(told.read_text()) == {"id": 7, "event": INSTANCE_STORED, "sop_instance_uid": "1.2"}


def test_what_a_hanging_script_called_is_killed_with_it(tmp_path: Path) -> None:
    """Else one more of them stayed each time that the event is told again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        child = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"
        script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
        hook = Hook([sys.executable, "-c", script, str(server.getsockname()[1])], seconds=5)
        with pytest.raises(HookFailed, match="had not ended after 5 s"):
            hook(Event(1, INSTANCE_STORED, {}))
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(1) == b""  # its end closes what it held


@pytest.mark.parametrize(
    ("script", "seconds", "how"),
    [
        ("import sys; sys.exit(3)", 30, "ended with exit code 3, and said nothing on standard error"),
        ("import sys; sys.exit('no queue')", 30, "ended with exit code 1; it said: no queue"),
        ("import os; os.kill(os.getpid(), 9)", 30, "was ended by SIGKILL, and said nothing on standard error"),
        ("import sys; sys.stderr.write('a\\n'*9 + ' \\n\x1b[2Jb\\nc'); sys.exit(2)", 30, r"it said: a | \x1b[2Jb | c"),
        ("import sys; sys.stderr.write('x' * 10_000_000 + 'end'); sys.exit(2)", 30, "xxend"),
        ("import time; time.sleep(30)", 0.5, "had not ended after 0.5 s, and was killed, and said nothing"),
    ],
)
def test_a_program_that_fails_or_hangs_is_a_failure_that_says_how(script: str, seconds: float, how: str) -> None:
    with pytest.raises(HookFailed) as caught:
        Hook([sys.executable, "-c", script], seconds=seconds)(Event(1, INSTANCE_STORED, {"uids": "1.2 " * 50_000}))
    assert str(caught.value).startswith(f"the hook {sys.executable!a} ")
    assert how in str(caught.value)
    assert len(str(caught.value)) < LAST_WORDS + 300
    assert str(caught.value).isprintable()


def test_a_program_that_leaves_a_child_behind_holds_up_nobody() -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    script = f"import subprocess, sys; {child}; sys.exit(4)"
    start = time.monotonic()
    with pytest.raises(HookFailed, match="exit code 4"):
        Hook([sys.executable, "-c", script], seconds=15)(Event(1, INSTANCE_STORED, {}))
    assert time.monotonic() - start < 15


def test_a_program_that_cannot_be_run_is_found_before_the_first_event(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    Hook([sys.executable]).check()
    for arguments, why in (
        ([str(plain)], r"cannot be executed; give it the permission \(chmod \+x\)"),
        ([str(tmp_path / "away")], "does not exist; give the path of a program"),
        (["no-such-program-anywhere"], "is in none of the folders of PATH"),
    ):
        with pytest.raises(HookFailed, match=why):
            Hook(arguments).check()
        with pytest.raises(HookFailed, match="cannot be run: "):
            Hook(arguments)(Event(1, INSTANCE_STORED, {}))


def test_the_log_says_which_hook_failed_and_how_and_of_a_function_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: Event) -> None:
        raise RuntimeError("DOE^JOHN")

    hook = Hook([sys.executable, "-c", "import sys; sys.exit('the queue is full')"])
    with parts(tmp_path, watch=STORED) as archive:
        send(archive.ingest, data_set(1))
        Events(archive.index, [hook]).work()
        Events(archive.index, [handler], clock=lambda: time.time() + 60).work()
    first, second = (record.getMessage() for record in caplog.records if record.name == "dulcet.events")
    assert first.startswith("event 1 (instance stored) could not be told, attempt 1: the hook ")
    assert "ended with exit code 1; it said: the queue is full; it is told again in " in first
    assert f"attempt 2: RuntimeError at {__file__}, line " in second
    assert "DOE" not in second


@pytest.mark.parametrize("arguments", [[], "rm -rf /"])
def test_a_hook_is_a_list(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="no shell"):
        Hook(arguments)


def test_what_was_not_acknowledged_is_told_again_after_a_restart(tmp_path: Path) -> None:
    told: list[str] = []
    refuse = [True]

    def handler(event: Event) -> None:
        told.append(event.body["sop_instance_uid"])
        if refuse[0] and told[-1] == "1.2.9.1":
            raise RuntimeError("not now")

    now = [1000.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    with parts(tmp_path, watch=STORED, clock=clock) as archive:
        send(archive.ingest, data_set(1))
        send(archive.ingest, data_set(2))
        Events(archive.index, [handler], clock=clock).work()
        assert told == ["1.2.9.1", "1.2.9.2"]
        assert archive.index.counts().events == 1
    refuse[0] = False
    with parts(tmp_path, watch=STORED, clock=clock) as archive:
        again = Events(archive.index, [handler], clock=clock)
        assert again.work() > 0
        assert told == ["1.2.9.1", "1.2.9.2"]  # it is not due yet
        now[0] += 2.0
        again.work()
        assert told[2:] == ["1.2.9.1"]
        assert archive.index.counts().events == 0


def test_each_failure_makes_the_pause_longer(tmp_path: Path) -> None:
    now = [1000.0]

    def fail(event: Event) -> None:
        raise RuntimeError

    with parts(tmp_path, watch=STORED, clock=lambda: now[0]) as archive:
        send(archive.ingest, data_set(1))
        events = Events(archive.index, [fail], clock=lambda: now[0])
        pauses = []
        for _ in range(4):
            events.work()
            due = archive.index._rows("SELECT due FROM event", [])[0][0]
            pauses.append(due - now[0])
            now[0] = due
        assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_the_thread_is_woken_and_survives_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    with parts(tmp_path, watch=STORED) as archive:
        events = Events(archive.index, [lambda event: told.set()])
        troubled = threading.Event()
        work = events.work

        def trouble() -> float:
            monkeypatch.setattr(events, "work", work)
            troubled.set()
            raise IndexTrouble("locked")

        monkeypatch.setattr(events, "work", trouble)
        events.start()
        events.start()
        assert troubled.wait(10)
        send(archive.ingest, data_set(1))
        events.wake()
        assert told.wait(10)
        events.stop(10)
        events.stop(10)
        assert archive.index.counts().events == 0


def test_stopping_leaves_the_rest_for_later(tmp_path: Path) -> None:
    with parts(tmp_path, watch=STORED) as archive:
        for number in range(3):
            send(archive.ingest, data_set(number))
        events = Events(archive.index, [])
        events._handlers.append(lambda event: events._stopping.set())
        events.work()
        assert archive.index.counts().events == 2


def test_more_than_fits_at_once_goes_on_without_a_pause(tmp_path: Path) -> None:
    with parts(tmp_path, watch=STORED) as archive:
        for number in range(AT_ONCE + 1):
            send(archive.ingest, data_set(number))
        events = Events(archive.index, [lambda event: None])
        assert events.work() == 0.0
        assert events.work() > 0.0
        assert archive.index.counts().events == 0
        assert Events(archive.index, []).work() > 0.0
