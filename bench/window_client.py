"""Sends a folder with a window of operations, ours to ours; prints the seconds from association to release.

Usage: window_client.py AET@HOST:PORT WINDOW FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from dulcet.blocking.sending import StoreMany
from dulcet.upper_layer.address import Address


def main(address: str, window: int, folder: str) -> None:
    files = sorted(str(path) for path in Path(folder).iterdir())
    job = StoreMany(Address.parse(address), calling_ae_title="BENCH", window=window)
    began = time.perf_counter()
    for sent in job.run(files):
        sent.check()
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
