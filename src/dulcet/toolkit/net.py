"""Connections with callbacks: subclass `Net` and override `on_…`, or assign functions to them.

Rules: every callback runs on the one I/O thread; `send_…` queues and returns, from any thread; what the core refuses is
raised where it was asked for, and nothing went on the wire; each connection ends with one `on_close` at most.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.errors import AssociationClosed, DulcetError, LocalProtocolError, PeerUnreachable
from dulcet.io.instances import Instance
from dulcet.io.sockets import BACKLOG, connect
from dulcet.log_codes import coded
from dulcet.toolkit.associate import Associate
from dulcet.toolkit.callback_counts import CallbackCounts
from dulcet.toolkit.callbacks import Callbacks
from dulcet.toolkit.connection import Connection
from dulcet.toolkit.io_thread import IOThread, current
from dulcet.toolkit.listening_socket import ListeningSocket, listening
from dulcet.toolkit.messages import DataSet
from dulcet.toolkit.receiving import FAILED, handle
from dulcet.toolkit.securing import check_tls
from dulcet.toolkit.speaking import Speaking
from dulcet.toolkit.storing import Storing
from dulcet.upper_layer import events
from dulcet.upper_layer.pdu import AssociateAC

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["Associates", "Net"]

log: Final = logging.getLogger("dulcet.toolkit")

MEMORY_LIMIT: Final = 64 * 1024 * 1024


class Associates(NamedTuple):
    """Both halves of a negotiation, `request` and `accept`; None for the one that was not sent yet."""

    request: Associate | None
    accept: Associate | None


class Net(Speaking):
    """A connection and its association in either role, or a listening object that others are accepted from.

    Override what it calls, `on_…`, or assign functions to it:

        class Asking(Net):
            def on_connect(self, error):
                if error is None:
                    request = Associate.default()  # a verification context, id 1
                    request.called, request.calling = "ARCHIVE", "ASKING"
                    self.send_associate_request(request)

            def on_receive_associate_accept(self, associate):
                self.send_c_echo_request(1, None, uids.VERIFICATION)

            def on_receive_c_echo_response(self, presentation_id, message_id, class_uid, status):
                print(status)
                self.send_release_request()

        startup()
        asking = Asking()
        asking.connect("127.0.0.1", 11112)
        asking.wait("on_close", 30)
        shutdown()
    """

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """As usual; what it was made with is kept, so that `on_accept` can make another one like it."""
        made = super().__new__(cls)
        made._made_with = arguments, options
        return made

    def __init__(
        self,
        *,
        config: AssociationConfig | None = None,
        tls: TLSConfig | ssl.SSLContext | None = None,
        iscl: bool = False,
        max_clients: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
        answer_timeout: float = 30.0,
    ) -> None:
        """All of it has a default: `Net()` connects and listens without TLS.

        * `config`: timers, lengths, operations windows; AssociationConfig() if None.
        * `tls`: secures this object's connections, and those that it accepts unless they bring their own; a `TLSConfig`
          or an `ssl.SSLContext` made for the side that this object is on.  None is without TLS.
        * `iscl`: True raises LocalProtocolError, for the standard has ISCL no more (it was retired from PS3.15).
        * `max_clients`: associations at once on what a listening object accepted; one more is answered with reject
          (2,3,2).  None is no limit.
        * `memory_limit`: bytes of one received C-STORE data set that are kept in memory, 64 MiB; a longer one is
          answered A700H, unless `on_store_setup` names a file.
        * `answer_timeout`: seconds that callbacks have to answer an association request or a release request; after
          them the one gets reject (2,3,1), and the other is answered.
        """
        if iscl:
            raise LocalProtocolError("ISCL was retired from PS3.15; give an ssl.SSLContext as tls instead")
        self.config: AssociationConfig = config or AssociationConfig()
        self.tls = tls
        self.max_clients = max_clients
        self.memory_limit = memory_limit
        self.answer_timeout = answer_timeout
        self.server: Net | None = None
        """The listening object that this one was accepted from."""
        self._answer_by: float | None = None
        self._lock = threading.RLock()
        self._io: IOThread | None = None
        self._core: DimseAssociation | None = None
        self._connection: Connection | None = None
        self._listening_socket: ListeningSocket | None = None
        self._clients: list[Net] = []
        self._admitted = False
        self._files: set[Instance] = set()  # open as long as a message that lies in them may need it
        self._last_id = 0
        self._collision: events.ReleaseRequested | None = None
        self._storing: Storing | None = None
        self._callback_counts = CallbackCounts()
        self._closed_here = False
        self._ending: Exception | None = None  # how the association ended, unless in order

    # ------------------------------------------------------------------ connections

    def listen(
        self, host: str = "", port: int = 0, backlog: int = BACKLOG, ip: Literal["both", "v4", "v6"] = "both"
    ) -> int:
        """Listen, and give back the port; each connection that comes is told to `on_accept`.

        * `host`: "" is this machine alone, "*" all its addresses, anything else a name or an address of this machine.
        * `port`: 0 takes a free one.
        * `backlog`: connections that may wait to be accepted, as in `socket.listen`; it is no limit of clients.
        * `ip`: "v4", "v6", or "both", as far as the machine and the host have them.

        Raises OSError where the port is taken or the host is not of this machine, TLSConfigError or TypeError for a
        `tls` that cannot be used, LocalProtocolError before `startup()` and where this object is in use already.
        """
        check_tls(self.tls, server_side=True)
        io = self._start()
        try:
            sockets = listening(host, port, backlog, ip)
        except OSError:
            self._io = None
            raise
        self._listening_socket = ListeningSocket(self, io, sockets)
        io.post(self._listening_socket.open)
        return int(sockets[0].getsockname()[1])

    def accept(self, new: Net) -> None:
        """Let `new`, a `Net` that is not in use, have the connection that waits; only within `on_accept`.

        It is one of `clients` from then on, and its `server` is this object.  Raises LocalProtocolError where no
        connection waits or `new` is in use already; a TLS handshake that fails is told to `on_close`.
        """
        waiting = self._listening_socket.waiting if self._listening_socket is not None else None
        if self._listening_socket is None or waiting is None:
            raise LocalProtocolError("no connection waits to be accepted: call accept(new) within on_accept")
        io = new._start()
        try:
            connection = new._attach(io, waiting, self._listening_socket.peer, requestor=False)
        except BaseException:
            new._io = None
            raise
        self._listening_socket.waiting = None
        new.server, new.tls = self, new.tls or self.tls
        self._clients.append(new)
        connection.begin(new.tls, None, self.config.timers.tls)

    def connect(
        self,
        host: str | None,
        port: int,
        peer_host: str | None = None,
        peer_port: int | None = None,
        *,
        ip: Literal["both", "v4", "v6"] = "both",
    ) -> None:
        """Begin to connect, and return at once; `on_connect(error)` tells how that went.

        * `host`, `port`: where the peer listens: `connect("192.0.2.7", 104)`.  With `peer_host` they are our own
          address and port instead, "" or None and 0 for any.
        * `peer_host`, `peer_port`: the peer's, in the order of four arguments that the field has:
          `connect("", 0, "192.0.2.7", 104)`.  Without `peer_port` it is `port`.
        * `ip`: "v4" or "v6" uses that protocol alone, "both" whichever answers.

        Raises LocalProtocolError before `startup()` and where this object is in use already, TLSConfigError or
        TypeError for a `tls` that cannot be used; what the network says is never raised here.
        """
        own: tuple[str, int] | None = None
        if peer_host is not None:
            own = (host or "", port) if host or port else None
            host, port = peer_host, port if peer_port is None else peer_port
        family = {"both": 0, "v4": socket.AF_INET, "v6": socket.AF_INET6}[ip]
        check_tls(self.tls, server_side=False)
        io = self._start()
        where = partial(connect, host or "", port, own=own, family=family)
        threading.Thread(
            target=self._connect, args=(io, host or "", port, where), name="dulcet-connect", daemon=True
        ).start()

    def close(self, timeout: float = 5.0) -> None:
        """Close when everything queued has left; an association that still stands is aborted then.

        Waits until that is done, except within a callback, where it happens as soon as the callback has returned.
        What did not leave within `timeout` seconds fails: the peer sees a reset, and `on_close` gets AssociationClosed,
        which is raised here too where this waits.  TimeoutError when a callback keeps the I/O thread busy for a second
        longer than that; it is closed once that returns.  Nothing happens to what is closed already.
        """
        io, connection, listening_socket = self._io, self._connection, self._listening_socket
        self._closed_here = True
        if io is None:
            return
        if listening_socket is not None:
            done = threading.Event()
            if io.post(listening_socket.drop) and io.post(done.set) and not io.is_here:
                done.wait(timeout)
        elif connection is None:
            self._io = None  # still connecting: what comes of it is closed
            self._callback_counts.end()
        elif io.post(partial(connection.finish, timeout), connection) and not io.is_here:
            if not connection.gone.wait(timeout + 1.0):
                raise TimeoutError(f"{self.peer}: a callback keeps the I/O thread busy; it is closed after that")
            if connection.lost is not None:
                raise connection.lost

    # ------------------------------------------------------------------ state

    def wait(self, event: str, timeout: float | None = None) -> bool:
        """Wait in another thread until the callback `event` was called and has returned: True.

        `event` is its name: `wait("on_receive_associate_accept", 30)`.  Each call is waited for once, one that was
        before the wait included.  False after `timeout` seconds, None is without end, or at once when the connection is
        over and it did not come.  ValueError for what is no callback, LocalProtocolError within a callback: nothing
        else could be called meanwhile.
        """
        if not event.startswith("on_") or not hasattr(Net, event):
            raise ValueError(f"{event!r} is no callback of Net")
        if self._io is not None and self._io.is_here:
            raise LocalProtocolError(f"wait({event!r}) within a callback would wait for itself")
        return self._callback_counts.wait(event, timeout)

    @property
    def is_activated(self) -> bool:
        """True while it listens, connects or is connected."""
        return self._io is not None

    @property
    def is_connected(self) -> bool:
        """True while the connection stands, secured where it is to be."""
        return self._connection is not None and self._connection.usable and not self._connection.is_over()

    @property
    def is_associated(self) -> bool:
        """True while the association stands: from its accept to its release or abort."""
        return self._core is not None and self._core.is_established

    @property
    def queued_bytes(self) -> int:
        """Bytes that have not left yet, data sets that wait for the operations window included."""
        if self._core is None or self._connection is None:
            return 0
        with self._lock:
            return self._core.queued_bytes + self._connection.unsent

    @property
    def clients(self) -> list[Net]:
        """Those accepted from this listening object whose connections stand."""
        return list(self._clients)

    @property
    def host_info(self) -> tuple[str, int] | None:
        """Our address and port."""
        if self._listening_socket is not None:
            return self._listening_socket.address
        return self._connection.host if self._connection is not None else None

    @property
    def peer_info(self) -> tuple[str, int] | None:
        """The peer's address and port."""
        return self._connection.peer if self._connection is not None else None

    @property
    def peer(self) -> str:
        """The peer's address and port as text."""
        return self._connection.name if self._connection is not None else "nobody"

    @property
    def associate(self) -> Associates:
        """What was asked for and what was accepted."""
        request = self._core.request if self._core is not None else None
        answer = self._core.answer if self._core is not None else None
        return Associates(
            Associate.from_pdu(request) if request is not None else None,
            Associate.from_pdu(answer, request) if isinstance(answer, AssociateAC) else None,
        )

    # ------------------------------------------------------------------ callbacks with an answer of their own

    def on_accept(self, error: DulcetError | OSError | None) -> None:
        """A connection waits for `accept(new)`; one that nobody accepts here is closed.

        `error` is None, or the OSError why none can be taken now, such as too many open files; it is tried again.
        Unless overridden, one takes the connection that is made as this object was.
        """
        if error is None:
            arguments, options = self._made_with
            new = type(self)(*arguments, **options)
            new.config, new.memory_limit, new.answer_timeout = self.config, self.memory_limit, self.answer_timeout
            self.accept(new)

    def on_receive_unknown(self, presentation_id: int, command_set: Command, data_set: DataSet | None) -> None:
        """A message that nobody knows, or a response to no request; unless overridden, a request gets 0211H.

        `presentation_id` is the context that it came on, `command_set` says all that it holds, `data_set` is None where
        none came.  Answer with `send_data`.
        """
        if command_set.is_request:
            self._answer_unprovided(command_set.message_id or 0)

    def on_receive_associate_request(self, associate: Associate) -> None:
        """An A-ASSOCIATE-RQ came; unless overridden it is rejected (1,1,1).

        Answer with `send_associate_accept(Associate.accepting(associate))`, or one of your own, or with
        `send_associate_reject`, now or later, within `answer_timeout` seconds.  `associate` is a request as it came.
        """
        self.send_associate_reject(1, 1, 1)

    def on_receive_release_request(self) -> None:
        """An A-RELEASE-RQ came: answer with `send_release_response`, as is done unless overridden."""
        self.send_release_response()

    # ------------------------------------------------------------------ on the I/O thread: connections

    def _start(self) -> IOThread:
        if self._io is not None:
            raise LocalProtocolError("this object listens or is connected already; close it, or take another one")
        self._io = current()
        self._callback_counts.begin()
        self._closed_here, self._ending = False, None
        return self._io

    def _connect(self, io: IOThread, host: str, port: int, call: Callable[[float], socket.socket]) -> None:
        sock: socket.socket | None = None
        peer = (host, port)
        error: DulcetError | None = None
        try:
            sock = call(time.monotonic() + self.config.timers.connect)
            with contextlib.suppress(OSError):  # it was reset since: what is read will say so
                peer = sock.getpeername()[:2]
        except DulcetError as failure:
            error = failure
        except Exception as failure:
            error = PeerUnreachable(f"{host}:{port}: {failure}")
        if not io.post(partial(self._connect_done, io, sock, peer, error, host)):  # the thread has ended meanwhile
            if sock is not None:
                sock.close()
            if self._io is io:
                self._io = None
                self._callback_counts.end()

    def _connect_done(
        self, io: IOThread, sock: socket.socket | None, peer: tuple[str, int], error: DulcetError | None, host: str
    ) -> None:
        if self._closed_here or self._io is not io:
            if sock is not None:
                sock.close()
            return
        if sock is None:
            self._io = None
            self._call("on_connect", error)
            self._callback_counts.end()
            return
        try:
            connection = self._attach(io, sock, peer, requestor=True)
        except Exception as failure:
            sock.close()
            self._connect_done(io, None, peer, PeerUnreachable(f"{host}: {failure}"), host)
            return
        self._call("on_connect", None)
        connection.begin(self.tls, host, self.config.timers.tls)

    def _attach(self, io: IOThread, sock: socket.socket, peer: tuple[str, int], *, requestor: bool) -> Connection:
        config = self.config if self.config.observers else replace(self.config, observers=(_nobody,))
        self._core = DimseAssociation(requestor=requestor, config=config)
        self._connection = Connection(io, sock, self._core, self._lock, self, peer)
        self._answer_by, self._collision, self._admitted, self._last_id = None, None, False, 0
        return self._connection

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call back; what is raised there is logged."""
        try:
            return getattr(self, name)(*arguments)
        except Exception:
            log.exception("%s: %s failed", self.peer, name, extra=coded("DUL203"))
            return FAILED
        finally:
            self._callback_counts.note(name)

    # ------------------------------------------------------------------ what the link tells

    def _opened(self, secure: bool) -> None:
        assert self._core is not None
        if secure:
            self._call("on_secure_link_ready")
        if not self._core.requestor or self._core.request is not None:
            with self._lock:
                self._core.connection_made()

    def _heard(self, pdu_type: int, length: int) -> None:
        self._call("on_receive", pdu_type, length)

    def _left(self, pdu_type: int, length: int) -> None:
        self._call("on_send", pdu_type, length)

    def _moved(self, sent: bool, data: memoryview, count: int, error: OSError | None) -> None:
        name = "on_bytes_sent" if sent else "on_bytes_received"
        # A copy is made only for who wants one.
        if name in self.__dict__ or getattr(type(self), name) is not getattr(Callbacks, name):
            self._call(name, bytes(data[:count]), error)

    def _late(self, now: float) -> None:
        """An answer is overdue: a default is given."""
        core = self._core
        if self._answer_by is None or self._answer_by > now or core is None:
            return
        self._answer_by = None
        with self._lock:
            if core.owes == "associate":
                core.reject(2, 3, 1)
            elif core.owes == "release":
                core.release_response()

    def _over(self) -> None:
        """The connection is gone: tell it once."""
        connection, core, server = self._connection, self._core, self.server
        assert connection is not None
        assert core is not None
        self._io = None
        self._answer_by = None
        try:
            self._let_go()
        except Exception:
            log.exception("%s: unexpected", self.peer, extra=coded("DUL901"))
        error = connection.error or self._ending
        if error is None and core.requestor and core.request is None and not self._closed_here:
            error = AssociationClosed(f"{connection.name} closed the connection before it was asked for an association")
        if server is not None:
            if self in server._clients:
                server._clients.remove(self)
            server._call("on_close", error, self)
        elif connection.error is not None or not self._closed_here:
            self._call("on_close", error, self)
        self._callback_counts.end()

    def _let_go(self) -> None:
        """What was half received goes, files that were being sent are closed."""
        storing, self._storing = self._storing, None
        files, self._files = self._files, set()
        if storing is not None:
            storing.discard()
        for instance in files:
            instance.close()

    def _handle(self, event: Any) -> None:
        handle(self, event)


def _nobody(trace_event: Any, association: Any) -> None:
    """An observer, so that the core keeps the journal that tells of each PDU."""
