"""Text in the character sets that somebody asked for (PS3.3 section C.12.1.1.2, PS3.5 section 6.1.2.5).

Rules: nothing is replaced: a character that none of the sets has is an error, and so is a byte that could be taken for
a delimiter; a set that was switched to is switched back before delimiters, control characters and the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["SINGLE_BYTE", "UTF_8", "CharacterSets", "NotHeld", "character_sets"]

UTF_8: Final = "ISO_IR 192"
STAND_ALONE: Final = {"GB18030": "gb18030", "GBK": "gbk", UTF_8: "utf_8"}  # PS3.3 Table C.12-5
SINGLE_BYTE: Final = {  # PS3.3 Tables C.12-2 and C.12-3: the codec, and the escape of its upper half in G1
    "100": ("iso8859_1", b"\x1b-A"),
    "101": ("iso8859_2", b"\x1b-B"),
    "109": ("iso8859_3", b"\x1b-C"),
    "110": ("iso8859_4", b"\x1b-D"),
    "126": ("iso8859_7", b"\x1b-F"),
    "127": ("iso8859_6", b"\x1b-G"),
    "138": ("iso8859_8", b"\x1b-H"),
    "144": ("iso8859_5", b"\x1b-L"),
    "148": ("iso8859_9", b"\x1b-M"),
    "166": ("tis_620", b"\x1b-T"),
    "203": ("iso8859_15", b"\x1b-b"),
}
ASCII: Final = b"\x1b(B"
ROMAJI: Final = b"\x1b(J"
NOT_ROMAJI: Final = frozenset("\\~")
"""JIS X 0201 has a yen sign and an overline in their places."""
GRAPHIC: Final = re.compile(r"[ -~]*")
TERM: Final = re.compile(r"ISO[ _](?:2022[ _])?IR[ _]([0-9]+)")

Code = Callable[[str], bytes | None]


class NotHeld(ValueError):
    """The character sets do not have a character of the text."""


@dataclass(frozen=True, slots=True)
class _Set:
    """A graphic set beside the letters of ASCII: its escape, whether it goes to G1, the code of a character."""

    escape: bytes
    upper: bool
    code: Code


def _single_byte(codec: str) -> Code:
    def code(character: str) -> bytes | None:
        found = _encoded(character, codec)
        return found if found is not None and found >= b"\xa0" else None

    return code


def _katakana(character: str) -> bytes | None:
    """The upper half of JIS X 0201: half-width katakana, never the kanji of Shift-JIS."""
    return bytes((ord(character) - 0xFF61 + 0xA1,)) if "\uff61" <= character <= "\uff9f" else None


def _kanji(escape: bytes, codec: str) -> Code:
    """Python's codec puts the code between two escapes."""

    def code(character: str) -> bytes | None:
        found = _encoded(character, codec)
        start = len(escape)
        return found[start : start + 2] if found and found.startswith(escape) and len(found) == start + 5 else None

    return code


def _two_bytes(codec: str) -> Code:
    def code(character: str) -> bytes | None:
        found = _encoded(character, codec)
        return found if found is not None and len(found) == 2 and min(found) >= 0xA1 else None

    return code


def _encoded(text: str, codec: str) -> bytes | None:
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        return None


SETS: Final[dict[str, _Set]] = {
    **{number: _Set(escape, True, _single_byte(codec)) for number, (codec, escape) in SINGLE_BYTE.items()},
    "13": _Set(b"\x1b)I", True, _katakana),
    "58": _Set(b"\x1b$)A", True, _two_bytes("gb2312")),
    "87": _Set(b"\x1b$B", False, _kanji(b"\x1b$B", "iso2022_jp")),
    "149": _Set(b"\x1b$)C", True, _two_bytes("euc_kr")),
    "159": _Set(b"\x1b$(D", False, _kanji(b"\x1b$(D", "iso2022_jp_1")),
}
"""By the number in ISO 2022 IR n (PS3.3 Tables C.12-3 and C.12-4)."""
INITIAL: Final = frozenset((*SINGLE_BYTE, "13"))
"""Those that are active from the first byte where they are the first value."""
MULTI_BYTE: Final = frozenset(("58", "87", "149", "159"))


@dataclass(frozen=True, slots=True)
class CharacterSets:
    """What a Specific Character Set lets one write."""

    value: str
    """Of (0008,0005), as it has to stand in an answer."""
    codec: str = ""
    """Python's name of one that stands alone; empty for the sets of ISO 2022."""
    first: _Set | None = None
    """In G1 from the beginning."""
    sets: tuple[_Set, ...] = ()
    letters: bytes = ASCII
    """The escape of what is in G0 from the beginning."""
    other_letters: bool = False
    """True where ASCII may be switched to besides."""

    def encode(self, text: str, delimiters: str = "\\") -> bytes:
        """The bytes of a value, or of several; `delimiters` are those of its VR, `\\^=` for PN, none for LT, ST and UT.

        NotHeld when a character is missing, or could not be told from a delimiter.
        """
        if self.codec == "utf_8":
            return text.encode("utf-8", "replace")  # the last resort holds everything
        if text.isascii() and "\x1b" not in text and self.letters == ASCII:
            return text.encode("ascii")
        if "\x1b" in text:
            raise NotHeld(self.value)
        if self.codec:
            return self._alone(text, delimiters)
        pieces = re.split(f"([\\t\\n\\f\\r{re.escape(delimiters)}])", text)
        return b"".join(piece.encode("ascii") if odd else self._switched(piece) for piece, odd in _numbered(pieces))

    def _alone(self, text: str, delimiters: str) -> bytes:
        if any(
            set(found[1:].decode("latin_1")) & set(delimiters)
            for character in text
            if (found := _encoded(character, self.codec)) is not None
        ):
            raise NotHeld(self.value)  # the second byte of a character; many a receiver takes it for the delimiter
        data = _encoded(text, self.codec)
        if data is None:
            raise NotHeld(self.value)
        return data

    def _switched(self, text: str) -> bytes:
        """One component, with the escapes that it takes, the first sets active again at its end."""
        made = bytearray()
        low, high = self.letters, self.first
        known = True  # False after an escape in G0: many a receiver takes that for one of everything
        for character in text:
            wanted = self._letters_for(character)
            found, code = (None, character.encode("ascii")) if wanted else self._find(character, high)
            if found is not None and not found.upper:
                wanted = found.escape
            elif found is not None and low not in (ASCII, ROMAJI):
                wanted = self.letters
            if wanted and wanted != low:
                made += wanted
                low, known = wanted, False
            if found is not None and found.upper and not (found is high and known):
                made += found.escape
                high, known = found, True
            made += code
        if low != self.letters:
            made += self.letters
        if self.first is not None and high is not self.first:
            made += self.first.escape
        return bytes(made)

    def _letters_for(self, character: str) -> bytes:
        """The escape of the letters in G0 that have an ASCII character; empty for another one."""
        if not character.isascii():
            return b""
        if self.letters == ASCII or character not in NOT_ROMAJI:
            return self.letters
        if not self.other_letters:
            raise NotHeld(self.value)
        return ASCII

    def _find(self, character: str, high: _Set | None) -> tuple[_Set, bytes]:
        """A set that has it, the one that is active first."""
        for candidate in (*([high] if high else []), *self.sets):
            code = candidate.code(character)
            if code is not None:
                return candidate, code
        raise NotHeld(self.value)


def _numbered(pieces: list[str]) -> list[tuple[str, int]]:
    """The pieces, and for each whether it is a delimiter."""
    return [(piece, number & 1) for number, piece in enumerate(pieces)]


@lru_cache(maxsize=64)
def character_sets(value: str) -> CharacterSets | None:
    """How to write text in the character sets that the value of (0008,0005) names; None for terms that are none."""
    terms = [term.strip("\0 ").upper() for term in value.split("\\")]
    if len(terms) == 1 and terms[0] in STAND_ALONE:
        return CharacterSets(terms[0], STAND_ALONE[terms[0]])
    matches = [TERM.fullmatch(term) if term else None for term in terms]
    if any(match is None and (term or position) for position, (term, match) in enumerate(zip(terms, matches))):
        return None
    numbers = ["6" if match is None else match[1] for match in matches]
    if any(number != "6" and number not in SETS for number in numbers):
        return None
    extended = len(terms) > 1 or terms[0].startswith("ISO 2022")
    if not extended and numbers[0] in MULTI_BYTE:
        return None  # PS3.3 Table C.12-4: with code extensions only
    sets = tuple(SETS[number] for number in numbers if number != "6")
    named = [f"ISO 2022 IR {number}" if extended else f"ISO_IR {number}" for number in numbers]
    if not terms[0]:
        named[0] = ""
    return CharacterSets(
        "\\".join(named),
        first=SETS[numbers[0]] if numbers[0] in INITIAL else None,
        sets=sets,
        letters=ROMAJI if numbers[0] == "13" else ASCII,
        other_letters=any(number in SINGLE_BYTE or number == "6" for number in numbers),
    )
