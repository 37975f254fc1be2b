"""Recordings of what went over connections: JSON lines that `dulcet trace` writes, prints and plays back, and captures.

Rules: a recording is text, one object a line (`time`, `connection`, `direction`, `bytes` in base64); a capture is read
for its TCP payload alone, and packets that are no TCP are left out.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self, TextIO

from dulcet.io.sockets import connect
from dulcet.trace.decoding import Direction

__all__ = ["Entry", "Recorder", "play", "read_capture", "read_recording"]

PCAP_LITTLE: Final = (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
PCAP_BIG: Final = (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d")
LINK_HEADERS: Final = {0: 4, 1: 14, 101: 0, 113: 16, 276: 20}  # null, Ethernet, raw IP, Linux cooked 1 and 2
PACKET_LIMIT: Final = 1 << 18
TCP: Final = 6
SYN: Final = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece of one direction of one connection; no bytes at its end."""

    time: float
    connection: int
    direction: Direction
    data: bytes


class Recorder:
    """Writes a recording; safe for several threads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: TextIO = Path(path).open("x", encoding="ascii")  # noqa: SIM115 - open as long as the recorder is
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def __call__(self, connection: int, direction: Direction, data: bytes) -> None:
        line = json.dumps(
            {
                "time": round(time.monotonic() - self._start, 6),
                "connection": connection,
                "direction": direction,
                "bytes": base64.b64encode(data).decode("ascii"),
            }
        )
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_recording(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """The entries of a recording; ValueError names the line that is none."""
    with Path(path).open(encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                values = json.loads(line)
                direction = values["direction"]
                if direction not in (">", "<"):
                    raise ValueError(f"direction {direction!r}")
                data = base64.b64decode(values["bytes"], validate=True)
                entry = Entry(float(values["time"]), int(values["connection"]), direction, data)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: no entry of a recording ({error})") from None
            yield entry


def play(
    path: str | os.PathLike[str], host: str, port: int, *, connection: int = 1, timeout: float = 30.0
) -> Iterator[Entry]:
    """Say again what the requestor of a recorded connection said, each piece once as much was heard as then.

    Yields what is sent and what comes back; ends with the recording, or when the peer closes or is silent for `timeout`
    seconds (TimeoutError).
    """
    start = time.monotonic()
    sock = connect(host, port, start + timeout)
    sock.settimeout(timeout)
    with sock:
        expected = heard = 0
        for entry in read_recording(path):
            if entry.connection != connection:
                continue
            if entry.direction == "<":
                expected += len(entry.data)
                continue
            while heard < expected:
                answer = sock.recv(65536)
                yield Entry(time.monotonic() - start, connection, "<", answer)
                if not answer:
                    return
                heard += len(answer)
            if entry.data:
                sock.sendall(entry.data)
                yield Entry(time.monotonic() - start, connection, ">", entry.data)
        sock.shutdown(socket.SHUT_WR)
        while answer := sock.recv(65536):
            yield Entry(time.monotonic() - start, connection, "<", answer)


def read_capture(path: str | os.PathLike[str], port: int | None = None) -> Iterator[Entry]:
    """The TCP conversations of a capture in libpcap's format (`tcpdump -w`), put in order; `port` picks the acceptor's.

    A conversation counts from its first packet; the side that is called, by its SYN or by `port`, is the acceptor.
    ValueError when the file is no such capture.
    """
    flows: dict[tuple[bytes, int, bytes, int], _Flow] = {}
    count = 0
    with Path(path).open("rb") as file:
        for moment, packet in _packets(file, str(path)):
            found = _segment(packet)
            if found is None:
                continue
            source, source_port, target, target_port, sequence, flags, payload = found
            there, back = (source, source_port, target, target_port), (target, target_port, source, source_port)
            if there not in flows and back not in flows:
                if port is not None and port not in (source_port, target_port):
                    continue
                from_acceptor = source_port == port if port is not None else bool(flags & SYN and flags & 16)
                count += 1
                flows[there] = _Flow(count, "<" if from_acceptor else ">")
                flows[back] = _Flow(count, ">" if from_acceptor else "<")
            flow = flows[there]
            data = flow.take(sequence, flags, payload)
            if data:
                yield Entry(moment, flow.connection, flow.direction, data)


class _Flow:
    """One direction of a TCP conversation: bytes in their order, each once."""

    def __init__(self, connection: int, direction: Direction) -> None:
        self.connection = connection
        self.direction = direction
        self._next: int | None = None
        self._early: dict[int, bytes] = {}

    def take(self, sequence: int, flags: int, payload: bytes) -> bytes:
        if flags & SYN:
            self._next = sequence + 1 & 0xFFFFFFFF
            return b""
        if not payload:
            return b""
        if self._next is None:
            self._next = sequence
        self._early[sequence] = max(payload, self._early.get(sequence, b""), key=len)
        taken = bytearray()
        while self._early:
            start = min(self._early, key=self._distance)
            ahead = self._distance(start)
            if ahead > 0:
                break
            piece = self._early.pop(start)
            fresh = piece[-ahead:] if -ahead < len(piece) else b""
            taken += fresh
            self._next = self._next + len(fresh) & 0xFFFFFFFF
        return bytes(taken)

    def _distance(self, sequence: int) -> int:
        assert self._next is not None
        return (sequence - self._next + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def _packets(file: BinaryIO, name: str) -> Iterator[tuple[float, bytes]]:
    head = file.read(24)
    if head[:4] not in PCAP_LITTLE + PCAP_BIG:
        raise ValueError(f"{name} is no recording of ours and no libpcap capture; write one with `tcpdump -w FILE`")
    order = "<" if head[:4] in PCAP_LITTLE else ">"
    unit = 1e9 if head[:4] in (PCAP_LITTLE[1], PCAP_BIG[1]) else 1e6
    link = struct.unpack(order + "I", head[20:24])[0] & 0xFFFF if len(head) == 24 else -1
    skip = LINK_HEADERS.get(link)
    if skip is None:
        raise ValueError(f"{name}: packets of link type {link} are not understood")
    header = struct.Struct(order + "IIII")
    while len(fields := file.read(16)) == 16:
        seconds, fraction, length, _ = header.unpack(fields)
        if length > PACKET_LIMIT:
            raise ValueError(f"{name}: a packet of {length} bytes; the file is damaged")
        packet = file.read(length)
        yield seconds + fraction / unit, packet[skip:]


def _segment(packet: bytes) -> tuple[bytes, int, bytes, int, int, int, bytes] | None:
    """Addresses, ports, sequence number, flags and payload of TCP over IPv4 or IPv6; None for anything else."""
    if len(packet) >= 20 and packet[0] >> 4 == 4 and packet[9] == TCP:
        start, end = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        source, target = packet[12:16], packet[16:20]
    elif len(packet) >= 40 and packet[0] >> 4 == 6 and packet[6] == TCP:
        start, end = 40, 40 + int.from_bytes(packet[4:6], "big")
        source, target = packet[8:24], packet[24:40]
    else:
        return None
    tcp = packet[start : end or None]
    if len(tcp) < 20:
        return None
    source_port, target_port, sequence = struct.unpack_from(">HHI", tcp)
    return source, source_port, target, target_port, sequence, tcp[13], tcp[(tcp[12] >> 4) * 4 :]
