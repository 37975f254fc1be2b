"""Person names as keys and values of queries (PS3.4 sections C.2.2.2.1.1 and C.2.2.2.4, PS3.5 section 6.2.1).

Rules: both engines of matching read names here, so they find the same; names match without regard to case and accents;
`?` stands for one character of the name as it is written; signs that make another letter, as dakuten, are no accents.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["NameKey", "fold_groups", "fold_name", "fold_spellings", "name_key"]

COMPONENTS: Final = 5
"""Family, given and middle name, prefix, suffix (PS3.5 section 6.2.1.1)."""
REPRESENTATIONS: Final = 3
"""Alphabetic, ideographic, phonetic."""

Group = tuple[int, str, list[str]]
"""Representation, the whole component group, its components; folded."""


@dataclass(frozen=True, slots=True)
class NameKey:
    """One value of a person name key: a name fits when each group does."""

    groups: tuple[tuple[int | None, tuple[tuple[str, ...], ...]], ...]
    """(representation or None for any, alternatives): an alternative is one pattern for the whole group, or five for
    its components.
    """


def fold_name(name: str) -> str:
    """A name without case and accents: what `DÖE^JÉRÔME` and `doe^jerome` have in common; `ß` is `ss`.

    Composed (NFC), so that a syllable of Hangul, or a kana with its dakuten, is one character.
    """
    if name.isascii():
        return name.lower()
    compatible = unicodedata.normalize("NFKD", name).casefold()
    # Once more: what casefold makes of a letter may have an accent of its own.
    decomposed = unicodedata.normalize("NFKD", compatible)
    return unicodedata.normalize("NFC", "".join(one for one in decomposed if not _is_accent(one)))


def fold_spellings(name: str) -> tuple[str, ...]:
    """`fold_name`, and besides it, where that has another length, the name folded letter by letter.

    `Gro?mann` fits the second one of `Großmann`, `GROSSMANN` the first.
    """
    folded = fold_name(name)
    if name.isascii():
        return (folded,)
    letters = "".join(map(_fold_letter, unicodedata.normalize("NFC", name)))
    return (folded,) if letters == folded else (folded, letters)


def fold_groups(names: str, *, fold: bool = True) -> list[Group]:
    """Every component group of one or several names that is not empty, in each of its spellings.

    Padding and trailing delimiters mean nothing.  Without `fold`, as they are written.
    """
    found: list[Group] = []
    for name in names.split("\\"):
        for representation, group in enumerate(name.split("=")[:REPRESENTATIONS]):
            stripped = [component.strip(" \0") for component in group.split("^")]
            for components in _spelled(stripped) if fold else (stripped,):
                whole = "^".join(components).rstrip("^")
                if whole:
                    padding = [""] * (COMPONENTS - len(components))
                    found.append((representation, whole, [*components[:COMPONENTS], *padding]))
    return found


def _spelled(components: Sequence[str]) -> list[Sequence[str]]:
    """The components folded; in all combinations where one or two of them have two spellings."""
    spellings = [fold_spellings(component) for component in components]
    several = sum(len(found) > 1 for found in spellings)
    if several <= 2:
        return list(itertools.product(*spellings))
    return [[found[0] for found in spellings], [found[-1] for found in spellings]]  # no row for each of 2 ** n


def name_key(text: str, *, fold: bool = True) -> NameKey | None:
    """The key that one value means; None for universal matching."""
    alternatives: dict[int, list[tuple[str, ...]]] = {}
    for representation, whole, components in fold_groups(text, fold=fold):
        pattern = _by_component(components) if "^" in whole else (whole,)
        if any(part.strip("*") for part in pattern):
            alternatives.setdefault(representation, []).append(pattern)
    # Which of the three representations a key of one group means, it does not say.
    alone = "=" not in text
    groups = tuple((None if alone else number, tuple(patterns)) for number, patterns in alternatives.items())
    return NameKey(groups) if groups else None


def _by_component(components: Sequence[str]) -> tuple[str, ...]:
    """A pattern for each: one left empty is free, those left out at the end are empty, or free after a star."""
    given = len(components) - next((index for index, part in enumerate(reversed(components)) if part), 0)
    rest = "*" if components[given - 1].endswith("*") else ""
    return (*(part or "*" for part in components[:given]), *[rest] * (len(components) - given))


def _is_accent(character: str) -> bool:
    """The marks of Latin, Greek and Cyrillic, Hebrew points, Arabic vowel signs; not those that make another letter."""
    return "\u0300" <= character <= "\u036f" or (
        "\u0591" <= character <= "\u06ff" and unicodedata.combining(character) != 0
    )


def _fold_letter(character: str) -> str:
    """One character for one; none for an accent that stands by itself because no letter is composed with it."""
    if "\u0300" <= character <= "\u036f":
        return ""
    folded = fold_name(character)
    if len(folded) == 1:
        return folded
    lower = character.lower()
    return lower if len(lower) == 1 else character
