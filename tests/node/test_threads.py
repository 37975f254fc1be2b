"""A node with a thread for each association: streams, windows, cancels, and faults that cost one request alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from tests.interop.peers import accepts, free_port
from tests.node.hosting import (
    CT,
    EXPLICIT,
    MR,
    PATIENCE,
    STUDY_FIND,
    STUDY_GET,
    calling,
    instance,
    match,
    serving,
    wait_until,
    wait_until_still,
)

import dulcet
from dulcet import Node, Status, uids
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.trace_events import MessageReceived
from dulcet.errors import AssociationAborted, AssociationError, StatusError
from dulcet.node.requests import FindRequest, NormalizedRequest, Request, StoreRequest
from dulcet.services.identifiers import encode_dataset
from dulcet.services.invocations import Invocation
from dulcet.upper_layer.negotiation import Proposal

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
WINDOWS = pytest.mark.parametrize("window", [1, 8])
"""The handler in the association's own thread, or in one of the pool."""


def finding(handler: Any) -> Node:
    node = Node("NODE")
    node.on_find(handler)
    return node


# --- C-FIND streams --------------------------------------------------------------------------------------------------


@WINDOWS
def test_answers_come_while_the_handler_is_still_looking(window: int) -> None:
    proceed = threading.Event()

    def handler(request: FindRequest) -> Iterator[Dataset]:
        yield match(1)
        assert proceed.wait(PATIENCE)
        yield match(2)

    with serving(finding(handler)) as server, calling(server, STUDY_FIND, window=window) as association:
        matches = association.find(level="STUDY", StudyInstanceUID="")
        assert next(matches).StudyInstanceUID == "1.2.1"
        proceed.set()
        assert [found.StudyInstanceUID for found in matches] == ["1.2.2"]


@WINDOWS
def test_a_reader_who_is_slow_slows_the_handler_down(window: int) -> None:
    big = match(0)
    big.add_new(0x00420011, "OB", b"\0" * 200_000)
    encoded = encode_dataset(big, EXPLICIT)[0]
    given: list[int] = []

    def handler(request: FindRequest) -> Iterator[bytes]:
        for number in range(400):
            given.append(number)
            yield encoded

    with serving(finding(handler)) as server, calling(server, STUDY_FIND, window=window) as association:
        matches = association.find(level="STUDY", StudyInstanceUID="")
        next(matches)
        stuck = wait_until_still(lambda: len(given))
        assert stuck < 150, "80 MB, most of them in our memory"
        assert sum(1 for _ in matches) == 399
        assert len(given) == 400


@WINDOWS
def test_who_leaves_early_cancels_and_the_generator_is_closed(window: int) -> None:
    closed, statuses = threading.Event(), []

    def handler(request: FindRequest) -> Iterator[Dataset]:
        try:
            number = 0
            while True:
                number += 1
                yield match(number)
        finally:
            closed.set()

    def watch(trace_event: Any, association: Any) -> None:
        if isinstance(trace_event, MessageReceived):
            statuses.append(trace_event.command.status)

    config = dulcet.AssociationConfig(window_invoked=window, observers=(watch,))
    with serving(finding(handler)) as server, calling(server, STUDY_FIND, config=config) as association:
        matches = association.find(level="STUDY", StudyInstanceUID="")
        for _ in range(3):
            next(matches)
        matches.close()  # type: ignore[attr-defined]
        assert closed.wait(PATIENCE)
        assert statuses[-1] == 0xFE00
        assert set(statuses[:-1]) == {0xFF00}
        assert association.is_established
        assert next(association.find(level="STUDY", StudyInstanceUID="")).StudyInstanceUID == "1.2.1"


@WINDOWS
def test_a_find_that_fails_raises_after_what_came(window: int) -> None:
    def handler(request: FindRequest) -> Iterator[Any]:
        yield match(1)
        yield Status.OUT_OF_RESOURCES

    with serving(finding(handler)) as server, calling(server, STUDY_FIND, window=window) as association:
        matches = association.find(level="STUDY", StudyInstanceUID="")
        next(matches)
        with pytest.raises(StatusError) as caught:
            next(matches)
        assert caught.value.status == 0xA700
        with pytest.raises(StatusError):
            list(association.find(level="STUDY", StudyInstanceUID=""))


@WINDOWS
def test_a_peer_that_goes_away_while_answers_are_queued_ends_the_generator_alone(window: int) -> None:
    closed = threading.Event()

    def handler(request: FindRequest) -> Iterator[Dataset]:
        try:
            while True:
                yield match(1)
        finally:
            closed.set()

    with serving(finding(handler)) as server:
        association = calling(server, STUDY_FIND, window=window)
        next(association.find(level="STUDY", StudyInstanceUID=""))
        association.abort()
        assert closed.wait(PATIENCE)
        with calling(server, STUDY_FIND) as another:
            assert next(another.find(level="STUDY", StudyInstanceUID="")).StudyInstanceUID == "1.2.1"


# --- faults cost a request, not the association ----------------------------------------------------------------------


def raw(association: dulcet.Association, field: CommandField, sop_class: str, data: bytes, **elements: Any) -> int:
    """The status of a request whose data set is these bytes."""
    context = association._core.need_context(sop_class)
    command = Command.make(field, validate=False, data_set=True, AffectedSOPClassUID=sop_class, **elements)
    return int(association._ask(Invocation(context, command, data)).status)


@WINDOWS
def test_an_identifier_that_does_not_decode_is_c000h_and_the_association_lives_on(window: int) -> None:
    with serving(finding(lambda request: [match(1)])) as server, calling(server, STUDY_FIND, window=window) as one:
        assert raw(one, CommandField.C_FIND_RQ, STUDY_FIND, b"\x08\0\x52\0CS\xff\xff", Priority=0) == 0xC000
        assert len(list(one.find(level="STUDY", StudyInstanceUID=""))) == 1


@WINDOWS
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RuntimeError("boom"), 0xC000),
        (StatusError("no", 0xA900), 0xA900),
        (dulcet.AssociationRefused(1, 1, 1), 0xC000),
        ("nonsense", 0xC000),
        (dulcet.Answer(0xFF00, match(1), Bogus=1), 0xC000),
    ],
)
def test_a_fault_of_a_handler_is_a_status_and_the_association_lives_on(window: int, fault: Any, status: int) -> None:
    good = False

    def handler(request: FindRequest) -> Any:
        if good:
            return [match(1)]
        if isinstance(fault, Exception):
            raise fault
        return fault

    with serving(finding(handler)) as server, calling(server, STUDY_FIND, uids.VERIFICATION, window=window) as one:
        for _ in range(2):
            with pytest.raises(StatusError) as caught:
                list(one.find(level="STUDY", StudyInstanceUID=""))
            assert caught.value.status == status
        good = True
        assert len(list(one.find(level="STUDY", StudyInstanceUID=""))) == 1
        one.echo().check()


@WINDOWS
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_ends_the_thread_ends_its_association_and_no_other(window: int) -> None:
    def handler(request: Request) -> None:
        raise SystemExit

    node = Node("NODE")
    node.on_find(lambda request: [match(1)])
    node.on_echo(handler)
    with serving(node) as server, calling(server, STUDY_FIND) as other:
        one = calling(server, uids.VERIFICATION, window=window)
        with pytest.raises(AssociationError):
            one.echo()
        assert len(list(other.find(level="STUDY", StudyInstanceUID=""))) == 1


def test_what_nobody_provides_is_0122h_and_the_association_lives_on() -> None:
    node = Node("NODE")
    node.on_n_create(lambda request: None, classes=[MPPS])
    with serving(node) as server, calling(server, MPPS, uids.VERIFICATION) as association:
        assert association.n_set(MPPS, "1.2", instance("1.2")).status == 0x0122
        association.echo().check()


# --- C-STORE ---------------------------------------------------------------------------------------------------------


@WINDOWS
def test_what_a_handler_refuses_is_removed_and_the_rest_is_kept(window: int, tmp_path: Path) -> None:
    node = Node("NODE", store_to=tmp_path, durability="none")

    @node.on_store
    def keep(request: StoreRequest) -> Status:
        assert request.path.is_file()
        return Status.SUCCESS if request.sop_instance_uid.endswith("1") else Status.OUT_OF_RESOURCES

    with serving(node) as server, calling(server, CT, window=window) as association:
        sent = list(association.store_many([instance("1.2.1"), instance("1.2.2")], window=window))
    assert {found.sop_instance_uid: found.status for found in sent} == {"1.2.1": 0, "1.2.2": 0xA700}
    assert [path.name for path in tmp_path.rglob("*.dcm")] == ["1.2.1.dcm"]


@WINDOWS
def test_what_is_larger_than_the_memory_is_a700h_and_read_to_its_end(window: int) -> None:
    stored: list[int] = []
    node = Node("NODE", memory_limit=10_000)
    node.on_store(lambda request: stored.append(len(request.data)))
    with serving(node) as server, calling(server, CT, window=window) as association:
        assert association.store(instance("1.2.1", size=1_000_000)).status == 0xA700
        assert association.store(instance("1.2.2", size=1_000)).status == 0
    assert len(stored) == 1


# --- the operations window -------------------------------------------------------------------------------------------


def test_stores_run_at_once_and_end_out_of_order() -> None:
    others, order = threading.Event(), []
    node = Node("NODE")

    @node.on_store
    def keep(request: StoreRequest) -> None:
        if request.sop_instance_uid == "1.2.0":
            assert others.wait(PATIENCE)

    with serving(node) as server, calling(server, CT, window=8) as association:
        assert association.window.invoked == 8
        for sent in association.store_many([instance(f"1.2.{number}") for number in range(8)], window=8):
            sent.check()
            order.append(sent.sop_instance_uid)
            if len(order) == 7:
                others.set()
    assert order[-1] == "1.2.0"
    assert sorted(order) == [f"1.2.{number}" for number in range(8)]


def test_different_operations_run_at_once() -> None:
    echoed = threading.Event()
    node = Node("NODE")

    @node.on_find
    def find(request: FindRequest) -> Iterator[Dataset]:
        yield match(1)
        assert echoed.wait(PATIENCE)
        yield match(2)

    node.on_echo(lambda request: echoed.set())
    with serving(node) as server, calling(server, STUDY_FIND, uids.VERIFICATION, window=4) as association:
        matches = association.find(level="STUDY", StudyInstanceUID="")
        next(matches)
        association.echo().check()
        assert [found.StudyInstanceUID for found in matches] == ["1.2.2"]


def test_a_peer_that_may_send_any_number_is_bounded_by_ourselves() -> None:
    running, most = threading.Semaphore(0), []
    lock, release = threading.Lock(), threading.Event()
    node = Node("NODE")

    @node.on_store
    def keep(request: StoreRequest) -> None:
        with lock:
            most.append(request.sop_instance_uid)
        running.release()
        assert release.wait(PATIENCE)

    sent: list[Any] = []
    with serving(node) as server, calling(server, CT, window=0) as association:
        assert association.window.invoked == 8, "the policy's number where the peer would take any"

        def send() -> None:
            sent.extend(association.store_many([instance(f"1.2.{number}") for number in range(20)], window=0))

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(8):
            assert running.acquire(timeout=PATIENCE)
        assert wait_until_still(lambda: len(most), 0.2) == 8
        release.set()
        sender.join(PATIENCE)
    assert [found.status for found in sent] == [0] * 20


def test_a_slow_association_takes_no_threads_of_another() -> None:
    release = threading.Event()
    node = Node("NODE")
    node.on_store(lambda request: release.wait(PATIENCE) and None, classes=[CT])
    node.on_store(lambda request: None, classes=[MR])
    with serving(node) as server, contextlib.ExitStack() as stack:
        threads = []
        for _ in range(4):
            slow = stack.enter_context(calling(server, CT, window=8))
            work = [instance(f"1.2.{number}") for number in range(8)]
            threads.append(threading.Thread(target=lambda slow=slow, work=work: list(slow.store_many(work))))
            threads[-1].start()
        with calling(server, MR, window=8) as quick:
            assert quick.store(instance("1.3", MR)).status == 0
        release.set()
        for thread in threads:
            thread.join(PATIENCE)
    wait_until(lambda: not _pool_threads(), "its threads have ended")


def _pool_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dulcet-node")]


def test_the_threads_of_an_association_that_is_over_end_with_the_next_one_at_the_latest() -> None:
    with serving(Node("NODE")) as server:
        for _ in range(6):
            with calling(server, uids.VERIFICATION, window=8) as association:
                for _ in range(3):
                    association.echo().check()
            wait_until(lambda: server._receiver.listener.count == 0, "the association is over")
        wait_until(lambda: len(_pool_threads()) <= 3, "the threads of the first five have ended")
    wait_until(lambda: not _pool_threads(), "its threads have ended")


def test_an_association_that_ends_while_a_handler_works_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    working, release, done = threading.Event(), threading.Event(), threading.Event()
    node = Node("NODE")

    @node.on_echo
    def slow(request: Request) -> None:
        working.set()
        assert release.wait(PATIENCE)
        done.set()

    caplog.set_level(logging.WARNING, "dulcet.node")
    with serving(node) as server:
        association = calling(server, uids.VERIFICATION, window=4)
        caller = threading.Thread(target=_echo, args=(association,))
        caller.start()
        assert working.wait(PATIENCE)
        association.interrupt()
        caller.join(PATIENCE)
        wait_until(lambda: server._receiver.listener.count == 0, "the node has noticed")
        release.set()
        assert done.wait(PATIENCE)
    wait_until(lambda: not _pool_threads(), "its thread has ended")
    assert [record.message for record in caplog.records if record.name == "dulcet.node"] == []


def _echo(association: dulcet.Association) -> None:
    with contextlib.suppress(AssociationError):
        association.echo()


# --- N-services ------------------------------------------------------------------------------------------------------


@WINDOWS
def test_a_normalized_request_and_its_answer(window: int) -> None:
    node = Node("NODE")

    @node.on_n_action(classes=[uids.STORAGE_COMMITMENT_PUSH_MODEL])
    def act(request: NormalizedRequest) -> dulcet.Answer:
        answer = Dataset()
        answer.TransactionUID = request.dataset.TransactionUID
        return dulcet.Answer(Status.SUCCESS, answer)

    asked = Dataset()
    asked.TransactionUID = "1.2.77"
    with serving(node) as server, calling(server, uids.STORAGE_COMMITMENT_PUSH_MODEL, window=window) as association:
        response = association.n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL, "1.9", 1, asked).check()
    assert response.command.action_type_id == 1
    answered = response.dataset()
    assert answered is not None
    assert answered.TransactionUID == "1.2.77"


@WINDOWS
def test_a_handler_that_reports_on_the_association_stays_in_its_thread(window: int) -> None:
    commitment = uids.STORAGE_COMMITMENT_PUSH_MODEL
    told, threads = threading.Event(), []

    def act(request: NormalizedRequest) -> dulcet.Answer:
        threads.append(threading.current_thread().name)

        def then() -> Any:
            response = yield dulcet.node.actions.ReportHere(commitment, "1.9", 1, None)
            assert response.status == 0
            told.set()

        return dulcet.Answer(then=then)

    act.reports_here = True  # type: ignore[attr-defined]
    node = Node("NODE")
    node.on_n_action(act, classes=[commitment])
    proposal = Proposal(commitment, (EXPLICIT,), provider=True)
    with serving(node) as server, calling(server, proposal, uids.VERIFICATION, window=window) as association:
        association.handler = lambda request: request.respond()
        association.n_action(commitment, "1.9", 1).check()
        while not told.is_set():
            association.echo().check()
    assert not threads[0].startswith("dulcet-node")


def test_what_may_not_be_said_after_the_answer_ends_its_association_alone(caplog: pytest.LogCaptureFixture) -> None:
    def then() -> Any:
        yield dulcet.node.actions.Respond(Status.SUCCESS)

    node = Node("NODE")
    node.on_n_delete(lambda request: dulcet.Answer(then=then), classes=[MPPS])
    with serving(node) as server, calling(server, MPPS, uids.VERIFICATION) as other:
        association = calling(server, MPPS, window=8)
        association.n_delete(MPPS, "1.2").check()
        with pytest.raises(AssociationError):
            list(iter(lambda: association.n_delete(MPPS, "1.2"), None))
        other.echo().check()
    assert "was answered already" in caplog.text


# --- starting and stopping -------------------------------------------------------------------------------------------


class Companion:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self, seconds: float) -> None:
        self.calls.append(seconds)


def test_companions_live_as_long_as_the_node_serves() -> None:
    node, companion = Node("NODE"), Companion()
    node.companions.append(companion)
    with node.threads() as server:
        assert companion.calls == ["start"]
        with calling(server, uids.VERIFICATION) as association:
            association.echo().check()
    assert companion.calls == ["start", 2.0]


def test_a_stop_that_has_to_abort_says_so_and_ends_the_handlers() -> None:
    closed = threading.Event()

    def handler(request: FindRequest) -> Iterator[Dataset]:
        try:
            while True:
                yield match(1)
        finally:
            closed.set()

    server = finding(handler).threads()
    association = calling(server, STUDY_FIND, window=8)
    matches = association.find(level="STUDY", StudyInstanceUID="")
    next(matches)
    assert server.stop(0.0) is False
    assert closed.wait(PATIENCE)
    with pytest.raises((AssociationAborted, dulcet.AssociationClosed)):
        list(matches)


def test_interrupt_aborts_what_stands() -> None:
    server = Node("NODE").threads()
    association = calling(server, uids.VERIFICATION)
    association.echo().check()
    server.interrupt()
    with pytest.raises(AssociationError):
        list(iter(association.echo, None))
    server.stop(0.0)


def test_serve_drains_on_sigterm_and_puts_the_handlers_of_signals_back() -> None:
    port, before = free_port(), signal.getsignal(signal.SIGTERM)
    node = Node("NODE")

    def visit() -> None:
        wait_until(lambda: accepts(port), "it listens")
        with dulcet.associate(f"NODE@127.0.0.1:{port}") as association:
            association.echo().check()
        os.kill(os.getpid(), signal.SIGTERM)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert node.serve("127.0.0.1", port, drain=PATIENCE) is True
    visitor.join(PATIENCE)
    assert signal.getsignal(signal.SIGTERM) is before


def test_serve_takes_an_event_loop_for_async_handlers() -> None:
    port, node = free_port(), Node("NODE")

    @node.on_echo
    async def slowly(request: Request) -> None:
        await asyncio.sleep(0)

    def visit() -> None:
        wait_until(lambda: accepts(port), "it listens")
        with dulcet.associate(f"NODE@127.0.0.1:{port}") as association:
            association.echo().check()
        os.kill(os.getpid(), signal.SIGTERM)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert node.serve("127.0.0.1", port, drain=PATIENCE) is True
    visitor.join(PATIENCE)


def test_an_async_generator_in_disguise_is_a_failure_of_the_request() -> None:
    async def sources() -> Any:
        yield instance("1.2.1")

    node = Node("NODE")
    node.on_get(lambda request: sources())
    node.on_find(lambda request: sources())
    with serving(node) as server, calling(server, STUDY_GET, STUDY_FIND, CT) as association:
        result = association.get(level="STUDY", StudyInstanceUID="1.2", to=lambda request: request.respond())
        assert result.status.is_failure
        with pytest.raises(StatusError):
            list(association.find(level="STUDY", StudyInstanceUID=""))
        assert association.is_established


def test_an_iterator_that_cannot_be_closed_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn:
        def __iter__(self) -> Iterator[Dataset]:
            return self  # type: ignore[return-value]

        def __next__(self) -> Dataset:
            raise StopIteration

        def close(self) -> None:
            raise RuntimeError("stuck")

    with serving(finding(lambda request: Stubborn())) as server, calling(server, STUDY_FIND) as association:
        assert list(association.find(level="STUDY", StudyInstanceUID="")) == []
    assert "cannot be closed" in caplog.text
