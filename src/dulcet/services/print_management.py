"""Grayscale print management as user (PS3.4 Annex H): data sets of film sessions, film boxes and image boxes.

Rules: pure; what a printer is told is checked here, so that no film is spoilt by a slip; pixels go as they are given,
8 or 12 bits of gray, for windowing is the application's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from dulcet import uids
from dulcet.services.attributes import is_empty
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "PRINT_PROPOSALS",
    "PrintEvent",
    "PrinterStatus",
    "film_box",
    "film_session",
    "grayscale_image",
    "image_box",
    "image_boxes_of",
    "image_count",
    "print_job_of",
    "read_event",
    "read_printer",
]

META: Final = uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META
SESSION: Final = uids.BASIC_FILM_SESSION
FILM: Final = uids.BASIC_FILM_BOX
IMAGE: Final = uids.BASIC_GRAYSCALE_IMAGE_BOX
PRINTER: Final = uids.PRINTER
PRINTER_INSTANCE: Final = uids.PRINTER_INSTANCE
JOB: Final = uids.PRINT_JOB

PRINT: Final = 1
"""Action Type ID of printing, of a film box and of a film session (PS3.4 Tables H.4-3 and H.4-8)."""

PRINT_PROPOSALS: Final = tuple(proposals((META, JOB)))
"""What to propose for `FilmSession`."""

JOB_EVENTS: Final = {1: "PENDING", 2: "PRINTING", 3: "DONE", 4: "FAILURE"}
PRINTER_EVENTS: Final = {1: "NORMAL", 2: "WARNING", 3: "FAILURE"}
"""Event Type IDs of PS3.4 Tables H.4-24 and H.4-17."""
ENDS: Final = frozenset(("DONE", "FAILURE"))


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """What the printer says of itself (N-GET, PS3.4 section H.4.6)."""

    status: str
    """NORMAL, WARNING or FAILURE."""
    info: str
    """Why, as PS3.3 section C.13.9.1 has it: SUPPLY LOW, COVER OPEN, …"""
    name: str = ""


@dataclass(frozen=True, slots=True)
class PrintEvent:
    """What the printer reported: of itself, or of a print job."""

    of_job: bool
    sop_instance_uid: str
    """The print job, or the printer."""
    status: str
    """PENDING, PRINTING, DONE or FAILURE of a job; NORMAL, WARNING or FAILURE of the printer."""
    info: str = ""

    @property
    def ends_job(self) -> bool:
        """True for the last event of a job."""
        return self.of_job and self.status in ENDS


def film_session(
    *,
    copies: int = 1,
    priority: Literal["HIGH", "MED", "LOW"] = "MED",
    medium: str | None = None,
    destination: str | None = None,
    label: str | None = None,
    **keys: Any,
) -> Dataset:
    """The data set of a film session (PS3.4 Table H.4-1).

    `medium` is PAPER, CLEAR FILM, BLUE FILM …, `destination` MAGAZINE, PROCESSOR or BIN_i.
    """
    if copies < 1:
        raise ValueError(f"{copies} copies: 1 or more")
    values = {
        "NumberOfCopies": copies,
        "PrintPriority": priority,
        "MediumType": medium,
        "FilmDestination": destination,
        "FilmSessionLabel": label,
    }
    return build_identifier({**_given(values), **keys})


def film_box(
    session_uid: str,
    display_format: str = "STANDARD\\1,1",
    *,
    orientation: Literal["PORTRAIT", "LANDSCAPE"] | None = None,
    size: str | None = None,
    magnification: str | None = None,
    **keys: Any,
) -> Dataset:
    """The data set of a film box (PS3.4 Table H.4-4); ValueError for a format that `image_count` does not know.

    `size` is as 14INX17IN, `magnification` REPLICATE, BILINEAR, CUBIC or NONE.
    """
    image_count(display_format)
    values = {
        "FilmOrientation": orientation,
        "FilmSizeID": size,
        "MagnificationType": magnification,
    }
    reference = {"ReferencedSOPClassUID": SESSION, "ReferencedSOPInstanceUID": session_uid}
    # The format is one value with a backslash in it, not two (VR ST).
    return build_identifier(
        {
            "ImageDisplayFormat": display_format,
            "ReferencedFilmSessionSequence": [reference],
            **_given(values),
            **keys,
        }
    )


def image_count(display_format: str) -> int | None:
    """How many images a format takes (PS3.3 section C.13.3.1), None where the printer decides; else ValueError."""
    kind, _, rest = display_format.partition("\\")
    try:
        numbers = [int(number) for number in rest.split(",")] if rest else []
    except ValueError:
        numbers = [0]
    if kind in ("SLIDE", "SUPERSLIDE", "CUSTOM"):
        return None
    if kind == "STANDARD" and len(numbers) == 2 and min(numbers) > 0:
        return numbers[0] * numbers[1]
    if kind in ("ROW", "COL") and numbers and min(numbers) > 0:
        return sum(numbers)
    raise ValueError(
        f"{display_format!r} is no image display format: STANDARD\\columns,rows; ROW\\n,n…; COL\\n,n…; SLIDE; "
        "SUPERSLIDE; CUSTOM\\i"
    )


def image_box(position: int, image: Dataset | None, **keys: Any) -> Dataset:
    """The data set that puts an image into a box (PS3.4 Table H.4-9); None empties it."""
    if position < 1:
        raise ValueError(f"image position {position}: 1 or more")
    dataset = build_identifier({"ImageBoxPosition": position, "BasicGrayscaleImageSequence": [], **keys})
    if image is not None:
        dataset.BasicGrayscaleImageSequence.append(image)
    return dataset


def grayscale_image(
    pixels: bytes | Dataset,
    *,
    rows: int = 0,
    columns: int = 0,
    bits: Literal[8, 12] = 8,
    photometric_interpretation: str = "MONOCHROME2",
    aspect_ratio: tuple[int, int] | None = None,
) -> Dataset:
    """An item of Basic Grayscale Image Sequence (PS3.3 section C.13.5): what a film box takes for one image.

    `pixels` are bytes, `rows` times `columns` of them, and twice as many where `bits` is 12: these lie in 16, little
    endian.  `photometric_interpretation` is MONOCHROME2 (0 is black) or MONOCHROME1 (0 is white), `aspect_ratio` height
    and width of a pixel, None for square ones.  Where `pixels` is a data set, it says all of this itself.
    ValueError for anything else: colour, signed, compressed, other depths, another number of bytes.
    """
    if not isinstance(pixels, bytes):
        return _image_of(pixels)
    if rows < 1 or columns < 1:
        raise ValueError(f"an image of {rows} rows and {columns} columns")
    wanted = rows * columns * (1 if bits == 8 else 2)
    if len(pixels) != wanted:
        raise ValueError(f"{rows} x {columns} pixels of {bits} bits are {wanted} bytes, not {len(pixels)}")
    if photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"{photometric_interpretation} is no gray: MONOCHROME1 or MONOCHROME2")
    values: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": photometric_interpretation,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }
    if aspect_ratio is not None:
        values["PixelAspectRatio"] = list(aspect_ratio)
    image = build_identifier(values)
    image.add_new("PixelData", "OB" if bits == 8 else "OW", pixels + b"\0" * (len(pixels) & 1))
    return image


def _image_of(dataset: Dataset) -> Dataset:
    facts = {
        keyword: dataset.get(keyword)
        for keyword in ("SamplesPerPixel", "PixelRepresentation", "BitsAllocated", "BitsStored", "HighBit")
    }
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "") or "")
    if syntax and syntax not in uids.UNCOMPRESSED:
        raise ValueError(f"the pixels are compressed ({uids.name_of(syntax)}): decompress them first")
    depth = (facts["BitsAllocated"], facts["BitsStored"], facts["HighBit"])
    if facts["SamplesPerPixel"] != 1 or facts["PixelRepresentation"] != 0 or depth not in ((8, 8, 7), (16, 12, 11)):
        raise ValueError(
            f"{facts}: a printer takes unsigned gray of 8 bits, or of 12 bits in 16; window the image to 8 bits first"
        )
    ratio = dataset.get("PixelAspectRatio")
    pixels = bytes(dataset.PixelData)
    if syntax in uids.BIG_ENDIAN and facts["BitsAllocated"] == 16:
        raise ValueError("the pixels are big endian: convert the image first")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    return grayscale_image(
        pixels[: rows * columns * int(facts["BitsAllocated"]) // 8],
        rows=rows,
        columns=columns,
        bits=8 if facts["BitsStored"] == 8 else 12,
        photometric_interpretation=str(dataset.PhotometricInterpretation),
        aspect_ratio=None if is_empty(ratio) else (int(ratio[0]), int(ratio[1])),
    )


def image_boxes_of(film: Dataset | None) -> list[str]:
    """The SOP instance UIDs of the image boxes that the printer made for a film box, in order (Table H.4-4)."""
    return [] if film is None else _references(film, "ReferencedImageBoxSequence")


def print_job_of(answer: Dataset | None) -> str | None:
    """The print job that an N-ACTION made, where the printer says (Tables H.4-3 and H.4-8)."""
    found = [] if answer is None else _references(answer, "ReferencedPrintJobSequence")
    return found[0] if found else None


def read_printer(attributes: Dataset) -> PrinterStatus:
    """What an N-GET of the printer gave."""
    return PrinterStatus(
        _text(attributes, "PrinterStatus"), _text(attributes, "PrinterStatusInfo"), _text(attributes, "PrinterName")
    )


def read_event(sop_class_uid: str, sop_instance_uid: str, event_type: int | None, information: Dataset) -> PrintEvent:
    """What an N-EVENT-REPORT of a printer says."""
    of_job = sop_class_uid == JOB
    names = JOB_EVENTS if of_job else PRINTER_EVENTS
    info = _text(information, "ExecutionStatusInfo" if of_job else "PrinterStatusInfo")
    return PrintEvent(of_job, sop_instance_uid, names.get(event_type or 0, f"event {event_type}"), info)


def _references(dataset: Dataset, keyword: str) -> list[str]:
    return [_text(item, "ReferencedSOPInstanceUID") for item in dataset.get(keyword) or ()]


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in values.items() if value is not None}


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if is_empty(value) else str(value).strip(" \0")
