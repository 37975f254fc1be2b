"""A listener with a thread for each association, all handing their requests to one handler."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from dulcet.blocking.listener import Listener
from dulcet.config import AssociationConfig
from dulcet.errors import DulcetError
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.blocking.association import Association
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.io.tls import TLSConfig

__all__ = ["Receiver"]

log: Final = logging.getLogger("dulcet.receiver")

GRACE: Final = 2.0
"""Seconds for a peer to release after its last request, when `stop` is called without a time."""


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
    ) -> None:
        """Listen at `AET@host:port`; raises AddressError, TLSConfigError, and OSError when it cannot listen."""
        self.listener = Listener(
            Address.parse(address, tls),
            policy=policy,
            config=config,
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
        )
        self.address = self.listener.address
        """Where it listens, the port that was taken included."""
        self._handler = handler
        self._alive: dict[threading.Thread, Association] = {}
        self._acceptor = threading.Thread(target=self._accept, name=f"dulcet-accept-{self.address.port}", daemon=True)
        self._acceptor.start()

    def stop(self, seconds: float = GRACE) -> bool:
        """No new associations; those that stand may end by themselves for `seconds`, then they are aborted.

        True when none had to be.
        """
        self.listener.stop()
        self._acceptor.join()  # takes those that are established already: they may have begun to send
        self.listener.close()
        deadline = time.monotonic() + seconds
        for thread in list(self._alive):
            thread.join(max(deadline - time.monotonic(), 0.0))
        left = list(self._alive)
        self.interrupt()
        for thread in left:
            thread.join(5.0)
        return not left

    def interrupt(self) -> None:
        """Abort the associations that stand; callable from any thread."""
        for association in list(self._alive.values()):
            association.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(GRACE if kind is None else 0.0)

    def _accept(self) -> None:
        for association in self.listener:
            thread = threading.Thread(target=self._serve, args=(association,), daemon=True)
            self._alive[thread] = association
            try:
                thread.start()
            except RuntimeError:  # no more threads: this one has to go, the others go on
                log.exception("%s: no thread to serve it", association.peer)
                del self._alive[thread]
                association.abort()

    def _serve(self, association: Association) -> None:
        association.handler = self._handler
        who = f"{association.peer} {association.calling_ae_title!a}"
        count, start = 0, time.monotonic()
        try:
            with association:
                for request in association.requests():
                    count += 1
                    association._serve(request)
        except DulcetError as error:
            log.warning("%s: %s", who, error)
        except Exception:
            log.exception("%s: unexpected", who)
        finally:
            log.info("%s: %s after %d requests, %.1f s", who, association.ending, count, time.monotonic() - start)
            self._alive.pop(threading.current_thread(), None)
