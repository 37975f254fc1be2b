"""One study of everything: images, reports, plans, documents, a private class and a rare one, in five syntaxes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from tests.interop import peers

from dulcet import uids

ROOT = "1.2.826.0.1.3680043.8.498.77"
STUDY = f"{ROOT}.1"
PATIENT = "MIXED"
PRIVATE = f"{ROOT}.9.1"
"""A class of ours that no table knows."""
RARE = uids.SPECTACLE_PRESCRIPTION_REPORT_STORAGE

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
COMPRESSED = (uids.RLE_LOSSLESS, uids.JPEG2000_LOSSLESS, uids.JPEG_BASELINE_8_BIT)

CONTENT = (
    (uids.CT_IMAGE_STORAGE, EXPLICIT),
    (uids.CT_IMAGE_STORAGE, IMPLICIT),
    (uids.CT_IMAGE_STORAGE, uids.JPEG2000_LOSSLESS),
    (uids.MR_IMAGE_STORAGE, uids.RLE_LOSSLESS),
    (uids.COMPREHENSIVE_SR_STORAGE, EXPLICIT),
    (uids.SEGMENTATION_STORAGE, EXPLICIT),
    (uids.ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE, uids.JPEG_BASELINE_8_BIT),
    (uids.RT_PLAN_STORAGE, IMPLICIT),
    (uids.RT_DOSE_STORAGE, EXPLICIT),
    (uids.ENCAPSULATED_PDF_STORAGE, EXPLICIT),
    (PRIVATE, EXPLICIT),
    (RARE, EXPLICIT),
)
CLASSES = tuple(dict.fromkeys(sop_class for sop_class, _ in CONTENT))


@dataclass(frozen=True)
class Study:
    """The files and what is in them."""

    paths: list[Path]
    uids: list[str]


def make(folder: Path) -> Study:
    """Write the study's files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Study([], [])
    for number, (sop_class, syntax) in enumerate(CONTENT, 1):
        dataset = _instance(number, sop_class, syntax)
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        found.paths.append(path)
        found.uids.append(str(dataset.SOPInstanceUID))
    return found


def _instance(number: int, sop_class: str, syntax: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"{STUDY}.{number}.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, f"{STUDY}.{number}"
    dataset.PatientID, dataset.PatientName = PATIENT, "Mixed^Study"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200101", "120000", "1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "OT", number, 1
    if sop_class == uids.ENCAPSULATED_PDF_STORAGE:
        dataset.MIMETypeOfEncapsulatedDocument, dataset.EncapsulatedDocument = "application/pdf", b"%PDF-1.4\n%%EOF\n"
    elif sop_class in (uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE, uids.RT_DOSE_STORAGE):
        _add_pixels(dataset, 8, 8, 16, b"\1\2" * 64, syntax)
    elif sop_class == uids.SEGMENTATION_STORAGE:
        _add_pixels(dataset, 8, 8, 1, b"\xf0" * 8, syntax)
    elif sop_class == uids.ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE:
        source = dcmread(get_testdata_file("examples_ybr_color.dcm"))
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
                        "PhotometricInterpretation", "PixelRepresentation", "PlanarConfiguration"):  # fmt: skip
            setattr(dataset, keyword, getattr(source, keyword))
        frame = b"\xff\xd8" + b"\0" * 62 + b"\xff\xd9"
        dataset.NumberOfFrames, dataset.PixelData = 2, encapsulate([frame, frame])
        dataset["PixelData"].VR = "OB"
    return dataset


def _add_pixels(dataset: Dataset, rows: int, columns: int, bits: int, data: bytes, syntax: str) -> None:
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation, dataset.PhotometricInterpretation = 0, "MONOCHROME2"
    dataset.PixelData = data if syntax in uids.UNCOMPRESSED else encapsulate([b"\xff\x4f" + b"\0" * 60 + b"\xff\xd9"])
    dataset["PixelData"].VR = "OB" if syntax not in uids.UNCOMPRESSED or bits == 1 else "OW"


@contextmanager
def dcmqrscp(folder: Path, destinations: dict[str, int], study: Study) -> Iterator[peers.Server]:
    """DCMTK's archive, which sends the classes and syntaxes of the study.

    It stores no class that is in no table of its own; what lies in its folder already is indexed.
    """
    area = folder / "area"
    area.mkdir(parents=True)
    for path in study.paths:
        shutil.copy(path, area)
    peers.run([peers.tool("dcmqridx"), area, *(area / path.name for path in study.paths)]).check()
    profile, configuration = folder / "associations.cfg", folder / "dcmqrscp.cfg"
    services = [
        uids.VERIFICATION,
        *(getattr(uids, f"{root}_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_{verb}")
          for root in ("PATIENT", "STUDY") for verb in ("FIND", "MOVE", "GET")),
    ]  # fmt: skip
    syntaxes = [*COMPRESSED, EXPLICIT, IMPLICIT]
    lines = ["[[TransferSyntaxes]]", "[Any]", *(f"TransferSyntax{n} = {uid}" for n, uid in enumerate(syntaxes, 1))]
    lines += ["[[PresentationContexts]]", "[All]"]
    lines += [f"PresentationContext{n} = {uid}\\Any" for n, uid in enumerate([*services, *CLASSES], 1)]
    pairs = sorted(set(CONTENT))  # it sends on the first context of a class: one for each pair
    own = [f"{uid}\\Only{syntaxes.index(syntax)}" for uid, syntax in pairs]
    lines += ["[Own]", *(f"PresentationContext{n} = {context}" for n, context in enumerate(own, 1))]
    at = lines.index("[[PresentationContexts]]")
    lines[at:at] = [part for n, uid in enumerate(syntaxes) for part in (f"[Only{n}]", f"TransferSyntax1 = {uid}")]
    lines += ["[[SCPSCURoleSelection]]", "[Both]", *(f"Role{n} = {uid}\\BOTH" for n, uid in enumerate(CLASSES, 1))]
    lines += ["[[Profiles]]", "[Default]", "PresentationContexts = All", "SCPSCURoleSelection = Both"]
    lines += ["[Out]", "PresentationContexts = Own", ""]
    profile.write_text("\n".join(lines))
    hosts = "".join(f"{title.lower()} = ({title}, {peers.HOST}, {port})\n" for title, port in destinations.items())

    def command(port: int) -> list[str | Path]:
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nQRSCP {area} RW (500, 1024mb) ANY\nAETable END\n"
        )
        profiles = [str(profile), "Default", "Out"]
        return [peers.tool("dcmqrscp"), "-c", configuration, "+B", "-xf", *profiles]

    with peers._serve_on_free_port(command, "QRSCP", area, peers.TUNED) as server:
        yield server
