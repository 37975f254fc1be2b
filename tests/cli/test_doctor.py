"""Who is silent to DICOM is asked in another language."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.blocking.providing import provider
from tests.blocking.scripted import Wire, peer
from tests.cli.running import dulcet

from dulcet.cli.doctor import who_answers


class Web(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def web() -> Iterator[int]:
    """A web server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server_is_known_by_its_answer():
    with web() as port:
        assert "that is a web server" in who_answers("127.0.0.1", port)


def test_a_dicom_node_and_a_closed_port_are_nobody_else():
    with provider() as made:
        assert who_answers("127.0.0.1", int(made.address.rpartition(":")[2])) == ""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert who_answers("127.0.0.1", bound.getsockname()[1]) == ""


def test_doctor_says_who_closed_without_an_answer():
    def closes_or_greets(wire: Wire) -> None:
        if wire.sock.recv(3, socket.MSG_PEEK) == b"GET":
            wire.send(b"220 mail.example.org ESMTP\r\n")

    with peer(closes_or_greets, closes_or_greets, closes_or_greets) as made:
        done = dulcet("doctor", made.address)
    assert done.code == 3
    assert "STOP associate" in done.output
    assert "mail or FTP server" in done.output
