"""Waiting for associations: `for association in listener`.

Rules: what is handed out is established; how it came to that is the business of `greeting`; a listener that is dropped
without `close` gives back its port, thread and descriptors, so nothing that lives on may hold it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dulcet.blocking.accepting import Acceptor, Parted
from dulcet.blocking.association import Association
from dulcet.blocking.channel import abort_all
from dulcet.config import AssociationConfig
from dulcet.io.sockets import listening_sockets
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.admission import Admission
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    import socket
    from ssl import SSLContext

    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig

__all__ = ["Listener", "listen"]


def listen(
    address: str | Address,
    *,
    policy: AcceptancePolicy | None = None,
    config: AssociationConfig | None = None,
    maximum_associations: int = 500,
    maximum_per_host: int = 100,
    maximum_per_ae: int | None = None,
    tls: TLSConfig | SSLContext | None = None,
    shared: SharedPort | None = None,
) -> Listener:
    """A listener on `AET@host:port`; port 0 takes a free one, host `*` all addresses.  Use it as a context manager.

    `address` is that text or an `Address`; its AE title is ours.
    `policy` says which SOP classes, transfer syntaxes and AE titles are accepted; by default verification and every
    storage class, from anybody who calls us by our AE title.
    `config` holds limits and timers of the associations; by default those of `AssociationConfig()`.
    `maximum_associations` may stand at once, `maximum_per_host` of them from one IP address; more are rejected as
    transient (A-ASSOCIATE-RJ 2, 3, 2).  `maximum_per_ae` bounds those of one calling AE title, which anybody may claim:
    it keeps a peer that leaks them from taking all; None is no bound.
    `tls` secures the connections; the address may bring it along.
    `shared` is a port, used instead of the address' own, from which other processes accept as well; limits are then for
    all together.
    Raises AddressError, TLSConfigError, OSError when it cannot listen, and ValueError for more `maximum_associations`
    than the shared port counts.
    """
    return Listener(
        Address.parse(address, tls),
        policy=policy,
        config=config,
        maximum_associations=maximum_associations,
        maximum_per_host=maximum_per_host,
        maximum_per_ae=maximum_per_ae,
        shared=shared,
    )


class Listener:
    """Listening sockets, the thread that greets, and the established associations that nobody took yet."""

    def __init__(
        self,
        address: Address,
        *,
        policy: AcceptancePolicy | None = None,
        config: AssociationConfig | None = None,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        shared: SharedPort | None = None,
        parted: Parted | None = None,
    ) -> None:
        """`address` is an `Address`, its `tls` included; `policy`, `config`, `maximum_associations`,
        `maximum_per_host`, `maximum_per_ae` and `shared` are those of `listen`, and so is what it raises.
        With `parted`, associations are handed out with their first message; it is told of those that had none.
        """
        self.config: AssociationConfig = config or AssociationConfig()
        self.policy: AcceptancePolicy = policy or AcceptancePolicy.storage(address.ae_title)
        self.ae_title: str = address.ae_title
        self.tls: TLSConfig | SSLContext | None = address.tls
        self.handshake_failures: int = 0
        """TLS handshakes that failed or took too long, those of peers that never said anything left out."""
        if self.tls is not None:
            from dulcet.io.tls import server_context

            server_context(self.tls)  # what cannot be used shows now
        self._admission = Admission(
            self.policy,
            self.config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
            together=shared,
        )
        sockets = listening_sockets(address.host, address.port) if shared is None else shared.sockets
        self.address: Address = replace(address, port=sockets[0].getsockname()[1])
        """Where it listens, the port that was taken included."""
        self._established: queue.SimpleQueue[Association | None] = queue.SimpleQueue()
        self._acceptor = self._greeter_for(sockets, shared, parted)
        self._acceptor.handshake_failed = partial(_count_failure, weakref.ref(self))
        self._acceptor.start()
        self._dropped = weakref.finalize(self, _end_soon, self._acceptor, self._established)
        self._dropped.atexit = False

    def _greeter_for(
        self, sockets: Sequence[socket.socket], shared: SharedPort | None, parted: Parted | None
    ) -> Acceptor:
        return Acceptor(sockets, self._admission, self._established.put, tls=self.tls, shared=shared, parted=parted)

    # ------------------------------------------------------------------ for those who serve

    def accept(self, timeout: float | None = None) -> Association | None:
        """The next established association; None after `timeout` seconds or when the listener was closed."""
        try:
            association = self._established.get(timeout=timeout)
        except queue.Empty:
            return None
        if association is None:
            self._established.put(None)  # for the next one who asks
        return association

    def __iter__(self) -> Iterator[Association]:
        """Established associations, until the listener is closed."""
        while (association := self.accept()) is not None:
            yield association

    def close(self) -> None:
        """Accept nothing more; associations that were handed out go on, those that nobody took are aborted."""
        self.stop()
        _abort_untaken(self._established)

    def stop(self) -> None:
        """Accept nothing more; those that are established already can still be taken, and then comes the end."""
        self._dropped.detach()
        if self._acceptor.stop():
            self._established.put(None)

    def _abort_those_silent(self) -> None:
        """Have the associations on which nothing was said so far aborted; callable from any thread."""
        self._acceptor.abort_silent()

    @property
    def maximum_associations(self) -> int:
        """Associations that may stand at once; more are rejected as transient."""
        return self._admission.maximum_associations

    @property
    def maximum_per_host(self) -> int:
        """The same from one host."""
        return self._admission.maximum_per_host

    @property
    def maximum_per_ae(self) -> int | None:
        """The same of one calling AE title; None for any number."""
        return self._admission.maximum_per_ae

    @property
    def count(self) -> int:
        """Associations that stand."""
        return self._admission.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _count_failure(listener: weakref.ref[Listener]) -> None:
    found = listener()
    if found is not None:
        found.handshake_failures += 1


def _end_soon(acceptor: Acceptor, established: queue.SimpleQueue[Association | None]) -> None:
    """A listener was dropped: end what it had, in a thread, for this one may be any, the acceptor's own as well."""

    def end() -> None:
        if acceptor.stop():
            _abort_untaken(established)

    with contextlib.suppress(RuntimeError):  # the process ends, and with it everything
        threading.Thread(target=end, name="dulcet-leave", daemon=True).start()


def _abort_untaken(established: queue.SimpleQueue[Association | None]) -> None:
    untaken = []
    while True:
        try:
            association = established.get_nowait()
        except queue.Empty:
            break
        if association is not None:
            untaken.append(association)
    established.put(None)
    abort_all(untaken)
