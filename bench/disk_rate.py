"""What the disk itself does: threads that create, write, fsync and rename one file after the other.

Usage: disk_rate.py FOLDER BYTES THREADS FILES_OF_EACH; prints a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path


def _write(folder: Path, data: bytes, count: int, number: int, ready: threading.Barrier) -> None:
    ready.wait()
    for file in range(count):
        path = folder / f"{number}-{file}.partial"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(path, folder / f"{number}-{file}.dcm")


def main(folder: Path, size: int, threads: int, count: int) -> None:
    data = os.urandom(size)
    ready = threading.Barrier(threads + 1)
    arguments = (folder, data, count)
    workers = [threading.Thread(target=_write, args=(*arguments, number, ready)) for number in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    print(json.dumps({"objects_per_second": threads * count / seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
