"""A small PACS in thirty lines: storage, query by study, C-GET and C-MOVE; `dulcet serve` is the large one."""

import tempfile
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

import dulcet


def pacs(folder: Path) -> dulcet.Node:
    node = dulcet.Node("PACS", store_to=folder)
    studies: dict[str, list[Path]] = {}
    first: dict[str, Dataset] = {}

    @node.on_store
    def keep(request):
        header = dcmread(request.path, stop_before_pixels=True)
        first.setdefault(header.StudyInstanceUID, header)
        studies.setdefault(header.StudyInstanceUID, []).append(request.path)

    @node.on_find(models=["study"])
    def find(request):
        wanted = str(request.identifier.get("PatientName", "")).rstrip("*")
        for header in first.values():
            if str(header.PatientName).startswith(wanted):
                answer = Dataset()
                asked = (element.tag for element in request.identifier if element.tag in header)
                answer.update({tag: header[tag] for tag in asked})
                answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", header.StudyInstanceUID
                yield answer

    @node.on_get(models=["study"])
    @node.on_move(models=["study"])
    def retrieve(request):
        return studies.get(request.identifier.StudyInstanceUID, [])

    return node


def main(folder: Path) -> None:
    with pacs(folder / "pacs").threads() as serving, dulcet.associate(serving.address) as association:
        files = [get_testdata_file(name, download=False) for name in ("CT_small.dcm", "MR_small.dcm")]
        print("stored", sum(sent.ok for sent in association.store_many(files)))
        for study in list(association.find(level="STUDY", PatientName="CompressedSamples^M*", StudyDate="")):
            print(study.PatientName, study.StudyDate)
            result = association.get(study, to=folder / "retrieved").check()
            print("retrieved", result.completed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
