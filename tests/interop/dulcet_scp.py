"""A script that accepts, as DESIGN promises it: storage and verification by the blocking library, one thread a peer.

Prints `listening on HOST:PORT as AET` when ready; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path

import dulcet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--aet", default="SCRIPT")
    parser.add_argument("--max-pdu", type=int, default=131072)
    options = parser.parse_args()
    config = dulcet.AssociationConfig(maximum_length=options.max_pdu)
    with (
        closing(dulcet.StoreDirectory(options.dir, durability="none")) as directory,
        dulcet.listen(f"{options.aet}@127.0.0.1:0", config=config) as listener,
    ):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        print(f"listening on {listener.address.host}:{listener.address.port} as {options.aet}", flush=True)
        for association in listener:
            threading.Thread(target=serve, args=(association, directory), daemon=True).start()


def serve(association: dulcet.Association, directory: dulcet.StoreDirectory) -> None:
    with association:
        for request in association.requests():
            if request.field == dulcet.CommandField.C_STORE_RQ:
                request.save(directory)
            request.respond(dulcet.Status.SUCCESS)


if __name__ == "__main__":
    main()
