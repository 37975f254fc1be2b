"""The archives that compete: `dulcet serve`, Orthanc and dcmqrscp, the two peers tuned as far as their options go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop import archives, peers
from tests.interop.peers import Server, _serve_on_free_port

MAXIMUM_PDU = 131072
Destinations = dict[str, int]  # port by AE title, on the loopback


@dataclass(frozen=True, slots=True)
class Archive:
    """How to start an archive on a folder; it knows `destinations` for C-MOVE."""

    name: str
    start: Callable[[Path, bool, Destinations], AbstractContextManager[Server]]

    def home(self, workspace: Path) -> Path:
        """Its folder; without spaces, which dcmqrscp's configuration cannot quote."""
        return workspace / self.name.replace(" ", "-")


@contextmanager
def dulcet_serve(folder: Path, durable: bool, destinations: Destinations, *more: str) -> Iterator[Server]:
    configuration = folder.with_name(f"{folder.name}.toml")
    tables = [f'[peers.{title}]\naddress = "{peers.HOST}:{port}"\n' for title, port in destinations.items()]
    configuration.write_text("[limits]\nassociations_per_address = 500\n" + "".join(tables))
    options = ("--port", "0", "--data", str(folder), "--allow-any", "--config", str(configuration))
    durability = "fsync" if durable else "none"
    with peers.announced([*peers.DULCET, "serve", *options, "--durability", durability, *more], folder) as server:
        yield server


@contextmanager
def orthanc(folder: Path, durable: bool, destinations: Destinations) -> Iterator[Server]:
    """No HTTP, long PDUs, no compression, no MD5, its index without jobs; fsync of what it stores where asked for."""
    executable = archives.orthanc_path()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder.with_name(f"{folder.name}.orthanc.json")

    def command(port: int) -> list[str | Path]:
        values = {
            "Name": "bench", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [],
            "HttpServerEnabled": False, "DicomAet": "ORTHANC", "DicomPort": port, "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True, "UnknownSopClassAccepted": True, "LimitFindResults": 0,
            "LimitFindInstances": 0, "MaximumPduLength": MAXIMUM_PDU, "StorageCompression": False,
            "StoreMD5ForAttachments": False, "SaveJobs": False, "SyncStorageArea": durable,
            "DicomScpTimeout": 120, "StableAge": 3600, "DefaultEncoding": "Latin1",
            "DicomModalities": {title: [title, peers.HOST, port] for title, port in destinations.items()},
        }  # fmt: skip
        configuration.write_text(json.dumps(values))
        return [executable, configuration]

    with _serve_on_free_port(command, "ORTHANC", folder, peers.TUNED) as server:
        yield server


@contextmanager
def dcmqrscp(folder: Path, durable: bool, destinations: Destinations) -> Iterator[Server]:
    """Never durable: it has no such option."""
    del durable
    executable = peers.tool("dcmqrscp")
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder.with_name(f"{folder.name}.dcmqrscp.cfg")
    known = "".join(f"{title.lower()} = ({title}, {peers.HOST}, {port})\n" for title, port in destinations.items())

    def command(port: int) -> list[str | Path]:
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = {MAXIMUM_PDU}\nMaxAssociations = 64\n"
            f"HostTable BEGIN\n{known}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nQRSCP {folder} RW (500, 10240mb) ANY\nAETable END\n"
        )
        return [executable, "-c", configuration, "+B", "-dhl"]

    with _serve_on_free_port(command, "QRSCP", folder, peers.TUNED) as server:
        yield server


def dulcet_workers(folder: Path, durable: bool, destinations: Destinations) -> AbstractContextManager[Server]:
    return dulcet_serve(folder, durable, destinations, "--workers", "2")


DULCET = Archive("dulcet", dulcet_serve)
WORKERS = Archive("dulcet --workers 2", dulcet_workers)
ORTHANC = Archive("Orthanc tuned", orthanc)
DCMQRSCP = Archive("dcmqrscp tuned", dcmqrscp)
