"""A pynetdicom provider of storage and verification, as a program: writes each data set as it came.

Prints `listening on HOST:PORT as AET` when ready, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt

VERIFICATION = "1.2.840.10008.1.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--aet", default="PYNETDICOM")
    parser.add_argument("--max-pdu", type=int, default=16382)
    parser.add_argument("--status", type=lambda text: int(text, 16), default=0, help="answer to every C-STORE, in hex")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to wait before each answer")
    options = parser.parse_args()
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    pause = threading.Event()

    def keep(event: evt.Event) -> int:
        request: Any = event.request
        target = options.dir / f"{request.AffectedSOPInstanceUID}.dcm"
        target.write_bytes(event.encoded_dataset())
        pause.wait(options.delay)
        return int(options.status)

    application = AE(ae_title=options.aet)
    application.maximum_pdu_size = options.max_pdu
    application.maximum_associations = 100
    application.add_supported_context(VERIFICATION)
    for context in AllStoragePresentationContexts:
        application.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    handlers: Any = [(evt.EVT_C_STORE, keep)]
    server: Any = application.start_server(("127.0.0.1", options.port), block=False, evt_handlers=handlers)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    host, port = server.socket.getsockname()
    print(f"listening on {host}:{port} as {options.aet}", flush=True)
    stopped.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
