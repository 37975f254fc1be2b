"""Compressed pixel data for peers that accept none of it: decompressed on the way out, with the `[pixels]` extra.

Rules: never on what comes in; never more than the limit; whatever a decoder raises means that it cannot be converted.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from dulcet import uids
from dulcet.errors import CannotConvert
from dulcet.services.identifiers import decode_dataset, encode_dataset

__all__ = ["decompress", "decompressible"]

LIMIT: Final = 1 << 30
"""Bytes of pixel data after decompression: it is all in memory at once."""

JPEG: Final = ("numpy", "pylibjpeg", "libjpeg")
JPEG_2000: Final = ("numpy", "pylibjpeg", "openjpeg")
NEEDS: Final[dict[str, tuple[str, ...]]] = {
    uids.RLE_LOSSLESS: ("numpy",),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81)), JPEG),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203)), JPEG_2000),
}
"""What pydicom's decoder of a transfer syntax wants to import."""


@lru_cache(maxsize=1)
def decompressible() -> frozenset[str]:
    """The compressed transfer syntaxes that can be undone with what is installed here."""
    there = {name: find_spec(name) is not None for names in NEEDS.values() for name in names}
    return frozenset(uid for uid, names in NEEDS.items() if all(there[name] for name in names))


def decompress(data: bytes, transfer_syntax: str) -> bytes:
    """An encoded data set with its pixel data uncompressed, in explicit VR little endian; CannotConvert."""
    try:
        dataset = decode_dataset(data, transfer_syntax)
        size = _size(dataset)
        if size > LIMIT:
            raise CannotConvert(f"its pixel data would be {size} bytes; at most {LIMIT} are decompressed")
        dataset.decompress(generate_instance_uid=False)
        return encode_dataset(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)[0]
    except CannotConvert:
        raise
    except Exception as error:  # decoders raise many kinds
        raise CannotConvert(f"its pixel data cannot be decompressed: {type(error).__name__}") from error


def _size(dataset: Any) -> int:
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    return size * int(dataset.get("NumberOfFrames") or 1) * ((int(dataset.BitsAllocated) + 7) // 8)
