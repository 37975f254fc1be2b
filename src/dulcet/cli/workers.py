"""`--workers N`: processes that share a port, and the parent that starts, replaces and stops them.

Rules: the parent serves nobody, so it has nothing to die of; a worker obeys its parent alone, over a channel whose end
tells it that the parent is gone; what a worker has to say to users, the parent says, once for all.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from dulcet.cli.output import FAILED, say_json
from dulcet.io.shared_port import SharedPort
from dulcet.io.signals import Signals, named, stopping
from dulcet.log_codes import coded
from dulcet.services.retrying import Backoff

__all__ = ["Supervisor", "Worker", "can_share"]

log: Final = logging.getLogger("dulcet.workers")

WORKER: Final = "DULCET_WORKER"
"""The variable that tells a process that it is a worker, and what it inherits."""
PAUSES: Final = Backoff(first=0.1, longest=30.0, spread=0.0)
"""Before a worker that died is replaced; doubled each time, for one that dies at its start may do so again."""
LASTING: Final = 60.0
"""Seconds after which a worker counts as one that works."""
CLEANING_UP: Final = 15.0
"""Seconds for a worker to end after its associations had theirs."""


def can_share() -> bool:
    """Can processes inherit sockets here?"""
    return os.name == "posix"


# ---------------------------------------------------------------------- the worker's side


@dataclass(slots=True)
class Worker:
    """What a worker has of its parent."""

    number: int
    port: SharedPort
    control: socket.socket
    given: dict[str, Any]
    """What else the parent gave."""

    @classmethod
    def inherited(cls) -> Self | None:
        """This process as a worker, None for one that is no worker; asked once."""
        text = os.environ.pop(WORKER, None)
        if text is None:
            return None
        found = json.loads(text)
        for number in stopping():  # those of a whole group; the parent has them too, and tells
            signal.signal(number, lambda *_: None)
        control = socket.socket(fileno=found["control"])
        control.set_inheritable(False)
        port = SharedPort.inherited(found["port"], found["members"], found["slots"], found["number"])
        return cls(found["number"], port, control, found["given"])

    def orders(self) -> Signals:
        """What the parent says, as signals: to stop, and not to wait any longer."""
        signals = Signals()
        threading.Thread(target=self._obey, args=(signals,), name="dulcet-orders", daemon=True).start()
        return signals

    def _obey(self, signals: Signals) -> None:
        told = False
        with suppress(OSError):
            while self.control.recv(1):
                told = True
                signals.wake(signal.SIGTERM)
        if not told:
            log.warning("worker %d: its parent is gone, so it stops", self.number + 1, extra=coded("DUL123"))
            signals.wake(signal.SIGTERM)

    def ready(self) -> None:
        """We serve."""
        self._say(ready=True)

    def finish(self, counts: Mapping[str, int]) -> None:
        """We did so much."""
        self._say(counts=dict(counts))

    def _say(self, **values: object) -> None:
        with suppress(OSError):  # the parent is gone
            self.control.sendall(json.dumps(values).encode() + b"\n")


# ---------------------------------------------------------------------- the parent's side


@dataclass(slots=True, eq=False)
class _Process:
    """The process of a worker."""

    number: int
    popen: subprocess.Popen[bytes]
    control: socket.socket
    ready: float | None = None

    def order(self) -> None:
        with suppress(OSError):  # it is gone already
            self.control.sendall(b"!")


@dataclass(slots=True, eq=False)
class Supervisor:
    """The workers of one port."""

    port: SharedPort
    signals: Signals
    announce: Callable[[list[int]], object]
    """Called once, with the processes, when all of them serve."""
    json: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    inherit: Sequence[int] = ()
    counts: Counter[str] = field(default_factory=Counter)
    """Of all workers that came to their end."""
    lost: int = 0
    """Workers that did not, whose counts nobody knows."""
    served: bool = False
    _workers: dict[int, _Process] = field(default_factory=dict)
    _failures: Counter[int] = field(default_factory=Counter)
    _news: queue.SimpleQueue[tuple[_Process | int, Any]] = field(default_factory=queue.SimpleQueue)
    _stopping: bool = False
    _code: int = 0

    def run(self, drain: float) -> int:
        """Start them, replace those that die, and stop them when a signal says so; the exit code."""
        for number in range(self.port.members):
            self._start(number)
        while self._workers or not self._stopping:
            if number := self.signals.wait():
                self._stop(drain, named(number))
            with suppress(queue.Empty):
                while True:
                    self._hear(*self._news.get_nowait(), drain)
        return self._code

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        inherited = [*self.port.descriptors, theirs.fileno(), *self.inherit]
        described = {
            "number": number, "members": self.port.members, "slots": self.port.slots, "port": self.port.descriptors,
            "control": theirs.fileno(), "given": dict(self.given),
        }  # fmt: skip
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-m", "dulcet", *sys.argv[1:]], stdin=subprocess.DEVNULL, pass_fds=inherited,
                env={**os.environ, WORKER: json.dumps(described)}, start_new_session=True,  # Ctrl-C is for the parent
            )  # fmt: skip
        worker = self._workers[number] = _Process(number, popen, ours)
        threading.Thread(target=self._follow, args=(worker,), name=f"dulcet-worker-{number + 1}", daemon=True).start()

    def _follow(self, worker: _Process) -> None:
        """Pass on what a worker says, and that it ended; in a thread of its own."""
        with suppress(OSError, ValueError), worker.control.makefile("rb") as lines:
            for line in lines:
                self._tell(worker, json.loads(line))
        try:
            code = worker.popen.wait(CLEANING_UP)
        except subprocess.TimeoutExpired:
            worker.popen.kill()
            code = worker.popen.wait()
        worker.control.close()
        self._tell(worker, code)

    def _tell(self, who: _Process | int, what: Any) -> None:
        self._news.put((who, what))
        self.signals.wake()

    def _hear(self, who: _Process | int, what: Any, drain: float) -> None:
        """In the main thread: a worker is ready, or ended, or one is to be started again."""
        if isinstance(who, int):
            if not self._stopping:
                self._start(who)
        elif isinstance(what, int):
            self._ended(who, what)
        elif "counts" in what:
            self.counts.update(what["counts"])
        else:
            who.ready = time.monotonic()
            if self.served:
                log.info("worker %d (process %d) serves", who.number + 1, who.popen.pid, extra=coded("DUL122"))
                if self.json:
                    say_json(event="worker serves", worker=who.number + 1, process=who.popen.pid)
            elif not self._stopping and all(worker.ready is not None for worker in self._workers.values()):
                self.served = True
                self.announce([worker.popen.pid for worker in self._workers.values()])

    def _ended(self, worker: _Process, code: int) -> None:
        del self._workers[worker.number]
        self.port.clear(worker.number)
        if self._stopping:
            if code:
                self.lost += 1
                self._code = self._code or FAILED
            return
        if not self.served:  # it has said why
            self._code = code if code > 0 else FAILED
            self._stop(0.0, "a worker failed")
            return
        self.lost += 1
        if worker.ready is not None and time.monotonic() - worker.ready > LASTING:
            del self._failures[worker.number]
        pause = PAUSES.pause(self._failures[worker.number] + 1) or 0.0
        self._failures[worker.number] += 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        log.error(
            "worker %d (process %d) %s; another one takes its place in %g s",
            worker.number + 1, worker.popen.pid, how, pause, extra=coded("DUL121"),
        )  # fmt: skip
        if self.json:
            say_json(event="worker lost", worker=worker.number + 1, process=worker.popen.pid, code=code)
        timer = threading.Timer(pause, self._tell, (worker.number, None))
        timer.daemon = True
        timer.start()

    def _stop(self, drain: float, why: str) -> None:
        """Tell all of them to stop; the second time, not to wait."""
        if not self._stopping:
            self._stopping = True
            self.port.close()
            if self.served:
                log.info("%s: stopping; associations that stand have %g s", why, drain, extra=coded("DUL118"))
            timer = threading.Timer(drain + CLEANING_UP, self._kill)
            timer.daemon = True
            timer.start()
        for worker in self._workers.values():
            worker.order()

    def _kill(self) -> None:
        for worker in list(self._workers.values()):
            worker.popen.kill()
