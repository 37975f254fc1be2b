"""`dulcet listen`: receive into a folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import JSON, PATH, WORKERS, option, verb
from dulcet.cli.output import USAGE, complain, say, say_json, start_logging
from dulcet.cli.tls_options import TLS_PORT, listens_with_tls
from dulcet.log_codes import coded

if TYPE_CHECKING:
    from dulcet.blocking.receiver import Receiver
    from dulcet.io.signals import Signals
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig
    from dulcet.upper_layer.address import Address

__all__ = ["listen"]

log: Final = logging.getLogger("dulcet.listen")

PORT: Final = 11112
MAXIMUM_ASSOCIATIONS: Final = 500
"""At once, of all workers together."""


@verb("listen")
@option("--aet", metavar="AET", default="RECEIVER", help="Our AE title; calls to others are refused.")
@option("--bind", metavar="HOST", default="127.0.0.1", help="0.0.0.0 or * opens it to the network.")
@option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", help=f"{PORT} unless said; 0 takes a free one.")
@option("--dir", type=PATH, metavar="DIR", default="incoming", help="Where files go.")
@option("--layout", metavar="PATH", default="{SOPInstanceUID}.dcm", help="Names of files, with {Keyword} for values.")
@option(
    "--durability",
    type=click.Choice(("fsync", "none")),
    metavar="fsync|none",
    default="fsync",
    rare=True,
    help="fsync: what is acknowledged is on disk.  none: for tests.",
)
@option("--promiscuous", is_flag=True, rare=True, help="Take any SOP class, private ones too.")
@option("--any-aet", is_flag=True, help="Answer to any called AE title.")
@option(
    "--drain",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=10.0,
    rare=True,
    help="What SIGTERM leaves to those who send.",
)
@WORKERS
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
    workers: int | None,
    json: bool,
    tls: TLSConfig | None,
) -> int:  # fmt: skip
    """Receive DICOM objects into a folder, bit for bit.

    Stops on SIGTERM, Ctrl-C or SIGHUP, once those who send have finished; a second one does not wait for them.

    \b
    dulcet listen --dir incoming
    dulcet listen --bind '*' --layout '{PatientID}/{SOPInstanceUID}.dcm'
    dulcet listen --bind '*' --tls-cert our.pem --tls-ca ca.pem
    dulcet listen --bind '*' --workers 4
    """
    from dulcet.blocking.receiver import Receiver
    from dulcet.cli.taking import Taker
    from dulcet.cli.workers import Worker
    from dulcet.errors import LocalProtocolError
    from dulcet.io.signals import Signals, named, stopping
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.services.acceptance import AcceptancePolicy
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import check_ae_title

    # Other levels stay: --debug wants everything, elsewhere each association is worth a line.
    start_logging(min(logging.getLogger().level, logging.INFO), times=True)
    try:
        title = check_ae_title(aet, "--aet")
        directory = StoreDirectory(dir, layout=layout, durability="none" if durability == "none" else "fsync")
    except (ValueError, LocalProtocolError) as error:
        complain(str(error))
        return USAGE
    except OSError as error:
        complain(f"cannot receive into {dir}: {error.strerror}; name a folder that can be written to")
        return USAGE
    address = Address(title, bind, port if port is not None else PORT if tls is None else TLS_PORT, tls)
    worker = Worker.inherited()
    if worker is None and workers is not None and workers > 1:
        with directory:
            return _run_workers(workers, address, directory, drain, json)
    with directory:
        taker = Taker(directory, json)
        policy = AcceptancePolicy.storage(None if any_aet else title, promiscuous=promiscuous)
        # From before anybody is told that we listen.
        with Signals(*stopping()) if worker is None else worker.orders() as signals:
            try:
                receiver = Receiver(address, taker, policy=policy, shared=None if worker is None else worker.port)
            except OSError as error:
                complain(error.strerror or str(error))
                return USAGE
            if worker is None:
                _announce(receiver.address, directory, json)
            else:
                worker.ready()
            number = signals.wait()
            if worker is None:  # else the parent has said so
                log.info("%s: stopping; associations that stand have %g s", named(number), drain, extra=coded("DUL118"))
            _finish(receiver, drain, signals)
        if worker is None:
            _summarize(taker.counts, json)
        else:
            worker.finish(taker.counts)
        return 0


def _run_workers(workers: int, address: Address, directory: StoreDirectory, drain: float, json: bool) -> int:
    """The parent of the processes that receive; it has made sure of all that is the same for them."""
    from dulcet.cli.workers import Supervisor, can_share
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.signals import Signals, stopping

    if not can_share():
        complain("--workers: processes cannot share a port on this system; start it without")
        return USAGE
    if address.tls is not None:
        from dulcet.io.tls import server_context

        server_context(address.tls)  # what cannot be used shows now
    with Signals(*stopping()) as signals:
        try:
            port = SharedPort.open(address.host, address.port, members=workers, slots=MAXIMUM_ASSOCIATIONS)
        except OSError as error:
            complain(error.strerror or str(error))
            return USAGE
        taken = replace(address, port=port.port)
        supervisor = Supervisor(port, signals, lambda pids: _announce(taken, directory, json, workers=pids), json)
        code = supervisor.run(drain)
    if supervisor.served:
        _summarize(supervisor.counts, json, supervisor.lost)
    return code


def _announce(address: Address, directory: StoreDirectory, json: bool, **more: Any) -> None:
    bind = address.host
    if json:
        say_json(
            event="listening", host=bind, port=address.port, ae_title=address.ae_title, durable=directory.durable,
            swept=directory.swept, **more,
        )  # fmt: skip
        return
    if not directory.durable:
        say("durability none: what is acknowledged may be lost with the power; for tests only")
    if directory.swept:
        say(f"removed {directory.swept} partial files of an earlier run")
    say(f"listening on {f'[{bind}]' if ':' in bind else bind}:{address.port} as {address.ae_title}")


def _finish(receiver: Receiver, drain: float, signals: Signals) -> None:
    """Those who send may finish, unless a second signal comes."""

    def stop() -> None:
        receiver.stop(drain)
        signals.wake()

    threading.Thread(target=stop, name="dulcet-stop", daemon=True).start()
    while signals.wait():  # 0 is the end
        receiver.interrupt(coming=True)


def _summarize(counts: Mapping[str, int], json: bool, workers_lost: int = 0) -> None:
    if json:
        more = {"workers_lost": workers_lost} if workers_lost else {}
        say_json(event="stopped", stored=counts["stored"], refused=counts["refused"], **more)
    else:
        lost = f", besides what {workers_lost} workers did that died" if workers_lost else ""
        say(f"stopped; {counts['stored']} stored, {counts['refused']} refused{lost}")
