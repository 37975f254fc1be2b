"""The bytes that a load generator says, made without dulcet: it is the same for whoever is measured.

Association control is PS3.8 section 9.3, command sets are PS3.7 section 6.3 (implicit VR little endian).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

APPLICATION = b"1.2.840.10008.3.1.1.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
OUR_MAXIMUM = 131072
PDU_HEADER = Struct(">BxI")
ITEM_HEADER = Struct(">BxH")
PDV_HEADER = Struct(">IBB")
ELEMENT_HEADER = Struct("<HHI")
US = Struct("<H")
RELEASE_RQ = PDU_HEADER.pack(5, 4) + bytes(4)
ASSOCIATE_AC, P_DATA, RELEASE_RP = 2, 4, 6
MAXIMUM_LENGTH_ITEM = b"\x51\x00\x00\x04"
STATUS_ELEMENT = b"\x00\x00\x00\x09\x02\x00\x00\x00"

Context = tuple[str, Sequence[str]]  # abstract syntax, transfer syntaxes


class WireError(Exception):
    """The peer did not answer as expected."""


def item(kind: int, value: bytes) -> bytes:
    return ITEM_HEADER.pack(kind, len(value)) + value


def associate_rq(called: str, contexts: Sequence[Context], calling: str = "BENCH") -> bytes:
    """An A-ASSOCIATE-RQ; context ids are 1, 3, 5 ..."""
    parts = [item(0x10, APPLICATION)]
    for number, (abstract, syntaxes) in enumerate(contexts):
        offered = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        parts.append(item(0x20, bytes((2 * number + 1, 0, 0, 0)) + item(0x30, abstract.encode()) + offered))
    user = item(0x51, OUR_MAXIMUM.to_bytes(4, "big")) + item(0x52, b"1.2.826.0.1.3680043.10.1389.1")
    body = b"\0\1\0\0" + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += b"".join(parts) + item(0x50, user)
    return PDU_HEADER.pack(1, len(body)) + body


def command_set(elements: Mapping[int, bytes]) -> bytes:
    """A command set with its group length; values of odd length are padded with a zero byte."""
    parts = []
    for number, value in sorted(elements.items()):
        padded = value + b"\0" * (len(value) % 2)
        parts.append(ELEMENT_HEADER.pack(0, number, len(padded)) + padded)
    body = b"".join(parts)
    return ELEMENT_HEADER.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def message(context: int, command: bytes, data: bytes | None, maximum: int) -> bytearray:
    """A command set and its data set in P-DATA-TF PDUs of at most `maximum` bytes; one PDV each."""
    out = bytearray()
    room = (maximum or OUR_MAXIMUM) - 6
    for is_command, content in ((1, command), (0, data)):
        if content is None:
            continue
        view = memoryview(content)
        for start in range(0, max(len(view), 1), room):
            piece = view[start : start + room]
            flags = is_command | (2 if start + room >= len(view) else 0)
            out += PDU_HEADER.pack(P_DATA, len(piece) + 6)
            out += PDV_HEADER.pack(len(piece) + 2, context, flags)
            out += piece
    return out


def echo_rq(number: int) -> bytes:
    return command_set(
        {0x0002: VERIFICATION.encode(), 0x0100: US.pack(0x30), 0x0110: US.pack(number), 0x0800: US.pack(0x0101)}
    )


def store_rq(number: int, sop_class: str, instance: bytes) -> bytes:
    return command_set(
        {
            0x0002: sop_class.encode(),
            0x0100: US.pack(1),
            0x0110: US.pack(number),
            0x0700: US.pack(0),
            0x0800: US.pack(0),
            0x1000: instance,
        }
    )


def find_rq(number: int, model: str = STUDY_ROOT_FIND) -> bytes:
    return command_set(
        {
            0x0002: model.encode(),
            0x0100: US.pack(0x20),
            0x0110: US.pack(number),
            0x0700: US.pack(0),
            0x0800: US.pack(0),
        }
    )


def identifier(keys: Mapping[int, str]) -> bytes:
    """A data set of text values, implicit VR little endian; UIDs are told from their group and element."""
    parts = []
    for tag, text in sorted(keys.items()):
        value = text.encode()
        if len(value) % 2:
            value += b"\0" if tag in (0x00080018, 0x00080016, 0x0020000D, 0x0020000E) else b" "
        parts.append(ELEMENT_HEADER.pack(tag >> 16, tag & 0xFFFF, len(value)) + value)
    return b"".join(parts)


@dataclass(slots=True)
class Association:
    """An accepted association on a blocking socket."""

    socket: socket.socket
    maximum: int  # the peer's
    accepted: frozenset[int]  # context ids

    def release(self) -> None:
        self.socket.sendall(RELEASE_RQ)
        kind, _ = read_pdu(self.socket)
        if kind != RELEASE_RP:
            raise WireError(f"PDU type {kind} in answer to a release")
        self.socket.close()


def connect(host: str, port: int, source: str | None = None, timeout: float = 60.0) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=timeout, source_address=(source, 0) if source else None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def associate(host: str, port: int, request: bytes, source: str | None = None) -> Association:
    """Connect and be accepted, or raise WireError."""
    connection = connect(host, port, source)
    connection.sendall(request)
    kind, body = read_pdu(connection)
    if kind != ASSOCIATE_AC:
        raise WireError(f"PDU type {kind} in answer to an association request: {body[:8].hex()}")
    place = body.index(MAXIMUM_LENGTH_ITEM) + 4
    return Association(connection, int.from_bytes(body[place : place + 4], "big"), accepted_contexts(body))


def accepted_contexts(body: bytes) -> frozenset[int]:
    """The ids that an A-ASSOCIATE-AC, without its header, accepts."""
    found, position = [], 68
    while position + 4 <= len(body):
        kind, length = ITEM_HEADER.unpack_from(body, position)
        if kind == 0x21 and body[position + 6] == 0:
            found.append(body[position + 4])
        position += 4 + length
    return frozenset(found)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU."""
    head = read_exactly(connection, 6)
    kind, length = PDU_HEADER.unpack(head)
    return kind, read_exactly(connection, length)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise WireError(f"the connection ended with {count - len(data)} bytes missing")
        data += piece
    return bytes(data)


def status_of(command: bytes) -> int:
    """The status (0000,0900) of a response's command set."""
    place = command.find(STATUS_ELEMENT)
    if place < 0:
        raise WireError(f"no status in {command[:64].hex()}")
    return US.unpack_from(command, place + 8)[0]  # type: ignore[no-any-return]
