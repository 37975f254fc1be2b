"""A peer that does what a line of text says: words, waits, resets.

A script is steps with `;` between them, done in their order:

    RQ                  say the word (tests/hostile/words.py); `a + b` at once, `half a` the first half of it
    read                await one PDU
    bytes X             say it byte by byte, as fast as it goes
    drip X              say it byte by byte, 20 a second
    silence             say nothing more and wait for the end
    close               end the connection; `reset` does so with a TCP reset

What it gets is told in the standard's words: `A-ASSOCIATE-AC`, `A-ABORT (2,1)`, `C-ECHO-RSP 0000H`, `close`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from tests.hostile.words import say

from dulcet.dimse.command import Command
from dulcet.upper_layer.pdu import (
    PDU,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    decode,
)

__all__ = ["LAST_WORDS", "Peer", "boundaries", "perform"]

PATIENCE: Final = 20.0
DRIP: Final = 0.05
LAST_WORDS: Final = ("A-ABORT", "A-ASSOCIATE-RJ", "A-RELEASE-RP")
"""After these the sender waits for our close."""


class Peer:
    """One connection, and what came over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got: list[str] = []
        self.name = ":".join(map(str, sock.getsockname()))
        """As the other side's log has it."""
        self._data = b""
        self._command = b""

    def perform(self, script: str) -> list[str]:
        """Do all of it, and hear the other side to its end unless the script ends it; what came."""
        for step in script.split(";"):
            if not self._step(step.strip()):
                return self.got
        while not self.got or self.got[-1] != "close":
            if self.got and self.got[-1].startswith(LAST_WORDS):
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
            self.read()
        self.sock.close()
        return self.got

    def _step(self, step: str) -> bool:
        match step.split(" ", 1):
            case ["close"]:
                self.sock.close()
                return False
            case ["reset"]:
                self.reset()
                return False
            case ["silence"]:
                pass
            case ["read"]:
                self.read()
            case ["bytes", what]:
                for byte in say(what):
                    self._send(bytes((byte,)))
            case ["drip", what]:
                self._drip(say(what))
            case _:
                self._send(say(step))
        return True

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it may be closed upon in the middle of it
            self.sock.sendall(data)

    def _drip(self, data: bytes) -> None:
        """Until somebody has had enough of it."""
        self.sock.settimeout(DRIP)
        for byte in data:
            try:
                self.sock.send(bytes((byte,)))
                if not self.sock.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
            break  # an answer
        self.sock.settimeout(PATIENCE)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read(self) -> None:
        """Await one PDU or the end; fragments are put together to messages."""
        while (pdu := self._pdu()) is not None:
            told = self._tell(pdu)
            if told:
                self.got += told
                return
        self.got.append("close")

    def _tell(self, pdu: PDU) -> list[str]:
        match pdu:
            case AssociateRQ():
                return ["A-ASSOCIATE-RQ"]
            case AssociateAC():
                return ["A-ASSOCIATE-AC"]
            case AssociateRJ(result, source, reason):
                return [f"A-ASSOCIATE-RJ ({result},{source},{reason})"]
            case ReleaseRQ():
                return ["A-RELEASE-RQ"]
            case ReleaseRP():
                return ["A-RELEASE-RP"]
            case Abort(source, reason):
                return [f"A-ABORT ({source},{reason})"]
            case PDataTF(values):
                told = []
                for value in values:
                    if value.is_command:
                        self._command += value.data
                        if value.is_last:
                            command, self._command = Command.decode(self._command), b""
                            status = "" if command.status is None else f" {command.status:04X}H"
                            told.append(f"{command.name}{status}")
                return told
        raise AssertionError(pdu)

    def _pdu(self) -> PDU | None:
        head = self._exactly(6)
        if head is None:
            return None
        body = self._exactly(int.from_bytes(head[2:6], "big"))
        assert body is not None, f"the stream ended in the middle of a PDU, after {self.got}"
        return decode(head + body)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                more = self.sock.recv(size - len(data))
            except ConnectionError:
                more = b""
            if not more:
                return None
            data += more
        return data


def perform(port: int, script: str) -> Peer:
    """A connection to a port of this machine that does what a script says; over when this returns."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        peer = Peer(sock)
        peer.perform(script)
        return peer


def boundaries(script: str) -> Iterator[str]:
    """The beginnings of a script, the empty one first."""
    steps = [step.strip() for step in script.split(";")]
    for count in range(len(steps) + 1):
        yield "; ".join(steps[:count])


def until(condition: object, what: str, seconds: float = PATIENCE) -> None:
    """Wait for what another thread brings about."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.002)
