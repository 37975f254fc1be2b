"""Files opened without waiting for anybody.

Rule: only regular files are opened, for a pipe may never have a writer, and a device may act.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Final

from dulcet.errors import NotDicom

__all__ = ["READ_ONLY", "open_regular"]

READ_ONLY: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer would hold us up for ever
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to be read, without a buffer; OSError as of `open`, NotDicom for a pipe, device or socket."""
    _check_regular(os.stat(path).st_mode, path)  # before it is opened: a device may act on that
    file = open(path, "rb", buffering=0, opener=lambda name, _flags: os.open(name, READ_ONLY))  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise NotDicom(f"{os.fspath(path)} is no regular file; leave it out", path)
