"""The storage listener: wait for a connection, wait for commands, in a plain loop; callbacks in the loop's own thread.

    listener = StorageListener("RECEIVER", 11112, store_directory="incoming")
    while listener.wait_for_connection(60):
        while listener.wait_for_command(30):
            pass

Rules: one association at a time for each listener; several listeners, each in a thread of its own, share a port.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self

from dulcet import uids
from dulcet.blocking.association import Association
from dulcet.blocking.greeting import Answer, Greeter, Parted
from dulcet.blocking.guest import Guest
from dulcet.blocking.listener import Listener
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.serving import serve_until
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import FAILED, not_provided
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout, ReceiveError, StatusError
from dulcet.log_codes import coded
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.commitment import CommitmentResult, Reference, check_request, read_report
from dulcet.services.identifiers import encode_dataset
from dulcet.services.models import MODELS
from dulcet.services.refusals import Refused
from dulcet.toolkit.keeping import Keeper
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.pdu import AssociateRQ

if TYPE_CHECKING:
    import socket
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.io.sharing import SharedPort
    from dulcet.io.tls import TLSConfig

__all__ = ["Outcome", "StorageListener"]

log: Final = logging.getLogger("dulcet.toolkit")

UNANSWERED: Final = (2, 3, 1)
"""Transient, temporary congestion: nobody waited for a connection in time."""
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


class StorageListener(Keeper):
    """Waits for one association after the other, and answers what is asked on it; a context manager."""

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
        """An empty `ae_title` answers to any; port 0 takes a free one with the first wait, `port` tells which.

        `policy` says what is accepted, by default storage, verification, and what callbacks are overridden for.
        `reject` answers those whom `on_connection` refuses.  `tls` secures the port.  `keeping` is as for `Keeper`.
        """
        super().__init__(**keeping)
        self.ae_title = ae_title
        self.host = host
        self.config: AssociationConfig = config or AssociationConfig()
        self.reject = reject
        self._tls = tls
        self._port = port
        self._policy = policy
        self._doorman: _Doorman | None = None
        self._association: Association | None = None
        self._served = False

    # ------------------------------------------------------------------ the loop

    @property
    def port(self) -> int:
        """Where it listens; starts to do so."""
        return self._open().address.port

    @property
    def association(self) -> Association | None:
        """The one that stands."""
        return self._association

    def wait_for_connection(self, timeout: float | None = None) -> bool:
        """Wait for an association and accept it; False when `timeout` seconds passed without one.

        It listens on between calls; whoever comes then waits.  An association that still stands is aborted first.
        """
        self._leave()
        deadline = None if timeout is None else time.monotonic() + timeout
        doorman = self._open()
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                knock = doorman.knocks.get(timeout=left)
            except queue.Empty:
                return False
            association = self._greet(knock)
            if association is not None:
                association.handler = self._handle
                self._association = association
                return True

    def wait_for_command(self, timeout: float | None = None) -> Outcome:
        """Wait for a command and answer it; the outcome is true only then."""
        association = self._association
        if association is None:
            return Outcome.ENDED
        self._served = False
        try:
            if serve_until(association, lambda: self._served, timeout):
                return Outcome.COMMAND
        except (AssociationError, DimseTimeout) as error:
            log.info("%s", error, extra=coded("DUL120"))
            self._association = None
            self.on_association_end(association.ending or "closed")
            return Outcome.ENDED if association.ending == "released" else Outcome.ABORTED
        self.on_timeout()
        return Outcome.TIMEOUT

    def close(self) -> None:
        """Abort what stands and listen no more, unless others share the port."""
        self._leave()
        if self._doorman is not None:
            self._doorman.leave()
            self._doorman = None
        with self._lock:
            self._close_folder()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ callbacks

    def on_connection(self, calling: str, called: str, host: str) -> bool:
        """Somebody wants an association; False refuses."""
        return True

    def on_timeout(self) -> None:
        """A wait for a command expired, and the association stands."""

    def on_association_end(self, cause: str) -> None:
        """The association is over: "released", "aborted", "closed" or "timeout"."""

    def on_echo(self) -> bool | int | None:
        """C-ECHO; None and True answer 0000H, False 0110H, a number itself.  So do the callbacks below."""

    def on_find(self, request: IncomingRequest, identifier: Dataset) -> Iterable[Dataset] | int | None:
        """C-FIND: the matches, or a status."""

    def on_storage_commit_request(
        self, request: IncomingRequest, transaction_uid: str, references: tuple[Reference, ...]
    ) -> bool | int | None:
        """Somebody asks to keep instances; to report the result is the application's (`association.n_event_report`)."""

    def on_commit_result(self, result: CommitmentResult) -> bool | int | None:
        """What became of a request of ours."""

    def on_mpps_create(self, request: IncomingRequest, instance_uid: str, dataset: Dataset) -> bool | int | None:
        """A procedure step begins."""

    def on_mpps_set(self, request: IncomingRequest, instance_uid: str, dataset: Dataset) -> bool | int | None:
        """A procedure step goes on or ends."""

    # ------------------------------------------------------------------ connections

    def _open(self) -> _Doorman:
        if self._doorman is None:
            self._doorman = _Doorman.at(Address(self.ae_title or "ANY", self.host, self._port, self._tls), self.config)
            self._port = self._doorman.address.port
        return self._doorman

    def _leave(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()
            self.on_association_end(association.ending or "aborted")

    def _greet(self, knock: _Knock) -> Association | None:
        request = knock.request
        answer = self._accepted().decide(request, self.config)
        if not isinstance(answer, tuple):
            try:
                welcome = self.on_connection(request.calling, request.called, knock.host)
            except Exception:
                log.exception("%s: on_connection failed", knock.host, extra=coded("DUL203"))
                welcome = False
            if not welcome:
                answer = self.reject
        return knock.say(answer)

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
            if request.association.ending is not None:
                raise
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


class _Knock:
    """Somebody who wants an association, and waits to hear whether it gets one."""

    def __init__(self, request: AssociateRQ, host: str, seconds: float) -> None:
        self.request = request
        self.host = host
        self.answer: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.association: queue.SimpleQueue[Association | None] = queue.SimpleQueue()
        self._seconds = seconds

    def say(self, answer: Answer) -> Association | None:
        """Accept or reject; the association, None where there is none."""
        self.answer.put(answer)
        with contextlib.suppress(queue.Empty):
            return self.association.get(timeout=self._seconds)
        return None


class _Doorman(Listener):
    """Listens on a port for all storage listeners there, and has whoever waits first decide about who comes."""

    _all: Final[dict[tuple[str, int], _Doorman]] = {}
    _one_at_a_time: Final = threading.Lock()

    def __init__(self, address: Address, config: AssociationConfig) -> None:
        self.knocks: queue.SimpleQueue[_Knock] = queue.SimpleQueue()
        self.knocking: dict[Guest, _Knock] = {}
        self._users = 0
        super().__init__(address, policy=AcceptancePolicy(judge=lambda request: None), config=config)

    @classmethod
    def at(cls, address: Address, config: AssociationConfig) -> _Doorman:
        """The one who listens there, if need be from now on."""
        with cls._one_at_a_time:
            found = cls._all.get((address.host, address.port)) or cls(address, config)
            cls._all[address.host, found.address.port] = found
            found._users += 1
            return found

    def leave(self) -> None:
        """One user less; the last one ends it."""
        with self._one_at_a_time:
            self._users -= 1
            if self._users:
                return
            del self._all[self.address.host, self.address.port]
        for knock in list(self.knocking.values()):
            knock.answer.put(UNANSWERED)
        self.close()

    def _greeter_for(
        self, sockets: Sequence[socket.socket], shared: SharedPort | None, parted: Parted | None
    ) -> Greeter:
        greeter = _Asking(sockets, self._admission, self._established.put, tls=self.tls, shared=shared, parted=parted)
        greeter.door = self
        return greeter


class _Asking(Greeter):
    """The thread that greets at a door where somebody else decides about each association, and gets it."""

    door: _Doorman

    def _decide(self, guest: Guest, request: AssociateRQ) -> Answer:
        seconds = self._config.timers.associate
        knock = self.door.knocking[guest] = _Knock(request, guest.host, seconds)
        self.door.knocks.put(knock)
        with contextlib.suppress(queue.Empty):
            return knock.answer.get(timeout=seconds)
        return UNANSWERED

    def _say(self, guest: Guest, answer: Answer) -> None:
        super()._say(guest, answer)
        if not guest.counted:
            self.door.knocking.pop(guest).association.put(None)

    def _hand_out(self, guest: Guest) -> None:
        super()._hand_out(guest)
        self.door.knocking.pop(guest).association.put(self.door._established.get_nowait())

    def _dismiss(self, guest: Guest) -> None:
        super()._dismiss(guest)
        knock = self.door.knocking.pop(guest, None)
        if knock is not None:
            knock.association.put(None)
