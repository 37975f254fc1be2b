"""`dulcet serve`: the archive node."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import JSON, PATH, WORKERS, option, verb
from dulcet.cli.output import USAGE, complain, say, say_json, start_logging
from dulcet.cli.tls_options import TLS_PORT, listens_with_tls
from dulcet.log_codes import coded

if TYPE_CHECKING:
    from dulcet.archive.application import Archive
    from dulcet.archive.configuration import Configuration
    from dulcet.cli.workers import Worker
    from dulcet.io.signals import Signals
    from dulcet.io.tls import TLSConfig
    from dulcet.node.threads import NodeThreads

__all__ = ["serve"]

log: Final = logging.getLogger("dulcet.archive")


@verb("serve")
@option("--aet", metavar="AET", help="Our AE title.")
@option("--bind", metavar="HOST", help="0.0.0.0 or * opens it to the network; else loopback.")
@option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", help="0 takes a free one.")
@option("--data", type=PATH, metavar="DIR", help="The folder that holds everything.")
@option("--config", type=PATH, metavar="FILE", help="A TOML file; flags win.")
@option("--allow-any", is_flag=True, help="Admit calling AE titles that no table lists.")
@option("--promiscuous", is_flag=True, rare=True, help="Take storage classes that no table knows, private ones too.")
@option("--strict", is_flag=True, rare=True, help="Refuse UIDs that PS3.5 does not allow.")
@option(
    "--durability",
    type=click.Choice(("fsync", "none")),
    metavar="fsync|none",
    rare=True,
    help="fsync: what is acknowledged is on disk.  none: for tests.",
)
@option(
    "--drain",
    type=click.FloatRange(0),
    metavar="SECONDS",
    rare=True,
    help="What SIGTERM leaves to those who are at it.",
)
@option("--strict-queries", is_flag=True, rare=True, help="Refuse queries without the unique keys of the levels above.")
@WORKERS
@option("--print-config", is_flag=True, help="Write the configuration in force, with comments, and end.")
@JSON
@listens_with_tls
def serve(
    aet: str | None,
    bind: str | None,
    port: int | None,
    data: Path | None,
    config: Path | None,
    allow_any: bool,
    promiscuous: bool,
    strict: bool,
    durability: str | None,
    drain: float | None,
    strict_queries: bool,
    workers: int | None,
    print_config: bool,
    json: bool,
    tls: TLSConfig | None,
) -> int:  # fmt: skip
    """Receive, keep, find and hand on: an archive in a folder.

    Stops on SIGTERM, Ctrl-C or SIGHUP, once those who are at it have finished; a second one does not wait for them.

    \b
    dulcet serve --data ./dulcet-data --allow-any
    dulcet serve --print-config > dulcet.toml;  dulcet serve --config dulcet.toml
    """
    from dulcet.archive.application import ArchiveWorker
    from dulcet.archive.configuration import (
        Configuration,
        ConfigurationError,
        load,
        open_archive,
        parse,
        render,
        tls_config,
    )
    from dulcet.archive.events import HookFailed
    from dulcet.io.signals import Signals, named, stopping
    from dulcet.upper_layer.negotiation import check_ae_title

    if aet is not None:
        check_ae_title(aet, "--aet")
    try:
        configuration = load(config) if config is not None else Configuration()
        if tls is not None and port is None and config is None:
            port = TLS_PORT
        _override(
            configuration, aet, bind, port, data, allow_any, promiscuous, strict, durability, drain, strict_queries,
            workers,
        )  # fmt: skip
        configuration = parse(render(configuration), "the command line")
        tls = tls_config(configuration, tls)
    except ConfigurationError as error:
        complain(str(error))
        return USAGE
    except OSError as error:
        complain(f"cannot read {config}: {error.strerror}")
        return USAGE
    if print_config:
        print(render(configuration), end="")
        return 0
    start_logging(min(logging.getLogger().level, logging.INFO), times=True)
    _hush_pydicom()
    server = configuration.server
    worker = _seat()
    try:
        place = None if worker is None else ArchiveWorker(worker.number, worker.given["lock"])
        archive = open_archive(configuration, tls, place)
    except HookFailed as error:
        complain(f"[events] {error}")
        return USAGE
    except OSError as error:
        complain(f"cannot keep data in {server.data}: {error.strerror or error}; name a folder that can be written to")
        return USAGE
    with archive:
        if worker is None and server.workers > 1:
            return _run_workers(archive, configuration, tls, json)
        # From before anybody is told that we listen.
        with Signals(*stopping()) if worker is None else worker.orders() as signals:
            try:
                running = _begin(archive, configuration, tls, worker)
            except OSError as error:
                complain(error.strerror or str(error))
                return USAGE
            if worker is None:
                _announce(archive, running.address.port, configuration, json)
            else:
                worker.ready()
            number = signals.wait()
            if worker is None:  # else the parent has said so
                log.info(
                    "%s: stopping; associations that stand have %g s", named(number), server.drain,
                    extra=coded("DUL118"),
                )  # fmt: skip
            _finish(running, signals, server.drain)
    counts = archive.ingest.counts
    if worker is None:
        _tell(json, "stopped", _summary(counts))
    else:
        worker.finish(counts)
    return 0


def _seat() -> Worker | None:
    from dulcet.cli.workers import Worker

    return Worker.inherited()


def _begin(archive: Archive, configuration: Configuration, tls: TLSConfig | None, worker: Worker | None) -> NodeThreads:
    """The node, serving; OSError when it cannot listen."""
    server, limits = configuration.server, configuration.limits
    node = archive.node(
        server.ae_title, config=configuration.association_config(), move_associations=limits.move_associations
    )
    return node.threads(
        server.bind,
        server.port,
        maximum_associations=limits.associations,
        maximum_per_host=limits.associations_per_address,
        maximum_per_ae=limits.associations_per_title or None,
        tls=tls,
        shared=None if worker is None else worker.port,
    )


def _run_workers(archive: Archive, configuration: Configuration, tls: TLSConfig | None, json: bool) -> int:
    """The parent of the processes that serve: it has put right what a crash left, and keeps the folder for them."""
    from dulcet.cli.workers import Supervisor, can_share
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.signals import Signals, stopping

    server = configuration.server
    if not can_share():
        complain("--workers: processes cannot share a port on this system; start it without")
        return USAGE
    if tls is not None:
        from dulcet.io.tls import server_context

        server_context(tls)  # what cannot be used shows now
    with Signals(*stopping()) as signals:
        try:
            lock = archive.lend()
            slots = configuration.limits.associations
            port = SharedPort.open(server.bind, server.port, members=server.workers, slots=slots)
        except OSError as error:
            complain(error.strerror or str(error))
            return USAGE

        def announce(pids: list[int]) -> None:
            _announce(archive, port.port, configuration, json, workers=pids)

        supervisor = Supervisor(port, signals, announce, json, given={"lock": lock}, inherit=[lock])
        code = supervisor.run(server.drain)
    if supervisor.served:
        lost = {"workers lost": supervisor.lost} if supervisor.lost else {}
        _tell(json, "stopped", _summary(supervisor.counts) | lost)
    return code


def _summary(counts: Counter[str]) -> dict[str, int]:
    return {what: counts[what] for what in ("stored", "again", "beside", "refused")}


def _hush_pydicom() -> None:
    """pydicom warns of odd values with the values themselves: a peer's patients have no place in our log."""
    import warnings

    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")


def _override(
    configuration: Configuration,
    aet: str | None,
    bind: str | None,
    port: int | None,
    data: Path | None,
    allow_any: bool,
    promiscuous: bool,
    strict: bool,
    durability: str | None,
    drain: float | None,
    strict_queries: bool,
    workers: int | None,
) -> None:
    """Flags win over the file."""
    server = configuration.server
    for name, value in (("ae_title", aet), ("bind", bind), ("port", port), ("drain", drain), ("workers", workers)):
        if value is not None:
            setattr(server, name, value)
    server.data = server.data if data is None else str(data)
    server.allow_any = server.allow_any or allow_any
    configuration.storage.private = configuration.storage.private or promiscuous
    configuration.storage.strict = configuration.storage.strict or strict
    configuration.storage.durability = durability or configuration.storage.durability
    configuration.query.strict = configuration.query.strict or strict_queries


def _announce(archive: Archive, port: int, configuration: Configuration, json: bool, **more: Any) -> None:
    server, swept = configuration.server, archive.swept
    if not archive.objects.durable:
        _tell(json, "not durable: what is acknowledged may be lost with the power; for tests only", {})
    found = {"removed": swept.removed, "adopted": swept.adopted, "unreadable": swept.unreadable}
    if any(found.values()):
        _tell(json, "swept", found)
    if not server.allow_any and not configuration.peers:
        _tell(json, "nobody may call: add [peers.TITLE] to the configuration, or --allow-any", {})
    if json:
        say_json(event="listening", host=server.bind, port=port, ae_title=server.ae_title, **found, **more)
        return
    host = f"[{server.bind}]" if ":" in server.bind else server.bind
    say(f"listening on {host}:{port} as {server.ae_title}")


def _tell(json: bool, event: str, values: dict[str, Any]) -> None:
    if json:
        say_json(event=event, **values)
    else:
        say(f"{event}{': ' if values else ''}{', '.join(f'{value} {name}' for name, value in values.items())}")


def _finish(running: NodeThreads, signals: Signals, drain: float) -> None:
    """Those who are at it may finish, unless a second signal comes."""

    def stop() -> None:
        running.stop(drain)
        signals.wake()

    threading.Thread(target=stop, name="dulcet-stop", daemon=True).start()
    while signals.wait():  # 0 is the end
        running.interrupt()
