"""Unified procedure steps between users and a node on loopback: made, taken, watched, asked to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.node.raw import GARBAGE, ask
from tests.node.serving import FACES, served
from tests.services.test_ups import CODE, new_step

import dulcet
from dulcet.blocking.ups import (
    StepEvent,
    StepPerformance,
    create_step,
    get_step,
    perform_step,
    request_step_cancel,
    subscribe,
    suspend_global_subscription,
    unsubscribe,
    watch_steps,
)
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.node.datasets import Datasets
from dulcet.node.ups import UnifiedProcedureSteps
from dulcet.services.identifiers import build_identifier
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff
from dulcet.services.ups import FILTERED, GLOBAL, PULL, PUSH, UPS_PROPOSALS, WATCH, scheduled_step

WAIT = 20.0
PLAN = {"ProcedureStepLabel": "plan", "ScheduledProcedureStepStartDateTime": "20260705"}
DONE = {"PerformedStationNameCodeSequence": [CODE], "PerformedWorkitemCodeSequence": [CODE]}


@dataclass
class Ward:
    """A manager of steps, a user's association with it, and what a watcher hears."""

    steps: UnifiedProcedureSteps
    association: dulcet.Association
    heard: list[StepEvent] = field(default_factory=list)

    def events(self) -> list[tuple[str, str]]:
        """Everything heard so far, once all that was to be told was told."""
        assert self.steps.event_report_sender.wait(WAIT)
        return [(event.kind, event.state) for event in self.heard]


@contextmanager
def ward(*, face: str = "threads", **options: object) -> Iterator[Ward]:
    heard: list[StepEvent] = []
    watcher = dulcet.Node("WATCHER")
    watch_steps(watcher, heard.append)
    node = dulcet.Node("MANAGER")
    steps = UnifiedProcedureSteps(node, backoff=Backoff(first=0.02, longest=0.05, attempts=100), **options)
    with watcher.threads() as listening:
        node.peers["WATCHER"] = listening.address
        with (
            served(node, face) as address,
            dulcet.associate(address, calling_ae_title="USER", contexts=UPS_PROPOSALS) as association,
        ):
            yield Ward(steps, association, heard)


def status_of(function, *arguments, **options) -> int:
    with pytest.raises(StatusError) as caught:
        function(*arguments, **options)
    return caught.value.status


@pytest.mark.parametrize("face", FACES)
def test_a_step_is_made_taken_and_completed(face):
    with ward(face=face) as here:
        subscribe(here.association, "WATCHER")
        uid = create_step(here.association, **PLAN)
        assert get_step(here.association, uid, ["ProcedureStepState"]).ProcedureStepState == "SCHEDULED"
        with perform_step(here.association, uid) as step:
            assert get_step(here.association, uid).ProcedureStepState == "IN PROGRESS"
            step.progress(50, "half of it")
            step.performed(**DONE)
        seen = get_step(here.association, uid)
        assert (seen.ProcedureStepState, step.state) == ("COMPLETED", "COMPLETED")
        assert "TransactionUID" not in seen
        assert here.events() == [
            ("state", "SCHEDULED"),
            ("state", "IN PROGRESS"),
            ("progress", ""),
            ("state", "COMPLETED"),
        ]
        assert {(event.sop_instance_uid, event.provider) for event in here.heard} == {(uid, "MANAGER")}


def test_a_step_left_by_an_exception_is_canceled():
    with ward() as here:
        uid = create_step(here.association, **PLAN)
        step = perform_step(here.association, uid)
        with pytest.raises(RuntimeError), step:
            raise RuntimeError("no electricity")
        assert here.steps.get(uid).ProcedureStepState == "CANCELED"


def test_a_step_that_is_not_done_cannot_be_completed():
    with ward() as here:
        step = perform_step(here.association, create_step(here.association, **PLAN))
        assert status_of(step.complete) == Status.UPS_FINAL_STATE_NOT_MET
        step.cancel("enough", CODE)
        progress = here.steps.get(step.sop_instance_uid).ProcedureStepProgressInformationSequence[0]
        assert progress.ReasonForCancellation == "enough"
        assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "1"


def test_a_step_belongs_to_who_was_quicker():
    with ward() as here:
        uid = create_step(here.association, **PLAN)
        first = perform_step(here.association, uid)
        assert status_of(perform_step, here.association, uid) == Status.UPS_WRONG_TRANSACTION_UID
        assert status_of(perform_step, here.association, uid, transaction_uid=first.transaction_uid) == 0xC302
        stranger = StepPerformance(here.association, uid, "9.9")
        assert status_of(stranger.progress, 10) == Status.UPS_WRONG_TRANSACTION_UID
        again = StepPerformance(here.association, uid, first.transaction_uid)  # as after a crash
        again.complete(**DONE)
        assert status_of(first.progress, 99) == Status.UPS_NO_LONGER_UPDATABLE


def test_finding_steps():
    with ward() as here:
        for label, start in (("a", "20260705"), ("b", "20260706"), ("c", "20260707")):
            create_step(here.association, ProcedureStepLabel=label, ScheduledProcedureStepStartDateTime=start)
        keys = {"ScheduledProcedureStepStartDateTime": "20260706-", "ProcedureStepLabel": None, "SOPInstanceUID": None}
        for model in ("ups", "ups-watch", "ups-query"):
            found = list(here.association.find(model=model, ProcedureStepState="SCHEDULED", **keys))
            assert [step.ProcedureStepLabel for step in found] == ["b", "c"]
            assert all(step.SOPInstanceUID for step in found)
        bad = build_identifier({"ScheduledProcedureStepStartDateTime": None})
        bad.ScheduledProcedureStepStartDateTime = "tomorrow"
        with pytest.raises(StatusError) as caught:
            list(here.association.find(bad, model="ups"))
        assert caught.value.status == Status.DATA_SET_MISMATCH


def test_a_request_to_cancel():
    with ward() as here:
        association = here.association
        uid = create_step(association, **PLAN)
        step = perform_step(association, uid)
        assert status_of(request_step_cancel, association, uid) == Status.UPS_PERFORMER_UNREACHABLE  # nobody listens
        subscribe(association, "WATCHER", uid)
        request_step_cancel(association, uid, reason="patient left", contact_name="Müller", code=CODE)
        assert here.events() == [("state", "IN PROGRESS"), ("cancel requested", "")]
        asked = here.heard[-1].dataset
        assert (asked.RequestingAE, asked.ReasonForCancellation, asked.ContactDisplayName) == (
            "USER",
            "patient left",
            "Müller",
        )
        step.complete(**DONE)
        assert status_of(request_step_cancel, association, uid) == Status.UPS_IS_COMPLETED


def test_a_request_to_cancel_before_it_began():
    with ward() as here:
        uid = create_step(here.association, **PLAN)
        subscribe(here.association, "WATCHER", uid)
        request_step_cancel(here.association, uid)
        assert here.events() == [("state", state) for state in ("SCHEDULED", "IN PROGRESS", "CANCELED")]
        assert request_step_cancel(here.association, uid).status == Status.UPS_ALREADY_CANCELED


@pytest.mark.parametrize(("verdict", "status"), [(True, 0), (False, 0xC313), (None, 0xC312)])
def test_a_manager_that_performs_itself_may_decline(verdict, status):
    asked = []

    def on_cancel_request(uid, step, information):
        asked.append(information.RequestingAE)
        return verdict

    with ward(on_cancel_request=on_cancel_request) as here:
        uid = create_step(here.association, **PLAN)
        here.steps.change_state(uid, "IN PROGRESS", "1.2.3")
        information = build_identifier({})
        assert here.association.n_action(PUSH, uid, 2, information, context=WATCH).status == status
        assert asked == ["USER"]


@pytest.mark.parametrize("face", FACES)
def test_subscriptions(face):
    with ward(face=face) as here:
        association = here.association
        early = create_step(association, **PLAN)
        subscribe(association, "WATCHER")
        assert here.events() == []  # without a deletion lock nothing is told at once
        subscribe(association, "WATCHER", deletion_lock=True)
        assert here.events() == [("state", "SCHEDULED")]
        unsubscribe(association, "WATCHER", early)
        step = perform_step(association, early)
        assert len(here.events()) == 1
        late = create_step(association, **PLAN)
        here.events()
        assert [event.sop_instance_uid for event in here.heard] == [early, late]
        suspend_global_subscription(association, "WATCHER")
        create_step(association, **PLAN)
        assert len(here.events()) == 2
        request_step_cancel(association, late)
        assert len(here.events()) == 4
        unsubscribe(association, "WATCHER")
        subscribe(association, "WATCHER", early)
        step.complete(**DONE)
        assert here.events()[4:] == [("state", "IN PROGRESS"), ("state", "COMPLETED")]


def test_a_filtered_global_subscription():
    with ward() as here:
        subscribe(here.association, "WATCHER", only={"ProcedureStepLabel": "b*"})
        create_step(here.association, **{**PLAN, "ProcedureStepLabel": "a"})
        wanted = create_step(here.association, **{**PLAN, "ProcedureStepLabel": "blue"})
        assert here.events() == [("state", "SCHEDULED")]
        assert here.heard[0].sop_instance_uid == wanted
        unsubscribe(here.association, "WATCHER", FILTERED)
        create_step(here.association, **{**PLAN, "ProcedureStepLabel": "brown"})
        assert len(here.events()) == 1


def test_deletion_locks():
    with ward() as here:
        association = here.association
        uid = create_step(association, **PLAN)
        subscribe(association, "WATCHER", uid, deletion_lock=True)
        assert not here.steps.delete(uid)  # it has not ended
        request_step_cancel(association, uid)
        assert not here.steps.delete(uid)  # the watcher wants it
        unsubscribe(association, "WATCHER", uid)
        assert here.steps.delete(uid)
        assert not here.steps.delete(uid)
        assert status_of(get_step, association, uid) == Status.UPS_NO_SUCH_INSTANCE


def test_what_becomes_of_the_manager_is_told():
    with ward() as here:
        subscribe(here.association, "WATCHER")
        here.steps.announce("GOING DOWN")
        assert here.events() == [("provider status", "")]
        assert here.heard[0].dataset.SCPStatus == "GOING DOWN"
        assert here.heard[0].sop_instance_uid == GLOBAL


@pytest.mark.parametrize(
    ("uid", "action", "keys", "status"),
    [
        ("1.1", 9, {}, 0x0123),
        ("1.1", 1, {}, 0x0115),
        (GLOBAL, 1, {"ProcedureStepState": "IN PROGRESS", "TransactionUID": "1"}, 0xC314),
        (GLOBAL, 2, {}, 0xC314),
        ("7.7", 1, {"ProcedureStepState": "IN PROGRESS", "TransactionUID": "1"}, 0xC307),
        ("7.7", 2, {}, 0xC307),
        ("7.7", 3, {"ReceivingAE": "WATCHER", "DeletionLock": "FALSE"}, 0xC307),
        ("7.7", 4, {"ReceivingAE": "WATCHER"}, 0xC307),
        ("1.1", 3, {"ReceivingAE": "NOBODY", "DeletionLock": "FALSE"}, 0xC308),
        (GLOBAL, 4, {"ReceivingAE": "NOBODY"}, 0xC308),
        ("1.1", 3, {"DeletionLock": "FALSE"}, 0x0115),
        ("1.1", 3, {"ReceivingAE": "WATCHER"}, 0x0115),
        ("1.1", 3, {"ReceivingAE": "WATCHER", "DeletionLock": "MAYBE"}, 0x0115),
        ("1.1", 5, {"ReceivingAE": "WATCHER"}, 0xC314),
    ],
)
def test_refused_actions(uid, action, keys, status):
    with ward() as here:
        create_step(here.association, sop_instance_uid="1.1", **PLAN)
        assert here.association.n_action(PUSH, uid, action, build_identifier(keys), context=PULL).status == status


def test_other_refusals():
    with ward() as here:
        association = here.association
        create_step(association, sop_instance_uid="1.1", **PLAN)
        assert status_of(create_step, association, sop_instance_uid="1.1", **PLAN) == Status.DUPLICATE_INSTANCE
        assert status_of(create_step, association, sop_instance_uid=GLOBAL, **PLAN) == Status.INVALID_INSTANCE
        assert status_of(create_step, association, ProcedureStepState="COMPLETED", **PLAN) == Status.UPS_NOT_SCHEDULED
        assert association.n_set(PUSH, "7.7", build_identifier({}), context=PULL).status == Status.UPS_NO_SUCH_INSTANCE
        assert association.n_delete(PUSH, "1.1").status == Status.SOP_CLASS_NOT_SUPPORTED
        named = {"RequestedSOPClassUID": PUSH, "RequestedSOPInstanceUID": "1.1", "ActionTypeID": 1}
        assert ask(association, CommandField.N_ACTION_RQ, PULL, GARBAGE, **named).status == Status.PROCESSING_FAILURE
        assert get_step(association, "1.1").ProcedureStepState == "SCHEDULED"


def test_the_application_may_refuse_a_change():
    def on_change(uid, step):
        if step.ProcedureStepLabel == "forbidden":
            raise Refused(Status.NOT_AUTHORIZED)

    with ward(on_change=on_change) as here:
        subscribe(here.association, "WATCHER")
        assert status_of(create_step, here.association, **{**PLAN, "ProcedureStepLabel": "forbidden"}) == 0x0124
        assert (len(here.steps.store), here.events()) == (0, [])


def test_a_uid_is_made_where_none_is_given():
    with ward() as here:
        response = here.association.n_create(PUSH, None, scheduled_step(**PLAN)).check()
        assert list(here.steps.store) == [response.command.affected_sop_instance_uid]


def test_steps_survive_in_a_file(tmp_path):
    store = Datasets(tmp_path / "steps.db")
    with ward(store=store) as here:
        lock = perform_step(
            here.association, create_step(here.association, sop_instance_uid="1.1", **PLAN)
        ).transaction_uid
    store.disconnect()
    store = Datasets(tmp_path / "steps.db")
    with ward(store=store) as here:
        assert status_of(perform_step, here.association, "1.1") == Status.UPS_WRONG_TRANSACTION_UID
        StepPerformance(here.association, "1.1", lock).complete(**DONE)
    store.disconnect()


def test_the_application_uses_the_same_rules():
    with ward() as here:
        subscribe(here.association, "WATCHER")
        uid = here.steps.create(new_step())
        here.steps.change_state(uid, "IN PROGRESS", "1.2.3")
        with pytest.raises(Refused):
            here.steps.set(uid, build_identifier({"ProcedureStepLabel": "x"}))
        here.steps.set(uid, build_identifier({"ProcedureStepLabel": "x", "TransactionUID": "1.2.3"}))
        assert here.events() == [("state", "SCHEDULED"), ("state", "IN PROGRESS")]
