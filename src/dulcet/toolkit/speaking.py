"""What a `Net` says: association, release and abort, and every message by its typed method or by its command set.

Rules: the core is asked under the lock, from any thread; what it refuses is raised, and nothing went on the wire.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import LocalProtocolError
from dulcet.io.instances import Instance
from dulcet.toolkit.associate import Associate
from dulcet.toolkit.callbacks import Callbacks
from dulcet.toolkit.connection import Connection
from dulcet.toolkit.messages import DataSetSource, Message, encoded
from dulcet.upper_layer.negotiation import check_abort, check_answer
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ

__all__ = ["Speaking"]


class Speaking(Callbacks):
    """The part of a `Net` that sends."""

    _core: DimseAssociation | None
    _connection: Connection | None
    _lock: threading.RLock
    _files: set[Instance]  # open as long as a message that lies in them may need it
    _last_id: int

    # ------------------------------------------------------------------ association

    def send_associate_request(self, associate: Associate) -> None:
        """Queue `associate`, a request, as A-ASSOCIATE-RQ (PS3.8 section 9.3.2).

        Raises InvalidAssociate for one that may not be sent (`Associate.check`), LocalProtocolError for an accept, a
        second request, on what the peer connected, or without a connection.
        """
        core, connection = self._connected()
        if not associate.request:
            raise LocalProtocolError("this is an accept; a request is expected")
        associate.check()
        pdu = associate.to_pdu()
        assert isinstance(pdu, AssociateRQ)
        with self._lock:
            core.associate(pdu)
            if connection.usable:
                core.connection_made()
        connection.schedule()

    def send_associate_accept(self, associate: Associate) -> None:
        """Queue `associate`, an accept, as A-ASSOCIATE-AC with the titles of the request (PS3.8 section 9.3.3).

        Raises InvalidAssociate for one that may not be sent, LocalProtocolError where it says more than was proposed,
        leaves a context unanswered, or no request waits for an answer.
        """
        core, connection = self._connected()
        if associate.request:
            raise LocalProtocolError("this is a request; an accept is expected")
        associate.check()
        pdu = associate.to_pdu()
        assert isinstance(pdu, AssociateAC)
        with self._lock:
            if core.request is not None:
                check_answer(core.request, pdu)
                titles = {name: getattr(core.request, name) for name in ("called_ae_title", "calling_ae_title")}
                pdu = replace(pdu, **titles)
            core.accept(pdu)
        connection.schedule()

    def send_associate_reject(self, result: int, source: int, reason: int) -> None:
        """Queue an A-ASSOCIATE-RJ: `result` 1 permanent, 2 transient; `source` and `reason` of PS3.8 Table 9-21.

        `source` and `reason` are one of (1,1), (1,2), (1,3), (1,7), (2,1), (2,2), (3,1), (3,2); `RejectSource` and its
        neighbours name them.  LocalProtocolError unless a request waits and the triple exists.
        """
        self._do(lambda core: core.reject(result, source, reason))

    def send_release_request(self) -> None:
        """Queue an A-RELEASE-RQ; LocalProtocolError while operations are unanswered, or no association stands."""
        self._do(DimseAssociation.release)

    def send_release_response(self) -> None:
        """Queue an A-RELEASE-RP; LocalProtocolError unless the peer asked for the release."""
        self._do(DimseAssociation.release_response)

    def send_abort(self, source: int = 0, reason: int = 0) -> None:
        """Send an A-ABORT, which overtakes what is queued: `source` 0 user, 2 provider (PS3.8 Table 9-26).

        `reason` is 0, 1, 2, 4, 5 or 6 for the provider (`AbortReason`); a user's is sent as 0.  LocalProtocolError for
        other numbers, and before there was a connection.  Nothing happens where the connection is over already: the
        peer may have been the first.
        """
        check_abort(source, reason)
        if self._connection is not None and self._connection.is_over():
            return
        self._do(lambda core: core.abort(source, reason))

    # ------------------------------------------------------------------ messages

    def send_data(self, presentation_id: int, command_set: Command, data_set: DataSetSource = None) -> int:
        """Queue any message, one that nobody knows included, and give back its message id.

        * `presentation_id`: the id of an accepted presentation context.
        * `command_set`: a `dulcet.dimse.command.Command`; a request without a message id gets one.
        * `data_set`: encoded bytes in the transfer syntax of the context, a pydicom Dataset, a received `DataSet`, or
          the path of a DICOM file, which is streamed.  None is none.

        A request beyond the operations window waits for its turn; a response that answers nothing leaves as it is.
        Raises LocalProtocolError without a connection, for a context that was not accepted and for what the
        association does not allow; InstanceError for a file that cannot be sent, CannotConvert where it cannot be
        brought into the transfer syntax.
        """
        return self._deliver(presentation_id, command_set, data_set, fits=False)

    def _deliver(self, presentation_id: int, command_set: Command, data_set: DataSetSource, *, fits: bool) -> int:
        core, connection = self._connected()
        context = core.contexts.get(presentation_id)
        if context is None:
            raise LocalProtocolError(f"presentation context {presentation_id} was not accepted; nothing was sent")
        command = command_set.copy()
        with self._lock:
            if fits:
                core.owed(presentation_id, command)
            elif command.is_request and command.field != CommandField.C_CANCEL_RQ and command.message_id is None:
                command = command.replace(MessageID=self._next_message_id(), validate=False)
        self.on_send_command_set(presentation_id, command)
        source, instance = encoded(data_set, context.transfer_syntax)
        try:
            with self._lock:
                if fits:
                    core.respond_to(presentation_id, command, source)
                else:
                    core.send(presentation_id, command, source, owner=instance)
                if instance is not None:
                    self._files.add(instance)
        except BaseException:
            if instance is not None:
                instance.close()
            raise
        connection.schedule()
        return command.message_id or command.message_id_being_responded_to or 0

    def on_send_command_set(self, presentation_id: int, command_set: Command) -> None:
        """Called before `command_set` is encoded, in the thread that sends it: change it in place if you like.

        `presentation_id` is the context that it goes out on.
        """

    def _send_message(self, message: Message, values: dict[str, Any]) -> int:
        """What every `send_x_request` and `send_x_response` does."""
        core, _ = self._connected()
        data_set = values.get("data_set")
        if message.is_response:
            asked = core.performing.get(values["message_id"])
            if asked is not None and values.get("class_uid") is None:
                values["class_uid"] = asked.command.sop_class_uid
            if asked is not None and values.get("instance_uid") is None:
                values["instance_uid"] = asked.command.sop_instance_uid
        elif values["message_id"] is None and message.field != CommandField.C_CANCEL_RQ:
            with self._lock:
                values["message_id"] = self._next_message_id()
        command = message.make(values, data_set=data_set is not None)
        return self._deliver(values["presentation_id"], command, data_set, fits=message.is_response)

    def _answer_unprovided(self, message_id: int) -> None:
        """The answer to a request whose callback nobody has overridden."""
        core, connection = self._connected()
        with self._lock:
            request = core.performing.get(message_id)
            if request is not None:
                status = Status.SUCCESS if request.field == CommandField.C_ECHO_RQ else Status.SOP_CLASS_NOT_SUPPORTED
                known = request.command.definition is not None
                why = {} if status.is_success else {"ErrorComment": not_provided(request.command)}
                core.respond_status(request, status if known else Status.UNRECOGNIZED_OPERATION, **why)
        connection.schedule()

    # ------------------------------------------------------------------ how

    def _connected(self) -> tuple[DimseAssociation, Connection]:
        if self._core is None or self._connection is None or self._connection.is_over():
            raise LocalProtocolError("not connected: nothing was sent")
        return self._core, self._connection

    def _do(self, primitive: Callable[[DimseAssociation], None]) -> None:
        core, connection = self._connected()
        with self._lock:
            primitive(core)
        connection.schedule()

    def _next_message_id(self) -> int:
        """One that no request has, and none was promised to: its data set may still be being encoded."""
        core, _ = self._connected()
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in core.outstanding and self._last_id not in core.waiting:
                return self._last_id
