"""Archives that are not ours, filled and queried: Orthanc and DCMTK's dcmqrscp."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import peers
from tests.interop.peers import MissingTool, Server, ServerContext, _serve_on_free_port


def orthanc_path() -> str:
    """Where the program is: Debian's place is not on everybody's path."""
    path = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        raise MissingTool("Orthanc is not installed; on Debian: apt-get install orthanc")
    return path


@contextmanager
def orthanc(folder: Path, **settings: object) -> Iterator[Server]:
    """Orthanc with everything in `folder`, no HTTP, open to any caller."""
    executable = orthanc_path()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder.with_name(f"{folder.name}.orthanc.json")

    def command(port: int) -> list[str | Path]:
        values = {
            "Name": "test", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [],
            "HttpServerEnabled": False, "DicomAet": "ORTHANC", "DicomPort": port, "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True, "UnknownSopClassAccepted": True, "LimitFindResults": 0,
            "LimitFindInstances": 0, "DicomModalities": {"test": ["DULCET", "127.0.0.1", 104]},
            "OverwriteInstances": False, "DefaultEncoding": "Utf8", **settings,
        }  # fmt: skip
        configuration.write_text(json.dumps(values))
        return [executable, configuration]

    context: ServerContext = _serve_on_free_port(command, "ORTHANC", folder, peers.STOCK)
    with context as server:
        yield server


@contextmanager
def dulcet_serve(folder: Path, *options: str) -> Iterator[Server]:
    """`dulcet serve` on a free port."""
    command = [*peers.DULCET, "serve", "--port", "0", "--data", folder, "--allow-any", *options]
    with peers.announced(command, folder) as server:
        yield server
