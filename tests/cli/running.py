"""The commands as a user runs them: in a process of their own, with their output, in a pipe or on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.blocking.interruptible import without_coverage

PATIENCE = 30.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str

    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON, every line of it."""
        return [json.loads(line) for line in self.output.splitlines()]

    def sentence(self) -> str:
        """The one line on standard error, which is no traceback."""
        assert "Traceback" not in self.errors, self.errors
        [line] = self.errors.splitlines()
        assert line.startswith("dulcet: ")
        return line.removeprefix("dulcet: ")


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Ours, without what would change how things look."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return plain | {"TERM": "xterm-256color"} | dict(extra)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dulcet", *map(str, arguments)]


def dulcet(*arguments: object, env: Mapping[str, str] = {}, cwd: Path = ROOT) -> Outcome:
    """Run a command to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, timeout=PATIENCE, env=environment(env), cwd=cwd, check=False
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_a_terminal(*arguments: object, env: Mapping[str, str] = {}, output: bool = False) -> Outcome:
    """Run a command with standard error on a terminal of 80 columns; with `output` its output as well."""
    near, far = pty.openpty()
    shown: list[bytes] = []

    def look() -> None:
        while True:
            try:
                piece = os.read(near, 65536)
            except OSError:
                return  # the terminal is gone
            shown.append(piece)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        done = subprocess.run(
            command(*arguments), stdout=far if output else subprocess.PIPE, stderr=far, timeout=PATIENCE,
            env=environment({"COLUMNS": "80", **env}), check=False,
        )  # fmt: skip
    finally:
        os.close(far)
        looking.join(PATIENCE)
        os.close(near)
    return Outcome(done.returncode, (done.stdout or b"").decode(), b"".join(shown).decode())


@dataclass(slots=True)
class Running:
    """A command that goes on."""

    popen: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _grown: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)

    def follow(self, stream: Any, into: list[str]) -> None:
        def read() -> None:
            for line in stream:
                with self._grown:
                    into.append(line.rstrip("\n"))
                    self._grown.notify_all()
            with self._grown:
                self._grown.notify_all()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self._threads.append(thread)

    def until(self, words: str) -> str:
        """The first line, of either kind, that holds these words."""
        deadline = time.monotonic() + PATIENCE
        with self._grown:
            while True:
                found = next((line for line in [*self.output, *self.errors] if words in line), None)
                if found is not None:
                    return found
                assert any(thread.is_alive() for thread in self._threads), self.errors
                assert self._grown.wait(deadline - time.monotonic()), (words, self.output, self.errors)

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self) -> Outcome:
        """Wait for the end."""
        code = self.popen.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return Outcome(code, "".join(f"{line}\n" for line in self.output), "".join(f"{line}\n" for line in self.errors))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Outcome:
        self.send(number)
        return self.end()


@contextmanager
def going_on(*arguments: object, env: Mapping[str, str] = {}) -> Iterator[Running]:
    """Start a command; on leaving it is gone, one way or the other."""
    surroundings = environment(env) if arguments[0] == "listen" else without_coverage(environment(env))
    popen = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings, cwd=ROOT
    )
    running = Running(popen)
    running.follow(popen.stdout, running.output)
    running.follow(popen.stderr, running.errors)
    try:
        yield running
    finally:
        popen.kill()
        running.end()
        for stream in (popen.stdout, popen.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def listening(folder: Path, *options: object) -> Iterator[tuple[Running, str]]:
    """`dulcet listen` on a free port, and its address."""
    with going_on("listen", "--port", "0", "--dir", folder, *options) as running:
        ready = running.until("listening")
        if ready.startswith("{"):
            values = json.loads(ready)
            yield running, f"{values['ae_title']}@{values['host']}:{values['port']}"
            return
        words = ready.split()
        yield running, f"{words[4]}@{words[2]}"
