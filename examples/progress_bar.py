"""A bar for sending and one for retrieving, drawn from what the calls tell while they go on."""

import sys
import tempfile
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

import dulcet


def draw(what: str, done: int, total: int) -> None:
    """A line that is drawn over itself on a terminal, a line at its end elsewhere."""
    full = 20 * done // max(total, 1)
    line = f"{what:<10} [{'#' * full}{'.' * (20 - full)}] {done}/{total}"
    if sys.stdout.isatty():
        print("\r" + line, end="\n" if done == total else "", flush=True)
    elif done == total:
        print(line)


def main(folder: Path) -> None:
    files = []
    image = dcmread(get_testdata_file("CT_small.dcm", download=False))
    for number in range(20):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.2.{number}"
        files.append(folder / f"{number}.dcm")
        image.save_as(files[-1])

    archive = dulcet.Node("ARCHIVE", store_to=folder / "archive")
    kept: list[Path] = []
    archive.on_store(lambda request: kept.append(request.path))
    archive.on_get(lambda request: list(kept))
    with archive.threads() as serving, dulcet.associate(serving.address) as association:
        for done, sent in enumerate(association.store_many(files), start=1):
            sent.check()
            draw("sending", done, len(files))

        def progress(so_far: dulcet.Retrieved) -> None:
            draw("retrieving", so_far.completed, so_far.completed + so_far.remaining)

        result = association.get(
            level="STUDY", StudyInstanceUID=image.StudyInstanceUID, to=folder / "back", progress=progress
        ).check()
        draw("retrieved", result.completed, len(files))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
