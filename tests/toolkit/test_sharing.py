"""Storage listeners on one port, closed from other threads, dropped: whose a call is, and what is given back."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import CT_IMAGE, make_instance
from tests.interop.peers import wait_until
from tests.tls.authority import Authority

import dulcet
from dulcet import TLSConfig
from dulcet.errors import AssociationAborted, AssociationRefused, LocalProtocolError, PeerUnreachable, TLSConfigError
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.toolkit import Outcome, StorageListener

DEADLINE = 20.0


class Work:
    """A function in a thread of its own, and what it gave."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._given: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._given.append(self._try(work)), daemon=True)
        self._thread.start()

    @staticmethod
    def _try(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            return error

    def result(self) -> Any:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self._given[0]


def ask(listener: StorageListener, called: str) -> Work:
    """Somebody who calls a title and sends one C-ECHO; its status, or the exception."""

    def work() -> Any:
        with dulcet.associate(f"{called}@127.0.0.1:{port}", calling_ae_title="USER") as association:
            return association.echo().status

    port = listener.port
    return Work(work)


def serve(listener: StorageListener, ended: list[str]) -> Work:
    """Serve one association from beginning to end."""

    def work() -> list[Outcome]:
        listener.on_association_end = ended.append  # type: ignore[method-assign]
        outcomes: list[Outcome] = []
        if listener.wait_for_connection(DEADLINE):
            while not outcomes or outcomes[-1]:
                outcomes.append(listener.wait_for_command(DEADLINE))
        return outcomes

    return Work(work)


# --- titles -------------------------------------------------------------------------------------------------------


def test_a_call_goes_to_the_listener_whose_title_it_named() -> None:
    with StorageListener("ONE") as one, StorageListener("TWO", one.port) as two:
        assert two.port == one.port
        for called, listener, other in (("TWO", two, one), ("ONE", one, two)):
            others = Work(lambda other=other: other.wait_for_connection(0.3))  # type: ignore[misc]
            asking = ask(one, called)
            assert serve(listener, []).result() == [Outcome.COMMAND, Outcome.ENDED]
            assert asking.result() == 0
            assert others.result() is False


def test_a_title_that_nobody_has_is_refused_by_whoever_waits() -> None:
    with StorageListener("ONE") as one, StorageListener("TWO", one.port):
        asking = ask(one, "THREE")
        wait_until(lambda: not one._open().hall.empty(), DEADLINE, "somebody knocks")
        assert one.wait_for_connection(0.01) is False
        error = asking.result()
        assert isinstance(error, AssociationRefused)
        assert (error.result, error.source, error.reason) == (1, 1, 7)


def test_an_empty_title_and_a_policy_say_what_a_listener_answers_to() -> None:
    policy = AcceptancePolicy(called=frozenset({"A", "B"}), syntaxes=AcceptancePolicy.storage().syntaxes)
    with StorageListener("A", policy=policy) as named, StorageListener("", named.port) as anybody:
        assert anybody.port == named.port
        asking = ask(named, "B")
        assert serve(named, []).result() == [Outcome.COMMAND, Outcome.ENDED]
        assert asking.result() == 0
        asking = ask(named, "WHOEVER")
        assert named.wait_for_connection(0.05) is False
        assert serve(anybody, []).result() == [Outcome.COMMAND, Outcome.ENDED]
        assert asking.result() == 0


def test_who_called_one_that_closes_is_refused_by_those_that_stay() -> None:
    with StorageListener("ONE") as one:
        two = StorageListener("TWO", one.port)
        asking = ask(two, "TWO")
        wait_until(lambda: not one._open().hall.empty(), DEADLINE, "somebody knocks")
        staying = Work(lambda: one.wait_for_connection(1.0))
        two.close()
        assert isinstance(asking.result(), AssociationRefused)
        assert staying.result() is False


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_listeners_on_one_port_have_one_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = TLSConfig(ca_file=authority.file, **authority.issue().files)
    with StorageListener("ONE") as one:
        port = one.port
        with pytest.raises(TLSConfigError, match="without TLS; those that share a port share its TLS"):
            StorageListener("TWO", port, tls=tls)
        late = StorageListener("TWO", 0, tls=tls)
        late._port = port  # as for one that was made before the port was taken
        with pytest.raises(TLSConfigError, match="without TLS"):
            late.wait_for_connection(0)
    with StorageListener("ONE", tls=tls) as one:
        with pytest.raises(TLSConfigError, match="with TLS of its own"):
            StorageListener("TWO", one.port)
        with StorageListener("TWO", one.port, tls=tls) as two:
            assert two.port == one.port


# --- close --------------------------------------------------------------------------------------------------------


def test_close_ends_the_wait_for_a_connection_in_another_thread() -> None:
    listener = StorageListener("RECEIVER")
    port = listener.port
    other = StorageListener("RECEIVER", port)
    waiting = [Work(lambda: listener.wait_for_connection()), Work(lambda: other.wait_for_connection(0.5))]
    wait_until(lambda: listener._user is not None, DEADLINE, "it waits")
    listener.close()
    assert waiting[0].result() is False
    assert waiting[1].result() is False
    assert listener.wait_for_connection() is False
    assert listener.wait_for_command() is Outcome.ENDED
    with pytest.raises(LocalProtocolError, match="closed"):
        listener.port  # noqa: B018
    other.close()
    with pytest.raises(PeerUnreachable):
        dulcet.associate(f"RECEIVER@127.0.0.1:{port}")


def test_close_ends_the_wait_for_a_command_in_another_thread() -> None:
    listener = StorageListener("RECEIVER")
    ended: list[str] = []
    stays = threading.Event()

    def use() -> Any:
        with dulcet.associate(f"RECEIVER@127.0.0.1:{port}") as association:
            association.echo()
            stays.set()
            return association.echo()

    port = listener.port
    listener.on_association_end = ended.append  # type: ignore[method-assign]
    user = Work(use)
    assert listener.wait_for_connection(DEADLINE)
    assert listener.wait_for_command(DEADLINE)
    assert stays.wait(DEADLINE)
    assert listener.wait_for_command(DEADLINE)
    assert listener.association is not None
    waiting = Work(lambda: listener.wait_for_command())
    user.result()
    assert waiting.result() is Outcome.ENDED
    silent = Work(lambda: dulcet.associate(f"RECEIVER@127.0.0.1:{port}"))
    assert listener.wait_for_connection(DEADLINE)
    standing = silent.result()
    waiting = Work(lambda: listener.wait_for_command())
    wait_until(lambda: listener._user is not None, DEADLINE, "it waits")
    listener.close()
    assert waiting.result() is Outcome.ABORTED
    assert ended == ["released", "aborted"]
    with pytest.raises(AssociationAborted):
        standing.echo()


def test_close_within_a_callback_tells_the_end_once() -> None:
    listener = StorageListener("RECEIVER")
    ended: list[str] = []
    listener.on_association_end = ended.append  # type: ignore[method-assign]
    listener.on_echo = listener.close  # type: ignore[method-assign]
    asking = ask(listener, "RECEIVER")
    assert listener.wait_for_connection(DEADLINE)
    assert listener.wait_for_command(DEADLINE) is Outcome.ABORTED
    assert isinstance(asking.result(), AssociationAborted)
    assert ended == ["aborted"]


def test_close_waits_for_a_callback_and_what_it_has_kept(tmp_path: Path) -> None:
    image = make_instance(tmp_path / "one.dcm", 10_000, sop_class_uid=CT_IMAGE)
    listener = StorageListener("RECEIVER", store_directory=tmp_path / "kept")
    within, goes_on = threading.Event(), threading.Event()
    kept: list[Any] = []

    def done(path: Any, stored: bool) -> None:
        within.set()
        assert goes_on.wait(DEADLINE)
        kept.append(path)

    listener.on_store_done = done  # type: ignore[method-assign, assignment]
    port = listener.port

    def send() -> Any:
        with dulcet.associate(f"RECEIVER@127.0.0.1:{port}") as association:
            return association.store(image)

    user = Work(send)
    serving = serve(listener, [])
    assert within.wait(DEADLINE)
    closing = Work(listener.close)
    goes_on.set()
    assert closing.result() is None
    assert not serving.result()[-1]
    user.result()
    assert kept[0].exists()


# --- dropped ------------------------------------------------------------------------------------------------------


def test_a_listener_that_is_dropped_gives_everything_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    listener = StorageListener("RECEIVER")
    port = listener.port
    another = StorageListener("RECEIVER", port)
    assert another.port == port
    del listener
    gc.collect()
    assert another.wait_for_connection(0) is False  # the port lives as long as one of them
    del another
    gc.collect()
    names = [f"dulcet-listener-{port}", "dulcet-leave"]
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name in names], DEADLINE, "its threads have ended"
    )
    with pytest.raises(PeerUnreachable):
        dulcet.associate(f"RECEIVER@127.0.0.1:{port}")
    assert set(os.listdir("/proc/self/fd")) - before == set()
