"""Data sets that travel with messages: identifiers, attribute lists, event information (PS3.4, PS3.7).

pydicom, and what writes text and periods, is loaded when one is encoded or decoded, not before.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.errors import InstanceError, ReceiveError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["attribute_tags", "build_identifier", "decode_dataset", "encode_dataset"]

MAX_INFLATED: Final = 1 << 30
TAG: Final = re.compile(r"\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)")

NUMBERS: Final = frozenset("AT FL FD SL SS SV UL US UV".split())
"""The VRs of binary numbers."""
TEXT: Final = frozenset("AE AS CS DA DT LO LT PN SH ST TM UC UI UR UT".split())
"""The VRs of text, IS and DS aside: these are numbers to whoever writes them."""


UNDECODABLE: Final = "the data set does not decode"
"""What a peer is told of one: what pydicom says may repeat its values."""


def encode_dataset(dataset: Dataset, transfer_syntax: str | None = None) -> tuple[bytes, str]:
    """A pydicom Dataset as bytes without file meta, and the transfer syntax they are in.

    Without `transfer_syntax` that of its file meta counts, else the encoding it was read in, else explicit VR little
    endian.  Raises InstanceError when pydicom cannot write it, or its Specific Character Set lacks a character.
    """
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    from dulcet.services.written_text import with_text_written

    syntax = transfer_syntax or str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "") or "")
    if not syntax:
        implicit, little = dataset.original_encoding
        if little is False:
            syntax = uids.EXPLICIT_VR_BIG_ENDIAN
        else:
            syntax = uids.IMPLICIT_VR_LITTLE_ENDIAN if implicit else uids.EXPLICIT_VR_LITTLE_ENDIAN
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax not in uids.BIG_ENDIAN
    buffer.is_implicit_VR = syntax in uids.IMPLICIT_VR
    try:
        write_dataset(buffer, with_text_written(dataset))
    except InstanceError:
        raise
    except Exception as error:  # pydicom raises many kinds for values that do not fit
        # Its words and its traceback quote the value, which may be a name: the tag has to do.
        where = TAG.search(str(error))
        what = f"the value of {where[0]} does not fit its VR" if where else type(error).__name__
        raise InstanceError(f"the data set cannot be encoded: {what}", dataset) from None
    data = buffer.getvalue()
    if syntax in uids.DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(data) + deflate.flush()
        data += b"\0" * (len(data) & 1)
    return data, syntax


def decode_dataset(data: bytes, transfer_syntax: str) -> Dataset:
    """Encoded bytes without file meta as a pydicom Dataset, its file meta naming the transfer syntax.

    ReceiveError (C000H) when they do not decode.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    try:
        if transfer_syntax in uids.DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflate.decompress(data, MAX_INFLATED)
            if inflate.unconsumed_tail:
                raise ValueError(f"it inflates to more than {MAX_INFLATED} bytes")
        dataset = read_dataset(
            BytesIO(data),
            is_implicit_VR=transfer_syntax in uids.IMPLICIT_VR,
            is_little_endian=transfer_syntax not in uids.BIG_ENDIAN,
        )
    except RecursionError:
        raise ReceiveError("the data set does not decode: its sequences are nested too deep") from None
    except Exception as error:  # pydicom raises many kinds for bytes that are no data set
        # Its words may repeat what the data set holds, and whoever logs this shall not.
        raise ReceiveError(f"the data set does not decode: {type(error).__name__}", comment=UNDECODABLE) from None
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(transfer_syntax)
    for keyword, source in (
        ("MediaStorageSOPClassUID", "SOPClassUID"),
        ("MediaStorageSOPInstanceUID", "SOPInstanceUID"),
    ):
        if source in dataset:
            setattr(meta, keyword, dataset[source].value)
    dataset.file_meta = meta
    return dataset


def build_identifier(keys: Mapping[str, Any], *, level: str | None = None) -> Dataset:
    """A C-FIND, C-GET or C-MOVE identifier from keywords (PS3.4 C.4.1).

    None and "" match everything and ask for the value; a list is a list of values; a mapping, or a list of them, is a
    sequence.  In a key of VR DA, TM or DT, objects of `datetime` are written as PS3.5 Table 6.2-1 has it, and a tuple
    (first, last) is a range, None for an open end.  Text beyond ASCII is sent in UTF-8 and says so.  ValueError for
    what is no keyword, for a range that ends before it begins, and for a number where text is expected.
    """
    dataset = _fill(keys)
    if level is not None:
        dataset.QueryRetrieveLevel = level.upper()
    if "SpecificCharacterSet" not in dataset and not _is_ascii(keys):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def attribute_tags(attributes: Sequence[str | int]) -> tuple[int, ...]:
    """An Attribute Identifier List (0000,1005) from keywords and tags."""
    from pydicom.datadict import tag_for_keyword

    tags: list[int] = []
    for attribute in attributes:
        tag = attribute if isinstance(attribute, int) else tag_for_keyword(attribute)
        if tag is None:
            raise ValueError(f"{attribute!r} is no DICOM keyword")
        tags.append(int(tag))
    return tuple(tags)


def _fill(keys: Mapping[str, Any]) -> Dataset:
    import pydicom
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    from dulcet.services.periods import TEMPORAL, write_period

    dataset = pydicom.Dataset()
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword!r} is no DICOM keyword, as PatientName is one")
        vr = dictionary_VR(tag)
        if vr == "SQ":
            items = [] if value is None or value == "" else [value] if isinstance(value, Mapping) else list(value)
            # One empty item asks for the sequence as a whole (PS3.4 C.2.2.2.6).
            filled = [_fill(item) if isinstance(item, Mapping) else item for item in items]
            dataset.add_new(tag, vr, pydicom.Sequence(filled))
        else:
            vr = vr.split(" or ")[0]
            if vr in TEMPORAL:
                value = write_period(keyword, vr, value)
            elif isinstance(value, tuple):
                raise ValueError(f"{keyword}: a tuple is a range, of dates and times alone; several values are a list")
            if vr in TEXT:
                _check_text(keyword, value)
            empty = None if vr in NUMBERS else ""  # pydicom warns of text in a number, an empty one too
            dataset.add_new(tag, vr, empty if value is None or value == "" else value)
    return dataset


def _check_text(keyword: str, value: Any) -> None:
    """What pydicom would write as something else, or stumble over later."""
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, int | float) or hasattr(one, "isoformat"):
            raise ValueError(f"{keyword}: text is expected, not {type(one).__name__}")


def _is_ascii(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, Mapping):
        return all(_is_ascii(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return all(_is_ascii(inner) for inner in value)
    return True
