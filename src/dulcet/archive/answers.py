"""Answers to queries, from rows straight to bytes (PS3.4 section C.4.1.1.3, PS3.5 section 7.1).

Rules: what a page has in common is encoded once; a value that comes again is not encoded again; text is in the
character sets of the query where those hold all of an answer, else in UTF-8; an answer of plain ASCII names none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, Final

from dulcet import uids
from dulcet.archive.attributes import LEVELS, REQUEST_KEYS, Attribute
from dulcet.archive.index import Page
from dulcet.archive.matching import Query
from dulcet.part10.convert import convert
from dulcet.part10.location import Location
from dulcet.services.character_sets import UTF_8, CharacterSets, NotHeld, character_sets
from dulcet.services.written_text import DELIMITERS

__all__ = ["Answers"]

SHORT: Final = Struct("<HH2sH")
LONG: Final = Struct("<HH2s2xL")
IMPLICIT: Final = Struct("<HHL")
ITEM: Final = Struct("<HHL")
UNSIGNED: Final = Struct("<H")
CHARACTER_SET: Final = 0x00080005
LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
AVAILABILITY: Final = 0x00080056
REMEMBERED: Final = 1024
"""Values of an attribute whose encoding is kept."""


class Answers:
    """Encodes the answers to one query."""

    def __init__(self, query: Query, transfer_syntax: str, retrieve_ae_title: str) -> None:
        self._syntax = transfer_syntax
        self._implicit = transfer_syntax in uids.IMPLICIT_VR
        self._query = query
        self._title = retrieve_ae_title
        self._sets: CharacterSets = character_sets(query.character_sets) or CharacterSets(UTF_8, "utf_8")
        self._in_utf_8: Answers | None = None
        self._plain = transfer_syntax in (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        self._memories: dict[int, dict[Any, bytes]] = {}

    def encode(self, page: Page) -> Iterator[bytes]:
        """A data set for each row."""
        for data in self._encoded(page):
            yield data if self._plain else self._converted(data)

    def _encoded(self, page: Page) -> Iterator[bytes]:
        try:
            parts, slots, foreign = self._frame(page)
        except NotHeld:
            yield from self._other(page, page.rows)
            return
        texts = [index for _, index, attribute, _ in slots if _is_text(attribute)]
        row_slots = [(place, index, encode) for place, index, _, encode in slots]
        names = (b"", self._element(CHARACTER_SET, "CS", self._sets.value.encode()))
        for row in page.rows:
            named = foreign
            for index in texts:
                named = named or not (row[index] or "").isascii()
            parts[0] = names[named]
            try:
                for place, index, encode in row_slots:
                    parts[place] = encode(row[index])
            except NotHeld:
                yield from self._other(page, [row])
            else:
                yield b"".join(parts)

    def _other(self, page: Page, rows: Sequence[Sequence[Any]]) -> Iterator[bytes]:
        """Those that the character sets of the query do not hold."""
        if self._in_utf_8 is None:
            self._in_utf_8 = Answers(self._query, self._syntax, self._title)
            self._in_utf_8._sets = CharacterSets(UTF_8, "utf_8")
        return self._in_utf_8._encoded(Page(page.above, rows))

    def _frame(self, page: Page) -> tuple[list[bytes], list[tuple[int, int, Attribute, Callable[[Any], bytes]]], bool]:
        """The pieces of every answer of a page, the character set's place first and those of row values empty."""
        query = self._query
        fixed = [(LEVEL, self._element(LEVEL, "CS", LEVELS[query.level].encode()))]
        if query.retrieve_ae_title:
            fixed.append((RETRIEVE_AE_TITLE, self._element(RETRIEVE_AE_TITLE, "AE", self._title.encode())))
        if query.availability:
            fixed.append((AVAILABILITY, self._element(AVAILABILITY, "CS", b"ONLINE")))
        pieces: list[tuple[int, bytes, int, Attribute | None]] = [(tag, data, -1, None) for tag, data in fixed]
        foreign = False
        columns = query.columns
        for attribute in query.answered:
            if attribute in columns:
                pieces.append((attribute.tag, b"", columns.index(attribute), attribute))
                continue
            value = page.above.get(attribute.keyword) or ""
            foreign = foreign or (_is_text(attribute) and not value.isascii())
            pieces.append((attribute.tag, self._encoder(attribute)(value), -1, None))
        parts: list[bytes] = [b""]
        slots = []
        for _, data, index, found in sorted(pieces, key=lambda piece: piece[0]):
            if found is not None:
                slots.append((len(parts), index, found, self._encoder(found)))
                parts.append(b"")
            elif len(parts) > 1 and parts[-1]:
                parts[-1] += data
            else:
                parts.append(data)
        return parts, slots, foreign

    def _converted(self, data: bytes) -> bytes:
        """For the peers that chose big endian or deflate."""
        location = Location(uids.EXPLICIT_VR_LITTLE_ENDIAN, "", "", 0, len(data))
        return convert(data, location, [self._syntax])[0]

    # ------------------------------------------------------------------ elements

    def _encoder(self, attribute: Attribute) -> Callable[[Any], bytes]:
        """Encodes the values of one attribute, the same one once."""
        make = self._maker(attribute)
        memory = self._memories.setdefault(attribute.tag, {})

        def encode(value: Any) -> bytes:
            found = memory.get(value)
            if found is None:
                found = make(value)
                if len(memory) < REMEMBERED:
                    memory[value] = found
            return found

        return make if attribute.vr == "UI" and attribute.keyword == "SOPInstanceUID" else encode

    def _maker(self, attribute: Attribute) -> Callable[[Any], bytes]:
        tag, vr = attribute.tag, attribute.vr
        if vr == "SQ":
            return lambda value: self._sequence(tag, value)
        if vr == "US":
            return lambda value: self._element(tag, vr, UNSIGNED.pack(int(value) & 0xFFFF) if value else b"")
        if vr == "UI":
            return lambda value: self._element(tag, vr, str(value or "").encode("latin_1", "replace"))
        # Of any VR: a code string in Chinese breaks its rule, but a question mark would be something else.
        encode, delimiters = self._sets.encode, DELIMITERS.get(vr, "\\")
        element = self._element

        def make(value: Any) -> bytes:
            text = "" if value is None else str(value)
            # Letters and digits are the same in every set, and most values have nothing else.
            return element(tag, vr, text.encode() if text.isalnum() and text.isascii() else encode(text, delimiters))

        return make

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        if len(value) & 1:
            value += b"\0" if vr == "UI" else b" "
        if self._implicit:
            return IMPLICIT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
        if vr in ("SQ", "UT", "UC"):
            return LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
        return SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value

    def _sequence(self, tag: int, value: str | None) -> bytes:
        """Request Attributes Sequence from its JSON."""
        items = []
        for item in json.loads(value) if value else ():
            elements = [
                self._element(
                    key, "UI" if keyword.endswith("UID") else "LO" if keyword.endswith("Description") else "SH",
                    self._sets.encode(item.get(keyword, "")),
                )
                for keyword, key in REQUEST_KEYS.items()
            ]  # fmt: skip
            data = b"".join(elements)
            items.append(ITEM.pack(0xFFFE, 0xE000, len(data)) + data)
        return self._element(tag, "SQ", b"".join(items))


def _is_text(attribute: Attribute) -> bool:
    """What may have characters beyond ASCII, by its rules or against them; UIDs and numbers of our own have none."""
    return attribute.vr not in ("US", "UI") and not (attribute.computed and attribute.vr == "IS")
