"""What observers are told of messages and operations; and that without observers nothing is noted."""

from __future__ import annotations

from tests.pairs import CT, Pair, Provider, echo, find, pending, store

from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import RequestReceived
from dulcet.dimse.trace_events import MessageReceived, MessageSent, OperationFinished, TraceEvent

DATA = bytes(5000)


def watched() -> Pair:
    pair = Pair(config=AssociationConfig(observers=(print,), maximum_length=1000)).establish()
    for end in pair.ends:
        noted(end.core)
    return pair


def noted(core: DimseAssociation, *kinds: type[TraceEvent]) -> list[TraceEvent]:
    """What was noted of these kinds, the journal being emptied as a face would."""
    assert core.journal is not None
    happened = [each for each in core.journal if isinstance(each, kinds)] if kinds else []
    core.journal.clear()
    return happened


def test_without_observers_there_is_no_journal() -> None:
    pair = Pair().establish()
    pair.acceptor.application = Provider()
    store(pair.requestor, DATA)
    pair.run()
    assert pair.requestor.core.journal is None
    assert pair.acceptor.core.journal is None


def test_messages_are_noted_with_their_commands_on_both_ends() -> None:
    pair = watched()
    pair.acceptor.application = Provider()
    store(pair.requestor, DATA, "1.2.3")
    pair.run()
    sent, received = noted(pair.requestor.core, MessageSent, MessageReceived)
    assert isinstance(sent, MessageSent)
    assert isinstance(received, MessageReceived)
    assert (sent.context_id, sent.command.name, sent.size) == (3, "C-STORE-RQ", 5000)
    assert (received.context_id, received.command.name, received.command.status) == (3, "C-STORE-RSP", 0)
    got, answered = noted(pair.acceptor.core, MessageSent, MessageReceived)
    assert isinstance(got, MessageReceived)
    assert isinstance(answered, MessageSent)
    assert got.command == sent.command
    assert answered.command == received.command
    assert answered.size == 0


def test_an_operation_is_noted_when_it_is_finished_with_its_size_and_status() -> None:
    pair = watched()
    pair.acceptor.application = Provider(0xB000)
    store(pair.requestor, DATA)
    pair.run()
    for end, by_us in zip(pair.ends, (False, True), strict=True):
        assert noted(end.core, OperationFinished) == [OperationFinished("C-STORE", 1, 0xB000, by_us, 5000)]
    echo(pair.requestor)
    pair.run()
    assert noted(pair.requestor.core, OperationFinished) == [OperationFinished("C-ECHO", 2, 0xB000, False, 0)]


def test_data_sets_of_both_directions_count_and_pending_does_not_finish() -> None:
    pair = watched()
    find(pair.requestor, b"0123456789")
    pair.run()
    (event,) = pair.acceptor.told()
    assert isinstance(event, RequestReceived)
    for _ in range(2):
        pending(pair.acceptor.core, event.request, data=b"match")
    pair.run()
    assert noted(pair.requestor.core, OperationFinished) == []
    assert noted(pair.acceptor.core, OperationFinished) == []
    pair.acceptor.core.respond_status(event.request, 0)
    pair.run()
    for end, by_us in zip(pair.ends, (False, True), strict=True):
        assert noted(end.core, OperationFinished) == [OperationFinished("C-FIND", 1, 0, by_us, 20)]


def test_a_cancel_is_a_message_and_no_operation() -> None:
    pair = watched()
    operation = find(pair.requestor)
    pair.run()
    for end in pair.ends:
        noted(end.core)
    pair.requestor.core.cancel(operation)
    pair.run()
    (sent,) = noted(pair.requestor.core, MessageSent, OperationFinished)
    (received,) = noted(pair.acceptor.core, MessageReceived, OperationFinished)
    assert isinstance(sent, MessageSent)
    assert isinstance(received, MessageReceived)
    assert sent.command == received.command
    assert sent.command.name == "C-CANCEL-RQ"


def test_a_refusal_of_dimse_itself_is_noted_too() -> None:
    pair = watched()
    core = pair.requestor.core
    core.connection.send_message(core.need_context(CT).context_id, STORE_WITHOUT_DATA)
    pair.run()
    assert noted(pair.acceptor.core, OperationFinished) == [OperationFinished("C-STORE", 9, 0xC000, True, 0)]


STORE_WITHOUT_DATA = b"\0\0\0\0\4\0\0\0\x1e\0\0\0\0\0\0\1\2\0\0\0\1\0\0\0\x10\1\2\0\0\0\x09\0\0\0\0\x08\2\0\0\0\1\1"
