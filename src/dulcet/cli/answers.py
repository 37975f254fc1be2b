"""Answers of a peer as cells and as JSON: what it sent is shown, and where that does not fit its VR, it is marked.

Rule: nothing that a peer puts into a value raises here, and nothing of it is repeated in a complaint: values are
patients'.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

__all__ = ["Troubles", "as_json", "cells"]

NUMBERS: Final = {
    "IS": re.compile(r" *[+-]?[0-9]+ *"),
    "DS": re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *"),
}
"""Numbers as text, each value of them (PS3.5 section 6.2)."""

ITEM: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""What a sequence begins with, in either byte order; pydicom makes an empty item of anything else."""

SHOWN: Final = 16
"""Bytes of a value that cannot be read, in hexadecimal."""

NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

Troubles = list[str]
"""The elements that do not fit their VR."""


def cells(dataset: Any, keys: Mapping[str, Any], troubles: Troubles) -> list[str]:
    """The values of an answer in the order of the keys, sequences entered as the keys do."""
    row: list[str] = []
    for keyword, inner in keys.items():
        if isinstance(inner, Mapping):
            row += cells(_first_item(dataset, keyword, troubles), inner, troubles)
        else:
            row.append(_cell(dataset, keyword, troubles))
    return row


def as_json(dataset: Any, troubles: Troubles) -> dict[str, Any]:
    """The DICOM JSON model (PS3.18 Annex F): numbers that are none as text, bytes that do not fit their VR as UN."""
    return {f"{tag:08X}": _element_as_json(dataset, tag, troubles) for tag in sorted(dataset.keys())}


# ---------------------------------------------------------------------- cells


def _cell(dataset: Any, keyword: str, troubles: Troubles) -> str:
    tag = _tag(keyword)
    if dataset is None or tag not in dataset:
        return ""
    data = _bytes(dataset, tag)
    vr = _vr(dataset, tag)
    if vr in NUMBERS and data is not None:  # as they were sent: pydicom makes 1e+20 of an IS that is too long
        text = _text(data)
        return text if _are_numbers(vr, text) else _marked(text, vr, tag, troubles)
    try:
        if vr == "SQ":
            count = len(_items(dataset, tag, data))
            return f"{count} item{'' if count == 1 else 's'}"
        value = dataset[tag].value
        values = value if isinstance(value, list | tuple) or hasattr(value, "insert") else [value]
        return "\\".join("" if one is None else str(one) for one in values)
    except Exception:  # pydicom raises many kinds
        return _marked(_hexadecimal(data), vr, tag, troubles)


def _first_item(dataset: Any, keyword: str, troubles: Troubles) -> Any:
    tag = _tag(keyword)
    if dataset is None or tag not in dataset:
        return None
    try:
        items = _items(dataset, tag, _bytes(dataset, tag))
        return items[0] if items else None
    except Exception:
        _marked("", "SQ", tag, troubles)
        return None


def _marked(text: str, vr: str, tag: int, troubles: Troubles) -> str:
    _note(tag, vr, troubles)
    return f"{text} (no {vr})".lstrip()


def _items(dataset: Any, tag: int, data: bytes | None) -> list[Any]:
    """The items of a sequence; ValueError for what is none."""
    if data and not data.startswith(ITEM):
        raise ValueError("no item")
    return list(dataset[tag].value or ())


def _hexadecimal(data: bytes | None) -> str:
    if not data:
        return ""
    return data[:SHOWN].hex() + ("…" if len(data) > SHOWN else "")


# ---------------------------------------------------------------------- JSON


def _element_as_json(dataset: Any, tag: int, troubles: Troubles) -> dict[str, Any]:
    data = _bytes(dataset, tag)
    vr = _vr(dataset, tag)
    if vr in NUMBERS and data is not None:
        return _numbers_as_json(tag, vr, _text(data), troubles)
    try:
        if vr == "SQ":
            items = [as_json(item, troubles) for item in _items(dataset, tag, data)]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        found: dict[str, Any] = dataset[tag].to_json_dict(None, 0)
    except Exception:  # pydicom raises many kinds
        _note(tag, vr, troubles)
        return {"vr": "UN", "InlineBinary": b64encode(data or b"").decode("ascii")}
    if "Value" in found:  # JSON knows no number that is none
        found["Value"] = [NOT_FINITE.get(repr(one), one) if isinstance(one, float) else one for one in found["Value"]]
    return found


def _numbers_as_json(tag: int, vr: str, text: str, troubles: Troubles) -> dict[str, Any]:
    """Numbers, or the text where it is none or more than a float can be: PS3.18 Table F.2.3-1 allows both."""
    if not text:
        return {"vr": vr}
    parts = text.split("\\")
    if not _are_numbers(vr, text):
        _note(tag, vr, troubles)
        return {"vr": vr, "Value": parts}
    number = float if vr == "DS" else int
    values = [number(one) if one.strip() else None for one in parts]
    return {
        "vr": vr,
        "Value": [
            one if value is not None and not isfinite(value) else value
            for one, value in zip(parts, values, strict=True)
        ],
    }


# ---------------------------------------------------------------------- elements


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None  # the keys were parsed
    return tag


def _bytes(dataset: Any, tag: int) -> bytes | None:
    """The value as it came; None where pydicom has decoded it."""
    value = getattr(dataset.get_item(tag), "value", None)
    return value if isinstance(value, bytes) else None


def _vr(dataset: Any, tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    vr = getattr(dataset.get_item(tag), "VR", None)
    try:
        return str(vr or dictionary_VR(tag))
    except KeyError:
        return "UN"


def _text(data: bytes) -> str:
    return data.decode("latin-1").strip(" \0")


def _are_numbers(vr: str, text: str) -> bool:
    return not text or all(not one or NUMBERS[vr].fullmatch(one) for one in text.split("\\"))


def _note(tag: int, vr: str, troubles: Troubles) -> None:
    from pydicom.datadict import keyword_for_tag

    troubles.append(f"{keyword_for_tag(tag) or 'element'} ({tag >> 16:04X},{tag & 0xFFFF:04X}) is no {vr}")
