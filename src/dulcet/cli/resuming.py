"""The report of `dulcet store`: a line of JSON for each file, and which files it proves to be stored.

Rule: a file counts as stored only where this peer answered success or a warning for it, and where it is still the same
file; whatever is in doubt is sent again, for a receiver copes with a second copy and nobody with a missing image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TextIO

__all__ = ["Seen", "StoredBefore", "look_at"]

NANOSECONDS: Final = 1_000_000_000
TICK: Final = NANOSECONDS // 50
"""A file that was written less than this before it was looked at may be written again without another time: what the
clocks of file systems lag behind at most."""
COARSE: Final = 2 * NANOSECONDS
"""The same where times are whole seconds, as FAT keeps them."""

LONGEST: Final = 1 << 20
"""Bytes of a line; the longest path has 4096, in JSON six times as many."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was just before it was read: a path that knows what to compare it with later."""

    path: str
    size: int | None
    modified: int | None
    """Nanoseconds since 1970; None where it says nothing: no file is there, or it may still be written to."""

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path


def look_at(path: str) -> Seen:
    """The file as it is now."""
    try:
        found = os.stat(path)
    except OSError:
        return Seen(path, None, None)
    lag = TICK if found.st_mtime_ns % NANOSECONDS else COARSE
    settled = time.time_ns() - found.st_mtime_ns > lag
    return Seen(path, found.st_size, found.st_mtime_ns if settled else None)


class _Proof(NamedTuple):
    """What a file was when the peer stored it."""

    size: int
    modified: int
    sop_instance_uid: str


class StoredBefore:
    """What a report proves to be stored at one peer."""

    def __init__(self, report: Path, peer: str) -> None:
        """Read a report; none at that path proves nothing.

        ValueError, in one sentence, where it is no report or one of another peer; OSError.
        """
        self._report = report
        self.end: int = 0
        """Where the last whole line ends; bytes behind it are the line that a killed run was writing."""
        self.is_new: bool = False
        """True where there is no such report yet."""
        self._proofs: dict[str, _Proof] = {}
        try:
            file = report.open("rb")
        except FileNotFoundError:
            self.is_new = True
            return
        with file:
            for number, line in enumerate(self._lines(report, file), 1):
                self._take(line, f"{report}, line {number}", peer)

    def __contains__(self, path: str) -> bool:
        """True for a file that was stored, and was not changed since: its size, its time and its SOP Instance UID."""
        from dulcet.errors import InstanceError
        from dulcet.io.instances import examine

        proof = self._proofs.get(os.path.abspath(path))
        if proof is None:
            return False
        seen = look_at(path)
        if (seen.size, seen.modified) != (proof.size, proof.modified):
            return False
        try:
            return examine(path).sop_instance_uid == proof.sop_instance_uid
        except InstanceError:
            return False

    def open(self) -> TextIO:
        """The report, to be gone on in behind its last whole line; OSError."""
        if not self.is_new and self._report.stat().st_size > self.end:
            os.truncate(self._report, self.end)
        return self._report.open("a", encoding="utf-8")

    def _lines(self, report: Path, file: BinaryIO) -> Iterator[bytes]:
        """The whole lines."""
        while line := file.readline(LONGEST):
            if len(line) == LONGEST:
                raise ValueError(f"{report} is no report of dulcet store: it has a line of more than {LONGEST} bytes")
            if not line.endswith(b"\n"):
                if not self.end and not line.startswith(b'{"path"'[: len(line)]):
                    raise ValueError(f"{report} is no report of dulcet store; --resume wants one that --report made")
                return
            yield line
            self.end += len(line)

    def _take(self, line: bytes, where: str, peer: str) -> None:
        import json

        try:
            values: Any = json.loads(line)
            path, result, status = values["path"], values["result"], values["status"]
            whose, size, modified = values["peer"], values["file_size"], values["file_modified_ns"]
            uid = values["sop_instance_uid"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else "it is no JSON object"
            raise ValueError(
                f"{where}: not of a report that can be resumed ({why}); --resume wants the file that --report made"
            ) from None
        if not isinstance(path, str):
            raise ValueError(f"{where}: its path is no text")
        if whose != peer:
            raise ValueError(
                f"{where}: this report is of what was sent to {whose!s}, not to {peer}; each peer has its own report"
            )
        proof = None
        stored = result == "sent" and type(status) is int and _means_stored(status)
        if stored and type(size) is int and type(modified) is int and isinstance(uid, str) and uid:
            proof = _Proof(size, modified, uid)
        # The last word on a path counts: what failed since then is sent again.
        key = os.path.abspath(path)
        if proof is None:
            self._proofs.pop(key, None)
        else:
            self._proofs[key] = proof


def _means_stored(status: int) -> bool:
    from dulcet.dimse.status import Status

    return 0 <= status <= 0xFFFF and (Status(status).is_success or Status(status).is_warning)
