"""Data sets for the archive, made with pydicom, and an archive's parts around a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dulcet.archive.index import Watch
from dulcet.archive.ingest import Ingest, Stored
from dulcet.archive.objects import FileObjects
from dulcet.archive.sqlite import SqliteIndex
from dulcet.services.identifiers import encode_dataset

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def data_set(number: int = 1, *, study: str = "1.2.1", series: str = "1.2.1.1", **values: Any) -> Dataset:
    """An instance `1.2.9.<number>` of a series; keywords replace or, with None, remove what it says."""
    made = Dataset()
    base: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": f"1.2.9.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "PatientName": "Doe^John",
        "PatientID": "P1",
        "StudyDate": "20200131",
        "StudyTime": "101500",
        "Modality": "CT",
        "InstanceNumber": str(number),
    }
    for keyword, value in {**base, **values}.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def send(
    ingest: Ingest, data: Dataset | bytes, syntax: str = EXPLICIT, *, piece: int = 4096, **announced: str
) -> Stored:
    """Send a data set into the archive as a face does, piece by piece."""
    encoded = data if isinstance(data, bytes) else encode_dataset(data, syntax)[0]
    if isinstance(data, Dataset):
        announced = {
            "sop_class_uid": str(data.get("SOPClassUID", CT)),
            "sop_instance_uid": str(data.get("SOPInstanceUID", "1.2.9.1")),
            **announced,
        }
    arriving = ingest.begin(
        announced["sop_class_uid"], announced["sop_instance_uid"], syntax, source_ae_title="SENDER"
    )
    try:
        for start in range(0, len(encoded), piece):
            arriving.write(memoryview(encoded)[start : start + piece])
        return arriving.commit()
    finally:
        arriving.discard()


@dataclass
class Parts:
    """What an archive is made of."""

    folder: Path
    objects: FileObjects
    index: SqliteIndex
    ingest: Ingest

    def files(self) -> list[str]:
        """Every file that is there, the index left out."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.startswith("index")
        )


    def folders(self) -> list[str]:
        """The folders of studies and series."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*/*") if path.is_dir())


@contextmanager
def parts(folder: Path, **options: Any) -> Iterator[Parts]:
    """An archive's parts, closed on leaving."""
    objects = FileObjects(folder, durable=False)
    index = SqliteIndex(folder / "index.sqlite", durable=False, watch=options.pop("watch", Watch()), busy=0.2)
    ingest = Ingest(objects, index, **options)
    try:
        yield Parts(folder, objects, index, ingest)
    finally:
        ingest.close()
        index.close()
