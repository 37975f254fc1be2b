"""Text of data sets on its way out, in the Specific Character Set that they name (PS3.5 section 6.1).

Rules: a character that the set lacks is an error or a reason for UTF-8, never a question mark; escapes are ours, for
pydicom writes none for ISO 2022 IR 58 and no katakana in ISO_IR 13; what came as bytes and was not touched stays so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from dulcet.errors import InstanceError
from dulcet.services.character_sets import SINGLE_BYTE, UTF_8, NotHeld, character_sets

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DELIMITERS", "best_character_sets", "with_text_written"]

CHARACTER_SET: Final = 0x00080005
TEXT_VRS: Final = frozenset("LO LT PN SH ST UC UT".split())
"""PS3.5 section 6.1.2.3."""
DELIMITERS: Final = {"PN": "\\^=", "LT": "", "ST": "", "UT": ""}
"""What means more than itself in a value; the backslash alone in other VRs."""
LEFT_BY_PYDICOM: Final = "\x1b$)A"


def with_text_written(dataset: Dataset, parent: str | None = None) -> Dataset:
    """The data set itself, or one with the same elements whose text beyond ASCII is encoded already.

    `parent` is the Specific Character Set of the data set that this is an item of.  InstanceError names the tag of a
    value with characters that the character sets lack.
    """
    value = _named(dataset, parent)
    written: dict[Any, Any] = {}
    for element in dataset.values():
        if element.is_raw:
            continue
        if element.VR == "SQ":
            given: list[Any] = list(element.value or ())
            items = [with_text_written(item, value) for item in given]
            if any(item is not before for item, before in zip(items, given)):
                written[element.tag] = _sequence(element, items)
        elif (text := _text(element)) is not None:
            data = _data(dataset, element, text, value)
            if data is not None:
                written[element.tag] = _element(element, data + b" " * (len(data) & 1))
    if not written:
        return dataset
    made = copy.copy(dataset)
    made._dict = {**dataset._dict, **written}
    return made


def _data(dataset: Dataset, element: Any, text: str, value: str | None) -> bytes | None:
    """The bytes of a text; None where pydicom writes them as they were read, or the character sets are unknown."""
    if _is_single_byte(text, value or ""):
        return None
    sets = character_sets(value or "")
    if sets is None:
        return None
    try:
        # In GB18030 and GBK the second byte may be anything; who names them wants them.
        return sets.encode(text, "" if sets.codec else DELIMITERS.get(element.VR, "\\"))
    except NotHeld:
        tag = f"({element.tag.group:04X},{element.tag.element:04X})"
        what = f"{tag} has characters that its Specific Character Set lacks"
        raise InstanceError(f"the data set cannot be encoded: {what}", dataset) from None


def _is_single_byte(text: str, value: str) -> bool:
    """True for what a single-byte set holds, the control characters of other code pages that files have included.

    Unsaid Latin-1 is what many of them hold, too.
    """
    if "\\" in value or value.startswith("ISO 2022"):
        return False  # an escape means something there
    codec = SINGLE_BYTE[value[7:]][0] if value[7:] in SINGLE_BYTE and value[:7] == "ISO_IR " else ""
    try:
        text.encode(codec or ("ascii" if value else "latin_1"))
    except UnicodeEncodeError:
        return False
    return True


def best_character_sets(dataset: Dataset, wanted: str) -> str:
    """`wanted` as it has to be named where it holds all text of a data set, else UTF-8; "" for plain ASCII."""
    sets = character_sets(wanted)
    foreign = False
    for element in _texts(dataset):
        text = _text(element)
        if text is None:
            continue
        foreign = True
        try:
            if sets is None:
                return UTF_8
            sets.encode(text, DELIMITERS.get(element.VR, "\\"))
        except NotHeld:
            return UTF_8
    return sets.value if sets is not None and foreign else ""


def _texts(dataset: Dataset) -> Iterator[Any]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _texts(item)
        else:
            yield element


def _text(element: Any) -> str | None:
    """The text of an element that has some beyond ASCII."""
    if element.VR not in TEXT_VRS or element.value is None or isinstance(element.value, bytes):
        return None
    value = element.value
    several = not isinstance(value, str) and hasattr(value, "append")
    text = "\\".join(map(str, value)) if several else str(value)
    return None if text.isascii() and "\x1b" not in text else text.replace(LEFT_BY_PYDICOM, "")


def _named(dataset: Dataset, parent: str | None) -> str | None:
    if CHARACTER_SET not in dataset:
        return parent
    value = dataset[CHARACTER_SET].value
    return "\\".join(map(str, value)) if hasattr(value, "append") else str(value or "")


@lru_cache(maxsize=1)
def _written_class() -> Any:
    from pydicom.dataelem import DataElement

    class Written(DataElement):
        """An element that pydicom writes as it writes one that it has not decoded: the bytes as they are."""

        is_raw = True
        length = 0

    return Written


def _element(element: Any, data: bytes) -> Any:
    made = _written_class()(element.tag, element.VR, None)
    made._value = data
    return made


def _sequence(element: Any, items: list[Dataset]) -> Any:
    from pydicom.dataelem import DataElement

    return DataElement(element.tag, "SQ", items)
