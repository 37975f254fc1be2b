"""The ready-made services as tasks use them, against the providers of a node in the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.aio.loops import on_each_loop, standing, until
from tests.corpus import make_instance
from tests.node.printer import Printer
from tests.node.raw import GARBAGE
from tests.services.test_availability import INSTANCES
from tests.services.test_mpps import BEGIN, SERIES
from tests.services.test_ups import CODE

import dulcet
from dulcet import AcceptancePolicy, Status, StatusError, uids
from dulcet.aio.availability import notify_availability
from dulcet.aio.commitment import Commitments, request_commitment
from dulcet.aio.mpps import get_procedure_step, perform_procedure_step, step_from_worklist
from dulcet.aio.printing import FilmSession, printer_status
from dulcet.aio.serving import NESTED, report_in_turn, serve_until, take_events
from dulcet.aio.ups import (
    StepEvent,
    create_step,
    get_step,
    perform_step,
    request_step_cancel,
    subscribe,
    suspend_global_subscription,
    unsubscribe,
    watch_steps,
)
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.errors import AssociationAborted, AssociationClosed, LocalProtocolError
from dulcet.services.commitment import COMMITMENT_PROPOSALS, SOP_CLASS, SOP_INSTANCE, Reference
from dulcet.services.identifiers import build_identifier
from dulcet.services.invocations import Invocation
from dulcet.services.mpps import MPPS_PROPOSALS
from dulcet.services.print_management import PRINT_PROPOSALS, PrinterStatus, grayscale_image
from dulcet.services.proposals import proposals
from dulcet.services.retrying import Backoff
from dulcet.services.ups import UPS_PROPOSALS

CT = "1.2.840.10008.5.1.4.1.1.2"
SAFE = Reference(CT, "1.2.1")
LOST = Reference(CT, "1.2.2")
QUICK = Backoff(first=0.02, longest=0.05, attempts=100)
WAIT = 20.0
PLAN = {"ProcedureStepLabel": "plan", "ScheduledProcedureStepStartDateTime": "20260705"}
DONE = {"PerformedStationNameCodeSequence": [CODE], "PerformedWorkitemCodeSequence": [CODE]}
IMAGE = grayscale_image(bytes(range(64)), rows=8, columns=8)
EVENTS = uids.MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION


@contextlib.asynccontextmanager
async def serving(node: dulcet.Node, contexts: Any) -> AsyncIterator[dulcet.aio.Association]:
    """An association with a node that serves in this loop."""
    async with (
        node.start() as server,
        dulcet.aio.associate(server.address, calling_ae_title="MODALITY", contexts=contexts) as association,
    ):
        yield association


# ------------------------------------------------------------------------------ commitment


def archive(
    exists: Callable[[Reference], bool | int] = lambda reference: reference == SAFE, **options: Any
) -> tuple[dulcet.Node, dulcet.StorageCommitment]:
    node = dulcet.Node("ARCHIVE")
    return node, dulcet.StorageCommitment(node, exists, backoff=QUICK, **options)


@on_each_loop
async def test_the_result_on_the_same_association() -> None:
    node, _ = archive()
    async with serving(node, COMMITMENT_PROPOSALS) as association:
        pending = await request_commitment(association, [SAFE, LOST])
        result = await pending.wait(WAIT)
    assert result is not None
    assert (result.committed, result.failed) == ((SAFE,), ((LOST, Status.NO_SUCH_INSTANCE),))
    assert await pending.wait(0.0) is result


@on_each_loop
async def test_several_are_waited_for_at_once() -> None:
    node, _ = archive()
    async with serving(node, COMMITMENT_PROPOSALS) as association:
        asked = [request_commitment(association, [reference]) for reference in (SAFE, LOST, SAFE)]
        pending = await asyncio.gather(*asked)
        results = await asyncio.gather(*(found.wait(WAIT) for found in pending))
    assert [result.ok for result in results if result] == [True, False, True]


@on_each_loop
async def test_what_can_be_named_as_an_instance(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 1000, sop_class_uid=CT)
    dataset = pydicom.dcmread(path)
    reference = Reference(CT, dataset.SOPInstanceUID)
    sent = dulcet.Sent(path, Status(0), None, CT, reference.sop_instance_uid)
    node, _ = archive(lambda wanted: wanted == reference)
    async with serving(node, COMMITMENT_PROPOSALS) as association:
        everything = [path, dataset, sent, (CT, reference.sop_instance_uid), reference]
        pending = await request_commitment(association, iter(everything))
        result = await pending.wait(WAIT)
        assert result is not None
        assert result.committed == (reference,)
        with pytest.raises(dulcet.InstanceError):
            await request_commitment(association, [tmp_path / "missing"])


@on_each_loop
async def test_a_request_that_is_refused_is_not_waited_for() -> None:
    node, _ = archive(report="other")
    async with serving(node, COMMITMENT_PROPOSALS) as association:
        await request_commitment(association, [SAFE], transaction_uid="9.9")
        commitments = Commitments()
        with pytest.raises(StatusError) as caught:
            await request_commitment(association, [SAFE], results=commitments, transaction_uid="9.9")
        assert caught.value.status == Status.DUPLICATE_TRANSACTION_UID
        assert not commitments._pending


@pytest.mark.parametrize("released", [True, False])
@on_each_loop
async def test_the_result_on_another_association(released: bool) -> None:
    node, commitment = archive()
    modality = dulcet.Node("MODALITY")
    commitments = Commitments(modality)
    async with modality.start() as here:
        node.peers["MODALITY"] = here.address
        async with serving(node, COMMITMENT_PROPOSALS) as association:
            pending = await request_commitment(association, [SAFE], results=commitments)
            if released:
                await association.release()
            result = await pending.wait(WAIT)
            assert association.is_established is not released
        assert result is not None
        assert result.check().committed == (SAFE,)
        assert await asyncio.to_thread(commitment.event_report_sender.wait, WAIT)
    assert not commitments._pending


@pytest.mark.parametrize("kind", ["plain", "async"])
@on_each_loop
async def test_what_the_application_cannot_take_is_reported_again(kind: str) -> None:
    seen: list[str] = []

    def hear(result: dulcet.CommitmentResult) -> None:
        seen.append(result.transaction_uid)
        if len(seen) == 1:
            raise OSError("no space left")

    async def hear_and_wait(result: dulcet.CommitmentResult) -> None:
        await asyncio.sleep(0)
        hear(result)

    node, _ = archive(report="other")
    modality = dulcet.Node("MODALITY")
    commitments = Commitments(modality, on_result=hear if kind == "plain" else hear_and_wait)
    async with modality.start() as here:
        node.peers["MODALITY"] = here.address
        async with serving(node, COMMITMENT_PROPOSALS) as association:
            pending = await request_commitment(association, [SAFE], results=commitments)
            assert await pending.wait(WAIT) is not None
    assert seen == [pending.transaction_uid] * 2


def test_what_the_application_cannot_take_is_reported_again_to_threads() -> None:
    seen: list[str] = []

    def hear(result: dulcet.CommitmentResult) -> None:
        seen.append(result.transaction_uid)
        if len(seen) == 1:
            raise OSError("no space left")

    node, _ = archive(report="other")
    modality = dulcet.Node("MODALITY")
    commitments = dulcet.Commitments(modality, on_result=hear)
    with modality.threads() as here, node.threads() as server:
        node.peers["MODALITY"] = here.address
        with dulcet.associate(
            server.address, calling_ae_title="MODALITY", contexts=COMMITMENT_PROPOSALS
        ) as association:
            pending = dulcet.request_commitment(association, [SAFE], results=commitments)
            assert pending.wait(WAIT) is not None
    assert seen == [pending.transaction_uid] * 2


@on_each_loop
async def test_a_result_of_a_former_run_is_told() -> None:
    told: list[dulcet.CommitmentResult] = []
    async with reporting(SOP_CLASS) as (association, other):

        async def report(uid: str) -> int:
            information = build_identifier({"TransactionUID": uid})
            return (await other.n_event_report(SOP_CLASS, SOP_INSTANCE, 1, information)).status

        await request_commitment(association, [SAFE], transaction_uid="9.1")
        assert [await report("9.8"), await report("9.1")] == [Status.INVALID_ARGUMENT_VALUE, Status.SUCCESS]
        commitments = Commitments(on_result=told.append)
        pending = await request_commitment(association, [SAFE], results=commitments, transaction_uid="9.2")
        assert [await report("9.8"), await report("9.2")] == [Status.SUCCESS, Status.SUCCESS]
        assert await pending.wait(0.0) is told[1]
    assert [result.transaction_uid for result in told] == ["9.8", "9.2"]


@on_each_loop
async def test_a_wait_ends_with_its_time_and_with_the_association() -> None:
    node, _ = archive(report="other")
    async with node.start() as server:
        for end, error in (("release", AssociationClosed), ("abort", AssociationAborted)):
            association = await dulcet.aio.associate(server.address, contexts=COMMITMENT_PROPOSALS)
            pending = await request_commitment(association, [SAFE])
            assert await pending.wait(0.02) is None
            waiting = asyncio.create_task(pending.wait(WAIT))
            await asyncio.sleep(0)
            await getattr(association, end)()
            with pytest.raises(error):
                await waiting
            with pytest.raises(error):
                await pending.wait(WAIT)


@pytest.mark.parametrize("face", ["blocking", "aio"])
@on_each_loop
async def test_a_result_that_never_comes_keeps_no_association(face: str) -> None:
    node, _ = archive(report="other")

    def ask(address: Any) -> weakref.ref[Any]:
        association = dulcet.associate(address, contexts=COMMITMENT_PROPOSALS)
        dulcet.request_commitment(association, [SAFE])
        association.release()
        return weakref.ref(association)

    async def ask_and_wait(address: Any) -> weakref.ref[Any]:
        association = await dulcet.aio.associate(address, contexts=COMMITMENT_PROPOSALS)
        await request_commitment(association, [SAFE])
        await association.release()
        return weakref.ref(association)

    async with node.start() as server:
        if face == "aio":
            gone = await ask_and_wait(server.address)
        else:
            gone = await asyncio.to_thread(ask, server.address)
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None


# ------------------------------------------------------------------------------ serving


@contextlib.asynccontextmanager
async def reporting(*classes: str) -> AsyncIterator[tuple[dulcet.aio.Association, dulcet.aio.Association]]:
    """A requestor, and an acceptor that agrees to all it is asked."""
    policy = AcceptancePolicy(syntaxes=dict.fromkeys(classes, ()))
    contexts = proposals(classes, provider=True)

    async def agree(request: Any) -> None:
        await request.respond(Status.SUCCESS)

    async with standing(server={"policy": policy}, contexts=contexts) as (association, other):
        other.handler = agree
        yield association, other


@pytest.mark.parametrize("handler", ["plain", "async", "none"])
@on_each_loop
async def test_events_are_taken_and_other_requests_go_where_they_went(handler: str) -> None:
    seen: list[str] = []
    taken: list[int | None] = []

    def plain(request: Any) -> None:
        seen.append(request.name)
        request.respond(Status.SUCCESS)

    async def awaited(request: Any) -> None:
        seen.append(request.name)
        await request.respond(Status.SUCCESS)

    def take(request: dulcet.aio.IncomingRequest, dataset: Any) -> None:
        taken.append(request.command.event_type_id)
        if request.command.event_type_id == 2:
            raise dulcet.Refused(Status.NO_SUCH_EVENT_TYPE)
        if request.command.event_type_id == 3:
            raise RuntimeError("no database")

    async with reporting(SOP_CLASS, EVENTS) as (association, other):
        association.handler = {"plain": plain, "async": awaited, "none": None}[handler]
        take_events(association, frozenset((SOP_CLASS,)), take)
        found = []
        for sop_class, event_type in ((EVENTS, 1), (SOP_CLASS, 1), (SOP_CLASS, 2), (SOP_CLASS, 3)):
            information = build_identifier({"TransactionUID": "9.9"})
            response = await other.n_event_report(sop_class, SOP_INSTANCE, event_type, information)
            found.append(int(response.status))
    assert found == [0x0122 if handler == "none" else 0x0000, 0x0000, 0x0113, 0x0110]
    assert taken == [1, 2, 3]
    assert seen == [] if handler == "none" else ["N-EVENT-REPORT-RQ"]


@on_each_loop
async def test_a_data_set_that_does_not_decode_is_a_processing_failure() -> None:
    async with reporting(SOP_CLASS) as (association, other):
        take_events(association, frozenset((SOP_CLASS,)), lambda request, dataset: None)
        named = {"AffectedSOPClassUID": SOP_CLASS, "AffectedSOPInstanceUID": SOP_INSTANCE, "EventTypeID": 1}
        command = Command.make(CommandField.N_EVENT_REPORT_RQ, validate=False, data_set=True, **named)
        response = await other._ask(Invocation(other._core.need_context(SOP_CLASS), command, GARBAGE))
    assert (response.status, response.command.event_type_id) == (Status.PROCESSING_FAILURE, 1)


@on_each_loop
async def test_serving_until_something_came_about() -> None:
    seen: list[str] = []

    def plain(request: Any) -> None:
        seen.append(request.name)
        request.respond(Status.SUCCESS)

    async with reporting(EVENTS) as (association, other):
        association.handler = plain
        assert not await serve_until(association, lambda: bool(seen), 0.02)
        waits = [serve_until(association, lambda number=number: len(seen) > number, None) for number in range(3)]
        waiting = asyncio.gather(*waits)
        for _ in range(3):
            (await other.n_event_report(EVENTS, "1.1", 1)).check()
        assert await waiting == [True] * 3
        ending = asyncio.create_task(serve_until(association, lambda: False, None))
        await asyncio.sleep(0)
        await other.abort()
        with pytest.raises(AssociationAborted):
            await ending


@on_each_loop
async def test_what_ended_the_association_is_raised_whether_or_not_there_is_a_timeout() -> None:
    never = asyncio.Event()

    async def hold(request: dulcet.aio.IncomingRequest) -> None:
        await never.wait()

    config = dulcet.AssociationConfig(timers=dulcet.Timers(response=0.1))
    async with dulcet.aio.serve("HERE@127.0.0.1:0", hold) as server:
        for timeout in (None, WAIT):
            association = await dulcet.aio.associate(server.address, config=config)
            asking = asyncio.create_task(association.echo())
            with pytest.raises(dulcet.DimseTimeout):
                await serve_until(association, lambda: False, timeout)
            with pytest.raises(dulcet.DimseTimeout):
                await asking
        never.set()


@on_each_loop
async def test_so_many_reports_wait_for_one_another() -> None:
    held: list[dulcet.aio.IncomingRequest] = []

    async def hold(request: dulcet.aio.IncomingRequest) -> None:
        held.append(await request.defer())

    async with reporting(EVENTS) as (association, other):
        association.handler = hold
        reports = [asyncio.create_task(report_in_turn(other, EVENTS, "1.1", 1, None)) for _ in range(NESTED)]
        await until(lambda: bool(held))
        with pytest.raises(LocalProtocolError, match="16 reports"):
            await report_in_turn(other, EVENTS, "1.1", 1, None)
        for number in range(NESTED):
            await until(lambda number=number: len(held) > number)
            await held[number].respond(Status.SUCCESS)
        assert [(await report).status for report in reports] == [Status.SUCCESS] * NESTED
        reports = [asyncio.create_task(report_in_turn(other, EVENTS, "1.1", 1, None))]
        await until(lambda: len(held) > NESTED)
        await held[NESTED].respond(Status.SUCCESS)
        assert (await reports[0]).status == Status.SUCCESS


# ------------------------------------------------------------------------------ procedure steps


@contextlib.asynccontextmanager
async def department(**options: Any) -> AsyncIterator[tuple[dulcet.aio.Association, dulcet.MPPS]]:
    node = dulcet.Node("RIS")
    mpps = dulcet.MPPS(node, **options)
    async with serving(node, MPPS_PROPOSALS) as association:
        yield association, mpps


@on_each_loop
async def test_a_step_is_performed() -> None:
    async with department() as (association, mpps):
        async with perform_procedure_step(association, BEGIN) as step:
            assert (await get_procedure_step(association, step.sop_instance_uid)).PatientName == "DOE^JOHN"
            await step.update(PerformedProcedureStepDescription="head, plain")
            step.add_series(**SERIES)
            await step.update(build_identifier({"PerformedProcedureTypeDescription": "plain"}))
        kept = mpps.store[step.sop_instance_uid]
        assert kept.PerformedProcedureTypeDescription == "plain"
        assert kept.PerformedProcedureStepStatus == step.status == "COMPLETED"
        assert kept.PerformedProcedureStepDescription == "head, plain"
        assert kept.PerformedSeriesSequence[0].ProtocolName == "HEAD"
        assert len(kept.PerformedProcedureStepEndDate) == 8
        assert len(kept.PerformedProcedureStepEndTime) == 6


@on_each_loop
async def test_a_step_left_by_an_exception_is_discontinued() -> None:
    async with department() as (association, mpps):
        step = await perform_procedure_step(association, BEGIN)
        step.add_series(**SERIES)
        with pytest.raises(RuntimeError, match="the tube is hot"):
            async with step:
                raise RuntimeError("the tube is hot")
        assert mpps.store[step.sop_instance_uid].PerformedProcedureStepStatus == "DISCONTINUED"


@on_each_loop
async def test_a_step_that_is_left_before_its_first_series_is_discontinued() -> None:
    async with department() as (association, mpps):
        with pytest.raises(RuntimeError, match="the tube is hot"):
            async with perform_procedure_step(association, BEGIN) as step:
                raise RuntimeError("the tube is hot")  # there is no series yet, without which the peer takes no end
        assert mpps.store[step.sop_instance_uid].PerformedProcedureStepStatus == "DISCONTINUED"


@on_each_loop
async def test_a_step_that_may_not_be_discontinued_does_not_hide_what_happened() -> None:
    async with department() as (association, mpps):
        with pytest.raises(RuntimeError, match="the tube is hot"):  # noqa: PT012
            async with perform_procedure_step(association, BEGIN) as step:
                del mpps.store[step.sop_instance_uid]  # the peer refuses the end of what it does not know
                raise RuntimeError("the tube is hot")
        assert step.sop_instance_uid not in mpps.store


@on_each_loop
async def test_discontinued_for_a_reason_and_refused_at_the_beginning() -> None:
    async with department(strict_end=False) as (association, mpps):
        async with perform_procedure_step(association, BEGIN, sop_instance_uid="1.1") as step:
            await step.discontinue(reason=CODE)
        assert mpps.store["1.1"].PerformedProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "1"
        with pytest.raises(StatusError) as caught:
            await perform_procedure_step(association, BEGIN, sop_instance_uid="1.1")
        assert caught.value.status == Status.DUPLICATE_INSTANCE
        with pytest.raises(StatusError):
            await get_procedure_step(association, "1.2")


@on_each_loop
async def test_a_worklist_item_is_performed() -> None:
    step_item = {"Modality": "CT", "ScheduledStationAETitle": "CT1", "ScheduledProcedureStepID": "S1"}
    item = build_identifier(
        {"PatientName": "ABEL^ANNA", "StudyInstanceUID": "1.2.9", "ScheduledProcedureStepSequence": [step_item]}
    )
    node = dulcet.Node("RIS")
    dulcet.Worklist(node, [item])
    mpps = dulcet.MPPS(node, strict=True)
    contexts = [*MPPS_PROPOSALS, *proposals([uids.KEYWORDS["ModalityWorklistInformationModelFind"]])]
    async with serving(node, contexts) as association:
        query = dulcet.worklist_query({"Modality": "CT"})
        [found] = [match async for match in association.find(query, model="worklist")]
        async with perform_procedure_step(association, step_from_worklist(found)) as step:
            step.add_series(**SERIES)
        assert mpps.store[step.sop_instance_uid].PatientName == "ABEL^ANNA"


# ------------------------------------------------------------------------------ unified procedure steps


@contextlib.asynccontextmanager
async def ward(
    hear: Callable[[StepEvent], object],
) -> AsyncIterator[tuple[dulcet.aio.Association, dulcet.UnifiedProcedureSteps]]:
    watcher = dulcet.Node("WATCHER")
    watch_steps(watcher, hear)
    node = dulcet.Node("MANAGER")
    steps = dulcet.UnifiedProcedureSteps(node, backoff=QUICK)
    async with watcher.start() as listening:
        node.peers["WATCHER"] = listening.address
        async with serving(node, UPS_PROPOSALS) as association:
            yield association, steps


@pytest.mark.parametrize("kind", ["plain", "async"])
@on_each_loop
async def test_a_step_is_made_taken_watched_and_completed(kind: str) -> None:
    heard: list[StepEvent] = []

    async def hear(event: StepEvent) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    async with ward(heard.append if kind == "plain" else hear) as (association, steps):
        await subscribe(association, "WATCHER")
        uid = await create_step(association, **PLAN)
        async with perform_step(association, uid) as step:
            assert (await get_step(association, uid, ["ProcedureStepState"])).ProcedureStepState == "IN PROGRESS"
            await step.progress(50, "half of it")
            step.performed(**DONE)
        assert step.state == (await get_step(association, uid)).ProcedureStepState == "COMPLETED"
        await unsubscribe(association, "WATCHER")
        await create_step(association, **PLAN)
        assert await asyncio.to_thread(steps.event_report_sender.wait, WAIT)
    assert [(event.kind, event.state) for event in heard] == [
        ("state", "SCHEDULED"),
        ("state", "IN PROGRESS"),
        ("progress", ""),
        ("state", "COMPLETED"),
    ]
    assert {(event.sop_instance_uid, event.provider) for event in heard} == {(uid, "MANAGER")}


@on_each_loop
async def test_steps_are_canceled() -> None:
    heard: list[StepEvent] = []
    async with ward(heard.append) as (association, steps):
        uid = await create_step(association, **PLAN)
        step = await perform_step(association, uid)
        with pytest.raises(StatusError) as caught:
            await perform_step(association, uid)
        assert caught.value.status == Status.UPS_WRONG_TRANSACTION_UID
        await subscribe(association, "WATCHER", uid)
        await suspend_global_subscription(association, "WATCHER")
        await request_step_cancel(association, uid, reason="patient left", code=CODE)
        with pytest.raises(RuntimeError, match="no electricity"):
            async with step:
                raise RuntimeError("no electricity")
        assert steps.get(uid).ProcedureStepState == "CANCELED"
        other = await perform_step(association, await create_step(association, **PLAN))
        with pytest.raises(StatusError):
            await other.complete()  # nothing was done
        await other.cancel("enough", CODE)
        assert other.state == "CANCELED"
        assert await asyncio.to_thread(steps.event_report_sender.wait, WAIT)
    assert [(event.kind, event.state) for event in heard] == [
        ("state", "IN PROGRESS"),
        ("cancel requested", ""),
        ("progress", ""),  # why it is canceled
        ("state", "CANCELED"),
    ]


@on_each_loop
async def test_what_has_ended_is_not_ended_again_and_a_failure_hides_nothing() -> None:
    async with ward(lambda event: None) as (association, steps):
        async with perform_step(association, await create_step(association, **PLAN)) as step:
            await step.update(build_identifier({"CommentsOnTheScheduledProcedureStep": "x"}))
            await step.complete(**DONE)
        assert steps.get(step.sop_instance_uid).CommentsOnTheScheduledProcedureStep == "x"
        step = await perform_step(association, await create_step(association, **PLAN))
        await association.release()
        with pytest.raises(RuntimeError, match="no electricity"):
            async with step:
                raise RuntimeError("no electricity")


@on_each_loop
async def test_a_filtered_subscription() -> None:
    heard: list[StepEvent] = []
    async with ward(heard.append) as (association, steps):
        await subscribe(association, "WATCHER", only={"ProcedureStepLabel": "b*"})
        await create_step(association, **PLAN)
        uid = await create_step(association, **{**PLAN, "ProcedureStepLabel": "blue"})
        assert await asyncio.to_thread(steps.event_report_sender.wait, WAIT)
    assert [event.sop_instance_uid for event in heard] == [uid]


# ------------------------------------------------------------------------------ printing, availability


@contextlib.asynccontextmanager
async def printing(**options: Any) -> AsyncIterator[tuple[dulcet.aio.Association, Printer]]:
    printer = Printer(**options)
    async with serving(printer.node, PRINT_PROPOSALS) as association:
        yield association, printer


@on_each_loop
async def test_a_film_is_printed() -> None:
    async with printing() as (association, printer):
        assert await printer_status(association) == PrinterStatus("NORMAL", "", "paper")
        async with FilmSession(association, copies=2, medium="BLUE FILM") as session:
            film = await session.film("STANDARD\\2,1")
            await film.place(1, IMAGE)
            await film.place(2, IMAGE)
            await film.print()
            assert await session.wait(WAIT)
            assert [(event.status, event.of_job) for event in session.events] == [
                ("WARNING", False),
                ("PRINTING", True),
                ("DONE", True),
            ]
        assert [[image.PixelData for image in sheet] for sheet in printer.sheets] == [[bytes(range(64))] * 2]
        assert printer.deleted == [session.sop_instance_uid]


@pytest.mark.parametrize("face", ["blocking", "aio"])
@on_each_loop
async def test_sessions_that_are_over_are_not_kept(face: str) -> None:
    def print_one(association: dulcet.Association) -> weakref.ref[Any]:
        with dulcet.FilmSession(association) as session:
            session.film().print()
            assert session.wait(WAIT)
            return weakref.ref(session)

    def print_all(address: dulcet.Address) -> None:
        with dulcet.associate(address, contexts=PRINT_PROPOSALS) as association:
            sessions = [print_one(association) for _ in range(3)]
            gc.collect()
            assert [found() is None for found in sessions] == [True, True, False]

    async def print_one_here(association: dulcet.aio.Association) -> weakref.ref[Any]:
        async with FilmSession(association) as session:
            await (await session.film()).print()
            assert await session.wait(WAIT)
            return weakref.ref(session)

    printer = Printer()
    async with printer.node.start() as server:
        if face == "blocking":
            await asyncio.to_thread(print_all, server.address)
            return
        async with dulcet.aio.associate(server.address, contexts=PRINT_PROPOSALS) as association:
            sessions = [await print_one_here(association) for _ in range(3)]
            gc.collect()
            assert [found() is None for found in sessions] == [True, True, False]


@on_each_loop
async def test_jobs_that_fail_that_never_end_and_that_are_not_made() -> None:
    for job_ends, ended, statuses in ((4, True, "FAILURE"), (2, False, "PRINTING"), (None, True, "")):
        async with printing(job_ends=job_ends) as (association, _), FilmSession(association) as session:
            await (await session.film()).print()
            assert await session.wait(WAIT if job_ends == 4 else 0.1) is ended
            assert (session.events[-1].status if session.events else "") == statuses


@on_each_loop
async def test_a_session_is_deleted_whatever_happens() -> None:
    async with printing(warning=0xB605) as (association, printer):
        session = await FilmSession(association, sop_instance_uid="1.1")
        film = await session.film()
        with pytest.raises(IndexError, match="1 image boxes"):
            await film.place(2, IMAGE)
        with pytest.raises(StatusError):
            await session.print()  # this printer prints films alone
        await film.delete()
        with pytest.raises(RuntimeError, match="no paper"):
            async with session:
                raise RuntimeError("no paper")
        assert printer.deleted == [film.sop_instance_uid, "1.1"]
        async with session:
            pass  # it is deleted: neither made nor deleted again
        assert len(printer.deleted) == 2
        session = await FilmSession(association)
        await association.release()
        with pytest.raises(RuntimeError, match="no power"):
            async with session:
                raise RuntimeError("no power")
        with pytest.raises(ValueError, match="0 copies"):
            FilmSession(association, copies=0)


@on_each_loop
async def test_what_is_available_is_heard() -> None:
    heard: list[dulcet.AvailableInstance] = []

    def hear(instances: list[dulcet.AvailableInstance]) -> None:
        if heard:
            raise dulcet.Refused(Status.RESOURCE_LIMITATION)
        heard.extend(instances)

    node = dulcet.Node("RIS")
    dulcet.InstanceAvailability(node, hear)
    async with serving(node, dulcet.AVAILABILITY_PROPOSALS) as association:
        study = [one for one in INSTANCES if one.study_instance_uid == INSTANCES[0].study_instance_uid]
        assert await notify_availability(association, study, procedure_step=("1.2.3", "4.5.6")) == 1
        with pytest.raises(StatusError) as caught:
            await notify_availability(association, INSTANCES)
        assert caught.value.status == Status.RESOURCE_LIMITATION
    assert sorted(heard, key=str) == sorted(study, key=str)
