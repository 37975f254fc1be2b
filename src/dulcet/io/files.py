"""Files and folders that people name, walked.  Rule: nothing is passed over in silence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator

__all__ = ["walk"]


def walk(paths: Iterable[str | os.PathLike[str]], unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """Every file of the paths, those in folders in the order of their names.

    `unreadable` is told of folders that cannot be listed, and of links to folders, which are not followed: they may
    lead round in a circle, or out of a medium.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield os.fspath(path)
            continue
        for folder, folders, names in os.walk(path, onerror=unreadable):
            folders.sort()
            for name in folders:
                link = os.path.join(folder, name)
                if os.path.islink(link):
                    unreadable(OSError(errno.ELOOP, "is a link to a folder, which is not followed; name it too", link))
            for name in sorted(names):
                yield os.path.join(folder, name)
