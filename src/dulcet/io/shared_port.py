"""One port for several processes: sockets that all of them inherit, and a table of what each has in hand.

Rules: the sockets are one and the same in every process, so a connection that waits in their queue is lost with none of
them, and no stranger can listen beside us; each process writes its own rows of the table and reads those of the others,
so one that dies leaves nothing locked; limits hold for all of them together.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Final, Self

from dulcet.io.sockets import listening_sockets

try:
    import fcntl
except ImportError:  # Windows: descriptors are not inherited there
    fcntl = None  # type: ignore[assignment]

__all__ = ["SharedPort"]

AWAY: Final = 2**64 - 1
"""What a process that does not listen has in hand."""
LOCK_TRIES: Final = 50
LOCK_PAUSE: Final = 0.001
"""Between two tries: one that was stopped while it counted delays others by 50 ms, not for ever."""
WORD: Final = 8


class SharedPort:
    """A port that several processes accept from; made by their parent, `inherited` by them.

    The parent: `port = SharedPort.open("127.0.0.1", 11112, members=4, slots=500)`, then for each number a process that
    is given `port.descriptors`, with `subprocess.Popen(..., pass_fds=port.descriptors)`; `clear(number)` once it ended.
    The process: `listen("AET@127.0.0.1:11112", shared=SharedPort.inherited(descriptors, 4, 500, number))`.
    """

    def __init__(self, sockets: Sequence[socket.socket], table: int, members: int, slots: int, member: int) -> None:
        """For those who have the descriptors at hand; `open` and `inherited` make them.

        `sockets` listen; `table` is the descriptor of the table, `members` and `slots` are as for `open`; `member` is
        the number of this process, 0 to `members` - 1.
        """
        self.sockets: list[socket.socket] = list(sockets)
        """They listen; who is given the port closes them."""
        self.table = table
        """The descriptor of the table."""
        self.members = members
        self.slots = slots
        """Associations of one process that the table holds."""
        self.member = member
        """Whose rows we write: 0 to `members` - 1."""
        self._memory = mmap.mmap(table, WORD * members * (1 + 2 * slots))
        self._words = memoryview(self._memory).cast("Q")
        start = members + member * 2 * slots
        self._hosts = self._words[start : start + slots]
        self._titles = self._words[start + slots : start + 2 * slots]

    @classmethod
    def open(cls, host: str, port: int, *, members: int, slots: int) -> Self:
        """Listen, for `members` processes of at most `slots` associations each that will inherit.

        `host` is a name or address of this machine, "" or "*" for all; `port` 0 takes a free one.  OSError that names
        the address and what to change, and always on Windows.
        """
        if fcntl is None:
            raise OSError("several processes cannot share a port on this system")
        sockets = listening_sockets(host, port)
        with tempfile.TemporaryFile() as file:
            file.truncate(WORD * members * (1 + 2 * slots))
            made = cls(sockets, os.dup(file.fileno()), members, slots, 0)
        for member in range(members):
            made.clear(member)
        return made

    @property
    def descriptors(self) -> list[int]:
        """What a process has to inherit."""
        return [self.table, *(sock.fileno() for sock in self.sockets)]

    @classmethod
    def inherited(cls, descriptors: Sequence[int], members: int, slots: int, member: int) -> Self:
        """The same port in a process that has the `descriptors`, as the property gave them to its parent.

        `members` and `slots` are those of `open`; `member` is the number of this process, 0 to `members` - 1.
        """
        for file in descriptors:
            os.set_inheritable(file, False)
        sockets = [socket.socket(fileno=file) for file in descriptors[1:]]
        for sock in sockets:
            sock.setblocking(False)
        return cls(sockets, descriptors[0], members, slots, member)

    @property
    def port(self) -> int:
        """Its number."""
        return int(self.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more in this process; the table is kept for those whom it counts."""
        for sock in self.sockets:
            sock.close()

    # ------------------------------------------------------------------ who takes the next connection

    def set_load(self, connections: int) -> None:
        """Tell the others how many `connections` we have in hand."""
        self._words[self.member] = connections

    def is_ahead(self) -> bool:
        """True when another one has fewer."""
        return min(self._words[: self.members]) < self._words[self.member]

    def clear(self, member: int) -> None:
        """The process of number `member` is gone, and with it what it had."""
        self._words[member] = AWAY
        start = self.members + member * 2 * self.slots
        self._words[start : start + 2 * self.slots] = memoryview(bytes(WORD * 2 * self.slots)).cast("Q")

    # ------------------------------------------------------------------ how many associations stand in all

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Nobody else counts meanwhile, unless it was stopped in the middle of that."""
        locked = False
        for _ in range(LOCK_TRIES):
            try:
                fcntl.lockf(self.table, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(LOCK_PAUSE)
            else:
                locked = True
                break
        try:
            yield
        finally:
            if locked:
                fcntl.lockf(self.table, fcntl.LOCK_UN)

    def standing(self, host: str, title: str) -> tuple[int, int, int]:
        """Associations of all processes: in all, of the peer's address `host`, of the calling AE title `title`."""
        in_all = of_host = of_title = 0
        host_key, title_key = _key(host), _key(title)
        for start in range(self.members, len(self._words), 2 * self.slots):
            hosts = self._words[start : start + self.slots].tolist()
            in_all += self.slots - hosts.count(0)
            of_host += hosts.count(host_key)
            of_title += self._words[start + self.slots : start + 2 * self.slots].tolist().count(title_key)
        return in_all, of_host, of_title

    def came(self, host: str, title: str) -> None:
        """One more of ours stands, of this `host` and calling AE title `title`; ValueError beyond `slots`."""
        slot = self._hosts.tolist().index(0)  # there is one: no process has more than all may have together
        self._titles[slot] = _key(title)
        self._hosts[slot] = _key(host)

    def gone(self, host: str, title: str) -> None:
        """One of ours less, of this `host` and calling AE title `title`; nothing happens where none is counted."""
        wanted = (_key(host), _key(title))
        for slot, found in enumerate(zip(self._hosts, self._titles)):
            if found == wanted:
                self._hosts[slot] = self._titles[slot] = 0
                return


def _key(name: str) -> int:
    """A number for a name, never 0, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=WORD).digest(), "little") | 1
