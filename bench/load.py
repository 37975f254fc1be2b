"""Loads that no tool makes: associations one after the other, many senders at once, idle associations, queries.

Every mode prints one JSON object at its end.  One process, one thread: the load costs one core at most.

Usage: load.py associate|store|hold|find HOST PORT AET ... (see `main`).
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.corpus import UID_ROOT, element, file_meta

from bench import wire

STORAGE_CLASSES = "1.2.840.10008.5.1.4.1.1."
HOSTS = 250  # of the loopback's 16 million: a listener's limit for one address is none for us
DEADLINE = 200.0
PAUSE = 0.0005


def storage_contexts(count: int) -> list[wire.Context]:
    """One context of Verification, or as many of Secondary Capture with one transfer syntax each."""
    if count == 1:
        return [(wire.VERIFICATION, [wire.IMPLICIT])]
    return [(f"{STORAGE_CLASSES}7", [wire.EXPLICIT if number % 2 else wire.IMPLICIT]) for number in range(count)]


def associations(options: argparse.Namespace) -> dict[str, float]:
    """Associate and release, one after the other, until the time is up."""
    request = wire.associate_rq(options.aet, storage_contexts(options.contexts))
    times = []
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < options.seconds:
        wire.associate(options.host, options.port, request).release()
        times.append(time.perf_counter() - now)
    seconds = time.perf_counter() - began
    return {"associations_per_second": len(times) / seconds, "p99_seconds": _p99(times)}


def _p99(times: Sequence[float]) -> float:
    return quantiles(times, n=100)[98] if len(times) > 1 else times[0]


def hold(options: argparse.Namespace) -> dict[str, float]:
    """Open associations from many loopback addresses, say `holding`, keep them until SIGTERM; all must stand then."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    request = wire.associate_rq(options.aet, storage_contexts(1))
    began = time.perf_counter()
    held = []
    for number in range(options.count):
        source = f"127.0.1.{number % HOSTS + 1}"
        held.append(wire.associate(options.host, options.port, request, source))
    print(f"holding {len(held)}", flush=True)
    seconds = time.perf_counter() - began
    ended.wait(options.seconds)
    for association in held:
        association.socket.setblocking(False)
        try:
            said = association.socket.recv(1)
        except BlockingIOError:
            association.socket.close()
            time.sleep(PAUSE)  # thousands of threads that wake in one moment are another scenario
        else:
            raise wire.WireError(f"an idle association was ended by the peer: {said!r}")
    return {"setup_seconds": seconds}


def find(options: argparse.Namespace) -> dict[str, float]:
    """Image-level queries of one series, each over an association of its own; the middle one by time."""
    request = wire.associate_rq(options.aet, [(wire.STUDY_ROOT_FIND, [wire.IMPLICIT])])
    keys = {0x00080052: "IMAGE", 0x0020000D: options.study, 0x0020000E: options.series}
    keys |= {0x00080016: "", 0x00080018: options.instance, 0x00200013: ""}
    query = wire.identifier(keys)
    results = sorted(_one_find(options, request, query) for _ in range(options.repeat))
    seconds, first, answers = results[len(results) // 2]
    return {
        "answers": answers,
        "answers_per_second": answers / seconds,
        "first_seconds": first,
        "find_seconds": seconds,
    }


def _one_find(options: argparse.Namespace, request: bytes, query: bytes) -> tuple[float, float, int]:
    association = wire.associate(options.host, options.port, request)
    connection = association.socket
    asked = wire.message(1, wire.find_rq(1), query, association.maximum)
    began = time.perf_counter()
    connection.sendall(asked)
    answers, first, buffer = 0, 0.0, bytearray()
    while True:
        piece = connection.recv(1 << 18)
        if not piece:
            raise wire.WireError("the connection ended in the middle of the answers")
        buffer += piece
        position = 0
        while position + 6 <= len(buffer):
            kind, length = wire.PDU_HEADER.unpack_from(buffer, position)
            if position + 6 + length > len(buffer):
                break
            if kind != wire.P_DATA:
                raise wire.WireError(f"PDU type {kind} among the answers")
            for command in _commands(buffer, position + 6, length):
                status = wire.status_of(command)
                if status == 0:
                    seconds = time.perf_counter() - began
                    association.release()
                    return seconds, first or seconds, answers
                if status not in (0xFF00, 0xFF01):
                    raise wire.WireError(f"status {status:04X}")
                answers += 1
                first = first or time.perf_counter() - began
            position += 6 + length
        del buffer[:position]


def _commands(buffer: bytearray, start: int, length: int) -> list[bytes]:
    """The command PDVs of a P-DATA-TF body."""
    found, end = [], start + length
    while start < end:
        size, _, flags = wire.PDV_HEADER.unpack_from(buffer, start)
        if flags & 1:
            found.append(bytes(buffer[start + 6 : start + 4 + size]))
        start += 4 + size
    return found


# ------------------------------------------------------------------------------------------------- many senders


@dataclass(slots=True)
class _Template:
    """One object to send again and again with other UIDs."""

    sop_class: str
    data: bytes
    uid: bytes  # its own, to be replaced by others as long

    @classmethod
    def read(cls, path: Path) -> _Template:
        content = path.read_bytes()
        meta, start = file_meta(content)
        return cls(meta[0x00020002].text(content), content[start:], meta[0x00020003].text(content).encode())


@dataclass(slots=True)
class _Sender:
    """One association that sends; `message` is made once and patched for every object."""

    association: wire.Association
    message: bytearray
    places: list[int]
    prefix: bytes
    left: int
    sent: memoryview | None = None
    done: int = 0
    times: list[float] = field(default_factory=list)
    began: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    def next_object(self) -> None:
        uid = self.prefix + b"%08d" % (10_000_000 + self.done)
        for place in self.places:
            self.message[place : place + len(uid)] = uid
        self.sent = memoryview(self.message)
        self.began = time.perf_counter()

    def push(self) -> bool:
        """Send what the kernel takes; True when all of it went."""
        assert self.sent is not None
        while self.sent:
            try:
                self.sent = self.sent[self.association.socket.send(self.sent) :]
            except BlockingIOError:
                return False
        self.sent = None
        return True

    def heard(self) -> bool:
        """Read; True when the response is whole and says success."""
        piece = self.association.socket.recv(4096)
        if not piece:
            raise wire.WireError("the connection ended before the answer")
        self.answer += piece
        if len(self.answer) < 6 or len(self.answer) < 6 + wire.PDU_HEADER.unpack_from(self.answer)[1]:
            return False
        status = wire.status_of(bytes(self.answer))
        if status:
            raise wire.WireError(f"status {status:04X} to an object")
        self.answer.clear()
        self.times.append(time.perf_counter() - self.began)
        self.done += 1
        self.left -= 1
        return True


def _prepare(options: argparse.Namespace, template: _Template, number: int) -> _Sender:
    request = wire.associate_rq(options.aet, [(template.sop_class, [wire.EXPLICIT])])
    association = wire.associate(options.host, options.port, request, f"127.0.1.{number % HOSTS + 1}")
    if 1 not in association.accepted:
        raise wire.WireError("the context was not accepted")
    prefix = f"{UID_ROOT}.{options.run:03}.{number + 100}.".encode()
    instance = prefix + bytes(8)
    data = template.data.replace(element(0x00080018, b"UI", template.uid), element(0x00080018, b"UI", instance), 1)
    # Every sender has a study of its own: as with real ones, what they send does not meet.
    study = f"{UID_ROOT}.{options.run:03}.{number + 100}".encode()
    old = data[data.index(b"\x20\x00\x0d\x00UI") :]
    old = old[: old.index(b"\x20\x00\x13\x00IS")]
    fresh = element(0x0020000D, b"UI", study) + element(0x0020000E, b"UI", study + b".1")
    data = data.replace(old, fresh, 1)
    command = wire.store_rq(1, template.sop_class, instance)
    message = wire.message(1, command, data, min(association.maximum or wire.OUR_MAXIMUM, wire.OUR_MAXIMUM))
    first = message.index(instance)
    places = [first, message.index(instance, first + 1)]
    association.socket.setblocking(False)
    return _Sender(association, message, places, prefix, options.count)


def store(options: argparse.Namespace) -> dict[str, float]:
    """All senders associate, then all send `count` objects each, every one waiting for its answers."""
    template = _Template.read(Path(options.file))
    senders = [_prepare(options, template, number) for number in range(options.senders)]
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for sender in senders:
            selector.register(sender.association.socket, selectors.EVENT_READ, sender)
            _offer(selector, sender)
        at_first_end: list[int] = []
        active = len(senders)
        while active:
            ready = selector.select(DEADLINE)
            if not ready:
                raise wire.WireError(f"nothing happened for {DEADLINE:g} s")
            for key, events in ready:
                sender = key.data
                if events & selectors.EVENT_WRITE and sender.push():
                    selector.modify(sender.association.socket, selectors.EVENT_READ, sender)
                if events & selectors.EVENT_READ and sender.heard():
                    if sender.left:
                        _offer(selector, sender)
                    else:
                        selector.unregister(sender.association.socket)
                        active -= 1
                        at_first_end = at_first_end or [other.done for other in senders]
        seconds = time.perf_counter() - began
    for sender in senders:
        sender.association.socket.setblocking(True)
        sender.association.release()
    count, size = options.senders * options.count, len(template.data)
    times = [value for sender in senders for value in sender.times]
    return {
        "objects_per_second": count / seconds,
        "bytes_per_second": count * size / seconds,
        "p99_seconds": _p99(times),
        "fairness": max(at_first_end) / max(min(at_first_end), 0.5),
    }


def _offer(selector: selectors.BaseSelector, sender: _Sender) -> None:
    sender.next_object()
    if not sender.push():
        selector.modify(sender.association.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, sender)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    modes = {"associate": associations, "store": store, "hold": hold, "find": find}
    parser.add_argument("mode", choices=modes)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("aet")
    parser.add_argument("--contexts", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=1, help="objects of each sender, or associations to hold")
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--file", default="", help="the object that is sent with other UIDs each time")
    parser.add_argument("--run", type=int, default=0, help="makes the UIDs of one run differ from those of another")
    parser.add_argument("--study", default="")
    parser.add_argument("--series", default="")
    parser.add_argument("--instance", default="", help="a key, not a filter, when empty")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    print(json.dumps(modes[options.mode](options)))


if __name__ == "__main__":
    main(sys.argv[1:])
