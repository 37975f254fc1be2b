"""Taking turns among the processes that work in one data folder.

Rules: a turn ends with its process, however that ends, for the kernel holds it; two turns never wait for each other,
for the one that writes the index is the last to be taken.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dulcet.archive.index import IndexTrouble

__all__ = ["InstanceLocks", "can_take_turns"]

LOCK: Final = struct.Struct("@hhqqi4x")
"""`struct flock` where offsets have 64 bits: type, whence, start, length, process."""
PLACES: Final = 2**62
WRITING: Final = PLACES
"""The place of the turn to write; those of instances are below."""
PATIENCE: Final = 60.0
"""Seconds to wait for another process that has the same instance: its commit takes milliseconds."""
PAUSES: Final = (0.001, 0.05)


def can_take_turns(path: Path) -> bool:
    """Do the system and the file system there have locks of open file descriptions?

    Those of POSIX are no help: whoever closes any descriptor of the file gives them up, and two processes that wait in
    two threads each are taken for a deadlock.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    instance_locks = InstanceLocks(path)
    try:
        with instance_locks.writing():
            return True
    except OSError:
        return False
    finally:
        instance_locks.close()


class InstanceLocks:
    """Turns of this process; within it, callers exclude each other by themselves."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    @contextmanager
    def instance(self, uid: str) -> Iterator[None]:
        """Nobody else receives this SOP instance meanwhile; IndexTrouble when that would take too long."""
        place = int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=8).digest(), "big") % PLACES
        deadline, pause = time.monotonic() + PATIENCE, PAUSES[0]
        while not self._try(place):
            if time.monotonic() > deadline:
                raise IndexTrouble(f"another worker has not been done with this instance for {PATIENCE:g} s")
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])
        try:
            yield
        finally:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes the index or carries its log over; the next in line gets it at once."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, WRITING)
        try:
            yield
        finally:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, WRITING)

    def close(self) -> None:
        """Give everything back."""
        os.close(self._file)

    def _try(self, place: int) -> bool:
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, place)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _set(self, operation: int, kind: int, place: int) -> None:
        fcntl.fcntl(self._file, operation, LOCK.pack(kind, os.SEEK_SET, place, 1, 0))
