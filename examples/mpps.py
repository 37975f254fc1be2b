"""Modality performed procedure step: tell the information system what is being done, and what came of it."""

import dulcet
from dulcet.blocking.mpps import get_procedure_step, perform_procedure_step
from dulcet.node.mpps import MPPS
from dulcet.services.mpps import MPPS_PROPOSALS

BEGIN = {
    "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.3", "AccessionNumber": "A1"}],
    "PatientName": "DOE^JOHN",
    "PatientID": "4711",
    "PerformedProcedureStepID": "P1",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260705",
    "PerformedProcedureStepStartTime": "1015",
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "Modality": "CT",
}


def main() -> None:
    system = dulcet.Node("RIS")
    MPPS(
        system,
        on_begin=lambda uid, step: print("begun:", step.PerformedProcedureStepID, "on", step.PerformedStationAETitle),
        on_change=lambda uid, step: print("changed:", step.PerformedProcedureStepDescription),
        on_end=lambda uid, step: print("ended:", step.PerformedProcedureStepStatus),
    )
    with system.threads() as serving, dulcet.associate(serving.address, contexts=MPPS_PROPOSALS) as association:
        # Left in order, the step is COMPLETED.
        with perform_procedure_step(association, BEGIN) as step:
            step.update(PerformedProcedureStepDescription="head, plain")
            step.add_series(SeriesInstanceUID="1.2.3.1", ProtocolName="HEAD")
        known = get_procedure_step(association, step.sop_instance_uid)
        print("series:", [series.ProtocolName for series in known.PerformedSeriesSequence])

        # What has ended stays as it is.
        try:
            step.update(PerformedProcedureStepDescription="with contrast")
        except dulcet.StatusError as error:
            print("refused:", error)

        # Left by an exception, it is DISCONTINUED.
        try:
            with perform_procedure_step(association, BEGIN) as step:
                step.add_series(SeriesInstanceUID="1.2.3.2", ProtocolName="HEAD")
                raise RuntimeError("the patient had to leave")
        except RuntimeError as error:
            print("stopped:", error)


if __name__ == "__main__":
    main()
