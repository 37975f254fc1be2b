"""Storage commitment: store an instance, ask the archive to answer for it, delete only what is safe.

The archive keeps its transactions in a file, so that results are reported even after a restart; it reports them on an
association that it makes itself, to the modality's own listener.
"""

import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file

import dulcet
from dulcet.blocking.commitment import Commitments, request_commitment
from dulcet.node.commitment import StorageCommitment
from dulcet.node.transactions import SQLiteTransactions
from dulcet.services.commitment import COMMITMENT_PROPOSALS, Reference


def main(folder: Path) -> None:
    # The archive: what it has received, it answers for.
    archive = dulcet.Node("ARCHIVE", store_to=folder / "received")
    safe: set[str] = set()

    @archive.on_store
    def keep(request):
        safe.add(request.sop_instance_uid)
        print("archive keeps", request.path.name)

    transactions = SQLiteTransactions(folder / "transactions.db")
    StorageCommitment(archive, lambda reference: reference.sop_instance_uid in safe, store=transactions)

    # The modality: listens for results, stores, asks.
    modality = dulcet.Node("MODALITY")
    commitments = Commitments(modality)
    with modality.threads() as listening, archive.threads() as serving:
        archive.peers["MODALITY"] = listening.address

        with dulcet.associate(serving.address, calling_ae_title="MODALITY") as association:
            sent = association.store(get_testdata_file("CT_small.dcm", download=False)).check()
        never_sent = Reference(sent.sop_class_uid, "1.2.3.4")

        with dulcet.associate(
            serving.address, calling_ae_title="MODALITY", contexts=COMMITMENT_PROPOSALS
        ) as association:
            pending = request_commitment(association, [sent, never_sent], results=commitments)
        result = pending.wait(30)
        assert result is not None, "the archive said nothing within 30 seconds"
        for reference in result.committed:
            print("may be deleted here:", reference.sop_instance_uid)
        for reference, reason in result.failed:
            print("must be kept:", reference.sop_instance_uid, "-", dulcet.Status(reason).meaning("commitment"))
    transactions.disconnect()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
