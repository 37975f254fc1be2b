"""The storage listener's loop, what it keeps and how, and what it answers; in plain threads, as scripts use it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import CT_IMAGE, make_instance
from tests.interop.peers import wait_until

import dulcet
from dulcet import uids
from dulcet.blocking.commitment import request_commitment
from dulcet.config import AssociationConfig, Timers
from dulcet.dimse.status import Status
from dulcet.errors import AssociationRefused, StatusError
from dulcet.services.commitment import COMMITMENT_PROPOSALS, CommitmentResult
from dulcet.services.proposals import proposals
from dulcet.toolkit import Outcome, StorageListener

FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
CONFIG = AssociationConfig(timers=Timers(artim=5.0, associate=20.0, release=5.0, response=20.0))


class Listener(StorageListener):
    """Writes down what it is called back with."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, config=CONFIG, **options)
        self.calls: list[tuple[Any, ...]] = []

    def on_connection(self, calling: str, called: str, host: str) -> bool:
        self.calls.append(("connection", calling, called, host, threading.current_thread()))
        return True

    def on_store_done(self, path: Any, stored: bool) -> bool | int | None:
        self.calls.append(("done", path, stored))
        return None

    def on_timeout(self) -> None:
        self.calls.append(("timeout",))

    def on_association_end(self, cause: str) -> None:
        self.calls.append(("end", cause))

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener("RECEIVER", store_directory=tmp_path / "kept") as made:
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_instance(tmp_path / "image.dcm", 100_000, sop_class_uid=CT_IMAGE)


class Asking:
    """A user in a thread of its own; `result` is what its function gave, or raised."""

    def __init__(self, listener: StorageListener, ask: Callable[[dulcet.Association], Any], **options: Any) -> None:
        self._address = f"RECEIVER@127.0.0.1:{listener.port}"
        self._ask, self._options = ask, {"calling_ae_title": "USER", "config": CONFIG, **options}
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with dulcet.associate(self._address, **self._options) as association:
                self._value = self._ask(association)
        except BaseException as error:
            self._error = error

    def waits(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._value


def refuse(listener: StorageListener) -> AssociationRefused:
    """Somebody asks and gets no association; how it was refused."""
    asking = Asking(listener, lambda association: None)
    while asking.waits():
        assert listener.wait_for_connection(0.02) is False
    with pytest.raises(AssociationRefused) as refused:
        asking.result()
    return refused.value


def serve(listener: StorageListener, ask: Callable[[dulcet.Association], Any], **options: Any) -> Any:
    """One association from the first to the last command; what the user got."""
    asking = Asking(listener, ask, **options)
    assert listener.wait_for_connection(20)
    while listener.wait_for_command(20):
        pass
    return asking.result()


def store(image: Path) -> Callable[[dulcet.Association], Status | None]:
    return lambda association: association.store(image).status


# --- the loop -----------------------------------------------------------------------------------------------------


def test_the_loop_ends_with_the_association(listener: Listener, image: Path) -> None:
    asking = Asking(listener, lambda association: (association.echo().status, association.store(image).status))
    assert listener.wait_for_connection(20) is True
    assert listener.association is not None
    assert [listener.wait_for_command(20) for _ in range(3)] == [Outcome.COMMAND, Outcome.COMMAND, Outcome.ENDED]
    assert asking.result() == (0, 0)
    assert listener.names() == ["connection", "done", "end"]
    assert listener.calls[0][1:] == ("USER", "RECEIVER", "127.0.0.1", threading.current_thread())
    assert listener.calls[-1] == ("end", "released")
    assert listener.wait_for_command(0) is Outcome.ENDED
    (kept,) = (path for path in Path(str(listener.store_directory)).iterdir() if path.is_file())
    assert listener.calls[1][1:] == (kept, True)


def test_only_a_command_is_true() -> None:
    assert [bool(outcome) for outcome in (Outcome.COMMAND, Outcome.TIMEOUT, Outcome.ENDED, Outcome.ABORTED)] == [
        True,
        False,
        False,
        False,
    ]


def test_a_wait_without_anybody_is_false_and_the_port_stays_open(listener: Listener) -> None:
    port = listener.port
    assert listener.wait_for_connection(0.01) is False
    assert listener.wait_for_connection(0) is False
    assert listener.port == port
    assert serve(listener, lambda association: association.echo().status) == 0
    assert serve(listener, lambda association: association.echo().status) == 0


def test_a_timeout_leaves_the_association_standing(listener: Listener) -> None:
    go = threading.Event()
    asking = Asking(listener, lambda association: (go.wait(20), association.echo().status)[1])
    assert listener.wait_for_connection(20)
    assert listener.wait_for_command(0.01) is Outcome.TIMEOUT
    assert listener.calls[-1] == ("timeout",)
    go.set()
    assert listener.wait_for_command(20) is Outcome.COMMAND
    assert listener.wait_for_command(20) is Outcome.ENDED
    assert asking.result() == 0
    assert listener.names().count("timeout") == 1


def test_an_abort_is_no_end_in_order(listener: Listener) -> None:
    asking = Asking(listener, lambda association: association.abort())
    assert listener.wait_for_connection(20)
    assert listener.wait_for_command(20) is Outcome.ABORTED
    asking.result()
    assert listener.calls[-1] == ("end", "aborted")


def test_an_association_that_stands_is_aborted_by_the_next_wait(listener: Listener) -> None:
    asking = Asking(listener, lambda association: next(association.requests(), None))
    assert listener.wait_for_connection(20)
    assert listener.wait_for_connection(0) is False
    with pytest.raises(dulcet.AssociationAborted):
        asking.result()
    assert listener.calls[-1] == ("end", "aborted")


def test_on_connection_refuses_with_a_triple_of_choice(listener: Listener) -> None:
    listener.on_connection = lambda calling, called, host: False  # type: ignore[method-assign]
    for triple in ((1, 1, 1), (2, 3, 1)):
        listener.reject = triple
        refused = refuse(listener)
        assert (refused.result, refused.source, refused.reason) == triple


def test_a_callback_that_fails_refuses(listener: Listener) -> None:
    listener.on_connection = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    refuse(listener)


def test_another_title_is_refused_and_nobody_asked(listener: Listener) -> None:
    with Listener("OTHER") as other:
        assert refuse(other).reason == 7
        assert other.calls == []
    with StorageListener("", config=CONFIG) as anybody:
        assert serve(anybody, lambda association: association.echo().status) == 0


def test_nobody_who_waits_is_a_transient_refusal(tmp_path: Path) -> None:
    hasty = AssociationConfig(timers=Timers(associate=0.2))
    with StorageListener("RECEIVER", config=hasty) as listener:
        with pytest.raises(AssociationRefused) as refused:
            Asking(listener, lambda association: None).result()
        assert refused.value.transient
        assert listener.wait_for_connection(0.05) is False


def test_several_listeners_share_a_port(tmp_path: Path, image: Path) -> None:
    first = Listener("RECEIVER", store_directory=tmp_path / "0")
    listeners = [first, *(Listener("RECEIVER", first.port, store_directory=tmp_path / str(n)) for n in (1, 2))]
    assert {listener.port for listener in listeners} == {first.port}
    barrier = threading.Barrier(3)
    served: list[Listener] = []

    def work(listener: Listener) -> None:
        assert listener.wait_for_connection(20)
        barrier.wait(20)  # all three at once
        while listener.wait_for_command(20):
            served.append(listener)

    threads = [threading.Thread(target=work, args=(listener,), daemon=True) for listener in listeners]
    for thread in threads:
        thread.start()
    users = [Asking(first, store(image)) for _ in range(3)]
    assert [user.result() for user in users] == [0, 0, 0]
    for thread in threads:
        thread.join(20)
    assert len(served) == 3
    assert {id(listener) for listener in served} == {id(listener) for listener in listeners}
    first.close()
    assert serve(listeners[1], store(image)) == 0  # the port lives as long as one of them
    port = listeners[1].port
    for listener in listeners[1:]:
        listener.close()
    with pytest.raises(dulcet.PeerUnreachable):
        dulcet.associate(f"RECEIVER@127.0.0.1:{port}")


def test_closing_ends_the_wait_of_a_user(listener: Listener) -> None:
    asking = Asking(listener, lambda association: None)
    wait_until(lambda: not listener._open().hall.empty(), 20, "somebody knocks")
    listener.close()
    with pytest.raises(dulcet.AssociationError):
        asking.result()


# --- what is kept -------------------------------------------------------------------------------------------------


def test_a_path_is_asked_for_before_any_data(listener: Listener, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.dcm"
    asked: list[tuple[Any, ...]] = []

    def setup(request: dulcet.IncomingRequest) -> Path:
        asked.append((request.streams, request.sop_class_uid, request.transfer_syntax, target.exists()))
        return target

    def done(path: Any, stored: bool) -> None:
        assert path == target
        assert path.read_bytes().endswith(image.read_bytes()[-1000:])
        path.rename(tmp_path / "renamed.dcm")

    listener.on_store_setup = setup  # type: ignore[method-assign]
    listener.on_store_done = done  # type: ignore[method-assign, assignment]
    assert serve(listener, store(image)) == 0
    assert asked == [(True, CT_IMAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN, False)]
    assert pydicom.dcmread(tmp_path / "renamed.dcm").file_meta.SourceApplicationEntityTitle == "USER"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_memory_passes_into_the_callers_hands(image: Path) -> None:
    with Listener("RECEIVER", in_memory=True) as listener:
        asking = Asking(listener, lambda association: (association.store(image).status, association.echo().status))
        assert listener.wait_for_connection(20)
        assert listener.wait_for_command(20)
        taken = listener.take_stored_object()
        assert taken is not None
        assert taken.data
        assert image.read_bytes().endswith(taken.data)
        assert taken.sop_class_uid == CT_IMAGE
        assert taken.dataset().SOPInstanceUID == taken.sop_instance_uid
        assert listener.wait_for_command(20)
        assert listener.take_stored_object() is None
        assert listener.wait_for_command(20) is Outcome.ENDED
        assert asking.result() == (0, 0)
        assert ("done", None, True) in listener.calls


def test_an_empty_path_is_no_path(image: Path) -> None:
    told: list[Any] = []
    with Listener("RECEIVER", in_memory=True) as listener:
        listener.on_store_setup = lambda request: ""  # type: ignore[method-assign]
        listener.on_store_done = lambda path, stored: told.append((path, stored))  # type: ignore[method-assign]
        assert serve(listener, store(image)) == Status.SUCCESS
        assert told == [(None, True)]
        assert listener.take_stored_object()


def test_memory_is_bounded_over_all_that_was_not_taken(image: Path) -> None:
    with Listener("RECEIVER", in_memory=True, memory_limit=250_000) as listener:
        assert serve(listener, lambda association: [association.store(image).status for _ in range(3)]) == [
            0,
            0,
            Status.OUT_OF_RESOURCES,
        ]
        assert [call for call in listener.calls if call[0] == "done"][-1] == ("done", None, False)
        assert listener.take_stored_object()
        assert serve(listener, store(image)) == 0
        assert [bool(listener.take_stored_object()) for _ in range(3)] == [True, True, False]


def test_no_place_at_all_is_a_failure(image: Path, caplog: Any) -> None:
    with Listener("RECEIVER") as listener:
        assert serve(listener, store(image)) == Status.PROCESSING_FAILURE
    assert "set store_directory" in caplog.text


VERDICTS = [(True, 0x0000), (None, 0x0000), (False, 0xC000), (0xB006, 0xB006), (0xA700, 0xA700)]


@pytest.mark.parametrize(("verdict", "status"), VERDICTS)
def test_on_store_done_decides_about_what_was_stored(
    verdict: Any, status: int, listener: Listener, image: Path
) -> None:
    listener.on_store_done = lambda path, stored: verdict  # type: ignore[method-assign]
    assert serve(listener, store(image)) == status


@pytest.mark.parametrize("verdict", [True, None, False, 0, 0xB000])
def test_a_failed_write_is_never_a_success(
    verdict: Any, listener: Listener, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    told: list[tuple[Any, bool]] = []
    listener.on_store_done = lambda path, stored: (told.append((path, stored)), verdict)[1]  # type: ignore[method-assign]
    listener.next_storage_status = 0
    monkeypatch.setattr("os.writev", full)
    monkeypatch.setattr("os.write", full)
    assert serve(listener, lambda association: (association.store(image).status, association.echo().status)) == (
        Status.OUT_OF_RESOURCES,
        0,
    )
    assert told == [(None, False)]


@pytest.mark.parametrize("callback", ["on_store_setup", "on_store_done"])
def test_a_callback_that_raises_is_a_failure_and_the_association_lives(
    callback: str, listener: Listener, image: Path
) -> None:
    setattr(listener, callback, lambda *_: 1 / 0)
    answers = serve(listener, lambda association: (association.store(image).status, association.echo().status))
    assert answers == (Status.PROCESSING_FAILURE, 0)


def test_the_next_status_is_used_once(listener: Listener, image: Path) -> None:
    listener.next_storage_status = 0xB007
    assert serve(listener, lambda association: [association.store(image).status for _ in range(2)]) == [0xB007, 0]


def test_a_peer_that_dies_in_mid_object_leaves_nothing(listener: Listener, tmp_path: Path) -> None:
    large = make_instance(tmp_path / "large.dcm", 60 << 20, sop_class_uid=CT_IMAGE)
    began, gone = threading.Event(), threading.Event()

    def setup(request: object) -> Path:
        began.set()
        assert gone.wait(20)  # or all of it might have come
        return tmp_path / "never.dcm"

    listener.on_store_setup = setup  # type: ignore[assignment, method-assign]

    def die(association: dulcet.Association) -> None:
        from dulcet.io.instances import examine

        instance = examine(large)
        association._start_store(instance)
        association._flush()
        began.wait(20)
        association._transport.close()
        gone.set()
        association.ending = "closed"
        instance.close()

    asking = Asking(listener, die)
    assert listener.wait_for_connection(20)
    assert listener.wait_for_command(20) is Outcome.ABORTED
    asking.result()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.dcm"]
    assert listener.names() == ["connection", "end"]


# --- other services -----------------------------------------------------------------------------------------------


class Services(Listener):
    """Everything is provided."""

    def on_echo(self) -> int:
        return 0xB000

    def on_find(self, request: dulcet.IncomingRequest, identifier: pydicom.Dataset) -> Any:
        self.calls.append(("find", identifier.PatientID))
        if identifier.PatientID == "none":
            return None
        if identifier.PatientID == "refused":
            return 0xA700
        return self._matches()

    def _matches(self) -> Iterator[pydicom.Dataset]:
        for number in range(100):
            match = pydicom.Dataset()
            match.PatientID = str(number)
            yield match

    def on_storage_commit_request(self, request: Any, transaction_uid: str, references: Any) -> bool:
        self.calls.append(("commit", transaction_uid, len(references)))
        return True

    def on_commit_result(self, result: CommitmentResult) -> None:
        self.calls.append(("result", result.transaction_uid, result.ok))

    def on_mpps_create(self, request: Any, instance_uid: str, dataset: pydicom.Dataset) -> None:
        self.calls.append(("create", instance_uid, dataset.PatientID))

    def on_mpps_set(self, request: Any, instance_uid: str, dataset: pydicom.Dataset) -> bool:
        self.calls.append(("set", instance_uid, dataset.PatientID))
        return False


@pytest.fixture
def services() -> Iterator[Services]:
    with Services("RECEIVER") as made:
        yield made


def patient(name: str) -> pydicom.Dataset:
    made = pydicom.Dataset()
    made.PatientID = name
    return made


def test_echo_and_find(services: Services) -> None:
    def ask(association: dulcet.Association) -> Any:
        found = [match.PatientID for match in association.find(level="STUDY", PatientID="all")]
        nothing = list(association.find(level="STUDY", PatientID="none"))
        with pytest.raises(StatusError, match="A700"):
            list(association.find(level="STUDY", PatientID="refused"))
        return association.echo().status, found, nothing

    status, found, nothing = serve(services, ask)
    assert (status, found, nothing) == (0xB000, [str(number) for number in range(100)], [])


def test_a_find_can_be_cancelled(services: Services) -> None:
    def ask(association: dulcet.Association) -> str:
        matches = association.find(level="STUDY", PatientID="all")
        first = next(matches).PatientID
        matches.close()  # type: ignore[attr-defined]
        return first

    assert serve(services, ask) == "0"


def test_commitment_is_asked_for_and_reported(services: Services) -> None:
    pending = serve(
        services,
        lambda association: request_commitment(association, [(CT_IMAGE, "1.2.3")]).transaction_uid,
        contexts=COMMITMENT_PROPOSALS,
    )
    assert ("commit", pending, 1) in services.calls
    report = pydicom.Dataset()
    report.TransactionUID = pending
    report.ReferencedSOPSequence = [pydicom.Dataset()]
    report.ReferencedSOPSequence[0].ReferencedSOPClassUID = CT_IMAGE
    report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    commitment = uids.STORAGE_COMMITMENT_PUSH_MODEL
    serve(
        services,
        lambda association: association.n_event_report(
            commitment, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, 1, report
        ).check(),
        contexts=proposals((commitment,)),
    )
    assert ("result", pending, True) in services.calls


def test_a_wrong_commitment_is_refused_with_its_status(services: Services) -> None:
    commitment = uids.STORAGE_COMMITMENT_PUSH_MODEL
    status = serve(
        services,
        lambda association: association.n_action(commitment, "1.2.3", 1, patient("x")).status,
        contexts=proposals((commitment,)),
    )
    assert status == Status.NO_SUCH_INSTANCE


def test_procedure_steps(services: Services) -> None:
    def ask(association: dulcet.Association) -> Any:
        return (
            association.n_create(MPPS, "1.2.3", patient("one")).status,
            association.n_set(MPPS, "1.2.3", patient("two")).status,
        )

    assert serve(services, ask, contexts=proposals((MPPS,))) == (0, Status.PROCESSING_FAILURE)
    assert services.calls[1:3] == [("create", "1.2.3", "one"), ("set", "1.2.3", "two")]


def test_what_nobody_overrides_is_neither_accepted_nor_provided(listener: Listener) -> None:
    both = (*proposals((FIND, MPPS, uids.STORAGE_COMMITMENT_PUSH_MODEL)), *proposals((uids.VERIFICATION,)))
    assert serve(listener, lambda association: len(association.contexts), contexts=both) == 1
    policy = dulcet.AcceptancePolicy(any_class=())
    with StorageListener("RECEIVER", policy=policy, config=CONFIG) as promiscuous:
        status = serve(
            promiscuous,
            lambda association: association.n_create(MPPS, "1.2.3", patient("x")).status,
            contexts=both,
        )
    assert status == Status.SOP_CLASS_NOT_SUPPORTED


def test_callbacks_of_services_can_be_assigned(listener: Listener) -> None:
    with StorageListener("RECEIVER", config=CONFIG) as assigned:
        assigned.on_mpps_create = lambda request, uid, dataset: 1 / 0  # type: ignore
        status = serve(
            assigned,
            lambda association: (
                association.n_create(MPPS, "1.2.3", patient("x")).status,
                association.n_create(MPPS, "1.2.3", patient("x")).status,
            ),
            contexts=proposals((MPPS,)),
        )
    assert status == (Status.PROCESSING_FAILURE, Status.PROCESSING_FAILURE)
