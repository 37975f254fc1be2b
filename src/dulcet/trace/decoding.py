"""From the bytes of both directions of a connection to lines that people read: PDUs, contexts, messages.

Rules: no I/O; what does not decode is said and passed over, for a trace must never be the first to give up; data sets
are counted, not shown, unless asked for, and then patient data is masked unless asked for too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from dulcet import uids
from dulcet.dimse.command import Command
from dulcet.dimse.status import Status
from dulcet.errors import ProtocolError
from dulcet.part10.header import Header
from dulcet.part10.scanner import scan
from dulcet.part10.sources import ScanError
from dulcet.upper_layer.items import AsynchronousOperationsWindow, UserIdentityRQ
from dulcet.upper_layer.pdu import (
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRQ,
    decode_body,
)

__all__ = ["Direction", "Tracer"]

Direction = Literal[">", "<"]
"""`>` from the requestor to the acceptor, `<` back."""

P_DATA: Final = 4
CONTROL_LIMIT: Final = 1 << 20
SHOWN_BYTES: Final = 64 * 1024
"""Bytes of a data set that are kept to be shown."""
SHOWN_LENGTH: Final = 64
MASK: Final = "****"
# PS3.15 Table E.1-1 names many more; these are the ones that travel in queries, worklists and answers.
PATIENT_DATA: Final = frozenset(
    (0x00080090, 0x00081048, 0x00081050, 0x00081070, 0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101001,
     0x00101010, 0x00101040, 0x00101060, 0x00102154, 0x00104000, 0x00080050, 0x00380010, 0x00321032, 0x00321033)
)  # fmt: skip
RESULTS: Final = {0: "accepted", 1: "user rejection", 2: "no reason", 3: "abstract syntax", 4: "transfer syntaxes"}


@dataclass(slots=True)
class _Stream:
    """One direction: what of a PDU or message came so far."""

    buffer: bytearray = field(default_factory=bytearray)
    skip: int = 0
    left: int = 0  # bytes of the current P-DATA-TF
    value_left: int = -1  # bytes of the current PDV
    context_id: int = 0
    control: int = 0
    command: bytearray = field(default_factory=bytearray)
    current: Command | None = None
    data: bytearray = field(default_factory=bytearray)
    data_size: int = 0
    fragments: int = 0
    lost: bool = False


class Tracer:
    """Both directions of one connection; `feed` gives the lines that the bytes make."""

    def __init__(self, *, datasets: bool = False, unmasked: bool = False, pdus: bool = True) -> None:
        self._datasets = datasets
        self._unmasked = unmasked
        self._pdus = pdus
        self._streams: dict[Direction, _Stream] = {">": _Stream(), "<": _Stream()}
        self._contexts: dict[int, str] = {}
        self._syntaxes: dict[int, str] = {}

    def feed(self, direction: Direction, data: bytes) -> Iterator[str]:
        """The lines for what is whole with these bytes."""
        stream = self._streams[direction]
        stream.buffer += data
        while not stream.lost:
            before = len(stream.buffer), stream.left, stream.value_left
            for line in self._advance(stream):
                yield f"{direction} {line}"
            if (len(stream.buffer), stream.left, stream.value_left) == before:
                return
        stream.buffer.clear()

    def _advance(self, stream: _Stream) -> Iterator[str]:
        if stream.value_left >= 0:
            yield from self._value(stream)
        elif stream.left:
            yield from self._begin_value(stream)
        elif len(stream.buffer) >= 6:
            yield from self._begin_pdu(stream)

    def _begin_pdu(self, stream: _Stream) -> Iterator[str]:
        pdu_type, length = PDU_HEADER.unpack_from(stream.buffer)
        if not 1 <= pdu_type <= 7:
            stream.lost = True
            yield f"?? no PDU begins with {bytes(stream.buffer[:16]).hex(' ')}; what follows is not decoded"
            return
        if pdu_type == P_DATA:
            del stream.buffer[:6]
            stream.left = length
            if self._pdus:
                yield f"P-DATA-TF {length} bytes"
            return
        if length > CONTROL_LIMIT:
            stream.lost = True
            yield f"?? a PDU {pdu_type:02X}H of {length} bytes; the rest of this direction is not decoded"
            return
        if len(stream.buffer) < 6 + length:
            return
        body = bytes(stream.buffer[6 : 6 + length])
        del stream.buffer[: 6 + length]
        try:
            pdu = decode_body(pdu_type, body)
        except ProtocolError as error:
            yield f"?? PDU {pdu_type:02X}H: {error}"
            return
        yield from self._control(pdu)

    def _control(self, pdu: object) -> Iterator[str]:
        match pdu:
            case AssociateRQ():
                yield f"A-ASSOCIATE-RQ {pdu.calling!a} calls {pdu.called!a}, {self._facts(pdu)}"
                for proposed in pdu.presentation_contexts:
                    self._contexts[proposed.context_id] = proposed.abstract_syntax
                    syntaxes = ", ".join(uids.name_of(uid) for uid in proposed.transfer_syntaxes)
                    yield f"    {proposed.context_id:3} {uids.name_of(proposed.abstract_syntax)}: {syntaxes}"
            case AssociateAC():
                yield f"A-ASSOCIATE-AC {self._facts(pdu)}"
                for result in pdu.presentation_contexts:
                    name = uids.name_of(self._contexts.get(result.context_id, "?"))
                    answer = RESULTS.get(result.result, str(result.result))
                    if result.accepted:
                        self._syntaxes[result.context_id] = result.transfer_syntax
                        answer = uids.name_of(result.transfer_syntax)
                    yield f"    {result.context_id:3} {name}: {answer}"
            case AssociateRJ(result=result, source=source, reason=reason):
                yield f"A-ASSOCIATE-RJ ({result},{source},{reason})"
            case Abort(source=source, reason=reason):
                yield f"A-ABORT source {source} reason {reason}"
            case ReleaseRQ():
                yield "A-RELEASE-RQ"
            case _:
                yield "A-RELEASE-RP"

    @staticmethod
    def _facts(pdu: AssociateRQ | AssociateAC) -> str:
        facts = [f"{pdu.implementation_version_name or '?'}", f"maximum length {pdu.maximum_length or 'none'}"]
        window = pdu.user_item(AsynchronousOperationsWindow)
        if window is not None:
            facts.append(f"window {window.invoked}/{window.performed}")
        identity = pdu.user_item(UserIdentityRQ)
        if identity is not None:
            facts.append(f"user identity type {identity.identity_type}")  # never what it says
        return ", ".join(facts)

    def _begin_value(self, stream: _Stream) -> Iterator[str]:
        if len(stream.buffer) < 6:
            return
        length, stream.context_id, stream.control = PDV_HEADER.unpack_from(stream.buffer)
        del stream.buffer[:6]
        if length < 2 or length + 4 > stream.left:
            stream.lost = True
            yield f"?? a PDV of {length} bytes in {stream.left}; the rest of this direction is not decoded"
            return
        stream.left -= length + 4
        stream.value_left = length - 2
        stream.fragments += 1

    def _value(self, stream: _Stream) -> Iterator[str]:
        piece = bytes(stream.buffer[: stream.value_left])
        del stream.buffer[: len(piece)]
        stream.value_left -= len(piece)
        is_command = stream.control & 1
        if is_command:
            stream.command += piece[: CONTROL_LIMIT - len(stream.command)]
        else:
            stream.data_size += len(piece)
            if self._datasets:
                stream.data += piece[: SHOWN_BYTES - len(stream.data)]
        if stream.value_left:
            return
        stream.value_left = -1
        if stream.control & 2:
            yield from self._message(stream) if is_command else self._data_set(stream)

    def _message(self, stream: _Stream) -> Iterator[str]:
        try:
            command = stream.current = Command.decode(bytes(stream.command))
        except ProtocolError as error:
            yield f"    ?? a command set on context {stream.context_id}: {error}"
            return
        finally:
            stream.command.clear()
            stream.fragments = 0
        number = command.message_id_being_responded_to if command.is_response else command.message_id
        parts = [f"    {command.name} {number} on context {stream.context_id}"]
        if command.sop_class_uid:
            parts.append(uids.name_of(command.sop_class_uid))
        if command.sop_instance_uid:
            parts.append(command.sop_instance_uid)
        if command.move_destination:
            parts.append(f"to {command.move_destination!a}")
        if command.status is not None:
            parts.append(str(Status(command.status)))
        counters = (
            command.number_of_remaining_suboperations,
            command.number_of_completed_suboperations,
            command.number_of_failed_suboperations,
            command.number_of_warning_suboperations,
        )
        if any(counter is not None for counter in counters):
            parts.append("remaining/completed/failed/warning " + "/".join(str(counter or 0) for counter in counters))
        yield ", ".join(parts)

    def _data_set(self, stream: _Stream) -> Iterator[str]:
        yield f"    data set of {stream.data_size} bytes in {stream.fragments} fragments"
        if self._datasets:
            yield from self._elements(bytes(stream.data), self._syntaxes.get(stream.context_id, ""))
        stream.data.clear()
        stream.data_size = stream.fragments = 0

    def _elements(self, data: bytes, syntax: str) -> Iterator[str]:
        try:
            header = scan(data, syntax)
        except ScanError as error:
            yield f"        ?? {error.reason}"
            return
        yield from self._lines(header, 8)

    def _lines(self, header: Header, indent: int) -> Iterator[str]:
        from pydicom.datadict import keyword_for_tag

        for tag in header:
            name = keyword_for_tag(tag) or "?"
            start = f"{'':{indent}}({tag >> 16:04X},{tag & 0xFFFF:04X}) {name}"
            items = header.items(tag) if tag in header.sequences else []
            if items:
                yield f"{start}: {len(items)} items"
                for item in items:
                    yield from self._lines(item, indent + 4)
            elif tag in PATIENT_DATA and not self._unmasked:
                yield f"{start}: {MASK if header.raw(tag) else ''}"
            else:
                text = header.text(tag)[:SHOWN_LENGTH]
                yield f"{start}: {''.join(c if c.isprintable() else '?' for c in text)}"
