"""Who reads next: first come first served, and nobody who waits for something else keeps the others from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.blocking.providing import eventually

import dulcet
from dulcet import uids
from dulcet.blocking.fair_lock import FairLock
from dulcet.blocking.receiver import Receiver
from dulcet.config import AssociationConfig
from dulcet.services.proposals import proposals

PATIENCE = 10.0
ECHO = proposals([uids.VERIFICATION])


def waiting(fair_lock: FairLock) -> int:
    return len(fair_lock._waiting)


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    fair_lock, order = FairLock(), []
    fair_lock.take()

    def once(number: int) -> None:
        fair_lock.take()
        order.append(number)
        fair_lock.give()

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=once, args=(number,)))
        threads[-1].start()
        eventually(lambda: waiting(fair_lock) == len(threads))
    fair_lock.give()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(20))


def test_one_has_the_turn_at_a_time() -> None:
    fair_lock, inside, most = FairLock(), 0, 0

    def often() -> None:
        nonlocal inside, most
        for _ in range(500):
            fair_lock.take()
            inside += 1
            most = max(most, inside)
            inside -= 1
            fair_lock.give()

    threads = [threading.Thread(target=often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (most, inside, waiting(fair_lock)) == (1, 0, 0)
    fair_lock.take()  # it is free


class Desk:
    """A provider whose handler waits until it may go on, for peers that ask it to."""

    def __init__(self, config: AssociationConfig | None = None) -> None:
        self.go_on = threading.Event()
        self.busy = threading.Semaphore(0)
        self.receiver = Receiver("ANY@127.0.0.1:0", self.handle, config=config)
        self.address = str(self.receiver.address)

    def handle(self, request: Any) -> None:
        if request.association.calling_ae_title == "SLOW":
            self.busy.release()
            assert self.go_on.wait(PATIENCE)
        request.respond(dulcet.Status.SUCCESS)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.go_on.set()
    made.receiver.stop()


def echo(address: str, calling: str, times: int = 1) -> None:
    with dulcet.associate(address, calling_ae_title=calling, contexts=ECHO) as association:
        for _ in range(times):
            association.echo().check()


def test_who_is_busy_with_a_request_has_no_turn(desk: Desk) -> None:
    slow = [threading.Thread(target=echo, args=(desk.address, "SLOW")) for _ in range(3)]
    for thread in slow:
        thread.start()
    for _ in slow:
        assert desk.busy.acquire(timeout=PATIENCE)
    echo(desk.address, "QUICK", 20)
    desk.go_on.set()
    for thread in slow:
        thread.join(PATIENCE)


@pytest.mark.parametrize("ending", ["abort", "vanish", "junk", "release"])
def test_who_ends_leaves_no_turn_behind(desk: Desk, ending: str) -> None:
    for _ in range(5):
        association = dulcet.associate(desk.address, contexts=ECHO)
        association.echo().check()
        if ending == "junk":
            association._transport._sock.sendall(b"\x09\x00\x00\x00\x00\x01\x00")
        if ending in ("vanish", "junk"):
            association._transport.close()
        else:
            getattr(association, ending)()
    eventually(lambda: desk.receiver.listener.count == 0)
    eventually(lambda: not desk.receiver._fair_lock._taken)  # its thread may still be on its way out
    echo(desk.address, "QUICK", 5)


def test_observers_may_take_their_time() -> None:
    """What they are told in is an application's code: no turn is held while it runs."""
    held: list[bool] = []
    desk: Desk

    def observe(trace_event: Any, association: Any) -> None:
        if threading.current_thread().name.startswith("dulcet-serve"):
            held.append(desk.receiver._fair_lock._taken)

    desk = Desk(AssociationConfig(observers=(observe,)))
    try:
        echo(desk.address, "QUICK", 3)
        eventually(lambda: desk.receiver.listener.count == 0)
        assert len(held) >= 3
        assert not any(held)
    finally:
        desk.receiver.stop()
