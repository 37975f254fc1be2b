"""How received files are named: by the values of their headers, never longer than a file system takes.

Rule: names are made here, never taken over: a valid UID or a digest, letters and digits, no separators.
"""

from __future__ import annotations

import os
import re
import string
from pathlib import Path
from typing import Final

from dulcet.part10.file_meta import safe_name
from dulcet.part10.header import Header

__all__ = ["DEFAULT_LAYOUT", "PARTIAL", "Layout"]

DEFAULT_LAYOUT: Final = "{SOPInstanceUID}.dcm"
PARTIAL: Final = ".partial"
"""Files on their way lie in this folder of the store directory, one folder a process."""

SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
VALUE_LENGTHS: Final = (64, 32, 16, 8)
"""Characters of a header value in a name: the most that leave the name short enough."""
UID_LENGTH: Final = 64
NAME_LENGTH: Final = 240
"""Bytes of a file or folder name; file systems take 255, and `~999` may be put behind it."""
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")


class Layout:
    """How files are named: a relative path with `{Keyword}` for the value of a top-level element."""

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """Raises ValueError that says which part of `template` does not do."""
        self.template = template
        self._parts: list[list[tuple[str, str | None]]] = []
        self._tags: dict[str, int] = {}
        for part in template.split("/"):
            if part.strip() in ("", ".", ".."):
                raise ValueError(f"layout {template!r} must be a relative path without empty parts, '.' and '..'")
            fields = self._fields(part)
            self._parts.append(fields)
            longest = sum(
                len(text.encode()) + (0 if name is None else UID_LENGTH if name.endswith("UID") else VALUE_LENGTHS[-1])
                for text, name in fields
            )
            if longest > NAME_LENGTH:
                raise ValueError(f"layout {template!r}: {part!r} may become longer than {NAME_LENGTH} bytes; split it")
        if not self._tags.keys() & {"SOPInstanceUID"}:
            raise ValueError(f"layout {template!r} must contain {{SOPInstanceUID}}, or instances would share a name")
        self.wanted: frozenset[int] = frozenset(self._tags.values()) | {SOP_CLASS, SOP_INSTANCE}

    def _fields(self, part: str) -> list[tuple[str, str | None]]:
        fields: list[tuple[str, str | None]] = []
        try:
            parsed = list(string.Formatter().parse(part))
        except ValueError as error:
            raise ValueError(f"layout {self.template!r}: {error}") from None
        for literal, name, spec, conversion in parsed:
            if spec or conversion:
                raise ValueError(f"layout {self.template!r}: {{{name}}} takes no format")
            if "\\" in literal or not literal.isprintable():
                raise ValueError(f"layout {self.template!r} holds a character that a file name cannot have")
            if name is not None:
                if not name:
                    raise ValueError(f"layout {self.template!r}: {{}} names nothing, as {{StudyInstanceUID}} does")
                self._tags[name] = self._tag(name)
            fields.append((literal, name))
        return fields

    def _tag(self, keyword: str) -> int:
        known = {"SOPInstanceUID": SOP_INSTANCE, "SOPClassUID": SOP_CLASS}
        if keyword in known:
            return known[keyword]
        from pydicom.datadict import tag_for_keyword

        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"layout {self.template!r}: {keyword!r} is no DICOM keyword, as StudyInstanceUID is one")
        return tag

    def path(self, header: Header | None, sop_instance_uid: str) -> Path:
        """The relative path of an instance; without a header, what is not known is "unknown"."""
        return Path(self.text(header, sop_instance_uid))

    def text(self, header: Header | None, sop_instance_uid: str) -> str:
        """The same as text: a Path costs as much as the file's name."""
        if self.template == DEFAULT_LAYOUT:
            return f"{safe_name(sop_instance_uid)}.dcm"

        def value(keyword: str, length: int) -> str:
            if keyword == "SOPInstanceUID":
                return safe_name(sop_instance_uid)
            text = header.text(self._tags[keyword]) if header is not None else ""
            if keyword.endswith("UID") and text:
                return safe_name(text)
            return NOT_IN_NAMES.sub("_", text)[:length].strip("_") or "unknown"

        def joined(fields: list[tuple[str, str | None]], length: int) -> str:
            return "".join(text + (value(keyword, length) if keyword is not None else "") for text, keyword in fields)

        def name(fields: list[tuple[str, str | None]]) -> str:
            tries = (joined(fields, length) for length in VALUE_LENGTHS)
            return next(made for made in tries if len(made.encode()) <= NAME_LENGTH)  # the layout sees to it

        names = [name(fields) for fields in self._parts]
        if names[0].casefold() == PARTIAL:  # a value may have made it so; what lies there is swept
            names[0] = f"_{names[0]}"
        return os.sep.join(names)
