"""The event-driven face and real peers: the twelve steps, the listener's loop, an image of a gigabyte."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import MULTI_FRAME_BYTE, Instance, instance_header, make_instance, read_instance
from tests.interop import peers
from tests.interop.comparing import Arrived, arrived, differences, disagreements
from tests.toolkit.recording import Recorded, accept_all, running

from dulcet import uids
from dulcet.dimse.command import Command
from dulcet.toolkit import Associate, StorageListener

GIGABYTE = 1 << 30
PEAK_MEMORY = 120 * 1_000_000


@pytest.fixture
def few(whole: list[Instance]) -> list[Instance]:
    """Real files in many transfer syntaxes, one of each."""
    by_syntax = {instance.transfer_syntax: instance for instance in reversed(whole)}
    return [*by_syntax.values()]


# --- Net ----------------------------------------------------------------------------------------------------------


def test_the_walk_through_with_storescp(few: list[Instance], tmp_path: Path) -> None:
    """Steps 1 to 12 as user: each file in a context of its own, one after the other answered."""
    folder = tmp_path / "got"
    folder.mkdir()
    waiting = list(enumerate(few))

    def next_file(net: Recorded, *_: Any) -> None:
        if not waiting:
            net.send_release_request()
            return
        index, instance = waiting.pop(0)
        net.send_c_store_request(
            2 * index + 1, None, instance.sop_class_uid, instance.sop_instance_uid, data_set=instance.path
        )

    def ask(net: Recorded, error: object) -> None:
        request = Associate.default()
        request.reset()
        request.called, request.calling = "STORESCP", "TOOLKIT"
        request.max_length, request.implementation_class_uid = 65536, "1.2.3"
        for index, instance in enumerate(few):
            request.add_presentation(2 * index + 1, 0, instance.sop_class_uid, [instance.transfer_syntax])
        net.send_associate_request(request)

    user = Recorded(
        on_connect=ask,
        on_receive_associate_accept=next_file,
        on_receive_c_store_response=next_file,
        on_receive_release_response=lambda net: net.close(),
    )
    with running(), peers.storescp(folder, "+xa") as server:
        user.connect(server.host, server.port)
        user.heard("on_receive_release_response")
    answers = [arguments for name, arguments in user.calls if name == "on_receive_c_store_response"]
    assert [answer[4] for answer in answers] == [0] * len(few)
    assert differences(few, arrived(folder)) == []
    assert user.names(sends=False)[:3] == ["on_connect", "on_receive", "on_receive_associate_accept"]
    assert user.names(sends=False)[-5:] == [
        "on_receive",
        "on_receive_data",
        "on_receive_c_store_response",
        "on_receive",
        "on_receive_release_response",
    ]


@pytest.fixture
def provider() -> Iterator[tuple[Recorded, list[Recorded]]]:
    """A listening object that keeps what comes in memory, and its clients."""
    clients: list[Recorded] = []

    def on_accept(net: Recorded, error: object) -> None:
        clients.append(
            Recorded(
                on_receive_associate_request=accept_all,
                on_receive_c_store_request=lambda client, context, message, *_: client.send_c_store_response(
                    context, message, status=0
                ),
            )
        )
        net.accept(clients[-1])

    with running():
        yield Recorded(on_accept=on_accept), clients


def test_the_walk_through_with_storescu(provider: tuple[Recorded, list[Recorded]], tmp_path: Path) -> None:
    """Steps 1 to 12 as provider: every call in order, and the bytes of the file."""
    server, clients = provider
    path = make_instance(tmp_path / "one.dcm", 300_000)
    port = server.listen("127.0.0.1")
    peers.storescu(port, [path]).check()
    assert server.heard("on_close") == (None, clients[0])
    names = clients[0].names(sends=False)
    pdus = names.count("on_receive")
    assert [name for name in names if name != "on_receive"] == [
        "on_receive_associate_request",
        "on_store_setup",
        "on_receive_data",
        "on_receive_c_store_request",
        "on_receive_release_request",
    ]
    assert pdus > 4  # storescu cuts the data set into PDUs of 16 KiB
    assert names[-4:] == ["on_receive_data", "on_receive_c_store_request", "on_receive", "on_receive_release_request"]
    _, command, data_set = clients[0].arguments("on_receive_data")
    assert isinstance(command, Command)
    assert command.affected_sop_instance_uid == read_instance(path).sop_instance_uid
    assert bytes(data_set).endswith(path.read_bytes()[-300_000:])


def test_storescu_aborts_and_that_is_told(provider: tuple[Recorded, list[Recorded]], tmp_path: Path) -> None:
    server, clients = provider
    peers.storescu(server.listen("127.0.0.1"), [make_instance(tmp_path / "one.dcm", 2048)], "--abort")
    server.heard("on_close")
    assert clients[0].names()[-1] == "on_receive_abort"


def test_storescu_is_told_of_each_reject(tmp_path: Path) -> None:
    client = Recorded(on_receive_associate_request=lambda net, associate: net.send_associate_reject(1, 1, 7))
    server = Recorded(on_accept=lambda net, error: net.accept(client))
    with running():
        refused = peers.storescu(server.listen("127.0.0.1"), [make_instance(tmp_path / "one.dcm", 2048)])
        server.heard("on_close")
    assert "Called AE Title Not Recognized" in refused.errors + refused.output


def test_echoscu_and_pynetdicom_find_a_net_alive(provider: tuple[Recorded, list[Recorded]]) -> None:
    server, clients = provider
    port = server.listen("127.0.0.1")
    peers.echoscu(port).check()
    peers.pynetdicom_scu(port, []).check()
    server.heard("on_close", 2)
    assert all("on_receive_c_echo_request" in client.names() for client in clients)


# --- StorageListener ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["storescu", "dcmsend", "pynetdicom"])
def test_the_listeners_loop(sender: str, few: list[Instance], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What pynetdicom sends are the files bit for bit; of DCMTK's tools, storescp receives the same."""
    files = [one for one in few if one.transfer_syntax not in uids.DEFLATED]  # which peers pad, or do not
    if sender == "storescu":
        files = [one for one in files if one.transfer_syntax == uids.EXPLICIT_VR_LITTLE_ENDIAN]
    paths = [instance.path for instance in files]
    outcomes: list[peers.Finished] = []
    stored: list[tuple[Any, bool]] = []

    class Listener(StorageListener):
        def on_store_done(self, path: Any, done: bool) -> bool:
            stored.append((path, done))
            return done

    with Listener("ANY-SCP", store_directory=tmp_path / "got") as listener:
        port = listener.port

        def send() -> None:
            senders = {"storescu": peers.storescu, "dcmsend": peers.dcmsend, "pynetdicom": peers.pynetdicom_scu}
            outcomes.append(senders[sender](port, paths))  # type: ignore[operator]

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        while thread.is_alive():
            if listener.wait_for_connection(0.2):
                while listener.wait_for_command(30):
                    pass
        thread.join(30)
    outcomes[0].check()
    assert [done for _, done in stored] == [True] * len(files)
    received = arrived(tmp_path / "got")
    assert received.keys() == {instance.sop_instance_uid for instance in files}
    if sender == "pynetdicom":
        assert differences(files, received) == []
    else:
        reference: dict[str, Arrived] = request.getfixturevalue(f"{sender}_reference")
        assert disagreements({uid: reference[uid] for uid in received}, received) == []


@pytest.mark.slow
def test_a_gigabyte_passes_through_a_path_in_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "long.dcm"
    header = instance_header(GIGABYTE, 1, MULTI_FRAME_BYTE)
    with source.open("wb") as file:  # a hole of a gigabyte: all zero pixels
        file.write(header)
        file.truncate(len(header) + GIGABYTE)
    folder = tmp_path / "got"
    script = Path(__file__).with_name("toolkit_listener.py")
    with peers.announced([sys.executable, script, "--dir", folder], folder) as server:
        peers.dulcet("store", server.address, source, timeout=100).check()
        peak = peers.peak_memory(server.process.pid)
        server.stop()
    (kept,) = folder.iterdir()
    assert kept.stat().st_size > GIGABYTE
    with kept.open("rb") as file:
        assert header[-200:] in file.read(4096)
    assert 0 < peak < PEAK_MEMORY
