"""A storage listener as a script: writes what comes to the paths that it chooses, until SIGTERM.

Prints `listening on HOST:PORT as AET` when ready.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from dulcet.toolkit import StorageListener


class Listener(StorageListener):
    """Names files by their instance UID."""

    folder = Path()

    def on_store_setup(self, request):
        return self.folder / f"{request.sop_instance_uid}.dcm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args()
    options.dir.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with Listener("TOOLKIT") as listener:
        listener.folder = options.dir
        print(f"listening on {listener.host}:{listener.port} as {listener.ae_title}", flush=True)
        while True:
            if listener.wait_for_connection(1):
                while listener.wait_for_command(30):
                    pass


if __name__ == "__main__":
    main()
