"""What there is to send, one by one: what was given, and the files of folders in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from dulcet.io.instances import Instance, InstanceSource

__all__ = ["NEVER_SENT", "each", "is_folder", "walk"]

NEVER_SENT: Final = "nothing was sent: what store_many gives is to be iterated over, as in `for sent in ...`"
"""The RuntimeWarning for results that nobody wanted to see."""


def each(what: Any) -> Iterable[InstanceSource]:
    """What is to be sent, as an iterable: something that is one instance or one path is not iterated over.

    TypeError for what is neither.
    """
    is_path_or_bytes = isinstance(what, str | os.PathLike | bytes | bytearray | memoryview | Instance)
    if is_path_or_bytes or hasattr(what, "read") or hasattr(what, "iterall"):  # the last ones: an open file, a Dataset
        one: Any = what
        return [one]
    if not isinstance(what, Iterable):
        kind = type(what).__name__
        raise TypeError(f"a {kind} cannot be sent; give paths, folders or data sets, or an iterable of them")
    return what


def walk(path: str | os.PathLike[str], unreadable: Callable[[OSError], object] | None = None) -> Iterator[str]:
    """The path of every file below a folder; of a folder that cannot be read its own, unless `unreadable` is told."""
    failed: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=unreadable or failed.append):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(folder, name)
    yield from (_Unreadable(error.filename) for error in failed)


def is_folder(what: Any) -> bool:
    """True for a path that is to be walked, which `examine` could not take."""
    return isinstance(what, str | os.PathLike) and not isinstance(what, _Unreadable) and os.path.isdir(what)


class _Unreadable(str):
    """The path of a folder that was to be walked, and could not be."""

    __slots__ = ()

