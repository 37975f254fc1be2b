"""A cancel of C-MOVE and C-GET takes effect at once, whatever the destination does, and the counters add up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.node.hosting import CT, EXPLICIT, PATIENCE, STUDY_GET, STUDY_MOVE, instance, wait_until, wait_until_still
from tests.node.serving import FACES, served

import dulcet
from dulcet import Node, Status, uids
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Operation
from dulcet.dimse.trace_events import AssociationAborted, AssociationReleased
from dulcet.services import invocations
from dulcet.services.results import Response, Retrieved
from dulcet.upper_layer.negotiation import Proposal

ON_EVERY_FACE = pytest.mark.parametrize("face", FACES)
ASSOCIATIONS = pytest.mark.parametrize("associations", [1, 3])
EFFECT = 0.2
"""Seconds from the arrival of a cancel to the final response."""
TOTAL = 40


@dataclass
class Destination:
    """Takes some instances, and then none until it is let."""

    takes: int
    begun: list[str] = field(default_factory=list)
    goes_on: threading.Event = field(default_factory=threading.Event)
    endings: list[str | None] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Any) -> None:
        with self._lock:
            self.begun.append(request.sop_instance_uid)
            waits = len(self.begun) > self.takes
        if waits:
            assert self.goes_on.wait(PATIENCE)

    @contextmanager
    def listening(self) -> Iterator[dulcet.Address]:
        def watch(trace_event: Any, association: Any) -> None:
            if isinstance(trace_event, AssociationReleased | AssociationAborted):
                self.endings.append(type(trace_event).__name__)

        node = Node("DEST", config=dulcet.AssociationConfig(observers=(watch,)))
        node.on_store(self)
        with node.threads() as serving:
            try:
                yield serving.address
            finally:
                self.goes_on.set()


@contextmanager
def silence() -> Iterator[dulcet.Address]:
    """Takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield dulcet.Address("DEST", "127.0.0.1", listener.getsockname()[1])


def archive(associations: int = 1, **options: Any) -> Node:
    node = Node("ARCHIVE", move_associations=associations, **options)
    what = [instance(f"1.2.{number}") for number in range(TOTAL)]
    node.on_move(lambda request: what)
    node.on_get(lambda request: what)
    return node


@contextmanager
def asking(address: dulcet.Address, *classes: str) -> Iterator[dulcet.Association]:
    contexts = [Proposal(one, (EXPLICIT,), provider=True) for one in (*classes, uids.VERIFICATION)]
    with dulcet.associate(address, calling_ae_title="TESTER", contexts=contexts) as association:
        yield association


@contextmanager
def archive_of(there: dulcet.Address, face: str, associations: int) -> Iterator[dulcet.Association]:
    """An association with an archive that moves to there."""
    node = archive(associations).with_peers({"DEST": there})
    with served(node, face) as address, asking(address, STUDY_MOVE) as association:
        yield association


def moving(association: dulcet.Association) -> Operation:
    keys = {"StudyInstanceUID": "1.2"}
    return association._invoke(invocations.move(association._core, "DEST", None, keys, level="STUDY", model=None))


def cancelled(association: dulcet.Association, operation: Operation) -> tuple[float, Retrieved]:
    """Send the cancel; how long it takes, and what the final response says."""
    association._core.cancel(operation)
    start = time.monotonic()
    association._flush()
    result = Retrieved(Status.PENDING)
    while True:
        event = association._response_to(operation)
        result.update(Response(Status(event.command.status or 0), event.command, event.data, EXPLICIT))
        if event.is_final:
            return time.monotonic() - start, result


def check_counters(result: Retrieved) -> None:
    assert result.status == Status.CANCEL
    assert result.completed + result.failed + result.warning + result.remaining == TOTAL
    assert len(result.failed_uids) == result.failed


@ON_EVERY_FACE
@ASSOCIATIONS
def test_a_move_to_a_destination_that_hangs_is_cancelled_at_once(face: str, associations: int) -> None:
    destination = Destination(takes=5)
    with destination.listening() as there:
        with archive_of(there, face, associations) as association:
            operation = moving(association)
            wait_until(lambda: len(destination.begun) >= 5 + associations, "all its associations hang")
            under_way = wait_until_still(lambda: len(destination.begun)) - 5
            seconds, result = cancelled(association, operation)
            assert seconds < EFFECT
            check_counters(result)
            assert (result.completed, result.failed) == (5, under_way)
            assert set(result.failed_uids) <= set(destination.begun)
            association.echo().check()
            destination.goes_on.set()
            wait_until(lambda: len(destination.endings) >= associations, "the associations with it end")
        assert set(destination.endings) == {"AssociationReleased"}
        assert len(destination.begun) == 5 + under_way, "nothing was begun after the cancel"


@ON_EVERY_FACE
def test_a_node_that_stops_does_not_wait_for_what_was_cancelled(face: str) -> None:
    destination = Destination(takes=5)
    with destination.listening() as there:
        with archive_of(there, face, 1) as association:
            operation = moving(association)
            wait_until(lambda: len(destination.begun) > 5, "it hangs")
            cancelled(association, operation)
        wait_until(lambda: destination.endings == ["AssociationAborted"], "the association with it ends")


@ON_EVERY_FACE
@ASSOCIATIONS
def test_a_move_to_a_destination_that_never_speaks_is_cancelled_at_once(face: str, associations: int) -> None:
    with silence() as there, archive_of(there, face, associations) as association:
        operation = moving(association)
        seconds, result = cancelled(association, operation)
        assert seconds < EFFECT
        check_counters(result)
        assert (result.completed, result.failed, result.remaining) == (0, 0, TOTAL)
        association.echo().check()


@ON_EVERY_FACE
@ASSOCIATIONS
def test_a_move_in_full_swing_finishes_what_is_under_way_and_releases(face: str, associations: int) -> None:
    destination = Destination(takes=TOTAL)

    def handler(request: Any) -> None:
        destination(request)
        time.sleep(0.02)

    node = Node("DEST")
    node.on_store(handler)
    with node.threads() as there, archive_of(there.address, face, associations) as association:
        operation = moving(association)
        wait_until(lambda: len(destination.begun) >= 6, "it is in full swing")
        seconds, result = cancelled(association, operation)
        assert seconds < EFFECT
        check_counters(result)
        assert result.failed == 0
        assert wait_until_still(lambda: len(destination.begun)) == result.completed
        association.echo().check()


@ON_EVERY_FACE
def test_a_get_whose_requestor_answers_no_store_is_cancelled_at_once(face: str, caplog: Any) -> None:
    """The sub-operation that is under way is the requestor's own to answer; its late answer is taken quietly."""
    late: list[Callable[[], object]] = []
    with served(archive(), face) as address, asking(address, STUDY_GET, CT) as association:

        def keep(request: Any) -> None:
            if len(late) < 3:
                late.append(request.respond)
                request.respond()
            else:
                late.append(request.defer().respond)

        association.handler = keep
        keys = {"StudyInstanceUID": "1.2"}
        get = invocations.get(association._core, None, keys, level="STUDY", model=None)
        operation = association._invoke(get)
        while len(late) < 4:
            association._set_aside(association._next_event())
        seconds, result = cancelled(association, operation)
        assert seconds < EFFECT
        check_counters(result)
        assert (result.completed, result.failed, result.failed_uids) == (3, 1, ["1.2.3"])
        late[3]()
        association.echo().check()
        assert len(late) == 4, "nothing was begun after the cancel"
    assert "answers no request" not in caplog.text


@ON_EVERY_FACE
def test_a_get_that_is_cancelled_counts_what_was_under_way(face: str) -> None:
    with served(archive(), face) as address, asking(address, STUDY_GET, CT) as association:
        stored: list[str] = []
        operation: Operation | None = None

        def keep(request: Any) -> None:
            stored.append(request.sop_instance_uid)
            if len(stored) == 4:
                assert operation is not None
                association._core.cancel(operation)
            request.respond()

        association.handler = keep
        keys = {"StudyInstanceUID": "1.2"}
        operation = association._invoke(
            invocations.get(association._core, None, keys, level="STUDY", model=None)
        )
        result = Retrieved(Status.PENDING)
        while not (event := association._response_to(operation)).is_final:
            pass
        result.update(Response(Status(event.command.status or 0), event.command, event.data, EXPLICIT))
        check_counters(result)
        assert (result.completed, result.failed) == (len(stored), 0) == (4, 0)
        assert operation.field == CommandField.C_GET_RQ
        association.echo().check()
