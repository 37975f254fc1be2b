"""Send a folder over several associations, and send again what did not get across.

`folder_sender.py AET@host:port FOLDER`; without arguments it makes a folder and somebody who receives it.
"""

import sys
import tempfile
import time
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

import dulcet


def send(address: str | dulcet.Address, folder: Path, tries: int = 3) -> bool:
    """Send every file below a folder; True when all of them are there."""
    left = sorted(path for path in folder.rglob("*") if path.is_file())
    for attempt in range(tries):
        time.sleep(attempt)  # not at once again
        failed: list[Path] = []
        try:
            with dulcet.associate(address, calling_ae_title="SENDER") as association:
                for sent in association.store_many(left, associations=2):
                    if isinstance(sent.error, dulcet.NotDicom):
                        print("skipped", sent.path.name)
                    elif not sent.ok:
                        print("failed", sent.path.name, sent.error or sent.status)
                        failed.append(sent.path)
        except (dulcet.AssociationError, dulcet.PeerUnreachable) as error:
            print(error)
            continue  # what was sent is sent once more, which does no harm
        print(f"try {attempt + 1}: {len(left)} files, {len(failed)} failed")
        if not failed:
            return True
        left = failed
    return False


def main(folder: Path) -> None:
    image = dcmread(get_testdata_file("CT_small.dcm", download=False))
    for number in range(6):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.1.{number}"
        image.save_as(folder / f"{number}.dcm")
    (folder / "notes.txt").write_text("not DICOM")
    receiver = dulcet.Node("RECEIVER")
    receiver.on_store(lambda request: None)
    with receiver.threads() as serving:
        print("all there:", send(serving.address, folder))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        raise SystemExit(0 if send(sys.argv[1], Path(sys.argv[2])) else 1)
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
