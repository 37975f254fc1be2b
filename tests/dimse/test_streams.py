"""Large data sets: what is kept, what is copied, and how much memory a peer can make us use."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from tests.pairs import CT, FIND, Pair, message, p_data, request, response, store

from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.events import DataReceived, RequestReceived, RequestRefused
from dulcet.dimse.messages import CommandField
from dulcet.dimse.source import FileSpan
from dulcet.upper_layer.events import NEED_DATA
from dulcet.upper_layer.pdu import PDV

MB = 1_000_000
STORE = message(3, request(CommandField.C_STORE_RQ, CT, 1, data_set=True))
PDU = 16_384


@contextmanager
def memory(limit: int) -> Iterator[None]:
    """Fails when the block allocates more than `limit` bytes at any moment."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        used = tracemalloc.get_traced_memory()[1] - before
        assert used < limit, f"{used:,} bytes; {limit:,} are allowed"
    finally:
        tracemalloc.stop()


def fragments(context_id: int, count: int) -> bytes:
    """P-DATA-TF PDUs of a data set that does not end with them."""
    head = b"\4\0" + PDU.to_bytes(4, "big") + (PDU - 4).to_bytes(4, "big") + bytes((context_id, 0))
    return (head + bytes(PDU - 6)) * count


def pour(core: DimseAssociation, wire: bytes) -> Iterator[object]:
    """The events of bytes that come in reads as large as there is room."""
    view = memoryview(wire)
    while view:
        buffer = core.get_buffer()
        count = min(len(buffer), len(view))
        buffer[:count] = view[:count]
        core.buffer_updated(count)
        view = view[count:]
        while (event := core.next_event()) is not NEED_DATA:
            yield event


def test_nothing_is_kept_of_a_data_set_that_streams() -> None:
    core = Pair().establish().acceptor.core
    block = fragments(3, 64)
    received = 0
    with memory(2 * MB):
        for event in pour(core, STORE):
            assert isinstance(event, RequestReceived)
        for _ in range(200 * MB // len(block) + 1):
            for event in pour(core, block):
                assert isinstance(event, DataReceived)
                received += len(event.data)
    assert received > 199 * MB
    assert core.mid_message


def test_nothing_is_kept_of_an_identifier_over_the_limit() -> None:
    core = Pair().establish().acceptor.core
    block = fragments(7, 64)
    with memory(4 * MB):
        assert not list(pour(core, message(7, request(CommandField.C_FIND_RQ, FIND, 1, data_set=True))))
        for _ in range(20):
            assert not list(pour(core, block))
        (event,) = pour(core, p_data(PDV(7, False, True, b"end")))
        assert isinstance(event, RequestRefused)
    assert core.has_output
    assert not core.performing


def test_nothing_is_kept_of_the_data_of_a_refused_request() -> None:
    pair = Pair().establish()
    core = pair.acceptor.core
    request_with_4 = request(CommandField.C_FIND_RQ, FIND, 4, data_set=True)
    assert len(list(pour(core, message(7, request_with_4, b"id")))) == 1
    with memory(MB):
        assert not list(pour(core, message(7, request_with_4)))
        for _ in range(20):
            assert not list(pour(core, fragments(7, 32)))


def test_a_command_set_that_never_ends_is_cut_off_early() -> None:
    core = Pair().establish().acceptor.core
    piece = b"\4\0\0\0\x10\6\0\0\x10\2\1\1" + bytes(4096)
    with memory(MB):
        for _ in range(2000):
            list(pour(core, piece))
    assert not core.is_established


def test_many_messages_leave_nothing_behind() -> None:
    core = Pair().establish().acceptor.core
    one = message(3, request(CommandField.C_STORE_RQ, CT, 1, data_set=True), bytes(1000))

    def messages(count: int) -> None:
        for event in pour(core, one * count):
            if isinstance(event, DataReceived) and event.is_last:
                core.respond_status(event.request, 0)
                core.data_to_send()

    messages(10)
    with memory(2 * MB):
        for _ in range(10):
            messages(300)
    assert not core.performing


def test_many_responses_leave_nothing_behind() -> None:
    pair = Pair().establish()
    core = pair.requestor.core
    answers = [message(3, response(CommandField.C_STORE_RQ, number)) for number in range(1, 1001)]

    def stores(numbers: range) -> None:
        for number in numbers:
            store(pair.requestor, b"data")
            core.data_to_send()
            list(pour(core, answers[number - 1]))

    stores(range(1, 101))
    with memory(MB):
        stores(range(101, 1001))
    assert not core.outstanding


def test_what_is_sent_is_not_copied() -> None:
    pair = Pair().establish()
    core = pair.requestor.core
    data = bytes(50 * MB)
    with memory(2 * MB):
        store(pair.requestor, data)
        while segments := core.data_to_send():
            assert all(len(part) < 500 or (isinstance(part, memoryview) and part.obj is data) for part in segments)


def test_a_file_is_never_read_here() -> None:
    pair = Pair().establish()
    core = pair.requestor.core
    store(pair.requestor, FileSpan(-1, 132, 3 * 1024 * MB))  # no such descriptor: only a face would look at it
    spans = []
    with memory(16 * MB):
        while segments := core.data_to_send():
            spans += [(part.offset, part.length) for part in segments if isinstance(part, FileSpan)]
    assert sum(length for _, length in spans) == 3 * 1024 * MB
    assert all(start + length == following for (start, length), (following, _) in pairwise(spans))
    assert spans[0][0] == 132
