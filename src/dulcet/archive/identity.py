"""Which instance a data set is: four UIDs, checked once; the same value goes to the row, the file's name, the answers.

Rules: what a UID says is taken as it is, whether PS3.5 section 9.1 allows it or not, as long as it can be asked for and
sent again; nothing is made up for a data set that does not say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn

from dulcet.dimse.status import Status
from dulcet.errors import ReceiveError
from dulcet.io.verdict import SENDABLE, check_announced, shown_uid
from dulcet.part10.file_meta import is_valid_uid
from dulcet.part10.header import Header
from dulcet.services.models import InformationModel, model_of_object

__all__ = ["Identity", "Kept", "identify"]

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
STUDY: Final = 0x0020000D
SERIES: Final = 0x0020000E
UIDS: Final = (
    (SOP_CLASS, "SOP Class UID"),
    (SOP_INSTANCE, "SOP Instance UID"),
    (STUDY, "Study Instance UID"),
    (SERIES, "Series Instance UID"),
)
TAKEN: Final = re.compile(r"(?!\.+$)[^\\*?/\x00-\x1f\x7f-\xff]+")
"""A UID that is none, and can be asked for all the same: visible ASCII without what separates values (a backslash),
stands for other text in a query (`*`, `?`) or leads elsewhere as a file's name (`/`, dots alone)."""
LONGEST: Final = 1024
"""Characters of a Study or Series Instance UID; old devices write 65 to about 100."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data set says it is, and what is kept, found and sent under these UIDs."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    """Empty, as that of the series, for an object of no patient (PS3.4 annex GG)."""
    series_instance_uid: str
    odd: tuple[str, ...] = field(default=(), compare=False)
    """The names of those that PS3.5 section 9.1 does not allow."""

    @property
    def model(self) -> InformationModel | None:
        """The information model of an object of no patient."""
        return model_of_object(self.sop_class_uid)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an instance lies."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    object: str
    """Its key in the object store."""
    offset: int
    """Of the data set within the object, bytes."""
    length: int
    digest: bytes
    """SHA-256 of the data set."""


def identify(header: Header, sop_class_uid: str, sop_instance_uid: str, *, strict: bool = False) -> Identity:
    """The identity of a data set that was announced with this class and instance.

    ReceiveError, its comment and tag for the peer: A900H when the data set says another class or instance than was
    announced; C000H when a UID is absent, empty, or cannot be asked for or sent again, under `strict` one that PS3.5
    section 9.1 does not allow.  Objects of no patient have neither study nor series, whatever their data set says.
    """
    check_announced(header, sop_class_uid, sop_instance_uid)
    of_patient = model_of_object(sop_class_uid) is None
    values = [header.uid(tag) for tag, _ in UIDS]
    odd: list[str] = []
    for (tag, name), value in zip(UIDS if of_patient else UIDS[:2], values):
        if len(value) <= SENDABLE and _is_sound(value):
            continue
        _check_odd(tag, name, value, strict)
        odd.append(name)
    study, series = values[2:] if of_patient else ("", "")
    return Identity(values[0], values[1], study, series, tuple(odd))


@lru_cache(maxsize=1024)
def _is_sound(uid: str) -> bool:
    """Of a thousand objects most are of one class, study and series."""
    return is_valid_uid(uid, strict=True)


def _check_odd(tag: int, name: str, value: str, strict: bool) -> None:
    """Refuse what cannot be taken as it is."""
    if not value:
        _refuse(tag, name, value, "the data set has none")
    if strict or (tag == SOP_CLASS and not is_valid_uid(value)):
        _refuse(tag, name, value, "not a UID (PS3.5 9.1)")
    if len(value) > LONGEST:
        _refuse(tag, name, value, f"more than {LONGEST} characters")
    if TAKEN.fullmatch(value) is None:
        _refuse(tag, name, value, "several values" if "\\" in value else "characters that no UID has")


def _refuse(tag: int, name: str, value: str, why: str) -> NoReturn:
    shown = f" (it is {shown_uid(value)})" if value else ""
    raise ReceiveError(f"{name}: {why}{shown}", Status.CANNOT_UNDERSTAND, comment=f"{name}: {why}", offending=(tag,))
