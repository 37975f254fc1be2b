"""`dulcet listen`: receive into a folder."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dulcet.cli.output import JSON, USAGE, complain, say, say_json, start_logging
from dulcet.cli.tls_options import TLS_PORT, listens_with_tls

if TYPE_CHECKING:
    from dulcet.blocking.receiver import Receiver
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.io.signals import Signals
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig

__all__ = ["listen"]

log: Final = logging.getLogger("dulcet.listen")

PORT: Final = 11112


@listens_with_tls
def listen(
    aet: Annotated[str, typer.Option("--aet", metavar="AET", help="Our AE title; calls to others are refused.")] = (
        "RECEIVER"
    ),
    bind: Annotated[str, typer.Option(metavar="HOST", help="0.0.0.0 or * opens it to the network.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", metavar="PORT", min=0, max=65535, help="11112 unless said; 0 takes a free one."),
    ] = None,
    dir: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where files go.")] = Path("incoming"),
    layout: Annotated[
        str, typer.Option(metavar="PATH", help="How files are named, with {Keyword} for values.")
    ] = "{SOPInstanceUID}.dcm",
    durability: Annotated[
        str, typer.Option(metavar="fsync|none", help="fsync: what is acknowledged is on disk.  none: for tests.")
    ] = "fsync",
    promiscuous: Annotated[bool, typer.Option("--promiscuous", help="Take any SOP class, private ones too.")] = False,
    any_aet: Annotated[bool, typer.Option("--any-aet", help="Answer to any called AE title.")] = False,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="What SIGTERM leaves to those who send.")
    ] = 10.0,
    json: JSON = False,
    tls: TLSConfig | None = None,
) -> int:
    """Receive DICOM objects into a folder, bit for bit.

    Stops on SIGTERM or Ctrl-C, once those who send have finished; a second one does not wait for them.

    \b
    dulcet listen --dir incoming
    dulcet listen --bind '*' --layout '{PatientID}/{SOPInstanceUID}.dcm'
    dulcet listen --bind '*' --tls-cert our.pem --tls-ca ca.pem
    """
    from dulcet.blocking.receiver import Receiver
    from dulcet.errors import LocalProtocolError
    from dulcet.io.signals import Signals
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.services.acceptance import AcceptancePolicy
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import check_ae_title

    if durability not in ("fsync", "none"):
        complain(f"--durability {durability}: fsync or none")
        return USAGE
    # Other levels stay: --debug wants everything, elsewhere each association is worth a line.
    start_logging(min(logging.getLogger().level, logging.INFO), times=True)
    try:
        title = check_ae_title(aet)
        directory = StoreDirectory(dir, layout=layout, durability="none" if durability == "none" else "fsync")
    except (ValueError, LocalProtocolError) as error:
        complain(str(error))
        return USAGE
    except OSError as error:
        complain(f"cannot receive into {dir}: {error.strerror}; name a folder that can be written to")
        return USAGE
    with directory:
        taker = _Taker(directory, json)
        policy = AcceptancePolicy.storage(None if any_aet else title, promiscuous=promiscuous)
        where = port if port is not None else PORT if tls is None else TLS_PORT
        with Signals(signal.SIGTERM, signal.SIGINT) as signals:  # from before anybody is told that we listen
            try:
                receiver = Receiver(Address(title, bind, where, tls), taker, policy=policy)
            except OSError as error:
                complain(error.strerror or str(error))
                return USAGE
            _announce(receiver, directory, bind, json)
            return _serve(receiver, taker, drain, signals)


def _announce(receiver: Receiver, directory: StoreDirectory, bind: str, json: bool) -> None:
    address = receiver.address
    if json:
        say_json(
            event="listening", host=bind, port=address.port, ae_title=address.ae_title, durable=directory.durable,
            swept=directory.swept,
        )  # fmt: skip
        return
    if not directory.durable:
        say("durability none: what is acknowledged may be lost with the power; for tests only")
    if directory.swept:
        say(f"removed {directory.swept} partial files of an earlier run")
    say(f"listening on {f'[{bind}]' if ':' in bind else bind}:{address.port} as {address.ae_title}")


def _serve(receiver: Receiver, taker: _Taker, drain: float, signals: Signals) -> int:
    """Until the signal; then those who send may finish, unless a second one comes."""
    signals.wait()
    log.info("stopping; associations that stand have %g s", drain)

    def stop() -> None:
        receiver.stop(drain)
        signals.wake()

    threading.Thread(target=stop, name="dulcet-stop", daemon=True).start()
    while signals.wait():  # 0 is the end
        receiver.interrupt(coming=True)
    taker.summary()
    return 0


class _Taker:
    """Takes what comes, from the threads of all associations, and counts."""

    def __init__(self, directory: StoreDirectory, json: bool) -> None:
        self._directory = directory
        self._json = json
        self._lock = threading.Lock()
        self._stored = 0
        self._refused = 0

    def __call__(self, request: IncomingRequest) -> None:
        from dulcet.dimse.messages import CommandField
        from dulcet.dimse.status import Status
        from dulcet.errors import ReceiveError

        if request.field == CommandField.C_ECHO_RQ:
            request.respond(Status.SUCCESS)
            return
        if request.field != CommandField.C_STORE_RQ:
            request.respond(Status.UNRECOGNIZED_OPERATION)
            return
        try:
            path = request.save(self._directory)
        except ReceiveError:
            with self._lock:
                self._refused += 1
            raise
        with self._lock:
            self._stored += 1
        request.respond(Status.SUCCESS)
        if self._json:
            association = request.association
            say_json(
                event="stored", path=str(path), sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid, transfer_syntax=request.transfer_syntax,
                calling=association.calling_ae_title, peer=association.peer,
            )  # fmt: skip

    def summary(self) -> None:
        if self._json:
            say_json(event="stopped", stored=self._stored, refused=self._refused)
        else:
            say(f"stopped; {self._stored} stored, {self._refused} refused")
