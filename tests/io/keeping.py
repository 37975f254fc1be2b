"""A process that keeps instances in a folder: `python -m tests.io.keeping DIR COMMAND...`, one answer a line.

Commands: `keep UID BYTES`, `begin` (a partial file that stays), `fsize BYTES` (limit of every file), `wait` (until
standard input ends).
"""

from __future__ import annotations

import resource
import sys

from tests.io.arriving import data_set, keep

from dulcet.errors import ReceiveError
from dulcet.io.store_directory import StoreDirectory


def main(folder: str, *commands: str) -> None:
    words = list(commands)
    begun = []
    with StoreDirectory(folder) as directory:
        print(f"swept {directory.swept}", flush=True)
        while words:
            word = words.pop(0)
            if word == "keep":
                uid, size = words.pop(0), int(words.pop(0))
                try:
                    print(keep(directory, data_set(uid=uid, bulk=size), uid=uid).name, flush=True)
                except ReceiveError as error:
                    print(f"{error.status:04X} {error}", flush=True)
            elif word == "begin":
                begun.append(directory.begin("1.2", "3.4", "1.2.840.10008.1.2"))
                begun[-1].write(memoryview(b"half an instance"))
                print("begun", flush=True)
            elif word == "fsize":
                limit = int(words.pop(0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit if limit >= 0 else resource.RLIM_INFINITY, -1))
            else:
                sys.stdin.read()


main(*sys.argv[1:])
