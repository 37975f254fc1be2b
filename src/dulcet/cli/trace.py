"""`dulcet trace`: watch what two applications say to each other, live, from a recording or from a capture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import PATH, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain, say
from dulcet.cli.peer_text import is_name
from dulcet.errors import AddressError

if TYPE_CHECKING:
    from dulcet.trace.recording import Entry

__all__ = ["trace"]


@verb("trace")
@argument("what", metavar="HOST:PORT|FILE", help="The peer to stand before, or a file.")
@option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", default=11114, help="Where the proxy listens.")
@option("--bind", metavar="HOST", default="127.0.0.1", help="On which address.")
@option("--record", type=PATH, metavar="FILE", help="Record to a file that is made.")
@option("--replay", metavar="HOST:PORT", help="Play FILE back to this peer.")
@option("--fault", multiple=True, metavar="FAULT", help="delay=50ms, jitter=20ms, cut=N, reset=N, stop=N, throttle=N.")
@option("--datasets", is_flag=True, help="Show data sets, patient data masked.")
@option("--unmasked", is_flag=True, help="Show patient data too.")
@option("--messages", "quiet", is_flag=True, help="Messages alone, no P-DATA-TF.")
def trace(
    what: str,
    port: int,
    bind: str,
    record: Path | None,
    replay: str | None,
    fault: tuple[str, ...],
    datasets: bool,
    unmasked: bool,
    quiet: bool,
) -> int:
    """Decode what two applications say, live or from a file.

    \b
    dulcet trace 127.0.0.1:11112 --port 11114 --record session.jsonl
    dulcet trace session.jsonl --datasets
    """
    from dulcet.io.signals import Signals, stopping
    from dulcet.trace.proxy import Fault, Proxy
    from dulcet.trace.recording import Recorder, play, read_capture, read_recording

    printer = _Printer(datasets, unmasked, not quiet)
    path = Path(what)
    try:
        if path.is_file():
            with path.open("rb") as file:
                is_ours = file.read(1) == b"{"
            if replay is not None:
                host, number = _address(replay)
                entries: Iterator[Entry] = play(path, host, number)
            else:
                entries = read_recording(path) if is_ours else read_capture(path)
            for entry in entries:
                printer(entry.connection, entry.direction, entry.data, entry.time)
            return 0
        host, number = _address(what)
        faults = [Fault.parse(text) for text in fault]
        recorder = Recorder(record) if record is not None else None
    except TimeoutError:
        complain("the peer fell silent in the middle of the replay")
        return FAILED
    except ValueError as error:
        complain(str(error))
        return USAGE
    except FileExistsError:
        complain(f"{record} is there already; a recording is never written over")
        return USAGE

    def watch(connection: int, direction: Any, data: bytes) -> None:
        if recorder is not None:
            recorder(connection, direction, data)
        printer(connection, direction, data)

    with (
        Signals(*stopping()) as signals,
        Proxy((host, number), host=bind, port=port, faults=faults, watch=watch) as proxy,
    ):
        say(f"listening on {bind}:{proxy.port}, passing on to {what}")
        signals.wait()
    if recorder is not None:
        recorder.close()
    return 0


class _Printer:
    """Lines of several connections, each begun with its number and the time."""

    def __init__(self, datasets: bool, unmasked: bool, pdus: bool) -> None:
        self._options = {"datasets": datasets or unmasked, "unmasked": unmasked, "pdus": pdus}
        self._tracers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, connection: int, direction: Any, data: bytes, moment: float | None = None) -> None:
        import time

        from dulcet.trace.decoding import Tracer

        with self._lock:
            tracer = self._tracers.setdefault(connection, Tracer(**self._options))
            stamp = time.strftime("%H:%M:%S") if moment is None else f"{moment:.6f}"
            if not data:
                say(f"{stamp} {connection} {direction} closed")
            for line in tracer.feed(direction, data):
                say(f"{stamp} {connection} {line}")


NO_PEER: Final = "{!r} is no file, and no peer: HOST:PORT is expected, as in 127.0.0.1:104, or a name of `dulcet peers`"


def _address(text: str) -> tuple[str, int]:
    """host:port, an AE title in front is passed over; or the name of a peer."""
    if is_name(text):
        from dulcet.cli.peers_file import called

        try:
            address = called(text).address
        except AddressError:
            raise ValueError(NO_PEER.format(text)) from None
        assert address is not None
        return address.host, address.port
    host, colon, port = text.rpartition("@")[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(NO_PEER.format(text))
    return host.strip("[]"), int(port)
