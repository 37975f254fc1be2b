"""`dulcet listen`: receive into a folder."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dulcet.cli.output import FAILED, JSON, USAGE, complain, say_json

if TYPE_CHECKING:
    from dulcet.blocking.association import Association
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.io.store_directory import StoreDirectory

__all__ = ["listen"]

log: Final = logging.getLogger("dulcet.listen")


def listen(
    aet: Annotated[str, typer.Option("--aet", metavar="AET", help="Our AE title; others are refused.")] = "RECEIVER",
    bind: Annotated[str, typer.Option(metavar="HOST", help="0.0.0.0 or * opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.")] = 11112,
    dir: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where files go.")] = Path("incoming"),
    layout: Annotated[str, typer.Option(help="File names, with {Keyword} for values.")] = "{SOPInstanceUID}.dcm",
    durability: Annotated[str, typer.Option(help="fsync: acknowledged is on disk.  none: for tests.")] = "fsync",
    promiscuous: Annotated[bool, typer.Option("--promiscuous", help="Any SOP class, private ones too.")] = False,
    any_aet: Annotated[bool, typer.Option("--any-aet", help="Answer to any called AE title.")] = False,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that SIGTERM leaves to those who send.")] = 10.0,
    json: JSON = False,
) -> int:
    """Receive DICOM objects into a folder, bit for bit; stops on SIGTERM or Ctrl-C.

    dulcet listen --dir incoming

    dulcet listen --aet RECEIVER --bind 0.0.0.0 --port 104 --layout '{StudyInstanceUID}/{SOPInstanceUID}.dcm'
    """
    from dulcet.blocking.listener import Listener
    from dulcet.errors import LocalProtocolError
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.services.acceptance import AcceptancePolicy
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import check_ae_title

    if durability not in ("fsync", "none"):
        complain(f"--durability {durability}: fsync or none")
        return USAGE
    try:
        directory = StoreDirectory(dir, layout=layout, durability="none" if durability == "none" else "fsync")
        check_ae_title(aet)
    except (ValueError, LocalProtocolError) as error:
        complain(str(error))
        return USAGE
    except OSError as error:
        complain(f"cannot receive into {dir}: {error.strerror}; name a folder that can be written to")
        return USAGE
    policy = AcceptancePolicy.storage(None if any_aet else aet, promiscuous=promiscuous)
    try:
        listener = Listener(Address(aet, bind, port), policy=policy)
    except OSError as error:
        directory.close()
        complain(error.strerror or str(error))
        return USAGE
    if durability == "none":
        typer.echo("durability none: what is acknowledged may be lost with the power; for tests only")
    if directory.swept:
        typer.echo(f"removed {directory.swept} partial files of an earlier run")
    where = f"[{bind}]" if ":" in bind else bind
    typer.echo(f"listening on {where}:{listener.address.port} as {aet}")
    return _Server(listener, directory, json).run(drain)


class _Server:
    """One thread an association, until the signal."""

    def __init__(self, listener: object, directory: StoreDirectory, json: bool) -> None:
        from dulcet.blocking.listener import Listener

        assert isinstance(listener, Listener)
        self._listener = listener
        self._directory = directory
        self._json = json
        self._alive: dict[threading.Thread, Association] = {}
        self._stored = 0
        self._failed = 0

    def run(self, drain: float) -> int:
        stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        accepting = threading.Thread(target=self._accept, name="dulcet-accept", daemon=True)
        accepting.start()
        while not stop.wait(3600):
            pass
        self._listener.close()
        deadline = time.monotonic() + drain
        for thread in list(self._alive):
            thread.join(max(deadline - time.monotonic(), 0.0))
        for association in list(self._alive.values()):
            association.interrupt()
        for thread in list(self._alive):
            thread.join(3.0)
        self._directory.close()
        if not self._json:
            typer.echo(f"stopped; {self._stored} stored, {self._failed} refused")
        return 0 if not self._alive else FAILED

    def _accept(self) -> None:
        for association in self._listener:
            thread = threading.Thread(target=self._serve, args=(association,), daemon=True)
            self._alive[thread] = association
            thread.start()

    def _serve(self, association: Association) -> None:
        from dulcet.errors import DulcetError

        try:
            with association:
                for request in association.requests():
                    self._answer(association, request)
        except DulcetError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("%s: unexpected", association.peer)
        finally:
            self._alive.pop(threading.current_thread(), None)

    def _answer(self, association: Association, request: IncomingRequest) -> None:
        from dulcet.dimse.messages import CommandField
        from dulcet.dimse.status import Status
        from dulcet.errors import ReceiveError

        if request.field == CommandField.C_ECHO_RQ:
            request.respond(Status.SUCCESS)
        elif request.field == CommandField.C_STORE_RQ:
            try:
                path = request.save(self._directory)
            except ReceiveError as error:
                self._failed += 1
                log.error("%s: refused an instance with %04XH: %s", association.peer, error.status, error)
                request.respond(error.status)
                return
            self._stored += 1
            request.respond(Status.SUCCESS)
            if self._json:
                say_json(
                    event="stored", path=str(path), sop_class_uid=request.sop_class_uid,
                    sop_instance_uid=request.sop_instance_uid, transfer_syntax=request.transfer_syntax,
                    calling=association.calling_ae_title, peer=association.peer,
                )  # fmt: skip
        else:
            request.respond(Status.UNRECOGNIZED_OPERATION)
