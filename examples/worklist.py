"""Modality worklist: what is to be done today, and beginning with it."""

import dulcet
from dulcet.blocking.mpps import step_from_worklist
from dulcet.node.worklist import Worklist
from dulcet.services.identifiers import build_identifier
from dulcet.services.worklist import worklist_query

SCHEDULE = [
    ("ABEL^ANNA", "CT", "20260705", "0900"),
    ("BÖHM^BEA", "MR", "20260705", "1200"),
    ("COOK^CARL", "CT", "20260706", "1000"),
]


def scheduled(name: str, modality: str, date: str, time: str):
    return build_identifier(
        {
            "PatientName": name,
            "PatientID": name[:2],
            "StudyInstanceUID": f"1.2.3.{date}.1{time}",
            "AccessionNumber": f"A{time}",
            "ScheduledProcedureStepSequence": [
                {
                    "Modality": modality,
                    "ScheduledStationAETitle": f"{modality}1",
                    "ScheduledProcedureStepStartDate": date,
                    "ScheduledProcedureStepStartTime": time,
                    "ScheduledProcedureStepID": "S1",
                }
            ],
        }
    )


def main() -> None:
    system = dulcet.Node("RIS")
    Worklist(system, [scheduled(*line) for line in SCHEDULE])
    with system.threads() as serving, dulcet.associate(serving.address) as association:
        print("on the fifth of July:")
        for item in association.find(worklist_query({"ScheduledProcedureStepStartDate": "20260705"}), model="worklist"):
            print("  ", item.PatientName, item.ScheduledProcedureStepSequence[0].Modality)

        print("CT, by name, however it is written:")
        for item in association.find(worklist_query({"Modality": "CT"}, PatientName="cook*"), model="worklist"):
            print("  ", item.PatientName, item.AccessionNumber)
            print("   begins as", step_from_worklist(item).PerformedProcedureStepStatus)


if __name__ == "__main__":
    main()
