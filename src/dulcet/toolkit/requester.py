"""The requester: one call, one association, one answer; events tell what happens on the way."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.blocking.association import Association, associate
from dulcet.blocking.commitment import request_commitment
from dulcet.blocking.requests import IncomingRequest
from dulcet.blocking.sending import StoreMany
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import AssociationError, DimseTimeout
from dulcet.log_codes import coded
from dulcet.services.commitment import COMMITMENT_PROPOSALS, CommitmentResult
from dulcet.services.proposals import proposals
from dulcet.services.results import Response, Retrieved, Sent
from dulcet.services.termination import without
from dulcet.toolkit.storage_handler import StorageHandler
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.negotiation import Proposal

if TYPE_CHECKING:
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.io.tls import TLSConfig
    from dulcet.services.print_management import PrinterStatus, PrintEvent

__all__ = ["Delivery", "Requester"]

log: Final = logging.getLogger("dulcet.toolkit")


@dataclass(slots=True)
class Delivery:
    """What became of files that were sent: those in `succeeded` the peer has, those in `failed` it has not."""

    succeeded: list[Sent] = field(default_factory=list)
    failed: list[Sent] = field(default_factory=list)


class Requester(StorageHandler):
    """Asks the peer at `AET@host:port`; instances that come back are kept as a storage listener keeps them.

    Each call makes an association and releases it.  It raises what `dulcet.associate` raises where no association can
    be made, such as PeerUnreachable and AssociationRefused; NoPresentationContext where the peer did not accept the SOP
    class; LocalProtocolError or ValueError for what cannot be asked; and DimseTimeout, AssociationAborted or
    AssociationClosed where the association ends before the answer.

        requester = Requester("ARCHIVE@127.0.0.1:11112", store_directory="incoming")
        requester.get(StudyInstanceUID="1.2.3.4")
    """

    def __init__(
        self,
        address: str | Address,
        calling_ae_title: str = "REQUESTER",
        *,
        association_timeout: float = 30.0,
        command_timeout: float = 120.0,
        config: AssociationConfig | None = None,
        tls: TLSConfig | SSLContext | None = None,
        **keeping: Any,
    ) -> None:
        """Nothing is asked yet; the first call does.

        * `address`: the peer, as `AET@host:port` or an `Address`; AddressError for what is neither.
        * `calling_ae_title`: how we call ourselves, up to 16 characters.
        * `association_timeout`: seconds for each of connecting, negotiating and releasing.
        * `command_timeout`: seconds that the wait for each response may take.
        * `config`: lengths, operations windows and the other timers; AssociationConfig() if None.
        * `tls`: a `TLSConfig` or an `ssl.SSLContext` that secures the connections; None takes that of `address`.
        * `keeping`: where `get` and `move_and_store` put instances that `on_store_setup` names no path for:
          `store_directory`, a folder; or `in_memory=True` for `take_stored_object`, with a `memory_limit` in bytes of
          all that nobody has taken (256 MiB; one more is answered A700H).
        """
        super().__init__(**keeping)
        self.address: Address = Address.parse(address, tls)
        self.calling_ae_title = calling_ae_title
        self.association_timeout = association_timeout
        self.command_timeout = command_timeout
        self._config = config or AssociationConfig()

    @property
    def config(self) -> AssociationConfig:
        """With the two timeouts in their places."""
        seconds = self.association_timeout
        timers = replace(self._config.timers, connect=seconds, associate=seconds, release=seconds)
        return replace(self._config, timers=replace(timers, response=self.command_timeout))

    def close(self) -> None:
        """Give up the store directory."""
        with self._lock:
            self._close_folder()

    # ------------------------------------------------------------------ events

    def on_file_sent(self, sent: Sent) -> None:
        """One file was answered, or could not be sent: `sent` says which, with status or error."""

    def on_query_response(self, match: Dataset) -> None:
        """A `match` of a `query` came."""

    def on_move_response(self, status: Status, remaining: int, completed: int, failed: int, warning: int) -> None:
        """A C-MOVE-RSP came, the last one included, with its `status`.

        `remaining`, `completed`, `failed` and `warning` count sub-operations (PS3.7 section 9.1.4.1); where a response
        leaves the last three out, they are those of the one before.
        """

    def on_get_response(self, status: Status, remaining: int, completed: int, failed: int, warning: int) -> None:
        """A C-GET-RSP came, the last one included: `status`, and how many sub-operations are `remaining`, and were
        `completed`, `failed` or done with a `warning`; as for `on_move_response`.
        """

    # ------------------------------------------------------------------ calls

    def echo(self) -> Status:
        """C-ECHO (PS3.7 section 9.1.5): the status that the peer answers, 0000H where all is well."""
        with self._asking(proposals((uids.VERIFICATION,))) as association:
            return association.echo().status

    def send(self, files: Any) -> Delivery:
        """C-STORE of files, folders, data sets or bytes, each in its own transfer syntax where the peer takes it.

        `files` is one of these or an iterable of them; a folder is walked.  What cannot be sent, and what stays
        unanswered where an association ends, is among the failed ones with its `error`; only where the very first
        association cannot be made is its error raised.  TypeError for what is none of these.
        """
        delivery = Delivery()
        job = StoreMany(self.address, calling_ae_title=self.calling_ae_title, config=self.config)
        for sent in job.run(files):
            (delivery.succeeded if sent.ok else delivery.failed).append(sent)
            self.on_file_sent(sent)
        return delivery

    def query(
        self, identifier: Dataset | None = None, *, level: str | None = None, model: str | None = None, **keys: Any
    ) -> list[Dataset]:
        """C-FIND (PS3.4 C.4.1): all matches, in the order of their coming; each was told to `on_query_response`.

        * `identifier`: a data set with the keys; None takes `keys` alone.
        * `level`: PATIENT, STUDY, SERIES or IMAGE; None is that of `identifier`, else STUDY.
        * `model`: a name of `dulcet.services.models.MODELS`; None chooses one that the peer accepted.
        * `keys`: keywords with values to match, None or "" to be returned; they go before those of `identifier`.
          `limit` is how many matches are taken before the rest is cancelled, `priority` a `Priority`.

        `query(PatientName="DOE*", StudyDate="20260101-", StudyInstanceUID=None)`.  Raises StatusError when it ends with
        anything but success, and ReceiveError, once all came, when there were matches that do not decode.
        """
        matches: list[Dataset] = []
        with self._asking() as association:
            for match in association.find(identifier, level=level, model=model, **keys):
                matches.append(match)
                self.on_query_response(match)
        return matches

    def move(self, destination: str, identifier: Dataset | None = None, **keys: Any) -> Retrieved:
        """C-MOVE (PS3.4 C.4.2): the peer sends the instances to the AE title `destination`, which it has to know.

        `identifier` and `keys` say what, as for `query`: `move("WORKSTATION", StudyInstanceUID="1.2.3.4")`; a match of
        `query` can be given as it is.  `keys` may hold `level`, `model` and `priority` too.  What the peer answered is
        in the result and never raised: look at `status`, `failed` and `failed_uids`.
        """
        with self._asking() as association:
            result = association.move(identifier, destination=destination, progress=self._moved, **keys)
        self._moved(result)
        return result

    def move_and_store(self, listen: str | Address, identifier: Dataset | None = None, **keys: Any) -> Retrieved:
        """C-MOVE to ourselves: `listen` is where we do so, as `AET@host:port`, before anything is asked.

        The peer has to know that AE title, and under it this host and port.  `identifier` and `keys` as for `move`.
        Threads of their own take what comes, so `on_store_setup` and `on_store_done` are called in these.  Raises
        AddressError for a `listen` that reads otherwise, OSError where nobody can listen there.
        """
        here = Address.parse(listen)
        with self._asking() as association:
            result = association.move(
                identifier, destination=here.ae_title, receive=here, to=self._take, progress=self._moved, **keys
            )
        self._moved(result)
        return result

    def get(self, identifier: Dataset | None = None, **keys: Any) -> Retrieved:
        """C-GET (PS3.4 C.4.3): what is asked for comes on the same association.

        `identifier`, `keys` and the result are as for `move`; `on_store_setup` and `on_store_done` are called for each
        instance.
        """
        with self._asking() as association:
            result = association.get(identifier, to=self._take, progress=self._got, **keys)
        self._got(result)
        return result

    def commit(self, instances: Iterable[Any], timeout: float | None = None) -> CommitmentResult | None:
        """Ask for storage commitment (PS3.4 Annex J); the result, or None when none came on this association in time.

        It may come later on an association that the peer makes: to `StorageListener.on_commit_result`.

        * `instances`: paths, data sets, `send(…).succeeded`, or pairs of SOP class and SOP instance UID; at least one.
        * `timeout`: seconds to wait here for the result; None is `command_timeout`, 0.0 does not wait.

        Raises StatusError when the peer refuses, InstanceError for a file that cannot be read, ValueError without any
        instance.
        """
        with self._asking(COMMITMENT_PROPOSALS) as association:
            pending = request_commitment(association, instances)
            return pending.wait(self.command_timeout if timeout is None else timeout)

    def mpps_create(self, dataset: Dataset, instance_uid: str | None = None) -> Response:
        """N-CREATE of a modality performed procedure step (PS3.4 F.7.2.1); `dataset` holds its attributes.

        `instance_uid` None has the peer make one, which the response names; see `n_create`.
        """
        return self.n_create(uids.MODALITY_PERFORMED_PROCEDURE_STEP, instance_uid, dataset)

    def mpps_set(self, instance_uid: str, dataset: Dataset) -> Response:
        """N-SET of the modality performed procedure step `instance_uid` (PS3.4 F.7.2.2): `dataset` holds what changes.

        `.check()` of the response raises StatusError for a failure.
        """
        with self._asking(proposals((uids.MODALITY_PERFORMED_PROCEDURE_STEP,))) as association:
            return association.n_set(uids.MODALITY_PERFORMED_PROCEDURE_STEP, instance_uid, dataset)

    def n_create(self, sop_class_uid: str, instance_uid: str | None = None, dataset: Dataset | None = None) -> Response:
        """N-CREATE (PS3.7 section 10.1.5) of an instance of the class `sop_class_uid` with what `dataset` holds.

        `instance_uid` None has the peer make one: `affected_sop_instance_uid` of the response's command.  `dataset`
        None sends none.  The status is not raised; `.check()` of the response does that.
        """
        with self._asking(proposals((sop_class_uid,))) as association:
            return association.n_create(sop_class_uid, instance_uid, dataset)

    def n_get(self, sop_class_uid: str, instance_uid: str, attributes: Sequence[str | int] = ()) -> Response:
        """N-GET (PS3.7 section 10.1.2) of `attributes`, keywords or tags; none of them asks for all.

        `instance_uid` is an instance of the class `sop_class_uid`; `.dataset()` of the response has the values.
        ValueError for what is no keyword.
        """
        with self._asking(proposals((sop_class_uid,))) as association:
            return association.n_get(sop_class_uid, instance_uid, attributes)

    def n_set(self, sop_class_uid: str, instance_uid: str, dataset: Dataset) -> Response:
        """N-SET (PS3.7 section 10.1.3): `dataset` holds what changes in `instance_uid` of the class `sop_class_uid`."""
        with self._asking(proposals((sop_class_uid,))) as association:
            return association.n_set(sop_class_uid, instance_uid, dataset)

    def n_action(
        self, sop_class_uid: str, instance_uid: str, action_type: int, dataset: Dataset | None = None
    ) -> Response:
        """N-ACTION (PS3.7 section 10.1.4): action `action_type`, a number that the class `sop_class_uid` defines, on
        its instance `instance_uid`; `dataset` is the action information, None where there is none.
        """
        with self._asking(proposals((sop_class_uid,))) as association:
            return association.n_action(sop_class_uid, instance_uid, action_type, dataset)

    def n_delete(self, sop_class_uid: str, instance_uid: str) -> Response:
        """N-DELETE (PS3.7 section 10.1.6) of `instance_uid` of the class `sop_class_uid`."""
        with self._asking(proposals((sop_class_uid,))) as association:
            return association.n_delete(sop_class_uid, instance_uid)

    def printer_status(self) -> PrinterStatus:
        """What the printer says of itself (PS3.4 H.4.6); StatusError when it does not answer that."""
        from dulcet.blocking.printing import printer_status
        from dulcet.services.print_management import PRINT_PROPOSALS

        with self._asking(PRINT_PROPOSALS) as association:
            return printer_status(association)

    def print(
        self,
        images: Sequence[Dataset],
        display_format: str | None = None,
        *,
        film: Mapping[str, Any] | None = None,
        timeout: float = 0.0,
        **session: Any,
    ) -> list[PrintEvent]:
        """Grayscale print of one film (PS3.4 Annex H): each image in its own place, in their order.

        `images` are made by `dulcet.services.print_management.grayscale_image`.  `display_format` is Image Display
        Format, by default one column.  `film` and `session` are options of `FilmSession.film` and `FilmSession`.  With
        a `timeout`, in seconds, the printer's word that its jobs are done is waited for; the events that came.
        Raises StatusError for what the printer refuses.
        """
        from dulcet.blocking.printing import FilmSession
        from dulcet.services.print_management import PRINT_PROPOSALS

        with self._asking(PRINT_PROPOSALS) as association, FilmSession(association, **session) as made:
            box = made.film(display_format or f"STANDARD\\1,{len(images)}", **(film or {}))
            for position, image in enumerate(images, 1):
                box.place(position, image)
            box.print()
            if timeout:
                made.wait(timeout)
            return made.events

    # ------------------------------------------------------------------ how

    @contextlib.contextmanager
    def _asking(self, contexts: Sequence[Proposal] | None = None) -> Iterator[Association]:
        """An association for one call; what was answered counts, however the peer takes the release."""
        association = associate(
            self.address, calling_ae_title=self.calling_ae_title, contexts=contexts, config=self.config
        )
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        try:
            association.release()
        except (AssociationError, DimseTimeout) as error:
            log.warning(
                "%s: all was answered, but: %s", association.peer, without(association.peer, error),
                extra=coded("DUL115"),
            )  # fmt: skip

    def _take(self, request: IncomingRequest) -> None:
        if request.field == CommandField.C_STORE_RQ:
            self._store(request)
        elif request.field == CommandField.C_ECHO_RQ:
            request.respond(Status.SUCCESS)
        else:
            request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))

    def _moved(self, result: Retrieved) -> None:
        self.on_move_response(*_counters(result))

    def _got(self, result: Retrieved) -> None:
        self.on_get_response(*_counters(result))


def _counters(result: Retrieved) -> tuple[Status, int, int, int, int]:
    return result.status, result.remaining, result.completed, result.failed, result.warning
