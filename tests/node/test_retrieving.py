"""C-GET and C-MOVE between nodes over sockets: roles, originators, parallel associations, cancels, no deadlock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.hosting import (
    CT,
    EXPLICIT,
    FILES,
    IMPLICIT,
    INSTANCES,
    MR,
    PATIENCE,
    STUDY_GET,
    STUDY_MOVE,
    calling,
    instance,
    serving,
)

import dulcet
import dulcet.aio
from dulcet import Node, Status, uids
from dulcet.errors import AssociationError, StatusError
from dulcet.io.instances import examine
from dulcet.node.requests import RetrieveRequest, StoreRequest
from dulcet.services import invocations
from dulcet.services.results import Retrieved
from dulcet.upper_layer.negotiation import Proposal

WINDOWS = pytest.mark.parametrize("window", [1, 8])
QUERY = {"level": "STUDY", "StudyInstanceUID": "1.2"}


def archive(handler: Any, **options: Any) -> Node:
    node = Node("ARCHIVE", **options)
    node.on_get(handler)
    node.on_move(handler)
    return node


def receiving(received: list[Any]) -> Node:
    """A node that notes who sent what, and for whom."""
    node = Node("DEST")

    @node.on_store
    def keep(request: StoreRequest) -> None:
        command = request.command
        originator = (command.move_originator_ae_title, command.move_originator_message_id)
        received.append((request.sop_instance_uid, request.requestor.calling_ae_title, originator))

    return node


# --- C-GET -----------------------------------------------------------------------------------------------------------


@WINDOWS
def test_instances_come_back_on_the_association_into_a_folder(window: int, tmp_path: Path) -> None:
    storage = [Proposal(CT, (EXPLICIT, IMPLICIT), provider=True), Proposal(MR, (EXPLICIT,), provider=True)]
    jpeg = Proposal(uids.SECONDARY_CAPTURE_IMAGE_STORAGE, (uids.JPEG2000,), provider=True)
    progress: list[tuple[int, int]] = []

    def watch(so_far: Retrieved) -> None:
        progress.append((so_far.remaining, so_far.completed))

    node = archive(lambda request: FILES)
    with serving(node) as server, calling(server, STUDY_GET, *storage, jpeg, window=window) as association:
        result = association.get(**QUERY, to=tmp_path, progress=watch)
    assert (result.status, result.completed, result.failed) == (0, 3, 0)
    assert progress == [(2, 1), (1, 2)]
    assert sorted(path.stem for path in tmp_path.rglob("*.dcm")) == sorted(INSTANCES)


def test_an_instance_whose_context_was_not_accepted_fails_for_itself_alone_and_is_listed(tmp_path: Path) -> None:
    ct = Proposal(CT, (EXPLICIT,), provider=True)
    with serving(archive(lambda request: FILES)) as server, calling(server, STUDY_GET, ct) as association:
        result = association.get(**QUERY, to=tmp_path)
        assert result.status == Status.SUBOPERATIONS_FAILED
        assert (result.completed, result.failed, result.failed_uids) == (1, 2, INSTANCES[1:])
        with pytest.raises(StatusError):
            result.check()
        assert association.is_established


def test_without_the_role_nothing_can_come_back(tmp_path: Path) -> None:
    ct = Proposal(CT, (EXPLICIT,))
    with serving(archive(lambda request: FILES[:1])) as server, calling(server, STUDY_GET, ct) as association:
        result = association.get(**QUERY, to=tmp_path)
    assert (result.status, result.failed_uids) == (Status.CANNOT_PERFORM_SUBOPERATIONS, INSTANCES[:1])


def test_what_the_user_refuses_is_counted_by_its_status() -> None:
    answers = iter([0x0000, 0xB007, 0xA700])
    node = archive(lambda request: [instance(f"1.2.{number}") for number in range(3)])
    with serving(node) as server, calling(server, STUDY_GET, CT) as association:
        result = association.get(**QUERY, to=lambda request: request.respond(next(answers)))
    assert (result.completed, result.warning, result.failed) == (1, 1, 1)
    assert result.failed_uids == ["1.2.2"]


def test_a_generator_gives_while_it_is_sent_and_its_failure_comes_last() -> None:
    def handler(request: RetrieveRequest) -> Iterator[Any]:
        yield instance("1.2.1")
        raise RuntimeError("the disk is gone")

    received: list[str] = []

    def keep(request: Any) -> None:
        received.append(request.sop_instance_uid)
        request.respond()

    with serving(archive(handler)) as server, calling(server, STUDY_GET, CT) as association:
        result = association.get(**QUERY, to=keep)
        assert received == ["1.2.1"]
        assert (result.status, result.completed, result.failed) == (Status.SUBOPERATIONS_FAILED, 1, 1)
        assert association.is_established


def test_nothing_to_get_is_a_success(tmp_path: Path) -> None:
    with serving(archive(lambda request: [])) as server, calling(server, STUDY_GET, CT) as association:
        assert association.get(**QUERY, to=tmp_path).check() == Retrieved(Status.SUCCESS)


def test_a_get_that_is_left_is_cancelled_between_sub_operations() -> None:
    closed = threading.Event()

    def handler(request: RetrieveRequest) -> Iterator[Any]:
        try:
            for number in range(100_000):
                yield instance(f"1.2.{number}")
        finally:
            closed.set()

    class Enough(Exception):
        """Raised by the progress of a retrieve."""

    def progress(so_far: Retrieved) -> None:
        if so_far.completed == 3:
            raise Enough

    with serving(archive(handler)) as server, calling(server, STUDY_GET, CT, uids.VERIFICATION) as association:
        with pytest.raises(Enough):
            association.get(**QUERY, to=lambda request: request.respond(), progress=progress)
        assert closed.wait(PATIENCE)
        association.echo().check()


def test_a_user_that_goes_away_in_a_get_ends_its_association_alone() -> None:
    closed = threading.Event()

    def handler(request: RetrieveRequest) -> Iterator[Any]:
        try:
            for number in range(100_000):
                yield instance(f"1.2.{number}")
        finally:
            closed.set()

    with serving(archive(handler)) as server:
        association = calling(server, STUDY_GET, CT)

        def keep(request: Any) -> None:
            association.abort()

        with pytest.raises(AssociationError):
            association.get(**QUERY, to=keep)
        assert closed.wait(PATIENCE)
        with calling(server, uids.VERIFICATION) as another:
            another.echo().check()


def both_ways(server: Any, *classes: str) -> dulcet.Association:
    """An association on which both sides may have several operations under way, everything received answered."""
    config = dulcet.AssociationConfig(window_invoked=8, window_performed=8)
    association = calling(server, *classes, config=config)
    association.handler = lambda request: request.respond()
    return association


def begun(association: dulcet.Association, study: str = "1.2") -> Any:
    """A C-GET under way."""
    core = association._core
    return association._invoke(invocations.get(core, None, {"StudyInstanceUID": study}, level="STUDY", model=None))


def counted(association: dulcet.Association, operation: Any) -> tuple[int | None, ...]:
    """Status and counters of the final response."""
    while not (event := association._response_to(operation)).is_final:
        pass
    command = event.command
    return command.status, command.number_of_completed_suboperations, command.number_of_failed_suboperations


def test_both_sides_store_at_once_on_one_association(caplog: pytest.LogCaptureFixture) -> None:
    """Answers of a pool's threads, sub-operations and large data sets that come in between, all in one stream."""
    stored: list[str] = []
    node = archive(lambda request: [instance(f"1.2.{number}", size=3_000) for number in range(200)])
    node.config = dulcet.AssociationConfig(window_invoked=8)
    node.on_store(lambda request: stored.append(request.sop_instance_uid))
    with serving(node) as server, both_ways(server, CT, STUDY_GET) as association:
        get = begun(association)
        sources = [examine(instance(f"1.3.{number}", size=500_000)) for number in range(7)]
        stores = [association._start_store(source)[0] for source in sources]
        association._flush()
        assert [association._response_to(store).command.status for store in stores] == [0] * 7
        assert counted(association, get) == (0, 200, 0)
    assert sorted(stored) == [f"1.3.{number}" for number in range(7)]
    assert "answers no request" not in caplog.text


def test_two_retrieves_at_once_on_one_association_count_each_for_itself() -> None:
    sizes = {"1.2": 30, "1.3": 50}
    node = archive(
        lambda request: [
            instance(f"{request.identifier.StudyInstanceUID}.{number}")
            for number in range(sizes[request.identifier.StudyInstanceUID])
        ]
    )
    node.config = dulcet.AssociationConfig(window_invoked=8)
    with serving(node) as server, both_ways(server, CT, STUDY_GET) as association:
        first, second = begun(association, "1.2"), begun(association, "1.3")
        assert counted(association, first) == (0, 30, 0)
        assert counted(association, second) == (0, 50, 0)


# --- C-MOVE ----------------------------------------------------------------------------------------------------------


@WINDOWS
@pytest.mark.parametrize("associations", [1, 3])
def test_instances_go_to_the_destination_with_who_asked_for_them(window: int, associations: int) -> None:
    received: list[Any] = []
    source = [instance(f"1.2.{number}") for number in range(12)]
    node = archive(lambda request: source, move_associations=associations)
    with serving(receiving(received)) as destination, serving(node) as server:
        node.with_peers({"DEST": destination.address})
        with calling(server, STUDY_MOVE, window=window) as association:
            result = association.move(**QUERY, destination="DEST").check()
            asked_as = association._core._last_id
    assert (result.completed, result.failed) == (12, 0)
    assert sorted(uid for uid, _, _ in received) == sorted(f"1.2.{number}" for number in range(12))
    assert {(who, originator) for _, who, originator in received} == {("ARCHIVE", ("TESTER", asked_as))}


def test_a_destination_that_refuses_everything_costs_the_retrieve_and_not_the_association() -> None:
    refusing = Node("SOMEBODY")
    node = archive(lambda request: [instance("1.2.1"), instance("1.2.2")])
    with serving(refusing) as destination, serving(node) as server:
        address = destination.address
        node.with_peers({"DEST": f"DEST@{address.host}:{address.port}", "NOWHERE": "X@127.0.0.1:1"})
        with calling(server, STUDY_MOVE, uids.VERIFICATION) as association:
            for name in ("DEST", "NOWHERE"):
                result = association.move(**QUERY, destination=name)
                assert (result.status, result.failed) == (Status.CANNOT_PERFORM_SUBOPERATIONS, 2)
            result = association.move(**QUERY, destination="UNKNOWN")
            assert result.status == Status.MOVE_DESTINATION_UNKNOWN
            association.echo().check()


def test_a_destination_that_lacks_a_class_is_sent_the_rest() -> None:
    ct_only, received = Node("DEST"), []
    ct_only.on_store(lambda request: received.append(request.sop_instance_uid), classes=[CT])
    node = archive(lambda request: [instance("1.2.1"), instance("1.2.2", MR)])
    with serving(ct_only) as destination, serving(node) as server:
        node.with_peers({"DEST": destination.address})
        with calling(server, STUDY_MOVE) as association:
            result = association.move(**QUERY, destination="DEST")
    assert (result.completed, result.failed, result.failed_uids) == (1, 1, ["1.2.2"])
    assert received == ["1.2.1"]


@WINDOWS
def test_one_thread_moves_to_itself_without_a_deadlock(window: int, tmp_path: Path) -> None:
    node = archive(lambda request: FILES)
    with serving(node) as server, calling(server, STUDY_MOVE, window=window) as association:
        with dulcet.listen("ME@127.0.0.1:0") as probe:
            port = probe.address.port
        node.with_peers({"ME": f"ME@127.0.0.1:{port}"})
        result = association.move(**QUERY, destination="ME", receive=f"ME@127.0.0.1:{port}", to=tmp_path).check()
        assert result.completed == 3
        assert sorted(path.stem for path in result.received) == sorted(INSTANCES)


@WINDOWS
def test_a_move_is_cancelled_between_sub_operations(window: int) -> None:
    received: list[Any] = []
    closed, statuses = threading.Event(), []

    def handler(request: RetrieveRequest) -> Iterator[Any]:
        try:
            for number in range(100_000):
                yield instance(f"1.2.{number}")
        finally:
            closed.set()

    class Enough(Exception):
        """Raised by the progress of a retrieve."""

    def progress(so_far: Retrieved) -> None:
        if so_far.completed == 3:
            raise Enough

    def watch(trace_event: Any, association: Any) -> None:
        if type(trace_event).__name__ == "OperationFinished":
            statuses.append((trace_event.name, trace_event.status))

    node = archive(handler)
    config = dulcet.AssociationConfig(window_invoked=window, observers=(watch,))
    with serving(receiving(received)) as destination, serving(node) as server:
        node.with_peers({"DEST": destination.address})
        with calling(server, STUDY_MOVE, uids.VERIFICATION, config=config) as association:
            with pytest.raises(Enough):
                association.move(**QUERY, destination="DEST", progress=progress)
            assert closed.wait(PATIENCE)
            assert statuses == [("C-MOVE", 0xFE00)]
            association.echo().check()
    assert 3 <= len(received) < 3000


def test_a_node_can_move_to_itself_many_times_at_once() -> None:
    """Each forward is an association of its own, with threads of its own."""
    received: list[str] = []
    node = archive(lambda request: [instance(f"1.2.{number}") for number in range(5)])
    node.on_store(lambda request: received.append(request.sop_instance_uid))
    results: list[Retrieved] = []
    with serving(node) as server:
        node.with_peers({"ARCHIVE": server.address})

        def move() -> None:
            with calling(server, STUDY_MOVE, window=8) as association:
                results.append(association.move(**QUERY, destination="ARCHIVE"))

        threads = [threading.Thread(target=move) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert [(result.status, result.completed) for result in results] == [(0, 5)] * 20
    assert len(received) == 100


# --- retrieve, and whose instances are taken -------------------------------------------------------------------------


def test_retrieve_takes_what_the_peer_cannot_convert_as_it_lies(tmp_path: Path) -> None:
    with serving(archive(lambda request: FILES)) as server:
        lone = {"syntaxes": "1.2.840.10008.1.2.4.91", "classes": "CTImageStorage"}  # no lists of characters
        result = dulcet.retrieve(server.address, StudyInstanceUID="1.2", to=tmp_path / "blocking", **lone).check()
        assert (result.completed, result.failed, result.arrived) == (3, 0, 3)

        async def on_a_loop() -> Retrieved:
            return await dulcet.aio.retrieve(server.address, StudyInstanceUID="1.2", to=tmp_path / "aio")

        result = asyncio.run(on_a_loop()).check()
        assert (result.completed, result.failed, result.arrived) == (3, 0, 3)
    for face in ("blocking", "aio"):
        assert sorted(path.stem for path in (tmp_path / face).rglob("*.dcm")) == sorted(INSTANCES)


def test_what_our_side_cannot_take_is_not_asked_for_again_in_every_syntax(tmp_path: Path) -> None:
    """A handler that fails stands for a full disk: one C-GET, and the result says whose fault it is."""
    gets: list[Any] = []

    def files(request: Any) -> Any:
        gets.append(request)
        return FILES[:2]

    def fail(request: Any) -> None:
        request.read()
        raise OSError("no space")

    with serving(archive(files)) as server:
        result = dulcet.retrieve(server.address, StudyInstanceUID="1.2", to=fail)
        assert (result.failed, len(result.refused), len(gets)) == (2, 2, 1)

        async def fail_as_well(request: Any) -> None:
            raise OSError("no space")

        result = asyncio.run(dulcet.aio.retrieve(server.address, StudyInstanceUID="1.2", to=fail_as_well))
        assert (result.failed, len(result.refused), len(gets)) == (2, 2, 2)


def test_a_move_with_a_receiver_takes_no_instance_of_another_one(tmp_path: Path) -> None:
    """While the archive sends, somebody else sends to the same port, for a move of their own and for none."""
    with dulcet.listen("ME@127.0.0.1:0") as probe:
        port = probe.address.port
    refused: list[tuple[int, str]] = []

    def handler(request: RetrieveRequest) -> Iterator[Any]:
        with dulcet.associate(f"ME@127.0.0.1:{port}", calling_ae_title="SOMEBODY") as stranger:
            sent = stranger.store(instance("9.9.1"), originator=("SOMEBODY", 4711))
            assert sent.status is not None
            refused.append((int(sent.status), sent.error_comment))
        yield from FILES[:2]

    node = archive(handler).with_peers({"ME": f"ME@127.0.0.1:{port}"})
    with serving(node) as server, calling(server, STUDY_MOVE) as association:
        result = association.move(**QUERY, destination="ME", receive=f"ME@127.0.0.1:{port}", to=tmp_path).check()
    assert refused == [(0x0124, "not of the C-MOVE that is waited for here")]
    assert (result.completed, result.arrived) == (2, 2)
    assert sorted(path.stem for path in result.received) == sorted(INSTANCES[:2])


def test_a_peer_that_counts_more_than_came_is_caught(tmp_path: Path) -> None:
    with serving(archive(lambda request: FILES[:2])) as server, calling(server, STUDY_GET, CT, MR) as association:
        result = association.get(**QUERY, to=tmp_path)
    assert not result.differs
    result.completed += 1
    with pytest.raises(StatusError, match="says that it completed 3, but 2 came here"):
        result.check()
