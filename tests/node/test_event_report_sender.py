"""The courier by itself: queues with an end, reports that cannot be made, stopping in the middle of one."""

from __future__ import annotations

import threading

import pytest

import dulcet
from dulcet.node import event_report_sender as couriers
from dulcet.node.event_report_sender import EventReportSender, Report
from dulcet.services.commitment import SOP_CLASS, SOP_INSTANCE
from dulcet.services.identifiers import build_identifier
from dulcet.services.retrying import Backoff

QUICK = Backoff(first=0.005, longest=0.01, attempts=5)
WAIT = 20.0


class Receiver:
    """A node that notes the transactions it is told of, in order; `hold` keeps it from answering."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.hold: threading.Event | None = None
        self.asked = threading.Event()
        self.node = dulcet.Node("RECEIVER")
        self.node.on_n_event_report(self._hear, classes=[SOP_CLASS])

    def _hear(self, request):
        self.told.append(request.dataset.TransactionUID)
        self.asked.set()
        if self.hold is not None:
            self.hold.wait(WAIT)


def report(number: int, ended: list[tuple[int, object]], dataset=None, receiver: str = "RECEIVER") -> Report:
    def prepare():
        if isinstance(dataset, Exception):
            raise dataset
        return 1, dataset or build_identifier({"TransactionUID": str(number)})

    done = lambda report, status: ended.append((number, status))  # noqa: E731
    return Report(receiver, SOP_CLASS, SOP_INSTANCE, prepare=prepare, done=done)


def test_reports_arrive_in_order_and_wait_for_the_node_to_serve():
    receiver, ended = Receiver(), []
    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(node, backoff=QUICK)
        for number in range(5):
            event_report_sender.send(report(number, ended))
        assert receiver.told == []
        with node.threads():
            assert event_report_sender.wait(WAIT)
            event_report_sender.send(report(5, ended))
            assert event_report_sender.wait(WAIT)
    assert receiver.told == list("012345")
    assert ended == [(number, 0) for number in range(6)]


def test_a_queue_has_an_end(monkeypatch):
    monkeypatch.setattr(couriers, "QUEUED", 3)
    event_report_sender, ended = EventReportSender(dulcet.Node("SENDER")), []
    for number in range(5):
        event_report_sender.send(report(number, ended))
    assert ended == [(0, None), (1, None)]


def test_a_report_that_cannot_be_encoded_is_given_up_and_does_not_hold_up_the_next():
    unsendable = build_identifier({})
    unsendable.add_new(0x00280010, "US", "not a number")
    receiver, ended = Receiver(), []
    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(node, backoff=QUICK)
        with node.threads():
            event_report_sender.send(report(0, ended, unsendable))
            event_report_sender.send(report(1, ended))
            assert event_report_sender.wait(WAIT)
    assert ended == [(0, None), (1, 0)]


def test_a_report_that_cannot_be_made_is_tried_again_and_then_given_up():
    receiver, ended = Receiver(), []
    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(node, backoff=QUICK)
        with node.threads():
            broken = report(0, ended, RuntimeError("no database"))
            event_report_sender.send(broken)
            event_report_sender.send(report(1, ended))
            assert event_report_sender.wait(WAIT)
    assert ended == [(0, None), (1, 0)]
    assert broken.failures == 5


def test_a_receiver_that_is_away_does_not_hold_up_another_one():
    receiver, ended = Receiver(), []
    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address, "AWAY": "AWAY@127.0.0.1:1"})
        event_report_sender = EventReportSender(node, backoff=Backoff(first=WAIT))
        with node.threads():
            event_report_sender.send(report(0, ended, receiver="AWAY"))
            event_report_sender.send(report(1, ended))
            assert receiver.asked.wait(WAIT)
            assert not event_report_sender.wait(0.05)
        assert ended in ([], [(1, 0)])  # stopping does not wait for who is away
        assert not event_report_sender._running


def test_stopping_in_the_middle_of_a_report_ends_it_and_keeps_it():
    receiver, ended = Receiver(), []
    receiver.hold = threading.Event()
    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(node, backoff=QUICK)
        serving = node.threads()
        event_report_sender.send(report(0, ended))
        assert receiver.asked.wait(WAIT)
        serving.stop(0.05)
        receiver.hold.set()
        receiver.hold = None
        assert ended == []
        with node.threads():  # taken up again
            assert event_report_sender.wait(WAIT)
    assert ended == [(0, 0)]


def test_what_the_application_raises_is_logged(caplog):
    receiver = Receiver()

    def done(report, status):
        raise RuntimeError("no database")

    with receiver.node.threads() as listening:
        node = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(node, backoff=QUICK)
        with node.threads():
            sent = report(0, [])
            sent.done = done
            event_report_sender.send(sent)
            assert event_report_sender.wait(WAIT)
    assert "what was to be done after a report failed" in caplog.text


@pytest.mark.parametrize("status", [0x0110, 0x0213])
def test_a_receiver_that_never_takes_it(status):
    node, ended = dulcet.Node("RECEIVER"), []
    node.on_n_event_report(lambda request: status, classes=[SOP_CLASS])
    with node.threads() as listening:
        sender = dulcet.Node("SENDER", peers={"RECEIVER": listening.address})
        event_report_sender = EventReportSender(sender, backoff=QUICK)
        with sender.threads():
            event_report_sender.send(report(0, ended))
            assert event_report_sender.wait(WAIT)
    assert ended == [(0, None)]
