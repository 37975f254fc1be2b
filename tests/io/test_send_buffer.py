"""The send buffer: whatever the segments are, what comes out is their bytes end to end, or one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dulcet.errors import InstanceError
from dulcet.io import send_buffer
from dulcet.io.send_buffer import BUFFER_LENGTH, MAX_SLOTS, SPARE_TRAINS, FileFailed, SendBuffer, SendBufferPool
from dulcet.upper_layer.fragments import FileSpan, Segment

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Two open files with different content."""
    folder = tmp_path_factory.mktemp("train")
    descriptors = []
    for name, content in (("one", CONTENT), ("other", CONTENT[::-1])):
        (folder / name).write_bytes(content)
        descriptors.append(os.open(folder / name, os.O_RDONLY))
    yield descriptors[0], descriptors[1]
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(params=["preadv", "read"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading files, whatever this system has."""
    read = send_buffer._read_vector if request.param == "preadv" else send_buffer._read_simply
    monkeypatch.setattr(send_buffer, "_read", read)


def joined(segments: Sequence[Segment]) -> bytes:
    return b"".join(
        os.pread(segment.file, segment.length, segment.offset) if isinstance(segment, FileSpan) else bytes(segment)
        for segment in segments
    )


PIECE = st.binary(max_size=40)
SPAN = st.tuples(st.integers(0, 1), st.integers(0, len(CONTENT)), st.integers(0, 300)).map(
    lambda span: (span[0], span[1], min(span[2], len(CONTENT) - span[1]))
)


@pytest.mark.usefixtures("reading")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(PIECE | PIECE.map(memoryview) | SPAN, max_size=30))
def test_any_segments_come_out_end_to_end(files: tuple[int, int], plan: list[bytes | tuple[int, int, int]]) -> None:
    segments: list[Segment] = [
        FileSpan(files[part[0]], part[1], part[2]) if isinstance(part, tuple) else part for part in plan
    ]
    assert bytes(SendBuffer().load(segments)) == joined(segments)


@pytest.mark.usefixtures("reading")
def test_one_file_behind_many_headers_is_read_in_order(files: tuple[int, int]) -> None:
    count = MAX_SLOTS * 2 + 3
    segments: list[Segment] = []
    for number in range(count):
        segments += [b"head", FileSpan(files[0], number * 7, 7)]
    assert bytes(SendBuffer().load(segments)) == joined(segments)


@pytest.mark.usefixtures("reading")
def test_what_is_longer_than_the_buffer_finds_room(files: tuple[int, int]) -> None:
    segments: list[Segment] = [bytes(BUFFER_LENGTH), FileSpan(files[1], 3, 100), b"end"]
    train_ = SendBuffer()
    assert bytes(train_.load(segments)) == joined(segments)
    assert bytes(train_.load([b"next"])) == b"next"


@pytest.mark.usefixtures("reading")
def test_a_file_that_is_shorter_than_said_is_an_error_that_says_where(files: tuple[int, int]) -> None:
    segments: list[Segment] = [b"head", FileSpan(files[0], 10_000, 100), b"head", FileSpan(files[0], 10_100, 200)]
    with pytest.raises(FileFailed, match=r"ended at byte 10240, 60 bytes early") as caught:
        SendBuffer().load(segments)
    assert caught.value.file == files[0]
    assert isinstance(caught.value, InstanceError)


@pytest.mark.usefixtures("reading")
def test_a_file_that_cannot_be_read_is_the_same_kind_of_error(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileFailed, match="cannot be read any more") as caught:
            SendBuffer().load([FileSpan(folder, 0, 10)])
        assert caught.value.file == folder
    finally:
        os.close(folder)


def test_reads_that_are_cut_short_are_continued(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def three_bytes(file: int, slots: Sequence[memoryview], offset: int) -> int:
        return real(file, [slots[0][:3]], offset)

    monkeypatch.setattr(os, "preadv", three_bytes)
    monkeypatch.setattr(send_buffer, "_read", send_buffer._read_vector)
    segments: list[Segment] = [FileSpan(files[0], 0, 5), b"x", FileSpan(files[0], 5, 6), FileSpan(files[0], 11, 20)]
    assert bytes(SendBuffer().load(segments)) == joined(segments)


def test_a_pool_gives_back_what_it_was_given_and_keeps_a_few() -> None:
    pool = SendBufferPool()
    first = pool.take()
    pool.give(first)
    assert pool.take() is first
    many = [pool.take() for _ in range(SPARE_TRAINS + 3)]
    for one in many:
        pool.give(one)
    assert len(pool._spare) == SPARE_TRAINS
