"""A listener with a thread for each association, all handing their requests to one handler."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from dulcet.blocking.fair_lock import FairLock
from dulcet.blocking.listener import Listener
from dulcet.config import AssociationConfig
from dulcet.errors import DulcetError
from dulcet.log_codes import coded
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.termination import without
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.blocking.association import Association
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.dimse.association import DimseAssociation
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig

__all__ = ["Receiver"]

log: Final = logging.getLogger("dulcet.receiver")

GRACE: Final = 2.0
"""Seconds for a peer to release after its last request, when `stop` is called without a time."""


SPARE: Final = 2
"""Threads that wait for associations, so that one that follows another needs no new thread."""


class Receiver:
    """Serves in the background from the moment it is made until `stop()`."""

    def __init__(
        self,
        address: str | Address,
        handler: Callable[[IncomingRequest], object],
        *,
        policy: AcceptancePolicy | None = None,
        config: AssociationConfig | None = None,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        tls: TLSConfig | SSLContext | None = None,
        shared: SharedPort | None = None,
    ) -> None:
        """Listen at `AET@host:port`, the `address`, with a thread for each association.

        `handler` gets every request.  A ReceiveError that it raises is answered with its status, any other exception,
        and what it leaves unanswered, with 0110H.
        `policy`, `config`, `maximum_associations`, `maximum_per_host`, `maximum_per_ae`, `tls` and `shared` are those
        of `listen`.
        Raises AddressError, TLSConfigError, OSError when it cannot listen, ValueError as `listen` does.
        """
        self.listener: Listener = Listener(
            Address.parse(address, tls),
            policy=policy,
            config=config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
            shared=shared,
            parted=self._parted,
        )
        self.address: Address = self.listener.address
        """Where it listens, the port that was taken included."""
        self._handler = handler
        self._fair_lock = FairLock()
        self._alive: dict[threading.Thread, Association] = {}
        self._changed = threading.Condition()
        self._waiting = 0  # threads that wait for an association
        self._stopping = False
        self._interrupted = False
        self._add_thread()

    def stop(self, seconds: float = GRACE) -> bool:
        """No new associations; those that stand may end by themselves for `seconds`, then they are aborted.

        True when none had to be.
        """
        self.listener.stop()
        with self._changed:  # those that are established already are taken: they may have begun to send
            self._stopping = True
            self._changed.wait_for(lambda: not self._waiting)
        self.listener.close()
        deadline = time.monotonic() + seconds
        for thread in list(self._alive):
            thread.join(max(deadline - time.monotonic(), 0.0))
        left = list(self._alive)
        self.interrupt()
        for thread in left:
            thread.join(5.0)
        return not left

    def interrupt(self, *, coming: bool = False) -> None:
        """Abort the associations that stand, with `coming` those to come as well; callable from any thread."""
        with self._changed:
            self._interrupted = coming
            standing = list(self._alive.values())
        self.listener._abort_those_silent()
        for association in standing:
            association.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(GRACE if kind is None else 0.0)

    def _add_thread(self) -> None:
        """One more that waits; RuntimeError when there are no more threads.  The lock is held, but by `__init__`."""
        threading.Thread(target=self._work, name=f"dulcet-serve-{self.address.port}", daemon=True).start()
        self._waiting += 1

    def _work(self) -> None:
        """Serve associations; whoever takes one sees to it that somebody waits for the next."""
        while (association := self.listener.accept()) is not None:
            taken = self._take(association)
            if taken:
                self._serve(association)
            else:
                association.abort()
            with self._changed:
                if taken:
                    if self._stopping or self._waiting >= SPARE:
                        return
                    self._waiting += 1
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def _take(self, association: Association) -> bool:
        """Note who serves it; False when nobody would wait for the next one: then this thread goes on waiting."""
        with self._changed:
            if self._waiting == 1:
                try:
                    self._add_thread()
                except RuntimeError:  # no more threads: this one has to go, the others go on
                    log.exception("%s: no thread to serve it", association.peer, extra=coded("DUL117"))
                    return False
            self._waiting -= 1
            self._alive[threading.current_thread()] = association
            self._changed.notify_all()
            interrupted = self._interrupted
        if interrupted:
            association.interrupt()
        return True

    def _parted(self, peer: str, core: DimseAssociation, word: str, error: DulcetError, seconds: float) -> None:
        """The same for an association that had no request: no thread took it."""
        who = f"{peer} {core.request.calling if core.request is not None else ''!a}"
        if word != "released":
            log.warning("%s: %s", who, without(peer, error), extra=coded("DUL115"))
        log.info("%s: %s after %d requests, %.1f s", who, word, 0, seconds, extra=coded("DUL116"))

    def _serve(self, association: Association) -> None:
        association.handler = self._handler
        who = f"{association.peer} {association.calling_ae_title!a}"
        count, start = 0, time.monotonic()
        try:
            association._take_turns(self._fair_lock)
            with association:
                for request in association.requests():
                    count += 1
                    association._take_turns(None)
                    association._serve(request)
                    association._take_turns(self._fair_lock)
        except DulcetError as error:
            log.warning("%s: %s", who, without(association.peer, error), extra=coded("DUL115"))
        except Exception:
            log.exception("%s: unexpected", who, extra=coded("DUL901"))
        finally:
            association._take_turns(None)
            log.info(
                "%s: %s after %d requests, %.1f s", who, association.ending, count, time.monotonic() - start,
                extra=coded("DUL116"),
            )  # fmt: skip
            del self._alive[threading.current_thread()]
