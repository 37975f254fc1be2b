"""Watching: lines for what both sides say, a proxy that spoils bytes, recordings, captures, replay."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus import make_folder

import dulcet
from dulcet.node.threads import NodeThreads
from dulcet.trace.decoding import Direction, Tracer
from dulcet.trace.proxy import Fault, Proxy
from dulcet.trace.recording import Entry, Recorder, play, read_capture, read_recording

NAME = "PLANTED^NAME"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NodeThreads]:
    node = dulcet.Node("ARCHIVE", store_to=tmp_path / "kept", durability="none")

    @node.on_store
    def keep(request):  # type: ignore[no-untyped-def]
        return None

    @node.on_find
    def find(request):  # type: ignore[no-untyped-def]
        return [request.identifier]

    with node.threads() as threads:
        yield threads


def lines_of(entries: list[Entry], **options: bool) -> list[str]:
    tracer = Tracer(**options)
    return [line for entry in entries for line in tracer.feed(entry.direction, entry.data)]


def session(server: NodeThreads, path: Path, tmp_path: Path, faults: tuple[Fault, ...] = ()) -> list[Entry]:
    """A recorded session: echo, store, find, release."""
    files = make_folder(tmp_path / "files", 1, 300_000)
    host_port = (server.address.host, server.address.port)
    with (
        Recorder(path) as recorder,
        Proxy(host_port, faults=faults, watch=recorder) as proxy,
        dulcet.associate(f"ARCHIVE@127.0.0.1:{proxy.port}", calling_ae_title="WATCHED") as association,
    ):
        association.echo().check()
        for sent in association.store_many(files, window=1):
            sent.check()
        assert len(list(association.find(level="STUDY", PatientName=NAME))) == 1
    return list(read_recording(path))


def test_a_session_reads_like_its_messages(server: NodeThreads, tmp_path: Path) -> None:
    entries = session(server, tmp_path / "session.jsonl", tmp_path)
    lines = lines_of([entry for entry in entries if entry.connection == 1], datasets=True)
    text = "\n".join(lines)
    assert lines[0].startswith("> A-ASSOCIATE-RQ 'WATCHED' calls 'ARCHIVE', DULCET_")
    for expected in (
        "< A-ASSOCIATE-AC DULCET_",
        ">     C-ECHO-RQ 1 on context 1, Verification",
        "<     C-ECHO-RSP 1 on context 1, Verification SOP Class, 0000H success",
        "C-FIND-RQ",
        "FF00H",
        "(0010,0010) PatientName: ****",
        "> A-RELEASE-RQ",
        "< A-RELEASE-RP",
    ):
        assert expected in text
    assert NAME not in text
    assert NAME in "\n".join(lines_of(entries[:], datasets=True, unmasked=True))


def test_bytes_pass_through_unchanged_and_lines_do_not_depend_on_how_they_are_cut(
    server: NodeThreads, tmp_path: Path
) -> None:
    entries = [entry for entry in session(server, tmp_path / "one.jsonl", tmp_path) if entry.connection == 1]
    whole: dict[Direction, bytes] = {">": b"", "<": b""}
    for entry in entries:
        whole[entry.direction] += entry.data
    for direction, data in whole.items():
        other: Direction = "<" if direction == ">" else ">"
        at_once, in_pieces = Tracer(), Tracer()
        list(at_once.feed(other, whole[other])), list(in_pieces.feed(other, whole[other]))
        expected = list(at_once.feed(direction, data))
        cut = [line for at in range(0, len(data), 997) for line in in_pieces.feed(direction, data[at : at + 997])]
        assert cut == expected
        assert not any("??" in line for line in expected)


@given(st.lists(st.tuples(st.sampled_from([">", "<"]), st.binary(max_size=200)), max_size=20))
def test_a_trace_takes_any_bytes(pieces: list[tuple[Direction, bytes]]) -> None:
    tracer = Tracer(datasets=True)
    for direction, data in pieces:
        for line in tracer.feed(direction, data):
            assert line.startswith(direction)


def test_a_recording_is_played_back_to_a_peer(server: NodeThreads, tmp_path: Path) -> None:
    entries = session(server, tmp_path / "session.jsonl", tmp_path)
    again = list(play(tmp_path / "session.jsonl", "127.0.0.1", server.address.port))
    assert [line for line in lines_of(again) if "RSP" in line] == [
        line for line in lines_of([entry for entry in entries if entry.connection == 1]) if "RSP" in line
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"time": 1}', '{"time":0,"connection":1,"direction":"x"}', "a"])
def test_a_damaged_recording_names_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"time": 0, "connection": 1, "direction": ">", "bytes": ""}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        list(read_recording(path))


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_text("")
    with pytest.raises(FileExistsError):
        Recorder(tmp_path / "there.jsonl")


def test_a_capture_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    stream = bytes(range(256)) * 4
    packets = [tcp(1000, 104, 99, 2), tcp(104, 1000, 499, 18)]
    pieces = [tcp(1000, 104, 100 + at, 16, stream[at : at + 100]) for at in range(0, len(stream), 100)]
    packets += [pieces[1], pieces[0], pieces[3], pieces[3], pieces[2], *pieces[4:], tcp(104, 1000, 500, 16, b"answer")]
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(packets))
    entries = list(read_capture(path))
    assert b"".join(entry.data for entry in entries if entry.direction == ">") == stream
    assert [(entry.direction, entry.data) for entry in entries][-1] == ("<", b"answer")
    assert list(read_capture(path, port=9)) == []


def test_what_is_no_capture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no.pcap"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="tcpdump -w"):
        list(read_capture(path))


def tcp(source: int, target: int, sequence: int, flags: int, payload: bytes = b"") -> bytes:
    segment = struct.pack(">HHIIBBHHH", source, target, sequence, 0, 5 << 4, flags, 1000, 0, 0) + payload
    low, high = (b"\x7f\0\0\1", b"\x7f\0\0\2") if source < target else (b"\x7f\0\0\2", b"\x7f\0\0\1")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + low + high
    packet = bytes(12) + b"\x08\x00" + ip + segment
    return struct.pack("<IIII", 1, 0, len(packet), len(packet)) + packet


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("delay=50ms", Fault("delay", 0.05)),
        (">:cut=10k", Fault("cut", 10_000, ">")),
        ("<:throttle=1.5M", Fault("throttle", 1_500_000, "<")),
        ("reset=4096", Fault("reset", 4096)),
        ("stop=1", Fault("stop", 1)),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize("text", ["", "delay", "delay=x", "burn=1", "=1", ">cut=1"])
def test_what_is_no_fault_is_explained(text: str) -> None:
    with pytest.raises(ValueError, match="delay=50ms"):
        Fault.parse(text)


@pytest.mark.parametrize("fault", ["delay=5ms", "jitter=10ms", "throttle=20M"])
def test_slow_networks_change_nothing_but_time(server: NodeThreads, tmp_path: Path, fault: str) -> None:
    entries = session(server, tmp_path / "slow.jsonl", tmp_path, (Fault.parse(fault),))
    assert any("A-RELEASE-RP" in line for line in lines_of(entries))


@pytest.mark.parametrize("fault", [">:cut=200000", "<:cut=40000", ">:reset=200000", "<:reset=40000", ">:stop=200000"])
def test_a_broken_network_is_an_exception_and_the_server_lives_on(
    server: NodeThreads, tmp_path: Path, fault: str
) -> None:
    files = make_folder(tmp_path / "files", 1, 300_000)
    config = dulcet.AssociationConfig(timers=dulcet.Timers(response=1.0, progress=1.0))
    contexts = [dulcet.Proposal("1.2.840.10008.1.1", ("1.2.840.10008.1.2",))]

    def talk_until_it_breaks(port: int) -> None:
        with dulcet.associate(f"ARCHIVE@127.0.0.1:{port}", config=config) as association:
            for _ in range(400):
                association.echo().check()
                association.store(files[0]).check()

    broken = (dulcet.AssociationError, dulcet.DimseTimeout)
    with Proxy((server.address.host, server.address.port), faults=[Fault.parse(fault)]) as proxy, pytest.raises(broken):
        talk_until_it_breaks(proxy.port)
    with dulcet.associate(server.address, contexts=contexts) as association:
        association.echo().check()
