"""PS3.4 Annex H and PS3.3 section C.13: what is told to a printer, and what it tells."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset

from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.print_management import (
    JOB,
    PRINTER,
    PrinterStatus,
    PrintEvent,
    film_box,
    film_session,
    grayscale_image,
    image_box,
    image_boxes_of,
    image_count,
    print_job_of,
    read_event,
    read_printer,
)

IMPLICIT = "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("display_format", "count"),
    [
        ("STANDARD\\1,1", 1),
        ("STANDARD\\2,3", 6),
        ("ROW\\1,2,3", 6),
        ("COL\\2,2", 4),
        ("SLIDE", None),
        ("SUPERSLIDE", None),
        ("CUSTOM\\7", None),
    ],
)
def test_formats(display_format, count):
    assert image_count(display_format) == count


@pytest.mark.parametrize(
    "display_format",
    ["", "STANDARD", "STANDARD\\1", "STANDARD\\0,1", "STANDARD\\1,2,3", "ROW\\", "ROW\\a", "2x2", "COL\\-1"],
)
def test_formats_that_are_none(display_format):
    with pytest.raises(ValueError, match="no image display format"):
        film_box("1.2", display_format)


def test_a_film_session_says_what_was_given():
    assert film_session() == build_identifier({"NumberOfCopies": "1", "PrintPriority": "MED"})
    session = film_session(
        copies=2, priority="HIGH", medium="BLUE FILM", destination="PROCESSOR", label="x", MemoryAllocation=5
    )
    assert (session.NumberOfCopies, session.MediumType, session.FilmDestination, session.MemoryAllocation) == (
        2,
        "BLUE FILM",
        "PROCESSOR",
        5,
    )
    with pytest.raises(ValueError, match="0 copies"):
        film_session(copies=0)


def test_a_film_box_belongs_to_its_session():
    film = film_box("1.2", "STANDARD\\2,1", orientation="LANDSCAPE", size="14INX17IN", BorderDensity="BLACK")
    again = decode_dataset(*encode_dataset(film, IMPLICIT))
    assert again.ImageDisplayFormat == "STANDARD\\2,1"  # one value, not two
    assert again.ReferencedFilmSessionSequence[0].ReferencedSOPInstanceUID == "1.2"
    assert (again.FilmOrientation, again.FilmSizeID, again.BorderDensity) == ("LANDSCAPE", "14INX17IN", "BLACK")
    assert "MagnificationType" not in again


@pytest.mark.parametrize(("bits", "size"), [(8, 6), (12, 12)])
def test_an_image_from_bytes(bits, size):
    image = grayscale_image(bytes(range(size)), rows=2, columns=3, bits=bits, aspect_ratio=(1, 2))
    assert (image.Rows, image.Columns, image.BitsStored, image.HighBit) == (2, 3, bits, bits - 1)
    assert image.BitsAllocated == (8 if bits == 8 else 16)
    assert list(image.PixelAspectRatio) == [1, 2]
    box = decode_dataset(*encode_dataset(image_box(1, image), "1.2.840.10008.1.2.1"))
    assert box.ImageBoxPosition == 1
    assert box.BasicGrayscaleImageSequence[0].PixelData == bytes(range(size))


def test_an_odd_number_of_bytes_is_padded():
    assert grayscale_image(b"\1\2\3", rows=1, columns=3).PixelData == b"\1\2\3\0"


@pytest.mark.parametrize(
    ("pixels", "options", "what"),
    [
        (b"\0" * 5, {"rows": 2, "columns": 3}, "6 bytes, not 5"),
        (b"\0" * 6, {"rows": 2, "columns": 3, "bits": 12}, "12 bytes, not 6"),
        (b"", {}, "0 rows"),
        (b"\0", {"rows": 1, "columns": 1, "photometric_interpretation": "RGB"}, "no gray"),
    ],
)
def test_bytes_that_are_no_image(pixels, options, what):
    with pytest.raises(ValueError, match=what):
        grayscale_image(pixels, **options)


def test_an_image_from_a_data_set():
    dataset = build_identifier(
        {
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME1",
            "Rows": 1,
            "Columns": 3,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
            "PatientName": "SECRET",
        }
    )
    dataset.add_new("PixelData", "OB", b"\1\2\3\0")
    image = grayscale_image(dataset)
    assert (image.PhotometricInterpretation, image.PixelData) == ("MONOCHROME1", b"\1\2\3\0")
    assert "PatientName" not in image
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelData = 16, 12, 11, bytes(6)
    assert grayscale_image(dataset).BitsStored == 12
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    with pytest.raises(ValueError, match="big endian"):
        grayscale_image(dataset)


@pytest.mark.parametrize(
    ("name", "what"),
    [("CT_small.dcm", "unsigned gray"), ("JPEG2000.dcm", "compressed"), ("examples_rgb_color.dcm", "unsigned gray")],
)
def test_a_data_set_that_must_be_windowed_first(name, what):
    with pytest.raises(ValueError, match=what):
        grayscale_image(dcmread(get_testdata_file(name, download=False)))


def test_an_image_box():
    assert image_box(2, None) == build_identifier({"ImageBoxPosition": 2, "BasicGrayscaleImageSequence": []})
    with pytest.raises(ValueError, match="position 0"):
        image_box(0, None)


def test_what_a_printer_answers():
    boxes = [{"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": uid} for uid in ("1.1", "1.2")]
    assert image_boxes_of(build_identifier({"ReferencedImageBoxSequence": boxes})) == ["1.1", "1.2"]
    assert image_boxes_of(None) == []
    assert print_job_of(build_identifier({"ReferencedPrintJobSequence": boxes[:1]})) == "1.1"
    assert print_job_of(build_identifier({})) is None
    assert print_job_of(None) is None
    said = build_identifier({"PrinterStatus": "WARNING", "PrinterStatusInfo": "SUPPLY LOW"})
    assert read_printer(said) == PrinterStatus("WARNING", "SUPPLY LOW")


@pytest.mark.parametrize(
    ("sop_class", "event", "expected"),
    [
        (JOB, 1, PrintEvent(True, "1.1", "PENDING", "queued")),
        (JOB, 2, PrintEvent(True, "1.1", "PRINTING", "queued")),
        (JOB, 3, PrintEvent(True, "1.1", "DONE", "queued")),
        (JOB, 4, PrintEvent(True, "1.1", "FAILURE", "queued")),
        (PRINTER, 1, PrintEvent(False, "1.1", "NORMAL", "cover")),
        (PRINTER, 2, PrintEvent(False, "1.1", "WARNING", "cover")),
        (PRINTER, 3, PrintEvent(False, "1.1", "FAILURE", "cover")),
        (JOB, 9, PrintEvent(True, "1.1", "event 9", "queued")),
    ],
)
def test_events(sop_class, event, expected):
    information = build_identifier({"ExecutionStatusInfo": "queued", "PrinterStatusInfo": "cover"})
    found = read_event(sop_class, "1.1", event, information)
    assert found == expected
    assert found.ends_job is (sop_class == JOB and event in (3, 4))
