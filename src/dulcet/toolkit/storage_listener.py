"""The storage listener: wait for a connection, wait for commands, in a plain loop; callbacks in the loop's own thread.

    listener = StorageListener("RECEIVER", 11112, store_directory="incoming")
    while listener.wait_for_connection(60):
        while listener.wait_for_command(30):
            pass

Rules: one association at a time for each listener; several listeners, each in a thread of its own, share a port, and
who calls goes to one that answers to the AE title called; `close`, from any thread, ends every wait.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet import uids
from dulcet.blocking.association import Association
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.serving import serve_until
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import FAILED, not_provided
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout, LocalProtocolError, ReceiveError, StatusError
from dulcet.log_codes import coded
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.commitment import CommitmentResult, Reference, check_request, read_report
from dulcet.services.identifiers import encode_dataset
from dulcet.services.models import MODELS
from dulcet.services.refusals import Refused
from dulcet.toolkit.port_listener import PendingRequest, PortListener, Titles
from dulcet.toolkit.storage_handler import StorageHandler
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.io.tls import TLSConfig

__all__ = ["Outcome", "StorageListener"]

log: Final = logging.getLogger("dulcet.toolkit")

LAST_CALLBACK: Final = 5.0
"""Seconds that `close` gives a callback in another thread to come back."""
LITTLE_ENDIAN: Final = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "on_find": tuple(model.find for model in MODELS.values() if model.find),
    "on_storage_commit_request": (uids.STORAGE_COMMITMENT_PUSH_MODEL,),
    "on_commit_result": (uids.STORAGE_COMMITMENT_PUSH_MODEL,),
    "on_mpps_create": (uids.MODALITY_PERFORMED_PROCEDURE_STEP,),
    "on_mpps_set": (uids.MODALITY_PERFORMED_PROCEDURE_STEP,),
}
"""The SOP classes that are accepted where a callback is overridden."""


class Outcome(Enum):
    """What `wait_for_command` came to; true for a command alone."""

    COMMAND = "a command was received and answered"
    TIMEOUT = "nothing came; the association stands"
    ENDED = "the association was released, or none stands"
    ABORTED = "the association was aborted or lost"

    def __bool__(self) -> bool:
        return self is Outcome.COMMAND


class StorageListener(StorageHandler):
    """Waits for one association after the other, and answers what is asked on it; a context manager.

    In one plain loop, callbacks included:

        with StorageListener("RECEIVER", 11112, store_directory="incoming") as listener:
            while listener.wait_for_connection(60):
                while listener.wait_for_command(30):
                    pass
    """

    def __init__(
        self,
        ae_title: str = "",
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        policy: AcceptancePolicy | None = None,
        config: AssociationConfig | None = None,
        reject: tuple[int, int, int] = (1, 1, 1),
        tls: TLSConfig | SSLContext | None = None,
        **keeping: Any,
    ) -> None:
        """It listens from the first wait on, or once `port` is asked for.

        * `ae_title`: the AE title that it answers to, others are rejected (1,1,7); "" answers to any.
        * `port`: 0 takes a free one; the property `port` tells which.
        * `host`: an address of this machine, by default for callers on this machine alone; "0.0.0.0" is all of IPv4.
        * `policy`: what is accepted, and then for which AE titles; by default storage, verification, and the services
          whose callbacks are overridden.
        * `config`: timers, lengths, operations windows; AssociationConfig() if None.
        * `reject`: result, source and reason (PS3.8 Table 9-21) for those whom `on_connection` refuses.
        * `tls`: a `TLSConfig` or an `ssl.SSLContext` that secures the port; None is without TLS.
        * `keeping`: where instances go that `on_store_setup` names no path for: `store_directory`, a folder; or
          `in_memory=True` for `take_stored_object`, with a `memory_limit` in bytes of all that nobody has taken
          (256 MiB; one more is answered A700H).  Without either such an instance is answered 0110H.

        Raises AddressError for a port beyond 65535, TLSConfigError where another listener has the port with other TLS,
        or with none.
        """
        super().__init__(**keeping)
        self.ae_title = ae_title
        self.host = host
        self.config: AssociationConfig = config or AssociationConfig()
        self.reject = reject
        self._tls = tls
        self._port = port
        self._policy = policy
        self._port_listener: PortListener | None = None
        self._leaves: weakref.finalize[Any, StorageListener] | None = None
        self._closed = False
        self._state = threading.Condition()
        self._user: int | None = None  # the thread that waits, or is in a callback of what it waited for
        self._association: Association | None = None
        self._served = False
        PortListener.check(self._address)

    # ------------------------------------------------------------------ the loop

    @property
    def port(self) -> int:
        """Where it listens; starts to do so.  OSError where it cannot, LocalProtocolError once it was closed."""
        return self._open().address.port

    @property
    def association(self) -> Association | None:
        """The one that stands."""
        return self._association

    def wait_for_connection(self, timeout: float | None = None) -> bool:
        """Wait for an association and accept it; False when `timeout` seconds passed without one, or it was closed.

        It listens on between calls; whoever comes then waits.  An association that still stands is aborted first.
        `timeout` None waits without end.  Raises OSError where it cannot listen, TLSConfigError for files of its TLS
        that cannot be used, or where another listener has the port with other TLS.
        """
        with self._in_use() as usable:
            if not usable:
                return False
            self._leave()
            deadline = None if timeout is None else time.monotonic() + timeout
            hall = self._open().hall
            while True:
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                pending = hall.get(self._titles, left, lambda: self._closed)
                if pending is None:
                    return False
                association = self._greet(pending)
                if association is not None:
                    association.handler = self._handle
                    self._association = association
                    return not self._closed

    def wait_for_command(self, timeout: float | None = None) -> Outcome:
        """Wait for a command and answer it; the outcome is true only then, so that it can stand in a `while`.

        After `timeout` seconds, None is without end, `on_timeout` is called, and the association stands.  How the
        association ended is in the outcome and not raised; without one that is ENDED at once.
        """
        with self._in_use():
            association = self._association
            if association is None:
                return Outcome.ENDED
            self._served = False
            try:
                if serve_until(association, lambda: self._served, timeout):
                    return Outcome.COMMAND
            except (AssociationError, DimseTimeout) as error:
                log.info("%s", error, extra=coded("DUL120"))
                if self._association is association:  # else a callback closed, and that told it
                    self._association = None
                    self.on_association_end(association.ending or "closed")
                return Outcome.ENDED if association.ending == "released" else Outcome.ABORTED
            self.on_timeout()
            return Outcome.TIMEOUT

    def close(self) -> None:
        """Abort what stands, end every wait, and listen no more, unless others share the port; from any thread.

        A thread that waits returns False or an outcome that is not true; what it is doing in a callback it finishes
        first, for which this waits some seconds.  Waits after that return at once.
        """
        with self._state:
            self._closed = True
            elsewhere = self._user not in (None, threading.get_ident())
            if elsewhere:
                if self._association is not None:
                    self._association.interrupt()
                if self._port_listener is not None:
                    self._port_listener.hall.wake()
                elsewhere = not self._state.wait_for(lambda: self._user is None, LAST_CALLBACK)
        if not elsewhere:
            self._leave()
        port_listener, self._port_listener = self._port_listener, None
        if port_listener is not None and self._leaves is not None and self._leaves.detach():
            port_listener.leave(self._titles)
        with self._lock:
            self._close_folder()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ callbacks

    def on_connection(self, calling: str, called: str, host: str) -> bool:
        """Somebody wants an association that the policy accepts; True accepts it, False and an exception refuse it.

        `calling` and `called` are the AE titles without padding, `host` is the caller's IP address.
        """
        return True

    def on_timeout(self) -> None:
        """A wait for a command expired, and the association stands."""

    def on_association_end(self, cause: str) -> None:
        """The association is over; `cause` is "released", "aborted", "closed" (without a word) or "timeout"."""

    def on_echo(self) -> bool | int | None:
        """C-ECHO; None and True answer 0000H, False 0110H, a number itself.

        So do the callbacks below that give a `bool`, unless they have answered with `request.respond`.  What a callback
        raises is logged: a StatusError answers with its status, `dulcet.services.refusals.Refused` with its comment
        and elements too, anything else with 0110H.  The services below are accepted where they are overridden.
        """

    def on_find(self, request: IncomingRequest, identifier: Dataset) -> Iterable[Dataset] | int | None:
        """C-FIND (PS3.4 C.4.1): the matches, each as it is to be answered, or a status; None is none.

        `identifier` holds the keys, level included.  `request` says in what model (`request.sop_class_uid`) and who
        asks (`request.association`).  It may be a generator: one that is cancelled is asked for no more.  A
        ReceiveError that it raises answers with its status.
        """

    def on_storage_commit_request(
        self, request: IncomingRequest, transaction_uid: str, references: tuple[Reference, ...]
    ) -> bool | int | None:
        """Somebody asks to keep instances (PS3.4 J.3.2); the answer says only that the request was taken.

        `references` are the instances, each once, with `sop_class_uid` and `sop_instance_uid`.  To report what became
        of them, under `transaction_uid`, is the application's: `n_event_report` on `request.association`, once this has
        returned, or on an association of its own.  A request that lacks one of the two is refused before this.
        """

    def on_commit_result(self, result: CommitmentResult) -> bool | int | None:
        """What became of a request of ours (PS3.4 J.3.3): `result` says what is safe, and what is not and why.

        `result.transaction_uid` tells of which.  True or None says that it is known, 0115H that it is not.
        """

    def on_mpps_create(self, request: IncomingRequest, instance_uid: str, dataset: Dataset) -> bool | int | None:
        """A procedure step begins (PS3.4 F.7.2.1): keep `dataset`, its attributes, under `instance_uid`.

        Where that is "", the requestor leaves it to us: make one, and answer with
        `request.respond(AffectedSOPInstanceUID=made)`.
        """

    def on_mpps_set(self, request: IncomingRequest, instance_uid: str, dataset: Dataset) -> bool | int | None:
        """A procedure step goes on or ends (PS3.4 F.7.2.2): `dataset` holds what changes in that of `instance_uid`.

        One that is not known is answered 0112H; `request` says who asks, as for the others.
        """

    # ------------------------------------------------------------------ connections

    @property
    def _address(self) -> Address:
        return Address(self.ae_title or "ANY", self.host, self._port, self._tls)

    @property
    def _titles(self) -> Titles:
        """The AE titles that it answers to."""
        if self._policy is not None:
            return self._policy.called
        return frozenset((self.ae_title,)) if self.ae_title else None

    def _open(self) -> PortListener:
        if self._closed:
            raise LocalProtocolError("this storage listener was closed; make another one")
        if self._port_listener is None:
            titles = self._titles
            self._port_listener = PortListener.at(self._address, self.config, titles)
            self._port = self._port_listener.address.port
            self._leaves = weakref.finalize(self, self._port_listener.leave_soon, titles)
            self._leaves.atexit = False
        return self._port_listener

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[bool]:
        """As long as this thread waits here; false where the listener was closed."""
        with self._state:
            self._user = threading.get_ident()
            usable = not self._closed
        try:
            yield usable
        finally:
            with self._state:
                self._user = None
                self._state.notify_all()
            if self._closed:
                self._leave()

    def _leave(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()
            self.on_association_end(association.ending or "aborted")

    def _greet(self, pending: PendingRequest) -> Association | None:
        request = pending.request
        answer = self._accepted().decide(request, self.config)
        if not isinstance(answer, tuple):
            try:
                welcome = self.on_connection(request.calling, request.called, pending.host)
            except Exception:
                log.exception("%s: on_connection failed", pending.host, extra=coded("DUL203"))
                welcome = False
            if not welcome:
                answer = self.reject
        return pending.say(answer)

    def _accepted(self) -> AcceptancePolicy:
        if self._policy is None:
            policy = AcceptancePolicy.storage(self.ae_title or None)
            more = {uid: LITTLE_ENDIAN for name, classes in CLASSES.items() if self._provides(name) for uid in classes}
            self._policy = AcceptancePolicy(called=policy.called, syntaxes={**policy.syntaxes, **more})
        return self._policy

    def _provides(self, name: str) -> bool:
        return name in self.__dict__ or getattr(type(self), name) is not getattr(StorageListener, name)

    # ------------------------------------------------------------------ commands

    def _handle(self, request: IncomingRequest) -> None:
        """Answer one request; the association lives, whatever a callback raises."""
        self._served = True
        try:
            self._serve(request)
        except ReceiveError as error:
            log.error("%s: %s: %s", request.association.peer, request.name, error, extra=coded("DUL210"))
            find = request.field == CommandField.C_FIND_RQ
            request.respond(error.status if find else Status.PROCESSING_FAILURE, **error.elements)
        except StatusError as refusal:
            log.warning(
                "%s: %s was refused: %s", request.association.peer, request.name, refusal, extra=coded("DUL208")
            )
            request.respond(refusal.status, **(refusal.elements if isinstance(refusal, Refused) else {}))
        except Exception:
            request.association._check_usable()  # a callback may have closed it
            log.exception(
                "%s: the callback of %s failed", request.association.peer, request.name, extra=coded("DUL203")
            )
            if not request.answered:
                request.respond(Status.PROCESSING_FAILURE, ErrorComment=FAILED)

    def _serve(self, request: IncomingRequest) -> None:
        verdict: bool | int | None = None
        why: dict[str, Any] = {}
        command, uid = request.command, request.sop_instance_uid
        commitment = request.sop_class_uid == uids.STORAGE_COMMITMENT_PUSH_MODEL
        match request.field:
            case CommandField.C_STORE_RQ:
                self._store(request)
                return
            case CommandField.C_ECHO_RQ:
                verdict = self.on_echo()
            case CommandField.C_FIND_RQ if self._provides("on_find"):
                self._find(request)
                return
            case CommandField.N_ACTION_RQ if commitment and self._provides("on_storage_commit_request"):
                transaction = check_request(command.action_type_id, uid, request.dataset())
                verdict = self.on_storage_commit_request(request, *transaction)
            case CommandField.N_EVENT_REPORT_RQ if commitment and self._provides("on_commit_result"):
                verdict = self.on_commit_result(read_report(command.event_type_id, request.dataset()))
            case CommandField.N_CREATE_RQ if self._provides("on_mpps_create"):
                verdict = self.on_mpps_create(request, uid, request.dataset())
            case CommandField.N_SET_RQ if self._provides("on_mpps_set"):
                verdict = self.on_mpps_set(request, uid, request.dataset())
            case _:
                verdict, why = int(Status.SOP_CLASS_NOT_SUPPORTED), {"ErrorComment": not_provided(command)}
        if verdict is None or isinstance(verdict, bool):
            verdict = Status.PROCESSING_FAILURE if verdict is False else Status.SUCCESS
        if not request.answered:
            request.respond(verdict, **why)

    def _find(self, request: IncomingRequest) -> None:
        answers = self.on_find(request, request.dataset())
        if answers is None or isinstance(answers, int):
            request.respond(answers or Status.SUCCESS)
            return
        for match in answers:
            request.respond(Status.PENDING, encode_dataset(match, request.transfer_syntax)[0])
            request.association._look()
            if request.cancelled:
                request.respond(Status.CANCEL)
                return
        request.respond(Status.SUCCESS)
