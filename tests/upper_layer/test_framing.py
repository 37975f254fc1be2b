"""Bytes in: the same events however they are cut, memory after what came and never after what was declared."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.upper_layer.pdus import P_DATA_EXAMPLE, PDUS, RICH_ANSWER, RICH_REQUEST
from tests.upper_layer.wire import (
    ANSWER,
    CONFIG,
    REQUEST,
    Piece,
    Seen,
    WatchedPool,
    joined,
    paused,
    pull,
    put,
    quiet,
    receive,
    sent,
)

from dulcet.config import Limits
from dulcet.errors import RemoteProtocolError
from dulcet.upper_layer.connection import Connection
from dulcet.upper_layer.events import NEED_DATA, Aborted, AssociateRequested, Closed, Fragment, Signal
from dulcet.upper_layer.framing import POOLED_BUFFERS, BufferPool, ControlPDU, DataBegins, Framer
from dulcet.upper_layer.pdu import PDU, PDV, Abort, AssociateRJ, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ, encode

Framed = ControlPDU | DataBegins | Piece


def framer(*, size: int = 4096, announced: int = 0, strict: bool = False) -> Framer:
    return Framer(BufferPool(size), associate_limit=100_000, announced=announced, strict=strict)


def framed(cutter: Framer, data: bytes, sizes: Iterable[int] = ()) -> list[Framed]:
    """All that the framer finds when `data` comes in reads of these sizes, the rest as it fits."""
    found: list[Framed] = []
    sizes = iter(sizes)
    while data:
        buffer = cutter.get_buffer()
        count = min(next(sizes, len(data)), len(buffer), len(data))
        buffer[:count] = data[:count]
        cutter.buffer_updated(count)
        data = data[count:]
        while not isinstance(got := cutter.next(), Signal):
            found.append(copied(got))
        cutter.release_buffer()
    return found


def copied(got: Fragment | ControlPDU | DataBegins) -> Framed:
    return Piece(got.context_id, got.is_command, got.is_last, bytes(got.data)) if isinstance(got, Fragment) else got


def whole(found: list[Framed]) -> list[Framed]:
    """Pieces of one message part put together, empty ones that end nothing left out."""
    events: list[Framed] = []
    part = b""
    for got in found:
        if isinstance(got, Piece) and not got.is_last:
            part += got.data
        elif isinstance(got, Piece):
            events.append(replace(got, data=part + got.data))
            part = b""
        else:
            events.append(got)
    return [*events, Piece(0, False, False, part)]


def told(requestor: bool = True) -> Connection:
    """An association that stands, with all told and sent."""
    connection = Connection(requestor=requestor, config=CONFIG, pool=BufferPool(4096))
    if requestor:
        connection.associate(REQUEST)
    connection.connection_made()
    receive(connection, (ANSWER if requestor else REQUEST).encode())
    if not requestor:
        connection.accept(ANSWER)
    sent(connection)
    return connection


# ---------------------------------------------------------------------------------------- cut as it comes


@given(st.lists(PDUS, max_size=4), st.lists(st.integers(1, 40)))
def test_random_reads_find_the_same(pdus: list[PDU], sizes: list[int]) -> None:
    data = b"".join(encode(pdu) for pdu in pdus)
    expected = whole(framed(framer(), data))
    assert whole(framed(framer(), data, sizes)) == expected
    assert whole(framed(framer(size=2048), data, [1] * len(data))) == expected


def outcome(cutter: Framer, data: bytes, sizes: list[int]) -> tuple[list[Framed], str, int]:
    """What the framer finds while data are expected, what it says in the end, and what it counted."""
    cutter.announce_data = False
    found: list[Framed] = []
    try:
        for size in [*sizes, len(data)]:
            found += framed(cutter, data[:size])
            data = data[size:]
    except RemoteProtocolError as error:
        return whole(found), str(error), cutter.oversized
    return whole(found), "", cutter.oversized


LONE: Final = st.builds(PDV, st.integers(0, 255), st.booleans(), st.booleans(), st.binary(max_size=60))


@given(
    st.lists(PDUS | LONE.map(lambda value: PDataTF((value,))), max_size=6),
    st.lists(st.integers(1, 40)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=2),
    st.sampled_from([0, 20, 10_000]),
    st.booleans(),
)
def test_the_fast_path_finds_what_the_general_one_finds(
    pdus: list[PDU], sizes: list[int], wrong: list[tuple[int, int]], announced: int, strict: bool
) -> None:
    data = bytearray(b"".join(encode(pdu) for pdu in pdus))
    for at, byte in wrong:
        if at < len(data):
            data[at] = byte
    general = framer(announced=announced, strict=strict)
    general.journal = []  # who is watched takes the general path
    fast = framer(announced=announced, strict=strict)
    assert outcome(fast, bytes(data), sizes) == outcome(general, bytes(data), sizes)
    assert fast.mid_pdu == general.mid_pdu


def test_whether_data_are_next_is_known_before_they_are_looked_at() -> None:
    cutter = framer()
    assert not cutter.data_is_next
    for data, expected in (
        (encode(P_DATA_EXAMPLE), True),
        (encode(P_DATA_EXAMPLE)[:1], True),
        (encode(ReleaseRQ()), False),
        (b"\x99", False),
    ):
        cutter = framer()
        buffer = cutter.get_buffer()
        buffer[: len(data)] = data
        cutter.buffer_updated(len(data))
        assert cutter.data_is_next == expected
    for head in (b"\5\0\0\0\0\4", encode(P_DATA_EXAMPLE)[:6], encode(P_DATA_EXAMPLE)[:13]):
        cutter = framer()  # in the middle of a PDU its bytes may look like anything
        framed(cutter, head)
        cutter.get_buffer()[:1] = b"\4"
        cutter.buffer_updated(1)
        assert not cutter.data_is_next


@given(st.lists(PDUS, max_size=4))
def test_the_framer_finds_what_was_sent(pdus: list[PDU]) -> None:
    expected: list[Framed] = []
    for pdu in pdus:
        if isinstance(pdu, PDataTF):
            expected.append(DataBegins(len(encode(pdu)) - 6))
            expected += [
                Piece(value.context_id, value.is_command, value.is_last, value.data)
                for value in pdu.values
                if value.data or value.is_last
            ]
        else:
            expected.append(ControlPDU(encode(pdu)[0], encode(pdu)[6:]))
    # Reads as they fit cut none of these, for each is shorter than the buffer is long.
    cutter = framer()
    found = [got for pdu in pdus for got in framed(cutter, encode(pdu))]
    assert found == expected
    assert not cutter.mid_pdu
    assert cutter.bytes_received == sum(len(encode(pdu)) for pdu in pdus)


def at(state: str) -> Connection:
    """A connection that awaits the PDU named."""
    connection = Connection(requestor=state in ("AssociateAC", "AssociateRJ"), config=CONFIG, pool=BufferPool(4096))
    if connection.requestor:
        connection.associate(REQUEST)
        connection.connection_made()
        return connection
    if state == "AssociateRQ":
        connection.connection_made()
        return connection
    connection = told()
    if state == "ReleaseRP":
        connection.release()
    return connection


AWAITED: Final[list[PDU]] = [
    RICH_REQUEST,
    RICH_ANSWER,
    AssociateRJ(1, 1, 1),
    P_DATA_EXAMPLE,
    ReleaseRQ(),
    ReleaseRP(),
    Abort(0, 0),
]


@pytest.mark.parametrize("pdu", AWAITED, ids=lambda pdu: type(pdu).__name__)
def test_every_strict_prefix_asks_for_more_and_the_rest_completes_it(pdu: PDU) -> None:
    data, name = encode(pdu), type(pdu).__name__
    expected = joined(receive(at(name), data))
    assert expected
    for end in range(1, len(data)):
        connection = at(name)
        before = receive(connection, data[:end])
        assert quiet(connection)
        assert connection.mid_pdu
        if name != "PDataTF":
            assert before == []
        assert joined(before + receive(connection, data[end:])) == expected
        assert not connection.mid_pdu


@pytest.mark.parametrize("pdu", AWAITED, ids=lambda pdu: type(pdu).__name__)
def test_byte_by_byte_tells_the_same(pdu: PDU) -> None:
    data, name = encode(pdu), type(pdu).__name__
    assert joined(receive(at(name), data, [1] * len(data))) == joined(receive(at(name), data))


def test_a_fragment_surfaces_in_the_pieces_in_which_it_comes() -> None:
    connection = told()
    data = encode(PDataTF((PDV(3, False, True, b"abcdef"),)))
    assert receive(connection, data[:14]) == [Piece(3, False, False, b"ab")]
    assert receive(connection, data[14:15]) == [Piece(3, False, False, b"c")]
    assert receive(connection, data[15:]) == [Piece(3, False, True, b"def")]


def test_command_and_data_in_one_pdu_and_several_pdvs() -> None:
    command = PDV(1, True, False, b"com"), PDV(1, True, True, b"mand")
    data = PDV(1, False, False, b"d"), PDV(1, False, True, b"")
    assert receive(told(), encode(PDataTF(command + data))) == [
        Piece(1, True, False, b"com"),
        Piece(1, True, True, b"mand"),
        Piece(1, False, False, b"d"),
        Piece(1, False, True, b""),
    ]


def test_an_empty_pdv_that_ends_nothing_says_nothing() -> None:
    values = PDV(1, False, False, b""), PDV(1, False, True, b"")
    connection = told()
    assert receive(connection, encode(PDataTF(values))) == [Piece(1, False, True, b"")]
    assert not connection.mid_pdu
    assert receive(connection, encode(PDataTF(()))) == []
    assert connection.is_established


@pytest.mark.parametrize("control", range(256))
def test_only_two_bits_of_the_control_header_count(control: int) -> None:
    (event,) = receive(told(), b"\4\0\0\0\0\7\0\0\0\3\1" + bytes((control,)) + b"x")
    assert event == Piece(1, bool(control & 1), bool(control & 2), b"x")


# ---------------------------------------------------------------------------------------- what is wrong


def p_data(pdu_length: int, body: bytes) -> bytes:
    return b"\4\0" + pdu_length.to_bytes(4, "big") + body


@pytest.mark.parametrize(("data", "reason", "message"), [
    (p_data(6, b"\0\0\0\0\1\3"), 6, "PDV length 0"),
    (p_data(6, b"\0\0\0\1\1\3"), 6, "PDV length 1"),
    (p_data(7, b"\0\0\0\4\1\3x"), 6, "PDV length 4 exceeds the 3 bytes left"),
    (p_data(7, b"\xff\xff\xff\xff\1\3x"), 6, "PDV length 4294967295"),
    (p_data(5, b""), 6, "5 stray bytes"),
    (p_data(8, b"\0\0\0\3\1\3x"), 6, "1 stray bytes"),
    (p_data(7, b"\0\0\0\3\5\3x"), 6, "presentation context 5, which was not accepted"),
    (b"\5\0\0\0\0\5", 6, "it always has 4"),
    (b"\7\0\0\0\0\0", 6, "it always has 4"),
    (b"\1\0\0\x10\0\1", 6, "association PDU of 1048577 bytes; at most 1048576"),
    (b"\2\0\xff\xff\xff\xff", 6, "association PDU of 4294967295 bytes"),
    (b"\0", 1, "PDU type 00H does not exist"),
    (b"\x08", 1, "PDU type 08H does not exist"),
    (b"\xff\0\0\0\0\0", 1, "PDU type FFH does not exist"),
    (b"GET / HTTP/1.1\r\n\r\n", 1, "the peer speaks HTTP"),
    (b"\x16\3\1\2\0\1\0\1\xfc\3\3", 1, "the peer speaks TLS to a port without TLS"),
    (b"\x15\3\1\0\2\2\x46", 1, "the peer sent a TLS alert"),
    (b"\1\0\0\0\0\0", 6, "at least 68 expected"),
])  # fmt: skip
@pytest.mark.parametrize("sizes", [(), (1,) * 20], ids=["at once", "byte by byte"])
def test_what_is_wrong_is_aborted_as_provider(data: bytes, reason: int, message: str, sizes: tuple[int, ...]) -> None:
    connection = told(requestor=False)
    seen = [event for event in receive(connection, data, sizes) if not isinstance(event, Piece)]
    (event,) = seen
    assert isinstance(event, Aborted)
    assert (event.source, event.reason, event.by_us) == (2, reason, True)
    assert message in event.message
    assert sent(connection) == [Abort(2, reason)]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\3\1\2\0\1"])
def test_a_type_that_does_not_exist_is_seen_at_its_first_byte(data: bytes) -> None:
    connection = Connection(requestor=False)
    connection.connection_made()
    (event,) = receive(connection, data[:1])
    assert isinstance(event, Aborted)
    assert (event.source, event.reason) == (2, 1)
    assert sent(connection) == [Abort(2, 1)]
    # Framing is lost: what follows is thrown away, however it reads.
    assert receive(connection, data[1:] + encode(REQUEST) + encode(Abort(0, 0))) == []
    assert sent(connection) == []
    assert not connection.mid_pdu
    connection.eof_received()
    assert pull(connection) == [Closed(expected=True)]


def test_a_longer_pdu_than_announced_is_tolerated_and_counted() -> None:
    connection = told()
    long, longest = bytes(CONFIG.maximum_length - 5), bytes(CONFIG.maximum_length - 6)
    events = receive(connection, encode(PDataTF((PDV(1, False, False, longest),))))
    assert connection.oversized_pdus == 0
    events += receive(connection, encode(PDataTF((PDV(1, False, True, long),))))
    assert connection.oversized_pdus == 1
    assert joined(events) == [Piece(1, False, True, longest + long)]
    assert connection.is_established


def test_a_longer_pdu_than_announced_is_an_abort_under_strict() -> None:
    cutter = framer(announced=8, strict=True)
    assert framed(cutter, p_data(8, b"\0\0\0\4\1\3ab"))[1:] == [Piece(1, True, True, b"ab")]
    with pytest.raises(RemoteProtocolError, match="9 bytes; we announced at most 8") as caught:
        framed(cutter, p_data(9, b"\0\0\0\5\1\3abc"))
    assert (caught.value.source, caught.value.reason) == (2, 6)


def test_no_pdu_is_too_long_where_no_limit_was_announced() -> None:
    cutter = framer(announced=0, strict=True)
    framed(cutter, p_data(0xFFFFFFFF, b"\xff\xff\xff\xfb\1\3ab"))
    assert cutter.oversized == 0
    assert cutter.mid_pdu


# ---------------------------------------------------------------------------------------- memory


def test_a_declared_length_costs_no_memory() -> None:
    connection = told()
    chunk = bytes(2048)
    received = 0
    tracemalloc.start()
    try:
        put(connection, p_data(0xFFFFFFFF, b"\xff\xff\xff\xfb\1\0"))
        for _ in range(1000):
            put(connection, chunk)
            while isinstance(event := connection.next_event(), Fragment):
                received += len(event.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == 1000 * len(chunk)
    assert peak < 64 * 1024


def test_a_declared_request_costs_what_came_of_it() -> None:
    connection = Connection(requestor=False, config=CONFIG, pool=BufferPool(4096))
    connection.connection_made()
    put(connection, b"")
    tracemalloc.start()
    try:
        assert receive(connection, b"\1\0\0\x0f\0\0" + bytes(10_000)) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_limit_for_association_pdus_is_the_configurations() -> None:
    limit = len(encode(REQUEST)) - 6
    for associate_pdu, kind in ((limit, AssociateRequested), (limit - 1, Aborted)):
        config = replace(CONFIG, limits=Limits(associate_pdu=associate_pdu))
        connection = Connection(requestor=False, config=config)
        connection.connection_made()
        (event,) = receive(connection, encode(REQUEST))
        assert isinstance(event, kind)


def test_an_idle_association_holds_no_buffer() -> None:
    pool = WatchedPool(4096)
    connections = [Connection(requestor=False, config=CONFIG, pool=pool) for _ in range(3)]
    held = pool.take().obj  # kept, so that no other buffer can lie where it lay
    first = {id(held)}
    pool.out = 0
    for connection in connections:
        connection.connection_made()
        request = encode(REQUEST)
        receive(connection, request[:50])
        assert pool.out == 0
        receive(connection, request[50:])
        assert pool.out == 1, "what may follow a request waits in the buffer until it is answered"
        connection.accept(ANSWER)
        assert quiet(connection)
        assert pool.out == 0
        receive(connection, encode(PDataTF((PDV(1, True, False, b"x"),)))[:-1])
        assert pool.out == 0
    first.add(id(pool.take().obj))
    assert len(first) == 2, "one buffer served all three"


def test_a_header_survives_that_its_buffer_is_given_back() -> None:
    connection = told()
    data = encode(PDataTF((PDV(1, True, True, b"data"),)))
    for end in range(1, 12):
        assert receive(connection, data[:end]) == []
        assert receive(connection, data[end:]) == [Piece(1, True, True, b"data")]


def test_the_pool_keeps_a_bounded_number_of_spare_buffers() -> None:
    pool = BufferPool(16)
    buffers = [pool.take() for _ in range(POOLED_BUFFERS + 6)]
    assert all(len(buffer) == 16 for buffer in buffers)
    for buffer in buffers:
        pool.give(buffer)
    again = [pool.take() for _ in buffers]
    given = {id(buffer.obj) for buffer in buffers}
    assert sum(id(buffer.obj) in given for buffer in again) == POOLED_BUFFERS


def test_a_view_is_the_buffer_itself_and_lives_until_the_next_call() -> None:
    connection = told()
    data = encode(PDataTF((PDV(1, True, False, b"one"), PDV(1, True, True, b"two"))))
    buffer = connection.get_buffer()
    buffer[: len(data)] = data
    connection.buffer_updated(len(data))
    one = connection.next_event()
    assert isinstance(one, Fragment)
    assert one.data.obj is buffer.obj
    assert bytes(one.data) == b"one"
    two = connection.next_event()
    assert isinstance(two, Fragment)
    assert bytes(two.data) == b"two"
    assert connection.next_event() is NEED_DATA


def test_what_comes_behind_a_request_waits_and_fills_the_buffer() -> None:
    connection = Connection(requestor=False, config=CONFIG, pool=BufferPool(4096))
    connection.connection_made()
    message = encode(PDataTF((PDV(1, False, True, b"x" * 500),)))
    stream = encode(REQUEST) + message * 20
    position = 0
    seen: list[Seen] = []
    while count := put(connection, stream[position:]):
        position += count
        seen += pull(connection)
    assert seen == [AssociateRequested(REQUEST)]
    assert 4096 - 1024 <= position <= 4096, "as much as there is room for"
    assert paused(connection)
    connection.accept(ANSWER)
    seen = pull(connection) + receive(connection, stream[position:])
    assert joined(seen) == [Piece(1, False, True, b"x" * 500)] * 20
    assert connection.bytes_received == len(stream)


def test_a_buffer_that_is_full_of_unread_bytes_is_kept_when_the_read_side_stops() -> None:
    connection = Connection(requestor=False, config=CONFIG, pool=BufferPool(4096))
    assert receive(connection, encode(RICH_REQUEST)) == []
    assert connection.mid_pdu
    connection.connection_made()
    (event,) = pull(connection)
    assert isinstance(event, AssociateRequested)
    assert isinstance(event.request, AssociateRQ)
    assert event.request == RICH_REQUEST
