"""`dulcet listen`: receive into a folder."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dulcet.cli.command import JSON, PATH, option, verb
from dulcet.cli.output import USAGE, complain, say, say_json, start_logging
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


@verb("listen")
@option("--aet", metavar="AET", default="RECEIVER", help="Our AE title; calls to others are refused.")
@option("--bind", metavar="HOST", default="127.0.0.1", help="0.0.0.0 or * opens it to the network.")
@option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", help=f"{PORT} unless said; 0 takes a free one.")
@option("--dir", type=PATH, metavar="DIR", default="incoming", help="Where files go.")
@option("--layout", metavar="PATH", default="{SOPInstanceUID}.dcm", help="Names of files, with {Keyword} for values.")
@option(
    "--durability", type=click.Choice(("fsync", "none")), metavar="fsync|none", default="fsync", rare=True,
    help="fsync: what is acknowledged is on disk.  none: for tests.",
)
@option("--promiscuous", is_flag=True, rare=True, help="Take any SOP class, private ones too.")
@option("--any-aet", is_flag=True, help="Answer to any called AE title.")
@option(
    "--drain", type=click.FloatRange(0), metavar="SECONDS", default=10.0, rare=True,
    help="What SIGTERM leaves to those who send.",
)
@JSON
@listens_with_tls
def listen(
    aet: str,
    bind: str,
    port: int | None,
    dir: Path,
    layout: str,
    durability: str,
    promiscuous: bool,
    any_aet: bool,
    drain: float,
    json: bool,
    tls: TLSConfig | None,
) -> int:  # fmt: skip
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
