"""Data sets of requests: what a peer asks of us decodes whole, or not at all.

Rule: the bounded scanner goes first, in depth, elements and time, for pydicom reads on where a data set was cut short,
and a query with fewer keys matches more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dulcet.errors import InstanceError, ReceiveError
from dulcet.part10.scanner import ScanLimits, walk_elements
from dulcet.part10.sources import MemorySource
from dulcet.services.identifiers import UNDECODABLE, decode_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["decode_strictly"]


def decode_strictly(data: bytes, transfer_syntax: str) -> Dataset:
    """The data set, every value of it decoded; ReceiveError (C000H), which does not repeat its values."""
    try:
        walk_elements(MemorySource(data), transfer_syntax, ScanLimits())
    except InstanceError as error:
        raise ReceiveError(f"the data set does not decode: {type(error).__name__}", comment=UNDECODABLE) from error
    dataset = decode_dataset(data, transfer_syntax)
    try:
        for element in dataset.iterall():  # pydicom decodes values late
            _ = element.value
    except Exception as error:
        raise ReceiveError(f"the data set does not decode: {type(error).__name__}", comment=UNDECODABLE) from error
    return dataset
