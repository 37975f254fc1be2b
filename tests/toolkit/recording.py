"""Connections that write down what they are called back with, so that tests compare whole sequences.

Rule: a test waits for a call, with a deadline, never for time to pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.corpus import CT_IMAGE, EXPLICIT, element

from dulcet import uids
from dulcet.toolkit import Associate, Net, shutdown, startup
from dulcet.toolkit.messages import Message

DEADLINE = 20.0
CT = CT_IMAGE
INSTANCE = "1.2.826.0.1.3680043.9.7.1"
FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
CLASSES = (uids.VERIFICATION, CT, FIND, GET, MOVE, MPPS)
"""Contexts 1, 3, 5, 7, 9, 11 of `asking`."""

DATA_SET = element(0x00080016, b"UI", CT.encode()) + element(0x00080018, b"UI", INSTANCE.encode())
CALLBACKS = sorted(name for name in dir(Net) if name.startswith("on_") and not name.startswith("on_bytes_"))
"""Those of bytes come as the kernel cuts them: a sequence would differ from run to run."""

Hook = Callable[..., Any]


class Recorded(Net):
    """Records every callback as (name, arguments); `scripts` are called as overriding methods would be."""

    def __init__(self, **scripts: Any) -> None:
        options = {name: scripts.pop(name) for name in list(scripts) if not name.startswith("on_")}
        super().__init__(**options)
        self.scripts: dict[str, Hook] = scripts
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._changed = threading.Condition()

    def names(self, *, sends: bool = True) -> list[str]:
        """What was called, in order."""
        with self._changed:
            return [name for name, _ in self.calls if sends or name not in ("on_send", "on_send_command_set")]

    def arguments(self, name: str) -> tuple[Any, ...]:
        """Those of the last call of a callback."""
        with self._changed:
            return next(arguments for called, arguments in reversed(self.calls) if called == name)

    def heard(self, name: str, times: int = 1) -> tuple[Any, ...]:
        """Wait until a callback was called so many times; the arguments of that call."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.names().count(name) >= times, DEADLINE)
            assert done, f"{name} was not called {times} times within {DEADLINE} s; called were {self.names()}"
            return [arguments for called, arguments in self.calls if called == name][times - 1]

    def _record(self, name: str, arguments: tuple[Any, ...]) -> None:
        with self._changed:
            self.calls.append((name, arguments))
            self._changed.notify_all()


def _recording(name: str) -> Any:
    def callback(self: Recorded, *arguments: Any) -> Any:
        hook = self.scripts.get(name)
        result = hook(self, *arguments) if hook is not None else getattr(super(Recorded, self), name)(*arguments)
        self._record(name, arguments)
        return result

    return callback


for _name in CALLBACKS:
    setattr(Recorded, _name, _recording(_name))


def asking(*classes: str, called: str = "PROVIDER") -> Associate:
    """A request with a context for each class, explicit VR little endian."""
    made = Associate.default()
    made.reset()
    made.called, made.calling = called, "USER"
    made.max_length = 16384
    made.implementation_class_uid = "1.2.3.4"
    for index, uid in enumerate(classes or CLASSES):
        made.add_presentation(2 * index + 1, 0, uid, [EXPLICIT])
    return made


def accept_all(net: Net, associate: Associate) -> None:
    """`on_receive_associate_request` of one who takes everything, both roles included."""
    net.send_associate_accept(Associate.accepting(associate))


@contextmanager
def running() -> Iterator[None]:
    """The I/O thread, as long as a test needs it."""
    startup()
    try:
        yield
    finally:
        shutdown()


class Parties:
    """A user that is connected to what a listening provider accepted."""

    def __init__(self, user: Recorded, server: Recorded, client: Recorded) -> None:
        self.user, self.server, self.client = user, server, client


def connected(user: Recorded, server: Recorded, client: Recorded) -> Parties:
    """Connect a user to `client`, accepted from `server`."""
    server.scripts.setdefault("on_accept", lambda net, error: net.accept(client))
    port = server.listen("127.0.0.1", 0)
    user.connect("127.0.0.1", port)
    assert user.heard("on_connect") == (None,)
    return Parties(user, server, client)


def associated(**client_scripts: Any) -> Parties:
    """The same with an association on it that takes everything."""
    client_scripts.setdefault("on_receive_associate_request", accept_all)
    parties = connected(Recorded(), Recorded(), Recorded(**client_scripts))
    parties.user.send_associate_request(asking())
    parties.user.heard("on_receive_associate_accept")
    return parties


def context_of(name: str) -> tuple[int, str]:
    """Where a message can travel, and its class."""
    for key, uid in (
        ("c_find", FIND),
        ("c_get", GET),
        ("c_move", MOVE),
        ("c_cancel", FIND),
        ("n_", MPPS),
        ("c_echo", CLASSES[0]),
    ):
        if name.startswith(key):
            return 2 * CLASSES.index(uid) + 1, uid
    return 3, CT


VALUES: dict[str, Any] = {
    "message_id": 4711,
    "instance_uid": INSTANCE,
    "priority": 2,
    "move_originator_ae": "MOVER",
    "move_originator_id": 99,
    "move_destination": "THERE",
    "status": 0xB000,
    "event_type_id": 3,
    "action_type_id": 4,
    "attributes": (0x00100010, 0x00100020),
    "remaining": 4,
    "completed": 3,
    "failed": 2,
    "warning": 1,
    "data_set": DATA_SET,
}


def values_of(message: Message, uid: str) -> list[Any]:
    return [uid if name == "class_uid" else VALUES[name] for name in message.keywords] + (
        [VALUES["data_set"]] if message.has_data_set else []
    )
