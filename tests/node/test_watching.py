"""What observers are told of a whole session, on both sides, over sockets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from tests.node.hosting import CT, STUDY_FIND, calling, instance, match, serving, wait_until

import dulcet
from dulcet import AssociationConfig, Metrics, Node, uids
from dulcet.dimse.trace_events import OperationFinished, PDUReceived, PDUSent, TraceEvent
from dulcet.errors import AssociationError, AssociationRefused

VERIFICATION = uids.VERIFICATION
REQUEST, ACCEPT, DATA, RELEASE, RELEASED, ABORT = (
    "AssociationRequested", "AssociationAccepted", "PDU 04", "PDU 05", "PDU 06", "PDU 07",
)  # fmt: skip


class Diary:
    """An observer that keeps words."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.trace_events: list[TraceEvent] = []
        self.peers: set[str] = set()
        self.threads: set[int] = set()

    def __call__(self, trace_event: TraceEvent, association: Any) -> None:
        self.trace_events.append(trace_event)
        self.peers.add(association.peer)
        self.threads.add(threading.get_ident())
        match trace_event:
            case PDUSent(pdu_type, _):
                self.words.append(f"-> {pdu_type:02X}")
            case PDUReceived(pdu_type, _):
                self.words.append(f"<- {pdu_type:02X}")
            case _:
                self.words.append(type(trace_event).__name__)

    def operations(self) -> list[tuple[str, int]]:
        return [(found.name, found.status) for found in self.trace_events if isinstance(found, OperationFinished)]


def watched(*observers: Callable[[Any, Any], object], **options: Any) -> AssociationConfig:
    return AssociationConfig(observers=observers, **options)


def session(ours: Any, theirs: Any, work: Callable[[dulcet.Association], object], node: Node | None = None) -> None:
    """A session between two that are watched."""
    node = node or Node("NODE")
    node.config = watched(theirs)
    with serving(node) as server, calling(server, VERIFICATION, STUDY_FIND, CT, config=watched(ours)) as association:
        work(association)


def test_a_whole_session_is_told_in_order_on_both_sides() -> None:
    ours, theirs = Diary(), Diary()
    session(ours, theirs, lambda association: association.echo().check())
    assert ours.words == [
        "ConnectionOpened",
        "AssociationRequested", "-> 01",
        "<- 02", "AssociationAccepted",
        "MessageSent", "-> 04",
        "<- 04", "MessageReceived", "OperationFinished",
        "-> 05",
        "<- 06", "AssociationReleased",
        "ConnectionClosed",
    ]  # fmt: skip
    assert theirs.words == [
        "ConnectionOpened",
        "<- 01", "AssociationRequested",
        "AssociationAccepted", "-> 02",
        "<- 04", "MessageReceived",
        "MessageSent", "OperationFinished", "-> 04",
        "<- 05",
        "AssociationReleased", "-> 06",
        "ConnectionClosed",
    ]  # fmt: skip


def test_observers_are_told_in_the_thread_of_the_association_with_its_peer() -> None:
    ours, theirs = Diary(), Diary()
    session(ours, theirs, lambda association: association.echo())
    assert ours.threads == {threading.get_ident()}
    assert len(ours.peers) == len(theirs.peers) == 1
    assert next(iter(ours.peers)).startswith("NODE@127.0.0.1:")
    assert next(iter(theirs.peers)).startswith("127.0.0.1:")


def test_operations_are_told_when_they_end_and_not_with_the_next_one() -> None:
    ours, seen = Diary(), []

    def work(association: dulcet.Association) -> None:
        association.echo()
        seen.extend(ours.operations())

    session(ours, Diary(), work)
    assert seen == [("C-ECHO", 0)]


def test_operations_are_timed_and_weighed_on_both_sides() -> None:
    node = Node("NODE")
    node.on_find(lambda request: [match(1), match(2)])
    node.on_store(lambda request: None)
    ours, theirs = Diary(), Diary()

    def work(association: dulcet.Association) -> None:
        association.store(instance("1.2.1", size=1000)).check()
        assert len(list(association.find(level="STUDY", StudyInstanceUID=""))) == 2

    session(ours, theirs, work, node)
    for diary in (ours, theirs):
        store, find = [found for found in diary.trace_events if isinstance(found, OperationFinished)]
        assert (store.name, store.status, find.name, find.status) == ("C-STORE", 0, "C-FIND", 0)
        assert store.size > 1000
        assert find.size > 50
        assert store.seconds is not None
        assert 0 <= store.seconds < 10
        assert find.seconds is not None
    assert [found.by_us for found in theirs.trace_events if isinstance(found, OperationFinished)] == [True, True]


def test_a_refused_association_is_told_on_both_sides() -> None:
    ours, theirs = Diary(), Diary()
    node = Node("NODE", config=watched(theirs))
    node.on_associate(lambda request: (1, 1, 1))
    with serving(node) as server:
        with pytest.raises(AssociationRefused):
            calling(server, VERIFICATION, config=watched(ours))
        wait_until(lambda: "ConnectionClosed" in theirs.words, "the node has closed")
    assert ours.words == [
        "ConnectionOpened", "AssociationRequested", "-> 01", "<- 03", "AssociationRefused", "ConnectionClosed",
    ]  # fmt: skip
    assert theirs.words == [
        "ConnectionOpened", "<- 01", "AssociationRequested", "AssociationRefused", "-> 03", "ConnectionClosed",
    ]  # fmt: skip


def test_an_abort_is_told_on_both_sides() -> None:
    ours, theirs = Diary(), Diary()

    def work(association: dulcet.Association) -> None:
        association.echo()
        association.abort()

    session(ours, theirs, work)
    assert ours.words[-3:] == ["AssociationAborted", "-> 07", "ConnectionClosed"]
    assert theirs.words[-3:] == ["<- 07", "AssociationAborted", "ConnectionClosed"]


def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def failing(trace_event: TraceEvent, association: Any) -> None:
        raise RuntimeError("boom")

    node, diary = Node("NODE", config=watched(failing)), Diary()
    node.on_find(lambda request: [match(number) for number in range(20)])
    config = watched(failing, diary)
    with serving(node) as server, calling(server, STUDY_FIND, VERIFICATION, config=config) as association:
        association.echo().check()
        assert len(list(association.find(level="STUDY", StudyInstanceUID=""))) == 20
    assert diary.operations() == [("C-ECHO", 0), ("C-FIND", 0)]
    assert caplog.text.count("an observer failed") <= 4, "once for each Reporter"


def test_without_observers_nothing_is_made() -> None:
    with serving(Node("NODE")) as server, calling(server, VERIFICATION) as association:
        association.echo().check()
        assert association._core.journal is None
        assert association._reporter is None


def test_metrics_of_a_node() -> None:
    metrics = Metrics()
    node = Node("NODE", config=watched(metrics))
    with serving(node) as server:
        for _ in range(3):
            with calling(server, VERIFICATION) as association:
                association.echo().check()
        wait_until(lambda: metrics.counts["ConnectionClosed"] == 3, "the last one is over")
    assert metrics.counts["AssociationAccepted"] == 3
    assert metrics.counts["C-ECHO 0000H"] == 3
    assert metrics.seconds["C-ECHO"] > 0


@pytest.mark.parametrize("window", [1, 8])
def test_the_log_holds_no_patient_data(window: int, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Planted everywhere a data set travels, in requests, answers and failures, on both sides."""
    planted = ("PLANTED^NAME", "PLANTEDID", "PLANTED COMMENT")

    def planting(uid: str) -> Dataset:
        dataset = instance(uid)
        dataset.PatientName, dataset.PatientID, dataset.PatientComments = planted
        return dataset

    caplog.set_level(logging.DEBUG)
    log = dulcet.log_trace_events()
    node = Node("NODE", config=watched(log), store_to=tmp_path, durability="none")
    node.on_store(lambda request: (request.sop_instance_uid.endswith("2") and 0xA700) or None)
    answers: list[Any] = [planting("1.2.1"), (0xFF01, planting("1.2.2")), object()]
    node.on_find(lambda request: answers)
    node.on_get(lambda request: [planting("1.2.3"), planting("1.2.4")])
    mpps = uids.MODALITY_PERFORMED_PROCEDURE_STEP
    node.on_n_create(lambda request: (0x0106, request.dataset), classes=[mpps])
    get = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
    config = watched(log, window_invoked=window)
    with serving(node) as server, calling(server, CT, STUDY_FIND, get, mpps, config=config) as association:
        association.store(planting("1.2.1"))
        association.store(planting("1.2.2"))
        with pytest.raises(dulcet.StatusError):
            list(association.find(level="STUDY", PatientName="PLANTED*", PatientID="PLANTEDID"))
        association.get(
            level="STUDY", StudyInstanceUID="1.2", to=lambda one: one.respond(0xA700)
        )
        association.n_create(mpps, "1.2.9", planting("1.2.9"))
    assert "C-FIND" in caplog.text
    assert "C-STORE" in caplog.text
    assert "PLANTED" not in caplog.text


def test_a_peer_that_goes_away_is_told_as_a_connection_that_was_lost() -> None:
    theirs = Diary()
    node = Node("NODE", config=watched(theirs))
    with serving(node) as server:
        association = calling(server, VERIFICATION)
        association.echo().check()
        association._transport._sock.close()
        with pytest.raises((AssociationError, OSError, ValueError)):
            association.echo()
        wait_until(lambda: "ConnectionClosed" in theirs.words, "the node has noticed")
    assert [found.expected for found in theirs.trace_events if type(found).__name__ == "ConnectionClosed"] == [False]  # type: ignore[union-attr]
