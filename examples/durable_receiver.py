"""A receiver that loses nothing: 0000H leaves once the file and the program's own record of it are on the disk."""

import sqlite3
import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file

import dulcet


class Register:
    """What came, in a database; a row is committed before the answer leaves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connect() as connection:
            connection.execute("CREATE TABLE arrival (uid TEXT PRIMARY KEY, path TEXT, sender TEXT)")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path)  # one for each call: handlers run in threads

    def add(self, request) -> None:
        with self._connect() as connection:
            row = (request.sop_instance_uid, str(request.path), request.requestor.calling_ae_title)
            connection.execute("INSERT OR REPLACE INTO arrival VALUES (?, ?, ?)", row)

    def rows(self) -> list[tuple[str, str]]:
        with self._connect() as connection:
            return connection.execute("SELECT sender, path FROM arrival ORDER BY path").fetchall()


def main(folder: Path) -> None:
    register = Register(folder / "register.db")
    # Written as it comes, synced, and under its final name before the handler is called.
    node = dulcet.Node("RECEIVER", store_to=folder / "incoming", layout="{Modality}/{SOPInstanceUID}.dcm")

    @node.on_store
    def arrived(request):
        register.add(request)  # if this fails, the sender gets a failure, and sends again

    with node.threads() as serving, dulcet.associate(serving.address, calling_ae_title="CT1") as association:
        for name in ("CT_small.dcm", "MR_small.dcm", "CT_small.dcm"):
            print(name, association.store(get_testdata_file(name, download=False)).check().status)
    for sender, path in register.rows():
        print("from", sender, Path(path).relative_to(folder).parts[:2])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
