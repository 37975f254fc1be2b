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
        """The connection stands: `error` is None; or it could not be made: `error` is PeerUnreachable or the like."""

    def on_secure_link_ready(self) -> None:
        """The TLS handshake is done; nothing of the association has passed yet."""

    def on_close(self, error: DulcetError | None, peer: Net) -> None:
        """A connection is over, told once for each, on the listening object where one accepted it.

        `error` says why, such as AssociationAborted or AssociationClosed; None where it ended in order.  `peer` is the
        object whose connection it was.  Not told of a connection that this object closed itself, unless something was
        lost.
        """

    def on_receive(self, pdu_type: int, length: int) -> None:
        """A PDU came, told before everything that it leads to: its `pdu_type` (`PDUType`), its `length` in bytes."""

    def on_send(self, pdu_type: int, length: int) -> None:
        """A PDU has left: all of it was given to the kernel; `pdu_type` and `length` as for `on_receive`."""

    def on_bytes_received(self, data: bytes, error: OSError | None) -> None:
        """`data` came, TLS taken off, before the PDUs in it are told; or it is empty, and `error` says what failed."""

    def on_bytes_sent(self, data: bytes, error: OSError | None) -> None:
        """`data` was given to the kernel, before its PDUs are told; or it is empty, and `error` says what failed."""

    def on_receive_data(self, presentation_id: int, command_set: Command, data_set: DataSet | None) -> None:
        """A message came, told before the callback of its kind.

        `presentation_id` is the context that it came on, `command_set` its command set, and `data_set` its data set,
        encoded, None where it has none.
        """

    def on_store_setup(self, presentation_id: int, command_set: Command) -> str | os.PathLike[str] | None:
        """A C-STORE-RQ came, its data set follows: into the file named here, or, for None or "", into memory.

        `presentation_id` is the context that it came on, `command_set` names class and instance.  The file has file
        meta of ours in front, is there under its name once it is whole and durable, and replaces one that was there.
        What this raises is logged, and the request is answered 0110H.
        """
        return None

    def on_receive_associate_accept(self, associate: Associate) -> None:
        """The association stands; `associate` is the accept, with the abstract syntaxes of our request."""

    def on_receive_associate_reject(self, result: int, source: int, reason: int) -> None:
        """The association was refused: `result` 1 for good, 2 for now, `source` and `reason` as in PS3.8 Table 9-21."""

    def on_receive_release_response(self) -> None:
        """The association is released."""

    def on_receive_abort(self, source: int, reason: int) -> None:
        """The peer aborted: `source` 0 its application, with a `reason` that means nothing, or 2 its upper layer.

        `reason` is then an `AbortReason` (PS3.8 Table 9-26), unless the peer sends a reserved number.
        """
