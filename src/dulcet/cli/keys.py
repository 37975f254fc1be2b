"""Keys of a query on the command line: `-k PatientName='DOE*' -k StudyDate -k ReferencedStudySequence.StudyID=1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import typer

__all__ = ["KEYS", "LEVEL", "MODEL", "parse_keys"]

KEYS = Annotated[
    list[str],
    typer.Option("-k", "--key", metavar="KEY[=VALUE]", help="Keyword or ggggeeee; a dot enters a sequence."),
]
LEVEL = Annotated[str, typer.Option("--level", metavar="LEVEL", help="patient, study, series or image.")]
MODEL = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="study, patient, worklist, … or a SOP class UID.")
]

TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")


def parse_keys(keys: Iterable[str]) -> dict[str, Any]:
    """Keywords with values, sequences as mappings; BadParameter names the key that does not do."""
    result: dict[str, Any] = {}
    for key in keys:
        path, equals, value = key.partition("=")
        *sequences, last = (_keyword(part, key) for part in path.split("."))
        inner = result
        for sequence in sequences:
            entered = inner.setdefault(sequence, {})
            if not isinstance(entered, dict):
                raise typer.BadParameter(f"-k {key}: {sequence} has a value already")
            inner = entered
        inner[last] = _value(value) if equals else None
    return result


def check_level(level: str) -> str:
    """The level in capitals."""
    if level.upper() not in LEVELS:
        raise typer.BadParameter(f"--level {level}: patient, study, series or image")
    return level.upper()


def _keyword(text: str, key: str) -> str:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    tag = TAG.fullmatch(text)
    keyword = keyword_for_tag(int(tag[1] + tag[2], 16)) if tag else text if tag_for_keyword(text) is not None else ""
    if not keyword:
        near = _nearest(text)
        hint = f"; did you mean {near}?" if near else ""
        raise typer.BadParameter(f"-k {key}: {text!r} is no DICOM keyword or tag{hint}")
    return str(keyword)


def _nearest(text: str) -> str | None:
    from difflib import get_close_matches

    from pydicom._dicom_dict import DicomDictionary

    found = get_close_matches(text, (entry[4] for entry in DicomDictionary.values()), 1)
    return found[0] if found else None


def _value(text: str) -> str | list[str]:
    """A backslash separates values."""
    return text.split("\\") if "\\" in text else text


def shown(dataset: Any, keys: Mapping[str, Any]) -> list[str]:
    """The values of an answer in the order of the keys, sequences entered as the keys do."""
    row: list[str] = []
    for keyword, inner in keys.items():
        element = dataset.get(keyword) if dataset is not None else None
        if isinstance(inner, Mapping):
            row += shown(element[0] if element else None, inner)
        elif element is None:
            row.append("")
        else:
            values = element if isinstance(element, list | tuple) or hasattr(element, "insert") else [element]
            row.append("\\".join(str(value) for value in values))
    return row


def headings(keys: Mapping[str, Any]) -> list[str]:
    """The names of the columns of `shown`."""
    names: list[str] = []
    for keyword, inner in keys.items():
        names += headings(inner) if isinstance(inner, Mapping) else [keyword]
    return names
