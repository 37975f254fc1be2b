"""From a journal to observers: in order, timed, and never in the way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.pairs import FIND, Pair, Provider, echo, find, store

from dulcet.config import AssociationConfig
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.trace_events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRefused,
    AssociationReleased,
    AssociationRequested,
    ConnectionClosed,
    ConnectionOpened,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    OperationFinished,
    PDUReceived,
    PDUSent,
    TraceEvent,
)
from dulcet.services.observing import Metrics, Reporter, log_trace_events
from dulcet.upper_layer.items import ContextResult
from dulcet.upper_layer.pdu import AssociateAC, AssociateRQ


class Peer:
    """What stands for an association in a log."""

    peer = "ARCHIVE@10.0.0.1:104"


class Journal:
    """What stands for a core."""

    def __init__(self, *happened: TraceEvent) -> None:
        self.journal: list[TraceEvent] | None = list(happened)


def told(*happened: TraceEvent, now: float = 0.0) -> list[TraceEvent]:
    seen: list[TraceEvent] = []
    reporter = Reporter((lambda trace_event, association: seen.append(trace_event),))
    reporter.report(Journal(*happened), Peer, now)  # type: ignore[arg-type]
    return seen


REQUEST = Command.make(CommandField.C_ECHO_RQ, MessageID=5, AffectedSOPClassUID="1.2.840.10008.1.1")
FINISHED = OperationFinished("C-ECHO", 9, 0x0000, False, 12)
ACCEPT = AssociateAC(
    called_ae_title="A",
    calling_ae_title="B",
    presentation_contexts=(ContextResult(1, 0, "1.2"), ContextResult(3, 3, "")),
)
EVERYTHING: list[TraceEvent] = [
    ConnectionOpened(),
    AssociationRequested(AssociateRQ(called_ae_title="A\x1b[31m", calling_ae_title="B"), by_us=True),
    AssociationRequested(AssociateRQ(called_ae_title="A", calling_ae_title="B"), by_us=False),
    PDUSent(1, 200),
    PDUReceived(2, 180),
    AssociationAccepted(ACCEPT, by_us=False),
    AssociationRefused(1, 1, 7, by_us=True),
    MessageSent(1, REQUEST, 17),
    MessageReceived(1, REQUEST),
    FINISHED,
    OperationFinished("C-FIND", 6, 0xC000, True, 99, 0.25),
    AssociationReleased(),
    AssociationAborted(0, 0, by_us=False),
    AssociationAborted(2, 6, by_us=True, message="malformed"),
    ConnectionClosed(expected=True),
    ConnectionClosed(expected=False),
    HandshakeFailed("TLS: the certificate is not trusted"),
]


def test_each_observer_is_told_everything_in_order_and_the_journal_is_empty_then() -> None:
    seen: list[tuple[str, TraceEvent, Any]] = []
    reporter = Reporter(
        (
            lambda trace_event, association: seen.append(("one", trace_event, association)),
            lambda trace_event, association: seen.append(("two", trace_event, association)),
        )
    )
    core = Journal(*EVERYTHING)
    reporter.report(core, Peer, 0.0)  # type: ignore[arg-type]
    assert core.journal == []
    assert [(who, trace_event) for who, trace_event, _ in seen] == [
        (who, trace_event) for trace_event in EVERYTHING for who in ("one", "two")
    ]
    assert {association for _, _, association in seen} == {Peer}


def test_without_a_journal_there_is_nothing_to_tell() -> None:
    core = Journal()
    core.journal = None
    Reporter(()).report(core, Peer, 0.0)  # type: ignore[arg-type]


def test_what_happens_while_it_is_told_is_told_as_well() -> None:
    core, seen = Journal(ConnectionOpened()), []

    def observer(trace_event: TraceEvent, association: Any) -> None:
        seen.append(trace_event)
        if len(seen) < 3:
            assert core.journal is not None
            core.journal.append(PDUSent(1, len(seen)))

    Reporter((observer,)).report(core, Peer, 0.0)  # type: ignore[arg-type]
    assert seen == [ConnectionOpened(), PDUSent(1, 1), PDUSent(1, 2)]


@pytest.mark.parametrize(
    ("by_us", "message"), [(False, MessageSent(1, REQUEST, 0)), (True, MessageReceived(1, REQUEST))]
)
def test_an_operation_is_timed_from_its_request(by_us: bool, message: TraceEvent) -> None:
    seen: list[TraceEvent] = []
    reporter = Reporter((lambda trace_event, association: seen.append(trace_event),))
    reporter.report(Journal(message), Peer, 10.0)  # type: ignore[arg-type]
    end = OperationFinished("C-ECHO", 5, 0, by_us, 0)
    other = OperationFinished("C-ECHO", 5, 0, not by_us, 0)
    reporter.report(Journal(other, end), Peer, 12.5)  # type: ignore[arg-type]
    assert [trace_event.seconds for trace_event in seen[1:]] == [None, 2.5]  # type: ignore[union-attr]


def test_an_observer_that_raises_is_logged_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[TraceEvent] = []

    class Failing:
        __hash__ = None  # type: ignore[assignment]  # observers need not be hashable

        def __call__(self, trace_event: TraceEvent, association: Any) -> None:
            raise RuntimeError("boom")

    reporter = Reporter((Failing(), lambda trace_event, association: seen.append(trace_event)))
    reporter.report(Journal(*EVERYTHING), Peer, 0.0)  # type: ignore[arg-type]
    assert seen == EVERYTHING
    assert caplog.text.count("an observer failed") == 1


def test_metrics_count_by_name_and_operations_by_status_bytes_and_seconds() -> None:
    metrics = Metrics()
    for trace_event in EVERYTHING:
        metrics(trace_event, Peer)
    assert metrics.counts["AssociationAborted"] == 2
    assert metrics.counts["OperationFinished"] == 2
    assert metrics.counts["C-ECHO 0000H"] == 1
    assert metrics.counts["C-FIND C000H"] == 1
    assert metrics.counts["C-FIND bytes"] == 99
    assert metrics.seconds == {"C-ECHO": 0.0, "C-FIND": 0.25}


def test_every_happening_has_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tell = log_trace_events()
    for trace_event in EVERYTHING:
        tell(trace_event, Peer)
    assert [(record.levelno, record.getMessage().removeprefix(f"{Peer.peer}: ")) for record in caplog.records] == [
        (logging.DEBUG, "connected"),
        (logging.INFO, r"association requested, 'B' calls 'A\x1b[31m'"),
        (logging.INFO, "association request, 'B' calls 'A'"),
        (logging.DEBUG, "-> PDU 01H, 200 bytes"),
        (logging.DEBUG, "<- PDU 02H, 180 bytes"),
        (logging.INFO, "association accepted, 1 of 2 contexts"),
        (logging.INFO, "association refused (1,1,7)"),
        (logging.DEBUG, "-> C-ECHO-RQ on context 1, 17 bytes of data"),
        (logging.DEBUG, "<- C-ECHO-RQ on context 1"),
        (logging.DEBUG, "C-ECHO 9: 0000H, 12 bytes"),
        (logging.DEBUG, "C-FIND 6: C000H, 99 bytes in 250.0 ms"),
        (logging.INFO, "association released"),
        (logging.INFO, "association aborted by the peer (0,0)"),
        (logging.INFO, "association aborted by us (2,6) malformed"),
        (logging.DEBUG, "connection closed"),
        (logging.DEBUG, "connection lost"),
        (logging.INFO, "TLS: the certificate is not trusted"),
    ]


def test_what_nobody_reads_is_not_put_into_words(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("quiet")
    logger.setLevel(logging.INFO)
    caplog.set_level(logging.INFO, logger="quiet")
    tell = log_trace_events(logger)
    for trace_event in EVERYTHING:
        tell(trace_event, Peer)
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert {record.name for record in caplog.records} == {"quiet"}


def test_without_observers_nothing_is_made() -> None:
    pair = Pair().establish()
    assert [end.core.journal for end in pair.ends] == [None, None]


def test_operations_of_a_session_are_told_on_both_sides() -> None:
    observed = AssociationConfig(observers=(print,))
    pair = Pair(config=observed).establish()
    for end in pair.ends:
        assert end.core.journal is not None
        end.core.journal.clear()
    pair.acceptor.application = Provider()
    echo(pair.requestor)
    pair.run()
    store(pair.requestor, b"\0" * 100)
    pair.run()
    find(pair.requestor)
    pair.run()
    names = ["C-ECHO", "C-STORE", "C-FIND"]
    for end, by_us in ((pair.requestor, False), (pair.acceptor, True)):
        assert end.core.journal is not None
        finished = [trace_event for trace_event in end.core.journal if isinstance(trace_event, OperationFinished)]
        assert [(one.name, one.by_us, one.size) for one in finished] == list(
            zip(names, [by_us] * 3, [0, 100, len(b"identifier")], strict=True)
        )
    assert FIND in {context.abstract_syntax for context in pair.requestor.core.contexts.values()}
