"""A connection that is not yet, or no longer, an association of whoever serves."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dulcet.blocking.transport import Transport
from dulcet.dimse.association import DimseAssociation
from dulcet.services.observing import Reporter

if TYPE_CHECKING:
    from dulcet.blocking.secure import SecureTransport

__all__ = ["PendingConnection"]


@dataclass(slots=True, eq=False)
class PendingConnection:
    """A connection that is not yet, or no longer, an association."""

    core: DimseAssociation
    transport: Transport
    sock: socket.socket
    peer: str
    host: str
    deadline: float | None = None
    reporter: Reporter | None = None
    counted: bool = False
    handshake: SecureTransport | None = None
    """The transport while its TLS handshake is under way, or has failed."""
    failed: bool = False
    """The handshake: nothing is expected any more but the peer's close."""
    writes: bool = False
    """It is awaited that something can be sent."""
    limit: float | None = None
    """When its A-ASSOCIATE-RQ has to be here, the TLS handshake included."""
    established: float | None = None
    """Since when it is an association on which nothing was said so far; None before."""
    ended: bool = False
    """The association, before anything was said on it; the connection may still stand."""
    watched: bool = True
    """False while its association is being decided about: whatever else it says waits in the kernel."""

    def read(self) -> None:
        """Take what the kernel has."""
        core = self.core
        if not core.is_full:
            count = self.transport.read_into(core.get_buffer())
            if count:
                core.buffer_updated(count)
            elif count == 0:
                core.eof_received()

    def speak(self) -> bool:
        """Send what there is; True when all of it is with the kernel."""
        transport, core = self.transport, self.core
        if transport.has_unsent and not transport.flush():
            return False
        while core.has_output:
            if not transport.write(core.data_to_send()):
                return False
        return True
