"""A file that is whole and on stable storage before it bears its name: the one way in which dulcet keeps what comes.

Rules: a new file never follows a link and never opens what is there; a name is given once, and never another file's;
what fails says so as what a sender is told (A700H, out of resources) and is discarded, not tried again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError

__all__ = ["DurableFile", "give_name", "refused", "sync_folder"]

OUT_OF_SPACE: Final = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG))
WITHOUT_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK))
"""What a file system without hard links answers."""
NEW_FILE: Final = (
    os.O_RDWR | os.O_CREAT | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip


class DurableFile:
    """A new file that is being written, under a name of its own until it has its final one."""

    __slots__ = ("_durable", "_root", "file", "path", "size")

    def __init__(self, path: str, root: str | os.PathLike[str], *, durable: bool, mode: int = 0o666) -> None:
        """Make it, with `mode` less what the umask takes; `root` is what refusals name.  OSError when it cannot be.

        Unless `durable`, `sync` does nothing.
        """
        self.file: int = os.open(path, NEW_FILE, mode)
        self.path: str = path
        """Where it lies until it has its final name."""
        self.size: int = 0
        """Bytes so far."""
        self._root = root
        self._durable = durable

    def write(self, *pieces: bytes | memoryview) -> None:
        """Append; ReceiveError (A700H) when the disk does not take it."""
        total = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        try:
            done = os.writev(self.file, pieces) if hasattr(os, "writev") else 0
            if done < total:
                rest = memoryview(b"".join(pieces))[done:]
                while rest:
                    rest = rest[os.write(self.file, rest) :]
        except OSError as error:
            raise refused(self._root, error) from error
        self.size += total

    def sync(self) -> None:
        """Put it on stable storage; ReceiveError (A700H) when that fails: then it is to be discarded."""
        if self._durable:
            try:
                os.fsync(self.file)
            except OSError as error:
                raise refused(self._root, error) from error

    def close(self) -> None:
        """Close it; nothing to do the second time."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def discard(self) -> None:
        """Give up the name that it had meanwhile, and with it the file unless it has its final one; may be repeated."""
        self.close()
        path, self.path = self.path, ""
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)


def give_name(path: str, target: str, alone: Callable[[], AbstractContextManager[object]] = nullcontext) -> bool:
    """Give a file a name that is free, its other one stays; False when it is taken.

    On a file system without hard links it is moved, within `alone`, which keeps others from the name meanwhile.
    """
    try:
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        with alone():
            if os.path.lexists(target):
                return False
            os.rename(path, target)
    return True


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Put the names in a folder on stable storage, where the system has a way."""
    if os.name != "posix":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def refused(root: str | os.PathLike[str], error: OSError) -> ReceiveError:
    """What a sender is told when nothing can be kept in `root` (A700H)."""
    what = error.strerror or str(error)
    cure = "free some space" if error.errno in OUT_OF_SPACE else "check the folder and its permissions"
    return ReceiveError(
        f"cannot write in {os.fspath(root)}: {what}; {cure}", Status.OUT_OF_RESOURCES, comment=f"cannot write: {what}"
    )
