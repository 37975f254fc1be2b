"""Keys of a query on the command line: `-k PatientName='DOE*' -k StudyDate -k ReferencedStudySequence.StudyID=1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import Misuse, option

if TYPE_CHECKING:
    from dulcet.services.models import InformationModel

__all__ = ["KEYS", "LEVEL", "LEVELS", "MODEL", "check_model", "headings", "parse_keys"]

LEVELS: Final = ("patient", "study", "series", "image")

KEYS: Final = option(
    "-k", "--key", multiple=True, metavar="KEY[=VALUE]", help="Keyword or ggggeeee; a dot enters a sequence."
)
LEVEL: Final = option(
    "--level", type=click.Choice(LEVELS, case_sensitive=False), metavar="LEVEL", default="study",
    help="patient, study, series or image.",
)  # fmt: skip
MODEL: Final = option("--model", metavar="NAME", help="study, patient, worklist, … or a SOP class UID.")

TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")


def parse_keys(keys: Iterable[str]) -> dict[str, Any]:
    """Keywords with values, sequences as mappings; Misuse names the key that does not do."""
    result: dict[str, Any] = {}
    for key in keys:
        path, equals, value = key.partition("=")
        *sequences, last = (_keyword(part, key) for part in path.split("."))
        inner = result
        for sequence in sequences:
            entered = inner.setdefault(sequence, {})
            if not isinstance(entered, dict):
                raise Misuse(f"-k {key}: {sequence} has a value already")
            inner = entered
        inner[last] = _value(value) if equals else None
    return result


def check_model(model: str | None) -> InformationModel | None:
    """The information model of this name; None for a UID and for nothing."""
    from dulcet.services.models import find_model

    if model is None or model[:1].isdigit():
        return None
    try:
        return find_model(model)
    except ValueError as error:
        raise Misuse(str(error)) from None


def _keyword(text: str, key: str) -> str:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    tag = TAG.fullmatch(text)
    keyword = keyword_for_tag(int(tag[1] + tag[2], 16)) if tag else text if tag_for_keyword(text) is not None else ""
    if not keyword:
        near = _nearest(text)
        hint = f"; did you mean {near}?" if near else ""
        raise Misuse(f"-k {key}: {text!r} is no DICOM keyword or tag{hint}")
    return str(keyword)


def _nearest(text: str) -> str | None:
    from difflib import get_close_matches

    from pydicom._dicom_dict import DicomDictionary

    found = get_close_matches(text, (entry[4] for entry in DicomDictionary.values()), 1)
    return found[0] if found else None


def _value(text: str) -> str | list[str]:
    """A backslash separates values."""
    return text.split("\\") if "\\" in text else text


def headings(keys: Mapping[str, Any]) -> list[str]:
    """The names of the columns that show them."""
    names: list[str] = []
    for keyword, inner in keys.items():
        names += headings(inner) if isinstance(inner, Mapping) else [keyword]
    return names
