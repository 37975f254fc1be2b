"""Text of a data set by its Specific Character Set (PS3.3 section C.12.1.1.2, PS3.5 section 6.1).

Rule: never raises; bytes that the character set does not know become U+FFFD.  `services.character_sets` encodes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["decode_text"]

LATIN_1: Final = "latin_1"  # the default repertoire is ASCII; what breaks that rule is most often Latin-1
CODECS: Final = {  # by the number in ISO_IR n or ISO 2022 IR n (PS3.3 Tables C.12-2 to C.12-4)
    "6": LATIN_1,
    "13": "shift_jis",
    "58": "gb2312",
    "87": "iso2022_jp",
    "100": LATIN_1,
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "149": "euc_kr",
    "159": "iso2022_jp_2",
    "166": "tis_620",
    "192": "utf_8",
    "203": "iso8859_15",
}
STAND_ALONE: Final = {"GB18030": "gb18030", "GBK": "gbk", "": LATIN_1}  # PS3.3 Table C.12-5
ESCAPES: Final = {  # what follows ESC, and the codec it switches to
    b"(B": LATIN_1,
    b"-A": LATIN_1,
    b")I": "shift_jis",
    b"(J": "shift_jis",
    b"$B": "iso2022_jp",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-F": "iso8859_7",
    b"-G": "iso8859_6",
    b"-H": "iso8859_8",
    b"-L": "iso8859_5",
    b"-M": "iso8859_9",
    b"-T": "tis_620",
    b"-b": "iso8859_15",
    b"$)C": "euc_kr",
    b"$(D": "iso2022_jp_2",
    b"$)A": "gb2312",
}
KEEPS_ESCAPE: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})  # Python's codec wants to see the sequence
RESETS: Final = re.compile(rb"[\t\n\f\r]")  # PS3.5 section 6.1.2.5.3: back to the first character set
# Where that has an upper half of its own, delimiters take back to it as well; else nothing is lost by going on, and
# many a sender forgets to switch again behind them.
RESETS_TO_UPPER: Final = re.compile(rb"[\t\n\f\r\\^=]")
NO_UPPER: Final = frozenset(("", "6", "58", "87", "149", "159"))

_TERM: Final = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
_FRAGMENT: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")


def decode_text(raw: bytes, character_sets: str) -> str:
    """Text of `raw` as `character_sets`, the backslash-separated value of (0008,0005), says."""
    first = _first_codec(character_sets)
    if b"\x1b" not in raw:
        return raw.decode(first, "replace")
    resets = _resets(character_sets)
    return "".join(_decode_fragment(fragment, first, resets) for fragment in _FRAGMENT.findall(raw))


@lru_cache(maxsize=64)
def _first_codec(character_sets: str) -> str:
    term = character_sets.split("\\")[0].strip("\0 ").upper()
    term = term.removeprefix("ISO 2022 ") if term.endswith("GBK") else term
    match = _TERM.fullmatch(term)
    return CODECS.get(match[1], LATIN_1) if match else STAND_ALONE.get(term, LATIN_1)


@lru_cache(maxsize=64)
def _resets(character_sets: str) -> re.Pattern[bytes]:
    match = _TERM.fullmatch(character_sets.split("\\")[0].strip("\0 ").upper())
    return RESETS if (match[1] if match else "") in NO_UPPER else RESETS_TO_UPPER


def _decode_fragment(fragment: bytes, first: str, resets: re.Pattern[bytes]) -> str:
    if not fragment.startswith(b"\x1b"):
        return fragment.decode(first, "replace")
    size = 4 if fragment[1:3] in (b"$(", b"$)") else 3
    codec = ESCAPES.get(fragment[1:size])
    if codec is None:
        return fragment.decode(first, "replace")
    if codec in KEEPS_ESCAPE:
        return fragment.decode(codec, "replace")
    reset = resets.search(fragment, size)
    end = reset.start() if reset else len(fragment)
    return fragment[size:end].decode(codec, "replace") + fragment[end:].decode(first, "replace")
