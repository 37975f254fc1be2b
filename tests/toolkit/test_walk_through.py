"""The twelve steps of a connection, every call on both sides in order: with release, abort, and each legal reject."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from tests.toolkit.recording import CT, DATA_SET, INSTANCE, Parties, Recorded, accept_all, asking, connected, running

from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted
from dulcet.toolkit import Associate, DataSet, Net, shutdown, startup

RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


@pytest.fixture(autouse=True)
def thread() -> Iterator[None]:
    with running():
        yield


def store_response(net: Net, presentation_id: int, message_id: int, class_uid: str, instance_uid: str, *_: Any) -> None:
    net.send_c_store_response(presentation_id, message_id, class_uid, instance_uid, Status.SUCCESS)


def begin(on_receive_associate_request: Any = accept_all, **user_scripts: Any) -> Parties:
    """Steps 1 to 5."""
    client = Recorded(
        on_receive_associate_request=on_receive_associate_request, on_receive_c_store_request=store_response
    )
    user = Recorded(on_receive_release_response=lambda net: net.close(), **user_scripts)
    parties = connected(user, Recorded(), client)
    parties.user.send_associate_request(asking())
    return parties


def shown(call: tuple[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """A call with what can be compared by eye."""
    name, arguments = call
    if name in ("on_receive", "on_send"):
        return name, arguments[0]
    return name, *(argument for argument in arguments if isinstance(argument, int | str) or argument is None)


ASSOCIATED_USER = [
    ("on_connect", None),
    ("on_send", RQ),
    ("on_receive", AC),
    ("on_receive_associate_accept",),
    ("on_send_command_set", 3),
    ("on_send", DATA),  # the command set
    ("on_send", DATA),  # the data set
    ("on_receive", DATA),
    ("on_receive_data", 3, None),
    ("on_receive_c_store_response", 3, 1, CT, INSTANCE, Status.SUCCESS),
]
ASSOCIATED_CLIENT = [
    ("on_receive", RQ),
    ("on_receive_associate_request",),
    ("on_send", AC),
    ("on_receive", DATA),
    ("on_store_setup", 3),
    ("on_receive", DATA),
    ("on_receive_data", 3),
    ("on_send_command_set", 3),
    ("on_receive_c_store_request", 3, 1, CT, INSTANCE, 0, None, None),
    ("on_send", DATA),
]


def store(parties: Parties) -> None:
    """Steps 6 to 8."""
    parties.user.heard("on_receive_associate_accept")
    assert parties.user.send_c_store_request(3, None, CT, INSTANCE, data_set=DATA_SET) == 1
    parties.user.heard("on_receive_c_store_response")
    command, data_set = parties.client.arguments("on_receive_data")[1:]
    assert isinstance(command, Command)
    assert command.field == CommandField.C_STORE_RQ
    assert isinstance(data_set, DataSet)
    assert bytes(data_set) == DATA_SET
    assert data_set.dataset().SOPInstanceUID == INSTANCE


def test_the_twelve_steps_with_release() -> None:
    parties = begin()
    store(parties)
    parties.user.send_release_request()
    error, peer = parties.server.heard("on_close")
    assert (error, peer) == (None, parties.client)
    assert [shown(call) for call in parties.user.calls] == [
        *ASSOCIATED_USER,
        ("on_send", RELEASE_RQ),
        ("on_receive", RELEASE_RP),
        ("on_receive_release_response",),
    ]
    assert [shown(call) for call in parties.client.calls] == [
        *ASSOCIATED_CLIENT,
        ("on_receive", RELEASE_RQ),
        ("on_receive_release_request",),
        ("on_send", RELEASE_RP),
    ]
    assert parties.server.names() == ["on_accept", "on_close"]


def test_the_twelve_steps_with_abort() -> None:
    parties = begin()
    parties.user.scripts["on_receive_c_store_response"] = lambda net, *_: (net.send_abort(2, 5), net.close())
    store(parties)
    error, peer = parties.server.heard("on_close")
    assert isinstance(error, AssociationAborted)
    assert peer is parties.client
    assert [shown(call) for call in parties.user.calls] == [*ASSOCIATED_USER, ("on_send", ABORT)]
    assert [shown(call) for call in parties.client.calls] == [
        *ASSOCIATED_CLIENT,
        ("on_receive", ABORT),
        ("on_receive_abort", 2, 5),
    ]
    assert parties.server.names() == ["on_accept", "on_close"]


TRIPLES = [
    (result, source, reason)
    for result, (source, reason) in product((1, 2), ((1, 1), (1, 2), (1, 3), (1, 7), (2, 1), (2, 2), (3, 1), (3, 2)))
]


@pytest.mark.parametrize("triple", TRIPLES, ids=str)
def test_the_twelve_steps_with_reject(triple: tuple[int, int, int]) -> None:
    parties = begin(
        lambda net, associate: net.send_associate_reject(*triple),
        on_receive_associate_reject=lambda net, *_: net.close(),
    )
    assert parties.user.heard("on_receive_associate_reject") == triple
    assert parties.server.heard("on_close") == (None, parties.client)
    assert [shown(call) for call in parties.user.calls] == [
        ("on_connect", None),
        ("on_send", RQ),
        ("on_receive", RJ),
        ("on_receive_associate_reject", *triple),
    ]
    assert [shown(call) for call in parties.client.calls] == [
        ("on_receive", RQ),
        ("on_receive_associate_request",),
        ("on_send", RJ),
    ]
    assert parties.server.names() == ["on_accept", "on_close"]


def test_functions_can_be_assigned_instead() -> None:
    """Steps 1 to 12 without a subclass."""
    from queue import SimpleQueue

    told: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    startup()
    server, user = Net(), Net()

    def on_accept(error: object) -> None:
        client = Net()
        client.on_receive_associate_request = lambda associate: client.send_associate_accept(
            Associate.accepting(associate)
        )
        client.on_receive_c_echo_request = lambda *request: client.send_c_echo_response(*request, 0xB000)
        server.accept(client)

    server.on_accept = on_accept
    server.on_close = lambda error, peer: told.put(("close", error))
    user.on_connect = lambda error: user.send_associate_request(asking())
    user.on_receive_associate_accept = lambda associate: user.send_c_echo_request(1, 77, "1.2.840.10008.1.1")
    user.on_receive_c_echo_response = lambda *response: (told.put(response), user.send_release_request())
    user.on_receive_release_response = user.close
    user.connect("127.0.0.1", server.listen("127.0.0.1"))
    assert told.get(timeout=20) == (1, 77, "1.2.840.10008.1.1", 0xB000)
    assert told.get(timeout=20) == ("close", None)
    shutdown()
