"""A pool of associations over sockets: used again, released when idle, limited, patient with refusals, never spoilt."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.node.hosting import CT, EXPLICIT, PATIENCE, STUDY_FIND, instance, match, serving, wait_until

import dulcet
from dulcet import Node, Pool, UserIdentity, uids
from dulcet.dimse.trace_events import AssociationAborted, AssociationReleased, AssociationRequested, TraceEvent
from dulcet.errors import AssociationClosed, AssociationError, AssociationRefused, PeerUnreachable, StatusError
from dulcet.node.threads import NodeThreads
from dulcet.services.retrying import Backoff
from dulcet.upper_layer.negotiation import Proposal

ECHO = [Proposal(uids.VERIFICATION, (EXPLICIT,))]
STORE = [Proposal(CT, (EXPLICIT,))]


class Watched:
    """A node that counts what becomes of its associations."""

    def __init__(self, **options: Any) -> None:
        self.trace_events: list[TraceEvent] = []
        observers = (lambda trace_event, association: self.trace_events.append(trace_event),)
        config = dulcet.AssociationConfig(observers=observers)
        self.node = Node("NODE", config=config, **options)
        self.node.on_store(lambda request: None)
        self.node.on_find(lambda request: [match(number) for number in range(50)])

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(trace_event, kind) for trace_event in self.trace_events)

    @property
    def made(self) -> int:
        return self.count(AssociationRequested)

    @contextmanager
    def serving(self) -> Iterator[NodeThreads]:
        with serving(self.node) as server:
            yield server


@pytest.fixture
def watched() -> Watched:
    return Watched()


# --- use and use again -----------------------------------------------------------------------------------------------


def test_an_association_is_used_again_and_released_in_the_end(watched: Watched) -> None:
    with watched.serving() as server, Pool(calling_ae_title="POOL") as pool:
        for _ in range(5):
            with pool.associate(server.address, contexts=ECHO) as association:
                association.echo().check()
                assert association.calling_ae_title == "POOL"
    assert watched.made == 1
    assert watched.count(AssociationReleased) == 1
    assert watched.count(AssociationAborted) == 0


def test_another_context_makes_another_association_and_the_default_ones_are_used_again(watched: Watched) -> None:
    with watched.serving() as server, Pool() as pool:
        with pool.associate(server.address, contexts=ECHO) as association:
            association.echo().check()
        with pool.associate(server.address, contexts=STORE) as association:
            association.store(instance("1.2.1")).check()
        for _ in range(3):
            with pool.associate(str(server.address)) as association:
                association.echo().check()
    assert watched.made == 3


def test_several_at_once_have_one_each_up_to_the_limit(watched: Watched) -> None:
    with watched.serving() as server, Pool(per_peer=3) as pool:
        inside = threading.Barrier(3)

        def use() -> None:
            for _ in range(4):
                with pool.associate(server.address, contexts=ECHO) as association:
                    inside.wait(PATIENCE)
                    association.echo().check()

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert watched.made == 3


def test_at_the_limit_one_waits_for_an_association_to_come_back(watched: Watched) -> None:
    with watched.serving() as server, Pool(per_peer=1) as pool:
        done = threading.Event()

        def use() -> None:
            with pool.associate(server.address, contexts=ECHO, timeout=PATIENCE) as association:
                association.echo().check()
            done.set()

        with pool.associate(server.address, contexts=ECHO) as association:
            with pytest.raises(TimeoutError, match="all 1 associations with NODE@"):
                pool.associate(server.address, contexts=ECHO, timeout=0.05).__enter__()
            with pytest.raises(TimeoutError):
                pool.associate(server.address, contexts=ECHO, timeout=-1).__enter__()
            waiter = threading.Thread(target=use)
            waiter.start()
            association.echo().check()
            assert not done.is_set()
        assert done.wait(PATIENCE)
        waiter.join(PATIENCE)
    assert watched.made == 1


def test_everybody_who_waits_is_woken_though_the_sweeper_waits_too(watched: Watched) -> None:
    with watched.serving() as server, Pool(per_peer=1, idle=60.0) as pool:
        with pool.associate(server.address, contexts=ECHO):
            pass
        assert pool._sweeper is not None
        used = []

        def use(contexts: list[Proposal]) -> None:
            for _ in range(10):
                with pool.associate(server.address, contexts=contexts, timeout=PATIENCE):
                    used.append(1)

        threads = [threading.Thread(target=use, args=(contexts,)) for contexts in (ECHO, STORE, ECHO, STORE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(used) == 40


def test_one_that_lacks_a_context_makes_room_at_the_limit(watched: Watched) -> None:
    with watched.serving() as server, Pool(per_peer=1) as pool:
        for contexts in (ECHO, STORE, ECHO):
            with pool.associate(server.address, contexts=contexts):
                pass
    assert (watched.made, watched.count(AssociationReleased)) == (3, 3)


def test_peers_have_limits_of_their_own(watched: Watched) -> None:
    other = Watched()
    with watched.serving() as one, other.serving() as two, Pool(per_peer=1) as pool:
        for server in (one, two):
            with pool.associate(one.address, contexts=ECHO), pool.associate(two.address, contexts=ECHO) as association:
                association.echo().check()
            assert server._receiver.listener.count == 1
    assert (watched.made, other.made) == (1, 1)


# --- idle ------------------------------------------------------------------------------------------------------------


def test_an_idle_association_is_released_not_aborted(watched: Watched) -> None:
    with watched.serving() as server, Pool(idle=0.1) as pool:
        with pool.associate(server.address, contexts=ECHO) as association:
            association.echo().check()
        wait_until(lambda: watched.count(AssociationReleased) == 1, "it is released while the pool stands")
        assert pool._chooser.entries == []
        with pool.associate(server.address, contexts=ECHO) as association:
            association.echo().check()
    assert watched.made == 2
    assert watched.count(AssociationAborted) == 0


def test_one_that_the_peer_ended_while_it_was_idle_is_noticed(watched: Watched) -> None:
    with watched.serving() as server, Pool() as pool:
        with pool.associate(server.address, contexts=ECHO) as association:
            association.echo().check()
        server.interrupt()
        wait_until(lambda: server._receiver.listener.count == 0, "the node has ended it")
        with pool.associate(server.address, contexts=ECHO) as another:
            assert another is not association
            another.echo().check()
        assert association.ending is not None
    assert watched.made == 2


def test_one_on_which_the_peer_asked_for_something_meanwhile_is_left_alone(watched: Watched) -> None:
    """A message has begun, or waits for an answer: whoever is next would have to deal with it."""
    standing: list[Any] = []
    watched.node.on_echo(lambda request: None)
    with watched.serving() as server, Pool() as pool:
        with pool.associate(
            server.address, contexts=[Proposal(uids.VERIFICATION, (EXPLICIT,), provider=True)]
        ) as first:
            first.echo().check()
        standing += server._receiver._alive.values()
        asking = threading.Thread(target=_ask, args=(standing[0],))
        asking.start()
        wait_until(lambda: first._transport.wait(read=True, deadline=0.0)[0], "its request is here")
        with pool.associate(server.address, contexts=ECHO) as second:
            assert second is not first
            second.echo().check()
        assert first.ending == "aborted"
        asking.join(PATIENCE)


def _ask(association: Any) -> None:
    """Something on the peer's side invokes; its own thread reads, so nothing is waited for here."""
    from dulcet.services import invocations

    with association._lock:
        invocation = invocations.echo(association._core)
        association._core.invoke(invocation.context, invocation.command)
        association._flush()


# --- never again after something went wrong --------------------------------------------------------------------------


class Mishap(Exception):
    """Raised within a block."""


def leave_a_find(association: dulcet.Association) -> None:
    next(association.find(level="STUDY", StudyInstanceUID=""))


def leave_a_request_unanswered(association: dulcet.Association) -> None:
    from dulcet.services import invocations

    association._invoke(invocations.echo(association._core))


def abort(association: dulcet.Association) -> None:
    association.abort()


def release(association: dulcet.Association) -> None:
    association.release()


def fail(association: dulcet.Association) -> None:
    association.echo().check()
    raise Mishap


@pytest.mark.parametrize("spoil", [leave_a_request_unanswered, abort, release, fail])
def test_what_was_spoilt_is_not_used_again(spoil: Callable[[dulcet.Association], None], watched: Watched) -> None:
    contexts = [*ECHO, Proposal(STUDY_FIND, (EXPLICIT,))]
    with watched.serving() as server, Pool(per_peer=1) as pool:
        try:
            with pool.associate(server.address, contexts=contexts) as first:
                spoil(first)
        except Mishap:
            pass
        assert first.ending is not None
        with pool.associate(server.address, contexts=contexts, timeout=PATIENCE) as second:
            assert second is not first
            second.echo().check()
    assert watched.made == 2


def test_a_find_that_was_left_and_closed_does_not_spoil(watched: Watched) -> None:
    contexts = [*ECHO, Proposal(STUDY_FIND, (EXPLICIT,))]
    with watched.serving() as server, Pool() as pool:
        for _ in range(3):
            with pool.associate(server.address, contexts=contexts) as association:
                leave_a_find(association)
                association.echo().check()
    assert watched.made == 1


def test_a_failure_status_does_not_spoil_unless_it_is_raised(watched: Watched) -> None:
    watched.node.on_echo(lambda request: 0x0124)
    with watched.serving() as server, Pool() as pool:
        with pool.associate(server.address, contexts=ECHO) as first:
            assert first.echo().status == 0x0124
        with pytest.raises(StatusError), pool.associate(server.address, contexts=ECHO) as second:
            second.echo().check()
        assert first is second
        with pool.associate(server.address, contexts=ECHO) as third:
            assert third is not second


def test_one_that_timed_out_is_not_used_again() -> None:
    release = threading.Event()
    watched = Watched()
    watched.node.on_echo(lambda request: release.wait(PATIENCE) and None)
    config = dulcet.AssociationConfig(timers=dulcet.Timers(response=0.1))
    with watched.serving() as server, Pool(per_peer=1, config=config) as pool:
        with pytest.raises(dulcet.DimseTimeout), pool.associate(server.address, contexts=ECHO) as association:
            association.echo()
        release.set()
        with pool.associate(server.address, contexts=ECHO, timeout=PATIENCE) as another:
            assert another is not association
            another.echo().check()


# --- refusals --------------------------------------------------------------------------------------------------------


def refusing(*verdicts: tuple[int, int, int] | None) -> Watched:
    watched, left = Watched(), list(verdicts)
    watched.node.on_associate(lambda request: left.pop(0) if left else None)
    return watched


def test_a_transient_refusal_is_tried_again_with_jittered_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = refusing((2, 3, 1), (2, 3, 2), (2, 1, 1))
    pauses: list[float | None] = []
    pause = Backoff.pause

    def noted(backoff: Backoff, failures: int, random: float = 0.0) -> float | None:
        pauses.append(pause(backoff, failures, random))
        return pauses[-1]

    monkeypatch.setattr(Backoff, "pause", noted)
    monkeypatch.setattr(random, "random", iter([0.0, 1.0, 0.5]).__next__)
    with watched.serving() as server, Pool(pause=0.01) as pool, pool.associate(server.address, contexts=ECHO) as one:
        one.echo().check()
    assert pauses == [0.005, 0.02, 0.03]
    assert watched.made == 4


def test_a_peer_that_stays_busy_is_given_up_after_the_attempts() -> None:
    watched = refusing(*[(2, 3, 1)] * 10)
    with watched.serving() as server, Pool(pause=0.001, attempts=3) as pool:
        with pytest.raises(AssociationRefused) as caught:
            pool.associate(server.address, contexts=ECHO).__enter__()
        assert caught.value.transient
        assert watched.made == 3
        assert pool._chooser.opening == {}


@pytest.mark.parametrize("verdict", [(1, 1, 1), (1, 3, 2)])
def test_a_permanent_refusal_is_not_tried_again(verdict: tuple[int, int, int]) -> None:
    watched = refusing(verdict)
    with watched.serving() as server, Pool(per_peer=1) as pool:
        with pytest.raises(AssociationRefused):
            pool.associate(server.address, contexts=ECHO).__enter__()
        assert watched.made == 1
        with pool.associate(server.address, contexts=ECHO, timeout=PATIENCE) as association:
            association.echo().check()


def test_nobody_there_is_an_error_at_once_and_leaves_no_trace() -> None:
    with Pool(per_peer=1) as pool:
        for _ in range(2):
            with pytest.raises(PeerUnreachable):
                pool.associate("NOBODY@127.0.0.1:1", contexts=ECHO, timeout=0.5).__enter__()


def test_the_identity_goes_with_each_association(watched: Watched) -> None:
    users: list[Any] = []
    watched.node.verify_identity(lambda identity, request: identity is not None)
    watched.node.on_echo(lambda request: users.append(request.requestor.identity))
    pool = Pool(identity=UserIdentity.username("doctor", confirm=True))
    with watched.serving() as server, pool, pool.associate(server.address, contexts=ECHO) as association:
        association.echo().check()
    assert users == ["doctor"]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_closed_pool_gives_nothing_and_releases_what_comes_back(watched: Watched) -> None:
    with watched.serving() as server:
        pool = Pool()
        with pool.associate(server.address, contexts=ECHO) as idle:
            pass
        with pool.associate(server.address, contexts=ECHO) as association:
            pool.close()
            pool.close()
            assert association is idle
            association.echo().check()
            with pytest.raises(RuntimeError, match="closed"):
                pool.associate(server.address, contexts=ECHO).__enter__()
        assert association.ending == "released"


def test_closing_ends_the_pauses_of_those_who_try_again() -> None:
    watched = refusing(*[(2, 3, 1)] * 10)
    with watched.serving() as server:
        pool, errors = Pool(pause=60.0), []

        def use() -> None:
            try:
                pool.associate(server.address, contexts=ECHO).__enter__()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        wait_until(lambda: watched.made == 1, "it was refused once")
        began = time.monotonic()
        pool.close()
        thread.join(PATIENCE)
        assert time.monotonic() - began < 5
    assert errors == ["the pool is closed"]


def test_closing_wakes_those_who_wait(watched: Watched) -> None:
    with watched.serving() as server:
        pool, errors = Pool(per_peer=1), []

        def use() -> None:
            try:
                pool.associate(server.address, contexts=ECHO).__enter__()
            except RuntimeError as error:
                errors.append(str(error))

        with pool.associate(server.address, contexts=ECHO):
            thread = threading.Thread(target=use)
            thread.start()
            pool.close()
            thread.join(PATIENCE)
    assert errors == ["the pool is closed"]


@pytest.mark.parametrize("wrong", [{"per_peer": 0}, {"attempts": 0}])
def test_a_pool_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 each"):
        Pool(**wrong)  # type: ignore[arg-type]


def test_a_release_that_fails_while_closing_is_no_error() -> None:
    watched = Watched()
    with watched.serving() as server:
        pool = Pool()
        with pool.associate(server.address, contexts=ECHO) as association:
            association.echo().check()
        server.interrupt()
        wait_until(lambda: server._receiver.listener.count == 0, "the node has ended it")
        pool.close()
        assert association.ending is not None
        with pytest.raises((AssociationClosed, AssociationError)):
            association.echo()
