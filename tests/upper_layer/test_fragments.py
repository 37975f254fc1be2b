"""Bytes out: every message cut to what the peer takes, whole PDUs, nothing copied that lies in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.upper_layer.wire import ANSWER, CONFIG, CT, REQUEST, Piece, cut, flat, joined, receive, sent

from dulcet.errors import LocalProtocolError
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.fragments import FileSpan, OutgoingMessage, Segment, fragment_length
from dulcet.upper_layer.items import MaximumLength
from dulcet.upper_layer.pdu import PDV, Abort, PDataTF, ReleaseRQ, decode

PEER_MAXIMA = [0, *range(1, 10), 15, 4096, 4097, 16384, 128 * 1024, 0xFFFFFFFF]


def whole(message: OutgoingMessage, limit: int) -> Iterator[list[Segment]]:
    """What each call with this limit takes, until the message has left."""
    done = False
    while not done:
        segments: list[Segment] = []
        count, done = message.take(limit, segments)
        assert count == sum(len(segment) for segment in segments)
        yield segments


def values(data: bytes) -> list[PDV]:
    """The PDVs of a stream of P-DATA-TF."""
    found: list[PDV] = []
    for raw in cut(data):
        pdu = decode(raw)
        assert isinstance(pdu, PDataTF)
        found += pdu.values
    return found


@pytest.mark.parametrize(("peer", "own", "expected"), [
    (0, 131072, 131066),
    (1, 131072, 2),
    (7, 131072, 2),
    (8, 131072, 2),
    (9, 131072, 2),
    (10, 131072, 4),
    (4096, 131072, 4090),
    (4097, 131072, 4090),
    (131072, 131072, 131066),
    (0xFFFFFFFF, 131072, 131066),
    (16384, 8192, 8186),
    (0, 8, 2),
])  # fmt: skip
def test_fragments_are_as_long_as_both_allow_and_even(peer: int, own: int, expected: int) -> None:
    assert fragment_length(peer, own) == expected


@pytest.mark.parametrize("in_file", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4090, 4091, 5000, 262144])
@pytest.mark.parametrize("peer", PEER_MAXIMA)
def test_a_message_is_cut_to_the_peers_maximum(peer: int, size: int, in_file: bool, tmp_path: Path) -> None:
    size = size if peer > 4000 or not peer else min(size, 300)
    data = bytes(number % 251 for number in range(size))
    command = b"command set " * 10
    connection = Connection(requestor=True, config=CONFIG)
    connection.associate(REQUEST)
    connection.connection_made()
    answer = ANSWER.encode()
    assert ANSWER.user_information[0] == MaximumLength(16384)
    receive(connection, answer.replace(MaximumLength(16384).encode(), MaximumLength(peer).encode()))
    sent(connection)
    (tmp_path / "file").write_bytes(b"before" + data + b"after")
    with (tmp_path / "file").open("rb") as file:
        source = FileSpan(file.fileno(), 6, size) if in_file else memoryview(data)
        connection.send_message(3, command, source, "mine")
        segments: list[Segment] = []
        while more := connection.data_to_send(10_000):
            segments += more
        assert any(isinstance(segment, FileSpan) for segment in segments) == in_file
        stream = flat(segments)
    # 1 to 7 could carry nothing: read as 8.
    longest = min(max(peer, 8) if peer else CONFIG.send_maximum, CONFIG.send_maximum)
    assert max(len(pdu) - 6 for pdu in cut(stream)) <= longest
    parts = values(stream)
    assert b"".join(part.data for part in parts if part.is_command) == command
    assert b"".join(part.data for part in parts if not part.is_command) == data
    kinds = [part.is_command for part in parts]
    assert kinds == sorted(kinds, reverse=True), "the command set leaves first"
    ends = [index for index, part in enumerate(parts) if part.is_last]
    assert ends == [kinds.count(True) - 1, len(parts) - 1]
    assert all(len(part.data) % 2 == 0 for part in parts if not part.is_last)
    assert {part.context_id for part in parts} == {3}
    assert connection.departed == ["mine"]


@given(
    st.binary(min_size=1, max_size=60),
    st.none() | st.binary(max_size=400),
    st.integers(0, 100),
    st.integers(1, 200),
)
def test_whatever_the_cut_what_arrives_is_what_was_sent(
    command: bytes, data: bytes | None, peer: int, limit: int
) -> None:
    source = None if data is None else memoryview(data)
    message = OutgoingMessage(1, command, source, fragment_length(peer, 100), "mine")
    assert message.size == len(command) + len(data or b"")
    longest = max(min(peer or 100, 100), 8) + 6
    stream = b""
    for segments in whole(message, limit):
        piece = flat(segments)
        cut(piece)
        assert 0 < len(piece) < limit + longest or stream == b"", "one PDU past the limit at most, and the command set"
        stream += piece
        assert message.size == len(command) + len(data or b"") - sum(len(value.data) for value in values(stream))
    pieces = [Piece(*(value.context_id, value.is_command, value.is_last, value.data)) for value in values(stream)]
    expected = [Piece(1, True, True, command)]
    if data is not None:
        expected.append(Piece(1, False, True, data))
    assert joined(pieces) == expected


def test_data_that_fill_their_fragments_exactly_end_with_the_last_of_them() -> None:
    message = OutgoingMessage(1, b"c", memoryview(b"four" * 2), 4)
    takes = [flat(segments) for segments in whole(message, 13 + 16)]
    assert [len(taken) for taken in takes] == [13 + 16, 16], "a limit that is reached exactly is not passed"
    assert [value.data for value in values(b"".join(takes))] == [b"c", b"four", b"four"]


def test_nothing_is_copied_on_the_way_out() -> None:
    data = bytearray(b"data" * 100)
    message = OutgoingMessage(1, b"command", memoryview(data), 128)
    segments = [segment for taken in whole(message, 10_000) for segment in taken]
    views = [segment for segment in segments if isinstance(segment, memoryview)]
    assert len(views) == 4
    assert all(view.obj is data for view in views)


def test_a_file_span_is_cut_into_spans_of_the_same_file() -> None:
    message = OutgoingMessage(1, b"command", FileSpan(7, 100, 250), 100)
    segments = [segment for taken in whole(message, 10_000) for segment in taken]
    assert [segment for segment in segments if isinstance(segment, FileSpan)] == [
        FileSpan(7, 100, 100),
        FileSpan(7, 200, 100),
        FileSpan(7, 300, 50),
    ]
    assert len(FileSpan(7, 100, 250)) == 250


@pytest.fixture
def connection() -> Connection:
    connection = Connection(requestor=True, config=CONFIG)
    connection.associate(REQUEST)
    connection.connection_made()
    receive(connection, ANSWER.encode())
    sent(connection)
    return connection


def test_a_message_needs_a_command_set_and_an_accepted_context(connection: Connection) -> None:
    with pytest.raises(LocalProtocolError, match="command set"):
        connection.send_message(1, b"")
    with pytest.raises(LocalProtocolError, match="presentation context 5 was not accepted"):
        connection.send_message(5, b"command")
    assert not connection.has_output
    assert connection.contexts[3].abstract_syntax == CT


def test_several_messages_leave_in_one_go_in_their_order(connection: Connection) -> None:
    for number in range(3):
        connection.send_message(1, b"command", memoryview(b"data"), number)
    connection.send_message(1, b"no operation")
    connection.release()
    assert connection.queued_bytes == 3 * 11 + 12 + 10
    stream = flat(connection.data_to_send())
    assert connection.departed == [0, 1, 2]
    assert not connection.has_output
    assert connection.queued_bytes == 0
    *messages, release = cut(stream)
    assert decode(release) == ReleaseRQ()
    assert [value.data for value in values(b"".join(messages))] == [*(b"command", b"data") * 3, b"no operation"]


def test_an_operation_has_departed_when_its_last_byte_was_asked_for(connection: Connection) -> None:
    connection.send_message(1, b"command", memoryview(bytes(100_000)), "mine")
    while connection.has_output:
        assert connection.departed == []
        before = connection.queued_bytes
        taken = sum(len(segment) for segment in connection.data_to_send(20_000))
        assert 0 < taken < 20_000 + 16384 + 6
        assert connection.queued_bytes < before
    assert connection.departed == ["mine"]


def test_an_abort_overtakes_what_is_queued_but_cuts_no_pdu(connection: Connection) -> None:
    for limit in (1, 100, 20_000):
        connection = Connection(requestor=True, config=CONFIG)
        connection.associate(REQUEST)
        connection.connection_made()
        receive(connection, ANSWER.encode())
        sent(connection)
        connection.send_message(1, b"command", memoryview(bytes(100_000)), "mine")
        connection.send_message(1, b"never", None, "next")
        first = flat(connection.data_to_send(limit))
        connection.abort()
        rest = flat(connection.data_to_send(limit))
        *pdus, last = cut(first + rest)
        assert decode(last) == Abort(0, 0)
        assert all(isinstance(decode(pdu), PDataTF) for pdu in pdus)
        assert rest == Abort(0, 0).encode()
        assert connection.departed == []


def test_a_peers_abort_drops_what_is_queued(connection: Connection) -> None:
    connection.send_message(1, b"command", memoryview(bytes(100_000)), "mine")
    receive(connection, Abort(0, 0).encode())
    assert connection.wants_close
    assert not connection.has_output


def test_files_are_read_where_the_span_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert flat([b"a", FileSpan(descriptor, 10, 3), memoryview(b"b")]) == b"a\x0a\x0b\x0cb"
    finally:
        os.close(descriptor)
