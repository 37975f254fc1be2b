"""Unified procedure steps: one makes a step, one performs it, one watches, and one asks to stop."""

import dulcet
from dulcet.blocking.ups import StepEvent, create_step, perform_step, request_step_cancel, subscribe, watch_steps
from dulcet.node.ups import UnifiedProcedureSteps
from dulcet.services.ups import UPS_PROPOSALS

STATION = {"CodeValue": "WS1", "CodingSchemeDesignator": "99EXAMPLE", "CodeMeaning": "workstation 1"}
WORK = {"CodeValue": "110005", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Interpretation"}


def main() -> None:
    watcher = dulcet.Node("WATCHER")
    events: list[StepEvent] = []
    watch_steps(watcher, events.append)

    manager = dulcet.Node("MANAGER")
    steps = UnifiedProcedureSteps(manager)
    with watcher.threads() as watching, manager.threads() as serving:
        manager.peers["WATCHER"] = watching.address
        with dulcet.associate(serving.address, calling_ae_title="USER", contexts=UPS_PROPOSALS) as association:
            subscribe(association, "WATCHER")  # to all steps, those to come included
            uids = [
                create_step(association, ProcedureStepLabel=label, ScheduledProcedureStepStartDateTime="202607051000")
                for label in ("read CT", "read MR", "read US")
            ]

            for found in association.find(model="ups", ProcedureStepState="SCHEDULED", ProcedureStepLabel=None):
                print("to be done:", found.ProcedureStepLabel)

            # Left in order, a step is COMPLETED.
            with perform_step(association, uids[0]) as step:
                step.progress(50, "half of it")
                step.performed(PerformedStationNameCodeSequence=[STATION], PerformedWorkitemCodeSequence=[WORK])

            # Nobody has begun with this one, so it is canceled at once.
            request_step_cancel(association, uids[1], reason="ordered twice")

            # Who takes a step has its lock; nobody else gets it.
            perform_step(association, uids[2])
            try:
                perform_step(association, uids[2])
            except dulcet.StatusError as error:
                print("too late:", error)

        steps.event_report_sender.wait(30)  # until the watcher was told everything
    for event in events:
        print("heard:", steps.get(event.sop_instance_uid).ProcedureStepLabel, "-", event.kind, event.state)


if __name__ == "__main__":
    main()
