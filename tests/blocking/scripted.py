"""A peer that does exactly what a test says, over a real socket, PDU by PDU.

Laws: it speaks with the PDU codec alone, no state machine of ours; a stream that ends within a PDU is a failure
(`HalfPDU`); what goes wrong in its thread goes wrong in the test; every wait has a deadline.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dulcet.dimse.command import Command, encode_response
from dulcet.upper_layer.items import AsynchronousOperationsWindow, ContextResult, ImplementationClassUID, MaximumLength
from dulcet.upper_layer.items import ProposedContext as Proposed
from dulcet.upper_layer.pdu import (
    PDU,
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    decode,
    encode,
)

PATIENCE = 20.0
"""Seconds after which a test has failed."""


class HalfPDU(AssertionError):
    """The stream ended in the middle of a PDU."""


@dataclass(slots=True)
class Message:
    """A command set and its data set."""

    context_id: int
    command: Command
    data: bytes


@dataclass(slots=True)
class Wire:
    """One connection of the peer."""

    sock: socket.socket
    request: AssociateRQ | None = None
    pdus: list[str] = field(default_factory=list)
    """The types of what came, in order."""
    _pdvs: list[PDV] = field(default_factory=list)

    def exactly(self, size: int, *, inside: bool) -> bytes | None:
        """`size` bytes; None where the stream ended before the first of them."""
        data = b""
        while len(data) < size:
            try:
                more = self.sock.recv(size - len(data))
            except ConnectionError:
                more = b""
            if not more:
                if data or inside:
                    raise HalfPDU(f"the stream ended {len(data)} bytes into {size}, after {self.pdus[-5:]}")
                return None
            data += more
        return data

    def pdu(self) -> PDU | None:
        """The next PDU; None at the end of the stream."""
        head = self.exactly(6, inside=False)
        if head is None:
            self.pdus.append("end")
            return None
        body = self.exactly(int.from_bytes(head[2:6], "big"), inside=True)
        assert body is not None
        pdu = decode(head + body)
        self.pdus.append(type(pdu).__name__)
        return pdu

    def send(self, pdu: PDU | bytes) -> None:
        self.sock.sendall(pdu if isinstance(pdu, bytes) else encode(pdu))

    def accept(
        self,
        choose: Callable[[Proposed], str | None] = lambda proposed: proposed.transfer_syntaxes[0],
        *,
        maximum_length: int = 16384,
        window: AsynchronousOperationsWindow | None = None,
    ) -> AssociateRQ:
        """Await the A-ASSOCIATE-RQ and accept it; `choose` gives a transfer syntax or None for each context."""
        request = self.pdu()
        assert isinstance(request, AssociateRQ), request
        return self.take(request, choose, maximum_length=maximum_length, window=window)

    def rejects(self) -> None:
        """Await the A-ASSOCIATE-RQ and reject it, without a reason."""
        assert isinstance(self.pdu(), AssociateRQ)
        self.send(AssociateRJ(1, 1, 1))

    def take(
        self,
        request: AssociateRQ,
        choose: Callable[[Proposed], str | None] = lambda proposed: proposed.transfer_syntaxes[0],
        *,
        maximum_length: int = 16384,
        window: AsynchronousOperationsWindow | None = None,
    ) -> AssociateRQ:
        """Accept it."""
        results = []
        for proposed in request.presentation_contexts:
            syntax = choose(proposed)
            first = proposed.transfer_syntaxes[0]
            results.append(ContextResult(proposed.context_id, 0 if syntax else 4, syntax or first))
        items = (MaximumLength(maximum_length), ImplementationClassUID("1.2.3"), *((window,) if window else ()))
        self.send(
            AssociateAC(
                called_ae_title=request.called_ae_title,
                calling_ae_title=request.calling_ae_title,
                presentation_contexts=tuple(results),
                user_information=items,
            )
        )
        self.request = request
        return request

    def message(self) -> Message | PDU | None:
        """The next whole message, or whatever else came."""
        parts: list[PDV] = []
        command: Command | None = None
        while True:
            while not self._pdvs:
                pdu = self.pdu()
                if not isinstance(pdu, PDataTF):
                    return pdu
                self._pdvs += pdu.values
            parts.append(self._pdvs.pop(0))
            if not parts[-1].is_last:
                continue
            whole = b"".join(part.data for part in parts)
            if command is None:
                command = Command.decode(whole)
                if command.has_data_set:
                    parts = []
                    continue
                whole = b""
            return Message(parts[-1].context_id, command, whole)

    def answer(self, message: Message, status: int = 0) -> None:
        """The final response."""
        command = message.command
        self.send_command(
            message.context_id,
            encode_response(
                command.field, command.message_id or 0, command.sop_class_uid, command.sop_instance_uid, status
            ),
        )

    def send_command(self, context_id: int, command: bytes) -> None:
        self.send(PDataTF((PDV(context_id, True, True, command),)))

    def serve(self, each: Callable[[Message], int | None] = lambda message: 0) -> PDU | None:
        """Answer each message with what `each` gives, nothing for None; what ended it: release, abort or None."""
        while isinstance(message := self.message(), Message):
            status = each(message)
            if status is not None:
                self.answer(message, status)
        if isinstance(message, ReleaseRQ):
            self.send(ReleaseRP())
            self.until_closed()
        return message

    def until_closed(self) -> None:
        """Wait for the peer's close."""
        while self.pdu() is not None:
            pass


@dataclass(slots=True)
class Peer:
    """Where it listens, and what its thread came to."""

    address: str
    port: int
    wires: list[Wire] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def join(self) -> None:
        """Wait for the scripts that began, and raise what they raised."""
        deadline = time.monotonic() + PATIENCE
        for thread in list(self.threads):
            thread.join(max(deadline - time.monotonic(), 0.0))
            assert not thread.is_alive(), "the scripted peer hangs"
        if self.failures:
            raise self.failures[0]

    @property
    def pdus(self) -> list[str]:
        """What came over the first connection."""
        return self.wires[0].pdus


@contextmanager
def peer(*scripts: Callable[[Wire], object], host: str = "127.0.0.1") -> Iterator[Peer]:
    """A peer that plays the first script on its first connection, and so on, the last one on all further ones."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # what is not read is felt soon
        listening.bind((host, 0))
        listening.listen(64)
        port = listening.getsockname()[1]
        made = Peer(f"PEER@{f'[{host}]' if ':' in host else host}:{port}", port)

        def play(script: Callable[[Wire], object], wire: Wire) -> None:
            try:
                with wire.sock:
                    script(wire)
            except BaseException as error:
                made.failures.append(error)

        def accept() -> None:
            number = 0
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return  # closed: the test is over
                sock.settimeout(PATIENCE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire = Wire(sock)
                made.wires.append(wire)
                script = scripts[min(number, len(scripts) - 1)]
                number += 1
                thread = threading.Thread(target=play, args=(script, wire), daemon=True)
                made.threads.append(thread)
                thread.start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield made
            made.join()
        except BaseException as error:
            for failure in made.failures:
                error.add_note(f"the scripted peer: {failure!r}")
            raise
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(PATIENCE)


def serve(wire: Wire) -> None:
    """The script of a peer that accepts everything and answers everything with success."""
    wire.accept()
    ended = wire.serve()
    assert isinstance(ended, ReleaseRQ), ended


def aborts(wire: Wire) -> Abort:
    """Whatever comes until the A-ABORT, which must come, and then the close."""
    while not isinstance(pdu := wire.pdu(), Abort):
        assert pdu is not None, f"the peer closed without A-ABORT: {wire.pdus[-5:]}"
    return pdu
