"""Who does not speak DICOM is named by its first bytes, and what to change is said."""

from __future__ import annotations

import pytest

from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import Aborted
from dulcet.upper_layer.foreign_protocols import STRANGERS, stranger
from dulcet.upper_layer.pdu import ABORT, ASSOCIATE_RQ


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "web server"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "SSH"),
        (b"220 mail.example.org ESMTP\r\n", "mail or FTP"),
        (b"\x15\3\1\0\2\2\x28", "wants TLS"),
        (b"\x16\3\1\2\0\1\0\1", "TLS to a port without"),
        (b"\x15", "wants TLS"),
        (b"PROXY TCP4 10.0.0.1", "PROXY protocol: switch that off"),
        (b"\r\n\r\n\0\r\nQUIT\n!", "PROXY protocol: switch that off"),
        (b"GET / HTTP/1.1\r\n", "HTTP to a port for DICOM"),
        (b"H", "HTTP or other text"),
        (b"* OK IMAP4rev1", "other text"),
    ],
)
def test_a_stranger_is_named_in_the_message_of_the_abort(says: bytes, words: str) -> None:
    connection = Connection(requestor=False)
    connection.connection_made()
    connection.get_buffer()[: len(says)] = says
    connection.buffer_updated(len(says))
    event = connection.next_event()
    assert isinstance(event, Aborted)
    assert (event.source, event.reason, event.by_us) == (2, 1, True)
    assert event.message.startswith(f"PDU type {says[0]:02X}H does not exist; ")
    assert words in event.message


@pytest.mark.parametrize("says", [b"\0\0\0\0", b"\xff\xd8\xff\xe0", b"\x08"])
def test_nothing_is_guessed_of_what_nobody_knows(says: bytes) -> None:
    assert stranger(says) == ""


def test_no_stranger_begins_as_dicom_does() -> None:
    assert not {begin[0] for begin in STRANGERS} & set(range(ASSOCIATE_RQ, ABORT + 1))
