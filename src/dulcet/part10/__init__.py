"""Files and data sets as bytes (PS3.10, PS3.5): where a data set lies, what its header says, file meta, re-encoding.

Rule: a leaf of the package; nothing here parses more than it is asked for, and nothing recurses.
"""

from dulcet.part10.convert import UNCOMPRESSED, convert
from dulcet.part10.file_meta import encode_file_meta, is_valid_uid, safe_name
from dulcet.part10.header import Header
from dulcet.part10.location import Location, check_whole, locate, locate_path, walk_file
from dulcet.part10.padding import Pad
from dulcet.part10.scanner import ScanLimits, scan
from dulcet.part10.sources import DamagedDeflate, ScanError, ScanTruncated
from dulcet.part10.walk import Walk, whole

__all__ = [
    "UNCOMPRESSED",
    "DamagedDeflate",
    "Header",
    "Location",
    "Pad",
    "ScanError",
    "ScanLimits",
    "ScanTruncated",
    "Walk",
    "check_whole",
    "convert",
    "encode_file_meta",
    "is_valid_uid",
    "locate",
    "locate_path",
    "safe_name",
    "scan",
    "walk_file",
    "whole",
]
