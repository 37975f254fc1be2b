"""Instance availability notification: an archive tells the information system what can be got where."""

import dulcet
from dulcet.blocking.availability import notify_availability
from dulcet.node.availability import InstanceAvailability
from dulcet.services.availability import AVAILABILITY_PROPOSALS, AvailableInstance

CT = "1.2.840.10008.5.1.4.1.1.2"


def main() -> None:
    system = dulcet.Node("RIS")

    def hear(instances: list[AvailableInstance]) -> None:
        print(f"study {instances[0].study_instance_uid}:")
        for instance in instances:
            print("  ", instance.sop_instance_uid, instance.availability, "at", instance.retrieve_ae_title)

    InstanceAvailability(system, hear)
    with system.threads() as serving, dulcet.associate(serving.address, contexts=AVAILABILITY_PROPOSALS) as association:
        count = notify_availability(
            association,
            [
                AvailableInstance("1.2.1", "1.2.1.1", CT, "1.2.1.1.1", "ARCHIVE"),
                AvailableInstance("1.2.1", "1.2.1.1", CT, "1.2.1.1.2", "ARCHIVE"),
                AvailableInstance("1.2.2", "1.2.2.1", CT, "1.2.2.1.1", "ARCHIVE", "NEARLINE"),
            ],
        )
        print(count, "notifications")

        # What a notification does not say is refused by name.
        response = association.n_create("1.2.840.10008.5.1.4.33", None, None)
        print("refused:", response.status, "-", response.command.error_comment)


if __name__ == "__main__":
    main()
