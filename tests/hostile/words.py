"""What hostile and clumsy peers say, by name: bytes, whole PDUs or none at all.

Rule: written with the PDU codec or by hand, never with the state machine that is under test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.pairs import message, p_data

from dulcet import uids
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.upper_layer.items import (
    ContextResult,
    ImplementationClassUID,
    MaximumLength,
    ProposedContext,
    UserItem,
)
from dulcet.upper_layer.pdu import PDV, Abort, AssociateAC, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ, encode

__all__ = ["WORDS", "say"]

CT: Final = uids.CT_IMAGE_STORAGE
FIND: Final = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
IMPLICIT: Final = uids.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT: Final = uids.EXPLICIT_VR_LITTLE_ENDIAN
INSTANCE: Final = "1.2.3.4"
ECHO, STORE, QUERY = 1, 3, 5
"""The context ids of `RQ`."""

RQ: Final = AssociateRQ(
    called_ae_title="PROVIDER",
    calling_ae_title="HOSTILE",
    presentation_contexts=(
        ProposedContext(ECHO, uids.VERIFICATION, (IMPLICIT,)),
        ProposedContext(STORE, CT, (EXPLICIT, IMPLICIT)),
        ProposedContext(QUERY, FIND, (IMPLICIT,)),
    ),
    user_information=(MaximumLength(16384), ImplementationClassUID("1.2.3")),
)
AC: Final = AssociateAC(
    called_ae_title="PROVIDER",
    calling_ae_title="HOSTILE",
    presentation_contexts=(ContextResult(1, 0, IMPLICIT),),
    user_information=(MaximumLength(16384), ImplementationClassUID("1.2.3")),
)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    return head + len(value).to_bytes(2, "little") + value


def data_set(class_uid: str = CT, instance_uid: str = INSTANCE, size: int = 40_000) -> bytes:
    """A CT image of explicit VR, as far as a receiver looks at it."""
    filler = element(0x00104000, b"LT", b"x" * 60_000) * (size // 60_000)
    return (
        element(0x00080016, b"UI", class_uid.encode())
        + element(0x00080018, b"UI", instance_uid.encode())
        + filler
        + element(0x00104000, b"LT", b"x" * (size % 60_000))
    )


def request(field: CommandField, class_uid: str, data: bool = False, **elements: object) -> bytes:
    made = Command.make(
        field, data_set=data, validate=False, AffectedSOPClassUID=class_uid, **{"MessageID": 7, **elements}
    )
    return made.encode()


ECHO_RQ: Final = request(CommandField.C_ECHO_RQ, uids.VERIFICATION)
STORE_RQ: Final = request(CommandField.C_STORE_RQ, CT, True, AffectedSOPInstanceUID=INSTANCE, Priority=0)
QUERY_RQ: Final = request(CommandField.C_FIND_RQ, FIND, True, Priority=0)
ECHO_RSP: Final = Command.make(
    CommandField.C_ECHO_RSP, AffectedSOPClassUID=uids.VERIFICATION, MessageIDBeingRespondedTo=1, Status=0
)


def store(instance_uid: str = INSTANCE, **own: str) -> bytes:
    command = request(CommandField.C_STORE_RQ, CT, True, AffectedSOPInstanceUID=instance_uid, Priority=0)
    return message(STORE, command, data_set(**{"instance_uid": instance_uid, **own}))


def contexts(*ids: int) -> AssociateRQ:
    return replace(RQ, presentation_contexts=tuple(ProposedContext(n, uids.VERIFICATION, (IMPLICIT,)) for n in ids))


def items(*more: UserItem) -> AssociateRQ:
    return replace(RQ, user_information=(*RQ.user_information, *more))


def raw_rq(variable: bytes) -> bytes:
    """An A-ASSOCIATE-RQ whose items are these bytes."""
    body = b"\0\1\0\0" + b"PROVIDER".ljust(16) + b"HOSTILE".ljust(16) + bytes(32) + variable
    return pdu(1, body)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((kind, 0)) + (len(body) if length is None else length).to_bytes(4, "big") + body


def pdv(context_id: int, control: int, body: bytes, length: int | None = None) -> bytes:
    return (len(body) + 2 if length is None else length).to_bytes(4, "big") + bytes((context_id, control)) + body


def user_items_of(rq: AssociateRQ) -> bytes:
    """The user information item, to be put in twice."""
    whole = encode(rq)
    return whole[whole.rindex(b"\x50\0\0") :]


def ac_with(*results: ContextResult) -> bytes:
    return encode(replace(AC, presentation_contexts=results))


def rsp(**elements: object) -> bytes:
    given = {"AffectedSOPClassUID": uids.VERIFICATION, "MessageIDBeingRespondedTo": 1, "Status": 0, **elements}
    return message(1, Command.make(CommandField.C_ECHO_RSP, validate=False, **given))


WORDS: Final[dict[str, Callable[[], bytes]]] = {
    # other protocols
    "HTTP": lambda: b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
    "HTTP POST": lambda: b"POST /wado HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP answer": lambda: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "TLS hello": lambda: bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "TLS alert": lambda: bytes.fromhex("15030300020228"),
    "SSH": lambda: b"SSH-2.0-OpenSSH_9.6\r\n",
    "HL7": lambda: b"\x0bMSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\r\x1c\r",
    "zeros": lambda: bytes(100_000),
    "ones": lambda: b"\xff" * 100_000,
    "random": lambda: random.Random(7).randbytes(100_000),
    # association
    "RQ": lambda: encode(RQ),
    "RQ to OTHER": lambda: encode(replace(RQ, called_ae_title="OTHER")),
    "RQ to nobody": lambda: encode(replace(RQ, called_ae_title=" ")),
    "RQ from FOE": lambda: encode(replace(RQ, calling_ae_title="FOE")),
    "RQ of NUL-padded titles": lambda: encode(RQ).replace(b"PROVIDER" + b" " * 8, b"PROVIDER" + bytes(8)),
    "RQ of protocol version 2": lambda: encode(replace(RQ, protocol_version=2)),
    "RQ of another application": lambda: encode(replace(RQ, application_context="1.2.3")),
    "RQ without application": lambda: raw_rq(encode(RQ)[74 + 25 :]),
    "RQ without contexts": lambda: encode(replace(RQ, presentation_contexts=())),
    "RQ of even ids": lambda: encode(contexts(2, 4)),
    "RQ of duplicate ids": lambda: encode(contexts(1, 1, 1)),
    "RQ of 1000 contexts": lambda: encode(contexts(*(1 + 2 * n % 256 for n in range(1000)))),
    "RQ of no transfer syntax": lambda: encode(
        replace(RQ, presentation_contexts=(ProposedContext(1, uids.VERIFICATION, ()),))
    ),
    "RQ of a UID of 65": lambda: encode(
        replace(RQ, presentation_contexts=(ProposedContext(1, "1." * 32 + "1", (IMPLICIT,)), *RQ.presentation_contexts))
    ),
    "RQ of a UID of 60000": lambda: encode(
        replace(RQ, presentation_contexts=(*RQ.presentation_contexts, ProposedContext(7, "1" * 60_000, (IMPLICIT,))))
    ),
    "RQ without user information": lambda: encode(replace(RQ, user_information=())),
    "RQ of two user informations": lambda: raw_rq(encode(RQ)[74:] + user_items_of(RQ)),
    "RQ of duplicate items": lambda: encode(items(MaximumLength(0), MaximumLength(5), ImplementationClassUID("9"))),
    "RQ of maximum length 1": lambda: encode(replace(RQ, user_information=(MaximumLength(1),))),
    "RQ of maximum length 0": lambda: encode(replace(RQ, user_information=(MaximumLength(0),))),
    "RQ of a maximum length of 3 bytes": lambda: raw_rq(encode(RQ)[74:] + b"\x50\0\0\7\x51\0\0\3\0\0\0"),
    "RQ of 4 GiB": lambda: pdu(1, bytes(1000), 0xFFFFFFFF),
    "RQ of 1 MiB and 1": lambda: pdu(1, bytes(1000), (1 << 20) + 1),
    "RQ of 67 bytes": lambda: pdu(1, bytes(67)),
    "RQ of 0 bytes": lambda: pdu(1, b""),
    "RQ with an item that overruns": lambda: raw_rq(b"\x10\0\xff\xff1.2"),
    "RQ with a context of 2 bytes": lambda: raw_rq(b"\x20\0\0\2\1\0"),
    "RQ with 3 stray bytes": lambda: raw_rq(encode(RQ)[74:] + b"\0\0\0"),
    "RQ with unknown items": lambda: raw_rq(encode(RQ)[74:] + b"\x99\0\0\3abc\x98\0\0\0"),
    "AC": lambda: encode(AC),
    "RJ": lambda: encode(AssociateRJ(1, 1, 1)),
    # its end
    "RELEASE-RQ": lambda: encode(ReleaseRQ()),
    "RELEASE-RP": lambda: encode(ReleaseRP()),
    "ABORT": lambda: encode(Abort(2, 1)),
    "RELEASE-RQ of 5 bytes": lambda: pdu(5, bytes(5)),
    "ABORT of 4 GiB": lambda: pdu(7, bytes(100), 0xFFFFFFFF),
    # PDUs and PDVs
    "PDU type 00": lambda: pdu(0, bytes(4)),
    "PDU type 08": lambda: pdu(8, bytes(4)),
    "PDU type FF": lambda: pdu(255, bytes(4)),
    "P-DATA of 4 GiB": lambda: pdu(4, pdv(ECHO, 3, b"", 0xFFFFFFFB), 0xFFFFFFFF),
    "P-DATA of 0 bytes": lambda: pdu(4, b""),
    "P-DATA with 3 stray bytes": lambda: pdu(4, pdv(ECHO, 3, ECHO_RQ) + b"\0\0\0"),
    "PDV overrun": lambda: pdu(4, pdv(ECHO, 3, ECHO_RQ, len(ECHO_RQ) + 3)),
    "PDV of 0 bytes": lambda: pdu(4, pdv(ECHO, 3, b"", 0)),
    "PDV of 1 byte": lambda: pdu(4, pdv(ECHO, 3, b"", 1)),
    "PDV of 4 GiB": lambda: pdu(4, pdv(ECHO, 3, b"", 0xFFFFFFFF)),
    "empty PDVs": lambda: p_data(PDV(ECHO, True, False, b"")) * 1000,
    "echo": lambda: message(ECHO, ECHO_RQ),
    "another echo": lambda: message(ECHO, request(CommandField.C_ECHO_RQ, uids.VERIFICATION, MessageID=8)),
    "echo in single bytes": lambda: message(ECHO, ECHO_RQ, fragment=1),
    "echo on context 99": lambda: message(99, ECHO_RQ),
    "echo with reserved bits": lambda: pdu(4, pdv(ECHO, 0xFF, ECHO_RQ)),
    "echo of 200000 bytes": lambda: pdu(4, pdv(ECHO, 3, ECHO_RQ) + pdv(ECHO, 1, b"") * 33_000),
    # command sets
    "command set of 64 KiB and 1": lambda: message(ECHO, bytes((1 << 16) + 1), fragment=60_000),
    "command set of 1 GB": lambda: pdu(4, pdv(ECHO, 1, bytes(100_000), 1_000_000_000), 1_000_000_004),
    "empty command set": lambda: message(ECHO, b""),
    "command set of noise": lambda: message(ECHO, b"\xff" * 200),
    "command set cut short": lambda: message(ECHO, ECHO_RQ[:-1]),
    "command without field": lambda: message(ECHO, ECHO_RQ[-10:]),
    "command FFFF": lambda: message(ECHO, ECHO_RQ.replace(b"\x30\0", b"\xff\x7f")),
    "data without command": lambda: p_data(PDV(STORE, False, True, b"data")),
    "echo inside a store": lambda: message(STORE, STORE_RQ) + message(ECHO, ECHO_RQ),
    "store that changes context": lambda: message(STORE, STORE_RQ) + p_data(PDV(ECHO, False, True, b"data")),
    "stray response": lambda: message(ECHO, ECHO_RSP),
    "stray cancel": lambda: message(QUERY, Command.make(CommandField.C_CANCEL_RQ, MessageIDBeingRespondedTo=99)),
    "echo without message id": lambda: message(
        ECHO, request(CommandField.C_ECHO_RQ, uids.VERIFICATION, MessageID=None)
    ),
    # data sets
    "store": lambda: store(),
    "another store": lambda: store("1.2.3.5"),
    "store of ../../evil": lambda: store("../../../tmp/evil"),
    "store of ..": lambda: store(".."),
    "store of no UID": lambda: store(""),
    "store of a UID of 200": lambda: store("1" * 200),
    "store of another class": lambda: store(class_uid=uids.MR_IMAGE_STORAGE),
    "store of another instance": lambda: message(STORE, STORE_RQ, data_set(instance_uid="1.2.99")),
    "store of noise": lambda: message(STORE, STORE_RQ, b"\x08\0\x16\0UI\xff\xff" + b"\xfe" * 400),
    "store of nothing": lambda: message(STORE, request(CommandField.C_STORE_RQ, CT, AffectedSOPInstanceUID=INSTANCE)),
    "deep nesting": lambda: message(
        STORE,
        STORE_RQ,
        data_set(size=0) + (b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff") * 5000,
    ),
    "half a data set": lambda: message(STORE, STORE_RQ) + p_data(PDV(STORE, False, False, data_set()[:10_000])),
    "identifier of 1 MiB and 1": lambda: message(QUERY, QUERY_RQ, bytes((1 << 20) + 1)),
    # what a provider may say to us
    "AC of nothing": lambda: ac_with(ContextResult(1, 3, IMPLICIT)),
    "AC without contexts": lambda: ac_with(),
    "AC of another id": lambda: ac_with(ContextResult(77, 0, IMPLICIT)),
    "AC of another syntax": lambda: ac_with(ContextResult(1, 0, "1.2.840.10008.1.2.4.50")),
    "AC twice the same id": lambda: ac_with(ContextResult(1, 3, IMPLICIT), ContextResult(1, 0, IMPLICIT)),
    "AC of maximum length 1": lambda: encode(replace(AC, user_information=(MaximumLength(1),))),
    "AC of 4 GiB": lambda: pdu(2, bytes(1000), 0xFFFFFFFF),
    "RJ transient": lambda: encode(AssociateRJ(2, 3, 1)),
    "RJ of reserved values": lambda: encode(AssociateRJ(9, 9, 9)),
    "ABORT by the user": lambda: encode(Abort(0, 0)),
    "ABORT by the provider": lambda: encode(Abort(2, 6)),
    "echo response": lambda: rsp(),
    "echo response A700": lambda: rsp(Status=0xA700),
    "echo response to 2": lambda: rsp(MessageIDBeingRespondedTo=2),
    "echo response without status": lambda: rsp(Status=None),
    "store response": lambda: message(
        1, Command.make(CommandField.C_STORE_RSP, validate=False, MessageIDBeingRespondedTo=1, Status=0)
    ),
    "echo response on context 3": lambda: message(3, ECHO_RSP),
}


def say(name: str) -> bytes:
    """The bytes of a name; `a + b` follow each other at once; `half a` is the first half of them."""
    if " + " in name:
        return b"".join(map(say, name.split(" + ")))
    if name.startswith("half ") and name not in WORDS:
        whole = say(name.removeprefix("half "))
        return whole[: len(whole) // 2]
    return WORDS[name]()
