"""`dulcet doctor`: step by step to a C-ECHO, and what to change where it stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dulcet.cli.command import CALLING, JSON, PEER, verb
from dulcet.cli.output import NO_ASSOCIATION, say, say_json
from dulcet.cli.tls_options import calls_with_tls

__all__ = ["doctor", "who_answers"]

if TYPE_CHECKING:
    from dulcet.blocking.association import Association
    from dulcet.io.tls import TLSConfig

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds for a step: who looks for a fault sits in front of it."""

PROBE: Final = 2.0
"""Seconds for whoever was silent to a DICOM request to answer a web browser's."""


@verb("doctor")
@PEER
@CALLING
@JSON
@calls_with_tls
def doctor(peer: str, aet: str, json: bool, tls: TLSConfig | None) -> int:
    """Find out why a peer cannot be reached.

    Resolve, connect, associate, echo, release, each with its time.

    \b
    dulcet doctor ARCHIVE@127.0.0.1:11112
    dulcet doctor ARCHIVE@pacs:104 --aet WORKSTATION
    """
    from dulcet import uids
    from dulcet.blocking.association import associate
    from dulcet.config import AssociationConfig, Timers
    from dulcet.errors import AssociationClosed, DimseTimeout, DulcetError
    from dulcet.io.sockets import connect
    from dulcet.services.proposals import proposals
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import check_ae_title

    address = Address.parse(peer, tls)
    check_ae_title(aet, "--aet")
    config = AssociationConfig(timers=Timers(associate=PATIENCE, response=PATIENCE))
    report = _Report(json)
    try:
        found = report.step("resolve", lambda: _resolve(address.host, address.port), lambda names: ", ".join(names))
        report.step("connect", lambda: connect(address.host, address.port, time.monotonic() + PATIENCE).close())
        association = report.step(
            "associate",
            lambda: associate(address, calling_ae_title=aet, contexts=proposals([uids.VERIFICATION]), config=config),
            _describe,
        )
        with association:
            if not association.contexts:
                report.fail("echo", "it accepted the association but not Verification; ask for C-ECHO to be allowed")
                return NO_ASSOCIATION
            report.step("echo", lambda: association.echo().check(), lambda response: str(response.status))
            report.step("release", association.release)
    except (DulcetError, OSError) as error:
        who = who_answers(address.host, address.port) if isinstance(error, DimseTimeout | AssociationClosed) else ""
        report.fail(report.current, f"{error}; {who}" if who else str(error))
        return NO_ASSOCIATION
    report.done(f"{peer} is well ({len(found)} address{'es' if len(found) > 1 else ''})")
    return 0


def who_answers(host: str, port: int) -> str:
    """Who it is that answers HTTP, or complains about it; empty where nobody is known by that."""
    import socket

    from dulcet.upper_layer.foreign_protocols import stranger

    head = b""
    try:
        with socket.create_connection((host, port), PROBE) as sock:
            sock.settimeout(PROBE)
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            head = sock.recv(64)
    except OSError:
        pass
    return stranger(head) if head else ""


class _Report:
    """One line a step."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self.current = ""

    def step(self, name: str, work: Callable[[], T], tell: Callable[[T], str] = lambda _: "") -> T:
        self.current = name
        start = time.perf_counter()
        result = work()
        self._line(name, True, (time.perf_counter() - start) * 1000, tell(result))
        return result

    def fail(self, name: str, why: str) -> None:
        self._line(name, False, None, why)

    def done(self, sentence: str) -> None:
        if not self._json:
            say(sentence)

    def _line(self, name: str, good: bool, milliseconds: float | None, text: str) -> None:
        if self._json:
            rounded = None if milliseconds is None else round(milliseconds, 3)
            say_json(step=name, ok=good, milliseconds=rounded, detail=text or None)
        else:
            took = "" if milliseconds is None else f"{milliseconds:8.2f} ms"
            say(f"{'ok  ' if good else 'STOP'} {name:<10}{took:>12}  {text}".rstrip())


def _describe(association: Association) -> str:
    accept = association.accept
    secure = "" if association.tls is None else f", {association.tls.version} {association.tls.cipher}"
    return f"{accept.implementation_version_name}, PDUs of {accept.maximum_length or 'any'} bytes{secure}"


def _resolve(host: str, port: int) -> list[str]:
    import socket

    from dulcet.errors import PeerUnreachable

    try:
        found: Any = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise PeerUnreachable(f"host {host!r} is not known ({error}); check its name, or use its IP address") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
