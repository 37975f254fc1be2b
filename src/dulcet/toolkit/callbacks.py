"""What `Net` calls back, and what happens where nobody overrides it; the callbacks of messages are made by table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dulcet.dimse.command import Command
from dulcet.errors import DulcetError
from dulcet.toolkit.associate import Associate
from dulcet.toolkit.message_methods import MessageMethods
from dulcet.toolkit.messages import DataSet

if TYPE_CHECKING:
    from dulcet.toolkit.net import Net

__all__ = ["Callbacks"]


class Callbacks(MessageMethods):
    """Override them, or assign functions to them."""

    def on_connect(self, error: DulcetError | None) -> None:
        """The connection stands, or could not be made."""

    def on_secure_link_ready(self) -> None:
        """The TLS handshake is done; nothing of the association has passed yet."""

    def on_close(self, error: DulcetError | None, peer: Net) -> None:
        """A connection is over, `error` unless in order: once for each, on the listening object where one accepted it.

        Not told of a connection that this object closed itself, unless something was lost.
        """

    def on_receive(self, pdu_type: int, length: int) -> None:
        """A PDU came, told before everything that it leads to."""

    def on_send(self, pdu_type: int, length: int) -> None:
        """A PDU has left."""

    def on_bytes_received(self, data: bytes, error: OSError | None) -> None:
        """Bytes came as they are, TLS taken off, before the PDUs that they hold are told; or reading them failed."""

    def on_bytes_sent(self, data: bytes, error: OSError | None) -> None:
        """Bytes were given to the kernel, before their PDUs are told; or writing them failed."""

    def on_receive_data(self, presentation_id: int, command_set: Command, data_set: DataSet | None) -> None:
        """A message came, told before the callback of its kind."""

    def on_store_setup(self, presentation_id: int, command_set: Command) -> str | os.PathLike[str] | None:
        """A C-STORE-RQ came, its data set follows: into the file named here, or, for None or "", into memory."""
        return None

    def on_receive_associate_accept(self, associate: Associate) -> None:
        """The association stands."""

    def on_receive_associate_reject(self, result: int, source: int, reason: int) -> None:
        """The association was refused."""

    def on_receive_release_response(self) -> None:
        """The association is released."""

    def on_receive_abort(self, source: int, reason: int) -> None:
        """The peer aborted."""
